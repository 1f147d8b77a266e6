"""Replicas of a model: a batch is cut into slices, and each thread computes the gradient of one in its own buffers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import autograd as ag

from ..data.dataset import IGNORED
from ..model.module import Array
from ..optim.optim import Parameters
from ..runtime.worker_pool import Team

Slice = tuple[Array, Array, float]  # ids, targets, and the share of the batch's places that count


class Replicas:
    """Copies of a model for the threads of a team.  They share its parameters; each has gradients of its own, and the
    recorded programs of its loss (`ag.record`), which are faster for small models.  Without `record` the loss is
    computed anew each time, with the same bits and a third of the memory.  `norm` is the Euclidean norm of the last
    gradient.

    Sums round differently with another number of replicas, but never with another timing.
    """

    def __init__(self, model: Any, parameters: Parameters, team: Team, random: Sequence[np.random.Generator | None],
                 record: bool = True):
        self.parameters, self.team, self.random, self.record = parameters, team, random, record
        self.grads = [parameters.grad, *[np.zeros_like(parameters.grad) for _ in range(1, team.n)]]
        self.models = [model, *[_copy(model, parameters, grad) for grad in self.grads[1:]]]
        self._copied = [t for m in self.models[1:] for t in m.named_arrays().values()]
        self.norm = math.nan
        self._trained: list[Any] = [None] * team.n   # programs of the loss, with dropout and a way back
        self._judged: list[Any] = [None] * team.n    # programs without

    def gradient(self, ids: Array, targets: Array) -> float:
        """The mean loss of a batch (B, T), whose gradient is then in `parameters.grad`, and its norm in `norm`.  Raises
        ValueError for a batch without elements."""
        slices = self.slices(ids, targets)

        def part(i: int) -> float:
            ids, targets, share = slices[i]
            with np.errstate(all="ignore"):  # a loss that is not finite is the trainer's to tell
                if not self.record:
                    self.grads[i].fill(0)
                    computed = self.models[i].loss(ids, targets, self.random[i])
                    computed.backward(np.asarray(share, computed.dtype))
                    return share * float(computed.data)
                if self._trained[i] is None:
                    self._trained[i] = ag.record(self.models[i].loss, ids, targets, self.random[i])
                loss = self._trained[i](ids, targets, self.random[i])
                self._trained[i].backward(np.asarray(share, loss.dtype))
                return share * float(loss)

        losses = self.team.run(part, len(slices))
        squares = self.team.run(lambda i: self._add_up(len(slices), self.team.share(self.parameters.grad.size, i)))
        self.norm = math.sqrt(sum(squares))
        return sum(losses)

    def loss(self, ids: Array, targets: Array) -> float:
        """The mean loss of a batch (B, T), without dropout.  Raises ValueError for a batch without elements."""
        slices = self.slices(ids, targets)

        def part(i: int) -> float:
            ids, targets, share = slices[i]
            with np.errstate(all="ignore"):
                if not self.record:
                    return share * float(ag.no_grad(self.models[i].loss)(ids, targets).data)
                if self._judged[i] is None:
                    self._judged[i] = ag.record(ag.no_grad(self.models[i].loss), ids, targets)
                return share * float(self._judged[i](ids, targets))

        return sum(self.team.run(part, len(slices)))

    def slices(self, ids: Array, targets: Array) -> list[Slice]:
        """The batch in parts, at most one for each thread."""
        if not ids.size:
            raise ValueError(f"a batch of shape {ids.shape} has no elements, and so no mean loss: give it some rows")
        n = min(self.team.n, len(ids))
        cuts = [len(ids) * i // n for i in range(n + 1)]
        counted = (targets != IGNORED).sum(axis=-1)
        slices = [(ids[a:b], targets[a:b], float(counted[a:b].sum() / max(counted.sum(), 1)))
                  for a, b in zip(cuts, cuts[1:])]
        return [part for part in slices if part[2]] or slices[:1]  # where nothing counts there is no mean

    def bump_version(self) -> None:
        """Say that the parameters have changed."""
        for t in self._copied:
            t.bump_version()

    def _add_up(self, n: int, part: slice) -> float:
        """Add up a part of the first `n` gradients, in the first; the sum of its squares, while it is in the cache."""
        total = self.grads[0][part]
        for grad in self.grads[1:n]:
            total += grad[part]
        return float(np.vdot(total, total))


def _copy(model: Any, parameters: Parameters, grad: Array) -> Any:
    """The model on the same numbers, whose gradients lie in `grad`."""
    new, start = {}, 0
    for name, t in parameters.tensors.items():
        new[t] = copy = ag.tensor(t, requires_grad=True, name=t.name)
        copy.use_buffers(parameters.views[name], grad[start:start + t.size].reshape(t.shape))
        start += t.size
    return model.map(lambda t: new.get(t, t))
