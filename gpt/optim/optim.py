"""Optimization on flat buffers: Parameters, clipping, AdamW, SGD and the schedules of the learning rate."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import autograd as ag

from ..model.module import Array, Module
from ..runtime.worker_pool import SINGLE, WorkerPool

SCHEDULES = ("cosine", "linear", "trapezoidal", "constant")
FALLING = 0.2  # the share of the steps after the warm-up in which a trapezoid falls


class Parameters:
    """The parameters of a module that require gradients, moved into one flat array, so that an optimizer works
    on all at once; tensors that require none stay where they are.

    `data`, `grad`: flat arrays of all numbers and their gradients, into which `backward()` accumulates.
    The first `n_decayed` are those that weight decay applies to: by default arrays of two or more axes.
    `views`, `grads`: the parts of both by parameter name.  Whoever writes into `data` calls `bump_version()`.
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
        """Say that `data` has changed, so that no backward mixes old and new numbers."""
        for t in self.tensors.values():
            t.bump_version()

    touch = bump_version  # the earlier name, which optimizers from outside this package may call

    def zero_grad(self) -> None:
        self.grad.fill(0)


class SGD:
    """Gradient descent with momentum, in place on flat parameters, and decoupled weight decay like AdamW's.

    m ← μm + g,  p ← p − lr·λp − lr·m
    """

    def __init__(self, parameters: Parameters, momentum: float = 0.9, weight_decay: float = 0.0):
        self.parameters, self.momentum, self.weight_decay = parameters, momentum, weight_decay
        self.m = np.zeros_like(parameters.data)

    def step(self, lr: float, scale: float = 1.0, pool: WorkerPool = SINGLE) -> None:
        """Update the parameters from their gradients times `scale`, with learning rate `lr`."""
        flat = self.parameters
        flat.data[:flat.n_decayed] *= 1 - lr * self.weight_decay

        def part(i: int) -> None:
            p, g, m = (a[pool.shard(a.size, i)] for a in (flat.data, flat.grad, self.m))
            m *= self.momentum
            m += g if scale == 1 else g * scale
            p -= lr * m

        pool.run(part)
        flat.bump_version()

    def state(self) -> dict[str, Array]:
        """The arrays that the next step depends on, to be saved and filled again."""
        return {"m": self.m}


class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2), in place on flat parameters.

    m ← β₁m + (1−β₁)g,  v ← β₂v + (1−β₂)g²,  p ← p − lr·λp − lr·m̂ / (√v̂ + ε),
    with m̂ = m / (1−β₁ᵗ), v̂ = v / (1−β₂ᵗ), and λ only for the decayed part.
    """

    def __init__(self, parameters: Parameters, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.01):
        self.parameters, self.betas, self.eps, self.weight_decay = parameters, betas, eps, weight_decay
        self.m, self.v = np.zeros_like(parameters.data), np.zeros_like(parameters.data)
        self.steps = np.zeros((), np.int64)  # taken; an array, to be saved and filled like the others

    def step(self, lr: float, scale: float = 1.0, pool: WorkerPool = SINGLE) -> None:
        """Update the parameters from their gradients times `scale`, with learning rate `lr`."""
        self.steps += 1
        (beta1, beta2), flat, t = self.betas, self.parameters, int(self.steps)

        def part(i: int) -> None:
            mine = pool.shard(flat.data.size, i)
            middle = min(max(flat.n_decayed, mine.start), mine.stop)
            decayed, others = slice(mine.start, middle), slice(middle, mine.stop)
            with np.errstate(all="ignore"):  # weights that are not finite are told of when they are to be saved
                for piece, decay in (decayed, self.weight_decay), (others, 0.0):
                    ag.kernels.adamw_step(flat.data[piece], flat.grad[piece], self.m[piece], self.v[piece], lr, beta1,
                                          beta2, self.eps, decay, 1 - beta1 ** t, 1 - beta2 ** t, scale)

        pool.run(part)
        flat.bump_version()

    def state(self) -> dict[str, Array]:
        """The arrays that the next step depends on, to be saved and filled again."""
        return {"m": self.m, "v": self.v, "steps": self.steps}


def global_norm(grad: Array, pool: WorkerPool = SINGLE) -> float:
    """The Euclidean norm of the flat gradient."""
    return math.sqrt(sum(pool.run(lambda i: float(np.vdot(part := grad[pool.shard(grad.size, i)], part)))))


def clip_scale(norm: float, max_norm: float) -> float:
    """What a gradient of this norm is multiplied by so that it has at most `max_norm`."""
    return max_norm / (norm + 1e-6) if norm > max_norm else 1.0


def clip_by_global_norm(grad: Array, max_norm: float) -> float:
    """Scale the flat gradient in place so that its Euclidean norm is at most `max_norm`; the norm it had."""
    norm = global_norm(grad)
    if (scale := clip_scale(norm, max_norm)) != 1:
        grad *= scale
    return norm


def learning_rate_at(iter: int, schedule: str, largest: float, least: float, warmup_iters: int,
                     decay_iters: int, falling: float = FALLING) -> float:
    """The learning rate of iteration `iter`, counted from 0: a line up to `largest` over `warmup_iters`, and then by

    "cosine": half a cosine down to `least` at `decay_iters` (nanoGPT's schedule);  "linear": a line down to it;
    "trapezoidal": `largest`, and over the last share `falling` of the steps after the warm-up a line down (Hägele et
    al. 2024);  "constant": `largest`.
    From `decay_iters` on it is `least`, or in "constant" as before.
    """
    if iter < warmup_iters:
        return largest * (iter + 1) / (warmup_iters + 1)
    if schedule == "constant":
        return largest
    if iter >= decay_iters:
        return least
    done = (iter - warmup_iters) / (decay_iters - warmup_iters)
    match schedule:
        case "cosine":
            share = (1 + math.cos(math.pi * done)) / 2
        case "linear":
            share = 1 - done
        case "trapezoidal":
            share = min(1.0, (1 - done) / falling)
        case _:
            raise ValueError(f"schedule is {schedule!r}, and needs to be one of {', '.join(SCHEDULES)}")
    return least + (largest - least) * share
