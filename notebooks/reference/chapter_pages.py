"""The chapters as pages: each notebook as Sphinx takes it, with links, live pages and entries of the search."""

from __future__ import annotations

import ast
import base64
import copy
import html
import json
import re
import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from . import subjects
from .chapters import NOTEBOOKS, paths
from .running import Trouble

LIVE = ("01", "03")
"""The chapters whose live page is made here, by running what stands above it; that of chapter 12 trains a model."""
CELL = "<ipython-input>"
"""The name of a cell's file, whose lines the views show as `cell:3`."""
_PICTURE = re.compile(r"\]\(((?:pictures|diagrams)/(\w+)\.\w+)\)")
_MENTION = re.compile(r"```.*?```|`[^`\n]*`|\$[^$]*\$|\[[^]]*\]\([^)]*\)|^#.*?$|<[^>]*>|(?<=^    ).*?$|"
                      r"(?P<words>\b[Cc]hapters? )(?P<first>\d+)(?P<more>(?:(?:,| and| to) \d+)*)",
                      re.DOTALL | re.MULTILINE)


def write(work: Path, site: Path) -> None:
    """Write the chapters' pages into work/chapters, and files for beside them into work/extra; the reference will be
    in a folder of `site`.

    Raises Trouble for a cell that fails above a live page, and for a heading that is named and is not there.
    """
    out, beside = work / "chapters", work / "extra" / "chapters"
    out.mkdir()
    beside.mkdir(parents=True)
    for folder in ("pictures", "diagrams"):
        shutil.copytree(NOTEBOOKS / folder, out / folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    rows = []
    for path in paths():
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            cell["source"] = "".join(cell["source"])
        rows.append(_row(path, notebook["cells"][0]["source"]))
        _write(beside / path.name, _to_download(notebook))
        _write(out / path.name, _page(path, notebook, beside, site))
    (out / "index.md").write_text(_index(rows), encoding="utf-8")


def link_chapters(text: str, folder: str) -> str:
    """Make links of the words "chapter 9" in Markdown, to the chapters in `folder`."""
    names = {int(path.name[:2]): path.name for path in paths()}

    def linked(match: re.Match[str]) -> str:
        if not match["first"]:
            return match[0]
        first = f"[{match['words']}{match['first']}]({folder}{names[int(match['first'])]})"
        return first + re.sub(r"\d+", lambda m: f"[{m[0]}]({folder}{names[int(m[0])]})", match["more"])

    return _MENTION.sub(linked, text)


# ---------------------------------------------------------------------- a page


def _page(path: Path, notebook: dict[str, Any], beside: Path, site: Path) -> dict[str, Any]:
    """Return a chapter with what only a page has."""
    cells = copy.deepcopy(notebook["cells"])
    for i, cell in enumerate(cells):
        if cell["cell_type"] == "markdown":
            if cell["source"].startswith("Where a host shows no live pages") and path.name[:2] in LIVE:
                cell["source"] = ""
            text = link_chapters(cell["source"].replace("](reference/", "](../"), "")
            cell["source"] = subjects.insert(text, path.name)
            continue
        cell["metadata"] = cell["metadata"] | {"mystnb": {"image": {"alt": "Drawn by the code above"}}}
        if any("<a live page>" in "".join(output.get("data", {}).get("text/plain", "")) for output in cell["outputs"]):
            cell["outputs"] = [_shown(_frame(path, notebook["cells"][:i + 1], beside))]
        cell["outputs"] = [_inline(output) for output in cell["outputs"]]
    subjects.check("\n".join(cell["source"] for cell in cells), path.name)
    title, _, rest = cells[0]["source"].partition("\n")
    cells[0]["source"] = f"{title}\n\n{_ways(path, site)}\n{rest}"
    return notebook | {"cells": cells}


def _shown(text: str) -> dict[str, Any]:
    return {"output_type": "display_data", "metadata": {}, "data": {"text/html": text}}


def _inline(output: dict[str, Any]) -> dict[str, Any]:
    """Return an output whose drawing is part of the page, not a picture: its boxes say more where the mouse is."""
    drawing = "".join(output.get("data", {}).get("image/svg+xml", ""))
    if "xlink:title" not in drawing:
        return output
    without_ids = re.sub(r' id="[^"]*"', "", drawing)
    return _shown(f'<div class="graph">{without_ids}</div>')


def _ways(path: Path, site: Path) -> str:
    """Return links to the same chapter where it runs."""
    browser = f'<a href="../../chapters/notebooks/index.html?path={path.name}">Run it in the browser</a> · '
    if not (site / "chapters.html").is_file():
        browser = ""
    return (f'<p class="ways">{browser}<a href="{path.name}" download>Download the notebook</a> (without outputs) · '
            f'<a href="../hosts.html">Where it runs</a></p>')


def _frame(path: Path, cells: list[dict[str, Any]], beside: Path) -> str:
    """Return a frame with the live page that the last cell shows, made by running all of them."""
    if path.name[:2] not in LIVE:
        return "<p><em>Here is a live page where the chapter runs.</em></p>"
    name = f"{path.name[:2]}_live.html"
    shown = _run([cell["source"] for cell in cells if cell["cell_type"] == "code"], path.name)
    (beside / name).write_text(shown.page, encoding="utf-8")
    return (f'<iframe class="tapegrad" src="{name}" sandbox="allow-scripts" loading="lazy" '
            f'title="{html.escape(repr(shown))}"></iframe>')


def _run(sources: list[str], name: str) -> Any:
    """Run cells, and return what the last line shows.  Raises Trouble for one that fails."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    names: dict[str, Any] = {"__name__": "__main__"}
    show, plt.show = plt.show, lambda: plt.close("all")
    *above, shown = [node for source in sources for node in ast.parse(source).body]
    try:
        with redirect_stdout(StringIO()):
            exec(compile(ast.Module(above, []), CELL, "exec"), names)
            return eval(compile(ast.Expression(shown.value), CELL, "eval"), names)  # type: ignore[attr-defined]
    except Exception as error:
        raise Trouble(f"{name}: above its live page a cell fails: {type(error).__name__}: {error}") from error
    finally:
        plt.show = show


# ---------------------------------------------------------------------- the notebook, and the list


def _to_download(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return a chapter that is one file: without outputs, with its pictures, and with links that say where."""
    made = copy.deepcopy(notebook)
    for cell in made["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = []
            continue
        cell["source"] = re.sub(r"\[([^]]*)\]\(reference/[^)]*\)", r"\1", cell["source"])
        for file, name in _PICTURE.findall(cell["source"]):
            picture = (NOTEBOOKS / file).with_suffix(".png").read_bytes()
            cell.setdefault("attachments", {})[f"{name}.png"] = {"image/png": base64.b64encode(picture).decode()}
        cell["source"] = _PICTURE.sub(r"](attachment:\2.png)", cell["source"])
    return made


def _row(path: Path, opening: str) -> tuple[str, str]:
    """Return the name of a chapter's file, and its row in the list of chapters."""
    learnt = re.search(r"^- (.*?)[,.]$", opening, re.MULTILINE)
    needs = re.search(r"^\*\*You need\*\* (.*)", opening, re.MULTILINE)
    minutes = re.search(r"about (\d+) minutes to read, and (\d+) for the exercises", opening)
    if not (learnt and needs and minutes):
        raise Trouble(f"{path.name}: its opening does not say what a reader learns, needs, and how long it takes")
    title = opening.splitlines()[0].removeprefix("# ")
    return path.name, f"| [{title}]({path.name}) | {learnt[1]} | {minutes[1]} + {minutes[2]} |"


def _index(rows: list[tuple[str, str]]) -> str:
    return "\n".join([
        "# Chapters", "", "Fourteen notebooks, from a scalar and its tape to a GPT that chats, and on to rounding and "
        "what a loss is worth. Each derives what it uses, runs it, and has exercises whose answers are checked. These "
        "pages show them as they ran; each says how to [run it yourself](../hosts.md).", "",
        "| chapter | among other things you will be able to | minutes to read, and for exercises |", "|---|---|---|",
        *[row for _, row in rows], "", "```{toctree}", ":hidden:", "", *[name for name, _ in rows], "```", ""])


def _write(path: Path, notebook: dict[str, Any]) -> None:
    path.write_text(json.dumps(notebook, ensure_ascii=False), encoding="utf-8")
