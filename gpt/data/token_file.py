"""Tokens on disk: .npy files, written in pieces, mapped into memory, and cached for the next run.

They hold integers and no code; a file is written whole or not at all.
"""

import hashlib
import json
import mmap
import os
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

_VERSION = 3  # part of the names of cached files: raise it when the same text would give other tokens
_DTYPES = ("|u1", "<u2", "<u4")
_BLOCK = 1 << 22  # bytes checked at a time
_MOST_LEARNED = 1 << 26  # bytes of text that a vocabulary is learned from: more improve it little, and take memory
_CACHED = "-".join(["[0-9a-f]" * 16] * 2) + ".*"  # pattern of the names of cached files


class TokenFile:
    """The tokens (n,) in a .npy file, as an array mapped from the disk."""

    def __init__(self, path: str | os.PathLike):
        """Raises ValueError for a file that is damaged or holds anything else, OSError for one that is not there."""
        with open(path, "rb") as file:
            dtype, n = _read_header(file, path)
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self.tokens = np.frombuffer(self._map, dtype, n, file.tell())

    def release(self) -> None:
        """Release the pages that this process has mapped, where the system can; they stay in the system's cache."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def checksum(self, start: int) -> int:
        """Compute the CRC-32 of the tokens' bytes, continued from `start`."""
        raw = self.tokens.view(np.uint8).data
        for place in range(0, len(raw), _BLOCK):
            start = zlib.crc32(raw[place:place + _BLOCK], start)
            self.release()
        return start


def _read_header(file: IO[bytes], path: str | os.PathLike) -> tuple[np.dtype, int]:
    """Return type and number of the tokens, which begin where `file` then stands, in bounded time and memory."""
    size = os.fstat(file.fileno()).st_size
    try:
        if np.lib.format.read_magic(file) != (1, 0):  # headers of later versions may be of any length
            raise ValueError("it does not start as a .npy file of version 1.0 does")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file, max_header_size=256)
        if dtype.str not in _DTYPES or len(shape) != 1 or shape[0] < 1:
            raise ValueError(f"it holds {dtype}{list(shape)}, and no vector of {', '.join(_DTYPES)}")
        if (needed := file.tell() + shape[0] * dtype.itemsize) != size:
            raise ValueError(f"{size:,} bytes, and {shape[0]:,} tokens of {dtype.itemsize} need {needed:,}")
    except Exception as error:  # NumPy raises more than ValueError for a damaged header
        reason = (str(error) or type(error).__name__).partition("\n")[0]
        raise ValueError(f"{path} is no file of tokens, or damaged ({reason:.200})") from None
    return dtype, shape[0]


def token_dtype(vocab_size: int) -> np.dtype:
    """Return the smallest type for the tokens of a vocabulary: uint8, uint16 or uint32."""
    return np.dtype(np.min_scalar_type(vocab_size - 1)).newbyteorder("<")


def write_tokens(path: Path, pieces: Iterable[Array], dtype: np.dtype) -> None:
    """Write tokens, given in pieces (n,), whole or not at all."""
    with replacing(path) as temporary, open(temporary, "r+b") as file:
        n = 0
        _write_header(file, dtype, n)
        start = file.tell()
        for piece in pieces:
            file.write(piece.astype(dtype).tobytes())
            n += len(piece)
        file.seek(0)
        _write_header(file, dtype, n)  # NumPy pads it to the same length for any n
        assert file.tell() == start


def _write_header(file: IO[bytes], dtype: np.dtype, n: int) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": (n,)})


def load_or_tokenize(corpus: Corpus, choice: str | Tokenizer, padding: str = "",
                     folder: str | os.PathLike | None = None, vocab_size: int = VOCAB_SIZE,
                     n_train_bytes: int = 0) -> tuple[Tokenizer, TokenFile]:
    """Return the tokenizer of a kind for a text, or the given one, and a file of the tokens of the text between two
    `padding`s: the cached file in the folder, or a new one.  `vocab_size`, `n_train_bytes`: see `tokenize`.

    The file is written anew when the path, size, time or sampled content of one of the text's files has changed, or,
    with a note, when it is damaged.  Raises OSError if the folder has no room or cannot be written.
    """
    folder = Path(folder or default_cache_folder())
    learned = (vocab_size, n_train_bytes) if isinstance(choice, str) and tokenizer_class(choice).sized else ()
    key = choice if isinstance(choice, str) else json.dumps(choice.to_json())
    slot = _digest(_VERSION, [source.name for source in corpus.sources], key, padding, *learned)
    stamp = corpus.stamp
    file = folder / f"{slot}-{_digest(stamp)}.npy"
    try:
        return _open(file)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        tqdm.write(f"note    the kept tokens of the text cannot be used, and are made again: {error}", sys.stderr)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder, _CACHED)
        found = _tokenize_to(file, corpus, choice, padding, *learned)
        if corpus.stamp != stamp:
            file.unlink(missing_ok=True)
            raise OSError("the text has changed while it was read: start again when it is complete")
        for old in {*folder.glob(f"{slot}-*")} - {file, file.with_suffix(".json")}:
            with suppress(OSError):  # some systems delete no file that another process has open
                old.unlink()
    except OSError as error:
        if not error.errno:  # raised above
            raise
        raise OSError(f"the tokens of the text cannot be kept in {folder} ({error.strerror}): make room there, or "
                      "choose another folder with --cache-dir") from None
    tqdm.write(f"the tokens of the text are kept for the next run, in {file} ({file.stat().st_size:,} bytes)",
               sys.stderr)
    return found


def default_cache_folder() -> Path:
    """Return this program's folder in the user's cache folder.  Raises OSError for a user without a home folder."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tapegrad"
    except RuntimeError:  # neither HOME nor an entry among the users, as in a container
        raise OSError("the tokens of a text of this size are kept in a folder, and there is no home folder for it: "
                      "name one with --cache-dir") from None


def tokenize(choice: str | Tokenizer, pieces: Callable[[str], Iterable[str]], folder: str | None = None,
             vocab_size: int = VOCAB_SIZE, n_train_bytes: int = 0) -> tuple[Tokenizer, Iterator[Array]]:
    """Return the tokenizer of a kind for a text, or the given one, and the text's tokens, int64 (n,) at a time.

    `pieces(task)` yields the text anew.  `folder`: for temporary files.  Some kinds ("bpe") learn at most `vocab_size`
    tokens, from the first `n_train_bytes` of the text, which are trained on; 0: from all of it.
    """
    if not isinstance(choice, str):
        return choice, _encode(choice, pieces)
    cls = tokenizer_class(choice)
    if cls.sized:
        tokenizer = cls.learn(_first_bytes(pieces("vocabulary"), n_train_bytes), vocab_size)
        return tokenizer, tokenizer.encode_pieces(pieces("tokens"))
    return cls.learn_and_encode(pieces, folder)


def _encode(tokenizer: Tokenizer, pieces: Callable[[str], Iterable[str]]) -> Iterator[Array]:
    """Yield the tokens of a text; print a note if the tokenizer changes the text (accents, white space)."""
    base: Any = getattr(tokenizer, "base", tokenizer)  # without the tokens of turns, which no text has in it
    if not hasattr(base, "encode_pieces"):
        yield from map(base.encode, pieces("tokens"))
        return
    try:
        yield from base.encode_pieces(pieces("tokens"))
    except LossyTextError as error:
        tqdm.write(f"note    {str(error).partition(': write')[0]}, and the model learns that", sys.stderr)
        yield from base.encode_pieces(pieces("tokens"), exact=False)


def _first_bytes(pieces: Iterable[str], n: int) -> Iterator[str]:
    """Yield the first `n` bytes of a text, or all for 0; of more than _MOST_LEARNED bytes only every second piece,
    every third, and so on."""
    step, passed = max(1, -(-n // _MOST_LEARNED)), 0
    for i, piece in enumerate(pieces):
        raw = piece.encode("utf-8", "surrogatepass")
        text = piece if not n or passed + len(raw) <= n else raw[:n - passed].decode("utf-8", "ignore")
        if i % step == 0 and text:
            yield text
        passed += len(raw)
        if n and passed >= n:
            return


def _tokenize_to(file: Path, corpus: Corpus, choice: str | Tokenizer, padding: str,
                 *learned: int) -> tuple[Tokenizer, TokenFile]:
    """Write the tokens of a text, and beside them the tokenizer and a checksum of both; return tokenizer and tokens."""
    def pieces(task: str) -> Iterator[str]:
        with tqdm(desc=task, total=corpus.size, unit="B", unit_scale=True, disable=None) as bar:
            yield padding
            for piece in corpus.pieces():
                yield piece
                bar.update(len(piece))
            yield padding

    tokenizer, tokens = tokenize(choice, pieces, str(file.parent), *learned)
    write_tokens(file, tokens, token_dtype(tokenizer.vocab_size))
    written, described = TokenFile(file), json.dumps(tokenizer.to_json())
    description = {"tokenizer": described, "checksum": _checksum(described, written)}
    with replacing(file.with_suffix(".json")) as temporary:
        temporary.write_bytes(json.dumps(description).encode())
    return tokenizer, written


def _open(file: Path) -> tuple[Tokenizer, TokenFile]:
    """Open the files that `_tokenize_to` wrote.  Raises FileNotFoundError if they are not there, and ValueError if they
    are damaged."""
    description, tokens = file.with_suffix(".json").read_bytes(), TokenFile(file)
    with suppress(ValueError, RecursionError):  # the JSON is damaged
        match json.loads(description):
            case {"tokenizer": str(described), "checksum": int(checksum)} if checksum == _checksum(described, tokens):
                return from_json(json.loads(described)), tokens
    raise ValueError(f"{file} or {file.with_suffix('.json').name} is damaged (the checksum is wrong)")


def _checksum(described: str, tokens: TokenFile) -> int:
    return tokens.checksum(zlib.crc32(described.encode()))


def _digest(*values: Any) -> str:
    return hashlib.sha256(repr(values).encode("utf-8", "surrogateescape")).hexdigest()[:16]
