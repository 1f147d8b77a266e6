"""Ops that pick elements, and the scatter-add that is their transpose."""

from __future__ import annotations

import numpy as np

from ..engine import op


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
    y[index] += x"""
    y = np.zeros_like(x, shape=shape)
    if any(hasattr(i, "dtype") and i.dtype.kind in "iu" and i.ndim for i in index):  # may name a place twice
        np.add.at(y, index, x)
    else:
        y[index] = x
    return y


@scatter_add.gradient("x")
def _(g, y, x, *index, shape=()):
    """∂L/∂x = g[index]"""
    return g[index]


@op
def embedding(ids, table):
    """Rows of `table` (n, d) by integer `ids` (…) from 0 to n − 1 -> (…, d).  y = table[ids]"""
    if ids.size and ids.min() < 0:
        raise IndexError(f"id {ids.min()} is negative; rows count from 0 to {table.shape[0] - 1}")
    return table[ids]


@embedding.gradient("table")
def _(g, y, ids, table):
    """∂L/∂table[i] = the sum of g over all places that hold i"""
    return scatter_add(g, (ids,), shape=table.shape)


@op(differentiable=False)
def one_hot(ids, n):
    """Integer `ids` (…) as booleans (…, n).  y[…, j] = [ids = j]"""
    return ids[..., None] == np.arange(n, like=ids)
