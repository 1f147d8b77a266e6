"""A card for one record: formula and gradients, numbers, Jacobian, and a check of the gradient on the spot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...core.arrays import as_tuple
from ...core.describe import describe, label, record_line, shape_text, shorten, statistics
from ...core.errors import changed_error
from ...core.mode import within
from ...core.multi_output import shape_and_dtype
from ...engine import Tensor, reverse, tape
from ..backward import restore_freed
from ..html import Html, code, details, escape, grid, heatmap, number, table
from ..text import number_records
from .jacobian import (
    Residual,
    apply_vjp,
    at,
    check_gradients,
    compute_jacobians,
    find_needed,
    flatten,
    float_arrays,
    is_array,
    shorten_error,
)
from .mathematics import find_description, find_formula, find_gradients, typeset
from .numbers import numbers_of_rule

_SMALL = 8  # rows and columns up to which numbers are shown
_LARGE = 64  # rows and columns up to which a Jacobian is computed
_TERMS = 4  # of a sum that is written out, the largest
_WIDTH = 100  # characters of a line of numbers


@dataclass
class Row:
    """A row of a card: the result of the record, or one of its inputs."""

    name: str
    description: str  # `%2 f64[3]`
    place: int = -1  # the number of the input; -1 for the result
    value: list[Any] = field(default_factory=list)  # its arrays, usually one; of many the ends, with a text between
    formula: str = ""  # of its gradient
    numbers: str = ""  # the formula with numbers put in
    gradient: list[Any] = field(default_factory=list)
    origin: str = ""  # where the gradient is from, in words
    jacobian: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)  # what its elements are: masked, say
    remarks: list[str] = field(default_factory=list)
    residual: Residual | None = None


class Card:
    """The card of record `t`: text in a terminal, HTML in a notebook.

    The incoming gradient is ∂loss/∂t, if a `loss` computed from t is given; otherwise the one that t has kept from
    `backward(keep=True)`, or all ones.  Raises ValueError if `loss` was not computed from t.
    """

    def __init__(self, t: Tensor, loss: Tensor | None = None):
        if not isinstance(loss, Tensor | None):
            raise TypeError(f"explain takes the loss, a Tensor that was made from this one, and not {describe(loss)}")
        behind = tape(t if loss is None else loss)
        if t not in behind:
            raise ValueError(f"{label(t)} is not behind this loss: see ag.tape(loss)")
        numbers = number_records(behind)
        self.line = record_line(t, numbers)
        self.words, self.formula, self.rows = _describe_leaf(t) if t.op is None else \
            _describe_operation(t, numbers)
        self.note = ""  # why there are no numbers
        with restore_freed(behind), within(observer=None), np.errstate(all="ignore"):
            try:
                self._fill_values(t, loss)
            except Exception as error:  # a formula or rule under development may raise anything
                failed = shape_and_dtype(t) is None
                self.note = f"{'It failed' if failed else 'No numbers'}: {shorten_error(error)}"

    def _fill_values(self, t: Tensor, loss: Tensor | None) -> None:
        """Put values and gradients into the rows, as far as they can be had."""
        result, *inputs = self.rows
        if t._array is not None:
            result.value = _copy_shown(t._array)
        for a in t.inputs:
            if type(a) is Tensor and a.version > t.created:
                raise changed_error(a, t)
        for row in inputs:
            if row.place >= 0:
                a = t.inputs[row.place]
                row.value = _copy_shown(a._value() if type(a) is Tensor else a)
                if row.place not in find_needed(t):
                    row.notes += describe_masked(a._value() if type(a) is Tensor else a, None)
        result.value = _copy_shown(t._value())
        g, result.origin = _find_incoming_gradient(t, loss)
        result.gradient = _copy_shown(float_arrays(g))
        if t.op is not None and g is not None:
            self._fill_gradients(t, g)

    def _fill_gradients(self, t: Tensor, g: Any) -> None:
        """Put the gradients of the inputs, their Jacobians and the check into their rows."""
        needed = set(find_needed(t))
        rows = {row.place: row for row in self.rows if row.place in needed}
        n, sent = _count_floats(t._value()), apply_vjp(t, g)
        jacobians = compute_jacobians(t, rows) if n <= _LARGE else {}
        for i, row in rows.items():
            row.gradient, m = _copy_shown(float_arrays(sent[i])), _count_floats(t.inputs[i]._value())
            row.notes += describe_masked(t.inputs[i]._value(), sent[i])
            row.numbers = numbers_of_rule(t, i, g, sent[i])
            if i in jacobians and m <= _LARGE and m:
                row.jacobian = jacobians[i]
                row.remarks += [_check_product(flatten(g), row.jacobian, flatten(sent[i]), t.inputs[i])]
            elif n * m:
                row.remarks += [f"Jacobian: {n:,} × {m:,} numbers, too many to show"]
        for i, residual in check_gradients(t, list(rows)).items():
            rows[i].residual = residual

    def __repr__(self) -> str:
        with np.errstate(all="ignore"):
            return _render_text(self)

    def _repr_html_(self) -> str:
        with np.errstate(all="ignore"):
            return _render_html(self)


def _describe_leaf(t: Tensor) -> tuple[str, str, list[Row]]:
    """Return the description, the (empty) formula and the row of a leaf."""
    text = "A parameter: backward gathers its gradient" if t.requires_grad else \
        f"A constant: no gradient flows to it{describe_dtype(t)}"
    return text, "", [Row(t.name or "value", shape_text(t))]


def _describe_operation(t: Tensor, numbers: dict[Tensor, int]) -> tuple[str, str, list[Row]]:
    """Return the description of an op, its formula, and rows for the record's result and inputs."""
    formula, formulas = find_formula(t.op), find_gradients(t.op)
    rows = [Row(formula[0] if formula[:1] in ("y", "z", "L") else "y", shape_text(t))]
    for place in shorten(range(len(t.inputs)), "more inputs"):
        if isinstance(place, str):
            rows.append(Row("", place))
            continue
        a, name = t.inputs[place], t.op.input_name(place)  # type: ignore[union-attr]
        if type(a) is not Tensor:
            remarks = [f"an array: no gradient flows to it{describe_dtype(a)}"] if is_array(a) else []
            rows.append(Row(name, describe(a), place, remarks=remarks))
            continue
        row = Row(name, " ".join(filter(None, [f"%{numbers[a]}", a.name and repr(a.name), shape_text(a)])), place)
        if not t.requires_grad:
            row.remarks.append("no gradient flows through")
        elif a.requires_grad:
            row.formula = formulas.get(name.partition("[")[0]) or f"∂L/∂{name}"
        else:
            row.remarks.append(f"constant: no gradient flows to it{describe_dtype(a)}")
        rows.append(row)
    return find_description(t.op), formula, rows


def _copy_shown(value: Any) -> list[Any]:
    """Return copies of the arrays in a value, since a leaf may change while the card is looked at; of many the first
    and the last, with a text between.  Raises TypeError for arrays of another library."""
    arrays = shorten([a for a in as_tuple(value) if is_array(a)], "more arrays")
    for array in arrays:
        if not isinstance(array, (np.ndarray, np.generic, str)):
            raise TypeError(f"not a NumPy array but a {type(array).__name__}")
    return [array if isinstance(array, str) else np.array(array) for array in arrays]


def _count_floats(value: Any) -> int:
    """Return the number of floating-point numbers in an array or a tuple of arrays."""
    return sum(a.size for a in float_arrays(value))


def _find_incoming_gradient(t: Tensor, loss: Tensor | None) -> tuple[Any, str]:
    """Return the gradient of `t` (or None), and in words where it is from."""
    if loss is not None:
        for record, g, _ in reverse([loss], [np.ones_like(loss._value())], [t], keep=True):
            if record is t:
                return g, f"where L is {label(loss)}"
        return None, "nothing comes here from this loss"
    g = t._grad._value() if type(t._grad) is Tensor else t._grad
    if t.op is not None and not t.requires_grad:
        return None, "a constant: no gradient flows to it"
    if t.op is None:
        return g, "gathered by backward" if g is not None else ""
    if g is not None:
        return g, "kept by backward(keep=True)"
    ones = tuple(np.ones_like(a) for a in as_tuple(t._value()))
    return ones if isinstance(t._value(), tuple) else ones[0], \
        "all ones, as if L were the sum of all elements: explain(loss) shows the real one"


def describe_dtype(a: Any) -> str:
    """Return ` (integers have no derivative)`, and the same for booleans; "" for floating-point numbers."""
    names = {"b": "booleans", "i": "integers", "u": "integers"}
    found = names.get(a.dtype.kind) if not (type(a) is Tensor and (a._array is None or type(a._array) is tuple)) else ""
    return f" ({found} have no derivative)" if found else ""


def describe_masked(value: Any, sent: Any) -> list[str]:
    """Say how many elements are −inf, inf or NaN (or of a mask False), and that no gradient is sent to them if so."""
    notes = []
    for a, d in zip(as_tuple(value), as_tuple(sent) if sent is not None else [None] * len(as_tuple(value))):
        if not isinstance(a, np.ndarray) or not a.ndim:
            continue
        odd = {"False": ~a} if a.dtype == bool else {"−inf": a == -np.inf, "inf": a == np.inf, "NaN": np.isnan(a)} \
            if a.dtype.kind == "f" else {}
        for name, mask in odd.items():
            if n := int(mask.sum()):
                nothing = ", and no gradient is sent to them" if d is not None and not d[mask].any() else ""
                notes.append(f"masked: {n:,} of {a.size:,} are {name}{nothing}" if name in ("False", "−inf") else
                             f"{n:,} of {a.size:,} are {name}{nothing}")
    return notes


def _check_product(g: np.ndarray, j: np.ndarray, sent: np.ndarray, x: Tensor) -> str:
    """Say whether the gradient that the rule sends is g · J, with the largest of its sums written out."""
    product = g @ j
    bound = float(np.sqrt(np.finfo(sent.dtype).eps)) * float((abs(g) @ abs(j)).max())
    if np.isfinite(product).all() and not np.all(abs(product - sent) <= bound):
        return "g · J is NOT the gradient sent: the rule is not linear in g"
    if len(g) > _SMALL or len(sent) > _SMALL:
        return "g · J is the gradient sent"
    k = int(np.argmax(abs(np.nan_to_num(product))))
    shown = np.sort(np.argsort(-abs(np.nan_to_num(g * j[:, k])), kind="stable")[:_TERMS])
    terms = " + ".join(f"{number(g[i])} · {number(j[i, k])}" for i in shown)
    terms += " + …" if len(g) > _TERMS else ""
    place = at(np.unravel_index(k, x.shape)) if type(x._array) is not tuple else ""
    largest = f"; the largest, {place}" if len(sent) > 1 else ": "
    return f"g · J is the gradient sent{largest}{terms} = {number(product[k])}"


# ---------------------------------------------------------------------- as text


def _render_text(card: Card) -> str:
    lines = [card.line, *[f"  {line}" for line in (card.words, card.formula, card.note) if line]]
    for row in card.rows:
        lines += ["", f"{row.name}  {row.description}", *_indent("value", map(_format, row.value))]
        lines += [f"  {row.formula}{row.numbers and ' = '}{row.numbers}"] if row.formula else []
        lines += _indent("" if row.formula else "gradient", map(_format, row.gradient))
        lines += [f"  {'':8}  {row.origin}"] if row.origin else []
        if row.jacobian is not None:
            lines += [f"  Jacobian  ∂{card.rows[0].name}/∂{row.name}, {'{} × {}'.format(*row.jacobian.shape)}",
                      *_indent("", [_format(row.jacobian)])]
        lines += [f"  {remark}" for remark in [*row.notes, *row.remarks, row.residual and row.residual.text] if remark]
    return "\n".join(line.rstrip() for line in lines)


def _indent(label: str, texts: Any) -> list[str]:
    """Return the lines of texts, indented behind a label."""
    lines = [line for text in texts for line in text.split("\n")]
    return [f"  {label if i == 0 else '':8}  {line}" for i, line in enumerate(lines)]


def _format(a: Any) -> str:
    """Return the numbers of a small array, or statistics of a larger one; a text as it is."""
    if isinstance(a, str):
        return a
    a = np.asarray(a)
    if not a.size:
        return "no elements"
    if not _is_small(a):
        return f"all {number(a.flat[0])}" if np.all(a == a.flat[0]) else statistics(a)
    if a.ndim > 2:
        return np.array2string(a, formatter={"all": number}, separator="  ", max_line_width=_WIDTH)
    cells = [[number(v) for v in line] for line in np.atleast_2d(a)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return "\n".join("  ".join(c.rjust(n) for c, n in zip(line, widths)) for line in cells)


def _is_small(a: np.ndarray) -> bool:
    return a.size <= _SMALL ** 2 and (a.shape[-1] if a.ndim else 1) <= _SMALL


# ---------------------------------------------------------------------- as HTML


def _render_html(card: Card) -> Html:
    call, *place = card.line.split("  ")
    head = f"<p><b><code>{escape(call)}</code></b> &nbsp; <small>{escape(' · '.join(place))}</small></p>"
    lines = [code(card.words), typeset(card.formula), Html(f"<b>{escape(card.note)}</b>" if card.note else "")]
    head += "".join(f"<p>{line}</p>" for line in lines if line)
    body = table([_render_row(row) for row in card.rows], ["", "value", "gradient"])
    folds = [details(Html(f"Jacobian ∂{typeset(card.rows[0].name)}/∂{typeset(row.name)}, a row for each element of "
                          f"{typeset(card.rows[0].name)}"), Html(
        f"{_render_array(row.jacobian)}<p>{escape(row.remarks[-1])}</p>"), open=True)
        for row in card.rows if row.jacobian is not None]
    return Html(f"<div>{head}{body}{''.join(folds)}</div>")


def _render_row(row: Row) -> list[Html]:
    name = [typeset(row.name), Html(f"<code>{escape(row.description)}</code>")]
    formula = typeset(f"{row.formula}{row.numbers and ' = '}{row.numbers}")
    gradient = [formula, *map(_render_array, row.gradient), escape(row.origin)]
    gradient += [escape(remark) for remark in [*row.notes, *(row.remarks if row.jacobian is None else [])]]
    if row.residual:
        mark = {True: "✓", False: "✗", None: "–"}[row.residual.agrees]
        gradient.append(Html(f"{mark} <b>{escape(row.residual.text)}</b>" if row.residual.agrees is False else
                             f"{mark} {escape(row.residual.text)}"))
    return [_stack(name), _stack(map(_render_array, row.value)), _stack(gradient)]


def _stack(items: Iterable[Html]) -> Html:
    """Return items below each other."""
    return Html("".join(f"<div>{item}</div>" for item in items if item))


def _render_array(a: Any) -> Html:
    if isinstance(a, str):
        return escape(a)
    a = np.asarray(a)
    if _is_small(a) and a.ndim <= 2 and a.size:
        return grid(a)
    if not a.size or np.all(a == a.flat[0]):
        return escape(f"all {number(a.flat[0])}" if a.size else "no elements")
    return _stack([heatmap(a), Html(f"<small>{escape(statistics(a))}</small>")])
