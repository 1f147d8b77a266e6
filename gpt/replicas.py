"""Replicas: a batch is cut into slices, and each core computes the gradient of one, on a thread and with buffers of its
own.  NumPy's loops and matrix products let the other threads run meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import autograd as ag

from .module import Array
from .optim import Parameters

IGNORED = -100  # the target of a place that does not count


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Team:
    """`n` threads, the calling one among them, that each do a part of some work.

    Within `with team:` a matrix product uses one core, since the parts use them all.
    """

    def __init__(self, n: int):
        self.n = n

    def __enter__(self) -> Team:
        self._pool = ThreadPoolExecutor(max(self.n - 1, 1), thread_name_prefix="replica")
        self._limits = threadpool_limits(1 if self.n > 1 else None, "blas")
        return self

    def __exit__(self, *error: Any) -> None:
        self._limits.restore_original_limits()
        self._pool.shutdown()

    def run(self, part: Callable[[int], Any], n: int | None = None) -> list[Any]:
        """`[part(0), part(1), …]`, for each of the team or the first `n`, at the same time."""
        others = [self._pool.submit(part, i) for i in range(1, self.n if n is None else n)]
        try:
            return [part(0), *[other.result() for other in others]]
        finally:
            for other in others:  # nobody is left at work on shared arrays, whatever went wrong
                other.exception()


class Replicas:
    """Copies of a model for the threads of a team.  They share its parameters; each has gradients of its own, and the
    recorded program of its loss (`ag.record`).

    Sums round differently with another number of replicas, but never with another timing.
    """

    def __init__(self, model: Any, parameters: Parameters, team: Team,
                 random: Sequence[np.random.Generator | None] | None = None):
        self.parameters, self.team, self.random = parameters, team, random or [None] * team.n
        self.grads = [parameters.grad, *[np.zeros_like(parameters.grad) for _ in range(1, team.n)]]
        self.models = [model, *[_copy(model, parameters, grad) for grad in self.grads[1:]]]
        self.programs: list[Any] = [None] * team.n

    def gradient(self, ids: Array, targets: Array) -> float:
        """The mean loss of a batch (B, T), whose gradient is then in `parameters.grad`."""
        parts = self._parts(ids, targets)

        def part(i: int) -> float:
            part_ids, part_targets, share = parts[i]
            loss = self._forward(i, part_ids, part_targets)
            self.programs[i].backward(np.asarray(share, loss.dtype))
            return share * float(loss)

        losses = self.team.run(part, len(parts))
        self.team.run(lambda i: self._add_up(len(parts), *self.share(i)))
        return sum(losses)

    def loss(self, ids: Array, targets: Array) -> float:
        """The mean loss of a batch (B, T)."""
        parts = self._parts(ids, targets)
        return sum(self.team.run(lambda i: parts[i][2] * float(self._forward(i, *parts[i][:2])), len(parts)))

    def share(self, i: int) -> tuple[int, int]:
        """Where the part of the flat parameters that thread `i` works on begins and ends."""
        size = self.parameters.data.size
        return size * i // self.team.n, size * (i + 1) // self.team.n

    def touch(self) -> None:
        """Say that the parameters have changed."""
        for model in self.models:
            for t in model.named_arrays().values():
                t.touch()

    def _forward(self, i: int, ids: Array, targets: Array) -> Array:
        if self.programs[i] is None:
            self.programs[i] = ag.record(self.models[i].loss, ids, targets, self.random[i])
        return self.programs[i](ids, targets, self.random[i])

    def _parts(self, ids: Array, targets: Array) -> list[tuple[Array, Array, float]]:
        """The slices of a batch, and the share of its places that each holds."""
        n = min(self.team.n, len(ids))
        cuts = [len(ids) * i // n for i in range(n + 1)]
        counted = max(int((targets != IGNORED).sum()), 1)
        return [(ids[a:b], targets[a:b], int((targets[a:b] != IGNORED).sum()) / counted) for a, b in zip(cuts, cuts[1:])]

    def _add_up(self, n: int, start: int, end: int) -> None:
        total = self.grads[0][start:end]
        for grad in self.grads[1:n]:
            total += grad[start:end]


def _copy(model: Any, parameters: Parameters, grad: Array) -> Any:
    """The model on the same numbers, whose gradients lie in `grad`."""
    new, start = {}, 0
    for name, t in parameters.tensors.items():
        new[t] = copy = ag.tensor(t, requires_grad=True, name=t.name)
        copy.bind(parameters.views[name], grad[start:start + t.size].reshape(t.shape))
        start += t.size
    return model.map(lambda t: new.get(t, t))
