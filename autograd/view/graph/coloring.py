"""What the colours of a graph's boxes say: the kind of operation, or its gradient, time or memory."""

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
from ..text import norm as norm_of
from .fold import Box, Fold, Frame, is_item

WHITE = "#ffffff"
BAD = "#f7b9a1"
"""The fill of what has a NaN or an infinity, which its text says too."""
# After Paul Tol's "light" scheme, made for cells with dark text that every kind of eye can tell apart; paler still.
FAMILIES = {"linear": "#b5d0ee", "linalg": "#c9ecf7", "network": "#f6c3af", "elementwise": "#f6ebb8",
            "reduce": "#ffd1d9", "index": "#dbe399", "shape": "#e8e8e8", "your own": "#a8dccb"}
_LIGHT, _DARK = np.array([247, 250, 253]), np.array([120, 178, 222])  # under text that is nearly black


class Gradients:
    """Norms of gradients, from one walk back: `of` each record, and `along` each (input, record) that it is sent.

    `missing` says in a line why there are none, if there are none.
    """

    def __init__(self, tape: Tape):
        self.of: dict[Tensor, float] = {}
        self.along: dict[tuple[Tensor, Tensor], list[float]] = defaultdict(list)
        self.missing = ""
        try:
            with restore_freed(tape), within(observer=None), np.errstate(all="ignore"):
                for t, g, sent in backward_pass(tape):
                    self.of[t] = norm(g)
                    for a, d in sent:
                        self.along[a, t].append(norm(d))
        except Exception as error:  # a leaf changed since, or a rule that fails: the graph is what helps then
            self.of, self.along = {}, {}
            self.missing = f"no numbers: {first_line(error)}"


def norm(g: Any) -> float:
    """The Euclidean norm of a gradient: an array, or those of a tuple.  Raises TypeError for another library's."""
    parts = g.values() if isinstance(g, dict) else g if isinstance(g, tuple) else [g]
    if not all(isinstance(part, (np.ndarray, np.generic)) for part in parts):
        raise TypeError("not NumPy arrays")
    return norm_of(g)


def span(values: Iterable[float]) -> str:
    """`0.12`, or for several `0.012…0.12`; a NaN or an infinity by its name."""
    values = list(values)
    if bad := [v for v in values if not math.isfinite(v)]:
        return "NaN" if any(map(math.isnan, bad)) else "inf"
    low, high = f"{min(values):.2g}", f"{max(values):.2g}"
    return low if low == high else f"{low}…{high}"


def first_line(error: Exception) -> str:
    """What an error says, without the line of the tape under it."""
    return (str(error).splitlines() or [type(error).__name__])[0]


class Ramp:
    """Colours of numbers from 0, or on a log scale from the smallest, up to the largest."""

    def __init__(self, values: Iterable[float], log: bool = False):
        good = [v for v in values if v > 0 and math.isfinite(v)]
        self.high, self.log = max(good, default=0.0), log
        self.low = max(min(good, default=0.0), self.high * 1e-8)  # what is smaller is as good as nothing

    def place(self, value: float) -> float:
        """Where a value lies, from 0 to 1."""
        if not value > 0 or not self.high:
            return 0.0
        if not self.log:
            return min(1.0, value / self.high)
        width = math.log(self.high / self.low)
        return min(1.0, max(0.0, math.log(value / self.low) / width)) if width else 1.0

    def fill(self, value: float) -> str:
        """The colour of a value as `#rrggbb`."""
        if not math.isfinite(value):
            return BAD
        return hexadecimal(_LIGHT + (_DARK - _LIGHT) * self.place(value)) if value else WHITE

    def swatches(self) -> list[str]:
        """Its colours in five steps."""
        return [hexadecimal(_LIGHT + (_DARK - _LIGHT) * x) for x in np.linspace(0, 1, 5)]


def hexadecimal(rgb: Any) -> str:
    """`#77aadd`."""
    return "#" + "".join(f"{round(float(c)):02x}" for c in rgb)


# ---------------------------------------------------------------------- a scheme for each `color=`
class ByOp:
    """Colours by family, the file of `autograd.ops` that an operation is in."""

    notes: list[str] = []
    ramp: Ramp | None = None

    def __init__(self, tape: Tape, fold: Fold, gradients: Gradients | None):
        self.families = {box: family(box.op) for box in fold.frame.boxes() if box.op is not None and box.op.op}
        self.swatches = [(name, fill) for name, fill in FAMILIES.items() if name in self.families.values()]

    def fill(self, box: Box) -> str:
        """The colour of a box."""
        return FAMILIES[self.families[box]] if box in self.families else WHITE

    def text(self, box: Box) -> str:
        """What the colour says, in figures."""
        return ""


class _ByNumber(ByOp):
    """Colours by a number of each box, which is also written on it."""

    log = False
    adds = True  # whether the numbers of several add up

    def __init__(self, tape: Tape, fold: Fold, gradients: Gradients | None):
        self.swatches = []
        self.numbers = dict(self.measured(tape, fold, gradients))
        self.ramp = Ramp([max(values) for values in self.numbers.values()], self.log)
        self.total = sum(value for values in self.numbers.values() for value in values)
        if self.notes and self.adds and any(isinstance(item, Frame) for item in fold.frame.runs()):
            self.notes.append("what is drawn once for several scopes has the sum of all")

    def measured(self, tape: Tape, fold: Fold, gradients: Gradients | None) -> Iterator[tuple[Box, list[float]]]:
        """Each box that has a number, or several for what it stands for."""
        raise NotImplementedError

    def fill(self, box: Box) -> str:
        return self.ramp.fill(max(self.numbers[box])) if box in self.numbers else WHITE  # type: ignore[union-attr]

    def share(self, box: Box) -> str:
        """` · 34 %`, of the whole."""
        share = 100 * self.numbers[box][0] / self.total if self.total else 0
        return f" · {share:.0f} %" if share >= 0.5 else " · <1 %"


class ByGradient(_ByNumber):
    """Colours by the norm of the gradient."""

    log, adds = True, False

    def measured(self, tape: Tape, fold: Fold, gradients: Gradients | None) -> Iterator[tuple[Box, list[float]]]:
        norms = gradients.of if gradients is not None else {}
        for box in fold.frame.boxes():
            if values := [norms[t] for t in fold.results(box) if t in norms]:
                bad = [v for v in values if not math.isfinite(v)]
                yield box, bad or values
        good = [v for v in norms.values() if v and math.isfinite(v)]
        self.notes = [f"colour: norm of the gradient, log scale, {span(good)}"] if good else []

    def text(self, box: Box) -> str:
        return f"‖∇‖ {span(self.numbers[box])}" if box in self.numbers else ""


class ByTime(_ByNumber):
    """Colours by the time that the formula and its rules take."""

    def measured(self, tape: Tape, fold: Fold, gradients: Gradients | None) -> Iterator[tuple[Box, list[float]]]:
        from .timing import REPEATS, measure_times
        try:
            with within(observer=None), np.errstate(all="ignore"):
                measured = measure_times(tape)
        except Exception as error:  # as with gradients
            self.notes = [f"no numbers: {first_line(error)}"]
            return
        for box in fold.frame.boxes():
            if found := [measured[t].total for t in box.records if t in measured]:
                yield box, [sum(found)]
        forward, backward = sum(t.forward for t in measured.values()), sum(t.backward for t in measured.values())
        self.notes = [f"colour: time, {duration(forward)} forward and {duration(backward)} backward; each operation "
                      f"was run again by itself, median of {REPEATS}"]

    def text(self, box: Box) -> str:
        return f"{duration(self.numbers[box][0])}{self.share(box)}" if box in self.numbers else ""


class ByMemory(_ByNumber):
    """Colours by the bytes of values, and of what kernels save, that are kept for the backward."""

    def measured(self, tape: Tape, fold: Fold, gradients: Gradients | None) -> Iterator[tuple[Box, list[float]]]:
        from ..memory.memory import memory
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
    """The file of `autograd.ops` that the operation of a record is in, or `your own`."""
    if is_item(t):
        return "shape"
    module = module_of(t.op.formula)  # type: ignore[union-attr]
    if module == "numpy":
        return "elementwise"
    return module.rpartition(".")[2] if module.startswith("autograd.ops.") else "your own"


def duration(seconds: float) -> str:
    """`12.3 ms`."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.1f} {unit}"
    return f"{seconds * 1e6:.1f} µs"
