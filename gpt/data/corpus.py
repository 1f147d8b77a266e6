"""The text of a corpus: found in files, folders, standard input or Python itself, and read in pieces."""

import codecs
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from importlib.abc import InspectLoader
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from zlib import crc32

BLOCK = 1 << 18  # bytes read at a time: their text stays in the CPU's cache (three times as fast as 4 MB)
IN_MEMORY = 1 << 24  # bytes of text that are not worth a file on disk
UTF8 = "utf-8-sig"  # Python's name for it where a byte order mark at the start is dropped
LONGEST = 1 << 20  # characters without a space after which a piece ends all the same

_MARKS = ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"),
          (b"\xfe\xff", "utf-16"))
_SAMPLES, _SAMPLE_SIZE = 16, 1 << 12  # blocks of a file, and bytes of each, that are checked for changes

# In place of the documentation, which a stripped Python lacks: modules with about as much text.
_MODULES = ("argparse", "ast", "calendar", "configparser", "dataclasses", "datetime", "difflib", "enum", "functools",
            "inspect", "pathlib", "random", "shutil", "statistics", "subprocess", "tarfile", "typing", "zipfile")


@dataclass
class Source:
    """A text file or stream: its name, its size in bytes, and functions that open it and that return a stamp, a string
    which changes when the content changes."""
    name: str
    size: int
    stamp: Callable[[], str]
    open: Callable[[], AbstractContextManager[IO[bytes]]]


@dataclass
class Corpus:
    """UTF-8 text from several sources, and a line that describes it."""
    sources: list[Source]
    description: str

    @property
    def size(self) -> int:
        """The number of bytes."""
        return sum(source.size for source in self.sources)

    @property
    def stamp(self) -> str:
        """A string that changes when the content of a source changes."""
        return "\n".join(source.stamp() for source in self.sources)

    def pieces(self) -> Iterator[str]:
        """Yield the text in pieces of about BLOCK bytes that cut no word: files joined by newlines, line ends as \\n.

        Raises ValueError or OSError that names the file and the cure.
        """
        for i, source in enumerate(self.sources):
            if i:
                yield "\n"
            yield from _read_pieces(source)


@dataclass
class Place:
    """A place in a corpus: the name of the source, and line and column in it, both from 1."""
    source: str
    line: int
    column: int


def locate(corpus: Corpus, characters: Sequence[int]) -> list[Place]:
    """Return the places of characters, given by their index in the text that `pieces` yields."""
    found: dict[int, Place] = {}
    waiting, start = sorted(set(characters), reverse=True), 0  # index of the first character of a source
    for source in corpus.sources:
        line, line_start, at = 1, start, start
        for piece in _read_pieces(source):
            while waiting and waiting[-1] < at + len(piece):
                before = piece[:waiting[-1] - at]
                begins = at + before.rfind("\n") + 1 if "\n" in before else line_start
                found[waiting[-1]] = Place(source.name, line + before.count("\n"), waiting[-1] - begins + 1)
                waiting.pop()
            line, at = line + piece.count("\n"), at + len(piece)
            line_start = at - len(piece) + piece.rfind("\n") + 1 if "\n" in piece else line_start
        start = at + 1  # after the newline that joins sources
    return [found[index] for index in characters]


def open_corpus(paths: Sequence[str] = ()) -> Corpus:
    """Open the text in files, folders and their subfolders, and `-`, standard input; without paths the default text.

    A file is UTF-8, or UTF-16 or UTF-32 with a byte order mark, which is not part of the text.  Files in a folder are
    sorted by name; those that are hidden, empty or not text are skipped, which the description says.  Raises OSError or
    ValueError that names the file and the cure.
    """
    if not paths:
        text, description = default_text()
        raw = text.encode()
        return Corpus([Source(description, len(raw), lambda: sha256(raw).hexdigest(), lambda: io.BytesIO(raw))],
                      description)
    if list(paths).count("-") > 1:
        raise ValueError("--data has - twice, and standard input can be read only once: give it once")
    found = [_open_path(path) for path in paths]
    return Corpus([source for corpus in found for source in corpus.sources], ", ".join(c.description for c in found))


def default_text() -> tuple[str, str]:
    """Return English text that every machine with Python has, and a line that describes it."""
    try:
        from pydoc_data.topics import topics
        return "\n\n".join(topics[name] for name in sorted(topics)), "the Python language reference (pydoc_data.topics)"
    except ImportError:
        sources = [source for source in map(_find_source, _MODULES) if source]
        if not sources:
            raise FileNotFoundError("this Python has neither its reference (pydoc_data) nor its sources: "
                                    "give text with --data FILE") from None
        return ("\n\n".join(sources),
                f"source of {len(sources)} modules of the standard library, since this Python lacks pydoc_data")


def _find_source(name: str) -> str | None:
    """Return the source of a module of the standard library, which may be in an archive."""
    spec = find_spec(name)
    return spec.loader.get_source(name) if spec and isinstance(spec.loader, InspectLoader) else None


def _open_path(path: str) -> Corpus:
    if not path:
        raise ValueError("--data has an empty name in it: give the path of a file or folder")
    try:
        if path == "-":
            source = _spool(sys.stdin.buffer, "standard input")
        elif Path(path).is_dir():
            return _open_folder(Path(path))
        elif Path(path).is_file():
            source = _open_file(Path(path))
        else:  # a pipe can be read only once, and a missing file not at all
            with open(path, "rb") as file:
                source = _spool(file, path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file: check the path after --data") from None
    except OSError as error:
        raise type(error)(f"{error.filename or path} cannot be read: {error.strerror}") from None
    if not source.size:
        raise ValueError(f"{source.name} is empty: give a file with text in it")
    return Corpus([source], source.name)


def _open_file(path: Path) -> Source:
    with open(path, "rb") as file:  # now, so that an unreadable file raises before any work
        size = os.fstat(file.fileno()).st_size
        if not size or encoding_of(file.read(4)) != UTF8:  # a file of /proc says that it has no bytes
            file.seek(0)
            return _spool(file, str(path))
    return Source(str(path), size, lambda: _stamp(path), lambda: open(path, "rb"))


def _stamp(path: Path) -> str:
    """Return a string that changes when a file changes: its size, times (the time of the last status change cannot be
    set back by programs), and a checksum of a few blocks, for file systems that keep no such time."""
    with open(path, "rb") as file:
        status, checksum = os.fstat(file.fileno()), 0
        for i in range(_SAMPLES):
            file.seek(max(status.st_size - _SAMPLE_SIZE, 0) * i // (_SAMPLES - 1))
            checksum = crc32(file.read(_SAMPLE_SIZE), checksum)
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {checksum}"


def _spool(stream: IO[bytes], name: str) -> Source:
    """Copy a stream into UTF-8 that can be read more than once, in memory if it is small, or else in a temporary
    file."""
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
        _check_text(raw, spool.tell(), name)  # at once, since /dev/zero has no end
        digest.update(raw)
        spool.write(raw)

    def reopen() -> AbstractContextManager[IO[bytes]]:
        spool.seek(0)
        return nullcontext(spool)

    return Source(name, spool.tell(), digest.hexdigest, reopen)


def encoding_of(start: bytes) -> str:
    """Return the encoding that the byte order mark at the start of a text names, UTF-8 without one; Python's decoders
    of these encodings drop the mark."""
    return next((encoding for mark, encoding in _MARKS if start.startswith(mark)), UTF8)


def _open_folder(path: Path) -> Corpus:
    sources, skipped = [], dict[str, list[str]]()
    for file, problem in _walk(path):
        if problem := problem or _problem(file):
            skipped.setdefault(problem, []).append(str(file.relative_to(path)))
        else:
            sources.append(_open_file(file))
    left_out = "; ".join(f"{len(names)} {problem} left out: {', '.join(names[:3])}{', …' * (len(names) > 3)}"
                         for problem, names in skipped.items())
    if not sources:
        raise ValueError(f"{path} has no text files in it{f' ({left_out})' if left_out else ''}: "
                         "give a folder with UTF-8 text in it")
    return Corpus(sources, f"{path} ({len(sources):,} file{'s' * (len(sources) > 1)}{'; ' * bool(left_out)}{left_out})")


def _walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files in a folder and its subfolders by name, each with the reason for which it is skipped, or "";
    skipped folders are yielded, too."""
    waiting = sorted(folder.iterdir(), reverse=True)
    while waiting:
        path = waiting.pop()
        if path.name.startswith("."):
            yield path, "hidden"
        elif not path.is_dir():
            yield path, "" if path.is_file() else "not regular"
        elif path.is_symlink():  # it may lead to a cycle
            yield path, "linked folders"
        else:
            waiting += sorted(path.iterdir(), reverse=True)


def _problem(path: Path) -> str:
    """Return the reason that a file, judged by its first BLOCK, is not text to train on, or ""."""
    with open(path, "rb") as file:
        raw = file.read(BLOCK)
    try:
        text = codecs.getincrementaldecoder(encoding_of(raw))().decode(raw, final=len(raw) < BLOCK)
    except UnicodeDecodeError:
        return "not UTF-8 text"
    return "not UTF-8 text" if "\0" in text else "" if text or len(raw) == BLOCK else "empty"


def _check_text(raw: bytes, at: int, name: str) -> None:
    """Raise ValueError if bytes at an offset in a file have a zero byte, which no UTF-8 text has."""
    if (zero := raw.find(b"\0")) >= 0:
        raise ValueError(f"{name} is binary (a zero byte at {at + zero:,}), or UTF-16: give a file of UTF-8 text")


def _read_pieces(source: Source) -> Iterator[str]:
    utf8 = codecs.getincrementaldecoder(UTF8)()
    decoder = io.IncrementalNewlineDecoder(utf8, translate=True)  # both keep back what a block cuts
    text, at = "", 0
    with source.open() as file:
        while True:
            raw = file.read(BLOCK)
            _check_text(raw, at, source.name)
            at += len(raw)
            try:
                text += decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                start = at - len(error.object) + error.start  # some bytes may be of the block before
                raise ValueError(f"{source.name} is not UTF-8 text (byte 0x{error.object[error.start]:02x} at "
                                 f"{start:,}): save it as UTF-8, or if it is no text give another file") from None
            if not raw:
                break
            cut = max(text.rfind("\n"), text.rfind(" ")) + 1 or len(text) * (len(text) > LONGEST)
            if cut:
                yield text[:cut]
                text = text[cut:]
    if text:
        yield text


def read_bytes(path: Path, most: int, cure: str) -> bytes:
    """Read a file that the user named, up to `most` + 1 bytes.  Raises OSError that says why it cannot be read, and
    what to do (`cure`)."""
    try:
        with open(path, "rb") as file:
            return file.read(most + 1)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file: {cure}") from None
    except OSError as error:
        raise type(error)(f"{path} cannot be read ({error.strerror}): {cure}") from None
