"""A sheet to draw on: boxes, arrows, matrices and text, written as SVG in the colours of the views."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from autograd.view.palette import LIGHT, diverging, hexadecimal, ink_on, sequential

Point = tuple[float, float]
NEW = hexadecimal(sequential(1 / 3))
"""Fill of what is new or computed now."""

_SHIFTED = re.compile(r"([_^])(\{[^}]*\}|\w(?!\w))")  # x_{ij}, W^T, and not c_attn
_ITALIC = re.compile(r"\*([^*]+)\*")
_HALO = f' paint-order="stroke" stroke="{LIGHT["paper"]}" stroke-width="5" stroke-linejoin="round"'
_PAGE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" \
aria-label="{title}" font-family="Helvetica, Arial, Liberation Sans, sans-serif">
<title>{title}</title>
<rect x="0.5" y="0.5" width="{inner_width}" height="{inner_height}" rx="10" fill="{paper}" stroke="{line}"/>
{body}
</svg>
"""


def colour_of(name: str) -> str:
    """Return a colour of the palette's theme by its name, or what is a colour already."""
    return LIGHT.get(name, name)


class Sketch:
    """A drawing of `width` by `height` pixels on white, so that it can be read on dark pages too.  Positions are in
    pixels from the upper left corner; colours are names of the palette's theme, or `#rrggbb`."""

    def __init__(self, width: int, height: int, title: str):
        self.width, self.height, self.title = width, height, title
        self._parts: list[str] = []

    def __str__(self) -> str:
        return _PAGE.format(width=self.width, height=self.height, inner_width=self.width - 1,
                            inner_height=self.height - 1, title=html.escape(self.title, quote=True),
                            paper=LIGHT["paper"], line=LIGHT["line"], body="\n".join(self._parts))

    def text(self, x: float, y: float, text: str, colour: str = "ink", size: float = 14, anchor: str = "middle",
             bold: bool = False, halo: bool = False) -> None:
        """Write a line whose baseline is `y`.  `x_i` and `x_{ij}` are subscripts, `W^T` a superscript, `*x*` italic; a
        halo keeps it readable on lines."""
        weight = ' font-weight="600"' if bold else ""
        self._parts.append(f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}" '
                           f'fill="{colour_of(colour)}"{weight}{_HALO if halo else ""}>{_marked_up(text, size)}</text>')

    def lines(self, x: float, y: float, text: Iterable[str], size: float = 13, **style: Any) -> None:
        """Write several lines, the first at `y`."""
        for i, line in enumerate(text):
            self.text(x, y + i * size * 1.4, line, size=size, **style)

    def box(self, x: float, y: float, width: float, height: float, text: str = "", fill: str = "panel",
            outline: str = "rim", size: float = 14, dashed: bool = False, round: float = 6, bold: bool = False) -> None:
        """Draw a box with its text in the middle."""
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self._parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{round:g}" '
                           f'fill="{colour_of(fill)}" stroke="{colour_of(outline)}" stroke-width="1.2"{dash}/>')
        rows = text.split("\n") if text else []
        for i, row in enumerate(rows):
            self.text(x + width / 2, y + height / 2 + size * (0.36 + 1.3 * (i - (len(rows) - 1) / 2)), row, size=size,
                      bold=bold and not i)

    def line(self, points: Sequence[Point], colour: str = "soft", width: float = 1.5,
             dashed: bool = False) -> None:
        """Draw a line through points."""
        path = "M" + " L".join(f"{x:g},{y:g}" for x, y in points)
        self._parts.append(_path(path, colour, width, dashed))

    def arrow(self, start: Point, end: Point, colour: str = "soft", width: float = 1.6,
              bend: float = 0, text: str = "", aside: float = 10, dashed: bool = False, size: float = 13) -> None:
        """Draw an arrow, bent to its left by `bend` pixels, with text `aside` of its middle (to the left, or to the
        right where that is negative)."""
        (x1, y1), (x2, y2) = start, end
        length = math.hypot(x2 - x1, y2 - y1)
        left = ((y2 - y1) / length, (x1 - x2) / length)
        middle = ((x1 + x2) / 2 + 2 * bend * left[0], (y1 + y2) / 2 + 2 * bend * left[1])
        direction = (x2 - middle[0], y2 - middle[1])
        unit = [d / math.hypot(*direction) for d in direction]
        tip = 4 + 2 * width
        stop = (x2 - 0.8 * tip * unit[0], y2 - 0.8 * tip * unit[1])
        self._parts.append(_path(f"M{x1:.1f},{y1:.1f} Q{middle[0]:.1f},{middle[1]:.1f} {stop[0]:.1f},{stop[1]:.1f}",
                                 colour, width, dashed))
        back = (x2 - tip * unit[0], y2 - tip * unit[1])
        side = (-unit[1] * tip * 0.42, unit[0] * tip * 0.42)
        corners = ((x2, y2), (back[0] + side[0], back[1] + side[1]), (back[0] - side[0], back[1] - side[1]))
        self._parts.append(f'<polygon points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in corners)}" '
                           f'fill="{colour_of(colour)}"/>')
        if text:
            x = (x1 + x2) / 2 + (bend + aside) * left[0]
            y = (y1 + y2) / 2 + (bend + aside) * left[1]
            anchor = "middle" if abs(left[0]) < 0.5 else ("start" if left[0] * (bend + aside) > 0 else "end")
            self.text(x, y + 0.35 * size, text, colour, size, anchor, halo=True)

    def circle(self, x: float, y: float, radius: float, fill: str = "none", outline: str = "rim",
               width: float = 1.2) -> None:
        """Draw a circle around (x, y)."""
        self._parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{colour_of(fill)}" '
                           f'stroke="{colour_of(outline)}" stroke-width="{width:g}"/>')

    def polygon(self, points: Sequence[Point], fill: str = "none", outline: str = "rim",
                width: float = 1.2, opacity: float = 1) -> None:
        """Draw a closed shape."""
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polygon points="{corners}" fill="{colour_of(fill)}" fill-opacity="{opacity:g}" '
                           f'stroke="{colour_of(outline)}" stroke-width="{width:g}"/>')

    def matrix(self, x: float, y: float, values: Any, cell: float = 24, most: float | None = None,
               digits: int | None = 1, name: str = "", rim: str = "rim") -> Point:
        """Draw an array of one or two axes as cells: white is 0, orange positive, blue negative, NaN an empty cell,
        full colour at ±`most`.  Numbers are written with `digits`, or none; the name above.  Return its width and
        height."""
        values = np.atleast_2d(np.asarray(values, float))
        most = most or float(np.nanmax(np.abs(values))) or 1.0
        colours = diverging(0.85 * values / most)
        rows, columns = values.shape
        for (i, j), value in np.ndenumerate(values):
            empty = bool(np.isnan(value))
            fill = LIGHT["panel"] if empty else hexadecimal(colours[i, j])
            self._parts.append(f'<rect x="{x + j * cell:g}" y="{y + i * cell:g}" width="{cell:g}" height="{cell:g}" '
                               f'fill="{fill}" stroke="{LIGHT["line"]}" stroke-width="0.8"/>')
            if digits is not None and not empty:
                shown = number(value, digits)
                self.text(x + (j + 0.5) * cell, y + (i + 0.5) * cell + 0.15 * cell, shown, ink_on(colours[i, j]),
                          cell * min(0.42, 1.5 / len(shown)))
        self.frame(x, y, columns * cell, rows * cell, rim)
        if name:
            self.text(x + columns * cell / 2, y - 8, name)
        return columns * cell, rows * cell

    def frame(self, x: float, y: float, width: float, height: float, colour: str = "rim", thick: float = 1.2) -> None:
        """Draw an empty rectangle, such as one around cells of a matrix."""
        self._parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="none" '
                           f'stroke="{colour_of(colour)}" stroke-width="{thick:g}"/>')


def number(value: float, digits: int = 1) -> str:
    """Format a number as short as it can be read: 3, −0.5, and no −0."""
    text = f"{value:.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text.replace("-", "−")


def _path(path: str, colour: str, width: float, dashed: bool) -> str:
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return (f'<path d="{path}" fill="none" stroke="{colour_of(colour)}" stroke-width="{width:g}" '
            f'stroke-linecap="round" stroke-linejoin="round"{dash}/>')


def _marked_up(text: str, size: float) -> str:
    """Translate subscripts, superscripts and italics into `tspan` elements."""
    text = html.escape(text)
    text = _ITALIC.sub(r'<tspan font-style="italic">\1</tspan>', text)

    def shifted(match: re.Match[str]) -> str:
        down = size * (0.25 if match[1] == "_" else -0.35)
        inside = match[2].strip("{}")
        return (f'<tspan dy="{down:.1f}" font-size="{0.72 * size:.1f}">{inside}</tspan>'
                f'<tspan dy="{-down:.1f}">\u200b</tspan>')

    return _SHIFTED.sub(shifted, text)
