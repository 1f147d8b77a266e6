"""The flat buffers, AdamW against its formula, clipping, the schedule."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

import autograd as ag
from gpt import GPT, SGD, AdamW, Module, Parameters, clip_by_global_norm, learning_rate_at


@dataclass
class Three(Module):
    a: object
    b: object
    c: object


def three(n=2):
    rng = np.random.default_rng(0)
    return Three(ag.tensor(rng.standard_normal(3), requires_grad=True),
                 ag.tensor(rng.standard_normal((n, 3)), requires_grad=True),
                 ag.tensor(rng.standard_normal(2)))


def test_one_buffer_decayed_first_frozen_outside():
    model = three()
    a, b, c = (t.data.copy() for t in (model.a, model.b, model.c))
    flat = Parameters(model)
    np.testing.assert_array_equal(flat.data, np.concatenate([b.ravel(), a]))
    assert flat.n_decayed == 6 and list(flat.views) == ["b", "a"] and flat.views["b"].shape == (2, 3)
    np.testing.assert_array_equal(model.c.data, c)


def test_tensors_live_in_the_buffer_and_backward_fills_the_other():
    model = three()
    flat = Parameters(model)
    flat.data[:] = np.arange(9)
    flat.bump_version()
    np.testing.assert_array_equal(model.b.data, [[0, 1, 2], [3, 4, 5]])
    for k in (1, 2):  # it accumulates in place
        ((model.a * model.b).sum() + model.c.sum()).backward()
        np.testing.assert_array_equal(flat.grad, k * np.array([6, 7, 8, 6, 7, 8, 3, 5, 7]))
        assert np.shares_memory(model.b.grad, flat.grad)
    flat.zero_grad()
    assert not model.a.grad.any()


def test_a_step_between_forward_and_backward_is_caught():
    model = three()
    flat = Parameters(model)
    loss = (model.a * model.a * model.b).sum()
    AdamW(flat).step(1e-3)
    with pytest.raises(RuntimeError, match="changed"):
        loss.backward()


def test_decay_can_be_chosen():
    flat = Parameters(three(), decay=lambda t: t.ndim == 1)
    assert list(flat.views) == ["a", "b"] and flat.n_decayed == 3


def test_a_tied_weight_is_there_once(config):
    model = GPT(config)
    assert Parameters(model).data.size == model.n_parameters == sum(t.size for t in model.named_arrays().values())


def test_no_parameters_and_mixed_dtypes():
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        Parameters(Three(ag.tensor(1.0), ag.tensor(1.0), ag.tensor(1.0)))
    with pytest.raises(TypeError, match="float32 and float64"):
        Parameters(Three(*(ag.tensor([1.0], dtype=d, requires_grad=True) for d in ("f4", "f8", "f8"))))


@pytest.mark.parametrize("n", [2, 30_000])  # one block, and several with a part of one at the end
def test_adamw_is_its_formula(n):
    model, rng = three(n), np.random.default_rng(1)
    flat = Parameters(model)
    lr, b1, b2, eps, decay = 0.01, 0.8, 0.95, 1e-6, 0.3
    optimizer = AdamW(flat, (b1, b2), eps, decay)
    p, m, v = flat.data.copy(), 0, 0
    wd = np.where(np.arange(p.size) < 3 * n, decay, 0)
    for t in range(1, 5):
        g = rng.standard_normal(p.size)
        flat.grad[:] = g
        optimizer.step(lr)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g ** 2
        p = p - lr * wd * p - lr * (m / (1 - b1 ** t)) / (np.sqrt(v / (1 - b2 ** t)) + eps)
        np.testing.assert_allclose(flat.data, p, rtol=1e-12)
    np.testing.assert_array_equal(model.a.data, flat.data[-3:])


def test_clip_scales_only_what_is_longer():
    g = np.array([3.0, 4.0])
    assert clip_by_global_norm(g, 5.5) == 5
    np.testing.assert_array_equal(g, [3, 4])
    assert clip_by_global_norm(g, 1) == 5
    np.testing.assert_allclose(g, [0.6, 0.8], rtol=1e-6)


def test_schedule():
    def lr(i):
        return learning_rate_at(i, "cosine", 1e-3, 1e-4, 100, 2000)

    assert lr(0) == pytest.approx(1e-3 / 101) and lr(99) == pytest.approx(1e-3 * 100 / 101) and lr(100) == 1e-3
    assert lr(1050) == pytest.approx(5.5e-4) and lr(2000) == pytest.approx(1e-4) and lr(9999) == 1e-4
    assert lr(575) == pytest.approx(1e-4 + 9e-4 * (1 + math.cos(math.pi / 4)) / 2)
    assert learning_rate_at(0, "cosine", 1, 0.1, 0, 0) == 0.1  # nothing to decay over


@pytest.mark.parametrize("schedule, points", [
    ("linear", {100: 1.0, 600: 0.55, 1100: 0.1, 5000: 0.1}), ("constant", {100: 1.0, 5000: 1.0}),
    ("trapezoidal", {100: 1.0, 900: 1.0, 1000: 0.55, 1100: 0.1})])
def test_schedules(schedule, points):
    for i, expected in points.items():
        assert learning_rate_at(i, schedule, 1.0, 0.1, 100, 1100) == pytest.approx(expected)
    assert learning_rate_at(49, schedule, 1.0, 0.1, 100, 1100) == pytest.approx(50 / 101)


@pytest.mark.parametrize("share, points", [
    (0.6, {20: 1.0, 92: 1.0, 146: 0.5, 199: 1 / 108, 200: 0.0}), (1.0, {20: 1.0, 110: 0.5, 200: 0.0})])
def test_a_trapezoid_falls_over_the_share_that_it_is_told(share, points):
    for i, expected in points.items():
        assert learning_rate_at(i, "trapezoidal", 1.0, 0.0, 20, 200, share) == pytest.approx(expected)


def test_an_unknown_schedule():
    with pytest.raises(ValueError, match="schedule is 'step', and needs to be one of cosine, linear"):
        learning_rate_at(5, "step", 1.0, 0.1, 0, 10)


def test_sgd_is_its_formula():
    model, rng = three(), np.random.default_rng(1)
    flat = Parameters(model)
    optimizer = SGD(flat, momentum=0.8, weight_decay=0.3)
    p, m = flat.data.copy(), np.zeros_like(flat.data)
    for _ in range(3):
        flat.grad[:] = g = rng.normal(size=flat.grad.shape)
        optimizer.step(0.01)
        m = 0.8 * m + g
        p[:flat.n_decayed] *= 1 - 0.01 * 0.3
        p -= 0.01 * m
        np.testing.assert_allclose(flat.data, p, rtol=1e-14)
    assert optimizer.state()["m"] is optimizer.m
