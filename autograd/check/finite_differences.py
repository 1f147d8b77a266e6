"""Derivatives by finite differences, whose steps are found by trying, and how uncertain they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_GOOD = 1e-8  # uncertainty, relative to the slopes around, at which no further step is tried
_POOR = 5e-5  # and above which there is nothing to compare with
_STEP = 0.0137  # the first step, as part of the element's scale
_RATIO = 3.7  # of each step to the next; no whole number, so that not all of them are whole periods of a wave
_STEPS = 20  # so many further ones at most
_MOST = 64  # elements that are tried of one input; of a larger one, so many at random
_EPS = float(np.finfo(float).eps)
_TINY = 1e-300  # the smallest scale: steps of subnormal numbers could not be told apart


class _Window(NamedTuple):
    """What three successive steps tell of a derivative."""

    derivative: float
    error: float  # what it is uncertain of
    change: float  # the slope of all results, each taken as positive: what an error is measured by
    bend: float  # the slope on the right minus the one on the left, both extrapolated to step 0
    spread: float  # how far the results move in the smallest step, by how far in the largest; 1 at a jump
    step: float  # the smallest


class _Line:
    """The results of `at` along one element, around the value `x`, where they are `y`.  Step number j is
    _STEP · unit / _RATIO^j."""

    def __init__(self, at: Callable[[float], np.ndarray], y: np.ndarray, x: float, unit: float):
        self.at, self.y, self.x, self.unit = at, y, x, unit
        self.affected = np.zeros(y.shape, bool)  # the results that any step so far has changed
        self.slopes: dict[int, tuple[float, float, float]] = {}

    def look(self, j: int) -> tuple[float, float, float]:
        """With step j: the slope, that on the right minus that on the left, and how much all results change."""
        if j not in self.slopes:
            above, below = self.x + self.step(j), self.x - self.step(j)
            up, down = self.at(above) - self.y, self.y - self.at(below)
            self.affected |= (up != 0) | (down != 0)
            right, left = float(up.sum()) / (above - self.x), float(down.sum()) / (self.x - below)
            self.slopes[j] = (right + left) / 2, right - left, float(max(abs(up).sum(), abs(down).sum()))
        return self.slopes[j]

    def step(self, j: int) -> float:
        return _STEP * self.unit * _RATIO ** -j

    def rounding(self, j: int) -> float:
        """What rounding the results may change in a slope with step j."""
        return 4 * _EPS * float(abs(self.y[self.affected]).sum()) / self.step(j)

    def window(self, j: int) -> _Window:
        """Extrapolate from the steps j, j + 1 and j + 2: the errors of a slope are of the orders 2, 4 … in the step,
        those of a difference of slopes of the orders 1, 3 …  (Ridders 1982, for both sides.)"""
        (d0, b0, c0), (d1, b1, _), (d2, b2, c2) = self.look(j), self.look(j + 1), self.look(j + 2)
        coarse = _limit(d0, d1, 2)
        derivative = _limit(coarse, _limit(d1, d2, 2), 4)
        bend = _limit(_limit(b0, b1, 1), _limit(b1, b2, 1), 3)
        error = abs(derivative - coarse) + abs(bend) + self.rounding(j + 2)
        if not math.isfinite(error):
            return _Window(math.nan, math.inf, 0.0, 0.0, 0.0, self.step(j + 2))
        return _Window(derivative, error, c2 / self.step(j + 2), bend, c2 / c0 if c0 else 0.0, self.step(j + 2))

    def measure(self, top: int) -> _Window:
        """The window with the least error: three steps in the element's own scale, and more only if they are poor.
        `top` is the step number in the scale of the array, or of 1."""
        self.look(top)  # which results depend on this element may only show here, as those that are large round
        best = self.window(0)
        if not (1e-2 < self.unit < 1e2 or self.confirmed(0)):
            best = best._replace(error=math.inf)
        finer, coarser = range(1, _STEPS - 1), (() if self.jumps(best) else range(-1, top, -1))
        for steps in (coarser and (top,), finer, coarser):  # to larger steps a jump may look small
            for j in steps:
                if best.error <= _GOOD * best.change:
                    return best
                if self.rounding(j + 2) >= best.error:
                    continue
                window = self.window(j)
                if 4 * window.error < best.error and not self.on_a_stair(j) and self.confirmed(j):
                    best = window
        return best

    def confirmed(self, j: int) -> bool:
        """Whether much smaller steps agree with window j.  They do not with one whose error is small by accident, as
        happens with stairs of rounding, or steps that are whole periods of a wave."""
        return abs(self.window(j + 3).derivative - self.window(j).derivative) <= 100 * self.window(j).error

    def on_a_stair(self, j: int) -> bool:
        """Whether window j is level although the results move at larger steps: between jumps, be they f's or those of
        rounding.  (At a minimum, slopes shrink just as the step does.)"""
        slopes = [self.look(k)[2] / self.step(k) for k in range(min(j, 0), j + 2)]
        return any(fine < coarse / 5 for coarse, fine in zip(slopes, slopes[1:])) if j > 0 else False

    def steepest(self) -> float:
        """The steepest slope that any step has shown."""
        slopes = [change / self.step(j) for j, (_, _, change) in self.slopes.items()]
        return max(filter(math.isfinite, slopes), default=0.0)

    def farthest(self) -> float:
        """How much any step has changed the results."""
        return max([change for *_, change in self.slopes.values() if math.isfinite(change)], default=0.0)

    def trouble(self) -> str:
        """Why no steps agree on a derivative."""
        windows = [self.window(j) for j in sorted(self.slopes) if {j + 1, j + 2} <= self.slopes.keys()]
        windows = [window for window in windows if math.isfinite(window.error)]
        if not windows:
            return "nothing to compare with: f is not finite around {}"
        if any(map(self.jumps, windows)):
            return "not differentiable: {} is at a jump (or close to one): the results change however small the step"
        for coarse, fine in zip(windows, windows[1:]):
            alike = 0.4 * abs(fine.bend) < coarse.bend * np.sign(fine.bend) < 3 * abs(fine.bend)
            if alike and 2 * abs(fine.bend) > fine.error:
                return "not differentiable: {} is a kink (or close to one), where the slopes on its two sides differ"
            if 0.2 < coarse.spread < 0.7 and 0.2 < fine.spread < 0.7:
                return "not differentiable: {} is a kink, where the slope is infinite"
        return ("the derivative could not be measured: around {} slopes at different steps disagree, because of "
                "rounding in f, or a kink or jump close by")

    def jumps(self, window: _Window) -> bool:
        """Whether the results change as much within a small step as within a large one, and more than they round."""
        return window.spread > 0.7 and window.change * window.step > 1e3 * _EPS * float(np.max(abs(self.y)))


def _limit(coarse: float, fine: float, order: int) -> float:
    """The value at step 0, from those at two successive steps whose errors are of that order in the step."""
    return fine + (fine - coarse) / (_RATIO ** order - 1)


def differences(f: Callable[..., np.ndarray], xs: list[np.ndarray], i: int, name: str,
                 rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The derivatives of the sum of f's results by the elements of xs[i], and what they are uncertain of; NaN for
    those not tried, and for infinities and NaN, which no step moves."""
    x, y = xs[i], f(*xs)
    finite = np.flatnonzero(np.isfinite(x))
    size, largest = float(np.max(abs(y), initial=0)), float(np.max(abs(x.ravel()[finite]), initial=0))
    if not math.isfinite(size) and x.size:
        raise ValueError(f"nothing to compare with: f is not finite where {name} is {x!r:.60}; check at another point")
    chosen = finite if finite.size <= _MOST else rng.choice(finite, _MOST, replace=False)
    found = {}
    for place in [tuple(map(int, np.unravel_index(p, x.shape))) for p in chosen]:
        def at(value: float, place: tuple[int, ...] = place) -> np.ndarray:
            moved = x.copy()
            moved[place] = value
            try:
                return f(*xs[:i], moved, *xs[i + 1:])
            except (ArithmeticError, ValueError):  # as some say that they are not finite
                return np.full(y.shape, np.nan)

        unit = max(abs(float(x[place])) or largest or 1.0, _TINY)
        line = _Line(at, y, float(x[place]), unit)
        steps_up = (math.log(max(1.0, largest)) - math.log(unit)) / math.log(_RATIO)
        with np.errstate(all="ignore"):
            found[place] = line, line.measure(min(0, -round(steps_up)))
    size = size or max([line.farthest() for line, _ in found.values()], default=0.0)
    return _judged(found, x, size, largest or 1.0, name)


def _judged(found: dict[tuple[int, ...], tuple[_Line, _Window]], x: np.ndarray, size: float, largest: float,
            name: str) -> tuple[np.ndarray, np.ndarray]:
    """What was found, in arrays like `x`; `size` is that of the largest result, `largest` that of x.  Raises ValueError
    for what is too uncertain to be compared with."""
    derivatives, errors = np.full(x.shape, np.nan), np.full(x.shape, np.nan)
    scale = max([abs(best.derivative) for _, best in found.values() if abs(best.derivative) > best.error], default=0.0)
    level = _POOR * scale or 1e-9 * size / largest  # the latter where all derivatives are 0 up to their errors
    steepest = max([best.change for _, best in found.values()], default=0.0)
    for place, (line, best) in found.items():
        around = _POOR * (best.change or line.steepest())
        hidden = best.error < 100 * _EPS * size / best.step  # by the rounding of the largest result
        if best.error > (level if best.change else max(level, around)) or best.error > around and not hidden:
            with np.errstate(all="ignore"):
                where = f"{name} at index {place} (value {x[place]:.6g})"
                raise ValueError(f"{line.trouble().format(where)}; check at another point")
        derivatives[place], errors[place] = best.derivative, best.error
        if not best.change:  # where no result changes, a rule may still round
            errors[place] += 4 * _EPS * max(steepest, size / largest)
    return derivatives, errors
