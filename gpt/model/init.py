"""The numbers that a GPT starts with: random weights, zeros and ones, and the constants of positions."""

from typing import Any

import numpy as np

import autograd as ag

from .module import Array

STD = 0.02  # GPT-2's, of all random weights (Radford et al. 2019)


class Initial:
    """Parameters, and constants, of a dtype; the random ones drawn one after the other, or 0 for a `seed` of None, for
    a model whose numbers come from elsewhere."""

    def __init__(self, seed: int | None, dtype: Any):
        self.rng, self.dtype = None if seed is None else np.random.default_rng(seed), dtype

    def normal(self, *shape: int, std: float = STD) -> Array:
        """Normal numbers of mean 0; zeros for a `std` of 0."""
        if self.rng is None or std == 0:
            return self.zeros(*shape)
        return self.parameter(self.rng.normal(0, std, shape))

    def zeros(self, *shape: int) -> Array:
        return self.parameter(np.zeros(shape, self.dtype))

    def ones(self, *shape: int) -> Array:
        return self.parameter(np.ones(shape))

    def first(self, k: int, n: int) -> Array:
        """Taps (k, n) of a convolution that changes nothing: 1 for the token itself, 0 for those before."""
        return self.parameter(np.eye(k, 1) * np.ones(n))

    def parameter(self, a: Array) -> Array:
        return ag.tensor(a, dtype=self.dtype, requires_grad=True)

    def constant(self, a: Array) -> Array:
        return ag.tensor(a, dtype=self.dtype)


def sinusoids(n: int, n_embd: int) -> Array:
    """Sines and cosines of wavelengths 2π to 20,000π, (n, n_embd): PE(t, 2i) = sin(t / 10000^(2i/C)), cosine at
    2i + 1 (Vaswani et al. 2017, 3.5), scaled to the 0.02 of the token embedding, which they would drown."""
    i = np.arange(n_embd)
    angle = np.arange(n)[:, None] / 10000 ** (i // 2 * 2 / n_embd)
    return STD * 2 ** 0.5 * np.where(i % 2, np.cos(angle), np.sin(angle))


def frequencies(head_size: int, base: float) -> Array:
    """How far rotary positions turn each pair, in radians a token: base^(−2i/d), (d/2,) (Su et al. 2021, 3.2)."""
    return base ** (-np.arange(0, head_size, 2) / head_size)
