"""Errors that point at a record."""

from __future__ import annotations

from typing import Any

from .describe import describe, label, record_line
from .state import current_mode


class LostGradientError(TypeError):
    """A Tensor was to become a number of Python's while a function is being differentiated."""


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


def changed_error(leaf: Any, t: Any) -> Exception:
    """A leaf was written to after record `t` was computed from it."""
    return pointing_at(t, RuntimeError(
        f"{label(leaf)} was changed after {label(t)} was computed from it: call backward before assigning t.data or "
        "stepping an optimizer, or compute the loss again"))


def traced_error(t: Any, verb: str = "", advice: str = "") -> Exception:
    """Somebody looked at a value, or changed a leaf, while a function is traced."""
    tracing = current_mode().tracing
    if verb:
        return pointing_at(t, TypeError(f"{label(t)} was to be {verb} while {tracing}, which would do so this once "
                                        f"only: do it outside the function{advice}"))
    return pointing_at(t, TypeError(
        f"the numbers of {label(t)} were asked for while {tracing}, and all others would be treated like these: "
        "compute with the tensor itself (np.where in place of if), or look outside the function"))


def not_floating_error(t: Any) -> Exception:
    """A gradient was asked for with respect to what is not made of floating-point numbers."""
    return TypeError(f"a gradient needs floating-point numbers, and {label(t)} has none: write 1.0 for 1, or pass "
                     "dtype=float")
