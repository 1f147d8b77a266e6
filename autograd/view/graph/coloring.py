"""Colour schemes for the boxes of a graph: family of the op, gradient norm, time or memory."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ...core.describe import format_bytes
from ...core.mode import within
from ...core.registry import module_of
from ...engine import Tape, Tensor
from ..backward import backward_pass, restore_freed
from ..memory.memory import memory
from ..palette import BAD, FAMILIES, WHITE, hexadecimal, sequential
from ..text import norm as norm_of
from .fold import Box, Fold, Frame, is_item
from .timing import REPEATS, duration, measure_times

_DARKEST = 0.55  # of the palette's scale, on which nearly black text can be read


class Gradients:
    """Gradient norms from one backward pass: `norms` of each record, and `edge_norms` of each edge (input, record).

    `missing` is empty, or a line that tells why there are none.
    """

    def __init__(self, tape: Tape):
        self.norms: dict[Tensor, float] = {}
        self.edge_norms: dict[tuple[Tensor, Tensor], list[float]] = defaultdict(list)
        self.missing = ""
        try:
            with restore_freed(tape), within(observer=None), np.errstate(all="ignore"):
                for t, g, sent in backward_pass(tape):
                    self.norms[t] = norm(g)
                    for a, d in sent:
                        self.edge_norms[a, t].append(norm(d))
        except Exception as error:  # a modified leaf, or a failing VJP rule: draw the graph all the same
            self.norms, self.edge_norms = {}, {}
            self.missing = f"no numbers: {first_line(error)}"


def norm(g: Any) -> float:
    """Compute the Euclidean norm of a gradient (an array, or a tuple of arrays).  Raises TypeError for arrays of
    another library."""
    arrays = g.values() if isinstance(g, dict) else g if isinstance(g, tuple) else [g]
    if not all(isinstance(array, (np.ndarray, np.generic)) for array in arrays):
        raise TypeError("not NumPy arrays")
    return norm_of(g)


def span(values: Iterable[float]) -> str:
    """Format `0.12`, or the range `0.012…0.12` of several values; `NaN` or `inf` if one is not finite."""
    values = list(values)
    if bad := [v for v in values if not math.isfinite(v)]:
        return "NaN" if any(map(math.isnan, bad)) else "inf"
    low, high = f"{min(values):.2g}", f"{max(values):.2g}"
    return low if low == high else f"{low}…{high}"


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


class _ByNumber(ByOp):
    """Colour by a number of each box, which is also written in it."""

    log = False
    adds = True  # True if the numbers of several records add up

    def __init__(self, tape: Tape, fold: Fold, gradients: Gradients | None):
        self.swatches = []
        self.numbers = dict(self.measure(tape, fold, gradients))
        self.ramp = Ramp([max(values) for values in self.numbers.values()], self.log)
        self.total = sum(value for values in self.numbers.values() for value in values)
        if self.notes and self.adds and any(isinstance(item, Frame) for item in fold.frame.runs()):
            self.notes.append("scopes drawn once for several show the sum over all of them")

    def measure(self, tape: Tape, fold: Fold, gradients: Gradients | None) -> Iterator[tuple[Box, list[float]]]:
        """Yield each box that has numbers, with the numbers of the records it represents."""
        raise NotImplementedError

    def fill(self, box: Box) -> str:
        return self.ramp.fill(max(self.numbers[box])) if box in self.numbers else WHITE  # type: ignore[union-attr]

    def share(self, box: Box) -> str:
        """Format the share of the total: ` · 34 %`."""
        share = 100 * self.numbers[box][0] / self.total if self.total else 0
        return f" · {share:.0f} %" if share >= 0.5 else " · <1 %"


class ByGradient(_ByNumber):
    """Colour by the norm of the gradient."""

    log, adds = True, False

    def measure(self, tape: Tape, fold: Fold, gradients: Gradients | None) -> Iterator[tuple[Box, list[float]]]:
        norms = gradients.norms if gradients is not None else {}
        for box in fold.frame.boxes():
            if values := [norms[t] for t in fold.results(box) if t in norms]:
                bad = [v for v in values if not math.isfinite(v)]
                yield box, bad or values
        good = [v for v in norms.values() if v and math.isfinite(v)]
        self.notes = [f"colour: gradient norm, log scale, {span(good)}"] if good else []

    def text(self, box: Box) -> str:
        return f"‖∇‖ {span(self.numbers[box])}" if box in self.numbers else ""


class ByTime(_ByNumber):
    """Colour by the time that the formula and its VJP rules take."""

    def measure(self, tape: Tape, fold: Fold, gradients: Gradients | None) -> Iterator[tuple[Box, list[float]]]:
        try:
            with within(observer=None), np.errstate(all="ignore"):
                measured = measure_times(tape)
        except Exception as error:  # as in Gradients
            self.notes = [f"no numbers: {first_line(error)}"]
            return
        for box in fold.frame.boxes():
            if found := [measured[t].total for t in box.records if t in measured]:
                yield box, [sum(found)]
        forward, backward = sum(t.forward for t in measured.values()), sum(t.backward for t in measured.values())
        self.notes = [f"colour: time, {duration(forward)} forward and {duration(backward)} backward; each operation "
                      f"timed by itself, median of {REPEATS} runs"]

    def text(self, box: Box) -> str:
        return f"{duration(self.numbers[box][0])}{self.share(box)}" if box in self.numbers else ""


class ByMemory(_ByNumber):
    """Colour by the bytes kept for the backward pass: values, and arrays saved by kernels."""

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
            if any(t.op is not None for t in box.records):
                yield box, [float(sum(kept.get(t, 0) for t in box.records))]
        self.notes = ["colour: memory that each result keeps for the backward pass, "
                      f"{format_bytes(sum(kept.values()))} together"]

    def text(self, box: Box) -> str:
        return f"{format_bytes(self.numbers[box][0])}{self.share(box)}" if self.numbers.get(box, [0])[0] else ""


SCHEMES = {"op": ByOp, "grad": ByGradient, "time": ByTime, "memory": ByMemory}


def family(t: Tensor) -> str:
    """Return the file of `autograd.ops` that defines the op of a record, or `your own`."""
    if is_item(t):
        return "shape"
    module = module_of(t.op.formula)  # type: ignore[union-attr]
    if module == "numpy":
        return "elementwise"
    return module.rpartition(".")[2] if module.startswith("autograd.ops.") else "your own"
