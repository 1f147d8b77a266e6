"""Data parallelism: each replica computes the gradient of its slice of the batch, and an all-reduce sums them: over the
threads of a process here, and over the ranks of a job by MPI."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import autograd as ag

from ..data.dataset import IGNORED
from ..model.module import Array
from ..optim.parameters import Parameters
from ..runtime.ranks import ALONE, Ranks
from ..runtime.worker_pool import WorkerPool

Slice = tuple[Array, Array, float]  # ids, targets, and their weight: the fraction of the batch's targets that count


class Replicas:
    """Copies of a model, one per worker, for data-parallel training.

    They share the parameters; each has its own gradient buffer and its own captured programs of the loss (`ag.record`),
    which are faster for small models.  Without `record` the loss runs eagerly: the same bits from a third of the
    memory.  `norm` is the Euclidean norm of the last gradient of this process.

    Of several ranks each works on its shard of a batch, of which all are given the whole.  The order of summation, and
    so rounding, depends on the numbers of ranks and replicas, but never on timing.
    """

    def __init__(self, model: Any, parameters: Parameters, pool: WorkerPool,
                 random: Sequence[np.random.Generator | None], record: bool = True, ranks: Ranks = ALONE):
        self.parameters, self.pool, self.random, self.record, self.ranks = parameters, pool, random, record, ranks
        self.grads = [parameters.grad, *[np.zeros_like(parameters.grad) for _ in range(1, pool.n)]]
        self.models = [model, *[_copy(model, parameters, grad) for grad in self.grads[1:]]]
        self._copied = [t for m in self.models[1:] for t in m.named_arrays().values() if t.requires_grad]
        self.norm = math.nan
        self._train_programs: list[Any] = [None] * pool.n  # of the loss with dropout, and its backward pass
        self._eval_programs: list[Any] = [None] * pool.n   # of the loss alone, without dropout

    def gradient(self, ids: Array, targets: Array) -> float:
        """Return the mean loss of a batch (B, T); its gradient, or of several ranks this one's term of it, is then in
        `parameters.grad`, and the norm of that in `norm`.  Raises ValueError for a batch without elements."""
        slices = self.slices(ids, targets)

        def work(i: int) -> float:
            ids, targets, weight = slices[i]
            with np.errstate(all="ignore"):  # the trainer raises for a loss that is not finite
                if not self.record:
                    self.grads[i].fill(0)
                    computed = self.models[i].loss(ids, targets, self.random[i])
                    computed.backward(np.asarray(weight, computed.dtype))
                    return weight * float(computed.data)
                if self._train_programs[i] is None:
                    self._train_programs[i] = ag.record(self.models[i].loss, ids, targets, self.random[i])
                loss = self._train_programs[i](ids, targets, self.random[i])
                self._train_programs[i].backward(np.asarray(weight, loss.dtype))
                return weight * float(loss)

        if not slices:  # fewer rows than ranks
            self.parameters.grad.fill(0)
            return self.ranks.sum(0.0)
        losses = self.pool.run(work, len(slices))
        squares = self.pool.run(lambda i: self._all_reduce(len(slices), self.pool.shard(self.parameters.grad.size, i)))
        self.norm = math.sqrt(sum(squares))
        return self.ranks.sum(sum(losses))

    def loss(self, ids: Array, targets: Array) -> float:
        """Return the mean loss of a batch (B, T), without dropout.  Raises ValueError for a batch without elements."""
        slices = self.slices(ids, targets)

        def work(i: int) -> float:
            ids, targets, weight = slices[i]
            with np.errstate(all="ignore"):
                if not self.record:
                    return weight * float(ag.no_grad(self.models[i].loss)(ids, targets).data)
                if self._eval_programs[i] is None:
                    self._eval_programs[i] = ag.record(ag.no_grad(self.models[i].loss), ids, targets)
                return weight * float(self._eval_programs[i](ids, targets))

        return self.ranks.sum(sum(self.pool.run(work, len(slices))) if slices else 0.0)

    def slices(self, ids: Array, targets: Array) -> list[Slice]:
        """Split this rank's shard of the batch along its rows into at most one slice per worker."""
        if not ids.size:
            raise ValueError(f"a batch of shape {ids.shape} has no elements, and so no mean loss: give it some rows")
        rows = self.ranks.shard(len(ids))
        n_rows = rows.stop - rows.start
        n = min(self.pool.n, n_rows)
        cuts = [rows.start + n_rows * i // n for i in range(n + 1)] if n else []
        counted = (targets != IGNORED).sum(axis=-1)
        slices = [(ids[a:b], targets[a:b], float(counted[a:b].sum() / max(counted.sum(), 1)))
                  for a, b in zip(cuts, cuts[1:])]
        if counted.any():
            return [each for each in slices if each[2]]
        return slices[:1]  # its loss is nan

    def bump_version(self) -> None:
        """Bump the version counters of the copies: the parameters have changed."""
        for t in self._copied:
            t.bump_version()

    def _all_reduce(self, n: int, shard: slice) -> float:
        """Sum a shard of the first `n` gradients into the first one, and return its sum of squares, while it is in the
        cache."""
        total = self.grads[0][shard]
        for grad in self.grads[1:n]:
            total += grad[shard]
        return float(np.vdot(total, total))


def _copy(model: Any, parameters: Parameters, grad: Array) -> Any:
    """Return a copy of the model on the same parameter buffer, whose gradients accumulate in `grad`."""
    new, start = {}, 0
    for name, t in parameters.tensors.items():
        new[t] = copy = ag.tensor(t, requires_grad=True, name=t.name)
        copy.use_buffers(parameters.views[name], grad[start:start + t.size].reshape(t.shape))
        start += t.size
    return model.map(lambda t: new.get(t, t))
