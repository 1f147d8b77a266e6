"""Tokens on disk: NumPy's .npy files, written piece by piece, mapped into memory, and kept for the next run.

They hold integers and nothing that could be run; a file is written whole or not at all.
"""

import hashlib
import json
import mmap
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from tqdm import tqdm

from ..model.module import Array
from ..runtime.writing import replacing, sweep
from .corpus import Corpus
from .tokenizers import VOCAB_SIZE, LossyTextError, Tokenizer, from_json
from .tokenizers.base import tokenizer_class

_VERSION = 3  # part of the names of kept files: raise it when the same text would give other tokens
_DTYPES = ("|u1", "<u2", "<u4")
_BLOCK = 1 << 22  # bytes checked at a time
_MOST_LEARNED = 1 << 26  # bytes of a text that a vocabulary is learned from: more teach it little, and take memory
_KEPT = "-".join(["[0-9a-f]" * 16] * 2) + ".*"  # the names of kept files
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

    def checksum(self, start: int) -> int:
        """CRC-32 of the tokens' bytes, after other bytes whose CRC-32 is `start`."""
        raw = self.tokens.view(np.uint8).data
        for place in range(0, len(raw), _BLOCK):
            start = zlib.crc32(raw[place:place + _BLOCK], start)
            self.release()
        return start


def _header(file: IO[bytes], size: int, path: str | os.PathLike) -> tuple[np.dtype, int, int]:
    """The type and number of the tokens in a file, and where they start, in bounded time and memory."""
    def damaged(what: str) -> ValueError:
        return ValueError(f"{path} is no file of tokens, or damaged ({what})")

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
    with replacing(path) as temporary, open(temporary, "r+b") as file:
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


def kept(corpus: Corpus, kind: str | Tokenizer, border: str = "", folder: str | os.PathLike | None = None,
         vocab_size: int = VOCAB_SIZE, learn_from: int = 0) -> tuple[Tokenizer, TokenFile]:
    """The tokenizer of a kind for a text, or a given one, and the text's tokens in a file, between two `border`s: from
    the folder if it has them, and else made of the text.  `vocab_size`, `learn_from`: see `tokenized`.

    A file is made again when a path, size or time of the text's files has changed, or some of their text, and the old
    one deleted, or when it is damaged, which it says.  Raises OSError if the folder has no room or cannot be written.
    """
    folder = Path(folder or default_folder())
    learned = (vocab_size, learn_from) if isinstance(kind, str) and tokenizer_class(kind).sized else ()
    name = kind if isinstance(kind, str) else json.dumps(kind.to_json())
    slot = _digest(_VERSION, [part.name for part in corpus.parts], name, border, *learned)
    stamp = corpus.stamp
    file = folder / f"{slot}-{_digest(stamp)}.npy"
    try:
        return _opened(file)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        tqdm.write(f"note    the kept tokens of the text cannot be used, and are made again: {error}", sys.stderr)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder, _KEPT)
        made = _make(corpus, kind, border, file, *learned)
        if corpus.stamp != stamp:
            file.unlink(missing_ok=True)
            raise OSError("the text has changed while it was read: start again when it is complete")
        for old in {*folder.glob(f"{slot}-*")} - {file, file.with_suffix(".json")}:
            with suppress(OSError):  # where another run has it open and the system minds
                old.unlink()
    except OSError as error:
        if not error.errno:  # one of ours, which says what to do
            raise
        raise OSError(f"the tokens of the text cannot be kept in {folder} ({error.strerror}): make room there, or "
                      "choose another folder with --cache-dir") from None
    tqdm.write(f"the tokens of the text are kept for the next run, in {file} ({file.stat().st_size:,} bytes)",
               sys.stderr)
    return made


def default_folder() -> Path:
    """Where a user's programs keep what they can make again.  Raises OSError for a user who has no home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tapegrad"
    except RuntimeError:  # neither HOME nor an entry among the users, as in a container
        raise OSError("the tokens of a text of this size are kept in a folder, and there is no home folder for it: "
                      "name one with --cache-dir") from None


def tokenized(kind: str | Tokenizer, pieces: Callable[[str], Iterable[str]], folder: str | None = None,
              vocab_size: int = VOCAB_SIZE, learn_from: int = 0) -> tuple[Tokenizer, Iterator[Array]]:
    """The tokenizer of a kind for a text, or a given one, and the text's tokens, int64 (n,) at a time.

    `pieces(doing)` gives the text, each time anew; in `folder` lies what takes room on the way.  A "bpe" learns at most
    `vocab_size` tokens, from the first `learn_from` bytes of the text, those that are trained on, or all for 0.
    """
    if not isinstance(kind, str):
        return kind, _given(kind, pieces)
    cls = tokenizer_class(kind)
    if cls.sized:
        tokenizer = cls.learn(_first(pieces("vocabulary"), learn_from), vocab_size)
        return tokenizer, tokenizer.encode_pieces(pieces("tokens"))
    return cls.learn_and_encode(pieces, folder)


def _given(tokenizer: Tokenizer, pieces: Callable[[str], Iterable[str]]) -> Iterator[Array]:
    """The tokens of a text, which some tokenizers change (accents, white space); then it says so."""
    base: Any = getattr(tokenizer, "base", tokenizer)  # without the tokens of turns, which no text has in it
    if not hasattr(base, "encode_pieces"):
        yield from map(base.encode, pieces("tokens"))
        return
    try:
        yield from base.encode_pieces(pieces("tokens"))
    except LossyTextError as error:
        tqdm.write(f"note    {str(error).partition(': write')[0]}, and the model learns that", sys.stderr)
        yield from base.encode_pieces(pieces("tokens"), exact=False)


def _first(pieces: Iterable[str], n: int) -> Iterator[str]:
    """The first `n` bytes of a text, or all for 0; where that is more than _MOST_LEARNED, every second piece of them,
    or every third …"""
    step, passed = max(1, -(-n // _MOST_LEARNED)), 0
    for i, piece in enumerate(pieces):
        raw = piece.encode("utf-8", "surrogatepass")
        part = piece if not n or passed + len(raw) <= n else raw[:n - passed].decode("utf-8", "ignore")
        if i % step == 0 and part:
            yield part
        passed += len(raw)
        if n and passed >= n:
            return


def _make(corpus: Corpus, kind: str | Tokenizer, border: str, file: Path, *learned: int) -> tuple[Tokenizer, TokenFile]:
    """Write the tokens of a text, and beside them the tokenizer and a checksum of both; open them."""
    def pieces(doing: str) -> Iterator[str]:
        with tqdm(desc=doing, total=corpus.size, unit="B", unit_scale=True, disable=None) as bar:
            yield border
            for piece in corpus.pieces():
                yield piece
                bar.update(len(piece))
            yield border

    tokenizer, tokens = tokenized(kind, pieces, str(file.parent), *learned)
    write(file, tokens, token_dtype(tokenizer.vocab_size))
    written, described = TokenFile(file), json.dumps(tokenizer.to_json())
    about = {"tokenizer": described, "checksum": _checksum(described, written)}
    with replacing(file.with_suffix(".json")) as temporary:
        temporary.write_bytes(json.dumps(about).encode())
    return tokenizer, written


def _opened(file: Path) -> tuple[Tokenizer, TokenFile]:
    """What `_make` wrote.  Raises FileNotFoundError if it has not, and ValueError if a bit is not as it was."""
    description, tokens = file.with_suffix(".json").read_bytes(), TokenFile(file)
    with suppress(ValueError, RecursionError):  # of json, which would say little
        match json.loads(description):
            case {"tokenizer": str(described), "checksum": int(checksum)} if checksum == _checksum(described, tokens):
                return from_json(json.loads(described)), tokens
    raise ValueError(f"{file} or {file.with_suffix('.json').name} is damaged (the checksum is wrong)")


def _checksum(described: str, tokens: TokenFile) -> int:
    return tokens.checksum(zlib.crc32(described.encode()))


def _digest(*of: Any) -> str:
    return hashlib.sha256(repr(of).encode("utf-8", "surrogateescape")).hexdigest()[:16]
