"""The engine: Tensors record the operations that made them, and the backward pass applies their VJP rules in reverse.

A Tensor is a value and its record, a node of the computation graph: op, inputs, attributes.  An Op is a formula and its
VJP rules (vector-Jacobian products).  `tape` lists the records behind a result, `reverse` is the backward pass.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from operator import attrgetter
from typing import Any

import numpy as np

from .core import errors
from .core.arrays import (
    PLAIN,
    as_gradient,
    convert_sequence,
    freeze_attr,
    make_array,
    own,
    read_only,
    snapshot,
    unshare,
)
from .core.contract import kernel_backward
from .core.describe import INTERNAL, label, users_frame
from .core.errors import extend, pointing_at
from .core.formula import Formula
from .core.leaf import LeafMethods, clock
from .core.methods import ArrayMethods
from .core.mode import current_mode
from .core.multi_output import OutputGradients
from .core.recompute import free, value_of
from .core.signature import NO_ATTRS
from .core.views import TapeViews, TensorViews

_new = object.__new__  # makes an empty Tensor without the detour through a constructor


# ---------------------------------------------------------------------- the record
class Tensor(ArrayMethods, LeafMethods, TensorViews):
    """A value and the record of how it was made: a node of the computation graph.  `tensor()` makes a leaf, ops make
    the others.

    `op`, `inputs`, `attrs`: the operation that made it (`op` is None for a leaf).  `created`: its creation index.
    `name`, `scope`: for people.  `data`, `grad`, `requires_grad` and what a leaf can do are in `LeafMethods`, `shape`,
    `dtype`, operators and NumPy's methods in `ArrayMethods`; hashing is by identity.
    """

    __slots__ = ("_array", "_grad", "op", "inputs", "attrs", "saved", "freed", "_requires_grad", "created",
                 "version", "name", "scope", "_code", "_offset", "__weakref__")

    def __new__(cls, *args: Any, **kwargs: Any) -> Tensor:
        raise TypeError("ag.tensor(data) makes a tensor")

    def _fill(self, data: Any, frame: Any, scope: str, requires_grad: bool = False, op: Op | None = None,
              inputs: tuple = (), attrs: Any = NO_ATTRS, saved: Any = None) -> Tensor:
        """Set all fields of this new tensor, a leaf or the result of `op`, and return it; `frame` asked for it."""
        self._array, self._grad, self.freed = data, None, None  # ends as _array None, and freed (shape, dtype)
        self.op, self.inputs, self.attrs = op, inputs, attrs
        self.saved, self._requires_grad = saved, requires_grad
        self.created = self.version = next(clock)  # one clock, so that a version can be compared with a creation
        self.name, self.scope = "", scope
        if INTERNAL[frame.f_globals.get("__package__")]:
            frame = users_frame(frame)
        self._code, self._offset = frame.f_code, frame.f_lasti  # a frame would keep its variables alive
        return self

    def backward(self, gradient: Any = None, create_graph: bool = False, keep: bool = False) -> None:
        """Run the backward pass from this tensor: add the gradient of every leaf that requires one to its `.grad`.

        `gradient`, an array of this tensor's shape, is what the pass starts with; it may be left out for a single
        element (1).  The values of the records behind are freed on the way, and recomputed if they are asked for;
        `keep=True` keeps them, and the gradient of each record.  With `create_graph` gradients are Tensors, to be
        differentiated again.
        """
        if current_mode().tracing:
            raise errors.traced_error(self, "given to backward", ", or use ag.grad in it")
        seed, leaves = seed_for(self, gradient, create_graph), []
        for t, g, _ in reverse([self], [seed], create_graph=create_graph, keep=keep):
            if t.op is None:
                leaves.append((t, g))
            else:
                t._grad = g if keep else None
        while leaves:  # only now, so that a backward pass that fails changes none
            t, g = leaves.pop()
            if t._grad is None:  # a copy, since `add` sends the same array to both of its inputs
                t._grad = +g if create_graph else own(as_gradient(g, t.dtype))
            elif create_graph or type(t._grad) is Tensor:
                t._grad = t._grad + g
            else:
                np.add(t._grad, g, out=t._grad)

    def __reduce_ex__(self, protocol: Any) -> Any:
        self._check_leaf("copied or pickled")
        return tensor, (self._value(), None, self.requires_grad, self.name)


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False, name: str = "") -> Tensor:
    """Return a leaf that owns a copy of `data` (array, number, nested list or Tensor), as `dtype` if one is given.
    Raises TypeError for what has no real numbers, and for `requires_grad` of integers."""
    data = make_array(data._value() if type(data) is Tensor else data, dtype)
    t = _new(Tensor)._fill(data, sys._getframe(1), current_mode().scope)
    t.name = name
    if requires_grad:
        t.requires_grad = True
    return t


# ---------------------------------------------------------------------- the operation
class Op(Formula):
    """A function of arrays, its VJP rules and its kernels.  Given arrays it is just that function; given at least one
    Tensor it computes, records, and returns a Tensor."""

    def __call__(self, *args: Any, **attrs: Any) -> Any:
        if len(args) != self.plain or attrs and not attrs.keys() <= self.attr_names:
            args, attrs = self.bind(args, attrs)
        if attrs:
            attrs = {name: freeze_attr(a, f"{self.name}: {name}") for name, a in attrs.items()}
        return self.apply(args, attrs)

    def apply(self, args: tuple, attrs: dict) -> Any:
        """Compute the op of all inputs, in order, and record it if one of them requires a gradient."""
        mode, values, n_tensors, needs_grad, unusual = current_mode(), [], 0, False, False
        if mode.tracing:
            args = self._own_arrays(args)
        for a in args:
            if type(a) is Tensor:
                n_tensors += 1
                if a._requires_grad:
                    needs_grad = True
                values.append(value if (value := a._array) is not None else value_of(a))
            elif type(a) in PLAIN:
                values.append(a)
            else:
                values.append(convert_sequence(a, len(values) in self.rules))
                unusual = unusual or type(values[-1]) is not tuple  # which is a shape, say, or an index
        needs_grad = needs_grad and self.differentiable and mode.grad_enabled
        try:
            if unusual and n_tensors:
                values = self.check_operands(values)
                if mode.tracing:
                    args = tuple([a if type(a) is Tensor else v for a, v in zip(args, values)])
            if needs_grad and n_tensors < len(args) and not mode.tracing:  # an array's owner could change it
                args = _take_snapshots(args, values)
            y, saved = self.compute(values, attrs)
            if not n_tensors:
                return y
            if needs_grad:  # integers and booleans carry no gradient; a tuple does if one of its arrays does
                needs_grad = y.dtype.kind == "f" if type(y) is not tuple else any(a.dtype.kind == "f" for a in y)
            if not needs_grad and not mode.tracing:  # a constant is a leaf, and a leaf owns its buffer
                y = unshare(y, values)
        except Exception as error:
            failed = _new(Tensor)._fill(None, sys._getframe(2), mode.scope, needs_grad, self, args, attrs)
            raise errors.call_error(failed, values, error) from error
        if needs_grad or mode.tracing:
            if needs_grad and not self.rules.complete:
                self.rules.check(args)
            t = _new(Tensor)._fill(y, sys._getframe(2), mode.scope, needs_grad, self, args, attrs, saved)
            if mode.observer is not None:
                mode.observer.on_forward(t)
        else:
            t = _new(Tensor)._fill(y, sys._getframe(2), mode.scope)
        return t if type(y) is not tuple else _items(t, len(y))

    def _own_arrays(self, args: tuple) -> tuple:
        """Return the arguments with private copies of arrays, for a program that computes with them later."""
        return tuple([a if type(a) is Tensor else snapshot(convert_sequence(a, i in self.rules))
                      for i, a in enumerate(args)])


def _take_snapshots(args: tuple, values: list[Any]) -> tuple:
    """Return the inputs for a record: Tensors, and in place of all else private copies, which `values` get too."""
    inputs = list(args)
    for i, a in enumerate(args):
        if type(a) is not Tensor:
            inputs[i] = values[i] = snapshot(values[i])
    return tuple(inputs)


@Op
def _item(arrays: tuple, i: int = 0) -> Any:
    """One of a tuple of arrays.  y = arrays[i]"""
    return arrays[i]

@_item.gradient("arrays")
def _(g: Any, y: Any, arrays: tuple, i: int = 0) -> OutputGradients:
    """∂L/∂arrays[i] = g, and 0 for the others"""
    return OutputGradients({i: g})


def _items(t: Tensor, n: int) -> tuple[Tensor, ...]:
    """Return the `n` arrays of a record whose value is a tuple, each as a Tensor."""
    return tuple([_item(t, i=i) for i in range(n)])


# ---------------------------------------------------------------------- the tape
class Tape(TapeViews, tuple):
    """The computation graph of `roots` as a sequence of records, oldest first: leaves, constants and operations.
    Creation order is a topological order, as a result is younger than its inputs."""

    roots: tuple[Tensor, ...] = ()

    def __contains__(self, t: object) -> bool:
        return any(t is record for record in self)  # identity: Tensors compare elementwise


def tape(*roots: Tensor, since: float = -1) -> Tape:
    """Return the records that `roots` were computed from, and theirs; only those created after `since`, if given.

        print(ag.tape(loss))
    """
    if not all(type(t) is Tensor for t in roots):
        raise TypeError("a tape is that of Tensors: ag.tape(loss)")
    seen, stack = set(roots), list(roots)
    while stack:
        for a in stack.pop().inputs:
            if type(a) is Tensor and a not in seen and a.created > since:
                seen.add(a)
                stack.append(a)
    made = Tape(sorted(seen, key=attrgetter("created")))
    made.roots = roots
    return made


def reverse(roots: Sequence[Tensor], seeds: Sequence[Any], to: Iterable[Tensor] | None = None,
            create_graph: bool = False, keep: bool = False) -> Iterator[tuple[Tensor, Any, list]]:
    """Run the backward pass from `roots`, whose gradients are `seeds`.  Yields each record that has a gradient, newest
    first, with that gradient and the list of (input, gradient) that it sends on.

    A result is younger than its inputs, so when a record's turn comes, all records that used it have been processed,
    and its gradient is complete.  Gradients flow to whatever requires one, or only `to` the given tensors.  Unless
    `keep` or `create_graph`, a record's value is freed when the iterator moves on.  One thread at a time may go through
    a tape.
    """
    wanted = None if to is None else _between(roots, to)
    ends, freeing, observer = set(roots), not (keep or create_graph), current_mode().observer
    grads: dict[Tensor, Any] = {}
    pending: list[tuple[int, Tensor]] = []  # a heap of the records that have a gradient, newest first
    sent = list(zip(roots, seeds))  # as if a younger record had sent them
    while True:
        try:
            for a, d in sent:
                if a in grads:
                    grads[a] = grads[a] + d
                else:
                    grads[a] = d
                    heappush(pending, (-a.created, a))
        except Exception as error:  # such as an overflow where NumPy raises for it
            pointing_at(a, extend(error, f"  where the gradients of {label(a)} are added up"))
            raise
        if not pending:
            return
        t = heappop(pending)[1]
        g = grads.pop(t)
        if type(g) is OutputGradients:
            g = g.fill(value_of(t))
        sent = _record_vjp(t, g, wanted, create_graph) if t.op is not None else []
        if observer is not None:
            observer.on_backward(t, g, sent)
        yield t, g, sent
        if freeing and t not in ends:
            free(t)


def _between(roots: Sequence[Tensor], to: Iterable[Tensor]) -> set[Tensor]:
    """Return the records on a path from `to` to `roots`, and those whose input was modified in place since: it may be a
    view of a buffer on such a path, and the backward pass raises for it."""
    wanted = set(to)
    for t in tape(*roots, since=min((t.created for t in wanted), default=0) - 1):  # none older leads to them
        if any(type(a) is Tensor and (a in wanted or a.version > t.created) for a in t.inputs):
            wanted.add(t)
    return wanted


def _record_vjp(t: Tensor, g: Any, wanted: set[Tensor] | None, create_graph: bool) -> list[tuple[Tensor, Any]]:
    """Return (input, gradient) for each input of record `t` that requires a gradient and is wanted; `g` is t's own."""
    op, inputs, attrs, values, needed = t.op, t.inputs, t.attrs, [], []  # type: ignore[var-annotated]
    y = t._array if t._array is not None else value_of(t)  # first, since recomputing a freed value restores `saved`
    for a in inputs:
        if type(a) is Tensor:
            if a.version > t.created:
                raise errors.changed_error(a, t)
            if a._requires_grad and (wanted is None or a in wanted):
                needed.append(len(values))
            values.append(value if (value := a._array) is not None else value_of(a))
        else:
            values.append(a)
    try:
        if create_graph:
            arguments = (g, t if type(y) is not tuple else _items(t, len(y)), *inputs)
        elif t.saved is not None and needed:
            return list(zip([inputs[i] for i in needed], kernel_backward(op, t.saved, needed, g, y, values, attrs)))
        else:
            arguments = (g, y, *values)
        return op.vjp(needed, inputs, values, arguments, attrs)  # type: ignore[union-attr]
    except Exception as error:
        pointing_at(t, error)
        raise


def seed_for(t: Tensor, gradient: Any, create_graph: bool = False) -> Any:
    """Return the gradient that a backward pass from `t` starts with: `gradient` in t's dtype, or 1 for a single
    element.  Raises RuntimeError if `t` requires none, ValueError for another shape than t's."""
    if not t.requires_grad:
        raise errors.no_tape_error(t)
    value = value_of(t)
    errors.check_seed(t, value, gradient)
    gradient = np.ones_like(value) if gradient is None else gradient
    if type(gradient) is Tensor and create_graph:
        return gradient if gradient.dtype == value.dtype else gradient.astype(value.dtype)
    gradient = tensor(gradient, value.dtype)
    return gradient if create_graph else read_only(gradient._array)
