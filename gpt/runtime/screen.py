"""The terminal: everything that is printed there passes through here, and control sequences are escaped.

Text of a model, file names and a checkpoint's metadata are untrusted: an escape sequence in them could set the
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

# Control characters but tab and newline; characters that reorder a line (bidirectional embeddings, overrides and
# isolates) or end it; surrogates and noncharacters.  Joiners and marks, which some scripts need, stay.
_UNSAFE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u206f\ud800-\udfff\ufff0-\ufffb\ufeff]")


class Screen:
    """A text stream to a terminal that escapes control sequences, as in `\\x1b`.

    `bars`: a write may begin with a carriage return, by which a progress bar writes over itself.
    """

    def __init__(self, stream: Any, bars: bool = False):
        self.stream, self.bars = stream, bars

    def write(self, text: str) -> int:
        """Write a text, escaped."""
        start = "\r" if self.bars and text.startswith("\r") else ""
        self.stream.write(start + _UNSAFE.sub(lambda found: escape(found[0]), text[len(start):]))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write lines, escaped."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def protect_terminal() -> Iterator[None]:
    """Make standard output and standard error a `Screen` within it, if they are a terminal; after an error it stays,
    for the traceback."""
    before = sys.stdout, sys.stderr
    for name, bars in (("stdout", False), ("stderr", True)):
        if (stream := getattr(sys, name)).isatty():
            setattr(sys, name, Screen(stream, bars))
    yield
    sys.stdout, sys.stderr = before


def escape_line(text: str) -> str:
    """Return a text as part of a line, also in a pipe or file: with spaces for line ends, and else escaped."""
    return escape(" ".join(text.split()))


def escape(text: str) -> str:
    """Return a text with an escape for each character that is not printable, line ends too."""
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
