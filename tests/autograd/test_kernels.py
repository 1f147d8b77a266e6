"""Every kernel gives what the formula and the rules give, forward and backward, on every sample of its op."""

import numpy as np
import pytest

import autograd as ag
from tests.samples import SAMPLES

KERNELS = [name for name, op in ag.REGISTRY.items() if np.ndarray in op.kernels]
CASES = [pytest.param(name, i, id=f"{name}-{i}") for name in KERNELS for i in range(len(SAMPLES[name]))]


@pytest.fixture(params=["numpy", "numba"], autouse=True)
def library(request):
    """Each test runs on both kinds of kernels."""
    if request.param == "numba":
        pytest.importorskip("numba")
    ag.kernels.use(request.param)
    yield request.param
    ag.kernels.use("numpy")


def differentiated(name, sample, dtype):
    """Value and gradients of an op on a sample, and whether a kernel made them."""
    op = ag.REGISTRY[name]
    args, attrs = (sample[:-1], sample[-1]) if isinstance(sample[-1], dict) else (sample, {})
    inputs, attrs = op.bind(tuple(args), attrs)
    inputs = [ag.tensor(a, dtype=dtype, requires_grad=True) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a
              for a in inputs]
    y = op.apply(tuple(inputs), attrs)
    record = y if not isinstance(y, tuple) else y[0].inputs[0]
    used = record.op is op and record.saved is not None
    if isinstance(y, tuple):
        y = np.concatenate([part.reshape(-1) for part in y])
    value = np.array(y.data)
    y.backward(np.random.default_rng(0).normal(size=y.shape))
    return value, [t.grad for t in inputs if isinstance(t, ag.Tensor)], used


@pytest.fixture
def without_kernels(monkeypatch):
    def clear():
        for name in KERNELS:
            monkeypatch.setattr(ag.REGISTRY[name], "kernels", {})
    return clear


def compare(name, i, dtype, without_kernels):
    sample = SAMPLES[name][i]
    value, grads, used = differentiated(name, sample, dtype)
    without_kernels()
    expected, expected_grads, never = differentiated(name, sample, dtype)
    assert not never
    tolerance = {"rtol": 2e-12, "atol": 2e-14} if dtype == np.float64 else {"rtol": 2e-5, "atol": 2e-6}
    assert value.dtype == expected.dtype and len(grads) == len(expected_grads)
    np.testing.assert_allclose(value, expected, **tolerance)
    for grad, wanted in zip(grads, expected_grads):
        assert grad.dtype == wanted.dtype
        np.testing.assert_allclose(grad, wanted, **tolerance)
    return used


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("name", "i"), CASES)
def test_kernel_gives_what_the_rules_give(name, i, dtype, without_kernels):
    compare(name, i, dtype, without_kernels)


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_is_used(name):
    assert any(differentiated(name, sample, np.float64)[2] for sample in SAMPLES[name])


@pytest.mark.parametrize("name", KERNELS)
def test_a_wrong_kernel_is_found(name, without_kernels, monkeypatch):
    honest = ag.REGISTRY[name].kernels[np.ndarray]

    class Wrong:
        forward = honest.forward

        @staticmethod
        def backward(*args, **attrs):
            return [1.001 * d for d in honest.backward(*args, **attrs)]

    monkeypatch.setitem(ag.REGISTRY[name].kernels, np.ndarray, Wrong)
    used = next(i for i, sample in enumerate(SAMPLES[name])
                if (made := differentiated(name, sample, np.float64))[2]
                and any(abs(d).max(initial=0) > 0.1 for d in made[1]))
    with pytest.raises(AssertionError):
        compare(name, used, np.float64, without_kernels)


@pytest.mark.parametrize("size", [1, 1000, (1 << 15) - 1, 1 << 15, (1 << 15) + 1, 100_003])
def test_gelu_in_blocks_is_gelu(size, without_kernels):
    x = np.random.default_rng(1).normal(0, 3, size)
    value, (grad,), used = differentiated("gelu", (x,), np.float64)
    without_kernels()
    expected, (wanted,), _ = differentiated("gelu", (x,), np.float64)
    assert used
    np.testing.assert_allclose(value, expected, rtol=1e-14)
    np.testing.assert_allclose(grad, wanted, rtol=1e-13, atol=1e-15)


def test_large_scores_do_not_overflow():
    q = ag.tensor(np.full((2, 3), 1e3), requires_grad=True)
    y = ag.attention(q, q, np.eye(2, 3))
    y.sum().backward()
    assert np.isfinite(y.data).all() and np.isfinite(q.grad).all()


def test_differentiating_a_gradient_uses_the_rules():
    for name in KERNELS:
        sample = next(s for s in SAMPLES[name] if differentiated(name, s, np.float64)[2])
        ag.check_op(ag.REGISTRY[name], [sample], order=2)


def test_half_precision_does_not_overflow_in_a_sum():
    x = np.linspace(-60, 60, 2000).astype(np.float16)[None]
    y = ag.layer_norm(ag.tensor(x, requires_grad=True), None, None).data
    assert y.dtype == np.float16 and np.isfinite(y).all() and abs(float(y.astype(float).std()) - 1) < 0.01
