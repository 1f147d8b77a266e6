"""What the adapters of the compiled loops share: which arrays the loops take, and how they are brought in that form."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..numpy.common import contiguous
from .loops import compile_double

PAIRS: dict[str, Any] = {}  # name of an op -> its pair


def kernel(name):
    """Enter the class below for an op."""
    return lambda pair: PAIRS.setdefault(name, pair)


def is_real(dtype):
    """Whether it is a kind of float that the loops take; in double precision they are compiled when first asked for."""
    if dtype == np.float64:
        compile_double()
    return dtype in (np.float32, np.float64)


def are_floats(*arrays):
    """Whether these are floats of one kind, with at least one element."""
    dtype = arrays[0].dtype
    return is_real(dtype) and all(a.dtype == dtype and a.flags.aligned and a.size for a in arrays)


def fit(*arrays):
    """Whether loops take these as they are: floats of one kind, in C order."""
    return are_floats(*arrays) and all(a.flags.c_contiguous for a in arrays)


def in_rows(a):
    """Whether `a` can be seen as an array of four axes, the elements of the last side by side; an array like it is then
    such a one, too, which is not so where a row is repeated by a stride of 0."""
    if a.flags.c_contiguous:
        return True
    return 0 < a.ndim <= 4 and (a.shape[-1] == 1 or a.strides[-1] == a.itemsize and all(
        abs(stride) > a.itemsize for stride, n in zip(a.strides[:-1], a.shape) if n > 1))


def of_four_axes(a):
    """An array `in_rows` as one of four axes, without copying it."""
    return a.reshape((1,) * (4 - a.ndim) + a.shape if a.ndim < 4 else (-1, *a.shape[-3:]))


def are_integers(a):
    """Whether it is an array of integers."""
    return isinstance(a, np.ndarray) and a.dtype.kind in "iu"


def as_int64(executor, a):
    """`a`, or a copy of it, as the loops take integers."""
    if a.dtype == np.int64 and a.flags.c_contiguous and a.flags.aligned:
        return a
    copy = executor.empty(a, a.shape, np.int64)
    executor.run(np.copyto, copy, a)
    return copy


def as_four_axes(executor, a):
    """`a`, or a copy of it, as the loops go through rows."""
    return of_four_axes(a if in_rows(a) else contiguous(executor, a))


def flat(a):
    """An array in C order as one of one axis."""
    return a.reshape(-1)


def constant(executor, value, n, dtype):
    """An array of n such numbers, to read."""
    return executor.constant(_constant(value, n, dtype))


def gain(executor, x, weight):
    """The weight of a norm, or ones."""
    return constant(executor, 1, x.shape[-1], x.dtype) if weight is None else weight


@functools.lru_cache
def _constant(value, n, dtype):
    return np.full(n, value, dtype)
