"""The linear layer by NumPy, its matrix products written into their destination."""

from __future__ import annotations

import sys

import numpy as np

from .common import are_floats, as_rows, contiguous, kernel


def sum_rows(x, y, out):
    """Write the product x y into `out`, each element summed along a row of x and one of yᵀ."""
    if len(x) < 16:  # a copy of yᵀ would take longer
        np.matmul(x, y, out=out)
    else:
        np.einsum("ik,jk->ij", np.ascontiguousarray(x), np.ascontiguousarray(y.T), out=out)


# A browser's NumPy has no BLAS, and loops of its own that go down the columns of y.  Its einsum, along rows, takes as
# little as a sixth of their time where a matrix has hundreds of columns.
dot, matmul = (sum_rows, sum_rows) if sys.platform == "emscripten" else (np.dot, np.matmul)


@kernel("linear")
class Linear:
    """Kernel of linear: matrix products written where they belong; only for arguments of one dtype."""

    @staticmethod
    def forward(executor, x, w, b):
        if w.ndim != 2 or x.shape[-1:] != w.shape[:1] or not are_floats(x, w) \
                or b is not None and (b.shape, b.dtype) != (w.shape[1:], x.dtype):
            return None
        rows = as_rows(contiguous(executor, x))
        y = executor.empty(x, (len(rows), w.shape[1]))
        executor.run(dot, rows, w, y)
        if b is not None:
            executor.run(np.add, y, b, y)
        return y.reshape(*x.shape[:-1], w.shape[1]), None

    @staticmethod
    def backward(executor, needed, g, y, saved, x, w, b):
        dx, dw, db = (executor.empty(a, a.shape) if i in needed else None for i, a in enumerate((x, w, b)))
        executor.run(_linear_backward, g, x, w, dx, dw, db)
        return [(dx, dw, db)[i] for i in needed]


def _linear_backward(g, x, w, dx, dw, db):
    if dx is not None:
        matmul(as_rows(g), w.T, out=as_rows(dx))
    if dw is not None:
        matmul(as_rows(x).T, as_rows(g), out=dw)
    if db is not None:
        np.einsum("ri->i", as_rows(g), out=db)
