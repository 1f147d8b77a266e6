"""Run a reader's code as the live page does: what it prints, what its last line shows, its error, and its tape.

This runs in the page's Python.  Whatever it tells the page goes through `send(what, text)`, where `what` is "text",
"error" (with the line that failed before the first newline), "html" or "player".
"""

from __future__ import annotations

import ast
import linecache
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from types import ModuleType
from typing import Any

import numpy as np

import autograd as ag

FILE = "live.py"
MOST = 200_000
"""Characters that a run may print."""
LARGEST = 20_000_000
"""Characters of a page that a run may show."""
Send = Callable[[str, str], Any]


class Printer:
    """A text stream that sends what is printed, a few times a second, up to a limit."""

    encoding = "utf-8"

    def __init__(self, send: Send):
        self.send, self.left, self.waiting, self.sent = send, MOST, [], time.monotonic()

    def write(self, text: str) -> int:
        if self.left > 0:
            self.waiting.append(text[:self.left])
            self.left -= len(text)
            if self.left <= 0:
                self.waiting.append(f"\n… more than {MOST:,} characters: the rest is not shown\n")
            if time.monotonic() - self.sent > 0.1:
                self.flush()
        return len(text)

    def flush(self) -> None:
        if self.waiting:
            self.send("text", "".join(self.waiting))
            self.waiting = []
        self.sent = time.monotonic()

    def isatty(self) -> bool:
        return False


def run(source: str, send: Send) -> None:
    """Run the code in a module of its own and send what comes of it."""
    printer, module = Printer(send), ModuleType("__main__")
    sys.modules["__main__"] = module
    linecache.cache[FILE] = (len(source), None, source.splitlines(True), FILE)  # for tracebacks and records
    with redirect_stdout(printer), redirect_stderr(printer):
        try:
            shown = _execute(source, vars(module))
            if shown is not None:
                print(_show(shown, send, printer))
        except BaseException as error:  # SystemExit and KeyboardInterrupt, too: the page goes on
            printer.flush()
            send("error", _explain(error))
        printer.flush()
        with suppress(Exception):  # a tape that cannot be played, since its leaves were changed in place
            _send_player(vars(module), send)


def _execute(source: str, namespace: dict[str, Any]) -> Any:
    """Execute the code, and return the value of its last line if that is an expression."""
    tree = ast.parse(source, FILE)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, FILE, "exec"), namespace)
    if last is not None:
        return eval(compile(ast.Expression(last.value), FILE, "eval"), namespace)  # type: ignore[attr-defined]


def _show(value: Any, send: Send, printer: Printer) -> str:
    """Send a value that has a page or a picture, and return "" then, and otherwise its repr."""
    printer.flush()
    page = getattr(value, "page", None)
    if isinstance(value, (ag.Tensor, ag.Tape, np.ndarray)):
        return repr(value)
    if isinstance(page, str):
        return _send_page("player", page, send)
    bundle = value._repr_mimebundle_() if hasattr(value, "_repr_mimebundle_") else {}
    html = bundle.get("text/html") or bundle.get("image/svg+xml") or \
        (value._repr_html_() if hasattr(value, "_repr_html_") else None)
    return _send_page("html", html, send) if isinstance(html, str) else repr(value)


def _send_page(what: str, page: str, send: Send) -> str:
    if len(page) > LARGEST:
        return f"a page of {len(page) / 1e6:.0f} MB, too large to be shown here"
    send(what, page)
    return ""


def _send_player(namespace: dict[str, Any], send: Send) -> None:
    """Send the player of the tape behind the newest result that has a name."""
    results = [v for v in namespace.values() if isinstance(v, ag.Tensor) and v.op is not None]
    if results:
        newest = max(results, key=lambda t: t.created)
        _send_page("player", ag.tape(newest).player().page, send)


def _explain(error: BaseException) -> str:
    """Return the line of the code that failed, or 0, and below it the traceback from there on."""
    steps = error.__traceback__
    while steps is not None and steps.tb_frame.f_code.co_filename != FILE:
        steps = steps.tb_next
    own = [line for frame, line in traceback.walk_tb(steps) if frame.f_code.co_filename == FILE]
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == FILE else own[-1] if own else 0
    return f"{line}\n" + "".join(traceback.format_exception(type(error), error, steps))
