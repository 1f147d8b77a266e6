"""The mode of a thread: grad mode, scope, tracing, the observer, and the executor that kernels run on."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Generator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np


class EagerExecutor:
    """The executor that allocates a new array for each request and runs each procedure at once."""

    @staticmethod
    def empty(like: Any, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Return an uninitialized array of the same library (and dtype, if none is given) as `like`, in C order."""
        return np.empty_like(like, shape=shape, dtype=dtype, order="C")

    @staticmethod
    def empty_like(a: Any) -> Any:
        """Return an uninitialized array like `a`, in its memory order too."""
        return np.empty_like(a)

    @staticmethod
    def constant(a: Any) -> Any:
        """Return `a`: tells a capturing executor that this array keeps its place and is not written to."""
        return a

    @staticmethod
    def run(procedure: Callable[..., None], *arrays: Any) -> None:
        """Call a kernel's procedure, which only writes into the arrays that it is passed."""
        procedure(*arrays)


@dataclass(frozen=True, slots=True, eq=False)
class Mode:
    """The state of a thread that decides how ops compute and record.

    grad_enabled: grad mode; False within `no_grad`.  scope: the scope that new records carry.  executor: allocates
    arrays for kernels and runs their procedures.  observer: called after each op (`on_forward(t)`) and after each
    record's turn in the backward pass (`on_backward(t, g, sent)`), or None.  tracing: non-empty while a function is
    traced, a phrase for errors that says by whom: ops on constants are recorded too then, and reading a tensor's value
    raises.  differentiating: True within a function that a transform differentiates, where float(t) would lose a
    gradient.  outer: the mode before this one.  entered, changes: the `within` that made this one of it, and the fields
    that it changed.
    """

    grad_enabled: bool = True
    scope: str = ""
    executor: Any = EagerExecutor
    observer: Any = None
    tracing: str = ""
    differentiating: bool = False
    outer: Any = None
    entered: Any = None
    changes: Mapping[str, Any] = field(default_factory=dict)


_FIELDS, _set = [f.name for f in fields(Mode)][:-3], object.__setattr__
_mode = ContextVar("autograd.mode", default=Mode())  # noqa: B039 (it is frozen)
current_mode = _mode.get


def resampled(draw: Callable[[], Any]) -> Any:
    """Return `draw()`, an array of random numbers; a program captured by `ag.record` draws anew in each call, and
    `ag.vmap` once for each example."""
    mode = current_mode()
    return mode.observer.on_draw(draw) if mode.tracing else draw()


class within:
    """Context manager that sets fields of this thread's Mode; also a decorator of functions, coroutine functions and
    generators, in force only while they run and not for their caller.

    Contexts may end in another order than they began, as those of two generators that take turns do: each undoes only
    its own changes.
    """

    def __init__(self, **changes: Any):
        self.changes = changes

    def __enter__(self) -> None:
        self._enter(self.changes)

    def _enter(self, changes: Mapping[str, Any]) -> None:
        before, mode = current_mode(), object.__new__(Mode)
        for name in _FIELDS:  # dataclasses.replace takes twice as long
            _set(mode, name, changes[name] if name in changes else getattr(before, name))
        _set(mode, "outer", before)
        _set(mode, "entered", self)
        _set(mode, "changes", changes)
        _mode.set(mode)

    def __exit__(self, *error: Any) -> None:
        mode, younger = current_mode(), []
        while mode.entered is not self:
            if mode.outer is None:  # this context was entered in another thread, or task
                return
            younger.append(mode)
            mode = mode.outer
        mode = mode.outer
        for later in reversed(younger):
            mode = replace(mode, **later.changes, outer=mode, entered=later.entered, changes=later.changes)
        _mode.set(mode)

    def _renewed(self) -> within:
        """Return a new context like this one, for one call of a decorated function."""
        return within(**self.changes)

    def __call__(self, function: Callable[..., Any]) -> Any:
        if inspect.isasyncgenfunction(function):
            raise TypeError(f"{function.__name__} is an asynchronous generator, which this cannot decorate: write "
                            "`with` inside it, around what does not yield")
        if inspect.iscoroutinefunction(function):
            @functools.wraps(function)
            async def coroutine(*args: Any, **kwargs: Any) -> Any:
                return await types.coroutine(self._resumed)(function(*args, **kwargs))
            return coroutine
        if inspect.isgeneratorfunction(function):
            @functools.wraps(function)
            def generator(*args: Any, **kwargs: Any) -> Any:
                return (yield from self._resumed(function(*args, **kwargs)))
            return generator

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._renewed():
                return function(*args, **kwargs)
        return call

    def _resumed(self, steps: Any) -> Generator[Any, Any, Any]:
        """Run a generator or coroutine, each of its steps within this context."""
        resume: Callable[[], Any] = lambda: steps.send(None)  # noqa: E731
        while True:
            try:
                with self._renewed():
                    item = resume()
            except StopIteration as stop:
                return stop.value
            try:
                resume = functools.partial(steps.send, (yield item))
            except GeneratorExit:
                with self._renewed():
                    steps.close()
                raise
            except BaseException as error:
                resume = functools.partial(steps.throw, error)


def no_grad(off: Any = True) -> Any:
    """Switch grad mode off: `with no_grad():`, or `@no_grad` on a function, generator or coroutine; nothing is recorded
    then.  `no_grad(False)` switches it on again within.

    A generator that yields inside its own `with no_grad():` leaves grad mode off for its caller until it resumes; a
    decorated one does not.
    """
    return within(grad_enabled=False)(off) if callable(off) else within(grad_enabled=not off)


class Scope(str):
    """Path of the scopes that a record was made in: `h.0.attn`.  Entering a scope makes a new object, so that two calls
    of one function can be told apart.  `name` is the innermost name, `outer` the scope around it."""

    __slots__ = ("name", "outer")
    name: str
    outer: str


class scope(within):
    """Context manager that names the records made within: `with ag.scope("attn"):`.  Nested names are joined by dots
    (`h.0.attn`)."""

    def __init__(self, name: str):
        self.name = name

    def __enter__(self) -> None:
        outer = current_mode().scope
        inner = Scope(f"{outer}.{self.name}" if outer else self.name)
        inner.name, inner.outer = self.name, outer
        self._enter({"scope": inner})

    def _renewed(self) -> scope:
        return scope(self.name)
