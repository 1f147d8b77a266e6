"""A guess at what is wrong with a gradient, from the gradient by finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import combinations
from typing import Any

import numpy as np

from ..core.arrays import unbroadcast
from .comparison import Comparison
from .finite_differences import measure_derivatives

Swaps = Callable[[int, Any, Any], Iterable[tuple[str, Any]]]
"""Yields, for the number of an input, g and y, the results of its rule with one argument in place of another, each
after a description of the swap."""


def no_swaps(i: int, g: Any, y: Any) -> Iterable[tuple[str, Any]]:
    """Yield nothing, where there is no single rule to call."""
    return ()


def likely_cause(comparison: Comparison, i: int, swaps: Swaps = no_swaps) -> str:
    """Name a mistake that would turn the finite differences for input i into the gradient by the rules."""
    analytic, measured = comparison.analytic[i], ~np.isnan(comparison.numeric[i])
    if not np.isfinite(analytic[measured]).all():
        return "It is not finite: a division by zero, or the logarithm of 0?"
    if not analytic[measured].any():
        return "It is 0 everywhere: does the rule use g?"
    wrong = _WrongGradient(comparison, i)
    return (wrong.explain_as_swapped() or wrong.explain_as_factor() or wrong.explain_as_transposed()
            or wrong.explain_as_wrong_value(swaps) or wrong.explain_as_sum()
            or "No usual mistake explains it: a missing term?")


class _WrongGradient:
    """The gradient of input i by the rules (`a`) and by finite differences (`n`), scaled so that no product overflows.
    Each method that explains it returns "" if its mistake is not the one."""

    def __init__(self, comparison: Comparison, i: int):
        self.c, self.i = comparison, i
        self.x, self.ys, self.gs = comparison.xs[i], comparison.ys, comparison.weights
        numeric = comparison.numeric[i]
        self.scale = float(np.max(abs(numeric[~np.isnan(numeric)]))) or 1.0
        self.a, self.n = comparison.analytic[i] / self.scale, numeric / self.scale

    def explain_as_swapped(self) -> str:
        """Two inputs got each other's gradients."""
        i, analytic, numeric = self.i, self.c.analytic, self.c.numeric
        for j, name in enumerate(self.c.names):
            if j != i and _fits(analytic[i], numeric[j]) and _fits(analytic[j], numeric[i]):
                return f"It is the gradient of another input, {name}: are two rules swapped?"
        return ""

    def explain_as_factor(self) -> str:
        """It is a multiple of the right one."""
        a, n = self.a, self.n
        ratio = float(np.nansum(a * n) / (np.nansum(n * n) or np.nan))
        if not _same(a, ratio * n) or math.isclose(ratio, 1, rel_tol=1e-5):
            return ""
        if math.isclose(ratio, -1, rel_tol=1e-4):
            return "Its sign is wrong."
        return f"It is {ratio:.6g} times as large: {self.explain_factor(ratio)}"

    def explain_factor(self, ratio: float) -> str:
        """Name the mistakes that usually lead to such a factor."""
        x, y, g = self.x, self.ys[0], self.gs[0]
        axes = [n for k in range(1, x.ndim + 1) for n in map(math.prod, combinations(x.shape, k)) if n > 1]
        causes = [(factor, cause) for n in sorted(set(axes)) for factor, cause in (
            (n, f"a sum over {n} where a mean belongs?"), (1 / n, f"a mean over {n} where a sum belongs?"),
            (math.sqrt(n), f"a missing 1/√{n}?"), (1 / math.sqrt(n), f"one 1/√{n} too many?"))]
        causes.append((1 / 2, "one of two equal factors held constant (t.data, ag.stop_gradient)?"))
        if self.is_broadcast():
            m = y.size // x.size
            causes = [(m, f"summed over {m} repeats of a broadcast input, which the engine does, once too often?"),
                      (1 / m, f"averaged over {m} repeats of a broadcast input, where their sum belongs?"), *causes]
        if len(self.gs) == 1 and g.size == 1:
            causes = [(abs(g.item()), "a wrong saved value: g is used twice?"),
                      (1 / abs(g.item()), "the rule does not use g?"), *causes]
        found = [cause for factor, cause in causes if math.isclose(abs(ratio), factor, rel_tol=1e-4)]
        return " Or ".join(found) or "a constant factor?"

    def is_broadcast(self) -> bool:
        """Tell whether the result looks as if the input were broadcast."""
        x, y = self.x, self.ys[0]
        return len(self.ys) == 1 and 0 < x.size < y.size and broadcasts(x.shape, y.shape)

    def explain_as_transposed(self) -> str:
        a, n = self.a, self.n
        if n.ndim > 1 and (n.shape[-1] == n.shape[-2] and _same(a, n.mT) or n.shape == n.T.shape and _same(a, n.T)):
            return "It is transposed."
        return ""

    def explain_as_wrong_value(self, swaps: Swaps) -> str:
        """The rule uses an array in place of another, one too many, or one too few."""
        a, n, single = self.a, self.n, len(self.ys) == 1
        for swap, d in swaps(self.i, self.gs[0], self.ys[0]) if single else ():
            if _same(d, self.c.numeric[self.i]):
                return f"A wrong saved value: {swap}?"
        arrays = {"g": self.gs[0], "the output": self.ys[0]} if single else {}
        for name, array in {**arrays, **dict(zip(self.c.names, self.c.xs))}.items():
            p = _broadcast_missing_axes(array, n.shape)
            if p is None:
                continue
            with np.errstate(invalid="ignore"):  # masked elements are infinite
                more, less = n * p, a * p
            if _same(a, more):
                return f"A wrong saved value: {name} is used {'twice' if name == 'g' else 'once too often'}?"
            if _same(less, n):
                return "The rule does not use g?" if name == "g" else f"A wrong saved value: {name} is missing?"
        return ""

    def explain_as_sum(self) -> str:
        """The rule sums over an axis that is not broadcast, or not over one that is."""
        a, n = self.a, self.n
        for axes in (axes for k in range(1, n.ndim + 1) for axes in combinations(range(n.ndim), k)):
            total = np.broadcast_to(n.sum(axes, keepdims=True), n.shape)
            if _same(a, total) or _same(a * math.prod(n.shape[axis] for axis in axes), total):
                return f"Is it summed over axes {axes}, along which the input is not broadcast?"
        return "Is the sum over a broadcast axis missing?" if self.is_broadcast() and self.is_one_repeat() else ""

    def is_one_repeat(self) -> bool:
        """Tell whether it is the gradient of one of the repeats of a broadcast input."""
        i, x, shape, xs = self.i, self.x, self.ys[0].shape, self.c.xs
        try:
            wide = [*xs[:i], np.broadcast_to(x, shape), *xs[i + 1:]]
            n = measure_derivatives(self.c.weighted_results, wide, i, "", np.random.default_rng(0))[0]
        except (TypeError, ValueError, IndexError):  # the formula does not broadcast it
            return False
        axes = [j for j in range(len(shape)) if j < len(shape) - x.ndim or x.shape[j - len(shape)] < shape[j]]
        a = self.a * self.scale
        return any(_same(a, one) for one in np.moveaxis(n, axes, range(len(axes))).reshape(-1, *x.shape))


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Tell whether an array of this shape can be broadcast to the shape `to`."""
    return len(shape) <= len(to) and all(n in (1, m) for n, m in zip(shape[::-1], to[::-1]))


def _broadcast_missing_axes(p: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return `p` broadcast to `shape`, of which it lacks some axes; None if its own do not match."""
    for axes in combinations(range(len(shape)), max(0, len(shape) - p.ndim)):
        if p.shape == tuple(n for i, n in enumerate(shape) if i not in axes):
            return np.broadcast_to(np.expand_dims(p, axes), shape)
    return None


def _fits(a: np.ndarray, n: np.ndarray) -> bool:
    """Tell whether they are the same once one of them is summed over the axes that broadcasting added."""
    try:
        return _same(unbroadcast(a, n), n) if a.size >= n.size else _same(a, unbroadcast(n, a))
    except ValueError:
        return False


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Tell whether `a` is `b` up to the accuracy of finite differences, wherever b was measured."""
    measured = ~np.isnan(b)
    a, b = a[measured], b[measured]
    return bool(b.size and np.allclose(a, b, rtol=1e-5, atol=1e-7 * float(np.max(abs(b)))))
