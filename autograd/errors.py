"""Errors that point at a record."""

from __future__ import annotations

from typing import Any

from .describe import describe, label, record_line


def pointing_at(t: Any, error: Any) -> Any:
    """`error` with its text, or a note, ending in the line of record `t`, numbered as in `ag.tape(error.record)`;
    `error.record` is the record."""
    if hasattr(error, "record"):  # the innermost record is the one to look at
        return error
    from .engine import tape
    error.record, line = t, "  " + record_line(t, {a: i for i, a in enumerate(tape(t))})
    if getattr(error, "__notes__", None) or len(error.args) != 1 or not isinstance(error.args[0], str):
        error.add_note(line)
    else:
        error.args = (f"{error.args[0]}\n{line}",)
    return error


def call_error(t: Any, values: Any, error: Exception) -> Exception:
    """The same kind of error, with the op of the record `t` that could not be made, and what it was given."""
    given = [describe(v) for v in values] + [f"{key}={v!r}" for key, v in t.attrs.items()]
    text = f"{t.op.name}({', '.join(given)}): {error}"
    try:
        return pointing_at(t, type(error)(text))
    except TypeError:  # an error with a constructor of its own
        kinds = (IndexError, ValueError, TypeError, AttributeError)
        return pointing_at(t, next(kind for kind in kinds if isinstance(error, kind))(text))


def no_tape_error(t: Any) -> Exception:
    """No gradient can flow from `t`."""
    return pointing_at(t, RuntimeError(
        f"{label(t)} has no tape behind it: nothing it was made from requires a gradient (tensor(..., "
        "requires_grad=True)), it was made under no_grad, or by an op that no gradient flows through, as none does "
        "through integers"))


def changed_error(leaf: Any, t: Any) -> Exception:
    """A leaf was written to after record `t` was computed from it."""
    return pointing_at(t, RuntimeError(
        f"{label(leaf)} was changed after {label(t)} was computed from it: call backward before assigning t.data or "
        "stepping an optimizer, or compute the loss again"))


def traced_error(t: Any, verb: str = "") -> Exception:
    """Somebody looked at a value, or changed a leaf, while a program is recorded."""
    if verb:
        return pointing_at(t, TypeError(f"{label(t)} was to be {verb} while a program is being recorded, which would "
                                        "do so this once only: do it outside the function"))
    return pointing_at(t, TypeError(
        f"the numbers of {label(t)} were asked for while a program is being recorded, which would keep those of this "
        "one call for ever: compute with the tensor itself (np.where in place of if), or look outside the function"))
