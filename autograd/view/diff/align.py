"""Which records of two tapes stand for the same thing."""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from ...engine import Tape, Tensor

EDITS = 128
"""Insertions and deletions after which the part that is aligned stays so."""

Likeness = Callable[[Tensor], Hashable]


def align(tape_a: Tape, tape_b: Tape) -> dict[Tensor, Tensor]:
    """Records of `tape_a` and their partners in `tape_b`, which have the same shapes.

    Partners are, in this order: those of one operation (or leaves), scope and name that follow each other in both
    tapes; in the gaps between, those of one operation; the results of the tapes; and what partners of one operation
    read in the same place: so the result of a fused operation finds that of the several it stands for.
    """
    partners: dict[Tensor, Tensor] = dict(_in_order(tape_a, tape_b, (_in_full, _in_kind)))
    taken = set(partners.values())
    pairs, passed = [*zip(tape_a.roots, tape_b.roots), *reversed(partners.items())], set()
    for s, t in pairs:  # which grows on the way
        if s not in partners and t not in taken and shapes(s) == shapes(t):
            partners[s] = t
            taken.add(t)
        if partners.get(s) is t and s not in passed and kind(s) == kind(t) and len(s.inputs) == len(t.inputs):
            passed.add(s)
            pairs += [(x, y) for x, y in zip(s.inputs, t.inputs)
                      if type(x) is type(y) is Tensor and x not in partners and y not in taken]
    return {s: partners[s] for s in tape_a if s in partners}


def kind(t: Tensor) -> str:
    """The name of the operation, or what kind of leaf it is.  (An op that was defined again is another object.)"""
    return t.op.name if t.op is not None else "parameter" if t.requires_grad else "constant"


def shapes(t: Tensor) -> tuple:
    """The shape of a record's value, or the shapes of those in a tuple, freed or not."""
    value, remembered = t._array, t.saved
    if isinstance(value, tuple):
        return tuple([part.shape for part in value])
    if value is None and isinstance(remembered, list):
        return tuple([shape for shape, _ in remembered])
    return t.shape


def _in_full(t: Tensor) -> Hashable:
    return kind(t), shapes(t), t.scope, t.name


def _in_kind(t: Tensor) -> Hashable:
    return kind(t), shapes(t)


def _in_order(a: Sequence[Tensor], b: Sequence[Tensor],
              likenesses: tuple[Likeness, ...]) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs that are alike and follow each other in both sequences; in the gaps between, by the next likeness."""
    if not a or not b or not likenesses:
        return
    keys_a, keys_b = [likenesses[0](t) for t in a], [likenesses[0](t) for t in b]
    end_a = end_b = 0
    for start_a, start_b, length in _runs(keys_a, keys_b):
        yield from _in_order(a[end_a:start_a], b[end_b:start_b], likenesses[1:])
        end_a, end_b = start_a + length, start_b + length
        yield from zip(a[start_a:end_a], b[start_b:end_b])


def _runs(a: list[Hashable], b: list[Hashable]) -> list[tuple[int, int, int]]:
    """Where runs of equal items start in `a` and in `b`, and their lengths; the last is empty, at the ends."""
    ends = (len(a), len(b), 0)
    same = [i for i, (x, y) in enumerate(zip(a, b)) if x == y]
    if len(a) == len(b) <= 2 * len(same):  # edited here and there, and nothing moved
        return [*((i, i, 1) for i in same), ends]
    runs, start_a, start_b = [], 0, 0
    for i, j in [*_anchors(a, b), ends[:2]]:
        runs += [(start_a + x, start_b + y, n) for x, y, n in _edited(a[start_a:i], b[start_b:j])]
        runs.append((i, j, int(i < len(a))))
        start_a, start_b = i + 1, j + 1
    return runs


def _anchors(a: list[Hashable], b: list[Hashable]) -> list[tuple[int, int]]:
    """Where the items are that each sequence has once, as many of them as have the same order in both."""
    times_a, times_b, place = Counter(a), Counter(b), {item: j for j, item in enumerate(b)}
    ends: list[int] = []    # of ever longer increasing sequences of places in b, the least that one ends with
    chains: list[Any] = []  # and its (i, j, chain before it)
    for i, item in enumerate(a):
        if times_a[item] == times_b[item] == 1:
            n = bisect(ends, j := place[item])
            ends[n:n + 1], chains[n:n + 1] = [j], [(i, j, chains[n - 1] if n else None)]
    return _unrolled(chains[-1] if chains else None)


def _edited(a: list[Hashable], b: list[Hashable]) -> Iterator[tuple[int, int, int]]:
    """The runs of equal items that the fewest insertions and deletions leave.  After EDITS of them what was found is
    kept, and the search begins anew behind it, so that time grows no faster than the lengths."""
    x = y = 0
    while x < len(a) and y < len(b):
        x, y, runs = _furthest(a, b, x, y)
        yield from _unrolled(runs)


def _furthest(a: list[Hashable], b: list[Hashable], x0: int, y0: int) -> tuple[int, int, Any]:
    """Where up to EDITS insertions and deletions lead from (x0, y0), and the runs on the way.  (Myers 1986.)"""
    far: dict[int, tuple[int, Any]] = {1: (x0, None)}  # of each diagonal: the furthest x, and the chain that led there
    for d in range(EDITS + 1):
        for k in range(-d, d + 1, 2):
            down = k == -d or k < d and far[k - 1][0] < far[k + 1][0]
            x, chain = far[k + 1] if down else (far[k - 1][0] + 1, far[k - 1][1])
            start, y = x, x - x0 + y0 - k
            while x < len(a) and y < len(b) and a[x] == b[y]:
                x, y = x + 1, y + 1
            far[k] = x, (start, y - x + start, x - start, chain) if x > start else chain
            if x >= len(a) and y >= len(b):
                return x, y, far[k][1]
    (x, chain), y = max(((far[k], far[k][0] - x0 + y0 - k) for k in range(-EDITS, EDITS + 1, 2)),
                        key=lambda end: min(end[0][0], len(a)) + min(end[1], len(b)))
    return x, y, chain


def _unrolled(chain: Any) -> list[tuple]:
    """The items of a chain (…, chain before it), the first one first."""
    items = []
    while chain:
        *item, chain = chain
        items.append(tuple(item))
    return items[::-1]
