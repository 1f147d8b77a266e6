"""GELU, squared relu and softmax by NumPy, in place."""

from __future__ import annotations

import functools
import math

import numpy as np

from ...core.mode import current_mode
from ...ops.network.activations import TAIL_SINGLE, normal_tail
from .common import BLOCK, are_floats, blocks, contiguous, kernel, subtract_largest

# ---------------------------------------------------------------------- gelu

FEW = 25_000  # numbers for which calls count, and up to which BLAS uses one thread in a product with `_TAIL`
_TAIL = np.array(TAIL_SINGLE[1:], np.float32)


@kernel("gelu")
class Gelu:
    """Kernel of gelu; saves the slope Φ(x) + x Φ′(x), which is cheap beside Φ(x), in grad mode; only the exact form."""

    @staticmethod
    def forward(executor, x, approximate="none"):
        if approximate != "none" or not x.flags.c_contiguous or not are_floats(x):
            return None
        y, slope = executor.empty(x, x.shape), None
        if current_mode().grad_enabled:
            slope = executor.empty(x, x.shape)
        executor.run(_gelu_forward, x, y, slope)
        return y, slope

    @staticmethod
    def backward(executor, needed, g, y, slope, x, approximate="none"):
        if slope is None:  # a freed value, recomputed without grad mode
            slope = executor.empty(x, x.shape)
            executor.run(_gelu_forward, x, executor.empty(x, x.shape), slope)
        d = executor.empty(x, x.shape)
        executor.run(_gelu_backward, g, slope, d)
        return [d]


def _gelu_forward(x, y, slope):
    tail_of = _tail_by_product if x.size <= FEW and x.dtype == np.float32 else normal_tail
    for x_part, y_part, slope_part in blocks(x, y, y if slope is None else slope):
        tail, e = tail_of(x_part)
        np.subtract(x_part >= 0, tail, out=y_part)
        np.absolute(y_part, out=y_part)  # Φ(x)
        if slope is not None:
            e *= x_part
            e *= 1 / math.sqrt(2 * math.pi)
            np.add(y_part, e, out=slope_part)
        y_part *= x_part


def _tail_by_product(x):
    """Compute `normal_tail` with both polynomials as one matrix product, in fewer calls of NumPy."""
    powers = np.empty((5, x.size), np.float32)
    one, a, square, cube, fourth = powers
    one.fill(1)
    np.absolute(x, a)
    np.minimum(a, TAIL_SINGLE[0], out=a)
    np.multiply(a, a, square)
    np.multiply(square, a, cube)
    np.multiply(square, square, fourth)
    tail, bottom = _TAIL.dot(powers)
    tail /= bottom
    square *= -0.5
    e = np.exp(square, square)
    tail *= e
    return tail, e


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
