"""Formulas of ops and their gradients, read from docstrings, and set as HTML.

The notation: `y` is the result of an op (`z` where an input is called y, `L` of a loss) and `g` its gradient, ∂L/∂y.
`⊙` is the elementwise product; a matrix product has no sign: `g wᵀ`.  `Σ` without an index sums along the op's axis,
`Σᵢ` over all i, and `[x > 0]` is 1 where that holds and 0 elsewhere.  Superscripts and subscripts are Unicode letters:
`xᵢ`, `x²`, `eˣ`, `y⁻ᵀ`.

In a docstring a formula begins a line, or follows a sentence and two spaces.  It ends with the line (a line that ends
in an operator or a comma continues), at the end of its sentence, or before four spaces and a remark:

    \"""Square root.  y = √x    The slope at 0 is infinite.\"""
    \"""∂L/∂x = g / 2y\"""

A rule of several inputs has a formula for each, on lines of their own or after a comma and two spaces, and may define
shared terms on lines `s = …`.
"""

from __future__ import annotations

import inspect
import re
import unicodedata
from typing import Any

from ...core.registry import module_of
from ..html import Html, escape

SYMBOL = r"[^\W\d][\w\u0300-\u036f′]*"  # a letter or a word, with accents and subscripts: ĝ, xᵢ, label_smoothing
_END = r"(?=\.?$|\.  |    |,?  ∂)"
FORMULA = re.compile(rf"(?:^|(?<=\.  ))({SYMBOL}(?:\[[^]\n]*\])?) = (.+?){_END}", re.MULTILINE)
GRADIENT = re.compile(rf"∂L/∂({SYMBOL})(\[[^]\n]*\])? = (.+?){_END}", re.MULTILINE)
_LETTER = re.compile(r"[^\W\d_][\u0300-\u036f]*")
_TOKEN = re.compile(r"[α-ωΑ-Ω]|(?:[^\Wα-ωΑ-Ω][\u0300-\u036f]*)+|\W")  # βx is two letters, exp is a word


def find_formula(op: Any) -> str:
    """Return the formula in an op's docstring: `y = exp(x) / Σ exp(x)`; "" if there is none."""
    if not op.rules and module_of(op.formula).startswith("numpy"):
        return ""  # NumPy's own docstring
    match = FORMULA.search(_docstring(op))
    return f"{match[1]} = {match[2]}" if match else ""


def find_gradients(op: Any) -> dict[str, str]:
    """Map the name of each input that has a rule (`xs` for all of `*xs`) to the formula in the rule's docstring:
    `∂L/∂x = y ⊙ (g − Σ g⊙y)`; "" if there is none."""
    return {op.parameters[i]: _find_gradient(_docstring(rule), op.parameters[i], alone=place is None or i == op.star)
            for i, (rule, place) in op.rules.items()}


def find_description(op: Any) -> str:
    """Return the first paragraph of an op's docstring without its formula."""
    doc = _docstring(op).partition("\n\n")[0]
    if doc.startswith(f"{op.name}("):  # NumPy's own: the signature, then a paragraph
        doc = _docstring(op).split("\n\n")[1]
    return " ".join(FORMULA.sub("", doc, count=1).strip(" .\n").split())


def _docstring(function: Any) -> str:
    """Return a docstring in which lines that end in an operator or a comma are joined with the next."""
    return re.sub(r"(?<=[-+−·⊙×/=,(]) *\n *", " ", inspect.getdoc(function) or "")


def _find_gradient(doc: str, name: str, alone: bool) -> str:
    """Return the formula for one input's gradient, with the terms that the rule defines in it: `…, s = p ⊙ (g vᵀ − Σ
    g⊙y)`.  Of a docstring without formulas it is the first line.  `alone`: the rule serves only this input, under
    whatever name."""
    found = list(GRADIENT.finditer(doc))
    if not found:
        return doc.partition("\n")[0]
    match = next((m for m in found if without_index(m[1]) == name), found[0] if alone else None)
    if match is None:
        return ""
    text = f"∂L/∂{match[1]}{match[2] or ''} = {match[3]}"
    used = {without_index(symbol) for symbol in re.findall(SYMBOL, match[3])}
    return ", ".join([text, *[f"{s} = {term}" for s, term in FORMULA.findall(doc) if without_index(s) in used]])


def without_index(symbol: str) -> str:
    """Return a name without subscripts and superscripts: `x` for `xᵢ`."""
    return "".join(c for c in symbol if not _level(c))


def _level(c: str) -> str:
    """Return "sup" or "sub" for a superscript or subscript letter, "" for others."""
    tag = unicodedata.decomposition(c).partition(" ")[0]
    return {"<super>": "sup", "<sub>": "sub"}.get(tag, "")


def typeset(text: str) -> Html:
    """Return a formula as HTML: single letters in italics, subscripts and superscripts as `<sub>` and `<sup>`."""
    html, i = "", 0
    while i < len(text):
        end = i + 1
        if level := _level(text[i]):
            while end < len(text) and (_level(text[end]) == level or _is_relation(text, end, level)):
                end += 1
            plain = unicodedata.normalize("NFKC", text[i:end])
            html += f"<{level}>{''.join(map(_italicize, plain))}</{level}>"
        else:
            while end < len(text) and not _level(text[end]):
                end += 1
            html += _italicize(text[i:end])
        i = end
    return Html(html)


def _is_relation(text: str, i: int, level: str) -> bool:
    """Tell whether text[i] stands between two subscripts: the `≤` of `Σⱼ≤ᵢ`."""
    return text[i] in "<>≤≥≠=" and i + 1 < len(text) and _level(text[i + 1]) == level


def _italicize(text: str) -> str:
    """Return escaped text with single letters in italics; words, sums and the T of a transpose stay upright."""
    def set_symbol(match: re.Match[str]) -> str:
        letter = _LETTER.fullmatch(match[0]) and match[0] not in "ΣΠT"
        return f"<i>{escape(match[0])}</i>" if letter else escape(match[0])
    return _TOKEN.sub(set_symbol, text)
