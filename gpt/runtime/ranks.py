"""Ranks: the processes that `mpiexec -n N` starts for one command, which add up numbers and arrays by MPI (mpi4py).

Each collective call begins with an all-reduce of a few numbers, the header: has a rank failed, has one got a signal?  A
rank that fails takes part in one more header, where the others hear of it, so that the job ends in order and with one
line.  A process that is killed is noticed by the launcher, which ends the others.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import inf
from typing import Any

import numpy as np

from .screen import escape_line
from .signals import NUMBERS

LAUNCHED = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK")  # set by MPICH and Intel MPI, Open MPI, and Slurm
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")
LOCAL = "MPI_LOCALRANKID"  # MPICH's number of a rank on its machine
PATIENCE = 600  # seconds that a rank waits for the others in training; before and after it, as long as they take
SPIN = 2e-3  # seconds that it polls before it sleeps between polls
GRACE = 2  # seconds for rank 0 to say why the job ends, before another rank ends it


class RankError(OSError):
    """Raised on the other ranks when one has failed; names it, its machine and its error."""


class Ranks:
    """The ranks of a job as one of them sees them; without a communicator, the only process there is.

    `rank`: from 0.  `leads`: True on rank 0, which alone prints and writes files.  `size`, `hosts`: numbers of ranks
    and of machines.  `cores`: number that each rank may use; None: all that the process may.

    Collective calls are made by all ranks in the same order.
    """

    def __init__(self, communicator: Any = None, mpi: Any = None):
        self.communicator, self.mpi = communicator, mpi
        self.rank, self.size, self.hosts = 0, 1, 1
        self.cores: int | None = None
        self.waiting = False  # in a collective call, so that no other can begin
        self._signals: list[int] = []  # that this rank has got
        self.stop_requested = self._signals  # that any rank has got
        if communicator:
            self.rank, self.size = communicator.rank, communicator.size
            node = communicator.Split_type(mpi.COMM_TYPE_SHARED)
            free = {core for cores in node.allgather(_affinity()) for core in cores}
            self.cores = min(communicator.allgather(max(len(free) // node.size, 1)))
            self.hosts = sum(communicator.allgather(node.rank == 0))

    @property
    def leads(self) -> bool:
        """True on rank 0."""
        return self.rank == 0

    def describe(self, replicas: int) -> str:
        """Return `4 ranks x 2 replicas on 1 machine`."""
        return (f"{self.size} ranks x {replicas} replica{'s' * (replicas > 1)} on {self.hosts} "
                f"machine{'s' * (self.hosts > 1)}")

    def watch(self, signals: list[int]) -> list[int]:
        """Return a list of the signals that any rank has got, given that of this one's; all ranks see the same in it,
        since only collective calls change it."""
        self._signals = signals
        self.stop_requested = [] if self.size > 1 else signals
        return self.stop_requested

    def shard(self, n: int) -> slice:
        """Return the slice of `n` rows that this rank works on."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    # ------------------------------------------------------------------ collective calls
    def sum(self, value: float, patience: float = PATIENCE) -> float:
        """Return the sum of a number over the ranks.  Raises RankError if one has failed."""
        return value if self.size == 1 else float(self._header(value, patience=patience)[-1])

    def all_reduce(self, array: Any) -> None:
        """Sum a contiguous array over the ranks, in place, to the same bits on each."""
        if self.size > 1:
            self._header()
            self._wait(self.communicator.Iallreduce(self.mpi.IN_PLACE, array))

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, plain data, in their order."""
        if self.size == 1:
            return [value]
        self._header()
        return self._gather(value)

    def agree(self, **facts: Any) -> None:
        """Raise ValueError, the same on all ranks, unless these facts are the same on all."""
        every = self.gather(facts)
        for name in dict.fromkeys(name for own in every for name in own):
            values = [own.get(name) for own in every]
            if i := next((i for i, value in enumerate(values) if value != values[0]), 0):
                raise ValueError(f"{name.replace('_', ' ')}: {values[0]!s:.200} on rank 0, and {values[i]!s:.200} on "
                                 f"rank {i}; the ranks of a run need the same")

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Let rank 0 go through the block before the others, which then find what it made, such as files in a cache; go
        on when all are through."""
        if not self.leads:
            self.sum(0, patience=inf)
        yield
        if self.leads:
            self.sum(0, patience=inf)
        self.sum(0, patience=inf)

    def fail(self, message: str) -> None:
        """Tell the other ranks that this one has failed: RankError is raised at their next collective call."""
        with suppress(RankError):
            self._header(failure=message, patience=inf)

    def _header(self, value: float = 0.0, failure: str = "", patience: float = PATIENCE) -> Any:
        sums = np.array([bool(failure), *(number in self._signals for number in NUMBERS), value], np.float64)
        self._wait(self.communicator.Iallreduce(self.mpi.IN_PLACE, sums), patience)
        if sums[0]:
            said = self._gather((failure, platform.node()))
            rank = next(i for i, (text, _) in enumerate(said) if text)
            raise RankError(f"rank {rank} of {self.size}, on {said[rank][1]}: {said[rank][0]}")
        if self._signals is not self.stop_requested and not self.stop_requested:
            self.stop_requested += [number for number, n in zip(NUMBERS, sums[1:]) if n]
        return sums

    def _gather(self, value: Any) -> list[Any]:
        self.waiting = True
        values = self.communicator.allgather(value)
        self.waiting = False
        return values

    def _wait(self, request: Any, patience: float = PATIENCE) -> None:
        """Wait for the other ranks by polling, so that signals are handled meanwhile, and a core is left to others."""
        self.waiting, began = True, time.monotonic()
        while not request.Test():
            waited = time.monotonic() - began
            if waited > patience:
                raise TimeoutError(f"rank {self.rank} of {self.size} has waited {patience:,.0f} seconds for the others")
            time.sleep(0 if waited < SPIN else 1e-4)
        self.waiting = False


ALONE = Ranks()
_current = ALONE


def current() -> Ranks:
    """Return the ranks that this process has joined; `ALONE` if it has joined none."""
    return _current


@contextmanager
def join() -> Iterator[None]:
    """Join the processes that a launcher has started with this one, within it; of these, only rank 0 prints.

    An error on one rank ends all: rank 0 raises its own, or a RankError.  Raises ImportError without mpi4py, or for an
    MPI that is not the launcher's.  Without a launcher nothing is done.
    """
    global _current
    if not (launched := [name for name in LAUNCHED if name in os.environ]):
        yield
        return
    rank = int(os.environ[launched[0]])
    if rank:
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")
    ranks = ALONE
    try:
        ranks = _current = _connect()
        yield
        ranks.sum(0, patience=inf)
    except BaseException as error:
        at_once = isinstance(error, KeyboardInterrupt) and not ranks.stop_requested  # others may never hear of it
        if ranks.size == 1 or ranks.waiting or at_once:
            if rank and not isinstance(error, SystemExit):
                _leave(rank, error)
            raise
        if not isinstance(error, RankError):
            usual = isinstance(error, (OSError, ValueError)) and str(error)
            ranks.fail(usual or f"{type(error).__name__} {error}")
        ranks.mpi.Finalize()
        if rank:
            raise SystemExit from None  # the exit status is that of rank 0
        raise
    if ranks.mpi:
        ranks.mpi.Finalize()


def _leave(rank: int, error: BaseException) -> None:
    """End another rank than 0, and by that all: the launcher ends the others, and rank 0 is to say why before that."""
    time.sleep(GRACE)
    os.write(2, f"gpt: rank {rank}: {escape_line(str(error) or repr(error))}\n".encode())
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which also a launcher sees it that waits for MPI to begin
    os.kill(os.getpid(), signal.SIGTERM)


def _connect() -> Ranks:
    if hasattr(signal, "alarm"):
        signal.alarm(PATIENCE)  # which ends a rank that waits for one that has died before it came here
    try:
        import mpi4py
        mpi4py.rc.finalize = False  # at exit, where it would wait for ranks that have died
        from mpi4py import MPI
        if hasattr(signal, "alarm"):
            signal.alarm(0)
    except (ImportError, RuntimeError) as error:
        if os.environ.get(LOCAL, "0") != "0":  # the first rank on each machine says so
            raise SystemExit(1) from None
        raise ImportError(f"under mpiexec mpi4py and an MPI are needed ({error}): python -m pip install mpi4py mpich") \
            from None
    started = next((int(os.environ[name]) for name in SIZES if name in os.environ), MPI.COMM_WORLD.size)
    if started != MPI.COMM_WORLD.size:
        raise ImportError(f"mpiexec has started {started} processes, of which mpi4py finds {MPI.COMM_WORLD.size}: it "
                          f"needs to be the mpiexec of {MPI.Get_library_version().splitlines()[0]}")
    return Ranks(MPI.COMM_WORLD if started > 1 else None, MPI)


def _affinity() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [*range(os.cpu_count() or 1)]
