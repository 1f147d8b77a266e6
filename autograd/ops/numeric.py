"""Functions of numerical analysis and of statistics, composed of ops."""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ..core.arrays import as_floats, cast
from ..core.registry import NUMPY_OVERRIDES
from ..define import composed
from .elementwise import as_array, as_array_like, not_zero
from .index import slice_along, take
from .reduce import _as_rows
from .shape import register_as_numpys

# ---------------------------------------------------------------------- differences and integrals


def _steps(x, axis):
    """Return each element along `axis` minus the one before it; for booleans, True where they differ."""
    after, before = x[slice_along(axis, 1, None)], x[slice_along(axis, None, -1)]
    return after != before if x.dtype == bool else after - before


def _along(x, axis, ndim):
    """Return the 1-D x along one of `ndim` axes."""
    return x.reshape(tuple(-1 if i == axis else 1 for i in range(ndim)))


@composed(implements=np.diff)
def difference(x, n=1, axis=-1, prepend=None, append=None):
    """Differences of neighbours along `axis`, taken n times, after `prepend` and `append`, arrays or numbers, were put
    at the ends.  yᵢ = xᵢ₊₁ − xᵢ"""
    x = as_array(x)
    if n < 0 or x.ndim == 0:
        raise ValueError(f"n is how many times, and x needs an axis: n is {n}, and x of shape {x.shape}")
    axis = normalize_axis_index(axis, x.ndim)
    one = (*x.shape[:axis], 1, *x.shape[axis + 1:])
    parts = [as_array_like(x, a) for a in (prepend, x, append) if a is not None]
    parts = [np.broadcast_to(a, one) if a.ndim == 0 else a for a in parts]
    x = np.concatenate(parts, axis=axis) if n and len(parts) > 1 else x
    for _ in range(n):
        x = _steps(x, axis)
    return x


@composed
def ediff1d(x, to_end=None, to_begin=None):
    """Differences of neighbours of all elements in order, between `to_begin` and `to_end`."""
    y = _steps(np.ravel(x), 0)
    parts = [np.ravel(as_array_like(y, a)) for a in (to_begin, y, to_end) if a is not None]
    return np.concatenate([cast(a, y.dtype) for a in parts])


@composed
def gradient(f, *spacings, axis=None, edge_order=1):
    """Slopes of samples along each axis, or along `axis` (one, or several): an array, or a tuple of them.  Inside it is
    that of the parabola through a sample and its neighbours; at an edge that to the neighbour, or of the parabola
    through the last three (edge_order=2).  spacings: a distance for all axes, or for each one a distance or 1-D
    coordinates."""
    f = as_floats(as_array(f))
    axes = tuple(range(f.ndim)) if axis is None else normalize_axis_tuple(axis, f.ndim)
    spacings = spacings or (1.0,)
    spacings = spacings * len(axes) if len(spacings) == 1 and np.ndim(spacings[0]) == 0 else spacings
    if len(spacings) != len(axes):
        raise TypeError(f"{len(spacings)} spacings for {len(axes)} axes: give one distance, or one spacing an axis")
    slopes = tuple(_slopes(f, h, axis, edge_order) for h, axis in zip(spacings, axes))
    return slopes[0] if len(slopes) == 1 else slopes


def _slopes(f, h, axis, edge_order):
    """Return the slopes of f along `axis`, each a mean of those to both neighbours."""
    if edge_order not in (1, 2) or f.shape[axis] <= edge_order:
        raise ValueError(f"edge_order {edge_order} of {f.shape[axis]} samples: it is 1 or 2, and needs one sample more")
    first, last, before, after = (slice_along(axis, *ends) for ends in ((None, 1), (-1, None), (None, -1), (1, None)))
    share = 0.5
    if np.ndim(h):
        h = _along(_steps(as_floats(as_array(h)), 0), axis, f.ndim)
        share = h[before] / (h[before] + h[after])  # of the slope behind a sample
    between = _steps(f, axis) / h
    bend = _steps(between, axis)
    start, end = between[first], between[last]
    if edge_order == 2:
        of_start, of_end = (share, share) if np.ndim(share) == 0 else (share[first], share[last])
        start, end = start - bend[first] * of_start, end + bend[last] * (1 - of_end)
    return cast(np.concatenate([start, between[before] + bend * share, end], axis=axis), f.dtype)


@composed
def trapezoid(y, x=None, dx=1.0, axis=-1):
    """Integral of samples along `axis` by straight lines between them, at the coordinates x (1-D, or of y's shape), or
    at the distance dx.  Σᵢ (xᵢ₊₁ − xᵢ) (yᵢ₊₁ + yᵢ) / 2"""
    y = as_array(y)
    axis = normalize_axis_index(axis, y.ndim)
    if x is not None:
        x = as_array(x)
        dx = _along(_steps(x, 0), axis, y.ndim) if x.ndim == 1 else _steps(x, axis)
    return (dx * (y[slice_along(axis, 1, None)] + y[slice_along(axis, None, -1)]) / 2).sum(axis=axis)


# ---------------------------------------------------------------------- interpolation and polynomials


@composed
def interp(x, xp, fp, left=None, right=None, period=None):
    """Values at x of the straight lines between the points (xp, fp), xp increasing; before the first one `left` (None:
    its fp), behind the last `right`.  With a period xp may be in any order.  In double precision, as NumPy's."""
    x, xp, fp = (cast(as_array(a), np.dtype(float)) for a in (x, xp, fp))
    if xp.ndim != 1 or xp.shape != fp.shape or xp.size == 0:
        raise ValueError(f"xp and fp are the coordinates of points, and cannot have the shapes {xp.shape} and "
                         f"{fp.shape}")
    if period is not None:
        x, xp, order = x % abs(period), xp % abs(period), np.argsort(xp % abs(period))
        xp, fp = (np.concatenate([take(a, order[-1:]) - step, take(a, order), take(a, order[:1]) + step])
                  for a, step in ((xp, abs(period)), (fp, 0)))
        left = right = None
    i = np.clip(np.searchsorted(xp, x, side="right") - 1, 0, None)
    (x0, y0), (x1, y1) = ([take(a, places) for a in (xp, fp)] for places in (i, np.minimum(i + 1, xp.size - 1)))
    y = y0 + (y1 - y0) / not_zero(x1 - x0) * (x - x0)
    y = np.where(x < xp[0], fp[0] if left is None else left, y)
    return np.where(x > xp[-1], fp[-1] if right is None else right, y)


@composed
def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0):
    """`num` numbers (or arrays, along a new axis) from start to stop in equal steps, with stop or without (`endpoint`);
    retstep: also give the step."""
    if num < 0:
        raise ValueError(f"num is a number of samples, not {num}")
    start, stop = (a if type(a) in (int, float) else as_array(a) for a in (start, stop))
    common = np.result_type(*[getattr(a, "dtype", a) for a in (start, stop)], 1.0)
    start, stop = (cast(a, common) if hasattr(a, "dtype") else a for a in (start, stop))
    way, n = (stop - start) * 1.0, num - 1 if endpoint else num
    places = np.cumsum(np.ones_like(way, shape=(num,))) - 1  # 0, 1, 2 …, of the library that the array is from
    places = places.reshape((num,) + (1,) * np.ndim(way))
    step = way / n if n > 0 else way * np.nan
    y = start + places * (step if n > 0 else way)
    y = np.where(places == n, stop, y) if endpoint and num > 1 else y
    if dtype is not None:
        y = cast(y if np.dtype(dtype).kind == "f" else np.floor(y), np.dtype(dtype))
    return (np.moveaxis(y, 0, axis), step) if retstep else np.moveaxis(y, 0, axis)


@composed
def polyval(p, x):
    """Value at x of the polynomial with the coefficients p, highest power first.  y = Σᵢ pᵢ xⁿ⁻ⁱ"""
    x = as_array(x)
    y = np.zeros_like(x)
    for c in p:
        y = y * x + c
    return y


# ---------------------------------------------------------------------- statistics


def _quantile(x, q, axis, keepdims, method, skips_nan):
    """Return the quantiles q (from 0 to 1) of x along `axis`; the axes of q come first."""
    x, is_number = as_array(x), type(q) in (int, float)
    q = q if is_number else as_array(q)
    axes = tuple(range(x.ndim)) if axis is None else normalize_axis_tuple(axis, x.ndim)
    rows = np.sort(_as_rows(x, axes), axis=-1)  # NaN last
    n, nan, parts = rows.shape[-1], np.isnan(rows), q if is_number else q.reshape((-1,))
    if n == 0 or np.any(np.logical_or(q < 0, q > 1)):
        raise ValueError(f"quantiles are of some elements, and from 0 to 1 (percentiles to 100): {q} of {n} elements")
    last = np.full_like(rows[..., :1], n - 1, dtype=float)  # the place of the last element
    if skips_nan:
        last = last - np.count_nonzero(nan, axis=-1, keepdims=True)
    at = None
    if method in ("linear", "middle"):
        place = last * parts
    elif skips_nan:
        raise ValueError(f'quantiles of elements among NaN are of method "linear", and not {method!r}')
    else:  # NumPy itself says at which place, or between which two
        at = np.quantile(np.arange(n), np.asarray(parts), method=method)
        place = last * 0 + at
    below, above = np.floor(place), np.ceil(place)
    a, b = (np.take_along_axis(rows, np.maximum(i, 0).astype(int), axis=-1) for i in (below, above))
    if at is not None and at.dtype.kind == "i":
        y = a
    elif method == "middle":
        y = (as_floats(a) + as_floats(b)) / 2
    else:
        way, share = b - a, place - below
        share = cast(share, np.result_type(x.dtype, float(q) if is_number else q.dtype))
        y = np.where(share < 0.5, a + way * share, b - way * (1 - share))
    y = y if skips_nan else np.where(nan.any(axis=-1, keepdims=True), np.nan, y)
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes)
    return np.moveaxis(y, -1, 0).reshape((*np.shape(q), *kept))


def _quantiles(name, unit, words):
    """Register NumPy's function `name`, whose q goes from 0 to `unit`."""
    def quantiles(x, q, axis=None, *, method="linear", keepdims=False):
        q = (q if type(q) in (int, float) else as_array(q)) / unit
        return _quantile(x, q, axis, keepdims, method, name.startswith("nan"))
    quantiles.__name__, quantiles.__doc__ = name, words
    composed(quantiles, implements=getattr(np, name))


_quantiles("quantile", 1, """The element at the part q (from 0 to 1; or an array of parts, whose axes come first) of
    the order along `axis`: between two elements on a straight line, or by another of NumPy's methods. NaN where an
    element is. Of equal elements those that sorting puts there get the gradient.""")
_quantiles("percentile", 100, "`quantile`, with q from 0 to 100.")
_quantiles("nanquantile", 1, "`quantile` of the elements that are not NaN, on straight lines.")
_quantiles("nanpercentile", 100, "`nanquantile`, with q from 0 to 100.")


@composed
def median(x, axis=None, *, keepdims=False):
    """Middle element along `axis`, or the mean of the middle two.  NaN where an element is.    Of equal ones those that
    sorting puts in the middle get the gradient."""
    return _quantile(x, 0.5, axis, keepdims, "middle", False)


@composed
def nanmedian(x, axis=None, *, keepdims=False):
    """`median` of the elements that are not NaN."""
    return _quantile(x, 0.5, axis, keepdims, "middle", True)


def _instead_of_nan(function, number, words):
    """Return `function` with a number in the place of NaN; of nothing but NaN it is NaN, if the number is no result."""
    def replacing(x, axis=None, **how):
        x = as_array(x)
        if x.dtype.kind != "f":
            return NUMPY_OVERRIDES[function](x, axis=axis, **how)
        y = NUMPY_OVERRIDES[function](np.where(np.isnan(x), number, x), axis=axis, **how)
        if math.isfinite(number) or "initial" in how:
            return y
        return np.where(np.all(np.isnan(x), axis=axis, keepdims=how.get("keepdims", False)), np.nan, y)
    register_as_numpys(replacing, getattr(np, f"nan{function.__name__}"), words)


def _where_not_nan(function, words):
    """`function` of the elements that are not NaN."""
    def choosing(x, axis=None, where=True, **how):
        x = as_array(x)
        return function(x, axis=axis, where=np.logical_and(where, np.logical_not(np.isnan(x))), **how)
    register_as_numpys(choosing, getattr(np, f"nan{function.__name__}"), words)


_instead_of_nan(np.sum, 0, "Sum of the elements that are not NaN.")
_instead_of_nan(np.prod, 1, "Product of the elements that are not NaN.")
_instead_of_nan(np.cumsum, 0, "Running sum, to which NaN adds nothing.")
_instead_of_nan(np.cumprod, 1, "Running product, in which NaN counts as 1.")
_instead_of_nan(np.max, -math.inf, "Largest of the elements that are not NaN.")
_instead_of_nan(np.min, math.inf, "Smallest of the elements that are not NaN.")
_where_not_nan(np.mean, "Mean of the elements that are not NaN.")
_where_not_nan(np.var, "Variance of the elements that are not NaN.")
_where_not_nan(np.std, "Standard deviation of the elements that are not NaN.")


@composed
def cov(m, y=None, rowvar=True, bias=False, ddof=None, fweights=None, aweights=None, *, dtype=None):
    """Covariances of variables: the rows of m (and of y), or its columns (rowvar=False), in which the others are
    observations.  yᵢⱼ = Σₖ wₖ (xᵢₖ − x̄ᵢ) (xⱼₖ − x̄ⱼ) / (n − ddof)    ddof is 1, with `bias` 0; fweights says how often
    an observation was made, aweights what it counts.  In double precision, as NumPy's, unless a dtype is given."""
    xs = [cast(as_array(x), np.dtype(dtype or float)) for x in (m, y) if x is not None]
    if any(x.ndim > 2 for x in xs):
        raise ValueError("the variables are the rows of a matrix, and of no array of more than two axes")
    xs = [np.atleast_2d(x) if rowvar or x.ndim < 2 else x.T for x in xs]
    if not len(xs[0]):  # of no variables NumPy forgets y, too
        return np.zeros_like(xs[0], shape=(0, 0))
    x = np.concatenate(xs, axis=0) if len(xs) > 1 else xs[0]
    ddof = (0 if bias else 1) if ddof is None else ddof
    w = np.ones_like(x, shape=x.shape[1:])
    w = math.prod((as_array(given) for given in (fweights, aweights) if given is not None), start=w)
    n = w.sum()
    divisor = n - ddof * (1 if aweights is None else (w * aweights).sum() / n)
    x = x - ((x * w).sum(axis=1) / n)[:, None]
    return np.squeeze((x * w) @ x.T / np.maximum(divisor, 0))


@composed
def corrcoef(x, y=None, rowvar=True, *, dtype=None):
    """Correlations of variables, as `cov` takes them.  yᵢⱼ = cᵢⱼ / √(cᵢᵢ cⱼⱼ)"""
    c = cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return c / c
    deviations = np.sqrt(np.diagonal(c))
    return np.clip(c / deviations[:, None] / deviations, -1, 1)
