"""The chapters as notebooks that run in the browser: JupyterLite, with the packages in its kernel."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from .building import WHEEL, write_list, write_zip

HERE = Path(__file__).parent
KERNEL = "@jupyterlite/pyodide-kernel-extension"
LOADED = ["numpy", "matplotlib", "threadpoolctl", "ssl", "sqlite3", "jedi", "ipython"]
"""Packages of Pyodide that the chapters and the kernel import, which it then loads side by side."""
COMM = "comm-0.2.3-py3-none-any.whl"
"""A package of the kernel's that Pyodide does not have: without it the kernel asks the network."""
UNUSED = ("vega", "vega-lite", "vega-embed", "@lumino/datagrid")
"""Libraries that are left out of JupyterLite: charts in Vega, and tables of CSV files as large as you like."""
UNUSED_MARKS = ("mermaidAPI", "org.eclipse.elk", "xterm-screen")
"""Texts in the scripts of others that are left out: Mermaid's diagrams, their layout, and terminals."""
DATES = {"created": "2020-01-01T00:00:00Z", "last_modified": "2020-01-01T00:00:00Z", "writable": True}
SECONDS = {1: 3, 2: 4, 3: 4, 4: 4, 5: 4, 6: 4, 7: 23, 8: 36, 9: 3, 10: 12, 11: 22, 13: 6, 14: 18}
"""Seconds that all cells of a chapter take in the browser after the first one, where nothing else runs."""
NOTES = {
    12: "This chapter can only be read here.  It opens a model with `safetensors` and `tokenizers`, which are compiled "
        "for each machine and not yet for browsers.  To run it, take a copy of the repository:  "
        '`python -m pip install -e ".[notebooks]" && jupyter lab notebooks`',
    8: "The last cell, which trains on a text that comes with Python elsewhere, ends with an error here."}
"""Words for the reader of a chapter, by its number."""
READ_ONLY = 12
"""The chapter that does not run in a browser."""


def build_chapters(site: Path, pyodide: str, archive: str) -> None:
    """Write JupyterLite with the chapters, and a page that lists them, into the site, where `archive` is an address."""
    folder = site / "chapters"
    shutil.rmtree(folder, ignore_errors=True)
    extension = Path(sys.prefix, "share", "jupyter", "labextensions", KERNEL)
    with tempfile.TemporaryDirectory() as work:
        _write(Path(work, "jupyter-lite.json"), _settings(pyodide, archive))
        _write(Path(work, "jupyter_lite_config.json"), {"LiteBuildConfig": {
            "output_dir": str(folder.resolve()), "apps": ["notebooks"], "no_sourcemaps": True,
            "ignore_sys_prefix": ["federated_extensions"], "federated_extensions": [str(extension)]}})
        done = subprocess.run([sys.executable, "-m", "jupyterlite_core", "build"], cwd=work,
                              capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"JupyterLite was not built:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    _leave_out(folder / "build")
    write_zip(folder / COMM, {entry.as_posix(): Path(str(entry.locate())).read_bytes()
                              for entry in distribution("comm").files or [] if entry.suffix != ".pyc"})
    _add_contents(folder)


def _settings(pyodide: str, archive: str) -> dict[str, Any]:
    address = pyodide if "://" in pyodide or pyodide.startswith("/") else f"../../{pyodide}"  # seen from a notebook
    # From the kernel's script, which is in extensions/@jupyterlite/pyodide-kernel-extension/static.  Pyodide takes what
    # follows the last slash for the name of a wheel, and the browser asks for what stands before the hash.
    ours = f"../../../../../{archive}#/{WHEEL}-py3-none-any.whl"
    kernel = {"pyodideUrl": f"{address}pyodide.js", "disablePyPIFallback": True,
              "loadPyodideOptions": {"packages": [*LOADED, ours, f"../../../../{COMM}"]}}
    return {"jupyter-lite-schema-version": 0, "jupyter-config-data": {
        "appName": "tapegrad", "exposeAppInBrowser": True, "litePluginSettings": {f"{KERNEL}:kernel": kernel},
        "settingsOverrides": {"@jupyterlab/apputils-extension:themes": {"adaptive-theme": True}}}}


def _leave_out(build: Path) -> None:
    """Delete fonts in older formats, and the scripts that nothing but unused libraries would load."""
    for font in build.glob("fa-*"):
        if font.suffix in (".svg", ".eot", ".ttf", ".woff"):  # a browser that runs WebAssembly reads .woff2
            font.unlink()
    entry = re.compile(r'"([@\w./-]+)",(?:"[^"]*"|\[[^]]*\]),\(\(\)=>((?:Promise\.all\(\[)?(?:\w\.e\(\d+\),?)+)')
    bundle = (build / "notebooks" / "bundle.js").read_text(encoding="utf-8")
    files = {path.name.split(".")[0]: path for path in build.glob("[0-9]*.js")}
    texts = {number: path.read_text(encoding="utf-8") for number, path in files.items()}
    wanted = [loads for library, loads in entry.findall(bundle) if library not in UNUSED]
    wanted += [entry.sub("", bundle), *[path.read_text(encoding="utf-8") for path in build.glob("jlab_core.*.js")]]
    kept: set[str] = set()
    while wanted:
        for number in set(re.findall(r"\b\w\.e\((\d+)\)", wanted.pop())) - kept:
            if number in texts and not any(mark in texts[number] for mark in UNUSED_MARKS):
                kept.add(number)
                wanted.append(texts[number])
    for number in files.keys() - kept:
        files[number].unlink()


def _add_contents(folder: Path) -> None:
    """Put the chapters where JupyterLite looks for files, list them as its server would, and link to them."""
    (folder / "files").mkdir()
    listed, links = [], []
    for path in sorted(HERE.parent.glob("[0-9][0-9]_*.ipynb")):
        number, notebook = int(path.name[:2]), json.loads(path.read_text(encoding="utf-8"))
        title = "".join(notebook["cells"][0]["source"]).splitlines()[0].removeprefix("# ")
        _write(folder / "files" / path.name, _for_the_browser(notebook, number))
        for picture in re.findall(r"\]\(((?:pictures|diagrams)/\w+\.\w+)\)", json.dumps(notebook)):
            (folder / "files" / picture).parent.mkdir(exist_ok=True)
            shutil.copy(HERE.parent / picture, folder / "files" / picture)
        listed.append({"name": path.name, "path": path.name, "type": "notebook", "format": None, "content": None,
                       "mimetype": None, "size": (folder / "files" / path.name).stat().st_size, **DATES})
        seconds = f"About {SECONDS[number]} s of computing" if number in SECONDS else "Runs here"
        words = "To be read here, and run in a copy of the repository" if number == READ_ONLY else seconds
        links.append((f"chapters/notebooks/index.html?path={path.name}", title, words))
    (folder / "api" / "contents").mkdir(parents=True)
    _write(folder / "api" / "contents" / "all.json", {
        "name": "", "path": "", "type": "directory", "format": "json", "content": listed, "mimetype": None,
        "size": None, **DATES})
    write_list(folder.parent / "chapters.html", "Chapters", "Notebooks that run in this browser, with nothing to "
               "install: Python is loaded with the first cell, and everything is computed here.", links)


def _for_the_browser(notebook: dict[str, Any], number: int) -> dict[str, Any]:
    """Return a chapter with a note below its opening, its kernel's name here, and outputs that may be shown."""
    cells = [_shown(cell) if cell["cell_type"] == "code" else cell for cell in notebook["cells"]]
    words = NOTES.get(number, "")
    if number != READ_ONLY:
        others = f"; all others together take about {SECONDS[number]} s" if number in SECONDS else ""
        words = (f"The first cell loads Python, which takes about 15 s{others}.  "
                 f"Nothing that you write leaves this page.  {words}")
    cells.insert(1, {"cell_type": "markdown", "id": "in-the-browser", "metadata": {},
                     "source": f"**In this browser.**  {words}".rstrip()})
    return notebook | {"cells": cells, "metadata": {"kernelspec": {
        "name": "python", "display_name": "Python (Pyodide)", "language": "python"}}}


def _shown(cell: dict[str, Any]) -> dict[str, Any]:
    """Return a cell whose outputs are shown: trusted, and each text in one piece, as a server would have put it."""
    outputs = [output | {"data": {kind: "".join(value) for kind, value in output["data"].items()}}
               if "data" in output else output for output in cell["outputs"]]
    return cell | {"metadata": cell["metadata"] | {"trusted": True}, "outputs": outputs}


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
