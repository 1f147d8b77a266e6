"""Text to train on: reading it, splitting it, and drawing batches of it."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .module import Array

# Where a stripped Python lacks its documentation: about as much text, from modules that every Python has.
_SOURCES = ("argparse", "ast", "calendar", "configparser", "dataclasses", "datetime", "difflib", "enum", "functools",
            "inspect", "pathlib", "random", "shutil", "statistics", "subprocess", "tarfile", "typing", "zipfile")


def default_text() -> tuple[str, str]:
    """English that every machine with Python has, and a line that says what it is."""
    try:
        from pydoc_data.topics import topics
        return "\n\n".join(topics[name] for name in sorted(topics)), "the Python language reference (pydoc_data.topics)"
    except ImportError:
        library = Path(os.__file__).parent
        files = [file for name in _SOURCES if (file := library / f"{name}.py").is_file()]
        if not files:
            raise FileNotFoundError("this Python has neither its reference (pydoc_data) nor its sources: "
                                    "give text with --data FILE") from None
        return ("\n\n".join(file.read_text(encoding="utf-8") for file in files),
                f"source of {len(files)} modules of the standard library, since this Python lacks pydoc_data")


def read_text(paths: Sequence[str] = ()) -> tuple[str, str]:
    """The text of UTF-8 files joined by newlines, `-` for standard input, and a line that says what it is;
    without paths the default text.  Raises OSError or ValueError that names the file and the cure."""
    if not paths:
        return default_text()
    return "\n".join(_read(path) for path in paths), ", ".join("standard input" if p == "-" else p for p in paths)


def _read(path: str) -> str:
    name = "standard input" if path == "-" else path
    if not path:
        raise ValueError("--data has an empty name in it: give the path of a file")
    try:
        raw = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: there is no such file: check the path after --data") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{name} is a folder: give the files in it, such as {Path(name) / '*.txt'}") from None
    except OSError as error:
        raise type(error)(f"{name} cannot be read: {error.strerror}") from None
    if not raw:
        raise ValueError(f"{name} is empty: give a file with text in it")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 text (byte 0x{raw[error.start]:02x} at {error.start:,}): "
                         f"save it as UTF-8, or if it is no text give another file") from None
    if "\0" in text:
        raise ValueError(f"{name} is binary (a zero byte at {text.index(chr(0)):,}): give a text file")
    return text.replace("\r\n", "\n")


def split(tokens: Array, block_size: int, name: str = "the text") -> tuple[Array, Array]:
    """The first nine tenths to train on and the last tenth to validate on.

    Raises ValueError if the tenth has no window of block_size tokens and a next one.
    """
    cut = int(len(tokens) * 0.9)
    if len(tokens) - cut <= block_size:
        most = len(tokens) - cut - 1
        raise ValueError(f"{name} is too short with {len(tokens):,} characters: the last tenth is for validation, and "
                         f"a block_size of {block_size} needs about {10 * (block_size + 1):,} in all: add text"
                         + (f", or lower --block-size to {most}" if most else ""))
    return tokens[:cut], tokens[cut:]


def batch(tokens: Array, rng: np.random.Generator, batch_size: int, block_size: int) -> tuple[Array, Array]:
    """Random windows (B, T) and the token after each of theirs (B, T)."""
    starts = rng.integers(len(tokens) - block_size, size=(batch_size, 1))
    windows = tokens[starts + np.arange(block_size + 1)]
    return windows[:, :-1], windows[:, 1:]


def windows(tokens: Array, batch_size: int, block_size: int) -> Iterator[tuple[Array, Array]]:
    """All of `tokens` in windows that do not overlap, batch by batch as `batch` gives them: each token but the
    first is a target once, those at the end in a shorter window."""
    n = (len(tokens) - 1) // block_size
    inputs, targets = (a[:n * block_size].reshape(n, block_size) for a in (tokens[:-1], tokens[1:]))
    for start in range(0, n, batch_size):
        yield inputs[start:start + batch_size], targets[start:start + batch_size]
    if rest := (len(tokens) - 1) % block_size:
        yield tokens[None, -rest - 1:-1], tokens[None, -rest:]
