"""The layers of an incremental GPT, on plain arrays, with a KV cache and the state of convolutions.

For a single token each call of NumPy counts (about a microsecond), and they are chosen with that in mind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..model import gpt as gpt
from ..model.gpt import GPTConfig, Linear
from ..model.module import Array

EVERY = slice(None)


class TokenChunk:
    """New tokens (R, T) of some rows of the cache: those of row r begin at position `start[r]`, and all but the first
    `count[r]` are padding.  `rows` are among the `n_rows` of the cache."""

    def __init__(self, ids: Array, start: Sequence[int], count: Sequence[int], rows: slice | Array, n_rows: int,
                 config: GPTConfig, dtype: np.dtype):
        self.rows, self.start, self.count = rows, start, count
        self.R, self.T = ids.shape
        self.end = max(start) + self.T
        self.full = min(count) == self.T                           # no padding
        self.aligned = len(set(start)) == 1                        # all rows begin at the same position
        self.n_kv_head = config.n_kv_head or config.n_head
        self.positions: slice | Array = slice(start[0], self.end)  # of the tokens, (R T,)
        self.kv_index = self._kv_index(n_rows)                     # of the tokens in the cache (2, n_rows, G, S, d)
        self.mask = self._mask(config.n_head // self.n_kv_head, dtype)
        self.rotation: tuple[Array, Array] | None = None           # cosines and sines of rotary positions
        if self.R > 1:
            self.positions = self._grid().ravel()

    def _grid(self) -> Array:
        """Return the positions of all tokens, (R, T)."""
        return np.array(self.start)[:, None] + np.arange(self.T)

    def _kv_index(self, n_rows: int) -> tuple:
        if self.aligned:                                           # a slice is faster than an array of positions
            return EVERY, self.rows, EVERY, slice(self.start[0], self.end)
        heads = np.arange(self.n_kv_head)[:, None]
        return EVERY, np.arange(n_rows)[self.rows][:, None, None], heads, self._grid()[:, None]

    def _mask(self, n_sharing: int, dtype: np.dtype) -> Array | None:
        """Return the causal mask (R, 1, n T, S), 0 or −∞, for the n query heads that share a key; None if every token
        sees all that the cache holds."""
        if self.T == 1 and self.aligned:
            return None
        seen = np.arange(self.end) <= self._grid()[:, None, :, None]
        return np.tile(np.where(seen, 0, -np.inf).astype(dtype), (n_sharing, 1))


class Norm:
    """x / √(mean x² + eps) ⊙ gain + bias; of x − mean x, for a layer norm."""

    def __init__(self, norm: gpt.LayerNorm | gpt.RMSNorm, n: int, dtype: np.dtype, mean_removed: bool = False):
        self.gain, self.bias = norm.weight, getattr(norm, "bias", None)
        self.root, self.eps = n ** 0.5, make_positive(n * norm.eps, dtype)
        self.mean = RowMean(n, dtype) if isinstance(norm, gpt.LayerNorm) and not mean_removed else None

    def __call__(self, x: Array) -> Array:                         # (N, C) -> (N, C)
        if self.mean is not None:
            x = x - self.mean(x)
        if len(x) == 1:                                            # plain numbers are faster than arrays of one
            row = x[0]
            x = x * (self.root / math.sqrt(row.dot(row) + self.eps))
        else:
            x = x * (self.root / np.sqrt(np.vecdot(x, x) + self.eps))[:, None]
        if self.gain is not None:
            x *= self.gain
        if self.bias is not None:
            x += self.bias
        return x

    def fold_into(self, *layers: Linear) -> list[Linear]:
        """Return the linear layers that follow, with this norm's gain and bias folded in, which it then applies no
        more."""
        gain, bias = self.gain, self.bias
        self.gain = self.bias = None
        return [fold_affine(gain, bias, layer) for layer in layers]


class RowMean:
    """Mean of each row, as a matrix product, which is the fastest."""

    def __init__(self, n: int, dtype: np.dtype):
        self.weights = np.full((n, 1), 1 / n, dtype)

    def __call__(self, x: Array) -> Array:                         # (N, C) -> (N, 1)
        return x.dot(self.weights)


class ConvState:
    """A causal convolution and its state, the K − 1 inputs before the new ones."""

    def __init__(self, conv: gpt.Convolution, n_rows: int):
        K, C = conv.weight.shape
        self.weight, self.reversed = conv.weight, conv.weight[::-1].copy()
        self.state = np.zeros((n_rows, K - 1, C), conv.weight.dtype)

    def __call__(self, x: Array, chunk: TokenChunk) -> Array:               # (R T, C) -> (R T, C)
        R, T, (n, C) = chunk.R, chunk.T, self.state.shape[1:]
        every = np.concatenate([self.state[chunk.rows], x.reshape(R, T, C)], 1)  # (R, K − 1 + T, C)
        if T == 1:
            y = np.add.reduce(every * self.reversed, 1)
        else:
            y = every[:, n:] * self.weight[0]
            for k in range(1, n + 1):
                y += every[:, n - k:n - k + T] * self.weight[k]
        if chunk.full:
            self.state[chunk.rows] = every[:, T:]
        else:                                                      # the last inputs before each row's padding
            self.state[chunk.rows] = every[np.arange(R)[:, None], np.array(chunk.count)[:, None] + np.arange(n)]
        return y.reshape(R * T, C)


class Attention:
    """Attention from new tokens to themselves and to earlier ones, with their keys and values in `kv`."""

    def __init__(self, block: gpt.Block, config: GPTConfig, n_rows: int, dtype: np.dtype, fold: bool):
        c, attn = config, block.attn
        self.heads, self.d = (c.n_head, c.n_kv_head or c.n_head), c.head_size
        self.norm = Norm(block.ln_1, c.n_embd, dtype, mean_removed=fold)
        self.conv = ConvState(attn.conv, n_rows) if attn.conv else None
        self.c_attn, self.c_proj = attn.c_attn, attn.c_proj
        H, G = self.heads
        self.scale: Array | None = np.ones((H + G, 1), dtype)      # factors of queries and keys
        self.eps = make_positive(self.d * c.norm_eps, dtype) if c.qk_norm else None
        if c.qk_norm:
            self.scale[H:] = self.d ** 0.5                         # of their norms, and 1/√d of attention
        else:
            self.scale[:H] = self.d ** -0.5
        if fold:
            self.c_proj = remove_mean(self.c_proj, c)
            if self.conv is None or self.norm.bias is None:        # a convolution starts without the bias
                self.c_attn, = self.norm.fold_into(self.c_attn)
            if not c.qk_norm:
                self.c_attn, self.scale = scale_outputs(self.c_attn, self.scale.repeat(self.d)), None
        self.kv = np.zeros((2, n_rows, G, 0, self.d), dtype)       # keys and values; H / G queries share one

    def __call__(self, x: Array, chunk: TokenChunk) -> Array:               # (R T, C) -> (R T, C)
        R, T, (H, G), d = chunk.R, chunk.T, self.heads, self.d
        x = self.norm(x)
        if self.conv is not None:
            x = self.conv(x, chunk)
        qkv = linear(x, self.c_attn).reshape(R * T, H + 2 * G, d)
        qk = qkv[:, :H + G]                                        # a view
        if self.eps is not None:
            qk *= self.scale / np.sqrt(np.vecdot(qk, qk) + self.eps)[..., None]
        elif self.scale is not None:
            qk *= self.scale
        if chunk.rotation is not None:
            apply_rotary(qk, *chunk.rotation)
        self.kv[chunk.kv_index] = qkv[:, H:].reshape(R, T, 2, G, d).transpose(2, 0, 3, 1, 4)
        k, v = self.kv[:, chunk.rows, :, :chunk.end]                   # each (R, G, S, d)
        q = qkv[:, :H]
        if T > 1:                                                  # the queries of all tokens beside their keys' head
            q = q.reshape(R, T, G, H // G, d).transpose(0, 2, 3, 1, 4)
        y = attention(q.reshape(R, G, H // G * T, d), k, v, chunk.mask)
        if T > 1:
            y = y.reshape(R, G, H // G, T, d).transpose(0, 3, 1, 2, 4)
        return linear(y.reshape(R * T, H * d), self.c_proj)

    def grow(self, n: int) -> None:
        """Grow the cache to the keys and values of n tokens."""
        old = self.kv
        self.kv = np.zeros((*old.shape[:3], n, self.d), old.dtype)
        self.kv[:, :, :, :old.shape[3]] = old


class MLP:
    """A block's second part, norm and all."""

    def __init__(self, block: gpt.Block, config: GPTConfig, n_rows: int, dtype: np.dtype, fold: bool):
        mlp = block.mlp
        self.norm = Norm(block.ln_2, config.n_embd, dtype, mean_removed=fold)
        self.conv = ConvState(mlp.conv, n_rows) if mlp.conv else None
        self.c_fc, self.c_gate, self.c_proj = mlp.c_fc, mlp.c_gate, mlp.c_proj
        if fold:
            self.c_proj = remove_mean(self.c_proj, config)
            if self.conv is None or self.norm.bias is None:
                layers = [self.c_fc] if self.c_gate is None else [self.c_fc, self.c_gate]
                self.c_fc, *gate = self.norm.fold_into(*layers)
                self.c_gate = gate[0] if gate else None
        self.activation = gpt.ACTIVATIONS[config.activation]
        if config.activation == "squared_relu":
            self.activation = squared_relu
        if config.activation == "gelu" and dtype == np.float32:
            self.activation = gelu_single

    def __call__(self, x: Array, chunk: TokenChunk) -> Array:               # (R T, C) -> (R T, C)
        x = self.norm(x)
        if self.conv is not None:
            x = self.conv(x, chunk)
        hidden = linear(x, self.c_fc)                              # (R T, F)
        if self.c_gate is None:
            hidden = self.activation(hidden)
        else:
            hidden *= self.activation(linear(x, self.c_gate))
        return linear(hidden, self.c_proj)


def linear(x: Array, layer: Linear) -> Array:
    """y = x W + b"""
    y = x.dot(layer.weight)  # a microsecond faster than @
    if layer.bias is not None:
        y += layer.bias
    return y


def attention(q: Array, k: Array, v: Array, mask: Array | None) -> Array:
    """y = softmax(q kᵀ + mask) v"""
    p = q @ k.mT
    if mask is not None:
        p += mask
    p -= np.maximum.reduce(p, -1, keepdims=True)
    np.exp(p, out=p)
    y = p @ v
    y /= np.add.reduce(p, -1, keepdims=True)  # here, since y is shorter than p
    return y


def apply_rotary(x: Array, cos: Array, sin: Array) -> None:
    """Rotate the pairs of x (N, heads, d) by `rotations`, in place, as `ag.rotary` does."""
    halves = x.reshape(*x.shape[:2], 2, -1)                        # a view
    y = halves * cos
    y += halves[:, :, ::-1] * sin
    halves[...] = y


def rotations(frequencies: Array, n: int) -> tuple[Array, Array]:
    """Return (cos, cos) and (−sin, sin) of the angles at positions up to n, each (n, 1, 2, d/2)."""
    angles = (np.arange(n, dtype=frequencies.dtype)[:, None] * frequencies)[:, None, None]
    return np.cos(angles).repeat(2, 2), np.concatenate([-np.sin(angles), np.sin(angles)], 2)


# ---------------------------------------------------------------------- activations, in fewer calls


# Φ(x) = (1 + tanh(x P(x²) / Q(x²))) / 2: artanh(2 Φ(x) − 1) / x is smooth and nearly straight, so short polynomials do
# (lowest power first; fitted for the least largest error).  gelu's error is 5e-9 before rounding.
_PHI = np.array([[0.7978846917092716, 0.09884055281518771, 0.007448527298871863, 0.00018707992589218572],
                 [1.0, 0.07833894530532226, 0.005813482171204563, 3.90110269559393e-05]], np.float32)


def squared_relu(x: Array) -> Array:
    """Compute `ag.squared_relu`."""
    y = np.maximum(x, 0)
    y *= y
    return y


def gelu_single(x: Array) -> Array:
    """Compute `ag.gelu` in single precision in half as many calls: both polynomials are one product."""
    flat = x.reshape(-1)
    if flat.dot(flat) > 1e12:                                      # so that no power overflows
        return gpt.ACTIVATIONS["gelu"](x)
    powers = np.empty((4, x.size), np.float32)
    one, u, square, cube = powers
    one.fill(1)
    np.multiply(flat, flat, u)
    np.multiply(u, u, square)
    np.multiply(u, square, cube)
    y, bottom = _PHI.dot(powers)
    y /= bottom
    y *= flat
    np.tanh(y, y)
    y += one                                                       # an array of ones is faster than the number
    y *= flat
    y *= 0.5
    return y.reshape(x.shape)


# ---------------------------------------------------------------------- folding into weights


def fold_affine(gain: Array | None, bias: Array | None, layer: Linear) -> Linear:
    """Return (x ⊙ gain + bias) W + b as one linear layer of x."""
    biases = [] if layer.bias is None else [layer.bias]
    if bias is not None:
        biases.append(bias @ layer.weight)
    return Linear(layer.weight if gain is None else gain[:, None] * layer.weight, sum(biases) if biases else None)


def remove_mean(layer: Linear, config: GPTConfig) -> Linear:
    """Return a layer that adds to the residual stream without the mean of its outputs, which layer norms would take out
    again."""
    if config.norm != "layer_norm":
        return layer
    bias = None if layer.bias is None else layer.bias - layer.bias.mean()
    return Linear(layer.weight - layer.weight.mean(-1, keepdims=True), bias)


def scale_outputs(layer: Linear, factors: Array) -> Linear:
    """Return the layer with its first outputs multiplied by `factors`."""
    factors = np.concatenate([factors, np.ones(layer.weight.shape[1] - len(factors), factors.dtype)])
    return Linear(layer.weight * factors, None if layer.bias is None else layer.bias * factors)


def make_positive(eps: float, dtype: np.dtype) -> float:
    """Return `eps`, or the smallest positive number of a dtype in place of 0, so that nothing is divided by 0."""
    return max(eps, float(np.finfo(dtype).tiny))
