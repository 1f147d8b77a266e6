"""A tape as text, a line for each record, and summaries of values: norm, range, mean."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np

from ..core.arrays import find_owner
from ..core.describe import (
    describe,
    format_bytes,
    is_small,
    label,
    numbers,
    plural,
    record_line,
    shorten,
    statistics,
)
from ..engine import Tape, Tensor

SHOWN = 40
"""Maximum records in the repr of a tape, half from its head and half from its tail."""


def number_records(tape: Tape) -> dict[Tensor, int]:
    """Map each record to its number in the tape: `%7` is record 7."""
    return {t: i for i, t in enumerate(tape)}


def lines(tape: Tape) -> list[str]:
    """Return a line for each record: number, dtype and shape, op and inputs, scope, and the user's source line."""
    number_of = number_records(tape)
    return [record_line(t, number_of) for t in tape]


def tape_text(tape: Tape) -> str:
    """Return a line of totals and a line for each record; of a long tape its head and tail."""
    number_of, half = number_records(tape), SHOWN // 2
    if len(tape) <= SHOWN + 1:
        shown = lines(tape)
    else:
        head, tail = ([record_line(t, number_of) for t in records] for records in (tape[:half], tape[-half:]))
        shown = [*head, f"… {len(tape) - 2 * half:,} more records …", *tail]
    return "\n".join([totals(tape), *shown])


def totals(tape: Tape) -> str:
    """Return `Tape of 12 records: 8 operations of 6 kinds, 3 parameters (1,234 numbers), 1 constant; keeps 45.6 kB`."""
    ops = Counter(t.op.name for t in tape if t.op is not None)
    parameters = [t for t in tape if t.op is None and t.requires_grad]
    constants = sum(t.op is None and not t.requires_grad for t in tape)
    counts = [plural(ops.total(), "operation") + (f" of {plural(len(ops), 'kind')}" if ops else "")]
    if parameters:
        counts.append(f"{plural(len(parameters), 'parameter')} ({plural(sum(t.size for t in parameters), 'number')})")
    if constants:
        counts.append(plural(constants, "constant"))
    return f"Tape of {plural(len(tape), 'record')}: {', '.join(counts)}; keeps {format_bytes(kept_bytes(tape))}"


def kept_bytes(tape: Tape) -> int:
    """Count the bytes that the operations of a tape keep alive, each buffer once and without the leaves' buffers."""
    buffers: dict[int, int] = {}
    leaves = {id(find_owner(t._array)) for t in tape if t.op is None}
    for t in tape:
        if t.op is not None:
            for array in arrays_in((t._array, t.saved, t.inputs)):  # inputs may contain plain arrays
                if id(buffer := find_owner(array)) not in leaves:
                    buffers[id(buffer)] = buffer.nbytes
    return sum(buffers.values())


def arrays_in(value: Any) -> list[Any]:
    """Return the arrays in a value, or in what a kernel saved for the backward pass; Tensors are skipped."""
    if isinstance(value, (tuple, list)):
        return [array for item in value for array in arrays_in(item)]
    return [value] if hasattr(value, "nbytes") and not isinstance(value, Tensor) else []


def summary(value: Any) -> str:
    """Summarize a value or gradient: the numbers of a small array, the norm and statistics of a larger one."""
    if isinstance(value, (tuple, dict)):
        return "; ".join(f"item {i}: {summary(array)}" if array is not None else i for i, array in some_items(value))
    if is_small(value):
        return numbers(value)
    if not isinstance(value, np.ndarray):  # another library's array, or an argument that is no array
        return describe(value)
    return f"norm {norm(value):.4g}, {statistics(value)}" if value.dtype.kind == "f" else statistics(value)


def some_items(value: Any) -> list[tuple[Any, Any]]:
    """Return pairs (number, array) of a tuple, or of a dict with some of its arrays.  The middle of a long one is
    replaced by a pair (text, None), which tells how many are left out."""
    indices = shorten(sorted(value) if isinstance(value, dict) else range(len(value)))
    return [(i, None if isinstance(i, str) else value[i]) for i in indices]


def record_type(t: Tensor) -> str:
    """Return "operation", "parameter" or "constant"."""
    return "operation" if t.op is not None else "parameter" if t.requires_grad else "constant"


def record_name(t: Tensor, numbers: dict[Tensor, int]) -> str:
    """Return `%3 'w'` for a record of the tape; a record older than the tape has no number and is described instead."""
    return f"%{numbers[t]}" + (f" {t.name!r}" if t.name else "") if t in numbers else label(t)


def norm(value: Any) -> float:
    """Compute the Euclidean norm √Σx² of an array of any library, or of all arrays in a tuple or dict."""
    if isinstance(value, (tuple, dict)):
        return math.hypot(*map(norm, value.values() if isinstance(value, dict) else value))
    magnitudes = abs(value.astype(float))
    largest = magnitudes.max().item() if value.size else 0.0
    if not 0 < largest < math.inf:
        return largest
    return largest * math.sqrt(((magnitudes / largest) ** 2).sum().item())  # scaled, since squares may overflow
