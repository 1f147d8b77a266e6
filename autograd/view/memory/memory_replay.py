"""A replay of forward and backward pass on a copy of a tape, to observe which arrays they allocate and how long these
live."""

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

from ...core.arrays import find_owner, private_copy
from ...core.mode import EagerExecutor, within
from ...core.recompute import free
from ...engine import Tape, Tensor, _item, reverse
from ..backward import differentiable_roots, restore_freed

_PYTHONS_OWN = 4096  # bytes above the arrays that tracemalloc sees and that count as Python's own tuples and dicts


@dataclass(eq=False)
class Lifetime:
    """An array that a forward or backward pass keeps for a record, and the steps at which it is alive.

    kind: "value"; "saved" for an array that a kernel saved for the backward pass, or a plain array given to the op; or
    "gradient".  n_bytes: its memory, or 0 if it shares that of an earlier array, of the record `shares`.
    born, dies: first and last step at whose end it is alive (`dies` is the number of steps if it outlives them).
    needed_by: the records whose VJP rules read it, or an array that shares its memory, in the order of the backward
    pass.
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


class MemoryProfiler:
    """A profiler that runs the forward and backward pass on copies of the records of `tape`, as `backward()` would.

    The results are `lifetimes`; `steps`: the record of each step, of which `n_forward` are the forward pass; `alive`
    and `high`: bytes in arrays at the end of each step, and the maximum within it, temporary memory included (as
    tracemalloc measures it).  Leaves are not copied and get no gradient; a modified leaf is used as it is now.
    """

    def __init__(self, tape: Tape):
        self.tape = tape
        self.lifetimes: list[Lifetime] = []
        self.steps: list[Tensor] = []
        self._step = -1
        self._original: dict[Tensor, Tensor] = {}
        self._weakrefs: list[Any] = []                    # kept, since a weak reference that dies calls nothing back
        self._owner: dict[int, Lifetime] = {}             # id of a live buffer -> the array it was allocated for
        self._untracked: dict[Tensor, list[Lifetime]] = {}  # numbers that are no arrays and take no weak reference
        self._sent: dict[Tensor, list[int]] = {}          # record -> steps at which it received gradients
        self._owner_of: dict[Lifetime, Lifetime] = {}     # array without own memory -> the array whose memory it shares
        self._item: dict[Lifetime, int] = {}              # array of a tuple -> its number
        self._recomputed: list[Tensor] = []               # records that the backward pass recomputed in this step
        self._extra: list[tuple[int, int, int]] = []      # (step, reference step, bytes above the traced memory at the
                                                          # end of the reference step)
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
        """Run the forward pass, and return a copy of each record."""
        first = next((t.created for t in self.tape if t.op is not None), 0)  # creation index of the first operation
        early, copies = _freed_early(self.tape), self._copy_leaves(first)
        constants: list[Tensor] = []  # created by the program since the last operation
        to_free: list[Tensor] = []    # copies whose values `ag.checkpoint` frees once its scope is left
        self._start_step()
        for t in self.tape:
            if t.op is None:
                if not t.requires_grad and t.created > first:
                    constants.append(t)
                continue
            copy = copies[t] = self._compute(t, copies)
            for constant in constants:
                self._track(constant, "value", constant._array)
            constants = []
            self._track_arguments(t)
            self._track_value(copy)
            if t in early:
                to_free.append(copy)
            else:
                for freed in to_free:
                    free(freed)
                to_free = []
            self._start_step()
        return copies

    def _copy_leaves(self, first: int) -> dict[Tensor, Tensor]:
        """Copy the leaves, and the inputs from outside the tape.  Only constants created after `first`, during the
        forward pass, count as allocated by it."""
        copies, inside = {}, set(self.tape)
        for t in _sources(self.tape):
            copies[t] = copy = _copy(t, t._value())
            copy.op, copy._requires_grad = None, t.op is None and t.requires_grad and t in inside
            self._original[copy] = t
            if t.op is not None or t.requires_grad or t.created < first:
                self._owner[id(find_owner(t._value()))] = Lifetime(t, "value", 0, 0, 0)
        return copies

    def _compute(self, t: Tensor, copies: dict[Tensor, Tensor]) -> Tensor:
        """Run the formula of a record on the copies of its inputs, and return its copy."""
        inputs = tuple([copies[a] if type(a) is Tensor else a for a in t.inputs])
        values = [a._value() if type(a) is Tensor else a for a in inputs]
        y, saved = t.op.compute(values, t.attrs)  # type: ignore[union-attr]
        self._end_step(t)
        copy = _copy(t, y, inputs, saved)
        self._original[copy] = t
        return copy

    def _backward(self, copies: dict[Tensor, Tensor]) -> None:
        """Run the backward pass as the first call of `Tensor.backward` does: the leaves have no gradients yet."""
        roots = [copies[t] for t in differentiable_roots(self.tape)]
        seeds = [np.ones_like(t._value()) for t in roots]
        arrived, last, g, sent = [], set(roots), None, None
        for t, g, sent in reverse(roots, seeds):
            if t.op is not None:
                self._end_step(self._original[t])
            else:
                self._measure()
                arrived.append(g)
            self._track_gradients(t, t in last, g, sent)
            for recomputed in self._recomputed:
                self._track_value(recomputed)
            self._recomputed.clear()
            self._end_untracked(t, t in last)
            self._start_step()
        del g, sent
        self._accumulate(arrived)

    def _accumulate(self, arrived: list[Any]) -> None:
        """Make the gradients of leaves their `.grad`, one after the other as `Tensor.backward` does, and empty the
        list; these arrays outlive the last step."""
        stay = {self._owner.get(id(find_owner(g))) for g in arrived}
        grads = []
        while arrived:
            grads.append(private_copy(arrived.pop()))
        self._measure()
        del grads
        for life in self.lifetimes:
            if life in stay or life.kind == "gradient" and life.record.op is None and self._owner_of.get(life) in stay:
                life.dies = -1

    # ------------------------------------------------------------------ tracking of arrays
    def on_forward(self, copy: Tensor) -> None:
        """Note a value that the backward pass recomputes."""
        self._recomputed.append(copy)

    def on_backward(self, *_: Any) -> None:
        """Do nothing: gradients are tracked in the loop of the backward pass."""

    def _track(self, t: Tensor, kind: str, value: Any, born: int | None = None, only_new: bool = False) -> None:
        """Add lifetimes for the arrays in `value`, which have just been allocated for the record `t`."""
        for array in _arrays(value):
            buffer = find_owner(array)
            owner = self._owner.get(id(buffer))
            if owner is not None and only_new:
                continue
            life = Lifetime(t, kind, _n_bytes(buffer) if owner is None else 0, self._step if born is None else born, -1)
            self.lifetimes.append(life)
            if owner is None:
                self._owner[id(buffer)] = life
                self._note_end(buffer, life, id(buffer))
            else:
                self._owner_of[life], life.shares = owner, owner.record
                self._note_end(array, life)

    def _track_value(self, copy: Tensor) -> None:
        """Track the value of a record and the arrays that its kernel saved."""
        t = self._original[copy]
        self._track(t, "value", copy._array)
        if type(copy._array) is tuple:
            items = self.lifetimes[-len(copy._array):]
            self._item.update((life, i) for i, life in enumerate(items))
        self._track(t, "saved", copy.saved[1] if copy.saved is not None else ())

    def _track_arguments(self, t: Tensor) -> None:
        """Track plain arrays among inputs and attributes: the record keeps copies of them as long as it lives."""
        arrays = [a for a in t.inputs if type(a) is not Tensor]
        self._track(t, "saved", [*arrays, *(t.attrs or {}).values()])

    def _track_gradients(self, t: Tensor, is_root: bool, g: Any, sent: list[tuple[Tensor, Any]]) -> None:
        """Track the gradient of `t`, a new array if it is a sum or a seed, and the gradients of its inputs."""
        received = self._sent.pop(t, [])
        if len(received) != 1 or isinstance(g, tuple) or is_root:
            # The second contribution was added to the first at the start of the step after it.
            born = min(received[1] + 1, self._step) if len(received) > 1 and not isinstance(g, tuple) else None
            self._track(self._original[t], "gradient", g, born, only_new=True)
        for a, d in sent:
            self._track(self._original[a], "gradient", d)
            self._sent.setdefault(a, []).append(self._step)

    def _note_end(self, array: Any, life: Lifetime, buffer: int = 0) -> None:
        """Note when an array is deallocated, and with it the buffer of this id."""
        def end(_: Any) -> None:
            life.dies = self._step
            self._owner.pop(buffer, None)
        try:
            self._weakrefs.append(weakref.ref(array, end))
        except TypeError:  # a number such as np.float64(1) takes no weak reference
            self._owner.pop(buffer, None)
            self._untracked.setdefault(life.record, []).append(life)

    def _end_untracked(self, copy: Tensor, is_root: bool) -> None:
        """End untracked numbers with the backward step of their record, except values of roots, and leaves."""
        for life in self._untracked.pop(self._original[copy], ()):
            if copy.op is not None and not (is_root and life.kind == "value"):
                life.dies = self._step

    # ------------------------------------------------------------------ steps and bytes
    def _start_step(self) -> None:
        """Measure memory from here on, without the bookkeeping since the last step."""
        if self._traces:
            tracemalloc.reset_peak()
            self._traced = tracemalloc.get_traced_memory()[0]

    def _end_step(self, t: Tensor) -> None:
        """End the step of `t`, before the bookkeeping allocates anything."""
        self.steps.append(t)
        since, self._step = self._step, self._step + 1
        self._measure(since)

    def _measure(self, since: int | None = None) -> None:
        """Note how far traced memory rose above its level at the end of step `since` (by default of this step)."""
        extra = tracemalloc.get_traced_memory()[1] - self._traced if self._traces else 0
        self._extra.append((self._step, self._step if since is None else since, extra))

    def _finish(self) -> None:
        """Compute the bytes at each step and the readers of each array."""
        n = len(self.steps)
        self._weakrefs.clear()
        self.lifetimes = self.lifetimes if n else []
        for life in self.lifetimes:
            life.dies = n if life.dies < 0 else life.dies
        self.alive = bytes_per_step(self.lifetimes, n)
        self.high = list(self.alive)
        for step, since, extra in self._extra:
            traced = extra + (self.alive[since] if since >= 0 else 0)
            if step >= 0 and traced > self.high[step] + _PYTHONS_OWN:
                self.high[step] = traced
        self._find_readers()

    def _find_readers(self) -> None:
        """Set `needed_by` of each array: a VJP rule reads the gradient, the output and all inputs of its record."""
        backward_step = {t: self.n_forward + i for i, t in enumerate(self.steps[self.n_forward:])}
        readers: dict[Any, list[Tensor]] = {t: [t] for t in self.tape}
        for t in self.steps[:self.n_forward]:
            for a in dict.fromkeys(a for a in t.inputs if type(a) is Tensor):
                readers.setdefault((a, t.attrs["i"]) if t.op is _item else a, []).append(t)
        for life in self.lifetimes:
            reading = readers[life.record] if life.kind == "value" else [life.record]
            if life in self._item:  # only this item of the tuple reads the array
                reading = reading + readers.get((life.record, self._item[life]), [])
            life.needed_by = [t for t in reading if t in backward_step
                              and (life.kind != "value" or backward_step[t] <= life.dies)]
        for life, owner in self._owner_of.items():
            owner.needed_by.extend(life.needed_by)
        for life in self.lifetimes:
            life.needed_by = sorted(set(life.needed_by), key=backward_step.__getitem__)


def bytes_per_step(lifetimes: Sequence[Any], n: int) -> list[int]:
    """Return the total `n_bytes` of the arrays that are alive (`born` to `dies`) at the end of each of `n` steps."""
    changes = [0] * (n + 2)
    for life in lifetimes:
        changes[life.born] += life.n_bytes
        changes[life.dies + 1] -= life.n_bytes
    return list(itertools.accumulate(changes))[:n]


@contextmanager
def _tracing() -> Iterator[bool]:
    """Trace memory with tracemalloc and yield True; yield False if it was tracing already, and leave its peak alone."""
    traced = tracemalloc.is_tracing()
    if not traced:
        tracemalloc.start()
    try:
        yield not traced
    finally:
        if not traced:
            tracemalloc.stop()


def _sources(tape: Tape) -> list[Tensor]:
    """Return the leaves of a tape, and the inputs of its records that lie outside it (`tape(y, since=…)`)."""
    inside = set(tape)
    outside = {a for t in tape for a in t.inputs if type(a) is Tensor and a not in inside}
    return [*(t for t in tape if t.op is None), *outside]


def _freed_early(tape: Tape) -> set[Tensor]:
    """Return the records whose values were freed during the forward pass, as in `ag.checkpoint`.  If all values are
    freed, a backward pass did it, and the ones that had been freed before it are unknown."""
    roots = set(tape.roots)
    inner = [t for t in tape if t.op is not None and t not in roots]
    freed = {t for t in inner if t._array is None}
    return freed if len(freed) < len(inner) else set()


def _copy(t: Tensor, data: Any, inputs: tuple = (), saved: Any = None) -> Tensor:
    """Copy a record with its creation index and source line, so that errors point there."""
    copy = object.__new__(Tensor)
    for name in Tensor.__slots__:
        if name != "__weakref__":
            setattr(copy, name, getattr(t, name))
    copy._array, copy._grad, copy.inputs, copy.saved, copy.version = data, None, inputs, saved, t.created
    copy.freed = None
    return copy


def _arrays(value: Any) -> list[Any]:
    """Return the arrays, of any library, in a value, a gradient, or the arrays saved by a kernel."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [array for item in value for array in _arrays(item)]
    return [value] if hasattr(value, "dtype") and hasattr(value, "shape") else []


def _n_bytes(array: Any) -> int:
    return math.prod(array.shape) * array.dtype.itemsize
