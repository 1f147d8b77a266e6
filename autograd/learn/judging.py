"""Checks of a learner's answers: `check` tries an answer on the cases of its exercise, and says which one fails.

The check of an exercise is a function of the answers, which raises `Wrong` at the first case that fails: directly, or
through `returns`, `equal`, `choose`, `same_names`, `yes_or_no` and `require`.
"""

from __future__ import annotations

import inspect
import textwrap
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import autograd as ag


class Wrong(Exception):
    """A case that an answer fails; the text has its inputs, what came out and what is right."""


class Unfinished(Exception):
    """A skeleton that is not filled in; the text names what is missing."""


@dataclass(frozen=True)
class Exercise:
    """The check of an exercise, and the hint that follows a complaint."""
    cases: Callable[..., None]
    hint: str


@dataclass(frozen=True)
class Verdict:
    """The result of a check: `right` is True, False, or None where there is no answer yet."""
    right: bool | None
    text: str


EXERCISES: dict[str, Exercise] = {}


def exercise(number: str, hint: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register the decorated function as the check of an exercise."""
    def register(cases: Callable[..., None]) -> Callable[..., None]:
        EXERCISES[number] = Exercise(cases, hint)
        return cases
    return register


def check(number: str, *answers: Any) -> None:
    """Try the answers to an exercise on several cases, and print the verdict, with a hint if one of them fails."""
    print(judge(number, *answers).text)


def judge(number: str, *answers: Any) -> Verdict:
    """Return the verdict that `check` prints.  Raises ValueError for an exercise that does not exist, and TypeError
    for too few or too many answers."""
    if number not in EXERCISES:
        raise ValueError(f"there is no exercise {number!r}: they are {', '.join(EXERCISES)}")
    cases, hint = EXERCISES[number].cases, EXERCISES[number].hint
    names = list(inspect.signature(cases).parameters)
    if len(answers) != len(names):
        raise TypeError(f'check("{number}", {", ".join(names)}) takes {len(names)} answers, and got {len(answers)}')
    try:
        for name, answer in zip(names, answers):
            if answer is None or answer is Ellipsis or _is_skeleton(answer):
                raise Unfinished(name)
        cases(*answers)
    except Unfinished as missing:
        return Verdict(None, f"Exercise {number} waits for your answer: fill in `{missing}`, then run this cell again.")
    except Wrong as wrong:
        return Verdict(False, f"Exercise {number} is not right yet: {wrong}\nHint: {hint}")
    return Verdict(True, f"Exercise {number} is right.")


def ask(f: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
    """Call a learner's function on copies of the inputs, in their order.  Raises Unfinished if it returns nothing, and
    Wrong if it fails."""
    name = _name(f)
    if not callable(f):
        raise Wrong(f"a function was expected, and this is {_show(f)}")
    try:
        result = f(*(a.copy() if isinstance(a, np.ndarray) else a for a in inputs.values()))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)
        line = f", in line {place[1].lineno} of its cell" if len(place) > 1 else ""
        raise Wrong(f"{name} raises {type(error).__name__}: {error}{line}\n{_listed(inputs)}".rstrip()) from None
    if result is None or result is Ellipsis:
        raise Unfinished(name)
    return result


def returns(f: Callable[..., Any], inputs: Mapping[str, Any], right: Any, hints: Mapping[str, Any] | None = None,
            tolerance: float = 1e-6) -> None:
    """Require that a learner's function returns `right`; each of `hints` is a wrong result under what to say of it."""
    equal(f"{_name(f)}({', '.join(inputs)})", ask(f, inputs), right, inputs, hints, tolerance)


def equal(name: str, given: Any, right: Any, inputs: Mapping[str, Any] | None = None,
          hints: Mapping[str, Any] | None = None, tolerance: float = 1e-6) -> None:
    """Require that a number or array is `right`, up to a relative tolerance.  Raises Wrong with both, and with the
    mistake that explains the difference, if a usual one does."""
    if given is None or given is Ellipsis:
        raise Unfinished(name)
    right, given = np.asarray(right, dtype=float), _array(name, given)
    atol = tolerance * (np.abs(right).max(initial=0) or 1)
    if given.shape == right.shape and np.allclose(given, right, rtol=tolerance, atol=atol):
        return
    about = next((text for text, wrong in (hints or {}).items() if _alike(given, np.asarray(wrong), tolerance)), "")
    raise Wrong("\n".join(filter(None, [
        f"{name} does not come out right", _listed(inputs or {}), _line("came out", given), _line("right is", right),
        textwrap.indent(about or _difference(given, right), "  ")])))


def choose(name: str, letter: Any, right: str, hints: Mapping[str, str]) -> None:
    """Require the right one of the lettered statements; `hints` says of each of the others why it is wrong."""
    chosen = str(letter).strip().lower().strip("()")
    if chosen not in {right, *hints}:
        raise Wrong(f"{name} is one of the letters {', '.join(sorted({right, *hints}))}, and this is {letter!r}")
    if chosen != right:
        raise Wrong(f"{name} is not {chosen!r}. {hints[chosen]}")


def same_names(name: str, given: Any, right: Collection[str]) -> None:
    """Require just these names, in any order."""
    if not isinstance(given, (str, list, tuple, set, frozenset)):
        raise Wrong(f"{name} is a list of names, and this is {_show(given)}")
    found = {given} if isinstance(given, str) else set(given)
    if extra := sorted(map(str, found - set(right))):
        raise Wrong(f"{name}: {', '.join(extra)} {'does' if len(extra) == 1 else 'do'} not belong there")
    if missing := set(right) - found:
        raise Wrong(f"{name}: {len(missing)} {'name is' if len(missing) == 1 else 'names are'} missing")


def require(condition: Any, complaint: str, inputs: Mapping[str, Any] | None = None) -> None:
    """Raise Wrong with the complaint, and the inputs of the case, unless the condition holds."""
    if not condition:
        raise Wrong("\n".join(filter(None, [complaint, _listed(inputs or {})])))


def yes_or_no(name: str, given: Any, right: bool, complaint: str) -> None:
    """Require True or False, whichever is right."""
    if not isinstance(given, (bool, np.bool)):
        raise Wrong(f"{name} is True or False, and this is {_show(given)}")
    if given != right:
        raise Wrong(f"{name} is not {given}: {complaint}")


def _is_skeleton(answer: Any) -> bool:
    """Tell whether an answer is a function, or an op, whose body is still `...`."""
    code = getattr(getattr(answer, "formula", answer), "__code__", None)
    return code is not None and code.co_code in _SKELETONS and all(
        constant is None or isinstance(constant, str) for constant in code.co_consts)


def _without_docstring() -> None:
    ...


def _with_docstring() -> None:
    """Nothing is computed here."""
    ...


_SKELETONS = {f.__code__.co_code for f in (_without_docstring, _with_docstring)}


def _name(f: Callable[..., Any]) -> str:
    name = getattr(f, "__name__", "your answer")
    return "your function" if name == "<lambda>" else name


def _array(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value.data if isinstance(value, ag.Tensor) else value, dtype=float)
    except (TypeError, ValueError):
        raise Wrong(f"{name} is {_show(value)}, where a number or an array belongs") from None


def _alike(a: np.ndarray, b: np.ndarray, tolerance: float = 1e-6) -> bool:
    return a.shape == b.shape and np.allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max(initial=0))


def _difference(given: np.ndarray, right: np.ndarray) -> str:
    """Name the mistake that turns one array into the other: shape, NaN, sign, transpose, a factor, a constant."""
    if given.shape != right.shape:
        return f"Its shape is {given.shape}, and should be {right.shape}."
    if not np.isfinite(given).all():
        return "It is not finite."
    if _alike(given, -right):
        return "Its sign is wrong."
    if right.ndim > 1 and right.shape[-1] == right.shape[-2] and _alike(given, right.mT):
        return "It is transposed."
    ratio = float((given * right).sum() / ((right * right).sum() or np.nan))
    if ratio and _alike(given, ratio * right):
        return f"It is {ratio:.4g} times the right one."
    if right.size > 1 and _alike(given - given.mean(), right - right.mean()):
        return f"All of its elements are off by {float((given - right).mean()):.4g}."
    return ""


def _listed(inputs: Mapping[str, Any]) -> str:
    return "\n".join(_line(f"{name} =", value) for name, value in inputs.items())


def _line(label: str, value: Any) -> str:
    label = f"  {label:9}" + " "
    return label + _show(value).replace("\n", "\n" + " " * len(label))


def _show(value: Any) -> str:
    value = value.data if isinstance(value, ag.Tensor) else value
    if not isinstance(value, (np.ndarray, np.generic)):
        return repr(value)[:80]
    value = np.asarray(value)
    if value.ndim < 3 and value.size <= 42:
        return np.array2string(value, precision=4, suppress_small=True, floatmode="maxprec")
    return f"an array of shape {value.shape}, beginning with {value.ravel()[:4].round(4)}"
