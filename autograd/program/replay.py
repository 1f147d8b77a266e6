"""Procedures that a program runs for what has no kernel: a formula, gradient rules, and random numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.arrays import as_tuple
from ..engine import Op


def run_formula(formula: Any, attrs: dict, numbers: set[int], places: list[int], *arrays: Any) -> None:
    """Compute a formula from the first arrays, and copy its results at `places` into the others.  The inputs at
    `numbers` are passed as scalars."""
    n = len(arrays) - len(places)
    results = as_tuple(formula(*_with_scalars(arrays[:n], numbers), **attrs))
    for out, i in zip(arrays[n:], places):
        _write(out, results[i], formula)


def run_rules(op: Op, attrs: dict, needed: list[int], lengths: tuple, numbers: set[int], places: list[int],
              *arrays: Any) -> None:
    """Compute the gradients of the inputs numbered `needed` by an op's rules, and copy those at `places` into the last
    arrays.  Before these come the gradients of its outputs, its outputs (`lengths`: how many of each; None where it is
    no tuple), and its inputs."""
    n = len(arrays) - len(places)
    given = iter(_with_scalars(arrays[:n], numbers))
    g, y = (next(given) if length is None else tuple(itertools.islice(given, length)) for length in lengths)
    inputs = list(given)
    sent = op.vjp(needed, inputs, inputs, (g, y, *inputs), attrs)
    for out, k in zip(arrays[n:], places):
        _write(out, sent[k][1], op)


class Redraw:
    """Fill an array with random numbers, anew in each call but the first, which has those of the trace: so a call draws
    once, whether it traces or not."""

    def __init__(self, draw: Callable[[], Any]):
        self.draw, self.is_first = draw, True

    def __call__(self, out: Any) -> None:
        if not self.is_first:
            _write(out, self.draw(), self.draw)
        self.is_first = False


def _with_scalars(arrays: tuple, numbers: set[int]) -> list[Any]:
    """Return the arrays, with NumPy scalars for those at `numbers`."""
    return [a[()] if i in numbers else a for i, a in enumerate(arrays)]


def _write(out: Any, value: Any, source: Any) -> None:
    """Copy a recomputed value into its buffer.  Raises ValueError if it has another shape than when it was traced."""
    if np.shape(value) != out.shape:
        raise ValueError(f"{source.__name__} gave shape {out.shape} when the program was recorded, and now "
                         f"{np.shape(value)}: its shapes cannot depend on numbers: use np.where in place of a mask, "
                         "and pass sizes and places to cut as numbers and lists of Python's, which record anew")
    np.copyto(out, value)
