"""Which records of two tapes stand for the same thing."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from difflib import SequenceMatcher

from ..engine import Tape, Tensor

Likeness = Callable[[Tensor], Hashable]


def align(tape_a: Tape, tape_b: Tape) -> dict[Tensor, Tensor]:
    """Records of `tape_a` and their partners in `tape_b`, which have the same shapes.

    Partners are, in this order: those of one operation (or leaves), scope and name that follow each other in both
    tapes; in the gaps between, those of one operation; the results of the tapes; and what partners of one operation
    read in the same place: so the result of a fused operation finds that of the several it stands for.
    """
    partners: dict[Tensor, Tensor] = dict(_in_order(tape_a, tape_b, (_in_full, _in_kind)))
    taken = set(partners.values())
    pairs = [*zip(tape_a.roots, tape_b.roots), *reversed(partners.items())]
    for s, t in pairs:  # which grows on the way
        if s not in partners and t not in taken and shapes(s) == shapes(t):
            partners[s] = t
            taken.add(t)
        if partners.get(s) is t and kind(s) == kind(t) and len(s.inputs) == len(t.inputs):
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
    shorter = min(len(a), len(b))
    head = next((i for i in range(shorter) if a[i] != b[i]), shorter)
    tail = next((i for i in range(shorter - head) if a[-1 - i] != b[-1 - i]), shorter - head)
    middle = SequenceMatcher(None, a[head:len(a) - tail], b[head:len(b) - tail], autojunk=False).get_matching_blocks()
    return [(0, 0, head), *((i + head, j + head, n) for i, j, n in middle if n),
            (len(a) - tail, len(b) - tail, tail), ends]
