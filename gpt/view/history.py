"""The history of a run, read from the metrics that training left."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data.corpus import read_bytes
from ..model.module import Array
from ..training.metrics import FILE

LARGEST = 1 << 30  # bytes of metrics that are read


@dataclass
class Curve:
    """A quantity over a run: iterations and values, both (n,), n at least 1."""
    iters: Array
    values: Array


@dataclass
class History:
    """The metrics of a run: its name, curves by key, a note on what is wrong with the file, and the ladder of its
    text: losses that need no model, by name."""
    name: str
    curves: dict[str, Curve]
    note: str = ""
    ladder: dict[str, float] = field(default_factory=dict)


def read_history(path: str, keys: Iterable[str]) -> History:
    """Read the history of the run at `path`, its folder or its metrics.jsonl: the curves of the quantities `keys`.

    It ends before the first line that is not metrics; an incomplete last line, which the run may be writing, is skipped
    silently.

    Raises OSError if it cannot be read, and ValueError if there is not one line in it.
    """
    file = Path(path) / FILE if Path(path).is_dir() or not Path(path).suffix else Path(path)
    cure = f"give the folder that gpt train wrote, or its {FILE}"
    if not os.path.exists(file):
        raise FileNotFoundError(f"{file}: there are no metrics here: {cure}")
    if not file.is_file():  # a pipe or a device may have no end
        raise ValueError(f"{file} is no file that could be read: {cure}")
    raw = read_bytes(file, LARGEST, cure)
    if len(raw) > LARGEST:
        raise ValueError(f"{file} has more than {LARGEST >> 20:,} MB, and is not what gpt train writes: {cure}")
    lines, note = raw.split(b"\n"), ""
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        row = parse_row(line)
        if row is not None:
            while rows and rows[-1]["iter"] >= row["iter"]:  # the run was resumed from an earlier checkpoint
                rows.pop()
            rows.append(row)
        elif line.strip() and number < len(lines):
            note = f"{file}: line {number:,} is not metrics of gpt train, so this shows only what is above it"
            break
    if not rows and note:
        raise ValueError(f"{file} is not what gpt train writes (line 1: {lines[0][:40]!r}): give the folder of a run, "
                         f"or its {FILE}")
    curves = {key: curve for key in keys if (curve := make_curve(rows, key))}
    if not curves:
        raise ValueError(f"{file} has no complete line yet: try again once the run has taken some steps")
    return History(path, curves, note, read_ladder(rows))


def read_ladder(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the ladder in the last row that has one: the losses that are numbers."""
    ladders = (row["ladder"] for row in reversed(rows) if isinstance(row.get("ladder"), dict))
    found: dict[str, Any] = next(ladders, {})
    return {str(name): float(loss) for name, loss in found.items() if is_number(loss)}


def parse_row(line: bytes) -> dict[str, Any] | None:
    """Return the object in a line of metrics; None for anything but an object with a number `iter`."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and is_number(row.get("iter")) else None


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number of usual size."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300  # false for NaN


def make_curve(rows: list[dict[str, Any]], key: str) -> Curve | None:
    """Return the curve of the rows that have a finite number under `key`; None if there are none."""
    having = [(row["iter"], row[key]) for row in rows if is_number(row.get(key))]
    return Curve(*np.array(having, dtype=float).T) if having else None
