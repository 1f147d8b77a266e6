"""The tape as a static picture: a row for each record, and arcs from inputs to readers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...core.describe import call_text, plural, shape_text
from ...engine import Tape, Tensor
from ..html import escape
from ..outline import Group, outline
from ..palette import LIGHT, OUTLINE
from ..text import number_records, record_type, totals

SHOWN = 80
"""Maximum rows, half of them from the head of the tape and half from its tail."""
_ROW, _TOP, _GUTTER, _WIDTH, _INDENT = 22, 54, 104, 860, 16  # pixels
_INK, _SOFT, _PAPER, _LINE, _ARC = *(LIGHT[name] for name in ("ink", "soft", "paper", "line")), OUTLINE
_COLOURS = {"parameter": LIGHT["backward"], "constant": OUTLINE, "operation": LIGHT["forward"]}
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
_LETTERS = 78  # maximum characters of a row's text, which leaves space for the shape


@dataclass
class _Row:
    """A line of the picture: a record, the name of a group, or a run of folded groups with all their records."""

    text: str
    depth: int = 0
    shape: str = ""
    record_type: str = ""
    records: list[Tensor] = field(default_factory=list)


def rows_svg(tape: Tape) -> str:
    """Draw the tape as a self-contained SVG: records in order under the names of their scopes, repeated groups folded,
    and an arc from each input to its reader.  Of a long tape head and tail are drawn."""
    rows, half = _rows(outline(tape), number_records(tape)), SHOWN // 2
    if len(rows) > SHOWN + 1:
        left = sum(len(row.records) for row in rows[half:-half])
        rows = [*rows[:half], _Row(f"… {plural(left, 'more record')} …"), *rows[-half:]]
    width, height = _WIDTH, _TOP + _ROW * len(rows) + 14
    border = f'width="{width - 1}" height="{height - 1}" rx="8" fill="{_PAPER}" stroke="{_LINE}"'
    parts = [f'<rect x="0.5" y="0.5" {border}/>',
             _text(20, 32, totals(tape), _INK, ' font-weight="600"'), *_arcs(tape, rows)]
    for i, row in enumerate(rows):
        parts += _draw_row(row, _middle(i))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'font-family="{_FONT}" font-size="13">{"".join(parts)}</svg>')


def _rows(root: Group, numbers: dict[Tensor, int]) -> list[_Row]:
    """Return the lines of an outline, with all twins of a group on one line."""
    rows: list[_Row] = []
    stack: list[tuple[Any, int]] = [(item, 0) for item in reversed(root.items)]
    while stack:
        item, depth = stack.pop()
        if isinstance(item, Tensor):
            rows.append(_record_row(item, depth, numbers))
        elif isinstance(item, list):
            records = [t for twin in item for t in twin.records()]
            names = item[0].name + (f" … {item[-1].name}" if len(item) > 1 else "")
            rows.append(_Row(f"{names}:  identical, {plural(len(records), 'record')}", depth, records=records))
        elif item.twin_of is None:
            rows.append(_Row(item.name + (f"   × {item.times}" if item.times > 1 else ""), depth))
            stack += [(item.twins, depth)] if item.twins else []
            stack += [(inner, depth + 1) for inner in reversed(item.items)]
    return rows


def _record_row(t: Tensor, depth: int, numbers: dict[Tensor, int]) -> _Row:
    name = f"{t.name} = " if t.name else ""
    return _Row(f"%{numbers[t]}  {name}{call_text(t, numbers)}", depth, shape_text(t), record_type(t), [t])


def _middle(i: int) -> float:
    return _TOP + _ROW * (i + 0.5)


def _arcs(tape: Tape, rows: list[_Row]) -> list[str]:
    """Draw an arc between any two rows of which one reads the other, wider for a larger distance."""
    place = {t: i for i, row in enumerate(rows) for t in row.records}
    pairs = {(place[a], place[t]) for t in tape if t in place
             for a in t.inputs if type(a) is Tensor and a in place and place[a] != place[t]}
    return [_arc(_middle(a), _middle(b)) for a, b in sorted(pairs)]


def _arc(a: float, b: float) -> str:
    x = _GUTTER - 12
    out = x - min(x - 12, 10 + 3.2 * abs(b - a) ** 0.5)
    return f'<path d="M{x} {a}C{out:.0f} {a} {out:.0f} {b} {x} {b}" fill="none" stroke="{_ARC}" stroke-opacity="0.75"/>'


def _draw_row(row: _Row, y: float) -> list[str]:
    """Draw a row: its mark, its text and its shape."""
    x, colour = _GUTTER - 8, _COLOURS.get(row.record_type, _SOFT)
    ring = f'fill="{_PAPER}" stroke="{colour}"'
    marks = {"operation": f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"/>',
             "parameter": f'<rect x="{x - 4}" y="{y - 4}" width="8" height="8" fill="{colour}"/>',
             "constant": f'<rect x="{x - 3.5}" y="{y - 3.5}" width="7" height="7" {ring}/>',
             "": f'<circle cx="{x}" cy="{y}" r="3" {ring}/>' if row.records else ""}
    text = row.text if len(row.text) <= _LETTERS else row.text[:_LETTERS - 1] + "…"
    ink = _INK if row.record_type else _SOFT
    return [marks[row.record_type], _text(_GUTTER + 10 + _INDENT * row.depth, y + 4.5, text, ink),
            _text(_WIDTH - 20, y + 4.5, row.shape, _SOFT, ' text-anchor="end"') if row.shape else ""]


def _text(x: float, y: float, text: str, colour: str, more: str = "") -> str:
    return f'<text x="{x}" y="{y}" fill="{colour}" xml:space="preserve"{more}>{escape(_make_printable(text))}</text>'


def _make_printable(text: str) -> str:
    """Replace characters that XML cannot contain: control characters and lone surrogates."""
    return "".join(c if c.isprintable() or c == " " else "\N{REPLACEMENT CHARACTER}" for c in text)
