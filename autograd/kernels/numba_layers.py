"""More adapters of compiled loops: RMS norm, rotary positions, squared relu and the causal convolution."""

from __future__ import annotations

import math

import numpy as np

from . import layer_loops as loops
from .fitting import are_floats, constant, fit, in_rows, kernel, of_four_axes
from .numpy import contiguous


def _in_rows(executor, a):
    """`a`, or a copy of it, as the loops go through rows."""
    return a if in_rows(a) else contiguous(executor, a)


# ---------------------------------------------------------------------- RMS norm


@kernel("rms_norm")
class RmsNorm:
    """Saves nothing: what a row is divided by takes one more look at it."""

    @staticmethod
    def forward(executor, x, weight, eps=1e-5):
        given = [] if weight is None else [weight]
        if not x.ndim or not are_floats(x, *given) or not in_rows(x) or not all(
                a.shape == x.shape[-1:] and a.flags.c_contiguous for a in given):
            return None
        y = executor.empty_like(x)
        executor.run(_rms_norm_forward, x, weight, eps, y)
        return y, None

    @staticmethod
    def backward(executor, needed, g, y, saved, x, weight, eps=1e-5):
        dx, dw = executor.empty_like(x), executor.empty(x, x.shape[-1:]) if 1 in needed else None
        executor.run(_rms_norm_backward, _in_rows(executor, g), x, weight, eps, dx, dw)
        return [(dx, dw)[i] for i in needed]


def _rms_norm_forward(x, weight, eps, y):
    weight = constant(1, x.shape[-1], x.dtype) if weight is None else weight
    loops.rms_norm_forward(of_four_axes(x), weight, float(eps), of_four_axes(y))


def _rms_norm_backward(g, x, weight, eps, dx, dw):
    weight = constant(1, x.shape[-1], x.dtype) if weight is None else weight
    dw = constant(0, 0, x.dtype) if dw is None else dw
    loops.rms_norm_backward(of_four_axes(g), of_four_axes(x), weight, float(eps), of_four_axes(dx), dw)


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
        executor.run(_rotary_forward, x, angles, cos, sin, y)
        return y, (cos, sin)

    @staticmethod
    def backward(executor, needed, g, y, saved, x, angles):
        dx = executor.empty_like(x)
        executor.run(_rotary_backward, _in_rows(executor, g), *saved, dx)
        if 1 not in needed:
            return [dx]
        d = executor.empty(x, angles.shape)
        executor.run(_rotary_angles, x, dx, d)
        return [(dx, d)[i] for i in needed]


def _rotary_forward(x, angles, cos, sin, y):
    np.cos(angles, out=cos, casting="same_kind")
    np.sin(angles, out=sin, casting="same_kind")
    loops.rotary(of_four_axes(x), cos, sin, 1.0, of_four_axes(y))


def _rotary_backward(g, cos, sin, dx):
    loops.rotary(of_four_axes(g), cos, sin, -1.0, of_four_axes(dx))


def _rotary_angles(x, dx, d):
    loops.rotary_angles(of_four_axes(x), of_four_axes(dx), d)


# ---------------------------------------------------------------------- squared relu


@kernel("squared_relu")
class SquaredRelu:
    """Saves nothing."""

    @staticmethod
    def forward(executor, x):
        if not fit(x):
            return None
        y = executor.empty(x, x.shape)
        executor.run(_squared_relu_forward, x, y)
        return y, None

    @staticmethod
    def backward(executor, needed, g, y, saved, x):
        d = executor.empty(x, x.shape)
        executor.run(_squared_relu_backward, contiguous(executor, g), x, d)
        return [d]


def _squared_relu_forward(x, y):
    loops.squared_relu_forward(x.reshape(-1), y.reshape(-1))


def _squared_relu_backward(g, x, d):
    loops.squared_relu_backward(g.reshape(-1), x.reshape(-1), d.reshape(-1))


# ---------------------------------------------------------------------- causal convolution


@kernel("causal_conv")
class CausalConv:
    """Saves nothing."""

    @staticmethod
    def forward(executor, x, weight):
        if x.ndim < 2 or weight.ndim != 2 or not fit(x, weight) or weight.shape[1] != x.shape[-1]:
            return None
        y = executor.empty(x, x.shape)
        executor.run(_causal_conv_forward, x, weight, y)
        return y, None

    @staticmethod
    def backward(executor, needed, g, y, saved, x, weight):
        dx, dw = executor.empty(x, x.shape), executor.empty(weight, weight.shape)
        executor.run(_causal_conv_backward, contiguous(executor, g), x, weight, dx, dw)
        return [(dx, dw)[i] for i in needed]


def _texts(a):
    """An array (…, T, C) as one of three axes."""
    return a.reshape(math.prod(a.shape[:-2]), *a.shape[-2:])


def _causal_conv_forward(x, weight, y):
    loops.causal_conv_forward(_texts(x), weight, _texts(y))


def _causal_conv_backward(g, x, weight, dx, dw):
    loops.causal_conv_backward(_texts(g), _texts(x), weight, _texts(dx), dw)
