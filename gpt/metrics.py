"""metrics.jsonl: a line of numbers for each step, which goes on where the checkpoint does."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class Metrics:
    """A file of one JSON object a step, opened after `iter` steps: lines of later ones, which a run that was killed has
    written after its last checkpoint, are cut off.

    One run at a time can have it open.  Raises OSError that says what to do, here and in the methods, if another run
    has, and if the disk is full or refuses.
    """

    def __init__(self, path: Path, iter: int):
        self.path = path
        with self._explained():
            self.file = open(path, "ab")
        try:
            with self._explained():
                _lock(self.file)
                self.file.truncate(_end(path, iter))
        except BaseException:
            self.file.close()
            raise

    def write(self, row: dict[str, Any]) -> None:
        with self._explained():
            self.file.write(json.dumps(row).encode() + b"\n")

    def sync(self) -> None:
        """Wait until all lines are on the disk."""
        with self._explained():
            self.file.flush()
            os.fsync(self.file.fileno())

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:
            raise OSError(f"another run is writing to {self.path.parent}: wait for it, stop it, or choose another "
                          "folder with --out") from None
        except OSError as error:
            raise type(error)(f"{self.path} cannot be written ({error.strerror or error}): make room on the disk or "
                              "check its permissions; gpt train --resume goes on from the last checkpoint") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        try:
            with self._explained():
                self.file.close()
        except OSError:
            if error is None:  # else it would hide why the run ends
                raise


def _lock(file: Any) -> None:
    """Raises BlockingIOError if another process has locked the file."""
    if not fcntl:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        pass


def _end(path: Path, iter: int) -> int:
    """Where the lines of the first `iter` steps end."""
    end = 0
    with open(path, "rb") as file:
        for line in file:
            try:
                if not line.endswith(b"\n") or json.loads(line)["iter"] > iter:
                    break
            except (ValueError, KeyError, TypeError, RecursionError):
                break
            end += len(line)
    return end if iter else 0
