"""Tokens on disk: NumPy's .npy files, written piece by piece, opened without reading them, and kept for the next run.

They hold integers and nothing that could be run; a file is written whole or not at all.
"""

import hashlib
import json
import mmap
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from tqdm import tqdm

from .corpus import Corpus
from .module import Array
from .tokenizer import Tokenizer, from_json, make

_VERSION = 1  # part of the names of kept files: raise it when the same text would give other tokens
_DTYPES = ("|u1", "<u2", "<u4")
_HEADER = re.compile(rb"\{'descr': '(\|u1|<u2|<u4)', 'fortran_order': False, 'shape': \((\d{1,18}),\), \} *\n")


class TokenFile:
    """The tokens (n,) in a .npy file, as an array that lies on disk and is read where it is used."""

    def __init__(self, path: str | os.PathLike):
        """Raises ValueError for a file that is damaged or holds anything else, OSError for one that is not there."""
        with open(path, "rb") as file:
            dtype, n, start = _header(file, os.fstat(file.fileno()).st_size, path)
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.tokens = np.frombuffer(self._map, dtype, n, start)

    def release(self) -> None:
        """Let the pages that were used go from this process's memory, where the system can; they stay in its cache."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def _header(file: IO[bytes], size: int, path: str | os.PathLike) -> tuple[np.dtype, int, int]:
    """The type and number of the tokens in a file, and where they start, in bounded time and memory."""
    def damaged(what: str) -> ValueError:
        return ValueError(f"{path} is no file of tokens, or damaged ({what}): delete it, and it is made again from the "
                          "text")

    start = file.read(10)
    if start[:8] != b"\x93NUMPY\x01\x00" or len(start) < 10:
        raise damaged("it does not start as a .npy file of version 1.0 does")
    header = file.read(int.from_bytes(start[8:], "little"))  # 64 KB at most
    if not (found := _HEADER.fullmatch(header)):
        raise damaged(f"its header is not that of a vector of {', '.join(_DTYPES)}: {header[:80]!r}")
    dtype, n = np.dtype(found[1].decode()), int(found[2])
    if n < 1 or file.tell() + n * dtype.itemsize != size:
        raise damaged(f"{size:,} bytes, and {n:,} tokens of {dtype.itemsize} need {file.tell() + n * dtype.itemsize:,}")
    return dtype, n, file.tell()


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest type for the tokens of a vocabulary: uint8, uint16 or uint32."""
    return np.dtype(np.min_scalar_type(vocab_size - 1)).newbyteorder("<")


def write(path: Path, pieces: Iterable[Array], dtype: np.dtype) -> None:
    """Write tokens, given in pieces (n,), whole or not at all."""
    with _replacing(path) as file:
        n = 0
        _write_header(file, dtype, n)
        start = file.tell()
        for piece in pieces:
            file.write(piece.astype(dtype).tobytes())
            n += len(piece)
        file.seek(0)
        _write_header(file, dtype, n)  # NumPy leaves room in it for any number
        assert file.tell() == start


def _write_header(file: IO[bytes], dtype: np.dtype, n: int) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": (n,)})


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path` once it is whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def kept(corpus: Corpus, kind: str, border: str = "",
         folder: str | os.PathLike | None = None) -> tuple[Tokenizer, TokenFile]:
    """The tokenizer of a kind for a text, and the text's tokens in a file, between two `border`s: from the folder if it
    has them, and else made, in two passes over the text.

    A file is made again when a path, size or time of the text's files has changed, and the old one deleted.
    Raises OSError if the folder has no room or cannot be written.
    """
    folder = Path(folder or default_folder())
    slot = _digest(_VERSION, [part.name for part in corpus.parts], kind, border)
    stamp = corpus.stamp
    file = folder / f"{slot}-{_digest(stamp)}.npy"
    try:
        return from_json(json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))), TokenFile(file)
    except (OSError, ValueError):  # not there, or damaged
        pass
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer = _make(corpus, kind, border, file)
    except OSError as error:
        if not error.errno:  # one of ours, which says what to do
            raise
        raise OSError(f"the tokens of the text cannot be kept in {folder} ({error.strerror}): make room there, or "
                      "choose another folder with --cache-dir") from None
    if corpus.stamp != stamp:
        file.unlink(missing_ok=True)
        raise OSError("the text has changed while it was read: start again when it is complete")
    tqdm.write(f"the tokens of the text are kept for the next run, in {file} ({file.stat().st_size:,} bytes)",
               sys.stderr)
    for old in {*folder.glob(f"{slot}-*")} - {file, file.with_suffix(".json")}:
        old.unlink(missing_ok=True)
    return tokenizer, TokenFile(file)


def default_folder() -> Path:
    """Where a user's programs keep what they can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tapegrad"


def _make(corpus: Corpus, kind: str, border: str, file: Path) -> Tokenizer:
    def pieces(doing: str) -> Iterator[str]:
        with tqdm(desc=doing, total=corpus.size, unit="B", unit_scale=True, disable=None) as bar:
            yield border
            for piece in corpus.pieces():
                yield piece
                bar.update(len(piece))
            yield border

    tokenizer = make(kind, pieces("vocabulary"))
    with _replacing(file.with_suffix(".json")) as description:  # first: where the tokens are, it is too
        description.write(json.dumps(tokenizer.to_json()).encode())
    write(file, map(tokenizer.encode, pieces("tokens")), token_dtype(tokenizer.vocab_size))
    return tokenizer


def _digest(*of: Any) -> str:
    return hashlib.sha256(repr(of).encode("utf-8", "surrogateescape")).hexdigest()[:16]
