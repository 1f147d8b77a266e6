"""Time of each record of a tape, measured by running its formula and its VJP rules again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

from ...engine import Tape, Tensor, reverse
from ..backward import backward_pass, input_values, restore_freed

REPEATS = 5
"""Runs of each formula and its VJP rules, of which the median counts."""


@dataclass(frozen=True)
class Time:
    """Seconds that an operation takes in the forward and the backward pass."""

    forward: float = 0.0
    backward: float = 0.0

    @property
    def total(self) -> float:
        """Sum of both."""
        return self.forward + self.backward


def measure_times(tape: Tape, repeats: int = REPEATS) -> dict[Tensor, Time]:
    """Measure the time of each operation of the tape: medians of `repeats` consecutive runs.

    Repeated runs find their arrays in the processor's caches, so the total is somewhat less than a training step takes.
    Raises RuntimeError, naming the leaf, if a leaf was modified after the tape was recorded.
    """
    forward: dict[Tensor, float] = {}
    backward: dict[Tensor, float] = {}
    with restore_freed(tape):
        for t in tape:
            if t.op is not None:
                forward[t] = _median(t.op.compute, repeats, input_values(t.inputs), t.attrs)
        for t, g, _ in backward_pass(tape):
            if t.op is not None:
                backward[t] = _median(_run_vjp, repeats, t, g)
    return {t: Time(forward[t], backward.get(t, 0.0)) for t in forward}


def duration(seconds: float) -> str:
    """Format a time: `12.3 ms`."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.1f} {unit}"
    return f"{seconds * 1e6:.1f} µs"


def _run_vjp(t: Tensor, g: Any) -> None:
    """Run one step of the backward pass: the VJP rules of a record, with gradients reduced to their inputs' shapes."""
    next(reverse([t], [g]))


def _median(function: Callable[..., Any], repeats: int, *args: Any) -> float:
    """Return the median time of `repeats` calls, in seconds."""
    seconds = []
    for _ in range(repeats):
        start = perf_counter()
        function(*args)
        seconds.append(perf_counter() - start)
    return median(seconds)
