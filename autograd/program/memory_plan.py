"""Memory planning of a program: the liveness of each buffer, and its offset in one arena."""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

import numpy as np

from ..core.arrays import find_owner
from .trace import Step

ALIGNMENT = 64  # bytes: a cache line, and the widest vector
EXACT = 4096  # buffers, the largest, that are placed by comparison with all that are placed already


@dataclass
class Plan:
    """The steps on their final arrays, and the lifetime of each buffer."""

    steps: list[tuple[Callable[..., None], tuple]]
    lifetimes: list[tuple[Any, int, int]]   # a buffer's bytes in the arena, the first step that uses it, and the last
    n_bytes: int                            # of the arena
    relocate: Callable[[Any], Any]          # from an array of the trace to that of the plan
    origins: list[tuple[Any, str]]          # of each step: its record and its purpose
    used: list[tuple[int, ...]]             # and its buffers in the arena, by their numbers in `lifetimes`

    def n_bytes_without(self, removed: set[int], renumbered: dict[int, int]) -> int:
        """Return the arena's size if the steps `removed` were, and buffers replaced by others as in `renumbered`."""
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for i, used in enumerate(self.used):
            for k in used if i not in removed else ():
                k = renumbered.get(k, k)
                first.setdefault(k, i)
                last[k] = i
        for k, (_, _, end) in enumerate(self.lifetimes):
            if end == len(self.used):  # a result
                last[renumbered.get(k, k)] = end
        return _assign_offsets({k: self.lifetimes[k][0].nbytes for k in first}, first, last)[1]


def plan_memory(steps: list[Step], buffers: dict[int, Any], results: Iterable[Any], fixed: dict[int, Any]) -> Plan:
    """Assign memory to the `buffers` (id -> array) that the steps use.

    Those of the arrays `results` live to the end; those in `fixed` (id -> array) lie in the array given there.  The
    others get the lowest offset in an arena that is free from their first step to their last, larger ones first (the
    greedy heuristic by size of Pisarchyk and Lee 2020).
    """
    used = [[id(find_owner(a)) for a in step.arguments if isinstance(a, np.ndarray)] for step in steps]
    first, last = _find_liveness(used, buffers, results)
    alias_of, last, fixed = _reuse_dead_inputs(steps, buffers, first, last, fixed)
    n_bytes_of = {k: buffers[k].nbytes for k in first if alias_of[k] == k and k not in fixed}
    offset, n_bytes = _assign_offsets(n_bytes_of, first, last)
    arena = _allocate(n_bytes)

    def relocate(array: Any) -> Any:
        if not isinstance(array, np.ndarray) or not array.size or id(base := find_owner(array)) not in alias_of:
            return array
        k = alias_of[id(base)]
        start = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
        memory, start = (fixed[k], start) if k in fixed else (arena, offset[k] + start)
        return np.ndarray(array.shape, array.dtype, memory, start, array.strides)

    arguments = {id(a): a for step in steps for a in step.arguments}
    moved = {k: relocate(a) for k, a in arguments.items()}  # once, since most are arguments of several steps
    return Plan(steps=[(step.procedure, tuple([moved[id(a)] for a in step.arguments])) for step in steps],
                lifetimes=[(arena[offset[k]:][:n], first[k], last[k]) for k, n in n_bytes_of.items()],
                n_bytes=n_bytes, relocate=relocate, origins=[(step.record, step.purpose) for step in steps],
                used=_number_buffers(used, alias_of, list(n_bytes_of)))


def _find_liveness(used: list[list[int]], buffers: dict[int, Any],
                   results: Iterable[Any]) -> tuple[dict[int, int], dict[int, int]]:
    """Return the first and the last step that uses each buffer; the results' are used after the last."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for i, keys in enumerate(used):
        for k in keys:
            if k in buffers:
                first.setdefault(k, i)
                last[k] = i
    last.update({k: len(used) for a in results if (k := id(find_owner(a))) in first})
    return first, last


def _reuse_dead_inputs(steps: list[Step], buffers: dict[int, Any], first: dict[int, int], last: dict[int, int],
                       fixed: dict[int, Any]) -> tuple[dict[int, int], dict[int, int], dict[int, Any]]:
    """Map each buffer to the buffer whose memory it reuses (usually itself): a sum overwrites its first term if that is
    dead.  Return this map, and `last` and `fixed` with the lifetimes and places of both joined."""
    alias_of, last, fixed = {k: k for k in first}, dict(last), dict(fixed)
    for i, step in enumerate(steps):
        if not step.replaces:
            continue
        term, total = step.arguments[0], step.arguments[-1]
        old, new = id(find_owner(term)), id(find_owner(total))
        if old not in alias_of or new not in alias_of:
            continue
        root = alias_of[old]
        is_dead = last[root] == i and root not in fixed
        if is_dead and _same_layout(term, buffers[old], total, buffers[new]):
            if new in fixed:
                fixed[root] = fixed[new]
            alias_of[new], last[root] = root, last[new]
    return alias_of, last, fixed


def _same_layout(old: Any, old_buffer: Any, new: Any, new_buffer: Any) -> bool:
    """Tell whether two arrays, each the whole of its buffer, can take the same memory element by element."""
    return (old.nbytes == old_buffer.nbytes == new.nbytes == new_buffer.nbytes and old.strides == new.strides
            and old.shape == new.shape and old.dtype == new.dtype)


def _allocate(n_bytes: int) -> Any:
    """Return an aligned array of so many bytes."""
    memory = np.empty(n_bytes + ALIGNMENT, np.uint8)
    return memory[-memory.ctypes.data % ALIGNMENT:][:n_bytes]


def _number_buffers(used: list[list[int]], alias_of: dict[int, int], roots: list[int]) -> list[tuple[int, ...]]:
    """Return the numbers of the buffers that each step uses, in the order of `roots`."""
    number = {k: i for i, k in enumerate(roots)}
    bases = [[alias_of.get(k) for k in keys] for keys in used]
    return [tuple(dict.fromkeys(number[k] for k in keys if k in number)) for keys in bases]


# ---------------------------------------------------------------------- offsets


def _assign_offsets(n_bytes: dict[int, int], first: dict[int, int], last: dict[int, int]) -> tuple[dict[int, int], int]:
    """Return the offset of each buffer, needed from its first step to its last, and the size of the arena."""
    size = {k: -(-n // ALIGNMENT) * ALIGNMENT for k, n in n_bytes.items()}
    offset = _assign_lowest_offsets({k: (size[k], first[k], last[k]) for k in size})
    return offset, max((offset[k] + size[k] for k in offset), default=0)


def _assign_lowest_offsets(buffers: dict[int, tuple[int, int, int]]) -> dict[int, int]:
    """Return an offset for each buffer of (bytes, first step, last step), the lowest that is free, larger ones first.
    Each is compared with all before it, so of a very long program only the largest are, and the rest lies above them.
    """
    offset: dict[int, int] = {}
    by_size = sorted(buffers, key=lambda k: (-buffers[k][0], buffers[k][1]))
    firsts, lasts, starts, ends = np.zeros((4, min(len(buffers), EXACT)), np.int64)  # of those that are placed
    for n, k in enumerate(by_size[:EXACT]):
        size, first, last = buffers[k]
        overlapping = np.flatnonzero((firsts[:n] <= last) & (lasts[:n] >= first))
        overlapping = overlapping[np.argsort(starts[overlapping])]
        free_from = np.concatenate([[0], np.maximum.accumulate(ends[overlapping])])
        free_to = np.concatenate([starts[overlapping], [np.iinfo(np.int64).max]])
        offset[k] = start = int(free_from[np.argmax(free_to - free_from >= size)])
        firsts[n], lasts[n], starts[n], ends[n] = first, last, start, start + size
    return offset | _assign_first_offsets({k: buffers[k] for k in by_size[EXACT:]}, int(ends.max(initial=0)))


def _assign_first_offsets(buffers: dict[int, tuple[int, int, int]], end: int) -> dict[int, int]:
    """Return an offset of at least `end` for each buffer: in the order of their first steps, each gets the smallest
    block that is free again and large enough, or a new one."""
    offset: dict[int, int] = {}
    taken: list[tuple[int, int, int]] = []  # a heap of (last step, bytes, offset)
    free: list[tuple[int, int]] = []        # (bytes, offset), smallest first
    for k in sorted(buffers, key=lambda k: buffers[k][1]):
        size, first, last = buffers[k]
        while taken and taken[0][0] < first:
            insort(free, heappop(taken)[1:])
        i = bisect(free, (size, -1))
        n_bytes, offset[k] = free.pop(i) if i < len(free) else (size, end)
        end = max(end, offset[k] + n_bytes)
        heappush(taken, (last, n_bytes, offset[k]))
    return offset
