"""Shape ops: they move, join and split elements without changing them."""

from __future__ import annotations

import inspect
import itertools

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ..core.registry import FUNCTIONS, NUMPY_OVERRIDES
from ..core.tree import tree_map
from ..define import composed, op
from ..engine import Tensor, tensor
from .elementwise import as_array
from .index import put, scatter_add


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
    """Axes in another order (None: reversed).  y = x, axis i of it being x's axis axes[i]"""
    return x.transpose(axes)

@transpose.gradient("x")
def _(g, y, x, axes=None):
    """∂L/∂x = g with the axes in their old order"""
    if axes is None:
        return g.transpose()
    axes = normalize_axis_tuple(axes, x.ndim)
    return g.transpose(tuple(axes.index(i) for i in range(x.ndim)))


@op
def swapaxes(x, axis1, axis2):
    """Two axes exchanged.  y = x with axis1 and axis2 exchanged"""
    return x.swapaxes(axis1, axis2)

@swapaxes.gradient("x")
def _(g, y, x, axis1, axis2):
    """∂L/∂x = g with the two axes exchanged"""
    return g.swapaxes(axis1, axis2)


@op
def broadcast_to(x, shape):
    """Elements repeated along new axes and axes of length 1.  y = x, repeated"""
    return np.broadcast_to(x, shape)

@broadcast_to.gradient("x")
def _(g, y, x, shape):
    """∂L/∂x = g, summed over the repetitions"""
    return g


@op
def concatenate(*xs, axis=0):
    """Arrays one after the other along an axis that exists (None: all flattened first).  y = [x₁, x₂, …]"""
    return np.concatenate(xs, axis=axis)

@concatenate.gradient("*xs")
def _(g, y, *xs, axis=0):
    """∂L/∂xᵢ = the part of g that came from xᵢ"""
    xs = [as_array(x) for x in xs]
    ends = list(itertools.accumulate(x.size if axis is None else x.shape[axis] for x in xs))
    parts = split(g, ends[:-1], axis=0 if axis is None else axis)
    return [d.reshape(x.shape) for d, x in zip(parts, xs)]


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
    """The same numbers as another floating-point dtype (Tensor.astype also makes integers, as constants).  y = x"""
    if np.dtype(dtype).kind != "f":
        raise TypeError(f"no gradient flows through {np.dtype(dtype)}: t.astype(dtype) or ag.truncate makes a constant")
    return x.astype(dtype)

@astype.gradient("x")
def _(g, y, x, dtype):
    """∂L/∂x = g, in the dtype of x"""
    return g


@op(differentiable=False)
def truncate(x, dtype):
    """The same numbers as integers or booleans, towards zero.  y = x, truncated"""
    if np.dtype(dtype).kind not in "iub":
        raise TypeError(f"a tensor holds real numbers or booleans, not {np.dtype(dtype)}")
    return x.astype(dtype)


@op
def tril(x, k=0):
    """Lower triangle of the last two axes: zeros above diagonal k.  y[…, i, j] = x[…, i, j] where j ≤ i + k"""
    return np.tril(x, k)

@tril.gradient("x")
def _(g, y, x, k=0):
    """∂L/∂x = the lower triangle of g"""
    return np.tril(g, k)


@op
def triu(x, k=0):
    """Upper triangle of the last two axes: zeros below diagonal k.  y[…, i, j] = x[…, i, j] where j ≥ i + k"""
    return np.triu(x, k)

@triu.gradient("x")
def _(g, y, x, k=0):
    """∂L/∂x = the upper triangle of g"""
    return np.triu(g, k)


# ---------------------------------------------------------------------- composed: NumPy itself says where elements go


@composed
def ravel(x, order="C"):
    """All elements on one axis, row by row ("C") or column by column ("F")."""
    return np.reshape(x, (-1,), order=order)


def _reshape(x, shape, order="C", copy=None):
    """Reshape with NumPy's further arguments, such as the order of the elements."""
    if order not in ("C", "F"):
        raise ValueError(f'the elements are in the order "C" or "F", and not {order!r}')
    shape = tuple(shape) if np.ndim(shape) else (shape,)
    return reshape(x, shape) if order == "C" else np.transpose(reshape(np.transpose(x), shape[::-1]))


NUMPY_OVERRIDES[np.reshape] = _reshape


def _register_reshape(function, words):
    """Implement `function` as a reshape to the shape that NumPy's gives an array of zeros that takes no memory."""
    def reshaped(x, *args, **kwargs):
        x, args, kwargs = as_array(x), _to_arrays(args), _to_arrays(kwargs)
        return x.reshape(function(np.broadcast_to(0, x.shape), *args, **kwargs).shape)
    return register_as_numpys(reshaped, function, words)


def _register_transpose(function, words):
    """Implement `function` as a transpose into the order that NumPy's gives axes of the lengths 1, 2, 3 …"""
    def transposed(x, *args, **kwargs):
        args, kwargs = _to_arrays(args), _to_arrays(kwargs)
        order = function(np.broadcast_to(0, range(1, x.ndim + 1)), *args, **kwargs).shape
        return x.transpose(tuple(n - 1 for n in order))
    return register_as_numpys(transposed, function, words)


def _register_gather(function, words):
    """Implement `function` by indexing: NumPy's, applied to the elements' indices, says where each element goes."""
    def taken(x, *args, **kwargs):
        x, args, kwargs = as_array(x), _to_arrays(args), _to_arrays(kwargs)
        return x.reshape((-1,))[function(np.arange(x.size).reshape(x.shape), *args, **kwargs)]
    return register_as_numpys(taken, function, words)


def _to_arrays(arguments):
    """Return arguments with arrays in the place of Tensors, for NumPy's functions."""
    return tree_map(lambda a: a.data if isinstance(a, Tensor) else a, arguments)


def register_as_numpys(made, function, words):
    """Register `made` under the name and signature of a NumPy function, with the docstring `words`."""
    made.__name__, made.__doc__, made.__signature__ = function.__name__, words, inspect.signature(function)
    return composed(made, implements=function)


_register_reshape(np.expand_dims, "New axes of length 1, at the places `axis` of the result.")
_register_reshape(np.squeeze, "Without axes of length 1: all of them, or the given ones.")
_register_transpose(np.moveaxis, "Axes moved from `source` to `destination`, the others in their order.")
_register_transpose(np.rollaxis, "An axis moved to before the axis `start`.")
_register_gather(np.flip, "The order reversed along axes (None: all).")
_register_gather(np.fliplr, "The order reversed along the second axis.")
_register_gather(np.flipud, "The order reversed along the first axis.")
_register_gather(np.roll, "Elements moved along axes, those that fall out coming back on the other side.")
_register_gather(np.rot90, "The plane of two axes turned by k right angles, from the first towards the second.")
_register_gather(np.tile, "Copies side by side, reps[i] of them along axis i.")
_register_gather(np.repeat, "Each element `repeats` times along an axis (None: of all elements).")
_register_gather(np.delete, "Without the places `obj` along an axis (None: of all elements).")
_register_gather(np.diagonal, "The elements a[i, i + offset] of the matrices in axis1 and axis2, as the last axis.")
_register_gather(np.resize, "All elements in order, again and again, as many as a new shape has.")
_register_gather(np.fft.fftshift, "First element of a Fourier transform moved to the middle, along axes (None: all).")
_register_gather(np.fft.ifftshift, "The inverse of `fftshift`.")


def _register_at_least(function, words):
    """Implement `function` on any number of arrays as reshapes."""
    def at_least(*xs):
        made = [as_array(x).reshape(function(np.broadcast_to(0, np.shape(x))).shape) for x in xs]
        return made[0] if len(made) == 1 else tuple(made)
    return register_as_numpys(at_least, function, words)


_register_at_least(np.atleast_1d, "Arrays with an axis, if they have none.")
_register_at_least(np.atleast_2d, "Arrays with new first axes, up to two.")
_register_at_least(np.atleast_3d, "Arrays with new first and last axes, up to three.")


@composed
def broadcast_arrays(*xs):
    """Arrays repeated to their common shape."""
    shape = np.broadcast_shapes(*[np.shape(x) for x in xs])
    return tuple(np.broadcast_to(as_array(x), shape) for x in xs)


@composed
def meshgrid(*xs, indexing="xy"):
    """The coordinates of a grid from those of its axes: an array for each axis, of all lengths ("ij"), or of them with
    the first two swapped ("xy")."""
    xs = [np.ravel(as_array(x)) for x in xs]
    if indexing not in ("xy", "ij"):
        raise ValueError(f'indexing is "xy" or "ij", not {indexing!r}')
    grid = broadcast_arrays(*[x.reshape(tuple(-1 if i == j else 1 for j in range(len(xs)))) for i, x in enumerate(xs)])
    return tuple(x.swapaxes(0, 1) if indexing == "xy" and len(xs) > 1 else x for x in grid)


# ---------------------------------------------------------------------- composed: joining and cutting


@composed
def stack(xs, axis=0):
    """Arrays of one shape along a new axis."""
    return np.concatenate([np.expand_dims(as_array(x), axis) for x in xs], axis=axis)


@composed
def vstack(xs):
    """Arrays one below the other: along the first axis, rows made of 1-D arrays."""
    return np.concatenate([np.atleast_2d(x) for x in xs], axis=0)


@composed
def hstack(xs):
    """Arrays side by side: along the second axis, or the only one."""
    xs = [np.atleast_1d(x) for x in xs]
    return np.concatenate(xs, axis=0 if xs[0].ndim == 1 else 1)


def _register_join(function, words, *which):
    """Implement `function` by indexing into the arrays of its arguments `which` (trees), flattened and concatenated:
    NumPy's, applied to the elements' indices, says where each element goes."""
    def joined(*args, **kwargs):
        xs, end = [], 0

        def places(x):
            nonlocal end
            xs.append(x)
            end += np.size(x)
            return np.arange(end - np.size(x), end).reshape(np.shape(x))

        args = [tree_map(places, a) if i in which else _to_arrays(a) for i, a in enumerate(args)]
        index = function(*args, **_to_arrays(kwargs))
        if function is np.insert:  # it casts the values to the dtype of the array
            xs = [x if x.dtype == xs[0].dtype else x.astype(xs[0].dtype) for x in map(as_array, xs)]
        return np.concatenate(xs, axis=None)[index]
    return register_as_numpys(joined, function, words)


_register_join(np.column_stack, "Arrays side by side, 1-D ones as columns.", 0)
_register_join(np.dstack, "Arrays behind one another: along the third axis.", 0)
_register_join(np.block, "Nested lists of arrays as one: the innermost along the last axis, and so on.", 0)
_register_join(np.append, "Values behind the elements of an array: along an axis, or (None) of all in order.", 0, 1)
_register_join(np.insert, "Values in an array, before the places `obj` along an axis (None: of all elements).", 0, 2)


@composed(implements=())
def array(xs, dtype=None):
    """Nested lists of Tensors, arrays and numbers as one array, as np.array makes it of arrays: ag.array([t, 2 * t]).

    All in one list need one shape.  Without Tensors it is np.array.  Raises ValueError where the shapes differ.
    """
    leaves = []
    shape = _gather_leaves(xs, leaves)
    if not any(isinstance(x, Tensor) for x in leaves):
        return np.array(xs, dtype=dtype)
    y = np.concatenate(leaves, axis=None).reshape(shape)
    return y if dtype is None or y.dtype == dtype else y.astype(dtype)


def _gather_leaves(xs, leaves):
    """Return the shape of nested lists, whose arrays and numbers are appended to `leaves`."""
    if not isinstance(xs, (list, tuple)):
        leaves.append(xs)
        return xs.shape if hasattr(xs, "shape") else ()
    shapes = list(dict.fromkeys([_gather_leaves(x, leaves) for x in xs]))
    if len(shapes) > 1:
        raise ValueError(f"a list holds arrays of the shapes {shapes[0]} and {shapes[1]}, and to be one array they "
                         "need the same")
    return (len(xs), *(shapes[0] if shapes else ()))


@composed
def unstack(x, axis=0):
    """A tuple of the parts at each place along an axis, without that axis."""
    return tuple(np.moveaxis(x, axis, 0))


def _register_split(function, axis, least, words):
    """Implement `function` as a split along `axis` of arrays of at least `least` axes."""
    def parts(x, indices_or_sections):
        if x.ndim < least:
            raise ValueError(f"{function.__name__} takes arrays of {least} axes or more, and x has shape {x.shape}")
        return np.split(x, indices_or_sections, axis=0 if x.ndim == 1 else axis)
    return register_as_numpys(parts, function, words)


_register_split(np.hsplit, 1, 1, "`split` along the second axis, or the only one.")
_register_split(np.vsplit, 0, 2, "`split` along the first axis.")
_register_split(np.dsplit, 2, 3, "`split` along the third axis.")


@composed
def array_split(x, indices_or_sections, axis=0):
    """`split` into parts that may differ in length by one."""
    if np.ndim(indices_or_sections):
        return split(x, list(indices_or_sections), axis=axis)
    size, larger = divmod(x.shape[axis], indices_or_sections)
    return split(x, [i * size + min(i, larger) for i in range(1, indices_or_sections)], axis=axis)


@composed
def pad(x, pad_width, mode="constant", constant_values=0):
    """More elements before and after each axis: (before, after) for each, one pair or number for all, or a dict of
    them by axis.  They are `constant_values`, or x's own by the modes "edge", "reflect", "symmetric" and "wrap"."""
    if isinstance(pad_width, dict):  # axis -> its pair or number
        of_axis = {normalize_axis_index(axis, x.ndim): width for axis, width in pad_width.items()}
        pad_width = [np.broadcast_to(of_axis.get(axis, 0), 2) for axis in range(x.ndim)]
    widths = np.broadcast_to(pad_width, (x.ndim, 2)).tolist()
    if mode == "constant":
        if np.ndim(constant_values):
            raise ValueError("constant_values is one number here")
        inside = tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape))
        shape = tuple(before + n + after for (before, after), n in zip(widths, x.shape))
        return put(np.full_like(x, constant_values, shape=shape), x, inside)
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise ValueError(f'mode is "constant", "edge", "reflect", "symmetric" or "wrap", not {mode!r}')
    return np.ravel(x)[np.pad(np.arange(x.size).reshape(x.shape), pad_width, mode=mode)]


@composed
def diag(x, k=0):
    """The diagonal k of a matrix, or the matrix with the vector x on its diagonal k."""
    if x.ndim == 2:
        return np.diagonal(x, k)
    if x.ndim != 1:
        raise ValueError(f"diag takes a vector or a matrix, not shape {x.shape}: np.diagonal takes more axes")
    n, i = x.shape[0] + abs(k), np.arange(x.shape[0])
    return scatter_add(x, (i + max(-k, 0), i + max(k, 0)), shape=(n, n))


# ---------------------------------------------------------------------- constants of a tensor's kind


def _filled_like(function):
    def filled(x, *fill, dtype=None, shape=None):
        """A constant of the shape and dtype of x, or the given ones."""
        like = x if not isinstance(x, Tensor) else x._array if x._array is not None else x.data
        made = function(like, *fill, dtype=dtype, shape=shape)
        return made if like is x else tensor(made)
    filled.__name__ = filled.__qualname__ = function.__name__
    return composed(filled)


zeros_like, ones_like, empty_like, full_like = map(_filled_like, (
    np.zeros_like, np.ones_like, np.empty_like, np.full_like))
if hasattr(np, "astype"):  # NumPy 2.1
    NUMPY_OVERRIDES[np.astype] = lambda x, dtype: x.astype(dtype)
NUMPY_OVERRIDES[np.concatenate] = lambda arrays, axis=0: concatenate(list(arrays), axis=axis)
NUMPY_OVERRIDES[np.imag] = FUNCTIONS["zeros_like"]
NUMPY_OVERRIDES[np.iscomplexobj], NUMPY_OVERRIDES[np.isrealobj] = (lambda x: False), (lambda x: True)
NUMPY_OVERRIDES[np.result_type] = lambda *xs: np.result_type(*[x.dtype if isinstance(x, Tensor) else x for x in xs])
for _asked in (np.shape, np.ndim, np.size):
    NUMPY_OVERRIDES[_asked] = lambda x, function=_asked, **how: function(np.broadcast_to(0, x.shape), **how)
