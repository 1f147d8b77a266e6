"""SVG pictures of this package as PNG, rasterized by Graphviz, for notebooks that do not show SVG."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any
from xml.etree import ElementTree

from ..palette import LIGHT
from .render import NoGraphviz, render_dot

_DPI = 144  # twice the size that the SVG has on a page, for sharp screens
_STRING = 8000  # characters of a string in Graphviz's language, which has at most 16384
_ENDS = {0: "", 1: r"\l", -1: r"\r"}  # of a line that is centred, starts or ends at its place
_CURVES = {"C": 6, "M": 2, "L": 2, "H": 1, "V": 1, "Z": 0}  # commands of a path, and the numbers that each takes


class Picture(str):
    """An SVG picture, which a notebook shows as PNG too."""

    def _repr_mimebundle_(self, include: Iterable[str] | None = None, exclude: Iterable[str] | None = None,
                          **_: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = {"image/svg+xml": str(self), "text/plain": "<an SVG picture>"}
        with suppress(NoGraphviz):
            bundle["image/png"] = rasterize(self)
        kept = set(bundle if include is None else include) - set(exclude or ())
        return {mimetype: data for mimetype, data in bundle.items() if mimetype in kept}


def picture_source(svg: str) -> str:
    """Return the `src` of an <img>: the picture as PNG, or as SVG without Graphviz; some hosts drop SVG there."""
    kind, data = "svg+xml", svg.encode()
    with suppress(NoGraphviz):
        kind, data = "png", rasterize(svg)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def rasterize(svg: str) -> bytes:
    """Return an SVG of rectangles, circles, paths and texts, with colours as attributes, as PNG.  Raises NoGraphviz."""
    root = ElementTree.fromstring(re.sub(r' xmlns="[^"]*"', "", svg, count=1))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    drawing = " ".join(part for element in root.iter() for part in _draw(element, width / 2, height / 2))
    drawing = '" + "'.join(drawing[i:i + _STRING] for i in range(0, len(drawing), _STRING))
    texts = "\n".join(_write(element, root.attrib, width / 2, height / 2) for element in root.iter("text"))
    page = f'viewport="{width},{height},1,0,0" dpi={_DPI} pad=0 margin=0 mode=KK notranslate=true inputscale=72'
    return render_dot(f'graph {{ {page} bgcolor="transparent" _background="{drawing}"\n'
                      f'node [shape=box fixedsize=true margin=0 label="" penwidth=0] edge [style=invis]\n'
                      f'page [width={width / 72:.6f} height={height / 72:.6f} pos="0,0!"]\n{texts} }}', "png", "neato")


def _write(element: Any, root: Mapping[str, str], cx: float, cy: float) -> str:
    """Return a node whose label is the text: xdot's own command for it makes some builds of Graphviz crash."""
    at = element.attrib
    size = float(at.get("font-size", root.get("font-size", 12)))
    anchor = {"middle": 0, "end": -1}.get(at.get("text-anchor", ""), 1)
    width = size * len(element.text or "") + 4  # more than it takes: what leaves the page is cut off
    x, y = float(at["x"]) - cx + anchor * width / 2, cy - float(at["y"]) + 0.36 * size
    text = html.escape(element.text or "").replace("\\", "&#92;").replace("\n", " ")
    color = _color(at.get("fill", root.get("fill", LIGHT["ink"])), at.get("fill-opacity", "1"))
    font = "Helvetica-Bold" if at.get("font-weight") == "600" else "Helvetica"
    name = f'"{x:.2f} {y:.2f} {anchor}"'
    return f'{name} [width={width / 72:.4f} height=0.01 fontsize={size:g} fontname="{font}" fontcolor="{color}" ' \
           f'pos="{x:.2f},{y:.2f}!" label="{text}{_ENDS[anchor]}"] page -- {name}'


def _draw(element: Any, cx: float, cy: float) -> Iterator[str]:
    """Yield the commands of Graphviz's xdot language that draw an element but a text, around the centre (cx, cy)
    of the page; y grows upwards there."""
    at, name = element.attrib, element.tag
    if name not in ("rect", "path", "circle"):
        return
    filled = at.get("fill", "") if at.get("fill") != "none" else ""
    if filled:
        yield f'C {_string(_color(filled, at.get("fill-opacity", "1")))} c {_string(_color(filled, "0"))}'
        yield from _shapes(name, at, cx, cy, True)
    if "stroke" in at:
        dashed = "dashed" if "stroke-dasharray" in at else "solid"
        width = _string(f"setlinewidth({at.get('stroke-width', '1')})")
        yield f'S {_string(dashed)} S {width} c {_string(_color(at["stroke"], at.get("stroke-opacity", "1")))}'
        yield from _shapes(name, at, cx, cy, False)


def _shapes(name: str, at: Mapping[str, str], cx: float, cy: float, is_filled: bool) -> Iterator[str]:
    """Yield the commands for the outline of an element, filled or not."""
    if name == "circle":
        x, y, r = (float(at[key]) for key in ("cx", "cy", "r"))
        yield f"{'E' if is_filled else 'e'} {x - cx:.2f} {cy - y:.2f} {r:.2f} {r:.2f}"
        return
    if name == "rect":
        x, y, width, tall = (float(at[key]) for key in ("x", "y", "width", "height"))
        outlines = [("P", [(x, y), (x + width, y), (x + width, y + tall), (x, y + tall)])]
    else:
        outlines = list(_trace(at["d"]))
    for kind, points in outlines:
        command = {"B": "b" if is_filled else "B", "P": "P" if is_filled else "p"}.get(kind, "P" if is_filled else "L")
        yield " ".join([command, str(len(points)), *(f"{x - cx:.2f} {cy - y:.2f}" for x, y in points)])


def _trace(d: str) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Yield the pieces of a path: P, a polygon; L, a line; or B, a curve; and its points."""
    points: list[tuple[float, float]] = []
    kind, x, y = "L", 0.0, 0.0
    for letter, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", d):
        values = [float(v) for v in re.findall(r"-?[\d.]+(?:e-?\d+)?", numbers)]
        command, (dx, dy) = letter.upper(), (x, y) if letter.islower() else (0.0, 0.0)
        if command == "M" and points:
            yield kind, points
            points = []
        kind = {"M": "L", "C": "B", "Z": "P"}.get(command, kind)
        n = _CURVES[command]
        for i in range(0, len(values), n or 1):
            part = values[i:i + n]
            pairs = [(part[0] + dx, y)] if command == "H" else [(x, part[0] + dy)] if command == "V" else \
                [(part[k] + dx, part[k + 1] + dy) for k in range(0, n, 2)]
            points += pairs
            x, y = pairs[-1]
            dx, dy = (x, y) if letter.islower() else (0.0, 0.0)
    if points:
        yield kind, points


def _color(color: str, opacity: str) -> str:
    """Return a colour `#rrggbb` with its opacity."""
    return f"{color}{round(255 * float(opacity)):02x}"


def _string(text: str) -> str:
    """Return a text as xdot writes it: the number of its bytes, then the text."""
    return f"{len(text.encode())} -{text}"
