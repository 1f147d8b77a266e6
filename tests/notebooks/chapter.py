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

SAMPLE = "(A sample, measured on one machine: run this cell for the numbers of yours.)\n"
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
    """A copy without what changes from run to run: counts, versions, folders of a machine and embedded pages, which a
    picture in the text stands for.  The outputs of cells that are tagged `measured` begin with SAMPLE."""
    cells = []
    for cell in notebook["cells"]:
        tags = cell.get("metadata", {}).get("tags", [])
        kept = {key: cell["metadata"][key] for key in ("tags", "jupyter") if cell.get("metadata", {}).get(key)}
        made = {"cell_type": cell["cell_type"], "id": cell["id"], "metadata": kept,
                "source": joined(cell["source"]).rstrip()}
        if cell["cell_type"] == "code":
            outputs = list(map(_output, cell.get("outputs", ())))
            outputs = _as_sample(outputs) if "measured" in tags and outputs else outputs
            made |= {"execution_count": None, "outputs": outputs}
        cells.append(made)
    return {"cells": cells, "metadata": _METADATA, "nbformat": 4, "nbformat_minor": 5}


def _as_sample(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mark the outputs of a `measured` cell as those of one machine, without the temporary folders it wrote to, and
    without the SVG of a picture that is there as PNG."""
    for data in (output.get("data", {}) for output in outputs):
        if "image/png" in data:
            data.pop("image/svg+xml", None)
    outputs = [output | {"text": re.sub(r"/tmp/\w+", "out", output["text"])} if "text" in output else output
               for output in outputs]
    if outputs[0].get("text", "").startswith(SAMPLE):
        return outputs
    return [{"output_type": "stream", "name": "stdout", "text": SAMPLE}, *outputs]


def _output(output: dict[str, Any]) -> dict[str, Any]:
    kind = output["output_type"]
    if kind == "stream":
        return {"output_type": kind, "name": output["name"], "text": joined(output["text"])}
    if kind == "error":
        return {"output_type": kind, "ename": output["ename"], "evalue": output["evalue"], "traceback": []}
    data = {name: _without_version(joined(value)).rstrip() for name, value in output["data"].items()}
    if "<iframe" in data.get("text/html", ""):
        data = {"text/plain": "<a live page>"}
    if data.get("text/plain", "").startswith("'<svg"):
        data["text/plain"] = "<an SVG picture>"
    made: dict[str, Any] = {"output_type": kind, "data": data, "metadata": {}}
    return made | ({"execution_count": None} if kind == "execute_result" else {})


def with_small_pictures(notebook: dict[str, Any]) -> dict[str, Any]:
    """A copy whose PNG pictures have 192 colours, which is enough for a heat map, in a third of the bytes."""
    from PIL import Image  # Matplotlib brings it

    notebook = copy.deepcopy(notebook)
    for data in (output.get("data", {}) for cell in notebook["cells"] for output in cell.get("outputs", ())):
        if "image/png" in data:
            picture, small = Image.open(io.BytesIO(base64.b64decode(joined(data["image/png"])))), io.BytesIO()
            flat = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
            flat.convert("RGB").quantize(192, dither=Image.Dither.NONE).save(small, "png", optimize=True)
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


def reading_minutes(notebook: dict[str, Any]) -> tuple[int, int]:
    """Estimate how long it takes to read and run a chapter, and to do its exercises, to 5 minutes.

    230 words a minute; 90 s to follow a formula on lines of its own, 4 s for one within a line; 8 s for a line of code,
    a minute for a picture; 10 minutes for an exercise.
    """
    words = displayed = inline = lines = pictures = exercises = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            if 'check("' not in cell["source"]:
                lines += sum(map(bool, map(str.strip, cell["source"].splitlines())))
            pictures += sum(not data.keys().isdisjoint(("image/png", "text/html")) for data in
                            (output.get("data", {}) for output in cell.get("outputs", ())))
            continue
        exercises += len(re.findall(r"^### Exercise", cell["source"], re.MULTILINE))
        text = re.sub(r"```.*?```", "", _ANSWER.sub("", cell["source"]), flags=re.DOTALL)
        text, n = re.subn(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)
        text, m = re.subn(r"(?<!\\)\$[^$]+\$", "", text)
        words, displayed, inline = words + len(text.split()), displayed + n, inline + m
        pictures += text.count("![")
    seconds = 60 * words / 230 + 90 * displayed + 4 * inline + 8 * lines + 60 * pictures
    return 5 * round(seconds / 300), 10 * exercises


def answers(markdown: str) -> list[str]:
    """The code of the folded answers in a cell of text."""
    return ["\n".join(_FENCE.findall(folded)) for folded in _ANSWER.findall(markdown)]
