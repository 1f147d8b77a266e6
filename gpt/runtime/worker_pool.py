"""A pool of worker threads that compute a step in parallel."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .blas import limit_blas_threads
from .ranks import current

THREADS = sys.platform != "emscripten"
"""True if threads can be started.  A browser has none: a pool there computes its shards in turn, to the same bits."""


def cores() -> int:
    """Return the number of cores that this process may use: of several ranks on a machine, its share."""
    if not THREADS:
        return 1
    if n := current().cores:
        return n
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkerPool:
    """`n` threads, the calling one among them, that work in parallel, each on its shard: NumPy's loops and matrix
    products release the GIL.

    Within `with pool:` BLAS uses one core per matrix product, since the workers use them all.  A pool of one needs no
    `with`; for others `run` raises RuntimeError outside of it.  A worker must not call `run` itself: it would wait for
    the thread it is on.
    """

    def __init__(self, n: int):
        if n < 1:
            raise ValueError(f"a worker pool has {n} threads, and needs at least 1")
        self.n = n
        self._executor: Any = None

    def __enter__(self) -> WorkerPool:
        self._executor = ThreadPoolExecutor(max(self.n - 1, 1), thread_name_prefix="replica")
        try:
            for _ in range(self.n - 1 if THREADS else 0):
                self._executor.submit(time.sleep, 1e-3)  # busy for a moment, so that each submit starts a thread now
        except RuntimeError as error:
            self._executor.shutdown()
            raise OSError(f"{self.n} threads cannot be started here ({error}): lower --replicas, or raise the limit of "
                          "processes (ulimit -u)") from None
        self._limit = limit_blas_threads(1 if self.n > 1 else current().cores)
        return self

    def __exit__(self, *error: Any) -> None:
        self._limit.__exit__(*error)
        executor, self._executor = self._executor, None
        executor.shutdown()

    def run(self, work: Callable[[int], Any], n: int | None = None) -> list[Any]:
        """Return `[work(0), work(1), …]`, computed in parallel by all workers or the first `n`."""
        if self._executor is None and self.n > 1:
            raise RuntimeError(f"the {self.n} threads of a worker pool run within `with pool:`, and this is outside of "
                               "it")
        n = self.n if n is None else n
        if not THREADS:
            return [work(i) for i in range(n)]
        others = [self._executor.submit(work, i) for i in range(1, n)]
        try:
            return [work(0), *[other.result() for other in others]]
        finally:
            for other in others:  # wait for all, whatever went wrong: nobody is left at work on shared arrays
                other.exception()

    def shard(self, size: int, i: int) -> slice:
        """Return the slice of `size` items that worker `i` works on."""
        return slice(size * i // self.n, size * (i + 1) // self.n)


SINGLE = WorkerPool(1)
