"""Building blocks of HTML that even an untrusted notebook shows: tables, foldable parts, heatmaps of arrays.

They use no scripts, no external resources and no essential styles.  Strings are escaped unless they are `Html`.
"""

from __future__ import annotations

import base64
import html
import re
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..core.describe import dtype_shape, statistics
from .palette import diverging, hexadecimal, ink_on

Array = np.ndarray

_PIXELS = 192  # maximum length of a picture's longer side
_CELL = 16  # maximum pixels of a cell


class Html(str):
    """A string that is HTML already and is not escaped again."""


def escape(text: Any) -> Html:
    """Escape any text for HTML; `Html` is returned as it is."""
    return text if isinstance(text, Html) else Html(html.escape(str(text)))


def code(text: str) -> Html:
    """Escape a text and set its `words` in backticks as code."""
    return Html(re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text)))


def details(summary: Any, body: Any, open: bool = False) -> Html:
    """Return a part that is folded until its summary is clicked."""
    return Html(f"<details{' open' * open}><summary>{escape(summary)}</summary>{escape(body)}</details>")


def table(rows: Iterable[Iterable[Any]], head: Iterable[Any] = ()) -> Html:
    """Return a table with left-aligned cells."""
    def line(cells: Iterable[Any], tag: str) -> str:
        # The attribute `align` works where styles are stripped.
        row = "".join(f'<{tag} align="left" style="text-align: left">{escape(cell)}</{tag}>' for cell in cells)
        return f'<tr valign="top">{row}</tr>'
    head = list(head)
    top = f"<thead>{line(head, 'th')}</thead>" if head else ""
    return Html(f"<table>{top}<tbody>{''.join(line(row, 'td') for row in rows)}</tbody></table>")


def grid(matrix: Any) -> Html:
    """Return a matrix (or vector, or number) as a table of numbers on the pale colours of a `heatmap`."""
    matrix = np.atleast_2d(np.asarray(matrix))
    colours = diverging(0.6 * _normalize(matrix.astype(float)))

    def cell(value: Any, rgb: Array) -> str:
        style = f"text-align: right; padding: 2px 7px; color: {ink_on(rgb)}; background-color: {hexadecimal(rgb)}"
        return f'<td align="right" style="{style}">{number(value)}</td>'

    rows = (f"<tr>{''.join(map(cell, values, row))}</tr>" for values, row in zip(matrix, colours))
    return Html(f"<table><tbody>{''.join(rows)}</tbody></table>")


def number(value: Any) -> str:
    """Format a number with four significant digits."""
    return f"{value:.4g}" if np.asarray(value).dtype.kind == "f" else str(value)


# ---------------------------------------------------------------------- pictures


def downsample(array: Any, rows: int = 64, columns: int = 64) -> Array:
    """Downsample any array to a matrix of at most `rows` × `columns` floats: last axis across, all others down.

    A block of a larger array is represented by its number of largest magnitude, so that a single spike stays visible,
    or by NaN if it contains one.
    """
    matrix = np.asarray(array)
    matrix = matrix.reshape(-1, matrix.shape[-1]) if matrix.ndim and matrix.size else matrix.reshape(1, -1)
    high = low = matrix
    for axis, most in enumerate((rows, columns)):
        if (n := matrix.shape[axis]) > most:
            starts = np.arange(most) * n // most
            high = np.maximum.reduceat(high, starts, axis)
            low = np.minimum.reduceat(low, starts, axis)
    high, low = high.astype(float), low.astype(float)
    return np.where(-low > high, low, high)


def png(rgb: Array) -> bytes:
    """Encode colours, uint8 of shape (height, width, 3), as a PNG file."""
    height, width, _ = rgb.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), rgb.reshape(height, -1)], axis=1)  # 0: an unfiltered line

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits each of red, green and blue
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines.tobytes())) + \
        chunk(b"IEND", b"")


def _normalize(matrix: Array) -> Array:
    """Divide by the largest finite magnitude."""
    finite = matrix[np.isfinite(matrix)]
    return matrix / (float(abs(finite).max(initial=0)) or 1.0)


def heatmap(array: Any, rows: int = 64, columns: int = 64) -> Html:
    """Return a picture of an array, downsampled (see `downsample`): 0 is white, negative blue, positive orange, and the
    largest magnitude darkest.  The alt text gives shape and range.  An array without elements gives no picture."""
    array = np.asarray(array)
    if not array.size:
        return Html("")
    matrix = downsample(array, rows, columns)
    colours = diverging(_normalize(matrix))
    cell = max(1, min(_CELL, _PIXELS // max(matrix.shape)))
    height, width = (n * cell for n in matrix.shape)
    data = base64.b64encode(png(colours.repeat(cell, 0).repeat(cell, 1))).decode()
    with np.errstate(over="ignore"):  # in the squares of huge numbers
        words = escape(f"{dtype_shape(array.shape, array.dtype)}: {statistics(array)}")
    return Html(f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{words}" '
                f'title="{words}" style="image-rendering: pixelated">')
