"""A tape folded to the size of one picture: boxes for records and closed scopes, frames for open scopes, and edges."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ...core.describe import plural
from ...core.registry import FUNCTIONS
from ...engine import Tape, Tensor, _item
from ..backward import check_focus
from ..outline import Group, enclosing_scopes, outline

PAGE = 24
"""Maximum boxes of a picture whose depth was not given: scopes are opened level by level up to this number."""
SMALL = 30
"""Maximum records of a tape in which every leaf has its own box."""
LONG, ENDS = 40, 12
"""A scope with more than LONG operations and inner scopes is drawn by its first and last ENDS."""
NEAR = 3
"""Edges upstream and downstream of the focused tensor that are drawn."""


@dataclass(eq=False)
class Box:
    """A node of the picture: a leaf, an operation (with the items of its tuple), or a closed scope."""

    title: str                                                 # title of the scope it represents, or ""
    op: Tensor | None = None                                   # the operation or leaf; None for a closed scope
    group: Group | None = None                                 # the scope it represents
    times: int = 1                                             # number of identical scopes it represents
    chained: bool = False                                      # True if each of them reads an output of the previous
    records: list[Tensor] = field(default_factory=list)        # all records it represents, of the identical scopes too
    level: int = 0                                             # number of scopes around a closed scope


@dataclass(eq=False)
class Frame:
    """An open scope, which may represent several identical ones, and its boxes and frames."""

    title: str = ""
    group: Group | None = None
    times: int = 1
    chained: bool = False
    items: list[Box | Frame] = field(default_factory=list)

    def boxes(self) -> Iterator[Box]:
        """Yield all boxes of the frame and its inner frames."""
        for item in self.items:
            if isinstance(item, Box):
                yield item
            else:
                yield from item.boxes()

    def frames(self) -> Iterator[Frame]:
        """Yield the frame and all inner frames."""
        yield self
        for item in self.items:
            if isinstance(item, Frame):
                yield from item.frames()

    def runs(self) -> Iterator[Box | Frame]:
        """Yield all inner boxes and frames that represent several identical scopes."""
        for item in self.items:
            if item.times > 1:
                yield item
            if isinstance(item, Frame):
                yield from item.runs()


class Rest(Group):
    """The middle of a long scope, which stays closed."""


@dataclass(eq=False)
class Edge:
    """Values that flow from box to box, as pairs (input, record that reads it), in repeated scopes too."""

    tail: Box
    head: Box
    uses: list[tuple[Tensor, Tensor]] = field(default_factory=list)


class Fold:
    """The layout of a graph: the outermost `frame`, the `edges`, and the box `in_box` of each record.

    level: depth to which scopes are opened (None: all), in addition to those on `paths`.  Only the first of a run of
    identical scopes is drawn, and any that a path leads into.
    focus: draw only the neighbourhood of this tensor, without merging identical scopes.
    brief: keep composed functions closed unless a path leads into them, and also the rest of a run of identical scopes
    of which a path opens one.
    """

    def __init__(self, tape: Tape, scopes: Group, level: int | None, paths: tuple[str, ...] = (),
                 focus: Tensor | None = None, brief: bool = False):
        self.level, self.paths, self.focus, self.brief = level, paths, focus, brief
        self.shown = set(tape) if focus is None else _neighbourhood(tape, focus)
        self.small = len(self.shown) <= SMALL
        self.frame = Frame()
        self.in_box: dict[Tensor, Box] = {}
        self._like: dict[Tensor, Tensor] = {}                  # record of a repeated scope -> same record of the first
        self._homes: dict[Tensor, Frame] = {}                  # leaf -> the frame in which it would be drawn
        self._fill(self.frame, scopes, 0)
        records = [t for t in tape if t in self.shown]
        self._place_leaves(records)
        for t in records:
            self.in_box[t] = self.in_box[self._like.get(t, t)]
            self.in_box[t].records.append(t)
        self.edges = self._edges(records)
        self._results: dict[Box, list[Tensor]] = {}
        for edge in self.edges:
            self._results.setdefault(edge.tail, []).extend(a for a, _ in edge.uses)
        for t in tape.roots:
            if t in self.shown:
                self._results.setdefault(self.in_box[t], []).append(t)
        for box in self._results.keys() & {item for item in self.frame.boxes() if item.op is None}:
            self._add_inner_results(box)

    # ------------------------------------------------------------------ boxes and frames
    def _fill(self, frame: Frame, group: Group, level: int) -> None:
        """Add the items of `group` to `frame`."""
        for first, *others in _elide_middle(self._runs(group), self._is_wanted):
            if isinstance(first, Tensor):
                self._add(frame, first)
            else:
                item = self._add_group(frame, first, level)
                if isinstance(item, (Box, Frame)) and others:
                    item.times, item.chained = 1 + len(others), _are_chained([first, *others])
                    item.title += f" … {others[-1].name}" if others[-1].name != first.name else ""
                for other in others:
                    pairs = zip(first.records(), other.records())
                    self._like.update((b, self._like.get(a, a)) for a, b in pairs)

    def _runs(self, group: Group) -> Iterator[list]:
        """Yield the items of a group as runs: lists of an item and the identical ones that are merged with it."""
        run: list = []
        for item in group.items:
            if isinstance(item, Tensor):
                if item in self.shown:
                    yield from filter(None, [run, [item]] if item.op is not None else [[item]])
                    run = run if item.op is None else []
            elif any(t in self.shown for t in item.records()):
                if run and self._can_merge(item, run):
                    run.append(item)
                else:
                    yield from filter(None, [run])
                    run = [item]
        yield from filter(None, [run])

    def _can_merge(self, group: Group, run: list) -> bool:
        """Return True if `group` is drawn together with the first of `run`; one on a path is drawn by itself."""
        first = run[0]
        identical = isinstance(first, Group) and group.twin_of is not None and group.twin_of in (first, first.twin_of)
        return identical and self.focus is None and not self._is_singled_out(group) and not self._is_singled_out(first)

    def _is_singled_out(self, group: Group) -> bool:
        """Return True if a path names this scope, which is not the first of its run."""
        return group.twin_of is not None and group.path != group.twin_of.path and self._is_wanted(group)

    def _is_wanted(self, item: Tensor | Group) -> bool:
        """Return True for a group that is on a path or contains the focus, and for the focus itself."""
        if isinstance(item, Tensor):
            return item is self.focus
        if any(f"{path}.".startswith(f"{item.path}.") for path in self.paths):
            return True
        return self.focus is not None and any(t is self.focus for t in item.records())

    def _is_open(self, group: Group, level: int) -> bool:
        """Return True if a group is drawn as a frame, and not as a box."""
        if isinstance(group, Rest):
            return False
        if self._is_wanted(group):
            return True
        if self.brief and (group.name in FUNCTIONS or any(map(self._is_singled_out, (group.twin_of or group).twins))):
            return False
        return self.level is None or level < self.level

    def _add_group(self, frame: Frame, group: Group, level: int) -> Box | Frame | None:
        """Add a group to `frame`: as a frame, as a box, or as its only operation."""
        records = [t for t in group.records() if t in self.shown]
        operations = [t for t in records if t.op is not None and not is_item(t)]
        item: Box | Frame | None = None
        if len(operations) < 2:
            for t in records:
                item = self._add(frame, t, group) or item
        elif self._is_open(group, level):
            item = Frame(group.name, group)
            frame.items.append(item)
            self._fill(item, group, level + 1)
        else:
            item = Box(group.name, None, group, level=level)
            frame.items.append(item)
            self.in_box.update((t, item) for t in records)
        return item

    def _add(self, frame: Frame, t: Tensor, group: Group | None = None) -> Box | None:
        """Add one record to `frame`; items go into the box of their tuple, and leaves are left to `_place_leaves`."""
        if t.op is None:
            self._homes[t] = frame
        elif is_item(t) and t.inputs[0] in self.in_box:
            self.in_box[t] = self.in_box[t.inputs[0]]
        else:
            self.in_box[t] = Box(_relative_scope(group, t), t, group)
            frame.items.append(self.in_box[t])
            return self.in_box[t]
        return None

    def _place_leaves(self, records: list[Tensor]) -> None:
        """Give each leaf its own box; in a large tape a leaf with a single reader goes into the reader's box."""
        users: dict[Tensor, list[Box]] = {t: [] for t in self._homes}
        for t in records:
            for a in t.inputs:
                if type(a) is Tensor and a in self.shown and (leaf := self._like.get(a, a)) in users:
                    users[leaf].append(self.in_box[self._like.get(t, t)])
        for leaf, frame in self._homes.items():
            boxes = users[leaf]
            if boxes and not self.small and leaf is not self.focus and all(box is boxes[0] for box in boxes):
                self.in_box[leaf] = boxes[0]
            else:
                self.in_box[leaf] = Box("", leaf)
                frame.items.append(self.in_box[leaf])

    # ------------------------------------------------------------------ edges
    def _edges(self, records: list[Tensor]) -> list[Edge]:
        """Merge all values that flow from one box to another into one edge.  Repeated scopes share the edges of the
        first, without those between consecutive ones."""
        found: dict[tuple[Box, Box], Edge] = {}
        for t in records:
            for a, like in zip(t.inputs, self._like.get(t, t).inputs):
                if type(a) is Tensor and a in self.shown and self.in_box[a] is self.in_box[like]:
                    tail, head = self.in_box[a], self.in_box[t]
                    if tail is not head:
                        found.setdefault((tail, head), Edge(tail, head)).uses.append((a, t))
        return list(found.values())

    def _add_inner_results(self, box: Box) -> None:
        """Add what a closed scope that stands for several sends from each of them to the next."""
        place = {t: i for i, group in enumerate(self.copies(box)) for t in group}
        inner = [a for t in place for a in t.inputs if type(a) is Tensor and place.get(a, place[t]) != place[t]]
        found = {*self._results[box], *inner}
        self._results[box] = [t for t in box.records if t in found]

    def copies(self, box: Box) -> list[list[Tensor]]:
        """Return the operations of a box, in a list for each of the identical scopes that it stands for."""
        found: dict[Any, list[Tensor]] = {}
        for t in box.records:
            if t.op is not None and box.op is None:
                scopes = enclosing_scopes(t.scope)
                found.setdefault(id(scopes[box.level]) if len(scopes) > box.level else None, []).append(t)
            elif t.op is not None:
                found.setdefault(_tuple_of(t), []).append(t)
        return list(found.values())

    def like(self, t: Tensor) -> Tensor:
        """Return the record of the first of identical scopes that stands for `t`, which is mostly `t` itself."""
        return self._like.get(t, t)

    def firsts(self, box: Box) -> list[Tensor]:
        """Return the records of a box without those of repeated scopes."""
        return [t for t in box.records if t not in self._like]

    def has_more(self, tape: Tape) -> tuple[set[Box], set[Box]]:
        """Return the boxes at the border of a focused graph: those with inputs, and those with readers, not drawn."""
        above, below = set(), set()
        for t in tape:
            for a in t.inputs:
                if type(a) is Tensor and (a in self.shown) != (t in self.shown):
                    (above.add(self.in_box[t]) if t in self.shown else below.add(self.in_box[a]))
        return above, below

    def results(self, box: Box) -> list[Tensor]:
        """Return the outputs of a box: an operation's result, a leaf itself, the values of a closed scope that are read
        outside it."""
        if box.op is None:
            return list(dict.fromkeys(self._results.get(box, ())))
        return [t for t in box.records if (t.op is not None and not is_item(t)) or t is box.op or box.op.op is None]

    def values(self, edge: Edge) -> list[Tensor]:
        """Return the values of an edge, without those of repeated scopes."""
        uses = [(a, t) for a, t in edge.uses if a not in self._like and t not in self._like] or edge.uses
        return list(dict.fromkeys(a for a, _ in uses))


def fold(tape: Tape, depth: int | None = None, expand: str | Iterable[str] = (), focus: Tensor | None = None) -> Fold:
    """Fold the tape to `depth` levels of scopes, or to the size of a page; see `graph.draw`."""
    paths = (expand,) if isinstance(expand, str) else tuple(expand)
    scopes = outline(tape)
    all_paths = {group.path for group in scopes.groups() if group.path}
    for path in paths:
        if path not in all_paths:
            near = difflib.get_close_matches(str(path), all_paths, n=3, cutoff=0.4) or sorted(all_paths)[:3]
            raise ValueError(f"no scope of the tape is called {path!r}" + (f": try {', '.join(near)}" if near else ""))
    check_focus(tape, focus)
    if depth is not None or focus is not None:
        return Fold(tape, scopes, depth, paths, focus)
    level, deepest = 0, max((path.count(".") + 1 for path in all_paths), default=0)
    while level < deepest and len(list(Fold(tape, scopes, level + 1, brief=True).frame.boxes())) <= PAGE:
        level += 1
    return Fold(tape, scopes, level, paths, brief=True)


def _neighbourhood(tape: Tape, focus: Tensor) -> set[Tensor]:
    """Return the records within NEAR edges before or after `focus`, and the leaves they read.  A tuple and its items
    count as one record."""
    before: dict[Tensor, set[Tensor]] = {}
    after: dict[Tensor, set[Tensor]] = {}
    inside = set(tape)
    for t in tape:
        for a in t.inputs:
            if type(a) is Tensor and a in inside and not is_item(t):
                before.setdefault(t, set()).add(_tuple_of(a))
                after.setdefault(_tuple_of(a), set()).add(t)
    found = {_tuple_of(focus)}
    for neighbors in (before, after):
        frontier = {_tuple_of(focus)}
        for _ in range(NEAR):
            frontier = {other for t in frontier for other in neighbors.get(t, ())}
            found |= frontier
    found |= {a for t in found for a in before.get(t, ()) if a.op is None}
    return found | {t for t in tape if is_item(t) and _tuple_of(t) in found}


def _tuple_of(t: Tensor) -> Tensor:
    """Return the tuple that an item belongs to, and any other record itself."""
    return t.inputs[0] if is_item(t) else t


def _relative_scope(group: Group | None, t: Tensor) -> str:
    """Return the scope of a record relative to the parent of `group`: `attn.c_attn` for the group `h.0.attn`."""
    if group is None:
        return ""
    return t.scope[len(group.path) - len(group.name):] if group.path and t.scope.startswith(group.path) else group.name


def _are_chained(groups: list[Group]) -> bool:
    """Return True if a group reads a value of the one before it."""
    values = [{t for t in group.records() if t.op is not None} for group in groups]
    return any(a in before for before, group in zip(values, values[1:])
               for t in group for a in t.inputs if type(a) is Tensor)


def is_item(t: Tensor) -> bool:
    """Return True if a record is one of the arrays of a tuple."""
    return t.op is _item


def _elide_middle(runs: Iterable[list], is_wanted: Callable[[Any], bool]) -> list[list]:
    """Replace the middle of a long list of runs by a closed group; runs that `is_wanted` selects stay."""
    runs = list(runs)
    counted = [i for i, (first, *_) in enumerate(runs) if isinstance(first, Group) or not _is_leaf_or_item(first)]
    if len(counted) <= LONG:
        return runs
    start, stop = counted[ENDS], counted[-ENDS]
    kept = runs[:start]
    for wanted, grouped in itertools.groupby(runs[start:stop], lambda run: any(map(is_wanted, run))):
        middle = list(grouped)
        if wanted or all(isinstance(first, Tensor) and _is_leaf_or_item(first) for first, *_ in middle):
            kept += middle
        else:
            rest = Rest(items=[item for run in middle for item in run])
            rest.name = f"… {plural(sum(t.op is not None for t in rest.records()), 'more operation')}"
            kept.append([rest])
    return kept + runs[stop:]


def _is_leaf_or_item(t: Tensor) -> bool:
    return t.op is None or is_item(t)
