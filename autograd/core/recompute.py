"""Freeing and recomputing (rematerialization): a value that the backward pass has freed is recomputed on demand."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from .arrays import is_tensor
from .errors import changed_error, extend, point_at
from .mode import current_mode
from .multi_output import shape_and_dtype


def free(t: Any) -> None:
    """Drop the value of a record, which is recomputed if it is needed; a leaf keeps its value."""
    if t.op is not None and (value := t._array) is not None:
        t.freed = (value.shape, value.dtype) if type(value) is not tuple else shape_and_dtype(t)
        t._array = t.saved = None


def value_of(t: Any) -> Any:
    """Return the value of `t`.  A freed one is recomputed, and so are the freed values that it needs, oldest first.

    Raises RuntimeError if a leaf has changed since."""
    if t._array is not None:
        return t._array
    freed, stack = {t}, [t]
    while stack:
        for a in stack.pop().inputs:
            if is_tensor(a) and a._array is None and a not in freed:
                freed.add(a)
                stack.append(a)
    for record in sorted(freed, key=attrgetter("created")):
        _recompute(record)
    return t._array


def _recompute(record: Any) -> None:
    """Restore the value of a freed record, whose inputs have theirs, and what a kernel saves for backward."""
    for a in record.inputs:
        if is_tensor(a) and a.version > record.created:
            raise changed_error(a, record)
    values = [a._array if is_tensor(a) else a for a in record.inputs]
    try:
        record._array, record.saved = record.op.compute(values, record.attrs)
        record.freed = None
    except Exception as error:
        point_at(record, extend(error, "  when its freed value was recomputed"))
        raise
    if (observer := current_mode().observer) is not None:
        observer.on_forward(record)
