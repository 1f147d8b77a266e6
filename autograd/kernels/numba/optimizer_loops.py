"""The loops of the optimizers: AdamW in one pass, and Muon block by block, so that each stays in the cache."""

from __future__ import annotations

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiling import FLAGS, inlined, loop, number, read, row_of, write


@loop(write(1), read(1), write(1), write(1), number, number, number, number, number, number)
def adamw(w, g, m, v, shrink, step, eps, beta1, beta2, scale):
    """m ← β₁m + (1−β₁)g,  v ← β₂v + (1−β₂)g²,  w ← w · shrink − step · m / (√v + eps), of gradients g · scale."""
    real = w.dtype.type
    shrink, step, eps, scale = real(shrink), real(step), real(eps), real(scale)
    rest1, beta2, rest2 = real(1 - beta1), real(beta2), real(1 - beta2)
    for i in range(w.size):
        grad = g[i] * scale
        first = m[i] + (grad - m[i]) * rest1
        second = v[i] * beta2 + grad * grad * rest2
        m[i], v[i] = first, second
        w[i] = w[i] * shrink - step * (first / (np.sqrt(second) + eps))


# ---------------------------------------------------------------------- products of small matrices

# BLAS packs its operands first, which takes long for matrices as small as Muon's.  They lie in the cache as they are:
# so their product goes by tiles at once, whose sums stay in registers (Goto & van de Geijn 2008, "Anatomy of
# High-Performance Matrix Multiplication").  The rows of a tile, and their bytes, fill most of the registers.
ROWS, BYTES = (8, 128) if binding.get_host_cpu_features().get("avx512f") else (4, 64)


@intrinsic
def tile(_, a, b, c, i, j):
    """c[i:i + ROWS, j:j + lanes] ← a[i:i + ROWS] · b[:, j:j + lanes], where a row of `lanes` elements has BYTES bytes.

    Written in LLVM's own vectors, because its vectorizer does not keep the sums of several rows in registers.
    """
    def code(context, builder, signature, arguments):
        kinds, (*_, i, j) = signature.args[:3], arguments
        a, b, c = ((context.make_array(kind)(context, builder, array), kind) for kind, array in zip(kinds, arguments))
        itemsize = kinds[0].dtype.bitwidth // 8
        lanes = BYTES // itemsize
        vector = ir.VectorType(context.get_data_type(kinds[0].dtype), lanes)

        def element(array, *index):
            return cgutils.get_item_pointer(context, builder, array[1], array[0], index)

        def row(array, *index):
            return builder.bitcast(element(array, *index), vector.as_pointer())

        def repeated(number):
            first = builder.insert_element(vector(ir.Undefined), number, ir.IntType(32)(0))
            return builder.shuffle_vector(first, first, ir.VectorType(ir.IntType(32), lanes)([0] * lanes))

        rows = [builder.add(i, i.type(r)) for r in range(ROWS)]
        sums = [cgutils.alloca_once_value(builder, vector([0.0] * lanes)) for _ in rows]
        with cgutils.for_range(builder, cgutils.unpack_tuple(builder, b[0].shape)[0]) as inner:
            k = inner.index
            factors = builder.load(row(b, k, j), align=itemsize)
            for r, total in zip(rows, sums):
                products = builder.fmul(repeated(builder.load(element(a, r, k))), factors, flags=["contract"])
                builder.store(builder.fadd(builder.load(total), products, flags=["contract"]), total)
        for r, total in zip(rows, sums):
            builder.store(builder.load(total), row(c, r, j), align=itemsize)

    return types.void(a, b, c, i, j), code


@inlined(FLAGS)
def product(a, b, c):
    """c ← a b, where ROWS divides the rows of `c` and BYTES the bytes of each; rows of `b` and `c` are contiguous."""
    for i in range(0, c.shape[0], ROWS):
        for j in range(0, c.shape[1], BYTES // c.itemsize):
            tile(a, b, c, i, j)


@inlined(FLAGS)
def symmetric_product(a, b, c):
    """c ← a b, where that is symmetric: only tiles with something on or above the diagonal are computed."""
    lanes = BYTES // c.itemsize
    for i in range(0, c.shape[0], ROWS):
        for j in range(i // lanes * lanes, c.shape[1], lanes):
            tile(a, b, c, i, j)
    for i in range(c.shape[0]):
        for j in range(i // lanes * lanes):
            c[i, j] = c[j, i]


# ---------------------------------------------------------------------- Muon


@inlined(FLAGS)
def scaled(a, c, diagonal, b):
    """b ← c a + diagonal · I."""
    a, out = a.reshape(-1), b.reshape(-1)
    for i in range(a.size):
        out[i] = a[i] * c
    for i in range(len(b)):
        b[i, i] += diagonal


@inlined(FLAGS)
def gram(x, room, A):
    """A ← x xᵀ or xᵀx, whichever is smaller."""
    if x.shape[0] < x.shape[1]:
        transposed = room.reshape(x.shape[1], x.shape[0])
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                transposed[j, i] = x[i, j]
        symmetric_product(x, transposed, A)
    else:
        symmetric_product(x.T, x, A)


@inlined(FLAGS)
def orthogonalize(x, factor, polynomials, margin, work, out):
    """`out` ← approximately factor · U Vᵀ, where x = U S Vᵀ, by the steps of `orthogonalize` in numpy/optimizers.py."""
    A, B, P, Q = work[0], work[1], work[2], work[3]
    real = x.dtype.type
    gram(x, out, A)
    norm2 = real(0)
    for i in range(len(A)):
        norm2 += A[i, i]
    if norm2 < np.finfo(real).tiny:
        norm2 = np.finfo(real).tiny
    norm2 *= real(margin * margin)
    scaled(A, real(1) / norm2, real(0), A)
    for i in range(len(polynomials)):
        scaled(A, polynomials[i, 2], polynomials[i, 1], B)
        symmetric_product(A, B, P)
        for j in range(len(P)):
            P[j, j] += polynomials[i, 0]             # P = aI + A(bI + cA)
        if i < len(polynomials) - 1:
            symmetric_product(P, A, B)
            symmetric_product(P, B, A)               # A ← P²A
        if i:
            symmetric_product(P, Q, B)               # Q ← P Q
            B, Q = Q, B
        else:
            P, Q = Q, P
    scaled(Q, real(factor) / np.sqrt(norm2), real(0), P)
    if x.shape[0] < x.shape[1]:
        product(P, x, out)
    else:
        product(x, P, out)


@loop(write(3, "A"), read(3, "A"), write(3, "A"), write(2), write(2), write(3), number, number, number, number, read(2),
      number)
def muon(w, g, m, u, out, work, lr, momentum, decay, scale, polynomials, margin):
    """Run a step of each block w[i], `muon_step` of numpy/optimizers.py; `u`, `out` and `work` are workspaces for
    one."""
    real = w.dtype.type
    mu, rest, keep = real(momentum), real((1 - momentum) * scale), real(1 - lr * decay)
    for i in range(len(w)):
        for r in range(w.shape[1]):
            ours, grad, mean = row_of(u, r), row_of(g, i, r), row_of(m, i, r)
            for j in range(ours.size):
                new = rest * grad[j]
                mean[j] = mu * mean[j] + new
                ours[j] = mu * mean[j] + new
        orthogonalize(u, lr, polynomials, margin, work, out)
        for r in range(w.shape[1]):
            weights, step = row_of(w, i, r), row_of(out, r)
            for j in range(step.size):
                weights[j] = weights[j] * keep - step[j]
