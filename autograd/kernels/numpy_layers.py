"""More of NumPy in place: RMS norm, rotary positions, squared relu and the causal convolution."""

from __future__ import annotations

import functools

import numpy as np

from .numpy import BLOCK, blocks, contiguous, kernel


def _are_floats(*arrays):
    """Whether these are floats of one kind, whose sums of squares do not overflow as those of half precision do."""
    return all(isinstance(a, np.ndarray) and a.dtype == arrays[0].dtype for a in arrays) \
        and arrays[0].dtype.kind == "f" and arrays[0].dtype.itemsize >= 4


# ---------------------------------------------------------------------- RMS norm


@kernel("rms_norm")
class RmsNorm:
    """Saves 1/√(mean x² + eps)."""

    @staticmethod
    def forward(executor, x, weight, eps=1e-5):
        given = [] if weight is None else [weight]
        if not x.size or not x.ndim or not _are_floats(x, *given) or any(a.shape != x.shape[-1:] for a in given):
            return None
        y, scale = executor.empty_like(x), executor.empty(x, (*x.shape[:-1], 1))
        executor.run(_rms_norm_forward, x, weight, eps, y, scale)
        return y, scale

    @staticmethod
    def backward(executor, needed, g, y, scale, x, weight, eps=1e-5):
        dx, scratch = executor.empty_like(x), executor.empty_like(x)
        dw = executor.empty(x, x.shape[-1:]) if 1 in needed else None
        executor.run(_rms_norm_backward, g, x, weight, scale, scratch, dx, dw)
        return [(dx, dw)[i] for i in needed]


def _rms_norm_forward(x, weight, eps, y, scale):
    np.vecdot(x, x, out=scale[..., 0])
    scale /= x.shape[-1]
    scale += eps
    np.sqrt(scale, out=scale)
    np.reciprocal(scale, out=scale)
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


# ---------------------------------------------------------------------- rotary positions


@kernel("rotary")
class Rotary:
    """Saves the cosines and sines, each twice side by side, as x is as wide."""

    @staticmethod
    def forward(executor, x, angles):
        if x.ndim < 2 or x.shape[-1] % 2 or not _are_floats(x) or not _are_floats(angles) \
                or angles.shape != (x.shape[-2], x.shape[-1] // 2):
            return None
        y, scratch = executor.empty_like(x), executor.empty_like(x)
        cos, sin = executor.empty(x, x.shape[-2:]), executor.empty(x, x.shape[-2:])
        executor.run(_rotary_forward, x, angles, cos, sin, scratch, y)
        return y, (cos, sin)

    @staticmethod
    def backward(executor, needed, g, y, saved, x, angles):
        dx, scratch = executor.empty_like(x), executor.empty_like(x)
        executor.run(_rotary_backward, g, *saved, scratch, dx)
        if 1 not in needed:
            return [dx]
        d = executor.empty(angles, angles.shape)
        executor.run(_rotary_angles, x, dx, d)
        return [(dx, d)[i] for i in needed]


def _rotary_forward(x, angles, cos, sin, scratch, y):
    h = angles.shape[-1]
    for wave, of_angles in ((np.cos, cos), (np.sin, sin)):
        wave(angles, out=of_angles[:, :h], casting="same_kind")
        of_angles[:, h:] = of_angles[:, :h]
    np.multiply(x, cos, out=y)
    np.multiply(x, sin, out=scratch)
    y[..., :h] -= scratch[..., h:]
    y[..., h:] += scratch[..., :h]


def _rotary_backward(g, cos, sin, scratch, dx):
    h = cos.shape[-1] // 2
    np.multiply(g, cos, out=dx)
    np.multiply(g, sin, out=scratch)
    dx[..., :h] += scratch[..., h:]
    dx[..., h:] -= scratch[..., :h]


def _rotary_angles(x, dx, d):
    """Σ x₁ ⊙ dx₂ − x₂ ⊙ dx₁, which is what the rule says, in terms of the gradient of x."""
    h = d.shape[-1]
    each = x[..., :h] * dx[..., h:]
    each -= x[..., h:] * dx[..., :h]
    np.add.reduce(each, axis=tuple(range(x.ndim - 2)), out=d)


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


# ---------------------------------------------------------------------- causal convolution


@kernel("causal_conv")
class CausalConv:
    """Saves nothing."""

    @staticmethod
    def forward(executor, x, weight):
        if x.ndim < 2 or weight.ndim != 2 or not _are_floats(x, weight) or not weight.size \
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
