"""GELU and squared relu by NumPy, in place."""

from __future__ import annotations

import functools

import numpy as np

from ...ops.network import normal_cdf, normal_density
from .common import BLOCK, blocks, contiguous, kernel

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
        executor.run(_gelu_backward, contiguous(executor, g), x, cdf, d)
        return [d]


def _gelu_forward(x, y, cdf):
    for x_part, y_part, cdf_part in blocks(x, y, cdf):
        np.copyto(cdf_part, normal_cdf(x_part, "none"))
        np.multiply(x_part, cdf_part, out=y_part)


def _gelu_backward(g, x, cdf, d):
    for g_part, x_part, cdf_part, d_part in blocks(g, x, cdf, d):
        np.copyto(d_part, normal_density(x_part))
        d_part *= x_part
        d_part += cdf_part
        d_part *= g_part


# ---------------------------------------------------------------------- squared relu


@kernel("squared_relu")
class SquaredRelu:
    """Saves nothing."""

    @staticmethod
    def forward(executor, x):
        if not x.flags.c_contiguous or x.dtype.kind != "f":
            return None
        y = executor.empty(x, x.shape)
        executor.run(_squared_relu_forward, x, y)
        return y, None

    @staticmethod
    def backward(executor, needed, g, y, saved, x):
        d = executor.empty(x, x.shape)
        executor.run(_squared_relu_backward, contiguous(executor, g), x, d)
        return [d]


@functools.lru_cache
def _zeros(dtype):
    """With an array of them np.maximum is several times as fast as with the number."""
    return np.zeros(BLOCK, dtype)


def _squared_relu_forward(x, y):
    for x_part, y_part in blocks(x, y):
        np.maximum(x_part, _zeros(x.dtype)[:x_part.size], out=y_part)
        y_part *= y_part


def _squared_relu_backward(g, x, d):
    for g_part, x_part, d_part in blocks(g, x, d):
        np.maximum(x_part, _zeros(x.dtype)[:x_part.size], out=d_part)
        d_part *= g_part
        d_part += d_part
