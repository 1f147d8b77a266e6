"""Alignment of two tapes: pairs of records that correspond to each other."""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from ...core.multi_output import shape_and_dtype
from ...engine import Tape, Tensor
from ..text import record_type

EDITS = 128
"""Insertions and deletions after which the alignment found so far is fixed."""

Key = Callable[[Tensor], Hashable]


def align(tape_a: Tape, tape_b: Tape) -> dict[Tensor, Tensor]:
    """Map records of `tape_a` to their partners in `tape_b`, which have the same shapes.

    Partners are found in four passes: 1. a longest common subsequence by (op or kind of leaf, shapes, scope, name);
    2. in the gaps, by (op or kind of leaf, shapes); 3. the roots; 4. inputs of partners with the same op, by position.
    The last one pairs the result of a fused operation with that of the operations it replaces.
    """
    partners: dict[Tensor, Tensor] = dict(_match_in_order(tape_a, tape_b, (_full_key, _type_key)))
    taken = set(partners.values())
    pairs, visited = [*zip(tape_a.roots, tape_b.roots), *reversed(partners.items())], set()
    for s, t in pairs:  # grows during the loop
        if s not in partners and t not in taken and shapes(s) == shapes(t):
            partners[s] = t
            taken.add(t)
        same_op = node_type(s) == node_type(t) and len(s.inputs) == len(t.inputs)
        if partners.get(s) is t and s not in visited and same_op:
            visited.add(s)
            pairs += [(x, y) for x, y in zip(s.inputs, t.inputs)
                      if type(x) is type(y) is Tensor and x not in partners and y not in taken]
    return {s: partners[s] for s in tape_a if s in partners}


def node_type(t: Tensor) -> str:
    """Return the name of the op, or "parameter" or "constant".  (A name, since an op defined again is a new object.)"""
    return t.op.name if t.op is not None else record_type(t)


def shapes(t: Tensor) -> tuple:
    """Return the shape of a record's value, or for a tuple the shapes of its arrays, freed or not."""
    found = shape_and_dtype(t)
    return tuple([shape for shape, _ in found]) if isinstance(found, list) else t.shape


def _full_key(t: Tensor) -> Hashable:
    return node_type(t), shapes(t), t.scope, t.name


def _type_key(t: Tensor) -> Hashable:
    return node_type(t), shapes(t)


def _match_in_order(a: Sequence[Tensor], b: Sequence[Tensor],
                    keys: tuple[Key, ...]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pairs with equal first keys that have the same order in both sequences; in the gaps, by the next key."""
    if not a or not b or not keys:
        return
    keys_a, keys_b = [keys[0](t) for t in a], [keys[0](t) for t in b]
    end_a = end_b = 0
    for start_a, start_b, length in _common_runs(keys_a, keys_b):
        yield from _match_in_order(a[end_a:start_a], b[end_b:start_b], keys[1:])
        end_a, end_b = start_a + length, start_b + length
        yield from zip(a[start_a:end_a], b[start_b:end_b])


def _common_runs(a: list[Hashable], b: list[Hashable]) -> list[tuple[int, int, int]]:
    """Return the runs of equal items as (start in `a`, start in `b`, length); the last one is empty, at the ends."""
    ends = (len(a), len(b), 0)
    same = [i for i, (x, y) in enumerate(zip(a, b)) if x == y]
    if len(a) == len(b) <= 2 * len(same):  # a few items replaced, none moved
        return [*((i, i, 1) for i in same), ends]
    runs, start_a, start_b = [], 0, 0
    for i, j in [*_anchors(a, b), ends[:2]]:
        runs += [(start_a + x, start_b + y, n) for x, y, n in _myers_runs(a[start_a:i], b[start_b:j])]
        runs.append((i, j, int(i < len(a))))
        start_a, start_b = i + 1, j + 1
    return runs


def _anchors(a: list[Hashable], b: list[Hashable]) -> list[tuple[int, int]]:
    """Return the positions (in `a`, in `b`) of a longest increasing subsequence of the items unique in both (patience
    diff)."""
    times_a, times_b, position = Counter(a), Counter(b), {item: j for j, item in enumerate(b)}
    ends: list[int] = []    # ends[n]: smallest last position in b of an increasing subsequence of n + 1 items
    chains: list[Any] = []  # chains[n]: that subsequence, as a linked list (i, j, chain before it)
    for i, item in enumerate(a):
        if times_a[item] == times_b[item] == 1:
            n = bisect(ends, j := position[item])
            ends[n:n + 1], chains[n:n + 1] = [j], [(i, j, chains[n - 1] if n else None)]
    return _unroll(chains[-1] if chains else None)


def _myers_runs(a: list[Hashable], b: list[Hashable]) -> Iterator[tuple[int, int, int]]:
    """Yield the runs of equal items under the fewest insertions and deletions.  After EDITS of them the runs found so
    far are fixed and the search restarts behind them, which keeps time linear in the lengths."""
    x = y = 0
    while x < len(a) and y < len(b):
        x, y, runs = _search_edits(a, b, x, y)
        yield from _unroll(runs)


def _search_edits(a: list[Hashable], b: list[Hashable], x0: int, y0: int) -> tuple[int, int, Any]:
    """Return the furthest point that up to EDITS insertions and deletions reach from (x0, y0), and the runs on the path
    (Myers 1986, "An O(ND) difference algorithm", algorithm of section 4)."""
    far: dict[int, tuple[int, Any]] = {1: (x0, None)}  # diagonal -> furthest x, and the linked list of runs to there
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


def _unroll(chain: Any) -> list[tuple]:
    """Return the items of a linked list (…, list before it), first item first."""
    items = []
    while chain:
        *item, chain = chain
        items.append(tuple(item))
    return items[::-1]
