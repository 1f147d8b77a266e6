"""A straight line of steps laid out in memory: how long each buffer is needed, and where it lies in one arena."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import owner

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


@dataclass
class Step:
    """A procedure, and the arrays (and other settings) that it was handed and will be handed again."""

    procedure: Callable[..., None]
    arguments: tuple
    replaces: bool = False  # whether the last argument may lie where the first one did, once that is not needed


@dataclass
class Plan:
    """The steps on their final arrays, and what became of each buffer."""

    steps: list[tuple[Callable[..., None], tuple]]
    lifetimes: list[tuple[Any, int, int]]   # the bytes of a buffer, the first step that has it, and the last
    n_bytes: int                            # of the arena
    move: Callable[[Any], Any]              # from an array of the recording to that of the plan


def planned(steps: list[Step], buffers: dict[int, Any], kept: Iterable[Any], fixed: dict[int, Any]) -> Plan:
    """Lay out the `buffers` (by identity) that the steps use.

    Those of the arrays `kept` last to the end; those in `fixed` (by identity) lie in the array given there.  A buffer
    gets the lowest place that is free from its first step to its last, larger ones first (the greedy heuristic by size
    of Pisarchyk and Lee 2020).
    """
    first, last = _lifetimes(steps, buffers, kept)
    place_of = _merged(steps, buffers, first, last, fixed)
    size = {k: -(-buffers[k].nbytes // ALIGNMENT) * ALIGNMENT for k in first if place_of[k] == k and k not in fixed}
    offset = _placed({k: (size[k], first[k], last[k]) for k in size})
    n_bytes = max((offset[k] + size[k] for k in offset), default=0)
    arena = np.empty(n_bytes + ALIGNMENT, np.uint8)
    arena = arena[-arena.ctypes.data % ALIGNMENT:][:n_bytes]

    def move(array: Any) -> Any:
        if not isinstance(array, np.ndarray) or id(old := owner(array)) not in place_of:
            return array
        k = place_of[id(old)]
        at = array.__array_interface__["data"][0] - old.__array_interface__["data"][0]
        memory, at = (fixed[k], at) if k in fixed else (arena, at + offset[k])
        return np.ndarray(array.shape, array.dtype, memory, at, array.strides)

    return Plan([(step.procedure, tuple([move(a) for a in step.arguments])) for step in steps],
                [(arena[offset[k]:][:buffers[k].nbytes], first[k], last[k]) for k in size], n_bytes, move)


def _placed(wanted: dict[int, tuple[int, int, int]]) -> dict[int, int]:
    """Where each buffer, of (bytes, first step, last step), begins: larger ones choose first."""
    offset: dict[int, int] = {}
    firsts, lasts, starts, ends = np.zeros((4, len(wanted)), np.int64)  # of those that have their place
    for n, k in enumerate(sorted(wanted, key=lambda k: (-wanted[k][0], wanted[k][1]))):
        size, first, last = wanted[k]
        taken = np.flatnonzero((firsts[:n] <= last) & (lasts[:n] >= first))
        taken = taken[np.argsort(starts[taken])]
        free_from = np.concatenate([[0], np.maximum.accumulate(ends[taken])])
        free_to = np.concatenate([starts[taken], [np.iinfo(np.int64).max]])
        offset[k] = at = int(free_from[np.argmax(free_to - free_from >= size)])
        firsts[n], lasts[n], starts[n], ends[n] = first, last, at, at + size
    return offset


def _lifetimes(steps: list[Step], buffers: dict[int, Any],
               kept: Iterable[Any]) -> tuple[dict[int, int], dict[int, int]]:
    """The first and the last step that uses each buffer."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for i, step in enumerate(steps):
        for a in step.arguments:
            if isinstance(a, np.ndarray) and (k := id(owner(a))) in buffers:
                first.setdefault(k, i)
                last[k] = i
    last.update({k: len(steps) for a in kept if (k := id(owner(a))) in first})
    return first, last


def _merged(steps: list[Step], buffers: dict[int, Any], first: dict[int, int], last: dict[int, int],
            fixed: dict[int, Any]) -> dict[int, int]:
    """Each buffer -> the one in whose place it lies: mostly itself, but a sum lies where its first term lay, if that
    was not needed any more.  Lifetimes are joined."""
    place_of = {k: k for k in first}
    for i, step in enumerate(steps):
        if not step.replaces:
            continue
        old, new = (id(owner(a)) for a in (step.arguments[0], step.arguments[-1]))
        root = place_of.get(old)
        if root is None or new not in place_of or last[root] != i or root in fixed or not _alike(
                step.arguments[0], buffers[old], step.arguments[-1], buffers[new]):
            continue
        if new in fixed:
            fixed[root] = fixed[new]
        place_of[new], last[root] = root, last[new]
    return place_of


def _alike(old: Any, old_buffer: Any, new: Any, new_buffer: Any) -> bool:
    """Whether two arrays, each the whole of its buffer, can take the same memory element by element."""
    return (old.nbytes == old_buffer.nbytes == new.nbytes == new_buffer.nbytes and old.strides == new.strides
            and old.shape == new.shape and old.dtype == new.dtype)
