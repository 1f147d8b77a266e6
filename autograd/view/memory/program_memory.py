"""Memory of a captured program: its steps, its buffers in one arena, and the values it recomputes to save memory."""

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
from .memory import ALL, Recomputation, Report, group_twins
from .memory_replay import bytes_per_step

if TYPE_CHECKING:
    from ...program.capture import Capture
    from ...program.program import Program

HEAD = ["bytes", "arrays", "allocated", "steps", "last used", "record"]
KINDS = {FORWARD: "forward", RECOMPUTE: RECOMPUTE, BACKWARD: "gradients", "": "temporary"}


@dataclass(eq=False)
class Buffer:
    """A buffer in the arena: `n_bytes` at offset `start`, in use from step `born` to step `dies` (the number of steps
    for a result).  It is allocated for `record` with a `purpose`: "forward", "recomputed", "backward" or "sum of
    gradients"; one that is used in a single step is temporary."""

    record: Tensor
    purpose: str
    n_bytes: int
    start: int
    born: int
    dies: int

    @property
    def kind(self) -> str:
        """Name of its layer in the chart (see KINDS)."""
        return KINDS["" if self.born == self.dies else BACKWARD if self.purpose == SUM else self.purpose]

    def __repr__(self) -> str:
        return f"Buffer({self.kind}, {self.n_bytes:,} bytes at {self.start:,}, steps {self.born} to {self.dies})"


class ProgramMemory(Report):
    """The result of `program.memory()`: the memory plan of the last call, or before the first call of the last capture.

    lifetimes: a `Buffer` for each buffer, in order of allocation.  steps: (record, purpose) of each step, of which the
    first `n_forward` are the forward pass.  n_bytes: size of the arena; without_reuse: its size if no buffer reused
    memory.  alive: bytes in buffers at each step.  peak, peak_step: the maximum, and its step; the arena is larger by
    the gaps between buffers.  again: recomputed operations, and how much smaller they make the arena
    (`Recomputation`).  parameters, gradients, inputs: bytes outside the arena; gradients are the arrays in `.grad`.
    """

    head, title = HEAD, f"{RECOMPUTE} in the backward pass, instead of kept:"

    def __init__(self, program: Program):
        capture: Capture = program._last or next(reversed(program._captures.values()))
        plan = self.plan = capture.plan
        self.tape, self.n_forward, self.steps = capture.tape, capture.n_forward, plan.origins
        self.lifetimes = _buffers(plan)
        self.n_bytes = plan.n_bytes
        self.without_reuse = sum(-(-b.n_bytes // ALIGNMENT) * ALIGNMENT for b in self.lifetimes)
        self.alive = bytes_per_step(self.lifetimes, len(self.steps))
        self.peak = max(self.alive, default=0)
        self.peak_step = self.alive.index(self.peak) if self.alive else 0
        self.parameters = _total(t._array for t in capture.leaves if t.requires_grad)
        self.gradients = _total(capture.gradients.values())
        self.inputs = _total(t._array for t in capture.inputs)
        self.again = self._list_recomputed()
        self._all = len(program._captures), program.n_bytes

    def at(self, step: int) -> list[Buffer]:
        """Return the buffers in use at a step, largest first."""
        return sorted((b for b in self.lifetimes if b.n_bytes and b.born <= step <= b.dies), key=lambda b: -b.n_bytes)

    def svg(self) -> str:
        """Return the chart as SVG: buffers as rectangles, by their bytes in the arena (up) and their steps (across)."""
        n = len(self.steps)
        layers: dict[str, list[tuple[int, int, int, int]]] = {kind: [] for kind in KINDS.values()}
        for b in self.lifetimes:
            layers[b.kind].append((b.born, min(b.dies, n - 1), b.start, b.n_bytes))
        return arena_map(layers, n, self.n_forward, self.n_bytes, self.peak_step,
                         f"{format_bytes(self.peak)}: {self._describe_step(self.peak_step)}" if n else "")

    # ------------------------------------------------------------------ recomputation
    def _list_recomputed(self) -> list[Recomputation]:
        """Return an entry for each recomputed op, and one for all if there are several."""
        allocated: dict[tuple[Tensor, str], list[int]] = {}  # (record, purpose) -> numbers of its buffers
        for k, b in enumerate(self.lifetimes):
            allocated.setdefault((b.record, b.purpose), []).append(k)
        replaced: dict[str, dict[Tensor, dict[int, int]]] = {}  # op -> record -> {recomputed buffer: forward buffer}
        for t, purpose in self.steps:
            if purpose == RECOMPUTE:
                pairs = zip(allocated.get((t, RECOMPUTE), []), allocated.get((t, FORWARD), []))
                replaced.setdefault(t.op.name, {})[t] = dict(pairs)
        found = [self._if_kept(name, records) for name, records in replaced.items()]
        together = {t: pairs for records in replaced.values() for t, pairs in records.items()}
        return [*found, self._if_kept(ALL, together)] if len(found) > 1 else found

    def _if_kept(self, name: str, records: dict[Tensor, dict[int, int]]) -> Recomputation:
        """Compute the size of the arena if these records were kept: their forward buffers take the place of the
        recomputed ones, and the steps that recompute them are left out."""
        left_out = {i for i, (t, purpose) in enumerate(self.steps) if purpose == RECOMPUTE and t in records}
        instead = {k: first for pairs in records.values() for k, first in pairs.items()}
        kept = sum(self.lifetimes[k].n_bytes for k in instead if self.lifetimes[k].dies not in left_out)
        return Recomputation(name, len(records), kept, self.plan.n_bytes_without(left_out, instead) - self.n_bytes)

    # ------------------------------------------------------------------ words
    def _totals(self) -> list[str]:
        alive, (n_graphs, n_all) = self.at(self.peak_step), self._all
        parts = [f"{kind} {format_bytes(n)}" for kind in KINDS.values()
                 if (n := sum(b.n_bytes for b in alive if b.kind == kind))]
        n_back = len(self.steps) - self.n_forward
        lines = [f"Memory plan of {plural(self.n_forward, 'step')} forward and {n_back:,} backward: an arena of "
                 f"{format_bytes(self.n_bytes)} ({format_bytes(self.without_reuse)} without reuse of memory)",
                 f"  peak of {format_bytes(self.peak)} at {self._describe_step(self.peak_step)}: "
                 f"{', '.join(parts) or 'nothing'}",
                 f"  not included: parameters {format_bytes(self.parameters)}, their gradients "
                 f"{format_bytes(self.gradients)}, inputs {format_bytes(self.inputs)}"]
        if n_graphs > 1:
            lines.append(f"  {n_graphs} captured graphs, for arguments of other shapes too: {format_bytes(n_all)} in "
                         "all arenas")
        return lines

    def _describe_step(self, step: int) -> str:
        """Return `step 7, backward of %3 exp`."""
        if not self.steps:
            return "no step"
        t, purpose = self.steps[step]
        numbers = number_records(self.tape)
        number = f"%{numbers[t]} " if t in numbers else ""
        name = t.op.name if t.op else t.name or "leaf"
        return f"step {step}, {purpose}{' of' if purpose != RECOMPUTE else ''} {number}{name}"

    def _rows(self) -> tuple[list[list[str]], list[str]]:
        """Return the table of buffers at the peak, largest first, with the columns of HEAD, and a line on the rest.
        Buffers of the same purpose in identical scopes share a row."""
        numbers, rows = number_records(self.tape), []
        groups, rest = group_twins(self.tape, self.at(self.peak_step), lambda b: b.purpose)
        for buffers in groups:
            b = min(buffers, key=lambda b: b.born)
            times = f"{len(buffers)} × {format_bytes(b.n_bytes)}" if len(buffers) > 1 else ""
            stays = b.dies == len(self.steps)
            until, last = ("end", "result") if stays else (f"{b.dies}", self._name_step(b.dies, numbers))
            rows.append([format_bytes(sum(b.n_bytes for b in buffers)), times, b.purpose, f"{b.born}–{until}", last,
                         record_line(b.record, numbers) if b.record in numbers else label(b.record)])
        return rows, rest

    def _name_step(self, step: int, numbers: dict[Tensor, int]) -> str:
        """Return `backward %3`."""
        t, purpose = self.steps[step]
        return f"{purpose} %{numbers[t]}" if t in numbers else purpose


def _buffers(plan: Any) -> list[Buffer]:
    """Return the plan's buffers in order of allocation, which is that of their numbers in the plan."""
    addresses = [memory.__array_interface__["data"][0] for memory, _, _ in plan.lifetimes]
    start = min(addresses, default=0)  # the arena's own address
    buffers = []
    for address, (memory, first, last) in zip(addresses, plan.lifetimes):
        record, purpose = plan.origins[first]
        buffers.append(Buffer(record, purpose, memory.nbytes, address - start, first, last))
    return buffers


def _total(arrays: Iterable[Any]) -> int:
    return sum(a.nbytes for a in arrays)
