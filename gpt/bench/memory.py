"""The rows of memory: what a training step keeps and holds in passing, beside PyTorch, and its page faults."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..training.config import TrainConfig
from ..training.trainer import Trainer
from .measure import Row, known, need
from .peers import pytorch as peers
from .race import STEPS, PeerTraining, config_of, kernels, programs, start, training
from .step import what

MB = 1e6
COUNTED = 20  # steps over which page faults are counted


def memory_rows(rounds: int, asked: Sequence[str], config: TrainConfig | None = None) -> Iterator[Row]:
    """What forward and backward of the training step take beside parameters and their gradients, and page faults."""
    config = config or config_of()
    torch = "torch" in asked
    with kernels("fastest") as used, training(config) as trainer:
        for _ in range(STEPS):
            trainer.step()
        ours, kept, passing, more = f"tapegrad, {used} kernels", arenas(trainer), in_passing(trainer), others(trainer)
        yield Row("memory", f"intermediates at the peak of a {what(config)}", "MB",
                  [known(ours, lambda: (kept + passing) / MB),
                   *[known("PyTorch eager, what it keeps for backward", lambda: kept_by_torch(config) / MB)] * torch],
                  [f"{kept / MB:.2f} MB are the arenas of all replicas, {passing / MB:.2f} MB are held in passing",
                   f"beside it, gradients of the replicas but the first: {more / MB:.2f} MB",
                   *["PyTorch's peak is higher than what it keeps, by the gradients on their way"] * torch])
        yield Row("memory", "page faults a training step, after the first", "faults",
                  [known(ours, lambda: faults_a_step(trainer.step)),
                   *[known("PyTorch eager", lambda: faults_a_step(of_torch(config).step))] * torch])


def arenas(trainer: Trainer) -> int:
    """Return the bytes of the arenas in which the replicas' recorded programs work."""
    return sum(program.n_bytes for program in programs(trainer))


def in_passing(trainer: Trainer) -> int:
    """Return the most bytes that are allocated, and freed again, within a step's forward and backward."""
    ids, targets = trainer.data.train_batch(trainer.batches, trainer.config.batch_size)
    tracemalloc.start()
    try:
        trainer.replicas.gradient(ids, targets)  # once before, so that what stays for ever is there
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        trainer.replicas.gradient(ids, targets)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def others(trainer: Trainer) -> int:
    """Return the bytes of the gradients that replicas have to themselves."""
    return sum(grad.nbytes for grad in trainer.replicas.grads[1:])


def faults_a_step(step: Callable[[], Any]) -> float:
    """Page faults a step that the kernel served without reading from disk, after the steps that warm up.

    Raises ImportError where the system does not count them.
    """
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:
        raise ImportError("this system does not count page faults") from None
    for _ in range(STEPS):
        step()
    before = getrusage(RUSAGE_SELF).ru_minflt
    for _ in range(COUNTED):
        step()
    return (getrusage(RUSAGE_SELF).ru_minflt - before) / COUNTED


def of_torch(config: TrainConfig) -> PeerTraining:
    """PyTorch's training.  Raises ImportError where it is not installed."""
    need("torch")
    return PeerTraining(config, peers.TorchTraining(config, start(config)))


def kept_by_torch(config: TrainConfig) -> int:
    """Return the bytes that PyTorch's forward keeps for its backward."""
    training = of_torch(config)
    return training.peer.kept_bytes(*training.data.train_batch(training.batches, config.batch_size))
