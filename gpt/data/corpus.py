"""Text that is given: found in files, folders, standard input or Python itself, and read in pieces."""

import codecs
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO
from zlib import crc32

BLOCK = 1 << 18  # bytes read at a time: what is made of them stays in the cache (three times as fast as 4 MB)
IN_MEMORY = 1 << 24  # bytes of text that are not worth a file on disk
UTF8 = "utf-8-sig"  # Python's name for it where a byte order mark at the start is dropped
LONGEST = 1 << 20  # characters without a space after which a piece ends all the same

_MARKS = ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"),
          (b"\xfe\xff", "utf-16"))
_SAMPLES, _SAMPLED = 16, 1 << 12  # blocks, and bytes of each, that are looked at for a change of a file

# Where a stripped Python lacks its documentation: about as much text, from modules that every Python has.
_SOURCES = ("argparse", "ast", "calendar", "configparser", "dataclasses", "datetime", "difflib", "enum", "functools",
            "inspect", "pathlib", "random", "shutil", "statistics", "subprocess", "tarfile", "typing", "zipfile")


@dataclass
class Part:
    """A file of text of so many bytes; `stamp()` is another when the content is."""
    name: str
    size: int
    stamp: Callable[[], str]
    open: Callable[[], AbstractContextManager[IO[bytes]]]


@dataclass
class Corpus:
    """All the text that is given, as files of UTF-8, and a line that says what it is."""
    parts: list[Part]
    description: str

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(part.size for part in self.parts)

    @property
    def stamp(self) -> str:
        """Another when a part's content is."""
        return "\n".join(part.stamp() for part in self.parts)

    def pieces(self) -> Iterator[str]:
        """The text, files joined by newlines and each line end as \\n, in pieces of about BLOCK bytes that cut no word.

        Raises ValueError or OSError that names the file and the cure.
        """
        for i, part in enumerate(self.parts):
            if i:
                yield "\n"
            yield from _pieces(part)


def find(paths: Sequence[str] = ()) -> Corpus:
    """The text in files, in folders and those in them, and `-`, standard input; without paths the default text.

    A file is UTF-8, or UTF-16 or UTF-32 with a byte order mark, which is no part of the text.  Of a folder, files are
    taken in the order of their names; those that are hidden, empty or no text are left out, and the description says
    so.  Raises OSError or ValueError that names the file and the cure.
    """
    if not paths:
        text, description = default_text()
        raw = text.encode()
        return Corpus([Part(description, len(raw), lambda: sha256(raw).hexdigest(), lambda: io.BytesIO(raw))],
                      description)
    if list(paths).count("-") > 1:
        raise ValueError("--data has - twice, and standard input can be read only once: give it once")
    found = [_find(path) for path in paths]
    return Corpus([part for corpus in found for part in corpus.parts], ", ".join(c.description for c in found))


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


def _find(path: str) -> Corpus:
    if not path:
        raise ValueError("--data has an empty name in it: give the path of a file or folder")
    try:
        if path == "-":
            part = _spooled(sys.stdin.buffer, "standard input")
        elif Path(path).is_dir():
            return _folder(Path(path))
        elif Path(path).is_file():
            part = _file(Path(path))
        else:  # a pipe can be read only once, and a missing file not at all
            with open(path, "rb") as file:
                part = _spooled(file, path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file: check the path after --data") from None
    except OSError as error:
        raise type(error)(f"{error.filename or path} cannot be read: {error.strerror}") from None
    if not part.size:
        raise ValueError(f"{part.name} is empty: give a file with text in it")
    return Corpus([part], part.name)


def _file(path: Path) -> Part:
    with open(path, "rb") as file:  # now: a file that cannot be read raises before work is done
        size = os.fstat(file.fileno()).st_size
        if not size or encoding_of(file.read(4)) != UTF8:  # a file of /proc says that it has no bytes
            file.seek(0)
            return _spooled(file, str(path))
    return Part(str(path), size, lambda: _stamp(path), lambda: open(path, "rb"))


def _stamp(path: Path) -> str:
    """Another when a file's content is, at a glance: size, times (that of the last change cannot be set back, as
    programs do with the other one), and a checksum of a few blocks, for disks that keep no such time."""
    with open(path, "rb") as file:
        about, checksum = os.fstat(file.fileno()), 0
        for i in range(_SAMPLES):
            file.seek(max(about.st_size - _SAMPLED, 0) * i // (_SAMPLES - 1))
            checksum = crc32(file.read(_SAMPLED), checksum)
    return f"{path.resolve()} {about.st_size} {about.st_mtime_ns} {about.st_ctime_ns} {checksum}"


def _spooled(stream: IO[bytes], name: str) -> Part:
    """A stream as a file of UTF-8 that can be read more than once: in memory if it is small, and else a temporary
    one."""
    spool, digest, at = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY), sha256(), 0  # noqa: SIM115
    block = stream.read(max(BLOCK, 4))
    decode = None if (encoding := encoding_of(block)) == UTF8 else codecs.getincrementaldecoder(encoding)().decode
    while block:
        at, raw = at + len(block), block
        block = stream.read(BLOCK)
        if decode:
            try:
                raw = decode(raw, final=not block).encode()
            except UnicodeDecodeError as error:
                raise ValueError(f"{name} is not {encoding.upper()} text, as its byte order mark says ({error.reason} "
                                 f"before byte {at:,}): save it as UTF-8") from None
        _check_text(raw, spool.tell(), name)  # now: /dev/zero has no end
        digest.update(raw)
        spool.write(raw)

    def again() -> AbstractContextManager[IO[bytes]]:
        spool.seek(0)
        return nullcontext(spool)

    return Part(name, spool.tell(), digest.hexdigest, again)


def encoding_of(start: bytes) -> str:
    """The encoding that the byte order mark at the start of a text tells, for Python's decoders, which drop it; UTF-8
    without one."""
    return next((encoding for mark, encoding in _MARKS if start.startswith(mark)), UTF8)


def _folder(path: Path) -> Corpus:
    parts, skipped = [], dict[str, list[str]]()
    for file, problem in _walk(path):
        if problem := problem or _problem(file):
            skipped.setdefault(problem, []).append(str(file.relative_to(path)))
        else:
            parts.append(_file(file))
    left_out = "; ".join(f"{len(names)} {problem} left out: {', '.join(names[:3])}{', …' * (len(names) > 3)}"
                         for problem, names in skipped.items())
    if not parts:
        raise ValueError(f"{path} has no text files in it{f' ({left_out})' if left_out else ''}: "
                         "give a folder with UTF-8 text in it")
    return Corpus(parts, f"{path} ({len(parts):,} file{'s' * (len(parts) > 1)}{'; ' * bool(left_out)}{left_out})")


def _walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """Files in a folder and those in it, in the order of their names, and why one is left out; folders that are left
    out come as they are."""
    waiting = sorted(folder.iterdir(), reverse=True)
    while waiting:
        path = waiting.pop()
        if path.name.startswith("."):
            yield path, "hidden"
        elif not path.is_dir():
            yield path, "" if path.is_file() else "not regular"
        elif path.is_symlink():  # it may lead in a circle
            yield path, "linked folders"
        else:
            waiting += sorted(path.iterdir(), reverse=True)


def _problem(path: Path) -> str:
    """Why a file in a folder is no text to train on, judged by its first BLOCK; empty if it is."""
    with open(path, "rb") as file:
        raw = file.read(BLOCK)
    try:
        text = codecs.getincrementaldecoder(encoding_of(raw))().decode(raw, final=len(raw) < BLOCK)
    except UnicodeDecodeError:
        return "not UTF-8 text"
    return "not UTF-8 text" if "\0" in text else "" if text or len(raw) == BLOCK else "empty"


def _check_text(raw: bytes, at: int, name: str) -> None:
    """Raise ValueError for bytes, at a place in a file, that no UTF-8 text has."""
    if (zero := raw.find(b"\0")) >= 0:
        raise ValueError(f"{name} is binary (a zero byte at {at + zero:,}), or UTF-16: give a file of UTF-8 text")


def _pieces(part: Part) -> Iterator[str]:
    utf8 = codecs.getincrementaldecoder(UTF8)()
    decoder = io.IncrementalNewlineDecoder(utf8, translate=True)  # both wait for the rest of what a block cuts
    text, at = "", 0
    with part.open() as file:
        while True:
            raw = file.read(BLOCK)
            _check_text(raw, at, part.name)
            at += len(raw)
            try:
                text += decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                start = at - len(error.object) + error.start  # it may have waited for some bytes of the block before
                raise ValueError(f"{part.name} is not UTF-8 text (byte 0x{error.object[error.start]:02x} at {start:,}):"
                                 " save it as UTF-8, or if it is no text give another file") from None
            if not raw:
                break
            cut = max(text.rfind("\n"), text.rfind(" ")) + 1 or len(text) * (len(text) > LONGEST)
            if cut:
                yield text[:cut]
                text = text[cut:]
    if text:
        yield text


def read_bytes(path: Path, most: int, cure: str) -> bytes:
    """What is in a file that somebody named, but at most one byte more than `most`.  Raises OSError, which says why it
    cannot be read and names the `cure`."""
    try:
        with open(path, "rb") as file:
            return file.read(most + 1)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file: {cure}") from None
    except OSError as error:
        raise type(error)(f"{path} cannot be read ({error.strerror}): {cure}") from None
