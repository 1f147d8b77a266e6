"""Every op and composed function on every sample: value, gradients, dtype, and another library's arrays."""

import math
import operator
import statistics
import warnings

import numpy as np
import pytest

import autograd as ag
from autograd.core.registry import module_of
from tests.duck import Duck
from tests.samples import SAMPLES, SMALL

OPS = {name: op for name, op in ag.REGISTRY.items() if module_of(op.formula).startswith(("autograd.", "numpy"))}
OURS = {**OPS, **ag.FUNCTIONS}
CONSTANT = {"zeros_like", "ones_like", "empty_like", "full_like", *[n for n,
op in OPS.items() if not op.differentiable]}
BY_SAMPLE = [pytest.param(name, sample, id=f"{name}-{i}") for name in SAMPLES for i, sample in enumerate(SAMPLES[name])]
DIFFERENTIABLE = [p for p in BY_SAMPLE if p.values[0] not in CONSTANT]


def split_attrs(sample):
    """(arguments, settings) of a sample."""
    return (sample[:-1], sample[-1]) if isinstance(sample[-1], dict) else (sample, {})


def map_arrays(fn, tree):
    """`fn` of every NumPy array in nested lists and tuples."""
    if isinstance(tree, (list, tuple)):
        return type(tree)(map_arrays(fn, branch) for branch in tree)
    return fn(tree) if isinstance(tree, np.ndarray) else tree


def as_leaves(args, convert=lambda a: a):
    """Arguments with a leaf for each floating-point array, and those leaves."""
    leaves = []

    def leaf(a):
        if a.dtype.kind != "f":
            return convert(a)
        leaves.append(ag.tensor(convert(a), requires_grad=True))
        return leaves[-1]

    return map_arrays(leaf, args), leaves


def outputs(y):
    return y if isinstance(y, (tuple, list)) else (y,)


def seeds(ys):
    """Fixed weights of the outputs of an op."""
    return [np.cos(np.arange(y.size, dtype=float) + i).reshape(y.shape) for i, y in enumerate(ys)]


def backward(ys, convert=lambda a: a, **how):
    """Send fixed weights back from all outputs at once."""
    loss = sum((y * convert(w.astype(y.dtype))).sum() for w, y in zip(seeds(ys), ys) if y.dtype.kind == "f")
    loss.backward(**how)


def check(name, sample, order):
    """The gradients of an op or composed function on one sample."""
    if name in OPS:
        return ag.check_op(OPS[name], [sample], order=order)
    args, attrs = split_attrs(sample)
    floats = []
    map_arrays(lambda a: floats.append(a) if a.dtype.kind == "f" else None, args)

    def function(*xs):
        given = iter(xs)
        return OURS[name](*map_arrays(lambda a: next(given) if a.dtype.kind == "f" else a, args), **attrs)

    if name not in CONSTANT:
        ag.check_grads(function, *floats, order=order)


# ---------------------------------------------------------------------- independent formulas


def each(f):
    """A function of numbers as one of arrays, NumPy only broadcasting them."""
    return np.vectorize(f, otypes=[float])


def along(f, x, axis=None, keepdims=False):
    """`f` of the list of numbers along `axis`."""
    axes = tuple(range(x.ndim)) if axis is None else tuple(a % x.ndim for a in (axis if isinstance(axis,
                                                                                                   tuple) else (axis,)))
    kept = [i for i in range(x.ndim) if i not in axes]
    rows = x.transpose(kept + list(axes))
    out = np.empty([x.shape[i] for i in kept])
    for place in np.ndindex(out.shape):
        out[place] = f([float(v) for v in rows[place].flat])
    return np.expand_dims(out, axes) if keepdims else out


def per_row(f, x, axis=-1):
    """`f` of the list of numbers along `axis`, giving a list as long."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    moved = np.moveaxis(x, axes, range(-len(axes), 0))
    rows = moved.reshape(*moved.shape[:-len(axes)], math.prod(moved.shape[-len(axes):]))
    out = np.empty(rows.shape)
    for place in np.ndindex(rows.shape[:-1]):
        out[place] = f([float(v) for v in rows[place]])
    return np.moveaxis(out.reshape(moved.shape), range(-len(axes), 0), axes)


def softmax_of_list(row):
    return [1 / math.fsum(math.exp(u - v) for u in row) for v in row]


def cross_entropy(logits, targets, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    losses, n = np.zeros(targets.shape), logits.shape[-1]
    for place in np.ndindex(targets.shape):
        if targets[place] != ignore_index:
            surprise = [-math.log(p) for p in softmax_of_list(list(map(float, logits[place])))]
            losses[place] = (1 - label_smoothing) * surprise[targets[place]] + label_smoothing / n * math.fsum(surprise)
    counted = int((targets != ignore_index).sum())
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / max(counted, 1)}[reduction]


def layer_norm(x, weight, bias, eps=1e-5):
    def normalize(row):
        return [(v - statistics.fmean(row)) / math.sqrt(statistics.pvariance(row) + eps) for v in row]
    return per_row(normalize, x) * (1 if weight is None else weight) + (0 if bias is None else bias)


def attention(q, k, v, mask=None, causal=False, scale=None):
    heads = max([a.shape[-3:-2] for a in (q, k, v)])
    batch = np.broadcast_shapes(*[a.shape[:-3] for a in (q, k, v)]) + heads
    q, k, v = (np.broadcast_to(np.repeat(a, batch[-1] // a.shape[-3], -3) if a.ndim > 2 else a, batch + a.shape[-2:])
               for a in (q, k, v))
    n, m = q.shape[-2], k.shape[-2]
    mask = np.zeros(()) if mask is None else mask
    mask = np.broadcast_to(mask, (*batch, n, m))
    y = np.zeros((*batch, n, v.shape[-1]))
    for place in np.ndindex(*batch, n):
        *b, i = place
        b = tuple(b)
        keys = [j for j in range(m) if (not causal or j <= i + m - n) and (mask.dtype != bool or mask[(*b, i, j)])]
        scores = [math.fsum(q[place] * k[(*b, j)]) * (scale or q.shape[-1] ** -0.5) for j in keys]
        if mask.dtype != bool:
            scores = [s + mask[(*b, i, j)] for s, j in zip(scores, keys)]
        for p, j in zip(softmax_of_list(scores), keys):
            y[place] += p * v[(*b, j)]
    return y


def matmul(x, y):
    a, b = (x[None] if x.ndim == 1 else x), (y[:, None] if y.ndim == 1 else y)
    z = np.sum(a[..., :, :, None] * b[..., None, :, :], axis=-2)
    z = z[..., 0, :] if x.ndim == 1 else z
    return z[..., 0] if y.ndim == 1 else z


def picked(x, index):
    """Indexing by way of the elements' numbers."""
    numbers = np.arange(x.size).reshape(x.shape)[index]
    return np.reshape([x.flat[int(i)] for i in np.ravel(numbers)], np.shape(numbers))


def scattered(x, index, shape):
    y = np.zeros(shape)
    numbers = np.arange(math.prod(shape)).reshape(shape)[index]
    for i, v in zip(np.ravel(numbers), np.broadcast_to(x, np.shape(numbers)).flat):
        y.flat[int(i)] += v
    return y


def reordered(x, axes):
    y = np.empty([x.shape[a] for a in axes])
    for place in np.ndindex(x.shape):
        y[tuple(place[a] for a in axes)] = x[place]
    return y


def swapaxes(x, i, j):
    axes = list(range(x.ndim))
    axes[i], axes[j] = axes[j], axes[i]
    return reordered(x, axes)


def concatenate(xs, axis=0):
    if axis is None:
        return np.array([float(v) for x in xs for v in x.flat])
    rows = [row for x in xs for row in np.moveaxis(x, axis, 0)]
    return np.moveaxis(np.array(rows), 0, axis)


def split(x, parts, axis=0):
    n = x.shape[axis]
    ends = [0, *(range(n // parts, n, n // parts) if isinstance(parts, int) else parts), n]
    return tuple(x.take(range(a, b), axis) for a, b in zip(ends, ends[1:]))


def normal_cdf(x):
    return math.erfc(-x / math.sqrt(2)) / 2


def gelu(x, approximate="none"):
    if approximate == "none":
        return each(lambda v: v * normal_cdf(v))(x)
    return each(lambda v: v / (1 + math.exp(-2 * math.sqrt(2 / math.pi) * (v + 0.044715 * v ** 3))))(x)


def einsum(subscripts, xs, optimize=False):
    return np.einsum(subscripts, *xs)


def put(x, v, *index):
    y = x.copy()
    y[index[0] if len(index) == 1 and isinstance(index[0], tuple) else index] = v
    return y


def put_along_axis(x, indices, values, axis):
    y = x.copy()
    np.put_along_axis(y, indices, values, axis)
    return y


def clip(x, a_min=None, a_max=None):
    y = x if a_min is None else np.where(x < a_min, a_min, x)
    return y if a_max is None else np.where(y > a_max, a_max, y)


def rotary(x, angles):
    h = x.shape[-1] // 2
    turned = (x[..., :h] + 1j * x[..., h:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def causal_conv(x, weight):
    y = np.zeros(x.shape)
    for place in np.ndindex(y.shape):
        *lead, t, c = place
        y[place] = math.fsum(weight[k, c] * x[(*lead, t - k, c)] for k in range(min(len(weight), t + 1)))
    return y


def rms_norm(x, weight, eps=1e-5):
    def normalize(row):
        return [v / math.sqrt(math.fsum(u * u for u in row) / len(row) + eps) for v in row]
    return per_row(normalize, x) * (1 if weight is None else weight)


def reduce_loss(losses, reduction="mean"):
    return {"none": losses, "sum": losses.sum(), "mean": losses.mean()}[reduction]


def logsumexp(x, **how):
    return along(lambda row: max(row, default=-math.inf) + math.log(math.fsum(
        math.exp(v - max(row)) for v in row)) if row else -math.inf, x, **how)


def gated(x, gate, up):
    return x @ gate / (1 + np.exp(-(x @ gate))) * (x @ up)


def top_k(x, k, axis=-1):
    places = per_row(lambda row: sorted(range(len(row)), key=lambda i: -row[i]), x, axis)
    places = np.take(places, range(k), axis).astype(int)
    return np.take_along_axis(x, places, axis), places


def last_written(x, *index):
    places = np.arange(x.size).reshape(x.shape)[index[0] if len(index) == 1 else index]
    flat = list(np.ravel(places))
    return np.reshape([place not in flat[i + 1:] for i, place in enumerate(flat)], np.shape(places))


def cofactor(x, ds=()):
    """Determinants without a row and a column; derivatives by central differences, exact for polynomials of order 2."""
    if ds:
        return (cofactor(x + ds[0], ds[1:]) - cofactor(x - ds[0], ds[1:])) / 2
    y = np.empty(x.shape)
    for i, j in np.ndindex(x.shape[-2:]):
        y[..., i, j] = (-1) ** (i + j) * np.linalg.det(np.delete(np.delete(x, i, -2), j, -1))
    return y


def as_pair(transform):
    """A function of NumPy's of complex numbers that are given, and given back, as pairs."""
    def call(x, *args, **how):
        z = transform(x[0] + 1j * x[1] if isinstance(x, tuple) else x, *args, **how)
        return (z.real, z.imag) if np.iscomplexobj(z) else z
    return call


DOUBLE = {"interp", "cov", "corrcoef"}  # in double precision, as NumPy's
REFERENCE = {
    **{name: as_pair(getattr(np.fft, name)) for name in ("fft", "ifft", "rfft", "irfft", "fftn", "ifftn", "rfftn",
                                                         "irfftn")},
    "dft": lambda re, im, *args, **how: as_pair(np.fft.fft)((re, 0 * re if im is None else im), *args, **how),
    "difference": np.diff, "fftshift": np.fft.fftshift, "ifftshift": np.fft.ifftshift,
    "fabs": each(abs),
    "sinc": each(lambda a: math.sin(math.pi * a) / (math.pi * a) if a else 1.0), "fmax": each(max), "fmin": each(min),
    "fmod": each(math.fmod), "logaddexp2": each(lambda a, b: max(a, b) + math.log2(1 + 2 ** -abs(a - b))),
    "convolve": lambda a, v, mode="full": np.convolve(a, v, mode),
    "last_written": last_written, "top_k": top_k,
    **{name: each(getattr(math, name)) for name in ("cbrt", "exp2", "expm1", "log2", "log10", "log1p", "sin", "cos",
    "tan",
                                                    "sinh", "cosh", "hypot", "isnan", "isinf", "isfinite", "floor",
                                                    "ceil",
                                                    "trunc")},
    **{f"arc{name}": each(getattr(math, f"a{name}")) for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "tan2")},
    "square": each(lambda a: a * a), "reciprocal": each(lambda a: 1 / a), "minimum": each(lambda a,
    b: a if a < b else b),
    "remainder": each(lambda a, b: a - b * math.floor(a / b)), "clip": clip, "put": put, "einsum": einsum,
    "logaddexp": each(lambda a, b: max(a, b) + math.log1p(math.exp(-abs(a - b)))),
    "sigmoid": each(lambda a: 1 / (1 + math.exp(-a))), "nan_to_num": lambda x, **how: x,
    "rms_norm": rms_norm, "rotary": rotary, "causal_conv": causal_conv,
    "squared_relu": each(lambda a: a * a if a > 0 else 0.0), "logsumexp": logsumexp, "put_along_axis": put_along_axis,
    "inv": np.linalg.inv, "solve": np.linalg.solve, "det": np.linalg.det, "slogdet": np.linalg.slogdet,
    **{name: getattr(np.linalg, name) for name in (
        "cholesky", "norm", "pinv", "eigh", "svd", "qr", "matrix_rank", "eigvalsh", "svdvals", "cond", "matrix_power",
        "multi_dot", "lstsq", "tensorsolve", "tensorinv", "vecdot")},
    "cofactor": cofactor, "matvec": lambda x, y: np.einsum("...ij,...j->...i", x, y),
    "vecmat": lambda x, y: np.einsum("...i,...ij->...j", x, y),
    "softplus": each(lambda a: max(a,
    0) + math.log1p(math.exp(-abs(a)))),
    "silu": each(lambda a: a / (1 + math.exp(-a))), "leaky_relu": lambda x, slope=0.01: np.where(x > 0, x, x * slope),
    "swiglu": gated, "mse": lambda a, b, reduction="mean": reduce_loss((a - b) ** 2, reduction),
    "binary_cross_entropy": lambda a, b, reduction="mean": reduce_loss(
        each(lambda x, t: max(x, 0) - x * t + math.log1p(math.exp(-abs(x))))(a, b), reduction),
    "kl_divergence": lambda a, b, axis=-1, reduction="mean": reduce_loss((b * (np.log(b) - a)).sum(axis), reduction),
    "add": each(operator.add), "subtract": each(operator.sub), "multiply": each(operator.mul),
    "divide": each(operator.truediv), "power": each(lambda a, b: float(a) ** float(b)),
    "negative": each(operator.neg), "absolute": each(lambda a: a if a > 0 else -a),
    "maximum": each(lambda a, b: a if a > b else b), "where": each(lambda c, a, b: a if c else b),
    "exp": each(math.exp), "log": each(math.log), "sqrt": each(math.sqrt), "tanh": each(math.tanh),
    "erf": each(math.erf), "relu": each(lambda a: a if a > 0 else 0.0), "gelu": gelu, "copy": each(float),
    "sign": each(lambda a: (a > 0) - (a < 0)), "equal": each(operator.eq), "not_equal": each(operator.ne),
    "less": each(operator.lt), "less_equal": each(operator.le), "greater": each(operator.gt),
    "greater_equal": each(operator.ge), "matmul": matmul,
    "linear": lambda x, w, b: matmul(x, w) + (0 if b is None else b),
    "sum": lambda x, **how: along(math.fsum, x, **how), "mean": lambda x, **how: along(statistics.fmean, x, **how),
    "var": lambda x, ddof=0, **how: along(lambda v: statistics.pvariance(v) * len(v) / (len(v) - ddof), x, **how),
    "max": lambda x, **how: along(max, x, **how),
    "reshape": lambda x, shape: np.array([float(v) for v in x.flat]).reshape(shape),
    "transpose": lambda x, axes=None: reordered(x, axes or range(x.ndim)[::-1]), "swapaxes": swapaxes,
    "broadcast_to": lambda x, shape: x + np.zeros(shape), "concatenate": concatenate, "split": split,
    "astype": lambda x, dtype: x, "truncate": lambda x, dtype: each(lambda v: dtype(int(v)))(x), "getitem": picked,
    "scatter_add": scattered, "embedding": lambda ids, table: picked(table, ids),
    "one_hot": lambda ids, n: np.eye(n)[ids], "softmax": lambda x, axis=-1: per_row(softmax_of_list, x, axis),
    "log_softmax": lambda x, axis=-1: per_row(lambda row: list(map(math.log, softmax_of_list(row))), x, axis),
    "cross_entropy": cross_entropy, "layer_norm": layer_norm, "attention": attention,
    "causal_mask": lambda q, k: np.fromfunction(each(lambda i, j: j - k.shape[-2] <= i - q.shape[-2]),
                                                (q.shape[-2], k.shape[-2])),
}


def test_samples_cover_the_registry():
    assert set(SAMPLES) == set(SMALL) == set(OURS) - {"dropout"}


@pytest.mark.slow_but_every(8)
@pytest.mark.parametrize("name, sample", BY_SAMPLE)
def test_value(name, sample):
    args, attrs = split_attrs(sample)
    reference = REFERENCE.get(name) or getattr(np, name, None)  # composed ones have nothing in common with NumPy's
    if reference is None and name in ("cumulative_sum", "cumulative_prod", "unstack"):
        pytest.skip("NumPy has it since 2.1")
    got, expected = outputs(OURS[name](*args, **attrs)), outputs(reference(*args, **attrs))
    if name == "empty_like":
        got, expected = [y.shape for y in got], [y.shape for y in expected]
    assert len(got) == len(expected)
    for y, z in zip(got, expected):
        assert np.shape(y) == np.shape(z)
        np.testing.assert_allclose(y, z, rtol=1e-12, atol=2e-14)


@pytest.mark.slow_but_every(9)
@pytest.mark.parametrize("name, sample", BY_SAMPLE)
def test_tensors_give_the_same_value(name, sample):
    args, attrs = split_attrs(sample)
    args = map_arrays(np.array, args)  # in the memory order that a tensor has, since NumPy's rounding depends on it
    tensors, leaves = as_leaves(args)
    for y, z in zip(outputs(OURS[name](*tensors, **attrs)), outputs(OURS[name](*args, **attrs))):
        if leaves:
            assert isinstance(y, ag.Tensor) and y.requires_grad == (name not in CONSTANT and y.dtype.kind == "f")
            y = y.data
        assert y.dtype == z.dtype
        if name != "empty_like":
            np.testing.assert_array_equal(y, z)


@pytest.mark.slow_but_every(2)
@pytest.mark.parametrize("name", SAMPLES)
def test_first_order(name):
    for sample in SAMPLES[name]:
        check(name, sample, order=1)


@pytest.mark.slow_but_every(13)
@pytest.mark.parametrize("name, sample", BY_SAMPLE)
def test_gradients(name, sample):
    check(name, sample, order=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_third_order(name):
    check(name, SMALL[name], order=3)


@pytest.mark.slow_but_every(15)
@pytest.mark.parametrize("create_graph", [False, True], ids=["arrays", "graph"])
@pytest.mark.parametrize("name, sample", DIFFERENTIABLE)
def test_float32_stays(name, sample, create_graph):
    if name == "astype":
        sample = (sample[0], np.float32)
    args, attrs = split_attrs(sample)
    exact = outputs(OURS[name](*args, **attrs))
    args = map_arrays(lambda a: a.astype(np.float32) if a.dtype.kind == "f" else a, args)
    tensors, leaves = as_leaves(args)
    ys = outputs(OURS[name](*tensors, **attrs))
    assert {y.dtype for y in ys if y.dtype.kind == "f"} == {np.dtype(np.float64 if name in DOUBLE else np.float32)}
    for y, z in zip(ys, exact):
        np.testing.assert_allclose(y.data, z, rtol=1e-4, atol=1e-6)
    placed = "quantile" in name or "percentile" in name  # by places among n, which are counted in double precision
    for t in ag.tape(*ys) if name not in DOUBLE and not placed else ():
        if t.op is not None and type(t._array) is not tuple:
            assert t.dtype.kind != "f" or t.dtype == np.float32, f"on the way: {t}"
    backward(ys, create_graph=create_graph)
    for leaf in leaves:
        assert leaf.grad.dtype == np.float32 and leaf.grad.shape == leaf.shape
        assert isinstance(leaf.grad, ag.Tensor if create_graph else np.ndarray)


@pytest.mark.slow_but_every(15)
@pytest.mark.parametrize("create_graph", [False, True], ids=["arrays", "graph"])
@pytest.mark.parametrize("name, sample", BY_SAMPLE)
def test_other_arrays(name, sample, create_graph, monkeypatch):
    """The same numbers forward and backward from arrays that never become NumPy's."""
    for op in OPS.values():  # there are no kernels for these, and NumPy's round differently
        if op.kernels:
            monkeypatch.setattr(op, "kernels", {})
    args, attrs = split_attrs(sample)
    strict_attrs = {key: map_arrays(Duck, a) for key, a in attrs.items()}
    tensors, leaves = as_leaves(args)
    if not leaves or name in CONSTANT:
        ducks = map_arrays(Duck, args)
        for y, z in zip(outputs(OURS[name](*ducks, **strict_attrs)), outputs(OURS[name](*args, **attrs))):
            if name != "empty_like":
                np.testing.assert_array_equal(y.numpy() if isinstance(y, Duck) else y, z)
        return
    strict, duck_leaves = as_leaves(args, Duck)
    ys, zs = outputs(OURS[name](*strict, **strict_attrs)), outputs(OURS[name](*tensors, **attrs))
    for y, z in zip(ys, zs):
        np.testing.assert_array_equal(y.data.numpy(), z.data)
    backward(ys, Duck, create_graph=create_graph)
    backward(zs, create_graph=create_graph)
    for a, b in zip(duck_leaves, leaves):
        grad, expected = (a.grad.data, b.grad.data) if create_graph else (a.grad, b.grad)
        assert isinstance(grad, Duck)
        np.testing.assert_allclose(grad.numpy(), expected, rtol=1e-13, atol=1e-15)


def slope(name, args, attrs, array):
    """The largest numeric derivative by an element of `array`, one of the arguments."""
    def at(place, step):
        moved = array.copy()
        moved[place] += step
        ys = outputs(OURS[name](*map_arrays(lambda a: moved if a is array else a, args), **attrs))
        return sum(float(np.sum(w * y)) for w, y in zip(seeds(ys), ys))

    return max([abs(at(place, 1e-5) - at(place, -1e-5)) / 2e-5 for place in np.ndindex(array.shape)], default=0.0)


@pytest.mark.parametrize("name", [name for name in SAMPLES if name in OPS and name not in CONSTANT])
def test_each_differentiable_input_matters(name):
    """No rule passes only because its samples have no gradient to speak of."""
    steepest = dict.fromkeys(OURS[name].rules, 0.0)
    for sample in SAMPLES[name]:
        args, attrs = split_attrs(sample)
        inputs, _ = OURS[name].bind(args, attrs)
        for i, a in enumerate(inputs):
            if isinstance(a, np.ndarray) and a.dtype.kind == "f":
                rule = i if i in steepest else max(steepest)  # all of *xs share one
                steepest[rule] = max(steepest[rule], slope(name, args, attrs, a))
    assert steepest and min(steepest.values()) > 0.05, steepest


BROKEN = [pytest.param(name, i, id=f"{name}-{i}") for name in SAMPLES if name in OPS for i in OPS[name].rules]


@pytest.mark.parametrize("name, i", BROKEN)
def test_a_rule_off_by_a_hundredth_is_caught(monkeypatch, name, i):
    rule, place = OURS[name].rules[i]

    def off(*args, **attrs):
        d = rule(*args, **attrs)
        if place is None:
            return 1.01 * d
        return [1.01 * part if place in (j, OURS[name].star) else part for j, part in enumerate(d)]

    monkeypatch.setitem(OURS[name].rules, i, (off, place))
    input_name = OURS[name].input_name(i).split("[")[0]
    with pytest.raises(AssertionError, match=rf"{name}: gradient of {input_name}\b.*1\.01"):
        ag.check_op(OURS[name], SAMPLES[name], order=1)


@pytest.mark.slow
@pytest.mark.parametrize("name, i", BROKEN)
def test_a_rule_wrong_only_in_the_second_order_is_caught(monkeypatch, name, i):
    """A rule that takes its incoming gradient off the tape is right once and wrong twice."""
    rule, place = OURS[name].rules[i]

    def constant(g, *args, **attrs):
        parts = [x.detach() if isinstance(x, ag.Tensor) else x for x in outputs(g)]
        return rule(tuple(parts) if isinstance(g, tuple) else parts[0], *args, **attrs)

    monkeypatch.setitem(OURS[name].rules, i, (constant, place))
    ag.check_op(OURS[name], SAMPLES[name], order=1)
    with pytest.raises(AssertionError, match=f"{name}: in the gradient: gradient of"):
        ag.check_op(OURS[name], SAMPLES[name], order=2)


@pytest.mark.parametrize("dtype, end, error", [(np.float64, 7, 1e-14), (np.float32, 5, 5e-7)])
def test_erf_is_accurate(dtype, end, error):
    x = np.linspace(-end, end, 4001).astype(dtype)
    np.testing.assert_allclose(ag.erf(x), [math.erf(v) for v in x], rtol=0, atol=error)
    ends = ag.erf(np.array([-np.inf, np.inf, 0, 1e30, np.nan], dtype))
    np.testing.assert_allclose(ends, [-1, 1, 0, 1, np.nan], rtol=0, atol=error)


# ---------------------------------------------------------------------- edges, with the values that are documented


def gradient(f, *xs, order=1):
    """f'…' at numbers, of the given order."""
    for _ in range(order):
        f = ag.grad(f)
    return f(*map(np.asarray, xs))


def test_max_ties_share_evenly():
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    np.testing.assert_allclose(ag.grad(lambda x: x.max(1).sum())(x), [[0, 0.5, 0.5], [1 / 3] * 3])
    np.testing.assert_allclose(ag.grad(lambda x: x.max())(x), [[0, 0.5, 0.5], [0, 0, 0]])


def test_maximum_ties_get_half_each():
    x, y = ag.grad(lambda x, y: np.maximum(x, y).sum(), (0, 1))(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0]))
    np.testing.assert_array_equal(x, [0, 0.5, 1])
    np.testing.assert_array_equal(y, [1, 0.5, 0])


def test_kinks_at_zero():
    assert gradient(abs, 0.0) == 0
    assert gradient(ag.relu, 0.0) == 0
    assert gradient(ag.squared_relu, 0.0) == gradient(ag.squared_relu, 0.0, order=2) == 0


@pytest.mark.parametrize("make", [int, float, np.asarray, lambda n: np.asarray(float(n))],
                         ids=["int", "float", "array", "float array"])
@pytest.mark.parametrize("exponent, first, second", [(0, 0, 0), (1, 1, 0), (2, 0, 2)])
def test_power_at_zero(make, exponent, first, second):
    def f(x):
        return (x ** make(exponent)).sum()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gradient(f, 0.0) == first
        assert gradient(f, 0.0, order=2) == second


def test_power_of_zero_by_its_exponent():
    assert gradient(lambda y: 0.0 ** y, 2.0) == 0
    assert gradient(lambda y: np.zeros(()) ** y, 0.0) == 0


def test_sqrt_at_zero_is_infinite():
    with np.errstate(divide="ignore"):
        assert gradient(np.sqrt, 0.0) == np.inf


def test_where_keeps_the_other_branch_out():
    x = np.array([-1.0, 4.0])
    with np.errstate(invalid="ignore"):
        d = ag.grad(lambda x: np.where(x > 0, np.sqrt(np.where(x > 0, x, 1.0)), 0.0).sum())(x)
    np.testing.assert_array_equal(d, [0, 0.25])


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_large_logits_do_not_overflow(name):
    x = np.array([[1e4, 0.0, -1e4], [-1e308, 1e308, 0.0]])
    with np.errstate(over="ignore"):
        y = OURS[name](x)
    assert not np.isnan(y).any()
    np.testing.assert_array_equal(y if name == "softmax" else np.exp(y), [[1, 0, 0], [0, 1, 0]])


def test_cross_entropy_of_large_logits():
    logits = np.array([[1e3, 0.0], [0.0, 1e3]])
    value, d = ag.value_and_grad(lambda x: ag.cross_entropy(x, np.array([0, 0])))(logits)
    assert value == 500
    np.testing.assert_allclose(d, [[0, 0], [-0.5, 0.5]])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
@pytest.mark.parametrize("ignore_index", [-100, 1])
def test_cross_entropy_against_torch(reduction, label_smoothing, ignore_index):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(6, 4)), np.array([0, 1, 2, 3, 1, ignore_index])
    settings = dict(reduction=reduction, label_smoothing=label_smoothing, ignore_index=ignore_index)
    x = torch.tensor(logits, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(x, torch.tensor(targets), **settings)
    weights = rng.normal(size=expected.shape)
    (expected * torch.tensor(weights)).sum().backward()
    y, pullback = ag.vjp(lambda x: ag.cross_entropy(x, targets, **settings), logits)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(pullback(weights)[0], x.grad.numpy(), rtol=1e-10, atol=1e-14)


def test_cross_entropy_ignores_even_a_wild_row():
    logits = np.array([[0.0, 0.0], [np.inf, 5.0]])
    with np.errstate(invalid="ignore"):
        value, d = ag.value_and_grad(lambda x: ag.cross_entropy(x, np.array([1, -100])))(logits)
    assert math.isclose(value, math.log(2))
    np.testing.assert_allclose(d[0], [0.5, -0.5])


def test_cross_entropy_refuses_bad_targets():
    logits = np.zeros((2, 3))
    with pytest.raises(IndexError, match="target -1 is no class"):
        ag.cross_entropy(logits, np.array([0, -1]))
    with pytest.raises(IndexError, match="cross_entropy"):
        ag.cross_entropy(logits, np.array([0, 3]))
    with pytest.raises(ValueError, match="reduction"):
        ag.cross_entropy(logits, np.array([0, 1]), reduction="avg")


def test_embedding_refuses_bad_ids():
    with pytest.raises(IndexError, match="there is no row -1: rows count from 0 to 2"):
        ag.embedding(np.array([0, -1]), np.zeros((3, 2)))
    with pytest.raises(IndexError, match="embedding.*f64.*there is no row 3"):
        ag.embedding(np.array([3]), np.zeros((3, 2)))


def composed_attention(q, k, v, mask=None, causal=False, scale=None):
    """Attention from the ops it is made of."""
    if q.ndim > 2:
        k, v = (np.repeat(a, max(q.shape[-3] // a.shape[-3], 1), axis=-3) if a.ndim > 2 else a for a in (k, v))
    scores = np.matmul(q, k.mT) * (scale or q.shape[-1] ** -0.5)
    n, m = q.shape[-2], k.shape[-2]
    if mask is not None and mask.dtype == bool:
        scores = np.where(mask, scores, -1e30)
    elif mask is not None:
        scores = scores + mask
    if causal:
        scores = np.where(np.arange(m) <= np.arange(n)[:, None] + m - n, scores, -1e30)
    return (ag.softmax(scores) * (scores > -1e29)) @ v


@pytest.mark.parametrize("sample", [pytest.param(s, id=str(i)) for i, s in enumerate(SAMPLES["attention"])])
def test_attention_equals_its_composition(sample):
    args, attrs = split_attrs(sample)
    attrs = dict(attrs)
    if "mask" in attrs:
        args = (*args, attrs.pop("mask"))
    floats = [i for i, a in enumerate(args) if a.dtype.kind == "f"]

    def results(function):
        """Value, gradients, and gradients of a function of these gradients."""
        def f(*xs):
            given = dict(zip(floats, xs))
            return function(*[given.get(i, a) for i, a in enumerate(args)], **attrs)

        def once(*xs):
            y, pullback = ag.vjp(f, *xs)
            return (y, *pullback(np.cos(np.arange(y.size)).reshape(y.shape)))

        xs = [args[i] for i in floats]
        first, pullback = ag.vjp(once, *xs)
        return [*first, *pullback(tuple(np.sin(np.arange(d.size)).reshape(d.shape) for d in first))]

    for a, b in zip(results(ag.attention), results(composed_attention), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)


def test_attention_of_scale_zero_is_the_mean():
    q, k, v = np.random.default_rng(0).normal(size=(3, 4, 2))
    value, d = ag.vjp(lambda q, k: ag.attention(q, k, v, scale=0.0), q, k)
    np.testing.assert_allclose(value, np.broadcast_to(v.mean(0), (4, 2)))
    for a in d(np.ones((4, 2))):
        np.testing.assert_array_equal(a, np.zeros((4, 2)))


def test_attention_is_causal():
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(3, 4, 2))
    before = ag.attention(q, k, v, causal=True)
    k[3], v[3] = 9, 9
    after = ag.attention(q, k, v, causal=True)
    np.testing.assert_array_equal(before[:3], after[:3])
    assert not np.allclose(before[3], after[3])
    last = ag.attention(q[-1:], k, v, causal=True)  # one new query sees all keys before it
    np.testing.assert_allclose(last[0], after[3])


@pytest.mark.parametrize("how", [{"mask": np.array([[False, False], [True, True]])},
                                 {"mask": np.array([[-np.inf, -np.inf], [0, 0]])}, {"causal": True}],
                         ids=["mask", "bias", "causal"])
def test_a_query_that_sees_no_key_gets_zero(how):
    """And sends no gradient, to any order: it neither becomes NaN nor makes others NaN."""
    q, k, v = (ag.tensor(np.cos(np.arange(n * 2.0) + n).reshape(n, 2), requires_grad=True) for n in (2, 2, 2))
    if "causal" in how:
        k, v = (ag.tensor(t.data[:1], requires_grad=True) for t in (k, v))  # 2 queries, 1 key: the first sees none
    y = ag.attention(q, k, v, **how)
    np.testing.assert_array_equal(y.data[0], [0, 0])
    assert y.data[1].any()
    (y * y).sum().backward(create_graph=True)
    (q.grad * q.grad + k.grad.sum() + v.grad.sum()).sum().backward()
    for t in (q, k, v):
        assert np.isfinite(t.grad.data).all()
    np.testing.assert_array_equal(q.grad.data[0], [0, 0])


def test_rotary_keeps_lengths_and_knows_only_distances():
    """Scores of queries and keys turned by multiples of one angle depend on how far these are apart."""
    rng = np.random.default_rng(0)
    q, k = np.broadcast_to(rng.normal(size=(2, 1, 4)), (2, 6, 4))
    angles = np.arange(6.0)[:, None] * rng.uniform(0.1, 2, 2)
    turned_q, turned_k = ag.rotary(q, angles), ag.rotary(k, angles)
    np.testing.assert_allclose(np.linalg.norm(turned_q, axis=-1), np.linalg.norm(q, axis=-1))
    scores = turned_q @ turned_k.T
    for offset in range(-5, 6):
        np.testing.assert_allclose(np.diag(scores, offset), scores[max(-offset, 0), max(offset, 0)])
    assert not np.isclose(scores[0, 1], scores[0, 2])


def test_causal_conv_looks_back_only():
    x, weight = np.random.default_rng(0).normal(size=(5, 2)), np.array([[1.0, 2.0], [0.5, 0.0], [0.0, -1.0]])
    y = ag.causal_conv(x, weight)
    np.testing.assert_allclose(y[:, 0], x[:, 0] + 0.5 * np.array([0, *x[:-1, 0]]))
    np.testing.assert_allclose(y[:, 1], 2 * x[:, 1] - np.array([0, 0, *x[:-2, 1]]))
    x[3] = 9
    np.testing.assert_array_equal(ag.causal_conv(x, weight)[:3], y[:3])


# ---------------------------------------------------------------------- messages


@pytest.mark.parametrize("call, parts", [
    (lambda a, b: a + b, ["add", "f64[2,3]", "f64[4]"]),
    (lambda a, b: a @ b, ["matmul", "f64[2,3]", "f64[4]"]),
    (lambda a, b: np.concatenate([a, b]), ["concatenate", "f64[2,3]", "f64[4]"]),
    (lambda a, b: a.reshape(4, 2), ["reshape", "f64[2,3]", "(4, 2)"]),
    (lambda a, b: np.where(a > 0, a, b), ["where", "bool[2,3]", "f64[4]"]),
    (lambda a, b: ag.linear(a, a, b), ["linear", "f64[2,3]", "f64[4]"]),
    (lambda a, b: ag.layer_norm(a, b, None), ["layer_norm", "f64[2,3]", "f64[4]"]),
    (lambda a, b: a.sum(2), ["sum", "f64[2,3]", "2"]),
    (lambda a, b: a[5], ["getitem", "f64[2,3]", "5"]),
    (lambda a, b: ag.gelu(a, "tan"), ["gelu", "tanh", "tan"]),
    (lambda a, b: ag.cross_entropy(a, np.zeros(4, int)), ["cross_entropy", "f64[2,3]", "i64[4]"]),
    (lambda a, b: ag.attention(a, b, b), ["attention", "f64[2,3]", "f64[4]"]),
    (lambda a, b: np.split(a, 4), ["split", "f64[2,3]"]),
    (lambda a, b: ag.rotary(a, b), ["rotary", "f64[2,3]", "f64[4]", "even last axis"]),
    (lambda a, b: ag.rotary(a.T, b), ["rotary", "(3, 2)", "(4,)", "(T, d/2)"]),
    (lambda a, b: ag.rotary(b, a), ["rotary", "(4,)", "(2, 3)"]),
    (lambda a, b: ag.rotary(a.T, a[:, :1]), ["rotary", "(3, 2)", "(2, 1)"]),
    (lambda a, b: ag.causal_conv(a, b), ["causal_conv", "f64[2,3]", "f64[4]", "(K, C)"]),
    (lambda a, b: ag.causal_conv(a, a.T), ["causal_conv", "(2, 3)", "(3, 2)"]),
    (lambda a, b: ag.causal_conv(a, a[:0]), ["causal_conv", "(0, 3)", "at least one"]),
    (lambda a, b: ag.causal_conv(b, a), ["causal_conv", "(4,)", "(…, T, C)"]),
])
def test_shape_errors_name_op_and_shapes(call, parts):
    a, b = ag.tensor(np.ones((2, 3)), requires_grad=True), ag.tensor(np.ones(4), requires_grad=True)
    with pytest.raises((ValueError, IndexError, TypeError)) as error:
        call(a, b)
    for part in parts:
        assert part in str(error.value)


def test_dropout_keeps_the_expectation_and_masks_the_gradient():
    x = ag.tensor(np.ones((200, 100)), dtype=np.float32, requires_grad=True)
    y = ag.dropout(x, 0.25, np.random.default_rng(0))
    assert set(np.unique(y.data)) == {np.float32(0), np.float32(1 / 0.75)} and abs(y.data.mean() - 1) < 0.02
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, y.data)
    np.testing.assert_array_equal(ag.dropout(x.data, 0.0, np.random.default_rng(0)), x.data)
    np.testing.assert_array_equal(ag.dropout(x.data, 0.25, np.random.default_rng(0)), y.data)
    with pytest.raises(ValueError, match="rate is a probability below 1, not 1"):
        ag.dropout(x, 1, np.random.default_rng(0))
