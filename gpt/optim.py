"""Optimization on flat buffers: Parameters, clipping, AdamW and the learning-rate schedule."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .module import Array, Module


class Parameters:
    """The parameters of a module that require gradients, moved into one flat array, so that an optimizer works
    on all at once; tensors that require none stay where they are.

    `data`, `grad`: flat arrays of all numbers and their gradients, into which `backward()` accumulates.
    The first `n_decayed` are those that weight decay applies to: by default arrays of two or more axes.
    `views`, `grads`: the parts of both by parameter name.  Whoever writes into `data` calls `touch()`.
    """

    def __init__(self, model: Module, decay: Callable[[Any], bool] = lambda t: t.ndim >= 2):
        named = {name: t for name, t in model.named_arrays().items() if t.requires_grad}
        if not named:
            raise ValueError(f"{model!r} has no parameter that requires a gradient")
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
            t.bind(self.views[name], self.grads[name])
            start = end

    def touch(self) -> None:
        """Say that `data` has changed, so that no backward mixes old and new numbers."""
        for t in self.tensors.values():
            t.touch()

    def zero_grad(self) -> None:
        self.grad.fill(0)


class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2), in place on flat parameters.

    m ← β₁m + (1−β₁)g,  v ← β₂v + (1−β₂)g²,  p ← p − lr·λp − lr·m̂ / (√v̂ + ε),
    with m̂ = m / (1−β₁ᵗ), v̂ = v / (1−β₂ᵗ), and λ only for the decayed part.
    """

    BLOCK = 1 << 16  # numbers updated at a time: all passes over them stay in the cache (a third faster than at once)

    def __init__(self, parameters: Parameters, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.01):
        self.parameters, self.betas, self.eps, self.weight_decay = parameters, betas, eps, weight_decay
        self.m, self.v = np.zeros_like(parameters.data), np.zeros_like(parameters.data)
        self.t = 0  # steps taken
        self._scratch = np.empty_like(parameters.data[:self.BLOCK])

    def step(self, lr: float) -> None:
        """Update the parameters from their gradients, with learning rate `lr`."""
        self.t += 1
        (beta1, beta2), flat = self.betas, self.parameters
        root = math.sqrt(1 - beta2 ** self.t)  # √v̂ + ε = (√v + ε·root) / root saves a pass over the array
        step, eps = lr * root / (1 - beta1 ** self.t), self.eps * root
        flat.data[:flat.n_decayed] *= 1 - lr * self.weight_decay
        for start in range(0, flat.data.size, self.BLOCK):
            p, g, m, v = (a[start:start + self.BLOCK] for a in (flat.data, flat.grad, self.m, self.v))
            s = self._scratch[:p.size]
            np.subtract(g, m, out=s)
            s *= 1 - beta1
            m += s
            np.multiply(g, g, out=s)
            s *= 1 - beta2
            v *= beta2
            v += s
            np.sqrt(v, out=s)
            s += eps
            np.divide(m, s, out=s)
            s *= step
            p -= s
        flat.touch()


def clip_by_global_norm(grad: Array, max_norm: float) -> float:
    """Scale the flat gradient in place so that its Euclidean norm is at most `max_norm`; the norm it had."""
    norm = math.sqrt(grad @ grad)
    if norm > max_norm:
        grad *= max_norm / (norm + 1e-6)
    return norm


def warmup_cosine(iter: int, learning_rate: float, min_lr: float, warmup_iters: int, decay_iters: int) -> float:
    """The learning rate of iteration `iter`, counted from 0: a line up to `learning_rate` over `warmup_iters`,
    half a cosine down to `min_lr` at `decay_iters`, and `min_lr` from there on (nanoGPT's schedule)."""
    if iter < warmup_iters:
        return learning_rate * (iter + 1) / (warmup_iters + 1)
    if iter >= decay_iters:
        return min_lr
    done = (iter - warmup_iters) / (decay_iters - warmup_iters)
    return min_lr + (learning_rate - min_lr) * (1 + math.cos(math.pi * done)) / 2
