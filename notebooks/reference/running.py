"""Examples: code that is shown is run, and what it prints is shown below it."""

from __future__ import annotations

import io
import linecache
import re
import traceback
import warnings
from contextlib import redirect_stdout
from typing import Any

import autograd as ag
from autograd.view.graph.render import NoGraphviz, render_dot

IMPORTS = "import numpy as np\nimport autograd as ag\n\n"


class Trouble(Exception):
    """An error that keeps the reference from being built."""


def run(code: str, names: dict[str, Any], where: str, raises: str = "") -> str:
    """Run an example on `names`, in which its own stay, and return what it printed; a warning is an error.

    raises: the exception that it is about, whose message is added to the output.  Raises Trouble, which names `where`,
    if it fails, or does not fail in that way.
    """
    file, printed = "example.py", io.StringIO()
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)  # for inspect.getsource
    names.setdefault("__name__", "example")
    try:
        with redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("error")
            exec(compile(code, file, "exec"), names)
    except Exception as error:
        if type(error).__name__ != raises:
            lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
            cause = f"{type(error).__name__}: {error}"
            raise Trouble(f"{where}: the example fails in line {lines[-1] if lines else 0}: {cause}") from error
        return f"{printed.getvalue()}{raises}: {error}".strip()
    if raises:
        raise Trouble(f"{where}: the example was to raise {raises}, and did not")
    return printed.getvalue().rstrip()


def graph(t: ag.Tensor) -> str:
    """The tape of a tensor, drawn, as HTML; in rows, with a line that says why, where there is no Graphviz."""
    drawn: Any = ag.tape(t).draw()  # type: ignore[attr-defined]
    try:
        picture = render_dot(drawn.source, "svg").decode()
    except NoGraphviz:
        picture = drawn._repr_mimebundle_()["text/html"]
    picture = re.sub(r"^\s*<\?xml.*?\?>\s*<!DOCTYPE.*?>\s*|<!--.*?-->\s*", "", picture, flags=re.DOTALL)
    return f'<div class="graph">{picture.strip()}</div>'
