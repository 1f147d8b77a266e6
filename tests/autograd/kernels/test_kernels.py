"""Every kernel gives what the formula and the rules give, forward and backward, on every sample of its op."""

import importlib

import numpy as np
import pytest

import autograd as ag
from tests.samples import SAMPLES

KERNELS = [name for name, op in ag.REGISTRY.items() if np.ndarray in op.kernels]


@pytest.fixture(params=["numpy", "numba"], autouse=True)
def library(request):
    """Each test runs on both kinds of kernels."""
    if request.param == "numba":
        pytest.importorskip("numba")
    ag.kernels.use(request.param)
    yield request.param
    ag.kernels.use("numpy")


def takes(name, *sample):
    """Return True if the kernel of an op takes a sample, after comparing it with the rules."""
    return ag.check_kernel(ag.REGISTRY[name], [sample])[0]


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_gives_what_the_rules_give(name):
    assert any(ag.check_kernel(ag.REGISTRY[name], SAMPLES[name]))


@pytest.mark.parametrize("name", KERNELS)
def test_a_wrong_kernel_is_found(name, monkeypatch):
    honest = ag.REGISTRY[name].kernels[np.ndarray]

    class Wrong:
        forward = honest.forward

        @staticmethod
        def backward(*args, **attrs):
            return [1.001 * d for d in honest.backward(*args, **attrs)]

    monkeypatch.setitem(ag.REGISTRY[name].kernels, np.ndarray, Wrong)
    with pytest.raises(AssertionError, match=f"the kernel of {name}, sample .*the gradient of"):
        ag.check_kernel(ag.REGISTRY[name], SAMPLES[name])


def differentiated(name, sample, dtype):
    """Value and gradients of an op on a sample, and whether a kernel made them."""
    op = ag.REGISTRY[name]
    inputs = [ag.tensor(a, dtype=dtype, requires_grad=True) for a in sample]
    y = op.apply(tuple(inputs), {})
    value, used = np.array(y.data), y.saved is not None
    y.backward(np.random.default_rng(0).normal(size=y.shape))
    return value, [t.grad for t in inputs], used


@pytest.fixture
def without_kernels(monkeypatch):
    def clear():
        for name in KERNELS:
            monkeypatch.setattr(ag.REGISTRY[name], "kernels", {})
    return clear


@pytest.mark.parametrize("size", [1, 1000, (1 << 15) - 1, 1 << 15, (1 << 15) + 1, 100_003])
def test_gelu_in_blocks_is_gelu(size, without_kernels):
    x = np.random.default_rng(1).normal(0, 3, size)
    value, (grad,), used = differentiated("gelu", (x,), np.float64)
    without_kernels()
    expected, (wanted,), _ = differentiated("gelu", (x,), np.float64)
    assert used
    np.testing.assert_allclose(value, expected, rtol=1e-14)
    np.testing.assert_allclose(grad, wanted, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("size", [1, 512, 25_000, 25_001, 40_000])
def test_gelu_of_few_numbers_and_of_many(size):
    x = np.random.default_rng(2).normal(0, 3, size)
    (value, (grad,), _), (expected, (wanted,), _) = (differentiated("gelu", (x,), d) for d in (np.float32, np.float64))
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(grad, wanted, rtol=2e-5, atol=1e-6)


def test_gelu_recomputed_without_grad_mode_has_its_gradient():
    x = ag.tensor(np.linspace(-3, 3, 7), requires_grad=True)
    y = ag.gelu(x)
    y.sum().backward()
    expected, x.grad = x.grad, None
    with ag.no_grad():
        value = y.data  # freed by the first pass
    assert value.shape == (7,)
    y.backward(np.ones(7))
    np.testing.assert_array_equal(x.grad, expected)


def heads(*shape, dtype):
    """Numbers (B, H, T, d) as a model has them: heads side by side in memory, and other numbers between the places."""
    b, h, t, d = shape
    x = np.random.default_rng(sum(shape)).normal(size=(b, t, 3 * h * d)).astype(dtype)
    return x[..., h * d:2 * h * d].reshape(b, t, h, d).swapaxes(1, 2)


def differentiated_in_place(name, args):
    """Value, gradients and the value's strides of an op on leaves that lie in memory as `args` do."""
    leaves = [ag.tensor(a, requires_grad=True) for a in args]
    for t, a in zip(leaves, args):
        t.use_buffers(a)  # a leaf's own copy would lie otherwise
    y = ag.REGISTRY[name](*leaves)
    strides, value, used = y.data.strides, np.array(y.data), y.saved is not None
    y.backward(np.random.default_rng(0).normal(size=y.shape))
    return [value, *[t.grad for t in leaves]], strides, used


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", ["rms_norm", "rotary"])
def test_heads_side_by_side_are_taken_as_they_are(name, dtype, without_kernels):
    """Values keep that memory order, so that to put heads together again takes no copy."""
    x = heads(2, 3, 5, 4, dtype=dtype)
    other = np.random.default_rng(1).normal(size=4 if name == "rms_norm" else (5, 2)).astype(dtype)
    made, strides, used = differentiated_in_place(name, [x, other])
    without_kernels()
    expected, _, never = differentiated_in_place(name, [x, other])
    assert used and not never
    assert strides == np.empty((2, 5, 3, 4), dtype).swapaxes(1, 2).strides
    tolerance = {"rtol": 2e-12, "atol": 2e-14} if dtype == np.float64 else {"rtol": 2e-5, "atol": 2e-6}
    for ours, theirs in zip(made, expected, strict=True):
        assert ours.dtype == theirs.dtype == dtype
        np.testing.assert_allclose(ours, theirs, **tolerance)


@pytest.mark.parametrize("shape", [(6,), (2, 3, 6), (2, 2, 1, 2, 6), (20, 130), (7, 1)])
def test_rms_norm_of_any_shape(shape):
    rng = np.random.default_rng(1)
    assert takes("rms_norm", rng.normal(size=shape), rng.normal(size=shape[-1]))


@pytest.mark.parametrize("shape", [(5, 6), (2, 3, 5, 6), (2, 1, 3, 2, 2), (0, 2, 4), (65, 34)])
def test_rotary_of_any_shape(shape):
    rng = np.random.default_rng(1)
    assert takes("rotary", rng.normal(size=shape), rng.normal(size=(shape[-2], shape[-1] // 2)))


@pytest.mark.parametrize("shape", [(40, 6), (8, 3, 6), (0, 6), (6,), (2, 0, 6)])
def test_linear_without_blas(shape, monkeypatch):
    module = importlib.import_module("autograd.kernels.numpy.linear")
    monkeypatch.setattr(module, "dot", module.sum_rows)
    monkeypatch.setattr(module, "matmul", module.sum_rows)
    rng = np.random.default_rng(1)
    x, w, b = (rng.normal(size=each).astype(np.float32) for each in (shape, (4, 6), 4))
    assert takes("linear", x, w.T, b)  # the weight in another order


@pytest.mark.parametrize("precisions", [(np.float32, np.float64), (np.float64, np.float32)])
def test_rotary_of_angles_in_another_precision(precisions):
    rng = np.random.default_rng(1)
    x, angles = rng.normal(size=(5, 6)), rng.normal(size=(5, 3))
    assert takes("rotary", x.astype(precisions[0]), angles.astype(precisions[1]))


@pytest.mark.parametrize("taps", [1, 2, 5, 9])
@pytest.mark.parametrize("shape", [(5, 6), (2, 3, 5, 33), (0, 2, 4), (3, 0, 2), (1, 1)])
def test_causal_conv_of_any_shape(shape, taps):
    rng = np.random.default_rng(1)
    assert takes("causal_conv", rng.normal(size=shape), rng.normal(size=(taps, shape[-1])))


@pytest.mark.parametrize("size", [1, 1000, (1 << 15) + 1])
def test_squared_relu_of_any_size(size):
    x = np.random.default_rng(1).normal(size=size)
    x[::3] *= -1
    assert takes("squared_relu", x)


@pytest.mark.parametrize("name", ["rms_norm", "rotary", "squared_relu", "causal_conv"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_shows_where_the_formula_shows_it(name, wrong, without_kernels):
    x = np.random.default_rng(1).normal(size=(3, 4, 6))
    x[1, 2, 3] = wrong
    args = {"rms_norm": (x, np.ones(6)), "rotary": (x, np.ones((4, 3))), "squared_relu": (x,),
            "causal_conv": (x, np.ones((2, 6)))}[name]
    with np.errstate(invalid="ignore"):
        value, grads, used = differentiated(name, args, np.float64)
        without_kernels()
        expected, wanted, _ = differentiated(name, args, np.float64)
    assert used
    for ours, theirs in zip([value, *grads], [expected, *wanted]):
        finite = np.isfinite(theirs)
        np.testing.assert_array_equal(np.isfinite(ours), finite)
        np.testing.assert_allclose(ours[finite], theirs[finite], rtol=2e-12, atol=2e-14)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("batch", "n_heads", "shared"), [((), 4, 2), ((), 4, 1), ((2,), 6, 3), ((2, 1), 4, 2)])
def test_heads_that_share_keys_are_taken_without_copies(batch, n_heads, shared, causal):
    rng = np.random.default_rng(1)
    q, k, v = (rng.normal(size=(*batch, *shape)) for shape in ((n_heads, 3, 5), (shared, 4, 5), (shared, 4, 2)))
    assert takes("attention", q, k, v, {"causal": causal})


@pytest.mark.parametrize("shapes", [[(2, 3, 4), (5, 4), (5, 4)], [(4, 3, 4), (2, 5, 4), (4, 5, 4)],
                                    [(2, 4, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4)], [(1, 3, 4), (2, 5, 4), (2, 5, 4)]])
def test_heads_that_do_not_go_together_are_declined(shapes):
    rng = np.random.default_rng(1)
    with pytest.raises(ValueError, match="took none"):
        takes("attention", *[rng.normal(size=shape) for shape in shapes])


def test_no_heads_go_with_any_number_of_them():
    assert takes("attention", *[np.ones(shape) for shape in [(0, 3, 4), (2, 5, 4), (2, 5, 4)]])


def test_large_scores_do_not_overflow():
    q = ag.tensor(np.full((2, 3), 1e3), requires_grad=True)
    y = ag.attention(q, q, np.eye(2, 3))
    y.sum().backward()
    assert np.isfinite(y.data).all() and np.isfinite(q.grad).all()


@pytest.mark.slow_but_every(3)
@pytest.mark.parametrize("name", KERNELS)
def test_a_gradient_that_a_kernel_gave_can_be_differentiated(name):
    """Then it goes by the rules."""
    op = ag.REGISTRY[name]
    sample = SAMPLES[name][ag.check_kernel(op, SAMPLES[name]).index(True)]
    inputs, attrs = op.bind(sample[:-1] if isinstance(sample[-1], dict) else sample,
                            sample[-1] if isinstance(sample[-1], dict) else {})
    floats = [i for i, a in enumerate(inputs) if isinstance(a, np.ndarray) and a.dtype.kind == "f"]

    def f(*xs):
        given = dict(zip(floats, xs))
        return op.apply(tuple([given.get(i, a) for i, a in enumerate(inputs)]), attrs)

    ag.check_grads(f, *[inputs[i] for i in floats], order=2)


def test_half_precision_does_not_overflow_in_a_sum():
    x = np.linspace(-60, 60, 2000).astype(np.float16)[None]
    y = ag.layer_norm(ag.tensor(x, requires_grad=True), None, None).data
    assert y.dtype == np.float16 and np.isfinite(y).all() and abs(float(y.astype(float).std()) - 1) < 0.01
