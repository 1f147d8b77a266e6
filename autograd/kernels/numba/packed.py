"""The linear layer on packed weights by compiled loops."""

from __future__ import annotations

import numpy as np

from ...core.packed import FEW, FORMATS, STEP, Packed
from ..numpy.common import as_rows, contiguous
from .fitting import kernel
from .packed_loops import LOOPS


@kernel("linear")
class PackedLinear:
    """Kernel of linear for packed weights, which are constants; any others are left to NumPy's."""

    @staticmethod
    def forward(executor, x, w, b):
        if type(w) is not Packed or not w.transposed or w.shape[1] < 2 or x.dtype != np.float32 or not x.size \
                or x.shape[-1:] != w.shape[:1] or b is not None and (b.shape, b.dtype) != (w.shape[1:], x.dtype):
            return None
        rows, weights = as_rows(contiguous(executor, x)), executor.constant(w.rows)
        y = executor.empty(x, (len(rows), w.shape[1]))
        if len(rows) <= FEW:
            sums = executor.empty(x, (w.shape[0] // FORMATS[w.format].n, 2))
            executor.run(LOOPS[w.format][0], rows, weights, sums, y)
        else:
            executor.run(_product, LOOPS[w.format][1], rows, weights, _scratch(executor, w), y)
        if b is not None:
            executor.run(np.add, y, b, y)
        return y.reshape(*x.shape[:-1], w.shape[1]), None

    @staticmethod
    def backward(executor, needed, g, y, saved, x, w, b):
        found = []
        for i in needed:
            d = executor.empty((x, w, b)[i], (x, w, b)[i].shape)
            if i == 0:
                rows = as_rows(contiguous(executor, g))
                executor.run(_gradient, LOOPS[w.format][1], rows, executor.constant(w.rows), _scratch(executor, w),
                             as_rows(d))
            else:
                executor.run(_sum_rows, g, d)
            found.append(d)
        return found


def _scratch(executor, w):
    """Return an array for some rows of w, widened."""
    n, length = w.shape[1], w.shape[0]
    return executor.empty(np.empty(0, np.float32), (min(n, max(1, STEP // length)), length))


def _product(widen, x, w, some, y):
    """y ← x wᵀ, some rows of w at a time."""
    for start in range(0, len(w), len(some)):
        stop = min(start + len(some), len(w))
        widen(w[start:stop], some[:stop - start])
        np.matmul(x, some[:stop - start].T, y[:, start:stop])


def _gradient(widen, g, w, some, d):
    """d ← g w, some rows of w at a time."""
    d.fill(0)
    for start in range(0, len(w), len(some)):
        stop = min(start + len(some), len(w))
        widen(w[start:stop], some[:stop - start])
        d += g[:, start:stop] @ some[:stop - start]


def _sum_rows(g, d):
    """d ← g, summed over all rows"""
    np.einsum("ri->i", as_rows(g), out=d)
