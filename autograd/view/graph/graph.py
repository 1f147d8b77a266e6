"""The computation graph of a tape: boxes in the frames of their scopes, folded to a page, in Graphviz's language."""

from __future__ import annotations

import html
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from ...core.describe import describe, plural, record_line, shape_text
from ...engine import Tape, Tensor
from ..backward import restore_freed
from ..card.mathematics import find_formula, find_gradients
from ..palette import FRAME, FRAME_LINE, LIGHT, OUTLINE, WHITE
from ..text import number_records
from .coloring import SCHEMES, ByOp, Gradients, Ramp, span
from .fold import Box, Edge, Fold, Frame, Rest, fold, is_item
from .render import Graph

FONT = "Helvetica,Arial,sans-serif"
INK, SOFT = LIGHT["ink"], LIGHT["soft"]
GAP = "\N{NO-BREAK SPACE}"  # browsers drop a plain space between two elements of a line
WIDTHS = 0.8, 4.0  # edge widths of the smallest and the largest gradient norm, in points


def draw(tape: Tape, depth: int | None = None, expand: str | Iterable[str] = (), focus: Tensor | None = None,
         color: str = "op") -> Graph:
    """Draw the computation graph, which a notebook shows and `.save("tape.svg")` (.png, .pdf, or .gv) writes.

    depth: number of levels of scopes to open; an open scope is a frame around its records, a closed one a box with a
    double border.  By default scopes are opened level by level up to 24 boxes, and functions composed of operations
    (np.linalg.norm) stay closed.
    expand: path of a scope (`"h.0.attn"`), or several, to open in addition.  One of a run of identical scopes (`"h.5"`)
    is drawn by itself, and without `depth` the others of the run are closed.
    focus: a tensor of the tape; only records within three edges of it are drawn, and `⋯` where the graph goes on.
    color: color boxes by "op" (family of operation), "grad" (gradient norm), "time" (of the formula and its VJP rules,
    which are run again) or "memory" (bytes kept for the backward pass).  The numbers are also written in the boxes; a
    box of several operations has the sum of their times and bytes, and the range of its outputs' gradient norms.

    Consecutive identical scopes (the blocks of a GPT) are drawn once, marked `× 12`, with the sum of their times and
    bytes.  A scope with a single operation is drawn as that operation, under the scope's name.  In tapes of up to 30
    records each leaf has a box; in larger ones only those read by several boxes have, and the others are counted in
    their reader's box.  A scope with more than 40 operations and inner scopes is drawn by its first and last 12.

    If a leaf has a gradient (or for color="grad"), edges are as wide as the gradients that flow back along them are
    large, on a log scale; if a leaf was modified since, the legend says so instead.  Tooltips of boxes and edges show
    the line of the tape, the formulas and the gradient norm.

    Raises ValueError for a scope or tensor that is not in the tape, and for an unknown `color`.
    """
    if color not in SCHEMES:
        raise ValueError(f"color is one of {', '.join(map(repr, SCHEMES))}, and not {color!r}")
    folded = fold(tape, depth, expand, focus)
    wanted = color == "grad" or any(t.op is None and t._grad is not None for t in tape)
    return _Drawing(tape, folded, color, Gradients(tape) if wanted else None).graph


class _Drawing:
    """Builder of a graph from a fold, a colour scheme and, optionally, gradient norms."""

    def __init__(self, tape: Tape, folded: Fold, color: str, norms: Gradients | None):
        self.tape, self.fold, self.norms = tape, folded, norms
        self.numbers, self.roots = number_records(tape), set(tape.roots)
        self.colors: ByOp = SCHEMES[color](tape, folded, norms)
        self.names = {box: f"n{i}" for i, box in enumerate(folded.frame.boxes())}
        edge_norms = norms.edge_norms.values() if norms is not None else ()
        self.ramp = Ramp([n for values in edge_norms for n in values], log=True)
        self.graph = Graph("tape", graph_attr=_GRAPH, node_attr=_NODE, edge_attr=_EDGE)
        self.graph.tape = tape
        with restore_freed(tape):
            self._draw(folded.frame, self.graph)
        for edge in folded.edges:
            self._edge(edge)
        self._draw_more()
        self.graph.attr(label=self._legend())

    def _draw(self, frame: Frame, graph: Graph) -> None:
        """Draw the boxes and inner frames of a frame into the cluster `graph`."""
        for i, item in enumerate(frame.items):
            if isinstance(item, Box):
                self._box(item, graph)
            else:
                with graph.subgraph(name=f"{graph.name if graph is not self.graph else 'cluster'}_{i}") as inner:
                    inner.attr(label=f"<<b>{_text(item.title)}</b>{_times(item)}>", tooltip=_quote(_group_tip(item)),
                               **_FRAME)
                    self._draw(item, inner)

    def _draw_more(self) -> None:
        """Draw `⋯` where a focus cuts the graph off."""
        for boxes, before in zip(self.fold.has_more(self.tape), (True, False)):
            for box in sorted(boxes, key=self.names.__getitem__):
                more = f"{'before' if before else 'after'}_{self.names[box]}"
                self.graph.node(more, "⋯", shape="plain", style="", fontcolor=SOFT, tooltip=_quote("not drawn: more"))
                self.graph.edge(*((more, self.names[box]) if before else (self.names[box], more)), style="dotted")

    # ------------------------------------------------------------------ a box
    def _box(self, box: Box, graph: Graph) -> None:
        """Draw a box in the cluster `graph`."""
        rows = "".join(f'<tr><td>{line}</td></tr>' for line in self._lines(box))
        label = f'<<table border="0" cellborder="0" cellspacing="0" cellpadding="1">{rows}</table>>'
        graph.node(self.names[box], label, tooltip=_quote(self._tip(box)), **self._look(box))

    def _look(self, box: Box) -> dict[str, str]:
        """Return shape, border and colour of a box, as attributes of Graphviz."""
        look = {"fillcolor": self.colors.fill(box)}
        if box.op is None:
            look |= {"style": "filled,dashed"} if isinstance(box.group, Rest) else {"peripheries": "2"}
        elif box.op.op is None:
            look |= {"shape": "ellipse", "margin": "0.04,0.03"}
            look |= {} if box.op.requires_grad else {"style": "filled,dashed"}
        if not self.roots.isdisjoint(box.records) or box.op is self.fold.focus is not None:
            look |= {"penwidth": "2.2", "color": INK}
        return look

    def _lines(self, box: Box) -> list[str]:
        """Return the lines of text in a box, as Graphviz's HTML."""
        parameters = sum(t.size for t in self.fold.firsts(box) if t.op is None and t.requires_grad and t is not box.op)
        small = [f"'{box.op.name}'"] if box.op is not None and box.op.op is not None and box.op.name else []
        small += _contents(self.fold, box) + self._shapes(box)
        small += [f"{plural(parameters, 'parameter')}{' each' * (box.times > 1)}"] if parameters else []
        small += filter(None, [self._attributes(box), self.colors.text(box)])
        return [_title(box), *map(_small, small)]

    def _shapes(self, box: Box) -> list[str]:
        """Return the shapes of a box's outputs."""
        results, firsts = self.fold.results(box), set(self.fold.firsts(box))
        shapes = Counter(map(self._shape, [t for t in results if t in firsts] or results))
        texts = [_with_count(n, shape) for shape, n in shapes.items()]
        return texts if len(texts) < 4 else [*texts[:2], f"… {len(texts) - 2} more"]

    def _shape(self, t: Tensor) -> str:
        """Return `f32[3,4]`, `f32[] = 0.5` for a single number, `3 × f32[4]` for a tuple of equal shapes."""
        if isinstance(t._array, tuple) or isinstance(t.saved, list):
            shapes = shape_text(t)[1:-1].split(", ")
            return _with_count(len(shapes), shapes[0]) if len(set(shapes)) == 1 else shape_text(t)
        text = shape_text(t)
        if self.fold.small and text.endswith("[]") and (value := _value(t)) is not None:
            return f"{text} = {value if isinstance(value, bool) else format(value, '.4g')}"
        return text

    def _attributes(self, box: Box) -> str:
        """Return `axis=0, y=2`: the arguments of an operation that are no tensors (only in a small tape)."""
        if not self.fold.small or box.op is None or box.op.op is None or is_item(box.op):
            return ""
        t, op = box.op, box.op.op
        given = [(op.input_name(i), a) for i, a in enumerate(t.inputs) if type(a) is not Tensor and a is not None]
        text = ", ".join(f"{name}={describe(a)}" for name, a in [*given, *t.attrs.items()] if name != "shape")
        return text if len(text) <= 40 else f"{text[:39]}…"

    def _tip(self, box: Box) -> str:
        """Return the tooltip of a box."""
        lines = _group_tip(box).splitlines() if box.op is None or box.times > 1 else []
        if (t := box.op) is not None:
            lines += [record_line(t, self.numbers)]
            if t.op is not None:
                lines += filter(None, [find_formula(t.op), *find_gradients(t.op).values()])
        norms = self.norms.norms if self.norms is not None else {}
        if found := [norms[t] for t in self.fold.results(box) if t in norms]:
            lines.append(f"gradient norm: {span(found)}")
        return "\n".join(lines)

    # ------------------------------------------------------------------ an edge
    def _edge(self, edge: Edge) -> None:
        """Draw an edge, labelled with its shapes and as wide as the gradient that flows back along it is large."""
        shapes = Counter(map(shape_text, self.fold.values(edge)))
        text, look = ", ".join(_with_count(n, shape) for shape, n in shapes.items()), {}
        tip = [text]
        norms = self.norms.edge_norms if self.norms is not None else {}
        if found := [n for use in set(edge.uses) for n in norms.get(use, ())]:
            look = self._width(found)
            tip.append(f"gradient norm: {span(found)}")
        is_in_box = len(self._shapes(edge.tail)) == 1
        self.graph.edge(self.names[edge.tail], self.names[edge.head], tooltip=_quote("\n".join(tip)),
                        **({} if is_in_box else {"label": f"<{_small(text)}>"}) | look)

    def _width(self, norms: list[float]) -> dict[str, str]:
        """Return the width of an edge with gradients of these norms, as attributes of Graphviz."""
        if not np.isfinite(norms).all():
            return {"color": LIGHT["bad"], "penwidth": "3", "fontcolor": LIGHT["bad"], "label": span(norms)}
        if not max(norms):
            return {"style": "dotted"}
        low, high = WIDTHS
        width = low + (high - low) * self.ramp.position(max(norms))
        return {"penwidth": f"{width:.2f}", "arrowsize": f"{0.65 - 0.06 * width:.2f}"}

    # ------------------------------------------------------------------ the legend
    def _legend(self) -> str:
        """Return the legend of colours, widths and borders, as a table under the graph."""
        notes = list(self.colors.notes)
        if self.norms is not None and self.norms.missing:
            notes.append(self.norms.missing)
        elif self.norms is not None and self.norms.edge_norms:
            notes.append("edge width: norm of the gradient that flows back along it, log scale")
        closed = [box.group for box in self.fold.frame.boxes() if box.op is None and not isinstance(box.group, Rest)]
        if closed:
            notes.append(f"double border: a closed scope; draw(expand={closed[0].path!r}) opens it")  # type: ignore[union-attr]
        notes += [_describe_run(item) for item in self.fold.frame.runs()][:3]
        if not self.tape:
            notes.append("nothing was recorded")
        chips = "".join(f'<td bgcolor="{fill}" style="rounded">{GAP}{name}{GAP}</td>'
                        for name, fill in self.colors.swatches)
        rows = [f'<table border="0" cellspacing="3" cellpadding="2"><tr>{chips}</tr></table>'] if chips else []
        rows += [_text(line) for note in dict.fromkeys(notes) for line in textwrap.wrap(note, 80)]
        cells = "".join(f'<tr><td align="left">{row}</td></tr>' for row in rows)
        return f'<<table border="0" cellspacing="0" cellpadding="1">{cells}</table>>' if cells else ""


_GRAPH = {"rankdir": "TB", "bgcolor": WHITE, "pad": "0.2", "nodesep": "0.3", "ranksep": "0.32", "fontname": FONT,
          "fontsize": "9", "fontcolor": SOFT, "labelloc": "b", "labeljust": "l", "tooltip": " "}
_NODE = {"shape": "box", "style": "filled,rounded", "fillcolor": WHITE, "color": OUTLINE, "fontname": FONT,
         "fontsize": "11", "fontcolor": INK, "margin": "0.12,0.06", "height": "0.3", "width": "0.6"}
_EDGE = {"color": OUTLINE, "arrowsize": "0.6", "fontname": FONT, "fontsize": "8.5", "fontcolor": SOFT}
_FRAME = {"style": "filled,rounded", "fillcolor": FRAME, "color": FRAME_LINE, "fontcolor": INK, "fontsize": "11",
          "labelloc": "t", "labeljust": "l", "margin": "12"}


def _title(box: Box) -> str:
    """Return the first line of a box: `c_attn linear`, `matmul`, a leaf's name, `h.0 … h.3 × 4`."""
    t = box.op
    if t is None:
        return f"<b>{_text(box.title)}</b>{_times(box)}"
    if t.op is None:
        return f"<b>{_text(t.name)}</b>" if t.name else "parameter" if t.requires_grad else "constant"
    name = _text(f"item {t.attrs.get('i', 0)}" if is_item(t) else t.op.name)
    return (f"<b>{_text(box.title)}</b>{GAP}{name}" if box.title else f"<b>{name}</b>") + _times(box)


def _contents(folded: Fold, box: Box) -> list[str]:
    """Return `15 operations` for a closed scope."""
    if box.op is not None or isinstance(box.group, Rest):
        return []
    n = sum(t.op is not None and not is_item(t) for t in folded.firsts(box))
    return [plural(n, "operation") + " each" * (box.times > 1)]


def _times(item: Box | Frame) -> str:
    """Return ` × 4` for identical scopes that are drawn once."""
    return f"{GAP}× {item.times:,}" if item.times > 1 else ""


def _describe_run(item: Box | Frame) -> str:
    """Explain `× 4` in the legend."""
    wiring = "chained one after the other" if item.chained else "in parallel"
    return f"{item.title} × {item.times:,}: identical scopes {wiring}, drawn once"


def _with_count(n: int, text: str) -> str:
    return f"{n} × {text}" if n > 1 else text


def _group_tip(item: Box | Frame) -> str:
    """Return the path of a scope and its most frequent operations."""
    records = [t for t in item.group.records() if t.op is not None]  # type: ignore[union-attr]
    ops = Counter(t.op.name for t in records if not is_item(t))  # type: ignore[union-attr]
    return "\n".join([f"{item.group.path or item.title}{_times(item)}",  # type: ignore[union-attr]
                      ", ".join(f"{n} {name}" if n > 1 else name for name, n in ops.most_common(8))])


def _value(t: Tensor) -> Any:
    """Return the number in a record of one element, or None if it is lost or another library's."""
    try:
        value = t._value()
    except (RuntimeError, TypeError):  # a leaf was modified since, or a program is being captured
        return None
    return value.item() if isinstance(value, (np.ndarray, np.generic)) and value.shape == () else None


# ---------------------------------------------------------------------- arbitrary text in Graphviz's language
def _clean(text: Any) -> str:
    """Drop what XML cannot contain, control characters and lone surrogates, and truncate a long text."""
    text = str(text).encode("utf-8", "replace").decode()
    text = "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else "�" for c in text)
    return text if len(text) <= 2000 else text[:1999] + "…"


def _text(text: Any) -> str:
    """Escape a text for Graphviz's HTML, on one line; a backslash starts an escape sequence there."""
    text = " ".join(_clean(text).split())
    return html.escape(text if len(text) <= 90 else text[:89] + "…").replace("\\", r"\\")


def _small(text: str) -> str:
    return f'<font point-size="9" color="{SOFT}">{_text(text)}</font>'


def _quote(text: str) -> str:
    """Escape a text of several lines for a tooltip, where Graphviz resolves escape sequences twice."""
    return html.escape(_clean(text)).replace("\\", r"\\\\").replace("\n", r"\n")
