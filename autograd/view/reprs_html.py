"""The HTML reprs of Tensor and Tape, for notebooks."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np

from ..core.describe import call_text, plural, shape_text, source_text, statistics
from ..engine import Tape, Tensor
from .html import Html, details, escape, grid, heatmap, table
from .outline import Group, outline
from .text import SHOWN, number_records, record_type, some_items, totals

_SMALL = 8  # maximum rows and columns of an array that is shown by its numbers
_HEAD = ("", "shape", "made by", "name", "source")


def tensor_html(t: Tensor) -> Html:
    """Return shape, op and source line of a tensor; its numbers if they are few, otherwise statistics and a heatmap."""
    made = f"by {t.op.name}" if t.op is not None else record_type(t)
    facts = [t.name and repr(t.name), made, "has a gradient" if t._grad is not None else "", t.scope, source_text(t)]
    head = f"<b>Tensor</b> <code>{escape(shape_text(t))}</code> &nbsp; {escape(' · '.join(filter(None, facts)))}"
    shown = value_html(t._array) if t._array is not None else escape("freed: recomputed on access")
    grad = t._grad._array if type(t._grad) is Tensor else t._grad
    gradient = details("gradient", value_html(grad)) if grad is not None else ""
    return Html(f"<div><p>{head}</p>{shown}{gradient}</div>")


def value_html(value: Any) -> Html:
    """Return an array, or a tuple of arrays, as HTML."""
    if isinstance(value, tuple):
        return Html("".join(details(f"[{i}]", value_html(array)) if array is not None else f"<div>{i}</div>"
                            for i, array in some_items(value)))
    if not isinstance(value, (np.ndarray, np.generic)):
        return escape(f"no numbers: not a NumPy array but a {type(value).__name__}")
    if not value.size:
        return escape("no elements")
    if value.ndim <= 2 and max(value.shape, default=1) <= _SMALL:
        return grid(value)
    return details(statistics(value), heatmap(value))


def tape_html(tape: Tape) -> Html:
    """Return totals and a table of the records; a long tape is folded by scopes, and repeated groups are marked."""
    numbers = number_records(tape)
    if len(tape) > SHOWN:
        records = _group_html(outline(tape), numbers)
    else:
        records = table([[*_cells(t, numbers), t.scope] for t in tape], [*_HEAD, "scope"])
    return Html(f"<div><p><b>{escape(totals(tape))}</b></p>{records}</div>")


def _group_html(group: Group, numbers: dict[Tensor, int]) -> Html:
    """Return the records of a group in tables, with the inner groups folded between them."""
    blocks = []
    for folded, items in groupby(group.items, lambda item: isinstance(item, Group)):
        if not folded:
            blocks.append(_records_html(list(items), numbers))  # type: ignore[arg-type]
            continue
        for inner in items:
            assert isinstance(inner, Group)
            facts = [plural(sum(1 for _ in inner.records()), "record"),
                     f"{inner.times} identical" if inner.twins else "",
                     f"identical to {inner.twin_of.path}" if inner.twin_of else ""]
            summary = Html(f"<b>{escape(inner.path)}</b> · {escape(' · '.join(filter(None, facts)))}")
            body = Html(f'<div style="margin-left: 1.5em">{_group_html(inner, numbers)}</div>')
            blocks.append(details(summary, body))
    return Html("".join(blocks))


def _records_html(records: list[Tensor], numbers: dict[Tensor, int]) -> Html:
    """Return a table of records; of many only the first and last."""
    half = SHOWN // 2
    if len(records) <= SHOWN + 1:
        return table([_cells(t, numbers) for t in records])
    rows = [_cells(t, numbers) for t in [*records[:half], *records[-half:]]]
    rows.insert(half, [f"… {len(records) - 2 * half:,} more …"])
    return table(rows)


def _cells(t: Tensor, numbers: dict[Tensor, int]) -> list[Any]:
    return [f"%{numbers[t]}", Html(f"<code>{escape(shape_text(t))}</code>"), call_text(t, numbers), t.name,
            source_text(t)]
