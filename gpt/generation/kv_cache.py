"""The KV cache: what attention and convolutions keep of the tokens read so far, each at its position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from autograd.core.mode import EagerExecutor
from autograd.engine import Op

from ..model.module import Array


class Cache:
    """Keys and values, and inputs of convolutions, of the tokens that a GPT has read of each of B texts:
    `model(ids, cache)` reads on.

    It stands in for the two operations by which tokens see others, `attention` and `causal_conv`.  Each token lies at
    its position, and what lies at later ones, of padding or of an earlier text, is never looked at.

    room: positions that there is room for.  arrays: what is kept, (B, …, room, n), in the order in which the model asks
    for it.
    """

    def __init__(self, room: int, arrays: Sequence[Array] = ()):
        self.room, self.arrays = room, list(arrays)
        self.given: Any = None  # positions of the new tokens, as a program's input
        self.move([0])

    def move(self, starts: Sequence[int], T: int = 1) -> None:
        """Let the next T tokens of each text begin at position `starts[b]`; more than one at the same for all."""
        self.start, self.end, self.mask = min(starts), max(starts) + T, None
        self.aligned = self.start + T == self.end
        if not self.aligned and T > 1:
            raise ValueError("texts at different positions read one new token each")
        self.positions = np.array(starts)[:, None] if T == 1 else np.arange(self.start, self.end)  # (B, 1) or (T,)
        if T > 1 or not self.aligned:
            seen = np.arange(self.end) <= self.positions[..., None]            # (T, S), or (B, 1, S)
            self.mask = np.where(seen if T > 1 else seen[:, None, None], 0, -np.inf)

    def begin(self, dtype: Any) -> Array:
        """Begin a forward pass over new tokens, and return their positions, as `dtype`: (T,), or (B, 1) for T = 1."""
        self.asked, self.dtype = 0, dtype
        return self.positions.astype(dtype) if self.given is None else self.given

    def attention(self, q: Array, k: Array, v: Array, causal: bool = True) -> Array:
        """Return the attention of new tokens, q (B, H, T, d), to those before and to each other, k and v (B, G, T, d).
        """
        return _attention(q, k, v, cache=self, keys=self._next(k), values=self._next(v))

    def causal_conv(self, x: Array, weight: Array) -> Array:
        """Return the convolution of new tokens x (B, T, C), and those before, with the taps `weight` (K, C)."""
        return _causal_conv(x, weight, cache=self, kept=self._next(x, len(weight) - 1))

    def take(self, rows: Sequence[int] | Array) -> Cache:
        """Return a cache of its own for some of the texts."""
        return Cache(self.room, [a[rows] for a in self.arrays])

    def put(self, rows: Sequence[int] | Array, cache: Cache) -> None:
        """Take over what a cache made by `take` keeps of these texts."""
        for mine, its in zip(self.arrays, cache.arrays):
            mine[rows] = its

    def grow(self, room: int) -> None:
        """Make room for more positions; an array at a time, since its old one takes memory meanwhile."""
        for i, old in enumerate(self.arrays):
            self.arrays[i] = np.zeros((*old.shape[:-2], old.shape[-2] + room - self.room, old.shape[-1]), old.dtype)
            self.arrays[i][..., :old.shape[-2], :] = old
        self.room = room

    def _next(self, x: Array, before: int = 0) -> int:
        """Return the number of the array for x (B, …, T, n), with so many zeros before the first token."""
        if self.asked == len(self.arrays):
            self.arrays.append(np.zeros((*x.shape[:-2], before + self.room, x.shape[-1]), x.dtype))
        self.asked += 1
        return self.asked - 1

    def _store(self, kept: Array, new: Array, before: int = 0) -> None:
        """Write new tokens (B, …, T, n) to their positions."""
        if self.aligned:
            kept[..., self.start + before:self.end + before, :] = new
        else:
            kept[range(len(new)), ..., self.positions[:, 0] + before, :] = new[..., 0, :]

    def _attend(self, q: Array, k: Array, v: Array, keys: Array, values: Array, y: Array, scale: Array) -> None:
        """Store k and v (B, G, T, d), and write the attention of q (B, G, H/G, T, d) into y."""
        self._store(keys, k)
        self._store(values, v)
        p = q @ keys[:, :, None, :self.end].mT                                 # (B, G, H/G, T, S)
        p *= scale
        if self.mask is not None:
            self.mask = self.mask.astype(p.dtype, copy=False)
            p += self.mask
        p -= np.maximum.reduce(p, -1, keepdims=True)
        np.exp(p, p)
        np.matmul(p, values[:, :, None, :self.end], y)
        y /= np.add.reduce(p, -1, keepdims=True)                               # here, since y is shorter than p

    def _convolve(self, x: Array, weight: Array, kept: Array, y: Array) -> None:
        """Store x (B, T, C), and write its convolution into y; the taps are those for the farthest token first."""
        T, n = x.shape[1], len(weight) - 1
        self._store(kept, x, n)
        seen = kept[:, self.start:self.end + n] if self.aligned else \
            kept[np.arange(len(x))[:, None], self.positions + np.arange(n + 1)]
        if T == 1:
            np.add.reduce(seen * weight, 1, out=y, keepdims=True)
            return
        np.multiply(seen[:, :T], weight[0], y)
        for k in range(1, n + 1):
            y += seen[:, k:k + T] * weight[k]


# ---------------------------------------------------------------------- the operations that a cache stands in for


class _Kernel:
    """The kernel of an op whose formula leaves its work to an executor."""

    def __init__(self, formula: Callable[..., Array]):
        self.formula = formula

    def forward(self, executor: Any, *inputs: Array, **attrs: Any) -> tuple[Array, None]:
        """Return the formula's result, and nothing that is saved."""
        return self.formula(*inputs, **attrs, executor=executor), None


@partial(Op, differentiable=False)
def _attention(q: Array, k: Array, v: Array, cache: Any = None, keys: int = 0, values: int = 0,
               executor: Any = EagerExecutor) -> Array:
    """Attention of new tokens to those in the cache and to each other."""
    y, (B, G, T, d) = executor.empty_like(q), k.shape
    heads = (B, G, q.shape[1] // G, T, d)                                  # queries beside their key's head
    kept = executor.constant(cache.arrays[keys]), executor.constant(cache.arrays[values])
    scale = executor.constant(np.array([d ** -0.5], q.dtype))              # an array is faster than the number
    executor.run(cache._attend, q.reshape(heads), k, v, *kept, y.reshape(heads), scale)
    return y


@partial(Op, differentiable=False)
def _causal_conv(x: Array, weight: Array, cache: Any = None, kept: int = 0, executor: Any = EagerExecutor) -> Array:
    """Causal convolution of new tokens and those in the cache."""
    y = executor.empty_like(x)
    executor.run(cache._convolve, x, weight[::-1], executor.constant(cache.arrays[kept]), y)
    return y


for _op in (_attention, _causal_conv):
    _op.kernels[np.ndarray] = _Kernel(_op.formula)
