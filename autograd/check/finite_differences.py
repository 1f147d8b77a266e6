"""Derivatives by finite differences, with step sizes found by trial, and how uncertain each derivative is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from ..core.arrays import short_repr

_ACCURATE = 1e-8  # error, relative to the total slope, at which no further step size is tried
_UNUSABLE = 5e-5  # relative error above which there is nothing to compare with
_STEP = 0.0137  # the first step size, as a fraction of the element's scale
_RATIO = 3.7  # of each step size to the next; not an integer, so that not all steps are whole periods of a wave
_STEPS = 20  # smaller step sizes that are tried at most
_SAMPLE = 64  # elements that are measured of one array; of a larger one, this many at random
_EPS = float(np.finfo(float).eps)
_TINY = 1e-300  # the smallest scale: steps between subnormal numbers could not be told apart


class _Estimate(NamedTuple):
    """A derivative extrapolated from three successive step sizes."""

    derivative: float
    error: float  # its uncertainty
    total_slope: float  # sum of |slope| over outputs; errors are relative to it
    kink: float  # slope on the right minus slope on the left, both extrapolated to step size 0
    change_ratio: float  # |Δf| at the smallest step ÷ |Δf| at the largest; near 1 at a discontinuity
    step: float  # the smallest of the three

    def is_accurate(self) -> bool:
        return self.error <= _ACCURATE * self.total_slope


class _Differences(NamedTuple):
    """Difference quotients at one step size."""

    slope: float  # central difference
    kink: float  # forward minus backward difference
    change: float  # sum of |Δf| over outputs, on the side where it is larger


class _Curve:
    """The outputs of `f` as a function of one element, whose value is `x` and where they are `y`.  Step size number j
    is _STEP · scale / _RATIO^j."""

    def __init__(self, f: Callable[[float], np.ndarray], y: np.ndarray, x: float, scale: float):
        self.f, self.y, self.x, self.scale = f, y, x, scale
        self.affected = np.zeros(y.shape, bool)  # the outputs that any step so far has changed
        self.differences: dict[int, _Differences] = {}

    def difference(self, j: int) -> _Differences:
        """Return the difference quotients at step size j."""
        if j not in self.differences:
            above, below = self.x + self.step(j), self.x - self.step(j)
            up, down = self.f(above) - self.y, self.y - self.f(below)
            self.affected |= (up != 0) | (down != 0)
            right, left = float(up.sum()) / (above - self.x), float(down.sum()) / (self.x - below)
            change = float(max(abs(up).sum(), abs(down).sum()))
            self.differences[j] = _Differences((right + left) / 2, right - left, change)
        return self.differences[j]

    def step(self, j: int) -> float:
        return _STEP * self.scale * _RATIO ** -j

    def rounding_error(self, j: int) -> float:
        """Bound the effect of rounding in the outputs on a slope at step size j."""
        return 4 * _EPS * float(abs(self.y[self.affected]).sum()) / self.step(j)

    def estimate(self, j: int) -> _Estimate:
        """Extrapolate from the step sizes j, j + 1 and j + 2 to 0.  Errors of a central difference are of the orders
        2, 4 … in the step size, those of forward minus backward differences of the orders 1, 3 …  (Ridders 1982.)"""
        (d0, k0, c0), (d1, k1, _), (d2, k2, c2) = self.difference(j), self.difference(j + 1), self.difference(j + 2)
        coarse = _extrapolate(d0, d1, 2)
        derivative = _extrapolate(coarse, _extrapolate(d1, d2, 2), 4)
        kink = _extrapolate(_extrapolate(k0, k1, 1), _extrapolate(k1, k2, 1), 3)
        error = abs(derivative - coarse) + abs(kink) + self.rounding_error(j + 2)
        step = self.step(j + 2)
        if not math.isfinite(error):
            return _Estimate(math.nan, math.inf, 0.0, 0.0, 0.0, step)
        return _Estimate(derivative, error, c2 / step, kink, c2 / c0 if c0 else 0.0, step)

    def best_estimate(self, coarsest: int) -> _Estimate:
        """Return the estimate with the smallest error: that of three steps in the element's own scale, or of other
        steps if that one is poor.  `coarsest` is the number of the step size in the scale of the whole array, or of 1.
        """
        # Large outputs may absorb a small step in rounding; a large step reveals which outputs depend on this element.
        self.difference(coarsest)
        best = self.estimate(0)
        has_usual_scale = 1e-2 < self.scale < 1e2
        if not (has_usual_scale or self.is_confirmed(0)):
            best = best._replace(error=math.inf)
        for j in self.other_steps(best, coarsest):
            if best.is_accurate():
                break
            if self.rounding_error(j + 2) < best.error and self.is_better(j, best):
                best = self.estimate(j)
        return best

    def other_steps(self, first: _Estimate, coarsest: int) -> Iterable[int]:
        """Return the numbers of the estimates to try after the first: the coarsest, finer ones, then coarser ones."""
        finer = range(1, _STEPS - 1)
        coarser = range(-1, coarsest, -1)
        if self.is_jump(first) or not coarser:  # a larger step may make a jump look small
            return finer
        return chain([coarsest], finer, coarser)

    def is_better(self, j: int, best: _Estimate) -> bool:
        """Tell whether estimate j is clearly more precise than `best`, and not so by accident."""
        return 4 * self.estimate(j).error < best.error and not self.is_on_stair(j) and self.is_confirmed(j)

    def is_confirmed(self, j: int) -> bool:
        """Tell whether much smaller steps agree with estimate j.  They do not if its error is small by accident: on
        stairs of rounding, or where the steps are whole periods of a wave."""
        return abs(self.estimate(j + 3).derivative - self.estimate(j).derivative) <= 100 * self.estimate(j).error

    def is_on_stair(self, j: int) -> bool:
        """Tell whether estimate j is flat although larger steps change the outputs: it lies between jumps, those of f
        or those of rounding.  (At a minimum, slopes shrink no faster than the step size.)"""
        slopes = [self.difference(k).change / self.step(k) for k in range(min(j, 0), j + 2)]
        return any(fine < coarse / 5 for coarse, fine in zip(slopes, slopes[1:])) if j > 0 else False

    def is_jump(self, estimate: _Estimate) -> bool:
        """Tell whether a small step changes the outputs as much as a large one, and by more than rounding does."""
        rounding = 1e3 * _EPS * float(np.max(abs(self.y), initial=0))
        return estimate.change_ratio > 0.7 and estimate.total_slope * estimate.step > rounding

    def steepest_slope(self) -> float:
        """Return the largest total slope at any step size so far."""
        slopes = [d.change / self.step(j) for j, d in self.differences.items()]
        return max(filter(math.isfinite, slopes), default=0.0)

    def largest_change(self) -> float:
        """Return the largest change of the outputs by any step so far."""
        return max([d.change for d in self.differences.values() if math.isfinite(d.change)], default=0.0)

    def explain_failure(self) -> str:
        """Say why the estimates do not agree on a derivative, with {} for the element."""
        estimates = [self.estimate(j) for j in sorted(self.differences) if {j + 1, j + 2} <= self.differences.keys()]
        estimates = [estimate for estimate in estimates if math.isfinite(estimate.error)]
        if not estimates:
            return "nothing to compare with: f is not finite around {}"
        if any(map(self.is_jump, estimates)):
            return "not differentiable: {} is at a jump (or close to one): the results change however small the step"
        for coarse, fine in zip(estimates, estimates[1:]):
            if _slopes_differ(coarse, fine):
                return "not differentiable: {} is a kink (or close to one), where the slopes on its two sides differ"
            if _slope_is_infinite(coarse, fine):
                return "not differentiable: {} is a kink, where the slope is infinite"
        return ("the derivative could not be measured: around {} slopes at different steps disagree, because of "
                "rounding in f, or a kink or jump close by")


def _slopes_differ(coarse: _Estimate, fine: _Estimate) -> bool:
    """Tell whether the slopes on both sides differ by about as much at both step sizes, and by more than the error."""
    about_equal = 0.4 * abs(fine.kink) < coarse.kink * np.sign(fine.kink) < 3 * abs(fine.kink)
    return about_equal and 2 * abs(fine.kink) > fine.error


def _slope_is_infinite(coarse: _Estimate, fine: _Estimate) -> bool:
    """Tell whether outputs change like a root of the step size: less than at a jump, more than along a slope."""
    return 0.2 < coarse.change_ratio < 0.7 and 0.2 < fine.change_ratio < 0.7


def _extrapolate(coarse: float, fine: float, order: int) -> float:
    """Extrapolate to step size 0 from two successive ones whose errors are of that order (Richardson)."""
    return fine + (fine - coarse) / (_RATIO ** order - 1)


def measure_derivatives(f: Callable[..., np.ndarray], xs: list[np.ndarray], i: int, name: str,
                        rng: np.random.Generator, elements: Any = None,
                        reasons: dict[tuple[int, ...], str] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the derivatives of the sum of f's outputs by the elements of xs[i], and their errors.

    `elements` are the elements to measure, as indices into the flattened array: by default all, or 64 at random of a
    larger array.  The results are NaN at the others, and at infinities and NaN, which no step moves.  Raises ValueError
    with the `name` of the input, the element and its value if f is not finite or the derivative cannot be measured;
    with `reasons`, elements of the latter kind are left out, and each is put there with the reason.
    """
    x, y = xs[i], f(*xs)
    finite = np.flatnonzero(np.isfinite(x))
    if elements is not None:
        finite = np.intersect1d(elements, finite)
    largest_y, largest_x = float(np.max(abs(y), initial=0)), float(np.max(abs(x.ravel()[finite]), initial=0))
    if not math.isfinite(largest_y) and x.size:
        where = f"where {name} is {short_repr(x)}"
        raise ValueError(f"nothing to compare with: f is not finite {where}; check at another point")
    if elements is None and finite.size > _SAMPLE:
        finite = rng.choice(finite, _SAMPLE, replace=False)
    measured = {}
    for index in [tuple(map(int, np.unravel_index(k, x.shape))) for k in finite]:
        curve = _Curve(_along(f, xs, i, index, y), y, float(x[index]), _scale(x[index], largest_x))
        coarser = (math.log(max(1.0, largest_x)) - math.log(curve.scale)) / math.log(_RATIO)
        with np.errstate(all="ignore"):
            measured[index] = curve, curve.best_estimate(coarsest=min(0, -round(coarser)))
    largest_y = largest_y or max([curve.largest_change() for curve, _ in measured.values()], default=0.0)
    return _collect(measured, x, largest_y, largest_x or 1.0, name, reasons)


def _along(f: Callable[..., np.ndarray], xs: list[np.ndarray], i: int, index: tuple[int, ...],
           y: np.ndarray) -> Callable[[float], np.ndarray]:
    """Return `f` as a function of the element of xs[i] at `index`; NaN where it raises."""
    def call(value: float) -> np.ndarray:
        x = xs[i].copy()
        x[index] = value
        try:
            return f(*xs[:i], x, *xs[i + 1:])
        except (ArithmeticError, ValueError):  # some functions say so that they are not finite
            return np.full(y.shape, np.nan)
    return call


def _scale(value: Any, largest: float) -> float:
    """Return the magnitude of an element, or that of the largest in its array, or 1."""
    return max(abs(float(value)) or largest or 1.0, _TINY)


def _collect(measured: dict[tuple[int, ...], tuple[_Curve, _Estimate]], x: np.ndarray, largest_y: float,
             largest_x: float, name: str, reasons: dict[tuple[int, ...], str] | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the derivatives and their errors in arrays like `x`.  Raises ValueError for one that is too uncertain, or
    leaves it NaN and adds it to `reasons`."""
    derivatives, errors = np.full(x.shape, np.nan), np.full(x.shape, np.nan)
    estimates = [best for _, best in measured.values()]
    largest = max([abs(best.derivative) for best in estimates if abs(best.derivative) > best.error], default=0.0)
    steepest = max([best.total_slope for best in estimates], default=0.0)
    # The error that passes in this array; where all derivatives are 0 up to their errors, one relative to the outputs.
    array_limit = _UNUSABLE * largest or 1e-9 * largest_y / largest_x
    for index, (curve, best) in measured.items():
        is_constant = not best.total_slope
        own_limit = _UNUSABLE * (best.total_slope or curve.steepest_slope())
        too_large_for_array = best.error > (max(array_limit, own_limit) if is_constant else array_limit)
        is_rounding = best.error < 100 * _EPS * largest_y / best.step  # of the largest output, which hides the others
        too_large_for_itself = best.error > own_limit and not is_rounding
        if too_large_for_array or too_large_for_itself:
            with np.errstate(all="ignore"):
                reason = curve.explain_failure().format(f"{name} at index {index} (value {x[index]:.6g})")
            if reasons is None:
                raise ValueError(f"{reason}; check at another point")
            reasons[index] = reason
            continue
        derivatives[index], errors[index] = best.derivative, best.error
        if is_constant:  # a rule may still round where no output changes
            errors[index] += 4 * _EPS * max(steepest, largest_y / largest_x)
    return derivatives, errors
