"""What each thread is doing: whether it records, in which scope, and on which executor its kernels run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


class Fresh:
    """The executor that allocates every array anew and runs every procedure at once."""

    @staticmethod
    def empty(like: Any, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """An array to be filled, of the same library (and dtype, if none is given) as `like`."""
        return np.empty_like(like, shape=shape, dtype=dtype, order="C")

    @staticmethod
    def empty_like(a: Any) -> Any:
        """An array to be filled, like `a` also in its memory order."""
        return np.empty_like(a)

    @staticmethod
    def constant(a: Any) -> Any:
        """`a`, which stays as it is, and where it is."""
        return a

    @staticmethod
    def run(procedure: Callable[..., None], *arrays: Any) -> None:
        """Call a kernel's procedure, which only writes into the arrays it is handed."""
        procedure(*arrays)


@dataclass(frozen=True, slots=True)
class Mode:
    """What a thread is doing."""

    recording: bool = True
    scope: str = ""
    executor: Any = Fresh
    watch: Any = None  # looks at every record as it is made (`made`), and as a walk back passes it (`passed`)
    tracing: bool = False  # whether what is computed of constants is recorded too, and values must not be looked at


_mode = ContextVar("autograd.mode", default=Mode())  # noqa: B039 (it is frozen)
current_mode = _mode.get


def drawn(draw: Callable[[], Any]) -> Any:
    """`draw()`, an array of random numbers; in a recorded program one that is drawn anew in each call."""
    mode = current_mode()
    return mode.watch.drawn(draw) if mode.tracing else draw()


@contextmanager
def within(**changes: Any) -> Iterator[None]:
    """A part of the program in which the fields `changes` of this thread's Mode are others."""
    before = current_mode()
    _mode.set(replace(before, **changes))
    try:
        yield
    finally:
        _mode.set(before)


def no_grad(off: Any = True) -> Any:
    """Within it (`with no_grad():`, or `@no_grad` on a function) nothing is recorded; within a
    `no_grad(False)` inside it, again."""
    return within(recording=False)(off) if callable(off) else within(recording=not off)


class Scope(str):
    """The names of the scopes that a record was made in, joined by dots: `h.0.attn`.  Each time a scope is entered is
    an object of its own, so that two calls of one function can be told apart.  `name` is the innermost name, `outer`
    the scope around it."""

    __slots__ = ("name", "outer")
    name: str
    outer: str


@contextmanager
def scope(name: str) -> Iterator[None]:
    """Records made within it carry `name`; nested names are joined by dots: `h.0.attn`."""
    outer = current_mode().scope
    inner = Scope(f"{outer}.{name}" if outer else name)
    inner.name, inner.outer = name, outer
    with within(scope=inner):
        yield
