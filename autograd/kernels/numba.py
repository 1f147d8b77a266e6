"""Compiled loops for the hot ops, which save little for backward and compute it again instead.

Each class is a thin adapter, like those of numpy.py: it asks the executor for arrays and hands them to procedures that
only write into them; the loops themselves are in loops.py.  `forward` returns None for what the loops do not take.
numba_layers.py has more of them.
"""

from __future__ import annotations

import math

import numpy as np

from . import loops, numba_layers  # noqa: F401 (its pairs enter themselves)
from .fitting import PAIRS, as_rows, constant, fit, flat, gain, kernel
from .numpy import contiguous
from .numpy_attention import by_shared_head, heads_go_together, of_each_head, sum_of_heads

__all__ = ["PAIRS"]

QUERIES = 64        # rows of attention's scores that are computed at a time, so that those no query sees are left out
SCORES = 1 << 17    # of these numbers are computed at a time, so that they stay in the processor's cache


def _are_integers(a):
    return isinstance(a, np.ndarray) and a.dtype.kind in "iu"


def _as_int64(executor, a):
    """`a`, or a copy of it, as the loops take integers."""
    if a.dtype == np.int64 and a.flags.c_contiguous and a.flags.aligned:
        return a
    copy = executor.empty(a, a.shape, np.int64)
    executor.run(np.copyto, copy, a)
    return copy


# ---------------------------------------------------------------------- gelu


@kernel("gelu")
class Gelu:
    """Saves nothing: backward computes Φ(x) again; only the exact form, in single precision (in double, NumPy's is
    faster)."""

    @staticmethod
    def forward(executor, x, approximate="none"):
        if approximate != "none" or not fit(x) or x.dtype != np.float32:
            return None
        y = executor.empty(x, x.shape)
        executor.run(loops.gelu_forward, flat(x), flat(y))
        return y, None

    @staticmethod
    def backward(executor, needed, g, y, saved, x, approximate="none"):
        d = executor.empty(x, x.shape)
        executor.run(loops.gelu_backward, flat(contiguous(executor, g)), flat(x), flat(d))
        return [d]


# ---------------------------------------------------------------------- layer norm


@kernel("layer_norm")
class LayerNorm:
    """Saves each row's mean and 1/√(var + eps); only for x, weight and bias of one dtype."""

    @staticmethod
    def forward(executor, x, weight, bias, eps=1e-5):
        given = [a for a in (weight, bias) if a is not None]
        if not x.ndim or not fit(x, *given) or any(a.shape != x.shape[-1:] for a in given):
            return None
        y, stats = executor.empty(x, x.shape), executor.empty(x, (x.size // x.shape[-1], 2))
        bias = constant(executor, 0, x.shape[-1], x.dtype) if bias is None else bias
        executor.run(loops.layer_norm_forward, as_rows(x), gain(executor, x, weight), bias, float(eps), as_rows(y),
                     stats)
        return y, stats

    @staticmethod
    def backward(executor, needed, g, y, stats, x, weight, bias, eps=1e-5):
        dx, dw, db = (executor.empty(x, shape) for shape in (x.shape, x.shape[-1:], x.shape[-1:]))
        executor.run(loops.layer_norm_backward, as_rows(contiguous(executor, g)), as_rows(x), gain(executor, x, weight),
                     stats, as_rows(dx), dw, db)
        return [(dx, dw, db)[i] for i in needed]


# ---------------------------------------------------------------------- attention


@kernel("attention")
class Attention:
    """Saves, of each query, the largest score and the sum of exponentials, and computes the weights again.  What a
    causal mask hides is left out, block by block, so that a NaN there may stay hidden.  Only without a mask, where
    every query sees a key, and for arrays whose leading axes and dtypes are the same, or k's and v's heads fewer."""

    @staticmethod
    def forward(executor, q, k, v, mask=None, causal=False, scale=None):
        scale = _attention_scale(q, scale)
        if mask is not None or not q.dtype == k.dtype == v.dtype or q.dtype not in (np.float32, np.float64) \
                or not heads_go_together(q, k, v) or not (q.size and k.size and v.size) \
                or causal and q.shape[-2] > k.shape[-2] or not scale > 0:
            return None
        stats = executor.empty(q, (*q.shape[:-1], 2))
        scores = executor.empty(q, (_at_once(q, k), min(q.shape[-2], QUERIES), k.shape[-2]))
        # In q's memory order, in which heads may lie side by side: to put them so again then takes no copy.
        y = executor.empty_like(q) if q.shape[-1] == v.shape[-1] else executor.empty(q, (*q.shape[:-1], v.shape[-1]))
        executor.run(_attention_forward, q, k, v, scores, stats, y, causal, scale)
        return y, stats

    @staticmethod
    def backward(executor, needed, g, y, stats, q, k, v, mask=None, causal=False, scale=None):
        shape = _at_once(q, k), q.shape[-2], k.shape[-2]
        scores, gradient = executor.empty(q, shape), executor.empty(q, shape)
        dq, dk, dv = (executor.empty_like(a) for a in (q, k, v))
        executor.run(_attention_backward, g, q, k, v, stats, scores, gradient, dq, dk, dv,
                     *of_each_head(executor, q, k, v), causal, _attention_scale(q, scale))
        return [(dq, dk, dv)[i] for i in needed]


def _attention_scale(q, scale):
    return 1 / math.sqrt(q.shape[-1] or 1) if scale is None else float(scale)


def _at_once(q, k):
    """How many matrices of scores are worked on at once."""
    return min(math.prod(q.shape[:-2]), max(1, SCORES // (q.shape[-2] * k.shape[-2])))


def _parts(shape, n):
    """Indices that cut matrices with these leading axes into parts of at most `n`."""
    inner = math.prod(shape[1:])
    if not shape:
        yield ()
    elif inner <= n:
        yield from ((slice(i, i + n // inner),) for i in range(0, shape[0], n // inner))
    else:
        yield from ((i, *rest) for i in range(shape[0]) for rest in _parts(shape[1:], n))


def _blocks(q, k, causal):
    """Rows of queries, as slices, and how many keys the last of them sees, from the first."""
    t, s = q.shape[-2], k.shape[-2]
    for start in range(0, t, QUERIES):
        end = min(start + QUERIES, t)
        yield slice(start, end), end + s - t if causal else s


def _attention_forward(q, k, v, scores, stats, y, causal, scale):
    q, k, v, stats, y = by_shared_head(q, k, [q, k, v, stats, y])
    for part in _parts(q.shape[:-2], len(scores)):
        _attention_forward_part(q[part], k[part], v[part], scores, stats[part], y[part], causal, scale)


def _attention_forward_part(q, k, v, scores, stats, y, causal, scale):
    lead = q.shape[:-2]
    for rows, seen in _blocks(q, k, causal):
        n = rows.stop - rows.start
        p = scores.reshape(-1)[:math.prod(lead) * n * seen].reshape(*lead, n, seen)
        np.matmul(q[..., rows, :], k[..., :seen, :].mT, out=p)
        loops.softmax_forward(p.reshape(-1, n, seen), 0, n, seen, causal, scale, _matrices(stats[..., rows, :]))
        np.matmul(p, v[..., :seen, :], out=y[..., rows, :])


def _attention_backward(g, q, k, v, stats, scores, gradient, dq, dk, dv, each_dk, each_dv, causal, scale):
    each_dk, each_dv = dk if each_dk is None else each_dk, dv if each_dv is None else each_dv
    g, q, k, v, stats, dq = by_shared_head(q, k, [g, q, k, v, stats, dq])
    for part in _parts(q.shape[:-2], len(scores)):
        _attention_backward_part(g[part], q[part], k[part], v[part], stats[part], scores, gradient,
                                 dq[part], each_dk[part], each_dv[part], causal, scale)
    sum_of_heads(each_dk, dk)
    sum_of_heads(each_dv, dv)


def _attention_backward_part(g, q, k, v, stats, scores, gradient, dq, dk, dv, causal, scale):
    lead = q.shape[:-2]
    p, d = (a[:math.prod(lead)].reshape(*lead, *a.shape[1:]) for a in (scores, gradient))
    for rows, seen in _blocks(q, k, causal):
        np.matmul(q[..., rows, :], k[..., :seen, :].mT, out=p[..., rows, :seen])
        np.matmul(g[..., rows, :], v[..., :seen, :].mT, out=d[..., rows, :seen])
        loops.softmax_backward(_matrices(p), _matrices(d), rows.start, rows.stop - rows.start, seen, causal, scale,
                               _matrices(stats[..., rows, :]))
        np.matmul(d[..., rows, :seen], k[..., :seen, :], out=dq[..., rows, :])
    before = 0
    for rows, seen in _blocks(q, k, causal):  # the keys that no row before these sees
        if before < seen:
            keys, later = slice(before, seen), slice(rows.start, None)
            np.matmul(p[..., later, keys].mT, g[..., later, :], out=dv[..., keys, :])
            np.matmul(d[..., later, keys].mT, q[..., later, :], out=dk[..., keys, :])
            before = seen


def _matrices(a):
    return a.reshape(-1, *a.shape[-2:])


# ---------------------------------------------------------------------- cross-entropy


@kernel("cross_entropy")
class CrossEntropy:
    """Saves, of each row, the largest number and the sum of exponentials; only for a mean or sum without label
    smoothing."""

    @staticmethod
    def forward(executor, logits, targets, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
        if label_smoothing or reduction not in ("mean", "sum") or not _are_integers(targets) \
                or not isinstance(ignore_index, int) or not fit(logits) or targets.shape != logits.shape[:-1]:
            return None
        targets = _as_int64(executor, targets)
        stats, loss, scale = (executor.empty(logits, shape) for shape in ((targets.size, 2), (), ()))
        executor.run(_cross_entropy_forward, logits, targets, ignore_index, reduction, stats, loss, scale)
        return loss, (targets, stats, scale)

    @staticmethod
    def backward(executor, needed, g, y, saved, logits, targets, ignore_index=-100, label_smoothing=0.0,
                 reduction="mean"):
        d = executor.empty(logits, logits.shape)
        executor.run(_cross_entropy_backward, g, logits, *saved, ignore_index, d)
        return [d]


def _cross_entropy_forward(logits, targets, ignore_index, reduction, stats, loss, scale):
    targets = targets.reshape(-1)
    wrong = loops.cross_entropy_forward(as_rows(logits), targets, ignore_index, reduction == "mean", stats,
                                        loss.reshape(1), scale.reshape(1))
    if wrong >= 0:
        raise IndexError(f"target {targets[wrong]} is no class: classes count from 0 to {logits.shape[-1] - 1}, "
                         f"ignore_index is {ignore_index}")


def _cross_entropy_backward(g, logits, targets, stats, scale, ignore_index, d):
    loops.cross_entropy_backward(float(g), as_rows(logits), targets.reshape(-1), ignore_index, stats, scale.reshape(1),
                                 as_rows(d))


# ---------------------------------------------------------------------- rows of a table


@kernel("embedding")
class Embedding:
    """Checks and copies in one pass; the gradient adds each row where it belongs."""

    @staticmethod
    def forward(executor, ids, table):
        if not _are_integers(ids) or table.ndim != 2 or not fit(table):
            return None
        y, integers = executor.empty(table, (*ids.shape, table.shape[1])), _as_int64(executor, ids)
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
