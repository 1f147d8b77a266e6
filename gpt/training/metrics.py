"""metrics.jsonl: a line of metrics for each step, in step with the checkpoints."""

import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

FILE = "metrics.jsonl"  # in the folder of a run
PENDING = re.compile(rf"\.{re.escape(FILE)}\.[0-9a-f]{{8}}\.tmp")  # its name before the first checkpoint


class Metrics:
    """A file of one JSON object per step, opened after `iter` steps: lines of later steps, written by a killed run
    after its last checkpoint, are cut off.

    `aside`: the file there belongs to a checkpoint other than the one this run begins with.  It stays until `publish`;
    this run writes a pending file of its own, which `finish_interrupted` and `sweep` see to.

    Raises OSError that says what to do, here and in the methods, if the disk is full or refuses, and for a link or
    anything else that is no regular file.
    """

    def __init__(self, path: Path, iter: int, aside: bool = False):
        self.path = path
        self.pending = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp") if aside else path
        if path.is_symlink() or path.exists() and not path.is_file():
            raise OSError(f"{path} is a link, a folder or a device, and is not written to: move it away, or choose "
                          "another folder with --out")
        with self._explain_errors():
            self.file = open(self.pending, "ab")
        try:
            with self._explain_errors():
                end = _end(path, iter)
                if aside and end:
                    with open(path, "rb") as lines:
                        self.file.write(lines.read(end))
                else:
                    self.file.truncate(end)
        except BaseException:
            self.file.close()
            raise

    def write(self, metrics: dict[str, Any]) -> None:
        """Append a line."""
        with self._explain_errors():
            self.file.write(json.dumps(metrics).encode() + b"\n")

    def sync(self) -> None:
        """Flush all lines to the disk."""
        with self._explain_errors():
            self.file.flush()
            os.fsync(self.file.fileno())

    def publish(self) -> None:
        """Replace the file of another run, whose checkpoint is gone, by that of this run."""
        if self.pending != self.path:
            with self._explain_errors():
                os.replace(self.pending, self.path)
            self.pending = self.path

    @contextmanager
    def _explain_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise type(error)(f"{self.path} cannot be written ({error.strerror or error}): make room on the disk, "
                              "or check its permissions") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error_type: Any, error: Any, traceback: Any) -> None:
        try:
            with self._explain_errors():
                self.file.close()
                if error and not self.pending.stat().st_size:
                    self.pending.unlink()
        except OSError:
            if error is None:  # else it would hide why the run ends
                raise


def seconds(path: Path) -> float:
    """Return the total time of the steps in a file; 0 without one, and infinite if it is not one of `Metrics`."""
    if not os.path.lexists(path):
        return 0.0
    if not path.is_file() or path.stat().st_size > 1 << 24:
        return math.inf
    try:
        rows = [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        return sum(float(row["ms"]) for row in rows if row["iter"]) / 1e3
    except (ValueError, KeyError, TypeError, RecursionError):
        return math.inf


def _end(path: Path, iter: int) -> int:
    """Return the offset at which the lines of the first `iter` steps end."""
    if not iter or not path.exists():
        return 0
    end = 0
    with open(path, "rb") as file:
        for line in file:
            try:
                if not line.endswith(b"\n") or json.loads(line)["iter"] > iter:
                    break
            except (ValueError, KeyError, TypeError, RecursionError):
                break
            end += len(line)
    return end
