"""What is noted while a program is recorded: every procedure that ran, and the arrays it was handed."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ..core.arrays import find_owner
from ..core.describe import label
from ..core.errors import pointing_at
from ..core.mode import current_mode
from ..engine import Tensor, tensor
from .memory_plan import AGAIN, BACKWARD, FORWARD, SUM, Step


class Recorder:
    """The executor that kernels run on while a program is recorded, and the observer that notes what runs without one.

    `steps` is the straight line of all that was computed.  `buffers` are the arrays it wrote into, by identity, each
    its own memory; any other array is a view of one, or a constant, or `same` says which one stands for it.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.buffers: dict[int, Any] = {}
        self.constants: dict[int, Any] = {}
        self.same: dict[int, Any] = {}
        self.sums: dict[Any, Any] = {}      # who receives a gradient -> the sum of what has arrived
        self.redrawn: list[Tensor] = []     # leaves that hold random numbers
        self._settled = (0, 0)              # how many steps and buffers are final
        self._made: set[Tensor] = set()
        self.numbers: set[int] = set()     # arrays that stand for a number
        self._alive: list[Any] = []         # so that no identity is given twice

    # ------------------------------------------------------------------ the executor
    def empty(self, like: Any, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """A new array, to be filled by a procedure."""
        return self._buffer(np.empty_like(like, shape=shape, dtype=dtype, order="C"))

    def empty_like(self, a: Any) -> Any:
        """A new array like `a`, also in its memory order."""
        return self._buffer(np.empty_like(a))

    def run(self, procedure: Callable[..., None], *arguments: Any) -> None:
        """Call a procedure, and note it."""
        self.steps.append(Step(procedure, arguments))
        procedure(*arguments)

    # ------------------------------------------------------------------ the observer
    def on_forward(self, t: Tensor) -> None:
        """Note how the value of a new record was computed, if no kernel has done so."""
        purpose = AGAIN if t in self._made else FORWARD
        self._made.add(t)
        for a in t.inputs:
            if type(a) is Tensor and a.op is not None and a not in self._made:
                raise pointing_at(a, TypeError(f"{label(a)} was computed before the program is recorded: compute it in "
                                               "the function, or detach() it before"))
            self.constant(a._array if type(a) is Tensor and a.op is None else a)
        value = self._as_arrays(t._array)
        t._array = _settled_views(value, _integers(t))
        if t._array is not value:  # a kernel that makes views cannot do this again
            t.saved = None
        if t.saved is None:
            self._forget()
            values = [a._array if type(a) is Tensor else a for a in t.inputs]
            parts = t._array if type(t._array) is tuple else (t._array,)
            bases = _bases(values)
            new = [i for i, part in enumerate(parts) if not self._is_view(part, bases)]
            outs = [self._buffer(parts[i]) for i in new]
            formula = t.op.formula  # type: ignore[union-attr]
            if isinstance(formula, np.ufunc) and outs and not self._numbers_in(values):
                self.steps.append(Step(formula, (*values, *outs)))
            elif outs:
                self.steps.append(Step(functools.partial(_by_formula, formula, t.attrs, self._numbers_in(values), new),
                                       (*values, *outs)))
        self._settle(t, purpose)

    def on_backward(self, t: Tensor, g: Any, sent: list[tuple[Tensor, Any]]) -> None:
        """Note how a record's gradients were computed, if no kernel has done so, and add them up."""
        if current_mode().tracing:  # a transform in the function: its gradients are records
            return
        by_rules = t.op is not None and t.saved is None
        if by_rules:
            self._forget()
        self._stand_for(t, g)
        if t.op is None:
            self.sums.setdefault(t, g)  # where a parameter itself is the result
            return
        if by_rules:
            self._note_rules(t, g, sent)
        self._settle(t, BACKWARD)
        for a, d in sent:
            for i, part in d.items() if isinstance(d, dict) else [(None, d)]:
                self._add(a if i is None else (a, i), part)

    def on_draw(self, draw: Callable[[], Any]) -> Tensor:
        """A leaf with random numbers, which each call of the program draws anew."""
        t = tensor(draw())
        self.redrawn.append(t)
        self.steps.append(Step(_Draw(draw), (self.constant(t._array),)))
        self._settle(t, FORWARD)
        return t

    # ------------------------------------------------------------------ who is who
    def constant(self, a: Any) -> Any:
        """Know an array that lies outside of the buffers, and stays where it is."""
        if isinstance(a, np.ndarray):
            self.constants[id(find_owner(a))] = find_owner(a)
        return a

    def resolved(self) -> list[Step]:
        """The steps, with each array as one that is known."""
        return [replace(s, arguments=tuple([self.known(a) for a in s.arguments])) for s in self.steps]

    def known(self, a: Any) -> Any:
        """The array that stands for `a`: a buffer, a view of one, or a constant."""
        if id(a) in self.same:
            return self.same[id(a)]
        if not isinstance(a, np.ndarray) or id(base := find_owner(a)) in self.buffers or id(base) in self.constants:
            return a
        if id(base) not in self.same:
            raise RuntimeError(f"a kernel was handed an array {a.dtype}{list(a.shape)} that was made outside of "
                               "executor.run: a program cannot make it again")
        stand_in = self.same[id(base)].ravel(order="K")  # its memory, in a line
        start = a.__array_interface__["data"][0] - base.__array_interface__["data"][0]
        return np.ndarray(a.shape, a.dtype, stand_in, start, a.strides)

    def _buffer(self, array: Any) -> Any:
        self.buffers[id(find_owner(array))] = find_owner(array)
        return array

    def _settle(self, t: Tensor, purpose: str) -> None:
        """What has been noted since stays, and was for the record `t`."""
        for step in self.steps[self._settled[0]:]:
            step.record, step.purpose = t, purpose
        self._settled = len(self.steps), len(self.buffers)

    def _forget(self) -> None:
        """What has been noted since: of kernels that a formula or a rule used, which will run again as a whole."""
        n_steps, n_buffers = self._settled
        del self.steps[n_steps:]
        while len(self.buffers) > n_buffers:
            self._alive.append(self.buffers.popitem())

    def _is_view(self, part: Any, bases: set[int]) -> bool:
        """Whether a result lies in what there was before: a buffer, a constant, or one of `bases`, by identity."""
        base = id(find_owner(part))
        return base in self.buffers or base in self.constants or base in bases or id(part) in bases

    def _stand_for(self, t: Tensor, g: Any) -> None:
        """The walk has added up the gradient `g` of `t` in an array of its own, which is this recorder's sum."""
        for i, part in enumerate(g) if type(g) is tuple else [(None, g)]:
            total = self.sums.get(t if i is None else (t, i))
            if total is None:  # what the walk starts with, or 0 for an output that nothing used
                self.constant(part)
            elif part is not total:
                self._alive.append(part)
                if isinstance(part, np.ndarray) and part.strides != total.strides:  # views are to be views of it
                    copied = self._buffer(np.empty_like(part))
                    self.steps.insert(self._settled[0], Step(np.copyto, (copied, total)))
                    total = copied
                self.same[id(part) if isinstance(part, np.generic) else id(find_owner(part))] = total

    def _note_rules(self, t: Tensor, g: Any, sent: list[tuple[Tensor, Any]]) -> None:
        values = [a._array if type(a) is Tensor else a for a in t.inputs]
        gs, ys = (part if type(part) is tuple else (part,) for part in (g, t._array))
        needed = [i for i, a in enumerate(t.inputs) if type(a) is Tensor and a.requires_grad]
        new, given, integers = [], [*gs, *ys, *values], _integers(t)
        bases = _bases(given)
        for place, (a, d) in enumerate(sent):
            if type(d) is np.ndarray:
                sent[place] = a, (d := _settled_views(d, integers))
            if isinstance(d, (np.ndarray, np.generic)) and not self._is_view(d, bases):
                new.append(place)
        outs = [self._array_for(sent[place][1]) for place in new]  # only now: several may be views of one new array
        if outs:
            counts = (len(gs) if type(g) is tuple else None, len(ys) if type(t._array) is tuple else None)
            self.steps.append(Step(functools.partial(_by_rules, t.op, t.attrs, needed, counts, self._numbers_in(given),
                                                     new), (*given, *outs)))

    def _array_for(self, d: Any) -> Any:
        """A buffer for what a rule returned; one element may be a number."""
        if isinstance(d, np.generic):
            self._alive.append(d)
            self.same[id(d)] = d = self._as_arrays(d)
        return self._buffer(d)

    def _as_arrays(self, value: Any) -> Any:
        """A value whose numbers are arrays of no axes, since a program writes into arrays."""
        if type(value) is tuple:
            return tuple([self._as_arrays(part) for part in value])
        if isinstance(value, np.generic):
            self._alive.append(value := np.array(value))
            self.numbers.add(id(value))
        return value

    def _numbers_in(self, values: list[Any]) -> set[int]:
        """Which of `values` are numbers; a few operations compute another last bit with an array of no axes."""
        return {i for i, v in enumerate(values) if isinstance(v, np.generic) or id(v) in self.numbers}

    def _add(self, key: Any, d: Any) -> None:
        """Add up in the order of the walk."""
        d = self.same.get(id(d), d)
        if key not in self.sums:
            self.sums[key] = d
            return
        total = self.sums[key] + d
        total = self._array_for(total)
        self.steps.append(Step(np.add, (self.sums[key], d, total), replaces=True))
        self.sums[key] = total
        self._settle(key[0] if type(key) is tuple else key, SUM)


def _bases(values: list[Any]) -> set[int]:
    """The identities of `values`, and of the arrays whose memory they are in."""
    return {id(a) for v in values for a in (v, find_owner(v))}


def _integers(t: Tensor) -> list[Any]:
    """The arrays whose memory the integer inputs of a record are in."""
    return [find_owner(a._array) for a in t.inputs
            if type(a) is Tensor and type(a._array) is np.ndarray and a._array.dtype.kind in "iub"]


def _settled_views(value: Any, integers: list[Any]) -> Any:
    """`value`, which a record with these integer inputs made or sent, with copies in place of views whose place is up
    to their numbers, as in `np.split(x, n)`: those are computed anew in each call."""
    if type(value) is tuple:
        parts = tuple([_settled_views(part, integers) for part in value])
        return parts if any(a is not b for a, b in zip(parts, value)) else value
    if not integers or not isinstance(value, np.ndarray) or any(find_owner(value) is place for place in integers):
        return value
    return value.copy() if find_owner(value) is not value else value


def _given(arrays: tuple, numbers: set[int]) -> list[Any]:
    """The arrays, those of `numbers` as such."""
    return [a[()] if i in numbers else a for i, a in enumerate(arrays)]


def _by_formula(formula: Any, attrs: dict, numbers: set[int], places: list[int], *arrays: Any) -> None:
    n = len(arrays) - len(places)
    y = formula(*_given(arrays[:n], numbers), **attrs)
    parts = y if type(y) is tuple else (y,)
    for out, i in zip(arrays[n:], places):
        _write(out, parts[i], formula)


def _by_rules(op: Any, attrs: dict, needed: list[int], counts: tuple, numbers: set[int], places: list[int],
              *arrays: Any) -> None:
    """Gradients by an op's rules, from those of its outputs, its outputs and its inputs, into the last arrays."""
    n = len(arrays) - len(places)
    given, outs = iter(_given(arrays[:n], numbers)), arrays[n:]
    g, y = (tuple(itertools.islice(given, n)) if n is not None else next(given) for n in counts)
    inputs = list(given)
    sent = op.vjp(needed, inputs, inputs, (g, y, *inputs), attrs)
    for out, place in zip(outs, places):
        _write(out, sent[place][1], op)


def _write(out: Any, value: Any, source: Any) -> None:
    """Copy what was computed again to where it belongs."""
    if np.shape(value) != out.shape:
        raise ValueError(f"{source.__name__} gave shape {out.shape} when the program was recorded, and now "
                         f"{np.shape(value)}: its shapes cannot depend on numbers: use np.where in place of a mask, "
                         "and pass sizes and places to cut as numbers and lists of Python's, which record anew")
    np.copyto(out, value)


class _Draw:
    """Fills an array with random numbers, anew in each call but the first, which has those of the recording: so a call
    draws once, whether it records or not."""

    def __init__(self, draw: Callable[[], Any]):
        self.draw, self.is_first = draw, True

    def __call__(self, out: Any) -> None:
        if not self.is_first:
            _write(out, self.draw(), self.draw)
        self.is_first = False
