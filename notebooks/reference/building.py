"""The build: sources and pages made from the registry are put into a folder, and Sphinx makes the reference of it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util.docutils import docutils_namespace

from . import api, chapter_pages, chapters, pages, subjects
from .derivation import read
from .running import Trouble

__all__ = ["Trouble", "build"]

HERE = Path(__file__).parent
PROSE = [f"{name}.md" for name in ("index", "hosts", "views", "glossary", "notation", "extending", "recipe", "why",
                                   "record", "ranks", "contributing")]


def build(folder: Path, work: Path, derivations: Path = HERE / "derivations") -> None:
    """Write the pages into `folder`, by way of `work`, an empty folder.

    Raises Trouble, in a sentence, for an op without a derivation, a derivation without an op, an example or a check
    that fails, and for whatever Sphinx warns of.
    """
    with np.printoptions(precision=4, suppress=True):
        for name in PROSE:
            text = chapter_pages.link_chapters((HERE / name).read_text(encoding="utf-8"), "chapters/")
            text = subjects.insert_words(text) if name == "glossary.md" else subjects.insert(text, name)
            subjects.check(text, name)
            (work / name).write_text(text, encoding="utf-8")
        with (work / "index.md").open("a", encoding="utf-8") as index:
            index.write(chapters.links_to_site(folder.resolve().parent))
        chapter_pages.write(work, folder.resolve().parent)
        pages.write(work, read(derivations), folder.resolve())
        api.write(work)
        _run_sphinx(work, folder)


def _run_sphinx(work: Path, folder: Path) -> None:
    """Build in `work`, since MyST-NB writes beside the folder it is given, and copy what was made."""
    try:
        with docutils_namespace():
            app = Sphinx(str(work), str(HERE), str(work / "made" / "html"), str(work / "made" / "doctrees"), "html",
                         status=None, confoverrides={"html_extra_path": [str(work / "extra")]}, warning=sys.stderr,
                         freshenv=True, warningiserror=True)
            app.build(force_all=True)
    except SphinxError as error:
        raise Trouble(str(error)) from error
    if app.statuscode:
        raise Trouble("Sphinx warns, above")
    for old in ("_sources", "ops", "api", "chapters"):  # what an earlier build made of what is no longer there
        shutil.rmtree(folder / old, ignore_errors=True)
    shutil.copytree(work / "made" / "html", folder, dirs_exist_ok=True)
