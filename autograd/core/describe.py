"""Short descriptions of arrays, tensors and source lines, for messages and reprs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from .arrays import is_tensor, short_repr
from .multi_output import shape_and_dtype
from .packed import Packed


class _InternalPackages(dict[Any, bool]):
    """Map from a frame's `__package__` to True if it is this package or one inside it, whose lines no user wrote."""

    def __missing__(self, package: Any) -> bool:
        self[package] = isinstance(package, str) and package.partition(".")[0] == __name__.partition(".")[0]
        return self[package]


INTERNAL = _InternalPackages()
MANY = 16
"""Most items (inputs, arrays of a tuple) that a line lists in full."""
_QUICK = 10_000_000  # most elements that a repr computes statistics of, as a debugger asks for it at every step
_SHORT = {"float": "f", "int": "i", "uint": "u"}


def dtype_shape(shape: tuple[int, ...], dtype: Any) -> str:
    """Return dtype and shape: `f32[3,4]`."""
    name = str(dtype)
    letters = name.rstrip("0123456789")
    return f"{_SHORT.get(letters, letters)}{name[len(letters):]}[{','.join(map(str, shape))}]"


def plural(n: int, noun: str) -> str:
    """Return a number with its noun: `1 record`, `1,234 records`."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def format_bytes(n: float) -> str:
    """Return a number of bytes with its unit: `45.6 kB`."""
    for unit in ("bytes", "kB", "MB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "bytes" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} GB"


def describe(value: Any) -> str:
    """Return an array's dtype and shape, and of anything else a short repr."""
    if isinstance(value, type):  # such as np.float32
        return value.__name__
    if isinstance(value, slice):
        parts = ["" if part is None else str(part) for part in (value.start, value.stop, value.step)]
        return ":".join(parts[:2] if value.step is None else parts)
    if value is Ellipsis:
        return "..."
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return dtype_shape(value.shape, value.format.lower() if type(value) is Packed else value.dtype)
    try:
        return short_repr(value)
    except Exception:  # a faulty __repr__, which must not hide the message that it is a part of
        return f"<{type(value).__name__}>"


def shape_text(t: Any) -> str:
    """Return dtype and shape of a tensor's value, freed or not: `f32[3,4]`, or `(f32[3], f32[3])` for a tuple."""
    found = shape_and_dtype(t)
    if isinstance(found, list):
        runs = [(len(list(run)), dtype_shape(*pair)) for pair, run in groupby(found)]
        alike = [f"{n:,} × {text}" if n > 2 else ", ".join([text] * n) for n, text in runs]
        return f"({', '.join(shorten(alike))})"
    return dtype_shape(*found) if found else "not computed"


def shorten(items: Sequence[Any], more: str = "more") -> list[Any]:
    """Return the items; of more than MANY the first and last, with a text between that counts the others."""
    half = MANY // 2
    left = len(items) - 2 * half
    return [*items] if left <= 1 else [*items[:half], f"… {left:,} {more} …", *items[-half:]]


def is_small(value: Any) -> bool:
    """Return True for an array that is shown with all its elements."""
    return isinstance(value, (np.ndarray, np.generic)) and value.size <= 8


def numbers(value: Any) -> str:
    """Return the elements of a small array: `[1., 2.]`."""
    with np.errstate(all="ignore"):
        return " ".join(np.array2string(np.asarray(value), precision=4, separator=", ").split())


def statistics(value: Any) -> str:
    """Return range, mean and standard deviation, and counts of NaN and inf: `-1.2…3.4, mean 0.1±0.9, 2 NaN`."""
    if value.dtype.kind != "f":
        return f"{value.min()}…{value.max()}" if value.size else ""
    finite = value[np.isfinite(value)]
    largest = max(abs(finite).max(initial=0), np.finfo(value.dtype).tiny)
    with np.errstate(all="ignore"):
        scaled = (finite / largest).astype(float)  # so that squares cannot overflow
        parts = [] if not finite.size else [f"{finite.min():.3g}…{finite.max():.3g}",
                                            f"mean {scaled.mean() * largest:.2g}±{scaled.std() * largest:.2g}"]
    for name, bad in (("NaN", np.isnan(value)), ("inf", np.isinf(value))):
        parts += [f"{bad.sum()} {name}"] * bool(bad.any())
    return ", ".join(parts)


def label(t: Any) -> str:
    """Return the name of a tensor in a message: `leaf 'w' f64[3,4]`, `multiply f32[5]`."""
    maker = t.op.name if t.op is not None else "leaf"
    return " ".join(filter(None, [maker, f"'{t.name}'" if t.name else "", shape_text(t)]))


def tensor_repr(t: Any) -> str:
    """Return the repr of a tensor: small arrays with their elements, others with statistics."""
    data = t._array
    if not isinstance(shape_and_dtype(t), tuple):  # several arrays, or none was computed
        parts = [shape_text(t)]
    elif is_small(data):
        parts = [numbers(data), str(t.dtype)]
        parts[1:1] = [f"shape={t.shape}"] * (t.ndim > 1 or data.size == 0)
    else:
        parts = [f"shape={t.shape}", str(t.dtype)]
        if data is None:
            parts.append("freed")
        elif isinstance(data, np.ndarray) and data.size <= _QUICK:
            parts.append(statistics(data))
    if t.op is not None:
        parts.append(f"op={t.op.name}")
    elif t.requires_grad:
        parts.append("requires_grad=True")
    if t._grad is not None:
        parts.append("has grad")
    if t.name:
        parts.append(f"name={t.name!r}")
    return f"Tensor({', '.join(parts)})"


def users_frame(frame: Any) -> Any:
    """Return the innermost frame outside of this package."""
    while INTERNAL[frame.f_globals.get("__package__")] and frame.f_back:
        frame = frame.f_back
    return frame


def source_line(t: Any) -> tuple[str, int]:
    """Return file and line of the user's code that made a tensor."""
    for start, end, line in t._code.co_lines():
        if start <= t._offset < end and line is not None:
            return t._code.co_filename, line
    return t._code.co_filename, t._code.co_firstlineno


def source_text(t: Any) -> str:
    """Return `model.py:41`, or `cell:3` for a line of a notebook."""
    file, line = source_line(t)
    name = os.path.basename(file)
    in_cell = "ipykernel_" in file or file.startswith("<ipython") or name.startswith("__marimo__cell_")
    return f"{'cell' if in_cell else name}:{line}"


def _input_text(a: Any, number_of: Mapping[Any, int]) -> str:
    """Return `%3` for a record of the tape, and describe anything else."""
    return describe(a) if not is_tensor(a) else f"%{number_of[a]}" if a in number_of else label(a)


def call_text(t: Any, number_of: Mapping[Any, int]) -> str:
    """Return the call that made a record: `matmul(%3, %5)`, `sum(%1, axis=0)`, `parameter`, `constant`."""
    if t.op is None:
        return "parameter" if t.requires_grad else "constant"
    inputs = [_input_text(a, number_of) for a in t.inputs]
    if index := index_text(t, number_of):
        inputs[t.op.star:] = [index]
    attrs = [f"{key}={describe(value)}" for key, value in t.attrs.items()]
    return f"{t.op.name}({', '.join(shorten(inputs) + attrs)})"


def index_text(t: Any, number_of: Mapping[Any, int] = {}) -> str:  # noqa: B006
    """Return the index of a record that reads or writes at one: `[:, 0]`; "" for other ops."""
    star = t.op.star if t.op is not None else None
    if star is None or t.op.parameters[star] != "index":
        return ""
    return f"[{', '.join(map(lambda a: _input_text(a, number_of), t.inputs[star:]))}]"


def record_line(t: Any, number_of: Mapping[Any, int]) -> str:
    """Return a record's line of the tape: `%7 f32[16,64] = matmul(%3, %5)  block.0.attn  model.py:41`.
    `number_of` maps records to their numbers; those without one are described."""
    number = f"%{number_of[t]}" if t in number_of else ""
    result = " ".join(filter(None, [number, t.name and repr(t.name), shape_text(t)]))
    return "  ".join(filter(None, [f"{result} = {call_text(t, number_of)}", t.scope, source_text(t)]))
