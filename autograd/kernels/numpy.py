"""NumPy in place: forward passes that save what backward needs, for the ops in which training spends its time.

Each class is a thin adapter: it asks the executor for arrays and hands them to procedures that only write into them.
`forward` returns None to decline, and the formula runs instead.
"""

from __future__ import annotations

import math

import numpy as np

from ..methods import REGISTRY
from ..ops.network import normal_cdf, normal_density

BLOCK = 1 << 15  # elements worked on at a time, so that intermediate results stay in the processor's cache


def kernel(name):
    """Register the class below for NumPy's arrays."""
    return lambda pair: REGISTRY[name].kernels.setdefault(np.ndarray, pair)


def _blocks(*arrays):
    """The same part of each array, one part after the other; the arrays are contiguous and of one shape."""
    flat = [a.reshape(-1) for a in arrays]
    for start in range(0, flat[0].size, BLOCK):
        yield [a[start:start + BLOCK] for a in flat]


def _row_sum(a):
    """Sums along the last axis, kept; on short rows several times as fast as `a.sum`."""
    return np.einsum("...i->...", a)[..., None]


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
        executor.run(_gelu_backward, np.ascontiguousarray(g), x, cdf, d)
        return [d]


def _gelu_forward(x, y, cdf):
    for x_part, y_part, cdf_part in _blocks(x, y, cdf):
        np.copyto(cdf_part, normal_cdf(x_part, "none"))
        np.multiply(x_part, cdf_part, out=y_part)


def _gelu_backward(g, x, cdf, d):
    for g_part, x_part, cdf_part, d_part in _blocks(g, x, cdf, d):
        np.copyto(d_part, normal_density(x_part))
        d_part *= x_part
        d_part += cdf_part
        d_part *= g_part


# ---------------------------------------------------------------------- attention


@kernel("attention")
class Attention:
    """Saves the weights p; only without a mask, where every query sees a key, and for arrays whose leading axes
    and dtypes are the same."""

    @staticmethod
    def forward(executor, q, k, v, mask=None, causal=False, scale=None):
        if mask is not None or not q.shape[:-2] == k.shape[:-2] == v.shape[:-2] or not q.dtype == k.dtype == v.dtype \
                or causal and q.shape[-2] > k.shape[-2]:
            return None
        p = executor.empty(q, (*q.shape[:-1], k.shape[-2]))
        y = executor.empty(q, (*q.shape[:-1], v.shape[-1]))
        executor.run(_attention_forward, q, k, v, p, y, causal, 1 / math.sqrt(q.shape[-1]) if scale is None else scale)
        return y, p

    @staticmethod
    def backward(executor, needed, g, y, p, q, k, v, mask=None, causal=False, scale=None):
        s, dq, dk, dv = (executor.empty(a, a.shape) for a in (p, q, k, v))
        executor.run(_attention_backward, g, y, p, q, k, v, s, dq, dk, dv,
                     1 / math.sqrt(q.shape[-1]) if scale is None else scale)
        return [(dq, dk, dv)[i] for i in needed]


def _attention_forward(q, k, v, p, y, causal, scale):
    np.matmul(q, k.mT, out=p)
    p *= scale
    if causal:
        t, s = p.shape[-2:]
        p += np.where(np.tri(t, s, s - t, dtype=bool), 0, -np.inf).astype(p.dtype)
    p -= p.max(axis=-1, keepdims=True)
    np.exp(p, out=p)
    p /= _row_sum(p)
    np.matmul(p, v, out=y)


def _attention_backward(g, y, p, q, k, v, s, dq, dk, dv, scale):
    np.matmul(p.mT, g, out=dv)
    np.matmul(g, v.mT, out=s)
    s -= np.vecdot(g, y)[..., None]
    s *= p
    s *= scale
    np.matmul(s, k, out=dq)
    np.matmul(s.mT, q, out=dk)


# ---------------------------------------------------------------------- layer norm


@kernel("layer_norm")
class LayerNorm:
    """Saves x̂ and 1/√(var x + eps); only for x, weight and bias of one dtype."""

    @staticmethod
    def forward(executor, x, weight, bias, eps=1e-5):
        if x.dtype.kind != "f" or any(a is not None and (a.dtype, a.shape) != (x.dtype, x.shape[-1:])
                                      for a in (weight, bias)):
            return None
        y, normal, scale = (executor.empty(x, shape) for shape in (x.shape, x.shape, (*x.shape[:-1], 1)))
        executor.run(_layer_norm_forward, x, weight, bias, eps, y, normal, scale)
        return y, (normal, scale)

    @staticmethod
    def backward(executor, needed, g, y, saved, x, weight, bias, eps=1e-5):
        d, scratch = executor.empty(x, x.shape), executor.empty(x, x.shape)
        gradients = {0: d, 1: weight is not None and executor.empty(weight, weight.shape),
                     2: bias is not None and executor.empty(bias, bias.shape)}
        executor.run(_layer_norm_backward, needed, g, weight, *saved, scratch, gradients)
        return [gradients[i] for i in needed]


def _layer_norm_forward(x, weight, bias, eps, y, normal, scale):
    n = x.shape[-1]
    np.subtract(x, _row_sum(x) / n, out=normal)
    np.vecdot(normal, normal, out=scale[..., 0])
    scale /= n
    scale += eps
    np.sqrt(scale, out=scale)
    np.reciprocal(scale, out=scale)
    normal *= scale
    np.multiply(normal, 1 if weight is None else weight, out=y)
    if bias is not None:
        y += bias


def _layer_norm_backward(needed, g, weight, normal, scale, scratch, gradients):
    n, rows = g.shape[-1], (math.prod(g.shape[:-1]), g.shape[-1])
    if 2 in needed:
        np.einsum("ri->i", g.reshape(rows), out=gradients[2])
    if 1 in needed:
        np.einsum("ri,ri->i", g.reshape(rows), normal.reshape(rows), out=gradients[1])
    if 0 in needed:
        d = gradients[0]
        np.multiply(g, 1 if weight is None else weight, out=d)
        stretch = np.vecdot(d, normal)[..., None] / n
        d -= _row_sum(d) / n
        np.multiply(normal, stretch, out=scratch)
        d -= scratch
        d *= scale


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
        return [g[index]]


def _scatter_rows(rows, ids, y):
    ids = np.where(ids < 0, ids + len(y), ids)
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    y.fill(0)
    y[ids[starts]] = np.add.reduceat(rows[order], starts, axis=0)
