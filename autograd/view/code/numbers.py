"""The numbers of a program's leaves: written out, or read from a file beside it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from .layout import array_text
from .source import literal, memory_order, text_of

SMALL = 32
"""Most elements of an array that is written out."""

READER = '''FILE = Path(__file__).with_suffix(".npz")
NUMBERS, RANDOM = np.load(FILE) if FILE.exists() else {}, np.random.default_rng(0)


def array(name, shape, dtype, low, high):
    """Return an array of the file beside this one; without that, random numbers in the range of its own."""
    if name in NUMBERS:
        return NUMBERS[name]
    if dtype.startswith("float"):
        return RANDOM.uniform(low, high, shape).astype(dtype)
    return RANDOM.integers(low, high + 1, shape).astype(dtype)'''


def quoted(key: str) -> str:
    """Return a name as a string in the program."""
    return json.dumps(key, ensure_ascii=False)


def is_large(a: Any) -> bool:
    """Return True for an array that is not written out."""
    return bool(a.size > SMALL)


def stored(a: Any) -> Any:
    """Return an array as the file holds it: its axes in the order in which they lie in memory."""
    return np.ascontiguousarray(a.transpose(memory_order(a)))


def number_text(key: str, a: Any, indent: int) -> str:
    """Return the expression of an array: its numbers, or a call that reads them from the file."""
    a = np.asarray(a)
    if not is_large(a):
        return array_text(a, indent)
    order = memory_order(a)
    finite = a[np.isfinite(a)] if a.dtype.kind == "f" else a
    low, high = (finite.min(), finite.max()) if finite.size else (0, 1)
    ends = [f"{float(end):.3g}" if a.dtype.kind == "f" else str(int(end)) for end in (low, high)]
    text = f'array({quoted(key)}, {text_of(literal(stored(a).shape))}, "{a.dtype.name}", {", ".join(ends)})'
    if order != tuple(range(a.ndim)):
        text += f".transpose({text_of(literal(tuple(order.index(i) for i in range(a.ndim))))})"
    return text
