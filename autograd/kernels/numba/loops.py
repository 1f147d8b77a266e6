"""The loops behind the Numba kernels, compiled for single and double precision; they write into arrays they are passed.

They are written for LLVM's vectorizer: one row at a time, few arrays in a loop, and no branch in it.  After a
change to `row_of`, `exp` or another function that other files use, delete Numba's cache (__pycache__/*.nb*): it notices
changes in a loop's own file only.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from .compiling import EXACT, SINGLE, inlined, integer, integers, loop, number, read, write

# ---------------------------------------------------------------------- exp, the normal distribution, the maximum


def exp(x):
    """eˣ for x ≤ 0, NaN for NaN; results below the smallest normal number become 0."""
    raise NotImplementedError  # stands for the versions below


# eˣ = 2ᵏ eʳ with |r| ≤ ln(2)/2: k comes out of adding 1.5·2²³ (1.5·2⁵²), which leaves no place for a fraction, and 2ᵏ
# is put together from its bits.  ln 2 is subtracted in two parts, of which k times the first is exact.  The polynomials
# of (eʳ − 1 − r) / r² are minimax fits, of relative errors 3.1e-9 and 1.1e-16 in eʳ.


def _exp_single(x):
    f = np.float32
    shifted = x * f(1.4426950408889634) + f(12582912.0)
    k = shifted - f(12582912.0)
    r = (x - k * f(0.693145751953125)) - k * f(1.4286068203094172e-06)
    p = f(0.0013814598256794049) * r + f(0.008368717049639292)
    p = p * r + f(0.041668388058024)
    p = p * r + f(0.16666520629882953)
    p = p * r + f(0.4999999344771085)
    power = np.int32((f(shifted).view(np.int32) + 127) << 23).view(f)
    y = ((p * r) * r + r + f(1)) * power
    return f(0) if x < f(-87.3) else y


def _exp_double(x):
    shifted = x * 1.4426950408889634 + 6755399441055744.0
    k = shifted - 6755399441055744.0
    r = (x - k * 0.69314718036912382) - k * 1.9082149292705877e-10
    p = 2.183053863493502e-08 * r + 2.756926753247791e-07
    p = p * r + 2.756771010963867e-06
    p = p * r + 2.480166664019679e-05
    p = p * r + 0.00019841257976124967
    p = p * r + 0.0013888888777040774
    p = p * r + 0.008333333338963276
    p = p * r + 0.04166666666713066
    p = p * r + 0.16666666666657498
    p = p * r + 0.4999999999999947
    power = np.int64((np.float64(shifted).view(np.int64) + 1023) << 52).view(np.float64)
    y = ((p * r) * r + r + 1.0) * power
    return 0.0 if x < -708.0 else y


@overload(exp, jit_options={"fastmath": EXACT, "forceinline": True})
def _(x):
    return _exp_single if x == types.float32 else _exp_double


# Φ(x) = ½ + x P(x²) for |x| < 1, and Φ(−x) = Φ′(x) √(2π) t Q(t) with t = 1 / (1 + 0.4 x) beyond,
# where Φ(−x) / Φ′(x) is smooth; P and Q are minimax fits of relative errors 7e-10 and 8e-8.


@inlined(EXACT)
def normal(x):
    """Φ(x) and Φ′(x) of the normal distribution."""
    f = np.float32
    square = x * x
    e = exp(f(-0.5) * square)
    p = f(-7.65420827519847e-06) * square + f(0.00011348637053743005)
    p = p * square + f(-0.0011863299878314137)
    p = p * square + f(0.009973322972655296)
    p = p * square + f(-0.06649035960435867)
    p = p * square + f(0.3989422917366028)
    t = f(1) / (f(1) + f(0.4) * abs(x))
    q = f(0.0681094154715538) * t + f(-0.18639802932739258)
    q = q * t + f(0.10533308982849121)
    q = q * t + f(0.05555596202611923)
    q = q * t + f(0.13899807631969452)
    q = q * t + f(0.15910057723522186)
    q = q * t + f(0.15959575772285461)
    tail = q * t * e
    far = tail if x < f(0) else f(1) - tail
    return f(0.5) + x * p if square < f(1) else far, e * f(0.3989422804014327)


# The maximum is found by the floats' bits: as signed integers they are in the order of the numbers, once those of
# negative numbers are turned round.  Of integers the vectorizer finds the maximum, of floats it does not.


def bits(a):
    """Return a view of an array of floats as signed integers."""
    raise NotImplementedError  # stands for the versions below


def largest(row):
    """Return the largest of the floats with these bits; any of them, or NaN, if one is NaN."""
    raise NotImplementedError


@overload(bits, jit_options={"forceinline": True})
def _(a):
    whole = np.int32 if a.dtype == types.float32 else np.int64
    return lambda a: a.view(whole)


@overload(largest, jit_options={"forceinline": True})
def _(row):
    real, whole, places = (np.float32, np.int32, 31) if row.dtype == types.int32 else (np.float64, np.int64, 63)
    magnitude, least = whole(2 ** places - 1), whole(-2 ** places)

    def version(row):
        m = least
        for j in range(row.size):
            m = max(m, whole(row[j] ^ ((row[j] >> places) & magnitude)))
        return whole(m ^ ((m >> places) & magnitude)).view(real)
    return version


# ---------------------------------------------------------------------- gelu


@loop(read(1), write(1), reals=SINGLE)
def gelu_forward(x, y):
    """y ← x Φ(x)"""
    for i in range(x.size):
        y[i] = x[i] * normal(x[i])[0]


@loop(read(1), read(1), write(1), reals=SINGLE)
def gelu_backward(g, x, d):
    """d ← g ⊙ (Φ(x) + x Φ′(x))"""
    for i in range(x.size):
        cdf, density = normal(x[i])
        d[i] = g[i] * (cdf + x[i] * density)


# ---------------------------------------------------------------------- layer norm


@loop(read(2), read(1), read(1), number, write(2), write(2))
def layer_norm_forward(x, weight, bias, eps, y, stats):
    """Normalise each row; `stats` gets its mean, and 1 / √(var + eps)."""
    real = x.dtype.type
    n = real(x.shape[1])
    for i in range(x.shape[0]):
        row, out = x[i], y[i]
        mean = real(0)
        for j in range(row.size):
            mean += row[j]
        mean /= n
        var = real(0)
        for j in range(row.size):
            var += (row[j] - mean) * (row[j] - mean)
        scale = real(1) / np.sqrt(var / n + real(eps))
        stats[i, 0], stats[i, 1] = mean, scale
        for j in range(row.size):
            out[j] = (row[j] - mean) * scale * weight[j] + bias[j]


@loop(read(2), read(2), read(1), read(2), write(2), write(1), write(1))
def layer_norm_backward(g, x, weight, stats, dx, dw, db):
    """Write the gradients dx, dw and db from the saved mean and 1 / √(var + eps) of each row."""
    real = x.dtype.type
    n = real(x.shape[1])
    dw[:] = real(0)
    db[:] = real(0)
    for i in range(x.shape[0]):
        row, grad, out = x[i], g[i], dx[i]
        mean, scale = stats[i, 0], stats[i, 1]
        shift = stretch = real(0)
        for j in range(row.size):
            shift += grad[j] * weight[j]
            stretch += grad[j] * weight[j] * ((row[j] - mean) * scale)
        shift /= n
        stretch /= n
        for j in range(row.size):
            out[j] = (grad[j] * weight[j] - shift - (row[j] - mean) * scale * stretch) * scale
        for j in range(row.size):
            dw[j] += grad[j] * ((row[j] - mean) * scale)
        for j in range(row.size):
            db[j] += grad[j]


# ---------------------------------------------------------------------- attention and cross-entropy


@loop(write(3), integer, integer, integer, integer, number, write(3, "A"))
def softmax_forward(s, first, n_rows, n_keys, causal, scale, stats):
    """Compute softmax(s · scale) in place, for `n_rows` rows from the `first` of each matrix, and their `n_keys` first
    columns.  If `causal` is 1, the last row sees all of these keys, and each row before it one key less.  `stats` gets
    the largest number that a row sees, and 1 / the sum of exp((s − largest) · scale)."""
    real, places = s.dtype.type, bits(s)
    factor, hidden = real(scale), real(-np.inf)
    for a in range(s.shape[0]):
        for r in range(n_rows):  # loop after loop, as each needs what the one before has just written
            row, seen = s[a, first + r][:n_keys], n_keys - causal * (n_rows - 1 - r)
            for j in range(row.size):
                row[j] = row[j] if j < seen else hidden
        for r in range(n_rows):
            m = largest(places[a, first + r][:n_keys])
            stats[a, r, 0] = real(0) if m == hidden else m  # a row that sees no key becomes 0
        for r in range(n_rows):
            row, m, total = s[a, first + r][:n_keys], stats[a, r, 0], real(0)
            for j in range(row.size):
                e = exp(real(0) if row[j] == m else (row[j] - m) * factor)  # ∞ − ∞ is 0
                row[j] = e
                total += e
            share = real(0) if total == real(0) else real(1) / total
            for j in range(row.size):
                row[j] *= share
            stats[a, r, 1] = share


@loop(write(3), write(3), integer, integer, integer, integer, number, write(3, "A"))
def softmax_backward(s, d, first, n_rows, n_keys, causal, scale, stats):
    """Compute, from scores s and the gradient d of their softmax(s · scale), that softmax in place of s, and the
    gradient of s in place of d."""
    real = s.dtype.type
    factor = real(scale)
    for a in range(s.shape[0]):
        for r in range(n_rows):
            p, seen = s[a, first + r][:n_keys], n_keys - causal * (n_rows - 1 - r)
            m, share = stats[a, r, 0], stats[a, r, 1]
            for j in range(p.size):
                p[j] = exp(real(0) if p[j] == m else (p[j] - m) * factor) * share if j < seen else real(0)
        for r in range(n_rows):
            p, grad, dot = s[a, first + r][:n_keys], d[a, first + r][:n_keys], real(0)
            for j in range(p.size):
                dot += p[j] * grad[j]
            for j in range(p.size):
                grad[j] = p[j] * (grad[j] - dot) * factor


@loop(read(2), integers(1), integer, integer, write(2), write(1), write(1))
def cross_entropy_forward(logits, targets, ignore_index, mean, stats, loss, scale):
    """Compute the loss; `stats` gets the largest number of each row and 1 / the sum of exp(row − largest), `scale` the
    weight of each place.  Returns the number of the first place whose target is no class, or −1."""
    real, places = logits.dtype.type, bits(logits)
    total, kept = 0.0, 0
    for i in range(logits.shape[0]):
        row, target = logits[i], targets[i]
        counts = target != ignore_index
        if counts and (target < 0 or target >= row.size):
            return i
        m, z = largest(places[i]), real(0)
        m = real(0) if m == -np.inf else m
        for j in range(row.size):
            z += exp(real(0) if row[j] == m else row[j] - m)  # ∞ − ∞ is 0
        stats[i, 0], stats[i, 1] = m, real(1) / z if z > real(0) or z != z else real(0)
        if counts:
            if row[target] == m and z < real(1.5):  # beside the target's 1, what the others count is rounded
                others = real(0)
                for j in range(row.size):
                    others += real(0) if j == target else exp(row[j] - m)
                total += np.log1p(others)
            else:
                total += np.log(max(z, real(1))) - (real(0) if row[target] == m else row[target] - m)
            kept += 1
    weight = 1.0 / kept if mean else 1.0
    scale[0] = weight
    loss[0] = total * weight
    return -1


@loop(number, read(2), integers(1), integer, read(2), read(1), write(2))
def cross_entropy_backward(g, logits, targets, ignore_index, stats, scale, d):
    """Write the gradient of the logits from the saved statistics."""
    real = logits.dtype.type
    for i in range(logits.shape[0]):
        row, out, target = logits[i], d[i], targets[i]
        weight = real(g) * scale[0] if target != ignore_index else real(0)
        m, factor = stats[i, 0], stats[i, 1] * weight
        for j in range(row.size):
            out[j] = exp(real(0) if row[j] == m else row[j] - m) * factor
        if target == ignore_index:
            continue
        if row[target] == m and stats[i, 1] > real(2 / 3):  # p is nearly 1, and p − 1 is what the others have
            out[target] = real(0)
            out[target] = -np.sum(out)
        else:
            out[target] -= weight


# ---------------------------------------------------------------------- rows of a table


@loop(integers(1), read(2), write(2))
def embedding_forward(ids, table, y):
    """Gather rows.  Returns the index of the first id that is no row, or −1."""
    for i in range(ids.size):
        if ids[i] < 0 or ids[i] >= table.shape[0]:
            return i
        row, out = table[ids[i]], y[i]
        for j in range(row.size):
            out[j] = row[j]
    return -1


@loop(read(2), integers(1), write(2))
def embedding_backward(g, ids, d):
    """d ← 0, then add each row of g to the row of d that its id names."""
    d[:] = d.dtype.type(0)
    for i in range(ids.size):
        row, grad = d[ids[i]], g[i]
        for j in range(row.size):
            row[j] += grad[j]
