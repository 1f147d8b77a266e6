"""The engine: Tensors record the operations that made them, and the backward pass applies their VJP rules in reverse.

A Tensor is a value and its record, a node of the computation graph.  An Op is a formula and its VJP rules (vector-
Jacobian products); `Op.apply` computes and records.  `tape` lists the records behind a result, `reverse` is the
backward pass over them, and `Tensor.backward` accumulates gradients in the leaves.  `tiny.py` is all this in short.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from operator import attrgetter
from typing import Any

import numpy as np

from .core import errors, multi_output
from .core.arrays import PLAIN, convert_sequence, freeze_attr, has_floats, make_array, read_only, snapshot, unshare
from .core.contract import kernel_vjp
from .core.describe import INTERNAL, users_frame
from .core.formula import Formula
from .core.leaf import LeafMethods, clock
from .core.methods import ArrayMethods
from .core.mode import current_mode
from .core.recompute import free, value_of
from .core.signature import NO_ATTRS
from .core.views import TapeViews, TensorViews


# ---------------------------------------------------------------------- the record
class Tensor(ArrayMethods, LeafMethods, TensorViews):
    """A value and the record of how it was made: a node of the computation graph.  `tensor()` makes a leaf, an op makes
    any other.  `LeafMethods` has `data`, `grad`, `requires_grad` and what can be done with a leaf, `ArrayMethods` has
    `shape`, `dtype`, operators and NumPy's methods.  Hashing is by identity."""

    __slots__ = ("_array", "_grad", "_requires_grad", "op", "inputs", "attrs", "saved", "freed", "created", "version",
                 "name", "scope", "_code", "_offset", "__weakref__")
    _array: Any     # the value; None once it was freed
    op: Any         # the Op that computed it; None for a leaf
    inputs: tuple   # the arguments of the op: Tensors and arrays
    attrs: dict     # and those that are no inputs, such as an axis
    saved: Any      # (kernel, what it saved for its backward); None if the formula ran
    freed: Any      # (shape, dtype) of a value that was freed, a list of them for a tuple of arrays; else None
    created: int    # creation index
    version: int    # of a leaf, the creation index when it was last changed
    scope: str      # the scopes in which it was made, as `h.0.attn`
    _code: Any      # the user's code that made it
    _offset: int    # and the place in it

    def __new__(cls, *args: Any, **kwargs: Any) -> Tensor:
        raise TypeError("ag.tensor(data) makes a tensor")

    def backward(self, gradient: Any = None, create_graph: bool = False, keep: bool = False) -> None:
        """Run the backward pass from this tensor: add the gradient of every leaf that requires one to its `.grad`.

        `gradient`, an array of this tensor's shape, is what the pass starts with; it may be left out for a single
        element (1).  The values of the records behind are freed on the way, and recomputed if they are asked for;
        `keep=True` keeps them, and the gradient of each record.  With `create_graph` gradients are Tensors, to be
        differentiated again.
        """
        if current_mode().tracing:
            raise errors.traced_error(self, "given to backward", ", or use ag.grad in it")
        seed = seed_for(self, gradient, create_graph)
        arrived = []
        for t, g, _ in reverse([self], [seed], create_graph=create_graph, keep=keep):
            if t.op is None:
                arrived.append((t, g))
            else:
                t._grad = g if keep else None
        while arrived:  # only now, so that a backward pass that fails changes no leaf
            leaf, g = arrived.pop()
            leaf._accumulate(g, create_graph)

    def __reduce_ex__(self, protocol: Any) -> Any:
        self._check_leaf("copied or pickled")
        return tensor, (self._value(), None, self.requires_grad, self.name)


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False, name: str = "") -> Tensor:
    """Return a leaf that owns a copy of `data` (array, number, nested list or Tensor), as `dtype` if one is given.
    Raises TypeError for what has no real numbers, and for `requires_grad` of integers."""
    array = make_array(data._value() if type(data) is Tensor else data, dtype)
    t = _new_tensor(array, sys._getframe(1), current_mode().scope)
    t.name = name
    if requires_grad:
        t.requires_grad = True
    return t


def _new_tensor(array: Any, frame: Any, scope: str, requires_grad: bool = False, op: Op | None = None,
                inputs: tuple = (), attrs: Any = NO_ATTRS, saved: Any = None) -> Tensor:
    """Return a new Tensor, a leaf or the record of `op`, which the code in `frame` asked for."""
    t = object.__new__(Tensor)
    t._array, t.freed = array, None
    t.saved = saved
    t._grad, t._requires_grad = None, requires_grad
    t.op, t.inputs, t.attrs = op, inputs, attrs
    t.name, t.scope = "", scope
    t.created = t.version = next(clock)  # one clock, so that a version can be compared with a creation
    if INTERNAL[frame.f_globals.get("__package__")]:  # a function of this package, such as a composed one
        frame = users_frame(frame)
    t._code = frame.f_code  # not the frame itself, which would keep its variables alive
    t._offset = frame.f_lasti
    return t


# ---------------------------------------------------------------------- the operation
class Op(Formula):
    """A function of arrays, its VJP rules and its kernels.  Given arrays it is just that function; given at least one
    Tensor it computes, records, and returns a Tensor."""

    def __call__(self, *args: Any, **attrs: Any) -> Any:
        if len(args) != self.arity or attrs and not attrs.keys() <= self.attr_names:
            args, attrs = self.bind(args, attrs)
        if attrs:
            attrs = {name: freeze_attr(a, f"{self.name}: {name}") for name, a in attrs.items()}
        return self.apply(args, attrs)

    def apply(self, args: tuple, attrs: dict) -> Any:
        """Compute the op of all its inputs, in order.  Returns an array if all are arrays; else a Tensor: a record if
        one of them requires a gradient, or a function is traced, and otherwise a constant."""
        mode = current_mode()
        values: list[Any] = []
        has_tensors = has_arrays = needs_check = any_requires_grad = False
        for a in args:
            if type(a) is Tensor:
                has_tensors = True
                any_requires_grad = any_requires_grad or a._requires_grad
                value = a._array if a._array is not None else value_of(a)
            else:
                has_arrays = True
                value = a
                if type(a) not in PLAIN:
                    value = convert_sequence(a, is_array=len(values) in self.rules)
                    needs_check = needs_check or type(value) is not tuple  # which is a shape, say, or an index
            values.append(value)
        needs_grad = any_requires_grad and self.differentiable and mode.grad_enabled

        try:
            if needs_check and has_tensors:
                values = self.check_operands(values)
            inputs = _take_snapshots(args, values) if has_arrays and (needs_grad or mode.tracing) else args
            y, saved = self.compute(values, attrs)
            requires_grad = needs_grad and has_floats(y)
            constant = has_tensors and not (requires_grad or mode.tracing)
            if constant:
                y = unshare(y, values)  # a constant is a leaf, and a leaf owns its buffer
        except Exception as error:
            failed = _new_tensor(None, sys._getframe(2), mode.scope, needs_grad, self, args, attrs)
            raise errors.call_error(failed, values, error) from error

        if not has_tensors:
            return y
        frame = sys._getframe(2)  # of the caller: frame 0 is this function, 1 is `__call__`, an operator or a method
        if constant:
            t = _new_tensor(y, frame, mode.scope)
        else:
            if requires_grad and not self.rules.complete:
                self.rules.check(inputs)
            t = _new_tensor(y, frame, mode.scope, requires_grad, self, inputs, attrs, saved)
            if mode.observer is not None:
                mode.observer.on_forward(t)
        return t if type(y) is not tuple else multi_output.unpack(t, _item)


def _take_snapshots(args: tuple, values: list[Any]) -> tuple:
    """Return the arguments with private copies of arrays, whose owners may change them; `values` get them too."""
    inputs = list(args)
    for i, a in enumerate(args):
        if type(a) is not Tensor:
            inputs[i] = values[i] = snapshot(values[i])
    return tuple(inputs)


_item = Op(multi_output._item)
_item.gradient("arrays")(multi_output.item_gradient)


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


# ---------------------------------------------------------------------- the backward pass
def reverse(roots: Sequence[Tensor], seeds: Sequence[Any], to: Iterable[Tensor] | None = None,
            create_graph: bool = False, keep: bool = False) -> Iterator[tuple[Tensor, Any, list]]:
    """Run the backward pass from `roots`, whose gradients are `seeds`.  Yields each record that has a gradient, newest
    first, with that gradient and the list of (input, gradient) that it sends on.

    A result is younger than its inputs, so when a record's turn comes, all records that used it have had theirs, and
    its gradient is complete.  Gradients flow to whatever requires one, or only `to` the given tensors.  A record's
    value is freed after its turn, unless `keep` or `create_graph`.  One thread at a time may go through a tape.
    """
    wanted = None if to is None else _records_between(roots, to)
    kept = set(roots)  # the values of these are never freed
    freeing = not (keep or create_graph)
    observer = current_mode().observer
    grads: dict[Tensor, Any] = {}
    queue: list[tuple[int, Tensor]] = []  # a heap of the records that have a gradient, newest first
    _add_up(zip(roots, seeds), grads, queue)
    while queue:
        _, t = heappop(queue)
        g = grads.pop(t)
        if type(g) is multi_output.OutputGradients:
            g = g.to_tuple(value_of(t))
        sent = _record_vjp(t, g, wanted, create_graph)
        if observer is not None:
            observer.on_backward(t, g, sent)
        yield t, g, sent
        if freeing and t not in kept:
            free(t)
        _add_up(sent, grads, queue)


def _add_up(sent: Iterable[tuple[Tensor, Any]], grads: dict[Tensor, Any], queue: list[tuple[int, Tensor]]) -> None:
    """Add gradients that were sent to those that have arrived before; what gets its first one joins the queue."""
    try:
        for a, d in sent:
            if a in grads:
                grads[a] = grads[a] + d
            else:
                grads[a] = d
                heappush(queue, (-a.created, a))
    except Exception as error:  # such as an overflow where NumPy raises for it
        errors.point_at_sum(a, error)
        raise


def _records_between(roots: Sequence[Tensor], to: Iterable[Tensor]) -> set[Tensor]:
    """Return the records on a path from `to` to `roots`, and those with an input that was changed since, where the
    backward pass raises: other records use their value, which may be a view of that input."""
    wanted = set(to)
    for t in tape(*roots, since=min((t.created for t in wanted), default=0) - 1):  # none older leads to them
        if any(type(a) is Tensor and (a in wanted or a.version > t.created) for a in t.inputs):
            wanted.add(t)
    return wanted


def _record_vjp(t: Tensor, g: Any, wanted: set[Tensor] | None, create_graph: bool) -> list[tuple[Tensor, Any]]:
    """Return (input, gradient) for each input of `t` that requires a gradient and is wanted; [] for a leaf."""
    y = t._array if t._array is not None else value_of(t)  # first, since recomputing a freed value restores `saved`
    values: list[Any] = []
    needed: list[int] = []  # the indices of those inputs
    for a in t.inputs:
        if type(a) is Tensor:
            if a.version > t.created:
                raise errors.changed_error(a, t)
            if a._requires_grad and (wanted is None or a in wanted):
                needed.append(len(values))
            values.append(a._array if a._array is not None else value_of(a))
        else:
            values.append(a)
    if not needed:
        return []
    try:
        if create_graph:  # by the rules, and on Tensors, so that they are recorded
            arguments = (g, t if type(y) is not tuple else multi_output.unpack(t, _item), *t.inputs)
            return t.op.vjp(needed, t.inputs, values, arguments, t.attrs)
        if t.saved is None:  # by the rules, on arrays
            return t.op.vjp(needed, t.inputs, values, (g, y, *values), t.attrs)
        return kernel_vjp(t.op, t.saved, needed, t.inputs, values, g, y, t.attrs)  # by the kernel that computed y
    except Exception as error:
        errors.point_at(t, error)
        raise


def seed_for(t: Tensor, gradient: Any, create_graph: bool = False) -> Any:
    """Return the gradient that a backward pass from `t` starts with: `gradient` in t's dtype, or 1 for a single
    element.  Raises RuntimeError if `t` requires none, ValueError for another shape than t's."""
    value = value_of(t)
    errors.check_seed(t, value, gradient)
    if type(gradient) is Tensor and create_graph:
        return gradient if gradient.dtype == value.dtype else gradient.astype(value.dtype)
    seed = tensor(np.ones_like(value) if gradient is None else gradient, value.dtype)
    return seed if create_graph else read_only(seed._array)
