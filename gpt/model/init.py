"""Initial values of a GPT: random weights, zeros and ones, and the constants of position encodings."""

from dataclasses import dataclass
from typing import Any

import numpy as np

import autograd as ag

from .module import Array

STD = 0.02  # standard deviation of all random weights, as in GPT-2 (Radford et al. 2019)


class Initializer:
    """Makes parameters and constants of a dtype.  Random ones are drawn one after the other; with a `seed` of None they
    are 0, for a model whose weights are then loaded."""

    def __init__(self, seed: int | None, dtype: Any):
        self.rng, self.dtype = None if seed is None else np.random.default_rng(seed), dtype

    def normal(self, *shape: int, std: float = STD) -> Array:
        """Return normal numbers of mean 0; zeros for a `std` of 0."""
        if self.rng is None or std == 0:
            return self.zeros(*shape)
        return self.parameter(self.rng.normal(0, std, shape))

    def zeros(self, *shape: int) -> Array:
        """Return a parameter of zeros."""
        return self.parameter(np.zeros(shape, self.dtype))

    def ones(self, *shape: int) -> Array:
        """Return a parameter of ones."""
        return self.parameter(np.ones(shape))

    def identity_conv(self, k: int, n: int) -> Array:
        """Return the kernel (k, n) of a causal convolution that is the identity: 1 for the token itself, 0 for those
        before."""
        return self.parameter(np.eye(k, 1) * np.ones(n))

    def parameter(self, a: Array) -> Array:
        """Return a Tensor that requires a gradient."""
        return ag.tensor(a, dtype=self.dtype, requires_grad=True)

    def constant(self, a: Array) -> Array:
        """Return a Tensor that requires none."""
        return ag.tensor(a, dtype=self.dtype)


@dataclass
class Blank:
    """The place of an array that is to come."""

    shape: tuple[int, ...]
    dtype: np.dtype
    requires_grad: bool
    name: str = ""


class Blanks(Initializer):
    """Makes places of arrays, which take no memory: `GPT(config, Blanks()).map(fn)` is a model of `fn(blank)`."""

    def __init__(self, dtype: Any = np.float32):
        super().__init__(None, np.dtype(dtype))

    def parameter(self, a: Array) -> Array:
        """Return the place of a parameter."""
        return Blank(np.shape(a), self.dtype, True)

    def constant(self, a: Array) -> Array:
        """Return the place of an array that is not learned."""
        return Blank(np.shape(a), self.dtype, False)


def sinusoids(n: int, n_embd: int) -> Array:
    """Return sinusoidal position embeddings (n, n_embd): PE(t, 2i) = sin(t / 10000^(2i/C)), and the cosine at 2i + 1
    (Vaswani et al. 2017, 3.5), scaled to the standard deviation 0.02 of the token embedding."""
    i = np.arange(n_embd)
    angle = np.arange(n)[:, None] / 10000 ** (i // 2 * 2 / n_embd)
    return STD * 2 ** 0.5 * np.where(i % 2, np.cos(angle), np.sin(angle))


def frequencies(head_size: int, base: float) -> Array:
    """Return the frequencies of rotary position embeddings (RoPE), in radians a token: base^(−2i/d), (d/2,)
    (Su et al. 2021, 3.2)."""
    return base ** (-np.arange(0, head_size, 2) / head_size)
