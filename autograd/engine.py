"""The engine: a Tensor carries the record of how it was made, an Op its formula and gradients; one walk goes back."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from operator import attrgetter
from typing import Any

import numpy as np

from .core import arrays, errors
from .core.arrays import (
    PLAIN,
    as_gradient,
    check_result,
    convert_sequence,
    freeze_attr,
    own,
    read_only,
    snapshot,
    unbroadcast,
    unshare,
)
from .core.contract import check_kernel_gradients, check_kernel_result
from .core.describe import INTERNAL, describe, label, users_frame
from .core.errors import call_error, changed_error, extend, no_tape_error, pointing_at, traced_error
from .core.methods import ArrayMethods
from .core.mode import current_mode
from .core.signature import NO_ATTRS, Rules, Signature
from .core.views import TapeViews, TensorViews

_clock = itertools.count()  # orders every creation and every change, across threads
_new = object.__new__  # makes an empty Tensor without the detour through a constructor


def now() -> int:
    """Return a time on the clock of `Tensor.created` and `Tensor.version`: later than all there are."""
    return next(_clock)


# ---------------------------------------------------------------------- the record
class Tensor(ArrayMethods, TensorViews):
    """An array, and how it was made.  `tensor()` makes a leaf, ops make the others.

    `op`, `inputs`, `attrs`: the operation behind it (`op` is None for a leaf).  `created`: its place in the
    order of creation.  `name`, `scope`: for people.  `shape`, `dtype`, `requires_grad`, operators and hashing by
    identity are in `ArrayMethods`.
    """

    __slots__ = ("_array", "_grad", "op", "inputs", "attrs", "saved", "_requires_grad", "created",
                 "version", "name", "scope", "_code", "_offset", "__weakref__")

    def __new__(cls, *args: Any, **kwargs: Any) -> Tensor:
        raise TypeError("ag.tensor(data) makes a tensor")

    def _filled(self, data: Any, frame: Any, scope: str, requires_grad: bool = False, op: Op | None = None,
                inputs: tuple = (), attrs: Any = NO_ATTRS, saved: Any = None) -> Tensor:
        """This new tensor as a leaf, or as what `op` made; `frame` asked for it."""
        self._array, self._grad = data, None  # _array is None once freed, and saved is then (shape, dtype)
        self.op, self.inputs, self.attrs = op, inputs, attrs
        self.saved, self._requires_grad = saved, requires_grad
        self.created = self.version = next(_clock)  # one clock for both, so that they can be compared
        self.name, self.scope = "", scope
        if INTERNAL[frame.f_globals.get("__package__")]:
            frame = users_frame(frame)
        self._code, self._offset = frame.f_code, frame.f_lasti  # a frame would keep its variables alive
        return self

    @property
    def data(self) -> Any:
        """The numbers, as a read-only view.  Assigning writes into the buffer of a leaf; a backward that still needs
        the old numbers will then refuse.  So a step downhill is `w.data = w.data - 0.1 * w.grad`: `w.data -= ...` and
        `w.data[i] = ...` would write into the view, and NumPy says that it is read-only."""
        return read_only(self._value())

    @data.setter
    def data(self, value: Any) -> None:
        self._check_leaf("assigned")
        value = value._value() if type(value) is Tensor else arrays.make_array(value, None, copy=False)
        if np.shape(value) != self.shape:
            raise pointing_at(self, ValueError(f"{label(self)} takes no data of shape {np.shape(value)}: make another"))
        self._array[...] = value
        self.bump_version()

    def use_buffers(self, data: Any, grad: Any = None) -> None:
        """Move a leaf's values into `data`, a writable array like its own (a slice of an optimizer's flat one, say),
        and accumulate gradients in `grad`.  Whoever writes into `data` later calls `bump_version()`."""
        self._check_leaf("moved")
        for a in (data, grad) if grad is not None else (data,):
            if (a.shape, a.dtype) != (self.shape, self.dtype):
                raise pointing_at(self, ValueError(f"{label(self)} cannot live in {describe(a)}"))
        data[...] = self._array
        self._array, self._grad = data, grad

    def bump_version(self) -> None:
        """Raise the version counter of a leaf that was written to, so that no backward mixes old and new values."""
        self._check_leaf("changed")
        self.version = next(_clock)

    @property
    def grad(self) -> Any:
        """What backward has gathered in a leaf: an array (a Tensor after `create_graph`), or None."""
        if self.op is not None and self._grad is None:
            raise pointing_at(self, errors.Unavailable(f"{label(self)} is no leaf, and only leaves gather gradients: "
                                                       "call backward(keep=True), or differentiate with ag.grad"))
        return self._grad if self.op is None else read_only(self._grad)

    @grad.setter
    def grad(self, value: Any) -> None:
        self._check_leaf("given a gradient")
        if value is not None and np.shape(value) != self.shape:
            raise pointing_at(self, ValueError(f"{label(self)} cannot take a gradient of shape {np.shape(value)}"))
        self._grad = value if value is None or type(value) is Tensor else arrays.make_array(value, self.dtype)

    def backward(self, gradient: Any = None, create_graph: bool = False, keep: bool = False) -> None:
        """Add the gradient of this tensor, weighted by `gradient` (an array of its shape; 1 for a single element), to
        `.grad` of every leaf that requires one.  Inner values are freed as the walk passes them, and computed again if
        asked for; `keep=True` keeps them, and each one's gradient.  With `create_graph` gradients are Tensors, to be
        differentiated again."""
        if current_mode().tracing: raise traced_error(self, "given to backward", ", or use ag.grad in it")
        seed, leaves = seed_for(self, gradient, create_graph), []
        for t, g, _ in reverse([self], [seed], create_graph=create_graph, keep=keep):
            if t.op is None:
                leaves.append((t, g))
            else:
                t._grad = g if keep else None
        while leaves:  # only now, so that a walk that fails changes none
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

    def _check_leaf(self, verb: str) -> None:
        if current_mode().tracing:
            raise traced_error(self, verb)
        if self.op is not None:
            raise pointing_at(self, TypeError(f"{label(self)} is a result, and only a leaf can be {verb}: t.detach() "
                                              "makes one of it"))

    def _value(self) -> Any:
        if current_mode().tracing: raise traced_error(self)
        return value_of(self)


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False, name: str = "") -> Tensor:
    """A leaf that owns a copy of `data` (array, number, nested list or Tensor), as `dtype` if one is given.
    Raises TypeError for what has no real numbers, and for `requires_grad` of integers."""
    data = arrays.make_array(data._value() if type(data) is Tensor else data, dtype)
    t = _new(Tensor)._filled(data, sys._getframe(1), current_mode().scope)
    t.name = name
    if requires_grad:
        t.requires_grad = True
    return t


def free(t: Tensor) -> None:
    """Drop the value of a record, which is computed again if it is needed; leaves keep theirs."""
    if t.op is not None and (value := t._array) is not None:
        t.saved = (value.shape, value.dtype) if type(value) is not tuple else [(v.shape, v.dtype) for v in value]
        t._array = None


def value_of(t: Tensor) -> Any:
    """The value of `t`, for the engine itself; one that was freed is computed again, after those it needs."""
    if t._array is not None: return t._array
    freed, stack = {t}, [t]
    while stack:
        for a in stack.pop().inputs:
            if type(a) is Tensor and a._array is None and a not in freed:
                freed.add(a)
                stack.append(a)
    for record in sorted(freed, key=attrgetter("created")):
        for a in record.inputs:
            if type(a) is Tensor and a.version > record.created:
                raise changed_error(a, record)
        values = [a._array if type(a) is Tensor else a for a in record.inputs]
        try:
            record._array, record.saved = record.op.compute(values, record.attrs)  # type: ignore[union-attr]
        except Exception as error:
            pointing_at(record, extend(error, "  when its freed value was computed again"))
            raise
        if (observer := current_mode().observer) is not None:
            observer.on_forward(record)
    return t._array


# ---------------------------------------------------------------------- the operation
class Op(Signature):
    """A function of arrays and its gradient rules.  Given arrays it is just that function; given at least
    one Tensor it computes, records, and returns a Tensor.  `kernels` maps a type of array to a faster pair: an
    object with `forward(executor, *inputs, **attrs) -> (y, saved)`, or None to decline, and `backward(executor,
    needed, g, y, saved, *inputs, **attrs)` -> a list of the gradients of the inputs numbered in `needed`, like these.
    Arrays are the executor's, and work is done by `executor.run(procedure, *arrays)`; `ag.check_kernel` tries it."""

    def __init__(self, formula: Callable[..., Any], differentiable: bool = True):
        super().__init__(formula)
        functools.update_wrapper(self, formula, updated=())
        self.formula, self.differentiable, self.rules = formula, differentiable, Rules(self)
        self.kernels: dict[type, Any] = {}

    def gradient(self, *names: str, surrogate: Any = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register the rule of one input, of several that share their work (it returns a tuple), or of `"*xs"`
        (one gradient per item).  A rule is a pure function `(g, y, *inputs, **attrs)` of the incoming gradient, the
        output and the op's own arguments.  Written with operators, methods and `np.` functions it can be
        differentiated again.  It neither sums over broadcast axes nor casts: the engine does.  A rule that is meant not
        to be the derivative has a `surrogate`: the function whose derivative it is, or True if it is none's."""
        if not self.differentiable:
            raise TypeError(f"{self.name} was made with differentiable=False: leave that out to give it a gradient")
        return functools.partial(self.rules.register, self.positions(names), names, surrogate)

    def __call__(self, *args: Any, **attrs: Any) -> Any:
        if len(args) != self.plain or attrs and not attrs.keys() <= self.attr_names:
            args, attrs = self.bind(args, attrs)
        if attrs:
            attrs = {name: freeze_attr(a, f"{self.name}: {name}") for name, a in attrs.items()}
        return self.apply(args, attrs)

    def apply(self, args: tuple, attrs: dict) -> Any:
        """Compute from all inputs, in order, and record if one of them requires a gradient."""
        mode, values, tensors, record, odd = current_mode(), [], 0, False, False
        if mode.tracing:  # what a program is given is its own before it computes with it
            args = tuple([a if type(a) is Tensor else snapshot(convert_sequence(a, is_array))
                          for a, is_array in zip(args, map(self.rules.__contains__, itertools.count()))])
        for a in args:
            if type(a) is Tensor:
                tensors += 1
                if a._requires_grad:
                    record = True
                values.append(value if (value := a._array) is not None else value_of(a))
            elif type(a) in PLAIN:
                values.append(a)
            else:
                values.append(convert_sequence(a, len(values) in self.rules))
                odd = odd or type(values[-1]) is not tuple  # which is a shape, say, or an index
        record = record and self.differentiable and mode.grad_enabled
        try:
            if odd and tensors:
                values = list(map(arrays.check_operand, values, map(self.input_name, range(len(args)))))
                if mode.tracing:
                    args = tuple([a if type(a) is Tensor else v for a, v in zip(args, values)])
            if record and tensors < len(args) and not mode.tracing:  # an array's owner could change it
                kept = list(args)
                for i, a in enumerate(args):
                    if type(a) is not Tensor:
                        kept[i] = values[i] = snapshot(values[i])
                args = tuple(kept)
            y, saved = self.compute(values, attrs)
            if not tensors:
                return y
            if record:  # integers and booleans carry no gradient; a tuple does if one of its arrays does
                record = y.dtype.kind == "f" if type(y) is not tuple else any(a.dtype.kind == "f" for a in y)
            if not record and not mode.tracing:  # a constant is a leaf, and a leaf owns its buffer
                y = unshare(y, values)
        except Exception as error:
            failed = _new(Tensor)._filled(None, sys._getframe(2), mode.scope, record, self, args, attrs)
            raise call_error(failed, values, error) from error
        if record or mode.tracing:
            if record and not self.rules.complete:
                self.rules.check(args)
            t = _new(Tensor)._filled(y, sys._getframe(2), mode.scope, record, self, args, attrs, saved)
            if mode.observer is not None:
                mode.observer.on_forward(t)
        else:
            t = _new(Tensor)._filled(y, sys._getframe(2), mode.scope)
        return t if type(y) is not tuple else _items(t, len(y))

    def vjp(self, needed: list[int], inputs: Sequence[Any], values: Sequence[Any], arguments: tuple,
             attrs: dict) -> list[tuple[Any, Any]]:
        """Those of `inputs` that are numbered in `needed`, each with its gradient, in the shape and dtype of its entry
        of `values`, by the rules from `arguments`, which are (g, y, *inputs)."""
        sent, shared = [], None  # shared: the rule of several inputs that has run last
        for i in needed:
            rule, place = self.rules[i]
            try:
                if place is None:
                    d = rule(*arguments, **attrs) if attrs else rule(*arguments)
                else:
                    if rule is not shared:
                        shared, results = rule, self.rules.parts(rule(*arguments, **attrs), rule, len(values))
                    d = results[place]
                x = values[i]
                if type(d) is not np.ndarray or d.shape != x.shape or d.dtype is not x.dtype:
                    d = unbroadcast(d, x) if type(d) is not _Parts else d
            except Exception as error:
                extend(error, errors.in_gradient(self, [i]))
                raise
            sent.append((inputs[i], d))
        return sent

    def compute(self, values: Sequence[Any], attrs: dict) -> tuple[Any, Any]:
        """Run the formula, or the kernel there is for such arrays: (y, what the kernel saved)."""
        if self.kernels and (kernel := self.kernels.get(type(values[0]))):
            if (made := kernel.forward(current_mode().executor, *values, **attrs)) is not None:
                y, saved = check_kernel_result(self.name, made)
                return y, (kernel, saved)
        y = self.formula(*values, **attrs) if attrs else self.formula(*values)
        return y if type(y) is np.ndarray else check_result(y), None


class _Parts(dict):
    """The gradient of a tuple of arrays: number of the array -> its gradient."""
    is_sum = False  # if so it is its walk's own, which adds in place: a copy for each of n arrays would cost n²

    def __add__(self, other: dict) -> _Parts:
        total = self if self.is_sum else _Parts(self)
        total.is_sum = True
        total.update({i: total[i] + d if i in total else d for i, d in other.items()})
        return total


@Op
def _item(arrays: tuple, i: int = 0) -> Any:
    """One of a tuple of arrays.  y = arrays[i]"""
    return arrays[i]

@_item.gradient("arrays")
def _(g: Any, y: Any, arrays: tuple, i: int = 0) -> _Parts:
    """∂L/∂arrays[i] = g, and 0 for the others"""
    return _Parts({i: g})


def _items(t: Tensor, n: int) -> tuple[Tensor, ...]:
    """The `n` arrays of a record whose value is a tuple, each as a Tensor."""
    return tuple([_item(t, i=i) for i in range(n)])


# ---------------------------------------------------------------------- the tape
class Tape(TapeViews, tuple):
    """The records behind `roots`, oldest first: leaves, constants and operations."""

    roots: tuple[Tensor, ...] = ()

    def __contains__(self, t: object) -> bool:
        return any(t is record for record in self)  # identity: Tensors compare elementwise


def tape(*roots: Tensor, since: float = -1) -> Tape:
    """Everything that `roots` were made from, and they themselves (of the records newer than index `since`)."""
    if not all(type(t) is Tensor for t in roots): raise TypeError("a tape is that of Tensors: ag.tape(loss)")
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
    """The one walk back: yields each record that has a gradient, newest first, with that gradient and the list
    of (input, gradient) that it sends on.

    A result is younger than its inputs, so when a record's turn comes, all that used it have been passed and
    its gradient is complete.  `seeds` are the gradients of `roots`.  Gradients flow to whatever requires one, or
    only `to` the given tensors.  Unless `keep` or `create_graph`, a record's value is freed when the next one is
    asked for.  One thread at a time may walk a tape.
    """
    wanted = None
    if to is not None:
        wanted = set(to)
        for t in tape(*roots, since=min((t.created for t in wanted), default=0) - 1):  # none older leads to them
            # what has changed is visited too, to be refused: it may be seen through a view of its buffer
            if any(type(a) is Tensor and (a in wanted or a.version > t.created) for a in t.inputs):
                wanted.add(t)
    ends, freeing, observer = set(roots), not (keep or create_graph), current_mode().observer
    grads: dict[Tensor, Any] = {}
    pending: list[tuple[int, Tensor]] = []  # a heap of the records that have a gradient, newest first
    sent = list(zip(roots, seeds))  # as if something younger had sent them
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
        if type(g) is _Parts:  # outputs that nothing used have gradient 0
            g = tuple([g[i] if i in g else np.zeros_like(v) for i, v in enumerate(value_of(t))])
        sent = _record_vjp(t, g, wanted, create_graph) if t.op is not None else []
        if observer is not None:
            observer.on_backward(t, g, sent)
        yield t, g, sent
        if freeing and t not in ends:
            free(t)


def _record_vjp(t: Tensor, g: Any, wanted: set[Tensor] | None, create_graph: bool) -> list[tuple[Tensor, Any]]:
    """What record `t`, whose gradient is `g`, sends to those of its inputs that are wanted."""
    op, inputs, attrs, values, needed = t.op, t.inputs, t.attrs, [], []  # type: ignore[var-annotated]
    y = t._array if t._array is not None else value_of(t)  # first: it brings `saved` back
    for a in inputs:
        if type(a) is Tensor:
            if a.version > t.created:
                raise changed_error(a, t)
            if a._requires_grad and (wanted is None or a in wanted):
                needed.append(len(values))
            values.append(value if (value := a._array) is not None else value_of(a))
        else:
            values.append(a)
    by_kernel = t.saved is not None and needed and not create_graph
    try:
        if by_kernel:
            kernel, saved = t.saved
            gradients = kernel.backward(current_mode().executor, needed, g, y, saved, *values, **attrs)
            return [(inputs[i], d) for i, d in zip(needed, check_kernel_gradients(op, needed, values, gradients))]
        if create_graph:
            arguments = (g, t if type(y) is not tuple else _items(t, len(y)), *inputs)
        else:
            arguments = (g, y, *values)
        return op.vjp(needed, inputs, values, arguments, attrs)  # type: ignore[union-attr]
    except Exception as error:
        pointing_at(t, extend(error, errors.in_gradient(op, needed)) if by_kernel else error)
        raise


def seed_for(t: Tensor, gradient: Any, create_graph: bool = False) -> Any:
    """The gradient that a walk from `t` starts with: `gradient`, in t's dtype, or 1 for a single element."""
    if not t.requires_grad:
        raise no_tape_error(t)
    value = value_of(t)
    if gradient is None and value.size != 1:
        raise pointing_at(t, ValueError(f"{label(t)} has {value.size} elements, and backward starts from one: reduce "
                                        "it with .sum() or .mean(), or pass gradient= of its shape"))
    gradient = np.ones_like(value) if gradient is None else gradient
    if np.shape(gradient) != value.shape:
        raise pointing_at(t, ValueError(f"the gradient for {label(t)} has shape {np.shape(gradient)}: it needs the "
                                        "tensor's own"))
    if type(gradient) is Tensor and create_graph:
        return gradient if gradient.dtype == value.dtype else gradient.astype(value.dtype)
    gradient = tensor(gradient, value.dtype)
    return gradient if create_graph else read_only(gradient._array)
