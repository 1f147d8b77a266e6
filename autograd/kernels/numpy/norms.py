"""Layer norm and RMS norm by NumPy, in place."""

from __future__ import annotations

import math

import numpy as np

from ...ops.network.layers import normalize, rms_scale
from .common import are_floats, kernel, row_sum

# ---------------------------------------------------------------------- layer norm


@kernel("layer_norm")
class LayerNorm:
    """Kernel of layer_norm; saves x̂ and 1/√(var x + eps); only for x, weight and bias of one dtype, whose sums of
    squares do not overflow as those of half precision do."""

    @staticmethod
    def forward(executor, x, weight, bias, eps=1e-5):
        given = [a for a in (weight, bias) if a is not None]
        if not x.size or not eps > 0 or not are_floats(x, *given) or any(a.shape != x.shape[-1:] for a in given):
            return None
        y, normal, scale = (executor.empty(x, shape) for shape in (x.shape, x.shape, (*x.shape[:-1], 1)))
        one = x.size == x.shape[-1]
        arrays = [a.reshape(a.size) if one else a for a in (x, y, normal, scale)]
        executor.run(_layer_norm_row if one else _layer_norm_forward, *arrays, weight, bias, eps)
        return y, (normal, scale)

    @staticmethod
    def backward(executor, needed, g, y, saved, x, weight, bias, eps=1e-5):
        shapes = x.shape, x.shape[-1:], x.shape[-1:]
        dx, dw, db = (executor.empty(x, shape) if i in needed else None for i, shape in enumerate(shapes))
        executor.run(_layer_norm_backward, g, weight, *saved, executor.empty(x, x.shape), dx, dw, db)
        return [(dx, dw, db)[i] for i in needed]


def _layer_norm_row(x, y, normal, scale, weight, bias, eps):
    """For a single row, with numbers of Python, which are faster than arrays of one."""
    np.subtract(x, np.add.reduce(x) / x.size, normal)
    square = float(normal.dot(normal)) / x.size
    if square == math.inf:
        _layer_norm_forward(x, y, normal, scale, weight, bias, eps)
        return
    scale[0] = 1 / math.sqrt(square + eps)
    np.multiply(normal, scale, normal)
    np.multiply(normal, 1 if weight is None else weight, y)
    if bias is not None:
        np.add(y, bias, y)


def _layer_norm_forward(x, y, normal, scale, weight, bias, eps):
    n = x.shape[-1]
    np.subtract(x, row_sum(x) / n, out=normal)
    with np.errstate(over="ignore"):
        np.vecdot(normal, normal, out=scale[..., 0])
    scale /= n
    scale += eps
    np.sqrt(scale, out=scale)
    np.reciprocal(scale, out=scale)
    normal *= scale
    if np.count_nonzero(scale) < scale.size:  # a sum of squares has overflowed
        normal[...], scale[...] = normalize(x, eps)
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


# ---------------------------------------------------------------------- RMS norm


@kernel("rms_norm")
class RmsNorm:
    """Kernel of rms_norm; saves 1/√(mean x² + eps)."""

    @staticmethod
    def forward(executor, x, weight, eps=1e-5):
        given = [] if weight is None else [weight]
        if not x.size or not x.ndim or not eps > 0 or not are_floats(x, *given) \
                or any(a.shape != x.shape[-1:] for a in given):
            return None
        y, scale = executor.empty_like(x), executor.empty(x, (*x.shape[:-1], 1))
        one = x.size == x.shape[-1]
        arrays = [a.reshape(a.size) if one else a for a in (x, y, scale)]
        executor.run(_rms_norm_row if one else _rms_norm_forward, *arrays, weight, eps)
        return y, scale

    @staticmethod
    def backward(executor, needed, g, y, scale, x, weight, eps=1e-5):
        dx, scratch = executor.empty_like(x), executor.empty_like(x)
        dw = executor.empty(x, x.shape[-1:]) if 1 in needed else None
        executor.run(_rms_norm_backward, g, x, weight, scale, scratch, dx, dw)
        return [(dx, dw)[i] for i in needed]


def _rms_norm_row(x, y, scale, weight, eps):
    """For a single row, with numbers of Python, which are faster than arrays of one."""
    square = float(x.dot(x)) / x.size
    if square == math.inf:
        _rms_norm_forward(x, y, scale, weight, eps)
        return
    scale[0] = 1 / math.sqrt(square + eps)
    np.multiply(x, scale, y)
    if weight is not None:
        np.multiply(y, weight, y)


def _rms_norm_forward(x, y, scale, weight, eps):
    n = x.shape[-1]
    with np.errstate(over="ignore"):
        np.vecdot(x, x, scale[..., 0])
    scale += n * eps
    np.sqrt(scale, scale)
    np.divide(math.sqrt(n), scale, scale)
    if np.count_nonzero(scale) < scale.size:  # a sum of squares has overflowed
        scale[...] = rms_scale(x, eps)
    np.multiply(x, scale, out=y)
    if weight is not None:
        y *= weight


def _rms_norm_backward(g, x, weight, scale, scratch, dx, dw):
    if dw is not None:
        np.multiply(x, scale, out=scratch)
        scratch *= g
        np.add.reduce(scratch, axis=tuple(range(x.ndim - 1)), out=dw)
    np.multiply(g, 1 if weight is None else weight, out=dx)
    stretch = np.vecdot(dx, x)[..., None] * scale / x.shape[-1]
    np.multiply(x, scale * stretch, out=scratch)
    dx -= scratch
    dx *= scale
