"""Attention and rotary positions by compiled loops."""

from __future__ import annotations

import math

import numpy as np

from ...ops.network.layers import attention_scale
from ..numpy.attention import allocate_per_head, can_group_heads, group_heads, sum_heads
from . import layer_loops, loops
from .fitting import are_floats, as_four_axes, in_rows, is_real, kernel, of_four_axes

QUERIES = 64        # rows of attention's scores that are computed at a time, so that those no query sees are left out
SCORES = 1 << 17    # of these numbers are computed at a time, so that they stay in the processor's cache


# ---------------------------------------------------------------------- attention


@kernel("attention")
class Attention:
    """Kernel of attention; saves, of each query, the largest score and the sum of exponentials, and computes the
    weights again.  What a causal mask hides is left out, block by block, so that a NaN there may stay hidden.  Only
    without a mask, where every query sees a key, and for arrays whose leading axes and dtypes are the same, or k's and
    v's heads fewer."""

    @staticmethod
    def forward(executor, q, k, v, mask=None, causal=False, scale=None):
        scale = float(attention_scale(q, scale))
        if mask is not None or not q.dtype == k.dtype == v.dtype or not is_real(q.dtype) \
                or not can_group_heads(q, k, v) or not (q.size and k.size and v.size) \
                or causal and q.shape[-2] > k.shape[-2] or not scale > 0:
            return None
        stats = executor.empty(q, (*q.shape[:-1], 2))
        scores = executor.empty(q, (_batch_size(q, k), min(q.shape[-2], QUERIES), k.shape[-2]))
        # In q's memory order, in which heads may lie side by side: to put them so again then takes no copy.
        y = executor.empty_like(q) if q.shape[-1] == v.shape[-1] else executor.empty(q, (*q.shape[:-1], v.shape[-1]))
        executor.run(_attention_forward, q, k, v, scores, stats, y, causal, scale)
        return y, stats

    @staticmethod
    def backward(executor, needed, g, y, stats, q, k, v, mask=None, causal=False, scale=None):
        shape = _batch_size(q, k), q.shape[-2], k.shape[-2]
        scores, gradient = executor.empty(q, shape), executor.empty(q, shape)
        dq, dk, dv = (executor.empty_like(a) for a in (q, k, v))
        executor.run(_attention_backward, g, q, k, v, stats, scores, gradient, dq, dk, dv,
                     *allocate_per_head(executor, q, k, v), causal, float(attention_scale(q, scale)))
        return [(dq, dk, dv)[i] for i in needed]


def _batch_size(q, k):
    """Return the number of score matrices of a batch."""
    return min(math.prod(q.shape[:-2]), max(1, SCORES // (q.shape[-2] * k.shape[-2])))


def _batches(shape, n):
    """Yield indices that cut matrices with these leading axes into batches of at most `n`."""
    inner = math.prod(shape[1:])
    if not shape:
        yield ()
    elif inner <= n:
        yield from ((slice(i, i + n // inner),) for i in range(0, shape[0], n // inner))
    else:
        yield from ((i, *rest) for i in range(shape[0]) for rest in _batches(shape[1:], n))


def _blocks(q, k, causal):
    """Yield blocks of queries, as slices, with the number of keys that the last query sees."""
    t, s = q.shape[-2], k.shape[-2]
    for start in range(0, t, QUERIES):
        end = min(start + QUERIES, t)
        yield slice(start, end), end + s - t if causal else s


def _attention_forward(q, k, v, scores, stats, y, causal, scale):
    q, k, v, stats, y = group_heads(q, k, [q, k, v, stats, y])
    for batch in _batches(q.shape[:-2], len(scores)):
        _attention_forward_batch(q[batch], k[batch], v[batch], scores, stats[batch], y[batch], causal, scale)


def _attention_forward_batch(q, k, v, scores, stats, y, causal, scale):
    lead = q.shape[:-2]
    for rows, seen in _blocks(q, k, causal):
        n = rows.stop - rows.start
        p = scores.reshape(-1)[:math.prod(lead) * n * seen].reshape(*lead, n, seen)
        np.matmul(q[..., rows, :], k[..., :seen, :].mT, out=p)
        loops.softmax_forward(p.reshape(-1, n, seen), 0, n, seen, causal, scale, _matrices(stats[..., rows, :]))
        np.matmul(p, v[..., :seen, :], out=y[..., rows, :])


def _attention_backward(g, q, k, v, stats, scores, gradient, dq, dk, dv, each_dk, each_dv, causal, scale):
    each_dk, each_dv = dk if each_dk is None else each_dk, dv if each_dv is None else each_dv
    g, q, k, v, stats, dq = group_heads(q, k, [g, q, k, v, stats, dq])
    for batch in _batches(q.shape[:-2], len(scores)):
        _attention_backward_batch(g[batch], q[batch], k[batch], v[batch], stats[batch], scores, gradient,
                                 dq[batch], each_dk[batch], each_dv[batch], causal, scale)
    sum_heads(each_dk, dk)
    sum_heads(each_dv, dv)


def _attention_backward_batch(g, q, k, v, stats, scores, gradient, dq, dk, dv, causal, scale):
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


# ---------------------------------------------------------------------- rotary positions


@kernel("rotary")
class Rotary:
    """Kernel of rotary; saves the cosines and sines."""

    @staticmethod
    def forward(executor, x, angles):
        if x.ndim < 2 or x.shape[-1] % 2 or not are_floats(x) or not in_rows(x) or not are_floats(angles) \
                or angles.shape != (x.shape[-2], x.shape[-1] // 2):
            return None
        y, cos, sin = executor.empty_like(x), executor.empty(x, angles.shape), executor.empty(x, angles.shape)
        executor.run(_cos_and_sin, angles, cos, sin)
        executor.run(layer_loops.rotary, of_four_axes(x), cos, sin, 1.0, of_four_axes(y))
        return y, (cos, sin)

    @staticmethod
    def backward(executor, needed, g, y, saved, x, angles):
        dx = executor.empty_like(x)
        executor.run(layer_loops.rotary, as_four_axes(executor, g), *saved, -1.0, of_four_axes(dx))
        if 1 not in needed:
            return [dx]
        d = executor.empty(x, angles.shape)
        executor.run(layer_loops.rotary_angles, of_four_axes(x), of_four_axes(dx), d)
        if angles.dtype != x.dtype:
            in_x, d = d, executor.empty(angles, angles.shape)
            executor.run(np.copyto, d, in_x)
        return [(dx, d)[i] for i in needed]


def _cos_and_sin(angles, cos, sin):
    np.cos(angles, out=cos, casting="same_kind")
    np.sin(angles, out=sin, casting="same_kind")
