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
    def run(procedure: Callable[..., None], *arrays: Any) -> None:
        """Call a kernel's procedure, which only writes into the arrays it is handed."""
        procedure(*arrays)


@dataclass(frozen=True, slots=True)
class Mode:
    """What a thread is doing."""

    recording: bool = True
    scope: str = ""
    executor: Any = Fresh


_mode = ContextVar("autograd.mode", default=Mode())  # noqa: B039 (it is frozen)
current_mode = _mode.get


@contextmanager
def _within(**changes: Any) -> Iterator[None]:
    before = current_mode()
    _mode.set(replace(before, **changes))
    try:
        yield
    finally:
        _mode.set(before)


def no_grad(off: Any = True) -> Any:
    """Within it (`with no_grad():`, or `@no_grad` on a function) nothing is recorded; within a
    `no_grad(False)` inside it, again."""
    return _within(recording=False)(off) if callable(off) else _within(recording=not off)


@contextmanager
def scope(name: str) -> Iterator[None]:
    """Records made within it carry `name`; nested names are joined by dots: `h.0.attn`."""
    outer = current_mode().scope
    with _within(scope=f"{outer}.{name}" if outer else name):
        yield
