"""Stochastic gradient descent with momentum."""

from typing import Any, Self

import numpy as np

from ..model.module import Array
from ..runtime.worker_pool import SINGLE, WorkerPool
from .optimizer import Optimizer
from .parameters import Parameters


class SGD(Optimizer, name="sgd"):
    """Gradient descent with momentum, in place on flat parameters, and decoupled weight decay like AdamW's.

    m ← μm + g,  p ← p − lr·λp − lr·m
    """

    help = "stochastic gradient descent with momentum"

    def __init__(self, parameters: Parameters, momentum: float = 0.9, weight_decay: float = 0.0):
        self.parameters, self.momentum, self.weight_decay = parameters, momentum, weight_decay
        self.m = np.zeros_like(parameters.data)

    @classmethod
    def from_config(cls, parameters: Parameters, config: Any) -> Self:
        return cls(parameters, config.momentum, config.weight_decay)

    def step(self, lr: float, scale: float = 1.0, pool: WorkerPool = SINGLE) -> None:
        """Update the parameters from their gradients times `scale`, with learning rate `lr`."""
        flat = self.parameters
        flat.data[:flat.n_decayed] *= 1 - lr * self.weight_decay

        def work(i: int) -> None:
            p, g, m = (a[pool.shard(a.size, i)] for a in (flat.data, flat.grad, self.m))
            m *= self.momentum
            m += g if scale == 1 else g * scale
            p -= lr * m

        pool.run(work)
        flat.bump_version()

    def state(self) -> dict[str, Array]:
        return {"m": self.m}
