"""The player: one web page that plays the forward and backward pass of a tape."""

from __future__ import annotations

import base64
import functools
import html
import os
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from ...core.describe import describe, plural, shape_text, shorten, source_text
from ...core.mode import within
from ...engine import Tape, Tensor
from ..backward import backward_pass, check_focus, differentiable_roots, restore_freed
from ..card.mathematics import find_formula, find_gradients, typeset
from ..graph.raster import picture_source
from ..memory.memory import memory
from ..outline import Group, outline
from ..page import page
from ..palette import diverging, sequential
from ..step import accumulate
from ..text import number_records, record_type, totals
from .pictures import LEVELS, WEIGHTS, Pictures, codes, entries_of, entry_of, norm_text
from .player_layout import rows_svg

ROOM = 12_000
"""Maximum records and inputs of records on a page, which make about 5 MB."""
INPUTS = 100
"""Maximum inputs of a record on a page, and arrays of it in memory."""

SCRIPTS = [f"player_{name}.js" for name in ("data", "rows", "units", "places", "graph", "camera", "numbers", "card",
                                            "control")]


# A page in a frame is light or dark as the frame's `color-scheme` is; notebooks mark their theme in various ways.
_THEMES = " ".join(f":is({hosts}) iframe.tapegrad {{ color-scheme: {theme}; }}" for theme, hosts in {
    "dark": '[data-jp-theme-light="false"], .vscode-dark, .vscode-high-contrast, [theme="dark"], .dark',
    "light": '[data-jp-theme-light="true"], .vscode-light, [theme="light"]'}.items())


class Player:
    """A self-contained web page of the tape as it is now.

        ag.tape(loss).player().save("tape.html")

    A slider and the arrow keys select the step: the operations in the order of the tape, then their backward pass,
    newest first.  Rows and graph show the records, with closed scopes and the current step; the card shows a record's
    formula, numbers, gradient, what it sends to its inputs, and the reason why it is in memory.  A notebook shows the
    page, or a picture of the rows where scripts are not allowed.

    A page has room for some thousands of records (`ROOM`).  Of a longer tape it shows those at the two ends, or around
    the tensor `focus`, and the leaves that they read; numbers, gradients and memory are those of the whole tape.

    tokens: strings that label the positions in attention maps, of the first sequence.

    Raises ValueError for a `focus` that is not in the tape.
    """

    def __init__(self, tape: Tape, tokens: Sequence[str] | None = None, focus: Tensor | None = None):
        check_focus(tape, focus)
        self.tape = tape
        self.data = _data(tape, tokens, focus)
        self.page = page(Path(__file__).parent, "player", self.data["title"], self.data, SCRIPTS,
                         allowed="; img-src data:")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page to the file `path`."""
        Path(path).write_text(self.page, encoding="utf-8")

    def __repr__(self) -> str:
        size = f"{len(self.page) // 1000:,} kB"
        return f'Player of {plural(len(self.tape), "record")}, {size}: .save("tape.html") writes the page'

    def _repr_html_(self) -> str:
        """Return the page in a sandboxed frame, over a picture that is visible where frames are not allowed."""
        words = html.escape(totals(self.tape))
        framed = self.page.replace("&", "&amp;").replace("'", "&#39;")  # the many " stay as they are
        return (f'<style>{_THEMES}</style><div style="position: relative; height: 640px; overflow: auto">'
                f'<img src="{picture_source(rows_svg(self.tape))}" alt="{words}" style="max-width: 100%">'
                f"<iframe class=\"tapegrad\" srcdoc='{framed}' sandbox=\"allow-scripts\" title=\"{words}\" "
                'width="100%" height="640" style="position: absolute; inset: 0; width: 100%; height: 100%; border: 0">'
                "</iframe></div>")


# ---------------------------------------------------------------------- the data


def _select_records(tape: Tape, focus: Tensor | None) -> dict[Tensor, int]:
    """Select the records that fit on a page, those nearest to an end of the tape or to `focus` with the leaves they
    read, and map each to its index on the page."""
    numbers, room, chosen = number_records(tape), ROOM, set()
    last, middle = len(tape) - 1, numbers.get(focus, 0)  # type: ignore[arg-type]
    for i in sorted(range(len(tape)), key=lambda i: min(i, last - i) if focus is None else abs(i - middle)):
        for t in (tape[i], *(a for a in tape[i].inputs if type(a) is Tensor and a.op is None and a in numbers)):
            if t not in chosen:
                room -= 1 + min(len(t.inputs), INPUTS)
                if room < 0:
                    return {t: k for k, t in enumerate(t for t in tape if t in chosen)}
                chosen.add(t)
    return numbers


def _data(tape: Tape, tokens: Sequence[str] | None, focus: Tensor | None) -> dict[str, Any]:
    """Return all data of the page, ready for JSON."""
    numbers, places = number_records(tape), _select_records(tape, focus)
    operations = [t for t in places if t.op is not None]
    ops = {op: i for i, op in enumerate(dict.fromkeys(t.op for t in operations))}  # two ops may have the same name
    shape = functools.cache(shape_text)
    records = [{**_structure(t, places, numbers, shape), "rules": ops.get(t.op, -1)} for t in places]
    pictures = Pictures(len(records), sum(t.op is not None and t.op.name in WEIGHTS for t in places))
    with restore_freed(tape), within(observer=None), np.errstate(all="ignore"):
        notes = _add_values(places, records, pictures)
        order, reason = _add_gradients(tape, places, records, pictures)
    notes += [reason] if reason and not notes else []
    for k, t in enumerate([*operations, *order]):
        records[places[t]]["step" if k < len(operations) else "back"] = k
    roots = differentiable_roots(tape)
    notes += [f"the gradient is that of the sum of {shape(t)} %{numbers[t]}" for t in roots if "[]" not in shape(t)]
    if (left := len(tape) - len(records)) > 0:
        where = "in the middle" if focus is None else f"far from %{numbers[focus]}"
        notes.append(f"{left:,} of the {len(tape):,} records, {where}, are left out: tape.player(focus=t) shows those "
                     "around the tensor t")
    return {"title": totals(tape), "notes": notes, "forward": len(operations), "backward": len(order),
            "roots": [places[t] for t in roots if t in places], "focus": -1 if focus is None else places[focus],
            "ops": [_mathematics(op) for op in ops], "records": records,
            "outline": _flatten(outline(tape), places), "memory": _memory(tape, places, [*operations, *order]),
            "tokens": None if tokens is None else [str(token) for token in tokens],
            "bytes": pictures.to_base64(), "levels": LEVELS,
            "palettes": {"diverging": _colours(diverging(codes(-1))), "sequential": _colours(sequential(codes(0)))}}


def _structure(t: Tensor, places: dict[Tensor, int], numbers: dict[Tensor, int], shape: Any) -> dict[str, Any]:
    """Return the data of a record that need no numbers."""
    inputs = []
    for i, a in enumerate(t.inputs[:INPUTS]):
        text = shape(a) if type(a) is Tensor else describe(a)
        if type(a) is Tensor and a in numbers and a not in places:
            text = f"%{numbers[a]}, left out: {text}"
        inputs.append([t.op.input_name(i), places.get(a, -1) if type(a) is Tensor else -1,  # type: ignore[union-attr]
                       text, type(a) is Tensor and a.requires_grad])
    left = {"number": numbers[t]} if numbers[t] != places[t] else {}  # only where something is left out
    left |= {"more": len(t.inputs) - INPUTS} if len(t.inputs) > INPUTS else {}
    return {"op": t.op.name if t.op is not None else "", "kind": record_type(t), "name": t.name, "shape": shape(t),
            "scope": str(t.scope), "source": source_text(t), "step": -1, "back": -1, "inputs": inputs,
            "attrs": [[name, describe(a)] for name, a in (t.attrs or {}).items()],
            "value": [], "gradient": [], "sends": [], **left}


def _add_values(places: dict[Tensor, int], records: list[dict[str, Any]], pictures: Pictures) -> list[str]:
    """Add values to the records' data.  Return a note on the reason if some are missing."""
    entries: dict[int, Any] = {}  # shared, since the arrays of a tuple are also the values of its items
    notes: list[str] = []
    for t, record in zip(places, records):
        try:
            value = t._value()
        except RuntimeError as error:
            notes = notes or [f"values are missing: {_first_line(error)}"]
            continue
        for array in shorten(value) if type(value) is tuple else [value]:
            if id(array) not in entries:
                entries[id(array)] = entry_of(array, pictures)
            record["value"].append(entries[id(array)])
        if t.op is not None and t.op.name in WEIGHTS:
            record["weights"] = pictures.weights(WEIGHTS[t.op.name](t))
    return notes


def _add_gradients(tape: Tape, places: dict[Tensor, int], records: list[dict[str, Any]],
                   pictures: Pictures) -> tuple[list[Tensor], str]:
    """Add gradients, and the gradients of inputs, to the records' data.  Return the operations in the order of the
    backward pass, and a note on the reason if it ended early."""
    roots, n_forward = differentiable_roots(tape), sum(t.op is not None for t in places)
    n_terms = Counter(a for t in tape for a in t.inputs if type(a) is Tensor and a.requires_grad and a in places)
    n_terms.update(t for t in roots if t in places)
    order: list[Tensor] = []
    reason, unseen = "", Counter[Tensor]()  # unseen: contributions from records and inputs that are left out
    sums = {t: np.ones_like(t._array) for t in roots if n_terms[t] > 1 and t._array is not None}
    try:
        for t, g, sent in backward_pass(tape):
            shown = sum(type(a) is Tensor and a.requires_grad for a in t.inputs[:INPUTS]) if t in places else 0
            if t in places:
                record = records[places[t]]
                record["gradient"] = entries_of(g, pictures)
                if unseen[t]:
                    record["unseen"] = [unseen[t], n_forward + max(0, len(order) - 1)]
                sums.pop(t, None)
                if t.op is not None:
                    order.append(t)
            for k, (a, d) in enumerate(sent):
                unseen[a] += k >= shown
                send: list[Any] = [norm_text(d)]
                if n_terms[a] > 1:
                    (_, _, after), = accumulate(sums, [(a, d)])
                    if k < shown:
                        send += [entries_of(d, pictures), entries_of(after, pictures)]
                if k < shown:
                    record["sends"].append(send)
    except Exception as error:  # a user's VJP rule may raise anything
        reason = f"gradients are missing from step {n_forward + len(order)} on: {_first_line(error)}"
        passed = set(order)
        order += [t for t in reversed(places) if t.op is not None and t not in passed]
    return order, reason


def _first_line(error: Exception) -> str:
    """Return the first line of an error's message, after the type of the error unless it is a RuntimeError."""
    prefix = "" if isinstance(error, RuntimeError) else f"{type(error).__name__}: "
    return prefix + str(error).partition("\n")[0]


def _flatten(root: Group, places: dict[Tensor, int]) -> list[Any]:
    """Flatten the outline to a list: a record is its index on the page; a group is [name, path, depth, number of
    entries, times, is a twin], followed by its entries.  One without entries represents records that are left out."""
    flat: list[Any] = []
    stack: list[tuple[Any, int]] = [(item, 0) for item in reversed(root.items)]
    starts: list[tuple[list[Any], int]] = []  # open groups, and the index of their first entry
    opened, left = set(), 0
    while stack:
        item, depth = stack.pop()
        if item is None:
            group, start = starts.pop()
            group[3] = len(flat) - start
            continue
        records = [item] if isinstance(item, Tensor) else item.records()
        if all(t not in places for t in records):
            left += 1 if isinstance(item, Tensor) else sum(1 for _ in item.records())
            continue
        if left:
            flat.append([f"… {plural(left, 'record')} left out …", "", depth, 0, 1, True])
            left = 0
        if isinstance(item, Group):
            flat.append([item.name, item.path, depth, 0, item.times, item.twin_of in opened])
            opened.add(item)
            starts.append((flat[-1], len(flat)))
            stack += [(None, 0), *((inner, depth + 1) for inner in reversed(item.items))]
        else:
            flat.append(places[item])
    return flat + [[f"… {plural(left, 'record')} left out …", "", 0, 0, 1, True]] * (left > 0)


def _memory(tape: Tape, places: dict[Tensor, int], steps: list[Tensor]) -> dict[str, Any] | None:
    """Return the bytes alive after each of the page's steps, and the lifetimes of its records' arrays."""
    try:
        m = memory(tape)
    except Exception:  # the backward pass failed in the same way before, and the page says so
        return None
    step_of = [{t: i for i, t in enumerate(m.steps[:m.n_forward])},
               {t: i for i, t in enumerate(m.steps[m.n_forward:], m.n_forward)}]  # in the forward and backward pass
    n_forward = sum(t.op is not None for t in places)
    shown = [step_of[k >= n_forward][t] for k, t in enumerate(steps)]  # the page's steps among all steps
    lives, n_lives = [], Counter[Tensor]()
    for life in m.lifetimes:
        born, dies = bisect_left(shown, life.born), bisect_right(shown, life.dies) - (life.dies < len(m.steps))
        n_lives[life.record] += 1
        if life.record in places and born <= dies and n_lives[life.record] <= INPUTS:
            needed_by = [places[t] for t in life.needed_by if t in places]
            shares = -1 if life.shares is None else places.get(life.shares, -1)
            lives.append([places[life.record], life.kind, life.n_bytes, born, dies, needed_by, shares])
    step = min(bisect_left(shown, m.peak_step), max(0, len(shown) - 1))
    when = f"at step {step}" if m.peak_step in shown[step:step + 1] else "in a step that is left out"
    return {"alive": [m.alive[k] for k in shown], "peak": m.peak, "peak_step": step, "peak_when": when,
            "lifetimes": lives}


# ---------------------------------------------------------------------- mathematics


def _mathematics(op: Any) -> dict[str, Any]:
    """Return an op's formula and those of its gradients, as trees of typeset text."""
    gradients = {name: _tree(text) for name, text in find_gradients(op).items()}
    return {"formula": _tree(find_formula(op)), "gradients": gradients}


def _tree(text: str) -> list[Any]:
    """Parse a formula into strings and lists [tag, …], from which the page builds elements without parsing HTML."""
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
