"""Atomic writes: a file is written whole or not at all, and the leftovers of killed writes are deleted."""

import glob
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows, or a browser, whose module is empty
    flock = None  # type: ignore[assignment]

_MARKED = 1 << 13  # bytes at the start and at the end of a file that are searched for its mark


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yield a temporary file to write, which then replaces `file` atomically: a reader sees the old one or the new one,
    also after a crash or a power cut."""
    sweep(file.parent, glob.escape(file.name))
    with temporary_beside(file) as temporary:
        yield temporary
        sync(temporary)
        os.replace(temporary, file)
        sync(file.parent)


def write_file(file: Path, content: bytes) -> None:
    """Write a file atomically.  Raises OSError that says what to do."""
    try:
        with replacing(file) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise type(error)(f"{file} cannot be written ({error.strerror or error}): choose another place with --out") \
            from None


def check_ours(file: Path, mark: str, overwrite: bool) -> None:
    """Raise ValueError for an existing file that lacks the `mark` of the command which would replace it, unless
    `overwrite` allows that."""
    if overwrite or not os.path.lexists(file):
        return
    if file.is_file():
        with open(file, "rb") as opened:
            start = opened.read(_MARKED)
            opened.seek(max(opened.seek(0, os.SEEK_END) - _MARKED, 0))
            if mark.encode() in start or mark.encode() in opened.read():
                return
    raise ValueError(f"{file} is there already, and {mark} has not written it: choose another place with --out, or "
                     "replace it with --overwrite")


@contextmanager
def temporary_beside(target: Path, folder: bool = False) -> Iterator[Path]:
    """Yield a temporary file, or folder, beside `target`, which is deleted if anything fails.  It is locked meanwhile,
    by which `sweep` tells it from the leftovers of a killed write."""
    temporary = target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")
    if folder:
        temporary.mkdir()
    else:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # less the umask
    try:
        with lock(temporary):
            yield temporary
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell of
            _remove(temporary)
        raise


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file or folder within it.  Raises BlockingIOError if another process does; where the
    system or its disk has no locks, nothing is locked."""
    if flock is None:
        yield
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)


def sweep(folder: Path, name: str) -> None:
    """Delete the leftovers of killed writes of files of this name, which may be a pattern, in a folder.  Raises OSError
    that names a file which cannot be deleted."""
    if flock is None:  # nothing tells what is still being written
        return
    for left in folder.glob(f".{name}.*.tmp"):
        try:
            with lock(left):
                delete([left])
        except (BlockingIOError, FileNotFoundError):  # it is being written, or was
            continue


def delete(files: Iterable[Path]) -> None:
    """Delete files or folders that are still there.  Raises OSError that names one which cannot be deleted."""
    for file in files:
        try:
            _remove(file)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise type(error)(f"{file} cannot be deleted ({error.strerror}): check the permissions of its folder, or "
                              "choose another folder with --out") from None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk (fsync)."""
    if path.is_dir() and os.name == "nt":  # where a folder cannot be opened
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
