"""What the bits of a run depend on besides its settings: versions, threads and kernels."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

import autograd as ag

from .screen import in_a_line


@contextmanager
def fastest_kernels() -> Iterator[None]:
    """Within it the engine runs on Numba's kernels, where Numba is installed."""
    before = ag.kernels.in_use()
    ag.kernels.use_fastest()
    try:
        yield
    finally:
        ag.kernels.use(before)


def environment(replicas: int) -> dict[str, Any]:
    """Versions, processor, BLAS, its threads, how many replicas there are, and which ops have kernels: where all are
    equal, so are the bits of two runs of equal settings."""
    return {"python": platform.python_version(), "numpy": np.__version__, "machine": platform.machine(),
            "processor": platform.processor(), "blas": blas(),
            "threads": _threads() if replicas == 1 else "1", "replicas": replicas,
            "kernels": ag.kernels.in_use()}


def blas() -> str:
    """The libraries of matrix products that are loaded, and for which processors their code was chosen."""
    return ", ".join(sorted({f"{pool['internal_api']} {pool['version']} for {pool.get('architecture', 'any processor')}"
                             for pool in threadpool_info() if pool["user_api"] == "blas"})) or "unknown"


def _threads() -> str:
    """How many threads BLAS may use: as told by a variable, or one a core."""
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        if os.environ.get(name):
            return os.environ[name]
    return str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())


def compare_environments(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return what differs between two environments, `name before -> now, …`; empty if nothing does."""
    return ", ".join(in_a_line(f"{name:.100} {before.get(name)!s:.100} -> {now.get(name)!s:.100}")
                     for name in sorted({*before, *now}) if before.get(name) != now.get(name))
