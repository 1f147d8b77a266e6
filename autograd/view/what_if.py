"""Records found by what they are, and a tape played again with other values: `Tape.find` and `Tape.what_if`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np

from ..core.arrays import as_tuple, has_floats
from ..core.describe import describe, label, plural
from ..core.errors import changed_error, point_at
from ..core.mode import current_mode, within
from ..core.registry import REGISTRY
from ..engine import Tape, Tensor, tensor
from ..engine import tape as tape_of
from .backward import restore_freed
from .diff.diff import Difference
from .text import number_records, record_name, summary


def find(tape: Tape, op: Any = None, scope: str | None = None, name: str | None = None,
         where: Callable[[Tensor], Any] | None = None) -> list[Tensor]:
    """Return the records that match all given conditions, oldest first; `Tape.find` says what they are."""
    matches = matcher(tape, op, scope, name)
    return [t for t in tape if matches(t, [t]) and (where is None or where(t))]


def matcher(tape: Tape, op: Any, scope: str | None, name: str | None) -> Callable[[Tensor, Iterable[Tensor]], bool]:
    """Return a test of records: of the operation and the scope of a record, and of the names of some tensors.  Raises
    ValueError for an `op` that the tape does not contain."""
    op_name = getattr(op, "name", op)
    if op_name is not None and not any(t.op is not None and t.op.name == op_name for t in tape):
        made = {t.op.name for t in tape if t.op is not None}
        raise ValueError(f"no record of this tape is made by {op_name!r}: there are {', '.join(sorted(made))}")
    return lambda t, named: ((op is None or t.op is not None and t.op.name == op_name)
                             and (scope is None or _in_scope(t.scope, scope))
                             and (name is None or any(fnmatchcase(a.name, name) for a in named)))


def _in_scope(scope: str, pattern: str) -> bool:
    """Return True if a scope, or one around it, matches a pattern."""
    names = scope.split(".")
    return any(fnmatchcase(".".join(names[:i]), pattern) for i in range(len(names) + 1))


# ---------------------------------------------------------------------- what if


class WhatIf(NamedTuple):
    """A tape played again with other values (`tape`), and its comparison with the original (`diff`)."""

    tape: Tape
    diff: Difference

    def __repr__(self) -> str:
        numbers_a, numbers_b = map(number_records, (self.diff.tape_a, self.tape))
        rows = [f"{record_name(s, numbers_a)}: {summary(s._value())} -> {record_name(t, numbers_b)}: "
                f"{summary(t._value())}" for s, t in zip(self.diff.tape_a.roots, self.tape.roots)]
        return "\n".join([*rows, repr(self.diff)])


def what_if(tape: Tape, changes: Mapping[Tensor, Any]) -> WhatIf:
    """Play `tape` again with some of its values replaced; `Tape.what_if` says how."""
    inside = {*tape, *tape_of(*tape.roots)}
    for t in changes:
        if t not in inside:
            text = label(t) if isinstance(t, Tensor) else repr(t)
            raise ValueError(f"{text} is no record of this tape: tape.find(name=…, op=…, scope=…) returns its records, "
                             "and of a loss computed anew they are other ones")
    with restore_freed(tape), within(grad_enabled=True, observer=None, scope=current_mode().scope):
        _check_replay(tape, replay(tape))
        new = replay(tape, changes)
        made = tape_of(*[new[t] for t in tape.roots])
        present = set(made)
        return WhatIf(made, Difference(tape, made, partners={t: new[t] for t in tape if new[t] in present}))


def replay(tape: Tape, changes: Mapping[Tensor, Any] | None = None) -> dict[Tensor, Tensor]:
    """Compute the records of a tape anew, those in `changes` replaced.  Returns a map from each record to the new one.

    Raises RuntimeError for a leaf that was modified after it was used.
    """
    new: dict[Tensor, Tensor] = {}
    for t in tape_of(*tape.roots):
        for a in t.inputs:
            if type(a) is Tensor and a.version > t.created:
                raise changed_error(a, t)
        made = tensor(t._value(), requires_grad=t.requires_grad) if t.op is None else _recompute(t, new)
        if changes and t in changes:
            _copy_names(t, made)
            made = _replace(t, made, changes[t])
        new[t] = _copy_names(t, made)
    return new


def replay_changed(tape: Tape, changes: Mapping[Tensor, Callable[[Any], Any]]) -> dict[Tensor, Any]:
    """Compute the records that depend on those in `changes`, and these, anew: on arrays, without a new tape, from the
    first change on.  A change gets the array of its record, as it follows from the changes before, and returns another.
    Returns the new arrays."""
    new: dict[Tensor, Any] = {}
    for t in tape:
        if any(type(a) is Tensor and a in new for a in t.inputs):
            inputs = [a if type(a) is not Tensor else new[a] if a in new else a._value() for a in t.inputs]
            new[t] = t.op.compute(inputs, t.attrs)[0]  # type: ignore[union-attr]
        if t in changes:
            new[t] = changes[t](new[t] if t in new else t._value())
    return new


def _recompute(t: Tensor, new: Mapping[Tensor, Tensor]) -> Tensor:
    """Return the record of the operation of `t` on the new records of its inputs."""
    inputs = tuple([new[a] if type(a) is Tensor else a for a in t.inputs])
    values = [a._value() if type(a) is Tensor else a for a in inputs]
    try:
        y, saved = t.op.compute(values, t.attrs)  # type: ignore[union-attr]
    except Exception as error:
        point_at(t, error)
        raise
    needs = any(type(a) is Tensor and a.requires_grad for a in inputs)
    made = tensor(0.0)
    made._array, made.op, made.inputs, made.attrs, made.saved = y, t.op, inputs, t.attrs, saved
    made._requires_grad = needs and t.requires_grad and has_floats(y)
    return made


def _copy_names(t: Tensor, made: Tensor) -> Tensor:
    """Give a new record the name, scope and source line of `t`."""
    made.name, made.scope, made._code, made._offset = t.name, t.scope, t._code, t._offset
    return made


def _replace(t: Tensor, made: Tensor, value: Any) -> Tensor:
    """Return the record that takes the place of `t`, computed anew as `made`, with another value."""
    if type(made._value()) is tuple:
        raise point_at(t, TypeError(f"{label(t)} is a tuple of arrays: replace one of its items, which are records "
                                       "of their own"))
    index, value = value if type(value) is tuple and len(value) == 2 else (..., value)
    old = made if t.op is not None else made._value()
    changed = value(old if index is ... else old[index]) if callable(value) else value
    if not isinstance(changed, Tensor):
        changed = _as_value(t, changed, np.shape(made._value()[index]))
    if index is not ...:
        changed = REGISTRY["put"](old, changed, index)
    if np.shape(changed) != t.shape:
        raise point_at(t, ValueError(f"a value of shape {np.shape(changed)} in place of {label(t)}: give an array "
                                        f"of shape {t.shape}, or one number"))
    if isinstance(changed, Tensor) and changed.requires_grad:
        return changed
    changed = changed._value() if isinstance(changed, Tensor) else changed
    return tensor(changed, t.dtype, requires_grad=t.requires_grad)


def _as_value(t: Tensor, value: Any, shape: tuple[int, ...]) -> Any:
    """Return a number or an array as an array of the dtype of `t` and this shape.  Raises TypeError for one that its
    dtype cannot hold, ValueError for another shape."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" or t.dtype.kind in "iub" and array.dtype.kind == "f":
        found = describe(array) if array.dtype.kind in "fiub" else describe(value)
        raise point_at(t, TypeError(f"{label(t)} cannot become {found}: give {t.dtype} numbers"))
    if array.shape not in ((), shape):
        raise point_at(t, ValueError(f"a value of shape {array.shape} in place of {label(t)}: give an array of "
                                        f"shape {shape}, or one number"))
    return np.broadcast_to(array.astype(t.dtype), shape)


def _check_replay(tape: Tape, new: Mapping[Tensor, Tensor]) -> None:
    """Raise RuntimeError unless the untouched replay has the same bits as the tape, in every value."""
    for s, t in new.items():
        for a, b in zip(as_tuple(s._value()), as_tuple(t._value())):
            if a.dtype != b.dtype or np.asarray(a).tobytes() != np.asarray(b).tobytes():
                n = int(np.sum(np.asarray(a) != np.asarray(b)))
                raise point_at(s, RuntimeError(
                    f"{label(s)} gets another value when it is computed again ({plural(n, 'element')} differ): its "
                    "formula draws random numbers or reads something that has changed, or other kernels are in use"))
