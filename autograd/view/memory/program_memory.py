"""How a recorded program lies in memory: its steps, its buffers in one arena, and what it computes again to save some.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...core.describe import format_bytes, label, plural, record_line
from ...engine import Tensor
from ...program.memory_plan import ALIGNMENT
from ...program.trace import BACKWARD, FORWARD, RECOMPUTE, SUM
from ..text import number_records
from .chart import arena_map
from .memory import ALL, SHOWN, Again, Shown, first_twins
from .memory_replay import bytes_over

if TYPE_CHECKING:
    from ...program.capture import Capture
    from ...program.program import Program

HEAD = ["bytes", "arrays", "made", "steps", "last used", "record"]
KINDS = {FORWARD: "forward", RECOMPUTE: RECOMPUTE, BACKWARD: "gradients", "": "in passing"}


@dataclass(eq=False)
class Buffer:
    """A piece of the arena: `n_bytes` from `start` on, needed from step `born` to step `dies` (the number of steps, if
    it holds a result), and made in the turn of `record`, for `purpose`: "forward", "recomputed", "backward" or
    "sum of gradients".  What is needed in one step only is held in passing."""

    record: Tensor
    purpose: str
    n_bytes: int
    start: int
    born: int
    dies: int

    @property
    def kind(self) -> str:
        """The name of its layer in the chart: that of its purpose in KINDS."""
        return KINDS["" if self.born == self.dies else BACKWARD if self.purpose == SUM else self.purpose]

    def __repr__(self) -> str:
        return f"Buffer({self.kind}, {self.n_bytes:,} bytes at {self.start:,}, steps {self.born} to {self.dies})"


class ProgramMemory(Shown):
    """What `program.memory()` found: the plan of what was recorded for the last call, or last of all.

    lifetimes: an entry for each buffer (`Buffer`), in order of birth.  steps: of each step the record whose turn it is,
    and its purpose; the first `n_forward` are forward.  n_bytes: the size of the arena; without_reuse: what it would be
    if every buffer had a place of its own.  alive: bytes in buffers at each step.  peak, peak_step: the most, and when;
    the arena is larger by gaps between buffers.  again: what is computed again on the way back, and by how much that
    makes the arena smaller (`Again`).  parameters, gradients, inputs: bytes outside the arena; gradients lie where
    `.grad` is.
    """

    head, title = HEAD, f"{RECOMPUTE} on the way back, and not kept:"

    def __init__(self, program: Program):
        capture: Capture = program._last or next(reversed(program._captures.values()))
        plan = self.plan = capture.plan
        self.tape, self.n_forward, self.steps = capture.tape, capture.n_forward, plan.origins
        self.lifetimes = _buffers(plan)
        self.n_bytes = plan.n_bytes
        self.without_reuse = sum(-(-b.n_bytes // ALIGNMENT) * ALIGNMENT for b in self.lifetimes)
        self.alive = bytes_over(self.lifetimes, len(self.steps))
        self.peak = max(self.alive, default=0)
        self.peak_step = self.alive.index(self.peak) if self.alive else 0
        self.parameters = _total(t._array for t in capture.leaves if t.requires_grad)
        self.gradients = _total(capture.gradients.values())
        self.inputs = _total(t._array for t in capture.inputs)
        self.again = self._again()
        self._all = len(program._captures), program.n_bytes

    def at(self, step: int) -> list[Buffer]:
        """The buffers that are needed at a step, largest first."""
        return sorted((b for b in self.lifetimes if b.n_bytes and b.born <= step <= b.dies), key=lambda b: -b.n_bytes)

    def svg(self) -> str:
        """The arena, from its first byte at the bottom to its last, over the steps: what lies where, and until when."""
        n = len(self.steps)
        layers: dict[str, list[tuple[int, int, int, int]]] = {kind: [] for kind in KINDS.values()}
        for b in self.lifetimes:
            layers[b.kind].append((b.born, min(b.dies, n - 1), b.start, b.n_bytes))
        return arena_map(layers, n, self.n_forward, self.n_bytes, self.peak_step,
                         f"{format_bytes(self.peak)}: {self._turn(self.peak_step)}" if n else "")

    # ------------------------------------------------------------------ what is not kept
    def _again(self) -> list[Again]:
        made: dict[tuple[Tensor, str], list[int]] = {}  # record and purpose -> the buffers first used then
        for k, b in enumerate(self.lifetimes):
            made.setdefault((b.record, b.purpose), []).append(k)
        names: dict[str, dict[Tensor, dict[int, int]]] = {}  # op -> record -> its buffers now, and those in forward
        for t, purpose in self.steps:
            if purpose == RECOMPUTE:
                pairs = zip(made.get((t, RECOMPUTE), []), made.get((t, FORWARD), []))
                names.setdefault(t.op.name, {})[t] = dict(pairs)
        found = [self._if_kept(name, records) for name, records in names.items()]
        together = {t: pairs for records in names.values() for t, pairs in records.items()}
        return [*found, self._if_kept(ALL, together)] if len(found) > 1 else found

    def _if_kept(self, name: str, records: dict[Tensor, dict[int, int]]) -> Again:
        """What it would take to keep the values of these records."""
        left_out = {i for i, (t, purpose) in enumerate(self.steps) if purpose == RECOMPUTE and t in records}
        instead = {k: first for pairs in records.values() for k, first in pairs.items()}
        kept = sum(self.lifetimes[k].n_bytes for k in instead if self.lifetimes[k].dies not in left_out)
        return Again(name, len(records), kept, self.plan.n_bytes_without(left_out, instead) - self.n_bytes)

    # ------------------------------------------------------------------ words
    def _totals(self) -> list[str]:
        there, (n, n_all) = self.at(self.peak_step), self._all
        parts = [f"{kind} {format_bytes(of_it)}" for kind in KINDS.values()
                 if (of_it := sum(b.n_bytes for b in there if b.kind == kind))]
        others = [f"  {n} captured graphs, for arguments of other shapes too: {format_bytes(n_all)} in all arenas"]
        return [f"Plan of {plural(self.n_forward, 'step')} forward and {len(self.steps) - self.n_forward:,} back: an "
                f"arena of {format_bytes(self.n_bytes)} ({format_bytes(self.without_reuse)} without reuse of memory)",
                f"  peak of {format_bytes(self.peak)} at {self._turn(self.peak_step)}: {', '.join(parts) or 'nothing'}",
                f"  not included: parameters {format_bytes(self.parameters)}, their gradients "
                f"{format_bytes(self.gradients)}, inputs {format_bytes(self.inputs)}", *(others if n > 1 else [])]

    def _turn(self, step: int) -> str:
        """`step 7, backward of %3 exp`."""
        if not self.steps:
            return "no step"
        t, purpose = self.steps[step]
        numbers = number_records(self.tape)
        number = f"%{numbers[t]} " if t in numbers else ""
        name = t.op.name if t.op else t.name or "leaf"
        return f"step {step}, {purpose}{' of' if purpose != RECOMPUTE else ''} {number}{name}"

    def _rows(self) -> tuple[list[list[str]], list[str]]:
        """What is there at the peak, largest first, a row for all buffers that are made alike, and a line on the rest:
        the columns are those of HEAD."""
        numbers, first = number_records(self.tape), first_twins(self.tape)
        alike: dict[tuple[Any, str, int], list[Buffer]] = {}
        for b in self.at(self.peak_step):
            alike.setdefault((first.get(b.record, b.record), b.purpose, b.n_bytes), []).append(b)
        groups = sorted(alike.values(), key=lambda buffers: -sum(b.n_bytes for b in buffers))
        rows = []
        for buffers in groups[:SHOWN]:
            b = min(buffers, key=lambda b: b.born)
            times = f"{len(buffers)} × {format_bytes(b.n_bytes)}" if len(buffers) > 1 else ""
            until, last = ("end", "result") if b.dies == len(self.steps) else (f"{b.dies}", self._last(b.dies, numbers))
            rows.append([format_bytes(sum(b.n_bytes for b in buffers)), times, b.purpose, f"{b.born}–{until}", last,
                         record_line(b.record, numbers) if b.record in numbers else label(b.record)])
        rest = [b.n_bytes for buffers in groups[SHOWN:] for b in buffers]
        return rows, [f"… {plural(len(rest), 'more array')}, {format_bytes(sum(rest))} …"] if rest else []

    def _last(self, step: int, numbers: dict[Tensor, int]) -> str:
        """Whose turn a step is: `backward %3`."""
        t, purpose = self.steps[step]
        return f"{purpose} %{numbers[t]}" if t in numbers else purpose


def _buffers(plan: Any) -> list[Buffer]:
    """The buffers by their numbers in the plan, which is the order of birth."""
    places = [memory.__array_interface__["data"][0] for memory, _, _ in plan.lifetimes]
    lowest = min(places, default=0)  # where the arena begins
    return [Buffer(record, purpose, memory.nbytes, at - lowest, first, last)
            for at, (memory, first, last) in zip(places, plan.lifetimes) for record, purpose in [plan.origins[first]]]


def _total(arrays: Iterable[Any]) -> int:
    return sum(a.nbytes for a in arrays)
