"""Values and gradients against mpmath at 50 digits, over the whole range of each precision: *relative* errors.

What a rule computes as 1 − y loses all its digits where y is nearly 1, and x² is infinite or 0 long before the result
is.  Errors are counted in units of the precision's `eps`; a result below its smallest normal number may be 0.
"""

import functools
import math
import warnings

import mpmath
import numpy as np
import pytest
from mpmath import mp, mpf

import autograd as ag
from autograd.ops.elementwise import FUNCTIONS_OF_ONE, FUNCTIONS_OF_TWO, root, sech2
from autograd.ops.network.activations import normal_cdf

DTYPES = [np.float64, np.float32, np.float16]
PRECISION = 50


@pytest.fixture(autouse=True)
def many_digits():
    with mpmath.workdps(PRECISION):
        yield


# ---------------------------------------------------------------------- exact values


def sigmoid(x):
    return 1 / (1 + mp.exp(-x)) if x >= 0 else mp.exp(x) / (1 + mp.exp(x))


def sigmoid_slope(x):
    return sigmoid(x) * sigmoid(-x)


def softplus(x):
    return max(x, mpf(0)) + mp.log1p(mp.exp(-abs(x)))


def cdf(x):
    return mpf(x > 0) if abs(x) > 100 else mp.erfc(-x / mp.sqrt(2)) / 2


def density(x):
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)


def twice_u(x):
    return mp.sqrt(8 / mp.pi) * (x + mpf("0.044715") * x ** 3)


def twice_u_slope(x):
    return mp.sqrt(8 / mp.pi) * (1 + 3 * mpf("0.044715") * x ** 2)


def cube_root(x):
    return mp.sign(x) * mp.cbrt(abs(x))


def always(x):
    return True


# Name -> function, its slope, and where both are finite.
ONE = {
    "negative": (lambda x: -x, lambda x: mpf(-1), always),
    "copy": (lambda x: x, lambda x: mpf(1), always),
    "absolute": (abs, mp.sign, always),
    "fabs": (abs, mp.sign, always),
    "square": (lambda x: x * x, lambda x: 2 * x, always),
    "sqrt": (mp.sqrt, lambda x: 1 / (2 * mp.sqrt(x)), lambda x: x > 0),
    "cbrt": (cube_root, lambda x: 1 / (3 * cube_root(x) ** 2), always),
    "reciprocal": (lambda x: 1 / x, lambda x: -1 / x ** 2, always),
    "exp": (mp.exp, mp.exp, always),
    "exp2": (lambda x: mpf(2) ** x, lambda x: mpf(2) ** x * mp.ln(2), always),
    "expm1": (mp.expm1, mp.exp, always),
    "log": (mp.ln, lambda x: 1 / x, lambda x: x > 0),
    "log2": (lambda x: mp.ln(x) / mp.ln(2), lambda x: 1 / (x * mp.ln(2)), lambda x: x > 0),
    "log10": (mp.log10, lambda x: 1 / (x * mp.ln(10)), lambda x: x > 0),
    "log1p": (mp.log1p, lambda x: 1 / (1 + x), lambda x: x > -1),
    "sin": (mp.sin, mp.cos, always),
    "cos": (mp.cos, lambda x: -mp.sin(x), always),
    "tan": (mp.tan, lambda x: mp.sec(x) ** 2, always),
    "arcsin": (mp.asin, lambda x: 1 / mp.sqrt((1 - x) * (1 + x)), lambda x: abs(x) < 1),
    "arccos": (mp.acos, lambda x: -1 / mp.sqrt((1 - x) * (1 + x)), lambda x: abs(x) < 1),
    "arctan": (mp.atan, lambda x: 1 / (1 + x * x), always),
    "sinh": (mp.sinh, mp.cosh, always),
    "cosh": (mp.cosh, mp.sinh, always),
    "tanh": (mp.tanh, lambda x: mp.sech(x) ** 2, always),
    "arcsinh": (mp.asinh, lambda x: 1 / mp.sqrt(x * x + 1), always),
    "arccosh": (mp.acosh, lambda x: 1 / mp.sqrt((x - 1) * (x + 1)), lambda x: x > 1),
    "arctanh": (mp.atanh, lambda x: 1 / ((1 - x) * (1 + x)), lambda x: abs(x) < 1),
    "sigmoid": (sigmoid, sigmoid_slope, always),
    "softplus": (softplus, sigmoid, always),
    "silu": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) + x * sigmoid_slope(x), always),
    "erf": (mp.erf, lambda x: 2 / mp.sqrt(mp.pi) * mp.exp(-x * x), always),
    "gelu": (lambda x: x * cdf(x), lambda x: cdf(x) + x * density(x), always),
    "gelu by tanh": (lambda x: x * sigmoid(twice_u(x)), lambda x: sigmoid(twice_u(x)) + x * sigmoid_slope(
        twice_u(x)) * twice_u_slope(x), always),
    "relu": (lambda x: max(x, mpf(0)), lambda x: mpf(x > 0), always),
    "squared_relu": (lambda x: max(x, mpf(0)) ** 2, lambda x: 2 * max(x, mpf(0)), always),
    "leaky_relu": (lambda x: x if x > 0 else x / 4, lambda x: mpf(1) if x > 0 else mpf(0.25), always),
    "root": (mp.sqrt, lambda x: 1 / (2 * mp.sqrt(x)), lambda x: x > 0),
    "sech2": (lambda x: mp.sech(x) ** 2, lambda x: -2 * mp.sech(x) ** 2 * mp.tanh(x), always),
    "normal_cdf": (cdf, density, always),
}
OURS = {"gelu by tanh": lambda x: ag.gelu(x, "tanh"), "leaky_relu": lambda x: ag.leaky_relu(x, 0.25), "root": root,
        "sech2": sech2, "normal_cdf": normal_cdf}
WITH_KERNELS = ["gelu", "gelu by tanh", "squared_relu"]

# By how many eps value and gradient may be off at x, where it is more than 4, and why.
MORE = {
    "erf": (lambda x: 4, lambda x: 4 + x * x, "exp(−x²) of the rounded x²"),
    "normal_cdf": (lambda x: 4 + x * x, lambda x: 4 + x * x, "exp(−x²/2) of the rounded x²"),
    "gelu": (lambda x: 4 + x * x, lambda x: 4 + x * x, "exp(−x²/2) of the rounded x²"),
    "gelu by tanh": (lambda x: 4 + 4 * abs(twice_u(x)), lambda x: 4 + 4 * abs(twice_u(x)), "exp(−2u) of the rounded u"),
}
# Where the slope is a sum that crosses 0, its error is relative to the larger term.
TERMS = {
    "silu": lambda x: abs(sigmoid(x)) + abs(x * sigmoid_slope(x)),
    "gelu": lambda x: cdf(x) + abs(x) * density(x),
    "gelu by tanh": lambda x: sigmoid(twice_u(x)) + abs(x) * sigmoid_slope(twice_u(x)) * twice_u_slope(x),
}
# Composed: a factor below the smallest normal number is rounded before x multiplies it.
ROUNDED_FACTOR = ["silu", "gelu", "gelu by tanh"]


def points(dtype):
    """Numbers of both signs over the whole range, more of them where functions bend and saturate, and near 1."""
    info, rng = np.finfo(dtype), np.random.default_rng(0)
    low, high = math.log10(float(info.smallest_subnormal)), math.log10(float(info.max))
    sizes = [10 ** e for e in [*np.linspace(low, high, 40)[:-1], *range(-3, 4)]]
    bends = [rng.uniform(0, 1, 10), rng.uniform(1, 10, 20), rng.uniform(5, 50, 20), rng.uniform(50, 1100, 15), [37.43]]
    near_one = [1 + sign * 10.0 ** -k for k in range(1, 16, 2) for sign in (-1, 1)]
    x = np.unique(np.concatenate([sizes, *bends, near_one]).astype(dtype))
    x = x[(x > 0) & (x < info.max)]
    return np.concatenate([-x[::-1], x])


def errors(got, exact, terms=None, factor=1):
    """In eps, relative to the exact numbers, or to `terms`; infinity where a number should be finite, or the other way
    round.  What is below the smallest normal number, times `factor`, is rounding (in half precision: the smallest
    number, since it is computed in single)."""
    info, worst = np.finfo(got.dtype), []
    least = mpf(float(info.smallest_subnormal if got.dtype == np.float16 else info.tiny))
    for a, b, t, f in zip(got.flat, exact, terms or exact, np.broadcast_to(factor, got.shape).flat):
        a = float(a)
        if abs(b) > mpf(float(info.max)):
            worst.append(0.0 if abs(a) == math.inf and (a > 0) == (b > 0) or abs(a) == info.max else math.inf)
        elif not math.isfinite(a):
            worst.append(math.inf)
        else:
            off = max(abs(mpf(a) - b) - least * max(abs(mpf(float(f))), 1), mpf(0))
            worst.append(float(off / abs(t) / mpf(float(info.eps))) if off else 0.0)
    return np.array(worst)


def check(kind, got, exact, allowed, at, **how):
    """Raise unless each error is allowed."""
    wrong = errors(got, exact, **how) - np.array([float(a) for a in allowed])
    i = int(wrong.argmax())
    assert wrong[i] <= 0, f"{kind} at {at[i]}: {got.flat[i]}, and not {mp.nstr(exact[i], 17)}"


def differentiated(f, *xs):
    """Value and gradients of the sum, and what backward has warned of."""
    leaves = [ag.tensor(x, requires_grad=True) for x in xs]
    with np.errstate(all="ignore"):
        y = f(*leaves)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        y.backward(np.ones_like(y.data))
    return y.data, [t.grad for t in leaves], [str(w.message) for w in caught]


# ---------------------------------------------------------------------- element by element


def test_every_elementwise_function_is_here():
    """All but functions that are linear in each input or choose one, sinc, in which πx is rounded, and fmod and
    logaddexp2, which are remainder and logaddexp in other units."""
    assert {f.__name__ for f, *_ in FUNCTIONS_OF_ONE} <= {*ONE, "sinc"}
    assert {f.__name__ for f, *_ in FUNCTIONS_OF_TWO} <= {
        *TWO, "add", "subtract", "maximum", "minimum", "fmax", "fmin", "fmod", "logaddexp2"}


def check_one(name, dtype):
    value, slope, domain = ONE[name]
    x = np.array([a for a in points(dtype) if domain(mpf(float(a)))], dtype)
    exact = [mpf(float(a)) for a in x]
    y, (d,), warned = differentiated(OURS.get(name) or getattr(ag, name), x)
    of_value, of_slope, _ = MORE.get(name, (lambda a: 4, lambda a: 4, ""))
    factor = x.astype(float) if name in ROUNDED_FACTOR else 1
    check(f"{name}", y, [value(a) for a in exact], map(of_value, exact), x, factor=factor)
    slopes = [slope(a) for a in exact]
    check(f"the gradient of {name}", d, slopes, map(of_slope, exact), x, factor=factor,
          terms=[TERMS[name](a) for a in exact] if name in TERMS else None)
    if all(abs(s) < mpf(float(np.finfo(dtype).max)) for s in slopes):
        assert not warned


@pytest.mark.slow_but_every(3)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in ONE if name not in WITH_KERNELS])
def test_functions_of_one(name, dtype):
    check_one(name, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", WITH_KERNELS)
def test_functions_of_one_by_kernels(name, dtype, family):
    check_one(name, dtype)


@pytest.mark.parametrize("name", WITH_KERNELS)
def test_functions_of_one_by_rules(name, monkeypatch):
    for op in ag.REGISTRY.values():
        monkeypatch.setattr(op, "kernels", {})
    for dtype in DTYPES:
        check_one(name, dtype)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softplus", "erf", "arctan", "arcsinh", "silu", "gelu",
                                  "gelu by tanh", "expm1", "arctan2", "hypot", "logaddexp", "softmax"])
def test_second_derivatives_are_finite_far_out(name):
    """No ∞ · 0 in a rule that is differentiated again, where the gradient has long been 0 or 1."""
    x = np.array([-1e300, -1e200, -1e3, -40.0, 40.0, 300.0])
    f = OURS.get(name) or getattr(ag, name)
    second = ag.grad(lambda x: ag.grad(lambda x: (f(x, 1.0) if name in TWO else f(x)).sum())(x).sum())
    assert np.isfinite(second(x)).all()


# ---------------------------------------------------------------------- two inputs


def angle_slopes(x, y):
    return y / (x * x + y * y), -x / (x * x + y * y)


# Name -> function, its slopes, the error that is allowed at (x, y).
TWO = {
    "multiply": (lambda x, y: x * y, lambda x, y: (y, x), lambda x, y: 2),
    "divide": (lambda x, y: x / y, lambda x, y: (1 / y, -x / y ** 2), lambda x, y: 4),
    "hypot": (lambda x, y: mp.sqrt(x * x + y * y), lambda x, y: (x / mp.hypot(x, y), y / mp.hypot(x, y)),
              lambda x, y: 4),
    "arctan2": (mp.atan2, angle_slopes, lambda x, y: 6),
    # exp(x − y) of the rounded x − y
    "logaddexp": (lambda x, y: max(x, y) + softplus(-abs(x - y)), lambda x, y: (sigmoid(x - y), sigmoid(y - x)),
                  lambda x, y: 4 + min(abs(x - y), 1e4)),
    "remainder": (lambda x, y: x - y * mp.floor(x / y), lambda x, y: (mpf(1), -mp.floor(x / y)), lambda x, y: 4),
    # exp(y ln x) of the rounded y − 1, and NumPy's own power
    "power": (mp.power, lambda x, y: (y * mp.power(x, y - 1), mp.power(x, y) * mp.ln(x)),
              lambda x, y: 4 + 2 * abs(mp.ln(x))),
}


def pairs(name, dtype):
    """Pairs of numbers over the range of a precision."""
    info = np.finfo(dtype)
    high = int(math.log10(float(info.max)))
    sizes = [m * 10.0 ** e for e in {-high + 1, -high // 2, -3, -1, 0, 1, 2, 3, high // 2, high - 1} for m in (1, 2.5)]
    x = np.unique(np.array(sizes).astype(dtype))
    x = np.concatenate([-x, x])
    x, y = map(np.ravel, np.meshgrid(x, x))
    if name == "power":
        keep = (x > 0) & (abs(y.astype(float) * np.log(x.astype(float).clip(1e-300))) < 600)
    elif name == "remainder":
        ratio = x.astype(float) / y.astype(float)
        keep = (abs(ratio) < 1000) & (ratio != np.rint(ratio)) & (abs(ratio) > 1e-2)
    else:
        keep = np.ones(x.shape, bool)
    return x[keep], y[keep]


@pytest.mark.slow_but_every(3)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TWO)
def test_functions_of_two(name, dtype):
    value, slopes, allowed = TWO[name]
    x, y = pairs(name, dtype)
    z, grads, _ = differentiated(getattr(ag, name), x, y)
    exact = [(mpf(float(a)), mpf(float(b))) for a, b in zip(x, y)]
    at, bound = list(zip(x.tolist(), y.tolist())), [allowed(*pair) for pair in exact]
    values = [value(*pair) for pair in exact]
    if name not in ("remainder", "logaddexp"):  # NumPy's own, of which the first rounds x / y, and the second x − y
        check(name, z, values, bound, at)
    for i, d in enumerate(grads):
        wanted = [slopes(*pair)[i] for pair in exact]
        info = np.finfo(dtype)  # a rule that uses z cannot know it where it is no normal number
        normal = [j for j, v in enumerate(values)
                  if name not in ("divide", "power") or float(info.tiny) < abs(v) < float(info.max)]
        check(f"the gradient {i} of {name}", d[normal], [wanted[j] for j in normal], [bound[j] for j in normal],
              [at[j] for j in normal])


# ---------------------------------------------------------------------- rows: probabilities and losses


def rows(dtype):
    """Logits whose largest is ahead of the others by anything from nothing to all, and what |x − largest| is at most
    where its exponential is not 0."""
    info, rng = np.finfo(dtype), np.random.default_rng(0)
    limit = -math.log(float(info.smallest_subnormal))
    for s in [float(info.tiny), 1e-10, 1e-3, 0.3, 1, 3, 10, 16.5, 37.43, 40, 90, 300, 700, 1e3, float(info.max) / 8]:
        for x in ([0, -s], [s, 0, -s / 3], [-s, -s, 0.0], [s, s, -1], [3, 3 - s, 3 - s / 2], rng.uniform(-s, s, 5)):
            x = np.array(x).astype(dtype)
            below = (x.max() - x).astype(float)
            yield x, below[below < limit].max(initial=0)


def shares(x):
    """Probabilities, and for each what the others have together."""
    x = [mpf(float(a)) for a in x]
    weights = [mp.exp(a - max(x)) for a in x]
    total = sum(weights)
    return [w / total for w in weights], [sum(weights[:i] + weights[i + 1:]) / total for i in range(len(x))]


def one_hot(i, x):
    seed = np.zeros_like(x)
    seed[i] = 1
    return seed


def pulled(f, x, seed):
    """Value and gradient for a seed."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y, pullback = ag.vjp(f, x)
        return np.atleast_1d(y), pullback(np.asarray(seed, np.asarray(y).dtype).reshape(np.shape(y)))[0]


def check_softmax(dtype):
    for x, spread in rows(dtype):
        p, others = shares(x)
        allowed = [4 + 2 * spread] * len(x)
        for i in range(len(x)):
            y, d = pulled(ag.softmax, x, one_hot(i, x))
            check("softmax", y, p, allowed, [x] * len(x))
            check("its gradient", d, [p[i] * others[i] if i == j else -p[i] * p[j] for j in range(len(x))], allowed,
                  [x] * len(x))


def check_log_softmax(dtype):
    for x, spread in rows(dtype):
        p, others = shares(x)
        logs = [mp.ln(a) if a < 0.5 else mp.log1p(-b) for a, b in zip(p, others)]
        for i in range(len(x)):
            y, d = pulled(ag.log_softmax, x, one_hot(i, x))
            # The logarithm is rounded beside x − max, and in half precision to three digits.
            check("log_softmax", y, logs, [4 + spread] * len(x), [x] * len(x))
            of_y = abs(y.astype(float)) if dtype == np.float16 else 0 * y
            check("its gradient", d, [others[i] if i == j else -p[j] for j in range(len(x))],
                  [4 + 2 * spread + 2 * v for v in of_y], [x] * len(x))


def check_logsumexp(dtype):
    for x, spread in rows(dtype):
        p, others = shares(x)
        largest = max(mpf(float(a)) for a in x)
        log = mp.log1p(min(others) / max(p))
        y, d = pulled(ag.logsumexp, x, 1)
        check("logsumexp", y, [largest + log], [4 + spread], [x], terms=[abs(largest) + log])
        check("its gradient", d, p, [4 + 2 * spread] * len(x), [x] * len(x))


def check_cross_entropy(dtype):
    for x, spread in rows(dtype):
        p, others = shares(x)
        for i in range(len(x)):
            loss = -mp.ln(p[i]) if p[i] < 0.5 else -mp.log1p(-others[i])
            for settings in ({}, {"reduction": "none"}):  # a kernel takes the first
                y, d = pulled(lambda x, i=i, how=settings: ag.cross_entropy(x[None], np.array([i]), **how), x, 1)
                check("cross_entropy", y, [loss], [4 + spread], [x])
                check("its gradient", d, [-others[i] if i == j else p[j] for j in range(len(x))],
                      [4 + 2 * spread] * len(x), [x] * len(x))


def check_binary_cross_entropy(dtype):
    x = points(dtype)[::3]
    exact = [mpf(float(a)) for a in x]
    for target in (0, 1, 0.25, 1 - 2.0 ** -9):
        t = mpf(target)
        loss = functools.partial(ag.binary_cross_entropy, targets=np.full_like(x, target), reduction="none")
        y, pullback = ag.vjp(loss, x)
        d, = pullback(np.ones_like(x))
        check("binary_cross_entropy", y, [t * softplus(-a) + (1 - t) * softplus(a) for a in exact], [6] * len(x), x)
        check("its gradient", d, [(1 - t) * sigmoid(a) - t * sigmoid(-a) for a in exact], [6] * len(x), x,
              terms=[(1 - t) * sigmoid(a) + t * sigmoid(-a) for a in exact])


def check_kl_divergence(dtype):
    for x, _ in rows(dtype):
        p = ag.softmax(x)
        log_q = -np.arange(1, len(x) + 1).astype(dtype)
        exact, logs = [mpf(float(a)) for a in p], [mpf(float(a)) for a in log_q]
        terms = [a * (mp.ln(a) - b) if a else mpf(0) for a, b in zip(exact, logs)]
        y, d = pulled(lambda p, log_q=log_q: ag.kl_divergence(log_q, p), p, 1)
        check("kl_divergence", y, [sum(terms)], [8], [x], terms=[sum(abs(a * mp.ln(a or 1)) - a * b for a, b in zip(
            exact, logs))])
        check("its gradient", d, [mp.ln(a) - b + 1 if a else mpf(0) for a, b in zip(exact, logs)], [4] * len(x),
              [x] * len(x), terms=[abs(mp.ln(a or 1)) + 1 - b for a, b in zip(exact, logs)])


def norm_inputs(dtype):
    """Rows of any size, eps, weights, and the seed."""
    info, rng = np.finfo(dtype), np.random.default_rng(1)
    high, low = math.log10(float(info.max)), math.log10(float(info.tiny))
    for size in [*np.linspace(low + 2, high - 1, 12), -3, 0, 3]:
        for eps in (1e-5, 1e-12, 0.0):
            if size == size // 1 or eps < 1e-5 or dtype != np.float16:
                x = rng.uniform(0.5, 2, 4) * [1, -1, 1, -1] * 10.0 ** min(size, high - 1)
                yield x.astype(dtype), eps, rng.uniform(0.5, 2, 4).astype(dtype), rng.normal(size=4).astype(dtype)


def normed(name, eps, x, weight):
    return ag.rms_norm(x, weight, eps) if name == "rms_norm" else ag.layer_norm(x, weight, None, eps=eps)


def check_norm(dtype, name):
    """Three terms make the gradient of x: its error is relative to their sum without signs."""
    for x, eps, weight, seed in norm_inputs(dtype):
        given = [[mpf(float(a)) for a in v] for v in (x, weight, seed)]
        a, w, g = given
        mean = sum(a) / len(a) if name == "layer_norm" else mpf(0)
        scale = 1 / mp.sqrt(sum((v - mean) ** 2 for v in a) / len(a) + mpf(eps))
        normal = [(v - mean) * scale for v in a]
        h = [u * v for u, v in zip(g, w)]
        shift = sum(h) / len(h) if name == "layer_norm" else mpf(0)
        stretch = sum(u * v for u, v in zip(h, normal)) / len(h)
        y, pullback = ag.vjp(functools.partial(normed, name, eps), x[None], weight)
        dx, dw = pullback(seed[None])
        at, allowed = [(x, eps)] * len(x), [16] * len(x)
        check(name, y[0], [u * v for u, v in zip(normal, w)], allowed, at,
              terms=[(abs(v) + abs(mean)) * scale * u for v, u in zip(a, w)])
        check("its gradient", dx[0], [(u - shift - v * stretch) * scale for u, v in zip(h, normal)], allowed, at,
              terms=[(abs(u) + sum(map(abs, h)) / len(h) + abs(v) * sum(abs(s * t) for s, t in zip(h, normal)) / len(h))
                     * scale for u, v in zip(h, normal)])
        check("the weight's gradient", dw, [u * v for u, v in zip(g, normal)], allowed, at,
              terms=[abs(u) * (abs(v) + abs(mean)) * scale for u, v in zip(g, a)])


ROWS = {"softmax": check_softmax, "log_softmax": check_log_softmax, "logsumexp": check_logsumexp,
        "cross_entropy": check_cross_entropy, "binary_cross_entropy": check_binary_cross_entropy,
        "kl_divergence": check_kl_divergence,
        "layer_norm": lambda dtype: check_norm(dtype, "layer_norm"),
        "rms_norm": lambda dtype: check_norm(dtype, "rms_norm")}


@pytest.mark.slow_but_every(3)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ROWS)
def test_rows(name, dtype, family):
    ROWS[name](dtype)


@pytest.mark.slow_but_every(3)
@pytest.mark.parametrize("name", ROWS)
def test_rows_by_rules(name, monkeypatch):
    for op in ag.REGISTRY.values():
        monkeypatch.setattr(op, "kernels", {})
    for dtype in DTYPES:
        ROWS[name](dtype)
