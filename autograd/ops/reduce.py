"""Reductions: sums, means, extremes, products, and running sums and products."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..core.arrays import as_floats, cast, narrow, widen
from ..core.registry import NUMPY_OVERRIDES, REGISTRY
from ..define import composed, op
from .elementwise import as_array, by_convention, root


def axes_of(x, axis) -> tuple[int, ...]:
    """Return the axes that a reduction of `x` reduces, counted from 0; none for a number, though NumPy takes axis 0 of
    one in some reductions."""
    if axis is None:
        return tuple(range(x.ndim))
    axes = normalize_axis_tuple(axis, x.ndim or 1)
    return axes if x.ndim else ()


def expand_reduced(a, x, axis):
    """Return `a`, a reduction of `x`, with the reduced axes of length 1."""
    axes = axes_of(x, axis)
    return a.reshape(tuple(1 if i in axes else n for i, n in enumerate(x.shape)))


def _count(x, axis) -> int:
    """Return the number of elements of `x` that one element of the result is computed from."""
    return math.prod(x.shape[a] for a in axes_of(x, axis))


@op
def sum(x, axis=None, *, keepdims=False):  # noqa: A001  (NumPy's name)
    """Sum along `axis` (an axis, several, or None: all).  y = Σᵢ xᵢ"""
    return narrow(np.sum(widen(x), axis=axis, keepdims=keepdims), x)

@sum.gradient("x")
def _(g, y, x, axis=None, *, keepdims=False):
    """∂L/∂xᵢ = g"""
    return np.broadcast_to(expand_reduced(g, x, axis), x.shape)


@op
def mean(x, axis=None, *, keepdims=False):
    """Mean of the n elements along `axis`.  y = Σᵢ xᵢ / n"""
    return np.mean(x, axis=axis, keepdims=keepdims)

@mean.gradient("x")
def _(g, y, x, axis=None, *, keepdims=False):
    """∂L/∂xᵢ = g / n"""
    return np.broadcast_to(widen(expand_reduced(g, x, axis)) / (_count(x, axis) or 1), x.shape)


@op
def var(x, axis=None, *, ddof=0, keepdims=False):
    """Variance of the n elements along `axis`.  y = Σᵢ (xᵢ − x̄)² / (n − ddof)"""
    return narrow(np.var(widen(x), axis=axis, ddof=ddof, keepdims=keepdims), x)

@var.gradient("x")
def _(g, y, x, axis=None, *, ddof=0, keepdims=False):
    """∂L/∂xᵢ = 2 g (xᵢ − x̄) / (n − ddof)"""
    x, g = widen(x), widen(expand_reduced(g, x, axis))
    n = _count(x, axis)
    return g * 2 * (x - x.sum(axis=axis, keepdims=True) / (n or 1)) / (n - ddof)


@op(implements=(np.max, np.amax))
def max(x, axis=None, *, keepdims=False):  # noqa: A001  (NumPy's name)
    """Largest element along `axis`.  y = maxᵢ xᵢ    Equal ones share the gradient evenly."""
    _check_some(x, axis)
    return np.max(x, axis=axis, keepdims=keepdims)

@max.gradient("x")
def _(g, y, x, axis=None, *, keepdims=False):
    """∂L/∂xᵢ = g [xᵢ = y] / #{j : xⱼ = y}"""
    return _among_equals(g, y, x, axis)


@op(implements=(np.min, np.amin))
def min(x, axis=None, *, keepdims=False):  # noqa: A001  (NumPy's name)
    """Smallest element along `axis`.  y = minᵢ xᵢ    Equal ones share the gradient evenly."""
    _check_some(x, axis)
    return np.min(x, axis=axis, keepdims=keepdims)

@min.gradient("x")
def _(g, y, x, axis=None, *, keepdims=False):
    """∂L/∂xᵢ = g [xᵢ = y] / #{j : xⱼ = y}"""
    return _among_equals(g, y, x, axis)


def _check_some(x, axis):
    """Raise ValueError for an extreme of no elements."""
    if not x.size and not _count(x, axis):
        raise ValueError(f"no elements to choose from: x has shape {x.shape}, and axis is {axis}")


def _among_equals(g, y, x, axis):
    """Return g, shared by the x that are equal to y; by convention if there are several."""
    g, equal = widen(expand_reduced(g, x, axis)), x == expand_reduced(y, x, axis)
    n = equal.sum(axis=axis, keepdims=True).astype(g.dtype)
    return g / n * by_convention(equal.astype(g.dtype), equal & (n > 1), x)


@composed
def ptp(x, axis=None, *, keepdims=False):
    """Largest minus smallest element along `axis`."""
    return max(x, axis, keepdims=keepdims) - min(x, axis, keepdims=keepdims)


@composed
def std(x, axis=None, *, ddof=0, keepdims=False, **how):
    """Standard deviation of the n elements along `axis`.  y = √(Σᵢ (xᵢ − x̄)² / (n − ddof))    Where it is 0, so is its
    gradient."""
    y = root(np.var(widen(x), axis=axis, ddof=ddof, keepdims=keepdims, **how))
    return narrow(y, x) if how.get("dtype") is None else y


@composed
def average(x, axis=None, weights=None, returned=False, *, keepdims=False):
    """Weighted mean.  y = Σᵢ wᵢ xᵢ / Σᵢ wᵢ, for weights of the shape of x, or 1-D along one axis.  returned: also give
    the sum of the weights."""
    x = as_array(x)
    if weights is None and not returned:
        return np.mean(x, axis=axis, keepdims=keepdims)
    weights = np.ones_like(x) if weights is None else as_array(weights)
    dtype = np.result_type(as_floats(x).dtype, weights.dtype) if x.dtype.kind == "f" else np.dtype(float)
    if np.shape(weights) != x.shape:
        axes = axes_of(x, axis)
        if len(axes) != 1 or np.shape(weights) != (x.shape[axes[0]],):
            raise ValueError(f"weights of shape {np.shape(weights)} for x of shape {x.shape} and axis {axis}: they "
                             "need the shape of x, or one weight for each place along one axis")
        weights = np.reshape(weights, tuple(-1 if (i,) == axes else 1 for i in range(x.ndim)))
    wide = widen(as_floats(x))
    weights = widen(weights) * np.ones_like(wide)
    n = np.sum(weights, axis=axis, keepdims=keepdims)
    y = cast(np.sum(wide * weights, axis=axis, keepdims=keepdims) / n, dtype)
    return (y, cast(n, dtype)) if returned else y


# ---------------------------------------------------------------------- products and running sums


@op
def prod(x, axis=None, *, keepdims=False):
    """Product along `axis`.  y = Πᵢ xᵢ"""
    return narrow(np.prod(widen(x), axis=axis, keepdims=keepdims), x)


def _as_rows(x, axes):
    """Return `x` with `axes` merged into one last axis."""
    rest = [i for i in range(x.ndim) if i not in axes]
    n = math.prod(x.shape[i] for i in axes)
    return x.transpose((*rest, *axes)).reshape((*[x.shape[i] for i in rest], n))


def products_before(x):
    """Return for each element the product of those before it along the last axis."""
    return np.concatenate([np.ones_like(x[..., :1]), np.cumprod(x, axis=-1)[..., :-1]], axis=-1)

@prod.gradient("x")
def _(g, y, x, axis=None, *, keepdims=False):
    """∂L/∂xᵢ = g Πⱼ≠ᵢ xⱼ    the product of those before and those after: no division, so zeros are no special case"""
    axes = axes_of(x, axis)
    rows = _as_rows(widen(x), axes)
    others = products_before(rows) * products_before(rows[..., ::-1])[..., ::-1]
    order = [*[i for i in range(x.ndim) if i not in axes], *axes]
    others = others.reshape(tuple(x.shape[i] for i in order)).transpose(tuple(order.index(i) for i in range(x.ndim)))
    return expand_reduced(g, x, axis) * others


@op
def cumsum(x, axis=None):
    """Running sum along `axis` (None: of all elements in order).  yᵢ = Σⱼ≤ᵢ xⱼ"""
    return narrow(np.cumsum(widen(x), axis=axis), x)

@cumsum.gradient("x")
def _(g, y, x, axis=None):
    """∂L/∂xᵢ = Σⱼ≥ᵢ gⱼ"""
    return np.flip(np.cumsum(np.flip(widen(g), axis), axis), axis).reshape(x.shape)


@op
def cumprod(x, axis=None):
    """Running product along `axis` (None: of all elements in order).  yᵢ = Πⱼ≤ᵢ xⱼ"""
    return narrow(np.cumprod(widen(x), axis=axis), x)

@cumprod.gradient("x")
def _(g, y, x, axis=None):
    """∂L/∂xᵢ = sᵢ Πⱼ<ᵢ xⱼ, where sᵢ = gᵢ + xᵢ₊₁ sᵢ₊₁    the recurrence is unrolled by doubling, without a division"""
    x = widen(x)
    if axis is None or x.ndim == 0:
        x, shape = x.reshape(-1), x.shape
    else:
        x, g, shape = x.swapaxes(axis, -1), g.swapaxes(axis, -1), None
    s, step, factor = g, 1, _shift_left(x, 1)
    while step < x.shape[-1]:
        s, factor, step = s + factor * _shift_left(s, step), factor * _shift_left(factor, step), 2 * step
    d = s * products_before(x)
    return d.swapaxes(axis, -1) if shape is None else d.reshape(shape)


def _shift_left(x, n):
    """Return `x` shifted n places towards the start of the last axis, with zeros behind it."""
    return np.concatenate([x[..., n:], np.zeros_like(x[..., :n])], axis=-1)


# Places and truths, through which no gradient flows.
for _constant in (np.argmax, np.argmin, np.argsort, np.argpartition, np.any, np.all, np.count_nonzero, np.nonzero,
                  np.flatnonzero, np.argwhere, np.searchsorted, np.digitize, np.isin, np.nanargmax, np.nanargmin):
    op(_constant, differentiable=False)


@composed
def cumulative_sum(x, axis=None, dtype=None, include_initial=False):
    """Running sum along `axis`, which only of a 1-D array may be left out; include_initial: with 0 in front."""
    return _cumulative(np.cumsum, 0, as_array(x), axis, dtype, include_initial)


@composed
def cumulative_prod(x, axis=None, dtype=None, include_initial=False):
    """Running product along `axis`, which only of a 1-D array may be left out; include_initial: with 1 in front."""
    return _cumulative(np.cumprod, 1, as_array(x), axis, dtype, include_initial)


def _cumulative(function, first, x, axis, dtype, include_initial):
    if axis is None and x.ndim > 1:
        raise ValueError(f"axis= says along which of its axes an array of shape {x.shape} is added up")
    axis = 0 if axis is None else axis
    y = function(x, axis=axis, dtype=dtype)
    if not include_initial:
        return y
    shape = tuple(1 if i == axis % y.ndim else n for i, n in enumerate(y.shape))
    return np.concatenate([np.full_like(y, first, shape=shape), y], axis=axis)


# ---------------------------------------------------------------------- NumPy's other arguments


def _wider(op, neutral, x, axis=None, dtype=None, initial=None, where=True, **how):
    """Reduce x in another dtype, without the elements where a mask does not hold, and with `initial` beside them."""
    x = x if dtype is None else cast(x, dtype)
    if initial is not None:
        x = cast(x, op(x.dtype.type(0)).dtype)  # the sum of booleans, say, is an integer
        initial = cast(as_array(initial), x.dtype)
    if where is not True:
        if initial is None and op in (max, min):
            raise ValueError(f"{op.name} of the elements where a mask holds needs initial=, as there may be none")
        x = np.where(_mask(where, x), x, neutral if op not in (max, min) or x.dtype.kind == "f" else initial)
    if initial is None:
        y = op(x, axis=axis, **how)
    else:
        rows = _as_rows(x, axes_of(x, axis))
        first = np.zeros_like(rows, shape=(*rows.shape[:-1], 1)) + initial
        y = op(np.concatenate([first, rows], axis=-1), axis=-1)
        y = expand_reduced(y, x, axis) if how.get("keepdims") else y
    return y if dtype is None else cast(y, dtype)


def _moment(op, neutral, x, axis=None, dtype=None, where=True, mean=None, ddof=0, correction=None, keepdims=False):
    """The mean or variance of x in another dtype, of the elements where a mask holds, or around a given mean."""
    if ddof and correction is not None:
        raise ValueError("correction is another name of ddof: give one of them")
    how = {"axis": axis, "keepdims": keepdims}
    ddof = ddof if correction is None else correction
    dtype = np.dtype(dtype or (x.dtype if x.dtype.kind == "f" else float))
    x = cast(cast(x, dtype), np.promote_types(dtype, np.float32))
    if where is True and mean is None:
        y = op(x, **how) if op.name == "mean" else op(x, ddof=ddof, **how)
    else:
        mask = where if where is True else _mask(where, x)
        n = _count(x, axis) if where is True else np.count_nonzero(mask, **how)
        if op.name == "var":  # what is left out is so before anything is computed of it, which may be NaN
            x = np.where(mask, x, 0)
            mean = np.mean(x, axis=axis, where=where, keepdims=True) if mean is None else mean
            x, n = np.square(x - mean), np.maximum(n - ddof, 0)
        y = np.sum(np.where(mask, x, 0), **how) / cast(as_array(n), x.dtype)
    return cast(y, dtype)


def _mask(where, x):
    """Return `where` as booleans of the shape of x."""
    where = as_array(where)
    return np.broadcast_to(where if where.dtype == bool else where != 0, x.shape)


def _with_numpys_arguments(op, wider, neutral):
    """Return `op` as a function with NumPy's further arguments (dtype, initial, where …)."""
    @functools.wraps(op.formula)
    def reduced(x, *axis, **how):
        return op(x, *axis, **how) if how.keys() <= op.attr_names else wider(op, neutral, as_array(x), *axis, **how)
    reduced.op = op
    return reduced


for _name, _wide, _neutral in (("sum", _wider, 0), ("prod", _wider, 1), ("max", _wider, -np.inf),
                               ("min", _wider, np.inf), ("any", _wider, False), ("all", _wider, True),
                               ("cumsum", _wider, 0),
                               ("cumprod", _wider, 1), ("mean", _moment, 0), ("var", _moment, 0)):
    for _function in [f for f, answer in NUMPY_OVERRIDES.items() if answer is REGISTRY[_name]]:
        NUMPY_OVERRIDES[_function] = _with_numpys_arguments(REGISTRY[_name], _wide, _neutral)
