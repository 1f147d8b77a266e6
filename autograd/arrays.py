"""What the engine does to arrays, whichever library they are of."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

LARGE = 1 << 16
"""Bytes from which on the copy of an array is kept for its next use."""
_copies: dict[int, tuple[Any, Any, Any]] = {}  # id of an array -> a weak reference to it, its form then, the copy


def is_foreign(a: Any) -> bool:
    """Whether `a` is an array of another library, which answers NumPy's functions itself."""
    return hasattr(a, "__array_function__") and not isinstance(a, (np.ndarray, np.generic))


def owned(a: Any) -> Any:
    """A private copy of an array, which nobody else can change; anything else as it is."""
    if type(a) is float or type(a) is int:  # quickly, as most are
        return a
    if isinstance(a, complex) or getattr(getattr(a, "dtype", None), "kind", "") == "c":
        raise TypeError("complex numbers are not supported: gradients here are of real functions of real numbers")
    # In its own memory order, since sums of the same numbers in another order round differently.
    return a.copy(order="K") if hasattr(a, "__array_function__") and not isinstance(a, np.generic) else a


def private(a: Any) -> Any:
    """`owned(a)`, to be read only: of a large array one copy is kept while the array is there, and serves again as long
    as their bits are the same."""
    if type(a) is float or type(a) is int:  # the quick way for what records are given most
        return a
    if type(a) not in (np.ndarray, np.memmap) or a.dtype.kind not in "fiub":
        return owned(a)
    if a.nbytes < LARGE or a.dtype.itemsize > 8:
        return a.copy(order="K")
    form, (array, its_form, copy) = (a.shape, a.strides, a.dtype), _copies.get(id(a), (int, None, None))
    if array() is not a or form != its_form or not _same_bits(a, copy):
        copy = a.copy(order="K")
        _copies[id(a)] = weakref.ref(a, functools.partial(_copies.pop, id(a))), form, copy
    return copy


def _same_bits(a: Any, b: Any) -> bool:
    """Whether two arrays of one shape and dtype are the same, NaN and −0 too, looked at a piece at a time."""
    bits = f"u{a.itemsize}"
    pieces = np.nditer([a.view(bits), b.view(bits)], ["external_loop", "buffered"], order="K", buffersize=1 << 15)
    return all((x == y).all() for x, y in pieces)


def owner(array: Any) -> Any:
    """The array whose memory `array` is in: itself, unless it is a view."""
    while isinstance(base := getattr(array, "base", None), type(array)):
        array = base
    return array


def as_given(a: Any, is_array: bool = False) -> Any:
    """A list as an array (an empty one of integers, as `x[[]]` needs them), and so a tuple that stands for an array,
    and no shape or index; anything else as it is."""
    if type(a) is list or is_array and type(a) is tuple:
        return np.asarray(a, None if a else int)
    return a


def new_array(data: Any, dtype: Any) -> Any:
    """A new array with the numbers of `data`: an array, of whichever library, a number or a nested list."""
    array = data.astype(dtype or data.dtype) if is_foreign(data) else np.array(data, dtype=dtype)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"a tensor holds real numbers or booleans, not {array.dtype}: {data!r:.60}")
    return array


def checked(y: Any) -> Any:
    """The result of a formula, if it is one: an array, or a tuple of arrays."""
    if hasattr(y, "backward"):
        raise TypeError("the formula used a Tensor that it was not given: make it a parameter")
    if isinstance(y, tuple) and not any(isinstance(part, tuple) for part in y):
        return tuple([checked(part) for part in y])
    if isinstance(y, (int, float)):  # of numbers, a formula of operators makes a number
        return np.asarray(y)[()]
    if not hasattr(y, "dtype"):
        raise TypeError(f"the formula returned {y!r:.40}, and should return an array, or a tuple of arrays")
    return y


def parts_of(value: Any) -> tuple:
    """The arrays of a value, which is one or a tuple of them."""
    return value if type(value) is tuple else (value,)


def has_floats(y: Any) -> bool:
    """Whether a gradient can flow from `y`, an array or a tuple of arrays: one of them has floating-point numbers."""
    return any(part.dtype.kind == "f" for part in parts_of(y))


def unshared(y: Any, values: Sequence[Any]) -> Any:
    """A result `y` of `values` (an array, or a tuple of them) with its numbers to itself."""
    if type(y) is tuple:
        return tuple([unshared(part, values) for part in y])
    if y.dtype.kind not in "fiub":
        instead = ": use the real and the imaginary part as two tensors" if y.dtype.kind == "c" else ""
        raise TypeError(f"a tensor holds real numbers or booleans, not {y.dtype}{instead}")
    if isinstance(y, np.generic):
        return np.asarray(y)
    shared = getattr(y, "base", None) is not None or any(  # one of a tuple's arrays is not looked for among all of them
        y is v or type(v) is tuple and v and hasattr(v[0], "dtype") for v in values)
    return y.copy(order="K") if shared else y


def constant(a: Any, name: str) -> Any:
    """A setting as it is now, whatever its owner does with it later.  Raises TypeError for a Tensor."""
    if hasattr(a, "backward"):
        raise TypeError(f"{name} is a setting, not an input, and cannot be a Tensor: pass numbers (t.item(), "
                        "t.tolist()); an argument of a recorded program is a setting if it is a number of Python's")
    if isinstance(a, dict):
        return {key: constant(item, name) for key, item in a.items()}
    return tuple([constant(item, name) for item in a]) if isinstance(a, (list, tuple)) else private(a)


def as_gradient(g: Any, dtype: Any) -> Any:
    """`g` as an array that others can be added into."""
    return g if is_foreign(g) else np.asarray(g, dtype)


def widen(a: Any) -> Any:
    """Half precision as single, in which sums, squares and counts of it neither overflow nor stall; any other array as
    it is."""
    return a.astype(np.float32) if getattr(a, "dtype", None) == np.float16 else a


def as_floats(a: Any) -> Any:
    """Integers and booleans in double precision, and any other array as it is: small integers overflow, unsigned ones
    have no negatives, and NumPy's functions make half precision of those of one byte."""
    return a if a.dtype.kind == "f" else a.astype(float)


def narrow(y: Any, x: Any) -> Any:
    """A result `y` of `widen(x)` in the precision of x."""
    return y.astype(np.float16) if getattr(x, "dtype", None) == np.float16 else y


def read_only(a: Any) -> Any:
    """A view of a NumPy array that cannot be written through; another library's array as it is."""
    if isinstance(a, np.ndarray):
        a = a.view()
        a.flags.writeable = False
    return a


def as_input(d: Any, x: Any) -> Any:
    """Gradient `d` in the shape and dtype of the input `x`: summed over the axes that broadcasting added.

    Raises ValueError for a shape that broadcasting `x` cannot have made, TypeError for what is no array.
    """
    if not hasattr(d, "shape"):
        raise TypeError(f"a gradient rule returned {d!r:.40}, and not an array")
    extra = len(d.shape) - len(x.shape)
    if extra < 0 or any(n != m and n != 1 for n, m in zip(x.shape, d.shape[extra:])):
        raise ValueError(f"a gradient rule returned shape {d.shape} for an input of shape {x.shape}")
    axes = tuple(i for i, m in enumerate(d.shape) if i < extra or x.shape[i - extra] != m)
    d = widen(d).sum(axis=axes).reshape(x.shape) if axes else d
    if d.dtype == x.dtype:
        return d
    if d.dtype.kind not in "fiub":
        raise TypeError(f"a gradient rule returned {d.dtype}, and a gradient is of real numbers")
    return d.astype(x.dtype)
