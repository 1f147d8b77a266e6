"""What each thread is doing: whether it records, in which scope, and on which executor its kernels run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


class _State(threading.local):
    recording = True
    scope = ""
    executor: Any = Fresh


state = _State()


def no_grad(off: Any = True) -> Any:
    """Within it (`with no_grad():`, or `@no_grad` on a function) nothing is recorded; within a
    `no_grad(False)` inside it, again."""
    return _no_grad()(off) if callable(off) else _no_grad(off)


@contextmanager
def _no_grad(off: bool = True) -> Iterator[None]:
    before, state.recording = state.recording, not off
    try:
        yield
    finally:
        state.recording = before


@contextmanager
def scope(name: str) -> Iterator[None]:
    """Records made within it carry `name`; nested names are joined by dots: `h.0.attn`."""
    before = state.scope
    state.scope = f"{before}.{name}" if before else name
    try:
        yield
    finally:
        state.scope = before
