"""A flat parameter buffer with its two weight decay groups, and gradient clipping by the global norm."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..model.module import Array, Module
from ..runtime.worker_pool import SINGLE, WorkerPool


class Parameters:
    """The parameters of a module that require gradients, moved into one flat array, so that an optimizer works on all
    at once; tensors that require none stay where they are.

    `data`, `grad`: flat arrays of all parameters and of their gradients, into which `backward()` accumulates.
    The first `n_decayed` are those that weight decay applies to: by default arrays of two or more axes
    (a `Trainer` leaves out convolution kernels, too).
    `views`, `grads`: views of both by parameter name.  Whoever writes into `data` calls `bump_version()`.
    """

    def __init__(self, model: Module, decay: Callable[[Any], bool] = lambda t: t.ndim >= 2):
        named = {name: t for name, t in model.named_arrays().items() if t.requires_grad}
        if not named:
            raise ValueError(f"this {type(model).__name__} has no parameter that requires a gradient")
        if len(dtypes := {t.dtype for t in named.values()}) > 1:
            raise TypeError(f"the parameters share one array, and cannot be {' and '.join(sorted(map(str, dtypes)))}: "
                            "make the model with one dtype")
        self.tensors = dict(sorted(named.items(), key=lambda item: not decay(item[1])))  # stable: decayed first
        self.n_decayed = sum(t.size for t in named.values() if decay(t))
        self.data = np.empty(sum(t.size for t in named.values()), dtypes.pop())
        self.grad = np.zeros_like(self.data)
        self.views: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}
        start = 0
        for name, t in self.tensors.items():
            end = start + t.size
            self.views[name], self.grads[name] = (a[start:end].reshape(t.shape) for a in (self.data, self.grad))
            t.use_buffers(self.views[name], self.grads[name])
            start = end

    def bump_version(self) -> None:
        """Bump the version counter of each parameter: a backward pass that mixes old and new values then raises."""
        for t in self.tensors.values():
            t.bump_version()

    touch = bump_version  # the earlier name, which optimizers from outside this package may call

    def zero_grad(self) -> None:
        """Set all gradients to 0."""
        self.grad.fill(0)


def parameter_group(name: str, t: Any) -> str:
    """Return the group of a parameter: "matrix" of attention or MLP, "convolution", or "embedding" for all others
    (embeddings, head, norm gains and biases)."""
    layer = name.split(".")[-2:-1]
    if layer in (["conv"], ["smear"]):
        return "convolution"
    return "matrix" if t.ndim == 2 and layer and layer[0].startswith("c_") else "embedding"


def global_norm(grad: Array, pool: WorkerPool = SINGLE) -> float:
    """Return the Euclidean norm of the flat gradient."""
    def sum_of_squares(i: int) -> float:
        shard = grad[pool.shard(grad.size, i)]
        return float(np.vdot(shard, shard))

    return math.sqrt(sum(pool.run(sum_of_squares)))


def clip_scale(norm: float, max_norm: float) -> float:
    """Return the factor that scales a gradient of this norm down to `max_norm`; 1 if it is no longer than that."""
    return max_norm / (norm + 1e-6) if norm > max_norm else 1.0


def clip_by_global_norm(grad: Array, max_norm: float) -> float:
    """Scale the flat gradient in place to a Euclidean norm of at most `max_norm`, and return the norm it had."""
    norm = global_norm(grad)
    if (scale := clip_scale(norm, max_norm)) != 1:
        grad *= scale
    return norm
