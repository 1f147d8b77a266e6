"""A VJP rule with its numbers put in: `g ⊙ y = 2 ⊙ [1 3]`, for scalars and small vectors."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...engine import Tensor
from ..backward import input_values
from ..html import number
from .mathematics import SYMBOL, find_formula, find_gradients, without_index

_LONGEST = 4  # elements of a vector that is put in
_FUNCTIONS = {*"exp ln log sin cos tan sinh cosh tanh sigmoid sign softmax max min mean trunc e π Σ Π ½".split()}
_TOKEN = re.compile(rf"{SYMBOL}(?:⁻\w+)?|\s+|.")
_SYMBOL = re.compile(rf"({SYMBOL})(?:⁻\w+)?")
_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def rule_with_numbers(t: Tensor, place: int, g: Any, sent: Any, values: tuple[list[Any], Any] | None = None) -> str:
    """Return the formula of the gradient that record `t` sends to the input at `place`, and the formula with numbers
    put in: `g ⊙ y = 2 ⊙ 3`; "" without numbers.  `values`: inputs and output of the record, if they are at hand."""
    rule, numbers = find_rule(t, place), numbers_of_rule(t, place, g, sent, values)
    return f"{rule} = {numbers}" if numbers else ""


def find_rule(t: Tensor, place: int) -> str:
    """Return the right side of the formula of the gradient of the input at `place`, in its first form."""
    _, _, rule = find_gradients(t.op).get(t.op.input_name(place), "").partition(" = ")  # type: ignore[union-attr]
    return re.split(r" = (?![^\[]*\])", rule)[0]


def numbers_of_rule(t: Tensor, place: int, g: Any, sent: Any, values: tuple[list[Any], Any] | None = None) -> str:
    """Return the formula of the gradient that record `t` sends to the input at `place`, with the numbers of g, the
    result and the inputs in the place of their names: `2 ⊙ 3`.

    Return "" for a formula in words or with indices, for large arrays and matrices, and where the engine sums over a
    broadcast axis.
    """
    if t.op is None or not is_shown(g) or np.shape(sent) != np.shape(g):
        return ""
    inputs, y = values or (input_values(t.inputs), t._value())
    named = dict(zip(map(t.op.input_name, range(len(t.inputs))), inputs))
    named |= {"g": g, find_formula(t.op)[:1] or "y": y}
    rule = find_rule(t, place)
    numbers = put_numbers(rule, named)
    return numbers if rule not in (numbers, "g", "−g") else ""  # not worth a line


def is_shown(value: Any) -> bool:
    """Return True for a number, and for a vector of a few."""
    return isinstance(value, (np.ndarray, np.generic, float, int)) and np.ndim(value) < 2 and \
        np.size(value) in range(1, _LONGEST + 1)


def put_numbers(formula: str, values: Mapping[str, Any]) -> str:
    """Return a formula with numbers in the place of symbols; "" if it has other symbols than functions, or if one
    stands for a large array."""
    text = ""
    for token in _TOKEN.findall(formula):
        if not _SYMBOL.fullmatch(token):
            if token == "," and text.count("(") == text.count(")"):  # a definition or a remark follows
                return ""
            text += "· (" if token == "(" and re.search(r"[\d\])]\s+$", text) else token
            continue
        base = without_index(_SYMBOL.fullmatch(token)[1])  # type: ignore[index]
        power = _put_in_power(token[len(base):], values)
        known = base in values and is_shown(values[base])
        if power is None or not (known or base in _FUNCTIONS) or not token.startswith(base):
            return ""
        symbol = (_write(values[base], bool(power) or bool(text.strip())) if known else base) + power
        if factor := re.search(r"\d+$", text):  # 2y
            text = f"{text[:factor.start()]}({factor[0]} · {symbol})"
        else:
            text += f"· {symbol}" if re.search(r"[\d\])⁰-⁹]\s+$", text) else symbol
    return text.strip()


def _put_in_power(power: str, values: Mapping[str, Any]) -> str | None:
    """Return a superscript with its letters replaced by whole numbers; None if it is another mark, such as ᵀ or ᵢ."""
    found = ""
    for c in power:
        tag, _, _ = unicodedata.decomposition(c).partition(" ")
        plain = unicodedata.normalize("NFKC", c)
        if tag != "<super>" or plain == "T":
            return None
        if plain.isalpha():
            value = values.get(plain)
            if not is_shown(value) or np.ndim(value) or value != int(value):  # type: ignore[arg-type]
                return None
            c = str(int(value)).translate(_RAISED)  # type: ignore[arg-type]
        found += c
    return found


def _write(value: Any, in_brackets: bool) -> str:
    """Return a number, in brackets if it is negative and does not stand alone, or a vector: `[1 −2]`."""
    texts = [number(v).replace("-", "−") for v in np.ravel(value)]
    if np.ndim(value):
        return f"[{' '.join(texts)}]"
    return f"({texts[0]})" if in_brackets and texts[0].startswith("−") else texts[0]
