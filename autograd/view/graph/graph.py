"""The computation graph of a tape: boxes in the frames of their scopes, folded to a page, in Graphviz's language."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from ...core.describe import describe, index_text, plural, record_line, shape_text
from ...core.multi_output import shape_and_dtype
from ...engine import Tape, Tensor
from ..backward import restore_freed
from ..card.mathematics import find_formula, find_gradients
from ..palette import FRAME, FRAME_LINE, LIGHT, OUTLINE, WHITE
from ..text import number_records
from .coloring import SCHEMES, ByGradient, ByOp, Flow, Gradients, Ramp, as_number, span
from .fold import Box, Edge, Fold, Frame, Rest, fold, is_item
from .labels import (
    BACKWARD,
    GAP,
    INK,
    SOFT,
    add_count,
    describe_contents,
    describe_group,
    describe_run,
    escape_text,
    format_times,
    name_box,
    quote,
    small_text,
)
from .layout import choose_beside, find_main
from .render import Graph

FONT = "Helvetica,Arial,sans-serif"
ARROWS = 4  # maximum arrows between two boxes
WIDTHS = 0.8, 4.0  # edge widths of the smallest and the largest gradient norm, in points


def draw(tape: Tape, depth: int | None = None, expand: str | Iterable[str] = (), focus: Tensor | None = None,
         color: str = "op", mark: Iterable[Tensor] = ()) -> Graph:
    """Draw the computation graph, which a notebook shows and `.save("tape.svg")` (.png, .pdf, or .gv) writes.

    depth: number of levels of scopes to open; an open scope is a frame around its records, a closed one a box with a
    double border.  By default scopes are opened level by level up to 24 boxes, and functions composed of operations
    (np.linalg.norm) stay closed.
    expand: path of a scope (`"h.0.attn"`), or several, to open in addition.  One of a run of identical scopes (`"h.5"`)
    is drawn by itself, and without `depth` the others of the run are closed.
    focus: a tensor of the tape; only records within three edges of it are drawn, and `⋯` where the graph goes on.
    color: color boxes by "op" (family of operation), "grad" (gradient norm), "time" (of the formula and its VJP rules,
    which are run again) or "memory" (bytes kept for the backward pass).  The numbers are also written in the boxes; a
    box of several operations has the sum of their times and bytes, and the range of its outputs' gradient norms; one
    that stands for several scopes has a small square in the colour of each.
    mark: records, such as those of `tape.find(op="softmax")`; boxes with one of them have a thick orange border.

    Consecutive identical scopes (the blocks of a GPT) are drawn once, marked `× 12`, with the sum of their times and
    bytes.  A scope with a single operation is drawn as that operation, under the scope's name.  In tapes of up to 30
    records each leaf has a box; in larger ones only those read by several boxes have, and the others are counted in
    their reader's box.  A scope with more than 40 operations and inner scopes is drawn by its first and last 12.

    If a leaf has a gradient (or for color="grad"), edges are as wide as the gradients that flow back along them are
    large, on a log scale, and in tapes of up to 30 records labelled with them; boxes of scalars show theirs.  A value
    that an operation reads twice (`x * x`) has two arrows, whose gradients add up.  If a leaf was modified since, the
    legend says so instead.  Tooltips of boxes and edges show the line of the tape, the formulas and the gradients.

    Raises ValueError for a scope or tensor that is not in the tape, and for an unknown `color`.
    """
    if color not in SCHEMES:
        raise ValueError(f"color is one of {', '.join(map(repr, SCHEMES))}, and not {color!r}")
    folded = fold(tape, depth, expand, focus)
    wanted = color == "grad" or any(t.op is None and t._grad is not None for t in tape)
    return _Drawing(tape, folded, color, Gradients(tape) if wanted else None, set(mark)).graph


class _Drawing:
    """Builder of a graph from a fold, a colour scheme and, optionally, gradient norms."""

    def __init__(self, tape: Tape, folded: Fold, color: str, norms: Gradients | None, marked: set[Tensor]):
        self.tape, self.fold, self.norms, self.marked = tape, folded, norms, marked
        self.numbers, self.roots = number_records(tape), set(tape.roots)
        self.colors: ByOp = SCHEMES[color](tape, folded, norms)
        self.names = {box: f"n{i}" for i, box in enumerate(folded.frame.boxes())}
        flows = norms.flows.values() if norms is not None else ()
        self.ramp = Ramp([flow.norm for sent in flows for flow in sent], log=True)
        self.graph = Graph("tape", graph_attr=_GRAPH, node_attr=_NODE, edge_attr=_EDGE)
        self.graph.tape = tape
        self.beside, self.main = choose_beside(folded), find_main(folded)
        self.frames = {box: {frame for frame in folded.frame.frames() if box in set(frame.boxes())}
                       for box in self.names}
        self.marks: dict[str, str] = {}  # explanations of the marks that are drawn, for the legend
        with restore_freed(tape):
            self._draw(folded.frame, self.graph)
        for edge in folded.edges:
            self._edges(edge)
        self._draw_more()
        self.graph.attr(label=self._legend())

    def _draw(self, frame: Frame, graph: Graph) -> None:
        """Draw the boxes and inner frames of a frame into the cluster `graph`."""
        for i, item in enumerate(frame.items):
            if isinstance(item, Box):
                self._box(item, graph)
            else:
                with graph.subgraph(name=f"{graph.name if graph is not self.graph else 'cluster'}_{i}") as inner:
                    tip = quote(describe_group(item))
                    inner.attr(tooltip=tip, **_FRAME)
                    self._title(item, inner, tip)
                    self._draw(item, inner)
        for box in frame.items:
            if isinstance(box, Box) and box in self.beside:
                self._draw_row(box, graph)

    def _title(self, frame: Frame, graph: Graph, tip: str) -> None:
        """Draw the title of a frame as a node above its first box, which arrows pass by; they would cross a label."""
        first = next(box for box in frame.boxes() if not any(box in leaves for leaves in self.beside.values()))
        name = f"title_{graph.name}"
        label = f"<<b>{escape_text(frame.title)}</b>{format_times(frame)}>"
        graph.node(name, label, shape="plain", style="", tooltip=tip)
        graph.edge(name, self.names[first], style="invis")

    def _draw_row(self, box: Box, graph: Graph) -> None:
        """Draw the parameters beside an operation into its row, on alternate sides."""
        with graph.subgraph() as row:
            row.attr(rank="same")
            for i, other in enumerate((*self.beside[box], box)):
                row.node(self.names[other])
                if len(self.beside[box]) > 1 and other is not box:
                    ends = self.names[other], self.names[box]
                    row.edge(*(ends[::-1] if i % 2 else ends), style="invis")

    def _draw_more(self) -> None:
        """Draw `⋯` where a focus cuts the graph off."""
        for boxes, before in zip(self.fold.has_more(self.tape), (True, False)):
            for box in sorted(boxes, key=self.names.__getitem__):
                self.marks["more"] = "⋯: more of the tape, not drawn"
                more = f"{'before' if before else 'after'}_{self.names[box]}"
                self.graph.node(more, "⋯", shape="plain", style="", fontcolor=SOFT, tooltip=quote("not drawn: more"))
                self.graph.edge(*((more, self.names[box]) if before else (self.names[box], more)), style="dotted")

    # ------------------------------------------------------------------ a box
    def _box(self, box: Box, graph: Graph) -> None:
        """Draw a box in the cluster `graph`."""
        graph.node(self.names[box], _label(self._lines(box)), tooltip=quote(self._tip(box)), **self._look(box))
        for i, (name, array) in enumerate(self._arrays(box)):
            outside, tip = f"{self.names[box]}a{i}", f"{name}: an array, not recorded"
            label = _label(["array", small_text(describe(array))])
            graph.node(outside, label, tooltip=quote(tip), style="dashed", **_LEAF)
            graph.edge(outside, self.names[box], tooltip=quote(tip), style="dashed")
            self.marks["dashed"] = _DASHED

    def _arrays(self, box: Box) -> list[tuple[str, Any]]:
        """Return names and values of the inputs of an operation that are arrays, and no records (in a small tape)."""
        if not self.fold.small or box.op is None or box.op.op is None or box.times > 1:
            return []
        return [(box.op.op.input_name(i), a) for i, a in enumerate(box.op.inputs)
                if type(a) is not Tensor and hasattr(a, "dtype") and np.shape(a)]

    def _look(self, box: Box) -> dict[str, str]:
        """Return shape, border and colour of a box, as attributes of Graphviz."""
        look = {"fillcolor": self.colors.fill(box)}
        if box.op is None:
            look |= {"style": "filled,dashed"} if isinstance(box.group, Rest) else {"peripheries": "2"}
        elif box.op.op is None:
            look |= _LEAF
            self.marks["round"] = "round: a parameter" if box.op.requires_grad else self.marks.get("round", "")
            if not box.op.requires_grad:
                look |= {"style": "filled,dashed"}
                self.marks["dashed"] = _DASHED
        if box.op is self.fold.focus is not None:
            look |= {"penwidth": "2.2", "color": INK}
            self.marks["thick"] = "thick border: the focus"
        elif not self.roots.isdisjoint(box.records):
            look |= {"penwidth": "2.2", "color": INK}
            self.marks.setdefault("thick", "thick border: the result")
        if not self.marked.isdisjoint(box.records):
            look |= {"penwidth": "4", "color": LIGHT["positive"]}
            self.marks["marked"] = "orange border: marked"
        return look

    def _lines(self, box: Box) -> list[str]:
        """Return the lines of text in a box, as Graphviz's HTML."""
        parameters = sum(t.size for t in self.fold.firsts(box) if t.op is None and t.requires_grad and t is not box.op)
        small = [f"'{box.op.name}'"] if box.op is not None and box.op.op is not None and box.op.name else []
        small += describe_contents(self.fold, box) + self._shapes(box)
        small += [f"{plural(parameters, 'parameter')}{' each' * (box.times > 1)}"] if parameters else []
        small += filter(None, [self._attributes(box), self.colors.text(box)])
        lines = [name_box(box), *map(small_text, small)]
        if (number := self._gradient(box)) is not None and not isinstance(self.colors, ByGradient):
            lines.append(small_text(f"grad {number:.4g}", BACKWARD))
            self.marks["grad"] = _PURPLE
        fills = self.colors.strip(box)
        strip = "".join(f'<td bgcolor="{fill}" width="7" height="7" fixedsize="true"></td>' for fill in fills)
        squares = f'<table bgcolor="{WHITE}" fixedsize="true" width="{8 * len(fills) + 1}" height="9" border="0" ' \
                  f'cellspacing="1" cellpadding="0"><tr>{strip}</tr></table>'
        return [*lines, squares] if strip else lines

    def _gradient(self, box: Box) -> float | None:
        """Return the gradient of a scalar: of a leaf what is in `.grad`, otherwise what flows to it."""
        if self.norms is None or box.op is None or box.times > 1 or len(self.fold.results(box)) > 1:
            return None
        held = box.op._grad if box.op.op is None else None
        return self.norms.numbers.get(box.op) if held is None else as_number(getattr(held, "_array", held))

    def _shapes(self, box: Box) -> list[str]:
        """Return the shapes of a box's outputs."""
        results, firsts = self.fold.results(box), set(self.fold.firsts(box))
        shapes = Counter(map(self._shape, [t for t in results if t in firsts] or results))
        texts = [add_count(n, shape) for shape, n in shapes.items()]
        return texts if len(texts) < 4 else [*texts[:2], f"… {len(texts) - 2} more"]

    def _shape(self, t: Tensor) -> str:
        """Return `f32[3,4]`, `f32[] = 0.5` for a single number, `3 × f32[4]` for a tuple of equal shapes."""
        if isinstance(shape_and_dtype(t), list):
            shapes = shape_text(t)[1:-1].split(", ")
            return add_count(len(shapes), shapes[0]) if len(set(shapes)) == 1 else shape_text(t)
        text = shape_text(t)
        if text.endswith("[]") and (value := _value(t)) is not None:
            return f"{text} = {value if isinstance(value, bool) else format(value, '.4g')}"
        return text

    def _attributes(self, box: Box) -> str:
        """Return `axis=0, y=2`: the arguments of an operation that are no tensors (only in a small tape)."""
        if not self.fold.small or box.op is None or box.op.op is None or is_item(box.op):
            return ""
        t, op = box.op, box.op.op
        given = [(op.input_name(i), a) for i, a in enumerate(t.inputs) if type(a) is not Tensor and a is not None]
        drawn = [name for name, _ in self._arrays(box)]
        texts = [f"{name}={describe(a)}" for name, a in [*given, *t.attrs.items()] if name not in ("shape", *drawn)]
        text = index_text(t) or ", ".join(texts)
        return text if len(text) <= 40 else f"{text[:39]}…"

    def _tip(self, box: Box) -> str:
        """Return the tooltip of a box."""
        lines = describe_group(box).splitlines() if box.op is None or box.times > 1 else []
        if (t := box.op) is not None:
            lines += [record_line(t, self.numbers)]
            if t.op is not None:
                lines += filter(None, [find_formula(t.op), *find_gradients(t.op).values()])
        norms = self.norms.norms if self.norms is not None else {}
        if found := [norms[t] for t in self.fold.results(box) if t in norms]:
            lines.append(f"gradient norm: {span(found)}")
        sent = self.norms.numbers.get(t) if self.norms is not None and t is not None else None
        if sent is not None and (held := self._gradient(box)) is not None and held != sent:
            lines.append(f".grad holds {held:.4g}, of which this backward pass adds {sent:.4g}")
        return "\n".join(lines)

    # ------------------------------------------------------------------ an edge
    def _edges(self, edge: Edge) -> None:
        """Draw the arrows of an edge: one for each time that a record reads the same value (both factors of `x * x`),
        otherwise one for all values."""
        like = {(self.fold.like(a), self.fold.like(t)) for a, t in edge.uses}
        times = Counter(edge.uses)
        n = times[edge.uses[0]]
        if len(like) > 1 or n > ARROWS:
            return self._arrow(edge, [(use, i) for use in times for i in range(times[use])])
        for i in range(n):
            self._arrow(edge, [(use, i) for use in times], parallel=n > 1)

    def _arrow(self, edge: Edge, slots: list[tuple[tuple[Tensor, Tensor], int]], parallel: bool = False) -> None:
        """Draw one arrow, labelled with its shapes and what flows back along it, and as wide as that is large.

        slots: (input, reader) and, of the times that the reader reads this input, which one.
        """
        shapes = Counter(map(shape_text, self.fold.values(edge)))
        text, look = ", ".join(add_count(n, shape) for shape, n in shapes.items()), {}
        tip, lines = [text], [] if len(self._shapes(edge.tail)) == 1 else [small_text(text)]
        if not parallel and len(slots) > len({use for use, _ in slots}):
            lines.append(f"read {len(slots)} times")
        sent = [(*use, i, self._sent(use, i)) for use, i in slots]
        found = [flow for *_, flow in sent if flow is not None]
        if found:
            norms = [flow.norm for flow in found]
            look = self._width(norms)
            numbers = [flow.number for flow in found if flow.number is not None]
            amount = f"‖{span(norms)}‖" if len(numbers) < len(found) and np.isfinite(norms).all() else \
                f"{numbers[0]:.4g}" if len(numbers) == 1 else span(numbers or norms)
            if self.fold.small or len(numbers) == len(found):
                lines.append(small_text(amount, look.get("fontcolor", BACKWARD)))
                self.marks["grad"] = _PURPLE
            each = [f"gradient as {self._slot(a, t, i)}: {flow}" for a, t, i, flow in sent if flow]
            tip += each if parallel or 1 < len(each) <= ARROWS else \
                [f"gradient: {found[0] if len(found) == 1 else amount}" if len(numbers) == len(found) else
                 f"gradient norm: {span(norms)}"]
        look |= {"label": f"<{'<br/>'.join(f'{GAP}{line}' for line in lines)}>"} if lines else {}
        look["tooltip"] = quote("\n".join(tip))
        ends = self.names[edge.tail], self.names[edge.head]
        leaves = self.beside.get(edge.head, [])
        if edge.tail not in leaves:
            entered = len(self.frames[edge.head] - self.frames[edge.tail])
            look |= {"weight": "8"} if edge is self.main[edge.head] else {}
            look |= {"minlen": str(1 + entered)} if entered else {}
            self.graph.edge(*ends, **look)
        elif leaves.index(edge.tail) % 2:  # to the right of the operation
            self.graph.edge(*ends[::-1], **look, dir="back", constraint="false")
        else:
            self.graph.edge(*ends, **look, constraint="false")

    def _sent(self, use: tuple[Tensor, Tensor], i: int) -> Flow | None:
        """Return the gradient that a reader sends to an input, the i-th time that it reads it."""
        found = self.norms.flows.get(use, []) if self.norms is not None else []
        return found[i] if i < len(found) else None

    def _slot(self, a: Tensor, t: Tensor, i: int) -> str:
        """Return the name of the argument by which record `t` reads `a` for the i-th time: `%5 multiply's y`."""
        places = [k for k, b in enumerate(t.inputs) if b is a]
        return f"%{self.numbers[t]} {t.op.name}'s {t.op.input_name(places[i])}"  # type: ignore[union-attr]

    def _width(self, norms: list[float]) -> dict[str, str]:
        """Return the width of an edge with gradients of these norms, as attributes of Graphviz."""
        if not np.isfinite(norms).all():
            self.marks["bad"] = "magenta: NaN or inf flows back"
            return {"color": LIGHT["bad"], "penwidth": "3", "fontcolor": LIGHT["bad"]}
        if not max(norms):
            self.marks["dotted"] = "dotted edge: the gradient that flows back along it is 0"
            return {"style": "dotted"}
        low, high = WIDTHS
        width = low + (high - low) * self.ramp.position(max(norms))
        return {"penwidth": f"{width:.2f}", "arrowsize": f"{0.65 - 0.06 * width:.2f}"}

    # ------------------------------------------------------------------ the legend
    def _legend(self) -> str:
        """Return the legend of colours, widths and borders, as a table under the graph."""
        notes = [*self.colors.notes, " · ".join(filter(None, self.marks.values()))]
        if self.norms is not None and self.norms.missing:
            notes.append(self.norms.missing)
        elif self.norms is not None and self.norms.flows:
            notes.append("edge width: norm of the gradient that flows back along it, log scale")
        closed = [box.group for box in self.fold.frame.boxes() if box.op is None and not isinstance(box.group, Rest)]
        if closed:
            notes.append(f"double border: a closed scope; draw(expand={closed[0].path!r}) opens it")  # type: ignore[union-attr]
        notes += [describe_run(item) for item in self.fold.frame.runs()][:3]
        if not self.tape:
            notes.append("nothing was recorded")
        names = [(GAP + name.replace(" ", GAP) + GAP, fill) for name, fill in self.colors.swatches]
        chips = "".join(f'<td bgcolor="{fill}" style="rounded">{name}</td>' for name, fill in names)
        rows = [escape_text(line) for note in dict.fromkeys(notes) for line in textwrap.wrap(note, 80)]
        cells = "".join(f'<tr><td align="left">{row}</td></tr>' for row in rows)
        if chips:  # of about their width, since Graphviz stretches a table to that of its cell
            width = sum(5.2 * len(name) + 15 for name, _ in self.colors.swatches) + 6
            cells = f'<tr><td align="left"><table align="left" fixedsize="true" width="{width:.0f}" height="20" ' \
                    f'border="0" cellspacing="3" cellpadding="2"><tr>{chips}</tr></table></td></tr>{cells}'
        return f'<<table border="0" cellspacing="0" cellpadding="1">{cells}</table>>' if cells else ""


_GRAPH = {"rankdir": "TB", "newrank": "true", "bgcolor": WHITE, "pad": "0.2", "nodesep": "0.3", "ranksep": "0.32",
          "fontname": FONT, "fontsize": "9", "fontcolor": SOFT, "labelloc": "b", "labeljust": "l", "tooltip": " "}
_NODE = {"shape": "box", "style": "filled,rounded", "fillcolor": WHITE, "color": OUTLINE, "fontname": FONT,
         "fontsize": "11", "fontcolor": INK, "margin": "0.12,0.06", "height": "0.3", "width": "0.6"}
_EDGE = {"color": OUTLINE, "arrowsize": "0.6", "fontname": FONT, "fontsize": "8.5", "fontcolor": SOFT}
_FRAME = {"style": "filled,rounded", "fillcolor": FRAME, "color": FRAME_LINE, "margin": "12"}
_LEAF = {"shape": "ellipse", "margin": "0.04,0.03"}
_DASHED = "dashed: a constant, or an array outside the tape"
_PURPLE = "purple: the gradient that flows back, ‖ ‖ its norm"


def _label(lines: Iterable[str]) -> str:
    """Return Graphviz's markup for lines in a box, as rows of a table: lines of two sizes would overlap otherwise."""
    rows = "".join(f"<tr><td>{line}</td></tr>" for line in lines)
    return f'<<table border="0" cellborder="0" cellspacing="0" cellpadding="1">{rows}</table>>'


def _value(t: Tensor) -> Any:
    """Return the number in a record of one element, or None if it is lost or another library's."""
    try:
        value = t._value()
    except (RuntimeError, TypeError):  # a leaf was modified since, or a program is being captured
        return None
    return value.item() if isinstance(value, (np.ndarray, np.generic)) and value.shape == () else None
