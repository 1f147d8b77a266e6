"""A chapter run in a fresh kernel, and what it then shows compared with what its file says."""

from __future__ import annotations

import ast
import os
import re
import tempfile
import textwrap
import time
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from .chapter import NOTEBOOKS, answers, check_call, joined, normalised

LIMIT = 60   # seconds for a chapter on a quiet machine, which the command asks for, and no test
STUCK = 900  # seconds after which a cell is ended
_WARNINGS = "import warnings\nwarnings.filterwarnings('error', module=r'(autograd|gpt|__main__)(\\.|$)')"
_UNREAD = r"<[^>]*>|(?<=finite differences to )\d+"  # tags of HTML, which hold pictures; how well a card's check went
_NUMBER = re.compile(r"[-+−]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?")


def run(notebook: dict[str, Any], with_answers: bool = True) -> tuple[dict[str, Any], float, list[str]]:
    """Run a notebook in a fresh kernel: it with its new outputs, seconds, and a sentence for all that went wrong.

    The kernel imports the packages of this repository, in a folder with nothing in it, which has to be left like that.
    Warnings from the packages and from cells are errors.  `with_answers` runs the answers of the exercises too, each
    where it stands, on the names that are there then, and has them checked; names that they make are gone after it.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    made, added = _prepared(notebook, with_answers)
    node, troubles = nbformat.from_dict(made), []
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "notebooks")
        folder.mkdir()
        env = os.environ | {"PYTHONPATH": str(NOTEBOOKS.parent), "IPYTHONDIR": str(Path(root, "ipython"))}
        client = NotebookClient(node, timeout=STUCK, kernel_name="python3", resources={"metadata": {"path": folder}},
                                coalesce_streams=True, record_timing=False, store_widget_state=False,
                                extra_arguments=["--IPKernelApp.log_level=40"])
        begin = time.perf_counter()
        try:
            client.execute(env=env)
        except CellTimeoutError:
            troubles.append(f"a cell runs for more than {STUCK} s")
        except (CellExecutionError, DeadKernelError) as error:
            troubles.append(_plain(str(error)))
        seconds = time.perf_counter() - begin
        troubles += [f"it leaves {path.name} where it runs: write into tempfile's folders" for path in folder.iterdir()]
    result = {"cells": [dict(cell) for cell in node["cells"] if cell["id"] not in added]}
    troubles += _warnings(result)
    return normalised(result), seconds, troubles


def _prepared(notebook: dict[str, Any], with_answers: bool) -> tuple[dict[str, Any], set[str]]:
    """A copy to be run, and the ids of the cells that were added to it: what makes warnings errors, and answers."""
    plain, cells = normalised(notebook), [_code_cell("warnings-are-errors", _WARNINGS)]
    for i, cell in enumerate(plain["cells"]):
        cells.append(cell | ({"outputs": []} if cell["cell_type"] == "code" else {}))
        if with_answers and cell["cell_type"] == "markdown":
            checked = plain["cells"][i + 1]["source"] if i + 1 < len(plain["cells"]) else ""
            cells += [_code_cell(f"answer-{k}-{cell['id']}"[:64], _apart(code + _judged(checked)))
                      for k, code in enumerate(answers(cell["source"]))]
    return plain | {"cells": cells}, {cell["id"] for cell in cells} - {cell["id"] for cell in plain["cells"]}


def _judged(source: str) -> str:
    """Code that fails unless the call of `check` in a cell would find its answers right."""
    if (call := check_call(source)) is None:
        return ""
    return (f"\nfrom autograd.learn.judging import judge\nverdict = judge({', '.join(map(ast.unparse, call.args))})\n"
            "assert verdict.right, verdict.text\n")


def _apart(code: str) -> str:
    """Code that sees the names of the notebook and leaves none behind."""
    shown = textwrap.indent(code, "#   ", lambda line: True)  # in the message of a failure
    return f"# the answer of an exercise:\n{shown}\nexec({code!r}, dict(globals()))"


def _code_cell(name: str, source: str) -> dict[str, Any]:
    return {"cell_type": "code", "id": name, "metadata": {}, "source": source, "execution_count": None, "outputs": []}


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def _warnings(notebook: dict[str, Any]) -> list[str]:
    """Return the warnings on stderr, and remove other messages there (of Matplotlib's fonts)."""
    found = []
    for cell in notebook["cells"]:
        kept = []
        for output in cell.get("outputs", ()):
            if output.get("name") != "stderr":
                kept.append(output)
            elif "Warning" in joined(output["text"]):
                found.append(f"cell {cell['id']} warns: {joined(output['text']).strip()}")
        if cell["cell_type"] == "code":
            cell["outputs"] = kept
    return found


# ---------------------------------------------------------------------- what is shown


def differences(committed: dict[str, Any], fresh: dict[str, Any]) -> list[str]:
    """Return the places where the texts of two runs differ.

    Pictures are not compared, and numbers may differ as rounding makes them: by a thousandth, or by a millionth where
    they are tiny.
    """
    found = []
    for a, b in zip(committed["cells"], fresh["cells"], strict=True):
        old, new = list(_texts(a)), list(_texts(b))
        if len(old) != len(new):
            found.append(f"cell {a['id']} shows {len(new)} texts, and its file has {len(old)}")
        for x, y in zip(old, new):
            if not alike(x, y):
                lines = zip_longest(x.splitlines(), y.splitlines(), fillvalue="nothing")
                was, now = next(((p, q) for p, q in lines if not alike(p, q)), (x, y))
                found.append(f"cell {a['id']} shows {now:.200}, and its file has {was:.200}")
    return found


def _texts(cell: dict[str, Any]) -> Iterator[str]:
    if "measured" in cell.get("metadata", {}).get("tags", []):
        return
    for output in cell.get("outputs", ()):
        for part in (output.get("text"), *(output.get("data", {}).get(kind) for kind in ("text/plain", "text/html"))):
            if part is not None:
                text = joined(part)
                yield re.sub(_UNREAD, "\n" if text.startswith("<") else "", text).strip()


def alike(a: str, b: str) -> bool:
    """Tell whether two texts are the same but for the rounding of numbers."""
    numbers_a, numbers_b = _NUMBER.findall(a), _NUMBER.findall(b)
    if [part.split() for part in _NUMBER.split(a)] != [part.split() for part in _NUMBER.split(b)]:
        return False
    values = [[float(text.replace("−", "-")) for text in found] for found in (numbers_a, numbers_b)]
    return all(x == y or abs(x - y) <= max(1e-3 * max(abs(x), abs(y)), 1e-6) for x, y in zip(*values))
