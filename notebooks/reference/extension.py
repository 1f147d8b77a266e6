"""The Sphinx extension: formulas set by autograd's own typesetter, examples that run, docstrings as they are."""

from __future__ import annotations

import inspect
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from autograd.view.card.mathematics import typeset

from .docstrings import as_rest
from .running import Trouble, graph, run


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("unicode", (_inline, None), (_block, None))
    app.add_directive("run", Run)
    app.connect("autodoc-process-docstring", _process)
    app.connect("autodoc-skip-member", _skip)
    app.connect("html-page-context", _shorten_sidebar, priority=400)  # before the theme asks for it
    return {"parallel_read_safe": False, "parallel_write_safe": True}


# ---------------------------------------------------------------------- formulas


def _inline(translator: Any, node: nodes.Node) -> None:
    text = node.astext()
    translator.body.append(f'<span class="math{" short" * (len(text) < 30)}">{typeset(text)}</span>')
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.Node) -> None:
    lines = "".join(f"<div>{typeset(line.strip())}</div>" for line in node.astext().splitlines() if line.strip())
    translator.body.append(f'<div class="math">{lines}</div>')
    raise nodes.SkipNode


# ---------------------------------------------------------------------- examples


class Run(SphinxDirective):
    """An example that is run on the names that those above it on the page have made.

    :graph: a name, whose tape is drawn below; :raises: the exception that the example is about.
    """

    has_content = True
    option_spec = {"graph": directives.unchanged, "raises": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        names: Any = self.env.temp_data.setdefault("names of examples", {})  # those of this page
        code = "\n".join(self.content)
        try:
            printed = run(code, names, f"{self.env.docname}.md:{self.lineno}", self.options.get("raises", ""))
            picture = graph(names[self.options["graph"]]) if "graph" in self.options else ""
        except Trouble as trouble:
            raise ExtensionError(str(trouble)) from trouble
        made: list[nodes.Node] = [nodes.literal_block(code, code, language="python")]
        if printed:
            made.append(nodes.literal_block(printed, printed, language="text", classes=["output"]))
        if picture:
            made.append(nodes.raw("", picture, format="html"))
        return made


def _process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_rest(lines, obj)


def _skip(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what is made of Python's own (`current_mode = _mode.get`), with Python's docstring."""
    return True if inspect.isbuiltin(obj) else None


def _shorten_sidebar(app: Sphinx, name: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """List in the sidebar what is beside and below the page: all pages on every page were half of the whole."""
    if tree := context.get("toctree"):
        context["toctree"] = lambda **settings: tree(**settings | {"collapse": True})
