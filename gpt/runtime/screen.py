"""The terminal: everything that is printed there passes through here, and what could disturb it is escaped.

Text of a model, names of files and a checkpoint's metadata come from others: an escape sequence in them could set the
terminal's title or clipboard, hide a line or write over it.  A pipe or a file gets the text as it is.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

# Control characters but tab and newline; what reorders a line (bidirectional embeddings, overrides and isolates) or
# ends it; surrogates and other characters that stand for none.  Joiners and marks, which some scripts need, stay.
_DISTURBING = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u206f\ud800-\udfff\ufff0-\ufffb\ufeff]")


class Screen:
    """A text stream to a terminal, in which all that could disturb it is escaped, as in `\\x1b`.

    `bars`: a write may begin with a carriage return, as a bar of progress does to write over itself.
    """

    def __init__(self, stream: Any, bars: bool = False):
        self.stream, self.bars = stream, bars

    def write(self, text: str) -> int:
        start = "\r" if self.bars and text.startswith("\r") else ""
        self.stream.write(start + _DISTURBING.sub(lambda found: escaped(found[0]), text[len(start):]))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def screens() -> Iterator[None]:
    """Within it standard output and standard error are a `Screen`, where they are a terminal; and after an error, too,
    for its traceback."""
    before = sys.stdout, sys.stderr
    for name, bars in (("stdout", False), ("stderr", True)):
        if (stream := getattr(sys, name)).isatty():
            setattr(sys, name, Screen(stream, bars))
    yield
    sys.stdout, sys.stderr = before


def in_a_line(text: str) -> str:
    """A text that becomes part of a line, also in a pipe or file: line ends are spaces, and all else is `escaped`."""
    return escaped(" ".join(text.split()))


def escaped(text: str) -> str:
    """A text in which each character that is not printable, a line end too, is an escape."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


# ---------------------------------------------------------------------- lines that are printed


def announce(line: str) -> None:
    """Print a line above a progress bar, and flush it."""
    tqdm.write(line)
    sys.stdout.flush()


def command_line(arguments: str, out: Any) -> str:
    """Return the command line with these arguments and a folder: `python -m gpt sample out`."""
    return f"{Path(sys.executable).name} -m gpt {arguments} {shlex.quote(str(out))}"


def clock_time(seconds: float) -> str:
    """Return a duration in minutes and seconds, `1:05` for 65 seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
