"""Training steps to compare: ours and each peer's, on the same batches and from equal weights, to equal results."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import autograd as ag
from autograd.core.describe import plural

from ..data.dataset import TextData
from ..model.gpt import GPT
from ..model.module import Array
from ..optim.schedule import learning_rate_at
from ..runtime.malloc import keep_freed_memory
from ..runtime.worker_pool import WorkerPool
from ..training.config import TrainConfig
from ..training.trainer import Trainer
from .measure import Disagreement, Side, attempt, fastest_threads, need, settled
from .peers import pytorch as peers

VOCAB = 65  # characters of the text that nanoGPT's recipe is for
STEPS = 3   # after which two sides must agree

# Relative differences that are allowed: of the losses, and of the total update of each parameter.
LOSS_TOLERANCE, UPDATE_TOLERANCE = 1e-5, 1e-3


def nanogpt_config(**changes: Any) -> TrainConfig:
    """Return the recipe nanogpt without warm-up, with `changes`."""
    return TrainConfig.from_recipe("nanogpt", warmup_iters=0, **changes)


def large_config() -> TrainConfig:
    """Return nanoGPT's model for a GPU, in smaller batches."""
    return nanogpt_config(n_layer=6, n_head=6, n_embd=384, block_size=256, batch_size=8)


def fast_config() -> TrainConfig:
    """Return the recipe fast for a model as large as nanogpt's, in batches as large."""
    c = nanogpt_config()
    return TrainConfig.from_recipe("fast", warmup_iters=0, n_layer=c.n_layer, n_embd=c.n_embd, batch_size=c.batch_size)


def random_tokens(config: TrainConfig) -> TextData:
    """Return random tokens as data, since only speed matters."""
    tokens = np.random.default_rng(0).integers(VOCAB, size=100_000).astype(np.uint16)
    return TextData(tokens, tokens[:10_000], config.block_size)


@contextlib.contextmanager
def kernels(name: str) -> Iterator[str]:
    """Let ops run on these kernels, or on the "fastest" ones, and yield their name."""
    before = ag.kernels.in_use()
    try:
        if name == "fastest":
            ag.kernels.use_fastest()
        else:
            ag.kernels.use(name)
        yield ag.kernels.in_use()
    finally:
        ag.kernels.use(before)


def start_model(config: TrainConfig) -> GPT:
    """Return the model that all sides start from."""
    return GPT(config.model_config(VOCAB), seed=0)


@contextlib.contextmanager
def training(config: TrainConfig) -> Iterator[Trainer]:
    """Yield our side, the trainer of `gpt train`."""
    keep_freed_memory()
    with WorkerPool(config.n_replicas) as pool:
        yield Trainer(config, start_model(config), random_tokens(config), pool)


class PeerTraining:
    """A peer's update with the batches and learning rates of `Trainer`."""

    def __init__(self, config: TrainConfig, peer: Any):
        self.config, self.peer, self.data = config, peer, random_tokens(config)
        self.batches, self.iter = np.random.default_rng([config.seed, 1]), 0

    def step(self) -> dict[str, float]:
        """Take a step; return its loss and milliseconds."""
        c, began = self.config, time.perf_counter()
        ids, targets = self.data.train_batch(self.batches, c.batch_size)
        lr = learning_rate_at(self.iter, c.schedule, c.learning_rate, c.min_lr, c.warmup_iters,
                              c.lr_decay_iters or c.max_iters)
        loss = self.peer.update(ids, targets, lr)
        self.iter += 1
        return {"loss": loss, "ms": (time.perf_counter() - began) * 1e3}

    def ms(self) -> float:
        """Return the milliseconds of a step, as `settled` measures them."""
        return settled(lambda: self.step()["ms"])


# ---------------------------------------------------------------------- equal results


@dataclass
class Outcome:
    """The result of STEPS steps: their losses, and the total update of each parameter."""
    losses: list[float]
    updates: dict[str, Array]

    @classmethod
    def after_steps(cls, config: TrainConfig, step: Callable[[], float],
                    numbers: Callable[[], dict[str, Array]]) -> Outcome:
        """Take the steps, of which `step()` returns the loss; `numbers()` returns the parameters after them."""
        begin = {name: t.data for name, t in start_model(config).named_arrays().items()}
        losses = [step() for _ in range(STEPS)]
        return cls(losses, {name: a - begin[name] for name, a in numbers().items()})

    def check(self, other: Outcome) -> None:
        """Raise Disagreement unless the other side has the same result."""
        for i, (a, b) in enumerate(zip(self.losses, other.losses)):
            if not abs(a - b) <= LOSS_TOLERANCE * abs(a):
                raise Disagreement(f"no race: the loss of step {i + 1} is {a:.7g} here and {b:.7g} there")
        for name, update in self.updates.items():
            apart = np.linalg.norm(update - other.updates[name]) / np.linalg.norm(update)
            if not apart <= UPDATE_TOLERANCE:
                raise Disagreement(f"no race: after {STEPS} steps {name} has gone another way, by {apart:.1%} of it")


def our_numbers(trainer: Trainer) -> dict[str, Array]:
    """Return the current parameters by name."""
    return {name: t.data.copy() for name, t in trainer.model.named_arrays().items()}


def programs(trainer: Trainer) -> list[Any]:
    """Return the recorded programs of the replicas' losses."""
    return [program for program in trainer.replicas._train_programs if program is not None]


# ---------------------------------------------------------------------- peers


def torch_side(config: TrainConfig, ours: Outcome, compiled: bool = False) -> Side:
    """Return PyTorch's side: eager, with the number of threads that is fastest, or compiled, with as many."""
    name = "torch.compile" if compiled else "PyTorch eager"

    def make() -> Callable[[], float]:
        nonlocal name
        need("torch")
        if compiled:
            need_compiler()
        peer = check_agreement(config, ours, peers.TorchTraining(config, start_model(config), compiled))
        name += ", as many threads" if compiled else f", {set_torch_threads(peer.ms)}"
        return peer.ms

    side = attempt(name, make)
    side.name = name
    return side


def jax_side(config: TrainConfig, ours: Outcome) -> Side:
    """Return JAX's side, with the whole step compiled."""
    def make() -> Callable[[], float]:
        need("jax")
        from .peers.jax import JaxTraining
        return check_agreement(config, ours, JaxTraining(config, start_model(config))).ms

    return attempt("JAX jit", make)


def check_agreement(config: TrainConfig, ours: Outcome, peer: Any) -> PeerTraining:
    """Return a peer's training after STEPS steps with the same result.  Raises Disagreement if it differs."""
    training = PeerTraining(config, peer)
    ours.check(Outcome.after_steps(config, lambda: training.step()["loss"], peer.numbers))
    return training


def set_torch_threads(measure: Callable[[], float]) -> str:
    """Let PyTorch use the number of threads that is fastest, and return it as text."""
    import torch
    return plural(fastest_threads(measure, torch.set_num_threads), "thread")


def need_compiler() -> None:
    """Raise ImportError if torch.compile would find no compiler."""
    if not any(map(shutil.which, filter(None, [os.environ.get("CXX"), "g++", "clang++"]))):
        raise ImportError("no C++ compiler: install g++ or clang++, or name one in the variable CXX")


SIDES: dict[str, Callable[[TrainConfig, Outcome], Side]] = {
    "torch": torch_side,
    "compile": lambda config, ours: torch_side(config, ours, compiled=True),
    "jax": jax_side,
}
