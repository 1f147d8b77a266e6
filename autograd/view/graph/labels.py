"""Texts of a graph: titles of boxes and frames, and arbitrary text in Graphviz's language."""

from __future__ import annotations

import html
import unicodedata
from collections import Counter
from typing import Any

from ...core.describe import plural
from ..palette import LIGHT
from .fold import Box, Fold, Frame, Rest, is_item

INK, SOFT, BACKWARD = LIGHT["ink"], LIGHT["soft"], LIGHT["backward"]
GAP = "\N{NO-BREAK SPACE}"  # browsers drop a plain space between two elements of a line


def name_box(box: Box) -> str:
    """Return the first line of a box: `c_attn linear`, `matmul`, a leaf's name, `h.0 … h.3 × 4`."""
    t = box.op
    if t is None:
        return f"<b>{escape_text(box.title)}</b>{format_times(box)}"
    if t.op is None:
        return f"<b>{escape_text(t.name)}</b>" if t.name else "parameter" if t.requires_grad else "constant"
    name = escape_text(f"item {t.attrs.get('i', 0)}" if is_item(t) else t.op.name)
    return (f"<b>{escape_text(box.title)}</b>{GAP}{name}" if box.title else f"<b>{name}</b>") + format_times(box)


def describe_contents(folded: Fold, box: Box) -> list[str]:
    """Return `15 operations` for a closed scope."""
    if box.op is not None or isinstance(box.group, Rest):
        return []
    n = sum(t.op is not None and not is_item(t) for t in folded.firsts(box))
    return [plural(n, "operation") + " each" * (box.times > 1)]


def format_times(item: Box | Frame) -> str:
    """Return ` × 4` for identical scopes that are drawn once."""
    return f"{GAP}× {item.times:,}" if item.times > 1 else ""


def describe_run(item: Box | Frame) -> str:
    """Explain `× 4` in the legend."""
    wiring = "chained one after the other" if item.chained else "in parallel"
    return f"{item.title} × {item.times:,}: identical scopes {wiring}, drawn once"


def add_count(n: int, text: str) -> str:
    """Return `3 × f64[2]`, or the text alone for one."""
    return f"{n} × {text}" if n > 1 else text


def describe_group(item: Box | Frame) -> str:
    """Return the path of a scope and its most frequent operations."""
    records = [t for t in item.group.records() if t.op is not None]  # type: ignore[union-attr]
    ops = Counter(t.op.name for t in records if not is_item(t))  # type: ignore[union-attr]
    return "\n".join([f"{item.group.path or item.title}{format_times(item)}",  # type: ignore[union-attr]
                      ", ".join(f"{n} {name}" if n > 1 else name for name, n in ops.most_common(8))])


# ---------------------------------------------------------------------- arbitrary text in Graphviz's language
def clean(text: Any) -> str:
    """Drop what XML cannot contain, control characters and lone surrogates, and truncate a long text."""
    text = str(text).encode("utf-8", "replace").decode()
    text = "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else "�" for c in text)
    return text if len(text) <= 2000 else text[:1999] + "…"


def escape_text(text: Any) -> str:
    """Escape a text for Graphviz's HTML, on one line; a backslash starts an escape sequence there."""
    text = " ".join(clean(text).split())
    return html.escape(text if len(text) <= 90 else text[:89] + "…").replace("\\", r"\\")


def small_text(text: str, color: str = SOFT) -> str:
    """Return an escaped text in small letters."""
    return f'<font point-size="9" color="{color}">{escape_text(text)}</font>'


def quote(text: str) -> str:
    """Escape a text of several lines for a tooltip, where Graphviz resolves escape sequences twice."""
    return html.escape(clean(text)).replace("\\", r"\\\\").replace("\n", r"\n")
