"""What the engine does to arrays, whichever library they are of."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Sequence
from numbers import Number
from typing import Any

import numpy as np

LARGE = 1 << 16
"""Bytes from which on the copy of an array is kept for its next use."""
_copies: dict[int, tuple[Any, Any, Any]] = {}  # id of an array -> a weak reference to it, its form then, the copy
PLAIN = frozenset({np.ndarray, np.memmap, int, float, bool, str, slice, type, type(None), type(Ellipsis),
                   *[scalar for scalar in np.sctypeDict.values() if np.dtype(scalar).kind in "biuf"]})
"""Types of which an op takes everything as it is; whatever else it is given beside Tensors is looked at."""
_IMMUTABLE = PLAIN - {np.ndarray, np.memmap}
_COMPLEX = "complex numbers are not supported, only real numbers: use the real and the imaginary part as two tensors"


class Deferred(TypeError):
    """An operand that says `__array_ufunc__ = None`: its own operators are to be asked."""


def is_tensor(a: Any) -> bool:
    """Tell a Tensor by what it has, for modules that the engine imports and that cannot import its type."""
    return hasattr(a, "backward") and hasattr(a, "op")


def is_foreign(a: Any) -> bool:
    """Whether `a` is an array of another library, which answers NumPy's functions itself."""
    return hasattr(a, "__array_function__") and not isinstance(a, (np.ndarray, np.generic))


def check_operand(a: Any, name: str) -> Any:
    """Return `a`, the input `name` of an op, as that computes with it beside Tensors.

    Raises TypeError for what would lose a gradient, or something of its own, on the way: a masked array its mask, a
    matrix its product, an object of another library its labels.  Arrays of a library that answers NumPy's functions
    itself, as CuPy's do, are taken as they are.
    """
    if getattr(a, "__array_ufunc__", "") is None:
        raise Deferred(f"{name} is a {_type_name(a)}, which takes part in no NumPy function (__array_ufunc__ is None)")
    if reason := explain_misfit(a, name):
        raise TypeError(reason)
    return np.asarray(a) if isinstance(a, np.ndarray) else a  # of a memmap, say, the array


def explain_misfit(a: Any, name: str) -> str:
    """Say why an op does not take `a` as its input `name`, and what to pass; "" for what it takes."""
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
    if isinstance(a, np.ndarray) and computes_as_arrays_do(type(a)):
        return ""
    if hasattr(a, "toarray"):
        return f"{name} is a sparse {_type_name(a)}: pass {name}.toarray()"
    if hasattr(a, "__array__") or getattr(a, "__array_ufunc__", None) is not None:
        cure = f"{name}.detach().numpy()" if getattr(a, "requires_grad", False) else f"np.asarray({name})"
        return f"{name} is a {_type_name(a)}, and no plain array: pass {cure}"
    return ""


def computes_as_arrays_do(subclass: Any) -> bool:
    """Tell subclasses of NumPy's arrays that keep the operators' meaning (np.memmap) from others (np.matrix)."""
    return subclass.__mul__ is np.ndarray.__mul__ and subclass.__array_ufunc__ is np.ndarray.__array_ufunc__


def short_repr(a: Any) -> str:
    """The beginning of a repr, in one line."""
    text = " ".join(repr(a).split())
    return text if len(text) <= 40 else text[:37] + "..."


def _type_name(a: Any) -> str:
    """`pandas Series`, `torch Tensor`."""
    return f"{type(a).__module__.partition('.')[0]} {type(a).__name__}"


def own(a: Any) -> Any:
    """Return a private copy of an array, which nobody else can change; anything else as it is.

    Raises TypeError for an array of anything but real numbers and booleans.
    """
    if type(a) in _IMMUTABLE or is_tensor(a):
        return a
    if type(a) is tuple:
        return a if _IMMUTABLE.issuperset(map(type, a)) else tuple([own(convert_sequence(item)) for item in a])
    if hasattr(a, "__array_function__") and not isinstance(a, np.generic):
        if a.dtype.kind not in "biuf":
            raise TypeError(_COMPLEX if a.dtype.kind == "c" else f"an op takes real numbers, and no array of {a.dtype}")
        return a.copy(order="K")  # in its own memory order, since sums of numbers in another order round differently
    if isinstance(a, (complex, np.complexfloating)):
        raise TypeError(_COMPLEX)
    return a


def snapshot(a: Any) -> Any:
    """`owned(a)`, to be read only: of a large array one copy is kept while the array is there, and serves again as long
    as their bits are the same."""
    if type(a) in _IMMUTABLE:  # the quick way for what records are given most
        return a
    if type(a) not in (np.ndarray, np.memmap) or a.dtype.kind not in "fiub":
        return own(a)
    if a.nbytes < LARGE or a.dtype.itemsize > 8:
        return np.array(a)  # of a memmap too
    form, (array, its_form, copy) = (a.shape, a.strides, a.dtype), _copies.get(id(a), (int, None, None))
    if array() is not a or form != its_form or not _same_bits(a, copy):
        copy = np.array(a)
        _copies[id(a)] = weakref.ref(a, functools.partial(_copies.pop, id(a))), form, copy
    return copy


def _same_bits(a: Any, b: Any) -> bool:
    """Compare two arrays of one shape and dtype bit by bit, so NaN and −0 too, a piece at a time."""
    bits = f"u{a.itemsize}"
    pieces = np.nditer([a.view(bits), b.view(bits)], ["external_loop", "buffered"], order="K", buffersize=1 << 15)
    return all((x == y).all() for x, y in pieces)


def find_owner(array: Any) -> Any:
    """The array whose memory `array` is in: itself, unless it is a view."""
    while isinstance(base := getattr(array, "base", None), type(array)) and base is not array:  # a dtype is its own
        array = base
    return array


def convert_sequence(a: Any, is_array: bool = False) -> Any:
    """A list, or another of Python's sequences, as an array (an empty list as one of integers, as `x[[]]` needs them),
    and so a tuple that stands for an array, and no shape or index; anything else as it is."""
    if isinstance(a, tuple) and not is_array or isinstance(a, (str, bytes)) or not isinstance(a, Sequence):
        return a
    return np.asarray(a, None if a else int)


def make_array(data: Any, dtype: Any, copy: bool = True) -> Any:
    """Return an array with the numbers of `data`: an array, of whichever library, a number or a nested list; without
    `copy` it may be `data` itself.  Raises TypeError for what holds no real numbers, and for what hides some."""
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
    """Return the result of a formula, if it is one: an array, or a tuple of arrays."""
    if isinstance(y, np.generic):
        return y
    if isinstance(y, tuple) and not any(isinstance(part, tuple) for part in y):
        return tuple([check_result(part) for part in y])
    if isinstance(y, (int, float)):  # of numbers, a formula of operators makes a number
        return np.asarray(y)[()]
    if is_tensor(y):
        raise TypeError("the formula used a Tensor that it was not given: make it a parameter")
    if isinstance(y, np.ndarray) and computes_as_arrays_do(type(y)):
        return np.asarray(y)
    if not is_foreign(y):
        raise TypeError(f"the formula returned {short_repr(y)}, and should return an array, or a tuple of arrays")
    return y


def as_tuple(value: Any) -> tuple:
    """The arrays of a value, which is one or a tuple of them."""
    return value if type(value) is tuple else (value,)


def has_floats(y: Any) -> bool:
    """Tell if a gradient can flow from `y`, an array or a tuple of arrays: one of them has floating-point numbers."""
    return any(part.dtype.kind == "f" for part in as_tuple(y))


def unshare(y: Any, values: Sequence[Any]) -> Any:
    """Return a result `y` of `values` (an array, or a tuple of them) with its numbers to itself."""
    if type(y) is tuple:
        return tuple([unshare(part, values) for part in y])
    if y.dtype.kind not in "fiub":
        raise TypeError(_COMPLEX if y.dtype.kind == "c" else f"a tensor holds real numbers or booleans, not {y.dtype}")
    if isinstance(y, np.generic):
        return np.asarray(y)
    shared = getattr(y, "base", None) is not None or any(  # one of a tuple's arrays is not looked for among all of them
        y is v or type(v) is tuple and v and hasattr(v[0], "dtype") for v in values)
    return y.copy(order="K") if shared else y


def freeze_attr(a: Any, name: str) -> Any:
    """A setting as it is now, whatever its owner does with it later.  Raises TypeError for a Tensor."""
    if is_tensor(a):
        raise TypeError(f"{name} is a setting, not an input, and cannot be a Tensor: pass numbers (t.item(), "
                        "t.tolist()); an argument of a recorded program is a setting if it is a number of Python's")
    if isinstance(a, dict):
        return {key: freeze_attr(item, name) for key, item in a.items()}
    if isinstance(a, (list, tuple)):
        return tuple([freeze_attr(item, name) for item in a])
    return a.copy() if isinstance(a, np.ndarray) and a.dtype.kind in "SUT" else snapshot(a)


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


def cast(x: Any, dtype: Any) -> Any:
    """Return `x` itself if it has this dtype already, else converted."""
    return x if x.dtype == dtype else x.astype(dtype)


def narrow(y: Any, *xs: Any) -> Any:
    """Return a result `y` of `widen(x)` of each of `xs` in half precision, if that is the precision of all of them."""
    return y.astype(np.float16) if all(getattr(x, "dtype", np.float16) == np.float16 for x in xs) else y


def read_only(a: Any) -> Any:
    """A view of a NumPy array that cannot be written through; another library's array as it is."""
    if isinstance(a, np.ndarray):
        a = a.view()
        a.flags.writeable = False
    return a


def unbroadcast(d: Any, x: Any) -> Any:
    """Gradient `d` in the shape and dtype of the input `x`: summed over the axes that broadcasting added.

    Raises ValueError for a shape that broadcasting `x` cannot have made, TypeError for what holds no real numbers.
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
