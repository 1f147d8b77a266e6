"""More loops behind the Numba kernels: RMS norm, rotary positions, squared relu and the causal convolution.

Written like those in loops.py, from which they are apart only for the files' length.  Each goes through the data once:
what a row needs several times stays in the processor's cache.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from .loops import loop, number, read, write


@intrinsic
def start_of(_, a):
    """Where the first element of an array is in memory."""
    def code(context, builder, signature, arguments):
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data
    return types.CPointer(a.dtype)(a), code


@numba.njit
def row_of(a, i, j, k):
    """Row [i, j, k] of an array of four axes, whose elements lie side by side, which the vectorizer has to know."""
    return numba.carray(start_of(a[i, j, k]), (a.shape[3],))


# ---------------------------------------------------------------------- RMS norm


@loop(read(4, "A"), read(1), number, write(4, "A"))
def rms_norm_forward(x, weight, eps, y):
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


@loop(read(4, "A"), read(4, "A"), read(1), number, write(4, "A"), write(1))
def rms_norm_backward(g, x, weight, eps, dx, dw):
    """`dw` may have no elements, and is not computed then."""
    real = x.dtype.type
    n = real(x.shape[3])
    dw[:] = real(0)
    for i in range(x.shape[0]):
        for k in range(x.shape[2]):
            for j in range(x.shape[1]):
                row, grad, out = row_of(x, i, j, k), row_of(g, i, j, k), row_of(dx, i, j, k)
                total = dot = real(0)
                for m in range(row.size):
                    total += row[m] * row[m]
                    dot += grad[m] * weight[m] * row[m]
                scale = real(1) / np.sqrt(total / n + real(eps))
                stretch = dot * scale / n
                for m in range(row.size):
                    out[m] = (grad[m] * weight[m] - row[m] * scale * stretch) * scale
                for m in range(dw.size):
                    dw[m] += grad[m] * (row[m] * scale)


# ---------------------------------------------------------------------- rotary positions


@loop(read(4, "A"), read(2), read(2), number, write(4, "A"))
def rotary(x, cos, sin, direction, y):
    """Pairs of x turned by angles with these cosines and sines, or back if `direction` is −1."""
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
    """The gradient of the angles from x and its gradient: Σ x₁ ⊙ dx₂ − x₂ ⊙ dx₁."""
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
    zero = x.dtype.type(0)
    for i in range(x.size):
        r = zero if x[i] <= zero else x[i]  # NaN stays
        y[i] = r * r


@loop(read(1), read(1), write(1))
def squared_relu_backward(g, x, d):
    zero = x.dtype.type(0)
    for i in range(x.size):
        r = zero if x[i] <= zero else x[i]
        d[i] = (r + r) * g[i]


# ---------------------------------------------------------------------- causal convolution


@loop(read(3), read(2), write(3))
def causal_conv_forward(x, weight, y):
    for i in range(x.shape[0]):
        for t in range(x.shape[1]):
            out, row, tap = y[i, t], x[i, t], weight[0]
            for m in range(out.size):
                out[m] = row[m] * tap[m]
            for k in range(1, min(weight.shape[0], t + 1)):
                row, tap = x[i, t - k], weight[k]
                for m in range(out.size):
                    out[m] += row[m] * tap[m]


@loop(read(3), read(3), read(2), write(3), write(2))
def causal_conv_backward(g, x, weight, dx, dw):
    dw[:] = x.dtype.type(0)
    for i in range(x.shape[0]):
        for t in range(x.shape[1]):
            out, grad, tap = dx[i, t], g[i, t], weight[0]
            for m in range(out.size):
                out[m] = grad[m] * tap[m]
            for k in range(1, min(weight.shape[0], x.shape[1] - t)):
                later, tap = g[i, t + k], weight[k]
                for m in range(out.size):
                    out[m] += later[m] * tap[m]
            for k in range(min(weight.shape[0], t + 1)):
                row, total = x[i, t - k], dw[k]
                for m in range(out.size):
                    total[m] += grad[m] * row[m]
