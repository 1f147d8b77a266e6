"""Loops on packed weights: products with one vector, which widen in registers, and rows widened for matrix products.

A product is written in LLVM's own vectors: the sum of a row stays in one of 16 lanes, over all its blocks, which LLVM
does not find by itself.
"""

from __future__ import annotations

from functools import partial

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiling import FLAGS, SINGLE, inlined, loop, read, start_of, write

SINGLES, WHOLE = ir.VectorType(ir.FloatType(), 16), ir.VectorType(ir.IntType(32), 16)
BYTES, PAIR = ir.VectorType(ir.IntType(8), 16), ir.VectorType(ir.FloatType(), 2)
LONG = ir.IntType(64)


def octets(ndim):
    """Type of an array of bytes that a loop reads."""
    return lambda real: types.Array(types.uint8, ndim, "C", readonly=True)


# ---------------------------------------------------------------------- one block in vectors


def _load(builder, start, offset, vector):
    """Load a vector from `offset` elements after a pointer, wherever that is."""
    place = builder.gep(start, [ir.Constant(LONG, offset)])
    return builder.load(builder.bitcast(place, vector.as_pointer()), align=1)


def has_halves():
    """Return True if the processor that Numba compiles for widens float16 by an instruction."""
    if numba.config.CPU_NAME or numba.config.CPU_FEATURES:
        return False
    features = llvmlite.binding.get_host_cpu_features()
    return bool(features.get("f16c") or features.get("fullfp16"))


def _halves(builder, block):
    """Widen the two float16 at the start of a block.  Without an instruction for it their bits are moved: the exponent
    then lacks 112."""
    bits = _load(builder, block, 0, ir.VectorType(ir.IntType(16), 2))
    if has_halves():
        return builder.fpext(builder.bitcast(bits, ir.VectorType(ir.HalfType(), 2)), PAIR)

    def both(value):
        return ir.Constant(ir.VectorType(ir.IntType(32), 2), [value] * 2)

    bits = builder.sext(bits, ir.VectorType(ir.IntType(32), 2))
    size = builder.bitcast(builder.and_(builder.shl(bits, both(13)), both(0x0FFFE000)), PAIR)
    size = builder.bitcast(builder.fmul(size, ir.Constant(PAIR, [2.0 ** 112] * 2)), bits.type)
    return builder.bitcast(builder.or_(size, builder.and_(bits, both(-1 << 31))), PAIR)


def _integers(builder, block, name):
    """Return the integers of a block as floats, the first 16 and the last 16; those of 4 bits less 8.

    As the last bits of 2²³ they are floats at once, and subtracting 2²³ + 8 is exact.
    """
    if name == "Q8_0":
        return [builder.sitofp(builder.sext(_load(builder, block, start, BYTES), WHOLE), SINGLES) for start in (2, 18)]
    both = builder.zext(_load(builder, block, 2 if name == "Q4_0" else 4, BYTES), WHOLE)
    found = builder.and_(both, ir.Constant(WHOLE, [15] * 16)), builder.lshr(both, ir.Constant(WHOLE, [4] * 16))
    large = [builder.bitcast(builder.or_(q, ir.Constant(WHOLE, [0x4B000000] * 16)), SINGLES) for q in found]
    return [builder.fsub(q, ir.Constant(SINGLES, [2.0 ** 23 + 8] * 16)) for q in large]


def _splat(builder, pair):
    """Return a vector of the first number of a pair."""
    return builder.shuffle_vector(pair, pair, ir.Constant(WHOLE, [0] * 16))


def make_dot(name, n_bytes, n_rows=2):
    """Return an intrinsic `dot(rows, stride, x, sums, n, y)` that writes the products of x and some rows of n blocks,
    `stride` bytes apart, into y.

    A block of Q4_1 holds scale · q + offset, so that its part of the product is scale · Σ (q − 8) x + scale · 8 Σ x +
    offset · Σ x.  `sums` are the last two factors for each block: (8 Σ x, Σ x).  Around 8 less cancels out.
    """
    @intrinsic
    def dot(typing, rows, stride, x, sums, n, y):
        def code(context, builder, signature, arguments):
            rows, stride, x, sums, n, y = arguments
            add, multiply = partial(builder.fadd, flags=[*FLAGS]), partial(builder.fmul, flags=[*FLAGS])
            totals = [cgutils.alloca_once_value(builder, ir.Constant(SINGLES, [0.0] * 16)) for _ in range(n_rows)]
            offsets = [cgutils.alloca_once_value(builder, ir.Constant(PAIR, [0.0] * 2)) for _ in range(n_rows)]
            with cgutils.for_range(builder, n) as block_loop:
                k = block_loop.index
                here = builder.gep(x, [builder.mul(k, ir.Constant(LONG, 32))])
                x0, x1 = _load(builder, here, 0, SINGLES), _load(builder, here, 16, SINGLES)
                pair = _load(builder, builder.gep(sums, [builder.mul(k, ir.Constant(LONG, 2))]), 0, PAIR)
                for r in range(n_rows):
                    row = builder.gep(rows, [builder.mul(stride, ir.Constant(LONG, r))])
                    block = builder.gep(row, [builder.mul(k, ir.Constant(LONG, n_bytes))])
                    halves = _halves(builder, block)
                    q0, q1 = _integers(builder, block, name)
                    total = multiply(add(multiply(q0, x0), multiply(q1, x1)), _splat(builder, halves))
                    builder.store(add(builder.load(totals[r]), total), totals[r])
                    if name == "Q4_1":
                        builder.store(add(builder.load(offsets[r]), multiply(halves, pair)), offsets[r])
            reduce = cgutils.get_or_insert_function(builder.module, ir.FunctionType(
                ir.FloatType(), [ir.FloatType(), SINGLES]), "llvm.vector.reduce.fadd.v16f32")
            for r in range(n_rows):
                pair = builder.load(offsets[r])
                offset = add(*(builder.extract_element(pair, ir.Constant(ir.IntType(32), i)) for i in range(2)))
                total = builder.call(reduce, [offset, builder.load(totals[r])], fastmath=[*FLAGS])
                builder.store(total, builder.gep(y, [ir.Constant(LONG, r)]))
            return context.get_dummy_value()
        return types.void(rows, stride, x, sums, n, y), code
    return dot


# ---------------------------------------------------------------------- products with vectors


dot_q8_0, dot_q4_0, dot_q4_1 = make_dot("Q8_0", 34), make_dot("Q4_0", 18), make_dot("Q4_1", 20)
# Two rows at a time; of an odd number the last but one is computed twice.


@loop(read(2), octets(2), write(2), write(2), reals=SINGLE)
def product_q8_0(x, w, sums, y):
    """y ← x wᵀ"""
    for t in range(len(x)):
        for i in range(0, len(w), 2):
            i = min(i, len(w) - 2)
            dot_q8_0(start_of(w[i]), w.shape[1], start_of(x[t]), start_of(sums), len(sums), start_of(y[t, i:]))


@loop(read(2), octets(2), write(2), write(2), reals=SINGLE)
def product_q4_0(x, w, sums, y):
    """y ← x wᵀ"""
    for t in range(len(x)):
        for i in range(0, len(w), 2):
            i = min(i, len(w) - 2)
            dot_q4_0(start_of(w[i]), w.shape[1], start_of(x[t]), start_of(sums), len(sums), start_of(y[t, i:]))


@loop(read(2), octets(2), write(2), write(2), reals=SINGLE)
def product_q4_1(x, w, sums, y):
    """y ← x wᵀ"""
    for t in range(len(x)):
        for k in range(len(sums)):
            total = np.float32(0)
            for j in range(32):
                total += x[t, 32 * k + j]
            sums[k, 0], sums[k, 1] = np.float32(8) * total, total
        for i in range(0, len(w), 2):
            i = min(i, len(w) - 2)
            dot_q4_1(start_of(w[i]), w.shape[1], start_of(x[t]), start_of(sums), len(sums), start_of(y[t, i:]))


@inlined()
def half(bits):
    """Return the float of the bits of a float16, which is finite."""
    size = (np.int32((bits & 0x7FFF) << 13)).view(np.float32) * np.float32(2.0 ** 112)
    return -size if bits & 0x8000 else size


@inlined()
def brain(bits):
    """Return the float of the bits of a bfloat16."""
    return np.int32(bits << 16).view(np.float32)


@loop(read(2), octets(2), write(2), write(2), reals=SINGLE)
def product_f16(x, w, sums, y):
    """y ← x wᵀ"""
    for t in range(len(x)):
        for i in range(len(w)):
            row, total = w[i].view(np.uint16), np.float32(0)
            for j in range(row.size):
                total += x[t, j] * half(np.int32(row[j]))
            y[t, i] = total


@loop(read(2), octets(2), write(2), write(2), reals=SINGLE)
def product_bf16(x, w, sums, y):
    """y ← x wᵀ"""
    for t in range(len(x)):
        for i in range(len(w)):
            row, total = w[i].view(np.uint16), np.float32(0)
            for j in range(row.size):
                total += x[t, j] * brain(np.int32(row[j]))
            y[t, i] = total


# ---------------------------------------------------------------------- rows widened


@loop(octets(2), write(2), reals=SINGLE)
def widen_f16(w, y):
    """y ← w"""
    for i in range(len(w)):
        row = w[i].view(np.uint16)
        for j in range(row.size):
            y[i, j] = half(np.int32(row[j]))


@loop(octets(2), write(2), reals=SINGLE)
def widen_bf16(w, y):
    """y ← w"""
    for i in range(len(w)):
        row = w[i].view(np.uint16)
        for j in range(row.size):
            y[i, j] = brain(np.int32(row[j]))


@inlined()
def scale_at(row, start):
    """Return the float of the float16 in two bytes."""
    return half(np.int32(row[start]) | np.int32(row[start + 1]) << 8)


@loop(octets(2), write(2), reals=SINGLE)
def widen_q8_0(w, y):
    """y ← w"""
    for i in range(len(w)):
        for k in range(y.shape[1] // 32):
            row = w[i, 34 * k:34 * k + 34]
            scale = scale_at(row, 0)
            for j in range(32):
                y[i, 32 * k + j] = scale * np.float32(np.int8(row[2 + j]))


@loop(octets(2), write(2), reals=SINGLE)
def widen_q4_0(w, y):
    """y ← w"""
    for i in range(len(w)):
        for k in range(y.shape[1] // 32):
            row = w[i, 18 * k:18 * k + 18]
            scale = scale_at(row, 0)
            for j in range(16):
                y[i, 32 * k + j] = scale * np.float32(np.int32(row[2 + j] & 15) - 8)
                y[i, 32 * k + 16 + j] = scale * np.float32(np.int32(row[2 + j] >> 4) - 8)


@loop(octets(2), write(2), reals=SINGLE)
def widen_q4_1(w, y):
    """y ← w"""
    for i in range(len(w)):
        for k in range(y.shape[1] // 32):
            row = w[i, 20 * k:20 * k + 20]
            scale, offset = scale_at(row, 0), scale_at(row, 2)
            for j in range(16):
                y[i, 32 * k + j] = scale * np.float32(row[4 + j] & 15) + offset
                y[i, 32 * k + 16 + j] = scale * np.float32(row[4 + j] >> 4) + offset


# Format -> the loop of products with vectors, and that which widens rows.
LOOPS = {"F16": (product_f16, widen_f16), "BF16": (product_bf16, widen_bf16), "Q8_0": (product_q8_0, widen_q8_0),
         "Q4_0": (product_q4_0, widen_q4_0), "Q4_1": (product_q4_1, widen_q4_1)}
