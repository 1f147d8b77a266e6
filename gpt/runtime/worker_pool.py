"""Threads that share the work of a step."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from threadpoolctl import threadpool_limits


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Team:
    """`n` threads, the calling one among them, that each do a part of some work; NumPy's loops and matrix products let
    the others run meanwhile.

    Within `with team:` a matrix product uses one core, since the parts use them all.  A team of one needs no `with`;
    for others `run` raises RuntimeError outside of it.  A part must not call `run` itself: it would wait for the thread
    it is on.
    """

    def __init__(self, n: int):
        if n < 1:
            raise ValueError(f"a team has {n} threads, and needs at least 1")
        self.n = n
        self._pool: Any = None

    def __enter__(self) -> Team:
        self._pool = ThreadPoolExecutor(max(self.n - 1, 1), thread_name_prefix="replica")
        try:
            for _ in range(self.n - 1):
                self._pool.submit(time.sleep, 1e-3)  # so that each has a thread of its own, now
        except RuntimeError as error:
            self._pool.shutdown()
            raise OSError(f"{self.n} threads cannot be had here ({error}): lower --replicas, or raise the limit of "
                          "processes (ulimit -u)") from None
        self._limits = threadpool_limits(1 if self.n > 1 else None, "blas")
        return self

    def __exit__(self, *error: Any) -> None:
        self._limits.restore_original_limits()
        pool, self._pool = self._pool, None
        pool.shutdown()

    def run(self, part: Callable[[int], Any], n: int | None = None) -> list[Any]:
        """`[part(0), part(1), …]`, for each of the team or the first `n`, at the same time."""
        if self._pool is None and self.n > 1:
            raise RuntimeError(f"the {self.n} threads of a team run within `with team:`, and this is outside of it")
        others = [self._pool.submit(part, i) for i in range(1, self.n if n is None else n)]
        try:
            return [part(0), *[other.result() for other in others]]
        finally:
            for other in others:  # nobody is left at work on shared arrays, whatever went wrong
                other.exception()

    def share(self, size: int, i: int) -> slice:
        """The part of `size` items that is for thread `i`."""
        return slice(size * i // self.n, size * (i + 1) // self.n)


ALONE = Team(1)
