"""A tape folded to what one picture can hold: boxes for records and closed scopes, frames for open ones, and edges."""

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
from ..outline import Group, outline

PAGE = 24
"""Boxes that scopes are opened up to where no depth is asked for."""
SMALL = 30
"""Records up to which every leaf has a box of its own."""
LONG, ENDS = 40, 12
"""Operations and scopes of one scope that are drawn, and how many of its first and of its last if there are more."""
NEAR = 3
"""Edges up and down from the tensor in focus."""


@dataclass(eq=False)
class Box:
    """One node of the picture: a leaf, an operation (with the items of its tuple), or all that a closed scope holds."""

    title: str                                                 # of the scope it stands for, if there is one
    op: Tensor | None = None                                   # the operation or leaf; None for a closed scope
    group: Group | None = None                                 # the scope it stands for
    times: int = 1                                             # how many scopes like it it stands for
    chained: bool = False                                      # whether each of them uses what one before it made
    records: list[Tensor] = field(default_factory=list)        # all it stands for, those of the scopes like it too


@dataclass(eq=False)
class Frame:
    """An open scope, which may stand for several like it, and what is drawn in it."""

    title: str = ""
    group: Group | None = None
    times: int = 1
    chained: bool = False
    items: list[Box | Frame] = field(default_factory=list)

    def boxes(self) -> Iterator[Box]:
        """All boxes in it and in the frames within."""
        for item in self.items:
            if isinstance(item, Box):
                yield item
            else:
                yield from item.boxes()

    def runs(self) -> Iterator[Box | Frame]:
        """All boxes and frames within that stand for several scopes made alike."""
        for item in self.items:
            if item.times > 1:
                yield item
            if isinstance(item, Frame):
                yield from item.runs()


class Rest(Group):
    """The middle of a long list, which stays closed."""


@dataclass(eq=False)
class Edge:
    """Values that flow from box to box: (input, record that uses it), those of repeated scopes too."""

    tail: Box
    head: Box
    uses: list[tuple[Tensor, Tensor]] = field(default_factory=list)


class Fold:
    """How a tape with these `scopes` is drawn: the `frame` around all, the `edges`, and which box a record is `in_box`.

    Scopes are opened `level` deep (None: all), and where `paths` lead.  Of a run of scopes made alike the first is
    drawn, and any that a path leads into.  `focus` keeps what is near it, and then each scope is drawn by itself.
    `brief` keeps closed, unless a path leads there, functions composed of operations, and the others of a run that a
    path has parted.
    """

    def __init__(self, tape: Tape, scopes: Group, level: int | None, paths: tuple[str, ...] = (),
                 focus: Tensor | None = None, brief: bool = False):
        self.level, self.paths, self.focus, self.brief = level, paths, focus, brief
        self.shown = set(tape) if focus is None else _near(tape, focus)
        self.small = len(self.shown) <= SMALL
        self.frame = Frame()
        self.in_box: dict[Tensor, Box] = {}
        self._like: dict[Tensor, Tensor] = {}                  # record of a repeated scope -> its place in the first
        self._homes: dict[Tensor, Frame] = {}                  # leaf -> the frame it would be drawn in
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

    # ------------------------------------------------------------------ boxes and frames
    def _fill(self, frame: Frame, group: Group, level: int) -> None:
        """Draw what is in `group` into `frame`."""
        for first, *others in _shortened(self._runs(group), self._is_wanted):
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
        """The items of a group, each as a list of itself and those that are drawn as it is."""
        run: list = []
        for item in group.items:
            if isinstance(item, Tensor):
                if item in self.shown:
                    yield from filter(None, [run, [item]] if item.op is not None else [[item]])
                    run = run if item.op is None else []
            elif any(t in self.shown for t in item.records()):
                if run and self._belongs(item, run):
                    run.append(item)
                else:
                    yield from filter(None, [run])
                    run = [item]
        yield from filter(None, [run])

    def _belongs(self, group: Group, run: list) -> bool:
        """Whether `group` is drawn as the first of `run` is; one that a path leads into is drawn by itself."""
        first = run[0]
        alike = isinstance(first, Group) and group.twin_of is not None and group.twin_of in (first, first.twin_of)
        return alike and self.focus is None and not self._apart(group) and not self._apart(first)

    def _apart(self, group: Group) -> bool:
        """Whether a path leads into a scope that is not the first of its run, and has a name of its own."""
        return group.twin_of is not None and group.path != group.twin_of.path and self._is_wanted(group)

    def _is_wanted(self, item: Tensor | Group) -> bool:
        """Whether a path or the focus leads into a group, or is this record."""
        if isinstance(item, Tensor):
            return item is self.focus
        if any(f"{path}.".startswith(f"{item.path}.") for path in self.paths):
            return True
        return self.focus is not None and any(t is self.focus for t in item.records())

    def _is_open(self, group: Group, level: int) -> bool:
        """Whether a group is drawn as a frame."""
        if isinstance(group, Rest):
            return False
        if self._is_wanted(group):
            return True
        if self.brief and (group.name in FUNCTIONS or any(map(self._apart, (group.twin_of or group).twins))):
            return False
        return self.level is None or level < self.level

    def _add_group(self, frame: Frame, group: Group, level: int) -> Box | Frame | None:
        """Draw a group as a frame, as a box, or as the one operation that it holds."""
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
            item = Box(group.name, None, group)
            frame.items.append(item)
            self.in_box.update((t, item) for t in records)
        return item

    def _add(self, frame: Frame, t: Tensor, group: Group | None = None) -> Box | None:
        """Draw one record; the items of a tuple are in the box of the tuple, and leaves wait for `_place_leaves`."""
        if t.op is None:
            self._homes[t] = frame
        elif is_item(t) and t.inputs[0] in self.in_box:
            self.in_box[t] = self.in_box[t.inputs[0]]
        else:
            self.in_box[t] = Box(_scope_from(group, t), t, group)
            frame.items.append(self.in_box[t])
            return self.in_box[t]
        return None

    def _place_leaves(self, records: list[Tensor]) -> None:
        """Give a leaf a box of its own, or, in a large tape, to the only box that uses it."""
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
        """One edge for all values that flow from a box to another.  A repeated scope has those of the first, and none
        for what it takes from the one before it."""
        found: dict[tuple[Box, Box], Edge] = {}
        for t in records:
            for a, like in zip(t.inputs, self._like.get(t, t).inputs):
                if type(a) is Tensor and a in self.shown and self.in_box[a] is self.in_box[like]:
                    tail, head = self.in_box[a], self.in_box[t]
                    if tail is not head:
                        found.setdefault((tail, head), Edge(tail, head)).uses.append((a, t))
        return list(found.values())

    def firsts(self, box: Box) -> list[Tensor]:
        """The records of a box without those of repeated scopes."""
        return [t for t in box.records if t not in self._like]

    def has_more(self, tape: Tape) -> tuple[set[Box], set[Box]]:
        """Around a focus, the boxes that use results which are not shown, and those whose results others use."""
        above, below = set(), set()
        for t in tape:
            for a in t.inputs:
                if type(a) is Tensor and (a in self.shown) != (t in self.shown):
                    (above.add(self.in_box[t]) if t in self.shown else below.add(self.in_box[a]))
        return above, below

    def results(self, box: Box) -> list[Tensor]:
        """What a box gives: an operation its result, a leaf itself, a closed scope what is used outside of it."""
        if box.op is None:
            return list(dict.fromkeys(self._results.get(box, ())))
        return [t for t in box.records if (t.op is not None and not is_item(t)) or t is box.op or box.op.op is None]

    def values(self, edge: Edge) -> list[Tensor]:
        """The values of an edge, those of repeated scopes once."""
        uses = [(a, t) for a, t in edge.uses if a not in self._like and t not in self._like] or edge.uses
        return list(dict.fromkeys(a for a, _ in uses))


def fold(tape: Tape, depth: int | None = None, expand: str | Iterable[str] = (), focus: Tensor | None = None) -> Fold:
    """The tape folded to `depth` levels of scopes, or to what fits on a page; see `graph.draw`."""
    paths = (expand,) if isinstance(expand, str) else tuple(expand)
    scopes = outline(tape)
    known = {group.path for group in scopes.groups() if group.path}
    for path in paths:
        if path not in known:
            near = difflib.get_close_matches(str(path), known, n=3, cutoff=0.4) or sorted(known)[:3]
            raise ValueError(f"no scope of the tape is called {path!r}" + (f": try {', '.join(near)}" if near else ""))
    check_focus(tape, focus)
    if depth is not None or focus is not None:
        return Fold(tape, scopes, depth, paths, focus)
    level, deepest = 0, max((path.count(".") + 1 for path in known), default=0)
    while level < deepest and len(list(Fold(tape, scopes, level + 1, brief=True).frame.boxes())) <= PAGE:
        level += 1
    return Fold(tape, scopes, level, paths, brief=True)


def _near(tape: Tape, focus: Tensor) -> set[Tensor]:
    """The records within NEAR edges before or after `focus`, and the leaves they use; a tuple and its items are one."""
    before: dict[Tensor, set[Tensor]] = {}
    after: dict[Tensor, set[Tensor]] = {}
    inside = set(tape)
    for t in tape:
        for a in t.inputs:
            if type(a) is Tensor and a in inside and not is_item(t):
                before.setdefault(t, set()).add(_whole(a))
                after.setdefault(_whole(a), set()).add(t)
    found = {_whole(focus)}
    for step in (before, after):
        edge = {_whole(focus)}
        for _ in range(NEAR):
            edge = {other for t in edge for other in step.get(t, ())}
            found |= edge
    found |= {a for t in found for a in before.get(t, ()) if a.op is None}
    return found | {t for t in tape if is_item(t) and _whole(t) in found}


def _whole(t: Tensor) -> Tensor:
    """The tuple that an item is of; any other record itself."""
    return t.inputs[0] if is_item(t) else t


def _scope_from(group: Group | None, t: Tensor) -> str:
    """The scope of a record as seen from around `group`: `attn.c_attn` where the group is `h.0.attn`."""
    if group is None:
        return ""
    return t.scope[len(group.path) - len(group.name):] if group.path and t.scope.startswith(group.path) else group.name


def _are_chained(groups: list[Group]) -> bool:
    """Whether a group uses what the one before it has made."""
    made = [{t for t in group.records() if t.op is not None} for group in groups]
    return any(a in before for before, now in zip(made, made[1:]) for t in now for a in t.inputs if type(a) is Tensor)


def is_item(t: Tensor) -> bool:
    """Whether a record is one of the arrays of a tuple."""
    return t.op is _item


def _shortened(runs: Iterable[list], is_wanted: Callable[[Any], bool]) -> list[list]:
    """Runs without the middle of a long list, for which a closed group stands; what is wanted stays."""
    runs = list(runs)
    counted = [i for i, (first, *_) in enumerate(runs) if isinstance(first, Group) or not _is_leaf_or_item(first)]
    if len(counted) <= LONG:
        return runs
    start, stop = counted[ENDS], counted[-ENDS]
    kept = runs[:start]
    for wanted, grouped in itertools.groupby(runs[start:stop], lambda run: any(map(is_wanted, run))):
        part = list(grouped)
        if wanted or all(isinstance(first, Tensor) and _is_leaf_or_item(first) for first, *_ in part):
            kept += part
        else:
            rest = Rest(items=[item for run in part for item in run])
            rest.name = f"… {plural(sum(t.op is not None for t in rest.records()), 'more operation')}"
            kept.append([rest])
    return kept + runs[stop:]


def _is_leaf_or_item(t: Tensor) -> bool:
    return t.op is None or is_item(t)
