"""What a forward and backward keep in memory, until when and for whom: as text, table and chart."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf

from ...core.describe import format_bytes, plural, record_line
from ...engine import Tape, Tensor
from ..html import Html, details, escape, table
from ..outline import outline
from ..text import number_records
from .chart import stacked_areas
from .memory_replay import Lifetime, Rehearsal, bytes_over

SHOWN = 16
"""Lines that the repr has for what is there at the peak."""
HEAD = ["bytes", "arrays", "kind", "steps", "for the backward of", "record"]
KINDS = {"value": "values", "saved": "saved for backward", "gradient": "gradients"}
AGAIN_HEAD = ["bytes if kept", "less at the peak", "times", "operation"]
AGAIN = "a recorded program computes these again on the way back, and does not keep them:"
ALL = "all of these"


@dataclass
class Again:
    """An operation whose value a recorded program computes again on the way back, rather than keep it: how often, the
    bytes that it would keep from forward to backward, and by how many bytes less the peak is."""

    op: str
    times: int
    n_bytes: int
    saved: int

    def row(self) -> list[str]:
        """The columns are those of AGAIN_HEAD."""
        return [format_bytes(self.n_bytes), signed(self.saved), f"{self.times}", self.op]


def memory(tape: Tape) -> Memory:
    """What each record keeps in memory, until when and for whom, and the peak of forward and backward.

        m = ag.tape(loss).memory()       # prints as a table, a notebook draws it too
        m.peak, m.steps[m.peak_step]     # bytes at most, and which record's turn it was then

    Step k of the N operations is "the k-th is computed"; N and on are their turns in a backward that begins with no
    gradients in the leaves and frees as it goes.  Both are run once more on a copy, so asking costs the time and memory
    of another forward and backward.  Tape and gradients stay as they are, and values may have been freed, or leaves
    changed, before.

    Arrays that are kept are counted one by one.  What formulas and rules hold in passing is what `tracemalloc` sees of
    the whole process: let no other thread allocate much meanwhile.  Where it is tracing already, it is left alone with
    its peak, and `peak` is that of the arrays alone.

    Memory of leaves is not in `lifetimes`, `alive` and `peak`, except for constants that the program made on its way;
    what has shared an array's memory is counted once.  Views own none.  Values that `ag.checkpoint` freed early are
    known only before a backward frees all; later they count as kept.  Of another library's arrays (a GPU's) every one
    counts as its own, and what formulas hold in passing is not known.
    """
    return Memory(tape)


class Shown:
    """What prints as totals, a table of what is there at the peak and one of what is computed again, and has a chart in
    a notebook."""

    head: list[str]
    title: str  # of what is computed again
    again: list[Again]

    def __repr__(self) -> str:
        rows, left = self._rows()
        again = aligned(AGAIN_HEAD, [a.row() for a in self.again])
        return "\n".join([*self._totals(), *(f"  {line}" for line in aligned(self.head, rows) + left),
                          *[self.title][:len(again)], *(f"  {line}" for line in again)])

    def _repr_html_(self) -> str:
        rows, left = self._rows()
        data = base64.b64encode(self.svg().encode()).decode()
        words = escape(self._totals()[0])
        chart = f'<img src="data:image/svg+xml;base64,{data}" alt="{words}" width="720" height="300">'
        again = details(self.title, table(_unbroken([a.row() for a in self.again]), AGAIN_HEAD), open=True)
        return (f"{_divs(self._totals())}{chart}"
                f"{details('at the peak', Html(table(_unbroken(rows), self.head) + _divs(left)), open=True)}"
                f"{again if self.again else ''}")

    def svg(self) -> str:
        raise NotImplementedError

    def _totals(self) -> list[str]:
        raise NotImplementedError

    def _rows(self) -> tuple[list[list[str]], list[str]]:
        raise NotImplementedError


class Memory(Shown):
    """What `tape.memory()` found.

    lifetimes: an entry for each array (`Lifetime`), in order of birth.  steps: whose turn each step is, the first
    `n_forward` of them forward.  alive, high: bytes in arrays at the end of each step, and the most within it, counting
    what formulas and rules hold in passing.  peak, peak_step: the most, and when.  parameters, gradients, constants:
    bytes of the leaves, and of the gradients that arrive in them.  again: what a recorded program would not keep, an
    entry for each operation that is cheap with the kernels in use (`Again`), and one for all where there are several.
    """

    head, title = HEAD, AGAIN

    def __init__(self, tape: Tape):
        seen = Rehearsal(tape)
        self.tape = tape
        self.lifetimes: list[Lifetime] = sorted(seen.lifetimes, key=lambda life: life.born)
        self.steps: list[Tensor] = seen.steps
        self.n_forward = seen.n_forward
        self.alive: list[int] = seen.alive
        self.high: list[int] = seen.high
        self.peak = max(seen.high, default=0)
        self.peak_step = seen.high.index(self.peak) if seen.high else 0
        leaves = [t for t in tape if t.op is None]
        with_gradient = {life.record for life in self.lifetimes if life.kind == "gradient"}
        self.parameters = _total(t for t in leaves if t.requires_grad)
        self.gradients = _total(t for t in leaves if t in with_gradient)
        self.constants = _total(t for t in leaves if not t.requires_grad)
        self.again = self._again()

    def at(self, step: int) -> list[Lifetime]:
        """The arrays that are there at the end of a step and own their memory, largest first."""
        there = [life for life in self.lifetimes if life.n_bytes and life.born <= step <= life.dies]
        return sorted(there, key=lambda life: -life.n_bytes)

    def svg(self) -> str:
        """The chart: bytes over the steps, by kind, with the peak marked."""
        n = len(self.alive)
        layers = {words: bytes_over([life for life in self.lifetimes if life.kind == kind], n)
                  for kind, words in KINDS.items()}
        return stacked_areas(layers, self.high, self.n_forward, f"{format_bytes(self.peak)}: {self._when()}")

    # ------------------------------------------------------------------ what need not be kept
    def _again(self) -> list[Again]:
        forward = self.steps[:self.n_forward] if len(self.tape.roots) == 1 and self.n_forward < len(self.steps) else []
        cheap: dict[str, list[Tensor]] = {}
        for t in forward:
            if t.op.recompute and t is not self.tape.roots[0]:  # type: ignore[union-attr]
                cheap.setdefault(t.op.name, []).append(t)  # type: ignore[union-attr]
        found = [self._if_again(name, records) for name, records in cheap.items()]
        return [*found, self._if_again(ALL, sum(cheap.values(), []))] if len(found) > 1 else found

    def _if_again(self, name: str, records: list[Tensor]) -> Again:
        """What it saves to free the values of these records after their last use on the way forward, until the first on
        the way back."""
        readers: dict[Tensor, int] = {}  # who is read -> at which step for the last time
        for i, t in enumerate(self.steps[:self.n_forward]):
            readers |= {a: i for a in t.inputs if type(a) is Tensor}
        back = {t: self.n_forward + i for i, t in enumerate(self.steps[self.n_forward:])}
        lives: dict[Tensor, list[Lifetime]] = {t: [] for t in records}
        ends = {t: readers.get(t, 0) for t in records}
        for life in self.lifetimes:
            if life.shares in ends:
                ends[life.shares] = max(ends[life.shares], readers.get(life.record, 0))
            if life.record in lives and life.kind != "gradient" and life.born < self.n_forward <= life.dies:
                lives[life.record].append(life)
        n, gone = len(self.steps), []
        then = [-inf] * (n + 1)  # what is there while values are computed again, before a step, and gone
        forward = {t: i for i, t in enumerate(self.steps[:self.n_forward])}
        # Before a step of the way back does anything, gradients of the step before are there, and its values are not.
        before = bytes_over([replace(life, born=life.born + 1, dies=life.dies + (life.kind == "gradient"))
                             for life in self.lifetimes], n + 1)
        for t, its in lives.items():
            begin = min((back[reader] for life in its for reader in life.needed_by), default=n)
            absent = [(max(life.born, ends[t]) + 1, min(begin - 1, life.dies)) for life in its]
            gone += [replace(life, born=first, dies=last) for life, (first, last) in zip(its, absent) if first <= last]
            passing = self.high[forward[t]] - self.alive[forward[t]]
            then[begin] = max(then[begin], before[begin] + passing)
        n_bytes = sum(life.n_bytes for its in lives.values() for life in its)
        high = max(max(high, again) - left for high, again, left in zip(self.high, then, bytes_over(gone, n)))
        return Again(name, len(records), n_bytes, self.peak - int(high))

    # ------------------------------------------------------------------ words
    def _totals(self) -> list[str]:
        if not self.steps:
            return ["Memory of no operations: nothing but leaves"]
        n_back = len(self.steps) - self.n_forward
        there = self.at(self.peak_step)
        parts = [f"{words} {format_bytes(n)}" for kind, words in KINDS.items()
                 if (n := sum(life.n_bytes for life in there if life.kind == kind))]
        if (passing := self.peak - self.alive[self.peak_step]) > 0:
            parts.append(f"in passing {format_bytes(passing)}")
        return [f"Memory of {plural(self.n_forward, 'operation')} forward and {n_back:,} backward: peak of "
                f"{format_bytes(self.peak)} at {self._when()}",
                f"  there then: {', '.join(parts) or 'nothing'}",
                f"  included: gradients of parameters, {format_bytes(self.gradients)} at the end; not included: "
                f"parameters {format_bytes(self.parameters)}, constants {format_bytes(self.constants)}"]

    def _when(self) -> str:
        """Which step has the peak."""
        if not self.steps:
            return "no step"
        t, way = self.steps[self.peak_step], "backward" if self.peak_step >= self.n_forward else "forward"
        return f"step {self.peak_step}, {way} of %{number_records(self.tape)[t]} {t.op.name}"  # type: ignore[union-attr]

    def _rows(self) -> tuple[list[list[str]], list[str]]:
        """What is there at the peak, largest first, a row for all arrays that are made alike, and a line on the rest:
        the columns are those of HEAD."""
        numbers, first = number_records(self.tape), first_twins(self.tape)
        alike: dict[tuple[Tensor, str, int], list[Lifetime]] = {}
        for life in self.at(self.peak_step):
            alike.setdefault((first.get(life.record, life.record), life.kind, life.n_bytes), []).append(life)
        groups = sorted(alike.values(), key=lambda lives: -sum(life.n_bytes for life in lives))
        rows = []
        for lives in groups[:SHOWN]:
            life = min(lives, key=lambda life: numbers[life.record])
            times = f"{len(lives)} × {format_bytes(life.n_bytes)}" if len(lives) > 1 else ""
            until = f"{life.dies}" if life.dies < len(self.steps) else "end"
            rows.append([format_bytes(sum(life.n_bytes for life in lives)), times, life.kind, f"{life.born}–{until}",
                         _named(life.needed_by, numbers), record_line(life.record, numbers)])
        rest = [life.n_bytes for lives in groups[SHOWN:] for life in lives]
        return rows, [f"… {plural(len(rest), 'more array')}, {format_bytes(sum(rest))} …"] if rest else []


def aligned(head: list[str], rows: list[list[str]]) -> list[str]:
    """A line for the head and each row, the first column to the right; none where there are no rows."""
    lines = [head, *rows] if rows else []
    widths = [max(map(len, column)) for column in zip(*lines)]
    return ["  ".join([row[0].rjust(widths[0]), *map(str.ljust, row[1:-1], widths[1:]), row[-1]]) for row in lines]


def _unbroken(rows: list[list[str]]) -> list[list[str]]:
    """Rows of which only the last cell may be broken into lines."""
    return [[*(cell.replace(" ", "\u00a0").replace("–", "\u2060–\u2060") for cell in row[:-1]), row[-1]]
            for row in rows]


def _divs(lines: list[str]) -> str:
    return "".join(f"<div>{escape(line)}</div>" for line in lines)


def signed(n_bytes: int) -> str:
    """`45.6 kB`, or `−45.6 kB`."""
    return f"−{format_bytes(-n_bytes)}" if n_bytes < 0 else format_bytes(n_bytes)


def _total(leaves: Iterable[Tensor]) -> int:
    return sum(t.size * t.dtype.itemsize for t in leaves)


def first_twins(tape: Tape) -> dict[Tensor, Tensor]:
    """Of each record in a group of the outline that repeats an earlier one: the record in the first such group."""
    first: dict[Tensor, Tensor] = {}
    for group in outline(tape).groups():  # outer groups before inner ones
        for twin in group.twins:
            first |= {t: first.get(a, a) for a, t in zip(group.records(), twin.records())}
    return first


def _named(records: list[Tensor], numbers: dict[Tensor, int]) -> str:
    """`%7 %8`, the first few."""
    shown = " ".join(f"%{numbers[t]}" for t in records[:3])
    return f"{shown} and {len(records) - 3} more" if len(records) > 3 else shown
