"""Docstrings, which are plain text with code and formulas in it, as reStructuredText."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from autograd.view.card.mathematics import FORMULA, GRADIENT

_INDENTED = re.compile(r" {4,}\S")
_LISTED = re.compile(r"(?:[-*]|\d+[.)]) ")


def as_rest(lines: list[str], obj: Any = None) -> list[str]:
    """A docstring for Sphinx: indented lines are code, `words` in backticks too, what the parameters of `obj` mean
    begins a line each, and formulas are set."""
    try:
        parameters = list(inspect.signature(obj).parameters)
    except (TypeError, ValueError):
        parameters = []
    made: list[str] = []
    for is_code, block in _blocks(_without_sections(lines)):
        if is_code:
            code = textwrap.dedent("\n".join(block)).strip("\n")
            made += [f".. code-block:: {'python' if _is_python(code) else 'text'}", ""]
            made += [f"   {line}".rstrip() for line in code.splitlines()] + [""]
        else:
            for paragraph in _paragraphs(block, parameters):
                made += [*paragraph, ""]
    return made


def _without_sections(lines: list[str]) -> list[str]:
    """Of NumPy's docstrings, which have sections underlined with dashes, the first paragraph; of others all."""
    if not any(re.fullmatch(r"\s*---+", line) for line in lines):
        return lines
    paragraphs = "\n".join(lines).strip().split("\n\n")
    return next(p for p in paragraphs if not re.match(r"\w+\(", p)).splitlines()


def _blocks(lines: list[str]) -> Iterator[tuple[bool, list[str]]]:
    """(whether it is code, its lines): code begins after an empty line and goes on over empty lines.  Where nothing but
    code follows the first paragraph, Python has taken its indentation off, and it is known by what it is."""
    kinds: list[bool] = []
    code, before = False, ""
    rest = "\n".join(lines).partition("\n\n")[2]
    bare = "(" in rest and _is_python(rest)
    for line in lines:
        if line.strip():
            code = (code or not before.strip()) and (bool(_INDENTED.match(line)) or bare and bool(kinds))
        kinds.append(code)
        before = line
    for is_code, group in groupby(zip(kinds, lines), key=lambda pair: pair[0]):
        yield is_code, [line for _, line in group]


def _is_python(code: str) -> bool:
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return not code.startswith(("python ", "gpt "))


def _paragraphs(lines: list[str], parameters: list[str]) -> Iterator[list[str]]:
    """The paragraphs of running text: one begins after an empty line, at a formula or a list's item, and where a
    parameter is described."""
    text: list[str] = []
    for line in [*lines, ""]:
        stripped = line.strip()
        named = (m := re.match(r"(\w+): ", stripped)) and m[1] in parameters
        after_formula = bool(text) and bool(re.match(r"∂L/∂", text[-1]))
        if not stripped or named or after_formula or _LISTED.match(stripped) or _starts_formula(stripped, text):
            if text:
                yield [_inline(" ".join(text), parameters)]
            text = []
        if stripped:
            text.append(stripped)


def _starts_formula(line: str, text: list[str]) -> bool:
    """Tell whether a line begins a formula, rather than continues one."""
    starts = FORMULA.match(line) or GRADIENT.match(line)
    return bool(starts) and not (text and text[-1][-1] in "-+−·⊙×/=,(")


def _inline(text: str, parameters: list[str]) -> str:
    """A paragraph on one line: escaped, its formulas and code marked."""
    kept: list[str] = []

    def keep(marked: str) -> str:
        kept.append(marked)
        return f"\x00{len(kept) - 1}\x00"

    def formula(match: re.Match[str]) -> str:
        return keep(f":math:`{match[0].replace('`', '')}`") if "`" not in match[0] else match[0]

    bullet = "* " if re.match(r"[-*] ", text) else ""
    text = text[len(bullet):]
    text = re.sub(r"(?:^|(?<=\.  ))(\w+)(?=: )", lambda m: keep(f"**{m[1]}**") if m[1] in parameters else m[1], text)
    text = GRADIENT.sub(formula, text)
    text = FORMULA.sub(formula, text)
    text = re.sub(r"`([^`\x00]+)`", lambda m: keep(f"``{m[1].strip()}``"), text)
    text = re.sub(r"([\\*_|`])", r"\\\1", text)
    text = re.sub(r"^(\d+)([.)] )|^([-+.:>=#~^\"'(])", lambda m: f"{m[1]}\\{m[2]}" if m[1] else f"\\{m[3]}", text)
    # What is marked is set apart by an escaped space, which leaves no trace.
    return bullet + re.sub("\x00(\\d+)\x00", lambda m: f"\\ {kept[int(m[1])]}\\ ", text)
