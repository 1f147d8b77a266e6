"""The stepper: forward and backward pass over a tape, one record at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.describe import record_line, shorten
from ..engine import Tape, Tensor
from .backward import backward_pass, differentiable_roots, input_values, restore_freed
from .card.jacobian import find_needed
from .card.numbers import rule_with_numbers
from .step_html import stop_html
from .text import number_records, record_name, summary
from .what_if import matcher


@dataclass(eq=False)
class Stop:
    """One step of a `Stepper`: a record, with its inputs and value or its incoming and outgoing gradients."""

    number: int                                    # number of the step, from 0
    phase: str                                     # "forward" or "backward"
    record: Tensor                                 # the record that is computed or differentiated
    inputs: list[Any]                              # the op's inputs: arrays, and arguments that are no arrays
    output: Any                                    # its value: an array, or a tuple of arrays
    gradient: Any = None                           # backward: the incoming gradient
    sent: list[tuple[Tensor, Any]] = field(default_factory=list)          # (input, gradient of that input)
    sums: list[tuple[Tensor, Any, Any]] = field(default_factory=list)     # (receiver, its sum before, its sum after);
                                                   # for a tuple dicts, of the arrays that received a gradient
    names: dict[Tensor, int] = field(default_factory=dict, repr=False)    # the records' numbers in the tape

    @property
    def gradients(self) -> tuple:
        """The incoming gradient as a tuple, whether the record has one array or several; empty in the forward pass."""
        return () if self.phase == "forward" else self.gradient if type(self.gradient) is tuple else (self.gradient,)

    @property
    def rules(self) -> list[str]:
        """For each gradient sent, its VJP rule with numbers put in, `g ⊙ y = 2 ⊙ 3`; "" where they are many."""
        return [rule_with_numbers(self.record, i, self.gradient, d, (self.inputs, self.output))
                for i, (_, d) in zip(find_needed(self.record), self.sent)]

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
            return "\n  ".join([head, *shorten(rows, "more inputs"), f"= {summary(self.output)}"])
        rows = [f"sends to {record_name(a, names)}: {summary(d)}"
                + (f"; its sum is now {summary(after)}" if before is not None else "") + (rule and f"   {rule}")
                for (a, d), (_, before, after), rule in zip(self.sent, self.sums[-len(self.sent):], self.rules)]
        return "\n  ".join([head, f"incoming gradient: {summary(self.gradient)}", *shorten(rows)])


class Stepper:
    """A stepper through a tape: the forward pass from the inputs to the loss, then the backward pass to the leaves.

        steps = ag.tape(loss).stepper()
        steps.step()                           # the first operation: its inputs and its output
        steps.until(op="softmax")              # on to the next softmax
        steps.until(where=lambda grad: np.abs(grad).max() > 10)
        steps.back()                           # undo one step: the gradients are as they were
        steps.gradient(w)                      # the gradient accumulated in w so far
        for stop in steps: print(stop)         # the remaining steps

    Each method returns a `Stop`, or None at the end (for `back`, at the beginning).  The stepper accumulates gradients
    of its own: neither `.grad` nor the tape changes, and at the end they equal those of `backward()`.  A step repeated
    after `back` shows the same arrays; after `reset` the VJP rules run again, so a `breakpoint()` in one is hit.
    Values that a backward pass has freed are recomputed, and kept until the last step.
    """

    def __init__(self, tape: Tape):
        self.tape, self._names = tape, number_records(tape)
        self.reset()

    def reset(self) -> None:
        """Return to before the first step and drop all results."""
        self._seen: list[Stop] = []
        self._sums: dict[Tensor, Any] = {}
        self.position = 0  # number of steps taken
        self._remaining = _iterate_steps(self.tape, self._names)

    def step(self) -> Stop | None:
        """Take the next step."""
        if self.position == len(self._seen):
            if (stop := next(self._remaining, None)) is None:
                return None
            self._seen.append(stop)
        stop = self._seen[self.position]
        self.position += 1
        for a, _, after in stop.sums:
            _set_sum(self._sums, a, after)
        return stop

    def back(self) -> Stop | None:
        """Undo the last step, and return the one before it."""
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
                _set_sum(self._sums, a, before)
        return self.here

    def until(self, op: Any = None, scope: str | None = None, name: str | None = None,
              where: Callable[[Any], Any] | None = None) -> Stop | None:
        """Step until a record matches all given conditions, and return its step (None if there is none).

        op, scope: as in `Tape.find` (an operation or its name; `h.*.attn`).  name: that of the record or of one of
        its inputs.  where: a function of the incoming gradient (of each array of a tuple) that returns true for one; it
        skips forward steps, which have no gradient.  Raises ValueError for an `op` that the tape does not contain.
        """
        matches = matcher(self.tape, op, scope, name)
        for stop in self:
            tensors = [stop.record, *(a for a in stop.record.inputs if type(a) is Tensor)]
            if matches(stop.record, tensors) and (where is None or any(where(g) for g in stop.gradients)):
                return stop
        return None

    def run(self) -> Stop | None:
        """Take all remaining steps, and return the last one."""
        for _ in self:
            pass
        return self.here

    def gradient(self, t: Tensor) -> Any:
        """Return the gradient accumulated in a record so far (a read-only array), or None before the first one."""
        g = self._sums.get(t)
        return (dict(g) or None) if isinstance(g, dict) else g

    @property
    def here(self) -> Stop | None:
        """The last step taken, or None before the first."""
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


def _iterate_steps(tape: Tape, names: dict[Tensor, int]) -> Iterator[Stop]:
    """Yield all steps.  It holds no reference to the stepper, so that dropping that ends it and frees the values."""
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
    """Add each (input, gradient) to the input's entry in `sums`; return (input, sum before, sum after) for each.  For
    a tuple the sums are dicts, of the arrays that received a gradient."""
    changes = []
    for a, d in sent:
        if isinstance(d, dict):
            old = sums.setdefault(a, {})
            before = {i: old[i] for i in d if i in old} or None
            after = {i: old[i] + gradient if i in old else gradient for i, gradient in d.items()}
        else:
            before = sums.get(a)
            after = d if before is None else before + d
        _set_sum(sums, a, after)
        changes.append((a, before, after))
    return changes


def _set_sum(sums: dict[Tensor, Any], a: Tensor, value: Any) -> None:
    """Set the sum of `a`; for a tuple only those of the arrays in the dict `value`."""
    if isinstance(value, dict):
        sums.setdefault(a, {}).update(value)
    else:
        sums[a] = value
