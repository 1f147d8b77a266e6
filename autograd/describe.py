"""Arrays, tensors and source lines in a few words, for messages and reprs."""

from __future__ import annotations

from typing import Any

import numpy as np

OURS = frozenset({"autograd", "autograd.ops", "autograd.kernels", "autograd.view"})
"""The packages whose lines no user wrote."""
_SHORT = {"float": "f", "int": "i", "uint": "u"}


def dtype_shape(shape: tuple[int, ...], dtype: Any) -> str:
    """`f32[3,4]`: dtype and shape."""
    name = str(dtype)
    letters = name.rstrip("0123456789")
    return f"{_SHORT.get(letters, letters)}{name[len(letters):]}[{','.join(map(str, shape))}]"


def describe(value: Any) -> str:
    """An array by dtype and shape, anything else by a short repr."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return dtype_shape(value.shape, value.dtype)
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _shape_dtype(t: Any) -> tuple[tuple[int, ...], Any]:
    value = t._data
    if value is None:  # freed: the record remembers
        return t.saved or ((), None)
    return ((), None) if isinstance(value, tuple) else (value.shape, value.dtype)


def label(t: Any) -> str:
    """What to call a tensor in a message: `leaf 'w' f64[3,4]`, `multiply f32[5]`."""
    what = t.op.name if t.op is not None else "leaf"
    return " ".join(filter(None, [what, f"'{t.name}'" if t.name else "", dtype_shape(*_shape_dtype(t))]))


def one_line(t: Any) -> str:
    """The repr of a tensor: small arrays by their numbers, others by shape."""
    data, (shape, dtype) = t._data, _shape_dtype(t)
    if isinstance(data, tuple):
        parts = [f"{len(data)} arrays: " + ", ".join(map(describe, data))]
    elif isinstance(data, (np.ndarray, np.generic)) and data.size <= 8:
        parts = [" ".join(np.array2string(np.asarray(data), precision=4, separator=", ").split()), str(dtype)]
        parts[1:1] = [f"shape={shape}"] * (len(shape) > 1 or data.size == 0)
    else:
        parts = [f"shape={shape}", str(dtype)] + ["freed"] * (data is None)
    if t.op is not None:
        parts.append(f"op={t.op.name}")
    elif t.requires_grad:
        parts.append("requires_grad=True")
    if t.name:
        parts.append(f"name={t.name!r}")
    return f"Tensor({', '.join(parts)})"


def users_frame(frame: Any) -> Any:
    """The innermost frame that is not of this package."""
    while frame.f_globals.get("__package__") in OURS and frame.f_back:
        frame = frame.f_back
    return frame


def source_line(t: Any) -> tuple[str, int]:
    """File and line of the instruction that made a tensor."""
    for start, end, line in t._code.co_lines():
        if start <= t._offset < end and line is not None:
            return t._code.co_filename, line
    return t._code.co_filename, t._code.co_firstlineno


def call_error(name: str, values: Any, attrs: dict, error: Exception) -> Exception:
    """The same kind of error, with the op and what it was given."""
    given = [describe(v) for v in values] + [f"{key}={v!r}" for key, v in attrs.items()]
    text = f"{name}({', '.join(given)}): {error}"
    try:
        return type(error)(text)
    except TypeError:  # an error with a constructor of its own
        kinds = (IndexError, ValueError, TypeError, AttributeError)
        return next(kind for kind in kinds if isinstance(error, kind))(text)


def changed_error(leaf: Any, t: Any) -> Exception:
    """A leaf was written to after record `t` was computed from it."""
    return RuntimeError(f"{label(leaf)} was changed after {label(t)} was computed from it: call backward before "
                        "assigning t.data or stepping an optimizer, or compute the loss again")
