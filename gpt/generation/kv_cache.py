"""The parts of a GPT that reads only new tokens: what each computes, on plain arrays, and what it remembers of earlier
ones.  For a single token each call of NumPy counts (about a microsecond), and they are chosen with that in mind."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..model import gpt as gpt
from ..model.gpt import GPTConfig, Linear
from ..model.module import Array

EVERY = slice(None)


class New:
    """New tokens `ids` (R, T) of some rows, from position `start[r]` on; `count[r]` are there, the rest is padding.

    rows: of the `n_rows` that there is a memory of.
    """

    def __init__(self, ids: Array, start: Sequence[int], count: Sequence[int], rows: slice | Array, n_rows: int,
                 config: GPTConfig, dtype: np.dtype):
        self.rows, self.start, self.count = rows, start, count
        self.R, self.T = ids.shape
        self.end, self.full = max(start) + self.T, min(count) == self.T
        self.places: slice | Array = slice(start[0], self.end)     # where the tokens stand, (R T,)
        self.where: tuple = EVERY, rows, EVERY, self.places         # and among keys and values (2, n_rows, G, S, d)
        self.mask: Array | None = None                             # −∞ where a token does not see another
        self.rotation: tuple[Array, Array] | None = None           # cosines and sines of rotary positions
        if self.R > 1:
            places = np.array(start)[:, None] + np.arange(self.T)
            self.places = places.ravel()
            if len(set(start)) > 1:                                # otherwise that slice, which is faster
                heads = np.arange(config.n_kv_head or config.n_head)[:, None]
                self.where = EVERY, np.arange(n_rows)[rows][:, None, None], heads, places[:, None]
        if self.T > 1 or len(set(start)) > 1:                      # otherwise all see all there is
            seen = np.arange(self.end) <= (np.array(start)[:, None] + np.arange(self.T))[:, None, :, None]
            neighbours = config.n_head // (config.n_kv_head or config.n_head)
            self.mask = np.tile(np.where(seen, 0, -np.inf).astype(dtype), (neighbours, 1))  # (R, 1, n T, S)


class Norm:
    """x / √(mean x² + eps) ⊙ gain + bias; of x less its mean, for a layer norm."""

    def __init__(self, norm: gpt.LayerNorm | gpt.RMSNorm, n: int, dtype: np.dtype, centred: bool = False):
        self.gain, self.bias = norm.weight, getattr(norm, "bias", None)
        self.root, self.eps = n ** 0.5, positive(n * norm.eps, dtype)
        self.mean = Mean(n, dtype) if isinstance(norm, gpt.LayerNorm) and not centred else None

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

    def into(self, *layers: Linear) -> list[Linear]:
        """The linear layers that follow, changed to multiply with its gain and add its bias instead of it."""
        gain, bias = self.gain, self.bias
        self.gain = self.bias = None
        return [after(gain, bias, layer) for layer in layers]


class Mean:
    """The mean of each row; a product is the fastest way to it."""

    def __init__(self, n: int, dtype: np.dtype):
        self.weights = np.full((n, 1), 1 / n, dtype)

    def __call__(self, x: Array) -> Array:                         # (N, C) -> (N, 1)
        return x.dot(self.weights)


class Taps:
    """A causal convolution that remembers the K − 1 tokens before the new ones."""

    def __init__(self, conv: gpt.Convolution, n_rows: int):
        K, C = conv.weight.shape
        self.weight, self.reversed = conv.weight, conv.weight[::-1].copy()
        self.before = np.zeros((n_rows, K - 1, C), conv.weight.dtype)

    def __call__(self, x: Array, new: New) -> Array:               # (R T, C) -> (R T, C)
        R, T, (n, C) = new.R, new.T, self.before.shape[1:]
        every = np.concatenate([self.before[new.rows], x.reshape(R, T, C)], 1)  # (R, K − 1 + T, C)
        if T == 1:
            y = np.add.reduce(every * self.reversed, 1)
        else:
            y = every[:, n:] * self.weight[0]
            for k in range(1, n + 1):
                y += every[:, n - k:n - k + T] * self.weight[k]
        if new.full:
            self.before[new.rows] = every[:, T:]
        else:                                                      # the last ones before each row's padding
            self.before[new.rows] = every[np.arange(R)[:, None], np.array(new.count)[:, None] + np.arange(n)]
        return y.reshape(R * T, C)


class Attention:
    """Attention from new tokens to themselves and to those before, whose keys and values it remembers."""

    def __init__(self, block: gpt.Block, config: GPTConfig, n_rows: int, dtype: np.dtype, fold: bool):
        c, attn = config, block.attn
        self.heads, self.d = (c.n_head, c.n_kv_head or c.n_head), c.head_size
        self.norm = Norm(block.ln_1, c.n_embd, dtype, centred=fold)
        self.conv = Taps(attn.conv, n_rows) if attn.conv else None
        self.c_attn, self.c_proj = attn.c_attn, attn.c_proj
        H, G = self.heads
        self.scale: Array | None = np.ones((H + G, 1), dtype)      # of queries and keys
        self.eps = positive(self.d * c.norm_eps, dtype) if c.qk_norm else None
        if c.qk_norm:
            self.scale[H:] = self.d ** 0.5                         # of their norms, and 1/√d of attention
        else:
            self.scale[:H] = self.d ** -0.5
        if fold:
            self.c_proj = centred(self.c_proj, c)
            if self.conv is None or self.norm.bias is None:        # a convolution starts without the bias
                self.c_attn, = self.norm.into(self.c_attn)
            if not c.qk_norm:
                self.c_attn, self.scale = times(self.c_attn, self.scale.repeat(self.d)), None
        self.kept = np.zeros((2, n_rows, G, 0, self.d), dtype)     # keys and values; n = H / G queries share one

    def __call__(self, x: Array, new: New) -> Array:               # (R T, C) -> (R T, C)
        R, T, (H, G), d = new.R, new.T, self.heads, self.d
        x = self.norm(x)
        if self.conv is not None:
            x = self.conv(x, new)
        qkv = linear(x, self.c_attn).reshape(R * T, H + 2 * G, d)
        qk = qkv[:, :H + G]                                        # a view
        if self.eps is not None:
            qk *= self.scale / np.sqrt(np.vecdot(qk, qk) + self.eps)[..., None]
        elif self.scale is not None:
            qk *= self.scale
        if new.rotation is not None:
            turn(qk, *new.rotation)
        self.kept[new.where] = qkv[:, H:].reshape(R, T, 2, G, d).transpose(2, 0, 3, 1, 4)
        k, v = self.kept[:, new.rows, :, :new.end]                 # each (R, G, S, d)
        q = qkv[:, :H]
        if T > 1:                                                  # the queries of all tokens beside their keys' head
            q = q.reshape(R, T, G, H // G, d).transpose(0, 2, 3, 1, 4)
        y = attention(q.reshape(R, G, H // G * T, d), k, v, new.mask)
        if T > 1:
            y = y.reshape(R, G, H // G, T, d).transpose(0, 3, 1, 2, 4)
        return linear(y.reshape(R * T, H * d), self.c_proj)

    def make_room(self, n: int) -> None:
        """Room for the keys and values of n tokens."""
        old = self.kept
        self.kept = np.zeros((*old.shape[:3], n, self.d), old.dtype)
        self.kept[:, :, :, :old.shape[3]] = old


class MLP:
    def __init__(self, block: gpt.Block, config: GPTConfig, n_rows: int, dtype: np.dtype, fold: bool):
        mlp = block.mlp
        self.norm = Norm(block.ln_2, config.n_embd, dtype, centred=fold)
        self.conv = Taps(mlp.conv, n_rows) if mlp.conv else None
        self.c_fc, self.c_gate, self.c_proj = mlp.c_fc, mlp.c_gate, mlp.c_proj
        if fold:
            self.c_proj = centred(self.c_proj, config)
            if self.conv is None or self.norm.bias is None:
                layers = [self.c_fc] if self.c_gate is None else [self.c_fc, self.c_gate]
                self.c_fc, *gate = self.norm.into(*layers)
                self.c_gate = gate[0] if gate else None
        self.activation = gpt.ACTIVATIONS[config.activation]
        if config.activation == "squared_relu":
            self.activation = squared_relu
        if config.activation == "gelu" and dtype == np.float32:
            self.activation = gelu_single

    def __call__(self, x: Array, new: New) -> Array:               # (R T, C) -> (R T, C)
        x = self.norm(x)
        if self.conv is not None:
            x = self.conv(x, new)
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


def turn(x: Array, cos: Array, sin: Array) -> None:
    """Turn the pairs of x (N, heads, d) by `rotations`, in place: `ag.rotary`."""
    halves = x.reshape(*x.shape[:2], 2, -1)                        # a view
    y = halves * cos
    y += halves[:, :, ::-1] * sin
    halves[...] = y


def rotations(frequencies: Array, n: int) -> tuple[Array, Array]:
    """(cos, cos) and (−sin, sin) of the angles at positions up to n, each (n, 1, 2, d/2)."""
    angles = (np.arange(n, dtype=frequencies.dtype)[:, None] * frequencies)[:, None, None]
    return np.cos(angles).repeat(2, 2), np.concatenate([-np.sin(angles), np.sin(angles)], 2)


# ---------------------------------------------------------------------- activations, in fewer calls


# Φ(x) = (1 + tanh(x P(x²) / Q(x²))) / 2: artanh(2 Φ(x) − 1) / x is smooth and nearly straight, so short polynomials do
# (lowest power first; fitted for the least largest error).  gelu's error is 5e-9 before rounding.
_PHI = np.array([[0.7978846917092716, 0.09884055281518771, 0.007448527298871863, 0.00018707992589218572],
                 [1.0, 0.07833894530532226, 0.005813482171204563, 3.90110269559393e-05]], np.float32)


def squared_relu(x: Array) -> Array:
    """`ag.squared_relu`"""
    y = np.maximum(x, 0)
    y *= y
    return y


def gelu_single(x: Array) -> Array:
    """`ag.gelu` for single precision in half as many calls: both polynomials are one product."""
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


# ---------------------------------------------------------------------- weights changed


def after(gain: Array | None, bias: Array | None, layer: Linear) -> Linear:
    """(x ⊙ gain + bias) W + b as one linear layer of x."""
    biases = [] if layer.bias is None else [layer.bias]
    if bias is not None:
        biases.append(bias @ layer.weight)
    return Linear(layer.weight if gain is None else gain[:, None] * layer.weight, sum(biases) if biases else None)


def centred(layer: Linear, config: GPTConfig) -> Linear:
    """A layer that adds to x, less the mean of its outputs where norms take that out of x."""
    if config.norm != "layer_norm":
        return layer
    bias = None if layer.bias is None else layer.bias - layer.bias.mean()
    return Linear(layer.weight - layer.weight.mean(-1, keepdims=True), bias)


def times(layer: Linear, factors: Array) -> Linear:
    """A layer whose first outputs are those of `layer` times `factors`."""
    factors = np.concatenate([factors, np.ones(layer.weight.shape[1] - len(factors), factors.dtype)])
    return Linear(layer.weight * factors, None if layer.bias is None else layer.bias * factors)


def positive(eps: float, dtype: np.dtype) -> float:
    """`eps`, or the smallest number of a dtype instead of 0, which nothing can be divided by."""
    return max(eps, float(np.finfo(dtype).tiny))
