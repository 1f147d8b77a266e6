"""The causal convolution by NumPy, in place."""

from __future__ import annotations

import numpy as np

from .common import are_floats, kernel


@kernel("causal_conv")
class CausalConv:
    """Kernel of causal_conv; saves nothing."""

    @staticmethod
    def forward(executor, x, weight):
        if x.ndim < 2 or weight.ndim != 2 or not are_floats(x, weight) or not weight.size \
                or weight.shape[1] != x.shape[-1]:
            return None
        y, scratch = executor.empty_like(x), executor.empty_like(x)
        executor.run(_causal_conv_forward, x, weight, scratch, y)
        return y, None

    @staticmethod
    def backward(executor, needed, g, y, saved, x, weight):
        dx, scratch = executor.empty_like(x) if 0 in needed else None, executor.empty_like(x)
        dw = executor.empty(weight, weight.shape) if 1 in needed else None
        executor.run(_causal_conv_backward, g, x, weight, scratch, dx, dw)
        return [(dx, dw)[i] for i in needed]


def _causal_conv_forward(x, weight, scratch, y):
    np.multiply(x, weight[0], out=y)
    for k in range(1, min(len(weight), x.shape[-2])):
        part = np.multiply(x[..., :-k, :], weight[k], out=scratch[..., k:, :])
        y[..., k:, :] += part


def _causal_conv_backward(g, x, weight, scratch, dx, dw):
    if dw is not None:
        dw[x.shape[-2]:] = 0
        for k in range(min(len(weight), x.shape[-2])):
            part = np.multiply(g[..., k:, :], x[..., :x.shape[-2] - k, :], out=scratch[..., k:, :])
            np.add.reduce(part, axis=tuple(range(x.ndim - 1)), out=dw[k])
    if dx is not None:
        np.multiply(g, weight[0], out=dx)
        for k in range(1, min(len(weight), x.shape[-2])):
            part = np.multiply(g[..., k:, :], weight[k], out=scratch[..., k:, :])
            dx[..., :-k, :] += part
