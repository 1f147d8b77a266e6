"""Measurement: sides in turns, medians and spread, other processes, and a description of the machine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.environment import blas
from ..runtime.worker_pool import cores

QUIET = 0.15  # seconds after which another side's idle threads have stopped spinning
PACKAGES = ("numpy", "numba", "torch", "jax")


@dataclass
class Side:
    """One side of a comparison: a function that measures, or the reason that there is none."""
    name: str
    measure: Callable[[], float] | None = None
    missing: str = ""
    wrong: bool = False  # it is missing because its results differ from ours
    values: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return the median and the spread: the first and the last decile."""
        if not self.values:
            return {"name": self.name, "missing": self.missing}
        low, *_, high = statistics.quantiles(self.values * 2 if len(self.values) == 1 else self.values, n=10,
                                             method="inclusive")
        return {"name": self.name, "median": statistics.median(self.values), "low": low, "high": high}


@dataclass
class Row:
    """A comparison of ours, the first side, with the others, in `unit`."""
    name: str
    what: str
    unit: str
    sides: list[Side]
    notes: list[str] = field(default_factory=list)
    more_is_better: bool = False

    def summary(self) -> dict[str, Any]:
        """Return the object that `--json` prints; a ratio is ours to the other side's."""
        ours, *others = [side.summary() for side in self.sides]
        for other in others:
            if "median" in other and "median" in ours and other["median"]:
                other["ratio"] = ours["median"] / other["median"]
        return {"row": self.name, "what": self.what, "unit": self.unit, "more_is_better": self.more_is_better,
                "ours": ours, "others": others, "notes": self.notes}

    def lines(self) -> list[str]:
        """Return the lines of text that are printed."""
        s = self.summary()
        better = "more" if self.more_is_better else "less"
        width = max(len(side["name"]) for side in [s["ours"], *s["others"]])
        return [f"{self.name}: {self.what} ({self.unit}, {better} is better)",
                *[f"  {side['name']:{width}}  {_figure(side)}" for side in [s["ours"], *s["others"]]],
                *[f"  {note}" for note in self.notes]]


def _figure(side: dict[str, Any]) -> str:
    if "missing" in side:
        return f"-  {side['missing']}"
    spread = f"({_format(side['low'])} to {_format(side['high'])})" if side["high"] > side["low"] else ""
    ratio = f"ours is {side['ratio']:.2f} of it" if "ratio" in side else ""
    return f"{_format(side['median']):>9}  {spread:20}  {ratio}".rstrip()


def _format(x: float) -> str:
    return f"{x:,.0f}" if x >= 1000 else f"{x:.1f}" if x >= 100 else f"{x:.2f}"


# ---------------------------------------------------------------------- sides


def attempt(name: str, make: Callable[[], Callable[[], float]]) -> Side:
    """Return a side, or one with the reason that it cannot run; any error in a peer's code is a line of the table."""
    try:
        return Side(name, make())
    except Disagreement as error:
        return Side(name, missing=str(error), wrong=True)
    except Exception as error:
        return Side(name, missing=in_short(error))


def constant_side(name: str, find: Callable[[], float]) -> Side:
    """Return a side with one figure that does not vary, such as a number of bytes, or with the reason it has none."""
    try:
        return Side(name, values=[find()])
    except Exception as error:
        return Side(name, missing=in_short(error))


class Disagreement(ArithmeticError):
    """An error for two sides that should compute the same and did not, so that their times are not comparable."""


def in_short(error: BaseException) -> str:
    """Return the first line of an error that is not empty, after its type unless it is an ImportError for the
    reader."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return text if isinstance(error, ImportError) and text else f"{type(error).__name__}: {text}"[:200]


def need(package: str, install: str = "") -> None:
    """Raise ImportError that says what to do if a package is missing."""
    if importlib.util.find_spec(package) is None:
        raise ImportError(f"not installed: python -m pip install {install or package}")


def in_turns(rounds: int, sides: Sequence[Side]) -> list[Side]:
    """Measure the sides in turns, one figure a round after a round of warm-up; return them.  One that fails has
    none."""
    for i in range(rounds + 1):
        for side in sides:
            if side.measure:
                try:
                    side.values.append(side.measure())
                except Exception as error:
                    side.measure, side.values, side.missing = None, [], in_short(error)
        if not i:
            for side in sides:
                side.values.clear()
    return list(sides)


def settled(step: Callable[[], float]) -> float:
    """Return the median of a figure once the other sides' idle threads have stopped spinning: `step` is called for
    QUIET seconds, and at least once, for warm-up, and then as long for the figures."""
    for _ in (1, 2):
        figures, began = [step()], time.perf_counter()
        while time.perf_counter() - began < QUIET:
            figures.append(step())
    return statistics.median(figures)


def fastest_threads(measure: Callable[[], float], use: Callable[[int], None]) -> int:
    """Find the number of threads, 1, 2, 4 … up to the number of cores, for which `measure` returns the least; set it
    with `use`, and return it."""
    numbers = sorted({min(1 << i, cores()) for i in range(cores().bit_length() + 1)})
    figures = []
    for _ in range(3):
        for n in numbers:
            use(n)
            figures.append((measure(), n))
    fastest = min(figures)[1]
    use(fastest)
    return fastest


# ---------------------------------------------------------------------- other processes


def process_environment(**changes: str) -> dict[str, str]:
    """Return the variables of a process that finds these packages and keeps their bytecode, as a user's does."""
    here = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPATH": path, **changes}


def run_fresh(code: str, **changes: str) -> float:
    """Run `code` in a fresh Python, and return the number that it prints last.  Raises RuntimeError, with the last line
    of its standard error, if it fails."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env=process_environment(**changes))
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["a fresh Python failed"])[-1])
    return float(done.stdout.split()[-1])


class Worker:
    """A Python process that runs `code` and then measures on request, for a peer that cannot be imported beside us.

    `code` defines `run()`, which returns the figure.
    """

    LOOP = "\nimport sys\nfor _ in sys.stdin: print(float(run()), flush=True)\n"

    def __init__(self, code: str, **changes: str):
        self.process = subprocess.Popen([sys.executable, "-P", "-c", code + self.LOOP], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env=os.environ | changes)

    def __call__(self) -> float:
        try:
            print(file=self.process.stdin, flush=True)
            return float(self.process.stdout.readline())  # type: ignore[union-attr]
        except (OSError, ValueError):
            _, output = self.process.communicate()
            raise RuntimeError((output.strip().splitlines() or ["the other process ended"])[-1]) from None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: Any) -> None:
        if self.process.poll() is None:
            self.process.communicate()  # it ends at the end of its input


# ---------------------------------------------------------------------- the machine


def describe_machine() -> dict[str, Any]:
    """Describe what figures depend on besides the code: versions, processor, cores, BLAS, and the load."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES},
            "blas": blas(), "processor": processor(), "cores": cores(), **load_average()}


def load_average() -> dict[str, float]:
    """Return the load average of the last minute, where the system has one."""
    return {"load_average": round(os.getloadavg()[0], 2)} if hasattr(os, "getloadavg") else {}


def version(package: str) -> str:
    """Return the installed version of a package, without importing it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """Return the processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def fit_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Fit the exponent p of values ≈ c · sizesᵖ, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])
