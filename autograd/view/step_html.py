"""The HTML reprs of a step through a tape (`Stop`) and of the contributions to a gradient (`Ledger`)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.describe import call_text, describe, label, plural, shape_text, shorten, source_text
from ..engine import Tensor
from .card.mathematics import typeset
from .html import Html, details, escape, number, png, table
from .palette import diverging
from .reprs_html import value_html
from .text import SHOWN, norm, number_records, record_name, some_items

if TYPE_CHECKING:
    from .ledger import Contribution, Ledger
    from .step import Stop

_BAR = 80  # pixels of a bar for a share of 100 %


def stop_html(stop: Stop) -> Html:
    """Return the step's record and a table: forward, its inputs and value; backward, the incoming gradient and the
    gradients of its inputs."""
    t, names = stop.record, stop.names
    call = f"%{names[t]} {shape_text(t)} = {call_text(t, names)}"
    facts = [t.name and repr(t.name), t.scope, source_text(t)]
    head = (f"<b>{stop.phase.capitalize()} step {stop.number:,}</b> &nbsp; <code>{escape(call)}</code> &nbsp; "
            f"{escape(' · '.join(filter(None, facts)))}")
    body = _forward_html(stop) if stop.phase == "forward" else _backward_html(stop)
    return Html(f"<div><p>{head}</p>{body}</div>")


def _forward_html(stop: Stop) -> Html:
    t, names = stop.record, stop.names
    rows = [[t.op.input_name(i), _name(a, names), _array_html(value)]  # type: ignore[union-attr]
            for i, (a, value) in enumerate(zip(t.inputs, stop.inputs))]
    return table([*_shorten(rows), ["=", _name(t, names), _array_html(stop.output)]], ("", "record", "value"))


def _backward_html(stop: Stop) -> Html:
    names = stop.names
    rows = []
    for (a, d), (_, before, after), rule in zip(stop.sent, stop.sums[len(stop.sums) - len(stop.sent):], stop.rules):
        total = _array_html(after) if before is not None else "first contribution"
        gradient = Html(f"{_array_html(d)}<div>{typeset(rule)}</div>") if rule else _array_html(d)
        rows.append(["sends to", _name(a, names), gradient, total])
    incoming = ["incoming", _name(stop.record, names), _array_html(stop.gradient), ""]
    return table([incoming, *_shorten(rows)], ("", "record", "gradient", "sum at that record"))


def _shorten(rows: list[list[Any]]) -> list[list[Any]]:
    """Replace the middle of many rows by one that tells how many are left out."""
    return [[row] if isinstance(row, str) else row for row in shorten(rows)]


def ledger_html(ledger: Ledger) -> Html:
    """Return a table of the contributions in the order of the backward pass (of many the largest), and their sum; the
    gradients are folded."""
    names = number_records(ledger.tape)
    head = (f"<b>Gradient of</b> <code>{escape(f'%{names[ledger.tensor]} {label(ledger.tensor)}')}</code>: norm "
            f"{norm(ledger.total):.4g}, of {plural(len(ledger), 'contribution')}")
    by_norm = sorted(ledger, key=lambda c: -c.norm if c.norm >= 0 else -np.inf)  # NaN is as large as can be
    shown, rest = set(by_norm[:SHOWN]), by_norm[SHOWN:]
    rows = [_contribution_cells(c, names) for c in ledger if c in shown]
    if rest:
        rows.append([_share_html(sum(c.share for c in rest)), "", f"… {plural(len(rest), 'smaller contribution')} …"])
    listed = table(rows, ("share", "norm", "from", "gradient"))
    return Html(f"<div><p>{head}</p>{listed}{details('sum', _array_html(ledger.total))}</div>")


def _contribution_cells(c: Contribution, names: dict[Tensor, int]) -> list[Any]:
    t, source = c.record, escape("the seed of the backward pass")
    if t is not None:
        where = " · ".join(filter(None, [t.scope, source_text(t)]))
        source = Html(f"{escape(_name(t, names))} {escape(call_text(t, names))}<br><small>{escape(where)}</small>")
    return [_share_html(c.share), f"{c.norm:.4g}", source, _array_html(c.gradient)]


def _share_html(share: float) -> Html:
    """Return `40.0%` over a bar, orange for a positive share and blue for a negative one, as in a heatmap."""
    if not np.isfinite(share):
        return escape(share)
    width = max(1, round(_BAR * min(abs(share), 1)))
    colours = diverging(np.full((6, width), 0.6 if share > 0 else -0.6))  # every pixel: notebooks keep the aspect ratio
    data = base64.b64encode(png(colours)).decode()
    return Html(f'{share:z.1%}<br><img src="data:image/png;base64,{data}" width="{width}" height="6" alt="">')


def _array_html(value: Any) -> Html:
    """Return an array, a tuple or dict of arrays, or any other argument of an op as HTML."""
    if isinstance(value, (tuple, dict)):
        return Html("".join(f"<div>[{i}] {_array_html(array)}</div>" if array is not None else f"<div>{i}</div>"
                            for i, array in some_items(value)))
    if isinstance(value, (np.ndarray, np.generic)):
        return escape(number(value)) if np.ndim(value) == 0 else value_html(value)
    return escape(describe(value))


def _name(a: Any, names: dict[Tensor, int]) -> str:
    return record_name(a, names) if type(a) is Tensor else ""
