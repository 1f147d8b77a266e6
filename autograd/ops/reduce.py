"""Ops that reduce axes."""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..arrays import as_floats, narrow, widen
from ..define import composed, op
from .elementwise import as_array, by_convention, root


def axes_of(x, axis) -> tuple[int, ...]:
    """The axes that a reduction of `x` has reduced, counted from 0; a number has none, though NumPy takes axis 0 of it.
    """
    return tuple(range(x.ndim)) if axis is None or x.ndim == 0 else normalize_axis_tuple(axis, x.ndim)


def kept(a, x, axis):
    """A reduction `a` of `x` with the reduced axes back, as 1."""
    axes = axes_of(x, axis)
    return a.reshape(tuple(1 if i in axes else n for i, n in enumerate(x.shape)))


def _count(x, axis) -> int:
    """How many elements of `x` go into one of the result."""
    return math.prod(x.shape[a] for a in axes_of(x, axis))


@op
def sum(x, axis=None, *, keepdims=False):  # noqa: A001  (NumPy's name)
    """Sum along `axis` (an axis, several, or None: all).  y = Σᵢ xᵢ"""
    return narrow(np.sum(widen(x), axis=axis, keepdims=keepdims), x)

@sum.gradient("x")
def _(g, y, x, axis=None, *, keepdims=False):
    """∂L/∂xᵢ = g"""
    return np.broadcast_to(kept(g, x, axis), x.shape)


@op
def mean(x, axis=None, *, keepdims=False):
    """Mean of the n elements along `axis`.  y = Σᵢ xᵢ / n"""
    return np.mean(x, axis=axis, keepdims=keepdims)

@mean.gradient("x")
def _(g, y, x, axis=None, *, keepdims=False):
    """∂L/∂xᵢ = g / n"""
    return np.broadcast_to(widen(kept(g, x, axis)) / (_count(x, axis) or 1), x.shape)


@op
def var(x, axis=None, *, ddof=0, keepdims=False):
    """Variance of the n elements along `axis`.  y = Σᵢ (xᵢ − x̄)² / (n − ddof)"""
    return narrow(np.var(widen(x), axis=axis, ddof=ddof, keepdims=keepdims), x)

@var.gradient("x")
def _(g, y, x, axis=None, *, ddof=0, keepdims=False):
    """∂L/∂xᵢ = 2 g (xᵢ − x̄) / (n − ddof)"""
    x, g = widen(x), widen(kept(g, x, axis))
    n = _count(x, axis)
    return g * 2 * (x - x.sum(axis=axis, keepdims=True) / (n or 1)) / (n - ddof)


@op(answers=(np.max, np.amax))
def max(x, axis=None, *, keepdims=False):  # noqa: A001  (NumPy's name)
    """Largest element along `axis`.  y = maxᵢ xᵢ    Equal ones share the gradient evenly."""
    _check_some(x, axis)
    return np.max(x, axis=axis, keepdims=keepdims)

@max.gradient("x")
def _(g, y, x, axis=None, *, keepdims=False):
    """∂L/∂xᵢ = g [xᵢ = y] / #{j : xⱼ = y}"""
    return _among_equals(g, y, x, axis)


@op(answers=(np.min, np.amin))
def min(x, axis=None, *, keepdims=False):  # noqa: A001  (NumPy's name)
    """Smallest element along `axis`.  y = minᵢ xᵢ    Equal ones share the gradient evenly."""
    _check_some(x, axis)
    return np.min(x, axis=axis, keepdims=keepdims)

@min.gradient("x")
def _(g, y, x, axis=None, *, keepdims=False):
    """∂L/∂xᵢ = g [xᵢ = y] / #{j : xⱼ = y}"""
    return _among_equals(g, y, x, axis)


def _check_some(x, axis):
    """Raise ValueError if there is nothing to choose from."""
    if not x.size and not _count(x, axis):
        raise ValueError(f"no elements to choose from: x has shape {x.shape}, and axis is {axis}")


def _among_equals(g, y, x, axis):
    """g, shared by those x that are equal to y, by convention if there are several."""
    g, equal = widen(kept(g, x, axis)), x == kept(y, x, axis)
    n = equal.sum(axis=axis, keepdims=True).astype(g.dtype)
    return g / n * by_convention(equal.astype(g.dtype), equal & (n > 1), x)


@composed
def ptp(x, axis=None, *, keepdims=False):
    """Largest minus smallest element along `axis`."""
    return max(x, axis, keepdims=keepdims) - min(x, axis, keepdims=keepdims)


@composed
def std(x, axis=None, *, ddof=0, keepdims=False):
    """Standard deviation of the n elements along `axis`.  y = √(Σᵢ (xᵢ − x̄)² / (n − ddof))    Where it is 0, so is its
    gradient."""
    return narrow(root(np.var(widen(x), axis=axis, ddof=ddof, keepdims=keepdims)), x)


@composed
def median(x, axis=None, *, keepdims=False):
    """Middle element along `axis`, or the mean of the middle two.  NaN where an element is.    Of equal ones those that
    sorting puts in the middle get the gradient."""
    axes = axes_of(x, axis)
    rows = _as_rows(x, axes)
    n = rows.shape[-1]
    if n == 0:
        raise ValueError("the median of no elements")
    y = np.sort(rows, axis=-1)[..., [(n - 1) // 2, n // 2]].mean(axis=-1)
    y = np.where(np.isnan(rows).any(axis=-1), np.nan, y)
    return kept(y, x, axes) if keepdims else y


@composed
def average(x, axis=None, weights=None, *, keepdims=False):
    """Weighted mean.  y = Σᵢ wᵢ xᵢ / Σᵢ wᵢ, for weights of the shape of x, or 1-D along one axis."""
    if weights is None:
        return np.mean(x, axis=axis, keepdims=keepdims)
    x = as_array(x)
    if np.shape(weights) != x.shape:
        axes = axes_of(x, axis)
        if len(axes) != 1 or np.shape(weights) != (x.shape[axes[0]],):
            raise ValueError(f"weights of shape {np.shape(weights)} for x of shape {x.shape} and axis {axis}: they "
                             "need the shape of x, or one weight for each place along one axis")
        weights = np.reshape(weights, tuple(-1 if (i,) == axes else 1 for i in range(x.ndim)))
    wide = widen(as_floats(x))
    weights = widen(weights) * np.ones_like(wide)
    y = np.sum(wide * weights, axis=axis, keepdims=keepdims) / np.sum(weights, axis=axis, keepdims=keepdims)
    return narrow(y, x)


# ---------------------------------------------------------------------- products and running sums


@op
def prod(x, axis=None, *, keepdims=False):
    """Product along `axis`.  y = Πᵢ xᵢ"""
    return narrow(np.prod(widen(x), axis=axis, keepdims=keepdims), x)


def _as_rows(x, axes):
    """`x` with `axes` as one last axis."""
    rest = [i for i in range(x.ndim) if i not in axes]
    n = math.prod(x.shape[i] for i in axes)
    return x.transpose((*rest, *axes)).reshape((*[x.shape[i] for i in rest], n))


def products_before(x):
    """For each element the product of those before it along the last axis."""
    return np.concatenate([np.ones_like(x[..., :1]), np.cumprod(x, axis=-1)[..., :-1]], axis=-1)

@prod.gradient("x")
def _(g, y, x, axis=None, *, keepdims=False):
    """∂L/∂xᵢ = g Πⱼ≠ᵢ xⱼ    the product of those before and those after: no division, so zeros are no special case"""
    axes = axes_of(x, axis)
    rows = _as_rows(widen(x), axes)
    others = products_before(rows) * products_before(rows[..., ::-1])[..., ::-1]
    order = [*[i for i in range(x.ndim) if i not in axes], *axes]
    others = others.reshape(tuple(x.shape[i] for i in order)).transpose(tuple(order.index(i) for i in range(x.ndim)))
    return kept(g, x, axis) * others


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
    x, g = widen(x), widen(g)
    if axis is None or x.ndim == 0:
        x, shape = x.reshape(-1), x.shape
    else:
        x, g, shape = x.swapaxes(axis, -1), g.swapaxes(axis, -1), None
    s, step, factor = g, 1, _moved(x, 1)
    while step < x.shape[-1]:
        s, factor, step = s + factor * _moved(s, step), factor * _moved(factor, step), 2 * step
    d = s * products_before(x)
    return d.swapaxes(axis, -1) if shape is None else d.reshape(shape)


def _moved(x, n):
    """`x` moved n places towards the start of the last axis, with zeros behind it."""
    return np.concatenate([x[..., n:], np.zeros_like(x[..., :n])], axis=-1)


# Places and truths, through which no gradient flows.
for _constant in (np.argmax, np.argmin, np.argsort, np.argpartition, np.any, np.all, np.count_nonzero, np.nonzero,
                  np.flatnonzero, np.argwhere, np.searchsorted, np.digitize, np.isin):
    op(_constant, differentiable=False)
