"""GELU, squared relu and softmax by NumPy, in place."""

from __future__ import annotations

import functools
import math

import numpy as np

from ...ops.network import normal_tail
from .common import BLOCK, are_floats, blocks, contiguous, kernel, subtract_largest

# ---------------------------------------------------------------------- gelu


@kernel("gelu")
class Gelu:
    """Kernel of gelu; saves the slope Φ(x) + x Φ′(x), which is cheap beside Φ(x); only the exact form."""

    @staticmethod
    def forward(executor, x, approximate="none"):
        if approximate != "none" or not x.flags.c_contiguous or not are_floats(x):
            return None
        y, slope = executor.empty(x, x.shape), executor.empty(x, x.shape)
        executor.run(_gelu_forward, x, y, slope)
        return y, slope

    @staticmethod
    def backward(executor, needed, g, y, slope, x, approximate="none"):
        d = executor.empty(x, x.shape)
        executor.run(_gelu_backward, g, slope, d)
        return [d]


def _gelu_forward(x, y, slope):
    for x_part, y_part, slope_part in blocks(x, y, slope):
        tail, e = normal_tail(x_part)
        np.subtract(x_part >= 0, tail, out=slope_part)
        np.absolute(slope_part, out=slope_part)  # Φ(x)
        np.multiply(x_part, slope_part, out=y_part)
        e *= x_part
        e *= 1 / math.sqrt(2 * math.pi)
        slope_part += e


def _gelu_backward(g, slope, d):
    np.multiply(g, slope, out=d)


# ---------------------------------------------------------------------- squared relu


@kernel("squared_relu")
class SquaredRelu:
    """Kernel of squared_relu; saves nothing."""

    @staticmethod
    def forward(executor, x):
        if not x.flags.c_contiguous or x.dtype.kind != "f":
            return None
        y = executor.empty(x, x.shape)
        if x.size <= BLOCK:
            executor.run(_squared_relu_block, x, executor.constant(_zeros(x.dtype)[:x.size].reshape(x.shape)), y)
        else:
            executor.run(_squared_relu_forward, x, y)
        return y, None

    @staticmethod
    def backward(executor, needed, g, y, saved, x):
        d = executor.empty(x, x.shape)
        executor.run(_squared_relu_backward, contiguous(executor, g), x, d)
        return [d]


@functools.lru_cache
def _zeros(dtype):
    """Return zeros for np.maximum, which is several times as fast with an array as with a number."""
    return np.zeros(BLOCK, dtype)


def _squared_relu_forward(x, y):
    for x_part, y_part in blocks(x, y):
        _squared_relu_block(x_part, _zeros(x.dtype)[:x_part.size], y_part)


def _squared_relu_block(x, zeros, y):
    np.maximum(x, zeros, out=y)
    np.multiply(y, y, y)


def _squared_relu_backward(g, x, d):
    for g_part, x_part, d_part in blocks(g, x, d):
        np.maximum(x_part, _zeros(x.dtype)[:x_part.size], out=d_part)
        d_part *= g_part
        d_part += d_part


# ---------------------------------------------------------------------- softmax


@kernel("softmax")
class Softmax:
    """Kernel of softmax; saves nothing; along the last axis."""

    @staticmethod
    def forward(executor, x, axis=-1):
        if not are_floats(x) or not x.ndim or axis not in (-1, x.ndim - 1):
            return None
        y = executor.empty_like(x)
        executor.run(_softmax_forward, x, y)
        return y, None

    @staticmethod
    def backward(executor, needed, g, y, saved, x, axis=-1):
        d = executor.empty_like(x)
        executor.run(_softmax_backward, g, y, d)
        return [d]


def _softmax_forward(x, y):
    subtract_largest(x, y)
    np.exp(y, out=y)
    y /= np.maximum(y.sum(axis=-1, keepdims=True), 1)


def _softmax_backward(g, y, d):
    np.subtract(g, np.vecdot(g, y)[..., None], out=d)
    d -= np.vecdot(d, y)[..., None]
    d *= y
