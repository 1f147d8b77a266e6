"""Colour schemes for the boxes of a graph: family of the op, gradient norm, time or memory."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ...core.describe import format_bytes
from ...core.mode import within
from ...core.registry import module_of
from ...engine import Tape, Tensor
from ..backward import backward_pass, restore_freed
from ..card.jacobian import find_needed
from ..card.numbers import rule_with_numbers
from ..memory.memory import memory
from ..palette import BAD, FAMILIES, WHITE, hexadecimal, sequential
from ..text import norm as norm_of
from .fold import SMALL, Box, Fold, Frame, is_item
from .timing import REPEATS, duration, measure_times

_DARKEST = 0.5  # of the palette's scale, on which nearly black text can be read
_SQUARES = 24  # maximum squares in a box


class Flow(NamedTuple):
    """A gradient that a record sends to an input: its norm, the number it is (None for an array), and in a small tape
    the VJP rule with its numbers put in."""

    norm: float
    number: float | None
    rule: str = ""

    def __str__(self) -> str:
        return f"norm {self.norm:.4g}" if self.number is None else f"{self.number:.4g}{self.rule and ' = '}{self.rule}"


class Gradients:
    """Gradients from one backward pass: `norms` of each record, `numbers` of the scalars among them, and `flows` along
    each edge (input, record), one for each time that the record reads the input.

    `missing` is empty, or a line that tells why there are none.
    """

    def __init__(self, tape: Tape):
        self.norms: dict[Tensor, float] = {}
        self.numbers: dict[Tensor, float] = {}
        self.flows: dict[tuple[Tensor, Tensor], list[Flow]] = defaultdict(list)
        self.missing = ""
        try:
            with restore_freed(tape), within(observer=None), np.errstate(all="ignore"):
                for t, g, sent in backward_pass(tape):
                    self.norms[t] = norm(g)
                    if (number := as_number(g)) is not None:
                        self.numbers[t] = number
                    places = find_needed(t) if len(tape) <= SMALL else []
                    for i, (a, d) in enumerate(sent):
                        rule = rule_with_numbers(t, places[i], g, d) if places else ""
                        self.flows[a, t].append(Flow(norm(d), as_number(d), rule))
        except Exception as error:  # a modified leaf, or a failing VJP rule: draw the graph all the same
            self.norms, self.numbers, self.flows = {}, {}, {}
            self.missing = f"no numbers: {first_line(error)}"


def norm(g: Any) -> float:
    """Compute the Euclidean norm of a gradient (an array, or a tuple of arrays).  Raises TypeError for arrays of
    another library."""
    arrays = g.values() if isinstance(g, dict) else g if isinstance(g, tuple) else [g]
    if not all(isinstance(array, (np.ndarray, np.generic)) for array in arrays):
        raise TypeError("not NumPy arrays")
    return norm_of(g)


def as_number(value: Any) -> float | None:
    """Return a scalar as a Python number, and None for anything else."""
    return value.item() if isinstance(value, (np.ndarray, np.generic)) and value.shape == () else None


def span(values: Iterable[float]) -> str:
    """Format `0.12`, or the range `0.012…0.12` of several values; `NaN` or `inf` if one is not finite."""
    values = list(values)
    if bad := [v for v in values if not math.isfinite(v)]:
        return "NaN" if any(map(math.isnan, bad)) else "inf"
    low, high = f"{min(values):.2g}", f"{max(values):.2g}"
    return low if low == high else f"{low}…{high}"


def largest(values: Iterable[float]) -> float:
    """Return the largest number, or one that is not finite if there is one."""
    values = list(values)
    return next((v for v in values if not math.isfinite(v)), max(values))


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, without the line of the tape that follows."""
    return (str(error).splitlines() or [type(error).__name__])[0]


class Ramp:
    """A colormap from light to dark: linear from 0 to the largest value, or logarithmic from the smallest one."""

    def __init__(self, values: Iterable[float], log: bool = False):
        good = [v for v in values if v > 0 and math.isfinite(v)]
        self.high, self.log = max(good, default=0.0), log
        self.low = max(min(good, default=0.0), self.high * 1e-8)  # smaller values are drawn as the smallest

    def position(self, value: float) -> float:
        """Map a value to its position on the scale, from 0 to 1."""
        if not value > 0 or not self.high:
            return 0.0
        if not self.log:
            return min(1.0, value / self.high)
        width = math.log(self.high / self.low)
        return min(1.0, max(0.0, math.log(value / self.low) / width)) if width else 1.0

    def fill(self, value: float) -> str:
        """Return the colour of a value as `#rrggbb`."""
        if not math.isfinite(value):
            return BAD
        return hexadecimal(sequential(_DARKEST * self.position(value))) if value else WHITE

    def swatches(self) -> list[str]:
        """Return five evenly spaced colours of the scale."""
        return [hexadecimal(rgb) for rgb in sequential(np.linspace(0, _DARKEST, 5))]


# ---------------------------------------------------------------------- a scheme for each `color=`
class ByOp:
    """Colour by family of the op: the file of `autograd.ops` that defines it."""

    notes: list[str] = []
    ramp: Ramp | None = None

    def __init__(self, tape: Tape, fold: Fold, gradients: Gradients | None):
        self.families = {box: family(box.op) for box in fold.frame.boxes() if box.op is not None and box.op.op}
        self.swatches = [(name, fill) for name, fill in FAMILIES.items() if name in self.families.values()]

    def fill(self, box: Box) -> str:
        """Return the fill colour of a box."""
        return FAMILIES[self.families[box]] if box in self.families else WHITE

    def text(self, box: Box) -> str:
        """Return the number that the colour stands for, as text."""
        return ""

    def strip(self, box: Box) -> list[str]:
        """Return the colours of the identical scopes that a box stands for; none without numbers."""
        return []


class _ByNumber(ByOp):
    """Colour by a number of each box, which is also written in it."""

    log = False
    adds = True  # True if the numbers of several records add up
    format: Callable[[float], str] = staticmethod(lambda value: f"{value:.2g}")

    def __init__(self, tape: Tape, fold: Fold, gradients: Gradients | None):
        self.swatches = []
        self.numbers = dict(self.measure(tape, fold, gradients))
        combine = sum if self.adds else largest
        self.value = {box: combine(values) for box, values in self.numbers.items()}
        self.parts = Ramp([v for values in self.numbers.values() for v in values], self.log)
        self.ramp = Ramp(self.value.values(), self.log) if self.adds else self.parts
        self.total = sum(self.value.values())
        if self.ramp.high:
            low = self.format(self.ramp.low if self.log else 0.0)
            self.swatches = list(zip([low, *[" " * 3] * 3, self.format(self.ramp.high)], self.ramp.swatches()))
        if self.notes and self.adds and any(isinstance(item, Frame) for item in fold.frame.runs()):
            self.notes.append("scopes drawn once for several show the sum over all of them")
        if any(self.strip(box) for box in self.numbers):
            self.notes.append("small squares: each of the identical scopes, in their order")

    def measure(self, tape: Tape, fold: Fold, gradients: Gradients | None) -> Iterator[tuple[Box, list[float]]]:
        """Yield each box that has numbers, with a number for each of the identical scopes or records it represents."""
        raise NotImplementedError

    def fill(self, box: Box) -> str:
        return self.ramp.fill(self.value[box]) if box in self.value else WHITE  # type: ignore[union-attr]

    def strip(self, box: Box) -> list[str]:
        """Return the colours of the numbers of several identical scopes; of many, of the largest of each few."""
        values = self.numbers.get(box, [])
        chunks = [values[i * len(values) // _SQUARES:(i + 1) * len(values) // _SQUARES] for i in range(_SQUARES)] \
            if len(values) > _SQUARES else [[v] for v in values]
        return [self.parts.fill(largest(chunk)) for chunk in chunks] if len(values) > 1 else []

    def describe(self, box: Box) -> str:
        """Return `1.2 ms · 34 %`: the sum and its share of the total; for several scopes also the range."""
        values, share = self.numbers[box], 100 * self.value[box] / self.total if self.total else 0
        text = f"{self.format(self.value[box])} · {f'{share:.0f}' if share >= 0.5 else '<1'} %"
        low, high = self.format(min(values)), self.format(max(values))
        return f"{text}, each {low}{f'…{high}' if low != high else ''}" if len(values) > 1 else text


class ByGradient(_ByNumber):
    """Colour by the norm of the gradient."""

    log, adds = True, False

    def measure(self, tape: Tape, fold: Fold, gradients: Gradients | None) -> Iterator[tuple[Box, list[float]]]:
        norms = gradients.norms if gradients is not None else {}
        for box in fold.frame.boxes():
            if values := [norms[t] for t in fold.results(box) if t in norms]:
                yield box, values
        good = [v for v in norms.values() if v and math.isfinite(v)]
        self.notes = [f"colour: gradient norm, log scale, {span(good)}"] if good else []

    def text(self, box: Box) -> str:
        return f"‖∇‖ {span(self.numbers[box])}" if box in self.numbers else ""


class ByTime(_ByNumber):
    """Colour by the time that the formula and its VJP rules take."""

    format = staticmethod(duration)

    def measure(self, tape: Tape, fold: Fold, gradients: Gradients | None) -> Iterator[tuple[Box, list[float]]]:
        try:
            with within(observer=None), np.errstate(all="ignore"):
                measured = measure_times(tape)
        except Exception as error:  # as in Gradients
            self.notes = [f"no numbers: {first_line(error)}"]
            return
        for box in fold.frame.boxes():
            if copies := fold.copies(box):
                yield box, [sum(measured[t].total for t in records) for records in copies]
        forward, backward = sum(t.forward for t in measured.values()), sum(t.backward for t in measured.values())
        self.notes = [f"colour: time, {duration(forward)} forward and {duration(backward)} backward; each operation "
                      f"timed by itself, median of {REPEATS} runs"]

    def text(self, box: Box) -> str:
        return self.describe(box) if box in self.numbers else ""


class ByMemory(_ByNumber):
    """Colour by the bytes kept for the backward pass: values, and arrays saved by kernels."""

    format = staticmethod(format_bytes)

    def measure(self, tape: Tape, fold: Fold, gradients: Gradients | None) -> Iterator[tuple[Box, list[float]]]:
        kept: dict[Tensor, int] = defaultdict(int)
        try:
            lifetimes = memory(tape).lifetimes
        except Exception as error:
            self.notes = [f"no numbers: {first_line(error)}"]
            return
        for lifetime in lifetimes:
            if lifetime.kind != "gradient" and lifetime.record.op is not None:
                kept[lifetime.record] += lifetime.n_bytes
        for box in fold.frame.boxes():
            if copies := fold.copies(box):
                yield box, [float(sum(kept.get(t, 0) for t in records)) for records in copies]
        self.notes = ["colour: memory that each result keeps for the backward pass, "
                      f"{format_bytes(sum(kept.values()))} together"]

    def text(self, box: Box) -> str:
        return self.describe(box) if self.value.get(box) else ""


SCHEMES = {"op": ByOp, "grad": ByGradient, "time": ByTime, "memory": ByMemory}


def family(t: Tensor) -> str:
    """Return the file or folder of `autograd.ops` that defines the op of a record, or `your own`."""
    if is_item(t):
        return "shape"
    module = module_of(t.op.formula)  # type: ignore[union-attr]
    if module == "numpy":
        return "elementwise"
    return module.split(".")[2] if module.startswith("autograd.ops.") else "your own"
