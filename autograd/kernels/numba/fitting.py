"""Helpers of Numba's kernels: the arrays that the compiled loops take, and conversions to their form."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..numpy.common import contiguous
from .compiling import compile_double

PAIRS: dict[str, Any] = {}  # name of an op -> its pair


def kernel(name):
    """Register the class below as the kernel of op `name`."""
    return lambda pair: PAIRS.setdefault(name, pair)


def is_real(dtype):
    """Return True for a dtype that the loops take; those of double precision are compiled when first asked for."""
    if dtype == np.float64:
        compile_double()
    return dtype in (np.float32, np.float64)


def are_floats(*arrays):
    """Return True for floats of one dtype, with at least one element."""
    dtype = arrays[0].dtype
    return is_real(dtype) and all(a.dtype == dtype and a.flags.aligned and a.size for a in arrays)


def fit(*arrays):
    """Return True for arrays that loops take as they are: floats of one dtype, in C order."""
    return are_floats(*arrays) and all(a.flags.c_contiguous for a in arrays)


def in_rows(a):
    """Return True if `a` can be viewed with four axes and a contiguous last one, and `empty_like(a)` too, so not with a
    stride of 0."""
    if a.flags.c_contiguous:
        return True
    return 0 < a.ndim <= 4 and (a.shape[-1] == 1 or a.strides[-1] == a.itemsize and all(
        abs(stride) > a.itemsize for stride, n in zip(a.strides[:-1], a.shape) if n > 1))


def of_four_axes(a):
    """Return a view of an array `in_rows` with four axes."""
    return a.reshape((1,) * (4 - a.ndim) + a.shape if a.ndim < 4 else (-1, *a.shape[-3:]))


def are_integers(a):
    """Return True for an array of integers."""
    return isinstance(a, np.ndarray) and a.dtype.kind in "iu"


def as_int64(executor, a):
    """Return `a`, or a copy of it, as the loops take integers: int64 in C order."""
    if a.dtype == np.int64 and a.flags.c_contiguous and a.flags.aligned:
        return a
    copy = executor.empty(a, a.shape, np.int64)
    executor.run(np.copyto, copy, a)
    return copy


def as_four_axes(executor, a):
    """Return `a`, or a copy of it, with four axes and contiguous rows."""
    return of_four_axes(a if in_rows(a) else contiguous(executor, a))


def flat(a):
    """Return an array in C order as one of one axis."""
    return a.reshape(-1)


def constant(executor, value, n, dtype):
    """Return a read-only array of n times the same value."""
    return executor.constant(_constant(value, n, dtype))


def gain(executor, x, weight):
    """Return the weight of a norm, or ones."""
    return constant(executor, 1, x.shape[-1], x.dtype) if weight is None else weight


@functools.lru_cache
def _constant(value, n, dtype):
    return np.full(n, value, dtype)
