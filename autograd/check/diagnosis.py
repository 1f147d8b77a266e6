"""A guess at what is wrong with a gradient, from the gradient that it should be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from ..core.arrays import as_input
from .finite_differences import differences


class Case(NamedTuple):
    """A gradient that is wrong, and what may tell why."""

    f: Callable[..., np.ndarray]
    xs: list[np.ndarray]
    names: list[str]
    ys: list[np.ndarray]
    gs: list[np.ndarray]
    analytic: list[np.ndarray]
    numeric: list[np.ndarray]
    i: int  # which of xs it is the gradient of
    substitutes: Callable[..., Iterable[tuple[str, Any]]]  # the rule's results with a wrong saved value put right

    def cause(self) -> str:
        """What mistake would turn the differences into this gradient."""
        a, n = self.analytic[self.i], self.numeric[self.i]
        tried = ~np.isnan(n)
        if not np.isfinite(a[tried]).all():
            return "It is not finite: a division by zero, or the logarithm of 0?"
        if not a[tried].any():
            return "It is 0 everywhere: does the rule use g?"
        scale = float(np.max(abs(n[tried]))) or 1.0  # so that no product is too large or small
        a, n = a / scale, n / scale
        return (self.swapped() or self.factor(a, n) or self.transposed(a, n) or self.saved(a, n)
                or self.summed(a, n, scale) or "No usual mistake explains it: a missing term?")

    def swapped(self) -> str:
        """Two inputs got each other's gradients."""
        i = self.i
        for j, name in enumerate(self.names):
            if j != i and _fits(self.analytic[i], self.numeric[j]) and _fits(self.analytic[j], self.numeric[i]):
                return f"It is the gradient of another input, {name}: are two rules swapped?"
        return ""

    def factor(self, a: np.ndarray, n: np.ndarray) -> str:
        """One number explains it."""
        ratio = float(np.nansum(a * n) / (np.nansum(n * n) or np.nan))
        if not _same(a, ratio * n) or math.isclose(ratio, 1, rel_tol=1e-5):
            return ""
        if math.isclose(ratio, -1, rel_tol=1e-4):
            return "Its sign is wrong."
        return f"It is {ratio:.6g} times as large: {self.usual(ratio)}"

    def usual(self, ratio: float) -> str:
        """What such a factor usually comes from."""
        x, y, g = self.xs[self.i], self.ys[0], self.gs[0]
        axes = [n for k in range(1, x.ndim + 1) for n in map(math.prod, combinations(x.shape, k)) if n > 1]
        causes = [(factor, cause) for n in sorted(set(axes)) for factor, cause in (
            (n, f"a sum over {n} where a mean belongs?"), (1 / n, f"a mean over {n} where a sum belongs?"),
            (math.sqrt(n), f"a missing 1/√{n}?"), (1 / math.sqrt(n), f"one 1/√{n} too many?"))]
        causes.append((1 / 2, "one of two equal factors held constant (t.data, ag.stop_gradient)?"))
        if self.repeats():
            m = y.size // x.size
            causes = [(m, f"summed over {m} repeats of a broadcast input, which the engine does, once too often?"),
                      (1 / m, f"averaged over {m} repeats of a broadcast input, where their sum belongs?"), *causes]
        if len(self.gs) == 1 and g.size == 1:
            causes = [(abs(g.item()), "a wrong saved value: g is used twice?"),
                      (1 / abs(g.item()), "the rule does not use g?"), *causes]
        found = [cause for factor, cause in causes if math.isclose(abs(ratio), factor, rel_tol=1e-4)]
        return " Or ".join(found) or "a constant factor?"

    def repeats(self) -> bool:
        """Whether the result looks as if the input were broadcast."""
        x, y = self.xs[self.i], self.ys[0]
        return len(self.ys) == 1 and 0 < x.size < y.size and broadcasts(x.shape, y.shape)

    def transposed(self, a: np.ndarray, n: np.ndarray) -> str:
        if n.ndim > 1 and (n.shape[-1] == n.shape[-2] and _same(a, n.mT) or n.shape == n.T.shape and _same(a, n.T)):
            return "It is transposed."
        return ""

    def saved(self, a: np.ndarray, n: np.ndarray) -> str:
        """An array in place of another, one too many, or one missing."""
        single = len(self.ys) == 1
        for cause, d in self.substitutes(self.i, self.gs[0], self.ys[0]) if single else ():
            if _same(d, self.numeric[self.i]):
                return f"A wrong saved value: {cause}?"
        arrays = {"g": self.gs[0], "the output": self.ys[0]} if single else {}
        for name, array in {**arrays, **dict(zip(self.names, self.xs))}.items():
            p = _stretched(array, n.shape)
            if p is not None and _same(a, n * p):
                return f"A wrong saved value: {name} is used {'twice' if name == 'g' else 'once too often'}?"
            if p is not None and _same(a * p, n):
                return "The rule does not use g?" if name == "g" else f"A wrong saved value: {name} is missing?"
        return ""

    def summed(self, a: np.ndarray, n: np.ndarray, scale: float) -> str:
        """A sum over an axis that is not broadcast, or none over one that is."""
        for axes in (axes for k in range(1, n.ndim + 1) for axes in combinations(range(n.ndim), k)):
            total = np.broadcast_to(n.sum(axes, keepdims=True), n.shape)
            if _same(a, total) or _same(a * math.prod(n.shape[axis] for axis in axes), total):
                return f"Is it summed over axes {axes}, along which the input is not broadcast?"
        return "Is the sum over a broadcast axis missing?" if self.repeats() and self.one_repeat(a * scale) else ""

    def one_repeat(self, a: np.ndarray) -> bool:
        """Whether the gradient is that of one of the repeats of a broadcast input."""
        x, shape = self.xs[self.i], self.ys[0].shape
        try:
            wide = [*self.xs[:self.i], np.broadcast_to(x, shape), *self.xs[self.i + 1:]]
            n = differences(self.f, wide, self.i, "", np.random.default_rng(0))[0]
        except (TypeError, ValueError, IndexError):  # the formula does not broadcast it
            return False
        axes = [j for j in range(len(shape)) if j < len(shape) - x.ndim or x.shape[j - len(shape)] < shape[j]]
        return any(_same(a, one) for one in np.moveaxis(n, axes, range(len(axes))).reshape(-1, *x.shape))


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    return len(shape) <= len(to) and all(n in (1, m) for n, m in zip(shape[::-1], to[::-1]))


def _stretched(p: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """`p` broadcast to `shape`, of which it lacks some axes."""
    for axes in combinations(range(len(shape)), max(0, len(shape) - p.ndim)):
        if p.shape == tuple(n for i, n in enumerate(shape) if i not in axes):
            return np.broadcast_to(np.expand_dims(p, axes), shape)
    return None


def _fits(a: np.ndarray, n: np.ndarray) -> bool:
    """Whether they are the same once one of them is summed over the axes that broadcasting added."""
    try:
        return _same(as_input(a, n), n) if a.size >= n.size else _same(a, as_input(n, a))
    except ValueError:
        return False


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether `a` is `b` up to the accuracy of differences, wherever b is known."""
    known = ~np.isnan(b)
    return bool(known.any() and np.allclose(a[known], b[known], rtol=1e-5, atol=1e-7 * float(np.max(abs(b[known])))))
