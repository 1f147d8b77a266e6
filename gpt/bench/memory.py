"""Rows on memory: the intermediates of a training step, beside PyTorch's, and its page faults."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..training.config import TrainConfig
from ..training.trainer import Trainer
from .measure import Row, constant_side, need
from .peers import pytorch as peers
from .race import STEPS, PeerTraining, kernels, nanogpt_config, programs, start_model, training
from .step import describe_step

MB = 1e6
COUNTED = 20  # steps over which page faults are counted


def memory_rows(rounds: int, asked: Sequence[str], config: TrainConfig | None = None) -> Iterator[Row]:
    """Yield the memory of forward and backward pass besides parameters and their gradients, and the page faults."""
    config = config or nanogpt_config()
    torch = "torch" in asked
    with kernels("fastest") as used, training(config) as trainer:
        for _ in range(STEPS):
            trainer.step()
        ours, arenas = f"tapegrad, {used} kernels", arena_bytes(trainer)
        temporary, others = temporary_bytes(trainer), other_gradients(trainer)
        yield Row("memory", f"intermediates at the peak of a {describe_step(config)}", "MB",
                  [constant_side(ours, lambda: (arenas + temporary) / MB),
                   *[constant_side("PyTorch eager, what it keeps for backward",
                                   lambda: torch_saved_bytes(config) / MB)] * torch],
                  [f"{arenas / MB:.2f} MB are the arenas of all replicas, {temporary / MB:.2f} MB are temporary",
                   f"beside it, gradients of the replicas but the first: {others / MB:.2f} MB",
                   *["PyTorch's peak is higher than what it keeps, by the gradients on their way"] * torch])
        yield Row("memory", "page faults a training step, after the first", "faults",
                  [constant_side(ours, lambda: faults_a_step(trainer.step)),
                   *[constant_side("PyTorch eager", lambda: faults_a_step(torch_training(config).step))] * torch])


def arena_bytes(trainer: Trainer) -> int:
    """Return the bytes of the arenas of the replicas' captured programs."""
    return sum(program.n_bytes for program in programs(trainer))


def temporary_bytes(trainer: Trainer) -> int:
    """Return the peak of temporary allocations within a step's forward and backward pass."""
    ids, targets = trainer.data.train_batch(trainer.batches, trainer.config.batch_size)
    tracemalloc.start()
    try:
        trainer.replicas.gradient(ids, targets)  # once before, for allocations that stay
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        trainer.replicas.gradient(ids, targets)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def other_gradients(trainer: Trainer) -> int:
    """Return the bytes of the gradients of all replicas but the first."""
    return sum(grad.nbytes for grad in trainer.replicas.grads[1:])


def faults_a_step(step: Callable[[], Any]) -> float:
    """Count the minor page faults (served without reading from disk) a step, after warm-up.

    Raises ImportError if the system does not count them.
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


def torch_training(config: TrainConfig) -> PeerTraining:
    """Return PyTorch's training.  Raises ImportError if it is not installed."""
    need("torch")
    return PeerTraining(config, peers.TorchTraining(config, start_model(config)))


def torch_saved_bytes(config: TrainConfig) -> int:
    """Return the bytes that PyTorch's forward pass saves for its backward pass."""
    training = torch_training(config)
    return training.peer.saved_bytes(*training.data.train_batch(training.batches, config.batch_size))
