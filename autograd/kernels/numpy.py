"""NumPy in place: forward passes that save what backward needs, for the ops in which training spends its time.

Each class is a thin adapter: it asks the executor for arrays and hands them to procedures that only write into them.
`forward` returns None to decline, and the formula runs instead.  numpy_attention.py and numpy_layers.py have
more of them.
"""

from __future__ import annotations

import math

import numpy as np

from ..methods import REGISTRY
from ..ops.index import check_ids
from ..ops.network import checked_targets, normal_cdf, normal_density

BLOCK = 1 << 15  # elements worked on at a time, so that intermediate results stay in the processor's cache


def kernel(name):
    """Register the class below for NumPy's arrays."""
    return lambda pair: REGISTRY[name].kernels.setdefault(np.ndarray, pair)


def blocks(*arrays):
    """The same part of each array, one part after the other; the arrays are contiguous and of one shape."""
    flat = [a.reshape(-1) for a in arrays]
    for start in range(0, flat[0].size, BLOCK):
        yield [a[start:start + BLOCK] for a in flat]


def contiguous(executor, a):
    """`a`, or a copy of it, in C order."""
    if a.flags.c_contiguous:
        return a
    copy = executor.empty(a, a.shape)
    executor.run(np.copyto, copy, a)
    return copy


def row_sum(a):
    """Sums along the last axis, kept; on short rows several times as fast as `a.sum`."""
    return np.einsum("...i->...", a)[..., None]


# ---------------------------------------------------------------------- linear


@kernel("linear")
class Linear:
    """Matrix products written where they belong; only for arguments of one dtype."""

    @staticmethod
    def forward(executor, x, w, b):
        if w.ndim != 2 or x.shape[-1:] != w.shape[:1] or not x.dtype == w.dtype or x.dtype.kind != "f" \
                or b is not None and (b.shape, b.dtype) != (w.shape[1:], x.dtype):
            return None
        y = executor.empty(x, (*x.shape[:-1], w.shape[1]))
        executor.run(_linear_forward, x, w, b, y)
        return y, None

    @staticmethod
    def backward(executor, needed, g, y, saved, x, w, b):
        dx, dw, db = (executor.empty(a, a.shape) if i in needed else None for i, a in enumerate((x, w, b)))
        executor.run(_linear_backward, g, x, w, dx, dw, db)
        return [(dx, dw, db)[i] for i in needed]


def _rows(a):
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


def _linear_forward(x, w, b, y):
    np.matmul(_rows(x), w, out=_rows(y))
    if b is not None:
        y += b


def _linear_backward(g, x, w, dx, dw, db):
    if dx is not None:
        np.matmul(_rows(g), w.T, out=_rows(dx))
    if dw is not None:
        np.matmul(_rows(x).T, _rows(g), out=dw)
    if db is not None:
        np.einsum("ri->i", _rows(g), out=db)


# ---------------------------------------------------------------------- gelu


@kernel("gelu")
class Gelu:
    """Saves Φ(x), which forward computes anyway; only the exact form."""

    @staticmethod
    def forward(executor, x, approximate="none"):
        if approximate != "none" or not x.flags.c_contiguous or x.dtype.kind != "f":
            return None
        y, cdf = executor.empty(x, x.shape), executor.empty(x, x.shape)
        executor.run(_gelu_forward, x, y, cdf)
        return y, cdf

    @staticmethod
    def backward(executor, needed, g, y, cdf, x, approximate="none"):
        d = executor.empty(x, x.shape)
        executor.run(_gelu_backward, contiguous(executor, g), x, cdf, d)
        return [d]


def _gelu_forward(x, y, cdf):
    for x_part, y_part, cdf_part in blocks(x, y, cdf):
        np.copyto(cdf_part, normal_cdf(x_part, "none"))
        np.multiply(x_part, cdf_part, out=y_part)


def _gelu_backward(g, x, cdf, d):
    for g_part, x_part, cdf_part, d_part in blocks(g, x, cdf, d):
        np.copyto(d_part, normal_density(x_part))
        d_part *= x_part
        d_part += cdf_part
        d_part *= g_part


# ---------------------------------------------------------------------- layer norm


@kernel("layer_norm")
class LayerNorm:
    """Saves x̂ and 1/√(var x + eps); only for x, weight and bias of one dtype, whose sums of squares do not overflow as
    those of half precision do."""

    @staticmethod
    def forward(executor, x, weight, bias, eps=1e-5):
        given = [a for a in (weight, bias) if a is not None]
        if x.dtype.kind != "f" or x.dtype.itemsize < 4 \
                or any((a.dtype, a.shape) != (x.dtype, x.shape[-1:]) for a in given):
            return None
        y, normal, scale = (executor.empty(x, shape) for shape in (x.shape, x.shape, (*x.shape[:-1], 1)))
        executor.run(_layer_norm_forward, x, weight, bias, eps, y, normal, scale)
        return y, (normal, scale)

    @staticmethod
    def backward(executor, needed, g, y, saved, x, weight, bias, eps=1e-5):
        shapes = x.shape, x.shape[-1:], x.shape[-1:]
        dx, dw, db = (executor.empty(x, shape) if i in needed else None for i, shape in enumerate(shapes))
        executor.run(_layer_norm_backward, g, weight, *saved, executor.empty(x, x.shape), dx, dw, db)
        return [(dx, dw, db)[i] for i in needed]


def _layer_norm_forward(x, weight, bias, eps, y, normal, scale):
    n = x.shape[-1]
    np.subtract(x, row_sum(x) / n, out=normal)
    np.vecdot(normal, normal, out=scale[..., 0])
    scale /= n
    scale += eps
    np.sqrt(scale, out=scale)
    np.reciprocal(scale, out=scale)
    normal *= scale
    np.multiply(normal, 1 if weight is None else weight, out=y)
    if bias is not None:
        y += bias


def _layer_norm_backward(g, weight, normal, scale, scratch, dx, dw, db):
    n, rows = g.shape[-1], (math.prod(g.shape[:-1]), g.shape[-1])
    if db is not None:
        np.einsum("ri->i", g.reshape(rows), out=db)
    if dw is not None:
        np.einsum("ri,ri->i", g.reshape(rows), normal.reshape(rows), out=dw)
    if dx is not None:
        np.multiply(g, 1 if weight is None else weight, out=dx)
        stretch = np.vecdot(dx, normal)[..., None] / n
        dx -= row_sum(dx) / n
        np.multiply(normal, stretch, out=scratch)
        dx -= scratch
        dx *= scale


# ---------------------------------------------------------------------- cross-entropy


@kernel("cross_entropy")
class CrossEntropy:
    """Saves the probabilities; only for a mean or sum without label smoothing."""

    @staticmethod
    def forward(executor, logits, targets, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
        if label_smoothing or reduction not in ("mean", "sum") or not isinstance(targets, np.ndarray) \
                or targets.shape != logits.shape[:-1] or targets.dtype.kind not in "iu" or not logits.size \
                or logits.dtype.kind != "f":
            return None
        p, loss, scale = (executor.empty(logits, shape) for shape in (logits.shape, (), ()))
        executor.run(_cross_entropy_forward, logits, targets, ignore_index, reduction, p, loss, scale)
        return loss, (p, scale)

    @staticmethod
    def backward(executor, needed, g, y, saved, logits, targets, ignore_index=-100, label_smoothing=0.0,
                 reduction="mean"):
        d = executor.empty(logits, logits.shape)
        executor.run(_cross_entropy_backward, g, *saved, targets, ignore_index, d)
        return [d]


def _cross_entropy_forward(logits, targets, ignore_index, reduction, p, loss, scale):
    keep, places = checked_targets(logits, targets, ignore_index, reduction)
    np.subtract(logits, logits.max(axis=-1, keepdims=True), out=p)
    at_target = np.take_along_axis(p, places[..., None], -1)[..., 0]
    np.exp(p, out=p)
    total = row_sum(p)
    p /= total
    losses = np.where(keep, np.log(total[..., 0]) - at_target, 0)
    scale[...] = 1 / keep.sum() if reduction == "mean" else 1
    np.multiply(losses.sum(), scale, out=loss)


def _cross_entropy_backward(g, p, scale, targets, ignore_index, d):
    keep = targets != ignore_index
    places = np.where(keep, targets, 0)[..., None]
    np.copyto(d, p)
    np.put_along_axis(d, places, np.take_along_axis(d, places, -1) - 1, -1)
    d *= np.where(keep, g * scale, 0).astype(d.dtype)[..., None]


# ---------------------------------------------------------------------- rows of a table, and parts of an array


@kernel("embedding")
class Embedding:
    """Its gradient adds rows of one place together (np.add.at takes them one by one)."""

    @staticmethod
    def forward(executor, ids, table):
        if ids.dtype.kind not in "iu" or table.ndim != 2:
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
    check_ids(ids, table)
    np.take(table, ids, axis=0, out=y, mode="clip")  # any other mode would take a detour through a copy


def _embedding_backward(g, ids, d):
    if ids.size:
        _scatter_rows(_rows(g), ids.reshape(-1), d)
    else:
        d.fill(0)


@kernel("split")
class Split:
    """The parts are views; their gradients are written side by side."""

    @staticmethod
    def forward(executor, x, indices_or_sections, axis=0):
        return tuple(np.split(x, indices_or_sections, axis=axis)), None

    @staticmethod
    def backward(executor, needed, g, y, saved, x, indices_or_sections, axis=0):
        d = executor.empty(x, x.shape)
        executor.run(_join, axis, d, *g)
        return [d]


def _join(axis, d, *parts):
    np.concatenate(parts, axis=axis, out=d)


# ---------------------------------------------------------------------- scatter-add


@kernel("scatter_add")
class ScatterAdd:
    """Whole rows by one integer array, as an embedding's gradient needs: sorted, so that those of one place are added
    together (np.add.at takes them one by one)."""

    @staticmethod
    def forward(executor, x, *index, shape=()):
        ids = index[0] if len(index) == 1 else None
        if not isinstance(ids, np.ndarray) or ids.dtype.kind not in "iu" or not ids.size \
                or x.shape != (*ids.shape, *shape[1:]):
            return None
        y = executor.empty(x, shape)
        executor.run(_scatter_rows, x.reshape(ids.size, *shape[1:]), ids.reshape(-1), y)
        return y, None

    @staticmethod
    def backward(executor, needed, g, y, saved, x, *index, shape=()):
        d = executor.empty(x, x.shape)
        executor.run(np.take, g, index[0], 0, d)
        return [d]


def _scatter_rows(rows, ids, y):
    ids = ids.astype(np.intp)  # small integers could not hold the number of rows
    ids = np.where(ids < 0, ids + len(y), ids)
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    y.fill(0)
    y[ids[starts]] = np.add.reduceat(rows[order], starts, axis=0)
