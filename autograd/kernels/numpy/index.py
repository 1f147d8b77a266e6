"""Embedding, split and scatter-add by NumPy."""

from __future__ import annotations

import numpy as np

from ...core.arrays import widen
from ...ops.index import check_ids
from .common import kernel

# ---------------------------------------------------------------------- rows of a table, and parts of an array


@kernel("embedding")
class Embedding:
    """Kernel of embedding: its gradient adds rows of one place together (np.add.at takes them one by one)."""

    @staticmethod
    def forward(executor, ids, table):
        if ids.dtype.kind not in "iu" or type(table) is not np.ndarray or table.ndim != 2:
            return None
        y = executor.empty(table, (*ids.shape, table.shape[1]))
        executor.run(_embedding_forward, ids, table, y)
        return y, None

    @staticmethod
    def backward(executor, needed, g, y, saved, ids, table):
        d = executor.empty(table, table.shape)
        executor.run(_embedding_backward, g, ids, d)
        return [d]


def _embedding_forward(ids, table, y):
    if ids.size == 1:
        valid = 0 <= ids.item() < len(table)
    else:
        valid = not ids.size or ids.view(f"u{ids.itemsize}").max() < len(table)  # which negative ones are not, either
    if not valid:
        check_ids(ids, table)
    _take_rows(table, ids, y, "clip")  # any other mode would take a detour through a copy


def _take_rows(x, ids, y, mode="raise"):
    ids = ids.astype(np.intp, copy=False)  # NumPy casts no larger integers: uint64 or, in a browser, int64
    x.take(ids, 0, y, mode)


def _embedding_backward(g, ids, d):
    if ids.size:
        _scatter_rows(g, ids, d)
    else:
        d.fill(0)


@kernel("split")
class Split:
    """Kernel of split: the parts are views; their gradients are written side by side."""

    @staticmethod
    def forward(executor, x, indices_or_sections, axis=0):
        if not isinstance(indices_or_sections, (list, tuple)) or not 0 <= axis < x.ndim:
            return tuple(np.split(x, indices_or_sections, axis=axis)), None
        lead, ends = (slice(None),) * axis, [*indices_or_sections, None]  # np.split takes three times as long
        return tuple([x[(*lead, slice(start, end))] for start, end in zip([0, *indices_or_sections], ends)]), None

    @staticmethod
    def backward(executor, needed, g, y, saved, x, indices_or_sections, axis=0):
        d = executor.empty_like(x)  # in its memory order, in which a view of x becomes one of d
        executor.run(_join, axis, d, *g)
        return [d]


def _join(axis, d, *parts):
    np.concatenate(parts, axis=axis, out=d)


# ---------------------------------------------------------------------- scatter-add


@kernel("scatter_add")
class ScatterAdd:
    """Kernel of scatter_add: whole rows by one integer array, as an embedding's gradient needs: sorted, so that those
    of one place are added together (np.add.at takes them one by one)."""

    @staticmethod
    def forward(executor, x, *index, shape=()):
        ids = index[0] if len(index) == 1 else None
        if not isinstance(ids, np.ndarray) or ids.dtype.kind not in "iu" or not ids.size \
                or x.shape != (*ids.shape, *shape[1:]):
            return None
        y = executor.empty(x, shape)
        executor.run(_scatter_rows, x, ids, y)
        return y, None

    @staticmethod
    def backward(executor, needed, g, y, saved, x, *index, shape=()):
        d = executor.empty(x, x.shape)
        executor.run(_take_rows, g, index[0], d)
        return [d]


def _scatter_rows(x, ids, y):
    rows = x.reshape(ids.size, *y.shape[1:])
    ids = ids.reshape(-1).astype(np.intp)  # small integers could not hold the number of rows
    ids = np.where(ids < 0, ids + len(y), ids)
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    y.fill(0)
    y[ids[starts]] = np.add.reduceat(widen(rows[order]), starts, axis=0)
