"""Indexing ops, and scatter-add, their transpose."""

from __future__ import annotations

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..core.arrays import narrow, widen
from ..core.registry import NUMPY_OVERRIDES
from ..define import composed, op
from .elementwise import as_array

_ONCE = (int, np.integer, slice, type(None), type(Ellipsis))  # what names no place twice, as boolean arrays do not


@op
def getitem(x, *index):
    """Elements by anything NumPy indexes with: numbers, slices, `...`, None, integer and boolean arrays.
    y = x[index]"""
    return x[index]

@getitem.gradient("x")
def _(g, y, x, *index):
    """∂L/∂x = g added at the places it was taken from, 0 elsewhere"""
    return scatter_add(g, index, shape=x.shape)


@op
def scatter_add(x, *index, shape=()):
    """The transpose of indexing: zeros of `shape`, with x added at `index`; a place named twice gets both.
    y = 0, then y[index] += x"""
    y = np.zeros_like(widen(x), shape=shape)
    if all(isinstance(i, _ONCE) or getattr(getattr(i, "dtype", None), "kind", "") == "b" for i in index):
        y[index] = x
    else:
        np.add.at(y, index, widen(x))
    return narrow(y, x)

@scatter_add.gradient("x")
def _(g, y, x, *index, shape=()):
    """∂L/∂x = g[index]"""
    return _match_assigned(g[index], x)


def _match_assigned(d, v):
    """Return the gradient `d` of an assigned array, with the leading axes of length 1 that v may have in addition."""
    return d.reshape((1,) * (v.ndim - d.ndim) + d.shape)


@op
def put(x, v, *index):
    """A copy of x with v at the places x[index]; for a place named twice the later one counts.
    y = x, then y[index] = v    (`array[index] = v` for Tensors, which do not change.)"""
    y = np.broadcast_to(x, x.shape).copy()
    y[index] = v
    return y

@put.gradient("x")
def _(g, y, x, v, *index):
    """∂L/∂x = g, and 0 at the places that v took"""
    return put(g, 0, index)

@put.gradient("v")
def _(g, y, x, v, *index):
    """∂L/∂v = g[index], and 0 for elements of v that later ones have overwritten"""
    return _match_assigned(np.where(last_written(x, index), g[index], 0), v)


@op(differentiable=False)
def last_written(x, *index):
    """Mask of the elements of v that remain in y after y[index] = v, for y of x's shape: no later one overwrote
    them."""
    places, order = np.zeros_like(x, dtype=int), np.arange(x[index].size, like=x).reshape(x[index].shape)
    places[index] = order
    return places[index] == order


for _op in (getitem, scatter_add, put, last_written):
    _op.unpacked = tuple  # a list is one index


@op
def embedding(ids, table):
    """Rows of `table` (n, d) by integer `ids` (…) from 0 to n − 1 -> (…, d).  y = table[ids]"""
    check_ids(ids, table)
    return table[ids]


def check_ids(ids, table):
    """Raise IndexError for an id that is no row, TypeError unless they are integers."""
    if ids.dtype.kind not in "iu":
        raise TypeError(f"ids are integers, not {ids.dtype}")
    if ids.size and (ids.min() < 0 or ids.max() >= table.shape[0]):
        outside = ids.min() if ids.min() < 0 else ids.max()
        raise IndexError(f"there is no row {outside}: " + (f"rows count from 0 to {table.shape[0] - 1}" if len(table)
                         else f"a table of shape {table.shape} has none"))

@embedding.gradient("table")
def _(g, y, ids, table):
    """∂L/∂table[i] = the sum of g over all places that hold i"""
    return scatter_add(g, (ids,), shape=table.shape)


@op(differentiable=False)
def one_hot(ids, n):
    """Integer `ids` (…) as booleans (…, n).  y[…, j] = [ids = j]"""
    return ids[..., None] == np.arange(n, like=ids)


def _along_axis(x, indices, axis):
    """Return the index that takes from each row along `axis` its own places."""
    if indices.ndim != x.ndim:
        raise ValueError(f"indices of shape {indices.shape} need as many axes as x of shape {x.shape}")
    rows = [np.arange(n).reshape([-1 if i == j else 1 for j in range(x.ndim)]) for i, n in enumerate(x.shape)]
    axis = normalize_axis_index(axis, x.ndim)
    return tuple(indices if i == axis else row for i, row in enumerate(rows))


@op
def top_k(x, k, axis=-1):
    """The k largest elements along `axis`, largest first, and their places: (values, indices).  y = (x[i], i)    Of
    equal ones the first come first, and NaN counts as the largest, as in `jax.lax.top_k`.  Places are constants."""
    n = x.shape[normalize_axis_index(axis, x.ndim)]
    if not 0 <= k <= n:
        raise ValueError(f"there are {n} elements along axis {axis}, from which k = {k} cannot be taken")
    # Ascending from the end and then reversed, since the negative of an unsigned integer or of NaN is no smaller.
    ascending = n - 1 - np.argsort(np.flip(x, axis), axis=axis, kind="stable")
    indices = np.take(np.flip(ascending, axis), np.arange(k, like=ascending), axis=axis)
    return np.take_along_axis(x, indices, axis=axis), indices

@top_k.gradient("x")
def _(g, y, x, k, axis=-1):
    """∂L/∂x = g₀ at the places y₁, 0 elsewhere"""
    return scatter_add(g[0], _along_axis(x, y[1], axis), shape=x.shape)


def slice_along(axis, *ends):
    """Return the index of a slice along `axis`, which is not negative."""
    return (slice(None),) * axis + (slice(*ends),)


# ---------------------------------------------------------------------- composed


@composed
def take(x, indices, axis=None):
    """Elements at integer places along `axis` (None: of all elements in order)."""
    x, axis = (np.ravel(x), 0) if axis is None else (x, normalize_axis_index(axis, x.ndim))
    indices = indices if hasattr(indices, "shape") else np.asarray(indices, int)
    indices = indices.astype(int) if indices.dtype == bool else indices  # places 0 and 1, as NumPy has it: no mask
    return getitem(x, (slice(None),) * axis + (indices,))


@composed
def take_along_axis(x, indices, axis=-1):
    """For each row along `axis` the elements at its own integer places (axis None: of all elements in order)."""
    x, axis = (np.ravel(x), 0) if axis is None else (x, axis)
    return getitem(x, _along_axis(x, indices, axis))


@composed(implements=())
def put_along_axis(x, indices, values, axis=-1):
    """A copy of x with `values` at each row's own integer places along `axis`."""
    return put(x, values, _along_axis(x, indices, axis))


@composed
def sort(x, axis=-1, kind=None, stable=None):
    """Elements in order along `axis` (None: of all elements), smallest first, NaN last.  Equal ones keep their order,
    and their gradients."""
    x, axis = (np.ravel(x), 0) if axis is None else (x, axis)
    return np.take_along_axis(x, np.argsort(x, axis=axis, kind="stable"), axis=axis)


@composed
def partition(x, kth, axis=-1):
    """Elements with the smallest ones up to place `kth` before the others, along `axis` (None: of all elements)."""
    x, axis = (np.ravel(x), 0) if axis is None else (x, axis)
    return np.take_along_axis(x, np.argpartition(x, kth, axis=axis), axis=axis)


@composed
def compress(condition, x, axis=None):
    """The places along `axis` (None: of all elements in order) where the 1-D `condition` holds."""
    return np.take(x, np.flatnonzero(condition), axis=axis)


@composed
def extract(condition, x):
    """All elements where `condition` holds, in order."""
    return np.compress(np.ravel(condition), x)


@composed
def select(condlist, choicelist, default=0):
    """For each place the choice whose condition is the first to hold there, or `default`."""
    if len(condlist) != len(choicelist):
        raise ValueError(f"{len(condlist)} conditions and {len(choicelist)} choices: each condition needs one")
    y = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist)):
        y = np.where(condition, choice, y)
    return y


@composed
def choose(a, choices, mode="raise"):
    """For each place the choice with the number that the integer array `a` holds there."""
    a, n = as_array(a), len(choices)
    if a.dtype.kind not in "iub":
        raise TypeError(f"choices are numbered by integers, not {a.dtype}")
    a = a % n if mode == "wrap" else np.clip(a, 0, n - 1) if mode == "clip" else a
    if mode not in ("wrap", "clip") and np.any((a < 0) | (a >= n)):
        raise ValueError(f"a choice below 0 or above {n - 1}")
    last = as_array(choices[-1])
    return select([a == i for i in range(n - 1)], choices[:-1],
                  np.broadcast_to(last, np.broadcast_shapes(a.shape, last.shape)))


def _in_place(function, instead):
    def refuse(*args, **kwargs):
        raise TypeError(f"np.{function.__name__} changes its argument, and a Tensor does not change: {instead} returns "
                        "a new one")
    NUMPY_OVERRIDES[function] = refuse


_in_place(np.put, "ag.put(x, v, index)")
_in_place(np.put_along_axis, "ag.put_along_axis(x, indices, values, axis)")
_in_place(np.place, "np.where(mask, new, x)")
_in_place(np.putmask, "np.where(mask, new, x)")
_in_place(np.copyto, "np.where(mask, new, x)")
_in_place(np.fill_diagonal, "ag.put(x, v, (i, i))")
