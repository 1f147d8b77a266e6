"""A graph that renders itself for notebooks and files, with Graphviz if installed and as the tape in rows otherwise."""

from __future__ import annotations

import base64
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import graphviz

from ...engine import Tape
from ..html import escape
from ..player.player_layout import rows_svg
from ..text import tape_text

PICTURES = {".svg": "svg", ".png": "png", ".pdf": "pdf"}
SOURCES = ("", ".gv", ".dot")
CURE = 'a graph needs Graphviz, which pip install "pygraphviz>=2" brings, as does the system\'s package graphviz'

# Runs in a process of its own, since the library writes font warnings to stderr directly, past Python.
_PYGRAPHVIZ = """
import sys
from pygraphviz import AGraph
source = sys.stdin.buffer.read().decode()
sys.stdout.buffer.write(AGraph(string=source).draw(format=sys.argv[1], prog=sys.argv[2]))
"""


class NoGraphviz(RuntimeError):
    """Raised when neither `dot` nor pygraphviz could render a picture."""


class Graph(graphviz.Digraph):
    """The graphviz.Digraph of a tape.  A notebook shows it; `.save("tape.svg")` (or .png, .pdf) writes the picture,
    `.save("tape.gv")` the source."""

    tape: Tape | None = None

    def __repr__(self) -> str:
        return f"<Graph of a tape of {len(self.tape or ())} records: .save('tape.svg') writes it>"

    def save(self, filename: Any = None, directory: Any = None, *, skip_existing: bool | None = False) -> str:
        """Write the picture, or the source for a name that ends in .gv or .dot, and return its path.

        Raises RuntimeError for a picture if Graphviz is not installed, and ValueError for any other file name.
        """
        ending = os.path.splitext(os.fspath(filename))[1].lower() if filename is not None else ""
        if ending in SOURCES:
            return super().save(filename, directory=directory, skip_existing=skip_existing)
        if ending not in PICTURES:
            raise ValueError(f"{filename}: a graph is saved as .svg, .png or .pdf, and its source as .gv")
        path = os.path.join(directory or "", os.fspath(filename))
        if not (skip_existing and os.path.exists(path)):
            try:
                picture = render_dot(self.source, PICTURES[ending])
            except NoGraphviz as error:
                raise RuntimeError(f"{filename} was not written: {error}") from None
            with open(path, "wb") as file:
                file.write(picture)
        return path

    def _repr_mimebundle_(self, include: Iterable[str] | None = None, exclude: Iterable[str] | None = None,
                          **_: Any) -> dict[str, Any]:
        """Return the graph for a notebook: as SVG, and as PNG for notebooks that do not trust SVG."""
        try:
            bundle = self._pictures()
        except NoGraphviz as error:
            bundle = self._as_rows(str(error))
        kept = set(bundle if include is None else include) - set(exclude or ())
        return {mimetype: data for mimetype, data in bundle.items() if mimetype in kept}

    def _repr_svg_(self) -> str | None:
        """Return the graph as SVG, or the tape in rows if Graphviz is not installed."""
        return self._repr_mimebundle_().get("image/svg+xml")

    def _pictures(self) -> dict[str, Any]:
        pictures: dict[str, Any] = {"image/svg+xml": render_dot(self.source, "svg").decode(), "text/plain": repr(self)}
        with suppress(NoGraphviz):  # some builds of Graphviz cannot write PNG
            pictures["image/png"] = render_dot(self.source, "png")
        return pictures

    def _as_rows(self, why: str) -> dict[str, str]:
        """Return the tape in rows, which needs no Graphviz, under a line that says how to get the graph."""
        why, tape = f"The tape in rows: {why}.", self.tape if self.tape is not None else Tape()
        bundle = {"text/plain": f"{why}\n{tape_text(tape)}"}
        with suppress(Exception):  # a repr never fails
            svg = rows_svg(tape)
            picture = base64.b64encode(svg.encode()).decode()
            html = f'<p>{escape(why)}</p><img alt="The tape in rows" src="data:image/svg+xml;base64,{picture}">'
            bundle |= {"image/svg+xml": svg, "text/html": html}
        return bundle


def render_dot(source: str, format: str, engine: str = "dot") -> bytes:
    """Render DOT source as "svg", "png" or "pdf", with `dot` (or another engine of Graphviz) or else pygraphviz.
    Raises NoGraphviz without them."""
    if sys.platform == "emscripten":
        return _render_in_browser(source, format, engine)
    try:
        return graphviz.Source(source, engine=engine).pipe(format=format, quiet=True)
    except graphviz.ExecutableNotFound:
        why = CURE
    except (subprocess.SubprocessError, OSError) as error:
        why = f"dot could not draw it: {' '.join(str(error).split()):.300}"
    if importlib.util.find_spec("pygraphviz") is None:
        raise NoGraphviz(why)
    command = [sys.executable, "-P", "-c", _PYGRAPHVIZ, format, engine]  # -P: no pygraphviz.py of the working directory
    try:
        done = subprocess.run(command, input=source.encode(), capture_output=True)
    except OSError as error:  # when Python is embedded in another program
        raise NoGraphviz(f"pygraphviz could not be run: {error}") from None
    if done.returncode or not done.stdout:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no picture"])[-1]
        raise NoGraphviz(f"pygraphviz could not draw it: {last:.300}")
    return done.stdout


def _render_in_browser(source: str, format: str, engine: str) -> bytes:
    """Render by the Graphviz that the site brings along, since no program can be started."""
    try:
        from graphviz_wasm import render
    except ImportError:
        raise NoGraphviz("no program can be started in a browser, where .player() draws the graph by itself") from None
    try:
        return render(source, format, engine)
    except RuntimeError as error:
        raise NoGraphviz(f"it could not be drawn: {error!s:.300}") from None
