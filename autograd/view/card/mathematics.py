"""Formulas of ops and their gradients, read from docstrings, and set as HTML.

The notation: `y` is the result of an op (`z` where an input is called y, `L` of a loss) and `g` its gradient, ∂L/∂y.
`⊙` multiplies element by element; matrices stand side by side: `g wᵀ`.  `Σ` without an index goes along the op's axis,
`Σᵢ` over what the index stands for, and `[x > 0]` is 1 where that holds and 0 elsewhere.  Letters above and below the
line are Unicode's: `xᵢ`, `x²`, `eˣ`, `y⁻ᵀ`.

In a docstring a formula begins a line, or follows a sentence and two spaces.  It ends with the line (one that ends in
an operator or a comma goes on), at the end of its sentence, or before four spaces and a remark:

    \"""Square root.  y = √x    The slope at 0 is infinite.\"""
    \"""∂L/∂x = g / 2y\"""

A rule of several inputs has a formula for each, on lines of their own or after a comma and two spaces, and may have
lines `s = …` for what they share.
"""

from __future__ import annotations

import inspect
import re
import unicodedata
from typing import Any

from ...core.registry import module_of
from ..html import Html, escape

_SYMBOL = r"[^\W\d][\w\u0300-\u036f′]*"  # a letter or a word, with accents and indices: ĝ, xᵢ, label_smoothing
_END = r"(?=\.?$|\.  |    |,?  ∂)"
_FORMULA = re.compile(rf"(?:^|(?<=\.  ))({_SYMBOL}(?:\[[^]\n]*\])?) = (.+?){_END}", re.MULTILINE)
_GRADIENT = re.compile(rf"∂L/∂({_SYMBOL})(\[[^]\n]*\])? = (.+?){_END}", re.MULTILINE)
_LETTER = re.compile(r"[^\W\d_][\u0300-\u036f]*")
_PART = re.compile(r"[α-ωΑ-Ω]|(?:[^\Wα-ωΑ-Ω][\u0300-\u036f]*)+|\W")  # βx is two letters, exp is a word


def formula(op: Any) -> str:
    """What an op computes, as its docstring says: `y = exp(x) / Σ exp(x)`; empty if it does not."""
    if not op.rules and module_of(op.formula).startswith("numpy"):
        return ""  # NumPy's own docstring
    match = _FORMULA.search(_docstring(op))
    return f"{match[1]} = {match[2]}" if match else ""


def gradients(op: Any) -> dict[str, str]:
    """The gradient of each input that has a rule, by the input's name (`xs` for each of `*xs`), as the docstring of the
    rule says: `∂L/∂x = y ⊙ (g − Σ g⊙y)`; empty if it does not."""
    return {op.parameters[i]: _of_input(_docstring(rule), op.parameters[i], alone=place is None or i == op.star)
            for i, (rule, place) in op.rules.items()}


def words(op: Any) -> str:
    """What else the first paragraph of an op's docstring says."""
    doc = _docstring(op).partition("\n\n")[0]
    if doc.startswith(f"{op.name}("):  # NumPy's own: the signature, then a paragraph
        doc = _docstring(op).split("\n\n")[1]
    return " ".join(_FORMULA.sub("", doc, count=1).strip(" .\n").split())


def _docstring(function: Any) -> str:
    """A docstring in which a line that ends in an operator or a comma is one with the next."""
    return re.sub(r"(?<=[-+−·⊙×/=,(]) *\n *", " ", inspect.getdoc(function) or "")


def _of_input(doc: str, name: str, alone: bool) -> str:
    """The gradient of one input, with what the rule defines in it: `…, s = p ⊙ (g vᵀ − Σ g⊙y)`.  A docstring without
    such a line is quoted; `alone` says that the rule serves only this input, whatever it calls it."""
    found = list(_GRADIENT.finditer(doc))
    if not found:
        return doc.partition("\n")[0]
    match = next((m for m in found if _plain(m[1]) == name), found[0] if alone else None)
    if match is None:
        return ""
    text = f"∂L/∂{match[1]}{match[2] or ''} = {match[3]}"
    used = {_plain(symbol) for symbol in re.findall(_SYMBOL, match[3])}
    return ", ".join([text, *[f"{s} = {meaning}" for s, meaning in _FORMULA.findall(doc) if _plain(s) in used]])


def _plain(symbol: str) -> str:
    """A name without indices: `x` for `xᵢ`."""
    return "".join(c for c in symbol if not _level(c))


def _level(c: str) -> str:
    """`sup` or `sub` for a letter above or below the line."""
    kind = unicodedata.decomposition(c).partition(" ")[0]
    return {"<super>": "sup", "<sub>": "sub"}.get(kind, "")


def typeset(text: str) -> Html:
    """A line of such mathematics as HTML: single letters in italics, indices and exponents as `<sub>` and `<sup>`."""
    made, i = "", 0
    while i < len(text):
        end = i + 1
        if level := _level(text[i]):
            while end < len(text) and (_level(text[end]) == level or _relation(text, end, level)):
                end += 1
            plain = unicodedata.normalize("NFKC", text[i:end])
            made += f"<{level}>{''.join(map(_italics, plain))}</{level}>"
        else:
            while end < len(text) and not _level(text[end]):
                end += 1
            made += _italics(text[i:end])
        i = end
    return Html(made)


def _relation(text: str, i: int, level: str) -> bool:
    """Whether text[i] stands between two indices: the `≤` of `Σⱼ≤ᵢ`."""
    return text[i] in "<>≤≥≠=" and i + 1 < len(text) and _level(text[i + 1]) == level


def _italics(text: str) -> str:
    """Escaped, with single letters in italics; words, sums and the T of a transpose stay upright."""
    def part(match: re.Match[str]) -> str:
        letter = _LETTER.fullmatch(match[0]) and match[0] not in "ΣΠT"
        return f"<i>{escape(match[0])}</i>" if letter else escape(match[0])
    return _PART.sub(part, text)
