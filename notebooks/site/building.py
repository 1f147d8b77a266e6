"""The pages of the site, and the archive of Python files that they load."""

from __future__ import annotations

import ast
import hashlib
import re
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import autograd as ag
from autograd.view.page import page
from autograd.view.palette import css
from gpt.data.corpus import default_text
from gpt.view.page.page import fill_page

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PYODIDE = "https://cdn.jsdelivr.net/pyodide/v0.27.7/full/"
"""Pyodide, Python 3.12 and NumPy for the browser, at its usual address."""
PURE = ("graphviz", "tqdm")
"""Packages beside NumPy that tapegrad imports, in pure Python; the archive holds a copy of each with its licence."""
ARCHIVE = "tapegrad.zip"
PAGES = (("live.html", "Live", "Write NumPy, run it in this browser, and play its tape, forward and backward"),
         ("train.html", "Train a GPT", "Paste a text, watch a small GPT learn it in this browser, and look inside"),
         ("reference/index.html", "Reference", "A page for each operation, with the derivation of its gradient"))
"""The pages that index.html names, as far as they are there: path, title, description."""


def examples() -> list[dict[str, str]]:
    """Return name, title and source of the live page's examples, in order."""
    files = sorted((HERE / "examples").glob("*.py"))
    sources = [file.read_text(encoding="utf-8") for file in files]
    return [{"name": re.sub(r"^\d+_", "", file.stem), "source": source,
             "title": (ast.get_docstring(ast.parse(source)) or file.stem).splitlines()[0].rstrip(".")}
            for file, source in zip(files, sources)]


def build_pages(folder: Path, pyodide: str = PYODIDE) -> None:
    """Write the live page, the training page and what they load into a folder; `pyodide` is a URL, or a path on the
    site's own host."""
    pyodide = check_address(pyodide)
    folder.mkdir(parents=True, exist_ok=True)
    shared = {"pyodide": pyodide, "digest": pack(folder / ARCHIVE),
              "worker": (HERE / "worker.js").read_text(encoding="utf-8")}
    text, source = default_text()
    player = ag.tape(ag.tensor(1.0, requires_grad=True) * 2.0).player().page
    write_page(folder, "live", "tapegrad live", pyodide, ["live_editor", "live"], framed=player,
               data=shared | {"examples": examples(), "frame": frame_style()})
    write_page(folder, "train", "tapegrad: train a GPT", pyodide, ["curve", "train"], framed=fill_page({"name": ""}),
               data=shared | {"text": text, "source": source})


def write_page(folder: Path, name: str, title: str, pyodide: str, scripts: list[str], framed: str,
               data: dict[str, Any]) -> None:
    """Write a page that runs Python, and shows pages with the script of `framed` in frames."""
    sources = script_sources(framed)
    html = page(HERE, name, title, data | {"scripts": sources}, [f"{each}.js" for each in ["python", *scripts]],
                allowed=policy(sources, pyodide), styles=["site.css"])
    (folder / f"{name}.html").write_text(html, encoding="utf-8")


def build_index(folder: Path) -> None:
    """Write index.html, with a link to each of `PAGES` that is in the folder."""
    links = [f'<li><a href="{path}"><b>{title}</b> <span>{words}.</span></a></li>'
             for path, title, words in PAGES if (folder / path).exists()]
    gaps = {"style": shared_style(), "links": "\n".join(links)}
    template = (HERE / "index.html").read_text(encoding="utf-8")
    (folder / "index.html").write_text(re.sub(r"{{(\w+)}}", lambda gap: gaps[gap[1]], template), encoding="utf-8")


def shared_style() -> str:
    """Return the colours and fonts that all pages share."""
    return css() + (ROOT / "autograd" / "view" / "page.css").read_text(encoding="utf-8")


def check_address(pyodide: str) -> str:
    """Return the address of Pyodide's folder with a slash at its end.  Raises ValueError for one that is no address."""
    if not re.fullmatch(r"(https?://)?[\w.:/~%@+-]+", pyodide):
        raise ValueError(f"--pyodide takes a URL such as {PYODIDE}, or a path on the site's host, and not {pyodide!r}")
    return pyodide.rstrip("/") + "/"


def script_sources(framed: str) -> str:
    """Return the sources of scripts beside the page's own and Pyodide's: WebAssembly, and what a framed page runs."""
    return " ".join(["'wasm-unsafe-eval'", *re.findall(r"script-src ('sha256-[^']+')", framed)])


def policy(sources: str, pyodide: str) -> str:
    """Return what a page may load beside its own script.  Once it knows its own address, the page narrows this to the
    folder of Pyodide and the archive."""
    own = pyodide if "://" in pyodide else "'self'"
    return (f"{sources} {own}; connect-src 'self' {own}; img-src data:; worker-src blob:; "
            "frame-src 'none'; base-uri 'none'; form-action 'none'")


def frame_style() -> str:
    """Return the style of a frame that shows HTML of the reader's code."""
    own = "body { font-size: 13px; margin: 10px; color: var(--ink); }"
    return f"<!DOCTYPE html><style>{shared_style()} {own}</style>"


def pack(path: Path) -> str:
    """Write the archive of both packages and the pure Python they need, and return a digest of it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, file in sorted(_files()):
            entry = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))  # the same bytes for the same files
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _files() -> Iterator[tuple[str, Path]]:
    for name in ("runner.py", "training.py"):
        yield name, HERE / name
    for package in ("autograd", "gpt"):
        for file in (ROOT / package).rglob("*"):
            if file.is_file() and file.parent.name != "__pycache__":  # where Numba keeps what it compiled, too
                yield str(file.relative_to(ROOT).as_posix()), file
    for name in PURE:
        for entry in distribution(name).files or []:
            file: Any = entry.locate()
            if ".." not in entry.parts and entry.suffix != ".pyc" and Path(file).is_file():
                yield entry.as_posix(), Path(file)
