"""Errors that point at a record."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import numpy as np

from .describe import describe, label, record_line, shortened
from .state import current_mode

NUMBERED = 10_000
"""Records behind one up to which an error numbers them in its line."""


class NumberError(TypeError):
    """A Tensor was asked for its numbers while a function is being differentiated or traced."""


def pointing_at(t: Any, error: Any) -> Any:
    """`error` with its text, or a note, ending in the line of record `t`, numbered as in `ag.tape(error.record)`
    unless that is very long; `error.record` is the record."""
    if hasattr(error, "record"):  # the innermost record is the one to look at
        return error
    error.record, line = t, "  " + record_line(t, _numbered(t))
    if getattr(error, "__notes__", None) or len(error.args) != 1 or not isinstance(error.args[0], str):
        error.add_note(line)
    else:
        error.args = (f"{error.args[0]}\n{line}",)
    return error


def _numbered(t: Any) -> dict[Any, int]:
    """The number of each record in `ag.tape(t)`; none of a tape so long that an error in a loop would cost too much."""
    seen, stack = {t}, [t]
    while stack and len(seen) <= NUMBERED:
        for a in stack.pop().inputs:
            if hasattr(a, "backward") and a not in seen:
                seen.add(a)
                stack.append(a)
    return {} if stack else {a: i for i, a in enumerate(sorted(seen, key=attrgetter("index")))}


def call_error(t: Any, values: Any, error: Exception) -> Exception:
    """The same kind of error, with the op of the record `t` that could not be made, and what it was given."""
    given = shortened([describe(v) for v in values]) + [f"{key}={v!r}" for key, v in t.attrs.items()]
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


def traced_error(t: Any, verb: str = "", advice: str = "") -> Exception:
    """Somebody looked at a value, or changed a leaf, while a function is traced."""
    tracing = current_mode().tracing
    if verb:
        return pointing_at(t, TypeError(f"{label(t)} was to be {verb} while {tracing}, which would do so this once "
                                        f"only: do it outside the function{advice}"))
    return pointing_at(t, NumberError(
        f"the numbers of {label(t)} were asked for while {tracing}, and all others would be treated like these: "
        "compute with the tensor itself (np.where in place of if), or look outside the function"))


def not_floating_error(t: Any) -> Exception:
    """A gradient was asked for with respect to what is not made of floating-point numbers."""
    return TypeError(f"a gradient needs floating-point numbers, and {label(t)} has none: write 1.0 for 1, or pass "
                     "dtype=float")


def repeated_values(name: str, values: Any, clash: Any) -> str:
    """What to say of a gradient that arrived, in op `name`, at the vectors of two equal values: those that the first
    True of `clash` numbers.  For svd `values` are all singular values, and then all of them negated."""
    *stack, i, j = [int(i) for i in np.unravel_index(np.argmax(clash).item(), clash.shape)]
    n = values.shape[-1] // (2 if name == "svd" else 1)
    what = "eigenvalue" if name == "eigh" else "singular value"
    which = f" of matrix {stack}" * bool(stack) + f" ({values[(*stack, j % n)].item():.6g})"
    which = f"{what}s {j % n} and {i % n}{which} are equal" if i % n != j % n else f"{what} {j % n}{which} is 0"
    return (f"{name}: {which} up to rounding, so that their vectors are one choice of many and have no gradient, but "
            f"one has arrived: use the {what}s alone, other vectors, or what needs none (np.linalg.solve, pinv, det, "
            "matrix_power); or add a small diagonal matrix of different numbers")
