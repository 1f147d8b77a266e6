"""Files that are written safely: each whole or not at all, with what killed writes have left swept away."""

import glob
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_MARKED = 1 << 13  # bytes at the start and at the end of a file in which its mark lies


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yield a file to write that then takes the place of `file`: whoever reads that, and whatever fails, sees the old
    one or the new one, also after a power cut."""
    sweep(file.parent, glob.escape(file.name))
    with beside(file) as temporary:
        yield temporary
        sync(temporary)
        os.replace(temporary, file)
        sync(file.parent)


def write_file(file: Path, content: bytes) -> None:
    """Write a file, whole or not at all.  Raises OSError that says what to do."""
    try:
        with replacing(file) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise type(error)(f"{file} cannot be written ({error.strerror or error}): choose another place with --out") \
            from None


def check_ours(file: Path, mark: str, overwrite: bool) -> None:
    """Raise ValueError for a file that is there, and that lacks the `mark` of the command that would replace it, unless
    `overwrite` allows it."""
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
def beside(target: Path, folder: bool = False) -> Iterator[Path]:
    """Yield a new file, or folder, beside `target`, which is gone if anything fails.  It is locked meanwhile: by that
    `sweep` tells it from what a killed write has left."""
    temporary = target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")
    if folder:
        temporary.mkdir()
    else:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # less the umask
    try:
        with locked(temporary):
            yield temporary
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell of
            _remove(temporary)
        raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Within it this process alone has locked a file or folder.  Raises BlockingIOError if another one has; where the
    system or its disk has no locks, nothing is locked."""
    if not fcntl:
        yield
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)


def sweep(folder: Path, name: str) -> None:
    """Delete what killed writes of files of this name, which may be a pattern, have left in a folder.  Raises OSError
    that names the file which cannot be deleted."""
    if not fcntl:  # nothing tells what is still being written
        return
    for left in folder.glob(f".{name}.*.tmp"):
        try:
            with locked(left):
                delete([left])
        except (BlockingIOError, FileNotFoundError):  # it is being written, or was
            continue


def delete(files: Iterable[Path]) -> None:
    """Delete files, or folders that a killed write has left.  Raises OSError that names the one which cannot be."""
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
    """Wait until a file, or the names in a folder, are on the disk itself."""
    if path.is_dir() and os.name == "nt":  # where a folder cannot be opened
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
