"""Counterparts of every op and composed function in PyTorch (or JAX), and draws of their arguments.

A new op needs one line in `TABLE`: name -> Entry(peer, strategy).  The peer takes the arguments as torch (or JAX)
arrays; `TABLE` can be read where neither library is installed, and only calling a peer needs it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import autograd as ag
from tests import strategies as draw
from tests.strategies import apart, between, booleans, calls, integers, nonzero, one, reductions, two


class Absent:
    """Stands for a library that is not installed: whatever is in it skips the test that calls it."""

    def __init__(self, library):
        self._library = library

    def __getattr__(self, name):
        return self

    def __call__(self, *args, **how):
        pytest.importorskip(self._library)


def library(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        return Absent(name.partition(".")[0])


torch, F, linalg = library("torch"), library("torch.nn.functional"), library("torch.linalg")
jax, jnp = library("jax"), library("jax.numpy")
if not isinstance(jax, Absent):
    jax.config.update("jax_enable_x64", True)


@dataclass(frozen=True)
class Entry:
    """peer: the function of torch, or of JAX if `library` says so (None: `why` there is none).  calls: a strategy.

    ulps, gradient_ulps: how far float32 may be from float64, in the unit of `test_peers.errors_in_ulps`.  NumPy's own
    functions reach 2 and rules of several steps 4; where it is more, the line says why, and what torch reaches.
    largest: gradients are compared relative to the largest one of that call, and `why` cancellation demands it.
    ours, numpy: how our function and NumPy's are called with these arguments, where it is not plainly.
    """

    peer: Callable[..., Any] | None
    calls: Any
    ulps: float = 4
    gradient_ulps: float = 8
    library: str = "torch"
    largest: bool = False
    why: str = ""
    ours: Callable[..., Any] | None = None
    numpy: Callable[..., Any] | None = None


def by_jax(peer, calls, **how):
    """An op that torch lacks, or defines in another way."""
    return Entry(peer, calls, library="jax", **how)


def alone(why, calls):
    """An op without a peer."""
    return Entry(None, calls, why=why)


def constant(calls):
    """An op without a gradient: only its value is tested, which is NumPy's own."""
    return alone("no gradient", calls)


# ---------------------------------------------------------------------- torch under NumPy's signatures


def number(x):
    """torch's functions of two arrays take no Python numbers, or make float32 of them."""
    return x if torch.is_tensor(x) else torch.tensor(x, dtype=torch.bool if isinstance(x, bool) else torch.float64)


def numbers(function):
    return lambda *args, **how: function(*map(number, args), **how)


def reduced(function):
    """NumPy's names for the settings of a reduction; `axis=()` is no axis at all, which torch takes for all."""
    def call(x, axis=None, keepdims=False, **how):
        axes = tuple(range(x.ndim)) if axis is None else axis
        if axes == ():
            return function(x[..., None], dim=(-1,), keepdim=False, **how)
        return function(x, dim=axes, keepdim=keepdims, **how)
    return call


def variance(function):
    return reduced(lambda x, dim, keepdim, ddof=0: function(x, dim=dim, keepdim=keepdim, correction=ddof))


def single(function):
    """A reduction that torch has along one axis only: all of them become one."""
    def call(x, axis=None, keepdims=False):
        axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        axes = [a % x.ndim for a in axes]
        kept = [i for i in range(x.ndim) if i not in axes]
        rows = x.permute(kept + axes).reshape(*[x.shape[i] for i in kept], math.prod(x.shape[i] for i in axes))
        y = function(rows, dim=-1)
        return y.reshape([1 if i in axes else n for i, n in enumerate(x.shape)]) if keepdims else y
    return call


def along(function, default=-1):
    """A function along one axis (None: of all elements in a row), or softmax over several at once."""
    def call(x, *args, axis=default, **how):
        if axis is None:
            return function(x.reshape(-1), *args, dim=0, **how)
        if isinstance(axis, tuple):
            last = tuple(range(-len(axis), 0))
            moved = x.movedim(axis, last)
            y = function(moved.flatten(-len(axis)), *args, dim=-1, **how)
            return y.reshape(moved.shape).movedim(last, axis)
        return function(x, *args, dim=axis, **how)
    return call


def norm(x, ord=None, axis=None, keepdims=False):
    return linalg.norm(x, ord=ord, dim=axis, keepdim=keepdims)


def aligned(decompose, numpys, *vectors):
    """A decomposition with the signs of NumPy's, in the columns of the first of its results number `vectors`, and in
    the rows of the second."""
    def call(x, *args, **how):
        theirs, ours = list(decompose(x, *args, **how)), numpys(x.detach().numpy(), *args, **how)
        products = theirs[vectors[0]].detach() * torch.from_numpy(np.array(ours[vectors[0]]))
        signs = torch.sign(products.sum(-2, keepdim=True))
        for i in vectors:
            s = signs if i == vectors[0] else signs.mT
            theirs[i] = theirs[i] * s
        return theirs
    return call


def symmetric(x):
    return (x + x.mT) / 2


def svd(x, full_matrices=True):
    return linalg.svd(x, full_matrices=full_matrices)


def cofactor(x, ds=()):
    w, size = linalg.inv(x).mT, linalg.det(x)[..., None, None]
    for d in ds:
        return size * ((d * w).sum((-1, -2), keepdim=True) * w - w @ d.mT @ w)
    return size * w


def lstsq(a, b, rcond=None):
    y, s = linalg.pinv(a) @ b, linalg.svdvals(a)
    sums = ((b - a @ y) ** 2).sum(0).reshape(-1)
    return y, sums if a.shape[0] > a.shape[1] else sums[:0], torch.tensor(len(s)), s


def transpose(x, axes=None):
    return x.permute(tuple(axes) if axes else tuple(range(x.ndim))[::-1])


def split(x, parts, axis=0):
    return torch.tensor_split(x, parts if isinstance(parts, int) else tuple(parts), dim=axis)


def concatenate(xs, axis=0):
    return torch.cat([x.reshape(-1) for x in xs]) if axis is None else torch.cat(xs, dim=axis)


def stack(xs, axis=0):
    return torch.stack(xs, dim=axis)


def places(shape, index):
    """The numbers of the elements that NumPy finds at `index` of an array of `shape`."""
    index = tuple(i.numpy() if hasattr(i, "numpy") else i for i in index)
    return torch.from_numpy(np.array(np.arange(math.prod(shape)).reshape(shape)[index]))


def getitem(x, index):
    """By the elements' numbers: torch has no negative steps, and places the axes of some mixtures elsewhere."""
    return x.reshape(-1)[places(x.shape, index)]


def scatter_add(x, index, shape=()):
    where = places(shape, index)
    zeros = torch.zeros(math.prod(shape), dtype=x.dtype)
    return zeros.index_add(0, where.reshape(-1), x.expand(where.shape).reshape(-1)).reshape(shape)


def cross_entropy(logits, targets, **how):
    """torch wants the classes on axis 1."""
    loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), **how)
    return loss.reshape(targets.shape) if how.get("reduction") == "none" else loss


def layer_norm(x, weight, bias, eps=1e-5):
    weight = torch.ones(x.shape[-1], dtype=x.dtype) if weight is None else weight
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def rms_norm(x, weight, eps=1e-5):
    return F.rms_norm(x, x.shape[-1:], weight, eps)


def attention(q, k, v, mask=None, causal=False, scale=None):
    n, m = q.shape[-2], k.shape[-2]
    if causal:
        sees = torch.ones(n, m, dtype=torch.bool).tril(m - n)
        if mask is None or mask.dtype == torch.bool:
            mask = sees if mask is None else sees & mask
        else:
            mask = torch.where(sees, mask, -torch.inf)
    if q.ndim > 2 and k.ndim > 2 and q.shape[-3] == 4 and k.shape[-3] == 2:
        k, v = k.repeat_interleave(2, dim=-3), v.repeat_interleave(2, dim=-3)
    batch = torch.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    q, k, v = (a.expand(*batch, *a.shape[-2:]) for a in (q, k, v))
    mask = None if mask is None else mask.expand(n, m)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # the others have no second gradient
        return F.scaled_dot_product_attention(q, k, v, mask, scale=scale)


def gathered(x, numbers):
    """The elements of these numbers, an array that NumPy made."""
    return x.reshape(-1)[torch.from_numpy(np.array(numbers))]


def pad(x, width, mode="constant", constant_values=0):
    if mode == "constant":
        return F.pad(x, [n for pair in reversed(np.broadcast_to(width, (x.ndim, 2)).tolist()) for n in pair],
                     value=constant_values)
    return gathered(x, np.pad(np.arange(x.numel()).reshape(x.shape), width, mode=mode))


def put(x, v, index):
    """By the elements' numbers, of which a later one counts."""
    where = places(x.shape, index)
    last = dict(zip(where.reshape(-1).tolist(), range(where.numel())))
    y = x.reshape(-1).index_copy(0, torch.tensor(list(last), dtype=torch.long),
                                 v.expand(where.shape).reshape(-1)[list(last.values())])
    return y.reshape(x.shape)


def take(x, indices, axis=None):
    x, axis = (x.reshape(-1), 0) if axis is None else (x, axis % x.ndim)
    return x[(slice(None),) * axis + (indices,)]


def take_along_axis(x, indices, axis=-1):
    return torch.take_along_dim(x, indices % x.shape[axis], dim=axis)


def delete(x, indices, axis=None):
    n = x.numel() if axis is None else x.shape[axis]
    return take(x, torch.from_numpy(np.delete(np.arange(n), indices.numpy())), axis)


def rollaxis(x, axis, start=0):
    axis %= x.ndim
    return x.movedim(axis, start - (axis < start))


def put_along_axis(x, indices, values, axis=-1):
    return x.scatter(axis, indices % x.shape[axis], values)


def partition(x, kth, axis=-1):
    """Return a partition by NumPy, which alone knows the order on each side of `kth`."""
    return take_along_axis(x, torch.from_numpy(np.argpartition(x.detach().numpy(), kth, axis=axis)), axis)


def dot(a, b):
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    return torch.tensordot(a, b, ([a.ndim - 1], [max(b.ndim - 2, 0)]))


def average(x, axis, weights):
    shape = x.shape if weights.shape == x.shape else [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]
    weights = weights.reshape(shape).expand(x.shape)
    axes = tuple(range(x.ndim)) if axis is None else axis
    return reduced(torch.sum)(x * weights, axes) / reduced(torch.sum)(weights, axes)


def repeat(x, repeats, axis=None):
    return torch.repeat_interleave(x, torch.tensor(repeats, dtype=torch.long), dim=axis)


def median(x, dim):
    return torch.quantile(x, 0.5, dim=dim) if x.numel() else x.sum(dim)


def flip(x, axis=None):
    return x.flip(tuple(range(x.ndim)) if axis is None else axis)


def squeeze(x, axis=None):
    return x.squeeze() if axis is None else x.squeeze(axis)


def expand_dims(x, axis):
    axes = {a % (x.ndim + len(axis)) for a in axis} if isinstance(axis, tuple) else {axis % (x.ndim + 1)}
    for a in sorted(axes):
        x = x.unsqueeze(a)
    return x


def kl_divergence(log_q, p, axis=-1, reduction="mean"):
    terms = F.kl_div(log_q, p, reduction="none").sum(axis)
    return terms if reduction == "none" else terms.mean() if reduction == "mean" else terms.sum()


def rotary(x, angles):
    """Pairs as complex numbers."""
    h = x.shape[-1] // 2
    z = torch.complex(x[..., :h], x[..., h:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([z.real, z.imag], dim=-1)


def causal_conv(x, weight):
    """torch's convolution, which knows no direction: the taps in reverse, on channels that are padded in front."""
    taps, channels = weight.shape
    rows = x.movedim(-1, -2).reshape(math.prod(x.shape[:-2]), channels, x.shape[-2])
    if not x.numel():
        return x * weight.sum()
    y = F.conv1d(F.pad(rows, (taps - 1, 0)), weight.flip(0).T[:, None, :], groups=channels)
    return y.reshape(*x.shape[:-2], channels, x.shape[-2]).movedim(-2, -1)


def dropped(shape, rate):
    """Return the mask that dropout multiplies with, from the generator below."""
    return (np.random.default_rng(0).random(shape, dtype=np.float32) >= rate) / (1 - rate)


def parts(z):
    """A complex array as the pair of its parts."""
    return (z.real, z.imag) if z.is_complex() else z


def transform(function):
    """One of torch's Fourier transforms, of a real array or of a pair, under NumPy's names."""
    def call(x, n=None, axis=-1, norm=None):
        return parts(function(torch.complex(*x) if isinstance(x, tuple) else x, n=n, dim=axis, norm=norm))
    return call


def transform_of_axes(function):
    def call(x, s=None, axes=None, norm=None):
        return parts(function(torch.complex(*x) if isinstance(x, tuple) else x, s=s, dim=axes, norm=norm))
    return call


def quantiles(function, unit=1):
    def call(x, q, axis=None, keepdims=False):
        return function(x, q / unit, dim=axis, keepdim=keepdims)
    return call


def convolve(a, v, mode="full"):
    """By torch's, which does not turn the second array round, and has no modes."""
    n = len(a) + len(v) - 1
    y = F.conv1d(a[None, None], v.flip(0)[None, None], padding=len(v) - 1)[0, 0]
    length = {"full": n, "same": max(len(a), len(v)), "valid": abs(len(a) - len(v)) + 1}[mode]
    return y[(n - length) // 2:][:length]


def correlate(a, v, mode="valid"):
    return convolve(a, v.flip(0), mode) if len(a) >= len(v) else convolve(v, a.flip(0), mode).flip(0)


def sinc(x):
    """PyTorch's has no second derivative at 0."""
    z = math.pi * x
    far = z.abs() > 1e-2
    y = torch.where(far, z, 1.0)
    return torch.where(far, torch.sin(y) / y, 1 - z**2 / 6 + z**4 / 120 - z**6 / 5040)


def interp(x, xp, fp):
    i = torch.searchsorted(xp.detach(), x.detach().contiguous(), right=True).clamp(1, len(xp) - 1)
    y = torch.lerp(fp[i - 1], fp[i], (x - xp[i - 1]) / (xp[i] - xp[i - 1]))
    return torch.where(x < xp[0], fp[0], torch.where(x > xp[-1], fp[-1], y))


def linspace(start, stop, num):
    share = torch.arange(num, dtype=start.dtype).reshape(-1, *[1] * max(start.ndim, stop.ndim)) / (num - 1)
    return torch.lerp(*torch.broadcast_tensors(start, stop), share)


def polyval(p, x):
    return sum(c * x ** (len(p) - 1 - i) for i, c in enumerate(p))


# ---------------------------------------------------------------------- the table

uneven = nonzero(0.2, 2)  # neither two nor the sums of some of these are equal
positive = between(0.2, 3)
inside = between(-0.9, 0.9)
few = st.sampled_from([(), (3,), (0, 2)])  # JAX compiles for each shape
reductions_of = st.sampled_from(["mean", "sum", "none"])
some_diagonal = st.integers(-2, 2)
matrices = draw.shapes(least=2)


def an_axis(d, x):
    return {"axis": d(draw.axis(x.ndim))}


def two_axes(d, x):
    return tuple(d(st.permutations(range(x.ndim)))[:2])


def widths(d, x):
    """Elements to add on each side; the modes but "constant" need some to repeat."""
    mode = d(st.sampled_from(["constant", "edge", "reflect", "symmetric", "wrap"] if x.size else ["constant"]))
    few = st.integers(0, 2)
    width = d(few) if d(st.booleans()) else [(d(few), d(few)) for _ in range(x.ndim)] if x.ndim else 0
    return (width,) if mode == "constant" and d(st.booleans()) else (width, mode)


def repeats(d, x):
    if d(st.booleans()):
        return {"repeats": d(st.integers(0, 3))}
    axis = d(draw.axis(x.ndim))
    each = [i % 3 for i in range(x.shape[axis])]
    return {"repeats": d(st.integers(0, 2)) if d(st.booleans()) else each, "axis": axis}


def shifts(d, x):
    if d(st.booleans()):
        return (d(st.integers(-4, 4)),)
    if x.ndim > 1 and d(st.booleans()):
        return (d(st.integers(-4, 4)), d(st.integers(-4, 4))), two_axes(d, x)
    return d(st.integers(-4, 4)), d(draw.axis(x.ndim))


def new_axes(d, x):
    if d(st.booleans()):
        return (d(draw.axis(x.ndim + 1)),)
    return (tuple(d(st.lists(st.integers(0, x.ndim + 1), min_size=2, max_size=2, unique=True))),)


def axes_of_length_one(d, x):
    ones = [i for i, n in enumerate(x.shape) if n == 1]
    return {"axis": d(st.sampled_from([*ones, tuple(ones)]))} if ones and d(st.booleans()) else {}


def norms(d, x):
    """An order, and the axes it is over."""
    if x.ndim == 0 or d(st.integers(0, 3)) == 0:
        return {}
    orders = st.sampled_from([None, 1, 2, np.inf, -np.inf, 3, 1.5, 0.5, -1, -2.5])
    if x.ndim > 1 and d(st.booleans()):
        of_matrices = st.sampled_from([None, "fro", 1, -1, np.inf, -np.inf])
        return {"axis": two_axes(d, x), "ord": d(of_matrices), "keepdims": d(st.booleans())}
    return {"axis": d(draw.axis(x.ndim)), "ord": d(orders), "keepdims": d(st.booleans())}


def spectral_norms(d, x):
    return {"axis": (-2, -1), "ord": d(st.sampled_from([2, -2, "nuc"])), "keepdims": d(st.booleans())}


def limits(d, x):
    """Numbers, or arrays that broadcast, or on one side None."""
    low, high = draw.arrays(x.shape[-1:], between(-1.0, -0.2)), draw.arrays((), between(0.2, 1.0))
    return d(st.sampled_from([(-0.5, 0.7), (None, 0.5), (-0.5, None)])) if d(st.booleans()) else (
        d(low), d(high) if d(st.booleans()) else None)


TABLE = {
    # ------------------------------------------------------------------ elementwise
    "add": Entry(torch.add, two()),
    "subtract": Entry(numbers(torch.sub), two()),
    "multiply": Entry(torch.mul, two()),
    "divide": Entry(numbers(torch.div), draw.elementwise(draw.normal, nonzero())),
    "power": Entry(torch.pow, draw.elementwise(positive, draw.normal)),
    "negative": Entry(torch.neg, one()),
    "absolute": Entry(torch.abs, one(apart)),
    "square": Entry(torch.square, one()),
    "sqrt": Entry(torch.sqrt, one(positive)),
    "cbrt": by_jax(jnp.cbrt, calls(draw.arrays(few, nonzero()))),
    "reciprocal": Entry(torch.reciprocal, one(nonzero())),
    "exp": Entry(torch.exp, one()),
    "exp2": Entry(torch.exp2, one()),
    "expm1": Entry(torch.expm1, one(between(-3, 3))),
    "log": Entry(torch.log, one(positive)),
    "log2": Entry(torch.log2, one(positive)),
    "log10": Entry(torch.log10, one(positive)),
    "log1p": Entry(torch.log1p, one(between(-0.9, 3))),
    "sin": Entry(torch.sin, one()),
    "cos": Entry(torch.cos, one()),
    "tan": Entry(torch.tan, one(between(-1.4, 1.4))),
    "arcsin": Entry(torch.arcsin, one(inside)),
    "arccos": Entry(torch.arccos, one(inside)),
    "arctan": Entry(torch.arctan, one()),
    "sinh": Entry(torch.sinh, one()),
    "cosh": Entry(torch.cosh, one()),
    "tanh": Entry(torch.tanh, one(), gradient_ulps=16),  # 1 − y² cancels: torch reaches 7
    "arcsinh": Entry(torch.arcsinh, one()),
    "arccosh": Entry(torch.arccosh, one(between(1.1, 4))),
    "arctanh": Entry(torch.arctanh, one(inside)),
    "sigmoid": Entry(torch.sigmoid, one()),
    "erf": Entry(torch.erf, one()),
    "maximum": Entry(numbers(torch.maximum), draw.elementwise(apart, draw.shifted(apart, 0.05))),
    "minimum": Entry(numbers(torch.minimum), draw.elementwise(apart, draw.shifted(apart, 0.05))),
    "remainder": Entry(numbers(torch.remainder), draw.elementwise(draw.between_whole, draw.signs)),
    "arctan2": Entry(numbers(torch.arctan2), draw.elementwise(draw.normal, nonzero())),
    "hypot": Entry(numbers(torch.hypot), draw.elementwise(draw.normal, nonzero())),
    "logaddexp": Entry(numbers(torch.logaddexp), two()),
    "where": Entry(numbers(torch.where), draw.elementwise(booleans, draw.normal, draw.normal)),
    "clip": Entry(torch.clamp, draw.from_array(limits)),
    "copy": Entry(torch.clone, one()),
    "nan_to_num": Entry(torch.nan_to_num, one()),
    # ------------------------------------------------------------------ products and matrices
    "matmul": Entry(torch.matmul, draw.products()),
    "linear": Entry(lambda x, w, b: F.linear(x, w.mT, b), draw.affine()),
    "einsum": Entry(lambda letters, xs: torch.einsum(letters, *xs), draw.einsums(),
                    numpy=lambda letters, xs: np.einsum(letters, *xs)),
    "tensordot": Entry(lambda a, b, axes: torch.tensordot(a, b, axes), draw.contractions()),
    "dot": Entry(dot, draw.dots()),
    "inner": Entry(torch.inner, draw.inners()),
    "outer": Entry(lambda a, b: torch.outer(a.reshape(-1), b.reshape(-1)), calls(draw.arrays(), draw.arrays())),
    "vdot": Entry(lambda a, b: torch.dot(a.reshape(-1), b.reshape(-1)), draw.alike()),
    "kron": Entry(torch.kron, calls(draw.arrays(draw.shapes(most=2, min_side=1)),
                                    draw.arrays(draw.shapes(most=2, min_side=1)))),
    "diagonal": Entry(torch.diagonal, draw.from_array(lambda d, x: (d(some_diagonal), *two_axes(d, x)), matrices)),
    "trace": Entry(lambda x, *how: torch.diagonal(x, *how).sum(-1),
                   draw.from_array(lambda d, x: (d(some_diagonal), *two_axes(d, x)), matrices)),
    "norm": Entry(norm, st.one_of(draw.from_array(norms, draw.shapes(1, 3, 2), uneven),  # of one element it is linear
                                  draw.from_array(spectral_norms, draw.shapes(2, 3, 1), draw.spread_singular))),
    "vecdot": Entry(linalg.vecdot, draw.vectors()),
    "matvec": Entry(lambda x, y: (x @ y[..., None])[..., 0], draw.matrices_and_vectors()),
    "vecmat": Entry(lambda x, y: (x[..., None, :] @ y)[..., 0, :], draw.matrices_and_vectors(vector_first=True)),
    "cross": Entry(lambda a, b: linalg.cross(*torch.broadcast_tensors(a, b)), draw.vectors(3), numpy=np.cross,
                   largest=True, why="of vectors of one direction nothing is left"),
    "matrix_power": Entry(linalg.matrix_power, draw.square().flatmap(
        lambda call: st.sampled_from([-2, -1, 1, 2, 3, 4, 5]).map(lambda n: draw.Call((*call.args, n))))),
    "multi_dot": Entry(linalg.multi_dot, draw.chains()),
    "tensorsolve": Entry(linalg.tensorsolve, draw.tensors()),
    "tensorinv": Entry(linalg.tensorinv, draw.tensors(right=False)),
    "cofactor": Entry(cofactor, draw.along_square(), ulps=8,  # small elements are what is left of large ones: torch
                      largest=True, why="as in the value"),  # reaches 6
    "pinv": Entry(linalg.pinv, draw.rectangular(), numpy=np.linalg.pinv, ulps=16),  # by the svd: torch reaches 28
    "lstsq": Entry(lstsq, draw.fitted(), numpy=lambda a, b: [
        int(y) if y.dtype.kind == "i" else y for y in np.linalg.lstsq(a, b)]),
    "eigh": Entry(aligned(lambda x, UPLO="L": linalg.eigh(symmetric(x)), np.linalg.eigh, 1),
                  draw.square(draw.spread_symmetric), numpy=np.linalg.eigh),
    "eigvalsh": Entry(lambda x: linalg.eigvalsh(symmetric(x)), draw.square(draw.spread_symmetric)),
    "svd": Entry(aligned(svd, np.linalg.svd, 0, 2), draw.rectangular(full_matrices=st.just(False)).map(
        lambda call: draw.Call(call.args, call.attrs if call.args[0].shape[-1] == call.args[0].shape[-2]
                               else {"full_matrices": False})), numpy=np.linalg.svd,
                 largest=True, why="of one row nothing is left along the row itself"),
    "svdvals": Entry(linalg.svdvals, draw.rectangular()),
    "cond": Entry(linalg.cond, draw.rectangular(least=2, p=st.sampled_from([2, -2]))),
    "qr": Entry(aligned(linalg.qr, np.linalg.qr, 0, 1), draw.rectangular(), numpy=np.linalg.qr,
                largest=True, why="of one row nothing is left along the row itself",
                gradient_ulps=16),  # columns that nearly depend on one another: torch's value reaches 39
    "inv": Entry(linalg.inv, draw.square()),
    "solve": Entry(linalg.solve, draw.systems()),
    "det": Entry(linalg.det, draw.square(), largest=True, why="of one element it is linear: x⁻¹ and x cancel"),
    "slogdet": Entry(linalg.slogdet, draw.square(), numpy=np.linalg.slogdet),
    "cholesky": Entry(linalg.cholesky, draw.square(draw.symmetric_positive), numpy=np.linalg.cholesky),
    "matrix_rank": constant(draw.rectangular()),
    # ------------------------------------------------------------------ reductions
    "sum": Entry(reduced(torch.sum), reductions()),
    "mean": Entry(reduced(torch.mean), reductions(least=1)),
    "var": Entry(variance(torch.var), reductions(least=2, none=False, ddof=st.integers(0, 1))),
    "std": Entry(variance(torch.std), reductions(apart, least=3, none=False, ddof=st.integers(0, 1))),
    "max": Entry(reduced(torch.amax), reductions(apart, least=1)),
    "min": Entry(reduced(torch.amin), reductions(apart, least=1)),
    "ptp": Entry(reduced(lambda x, **how: torch.amax(x, **how) - torch.amin(x, **how)), reductions(apart, least=1)),
    "median": Entry(single(median), reductions(apart, least=1, none=False)),
    "average": Entry(average, draw.averaged(), largest=True,
                     why="xᵢ − y, by the weights: of one element nothing is left"),
    "logsumexp": Entry(reduced(torch.logsumexp), reductions()),
    "prod": Entry(single(torch.prod), reductions(), largest=True,
                  why="torch divides by x and multiplies with it again"),
    "cumsum": Entry(along(torch.cumsum), draw.along_axis(default=False, flat=True)),
    "cumprod": Entry(along(torch.cumprod), draw.along_axis(default=False, flat=True)),
    # ------------------------------------------------------------------ shapes
    "reshape": Entry(torch.reshape, draw.reshapes()),
    "ravel": Entry(torch.ravel, one()),
    "transpose": Entry(transpose, draw.from_array(lambda d, x: (d(st.permutations(range(x.ndim))),))),
    "swapaxes": Entry(torch.swapaxes, draw.from_array(lambda d, x: (d(draw.axis(x.ndim)), d(draw.axis(x.ndim))),
                                                      draw.shapes(least=1))),
    "moveaxis": Entry(torch.moveaxis, draw.from_array(lambda d, x: (two_axes(d, x), two_axes(d, x)), matrices)),
    "rollaxis": Entry(rollaxis, draw.from_array(
        lambda d, x: (d(draw.axis(x.ndim)), d(st.integers(0, x.ndim))), draw.shapes(least=1))),
    "expand_dims": Entry(expand_dims, draw.from_array(new_axes)),
    "squeeze": Entry(squeeze, draw.from_array(axes_of_length_one)),
    "atleast_1d": Entry(torch.atleast_1d, one()),
    "atleast_2d": Entry(torch.atleast_2d, one()),
    "atleast_3d": Entry(torch.atleast_3d, one()),
    "broadcast_to": Entry(torch.broadcast_to, draw.broadcasts()),
    "broadcast_arrays": Entry(torch.broadcast_tensors, two(numbers=False)),
    "meshgrid": Entry(lambda *xs, indexing="xy": torch.meshgrid(*xs, indexing=indexing), calls(
        draw.arrays(draw.shapes(1, 1)), draw.arrays(draw.shapes(1, 1)), indexing=st.sampled_from(["xy", "ij"]))),
    "concatenate": Entry(concatenate, draw.pieces(flat=True)),
    "stack": Entry(stack, draw.pieces(same=True)),
    "vstack": Entry(torch.vstack, draw.pieces(same=True, attr=None)),
    "hstack": Entry(torch.hstack, draw.pieces(same=True, attr=None)),
    "split": Entry(split, draw.sections()),
    "array_split": Entry(split, draw.sections(uneven=True)),
    "tile": Entry(torch.tile, calls(draw.arrays(), st.lists(st.integers(0, 2), max_size=3).map(tuple))),
    "repeat": Entry(repeat,
                    draw.from_array(repeats, draw.shapes(least=1))),
    "flip": Entry(flip, draw.from_array(lambda d, x: {"axis": d(draw.some_axes(x.ndim))})),
    "fliplr": Entry(torch.fliplr, one(least=2)),
    "flipud": Entry(torch.flipud, one(least=1)),
    "roll": Entry(torch.roll, draw.from_array(shifts, draw.shapes(least=1))),
    "rot90": Entry(lambda x, k=1, axes=(0, 1): torch.rot90(x, k, axes), draw.from_array(
        lambda d, x: {"axes": two_axes(d, x)}, matrices, k=st.integers(-3, 5))),
    "pad": Entry(pad, draw.from_array(widths)),
    "tril": Entry(lambda x, k=0: torch.tril(x, k), one(least=2, k=some_diagonal)),
    "triu": Entry(lambda x, k=0: torch.triu(x, k), one(least=2, k=some_diagonal)),
    "diag": Entry(lambda x, k=0: torch.diag(x, k), one(least=1, most=2, k=some_diagonal)),
    "astype": alone("torch's has no rounding to compare", calls(draw.arrays(), st.just(np.float64))),
    # ------------------------------------------------------------------ elements
    "getitem": Entry(getitem, draw.indexed(), numpy=lambda x, index: x[index]),
    "scatter_add": Entry(scatter_add, draw.scattered()),
    "put": Entry(put, draw.replaced_elements()),
    "embedding": Entry(lambda ids, table: table[ids], draw.lookups()),
    "take": Entry(take, draw.taken()),
    "take_along_axis": Entry(take_along_axis, draw.taken_along()),
    "put_along_axis": Entry(put_along_axis, draw.taken_along(values=True)),
    "sort": Entry(along(lambda x, dim: torch.sort(x, dim=dim).values), draw.along_axis(apart, flat=True)),
    "partition": Entry(partition, draw.along_axis(apart, least=2).map(
        lambda call: draw.Call((*call.args, 1), call.attrs))),
    "top_k": Entry(along(lambda x, k, dim: torch.topk(x, k, dim=dim)), draw.along_axis(apart, least=2).map(
        lambda call: draw.Call((*call.args, 2), call.attrs))),
    "delete": Entry(delete, draw.taken()),
    "compress": Entry(lambda c, x, axis=None: take(x, torch.nonzero(c)[:, 0], axis), draw.compressed()),
    "extract": Entry(lambda c, x: x[c], draw.alike(booleans, draw.normal)),
    "select": Entry(lambda a, xs, default=0.0: torch.where(a[0], xs[0], torch.where(a[1], xs[1], default)),
                    draw.selected()),
    "choose": Entry(lambda a, xs: torch.stack([x.expand(a.shape) for x in xs]).gather(0, a[None])[0],
                    draw.chosen()),
    # ------------------------------------------------------------------ networks
    "relu": Entry(F.relu, one(apart)),
    "squared_relu": Entry(lambda x: F.relu(x) ** 2, one(apart)),
    "leaky_relu": Entry(lambda x, slope=0.01: F.leaky_relu(x, slope), one(apart, slope=st.just(0.2))),
    "gelu": Entry(F.gelu, one(approximate=st.sampled_from(["none", "tanh"])),
                  ulps=32, gradient_ulps=32),  # 1 + erf cancels below 0: torch reaches 17 and 19
    "silu": Entry(F.silu, one()),
    "softplus": Entry(F.softplus, one()),
    "swiglu": Entry(lambda x, gate, up: F.silu(x @ gate) * (x @ up), draw.gated()),
    "dropout": Entry(lambda x, rate: x * torch.tensor(dropped(x.shape, rate), dtype=x.dtype),
                     calls(draw.arrays(), st.just(0.4)),
                     ours=lambda x, rate: ag.dropout(x, rate, np.random.default_rng(0))),
    "softmax": Entry(along(F.softmax), draw.along_axis(least=1, several=True),
                     gradient_ulps=16),  # g − Σ g⊙y cancels: torch reaches 9
    "log_softmax": Entry(along(F.log_softmax), draw.along_axis(least=1, several=True),
                         ulps=32),  # x − ln Σ exp(x) cancels where one class has nearly all: torch reaches 15
    "cross_entropy": Entry(cross_entropy, draw.classified()),
    "binary_cross_entropy": Entry(F.binary_cross_entropy_with_logits,
                                  draw.alike(draw.normal, between(0, 1), reduction=reductions_of)),
    "mse": Entry(F.mse_loss, draw.alike(reduction=reductions_of)),
    "kl_divergence": Entry(kl_divergence, draw.alike(draw.normal, draw.probabilities, least=1,
                                                     reduction=reductions_of)),
    "layer_norm": Entry(layer_norm, draw.normalized(),
                        gradient_ulps=32),  # two means are taken off g, of 3 elements: torch reaches 11
    "rms_norm": Entry(rms_norm, draw.normalized(bias=False), gradient_ulps=16),  # as layer_norm: torch reaches 5
    "rotary": Entry(rotary, draw.rotated()),
    "causal_conv": Entry(causal_conv, draw.convolved()),
    "attention": Entry(attention, draw.attended(), largest=True, why="g·v − Σ g⊙y cancels: of one key nothing is left"),
    # ------------------------------------------------------------------ numerical analysis, statistics, signals
    "fabs": Entry(torch.absolute, one(nonzero())),
    "deg2rad": Entry(torch.deg2rad, one()),
    "rad2deg": Entry(torch.rad2deg, one()),
    "sinc": Entry(sinc, one(), largest=True, why="cos πx − y cancels: the slope is 0 between the zeros"),
    "logaddexp2": Entry(numbers(torch.logaddexp2), two()),
    "fmax": Entry(numbers(torch.fmax), draw.elementwise(apart, draw.shifted(apart, 0.05))),
    "fmin": Entry(numbers(torch.fmin), draw.elementwise(apart, draw.shifted(apart, 0.05))),
    "fmod": Entry(numbers(torch.fmod), draw.elementwise(draw.between_whole, draw.signs)),
    "copysign": Entry(lambda x, y: torch.absolute(x) * torch.sign(y),
                      draw.elementwise(nonzero(), nonzero(), numbers=False)),
    "nansum": Entry(reduced(torch.nansum), reductions(none=False)),
    "nanmean": Entry(reduced(torch.nanmean), reductions(least=1, none=False)),
    "nanprod": Entry(single(torch.prod), reductions(), largest=True,
                     why="torch divides by x and multiplies with it again"),
    "nanvar": Entry(variance(torch.var), reductions(least=2, none=False, ddof=st.integers(0, 1))),
    "nanstd": Entry(variance(torch.std), reductions(apart, least=3, none=False, ddof=st.integers(0, 1))),
    "nanmax": Entry(reduced(torch.amax), reductions(apart, least=1)),
    "nanmin": Entry(reduced(torch.amin), reductions(apart, least=1)),
    "nanmedian": Entry(single(median), reductions(apart, least=1, none=False)),
    "nancumsum": Entry(along(torch.cumsum), draw.along_axis(default=False, flat=True)),
    "nancumprod": Entry(along(torch.cumprod), draw.along_axis(default=False, flat=True)),
    "cumulative_sum": Entry(along(torch.cumsum), draw.along_axis(default=False)),
    "cumulative_prod": Entry(along(torch.cumprod), draw.along_axis(default=False)),
    "quantile": Entry(quantiles(torch.quantile), draw.ordered(0.3)),
    "nanquantile": Entry(quantiles(torch.nanquantile), draw.ordered(0.3)),
    "percentile": Entry(quantiles(torch.quantile, 100), draw.ordered(30.0)),
    "nanpercentile": Entry(quantiles(torch.nanquantile, 100), draw.ordered(30.0)),
    "cov": Entry(lambda m, ddof=1: torch.cov(m, correction=ddof), calls(
        draw.arrays(draw.shapes(2, 2, 2)), ddof=st.integers(0, 1))),
    "corrcoef": Entry(torch.corrcoef, calls(draw.arrays(st.sampled_from([(2, 4), (3, 5)]))), largest=True,
                      why="that of a variable and itself does not change"),
    "difference": Entry(lambda x, n=1, axis=-1: torch.diff(x, n, axis), draw.from_array(
        an_axis, draw.shapes(least=1, min_side=2), n=st.integers(1, 2))),
    "ediff1d": Entry(lambda x: torch.diff(x.reshape(-1)), one(min_side=1)),
    "gradient": Entry(lambda f, axis, edge_order=1: torch.gradient(f, dim=axis, edge_order=edge_order)[0],
                      draw.from_array(an_axis, draw.shapes(least=1, min_side=3), edge_order=st.integers(1, 2))),
    "trapezoid": Entry(lambda y, axis=-1, dx=1.0: torch.trapezoid(y, dx=dx, dim=axis), draw.from_array(
        an_axis, draw.shapes(least=1, min_side=1), dx=st.just(0.3))),
    "interp": Entry(interp, calls(draw.arrays(values=between(0, 3)), draw.arrays((4,), draw.increasing),
                                  draw.arrays((4,)))),
    "linspace": Entry(linspace, two(numbers=False).map(lambda call: draw.Call((*call.args, 4)))),
    "polyval": Entry(polyval, calls(draw.arrays(draw.shapes(1, 1, 1)), draw.arrays())),
    "convolve": Entry(convolve, draw.one_dimensional(mode=st.sampled_from(["full", "same", "valid"]))),
    "correlate": Entry(correlate, draw.one_dimensional(mode=st.sampled_from(["full", "same", "valid"]))),
    "dft": Entry(lambda re, im, **how: transform(torch.fft.fft)((re, im), **how), draw.complex_pairs()),
    "fft": Entry(transform(torch.fft.fft), draw.complex_pairs(together=True)),
    "ifft": Entry(transform(torch.fft.ifft), draw.complex_pairs(together=True)),
    "rfft": Entry(transform(torch.fft.rfft), draw.complex_pairs(real=True)),
    "irfft": Entry(transform(torch.fft.irfft), draw.complex_pairs(2, together=True)),
    "fftn": Entry(transform_of_axes(torch.fft.fftn), draw.complex_pairs(together=True, axes=True)),
    "ifftn": Entry(transform_of_axes(torch.fft.ifftn), draw.complex_pairs(together=True, axes=True)),
    "rfftn": Entry(transform_of_axes(torch.fft.rfftn), draw.complex_pairs(real=True, axes=True)),
    "irfftn": Entry(transform_of_axes(torch.fft.irfftn), draw.complex_pairs(2, together=True, axes=True)),
    "fftshift": Entry(lambda x, axes=None: torch.fft.fftshift(x, axes), draw.from_array(
        lambda d, x: {"axes": d(draw.axis(x.ndim))}, draw.shapes(least=1))),
    "ifftshift": Entry(lambda x, axes=None: torch.fft.ifftshift(x, axes), draw.from_array(
        lambda d, x: {"axes": d(draw.axis(x.ndim))}, draw.shapes(least=1))),
    # ------------------------------------------------------------------ joining and cutting, as NumPy's users know them
    "array": Entry(torch.stack, draw.pieces(same=True, attr=None)),
    "column_stack": Entry(torch.column_stack, draw.pieces(same=True, attr=None)),
    "dstack": Entry(torch.dstack, draw.pieces(same=True, attr=None)),
    "block": Entry(lambda xs: torch.cat([torch.atleast_1d(x) for x in xs], dim=-1), draw.pieces(same=True, attr=None)),
    "append": Entry(lambda x, v: torch.cat([x.reshape(-1), v.reshape(-1)]), calls(draw.arrays(), draw.arrays())),
    "insert": Entry(lambda x, i, v: torch.cat([x.reshape(-1)[:i], v, x.reshape(-1)[i:]]), draw.from_array(
        lambda d, x: (d(st.integers(0, x.size)), d(draw.arrays((2,)))))),
    "resize": Entry(lambda x, shape: gathered(x, np.resize(np.arange(x.numel()), shape)), draw.from_array(
        lambda d, x: (d(draw.shapes()),), draw.shapes(min_side=1))),
    "unstack": Entry(lambda x, axis=0: torch.unbind(x, axis), draw.from_array(
        an_axis, draw.shapes(least=1, min_side=1))),
    "hsplit": Entry(lambda x, parts: split(x, parts, 1), draw.sections(2, along=1)),
    "vsplit": Entry(lambda x, parts: split(x, parts, 0), draw.sections(2, along=0)),
    "dsplit": Entry(lambda x, parts: split(x, parts, 2), draw.sections(3, along=2)),
    # ------------------------------------------------------------------ no gradient
    **{name: constant(one(draw.whole)) for name in ("isreal", "iscomplex", "angle", "spacing")},
    **{name: constant(reductions(draw.whole, some=False, least=1)) for name in ("nanargmax", "nanargmin")},
    "array_equiv": constant(draw.alike(draw.whole, draw.whole)),
    **{name: constant(draw.elementwise(draw.whole, draw.whole)) for name in (
        "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "heaviside", "isclose", "logical_and",
        "logical_or", "logical_xor")},
    **{name: constant(draw.elementwise(integers(8, -8), integers(8, -8), numbers=False)) for name in (
        "bitwise_and", "bitwise_or", "bitwise_xor")},
    **{name: constant(one(draw.whole)) for name in (
        "sign", "signbit", "logical_not", "argwhere", "flatnonzero", "zeros_like", "ones_like")},
    "nonzero": constant(one(draw.whole, least=1)),
    **{name: constant(one(draw.spread)) for name in ("floor", "ceil", "rint", "trunc")},
    **{name: constant(one(draw.wild)) for name in ("isnan", "isinf", "isfinite", "isposinf", "isneginf")},
    **{name: constant(draw.alike(draw.whole, draw.whole)) for name in ("allclose", "array_equal", "isin")},
    **{name: constant(reductions(draw.whole, some=False, least=1)) for name in ("argmax", "argmin")},
    **{name: constant(reductions(draw.whole)) for name in ("any", "all", "count_nonzero")},
    "last_written": constant(draw.indexed()),
    "argsort": constant(draw.along_axis(apart, flat=True)),
    "argpartition": constant(draw.along_axis(apart, least=1).map(lambda call: draw.Call((*call.args, 0), call.attrs))),
    "searchsorted": constant(calls(st.just(np.arange(4.0)), draw.arrays(), side=st.sampled_from(["left", "right"]))),
    "digitize": constant(calls(draw.arrays(), st.just(np.arange(4.0)), right=st.booleans())),
    "floor_divide": constant(draw.elementwise(draw.normal, nonzero())),
    "invert": constant(one(integers(8, -8))),
    "round": constant(one(draw.spread, decimals=st.integers(0, 2))),
    "full_like": constant(calls(draw.arrays(), st.just(2.5))),
    "empty_like": alone("no numbers", one()),
    "truncate": constant(calls(draw.arrays(values=draw.spread), st.sampled_from([np.int64, np.int32, bool]))),
    "one_hot": constant(calls(draw.arrays(values=integers(3)), st.just(3))),
    "causal_mask": constant(calls(draw.arrays((2, 1)), draw.arrays((3, 1)))),
}
