"""The Sphinx extension: formulas set by autograd's own typesetter, examples that run, docstrings as they are."""

from __future__ import annotations

import functools
import inspect
import re
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

import autograd as ag
from autograd.core.registry import module_of
from autograd.view.card.mathematics import typeset

from .docstrings import as_rest
from .formulas import mathml
from .running import Trouble, graph, run


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("unicode", (_inline, None), (_block, None))
    app.add_directive("run", Run)
    app.connect("autodoc-process-docstring", _process)
    app.connect("autodoc-skip-member", _skip)
    app.connect("html-page-context", _shorten_sidebar, priority=400)  # before the theme asks for it
    app.connect("html-page-context", _link_names)
    return {"parallel_read_safe": False, "parallel_write_safe": True}


# ---------------------------------------------------------------------- formulas


def _inline(translator: Any, node: nodes.Node) -> None:
    text = node.astext()
    if _is_latex(translator):
        translator.body.append(mathml(text))
        raise nodes.SkipNode
    translator.body.append(f'<span class="math{" short" * (len(text) < 30)}">{typeset(text)}</span>')
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.Node) -> None:
    if _is_latex(translator):
        translator.body.append(f'<div class="math">{mathml(node.astext(), display=True)}</div>')
        raise nodes.SkipNode
    lines = "".join(f"<div>{typeset(line.strip())}</div>" for line in node.astext().splitlines() if line.strip())
    translator.body.append(f'<div class="math">{lines}</div>')
    raise nodes.SkipNode


def _is_latex(translator: Any) -> bool:
    """Tell whether a page is a chapter, whose formulas are LaTeX; those of all other pages are plain text."""
    return str(translator.builder.current_docname).startswith("chapters/")


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


# ---------------------------------------------------------------------- names in code

_NAME = re.compile(r'<a\b.*?</a>|(?P<before><span class="(?:pre">|n">ag</span><span class="o">)(?:ag)?\.)'
                   r'(?P<between></span><span class="n">)?(?P<name>\w+)', re.DOTALL)


def _link_names(app: Sphinx, name: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Link `ag.softmax`, in code and in the text, to the page that describes it."""
    pages = _pages_of_names()

    def linked(match: re.Match[str]) -> str:
        path = pages.get(match["name"] or "", "")
        if not path or path == f"{name}.html":
            return match[0]
        start, between = match["before"], match["between"] or ""
        return f'{start}{between}<a class="name" href="{"../" * name.count("/")}{path}">{match["name"]}</a>'

    if not name.startswith("api/") and "body" in context:
        context["body"] = _NAME.sub(linked, context["body"])


@functools.cache
def _pages_of_names() -> dict[str, str]:
    """Name in `ag` -> where in the reference it is described."""
    found = {}
    for name in ag.__all__:
        thing = getattr(ag, name)
        if inspect.ismodule(thing):
            found[name] = f"api/{thing.__name__}.html"
        elif callable(thing):
            found[name] = f"api/{thing.__module__}.html#{thing.__module__}.{thing.__name__}"
    for name in ag.FUNCTIONS:
        found[name] = f"ops/composed.html#{nodes.make_id(name)}"
    for name, op in ag.REGISTRY.items():
        if module_of(op.formula).startswith(("autograd.", "numpy")):
            found[name] = f"ops/{name}.html" if op.rules else f"ops/constant.html#{nodes.make_id(name)}"
    return found
