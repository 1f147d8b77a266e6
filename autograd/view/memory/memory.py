"""Memory of a forward and backward pass, array by array: size, lifetime and readers, as text, table and chart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...core.describe import format_bytes, plural, record_line
from ...engine import Tape, Tensor
from ..graph.raster import picture_source
from ..html import Html, details, escape, table
from ..outline import outline
from ..text import number_records
from .chart import stacked_areas
from .memory_replay import Lifetime, MemoryProfiler, bytes_per_step

SHOWN = 16
"""Maximum lines of the repr for arrays in memory at the peak."""
HEAD = ["bytes", "arrays", "kind", "steps", "kept until the backward of", "record"]
KINDS = {"value": "values", "saved": "saved for backward", "gradient": "gradients"}
RECOMPUTED_HEAD = ["bytes if kept", "peak reduced by", "times", "operation"]
RECOMPUTED = "recomputed in the backward pass of a captured program (ag.record), instead of kept:"
ALL = "all of these"


@dataclass
class Recomputation:
    """An operation whose values a captured program recomputes in the backward pass instead of keeping them.

    times: number of its records.  n_bytes: bytes that it would keep between the passes.  saved: reduction of the peak.
    """

    op: str
    times: int
    n_bytes: int
    saved: int

    def row(self) -> list[str]:
        """Return the cells of its row, with the columns of RECOMPUTED_HEAD."""
        return [format_bytes(self.n_bytes), format_signed(self.saved), f"{self.times}", self.op]


def memory(tape: Tape) -> Memory:
    """Measure the memory of each record over a forward and backward pass: size, lifetime, readers, and the peak.

        m = ag.tape(loss).memory()       # prints as a table; a notebook draws a chart too
        m.peak, m.steps[m.peak_step]     # maximum bytes, and the record being computed or differentiated then

    Steps 0 … N−1 compute the N operations; the following steps differentiate them, in a backward pass that finds no
    gradients in the leaves and frees values as it goes.  Both passes are run on a copy of the tape, which costs their
    time and memory once more.  Tape and gradients stay as they are; values may have been freed, and leaves modified,
    before.

    Arrays that are kept are counted one by one.  Temporary memory of formulas and VJP rules is measured by
    `tracemalloc`, which sees the whole process: no other thread should allocate much meanwhile.  If it is tracing
    already, its peak is left alone, and `peak` counts the kept arrays only.

    `lifetimes`, `alive` and `peak` do not count leaves, except for constants created during the forward pass.  Shared
    memory is counted once, and views own none.  Values that `ag.checkpoint` frees early are recognized only before a
    backward pass frees everything; after it they count as kept.  Each array of another library (on a GPU, say) counts
    as owning its memory, and its temporary memory is not known.
    """
    return Memory(tape)


class Report:
    """Base of memory reports: totals, a table of arrays at the peak, one of recomputed operations, and a chart."""

    head: list[str]
    title: str  # title of the table of recomputed operations
    again: list[Recomputation]

    def __repr__(self) -> str:
        rows, left = self._rows()
        again = align_columns(RECOMPUTED_HEAD, [a.row() for a in self.again])
        return "\n".join([*self._totals(), *(f"  {line}" for line in align_columns(self.head, rows) + left),
                          *[self.title][:len(again)], *(f"  {line}" for line in again)])

    def _repr_html_(self) -> str:
        rows, left = self._rows()
        words = escape(self._totals()[0])
        chart = f'<img src="{picture_source(self.svg())}" alt="{words}" width="720" height="300">'
        again = details(self.title, table(_forbid_breaks([a.row() for a in self.again]), RECOMPUTED_HEAD), open=True)
        return (f"{_divs(self._totals())}{chart}"
                f"{details('at the peak', Html(table(_forbid_breaks(rows), self.head) + _divs(left)), open=True)}"
                f"{again if self.again else ''}")

    def svg(self) -> str:
        """Return the chart as SVG."""
        raise NotImplementedError

    def _totals(self) -> list[str]:
        raise NotImplementedError

    def _rows(self) -> tuple[list[list[str]], list[str]]:
        raise NotImplementedError


class Memory(Report):
    """The result of `tape.memory()`.

    lifetimes: a `Lifetime` for each array, in order of allocation.  steps: the record of each step, of which the first
    `n_forward` are the forward pass.  alive, high: bytes in arrays at the end of each step, and the maximum within it,
    temporary memory included.  peak, peak_step: the maximum over all steps, and its step.  parameters, gradients,
    constants: bytes of the leaves, and of the gradients accumulated in them.  again: operations that a captured program
    would recompute (`Recomputation`): an entry for each op that is cheap with the kernels in use, and one for all.
    """

    head, title = HEAD, RECOMPUTED

    def __init__(self, tape: Tape):
        profile = MemoryProfiler(tape)
        self.tape = tape
        self.lifetimes: list[Lifetime] = sorted(profile.lifetimes, key=lambda life: life.born)
        self.steps: list[Tensor] = profile.steps
        self.n_forward = profile.n_forward
        self.alive: list[int] = profile.alive
        self.high: list[int] = profile.high
        self.peak = max(profile.high, default=0)
        self.peak_step = profile.high.index(self.peak) if profile.high else 0
        leaves = [t for t in tape if t.op is None]
        with_gradient = {life.record for life in self.lifetimes if life.kind == "gradient"}
        self.parameters = _total(t for t in leaves if t.requires_grad)
        self.gradients = _total(t for t in leaves if t in with_gradient)
        self.constants = _total(t for t in leaves if not t.requires_grad)
        self.again = self._list_recomputable()

    def at(self, step: int) -> list[Lifetime]:
        """Return the arrays in memory at the end of a step that own their memory, largest first."""
        alive = [life for life in self.lifetimes if life.n_bytes and life.born <= step <= life.dies]
        return sorted(alive, key=lambda life: -life.n_bytes)

    def svg(self) -> str:
        """Return the chart as SVG: bytes over the steps, by kind of array, with the peak marked."""
        n = len(self.alive)
        layers = {name: bytes_per_step([life for life in self.lifetimes if life.kind == kind], n)
                  for kind, name in KINDS.items()}
        return stacked_areas(layers, self.high, self.n_forward, f"{format_bytes(self.peak)}: {self._when()}")

    # ------------------------------------------------------------------ recomputation
    def _list_recomputable(self) -> list[Recomputation]:
        """Return an entry for each op that is cheap to recompute, and one for all if there are several."""
        forward = self.steps[:self.n_forward] if len(self.tape.roots) == 1 and self.n_forward < len(self.steps) else []
        cheap: dict[str, list[Tensor]] = {}
        for t in forward:
            if t.op.recompute and t is not self.tape.roots[0]:  # type: ignore[union-attr]
                cheap.setdefault(t.op.name, []).append(t)  # type: ignore[union-attr]
        found = [self._if_recomputed(name, records) for name, records in cheap.items()]
        return [*found, self._if_recomputed(ALL, sum(cheap.values(), []))] if len(found) > 1 else found

    def _if_recomputed(self, name: str, records: list[Tensor]) -> Recomputation:
        """Compute the peak memory saved by recomputing these records in the backward pass instead of keeping them."""
        kept: dict[Tensor, list[Lifetime]] = {t: [] for t in records}  # their arrays that outlive the forward pass
        for life in self.lifetimes:
            if life.record in kept and life.kind != "gradient" and life.born < self.n_forward <= life.dies:
                kept[life.record].append(life)
        first_use = {t: self._first_backward_use(lives) for t, lives in kept.items()}
        peak = self._peak_if_recomputed(first_use, self._freed_bytes_per_step(kept, first_use))
        n_bytes = sum(life.n_bytes for lives in kept.values() for life in lives)
        return Recomputation(name, len(records), n_bytes, self.peak - peak)

    def _last_forward_use(self, records: Iterable[Tensor]) -> dict[Tensor, int]:
        """Map each record to the last forward step that reads its arrays, or another record's views of them."""
        read_at: dict[Tensor, int] = {}  # the last reader overwrites those before it
        for i, t in enumerate(self.steps[:self.n_forward]):
            read_at |= {a: i for a in t.inputs if type(a) is Tensor}
        last_use = {t: read_at.get(t, 0) for t in records}
        for life in self.lifetimes:
            if life.shares in last_use:
                last_use[life.shares] = max(last_use[life.shares], read_at.get(life.record, 0))
        return last_use

    def _first_backward_use(self, lives: list[Lifetime]) -> int:
        """Return the first backward step that reads one of these arrays; the number of steps if there is none."""
        step_of = {t: i for i, t in enumerate(self.steps[self.n_forward:], self.n_forward)}
        return min((step_of[reader] for life in lives for reader in life.needed_by), default=len(self.steps))

    def _freed_bytes_per_step(self, kept: dict[Tensor, list[Lifetime]], first_use: dict[Tensor, int]) -> list[int]:
        """Return the bytes not in memory at each step if `kept` is freed after its last use in the forward pass, until
        its first use in the backward pass."""
        last_use = self._last_forward_use(kept)
        freed = []
        for t, lives in kept.items():
            for life in lives:
                first, last = max(life.born, last_use[t]) + 1, min(first_use[t] - 1, life.dies)
                if first <= last:
                    freed.append(replace(life, born=first, dies=last))
        return bytes_per_step(freed, len(self.steps))

    def _peak_if_recomputed(self, first_use: dict[Tensor, int], freed: list[int]) -> int:
        """Return the peak if records are recomputed right before their `first_use`, with `freed` bytes less until then.

        A record is recomputed before the backward step does anything: the gradients of the step before are still in
        memory, its values are not, and the temporary memory of the formula comes on top.
        """
        n = len(self.steps)
        forward_step = {t: i for i, t in enumerate(self.steps[:self.n_forward])}
        before = bytes_per_step([replace(life, born=life.born + 1, dies=life.dies + (life.kind == "gradient"))
                                 for life in self.lifetimes], n + 1)
        recomputing = [0] * (n + 1)
        for t, step in first_use.items():
            temporary = self.high[forward_step[t]] - self.alive[forward_step[t]]
            recomputing[step] = max(recomputing[step], before[step] + temporary)
        return max(max(high, again) - less for high, again, less in zip(self.high, recomputing, freed))

    # ------------------------------------------------------------------ words
    def _totals(self) -> list[str]:
        if not self.steps:
            return ["Memory of no operations: nothing but leaves"]
        n_back = len(self.steps) - self.n_forward
        alive = self.at(self.peak_step)
        parts = [f"{name} {format_bytes(n)}" for kind, name in KINDS.items()
                 if (n := sum(life.n_bytes for life in alive if life.kind == kind))]
        if (temporary := self.peak - self.alive[self.peak_step]) > 0:
            parts.append(f"temporary {format_bytes(temporary)}")
        return [f"Memory of {plural(self.n_forward, 'operation')} forward and {n_back:,} backward: peak of "
                f"{format_bytes(self.peak)} at {self._when()}",
                f"  at the peak: {', '.join(parts) or 'nothing'}",
                f"  included: gradients of parameters, {format_bytes(self.gradients)} at the end; not included: "
                f"parameters {format_bytes(self.parameters)}, constants {format_bytes(self.constants)}"]

    def _when(self) -> str:
        """Describe the step of the peak."""
        if not self.steps:
            return "no step"
        t, phase = self.steps[self.peak_step], "backward" if self.peak_step >= self.n_forward else "forward"
        number = number_records(self.tape)[t]
        return f"step {self.peak_step}, {phase} of %{number} {t.op.name}"  # type: ignore[union-attr]

    def _rows(self) -> tuple[list[list[str]], list[str]]:
        """Return the table of arrays at the peak, largest first, with the columns of HEAD, and a line on the rest.
        Arrays of the same kind in identical scopes share a row."""
        numbers, rows = number_records(self.tape), []
        groups, rest = group_twins(self.tape, self.at(self.peak_step), lambda life: life.kind)
        for lives in groups:
            life = min(lives, key=lambda life: numbers[life.record])
            times = f"{len(lives)} × {format_bytes(life.n_bytes)}" if len(lives) > 1 else ""
            until = f"{life.dies}" if life.dies < len(self.steps) else "end"
            rows.append([format_bytes(sum(life.n_bytes for life in lives)), times, life.kind, f"{life.born}–{until}",
                         _name_first(life.needed_by, numbers), record_line(life.record, numbers)])
        return rows, rest


def group_twins(tape: Tape, arrays: Sequence[Any], purpose: Callable[[Any], str]) -> tuple[list[list[Any]], list[str]]:
    """Group arrays of the same purpose and size in identical scopes.  Returns the SHOWN largest groups, and a line on
    the rest, if there is any.  An array has a `record` and `n_bytes`."""
    first, merged = first_twins(tape), dict[tuple[Any, str, int], list[Any]]()
    for a in arrays:
        merged.setdefault((first.get(a.record, a.record), purpose(a), a.n_bytes), []).append(a)
    groups = sorted(merged.values(), key=lambda group: -sum(a.n_bytes for a in group))
    rest = [a.n_bytes for group in groups[SHOWN:] for a in group]
    return groups[:SHOWN], [f"… {plural(len(rest), 'more array')}, {format_bytes(sum(rest))} …"] if rest else []


def align_columns(head: list[str], rows: list[list[str]]) -> list[str]:
    """Format a table as lines, the first column aligned to the right; no lines if there are no rows."""
    lines = [head, *rows] if rows else []
    widths = [max(map(len, column)) for column in zip(*lines)]
    return ["  ".join([row[0].rjust(widths[0]), *map(str.ljust, row[1:-1], widths[1:]), row[-1]]) for row in lines]


def _forbid_breaks(rows: list[list[str]]) -> list[list[str]]:
    """Forbid line breaks in all cells but the last of each row."""
    return [[*(cell.replace(" ", "\u00a0").replace("–", "\u2060–\u2060") for cell in row[:-1]), row[-1]]
            for row in rows]


def _divs(lines: list[str]) -> str:
    return "".join(f"<div>{escape(line)}</div>" for line in lines)


def format_signed(n_bytes: int) -> str:
    """Format `45.6 kB` or `−45.6 kB`."""
    return f"−{format_bytes(-n_bytes)}" if n_bytes < 0 else format_bytes(n_bytes)


def _total(leaves: Iterable[Tensor]) -> int:
    return sum(t.size * t.dtype.itemsize for t in leaves)


def first_twins(tape: Tape) -> dict[Tensor, Tensor]:
    """Map each record of a repeated scope to the same record of the first of the identical scopes."""
    first: dict[Tensor, Tensor] = {}
    for group in outline(tape).groups():  # outer groups before inner ones
        for twin in group.twins:
            first |= {t: first.get(a, a) for a, t in zip(group.records(), twin.records())}
    return first


def _name_first(records: list[Tensor], numbers: dict[Tensor, int]) -> str:
    """Return `%7 %8`, or `%7 %8 %9 and 2 more`."""
    shown = " ".join(f"%{numbers[t]}" for t in records[:3])
    return f"{shown} and {len(records) - 3} more" if len(records) > 3 else shown
