"""Speed, side by side: each figure of ours and its peer's are measured in turns in one run, and shown as a ratio."""

import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import autograd as ag

from . import peers
from .data import batch
from .generate import generate
from .malloc import keep_freed_memory
from .model import GPT
from .optim import learning_rate_at
from .settings import Settings, setting
from .team import Team
from .train import TrainConfig
from .trainer import Trainer


@dataclass
class BenchConfig(Settings):
    """The settings of `gpt bench`."""

    row: str = setting("all", "what to measure: one row, or all", positional=True,
                       choices=("all", "import", "op", "step", "sample"))
    rounds: int = setting(30, "how often each side is timed; the medians are compared", at_least=3)
    json: bool = setting(False, "print one JSON object a row")


@dataclass
class Row:
    """One comparison: medians and spread (first and last decile) of both sides, in `unit`."""
    name: str
    unit: str
    ours: list[float]
    peer_name: str
    peer: list[float]

    def summary(self) -> dict[str, Any]:
        def spread(times: list[float]) -> dict[str, float]:
            low, *_, high = statistics.quantiles(times, n=10)
            return {"median": statistics.median(times), "low": low, "high": high}

        ours, peer = spread(self.ours), spread(self.peer) if self.peer else None
        return {"row": self.name, "unit": self.unit, "ours": ours, "peer_name": self.peer_name, "peer": peer,
                "ratio": ours["median"] / peer["median"] if peer else None}


def bench(config: BenchConfig) -> None:
    """Print the medians of ours and the peers', and their ratios: the command `gpt bench`."""
    rows: dict[str, Callable[[int], Iterator[Row]]] = {"import": import_rows, "op": op_rows, "step": step_rows,
                                                          "sample": sample_rows}
    machine = {"python": platform.python_version(), "numpy": np.__version__, "torch": _version("torch"),
               "processor": platform.processor() or platform.machine()}
    print(json.dumps(machine) if config.json else " ".join(f"{k} {v}" for k, v in machine.items()))
    for name in rows if config.row == "all" else [config.row]:
        for row in rows[name](config.rounds):
            s = row.summary()
            print(json.dumps(s) if config.json else _line(s), flush=True)


def _line(s: dict[str, Any]) -> str:
    def figure(side: dict[str, float]) -> str:
        return f"{side['median']:8.2f} {s['unit']} ({side['low']:.2f} to {side['high']:.2f})"

    against = f"{s['peer_name']} {figure(s['peer'])}   ratio {s['ratio']:.2f}" if s["peer"] else s["peer_name"]
    return f"{s['row']:48} {figure(s['ours'])}   {against}"


def _version(package: str) -> str:
    return importlib.import_module(package).__version__ if importlib.util.find_spec(package) else "not installed"


def in_turns(rounds: int, *sides: Callable[[], float]) -> list[list[float]]:
    """Times of each side, one of each a round; the first round only warms up."""
    times = [[side() for side in sides] for _ in range(rounds + 1)]
    return [list(column) for column in zip(*times[1:])]


# ---------------------------------------------------------------------- rows


def import_rows(rounds: int) -> Iterator[Row]:
    """A fresh process importing the engine, and one importing only NumPy."""
    def fresh(package: str) -> Callable[[], float]:
        code = f"import time; t = time.perf_counter(); import {package}; print(time.perf_counter() - t)"
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # from bytecode, as for NumPy, once the first round has run
        return lambda: float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True,
                                            env=env).stdout) * 1e3

    yield Row("import autograd", "ms", *_with_peer("import numpy", in_turns(rounds, fresh("autograd"), fresh("numpy"))))


def _with_peer(peer_name: str, times: list[list[float]]) -> tuple[list[float], str, list[float]]:
    return times[0], peer_name, times[1]


def op_rows(rounds: int) -> Iterator[Row]:
    """A chain of 1,000 multiplications and additions on arrays of 4 elements, forward and backward, an operation."""
    rng = np.random.default_rng(0)
    x, scale, shift = rng.normal(size=4), rng.uniform(0.999, 1.001, 4), 1e-3 * rng.normal(size=4)

    def timed(make: Callable[..., Any], ones: Any, requires_grad: bool) -> Callable[[], float]:
        def run() -> float:
            y, a, b = make(x, True), make(scale, requires_grad), make(shift, requires_grad)
            began = time.perf_counter()
            for _ in range(500):
                y = y * a
                y = y + b
            y.backward(ones)
            return (time.perf_counter() - began) / 1000 * 1e6
        return run

    for requires_grad in (False, True):
        sides = [timed(lambda a, r: ag.tensor(a, requires_grad=r), np.ones(4), requires_grad)]
        if installed := importlib.util.find_spec("torch"):
            import torch
            sides.append(timed(lambda a, r: torch.tensor(a, requires_grad=r), torch.ones(4, dtype=torch.float64),
                               requires_grad))
        times = in_turns(rounds, *sides)
        yield Row(f"a recorded op, {'both inputs' if requires_grad else 'one input'} with gradient", "µs", times[0],
                  "PyTorch" if installed else "(PyTorch is not installed)", times[1] if installed else [])


def step_rows(rounds: int) -> Iterator[Row]:
    """A training step at the shape of the recipe nanogpt, from fetching the batch to reading the loss; PyTorch starts
    from the same weights, and has to agree with us after three steps."""
    keep_freed_memory()
    config, rng = TrainConfig.from_recipe("nanogpt"), np.random.default_rng(0)
    tokens = rng.integers(65, size=100_000).astype(np.uint16)
    model = GPT(config.model_config(65), seed=0)
    with Team(config.n_replicas) as team:
        yield from _step_rows(rounds, config, model, tokens, team)


def _step_rows(rounds: int, config: TrainConfig, model: GPT, tokens: np.ndarray, team: Team) -> Iterator[Row]:
    trainer = Trainer(config, model, RandomTokens(tokens, config.block_size), team)
    name = "training step of nanoGPT's recipe, NumPy"
    if not importlib.util.find_spec("torch"):
        yield Row(name, "ms", in_turns(rounds, lambda: trainer.step()["ms"])[0], "(PyTorch is not installed)", [])
        return
    peer = TorchTrainer(config, model, tokens)
    for _ in range(3):
        ours, theirs = trainer.step()["loss"], peer.step()["loss"]
        if abs(ours - theirs) > 1e-4 * theirs:
            raise ArithmeticError(f"no race: after equal steps our loss is {ours}, and PyTorch's {theirs}")
    times = in_turns(rounds, lambda: settled(trainer), lambda: settled(peer))
    yield Row(name, "ms", *_with_peer("PyTorch eager", times))


def sample_rows(rounds: int) -> Iterator[Row]:
    """A token of text at the shape of the recipe nanogpt, past the window, with the cache and without."""
    keep_freed_memory()
    for block_size in (64, 256):
        model = GPT(TrainConfig.from_recipe("nanogpt", block_size=block_size).model_config(65), seed=0)

        def timed(n: int, cache: bool, model: GPT = model) -> Callable[[], float]:
            def run() -> float:
                began = time.perf_counter()
                for _ in generate(model, np.zeros(1, int), n, np.random.default_rng(0), cache=cache):
                    pass
                return (time.perf_counter() - began) / n * 1e6
            return run

        times = in_turns(rounds, timed(500, True), timed(100, False))
        yield Row(f"a token sampled, context {block_size}", "µs", *_with_peer("without the cache", times))


def settled(trainer: Any) -> float:
    """Milliseconds of a step, once the other side's threads, which wait busily for a while, have gone to sleep."""
    return statistics.median([trainer.step()["ms"] for _ in range(8)][5:])


@dataclass
class RandomTokens:
    """Data without meaning, for speed."""
    tokens: np.ndarray
    block_size: int

    def train_batch(self, rng: np.random.Generator, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        return batch(self.tokens, rng, batch_size, self.block_size)


class TorchTrainer:
    """`Trainer` in PyTorch: the same weights, batches and schedule, and its fused AdamW."""

    def __init__(self, config: TrainConfig, model: GPT, tokens: np.ndarray):
        import torch
        self.torch, self.config, self.model_config = torch, config, model.config
        self.weights = peers.weights(model, torch)
        self.optimizer = peers.adamw(self.weights, torch, betas=(config.beta1, config.beta2),
                                     weight_decay=config.weight_decay, fused=True)
        self.tokens, self.batches, self.iter = tokens, np.random.default_rng([config.seed, 1]), 0

    def step(self) -> dict[str, float]:
        torch, c, began = self.torch, self.config, time.perf_counter()
        ids, targets = (torch.tensor(a, dtype=torch.int64)
                        for a in batch(self.tokens, self.batches, c.batch_size, c.block_size))
        lr = learning_rate_at(self.iter, c.schedule, c.learning_rate, c.min_lr, c.warmup_iters, c.max_iters)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        loss = peers.loss(self.weights, self.model_config, ids, targets, torch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights.values(), c.grad_clip)
        self.optimizer.step()
        self.iter += 1
        return {"loss": loss.item(), "ms": (time.perf_counter() - began) * 1e3}
