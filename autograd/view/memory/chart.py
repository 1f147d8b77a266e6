"""Charts of memory over the steps of a forward and backward pass, as SVG: bytes by kind, and the map of an arena."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ...core.describe import format_bytes
from ..graph.raster import Picture
from ..html import escape
from ..palette import GREY, MEMORY, PEAK

COLOURS = tuple(MEMORY.values())
_WIDTH, _HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 44, 44  # margins around the plot
Scale = Callable[[float], float]  # from data to pixels
_COLUMNS = 640   # maximum points of a line; steps that share a column are drawn by their maximum
_BOXES = 4000    # maximum rectangles of a map: the largest ones


def stacked_areas(layers: dict[str, list[int]], high: list[int], n_forward: int, peak: str) -> str:
    """Draw the named `layers` as stacked areas, under a line `high` whose maximum is marked and labelled `peak`.  A
    dashed line separates the first `n_forward` steps from the rest."""
    n, most = len(high), max(high, default=0)
    tick = _tick(most)
    top = max(tick * math.ceil(most / tick), 1)
    x_scale = (_WIDTH - _LEFT - _RIGHT) / max(n, 1)

    def x(step: float) -> float:
        return _LEFT + step * x_scale

    def y(n_bytes: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * n_bytes / top

    parts = _grid(tick, top, y)
    below = [0] * n
    for colour, layer in zip(COLOURS, layers.values()):
        above = [a + b for a, b in zip(below, layer)]
        upper, lower = _outline(above, x, y), _outline(below, x, y)
        parts.append(f'<path d="M{" L".join(upper + lower[::-1])}Z" fill="{colour}" fill-opacity=".85"/>')
        below = above
    if n:
        parts.append(f'<path d="M{" L".join(_outline(high, x, y))}" fill="none" stroke="{GREY}" stroke-width="1"/>')
        parts += _phases(n_forward, n, x)
        parts += _mark(x(high.index(most) + 0.5), y(most), peak, [y(i * tick) for i in range(round(top / tick) + 1)])
    return _picture([*parts, *_legend(dict(zip(layers, COLOURS)), "line: with temporary memory")])


def arena_map(layers: dict[str, list[tuple[int, int, int, int]]], n: int, n_forward: int, n_bytes: int, step: int,
              words: str) -> str:
    """Draw the map of `n_bytes` of memory over `n` steps: a rectangle for each (first step, last step, offset, bytes)
    of the named `layers`; `step` is marked and labelled `words`."""
    tick = _tick(n_bytes)
    top = max(tick * math.ceil(n_bytes / tick), 1)
    x_scale, y_scale = (_WIDTH - _LEFT - _RIGHT) / max(n, 1), (_HEIGHT - _TOP - _BOTTOM) / top

    def x(step: float) -> float:
        return _LEFT + step * x_scale

    def y(n_bytes: float) -> float:
        return _HEIGHT - _BOTTOM - n_bytes * y_scale

    colours = {name: colour for name, colour in zip(layers, (*COLOURS, GREY)) if layers[name]}
    coloured = [(colour, box) for name, colour in colours.items() for box in layers[name]]
    largest = sorted(coloured, key=lambda item: -item[1][3])[:_BOXES]
    parts = []
    for colour in colours.values():
        line = "".join(f"M{x(first):.1f} {y(start):.1f}h{(last - first + 1) * x_scale:.2f}v{-size * y_scale:.2f}"
                       f"h{-(last - first + 1) * x_scale:.2f}z"
                       for box_colour, (first, last, start, size) in largest if box_colour == colour)
        parts.append(f'<path d="{line}" fill="{colour}" fill-opacity=".75" stroke="{colour}" stroke-width=".5"/>')
    parts += _grid(tick, top, y)
    if n:
        parts.append(f'<path d="M{x(step + 0.5):.1f} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="{PEAK}"/>')
        parts += [*_phases(n_forward, n, x), *_mark(x(step + 0.5), y(top), words)]
    return _picture([*parts, *_legend(colours)])


def _picture(parts: list[str]) -> Picture:
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    return Picture(f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif" '
                   f'font-size="12" fill="{GREY}">{"".join(parts)}</svg>')


def _tick(most: float) -> float:
    """Return a round distance between grid lines, such that at most five lie above 0."""
    if most <= 5:
        return 1
    power = 10 ** math.floor(math.log10(most / 5))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * 5 >= most)


def _grid(tick: float, top: float, y: Scale) -> list[str]:
    rows = []
    for i in range(round(top / tick) + 1):
        rows.append(f'<path d="M{_LEFT} {y(i * tick):.1f}H{_WIDTH - _RIGHT}" stroke="{GREY}" stroke-opacity=".25"/>'
                    f'<text x="{_LEFT - 8}" y="{y(i * tick) + 4:.1f}" text-anchor="end">{format_bytes(i * tick)}'
                    "</text>")
    return rows


def _outline(heights: list[int], x: Scale, y: Scale) -> list[str]:
    """Return the points of a step line, constant within each step."""
    n, width = len(heights), math.ceil(len(heights) / _COLUMNS) or 1
    points = []
    for start in range(0, n, width):
        level = f"{y(max(heights[start:start + width])):.1f}"
        points += [f"{x(start):.1f} {level}", f"{x(min(start + width, n)):.1f} {level}"]
    return points


def _phases(n_forward: int, n: int, x: Scale) -> list[str]:
    bottom = _HEIGHT - _BOTTOM
    middle = [(n_forward / 2, "forward"), ((n_forward + n) / 2, "backward")][:1 + (n > n_forward)]
    words = [f'<text x="{x(step):.1f}" y="{bottom + 18}" text-anchor="middle">{word}</text>' for step, word in middle]
    return [f'<path d="M{x(n_forward):.1f} {_TOP}V{bottom + 8}" stroke="{GREY}" stroke-dasharray="3 3"/>', *words,
            f'<text x="{_LEFT}" y="{bottom + 34}" fill-opacity=".9">step 0</text>'
            f'<text x="{_WIDTH - _RIGHT}" y="{bottom + 34}" text-anchor="end">{n - 1:,}</text>']


def _mark(x: float, y: float, words: str, lines: Sequence[float] = ()) -> list[str]:
    """Draw the peak as a dot, with its label on the side that has room, above any of the grid's `lines` that would
    strike it through."""
    side = "start" if x + 8 + 7 * len(words) < _WIDTH else "end"
    at = x - 8 if side == "end" else x + 8
    base = min([y - 7, *(line - 4 for line in lines if y - 18 < line < y - 4)])
    return [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{PEAK}"/>'
            f'<text x="{at:.1f}" y="{base:.1f}" text-anchor="{side}" font-weight="600">{escape(words)}</text>']


def _legend(colours: dict[str, str], line: str = "") -> list[str]:
    """Draw the colours of the layers with their names, and of the line above them."""
    rows, x = [], _LEFT
    for name, colour in colours.items():
        rows.append(f'<rect x="{x}" y="8" width="11" height="11" rx="2" fill="{colour}" fill-opacity=".85"/>'
                    f'<text x="{x + 17}" y="18">{escape(name)}</text>')
        x += 34 + 7 * len(name)
    if line:
        rows.append(f'<path d="M{x} 13.5H{x + 14}" fill="none" stroke="{GREY}"/>'
                    f'<text x="{x + 20}" y="18">{line}</text>')
    return rows
