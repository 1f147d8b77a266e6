"""Ops that move elements without changing them."""

from __future__ import annotations

import numpy as np

from ..engine import Tensor, op, tensor
from ..methods import answers


@op
def reshape(x, shape):
    """The same elements in another shape; one −1 in it is worked out.  y = x, in order"""
    return x.reshape(shape)


@reshape.gradient("x")
def _(g, y, x, shape):
    """∂L/∂x = g in the shape of x"""
    return g.reshape(x.shape)


@op
def transpose(x, axes=None):
    """Axes in another order (None: reversed).  y's axis i is x's axis axes[i]"""
    return x.transpose(axes)


@transpose.gradient("x")
def _(g, y, x, axes=None):
    """∂L/∂x = g with the axes in their old order"""
    if axes is None:
        return g.transpose()
    axes = [a % x.ndim for a in axes]
    return g.transpose(tuple(axes.index(i) for i in range(x.ndim)))


@op
def swapaxes(x, axis1, axis2):
    """Two axes exchanged."""
    return x.swapaxes(axis1, axis2)


@swapaxes.gradient("x")
def _(g, y, x, axis1, axis2):
    """∂L/∂x = g with the two axes exchanged"""
    return g.swapaxes(axis1, axis2)


@op
def broadcast_to(x, shape):
    """Elements repeated along new axes and axes of length 1."""
    return np.broadcast_to(x, shape)


@broadcast_to.gradient("x")
def _(g, y, x, shape):
    """∂L/∂x = g, summed over the repetitions"""
    return g


@op
def concatenate(*xs, axis=0):
    """Arrays one after the other along an axis that exists (None: all flattened first)."""
    return np.concatenate(xs, axis=axis)


@concatenate.gradient("*xs")
def _(g, y, *xs, axis=0):
    """∂L/∂xᵢ = the part of g that came from xᵢ"""
    sizes = [x.size if axis is None else x.shape[axis] for x in xs]
    ends = [sum(sizes[:i + 1]) for i in range(len(sizes) - 1)]
    parts = split(g, ends, axis=0 if axis is None else axis)
    return [part.reshape(x.shape) for part, x in zip(parts, xs)]


@op
def split(x, indices_or_sections, axis=0):
    """A tuple of parts along `axis`: a number of equal ones, or cut at the given indices.  yᵢ = x[…, cᵢ:cᵢ₊₁, …]"""
    return tuple(np.split(x, indices_or_sections, axis=axis))


@split.gradient("x")
def _(g, y, x, indices_or_sections, axis=0):
    """∂L/∂x = the gradients of the parts, one after the other"""
    return np.concatenate(g, axis=axis)


@op
def astype(x, dtype):
    """The same numbers as another floating-point dtype (Tensor.astype also makes integers, as constants)."""
    return x.astype(dtype)


@astype.gradient("x")
def _(g, y, x, dtype):
    """∂L/∂x = g, in the dtype of x"""
    return g


@op(differentiable=False)
def truncate(x, dtype):
    """The same numbers as integers or booleans, towards zero."""
    if np.dtype(dtype).kind not in "iub":
        raise TypeError(f"a tensor holds real numbers or booleans, not {np.dtype(dtype)}")
    return x.astype(dtype)


# ---------------------------------------------------------------------- constants of a tensor's kind


@answers(np.zeros_like, np.ones_like, np.empty_like)
def _filled_like(function, x, dtype=None, shape=None):
    return tensor(function(x.data if isinstance(x, Tensor) else x, dtype=dtype, shape=shape))


for _function in (np.shape, np.ndim, np.size):
    answers(_function)(lambda function, x: function(np.broadcast_to(0, x.shape)))
