"""Helpers of NumPy's kernels: registration, blocks, rows."""

from __future__ import annotations

import math

import numpy as np

from ...core.registry import REGISTRY
from ...ops.network.probabilities import below_largest

BLOCK = 1 << 15  # elements of a block, so that intermediate results stay in the processor's cache


def kernel(name):
    """Register the class below as the kernel of op `name` for NumPy's arrays."""
    return lambda pair: REGISTRY[name].kernels.setdefault(np.ndarray, pair)


def blocks(*arrays):
    """Yield the same block of each array, block by block; the arrays are contiguous and of one shape."""
    flat = [a.reshape(-1) for a in arrays]
    if flat[0].size <= BLOCK:
        yield flat
        return
    for start in range(0, flat[0].size, BLOCK):
        yield [a[start:start + BLOCK] for a in flat]


def contiguous(executor, a):
    """Return `a`, or a copy of it, in C order."""
    if a.flags.c_contiguous:
        return a
    copy = executor.empty(a, a.shape)
    executor.run(np.copyto, copy, a)
    return copy


def as_rows(a):
    """Return an array as rows: (…, n) -> (rows, n)."""
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


def subtract_largest(x, out):
    """Write x minus the maximum of each row into `out`, with the formula's conventions for infinities."""
    largest = np.maximum.reduce(x, -1, None, None, True, -np.inf)
    if np.count_nonzero(np.isfinite(largest)) == largest.size:  # .all() takes three times as long
        np.subtract(x, largest, out)
    else:
        np.copyto(out, below_largest(x, -1)[0])


def row_sum(a):
    """Return sums along the last axis, which is kept; on short rows several times as fast as `a.sum`."""
    return np.einsum("...i->...", a)[..., None]


def are_floats(*arrays):
    """Return True for floats of one dtype, single or double: sums of squares of half precision overflow."""
    dtype = arrays[0].dtype
    for a in arrays:
        if not isinstance(a, np.ndarray) or a.dtype != dtype:
            return False
    return dtype.kind == "f" and dtype.itemsize >= 4
