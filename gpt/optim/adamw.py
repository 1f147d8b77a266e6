"""AdamW: Adam with decoupled weight decay."""

from typing import Any, Self

import numpy as np

import autograd as ag

from ..model.module import Array
from ..runtime.worker_pool import SINGLE, WorkerPool
from .optimizer import Optimizer
from .parameters import Parameters


class AdamW(Optimizer, name="adamw"):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2), in place on flat parameters.

    m ← β₁m + (1−β₁)g,  v ← β₂v + (1−β₂)g²,  p ← p − lr·λp − lr·m̂ / (√v̂ + ε),
    with m̂ = m / (1−β₁ᵗ), v̂ = v / (1−β₂ᵗ), and λ only for the decayed parameters.
    """

    help = "Adam with decoupled weight decay"

    def __init__(self, parameters: Parameters, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.01):
        self.parameters, self.betas, self.eps, self.weight_decay = parameters, betas, eps, weight_decay
        self.m, self.v = np.zeros_like(parameters.data), np.zeros_like(parameters.data)
        self.steps = np.zeros((), np.int64)  # taken so far; an array, so that it is saved and filled like the others

    @classmethod
    def from_config(cls, parameters: Parameters, config: Any) -> Self:
        return cls(parameters, (config.beta1, config.beta2), weight_decay=config.weight_decay)

    def step(self, lr: float, scale: float = 1.0, pool: WorkerPool = SINGLE) -> None:
        """Update the parameters from their gradients times `scale`, with learning rate `lr`."""
        self.steps += 1
        (beta1, beta2), flat, t = self.betas, self.parameters, int(self.steps)

        def work(i: int) -> None:
            shard = pool.shard(flat.data.size, i)
            middle = min(max(flat.n_decayed, shard.start), shard.stop)
            decayed, others = slice(shard.start, middle), slice(middle, shard.stop)
            with np.errstate(all="ignore"):  # saving raises for weights that are not finite
                for at, decay in (decayed, self.weight_decay), (others, 0.0):
                    ag.kernels.adamw_step(flat.data[at], flat.grad[at], self.m[at], self.v[at], lr, beta1, beta2,
                                          self.eps, decay, 1 - beta1 ** t, 1 - beta2 ** t, scale)

        pool.run(work)
        flat.bump_version()

    def state(self) -> dict[str, Array]:
        return {"m": self.m, "v": self.v, "steps": self.steps}
