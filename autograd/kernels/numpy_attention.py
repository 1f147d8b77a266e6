"""NumPy in place: attention, and how heads that share keys and values are taken together, without copies of these."""

from __future__ import annotations

import math

import numpy as np

from .numpy import kernel, row_sum


@kernel("attention")
class Attention:
    """Saves the weights p; only without a mask, where every query sees a key, and for arrays whose leading axes
    and dtypes are the same, or k's and v's heads fewer."""

    @staticmethod
    def forward(executor, q, k, v, mask=None, causal=False, scale=None):
        if mask is not None or not heads_go_together(q, k, v) or not q.dtype == k.dtype == v.dtype \
                or causal and q.shape[-2] > k.shape[-2]:
            return None
        p = executor.empty(q, (*q.shape[:-1], k.shape[-2]))
        # In q's memory order, in which heads may lie side by side: to put them so again then takes no copy.
        y = executor.empty_like(q) if q.shape[-1] == v.shape[-1] else executor.empty(q, (*q.shape[:-1], v.shape[-1]))
        executor.run(_attention_forward, q, k, v, p, y, causal, 1 / math.sqrt(q.shape[-1]) if scale is None else scale)
        return y, p

    @staticmethod
    def backward(executor, needed, g, y, p, q, k, v, mask=None, causal=False, scale=None):
        s, dq, dk, dv = (executor.empty_like(a) for a in (p, q, k, v))
        executor.run(_attention_backward, g, y, p, q, k, v, s, dq, dk, dv, *of_each_head(executor, q, k, v),
                     1 / math.sqrt(q.shape[-1]) if scale is None else scale)
        return [(dq, dk, dv)[i] for i in needed]


def _attention_forward(q, k, v, p, y, causal, scale):
    q, k, v, p, y = by_shared_head(q, k, [q, k, v, p, y])
    np.matmul(q, k.mT, out=p)
    p *= scale
    if causal:
        t, s = p.shape[-2:]
        p += np.where(np.tri(t, s, s - t, dtype=bool), 0, -np.inf).astype(p.dtype)
    p -= p.max(axis=-1, keepdims=True)
    np.exp(p, out=p)
    p /= row_sum(p)
    np.matmul(p, v, out=y)


def _attention_backward(g, y, p, q, k, v, s, dq, dk, dv, each_dk, each_dv, scale):
    each_dk, each_dv = dk if each_dk is None else each_dk, dv if each_dv is None else each_dv
    g, y, p, q, k, v, s, dq = by_shared_head(q, k, [g, y, p, q, k, v, s, dq])
    np.matmul(p.mT, g, out=each_dv)
    np.matmul(g, v.mT, out=s)
    s -= np.vecdot(g, y)[..., None]
    s *= p
    s *= scale
    np.matmul(s, k, out=dq)
    np.matmul(s.mT, q, out=each_dk)
    sum_of_heads(each_dk, dk)
    sum_of_heads(each_dv, dv)


# ---------------------------------------------------------------------- heads that share keys and values


def heads_go_together(q, k, v):
    """Whether the leading axes are the same, or each head (axis −3) of k and v serves as many neighbours of q's."""
    if q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
        return True
    return q.ndim == k.ndim > 2 and q.shape[:-3] == k.shape[:-3] and k.shape[:-2] == v.shape[:-2] \
        and k.shape[-3] > 0 and q.shape[-3] % k.shape[-3] == 0


def by_shared_head(q, k, arrays):
    """Where k has fewer heads than q: `arrays` (…, H, ·, ·) as (…, G, H/G, ·, ·), G the heads of k, and those with k's
    heads repeated to fit, without a copy."""
    if q.shape[:-2] == k.shape[:-2]:
        return arrays
    n_shared, n = k.shape[-3], q.shape[-3] // k.shape[-3]

    def grouped(a):
        if a.shape[-3] != n_shared:
            return a.reshape(*a.shape[:-3], n_shared, n, *a.shape[-2:])
        return np.broadcast_to(a[..., None, :, :], (*a.shape[:-2], n, *a.shape[-2:]))
    return [grouped(a) for a in arrays]


def of_each_head(executor, q, k, v):
    """Arrays for the gradients of k and v by each head of q, if several share one; None otherwise."""
    if q.shape[:-2] == k.shape[:-2]:
        return None, None
    lead = (*k.shape[:-2], q.shape[-3] // k.shape[-3])
    return executor.empty(k, (*lead, *k.shape[-2:])), executor.empty(v, (*lead, *v.shape[-2:]))


def sum_of_heads(each, d):
    """Write into `d`, the gradient of k or v, the sum over the heads that share."""
    if each.ndim > d.ndim:
        np.add.reduce(each, axis=-3, out=d)
