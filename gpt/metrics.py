"""metrics.jsonl: a line of numbers for each step, which goes on where the checkpoint does."""

import json
import os
from pathlib import Path
from typing import Any, Self


class Metrics:
    """A file of one JSON object a step, opened after `iter` steps: lines of later ones, which a run that was killed has
    written after its last checkpoint, are cut off."""

    def __init__(self, path: Path, iter: int):
        self.file = open(path, "ab")
        self.file.truncate(_end(path, iter))

    def write(self, row: dict[str, Any]) -> None:
        self.file.write(json.dumps(row).encode() + b"\n")

    def sync(self) -> None:
        """Wait until all lines are on the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self.file.close()


def _end(path: Path, iter: int) -> int:
    """Where the lines of the first `iter` steps end."""
    end = 0
    with open(path, "rb") as file:
        for line in file:
            try:
                if not line.endswith(b"\n") or json.loads(line)["iter"] > iter:
                    break
            except (ValueError, KeyError, TypeError):
                break
            end += len(line)
    return end if iter else 0
