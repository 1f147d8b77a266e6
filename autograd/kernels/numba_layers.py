"""More adapters of compiled loops: RMS norm, rotary positions, squared relu and the causal convolution."""

from __future__ import annotations

import math

import numpy as np

from . import layer_loops as loops
from .fitting import are_floats, fit, flat, gain, in_rows, kernel, of_four_axes
from .numpy import contiguous


def _in_rows(executor, a):
    """`a`, or a copy of it, as the loops go through rows."""
    return of_four_axes(a if in_rows(a) else contiguous(executor, a))


# ---------------------------------------------------------------------- RMS norm


@kernel("rms_norm")
class RmsNorm:
    """Saves one number a row.  Without a weight, backward takes it from y, and x is not needed any more."""

    @staticmethod
    def forward(executor, x, weight, eps=1e-5):
        given = [] if weight is None else [weight]
        if not x.ndim or not are_floats(x, *given) or not in_rows(x) or not all(
                a.shape == x.shape[-1:] and a.flags.c_contiguous for a in given):
            return None
        y, scales = executor.empty_like(x), executor.empty(x, of_four_axes(x).shape[:3])
        executor.run(loops.rms_norm_forward, of_four_axes(x), gain(executor, x, weight), float(eps), of_four_axes(y),
                     scales)
        return y, scales

    @staticmethod
    def backward(executor, needed, g, y, scales, x, weight, eps=1e-5):
        dx, dw = executor.empty_like(x), executor.empty(x, x.shape[-1:] if 1 in needed else (0,))
        is_normed = weight is None
        executor.run(loops.rms_norm_backward, _in_rows(executor, g), of_four_axes(y if is_normed else x), scales,
                     is_normed, gain(executor, x, weight), of_four_axes(dx), dw)
        return [(dx, dw)[i] for i in needed]


# ---------------------------------------------------------------------- rotary positions


@kernel("rotary")
class Rotary:
    """Saves the cosines and sines."""

    @staticmethod
    def forward(executor, x, angles):
        if x.ndim < 2 or x.shape[-1] % 2 or not are_floats(x) or not in_rows(x) or not are_floats(angles) \
                or angles.shape != (x.shape[-2], x.shape[-1] // 2):
            return None
        y, cos, sin = executor.empty_like(x), executor.empty(x, angles.shape), executor.empty(x, angles.shape)
        executor.run(_cos_and_sin, angles, cos, sin)
        executor.run(loops.rotary, of_four_axes(x), cos, sin, 1.0, of_four_axes(y))
        return y, (cos, sin)

    @staticmethod
    def backward(executor, needed, g, y, saved, x, angles):
        dx = executor.empty_like(x)
        executor.run(loops.rotary, _in_rows(executor, g), *saved, -1.0, of_four_axes(dx))
        if 1 not in needed:
            return [dx]
        d = executor.empty(x, angles.shape)
        executor.run(loops.rotary_angles, of_four_axes(x), of_four_axes(dx), d)
        return [(dx, d)[i] for i in needed]


def _cos_and_sin(angles, cos, sin):
    np.cos(angles, out=cos, casting="same_kind")
    np.sin(angles, out=sin, casting="same_kind")


# ---------------------------------------------------------------------- squared relu


@kernel("squared_relu")
class SquaredRelu:
    """Saves nothing."""

    @staticmethod
    def forward(executor, x):
        if not fit(x):
            return None
        y = executor.empty(x, x.shape)
        executor.run(loops.squared_relu_forward, flat(x), flat(y))
        return y, None

    @staticmethod
    def backward(executor, needed, g, y, saved, x):
        d = executor.empty(x, x.shape)
        executor.run(loops.squared_relu_backward, flat(contiguous(executor, g)), flat(x), flat(d))
        return [d]


# ---------------------------------------------------------------------- causal convolution


@kernel("causal_conv")
class CausalConv:
    """Saves nothing."""

    @staticmethod
    def forward(executor, x, weight):
        if x.ndim < 2 or weight.ndim != 2 or not fit(x, weight) or weight.shape[1] != x.shape[-1]:
            return None
        y = executor.empty(x, x.shape)
        executor.run(loops.causal_conv_forward, _texts(x), weight, _texts(y))
        return y, None

    @staticmethod
    def backward(executor, needed, g, y, saved, x, weight):
        dx, dw = executor.empty(x, x.shape), executor.empty(weight, weight.shape)
        executor.run(loops.causal_conv_backward, _texts(contiguous(executor, g)), _texts(x), weight, _texts(dx), dw)
        return [(dx, dw)[i] for i in needed]


def _texts(a):
    """An array (…, T, C) as one of three axes."""
    return a.reshape(math.prod(a.shape[:-2]), *a.shape[-2:])
