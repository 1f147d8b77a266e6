"""Errors that point at a record: they end in its line of the tape, and carry it as `error.record`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np

from .arrays import explain_misfit, is_tensor
from .describe import describe, label, record_line, shorten
from .mode import current_mode

MAX_NUMBERED = 10_000
"""Longest tape of a record for which an error numbers its inputs."""


class NumberError(TypeError):
    """The values of a Tensor were asked for while a function is differentiated or traced."""


class Unavailable(RuntimeError, AttributeError):
    """The value or gradient of a record is not available now; also an AttributeError, so that `hasattr` is False."""


def point_at(t: Any, error: Any) -> Any:
    """Return `error` with the line of record `t` appended to its text, numbered as in `ag.tape(error.record)` unless
    that is very long.

    `error.record` is the record; a pickle or copy of the error leaves it out.  An error that points at a record already
    gets the line as a note, and keeps its record, the innermost.
    """
    return error if getattr(error, "record", None) is t else _attach(t, extend(error, _line(t)))


def _line(t: Any) -> str:
    """Return the line of the tape of record `t`, indented."""
    return "  " + record_line(t, _number_records(t))


def _number_records(t: Any) -> dict[Any, int]:
    """Map each record in `ag.tape(t)` to its number; {} for a long tape, since errors in a loop would cost too much."""
    seen, stack = {t}, [t]
    while stack and len(seen) <= MAX_NUMBERED:
        for a in stack.pop().inputs:
            if is_tensor(a) and a not in seen:
                seen.add(a)
                stack.append(a)
    return {} if stack else {a: i for i, a in enumerate(sorted(seen, key=attrgetter("created")))}


def _attach(t: Any, error: Any) -> Any:
    """Set `error.record`, unless it has one, and make pickle leave it out."""
    if "record" not in vars(error):
        vars(error).setdefault("__notes__", [])  # now, so that later notes are pickled too
        recipe = *_recipe(error), error.args  # not the error itself: the cycle would keep the tape alive
        vars(error).update(record=t, __reduce_ex__=lambda protocol: (_rebuild, recipe))
    return error


def _recipe(error: BaseException) -> tuple[Any, tuple, dict]:
    """Return the recipe by which pickle makes an error: a callable, its arguments, and the fields to set."""
    reduced: Any = type(error), error.args
    with suppress(Exception):  # a faulty __reduce_ex__
        reduced = error.__reduce_ex__(4)
    make, arguments, *more = reduced
    fields = {**vars(error), **(more[0] if more and isinstance(more[0], dict) else {})}
    return make, arguments, {name: value for name, value in fields.items() if name not in ("record", "__reduce_ex__")}


def _rebuild(make: Any, arguments: tuple, fields: dict, args: tuple) -> BaseException:
    """Return an error made by its recipe, with `args` as its arguments, whatever its constructor requires."""
    try:
        error = make(*arguments)
    except Exception:
        error = make.__new__(make, *arguments)
    for name, value in {**fields, "args": args}.items():
        BaseException.__setattr__(error, name, list(value) if name == "__notes__" else value)  # a frozen one's too
    return error


def extend(error: Any, line: str) -> Any:
    """Return `error` with `line` appended to its text; as a note, if its text is not its one argument or points at a
    record already."""
    args = error.args
    if _says_its_argument(error) and "record" not in vars(error):
        BaseException.__setattr__(error, "args", (f"{args[0]}\n{line}",))
        if _says_its_argument(error):  # an ImportError has its text somewhere else too
            return error
        BaseException.__setattr__(error, "args", args)
    vars(error).setdefault("__notes__", []).append(line)  # as add_note does, in a class that is frozen too
    return error


def _says_its_argument(error: BaseException) -> bool:
    """Return True if the text of an error is its one argument; KeyError, OSError and others compose theirs."""
    try:
        return len(error.args) == 1 and isinstance(error.args[0], str) and str(error) == error.args[0]
    except Exception:  # a faulty __str__
        return False


def gradient_line(op: Any, inputs: Sequence[int]) -> str:
    """Return the line about an error in a VJP rule or in the backward of a kernel."""
    names = ", ".join([op.input_name(i) for i in inputs])
    return f"  in the gradient of {op.name} for its input{'s' * (len(inputs) > 1)} {names}"


def call_error(t: Any, values: Any, error: Exception) -> Exception:
    """Return an error of the same type that begins with the call of the op that failed (`t` is its record, without a
    value) and says what to pass instead; the call is a note if the class composes its text."""
    given = shorten([describe(v) for v in values]) + [f"{key}={v!r}" for key, v in t.attrs.items()]
    call = f"{t.op.name}({', '.join(given)})"
    reasons = [explain_misfit(v, t.op.input_name(i)) for i, v in enumerate(values)]
    try:
        text = str(error)
    except Exception:  # a faulty __str__
        text = type(error).__name__
    text = "; ".join(dict.fromkeys([f"{call}: {text}", *[r for r in reasons if r and r not in text]])) + "\n" + _line(t)
    if any(reasons) and isinstance(error, AttributeError):  # such as that a Fraction has no hypot
        return _attach(t, TypeError(text))
    classes = [cls for cls in (type(error), IndexError, ValueError, TypeError)
               if isinstance(error, (IndexError, ValueError, TypeError)) and isinstance(error, cls)]
    makers: list[Callable[[], Any]] = [partial(_rebuild, *_recipe(error), (text,)),
                                       *[partial(cls, text) for cls in classes]]
    for make in makers:
        with suppress(Exception):  # a constructor that requires other arguments
            if str(made := make()) == text:
                return _attach(t, made)
    return point_at(t, extend(_rebuild(*_recipe(error), error.args), f"  in {call}"))


def point_at_sum(t: Any, error: Exception) -> None:
    """Say in `error` that it occurred where the gradients of `t` are added up."""
    point_at(t, extend(error, f"  where the gradients of {label(t)} are added up"))


def changed_error(leaf: Any, t: Any) -> Exception:
    """Return the error of a leaf that was modified in place after record `t` was computed from it."""
    return point_at(t, Unavailable(
        f"{label(leaf)} was changed after {label(t)} was computed from it: call backward before assigning t.data or "
        "stepping an optimizer, or compute the loss again"))


def traced_error(t: Any, verb: str = "", advice: str = "") -> Exception:
    """Return the error of reading the value of `t`, or of changing it (`verb`), while a function is traced."""
    tracing = current_mode().tracing
    if verb:
        return point_at(t, TypeError(f"{label(t)} was to be {verb} while {tracing}, which would do so this once "
                                        f"only: do it outside the function{advice}"))
    return point_at(t, NumberError(
        f"the values of {label(t)} were asked for while {tracing}, and would be used for all other inputs, too: "
        "compute with the tensor itself (np.where in place of if), or look outside the function"))


def not_leaf_error(t: Any, verb: str) -> Exception:
    """Return the error of a result that was to be changed (`verb`), as only a leaf can be."""
    return point_at(t, TypeError(f"{label(t)} is a result, and only a leaf can be {verb}: t.detach() makes one of "
                                    "it"))


def check_seed(t: Any, value: Any, gradient: Any) -> None:
    """Raise RuntimeError unless `t` requires a gradient, ValueError unless a backward pass from it can start with
    `gradient`, or without one."""
    if not t.requires_grad:
        raise point_at(t, RuntimeError(
            f"{label(t)} has no tape behind it: nothing it was made from requires a gradient (tensor(..., "
            "requires_grad=True)), it was made under no_grad, or by an op that no gradient flows through, as none does "
            "through integers"))
    if gradient is None and value.size != 1:
        raise point_at(t, ValueError(f"{label(t)} has {value.size} elements, and backward starts from one: reduce "
                                        "it with .sum() or .mean(), or pass gradient= of its shape"))
    if gradient is not None and np.shape(gradient) != value.shape:
        raise point_at(t, ValueError(f"the gradient for {label(t)} has shape {np.shape(gradient)}: it needs the "
                                        "tensor's own"))


def not_floating_error(t: Any) -> Exception:
    """Return the error of a gradient with respect to integers or booleans."""
    return TypeError(f"a gradient needs floating-point numbers, and {label(t)} has none: write 1.0 for 1, or pass "
                     "dtype=float")


def repeated_values(name: str, values: Any, clash: Any) -> str:
    """Return the error text for a gradient that op `name` got for the vectors of two equal eigenvalues or singular
    values: those at the first True of `clash`.  For svd `values` are the singular values, then their negatives."""
    *stack, i, j = [int(i) for i in np.unravel_index(np.argmax(clash).item(), clash.shape)]
    n = values.shape[-1] // (2 if name == "svd" else 1)
    noun = "eigenvalue" if name == "eigh" else "singular value"
    which = f" of matrix {stack}" * bool(stack) + f" ({values[(*stack, j % n)].item():.6g})"
    which = f"{noun}s {j % n} and {i % n}{which} are equal" if i % n != j % n else f"{noun} {j % n}{which} is 0"
    return (f"{name}: {which} up to rounding, so that their vectors are one choice of many and have no gradient, but "
            f"one has arrived: use the {noun}s alone, other vectors, or what needs none (np.linalg.solve, pinv, det, "
            "matrix_power); or add a small diagonal matrix of different numbers")
