"""A Tensor and a Tape as a notebook shows them."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np

from ..core.describe import call_text, plural, shape_text, source_text, statistics
from ..engine import Tape, Tensor
from .html import Html, details, escape, grid, heatmap, table
from .outline import Group, outline
from .text import SHOWN, number_records, some_items, totals

_SMALL = 8  # rows and columns up to which numbers are shown
_HEAD = ("", "shape", "made by", "name", "source")


def tensor_html(t: Tensor) -> Html:
    """What it is and where it was made; its numbers if they are few, otherwise their range, and a picture to unfold."""
    made = "parameter" if t.op is None and t.requires_grad else "constant" if t.op is None else f"by {t.op.name}"
    facts = [t.name and repr(t.name), made, "has a gradient" if t._grad is not None else "", t.scope, source_text(t)]
    head = f"<b>Tensor</b> <code>{escape(shape_text(t))}</code> &nbsp; {escape(' · '.join(filter(None, facts)))}"
    shown = value_html(t._array) if t._array is not None else escape("freed: it is computed again when asked for")
    grad = t._grad._array if type(t._grad) is Tensor else t._grad
    gradient = details("gradient", value_html(grad)) if grad is not None else ""
    return Html(f"<div><p>{head}</p>{shown}{gradient}</div>")


def value_html(value: Any) -> Html:
    """An array, or a tuple of arrays."""
    if isinstance(value, tuple):
        return Html("".join(details(f"[{i}]", value_html(part)) if part is not None else f"<div>{i}</div>"
                            for i, part in some_items(value)))
    if not isinstance(value, (np.ndarray, np.generic)):
        return escape(f"no numbers: not a NumPy array but a {type(value).__name__}")
    if not value.size:
        return escape("no elements")
    if value.ndim <= 2 and max(value.shape, default=1) <= _SMALL:
        return grid(value)
    return details(statistics(value), heatmap(value))


def tape_html(tape: Tape) -> Html:
    """Totals, and a table of the records; a long one folded by scopes, in which a group made like the one before it
    says so."""
    numbers = number_records(tape)
    if len(tape) > SHOWN:
        records = _group_html(outline(tape), numbers)
    else:
        records = table([[*_cells(t, numbers), t.scope] for t in tape], [*_HEAD, "scope"])
    return Html(f"<div><p><b>{escape(totals(tape))}</b></p>{records}</div>")


def _group_html(group: Group, numbers: dict[Tensor, int]) -> Html:
    """The records of a group in tables, and the groups within it folded between them."""
    made = []
    for folded, items in groupby(group.items, lambda item: isinstance(item, Group)):
        if not folded:
            made.append(_records_html(list(items), numbers))  # type: ignore[arg-type]
            continue
        for inner in items:
            assert isinstance(inner, Group)
            facts = [plural(sum(1 for _ in inner.records()), "record"), f"{inner.times} alike" if inner.twins else "",
                     f"like {inner.twin_of.path}" if inner.twin_of else ""]
            summary = Html(f"<b>{escape(inner.path)}</b> · {escape(' · '.join(filter(None, facts)))}")
            made.append(details(summary, Html(f'<div style="margin-left: 1.5em">{_group_html(inner, numbers)}</div>')))
    return Html("".join(made))


def _records_html(records: list[Tensor], numbers: dict[Tensor, int]) -> Html:
    """A table of records, of many the first and the last."""
    half = SHOWN // 2
    if len(records) <= SHOWN + 1:
        return table([_cells(t, numbers) for t in records])
    rows = [_cells(t, numbers) for t in [*records[:half], *records[-half:]]]
    rows.insert(half, [f"… {len(records) - 2 * half:,} more …"])
    return table(rows)


def _cells(t: Tensor, numbers: dict[Tensor, int]) -> list[Any]:
    return [f"%{numbers[t]}", Html(f"<code>{escape(shape_text(t))}</code>"), call_text(t, numbers), t.name,
            source_text(t)]
