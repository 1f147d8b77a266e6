"""More loops behind the Numba kernels: RMS norm, rotary positions (RoPE), squared relu and the causal convolution.

Written like those in loops.py, split off only to keep files short.  Each goes through the data once:
what a row needs several times stays in the processor's cache.
"""

from __future__ import annotations

import numpy as np

from .compiling import FLAGS, inlined, integer, loop, number, read, row_of, write

# ---------------------------------------------------------------------- RMS norm


@loop(read(4, "A"), read(1), number, write(4, "A"), write(3))
def rms_norm_forward(x, weight, eps, y, scales):
    """Normalise each row; `scales` gets the factor of each."""
    real = x.dtype.type
    n = real(x.shape[3])
    for i in range(x.shape[0]):
        for k in range(x.shape[2]):
            for j in range(x.shape[1]):  # inside, as the heads of one place often lie side by side
                row, out, total = row_of(x, i, j, k), row_of(y, i, j, k), real(0)
                for m in range(row.size):
                    total += row[m] * row[m]
                scale = real(1) / np.sqrt(total / n + real(eps))
                for m in range(row.size):
                    out[m] = row[m] * scale * weight[m]
                scales[i, j, k] = scale


@loop(read(4, "A"), read(4, "A"), read(3), integer, read(1), write(4, "A"), write(1))
def rms_norm_backward(g, x, scales, is_normed, weight, dx, dw):
    """Write the gradients dx and dw; `is_normed` says that x is the normalized one, a `dw` without elements is not
    computed."""
    real = x.dtype.type
    dw[:] = real(0)
    for i in range(x.shape[0]):
        for k in range(x.shape[2]):
            for j in range(x.shape[1]):
                row, grad, out = row_of(x, i, j, k), row_of(g, i, j, k), row_of(dx, i, j, k)
                scale, dot = scales[i, j, k], real(0)
                factor = real(1) if is_normed else scale
                for m in range(row.size):
                    dot += grad[m] * weight[m] * (row[m] * factor)  # row · scale² might be 0
                mean = dot / real(row.size) * factor
                for m in range(row.size):
                    out[m] = (grad[m] * weight[m] - row[m] * mean) * scale
                for m in range(dw.size):
                    dw[m] += grad[m] * (row[m] * factor)


# ---------------------------------------------------------------------- rotary positions


@loop(read(4, "A"), read(2), read(2), number, write(4, "A"))
def rotary(x, cos, sin, direction, y):
    """Rotate pairs of x by angles with these cosines and sines, or back if `direction` is −1."""
    real = x.dtype.type
    h, sign = cos.shape[1], real(direction)
    for i in range(x.shape[0]):
        for t in range(x.shape[2]):
            c, s = cos[t], sin[t]
            for j in range(x.shape[1]):
                row, out = row_of(x, i, j, t), row_of(y, i, j, t)
                for m in range(h):
                    a, b, u, v = row[m], row[h + m], c[m], s[m] * sign  # read first, or the vectorizer gives up
                    out[m] = a * u - b * v
                    out[h + m] = b * u + a * v


@loop(read(4, "A"), read(4, "A"), write(2))
def rotary_angles(x, dx, d):
    """Write the gradient of the angles, from x and its gradient: Σ x₁ ⊙ dx₂ − x₂ ⊙ dx₁."""
    d[:] = d.dtype.type(0)
    h = d.shape[1]
    for i in range(x.shape[0]):
        for t in range(x.shape[2]):
            out = d[t]
            for j in range(x.shape[1]):
                row, grad = row_of(x, i, j, t), row_of(dx, i, j, t)
                for m in range(h):
                    out[m] += row[m] * grad[h + m] - row[h + m] * grad[m]


# ---------------------------------------------------------------------- squared relu


@loop(read(1), write(1))
def squared_relu_forward(x, y):
    """y ← max(x, 0)²"""
    zero = x.dtype.type(0)
    for i in range(x.size):
        r = zero if x[i] <= zero else x[i]  # NaN stays
        y[i] = r * r


@loop(read(1), read(1), write(1))
def squared_relu_backward(g, x, d):
    """d ← 2 g ⊙ max(x, 0)"""
    zero = x.dtype.type(0)
    for i in range(x.size):
        r = zero if x[i] <= zero else x[i]
        d[i] = (r + r) * g[i]


# ---------------------------------------------------------------------- causal convolution


@inlined(FLAGS)
def convolve(x, weight, y):
    """y[t] ← Σ weight[k] ⊙ x[t − k], of contiguous rows, up to three taps at a time."""
    for i in range(x.shape[0]):
        together = len(weight) - 1 if len(weight) >= 3 else x.shape[1]
        for t in range(min(together, x.shape[1])):
            out, row, tap = row_of(y, i, t), row_of(x, i, t), weight[0]
            for m in range(out.size):
                out[m] = row[m] * tap[m]
            add_taps(x, weight, i, t, 1, out)
        for t in range(together, x.shape[1]):
            out, tap0, tap1, tap2 = row_of(y, i, t), weight[0], weight[1], weight[2]
            row0, row1, row2 = row_of(x, i, t), row_of(x, i, t - 1), row_of(x, i, t - 2)
            for m in range(out.size):
                out[m] = row0[m] * tap0[m] + row1[m] * tap1[m] + row2[m] * tap2[m]
            add_taps(x, weight, i, t, 3, out)


@inlined(FLAGS)
def add_taps(x, weight, i, t, first, out):
    """Add the terms of the taps from `first` on, for position t of sequence i, to `out`."""
    for k in range(first, min(len(weight), t + 1)):
        row, tap = row_of(x, i, t - k), weight[k]
        for m in range(out.size):
            out[m] += row[m] * tap[m]


@loop(read(3), read(2), write(3))
def causal_conv_forward(x, weight, y):
    """y[t] ← Σ weight[k] ⊙ x[t − k], for each sequence of x."""
    convolve(x, weight, y)


@loop(read(3), read(3), read(2), write(3), write(2))
def causal_conv_backward(g, x, weight, dx, dw):
    """Write the gradient of x: the convolution of g from the end to the start."""
    convolve(g[:, ::-1], weight, dx[:, ::-1])
    dw[:] = x.dtype.type(0)
    for i in range(x.shape[0]):
        for t in range(x.shape[1]):
            row = row_of(x, i, t)
            for k in range(min(len(weight), x.shape[1] - t)):
                grad, total = row_of(g, i, t + k), row_of(dw, k)
                for m in range(row.size):
                    total[m] += grad[m] * row[m]
