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
    return compare_sample(name, SAMPLES[name][i], dtype, without_kernels)


def compare_sample(name, sample, dtype, without_kernels):
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


def heads(*shape, dtype):
    """Numbers (B, H, T, d) as a model has them: heads side by side in memory, and other numbers between the places."""
    b, h, t, d = shape
    x = np.random.default_rng(sum(shape)).normal(size=(b, t, 3 * h * d)).astype(dtype)
    return x[..., h * d:2 * h * d].reshape(b, t, h, d).swapaxes(1, 2)


def differentiated_in_place(name, args):
    """Value, gradients and the value's strides of an op on leaves that lie in memory as `args` do."""
    leaves = [ag.tensor(a, requires_grad=True) for a in args]
    for t, a in zip(leaves, args):
        t.bind(a)  # a leaf's own copy would lie otherwise
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


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [(6,), (2, 3, 6), (2, 2, 1, 2, 6), (20, 130), (7, 1)])
def test_rms_norm_of_any_shape(shape, dtype, without_kernels):
    rng = np.random.default_rng(1)
    x, weight = rng.normal(size=shape), rng.normal(size=shape[-1])
    assert compare_sample("rms_norm", (x, weight), dtype, without_kernels)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [(5, 6), (2, 3, 5, 6), (2, 1, 3, 2, 2), (0, 2, 4), (65, 34)])
def test_rotary_of_any_shape(shape, dtype, without_kernels):
    rng = np.random.default_rng(1)
    x, angles = rng.normal(size=shape), rng.normal(size=(shape[-2], shape[-1] // 2))
    assert compare_sample("rotary", (x, angles), dtype, without_kernels)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("taps", [1, 2, 5, 9])
@pytest.mark.parametrize("shape", [(5, 6), (2, 3, 5, 33), (0, 2, 4), (3, 0, 2), (1, 1)])
def test_causal_conv_of_any_shape(shape, taps, dtype, without_kernels):
    rng = np.random.default_rng(1)
    x, weight = rng.normal(size=shape), rng.normal(size=(taps, shape[-1]))
    assert compare_sample("causal_conv", (x, weight), dtype, without_kernels)


@pytest.mark.parametrize("size", [1, 1000, (1 << 15) + 1])
def test_squared_relu_of_any_size(size, without_kernels):
    x = np.random.default_rng(1).normal(size=size)
    x[::3] *= -1
    assert compare_sample("squared_relu", (x,), np.float64, without_kernels)


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


@pytest.mark.parametrize("name", ["rms_norm", "rotary", "causal_conv"])
def test_only_what_requires_a_gradient_gets_one(name):
    """Each input alone has the gradient it has beside the others."""
    args = [a for a in SAMPLES[name][1 if name != "rms_norm" else 0]]
    together = [ag.tensor(a, requires_grad=True) for a in args]
    seed = np.random.default_rng(0).normal(size=args[0].shape)
    ag.REGISTRY[name](*together).backward(seed)
    for i, t in enumerate(together):
        alone = [ag.tensor(a, requires_grad=i == j) for j, a in enumerate(args)]
        y = ag.REGISTRY[name](*alone)
        assert y.saved is not None
        y.backward(seed)
        np.testing.assert_array_equal(alone[i].grad, t.grad)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("batch", "n_heads", "shared"), [((), 4, 2), ((), 4, 1), ((2,), 6, 3), ((2, 1), 4, 2)])
def test_heads_that_share_keys_are_taken_without_copies(batch, n_heads, shared, causal, dtype, without_kernels):
    rng = np.random.default_rng(1)
    q, k, v = (rng.normal(size=(*batch, *shape)) for shape in ((n_heads, 3, 5), (shared, 4, 5), (shared, 4, 2)))
    assert compare_sample("attention", (q, k, v, {"causal": causal}), dtype, without_kernels)


@pytest.mark.parametrize("shapes", [[(2, 3, 4), (5, 4), (5, 4)], [(4, 3, 4), (2, 5, 4), (4, 5, 4)],
                                    [(2, 4, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4)], [(0, 3, 4), (2, 5, 4), (2, 5, 4)],
                                    [(1, 3, 4), (2, 5, 4), (2, 5, 4)]])
def test_heads_that_do_not_go_together(shapes, without_kernels):
    """The formula serves where the kernels do not."""
    rng = np.random.default_rng(1)
    compare_sample("attention", tuple(rng.normal(size=shape) for shape in shapes), np.float64, without_kernels)


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
