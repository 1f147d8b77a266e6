"""A card for one record: formula and gradients, numbers, Jacobian, and a check of the gradient on the spot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...core.describe import describe, label, record_line, shape_text, shortened, statistics
from ...core.errors import changed_error
from ...core.mode import within
from ...engine import Tensor, reverse, tape
from ..backward import restore_freed
from ..html import Html, code, details, escape, grid, heatmap, number, table
from ..text import number_records
from .jacobian import (
    Residual,
    differentiated,
    flat,
    floats,
    in_one_line,
    is_array,
    jacobian,
    parts,
    pulled,
    residuals,
)
from .mathematics import formula, gradients, typeset, words

_SMALL = 8  # rows and columns up to which numbers are shown
_LARGE = 64  # rows and columns up to which a Jacobian is computed
_WIDTH = 100  # characters of a line of numbers


@dataclass
class Row:
    """What a card says of one array: an input of the record, or its result."""

    name: str
    what: str  # `%2 f64[3]`
    place: int = -1  # the number of the input, if it is one
    value: list[Any] = field(default_factory=list)  # the arrays, of which most values have one; of many a text between
    formula: str = ""  # of its gradient
    gradient: list[Any] = field(default_factory=list)
    origin: str = ""  # of the gradient
    jacobian: np.ndarray | None = None
    remarks: list[str] = field(default_factory=list)
    residual: Residual | None = None


class Card:
    """What there is to say of record `t`, as text in a terminal and as HTML in a notebook.

    The incoming gradient is that of `loss`, a result that t was used for; without it the one that t has kept from
    `backward(keep=True)`, and otherwise all ones.  Raises ValueError if `loss` was not made from t.
    """

    def __init__(self, t: Tensor, loss: Tensor | None = None):
        if not isinstance(loss, Tensor | None):
            raise TypeError(f"explain takes the loss, a Tensor that was made from this one, and not {describe(loss)}")
        behind = tape(t if loss is None else loss)
        if t not in behind:
            raise ValueError(f"{label(t)} is not behind this loss: see ag.tape(loss)")
        numbers = number_records(behind)
        self.line = record_line(t, numbers)
        self.words, self.formula, self.rows = _leaf(t) if t.op is None else _operation(t, numbers)
        self.note = ""  # why there are no numbers
        with restore_freed(behind), within(observer=None), np.errstate(all="ignore"):
            try:
                self._fill(t, loss)
            except Exception as error:  # of a formula or rule in the making too: the card then shows which
                failed = t._array is None and t.saved is None
                self.note = f"{'It failed' if failed else 'No numbers'}: {in_one_line(error)}"

    def _fill(self, t: Tensor, loss: Tensor | None) -> None:
        """Put the numbers into the rows, as far as there are any."""
        result, *inputs = self.rows
        if t._array is not None:
            result.value = _shown(t._array)
        for a in t.inputs:
            if type(a) is Tensor and a.version > t.created:
                raise changed_error(a, t)
        for row in inputs:
            if row.place >= 0:
                a = t.inputs[row.place]
                row.value = _shown(a._value() if type(a) is Tensor else a)
        result.value = _shown(t._value())
        g, result.origin = _incoming(t, loss)
        result.gradient = _shown(floats(g))
        if t.op is not None and g is not None:
            self._differentiate(t, g)

    def _differentiate(self, t: Tensor, g: Any) -> None:
        """Put what the record sends to its inputs into their rows."""
        needed = set(differentiated(t))
        rows = {row.place: row for row in self.rows if row.place in needed}
        n, sent = _size(t._value()), pulled(t, g)
        matrices = jacobian(t, rows) if n <= _LARGE else {}
        for i, row in rows.items():
            row.gradient, m = _shown(floats(sent[i])), _size(t.inputs[i]._value())
            if i in matrices and m <= _LARGE and m:
                row.jacobian = matrices[i]
                row.remarks += [_product(flat(g), row.jacobian, flat(sent[i]))]
            elif n * m:
                row.remarks += [f"Jacobian: {n:,} × {m:,} numbers, too many to show"]
        for i, residual in residuals(t, list(rows)).items():
            rows[i].residual = residual

    def __repr__(self) -> str:
        with np.errstate(all="ignore"):
            return _as_text(self)

    def _repr_html_(self) -> str:
        with np.errstate(all="ignore"):
            return _as_html(self)


def _leaf(t: Tensor) -> tuple[str, str, list[Row]]:
    """Words, formula and rows of a leaf."""
    kind = "A parameter: backward gathers its gradient" if t.requires_grad else "A constant: no gradient flows to it"
    return kind, "", [Row(t.name or "value", shape_text(t))]


def _operation(t: Tensor, numbers: dict[Tensor, int]) -> tuple[str, str, list[Row]]:
    """Words, formula and rows of a record that an op has made."""
    text, formulas = formula(t.op), gradients(t.op)
    rows = [Row(text[0] if text[:1] in ("y", "z", "L") else "y", shape_text(t))]
    for place in shortened(range(len(t.inputs)), "more inputs"):
        if isinstance(place, str):
            rows.append(Row("", place))
            continue
        a, name = t.inputs[place], t.op.input_name(place)  # type: ignore[union-attr]
        if type(a) is not Tensor:
            rows.append(Row(name, describe(a), place, remarks=["an array: no gradient flows to it"] * is_array(a)))
            continue
        row = Row(name, " ".join(filter(None, [f"%{numbers[a]}", a.name and repr(a.name), shape_text(a)])), place)
        if not t.requires_grad:
            row.remarks.append("no gradient flows through")
        elif a.requires_grad:
            row.formula = formulas.get(name.partition("[")[0]) or f"∂L/∂{name}"
        else:
            row.remarks.append("constant: no gradient flows to it")
        rows.append(row)
    return words(t.op), text, rows


def _shown(value: Any) -> list[Any]:
    """Copies of the arrays of a value, if it has some, for a leaf may change while the card is looked at; of many those
    at the ends.  Raises TypeError for arrays of another library."""
    arrays = shortened([part for part in parts(value) if is_array(part)], "more arrays")
    for array in arrays:
        if not isinstance(array, (np.ndarray, np.generic, str)):
            raise TypeError(f"not a NumPy array but a {type(array).__name__}")
    return [array if isinstance(array, str) else np.array(array) for array in arrays]


def _size(value: Any) -> int:
    """The number of floating-point numbers in an array or a tuple of them."""
    return sum(part.size for part in floats(value))


def _incoming(t: Tensor, loss: Tensor | None) -> tuple[Any, str]:
    """The gradient that comes in at `t`, and where it is from."""
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
    ones = tuple(np.ones_like(part) for part in parts(t._value()))
    return ones if isinstance(t._value(), tuple) else ones[0], \
        "all ones, as if L were the sum of all elements: explain(loss) shows the real one"


def _product(g: np.ndarray, j: np.ndarray, sent: np.ndarray) -> str:
    """Whether the gradient that the rule sends is g · J, with the first of its sums written out."""
    product = g @ j
    bound = float(np.sqrt(np.finfo(sent.dtype).eps)) * float((abs(g) @ abs(j)).max())
    if np.isfinite(product).all() and not np.all(abs(product - sent) <= bound):
        return "g · J is NOT the gradient sent: the rule is not linear in g"
    if len(g) > _SMALL or len(sent) > _SMALL:
        return "g · J is the gradient sent"
    terms = " + ".join(f"{number(a)} · {number(b)}" for a, b in zip(g[:4], j[:4, 0])) + " + …" * (len(g) > 4)
    return f"g · J is the gradient sent; the first is {terms} = {number(product[0])}"


# ---------------------------------------------------------------------- as text


def _as_text(card: Card) -> str:
    lines = [card.line, *[f"  {line}" for line in (card.words, card.formula, card.note) if line]]
    for row in card.rows:
        lines += ["", f"{row.name}  {row.what}", *_labelled("value", map(_numbers, row.value))]
        lines += [f"  {row.formula}"] if row.formula else []
        lines += _labelled("" if row.formula else "gradient", map(_numbers, row.gradient))
        lines += [f"  {'':8}  {row.origin}"] if row.origin else []
        if row.jacobian is not None:
            lines += [f"  Jacobian  ∂{card.rows[0].name}/∂{row.name}, {'{} × {}'.format(*row.jacobian.shape)}",
                      *_labelled("", [_numbers(row.jacobian)])]
        lines += [f"  {remark}" for remark in [*row.remarks, row.residual and row.residual.text] if remark]
    return "\n".join(line.rstrip() for line in lines)


def _labelled(label: str, texts: Any) -> list[str]:
    """Texts, which may have several lines, indented behind a label."""
    lines = [line for text in texts for line in text.split("\n")]
    return [f"  {label if i == 0 else '':8}  {line}" for i, line in enumerate(lines)]


def _numbers(a: Any) -> str:
    """A small array by its numbers, a larger one by statistics; a text as it is."""
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


def _as_html(card: Card) -> Html:
    call, *place = card.line.split("  ")
    head = f"<p><b><code>{escape(call)}</code></b> &nbsp; <small>{escape(' · '.join(place))}</small></p>"
    lines = [code(card.words), typeset(card.formula), Html(f"<b>{escape(card.note)}</b>" if card.note else "")]
    head += "".join(f"<p>{line}</p>" for line in lines if line)
    body = table([_row_html(row) for row in card.rows], ["", "value", "gradient"])
    folds = [details(Html(f"Jacobian ∂{typeset(card.rows[0].name)}/∂{typeset(row.name)}, a row for each element of "
                          f"{typeset(card.rows[0].name)}"), Html(
        f"{_array_html(row.jacobian)}<p>{escape(row.remarks[-1])}</p>"), open=True)
        for row in card.rows if row.jacobian is not None]
    return Html(f"<div>{head}{body}{''.join(folds)}</div>")


def _row_html(row: Row) -> list[Html]:
    name = [typeset(row.name), Html(f"<code>{escape(row.what)}</code>")]
    gradient = [typeset(row.formula), *map(_array_html, row.gradient), escape(row.origin)]
    gradient += [escape(remark) for remark in row.remarks if row.jacobian is None]
    if row.residual:
        mark = {True: "✓", False: "✗", None: "–"}[row.residual.agrees]
        gradient.append(Html(f"{mark} <b>{escape(row.residual.text)}</b>" if row.residual.agrees is False else
                             f"{mark} {escape(row.residual.text)}"))
    return [_stacked(name), _stacked(map(_array_html, row.value)), _stacked(gradient)]


def _stacked(items: Iterable[Html]) -> Html:
    """One below the other."""
    return Html("".join(f"<div>{item}</div>" for item in items if item))


def _array_html(a: Any) -> Html:
    if isinstance(a, str):
        return escape(a)
    a = np.asarray(a)
    if _is_small(a) and a.ndim <= 2 and a.size:
        return grid(a)
    if not a.size or np.all(a == a.flat[0]):
        return escape(f"all {number(a.flat[0])}" if a.size else "no elements")
    return _stacked([heatmap(a), Html(f"<small>{escape(statistics(a))}</small>")])
