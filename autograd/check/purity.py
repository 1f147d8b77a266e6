"""Checks that formulas and gradient rules are pure: they change nothing they are given, keep nothing, draw nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.arrays import read_only
from ..transform import tree_leaves, tree_map


def check_pure(function: Callable[..., Any], what: str, arguments: dict[str, Any], attrs: dict[str, Any],
               others: Callable[[], list[Any]]) -> Any:
    """What `function` returns for `arguments` (by what messages call them) and `attrs`.

    It is called with these, with these again, with others in their place, and with these once more.  Raises
    AssertionError if it changes what it is given, returns memory that it returns again, or returns something else for
    the same arguments.
    """
    def call(given: list[Any]) -> Any:
        return _call(function, what, [*arguments, *[f"its setting {name}" for name in attrs]], given)

    first = [*arguments.values(), attrs]
    result = call(first)
    before, again = copied(result), copied(call(first))
    try:
        second = call([*others(), copied(attrs)])
    except (ArithmeticError, ValueError):  # outside of its domain
        second = ()
    if any(np.may_share_memory(a, b) for a in _arrays(result) for b in _arrays(second)):
        raise AssertionError(f"{what} returns the same memory in two calls, so that the second overwrites what the "
                             "first has returned: return a new array each time")
    if not same(again, before) or not same(call(first), before):
        raise AssertionError(f"{what} is not pure: given the same arguments again it returns something else.  It draws "
                             "random numbers, counts calls, or reads what another call has saved: pass noise and state "
                             "as inputs")
    return result


def moved(inputs: tuple) -> list[Any]:
    """Copies of inputs of an op, in which floating-point numbers are others, close by and of the same sign."""
    def move(a: Any) -> Any:
        is_float = isinstance(a, np.ndarray) and a.dtype.kind == "f"
        return np.where(a == 0, 1e-3, a * 1.001).astype(a.dtype) if is_float else a

    return tree_map(move, copied(list(inputs)))


def _call(function: Callable[..., Any], what: str, names: list[str], given: list[Any]) -> Any:
    """What a function returns for arguments (the last of them the settings) that it can only read."""
    def changed(given: list[Any]) -> str:
        pairs = zip(names, [*given[:-1], *given[-1].values()], [*before[:-1], *before[-1].values()])
        return " and ".join(name for name, now, then in pairs if not same(now, then))

    given = tree_map(read_only, given)
    before, trouble, cause = copied(given), "", None
    try:
        with np.errstate(all="ignore"):
            result = function(*given[:-1], **given[-1])
        trouble = changed(given)
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        cause, writable = error, copied(before)
        function(*writable[:-1], **writable[-1])
        trouble = changed(writable) or "what it is given"
    if trouble:
        raise AssertionError(f"{what} changes {trouble} in place, which others still need: work on a copy") from cause
    return result


def copied(tree: Any) -> Any:
    return tree_map(lambda a: copy.copy(a) if isinstance(a, (np.ndarray, set)) else a, tree)


def _arrays(tree: Any) -> list[Any]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, np.ndarray)]


def same(a: Any, b: Any) -> bool:
    """Whether two trees hold the same numbers, bit by bit."""
    a, b = tree_leaves(a), tree_leaves(b)
    return len(a) == len(b) and all(map(_equal, a, b))


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, (np.ndarray, np.generic)):
        return (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())
    return a == b if isinstance(a, (bool, int, float, str, bytes, set)) else True
