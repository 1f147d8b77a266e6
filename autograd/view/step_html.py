"""A step of a walk over a tape, and the contributions to a gradient, as a notebook shows them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.describe import call_text, describe, label, plural, shape_text, shortened, source_text
from ..engine import Tensor
from .html import Html, details, diverging, escape, number, png, table
from .reprs_html import value_html
from .text import SHOWN, norm, number_records, record_name, some_items

if TYPE_CHECKING:
    from .ledger import Contribution, Ledger
    from .step import Stop

_BAR = 80  # pixels of a share of 100 %


def stop_html(stop: Stop) -> Html:
    """The record whose turn it is, and a table: forward of its inputs and its value, backward of the gradient that has
    come in and of what is sent to which input."""
    t, names = stop.record, stop.names
    made = f"%{names[t]} {shape_text(t)} = {call_text(t, names)}"
    facts = [t.name and repr(t.name), t.scope, source_text(t)]
    head = (f"<b>{stop.phase.capitalize()} step {stop.number:,}</b> &nbsp; <code>{escape(made)}</code> &nbsp; "
            f"{escape(' · '.join(filter(None, facts)))}")
    body = _forward_html(stop) if stop.phase == "forward" else _backward_html(stop)
    return Html(f"<div><p>{head}</p>{body}</div>")


def _forward_html(stop: Stop) -> Html:
    t, names = stop.record, stop.names
    rows = [[t.op.input_name(i), _who(a, names), _shown(value)]  # type: ignore[union-attr]
            for i, (a, value) in enumerate(zip(t.inputs, stop.inputs))]
    return table([*_some(rows), ["=", _who(t, names), _shown(stop.output)]], ("", "record", "value"))


def _backward_html(stop: Stop) -> Html:
    names = stop.names
    rows = []
    for (a, d), (_, before, after) in zip(stop.sent, stop.sums[len(stop.sums) - len(stop.sent):]):
        its_sum = _shown(after) if before is not None else "the first to arrive"
        rows.append(["sends to", _who(a, names), _shown(d), its_sum])
    came_in = ["came in", _who(stop.record, names), _shown(stop.gradient), ""]
    return table([came_in, *_some(rows)], ("", "record", "gradient", "sum at that record"))


def _some(rows: list[list[Any]]) -> list[list[Any]]:
    """Of many rows the first and the last, and one between that says how many are left out."""
    return [[row] if isinstance(row, str) else row for row in shortened(rows)]


def ledger_html(ledger: Ledger) -> Html:
    """A table of the contributions in the order of the walk back, of many the largest, each with its gradient to
    unfold; and their sum."""
    names = number_records(ledger.tape)
    head = (f"<b>Gradient of</b> <code>{escape(f'%{names[ledger.tensor]} {label(ledger.tensor)}')}</code>: norm "
            f"{norm(ledger.total):.4g}, of {plural(len(ledger), 'contribution')}")
    by_norm = sorted(ledger, key=lambda c: -c.norm if c.norm >= 0 else -np.inf)  # NaN is as large as can be
    shown, rest = set(by_norm[:SHOWN]), by_norm[SHOWN:]
    rows = [_contribution(c, names) for c in ledger if c in shown]
    if rest:
        rows.append([_share(sum(c.share for c in rest)), "", f"… {plural(len(rest), 'smaller contribution')} …"])
    listed = table(rows, ("share", "norm", "from", "", "scope", "source", "gradient"))
    return Html(f"<div><p>{head}</p>{listed}{details('their sum', _shown(ledger.total))}</div>")


def _contribution(c: Contribution, names: dict[Tensor, int]) -> list[Any]:
    """The cells of a contribution."""
    t = c.record
    source = ["", "where the walk starts", "", ""] if t is None else \
        [_who(t, names), call_text(t, names), t.scope, source_text(t)]
    return [_share(c.share), f"{c.norm:.4g}", *source, _shown(c.gradient)]


def _share(share: float) -> Html:
    """`40.0%` and a bar, orange for what goes with the sum and blue for what goes against it, as in a heatmap."""
    if not np.isfinite(share):
        return escape(share)
    width = max(1, round(_BAR * min(abs(share), 1)))
    colours = diverging(np.full((6, width), 0.6 if share > 0 else -0.6))  # all its pixels, as notebooks keep the aspect
    data = base64.b64encode(png(colours)).decode()
    return Html(f'{share:.1%}<br><img src="data:image/png;base64,{data}" width="{width}" height="6" alt="">')


def _shown(value: Any) -> Html:
    """An array, several in a tuple or a dict, or what an op was given beside arrays."""
    if isinstance(value, (tuple, dict)):
        return Html("".join(f"<div>[{i}] {_shown(part)}</div>" if part is not None else f"<div>{i}</div>"
                            for i, part in some_items(value)))
    if isinstance(value, (np.ndarray, np.generic)):
        return escape(number(value)) if np.ndim(value) == 0 else value_html(value)
    return escape(describe(value))


def _who(a: Any, names: dict[Tensor, int]) -> str:
    return record_name(a, names) if type(a) is Tensor else ""
