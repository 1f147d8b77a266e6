"""Forward and back through a tape, one record at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.describe import record_line, shortened
from ..engine import Tape, Tensor
from .backward import backward_pass, differentiable_roots, input_values, restore_freed
from .step_html import stop_html
from .text import number_records, record_name, summary


@dataclass(eq=False)
class Stop:
    """What there is to see at one step."""

    number: int                                    # of the step, from 0
    phase: str                                     # "forward" or "backward"
    record: Tensor                                 # whose turn it is
    inputs: list[Any]                              # its inputs: arrays, and what else its op was given
    output: Any                                    # its value: an array, or a tuple of them
    gradient: Any = None                           # backward: the gradient that has come in
    sent: list[tuple[Tensor, Any]] = field(default_factory=list)          # the gradient it sends to which input
    sums: list[tuple[Tensor, Any, Any]] = field(default_factory=list)     # who received: its sum before and after, of
                                                   # a tuple those of the arrays that received
    names: dict[Tensor, int] = field(default_factory=dict, repr=False)    # the records' numbers in the tape

    @property
    def gradients(self) -> tuple:
        """The gradient that has come in as a tuple, for a record of several arrays and of one; empty on the way
        forward."""
        return () if self.phase == "forward" else self.gradient if type(self.gradient) is tuple else (self.gradient,)

    def _repr_html_(self) -> str:
        return stop_html(self)

    def __repr__(self) -> str:
        t, names = self.record, self.names
        head = f"{self.phase} step {self.number}   {record_line(t, names)}"
        given = t.op.parameters if t.op is not None and t.op.star is None else []
        if self.phase == "forward":
            inputs = [record_name(a, names) if type(a) is Tensor else given[i] if i < len(given) else i
                      for i, a in enumerate(t.inputs)]
            rows = [f"{name}: {summary(value)}" for name, value in zip(inputs, self.inputs)]
            return "\n  ".join([head, *shortened(rows, "more inputs"), f"= {summary(self.output)}"])
        rows = [f"sends to {record_name(a, names)}: {summary(d)}"
                + (f"; its sum is now {summary(after)}" if before is not None else "")
                for (a, d), (_, before, after) in zip(self.sent, self.sums[-len(self.sent):])]
        return "\n  ".join([head, f"gradient that came in: {summary(self.gradient)}", *shortened(rows)])


class Stepper:
    """A walk over a tape, step by step: forward from the inputs to the loss, then backward to the leaves.

        walk = ag.tape(loss).stepper()
        walk.step()                            # the first operation: its inputs and its output
        walk.until(op="softmax")               # on to the next softmax
        walk.until(where=lambda grad: np.abs(grad).max() > 10)
        walk.back()                            # one step undone: the gradients are as they were
        walk.gradient(w)                       # what has arrived at w so far
        for stop in walk: print(stop)          # the rest

    Each returns a `Stop`, or None where the walk is at its end (or, for `back`, at its beginning).  The gradients are
    the walk's own: neither `.grad` nor the tape changes, and at the end they are what `backward()` gives.  A step taken
    again after `back` shows what was seen then; after `reset` the rules run anew, and a `breakpoint()` in one stops in
    it.  Values that a backward had freed are there as long as the walk is under way.
    """

    def __init__(self, tape: Tape):
        self.tape, self._names = tape, number_records(tape)
        self._ops = {t.op.name for t in tape if t.op is not None}
        self.reset()

    def reset(self) -> None:
        """Go back to before the first step and forget what was seen."""
        self._seen: list[Stop] = []
        self._sums: dict[Tensor, Any] = {}
        self.position = 0  # how many steps have been taken
        self._walk = _steps(self.tape, self._names)

    def step(self) -> Stop | None:
        """Take the next step."""
        if self.position == len(self._seen):
            if (stop := next(self._walk, None)) is None:
                return None
            self._seen.append(stop)
        stop = self._seen[self.position]
        self.position += 1
        for a, _, after in stop.sums:
            _put(self._sums, a, after)
        return stop

    def back(self) -> Stop | None:
        """Undo the last step; the step that is the last one now."""
        if self.position == 0:
            return None
        self.position -= 1
        for a, before, after in reversed(self._seen[self.position].sums):
            if isinstance(after, dict):
                for i in after.keys() - (before or {}).keys():
                    del self._sums[a][i]
            elif before is None:
                del self._sums[a]
            if before is not None:
                _put(self._sums, a, before)
        return self.here

    def until(self, op: str | None = None, scope: str | None = None, name: str | None = None,
              where: Callable[[Any], Any] | None = None) -> Stop | None:
        """Step on until all that is given is so: the operation is `op`, it was recorded within `scope`, a tensor called
        `name` is the record, or an input it reads or sends a gradient to, and `where` says yes to the gradient that has
        come in (an array, or each one of a tuple; forward steps have none, and are passed)."""
        if op is not None and op not in self._ops:
            raise ValueError(f"no record of this tape is made by {op!r}: there are {', '.join(sorted(self._ops))}")
        for stop in self:
            t = stop.record
            tensors = [t, *(a for a in t.inputs if type(a) is Tensor)]
            if ((op is None or t.op.name == op)  # type: ignore[union-attr]
                    and (scope is None or f"{t.scope}.".startswith(f"{scope}."))
                    and (name is None or any(a.name == name for a in tensors))
                    and (where is None or any(where(g) for g in stop.gradients))):
                return stop
        return None

    def run(self) -> Stop | None:
        """Take all steps that are left; the last one."""
        for _ in self:
            pass
        return self.here

    def gradient(self, t: Tensor) -> Any:
        """The sum of what has arrived at a record so far (an array to be read); None before anything has."""
        g = self._sums.get(t)
        return (dict(g) or None) if isinstance(g, dict) else g

    @property
    def here(self) -> Stop | None:
        """The step that was taken last."""
        return self._seen[self.position - 1] if self.position else None

    def __iter__(self) -> Iterator[Stop]:
        return self

    def __next__(self) -> Stop:
        if (stop := self.step()) is None:
            raise StopIteration
        return stop

    def __repr__(self) -> str:
        n = sum(t.op is not None for t in self.tape)
        where = f"after {self.position} steps" if self.position else "before the first step"
        return f"Stepper {where}, of {n} forward and up to {n} backward" + (f"\n{self.here}" if self.here else "")


def _steps(tape: Tape, names: dict[Tensor, int]) -> Iterator[Stop]:
    """All stops of a walk; a function of its own, so that a stepper that is dropped ends it and frees the values."""
    with restore_freed(tape):
        operations = [t for t in tape if t.op is not None]
        for i, t in enumerate(operations):
            yield Stop(i, "forward", t, input_values(t.inputs), t._value(), names=names)
        number, sums = len(operations), {}  # type: ignore[var-annotated]
        seeds = accumulate(sums, [(t, np.ones_like(t._value())) for t in differentiable_roots(tape)])
        for t, g, sent in backward_pass(tape):
            if t.op is not None:
                yield Stop(number, "backward", t, input_values(t.inputs), t._value(), g, sent,
                           seeds + accumulate(sums, sent), names)
                number, seeds = number + 1, []


def accumulate(sums: dict[Tensor, Any], sent: list[tuple[Tensor, Any]]) -> list[tuple[Tensor, Any, Any]]:
    """Add gradients to the sums of those they are sent to, in the walk's order: who, its sum before, and after; of a
    tuple of arrays those of the arrays that get some."""
    changes = []
    for a, d in sent:
        if isinstance(d, dict):
            its = sums.setdefault(a, {})
            before = {i: its[i] for i in d if i in its} or None
            after = {i: its[i] + part if i in its else part for i, part in d.items()}
        else:
            before = sums.get(a)
            after = d if before is None else before + d
        _put(sums, a, after)
        changes.append((a, before, after))
    return changes


def _put(sums: dict[Tensor, Any], a: Tensor, value: Any) -> None:
    """Make `value` the sum of `a`, or part of it, where it is that of some arrays of a tuple."""
    if isinstance(value, dict):
        sums.setdefault(a, {}).update(value)
    else:
        sums[a] = value
