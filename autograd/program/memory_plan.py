"""A straight line of steps laid out in memory: how long each buffer is needed, and where it lies in one arena."""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

import numpy as np

from ..core.arrays import find_owner

ALIGNMENT = 64  # bytes: a cache line, and the widest vector
CHOOSING = 4096  # buffers that look for the lowest place among all that are taken

FORWARD, AGAIN, BACKWARD, SUM = "forward", "computed again", "backward", "sum of gradients"  # what steps are for


@dataclass
class Step:
    """A procedure, and the arrays (and other settings) that it was handed and will be handed again."""

    procedure: Callable[..., None]
    arguments: tuple
    replaces: bool = False  # whether the last argument may lie where the first one did, once that is not needed
    record: Any = None      # of the tape, whose turn it was
    purpose: str = ""       # FORWARD, AGAIN (once more on the way back), BACKWARD, or SUM of what arrives at the record


@dataclass
class Plan:
    """The steps on their final arrays, and what became of each buffer."""

    steps: list[tuple[Callable[..., None], tuple]]
    lifetimes: list[tuple[Any, int, int]]   # the bytes of a buffer, the first step that has it, and the last
    n_bytes: int                            # of the arena
    move: Callable[[Any], Any]              # from an array of the recording to that of the plan
    turns: list[tuple[Any, str]]            # of each step: its record, and its purpose
    uses: list[tuple[int, ...]]             # and its buffers in the arena, by their numbers in `lifetimes`

    def n_bytes_without(self, left_out: set[int], instead: dict[int, int]) -> int:
        """The size of an arena for the steps but those `left_out`, in which others use buffers `instead`."""
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for i, used in enumerate(self.uses):
            for k in used if i not in left_out else ():
                k = instead.get(k, k)
                first.setdefault(k, i)
                last[k] = i
        for k, (_, _, end) in enumerate(self.lifetimes):
            if end == len(self.uses):  # a result
                last[instead.get(k, k)] = end
        return _laid_out({k: self.lifetimes[k][0].nbytes for k in first}, first, last)[1]


def planned(steps: list[Step], buffers: dict[int, Any], kept: Iterable[Any], fixed: dict[int, Any]) -> Plan:
    """Lay out the `buffers` (by identity) that the steps use.

    Those of the arrays `kept` last to the end; those in `fixed` (by identity) lie in the array given there.  A buffer
    gets the lowest place that is free from its first step to its last, larger ones first (the greedy heuristic by size
    of Pisarchyk and Lee 2020).
    """
    first, last = _lifetimes(steps, buffers, kept)
    place_of = _merged(steps, buffers, first, last, fixed)
    n_bytes_of = {k: buffers[k].nbytes for k in first if place_of[k] == k and k not in fixed}
    offset, n_bytes = _laid_out(n_bytes_of, first, last)
    arena = np.empty(n_bytes + ALIGNMENT, np.uint8)
    arena = arena[-arena.ctypes.data % ALIGNMENT:][:n_bytes]

    def move(array: Any) -> Any:
        if not isinstance(array, np.ndarray) or id(old := find_owner(array)) not in place_of:
            return array
        k = place_of[id(old)]
        at = array.__array_interface__["data"][0] - old.__array_interface__["data"][0]
        memory, at = (fixed[k], at) if k in fixed else (arena, at + offset[k])
        return np.ndarray(array.shape, array.dtype, memory, at, array.strides)

    return Plan([(step.procedure, tuple([move(a) for a in step.arguments])) for step in steps],
                [(arena[offset[k]:][:n], first[k], last[k]) for k, n in n_bytes_of.items()], n_bytes, move,
                [(step.record, step.purpose) for step in steps],
                _uses(steps, place_of, {k: i for i, k in enumerate(n_bytes_of)}))


def _uses(steps: list[Step], place_of: dict[int, int], number: dict[int, int]) -> list[tuple[int, ...]]:
    """The numbers of the buffers that each step uses."""
    places = [[place_of.get(id(find_owner(a))) for a in step.arguments if isinstance(a, np.ndarray)] for step in steps]
    return [tuple(dict.fromkeys(number[k] for k in used if k in number)) for used in places]


def _laid_out(n_bytes: dict[int, int], first: dict[int, int], last: dict[int, int]) -> tuple[dict[int, int], int]:
    """Where buffers of `n_bytes` begin, which are needed from their first steps to their last, and the size of it all.
    """
    size = {k: -(-n // ALIGNMENT) * ALIGNMENT for k, n in n_bytes.items()}
    offset = _placed({k: (size[k], first[k], last[k]) for k in size})
    return offset, max((offset[k] + size[k] for k in offset), default=0)


def _placed(wanted: dict[int, tuple[int, int, int]]) -> dict[int, int]:
    """Where each buffer, of (bytes, first step, last step), begins: larger ones choose first.  Each of them is compared
    with all before it, so of a very long program only the largest choose, and the rest lies above them."""
    offset: dict[int, int] = {}
    by_size = sorted(wanted, key=lambda k: (-wanted[k][0], wanted[k][1]))
    firsts, lasts, starts, ends = np.zeros((4, min(len(wanted), CHOOSING)), np.int64)  # of those that have their place
    for n, k in enumerate(by_size[:CHOOSING]):
        size, first, last = wanted[k]
        taken = np.flatnonzero((firsts[:n] <= last) & (lasts[:n] >= first))
        taken = taken[np.argsort(starts[taken])]
        free_from = np.concatenate([[0], np.maximum.accumulate(ends[taken])])
        free_to = np.concatenate([starts[taken], [np.iinfo(np.int64).max]])
        offset[k] = at = int(free_from[np.argmax(free_to - free_from >= size)])
        firsts[n], lasts[n], starts[n], ends[n] = first, last, at, at + size
    return offset | _in_turns({k: wanted[k] for k in by_size[CHOOSING:]}, int(ends.max(initial=0)))


def _in_turns(wanted: dict[int, tuple[int, int, int]], end: int) -> dict[int, int]:
    """Where each buffer begins, from `end` on: in the order of their first steps, each gets the smallest place that is
    free again and large enough, or a new one."""
    offset: dict[int, int] = {}
    taken: list[tuple[int, int, int]] = []  # a heap of (last step, bytes, where)
    free: list[tuple[int, int]] = []        # (bytes, where), smallest first
    for k in sorted(wanted, key=lambda k: wanted[k][1]):
        size, first, last = wanted[k]
        while taken and taken[0][0] < first:
            insort(free, heappop(taken)[1:])
        i = bisect(free, (size, -1))
        room, offset[k] = free.pop(i) if i < len(free) else (size, end)
        end = max(end, offset[k] + room)
        heappush(taken, (last, room, offset[k]))
    return offset


def _lifetimes(steps: list[Step], buffers: dict[int, Any],
               kept: Iterable[Any]) -> tuple[dict[int, int], dict[int, int]]:
    """The first and the last step that uses each buffer."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for i, step in enumerate(steps):
        for a in step.arguments:
            if isinstance(a, np.ndarray) and (k := id(find_owner(a))) in buffers:
                first.setdefault(k, i)
                last[k] = i
    last.update({k: len(steps) for a in kept if (k := id(find_owner(a))) in first})
    return first, last


def _merged(steps: list[Step], buffers: dict[int, Any], first: dict[int, int], last: dict[int, int],
            fixed: dict[int, Any]) -> dict[int, int]:
    """Each buffer -> the one in whose place it lies: mostly itself, but a sum lies where its first term lay, if that
    was not needed any more.  Lifetimes are joined."""
    place_of = {k: k for k in first}
    for i, step in enumerate(steps):
        if not step.replaces:
            continue
        old, new = (id(find_owner(a)) for a in (step.arguments[0], step.arguments[-1]))
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
