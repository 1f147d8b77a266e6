"""The player: a tape as one page that plays it forward and back in a browser."""

from __future__ import annotations

import base64
import html
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..describe import describe, shape_text, source_text
from ..engine import Tape, Tensor
from ..state import within
from .html import diverging, sequential
from .mathematics import formula, gradients, typeset
from .memory import memory
from .outline import Group, outline
from .page import page
from .pictures import LEVELS, WEIGHTS, Pictures, entries_of, entry_of, norm_text
from .rows import rows_svg
from .text import count, numbered, totals
from .walk import ends, restored, walk_back


class Player:
    """The tape as it is now, as a page with all it needs in one file.

        ag.tape(loss).player().save("tape.html")

    A slider and the arrow keys walk over every step: the operations in the order of the tape, then back, newest first.
    The page shows each record's formula, numbers, gradient, what it sends to which input, and why it is in memory.
    In a notebook it is shown as it is; where scripts are not allowed, a picture of the rows is.

    tokens: strings that name the positions in the pictures of attention, of the first sequence.
    """

    def __init__(self, tape: Tape, tokens: Sequence[str] | None = None):
        self.tape = tape
        self.data = _data(tape, tokens)
        scripts = [f"player_{part}.js" for part in ("data", "rows", "card", "control")]
        self.page = page(Path(__file__).parent, "player", self.data["title"], self.data, scripts)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page to the file `path`."""
        Path(path).write_text(self.page, encoding="utf-8")

    def __repr__(self) -> str:
        size = f"{len(self.page) // 1000:,} kB"
        return f'Player of {count(len(self.tape), "record")}, {size}: .save("tape.html") writes the page'

    def _repr_html_(self) -> str:
        """The page in a frame, which may do nothing but run, over a picture for those who allow no frame."""
        picture = base64.b64encode(rows_svg(self.tape).encode()).decode()
        words = html.escape(totals(self.tape))
        framed = self.page.replace("&", "&amp;").replace("'", "&#39;")  # the many " stay as they are
        return (f'<div style="position: relative; height: 640px; overflow: auto">'
                f'<img src="data:image/svg+xml;base64,{picture}" alt="{words}" style="max-width: 100%">'
                f"<iframe srcdoc='{framed}' sandbox=\"allow-scripts\" title=\"{words}\" width=\"100%\" height=\"640\" "
                f'style="position: absolute; inset: 0; width: 100%; height: 100%; border: 0"></iframe></div>')


# ---------------------------------------------------------------------- the data


def _data(tape: Tape, tokens: Sequence[str] | None) -> dict[str, Any]:
    """All that the page shows, as JSON has it."""
    numbers = numbered(tape)
    operations = [t for t in tape if t.op is not None]
    ops = {op: i for i, op in enumerate(dict.fromkeys(t.op for t in operations))}  # there may be two of a name
    records = [{**_structure(t, numbers), "rules": ops.get(t.op, -1)} for t in tape]
    pictures = Pictures(len(tape), sum(t.op is not None and t.op.name in WEIGHTS for t in tape))
    with restored(tape), within(watch=None), np.errstate(all="ignore"):
        notes = _add_values(tape, records, pictures)
        order, reason = _add_gradients(tape, numbers, records, pictures)
    notes += [reason] if reason and not notes else []
    for k, t in enumerate(operations):
        records[numbers[t]]["step"] = k
    for k, t in enumerate(order):
        records[numbers[t]]["back"] = len(operations) + k
    notes += [f"the gradient is that of the sum of {shape_text(t)} %{numbers[t]}" for t in ends(tape)
              if "[]" not in shape_text(t)]
    return {"title": totals(tape), "notes": notes, "forward": len(operations), "backward": len(order),
            "roots": [numbers[t] for t in ends(tape)],
            "ops": [_mathematics(op) for op in ops], "records": records,
            "outline": _flat(outline(tape), numbers), "memory": _memory(tape, numbers),
            "tokens": None if tokens is None else [str(token) for token in tokens],
            "bytes": pictures.encoded(), "levels": LEVELS,
            "palettes": {"diverging": _colours(diverging(np.linspace(-1, 1, LEVELS))),
                         "sequential": _colours(sequential(np.linspace(0, 1, LEVELS)))}}


def _structure(t: Tensor, numbers: dict[Tensor, int]) -> dict[str, Any]:
    """What is known of a record without its numbers."""
    kind = "operation" if t.op is not None else "parameter" if t.requires_grad else "constant"
    inputs = [[t.op.input_name(i), numbers.get(a, -1) if type(a) is Tensor else -1,  # type: ignore[union-attr]
               shape_text(a) if type(a) is Tensor else describe(a), type(a) is Tensor and a.requires_grad]
              for i, a in enumerate(t.inputs)]
    return {"op": t.op.name if t.op is not None else "", "kind": kind, "name": t.name, "shape": shape_text(t),
            "scope": str(t.scope), "source": source_text(t), "step": -1, "back": -1, "inputs": inputs,
            "attrs": [[name, describe(a)] for name, a in (t.attrs or {}).items()],
            "value": [], "gradient": [], "sends": []}


def _add_values(tape: Tape, records: list[dict[str, Any]], pictures: Pictures) -> list[str]:
    """Fill in what the values are.  Returns a note on why some are missing, if they are."""
    entries: dict[int, Any] = {}  # the parts of a tuple are values of other records too
    notes: list[str] = []
    for t, record in zip(tape, records):
        try:
            value = t._value()
        except RuntimeError as error:
            notes = notes or [f"values are missing: {_first_line(error)}"]
            continue
        for array in value if type(value) is tuple else [value]:
            if id(array) not in entries:
                entries[id(array)] = entry_of(array, pictures)
            record["value"].append(entries[id(array)])
        if t.op is not None and t.op.name in WEIGHTS:
            record["weights"] = pictures.weights(WEIGHTS[t.op.name](t))
    return notes


def _add_gradients(tape: Tape, numbers: dict[Tensor, int], records: list[dict[str, Any]],
                   pictures: Pictures) -> tuple[list[Tensor], str]:
    """Fill in the gradients and what each record sends.  Returns the operations in the order of the walk, and a note
    on why it ended early, if it did."""
    roots = ends(tape)
    parts = Counter(a for t in tape for a in t.inputs if type(a) is Tensor and a.requires_grad and a in numbers)
    parts.update(roots)
    order, sums, reason = [], {t: np.ones_like(t._array) for t in roots if parts[t] > 1 and t._array is not None}, ""
    try:
        for t, g, sent in walk_back(tape):
            record = records[numbers[t]]
            record["gradient"] = entries_of(g, pictures)
            sums.pop(t, None)
            if t.op is not None:
                order.append(t)
            for a, d in sent:
                several = parts[a] > 1
                if several:
                    sums[a] = sums[a] + d if a in sums else d
                record["sends"].append([norm_text(d), *([entries_of(d, pictures), entries_of(sums[a], pictures)]
                                                         if several else [])])
    except Exception as error:  # the rule may be anybody's
        n_operations = sum(t.op is not None for t in tape)
        reason = f"gradients are missing from step {n_operations + len(order)} on: {_first_line(error)}"
        passed = set(order)
        order += [t for t in reversed(tape) if t.op is not None and t not in passed]
    return order, reason


def _first_line(error: Exception) -> str:
    """What kind of error it is, unless its text says so, and the first line of that."""
    kind = "" if isinstance(error, RuntimeError) else f"{type(error).__name__}: "
    return kind + str(error).partition("\n")[0]


def _flat(root: Group, numbers: dict[Tensor, int]) -> list[Any]:
    """The outline as a list: a record's number, or [name, path, depth, how many entries it has, times, is a twin]."""
    flat: list[Any] = []
    stack: list[tuple[Any, int]] = [(item, 0) for item in reversed(root.items)]
    starts: list[tuple[list[Any], int]] = []  # groups that are not closed yet, and where they begin
    while stack:
        item, depth = stack.pop()
        if item is None:
            group, start = starts.pop()
            group[3] = len(flat) - start
        elif isinstance(item, Group):
            flat.append([item.name, item.path, depth, 0, item.times, item.twin_of is not None])
            starts.append((flat[-1], len(flat)))
            stack += [(None, 0), *((inner, depth + 1) for inner in reversed(item.items))]
        else:
            flat.append(numbers[item])
    return flat


def _memory(tape: Tape, numbers: dict[Tensor, int]) -> dict[str, Any] | None:
    """What is alive after each step, and each array from when to when and for whom."""
    try:
        m = memory(tape)
    except Exception:  # what stopped the walk back stops this too, and the page says so already
        return None
    lives = [[numbers[life.record], life.kind, life.n_bytes, life.born, life.dies, [numbers[t] for t in life.needed_by],
              -1 if life.shares is None else numbers[life.shares]] for life in m.lifetimes]
    return {"alive": m.alive, "peak": m.peak, "peak_step": m.peak_step, "lifetimes": lives}


# ---------------------------------------------------------------------- mathematics


def _mathematics(op: Any) -> dict[str, Any]:
    """An op's formula and those of its gradients, as trees of what is set how."""
    return {"formula": _tree(formula(op)), "gradients": {name: _tree(text) for name, text in gradients(op).items()}}


def _tree(text: str) -> list[Any]:
    """A formula as texts and lists [tag, …], so that the page builds it without reading HTML."""
    from html.parser import HTMLParser
    root: list[Any] = []
    stack = [root]

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            stack[-1].append([tag])
            stack.append(stack[-1][-1])

        def handle_endtag(self, tag: str) -> None:
            stack.pop()

        def handle_data(self, data: str) -> None:
            stack[-1].append(data)

    reader = Reader()
    reader.feed(typeset(text))
    reader.close()
    return root


def _colours(rgb: np.ndarray) -> str:
    return base64.b64encode(rgb.tobytes()).decode()
