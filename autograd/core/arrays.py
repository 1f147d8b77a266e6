"""Helpers on arrays of any library: checks of inputs and results, private copies, casts, unbroadcasting."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Sequence
from numbers import Number
from typing import Any

import numpy as np

from .packed import Packed

LARGE = 1 << 16
"""Bytes from which on `snapshot` keeps the copy of an array for its next use."""
_copies: dict[int, tuple[Any, Any, Any]] = {}  # id of an array -> a weak reference to it, its layout then, the copy
PLAIN = frozenset({np.ndarray, np.memmap, Packed, int, float, bool, str, slice, type, type(None), type(Ellipsis),
                   *[scalar for scalar in np.sctypeDict.values() if np.dtype(scalar).kind in "biuf"]})
"""Types of arguments that need no check; beside a Tensor, `check_operand` sees those of any other type."""
_IMMUTABLE = PLAIN - {np.ndarray, np.memmap}
_COMPLEX = "complex numbers are not supported, only real numbers: use the real and the imaginary part as two tensors"


class Deferred(TypeError):
    """An operand has `__array_ufunc__ = None`: the operator returns NotImplemented, and Python tries the other one."""


def is_tensor(a: Any) -> bool:
    """Return True for a Tensor, told by its attributes: the engine, which defines the type, imports this module."""
    return hasattr(a, "backward") and hasattr(a, "op")


def is_foreign(a: Any) -> bool:
    """Return True for an array of another library that implements NumPy's protocols, such as CuPy's."""
    return hasattr(a, "__array_function__") and not isinstance(a, (np.ndarray, np.generic))


def check_operand(a: Any, name: str) -> Any:
    """Return `a`, an argument beside Tensors that the op calls `name`, as its formula is to get it.

    Raises TypeError for anything that would lose a gradient or a property of its own: a masked array its mask, a matrix
    its product, an object of another library its labels.  Arrays of a library that implements NumPy's protocols, as
    CuPy's do, are returned as they are.
    """
    if getattr(a, "__array_ufunc__", "") is None:
        raise Deferred(f"{name} is a {_type_name(a)}, which takes part in no NumPy function (__array_ufunc__ is None)")
    if reason := explain_misfit(a, name):
        raise TypeError(reason)
    return np.asarray(a) if isinstance(a, np.ndarray) else a  # of a memmap, say, the array


def explain_misfit(a: Any, name: str) -> str:
    """Return the reason why an op does not take `a` as its input `name`, and what to pass instead; "" if it does."""
    if isinstance(a, (str, bytes, type, int, float)) or is_foreign(a):
        return ""
    if type(a) is np.ndarray or isinstance(a, np.generic):
        if a.dtype.kind in "biuf":
            return ""
        cure = f": pass {name}.astype(float)" if a.dtype.kind == "O" else ""
        return _COMPLEX if a.dtype.kind == "c" else f"{name} holds no real numbers, but {a.dtype}{cure}"
    if isinstance(a, Number):
        return _COMPLEX if isinstance(a, complex) else f"{name} is a {_type_name(a)}: pass float({name})"
    if isinstance(a, np.ma.MaskedArray):
        return f"{name} is a masked array, whose mask would be lost: pass np.ma.filled({name}, value)"
    if isinstance(a, np.ndarray) and keeps_operators(type(a)):
        return ""
    if hasattr(a, "toarray"):
        return f"{name} is a sparse {_type_name(a)}: pass {name}.toarray()"
    if hasattr(a, "__array__") or getattr(a, "__array_ufunc__", None) is not None:
        cure = f"{name}.detach().numpy()" if getattr(a, "requires_grad", False) else f"np.asarray({name})"
        return f"{name} is a {_type_name(a)}, and no plain array: pass {cure}"
    return ""


def keeps_operators(subclass: Any) -> bool:
    """Return True for a subclass of np.ndarray that keeps the meaning of its operators (np.memmap, not np.matrix)."""
    return subclass.__mul__ is np.ndarray.__mul__ and subclass.__array_ufunc__ is np.ndarray.__array_ufunc__


def short_repr(a: Any) -> str:
    """Return the beginning of a repr, on one line."""
    text = " ".join(repr(a).split())
    return text if len(text) <= 40 else text[:37] + "..."


def _type_name(a: Any) -> str:
    """Return library and type: `pandas Series`, `torch Tensor`."""
    return f"{type(a).__module__.partition('.')[0]} {type(a).__name__}"


def private_copy(a: Any) -> Any:
    """Return a copy of an array, which no caller can change, with the arrays of a tuple copied too; anything else as it
    is.  Raises TypeError for an array of anything but real numbers and booleans."""
    if type(a) in _IMMUTABLE or is_tensor(a):
        return a
    if type(a) is tuple:
        return a if _IMMUTABLE.issuperset(map(type, a)) else tuple([private_copy(convert_sequence(item)) for item in a])
    if hasattr(a, "__array_function__") and not isinstance(a, np.generic):
        if a.dtype.kind not in "biuf":
            raise TypeError(_COMPLEX if a.dtype.kind == "c" else f"an op takes real numbers, and no array of {a.dtype}")
        return a.copy(order="K")  # in its memory order, since sums in another order round differently
    if isinstance(a, (complex, np.complexfloating)):
        raise TypeError(_COMPLEX)
    return a


def snapshot(a: Any) -> Any:
    """Return a private copy for reading only.  That of a large array is kept while the array lives, and returned again
    as long as both have the same bits."""
    if type(a) in _IMMUTABLE:  # a shortcut for the most frequent constants
        return a
    if type(a) not in (np.ndarray, np.memmap) or a.dtype.kind not in "fiub":
        return private_copy(a)
    if a.nbytes < LARGE or a.dtype.itemsize > 8:
        return np.array(a)  # of a memmap too
    layout, (array, its_layout, copy) = (a.shape, a.strides, a.dtype), _copies.get(id(a), (int, None, None))
    if array() is not a or layout != its_layout or not _same_bits(a, copy):
        copy = np.array(a)
        _copies[id(a)] = weakref.ref(a, functools.partial(_copies.pop, id(a))), layout, copy
    return copy


def _same_bits(a: Any, b: Any) -> bool:
    """Return True if two arrays of one shape and dtype have the same bits, so NaN and −0 too; block by block."""
    bits = f"u{a.itemsize}"
    blocks = np.nditer([a.view(bits), b.view(bits)], ["external_loop", "buffered"], order="K", buffersize=1 << 15)
    return all((x == y).all() for x, y in blocks)


def find_owner(array: Any) -> Any:
    """Return the array that owns the memory of `array`: itself, unless it is a view."""
    base = getattr(array, "base", None)
    while base is not None and isinstance(base, type(array)) and base is not array:  # a dtype is its own
        array, base = base, getattr(base, "base", None)
    return array


def convert_sequence(a: Any, is_array: bool = False) -> Any:
    """Return a list, or another of Python's sequences, as an array (an empty one of integers, as `x[[]]` needs them);
    a tuple only if `is_array`, since it may be a shape or an index; anything else as it is."""
    if isinstance(a, tuple) and not is_array or isinstance(a, (str, bytes)) or not isinstance(a, Sequence):
        return a
    return np.asarray(a, None if a else int)


def make_array(data: Any, dtype: Any, copy: bool = True) -> Any:
    """Return an array with the values of `data`: an array of any library, a number or a nested list; without `copy` it
    may be `data` itself.  Raises TypeError for anything but real numbers and booleans, and for a masked array."""
    if isinstance(data, np.ma.MaskedArray) or getattr(data, "requires_grad", False):
        raise TypeError(explain_misfit(data, "data"))
    array = data if is_foreign(data) else np.asarray(data)
    if array.dtype.kind in "fiub" or array.dtype.kind == "O" and dtype is not None:
        array = array.astype(dtype or array.dtype) if is_foreign(data) else np.array(array, dtype, copy=copy or None)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"a tensor holds real numbers or booleans, not {array.dtype}: "
                        f"{explain_misfit(data, 'data') or short_repr(data)}" + (
                            "; of an object with fields, vars(it) is the dict of them, and transforms look into dicts"
                            if array.dtype.kind == "O" and hasattr(data, "__dict__") else ""))
    return array


def check_result(y: Any) -> Any:
    """Return the result of a formula as an array or a tuple of arrays.  Raises TypeError for anything else."""
    if isinstance(y, np.generic):
        return y
    if isinstance(y, tuple) and not any(isinstance(item, tuple) for item in y):
        return tuple([check_result(item) for item in y])
    if isinstance(y, (int, float)):  # a formula of operators, given numbers
        return np.asarray(y)[()]
    if is_tensor(y):
        raise TypeError("the formula used a Tensor that it was not given: make it a parameter")
    if isinstance(y, np.ndarray) and keeps_operators(type(y)):
        return np.asarray(y)
    if not is_foreign(y):
        raise TypeError(f"the formula returned {short_repr(y)}, and should return an array, or a tuple of arrays")
    return y


def as_tuple(value: Any) -> tuple:
    """Return the arrays of a value, which is an array or a tuple of them, as a tuple."""
    return value if type(value) is tuple else (value,)


def has_floats(y: Any) -> bool:
    """Return True if a gradient can flow to `y`, an array or a tuple of arrays: one of them is of floats."""
    return y.dtype.kind == "f" if type(y) is not tuple else any(a.dtype.kind == "f" for a in y)


def unshare(y: Any, values: Sequence[Any]) -> Any:
    """Return `y`, an array or a tuple of arrays computed from `values`, copied where it may share their memory."""
    if type(y) is tuple:
        return tuple([unshare(item, values) for item in y])
    if y.dtype.kind not in "fiub":
        raise TypeError(_COMPLEX if y.dtype.kind == "c" else f"a tensor holds real numbers or booleans, not {y.dtype}")
    if isinstance(y, np.generic):
        return np.asarray(y)
    if getattr(y, "base", None) is not None:
        return y.copy(order="K")
    for v in values:
        if y is v or type(v) is tuple and v and hasattr(v[0], "dtype"):  # y may be one of a tuple of arrays
            return y.copy(order="K")
    return y


def freeze_attr(a: Any, name: str) -> Any:
    """Return a deep copy of an attribute, so that later mutation by the caller has no effect.  Raises TypeError for a
    Tensor."""
    if type(a) in _IMMUTABLE:  # almost all are
        return a
    if is_tensor(a):
        raise TypeError(f"{name} is an attribute of the op, not an input, and cannot be a Tensor: pass numbers "
                        "(t.item(), t.tolist()); of a captured program's arguments, pass Python's own numbers")
    if isinstance(a, dict):
        return {key: freeze_attr(item, name) for key, item in a.items()}
    if isinstance(a, (list, tuple)):
        return tuple([freeze_attr(item, name) for item in a])
    return a.copy() if isinstance(a, np.ndarray) and a.dtype.kind in "SUT" else snapshot(a)


def as_gradient(g: Any, dtype: Any) -> Any:
    """Return `g` as an array of `dtype` that others can be added into; an array of another library as it is."""
    return g if is_foreign(g) else np.asarray(g, dtype)


def widen(a: Any) -> Any:
    """Return half precision as single, in which sums, squares and counts neither overflow nor stall; any other array as
    it is."""
    return a.astype(np.float32) if getattr(a, "dtype", None) == np.float16 else a


def as_floats(a: Any) -> Any:
    """Return integers and booleans in double precision, floats as they are: small integers overflow, unsigned ones have
    no negatives, and NumPy's functions turn those of one byte into half precision."""
    return a if a.dtype.kind == "f" else a.astype(float)


def cast(x: Any, dtype: Any) -> Any:
    """Return `x` itself if it has this dtype already, else converted."""
    return x if x.dtype == dtype else x.astype(dtype)


def narrow(y: Any, *xs: Any) -> Any:
    """Return `y`, computed from `widen(x)` of each x, in half precision again if all of `xs` are."""
    return y.astype(np.float16) if all(getattr(x, "dtype", np.float16) == np.float16 for x in xs) else y


def read_only(a: Any) -> Any:
    """Return a view of a NumPy array that cannot be written through; another library's array as it is."""
    if isinstance(a, np.ndarray):
        a = a.view()
        a.flags.writeable = False
    return a


def unbroadcast(d: Any, x: Any) -> Any:
    """Return gradient `d` in the shape and dtype of the input `x`: summed over the axes that broadcasting added.

    Raises ValueError for a shape that `x` does not broadcast to, TypeError for anything but an array of real numbers.
    """
    if not hasattr(d, "shape") or type(d) is not np.ndarray and not is_tensor(d) and explain_misfit(d, "d"):
        raise TypeError(f"a gradient rule returned {short_repr(d)}, and not an array")
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
