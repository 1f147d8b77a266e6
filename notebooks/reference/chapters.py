"""The chapters' files, those whose code uses an op, and links to the rest of the site."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autograd.core.registry import NUMPY_OVERRIDES, numpy_name

NOTEBOOKS = Path(__file__).parents[1]
_OPERATORS = {ast.MatMult: "matmul", ast.Pow: "power", ast.Mod: "remainder"}  # +, −, * and / are everywhere


@dataclass(frozen=True)
class Use:
    """The first place in a chapter that uses an op."""
    path: Path
    chapter: str                                   # 4. Softmax by hand
    section: str                                   # The Jacobian


def paths() -> list[Path]:
    """Return the chapters' files, in order."""
    return sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def uses() -> dict[str, list[Use]]:
    """Name of an op or composed function -> the chapters that use it, each with the section where they do first."""
    found: dict[str, list[Use]] = {}
    for path in paths():
        seen: set[str] = set()
        for use, code in _code(path):
            for name in sorted(_names(code) - seen):
                seen.add(name)
                found.setdefault(name, []).append(use)
    return found


def link(use: Use) -> str:
    """Return a link to a chapter's page, at the section that uses an op, from a page in a folder beside it."""
    within = f", “{use.section}”" if use.section else ""
    anchor = "#" + re.sub("[^a-z0-9]+", "-", use.section.lower()).strip("-") if use.section else ""  # docutils' form
    return f'<a href="../chapters/{use.path.stem}.html{anchor}">{use.chapter}{within}</a>'


def links_to_site(site: Path) -> str:
    """Return links to the pages of the site that the reference is in, as far as they are there."""
    pages = {"live.html": "Live page", "train.html": "Train a GPT", "chapters.html": "Chapters"}
    links = [f'<a href="../{name}">{title}</a>' for name, title in pages.items() if (site / name).is_file()]
    return f"\n\nIn the browser, with nothing to install: {', '.join(links)}.\n" if links else ""


def _code(path: Path) -> Iterator[tuple[Use, str]]:
    """The code of a chapter, cell by cell, and where it stands."""
    chapter = section = ""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            for line in source.splitlines():
                chapter = line[2:].strip() if line.startswith("# ") and not chapter else chapter
                section = line.lstrip("#").strip() if line.startswith(("## ", "### ")) else section
        elif cell["cell_type"] == "code":
            yield Use(path, chapter or path.stem, section), source


def _names(code: str) -> set[str]:
    """The ops and composed functions that code names: `ag.softmax`, `np.exp`, `x @ w`."""
    try:
        tree = ast.parse("".join(line for line in code.splitlines(True) if not line.lstrip().startswith(("%", "!"))))
    except SyntaxError:
        return set()
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if (name := _dotted(node)).startswith("ag."):
                found.add(name[3:])
            elif name in _OF_NUMPY:
                found.add(_OF_NUMPY[name])
        elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            found.add(_OPERATORS[type(node.op)])
    return found


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


# np.exp -> exp
_OF_NUMPY = {numpy_name(function): known.__name__
             for function, known in NUMPY_OVERRIDES.items() if getattr(known, "__name__", "<lambda>") != "<lambda>"}
