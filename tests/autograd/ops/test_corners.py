"""Edge cases: no derivative, infinite values, empty arrays; half precision, which ends at 65,504."""

import math
import warnings

import numpy as np
import pytest

import autograd as ag
from autograd.ops.elementwise import by_convention, root
from tests.autograd.ops.test_ops import CONSTANT, OURS, as_leaves, backward, map_arrays, outputs, split_attrs
from tests.samples import SAMPLES

INF = np.inf


def gradient(f, x, quiet=True):
    """The gradient of the sum of f's elements; `quiet`: a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error" if quiet else "ignore")
        return ag.grad(lambda x: np.sum(f(x)))(np.asarray(x, float))


def second(f, x):
    """The Hessian of the sum of f's elements."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = np.asarray(x, float)
        return ag.hessian(lambda x: np.sum(f(x)))(x).reshape(x.size, x.size)


# ---------------------------------------------------------------------- the second order at a corner

ZEROS, TIED = np.zeros(2), np.array([2.0, 2.0])

# Neither side's derivative: function, where, the gradient that is documented.  The second derivative is NaN.
CONVENTIONS = {
    "absolute": (np.abs, [0.0], [0]),
    "absolute squared": (lambda x: np.abs(x) ** 2, [0.0], [0]),
    "hypot": (lambda x: np.hypot(x[0], x[1]), ZEROS, [0, 0]),
    "hypot squared": (lambda x: np.hypot(x[0], x[1]) ** 2, ZEROS, [0, 0]),
    "norm": (np.linalg.norm, ZEROS, [0, 0]),
    "norm squared": (lambda x: np.linalg.norm(x) ** 2, ZEROS, [0, 0]),
    "sum of absolutes": (lambda x: np.linalg.norm(x, 1), ZEROS, [0, 0]),
    "largest absolute": (lambda x: np.linalg.norm(x, INF), TIED, [0.5, 0.5]),
    "standard deviation": (np.std, TIED, [0, 0]),
    "standard deviation squared": (lambda x: np.std(x) ** 2, TIED, [0, 0]),
    "root": (root, [0.0], [0]),
    "angle": (lambda x: np.arctan2(x[0], x[1]), ZEROS, [0, 0]),
    "maximum": (lambda x: np.maximum(x[0], x[1]), TIED, [0.5, 0.5]),
    "maximum squared": (lambda x: np.maximum(x[0], x[1]) ** 2, TIED, [2, 2]),
    "minimum": (lambda x: np.minimum(x[0], x[1]), TIED, [0.5, 0.5]),
    "max": (np.max, TIED, [0.5, 0.5]),
    "min": (np.min, TIED, [0.5, 0.5]),
    "ptp": (np.ptp, TIED, [0, 0]),
    "power 0 of 0": (lambda x: x[0] ** x[1], ZEROS, [0, 0]),
    "power 1 of 0": (lambda x: x[0] ** x[1], [0.0, 1.0], [1, 0]),
}

# One side's derivative, to every order: function, where, gradient, second derivative.
SIDES = {
    "relu": (ag.relu, [0.0], [0], [[0]]),
    "relu squared": (lambda x: ag.relu(x) ** 2, [0.0], [0], [[0]]),
    "squared_relu": (ag.squared_relu, [0.0], [0], [[0]]),
    "leaky_relu squared": (lambda x: ag.leaky_relu(x, 0.5) ** 2, [0.0], [0], [[0.5]]),
    "clip squared": (lambda x: np.clip(x, 1, 2) ** 2, [1.0, 2.0], [2, 4], [[2, 0], [0, 2]]),
    "where": (lambda x: np.where(x >= 0, x ** 2, -x), [0.0], [0], [[2]]),
    "sort": (lambda x: np.sort(x)[0] ** 2, TIED, [4, 0], [[2, 0], [0, 0]]),
    "median": (lambda x: np.median(x) ** 2, [1.0, 2.0, 2.0], [0, 4, 0], [[0, 0, 0], [0, 2, 0], [0, 0, 0]]),
}

# No corner, though rules meet ties and zeros there.
SMOOTH = {
    "logaddexp of equals": (lambda x: np.logaddexp(x[0], x[1]), TIED, [0.5, 0.5], [[0.25, -0.25], [-0.25, 0.25]]),
    "softplus": (ag.softplus, [0.0], [0.5], [[0.25]]),
    "sigmoid": (ag.sigmoid, [0.0], [0.25], [[0]]),
    "tanh": (np.tanh, [0.0], [1], [[0]]),
    "arctan": (np.arctan, [0.0], [1], [[0]]),
    "max of one": (np.max, [1.0, 3.0], [0, 1], [[0, 0], [0, 0]]),
    "max of one, squared": (lambda x: np.max(x) ** 2, [1.0, 3.0], [0, 6], [[0, 0], [0, 2]]),
    "square of 0": (lambda x: x ** 2, [0.0], [0], [[2]]),
    "power 2 of 0": (lambda x: x[0] ** x[1], [0.0, 2.0], [0, 0], [[2, 0], [0, 0]]),
    "softmax of equals": (lambda x: ag.softmax(x)[0], TIED, [0.25, -0.25], [[0, 0], [0, 0]]),
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_convention_shows_in_the_second_order(name):
    f, x, first = CONVENTIONS[name]
    np.testing.assert_array_equal(gradient(f, x), first)
    assert np.isnan(second(f, x)).any()


def test_at_0_the_exponent_1_is_where_the_slope_of_x_jumps():
    """y xʸ⁻¹ is infinite below y = 1, 1 there, and 0 above."""
    with np.errstate(all="ignore"):
        slope = ag.grad(lambda y: ag.grad(lambda x: x ** y)(np.zeros(())))
        assert np.isnan(slope(np.ones(()))) and slope(np.array(2.0)) == 0


@pytest.mark.parametrize("name", [*SIDES, *SMOOTH])
def test_one_side_is_that_side_to_every_order(name):
    f, x, first, hessian = {**SIDES, **SMOOTH}[name]
    np.testing.assert_allclose(gradient(f, x), first)
    np.testing.assert_allclose(second(f, x), hessian, atol=1e-15)


def test_third_derivatives_at_the_middle():
    """A rule with |x| in it would have 0 here."""
    for f, third in ((ag.sigmoid, -1 / 8), (np.tanh, -2), (ag.softplus, 0), (np.arctan, -2), (ag.erf, -4 / math.sqrt(
            math.pi))):
        assert ag.grad(ag.grad(ag.grad(f)))(0.0) == pytest.approx(third, abs=1e-15)


def test_by_convention_is_only_about_the_corner():
    x = ag.tensor([0.0, 2.0], requires_grad=True)
    y = by_convention(x ** 3, x == 0, x)
    np.testing.assert_array_equal(y.data, [0, 8])
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, [np.nan, 12])
    np.testing.assert_array_equal(by_convention(np.ones(2), np.zeros(2, bool), np.ones(2)), [1, 1])


# ---------------------------------------------------------------------- two ways to the same number

EDGES = [-INF, -1e3, -40.0, -1.0, 0.0, 1.0, 40.0, 1e3, INF]
PAIRS_OF_EDGES = [[a, b] for a in EDGES for b in EDGES]
ROWS = [[0.0, 0.0, 0.0], [1.0, 2.0, 2.0], [0.0, -40.0, -800.0], [-INF, 0.0, 1.0], [-INF, -INF, 3.0], [-INF] * 3,
        [INF, 0.0, 1.0], [INF, INF, 0.0], [INF, -INF, 0.0], [1e308, -1e308, 0.0]]
LENGTHS = [[0.0, 0.0], [3.0, -4.0], [0.0, 5.0], [1e-160, 1e-160]]
NUMBERS = [[0.0, 0.0, 0.0], [2.0, 2.0, 2.0], [1.0, 2.0, 2.0], [0.0, -1.0, 3.0], [-0.5, 0.0, 0.0]]


def two_classes(x):
    return np.stack([x, np.zeros_like(x)])


# What the two are called, both, and where they are compared.
ROUTES = [
    ("norm, hypot", np.linalg.norm, lambda x: np.hypot(x[0], x[1]), LENGTHS[:3]),
    ("logaddexp, logsumexp", lambda x: np.logaddexp(x[0], x[1]), ag.logsumexp, PAIRS_OF_EDGES),
    ("softplus, logaddexp", ag.softplus, lambda x: np.logaddexp(x, 0), EDGES),
    ("softplus, logsumexp", ag.softplus, lambda x: ag.logsumexp(two_classes(x)), EDGES),
    ("softplus, log1p∘exp", ag.softplus, lambda x: np.log1p(np.exp(x)), EDGES[:-2]),
    ("sigmoid, softmax", ag.sigmoid, lambda x: ag.softmax(two_classes(x))[0], EDGES),
    ("silu, x sigmoid", ag.silu, lambda x: x * ag.sigmoid(x), EDGES[1:-1]),
    ("softmax, exp∘log_softmax", lambda x: ag.softmax(x)[0], lambda x: np.exp(ag.log_softmax(x)[0]),
     ROWS[:5] + ROWS[6:]),
    ("logsumexp, −log_softmax + x", ag.logsumexp, lambda x: x[2] - ag.log_softmax(x)[2],
     [ROWS[i] for i in (0, 1, 3, 4)]),
    ("cross_entropy, −log_softmax", lambda x: ag.cross_entropy(x[None], np.array([1])), lambda x: -ag.log_softmax(x)[1],
     ROWS),
    ("cross_entropy, none", lambda x: ag.cross_entropy(x[None], np.array([1])), lambda x: ag.cross_entropy(
        x[None], np.array([1]), reduction="none"), ROWS),
    ("cross_entropy, binary", lambda x: ag.cross_entropy(two_classes(x)[None], np.array([0])),
     lambda x: ag.binary_cross_entropy(x, np.ones(())), EDGES[1:-1]),
    ("std, √var", np.std, lambda x: root(np.var(x)), NUMBERS),
    ("var, mean of squares", np.var, lambda x: np.mean((x - x.mean()) ** 2), NUMBERS),
    ("mean, average", np.mean, np.average, NUMBERS),
    ("mean, average by ones", np.mean, lambda x: np.average(x, weights=np.ones(3)), NUMBERS),
    ("max, maximum", lambda x: np.max(x[1:]), lambda x: np.maximum(x[1], x[2]), NUMBERS),
    ("min, minimum", lambda x: np.min(x[1:]), lambda x: np.minimum(x[1], x[2]), NUMBERS),
    ("min, −max", np.min, lambda x: -np.max(-x), NUMBERS),
    ("prod, cumprod", np.prod, lambda x: np.cumprod(x)[-1], NUMBERS),
    ("sum, cumsum", np.sum, lambda x: np.cumsum(x)[-1], NUMBERS),
    ("norm 1, Σ|x|", lambda x: np.linalg.norm(x, 1), lambda x: np.abs(x).sum(), NUMBERS),
    ("squared_relu, relu²", ag.squared_relu, lambda x: ag.relu(x) ** 2, EDGES[1:-1]),
    ("clip, maximum of minimum", lambda x: np.clip(x, -2, 2), lambda x: np.maximum(np.minimum(x, 2), -2), EDGES),
    ("power, square", lambda x: x ** 2, np.square, EDGES[1:-1]),
    ("power, sqrt", lambda x: x ** 0.5, np.sqrt, [0.25, 1.0, 1e3]),
]


@pytest.mark.slow_but_every(9)
@pytest.mark.parametrize("f, g, x", [pytest.param(f, g, x, id=f"{name} at {x}")
                                     for name, f, g, xs in ROUTES for x in xs])
def test_two_routes_agree(f, g, x, family):
    x = np.asarray(x, float)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(f(x), g(x), rtol=1e-13)
        one, other = gradient(f, x), gradient(g, x)
    np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("f, x, value, slopes", [
    (lambda x: np.logaddexp(x[0], x[1]), [-INF, -INF], -INF, [0, 0]),
    (lambda x: np.logaddexp(x[0], x[1]), [INF, 0], INF, [1, 0]),
    (lambda x: np.logaddexp(x[0], x[1]), [INF, INF], INF, [0.5, 0.5]),
    (ag.logsumexp, [-INF, -INF], -INF, [0, 0]),
    (ag.logsumexp, [INF, 0, -INF], INF, [1, 0, 0]),
    (lambda x: ag.softmax(x)[0], [-INF, -INF], 0, [0, 0]),
    (lambda x: ag.softmax(x)[0], [INF, 0], 1, [0, 0]),
    (lambda x: ag.log_softmax(x)[0], [-INF, -INF], -INF, [1, 0]),
    (lambda x: ag.log_softmax(x)[0], [0, -INF], 0, [0, 0]),
    (lambda x: ag.cross_entropy(x[None], np.array([0])), [0, -INF], 0, [0, 0]),
    (lambda x: ag.cross_entropy(x[None], np.array([0])), [-INF, 0], INF, [-1, 1]),
    (lambda x: ag.cross_entropy(x[None], np.array([0])), [-INF, -INF], INF, [-1, 0]),
    (lambda x: ag.cross_entropy(x[None], np.array([1]), label_smoothing=0.5), [0.0, 0.0], math.log(2), [0.25, -0.25]),
    (lambda x: ag.kl_divergence(x, np.array([0.0, 1.0])), [-INF, 0.0], 0, [0, -1]),
    (lambda x: ag.kl_divergence(x, np.array([0.5, 0.5])), [-INF, 0.0], INF, [-0.5, -0.5]),
    (lambda x: ag.kl_divergence(np.log([0.25, 0.75]), x), [0.0, 1.0], -math.log(0.75), [0, 1 - math.log(0.75)]),
])
def test_infinities_and_zeros(f, x, value, slopes, family):
    x = np.asarray(x, float)
    assert f(x) == pytest.approx(value, abs=1e-15)
    np.testing.assert_allclose(gradient(f, x), slopes, atol=1e-15)


@pytest.mark.parametrize("mask", [[[0, -INF], [-INF, -INF]], [[-INF, -INF], [0, 0]], [[-INF, -INF], [-INF, -INF]]])
def test_attention_is_its_composition_where_rows_are_masked(mask, family):
    q, k, v = np.random.default_rng(0).normal(size=(3, 2, 3))
    mask = np.array(mask)

    def composed(q, k, v):
        return ag.softmax(q @ k.mT / math.sqrt(3) + mask) @ v

    for given in (mask, mask == 0):
        y, pullback = ag.vjp(lambda q, k, v, given=given: ag.attention(q, k, v, given), q, k, v)
        z, wanted = ag.vjp(composed, q, k, v)
        np.testing.assert_allclose(y, z, atol=1e-15)
        for a, b in zip(pullback(q), wanted(q)):
            np.testing.assert_allclose(a, b, atol=1e-15)


# ---------------------------------------------------------------------- half precision

HALF = np.float16
MANY = np.ones((4000, 1), HALF)  # sums of ones in half precision end at 2048
WIDE = np.random.default_rng(0).normal(size=70_000).astype(HALF)
BIG = np.array([60_000, 60_000, -60_000], HALF)

# Value (None: anything) and gradient, of which the first elements are compared.
HALVES = {
    "sum": (lambda x: np.sum(x, 0), MANY, 4000, 1),
    "sum beyond the range": (lambda x: np.sum(x[:, None], 0), BIG, 60_000, 1),
    "cumsum": (lambda x: np.cumsum(x)[-1], BIG, 60_000, 1),
    "cumsum of many": (lambda x: np.cumsum(x), MANY, None, 4000),
    "prod": (np.prod, np.array([1 / 300, 300, 300, 1 / 300], HALF), 1, 300),
    "cumprod": (lambda x: np.cumprod(x)[-1], np.array([1 / 300, 1 / 300, 300, 300], HALF), 1, 300),
    "mean": (np.mean, WIDE, 0, 1 / 70_000),
    "var": (np.var, WIDE, 1, 2 * float(WIDE[0]) / 70_000),
    "var beyond the range": (np.var, np.array([250, -250], HALF), 62_500, 250),
    "std": (np.std, np.array([300, -300], HALF), 300, 0.5),
    "norm": (np.linalg.norm, np.array([300, 400], HALF), 500, 0.6),
    "norm of order 3": (lambda x: np.linalg.norm(x, 3), np.array([300, 0], HALF), 300, 1),
    "max": (np.max, np.ones(70_000, HALF), 1, 1 / 70_000),
    "average": (lambda x: np.average(x, weights=np.ones(70_000, HALF)), WIDE, 0, 1 / 70_000),
    "logsumexp": (ag.logsumexp, np.zeros(70_000, HALF), math.log(70_000), 1 / 70_000),
    "softmax": (ag.softmax, np.zeros(70_000, HALF), 1 / 70_000, 0),
    "log_softmax": (lambda x: ag.log_softmax(x)[0], np.zeros(70_000, HALF), -math.log(70_000), 1),
    "cross_entropy": (lambda x: ag.cross_entropy(x, np.zeros(70_000, int)), np.zeros((70_000, 2), HALF), math.log(2),
                      -0.5 / 70_000),
    "mse": (lambda x: ag.mse(x, np.zeros(4, HALF)), np.array([300, 0, 0, 0], HALF), 22_500, 150),
    "layer_norm": (lambda x: ag.layer_norm(x, None, None), np.array([[30_000, -30_000]], HALF), 1, 0),
    "layer_norm's weight": (lambda w: ag.layer_norm(np.tile(np.array([1, -1], HALF), (4000, 1)), w, None),
                            np.ones(2, HALF), 1, 4000),
    "rms_norm": (lambda x: ag.rms_norm(x, None), np.array([[30_000, 30_000]], HALF), 1, 0),
    "attention": (lambda x: ag.attention(x, x, np.ones((1, 1), HALF)), np.full((1, 64), 100, HALF), 1, 0),
    "gelu": (ag.gelu, np.array([-4, -3], HALF), -4 * 3.167e-5, -5.036e-4),
    "linear's bias": (lambda b: ag.linear(MANY, np.ones((1, 1), HALF), b), np.zeros(1, HALF), 1, 4000),
    "linear's weight": (lambda w: ag.linear(MANY, w, None), np.ones((1, 1), HALF), 1, 4000),
    "causal_conv's weight": (lambda w: ag.causal_conv(MANY, w), np.ones((1, 1), HALF), 1, 4000),
    "rotary's angles": (lambda a: ag.rotary(np.ones((4000, 1, 2), HALF), a), np.full((1, 1), 0.5, HALF),
                        math.cos(0.5) - math.sin(0.5), -8000 * math.sin(0.5)),
    "what broadcasting adds up": (lambda x: x + MANY, np.zeros(1, HALF), 1, 4000),
    "embedding": (lambda x: ag.embedding(np.zeros(4000, int), x), np.ones((2, 1), HALF), 1, 4000),
    "scatter_add": (lambda x: x[np.zeros(4000, int)], np.ones(2, HALF), 1, 4000),
    "scatter_add of rows": (lambda x: x[np.zeros(4000, int)], np.ones((2, 3), HALF), 1, 4000),
    "einsum": (lambda x: np.einsum("ij->j", x), MANY, 4000, 1),
    "einsum of two": (lambda x: np.einsum("i,jk->i", x, MANY), np.ones(1, HALF), 4000, 4000),
    "outer": (lambda x: np.outer(x, MANY), np.ones(1, HALF), 1, 4000),
    "repeat": (lambda x: np.repeat(x, 4000), np.ones(1, HALF), 1, 4000),
}


@pytest.mark.parametrize("name", HALVES)
def test_half_precision_neither_overflows_nor_stalls(name, family):
    f, x, value, slope = HALVES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if name == "cumsum" else "error")  # one of its sums is beyond the range
        y, pullback = ag.vjp(f, x)
        d, = pullback(np.full_like(y, 1) if name != "cumsum of many" else np.ones_like(y))
    assert y.dtype == d.dtype == HALF
    if value is not None:
        assert float(y.flat[0]) == pytest.approx(value, rel=2e-3, abs=2e-4)
    assert float(d.flat[0]) == pytest.approx(slope, rel=4e-3, abs=1e-7)


# ---------------------------------------------------------------------- nothing

# What we refuse and NumPy answers, with NaN and a warning or because nothing is taken; and the other way round.
QUANTILES = ("median", "quantile", "percentile", "nanmedian", "nanquantile", "nanpercentile")
REFUSED = {**dict.fromkeys(QUANTILES, "of 0 elements"), "take": "out of bounds", "resize": "out of bounds"}
ANSWERED = {"median", "cov", "average", "cond", "tensorinv", "quantile", "percentile"}
try:
    np.linalg.norm(np.zeros((0, 2)), np.inf)
except ValueError:
    ANSWERED.add("norm")  # since later versions of NumPy answer
# No numbers, called in another way, or NumPy forgets how many quantiles are asked for.
UNLIKE = {"empty_like", "einsum", "put", "put_along_axis", "clip", "nanquantile", "nanpercentile"}


def emptied(args):
    """The arguments with each axis of each array made empty, and with all axes of one length."""
    arrays = []
    map_arrays(arrays.append, args)
    for a in arrays:
        for axis in range(a.ndim):
            yield map_arrays(lambda b, axis=axis, a=a: np.take(b, [], axis) if b is a else b, args)
    for n in {n for a in arrays for n in a.shape}:
        yield map_arrays(lambda a, n=n: a[tuple([slice(0 if m == n else None) for m in a.shape])], args)


@pytest.mark.slow_but_every(9)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SAMPLES)
def test_empty_arrays_give_what_numpy_gives_or_an_error_of_ours(name, family):
    numpys = getattr(np, name, None) or getattr(np.linalg, name, None)
    numpys = numpys if callable(numpys) else None  # np.fft is a module
    tried = 0
    for sample in SAMPLES[name]:
        args, attrs = split_attrs(sample)
        if any(isinstance(a, np.ndarray) for a in attrs.values()):
            continue  # it would have to be emptied, too
        for given in emptied(args):
            tried += 1
            try:
                got = OURS[name](*given, **attrs)
            except (ValueError, IndexError, TypeError) as error:
                assert "zero-size array to reduction" not in str(error)
                if numpys and REFUSED.get(name, "-") not in str(error):
                    with pytest.raises((ValueError, IndexError, TypeError, RuntimeError)):
                        numpys(*given, **attrs)
                continue
            if numpys and name not in UNLIKE:
                compare_with_numpys(name, got, numpys, given, attrs)
            if name not in CONSTANT:
                check_gradients_of_empty(name, given, attrs)
    assert tried


def compare_with_numpys(name, got, numpys, given, attrs):
    try:
        wanted = numpys(*given, **attrs)
    except (ValueError, ZeroDivisionError, RuntimeError):
        assert name in ANSWERED
        return
    for y, z in zip(outputs(got), outputs(wanted), strict=True):
        assert np.shape(y) == np.shape(z)
        np.testing.assert_allclose(y, z, rtol=1e-12)


def check_gradients_of_empty(name, given, attrs):
    """They have the shapes of the arrays, and are finite where a result is."""
    given, leaves = as_leaves(given)
    ys = [y for y in outputs(OURS[name](*given, **attrs))
          if getattr(y, "requires_grad", False)]  # a polynomial of no coefficients is 0
    if not leaves or not ys or name == "einsum" and 0 in leaves[0].shape:  # its letters may have lengths 0 and n
        return
    try:
        backward(ys)
    except np.linalg.LinAlgError as error:  # what is added to no vectors is one basis of many
        assert name in ("svd", "qr") and "one basis of many" in str(error)
        return
    for t in leaves:
        assert t.grad.shape == t.shape and t.grad.dtype == t.dtype
        assert np.isfinite(t.grad).all() or not all(np.isfinite(y.data).all() for y in ys)


@pytest.mark.parametrize("how", [{}, {"causal": True}, {"mask": np.ones((3, 0), bool)}, {"mask": np.zeros((3, 0))}])
def test_attention_without_keys_is_zero(how, family):
    q, k, v = np.ones((2, 3, 4)), np.ones((2, 0, 4)), np.ones((2, 0, 5))
    y, pullback = ag.vjp(lambda q, k, v: ag.attention(q, k, v, **how), q, k, v)
    np.testing.assert_array_equal(y, np.zeros((2, 3, 5)))
    for d, x in zip(pullback(np.ones((2, 3, 5))), (q, k, v)):
        np.testing.assert_array_equal(d, np.zeros_like(x))


def test_attention_of_width_zero_is_the_mean(family):
    v = np.arange(6.0).reshape(3, 2)
    y, pullback = ag.vjp(lambda q, k: ag.attention(q, k, v), np.ones((2, 0)), np.ones((3, 0)))
    np.testing.assert_allclose(y, np.broadcast_to(v.mean(0), (2, 2)))
    assert [d.shape for d in pullback(y)] == [(2, 0), (3, 0)]


@pytest.mark.parametrize("shape, axis", [((5, 0), -1), ((5, 0), 0), ((0, 5), 0), ((0,), -1), ((2, 0, 3), 1),
                                         ((2, 0, 3), (0, 1))])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_probabilities_of_nothing(name, shape, axis, family):
    y, pullback = ag.vjp(lambda x: OURS[name](x, axis), np.zeros(shape))
    assert y.shape == pullback(np.zeros(shape))[0].shape == shape


@pytest.mark.parametrize("f", [np.max, np.min, np.ptp])
def test_the_largest_of_nothing_is_refused(f):
    with pytest.raises(ValueError, match=r"no elements to choose from: x has shape \(2, 0\), and axis is 1"):
        f(ag.tensor(np.zeros((2, 0))), axis=1)
    with pytest.raises(ValueError, match="no elements to choose from"):
        OURS[f.__name__](np.zeros(0))
    assert f(ag.tensor(np.zeros((2, 0))), axis=0).shape == (0,)


@pytest.mark.parametrize("shape, eps", [((2, 0), 1e-5), ((0, 3), 1e-5), ((0, 3), 0.0), ((0, 0), 0.0)])
def test_norms_of_nothing_do_not_warn(shape, eps, family):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for f in (lambda x: ag.layer_norm(x, None, None, eps=eps), lambda x: ag.rms_norm(x, None, eps=eps)):
            y, pullback = ag.vjp(f, np.zeros(shape))
            assert y.shape == pullback(y)[0].shape == shape


def test_a_class_among_none_is_refused(family):
    with pytest.raises(IndexError, match=r"target 1 is no class: logits of shape \(2, 0\) have none"):
        ag.cross_entropy(np.zeros((2, 0)), np.array([0, 1]))
    with pytest.raises(IndexError, match=r"target 3 is no class: classes count from 0 to 2, ignore_index is -100"):
        ag.cross_entropy(np.zeros((2, 3)), np.array([0, 3]))
    with pytest.raises(IndexError, match=r"there is no row 1: a table of shape \(0, 2\) has none"):
        ag.embedding(np.array([1]), np.zeros((0, 2)))
