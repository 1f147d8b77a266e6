"""How long each record of a tape takes, measured by computing it and its gradients again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

from ...engine import Tape, Tensor, reverse
from ..backward import backward_pass, input_values, restore_freed

REPEATS = 5
"""How often each formula and its rules run; the median counts."""


@dataclass(frozen=True)
class Time:
    """Seconds that an operation takes: its formula, and its gradient rules."""

    forward: float = 0.0
    backward: float = 0.0

    @property
    def total(self) -> float:
        """Both together."""
        return self.forward + self.backward


def measure_times(tape: Tape, repeats: int = REPEATS) -> dict[Tensor, Time]:
    """The time of each operation of the tape, as medians of `repeats` runs, each right after the other.

    In training the arrays of other operations push theirs out of the processor's caches, so the sum is somewhat less
    than a step takes.  Raises RuntimeError, naming the leaf, if one was changed since the tape was made.
    """
    forward: dict[Tensor, float] = {}
    backward: dict[Tensor, float] = {}
    with restore_freed(tape):
        for t in tape:
            if t.op is not None:
                forward[t] = _median(t.op.compute, repeats, input_values(t.inputs), t.attrs)
        for t, g, _ in backward_pass(tape):
            if t.op is not None:
                backward[t] = _median(_one_step, repeats, t, g)
    return {t: Time(forward[t], backward.get(t, 0.0)) for t in forward}


def _one_step(t: Tensor, g: Any) -> None:
    """What a walk back does at one record: the rules, and each gradient in its input's shape."""
    next(reverse([t], [g]))


def _median(function: Callable[..., Any], repeats: int, *args: Any) -> float:
    seconds = []
    for _ in range(repeats):
        start = perf_counter()
        function(*args)
        seconds.append(perf_counter() - start)
    return median(seconds)
