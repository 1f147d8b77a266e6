"""Rules that every chapter keeps, as far as its file shows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from .chapter import answers, begins_with_first_cell, check_call, joined, load, normalised, reading_minutes

MOST_BYTES = 300_000
OPENING = ("# ", "**You will be able to**", "**You need**")  # what the first cell of text has
SUMMARY = "## Summary"  # how the last one begins
_TITLE = re.compile(r"^#+ Exercise ([\d.]+)", re.MULTILINE)
_NOISE = {"a path of a machine": r"(?<![\w.])/(?:home|root|tmp|work|usr|var|opt|private|Users)/|\b[A-Z]:\\",
          "an address in memory": r"\b0x[0-9a-f]{6,}", "the name of a kernel's file": r"ipykernel_\d",
          "an embedded page": r"<iframe|<script"}


def broken_rules(path: Path) -> list[str]:
    """A sentence for each rule that a chapter breaks."""
    notebook = load(path)
    return [*_of_file(path, notebook), *_of_parts(notebook["cells"]), *_of_exercises(notebook["cells"]),
            *_of_imports(notebook["cells"]), *_of_outputs(notebook["cells"])]


def _of_file(path: Path, notebook: dict[str, Any]) -> Iterator[str]:
    if (n := path.stat().st_size) > MOST_BYTES:
        yield f"it has {n:,} bytes, and may have {MOST_BYTES:,}: show fewer or smaller pictures"
    ids = [cell.get("id") for cell in notebook["cells"]]
    if None in ids or len(set(ids)) < len(ids):
        yield "its cells need an id each, none twice"
    elif not _same_but_for_lists(notebook, normalised(notebook)):
        yield "it carries noise of a run: save it with python -m tests.notebooks --write"


def _same_but_for_lists(a: Any, b: Any) -> bool:
    """Tell whether two notebooks are the same, where a text may be one string or a list of lines."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same_but_for_lists(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same_but_for_lists, a, b))
    return (joined(a) == joined(b)) if isinstance(b, str) else a == b


def _of_parts(cells: list[dict[str, Any]]) -> Iterator[str]:
    texts = [cell["source"] for cell in cells if cell["cell_type"] == "markdown"]
    code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
    first = texts[0] if texts and cells[0]["cell_type"] == "markdown" else ""
    if missing := [part for part in OPENING if part not in first]:
        yield f"its opening lacks {', '.join(map(repr, missing))}"
    reading, exercises = reading_minutes({"cells": cells})
    if (time := f"about {reading} minutes to read, and {exercises} for the exercises") not in first:
        yield f"its opening does not say that it takes {time}"
    if not code or not begins_with_first_cell(code[0]):
        yield "its first cell of code does not begin with FIRST_CELL"
    if not texts or cells[-1]["cell_type"] != "markdown" or not texts[-1].startswith(SUMMARY):
        yield f"it does not end with a cell that begins with {SUMMARY!r}"


def _of_exercises(cells: list[dict[str, Any]]) -> Iterator[str]:
    exercises = [cell["source"] for cell in cells if cell["cell_type"] == "markdown" and "Exercise " in cell["source"]
                 and re.search(r"^#+ Exercise ", cell["source"], re.MULTILINE)]
    if len(exercises) < 2:
        yield f"it has {len(exercises)} exercises, and needs two"
    for text in exercises:
        title = re.search(r"^#+ (Exercise .*)", text, re.MULTILINE)[1]  # type: ignore[index]
        found = answers(text)
        if len(found) != 1 or not re.search(r"<details>\s*<summary>[^<]+</summary>\n\n", text):
            yield f"{title!r}: it needs one <details> with a <summary>, then an empty line, and its answer"
        elif not _asserts(found[0]):
            yield f"{title!r}: its answer has no assert that checks it"
    for cell, following in pairwise(cells):
        if match := _TITLE.search(cell["source"]) if cell["cell_type"] == "markdown" else None:
            call = check_call(following["source"]) if following["cell_type"] == "code" else None
            if call is None or not call.args or getattr(call.args[0], "value", None) != match[1]:
                yield f'Exercise {match[1]}: the cell after it has no check("{match[1]}", …)'
    for cell in cells:
        if "<details>" in cell["source"] and cell["source"] not in exercises:
            yield f"cell {cell['id']}: only exercises have <details>"
        for line in re.sub(r"^```.*?^```", "", cell["source"], flags=re.DOTALL | re.MULTILINE).splitlines():
            if cell["cell_type"] == "markdown" and line.replace(r"\$", "").count("$") % 2:
                yield f"cell {cell['id']}: a formula goes over the end of the line {line[:40]!r}: - would make a list"


def _asserts(code: str) -> bool:
    """Tell whether code has an assert that may fail, NumPy's among them."""
    with suppress(SyntaxError):
        return any(isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant)
                   or isinstance(node, ast.Attribute) and node.attr.startswith("assert_")
                   for node in ast.walk(ast.parse(code)))
    return False


def _of_imports(cells: list[dict[str, Any]]) -> Iterator[str]:
    """The first cell names all that a chapter needs, so that what is missing is told at once."""
    sources = [(cell["id"], source) for cell in cells for source in
               ([cell["source"]] if cell["cell_type"] == "code" else answers(cell["source"]))]
    for name, source in sources[1:]:
        try:
            tree = ast.parse(source)
        except SyntaxError:
            yield f"cell {name} is not plain Python"
            continue
        yield from (f"cell {name}: `{ast.unparse(node)}` belongs into the first cell" for node in ast.walk(tree)
                    if isinstance(node, (ast.Import, ast.ImportFrom)))


def _of_outputs(cells: list[dict[str, Any]]) -> Iterator[str]:
    for cell in cells:
        if "measured" in cell.get("metadata", {}).get("tags", ()) and not cell["outputs"]:
            yield f"cell {cell['id']} is blank: run it with --write, for a sample"
        for output in cell.get("outputs", ()):
            if "image/svg+xml" in output.get("data", {}) and "image/png" not in output["data"]:
                yield f"cell {cell['id']} shows a picture as SVG alone, which some hosts drop"
            if output["output_type"] == "error":
                yield f"cell {cell['id']} shows an error"
            shown = "".join([joined(output.get("text", "")), *map(joined, output.get("data", {}).values())])
            yield from (f"cell {cell['id']} shows {what}" for what, pattern in _NOISE.items()
                        if re.search(pattern, re.sub(r"data:image/\w+(\+xml)?;base64,[\w+/=]+", "", shown)))
