"""Tracing a function: an executor records the kernels' procedures, an observer what ops and rules compute without one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.arrays import as_tuple, find_owner
from ..core.describe import label
from ..core.errors import point_at
from ..core.mode import current_mode
from ..engine import Tensor, tensor
from .replay import Redraw, run_formula, run_rules
from .trace import BACKWARD, FORWARD, RECOMPUTE, SUM, Trace


class RecordingExecutor:
    """The executor of kernels while a function is traced: it allocates, runs, and records in `trace`."""

    def __init__(self, trace: Trace):
        self.trace = trace

    def empty(self, like: Any, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Return a new array, to be filled by a procedure."""
        return self.trace.add_buffer(np.empty_like(like, shape=shape, dtype=dtype, order="C"))

    def empty_like(self, a: Any) -> Any:
        """Return a new array like `a`, also in its memory order."""
        return self.trace.add_buffer(np.empty_like(a))

    def constant(self, a: Any) -> Any:
        """Register an array that stays as it is, and where it is; return it."""
        return self.trace.add_constant(a)

    def run(self, procedure: Callable[..., None], *arguments: Any) -> None:
        """Call a procedure, and record the call."""
        self.trace.add_step(procedure, *arguments)
        procedure(*arguments)


class TraceObserver:
    """The observer while a function is traced.  It attributes the steps of kernels to records, records a step for each
    op or rule without a kernel, and accumulates gradients by steps of its own."""

    def __init__(self, trace: Trace):
        self.trace = trace
        self.sums: dict[Any, Any] = {}    # record, or (record, number of an output) -> its gradient so far
        self.redrawn: list[Tensor] = []   # leaves that hold random numbers
        self._computed: set[Tensor] = set()

    def on_forward(self, t: Tensor) -> None:
        """Record how the value of `t` was computed."""
        purpose = RECOMPUTE if t in self._computed else FORWARD
        self._computed.add(t)
        self._take_inputs(t)
        value = self.trace.as_arrays(t._array)
        t._array = _copy_views_by_number(value, _integer_inputs(t))
        if t._array is not value:  # a kernel that makes views cannot do this again
            t.saved = None
        if t.saved is None:
            self.trace.rollback_steps()
            self._record_formula(t)
        self.trace.commit_steps(t, purpose)

    def on_backward(self, t: Tensor, g: Any, sent: list[tuple[Tensor, Any]]) -> None:
        """Record how the gradients were computed that `t`, whose own is `g`, sent to its inputs; accumulate them."""
        if current_mode().tracing:  # a transform inside the function: its gradients are records
            return
        by_rules = t.op is not None and t.saved is None
        if by_rules:
            self.trace.rollback_steps()
        self._alias_gradient(t, g)
        if t.op is None:
            self.sums.setdefault(t, g)  # where a parameter itself is the result
            return
        if by_rules:
            self._record_rules(t, g, sent)
        self.trace.commit_steps(t, BACKWARD)
        for a, d in sent:
            for i, item in d.items() if isinstance(d, dict) else [(None, d)]:
                self._accumulate(a if i is None else (a, i), item)

    def on_draw(self, draw: Callable[[], Any]) -> Tensor:
        """Return a leaf with random numbers, which each call of the program draws anew."""
        t = tensor(draw())
        self.redrawn.append(t)
        self.trace.add_step(Redraw(draw), self.trace.add_constant(t._array))
        self.trace.commit_steps(t, FORWARD)
        return t

    def _take_inputs(self, t: Tensor) -> None:
        """Register leaves and arrays as constants.  Raises TypeError for a result from before the trace."""
        for a in t.inputs:
            if type(a) is Tensor and a.op is not None:
                if a not in self._computed:
                    raise point_at(a, TypeError(f"{label(a)} was computed before the program is recorded: compute "
                                                   "it in the function, or detach() it before"))
            else:
                self.trace.add_constant(a._array if type(a) is Tensor else a)

    def _record_formula(self, t: Tensor) -> None:
        """Record a step that computes the value of `t` by its formula, unless all of it is views."""
        trace, formula, values = self.trace, t.op.formula, _values_of(t)  # type: ignore[union-attr]
        results, bases = as_tuple(t._array), _bases_of(values)
        new = [i for i, y in enumerate(results) if not self._is_view(y, bases)]
        outs = [trace.add_buffer(results[i]) for i in new]
        numbers = trace.numbers_among(values)
        if not outs:
            return
        if isinstance(formula, np.ufunc) and not numbers:
            trace.add_step(formula, *values, *outs)
        else:
            trace.add_step(functools.partial(run_formula, formula, t.attrs, numbers, new), *values, *outs)

    def _record_rules(self, t: Tensor, g: Any, sent: list[tuple[Tensor, Any]]) -> None:
        """Record a step that computes the gradients `sent` by the rules, unless all of them are views."""
        trace, values, integers = self.trace, _values_of(t), _integer_inputs(t)
        given = [*as_tuple(g), *as_tuple(t._array), *values]
        bases = _bases_of(given)
        new = []
        for k, (a, d) in enumerate(sent):
            if type(d) is np.ndarray:
                sent[k] = a, (d := _copy_views_by_number(d, integers))
            if isinstance(d, (np.ndarray, np.generic)) and not self._is_view(d, bases):
                new.append(k)
        outs = [trace.buffer_for(sent[k][1]) for k in new]  # only now: several may be views of one new array
        if outs:
            needed = [i for i, a in enumerate(t.inputs) if type(a) is Tensor and a.requires_grad]
            lengths = tuple([len(a) if type(a) is tuple else None for a in (g, t._array)])
            trace.add_step(functools.partial(run_rules, t.op, t.attrs, needed, lengths, trace.numbers_among(given),
                                             new), *given, *outs)

    def _alias_gradient(self, t: Tensor, g: Any) -> None:
        """Map `g`, which `reverse` has accumulated in an array of its own, to the buffer in which this observer does.
        """
        for i, item in enumerate(g) if type(g) is tuple else [(None, g)]:
            total = self.sums.get(t if i is None else (t, i))
            if total is None:  # the seed, or 0 for an output that nothing used
                self.trace.add_constant(item)
            elif item is not total:
                if isinstance(item, np.ndarray) and item.strides != total.strides:  # views are to be views of it
                    total = self.trace.insert_copy(total, like=item)
                self.trace.add_alias(item, total)

    def _accumulate(self, key: Any, d: Any) -> None:
        """Add `d` to the gradient of `key`, in the order in which `reverse` does."""
        d = self.trace.alias_of.get(id(d), d)
        if key not in self.sums:
            self.sums[key] = d
            return
        total = self.trace.buffer_for(self.sums[key] + d)
        self.trace.add_step(np.add, self.sums[key], d, total, replaces=True)
        self.sums[key] = total
        self.trace.commit_steps(key[0] if type(key) is tuple else key, SUM)

    def _is_view(self, a: Any, bases: set[int]) -> bool:
        """Tell whether a result lies in older memory: a buffer, a constant, or one of `bases`, by identity."""
        return self.trace.contains(a) or id(find_owner(a)) in bases or id(a) in bases


def _values_of(t: Tensor) -> list[Any]:
    """Return the values of a record's inputs."""
    return [a._array if type(a) is Tensor else a for a in t.inputs]


def _bases_of(values: list[Any]) -> set[int]:
    """Return the ids of `values`, and of the arrays whose memory they are in."""
    return {id(a) for v in values for a in (v, find_owner(v))}


def _integer_inputs(t: Tensor) -> list[Any]:
    """Return the base arrays of a record's integer inputs."""
    return [find_owner(a._array) for a in t.inputs
            if type(a) is Tensor and type(a._array) is np.ndarray and a._array.dtype.kind in "iub"]


def _copy_views_by_number(value: Any, integers: list[Any]) -> Any:
    """Return `value`, which a record with these integer inputs made or sent, with copies in place of views whose place
    depends on those numbers, as in `np.split(x, n)`: steps compute them anew in each call."""
    if type(value) is tuple:
        items = tuple([_copy_views_by_number(a, integers) for a in value])
        return items if any(a is not b for a, b in zip(items, value)) else value
    if not integers or not isinstance(value, np.ndarray) or any(find_owner(value) is base for base in integers):
        return value
    return value.copy() if find_owner(value) is not value else value
