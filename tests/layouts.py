"""Arrays that lie in memory otherwise than NumPy would lay them."""

import numpy as np

import autograd as ag
from autograd.core.arrays import find_owner


def columns_first(a):
    """Fortran's order."""
    return np.array(a, order="F")


def turned(a):
    """The last axis lies outermost."""
    return np.moveaxis(np.moveaxis(a, -1, 0).copy(order="C"), 0, -1) if a.ndim else a.copy()


def strided(a):
    """Every other element along each axis of a larger array, whose other elements are 77 (or True)."""
    wide = np.full([2 * n for n in a.shape], 77, a.dtype)
    inner = wide[(..., *(slice(None, None, 2),) * a.ndim)]
    inner[...] = a
    return inner


def backwards(a):
    """Negative strides along each axis."""
    every = (slice(None, None, -1),) * a.ndim
    return np.array(a[every], order="C")[every] if a.ndim else a.copy()


def unaligned(a):
    """The elements begin one byte off."""
    memory = np.zeros(a.nbytes + 1, np.uint8)
    b = memory[1:].view(a.dtype).reshape(a.shape)
    b[...] = a
    return b


def repeated(a):
    """Stride 0 along the first axis: all of its elements become the first."""
    return np.broadcast_to(a[:1], a.shape) if a.ndim and a.size else a


LAYOUTS = {f.__name__: f for f in (columns_first, turned, strided, backwards, unaligned, repeated)}


def copy(a):
    """The same numbers in memory of their own, where they lie just as those of `a` do."""
    memory = find_owner(a)
    offset = a.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
    return np.ndarray(a.shape, a.dtype, memory.copy(order="K"), offset, a.strides)


def leaf(a):
    """A tensor that requires a gradient and whose buffer lies in memory as `a` does."""
    t = ag.tensor(a, requires_grad=True)
    if isinstance(a, np.ndarray) and a.flags.writeable:
        t.use_buffers(copy(a))
    return t
