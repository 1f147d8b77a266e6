"""The flat buffers, and clipping."""

import numpy as np
import pytest

import autograd as ag
from gpt import GPT, AdamW, Linear, Parameters, clip_by_global_norm


def test_one_buffer_decayed_first_frozen_outside(three):
    model = three()
    a, b, c = (t.data.copy() for t in (model.a, model.b, model.c))
    flat = Parameters(model)
    np.testing.assert_array_equal(flat.data, np.concatenate([b.ravel(), a]))
    assert flat.n_decayed == 6 and list(flat.views) == ["b", "a"] and flat.views["b"].shape == (2, 3)
    np.testing.assert_array_equal(model.c.data, c)


def test_tensors_live_in_the_buffer_and_backward_fills_the_other(three):
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


def test_a_step_between_forward_and_backward_is_caught(three):
    model = three()
    flat = Parameters(model)
    loss = (model.a * model.a * model.b).sum()
    AdamW(flat).step(1e-3)
    with pytest.raises(RuntimeError, match="changed"):
        loss.backward()


def test_decay_can_be_chosen(three):
    flat = Parameters(three(), decay=lambda t: t.ndim == 1)
    assert list(flat.views) == ["a", "b"] and flat.n_decayed == 3


def test_a_tied_weight_is_there_once(config):
    model = GPT(config)
    assert Parameters(model).data.size == model.n_parameters == sum(t.size for t in model.named_arrays().values())


def test_no_parameters_and_mixed_dtypes():
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        Parameters(Linear(ag.tensor([[1.0]]), None))
    with pytest.raises(TypeError, match="float32 and float64"):
        Parameters(Linear(*(ag.tensor([1.0], dtype=d, requires_grad=True) for d in ("f4", "f8"))))


def test_clip_scales_only_what_is_longer():
    g = np.array([3.0, 4.0])
    assert clip_by_global_norm(g, 5.5) == 5
    np.testing.assert_array_equal(g, [3, 4])
    assert clip_by_global_norm(g, 1) == 5
    np.testing.assert_allclose(g, [0.6, 0.8], rtol=1e-6)
