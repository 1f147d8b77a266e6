"""Lion: the sign of an interpolated momentum."""

from typing import Any, Self

import numpy as np

from ..model.module import Array
from ..runtime.worker_pool import SINGLE, WorkerPool
from .optimizer import Optimizer
from .parameters import Parameters


class Lion(Optimizer, name="lion"):
    """Sign descent on an interpolated momentum (Chen et al. 2023, algorithm 2), with decoupled weight decay.

    u = sign(β₁m + (1−β₁)g),  p ← p − lr·λp − lr·u,  m ← β₂m + (1−β₂)g
    """

    help = "sign of the momentum, at about a tenth of AdamW's learning rate"

    def __init__(self, parameters: Parameters, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0):
        self.parameters, self.betas, self.weight_decay = parameters, betas, weight_decay
        self.m = np.zeros_like(parameters.data)

    @classmethod
    def from_config(cls, parameters: Parameters, config: Any) -> Self:
        return cls(parameters, (config.beta1, config.beta2), config.weight_decay)

    def step(self, lr: float, scale: float = 1.0, pool: WorkerPool = SINGLE) -> None:
        flat, (beta1, beta2) = self.parameters, self.betas
        flat.data[:flat.n_decayed] *= 1 - lr * self.weight_decay

        def work(i: int) -> None:
            p, g, m = (a[pool.shard(a.size, i)] for a in (flat.data, flat.grad, self.m))
            g = g * scale
            p -= lr * np.sign(beta1 * m + (1 - beta1) * g)
            m *= beta2
            m += (1 - beta2) * g

        pool.run(work)
        flat.bump_version()

    def state(self) -> dict[str, Array]:
        return {"m": self.m}
