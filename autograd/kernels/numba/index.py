"""Embedding by compiled loops."""

from __future__ import annotations

import numpy as np

from ..numpy.common import as_rows, contiguous
from . import loops
from .fitting import are_integers, as_int64, fit, kernel


@kernel("embedding")
class Embedding:
    """Kernel of embedding: checks and copies in one pass; the gradient adds each row where it belongs."""

    @staticmethod
    def forward(executor, ids, table):
        if not are_integers(ids) or type(table) is not np.ndarray or table.ndim != 2 or not fit(table):
            return None
        y, integers = executor.empty(table, (*ids.shape, table.shape[1])), as_int64(executor, ids)
        executor.run(_embedding_forward, integers, table, y)
        return y, integers

    @staticmethod
    def backward(executor, needed, g, y, integers, ids, table):
        d = executor.empty(table, table.shape)
        executor.run(_embedding_backward, contiguous(executor, g), integers, d)
        return [d]


def _embedding_forward(ids, table, y):
    ids = ids.reshape(-1)
    wrong = loops.embedding_forward(ids, table, as_rows(y))
    if wrong >= 0:
        raise IndexError(f"there is no row {ids[wrong]}: rows count from 0 to {table.shape[0] - 1}")


def _embedding_backward(g, ids, d):
    loops.embedding_backward(as_rows(g), ids.reshape(-1), d)
