"""Run a reader's code as the live page does: what it prints, what its last line shows, its error, and its tape.

This runs in the page's Python.  Whatever it tells the page goes through `send(what, text)`, where `what` is "text",
"error" (with the line that failed before the first newline), "html", "player", "changed" (a player, too) or "answer".
"""

from __future__ import annotations

import ast
import json
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
TAPES: dict[int, ag.Tape] = {}
"""The tapes that the page plays: 0, that of the code, and 1, the latest with another value."""


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
        waiting, self.waiting = self.waiting, []
        if waiting:
            self.send("text", "".join(waiting))
        self.sent = time.monotonic()

    def isatty(self) -> bool:
        return False


def run(source: str, send: Send) -> None:
    """Run the code in a module of its own and send what comes of it; at the end the player of the newest tape, unless
    the code has shown one."""
    TAPES.clear()
    printer, module = Printer(send), ModuleType("__main__")
    sys.modules["__main__"] = module
    linecache.cache[FILE] = (len(source), None, source.splitlines(True), FILE)  # for tracebacks and records
    with redirect_stdout(printer), redirect_stderr(printer), np.errstate(), np.printoptions(linewidth=66):
        shown = None
        try:
            shown = _execute(source, vars(module))
            if shown is not None:
                _show(shown, send, printer)
        except BaseException as error:  # SystemExit and KeyboardInterrupt, too: the page goes on
            printer.flush()
            send("error", _explain(error))
        printer.flush()
        if not hasattr(shown, "page"):
            with suppress(Exception):  # a tape whose values are gone, as its leaves have changed since
                _send_player(vars(module), send)


def _execute(source: str, namespace: dict[str, Any]) -> Any:
    """Execute the code, and return the value of its last line if that is an expression."""
    tree = ast.parse(source, FILE)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, FILE, "exec"), namespace)
    if last is not None:
        return eval(compile(ast.Expression(last.value), FILE, "eval"), namespace)  # type: ignore[attr-defined]


def _show(value: Any, send: Send, printer: Printer) -> None:
    """Send the page or picture of a value that has one, and otherwise print its repr."""
    printer.flush()
    page, html = getattr(value, "page", None), None
    if not isinstance(value, (ag.Tensor, ag.Tape, type)):  # their text says more than their table
        bundle = value._repr_mimebundle_() if hasattr(value, "_repr_mimebundle_") else {}
        html = bundle.get("text/html") or bundle.get("image/svg+xml") or \
            (value._repr_html_() if hasattr(value, "_repr_html_") else None)
    if isinstance(page, str):
        if isinstance(getattr(value, "tape", None), ag.Tape):
            TAPES[0] = value.tape
        _send_page("player", page, send)
    elif isinstance(html, str):
        _send_page("html", html, send)
    else:
        print(repr(value))


def _send_page(what: str, page: str, send: Send) -> None:
    if len(page) > LARGEST:
        page, what = f"a page of {len(page) / 1e6:.0f} MB, too large to be shown here", "text"
    send(what, page)


def _send_player(namespace: dict[str, Any], send: Send) -> None:
    """Send the player of the tape behind the newest result that has a name."""
    results = [v for v in namespace.values() if isinstance(v, ag.Tensor) and v.op is not None]
    if results:
        TAPES[0] = ag.tape(max(results, key=lambda t: t.created))
        _send_page("player", TAPES[0].player().page, send)


def what_if(question: str, send: Send) -> None:
    """Give record `n` of a tape another value, and send what changes as the answer, or with `play` the player of the
    changed tape.  The question is JSON: which of `TAPES`, n, value (JSON again, a number or lists of them), play."""
    which, n, value, play = json.loads(question)
    try:
        if which not in TAPES:
            raise ValueError("This tape is gone: run the code again.")
        record = TAPES[which][n]
        found = TAPES[which].what_if({record: np.array(json.loads(value), record.dtype)})
        if play:
            TAPES[1] = found.tape
            _send_page("changed", found.tape.player(focus=found.diff.partners.get(record)).page, send)
        else:
            send("answer", repr(found))
    except Exception as error:  # of a shape that does not fit, or from the code's own operations
        send("answer", str(error))


def _explain(error: BaseException) -> str:
    """Return the line of the code that failed, or 0, and below it the traceback: of it the lines of the code."""
    shown = chained = traceback.TracebackException.from_exception(error)
    own = _own_lines(shown)
    while chained is not None:
        chained.stack = _own_lines(chained)
        for name in ("__cause__", "__context__"):
            if (before := getattr(chained, name)) is not None and not _own_lines(before):
                setattr(chained, name, None)  # it was raised and caught below the code
        chained = chained.__cause__ or chained.__context__
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == FILE else own[-1].lineno if own else 0
    return f"{line}\n" + "".join(shown.format())


def _own_lines(shown: traceback.TracebackException) -> traceback.StackSummary:
    return traceback.StackSummary.from_list([frame for frame in shown.stack if frame.filename == FILE])
