"""The environment that the bits of a run depend on besides its settings: versions, threads and kernels."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

import autograd as ag

from .blas import blas_libraries
from .ranks import current
from .screen import escape_line
from .worker_pool import cores


@contextmanager
def fastest_kernels() -> Iterator[None]:
    """Run the engine on Numba's kernels within it, where Numba is installed."""
    before = ag.kernels.in_use()
    ag.kernels.use_fastest()
    try:
        yield
    finally:
        ag.kernels.use(before)


def environment(replicas: int) -> dict[str, Any]:
    """Return versions, processor, BLAS and its threads, number of replicas (of ranks and machines, too, if there are
    several) and kernels: if all are equal, two runs of equal settings give the same bits."""
    return {"python": platform.python_version(), "numpy": np.__version__, "machine": platform.machine(),
            "processor": platform.processor(), "blas": blas(),
            "threads": _threads() if replicas == 1 else "1",
            "replicas": current().describe(replicas) if current().size > 1 else replicas,
            "kernels": ag.kernels.in_use()}


def blas() -> str:
    """Return the BLAS libraries that are loaded, and the processors for which their code was chosen."""
    return ", ".join(sorted({f"{pool['internal_api']} {pool['version']} for {pool.get('architecture', 'any processor')}"
                             for pool in (library.info() for library in blas_libraries())})) or "unknown"


def sources_checksum() -> str:
    """Return a checksum of the modules of both packages."""
    folders = [Path(ag.__file__).parent, Path(__file__).parents[1]]
    files = [(file.relative_to(folder.parent).as_posix(), file) for folder in folders for file in folder.rglob("*.py")]
    return f"{crc32(b''.join(name.encode() + file.read_bytes() for name, file in sorted(files))):08x}"


def _threads() -> str:
    """Return the number of threads that BLAS may use: as an environment variable says, or one a core."""
    if n := current().cores:
        return str(n)
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        if os.environ.get(name):
            return os.environ[name]
    return str(cores())


def compare_environments(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return what differs between two environments, `name before -> now, …`; empty if nothing does."""
    return ", ".join(escape_line(f"{name:.100} {before.get(name)!s:.100} -> {now.get(name)!s:.100}")
                     for name in sorted({*before, *now}) if before.get(name) != now.get(name))
