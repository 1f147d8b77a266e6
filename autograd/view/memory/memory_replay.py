"""Forward and backward once more, on a copy of a tape, to see which arrays they make and how long these stay."""

from __future__ import annotations

import itertools
import math
import tracemalloc
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...core.arrays import find_owner, own
from ...core.mode import EagerExecutor, within
from ...core.recompute import free
from ...engine import Tape, Tensor, _item, reverse
from ..backward import differentiable_roots, restore_freed

_PYTHONS_OWN = 4096  # bytes: what tracing shows beyond the arrays and is less is tuples, dicts and numbers of Python


@dataclass(eq=False)
class Lifetime:
    """An array that forward or backward keeps for a record, and how long.

    kind: "value"; "saved": what a kernel saved for backward, or an array that the op was given and the record keeps;
    or "gradient".  n_bytes: what it takes in memory, 0 if it lives in that of an earlier array: of the record `shares`.
    born, dies: the first and the last step at whose end it is there (`dies` is the number of steps if it stays).
    needed_by: the records whose backward reads it, in the order in which they do; an array that others share is
    kept for what reads them.
    """

    record: Tensor
    kind: str
    n_bytes: int
    born: int
    dies: int
    needed_by: list[Tensor] = field(default_factory=list)
    shares: Tensor | None = None

    def __repr__(self) -> str:
        return f"Lifetime({self.kind}, {self.n_bytes:,} bytes, steps {self.born} to {self.dies})"


class Rehearsal:
    """A forward and a backward over copies of the records of `tape`, as `backward()` would go, after which it knows:

    `lifetimes`; `steps`: the record of each step, `n_forward` of them forward; `alive`, `high`: the bytes in arrays at
    the end of each step, and the most within it, with what formulas and rules hold for a moment (tracemalloc tells).
    Leaves are read and not copied, and get no gradient; one that has changed since counts as it is now.
    """

    def __init__(self, tape: Tape):
        self.tape = tape
        self.lifetimes: list[Lifetime] = []
        self.steps: list[Tensor] = []
        self._step = -1
        self._original: dict[Tensor, Tensor] = {}
        self._watches: list[Any] = []                     # weak references, whose callbacks need them to live
        self._owner: dict[int, Lifetime] = {}             # of the buffers there are: whose array each was made for
        self._by_hand: dict[Tensor, list[Lifetime]] = {}  # of what cannot be watched: numbers that are no arrays
        self._sent: dict[Tensor, list[int]] = {}          # at which steps a record was sent gradients
        self._owner_of: dict[Lifetime, Lifetime] = {}     # what lives in the memory of another array: of which
        self._part: dict[Lifetime, int] = {}              # of a value that is one of a tuple's arrays: which
        self._again: list[Tensor] = []                    # what the way back has computed again since the last step
        self._extra: list[tuple[int, int, int]] = []      # a step, and how far memory rose in it since the end of which
        with within(executor=EagerExecutor, observer=None), np.errstate(all="ignore"), restore_freed(tape), \
                _tracing() as self._traces:
            copies = self._forward()
            self.n_forward = len(self.steps)
            with within(observer=self):
                self._backward(copies)
            del copies
        self._finish()

    # ------------------------------------------------------------------ the two passes
    def _forward(self) -> dict[Tensor, Tensor]:
        """Compute every record again; the copy of each."""
        early, copies, frees, inside = _freed_early(self.tape), {}, [], set(self.tape)
        first = next((t.created for t in self.tape if t.op is not None), 0)
        made: list[Tensor] = []  # constants that the forward pass made since the last operation
        for t in _sources(self.tape):
            copies[t] = copy = _copy(t, t._value())
            copy.op, copy._requires_grad = None, t.op is None and t.requires_grad and t in inside
            self._original[copy] = t
            if t.op is not None or t.requires_grad or t.created < first:
                self._owner[id(find_owner(t._value()))] = Lifetime(t, "value", 0, 0, 0)
        self._mark()
        for t in self.tape:
            if t.op is None:
                if not t.requires_grad and t.created > first:
                    made.append(t)
                continue
            inputs = tuple([copies[a] if type(a) is Tensor else a for a in t.inputs])
            values = [a._value() if type(a) is Tensor else a for a in inputs]
            y, saved = t.op.compute(values, t.attrs)
            self._begin(t)
            copy = copies[t] = _copy(t, y, inputs, saved)
            self._original[copy] = t
            for constant in made:
                self._see(constant, "value", constant._array)
            self._see_given(t)
            self._see_value(copy)
            made = []
            if t in early:
                frees.append(copy)
            else:
                for freed in frees:
                    free(freed)
                frees = []
            del values, y, saved, inputs
            self._mark()
        return copies

    def _backward(self, copies: dict[Tensor, Tensor]) -> None:
        """Walk back as `Tensor.backward` does, for the first time: its leaves have no gradients yet."""
        roots = [copies[t] for t in differentiable_roots(self.tape)]
        seeds = [np.ones_like(t._value()) for t in roots]
        arrived, last, g, sent = [], set(roots), None, None
        for t, g, sent in reverse(roots, seeds):
            if t.op is not None:
                self._begin(self._original[t])
            else:
                self._measure()
                arrived.append(g)
            self._see_gradients(t, t in last, g, sent)
            for back in self._again:
                self._see_value(back)
            self._again.clear()
            self._let_go(t, t in last)
            self._mark()
        stay = {self._owner.get(id(find_owner(g))) for g in arrived}
        del g, sent
        gradients = []  # what `.grad` will be, one after the other
        while arrived:
            gradients.append(own(arrived.pop()))
        self._measure()
        del arrived, gradients
        for life in self.lifetimes:
            if life in stay or life.kind == "gradient" and life.record.op is None and self._owner_of.get(life) in stay:
                life.dies = -1

    # ------------------------------------------------------------------ what is seen
    def on_forward(self, copy: Tensor) -> None:
        """Note a value that the way back computes again."""
        self._again.append(copy)

    def on_backward(self, *_: Any) -> None:
        """Note nothing of a record that the way back has passed: it is seen when it is its turn."""

    def _see(self, t: Tensor, kind: str, value: Any, born: int | None = None, only_new: bool = False) -> None:
        """Note the arrays in `value`, which are there now for the record `t`."""
        for array in _arrays(value):
            buffer = find_owner(array)
            whose = self._owner.get(id(buffer))
            if whose is not None and only_new:
                continue
            life = Lifetime(t, kind, _n_bytes(buffer) if whose is None else 0, self._step if born is None else born, -1)
            self.lifetimes.append(life)
            if whose is None:
                self._owner[id(buffer)] = life
                self._watch(buffer, life, id(buffer))
            else:
                self._owner_of[life], life.shares = whose, whose.record
                self._watch(array, life)

    def _see_value(self, copy: Tensor) -> None:
        t = self._original[copy]
        self._see(t, "value", copy._array)
        if type(copy._array) is tuple:
            parts = self.lifetimes[-len(copy._array):]
            self._part.update((life, i) for i, life in enumerate(parts))
        self._see(t, "saved", copy.saved[1] if copy.saved is not None else ())

    def _see_given(self, t: Tensor) -> None:
        """Arrays among the inputs and settings stay as long as the record, which keeps copies of them."""
        given = [a for a in t.inputs if type(a) is not Tensor]
        self._see(t, "saved", [*given, *(t.attrs or {}).values()])

    def _see_gradients(self, t: Tensor, is_root: bool, g: Any, sent: list[tuple[Tensor, Any]]) -> None:
        """Note the gradient of `t`, which is new if it is a sum or a seed, and what is sent on."""
        times = self._sent.pop(t, [])
        if len(times) != 1 or isinstance(g, tuple) or is_root:
            # The second contribution was added to the first when the step after it began.
            born = min(times[1] + 1, self._step) if len(times) > 1 and not isinstance(g, tuple) else None
            self._see(self._original[t], "gradient", g, born, only_new=True)
        for a, d in sent:
            self._see(self._original[a], "gradient", d)
            self._sent.setdefault(a, []).append(self._step)

    def _watch(self, array: Any, life: Lifetime, buffer: int = 0) -> None:
        """Note when an array is gone, and with it the buffer of that id."""
        def gone(_: Any) -> None:
            life.dies = self._step
            self._owner.pop(buffer, None)
        try:
            self._watches.append(weakref.ref(array, gone))
        except TypeError:  # a number such as np.float64(1) cannot be watched
            self._owner.pop(buffer, None)
            self._by_hand.setdefault(life.record, []).append(life)

    def _let_go(self, copy: Tensor, is_root: bool) -> None:
        """What cannot be watched goes when its record has been passed, but for results and the gradients of leaves."""
        for life in self._by_hand.pop(self._original[copy], ()):
            if copy.op is not None and not (is_root and life.kind == "value"):
                life.dies = self._step

    # ------------------------------------------------------------------ steps and bytes
    def _begin(self, t: Tensor) -> None:
        """A step has just been done, that of `t`: measure it first."""
        self.steps.append(t)
        since, self._step = self._step, self._step + 1
        self._measure(since)

    def _measure(self, since: int | None = None) -> None:
        """How far memory has risen, at most, since the last mark, at the end of the step `since` or in this one."""
        extra = tracemalloc.get_traced_memory()[1] - self._marked if self._traces else 0
        self._extra.append((self._step, self._step if since is None else since, extra))

    def _mark(self) -> None:
        """From here on the next step counts."""
        if self._traces:
            tracemalloc.reset_peak()
            self._marked = tracemalloc.get_traced_memory()[0]

    def _finish(self) -> None:
        """Work out the bytes at each step, and who needs what."""
        n = len(self.steps)
        self._watches.clear()
        self.lifetimes = self.lifetimes if n else []
        for life in self.lifetimes:
            life.dies = n if life.dies < 0 else life.dies
        self.alive = bytes_over(self.lifetimes, n)
        self.high = list(self.alive)
        for step, since, extra in self._extra:
            most = extra + (self.alive[since] if since >= 0 else 0)
            if step >= 0 and most > self.high[step] + _PYTHONS_OWN:
                self.high[step] = most
        self._find_needs()

    def _find_needs(self) -> None:
        """For each array, the records whose backward reads it: a rule gets the gradient, the output and all inputs."""
        back = {t: self.n_forward + i for i, t in enumerate(self.steps[self.n_forward:])}
        readers: dict[Any, list[Tensor]] = {t: [t] for t in self.tape}
        for t in self.steps[:self.n_forward]:
            for a in dict.fromkeys(a for a in t.inputs if type(a) is Tensor):
                readers.setdefault((a, t.attrs["i"]) if t.op is _item else a, []).append(t)
        for life in self.lifetimes:
            reading = readers[life.record] if life.kind == "value" else [life.record]
            if life in self._part:  # one of a tuple's arrays, which that item alone reads
                reading = reading + readers.get((life.record, self._part[life]), [])
            life.needed_by = [t for t in reading if t in back and (life.kind != "value" or back[t] <= life.dies)]
        for life, whose in self._owner_of.items():
            whose.needed_by.extend(life.needed_by)
        for life in self.lifetimes:
            life.needed_by = sorted(set(life.needed_by), key=back.__getitem__)


def bytes_over(lifetimes: Sequence[Any], n: int) -> list[int]:
    """The bytes in these arrays (`n_bytes`, from step `born` to `dies`) at the end of each of `n` steps."""
    changes = [0] * (n + 2)
    for life in lifetimes:
        changes[life.born] += life.n_bytes
        changes[life.dies + 1] -= life.n_bytes
    return list(itertools.accumulate(changes))[:n]


@contextmanager
def _tracing() -> Iterator[bool]:
    """Trace memory within it, and yield whether that could be; a tracing of the user's is left alone, with its peak."""
    traced = tracemalloc.is_tracing()
    if not traced:
        tracemalloc.start()
    try:
        yield not traced
    finally:
        if not traced:
            tracemalloc.stop()


def _sources(tape: Tape) -> list[Tensor]:
    """The leaves of a tape, and what records of it were made from that lies outside (`tape(y, since=…)`)."""
    inside = set(tape)
    outside = {a for t in tape for a in t.inputs if type(a) is Tensor and a not in inside}
    return [*(t for t in tape if t.op is None), *outside]


def _freed_early(tape: Tape) -> set[Tensor]:
    """The records that lost their values before a backward came by, as in `ag.checkpoint`.  Where all have lost them
    it was a backward, and no telling what had been freed before."""
    roots = set(tape.roots)
    inner = [t for t in tape if t.op is not None and t not in roots]
    freed = {t for t in inner if t._array is None}
    return freed if len(freed) < len(inner) else set()


def _copy(t: Tensor, data: Any, inputs: tuple = (), saved: Any = None) -> Tensor:
    """A record like `t`, with the same place and line, so that errors point there."""
    copy = object.__new__(Tensor)
    for name in Tensor.__slots__:
        if name != "__weakref__":
            setattr(copy, name, getattr(t, name))
    copy._array, copy._grad, copy.inputs, copy.saved, copy.version = data, None, inputs, saved, t.created
    return copy


def _arrays(value: Any) -> list[Any]:
    """The arrays in a value, a gradient, or what was saved, whichever library they are of."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [array for part in value for array in _arrays(part)]
    return [value] if hasattr(value, "dtype") and hasattr(value, "shape") else []


def _n_bytes(array: Any) -> int:
    return math.prod(array.shape) * array.dtype.itemsize
