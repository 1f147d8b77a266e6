"""A chapter as a file: its first cell, its exercises' answers, and how it is saved without the noise of a run."""

from __future__ import annotations

import ast
import base64
import copy
import io
import json
import re
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"

FIRST_CELL = '''\
# Does this cell fail?  Run  pip install -e ".[notebooks]"  in the folder of tapegrad, and restart the kernel.
from autograd.learn import ag, check, np, plt
'''
"""The same in every chapter, which puts its own imports around these and its own lines after them (a seed).  A kernel
shows the comment with whatever import fails: no package, another one of that name, or an extra that is missing."""

_METADATA = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
             "language_info": {"name": "python"}}
_ANSWER = re.compile(r"<details>.*?</details>", re.DOTALL)
_FENCE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def begins_with_first_cell(source: str) -> bool:
    """Tell whether a source has the lines of FIRST_CELL, with nothing but further imports between them."""
    wanted = FIRST_CELL.rstrip().splitlines()
    for line in source.splitlines():
        if wanted and line == wanted[0]:
            wanted.pop(0)
        elif wanted and not re.match(r"(?:import|from) |$", line):
            return False
    return not wanted


def chapters(numbers: list[int] | None = None) -> list[Path]:
    """The files of the chapters, or of those that are named by number."""
    found = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    if unknown := set(numbers or ()) - {int(path.name[:2]) for path in found}:
        raise ValueError(f"there is no chapter {min(unknown)} in {NOTEBOOKS.name}/")
    return [path for path in found if not numbers or int(path.name[:2]) in numbers]


def load(path: Path) -> dict[str, Any]:
    """A notebook as its JSON says, with each source and text as one string."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        cell["source"] = joined(cell["source"])
    return notebook


def save(notebook: dict[str, Any], path: Path) -> None:
    """Write it without noise, in the form that Jupyter has: a line of a source is a line of the file."""
    notebook = normalised(notebook)
    for cell in notebook["cells"]:
        cell["source"] = cell["source"].splitlines(keepends=True)
        for output in cell.get("outputs", ()):
            for holder, key in [(output, "text"), *((output.get("data", {}), kind) for kind in output.get("data", {}))]:
                if key in holder and isinstance(holder[key], str) and key != "image/png":
                    holder[key] = holder[key].splitlines(keepends=True)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def normalised(notebook: dict[str, Any]) -> dict[str, Any]:
    """A copy without what changes from run to run and from machine to machine: counts, times, versions, and the
    outputs of cells that are tagged `measured`, which a reader makes."""
    cells = []
    for cell in notebook["cells"]:
        tags = cell.get("metadata", {}).get("tags", [])
        kept = {key: cell["metadata"][key] for key in ("tags", "jupyter") if cell.get("metadata", {}).get(key)}
        made = {"cell_type": cell["cell_type"], "id": cell["id"], "metadata": kept,
                "source": joined(cell["source"]).rstrip()}
        if cell["cell_type"] == "code":
            outputs = [] if "measured" in tags else list(map(_output, cell.get("outputs", ())))
            made |= {"execution_count": None, "outputs": outputs}
        cells.append(made)
    return {"cells": cells, "metadata": _METADATA, "nbformat": 4, "nbformat_minor": 5}


def _output(output: dict[str, Any]) -> dict[str, Any]:
    kind = output["output_type"]
    if kind == "stream":
        return {"output_type": kind, "name": output["name"], "text": joined(output["text"])}
    if kind == "error":
        return {"output_type": kind, "ename": output["ename"], "evalue": output["evalue"], "traceback": []}
    data = {name: _without_version(joined(value)).rstrip() for name, value in output["data"].items()}
    made: dict[str, Any] = {"output_type": kind, "data": data, "metadata": {}}
    return made | ({"execution_count": None} if kind == "execute_result" else {})


def with_small_pictures(notebook: dict[str, Any]) -> dict[str, Any]:
    """A copy whose PNG pictures have 64 colours, which a plot hardly needs, in a quarter of the bytes."""
    from PIL import Image  # Matplotlib brings it

    notebook = copy.deepcopy(notebook)
    for data in (output.get("data", {}) for cell in notebook["cells"] for output in cell.get("outputs", ())):
        if "image/png" in data:
            picture, small = Image.open(io.BytesIO(base64.b64decode(joined(data["image/png"])))), io.BytesIO()
            flat = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
            flat.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(small, "png", optimize=True)
            data["image/png"] = base64.b64encode(small.getvalue()).decode()
    return notebook


def _without_version(text: str) -> str:
    """Graphviz writes its version into a comment, and what it draws begins with a prologue that no page needs."""
    return re.sub(r"^\s*<\?xml.*?\?>\s*<!DOCTYPE.*?>\s*|<!-- Generated by graphviz.*?-->\s*", "", text, flags=re.DOTALL)


def joined(text: Any) -> str:
    return "".join(text) if isinstance(text, list) else text


def check_call(source: str) -> ast.Call | None:
    """The call of `check` in a cell of code, if there is just one."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)
             and isinstance(node.func, ast.Name) and node.func.id == "check"]
    return calls[0] if len(calls) == 1 else None


def answers(markdown: str) -> list[str]:
    """The code of the folded answers in a cell of text."""
    return ["\n".join(_FENCE.findall(folded)) for folded in _ANSWER.findall(markdown)]
