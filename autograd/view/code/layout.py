"""Lines of a program: comments in a column, and long lines broken."""

from __future__ import annotations

import re

import numpy as np

from .source import array_literal, memory_order, text_of

COLUMN = 64
"""Column in which comments begin."""
WIDTH = 120


def lay_out(text: str, comment: str = "", indent: int = 0) -> str:
    """Return a statement with its comment behind it, or above it where that is too long."""
    space = " " * indent
    if not comment:
        return break_line(space + text)
    line = f"{space + text:{COLUMN}}  # {comment}"
    if len(line) <= WIDTH and len(space + text) <= WIDTH - 40:
        return line
    return f"{space}# {comment}\n{break_line(space + text)}" if len(comment) < WIDTH - 8 else break_line(space + text)


def break_line(line: str) -> str:
    """Return a line of code, broken at the commas of its outermost brackets if it is longer than `WIDTH`."""
    if len(line) <= WIDTH or "\n" in line:
        return line
    opening = next((i for i, c in enumerate(line) if c in "([{"), None)
    if opening is None:
        return line
    rows, row = [], line[:opening + 1]
    space = " " * (opening + 1 if opening < 60 else len(line) - len(line.lstrip()) + 8)
    for piece in _pieces(line[opening + 1:]):
        if len(row) + len(piece) > WIDTH - 1 and row.strip():
            rows.append(row.rstrip())
            row = space + piece.lstrip()
        else:
            row += piece
    return "\n".join([*rows, row])


def _pieces(text: str) -> list[str]:
    """Cut a text behind the commas that are outside of inner brackets and strings."""
    pieces, depth, start, quote = [], 0, 0, ""
    for i, c in enumerate(text):
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and depth <= 0:
            pieces.append(text[start:i + 1])
            start = i + 1
    return [*pieces, text[start:]]


def array_text(a: np.ndarray, indent: int) -> str:
    """Return the expression of an array, its rows below each other at this indentation."""
    text = text_of(array_literal(a))
    if len(text) + indent <= WIDTH or a.ndim < 1 or memory_order(a) != tuple(range(a.ndim)):
        return text
    head, tail = text.split("[", 1)[0], text[text.rindex("]") + 1:]
    body = text[len(head):len(text) - len(tail)]
    space = " " * (indent + len(head))
    if a.ndim == 2 and a.shape[1] < 3:
        return head + _wrapped(body, len(space) + 1, WIDTH - len(space), "], ") + tail
    rows = re.sub(r"\], \[", lambda found: "],\n" + space + " " * (a.ndim - 1) + "[", body) if a.ndim > 1 else body
    return head + "\n".join(_wrapped(row, len(space) + a.ndim, WIDTH - (0 if i else indent + len(head)))
                            for i, row in enumerate(rows.split("\n"))) + tail


def _wrapped(row: str, indent: int, width: int, between: str = ", ") -> str:
    lines: list[str] = []
    line = ""
    for piece in row.split(between):
        if line and len(line) + len(piece) + len(between) > (width if not lines else WIDTH):
            lines.append(line + between.rstrip())
            line = " " * indent + piece
        else:
            line = f"{line}{between}{piece}" if line else piece
    return "\n".join([*lines, line])
