"""Formulas of the chapters, which are LaTeX, as MathML, which browsers set without a script or a font of ours."""

from __future__ import annotations

import re
from string import ascii_lowercase, ascii_uppercase, digits
from xml.etree import ElementTree

from latex2mathml.converter import convert

from .running import Trouble

_SPACE = "{http://www.w3.org/1998/Math/MathML}"
_BRACKETS = {r"\langle": "⟨", r"\rangle": "⟩"}  # the converter knows them, but not after \big
_SYMBOLS = ("∂", "∇", "∞")  # which the converter takes for operators
_ALPHABETS = {"bold": (0x1D400, 0x1D41A, 0x1D7CE), "sans-serif": (0x1D5A0, 0x1D5BA, 0x1D7E2)}
"""Code points of A, a and 0 in other alphabets, since browsers ignore `mathvariant`."""


def mathml(latex: str, display: bool = False) -> str:
    """Return a formula as MathML.  Raises Trouble for a command that is not known."""
    text = re.sub(r"(\\(?:big|Big))\s*(\\[a-zA-Z]+)", lambda m: m[1] + _BRACKETS.get(m[2], m[2]), latex)
    text = re.sub(r"\\tag\{([^}]*)\}", r"\\qquad(\1)", text)
    root = ElementTree.fromstring(convert(text, display="block" if display else "inline"))
    for parent in root.iter():
        for before, element, after in zip([None, *parent], list(parent), [*parent[1:], None]):
            _mend(element, before, after, display)
    made = ElementTree.tostring(root, encoding="unicode")
    if unknown := re.search(r"\\[a-zA-Z]+", made):
        raise Trouble(f"the formula {latex!r} has {unknown[0]}, which is not known")
    return re.sub(r' display="inline"| ?xmlns:\w+="[^"]*"|(?<=[</])\w+:', "", made)


def _mend(element: ElementTree.Element, before: ElementTree.Element | None, after: ElementTree.Element | None,
          display: bool) -> None:
    """Make of the converter's elements what a browser sets as TeX does: names of functions with a thin space where no
    operator is beside them, no space around signs, bars and slashes, limits below their name, other alphabets."""
    text, operator = element.text or "", f"{_SPACE}mo"
    if element.tag == operator and text in _SYMBOLS:
        element.tag = f"{_SPACE}mi"
    elif text == "‖":
        element.attrib |= {"lspace": "0", "rspace": "0", "stretchy": "false"}
    elif text in ("/", "|") or text in ("-", "−", "+") and before is not None and before.tag == operator \
            and before.text not in (")", "]", "}", "|", "⟩", "‖"):
        element.attrib |= {"lspace": "0", "rspace": "0"}
    name = element[0] if element.tag.startswith(f"{_SPACE}msu") and len(element) else element
    if re.fullmatch("[a-z]{2,}", name.text or "") and name.tag in (operator, f"{_SPACE}mi"):
        if name is not element and display and name.text in ("lim", "max", "min"):
            element.tag = f"{_SPACE}munder"
        name.tag = operator
        for side, neighbour in (("lspace", before), ("rspace", after)):
            narrow = neighbour is None or neighbour.tag in (operator, f"{_SPACE}mspace")
            name.attrib.setdefault(side, "0" if narrow else ".17em")
    if starts := _ALPHABETS.get(element.attrib.pop("mathvariant", "")):
        table = {ord(letter): start + i for letters, start in zip((ascii_uppercase, ascii_lowercase, digits), starts)
                 for i, letter in enumerate(letters)}
        element.text = text.translate(table)
