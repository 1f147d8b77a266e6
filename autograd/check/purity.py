"""Checks that formulas and gradient rules are pure: they change none of their arguments, keep nothing, draw nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.arrays import read_only
from ..core.tree import tree_leaves, tree_map


def check_pure(function: Callable[..., Any], title: str, arguments: dict[str, Any], attrs: dict[str, Any],
               others: Callable[[], list[Any]]) -> Any:
    """Return the result of `function` for `arguments` (keyed by their names in errors) and `attrs`.

    It is called with these, with these again, with the arguments that `others` returns, and with the first once more.
    Raises AssertionError, which calls the function `title`, if it changes an argument, returns memory that it returns
    again, or returns something else for the same arguments.
    """
    def call(given: list[Any]) -> Any:
        return _call_read_only(function, title, [*arguments, *[f"its attribute {name}" for name in attrs]], given)

    first = [*arguments.values(), attrs]
    result = call(first)
    before, repeated = copy_arrays(result), copy_arrays(call(first))
    try:
        second = call([*others(), copy_arrays(attrs)])
    except (ArithmeticError, ValueError):  # outside of its domain
        second = ()
    if any(np.may_share_memory(a, b) for a in _arrays_in(result) for b in _arrays_in(second)):
        raise AssertionError(f"{title} returns the same memory in two calls, so that the second overwrites what the "
                             "first has returned: return a new array each time")
    if not have_same_bits(repeated, before) or not have_same_bits(call(first), before):
        raise AssertionError(f"{title} is not pure: given the same arguments again it returns something else.  It "
                             "draws random numbers, counts calls, or reads what another call has saved: pass noise and "
                             "state as inputs")
    return result


def _call_read_only(function: Callable[..., Any], title: str, names: list[str], given: list[Any]) -> Any:
    """Call a function with read-only arguments, the last of which is the dict of attributes, and return its result.
    Raises AssertionError with the `names` of the arguments that it changes."""
    def changed(given: list[Any]) -> str:
        pairs = zip(names, [*given[:-1], *given[-1].values()], [*before[:-1], *before[-1].values()])
        return " and ".join(name for name, now, then in pairs if not have_same_bits(now, then))

    given = tree_map(read_only, given)
    before, names_changed, cause = copy_arrays(given), "", None
    try:
        with np.errstate(all="ignore"):
            result = function(*given[:-1], **given[-1])
        names_changed = changed(given)
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        cause, writable = error, copy_arrays(before)
        function(*writable[:-1], **writable[-1])
        names_changed = changed(writable) or "what it is given"
    if names_changed:
        raise AssertionError(f"{title} changes {names_changed} in place, which others still need: work on a copy"
                             ) from cause
    return result


def perturb(inputs: tuple) -> list[Any]:
    """Return copies of an op's inputs with slightly different floating-point numbers, of the same sign."""
    def change(a: Any) -> Any:
        is_float = isinstance(a, np.ndarray) and a.dtype.kind == "f"
        return np.where(a == 0, 1e-3, a * 1.001).astype(a.dtype) if is_float else a

    return tree_map(change, copy_arrays(list(inputs)))


def copy_arrays(tree: Any) -> Any:
    """Return the tree with copies of its arrays and sets."""
    return tree_map(lambda a: copy.copy(a) if isinstance(a, (np.ndarray, set)) else a, tree)


def _arrays_in(tree: Any) -> list[Any]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, np.ndarray)]


def have_same_bits(a: Any, b: Any) -> bool:
    """Tell whether two trees hold the same numbers, bit by bit."""
    a, b = tree_leaves(a), tree_leaves(b)
    return len(a) == len(b) and all(map(_equal_leaves, a, b))


def _equal_leaves(a: Any, b: Any) -> bool:
    if isinstance(a, (np.ndarray, np.generic)):
        return (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())
    return a == b if isinstance(a, (bool, int, float, str, bytes, set)) else True
