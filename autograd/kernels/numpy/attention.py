"""Attention by NumPy, with grouped queries without copies of keys and values, and rotary positions (RoPE)."""

from __future__ import annotations

import functools

import numpy as np

from ...core.arrays import unbroadcast
from ...ops.network.layers import attention_scale
from .common import are_floats, kernel, row_sum, subtract_largest

# ---------------------------------------------------------------------- attention


@kernel("attention")
class Attention:
    """Kernel of attention; saves the weights p; only without a mask, where every query sees a key, and for arrays whose
    leading axes and dtypes are the same, or k's and v's heads fewer."""

    @staticmethod
    def forward(executor, q, k, v, mask=None, causal=False, scale=None):
        if mask is not None or not can_group_heads(q, k, v) or not are_floats(q, k, v) \
                or causal and q.shape[-2] > k.shape[-2]:
            return None
        p = executor.empty(q, (*q.shape[:-1], k.shape[-2]))
        # In q's memory order, in which heads may lie side by side: to put them so again then takes no copy.
        y = executor.empty_like(q) if q.shape[-1] == v.shape[-1] else executor.empty(q, (*q.shape[:-1], v.shape[-1]))
        executor.run(_attention_forward, q, k, v, p, y, causal, attention_scale(q, scale))
        return y, p

    @staticmethod
    def backward(executor, needed, g, y, p, q, k, v, mask=None, causal=False, scale=None):
        s, dq, dk, dv = (executor.empty_like(a) for a in (p, q, k, v))
        executor.run(_attention_backward, g, y, p, q, k, v, s, dq, dk, dv, *allocate_per_head(executor, q, k, v),
                     attention_scale(q, scale))
        return [(dq, dk, dv)[i] for i in needed]


def _attention_forward(q, k, v, p, y, causal, scale):
    q, k, v, p, y = group_heads(q, k, [q, k, v, p, y])
    np.matmul(q, k.mT, out=p)
    p *= scale
    if causal and p.shape[-2] > 1:
        p += _later(*p.shape[-2:], p.dtype)
    subtract_largest(p, p)
    np.exp(p, out=p)
    p /= np.maximum(row_sum(p), 1)
    np.matmul(p, v, out=y)


@functools.lru_cache(maxsize=1)
def _later(t, s, dtype):
    """−∞ where a causal mask hides a key, and 0 elsewhere; layer after layer the same."""
    return np.where(np.tri(t, s, s - t, dtype=bool), 0, -np.inf).astype(dtype)


def _attention_backward(g, y, p, q, k, v, s, dq, dk, dv, each_dk, each_dv, scale):
    each_dk, each_dv = dk if each_dk is None else each_dk, dv if each_dv is None else each_dv
    g, y, p, q, k, v, s, dq = group_heads(q, k, [g, y, p, q, k, v, s, dq])
    np.matmul(p.mT, g, out=each_dv)
    np.matmul(g, v.mT, out=s)
    s -= np.vecdot(g, y)[..., None]
    s *= p
    s *= scale
    np.matmul(s, k, out=dq)
    np.matmul(s.mT, q, out=each_dk)
    sum_heads(each_dk, dk)
    sum_heads(each_dv, dv)


# ---------------------------------------------------------------------- heads that share keys and values


def can_group_heads(q, k, v):
    """Return True if the leading axes are equal, or each head (axis −3) of k and v serves a group of q's (GQA)."""
    if q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
        return True
    return q.ndim == k.ndim > 2 and q.shape[:-3] == k.shape[:-3] and k.shape[:-2] == v.shape[:-2] \
        and k.shape[-3] > 0 and q.shape[-3] % k.shape[-3] == 0


def group_heads(q, k, arrays):
    """Return views of `arrays` in groups, where k has G heads and q more, H: (…, H, ·, ·) -> (…, G, H/G, ·, ·), and of
    those with k's heads (…, G, ·, ·) -> (…, G, H/G, ·, ·) by repetition."""
    if q.shape[:-2] == k.shape[:-2]:
        return arrays
    n_shared, n = k.shape[-3], q.shape[-3] // k.shape[-3]

    def group(a):
        if a.shape[-3] != n_shared:
            return a.reshape(*a.shape[:-3], n_shared, n, *a.shape[-2:])
        return np.broadcast_to(a[..., None, :, :], (*a.shape[:-2], n, *a.shape[-2:]))
    return [group(a) for a in arrays]


def allocate_per_head(executor, q, k, v):
    """Return arrays for the gradients of k and v from each head of q, if several share one; None otherwise."""
    if q.shape[:-2] == k.shape[:-2]:
        return None, None
    lead = (*k.shape[:-2], q.shape[-3] // k.shape[-3])
    return executor.empty(k, (*lead, *k.shape[-2:])), executor.empty(v, (*lead, *v.shape[-2:]))


def sum_heads(each, d):
    """Write into `d`, the gradient of k or v, the sum over the heads of q that share one of theirs."""
    if each.ndim > d.ndim:
        np.add.reduce(each, axis=-3, out=d)


# ---------------------------------------------------------------------- rotary positions


@kernel("rotary")
class Rotary:
    """Kernel of rotary; saves the cosines twice, for both halves of x, and the sines with both signs."""

    @staticmethod
    def forward(executor, x, angles):
        if x.ndim < 2 or x.shape[-1] % 2 or not are_floats(x) or not are_floats(angles) \
                or angles.shape[-2:] != (x.shape[-2], x.shape[-1] // 2) or angles.ndim > x.ndim:
            return None
        t, h = angles.shape[-2:]
        cos, sin = (executor.empty(x, (*angles.shape[:-2], t, 2, h)) for _ in range(2))
        executor.run(_cos_and_sin, angles, cos[..., 0, :], cos[..., 1, :], sin[..., 0, :], sin[..., 1, :])
        return _rotate(executor, np.add, x, cos, sin), (cos, sin)

    @staticmethod
    def backward(executor, needed, g, y, saved, x, angles):
        dx = _rotate(executor, np.subtract, g, *saved)
        if 1 not in needed:
            return [dx]
        d = executor.empty(angles, angles.shape)
        executor.run(_rotary_angles, x, dx, d)
        return [(dx, d)[i] for i in needed]


def _cos_and_sin(angles, cos, same_cos, negative_sin, sin):
    np.cos(angles, out=cos, casting="same_kind")
    np.positive(cos, same_cos)
    np.sin(angles, out=sin, casting="same_kind")
    np.negative(sin, negative_sin)


def _rotate(executor, ufunc, x, cos, sin):
    """Return x rotated: its halves times cosines, plus (or back: minus) the other halves times sines."""
    y, scratch = executor.empty_like(x), executor.empty_like(x)
    x, halves, scratch = (a.reshape(*a.shape[:-1], 2, a.shape[-1] // 2) for a in (x, y, scratch))
    executor.run(np.multiply, x, cos, halves)
    executor.run(np.multiply, x[..., ::-1, :], sin, scratch)
    executor.run(ufunc, halves, scratch, halves)
    return y


def _rotary_angles(x, dx, d):
    """Write the gradient of the angles: Σ x₁ ⊙ dx₂ − x₂ ⊙ dx₁, the VJP rule in terms of the gradient of x."""
    h = d.shape[-1]
    each = x[..., :h] * dx[..., h:]
    each -= x[..., h:] * dx[..., :h]
    d[...] = unbroadcast(each, d)
