"""Growth of the engine's and the views' time with the number of records on a tape and of an operation's inputs."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

import autograd as ag

from .measure import Side, fit_exponent, in_turns

SIZES = (1000, 2000, 4000)


@dataclass
class Cost:
    """Milliseconds of an action on so many records or inputs, and their exponent."""
    name: str
    sizes: tuple[int, ...]
    ms: list[float]

    def summary(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        return {"row": "scaling", "what": self.name, "sizes": list(self.sizes), "ms": self.ms,
                "exponents": {"ms": fit_exponent(self.sizes, self.ms)}}

    def lines(self) -> list[str]:
        """Return the lines of text that are printed."""
        times, exponent = ", ".join(f"{x:.1f}" for x in self.ms), fit_exponent(self.sizes, self.ms)
        return [f"scaling: {self.name} {', '.join(map(str, self.sizes))}",
                f"  time    {times} ms: exponent {exponent:.2f}"]


def cost_rows(rounds: int, sizes: tuple[int, ...] = SIZES) -> Iterator[Cost]:
    """Yield a row for each of COSTS, its sizes timed in turns."""
    for name, (make, run) in COSTS.items():
        sides = in_turns(min(rounds, 5), [Side(str(n), _ms(run, make(n))) for n in sizes])
        yield Cost(name, sizes, [median(side.values) for side in sides])


def _ms(run: Callable[[Any], Any], given: Any) -> Callable[[], float]:
    def measure() -> float:
        gc.collect()
        began = time.process_time()  # without the time of other processes
        run(given)
        return (time.process_time() - began) * 1000
    return measure


def _leaves(n: int) -> list[Any]:
    return [ag.tensor(np.full(4, float(i)), requires_grad=True) for i in range(n)]


def _rows(n: int) -> Any:
    return ag.tensor(np.ones((n, 4)), requires_grad=True)


def _chain(n: int, every: int = 0) -> Any:
    """Return the sum of a chain of `n` operations, with one more inserted after `every` so many."""
    y: Any = ag.tensor(np.ones(4), requires_grad=True)
    for i in range(n):
        y = np.tanh(y) if i % 2 else y * 1.01
        if every and i % every == 0:
            y = y + 1.0
    return y.sum()


def _tape(n: int) -> Any:
    return ag.tape(_chain(n))


def _program(n: int) -> None:
    w = ag.tensor(np.ones(4), requires_grad=True)

    def f(x: Any) -> Any:
        for _ in range(n):
            x = np.tanh(x * w)
        return x.sum()

    program = ag.record(f, np.ones(4))
    program(np.ones(4))
    program.backward()


# Actions: a function that makes the input of size n, and the one that is timed.
COSTS: dict[str, tuple[Callable[[int], Any], Callable[[Any], Any]]] = {
    "gathering the tape of operations": (_chain, ag.tape),
    "forward and backward through operations": (int, lambda n: _chain(n).backward()),
    "recording and running a program of operations": (int, _program),
    "iterating over rows, and back": (_rows, lambda x: sum(x).sum().backward()),
    "stacking arrays, and back": (_leaves, lambda xs: np.stack(xs).sum().backward()),
    "concatenating arrays, and back": (_leaves, lambda xs: np.concatenate(xs).sum().backward()),
    "explaining the concatenation of a quarter as many arrays":
        (lambda n: np.concatenate(_leaves(n // 4)), lambda y: repr(y.explain())),
    "diffing tapes of operations, a tenth of them inserted":
        (lambda n: (_tape(n), ag.tape(_chain(n, 10))), lambda tapes: repr(ag.diff(*tapes))),  # type: ignore[operator]
    "stepping over operations": (_tape, lambda tape: tape.stepper().run()),
    "weighing the memory of operations": (_tape, lambda tape: repr(tape.memory())),
    "playing operations": (_tape, lambda tape: tape.player()),
}
