"""Rows on scaling: growth of a step's time and memory with batch, context, width and depth."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

import autograd as ag
from autograd.core.arrays import find_owner

from ..training.trainer import Trainer
from .measure import Side, fit_exponent, in_turns, settled
from .memory import MB, arena_bytes, temporary_bytes
from .products import list_products
from .race import STEPS, kernels, nanogpt_config, start_model, training

AXES = {"batch_size": (4, 8, 16), "block_size": (32, 64, 128), "n_embd": (64, 128, 256), "n_layer": (2, 4, 8)}
NAMES = {"batch_size": "batch", "block_size": "context", "n_embd": "width", "n_layer": "depth"}


@dataclass
class Growth:
    """Figures of a step for sizes along an axis, with their exponents, beside the exponents of the operations of its
    matrix products and of the bytes of the values on its tape."""
    axis: str
    sizes: tuple[int, ...]
    ms: list[float]
    megabytes: list[float]
    flops: list[float]
    values: list[float]

    def summary(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        return {"row": "scaling", "what": f"training step against {NAMES[self.axis]}", "sizes": list(self.sizes),
                "ms": self.ms, "MB": self.megabytes,
                "exponents": {name: fit_exponent(self.sizes, figures) for name, figures in (
                    ("ms", self.ms), ("operations", self.flops), ("MB", self.megabytes), ("values", self.values))}}

    def lines(self) -> list[str]:
        """Return the lines of text that are printed."""
        e = self.summary()["exponents"]
        times, memory = (", ".join(f"{x:.2f}" for x in figures) for figures in (self.ms, self.megabytes))
        return [f"scaling: training step against {NAMES[self.axis]} {', '.join(map(str, self.sizes))}",
                f"  time    {times} ms: exponent {e['ms']:.2f}; operations of its products {e['operations']:.2f}",
                f"  memory  {memory} MB: exponent {e['MB']:.2f}; values on the tape {e['values']:.2f}"]


def scaling_rows(rounds: int, asked: Sequence[str], base: dict[str, Any] | None = None,
                 axes: Mapping[str, tuple[int, ...]] = AXES) -> Iterator[Growth]:
    """Yield the growth along each axis, for three small sizes of the recipe nanogpt, in turns; without peers."""
    with kernels("fastest"):
        for axis, sizes in axes.items():
            configs = [nanogpt_config(**{**(base or {}), axis: size}) for size in sizes]
            with contextlib.ExitStack() as stack:
                trainers = [stack.enter_context(training(config)) for config in configs]
                for trainer in trainers:
                    for _ in range(STEPS):
                        trainer.step()
                times = in_turns(min(rounds, 5), [Side(str(size), _ms(t)) for size, t in zip(sizes, trainers)])
                megabytes = [(arena_bytes(trainer) + temporary_bytes(trainer)) / MB for trainer in trainers]
                work = [count_work(trainer) for trainer in trainers]
            yield Growth(axis, sizes, [median(side.values) for side in times], megabytes,
                         [flops for flops, _ in work], [n_bytes for _, n_bytes in work])


def _ms(trainer: Trainer) -> Any:
    return lambda: settled(lambda: trainer.step().ms)


def count_work(trainer: Trainer) -> tuple[float, float]:
    """Count the operations of a step's matrix products, and the bytes of the values on its tape, shared memory once."""
    c = trainer.config
    tape = ag.tape(start_model(c).loss(*trainer.data.train_batch(np.random.default_rng(0), c.batch_size)))
    memory: dict[int, int] = {}
    for t in tape:
        for value in t.data if type(t.data) is tuple else (t.data,):
            memory[id(find_owner(value))] = find_owner(value).nbytes if t.op is not None else 0
    return sum(p.flops for p in list_products(tape)), sum(memory.values())
