"""Layer norm and RMS norm by compiled loops."""

from __future__ import annotations

import numpy as np

from ...ops.network.layers import normalize, rms_scale
from ..numpy.common import as_rows, contiguous
from . import layer_loops, loops
from .fitting import are_floats, as_four_axes, constant, fit, gain, in_rows, kernel, of_four_axes

# ---------------------------------------------------------------------- layer norm


@kernel("layer_norm")
class LayerNorm:
    """Kernel of layer_norm; saves each row's mean and 1/√(var + eps); only for x, weight and bias of one dtype."""

    @staticmethod
    def forward(executor, x, weight, bias, eps=1e-5):
        given = [a for a in (weight, bias) if a is not None]
        if not x.ndim or not eps > 0 or not fit(x, *given) or any(a.shape != x.shape[-1:] for a in given):
            return None
        y, stats = executor.empty(x, x.shape), executor.empty(x, (x.size // x.shape[-1], 2))
        bias = constant(executor, 0, x.shape[-1], x.dtype) if bias is None else bias
        executor.run(_layer_norm_forward, as_rows(x), gain(executor, x, weight), bias, float(eps), as_rows(y), stats)
        return y, stats

    @staticmethod
    def backward(executor, needed, g, y, stats, x, weight, bias, eps=1e-5):
        dx, dw, db = (executor.empty(x, shape) for shape in (x.shape, x.shape[-1:], x.shape[-1:]))
        executor.run(loops.layer_norm_backward, as_rows(contiguous(executor, g)), as_rows(x), gain(executor, x, weight),
                     stats, as_rows(dx), dw, db)
        return [(dx, dw, db)[i] for i in needed]


def _layer_norm_forward(x, weight, bias, eps, y, stats):
    loops.layer_norm_forward(x, weight, bias, eps, y, stats)
    if not stats[:, 1].all():  # a sum of squares has overflowed
        normal, stats[:, 1:] = normalize(x, eps)
        stats[:, 0] = np.sum(x / x.shape[1], axis=1)
        y[...] = normal * weight + bias


# ---------------------------------------------------------------------- RMS norm


@kernel("rms_norm")
class RmsNorm:
    """Kernel of rms_norm; saves one number a row.  Without a weight, backward takes it from y, and x is not needed any
    more."""

    @staticmethod
    def forward(executor, x, weight, eps=1e-5):
        given = [] if weight is None else [weight]
        if not x.ndim or not eps > 0 or not are_floats(x, *given) or not in_rows(x) or not all(
                a.shape == x.shape[-1:] and a.flags.c_contiguous for a in given):
            return None
        y, scales = executor.empty_like(x), executor.empty(x, of_four_axes(x).shape[:3])
        executor.run(_rms_norm_forward, of_four_axes(x), gain(executor, x, weight), float(eps), of_four_axes(y), scales)
        return y, scales

    @staticmethod
    def backward(executor, needed, g, y, scales, x, weight, eps=1e-5):
        dx, dw = executor.empty_like(x), executor.empty(x, x.shape[-1:] if 1 in needed else (0,))
        is_normed = weight is None
        executor.run(layer_loops.rms_norm_backward, as_four_axes(executor, g), of_four_axes(y if is_normed else x),
                     scales, is_normed, gain(executor, x, weight), of_four_axes(dx), dw)
        return [(dx, dw)[i] for i in needed]


def _rms_norm_forward(x, weight, eps, y, scales):
    layer_loops.rms_norm_forward(x, weight, eps, y, scales)
    if not scales.all():  # a sum of squares has overflowed
        scale = rms_scale(x, eps)
        scales[...], y[...] = scale[..., 0], x * scale * weight
