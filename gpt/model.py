"""The GPT: GPT-2's architecture in nanoGPT's names, on Tensors or raw arrays."""

from collections.abc import Callable
from dataclasses import MISSING, dataclass
from typing import Any

import numpy as np

import autograd as ag

from .module import Array, Module
from .settings import Settings, setting

Dropout = Callable[[Array], Array]


@dataclass
class Architecture(Settings):
    """What can be chosen about a GPT.  Raises ValueError for sizes that do not fit each other."""

    block_size: int = setting(64, "tokens the model sees at once, its context", at_least=1, group="model")
    n_layer: int = setting(4, "blocks of attention and MLP", at_least=1, group="model")
    n_head: int = setting(4, "attention heads in a block; they share the dimensions", at_least=1, group="model")
    n_embd: int = setting(128, "dimensions of the vector that stands for a token", at_least=1, group="model")
    bias: bool = setting(False, "add a bias in linear layers and norms, as GPT-2 does", group="model")
    dropout: float = setting(0.0, "share of activations set to zero in training", at_least=0, below=1, group="model")
    activation: str = setting("gelu", "nonlinearity of the MLP", choices=("gelu", "relu"), group="model")
    positions: str = setting("learned", "how a token knows its place", choices=("learned", "sinusoidal"), group="model")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_embd % self.n_head:
            nearest = -(-self.n_embd // self.n_head) * self.n_head
            raise ValueError(f"n_embd is {self.n_embd} and n_head {self.n_head}: heads share the dimensions evenly, "
                             f"so n_embd needs to be a multiple of n_head, such as {nearest}")


@dataclass(kw_only=True)
class GPTConfig(Architecture):
    """A GPT's architecture and the number of different tokens it knows."""

    vocab_size: int = setting(MISSING, "number of different tokens", at_least=1)


@dataclass
class Linear(Module):
    """y = x W + b"""
    weight: Array                                              # (n_in, n_out)
    bias: Array | None                                         # (n_out,)

    def __call__(self, x: Array) -> Array:                     # (…, n_in) -> (…, n_out)
        return ag.linear(x, self.weight, self.bias)


@dataclass
class Embedding(Module):
    """A row of a table for each integer."""
    weight: Array                                              # (n, C)

    def __call__(self, ids: Array) -> Array:                   # (…) -> (…, C)
        return ag.embedding(ids, self.weight)


@dataclass
class LayerNorm(Module):
    weight: Array                                              # (C,)
    bias: Array | None                                         # (C,)

    def __call__(self, x: Array) -> Array:                     # (…, C) -> (…, C)
        return ag.layer_norm(x, self.weight, self.bias)


@dataclass
class Attention(Module):
    """Causal self-attention: each token gathers from itself and those before it (Vaswani et al. 2017, 3.2)."""
    c_attn: Linear                                             # C -> 3C: queries, keys and values at once
    c_proj: Linear                                             # C -> C
    n_head: int

    def __call__(self, x: Array) -> Array:
        B, T, C = x.shape
        q, k, v = (part.reshape(B, T, self.n_head, C // self.n_head).swapaxes(1, 2)  # (B, T, C) -> (B, H, T, C/H)
                   for part in ag.split(self.c_attn(x), 3, axis=-1))
        y = ag.attention(q, k, v, causal=True)                 # (B, H, T, C/H)
        y = y.swapaxes(1, 2).reshape(B, T, C)                  # heads side by side again
        return self.c_proj(y)                                  # (B, T, C)


@dataclass
class MLP(Module):
    c_fc: Linear                                               # C -> 4C
    c_proj: Linear                                             # 4C -> C
    activation: str

    def __call__(self, x: Array) -> Array:
        x = self.c_fc(x)                                       # (B, T, C) -> (B, T, 4C)
        x = ag.REGISTRY[self.activation](x)
        return self.c_proj(x)                                  # (B, T, 4C) -> (B, T, C)


@dataclass
class Block(Module):
    """Attention, then MLP, each on a normed copy and added to the residual stream (pre-norm)."""
    ln_1: LayerNorm
    attn: Attention
    ln_2: LayerNorm
    mlp: MLP

    def __call__(self, x: Array, drop: Dropout) -> Array:      # (B, T, C) -> (B, T, C)
        x = x + drop(self.attn(self.ln_1(x)))
        x = x + drop(self.mlp(self.ln_2(x)))
        return x


@dataclass
class GPT(Module):
    """A GPT with random weights (Radford et al. 2019); the same `seed`, the same weights.

    `model(ids)` gives logits and `model.loss(ids, targets)` their mean cross-entropy in nats, for integers of
    shape (B, T) with T at most block_size.  Dropout happens where a generator `rng` is given, on the embedding
    and on what attention and MLP add.  The head is the token embedding, transposed.
    """
    config: GPTConfig
    wte: Embedding                                             # (V, C): tokens, and the head
    wpe: Embedding                                             # (block_size, C): positions
    h: list[Block]
    ln_f: LayerNorm

    def __init__(self, config: GPTConfig, seed: int = 0, dtype: Any = np.float32):
        rng, C = np.random.default_rng(seed), config.n_embd

        def parameter(a: Array) -> Array:
            return ag.tensor(a, dtype=dtype, requires_grad=True)

        def normal(*shape: int, std: float = 0.02) -> Array:
            return parameter(rng.normal(0, std, shape))

        def bias(n: int) -> Array | None:
            return parameter(np.zeros(n)) if config.bias else None

        def norm() -> LayerNorm:
            return LayerNorm(parameter(np.ones(C)), bias(C))

        def block() -> Block:
            last = 0.02 / (2 * config.n_layer) ** 0.5          # 2 n_layer of them add up in the residual stream
            return Block(norm(), Attention(Linear(normal(C, 3 * C), bias(3 * C)),
                                           Linear(normal(C, C, std=last), bias(C)), config.n_head),
                         norm(), MLP(Linear(normal(C, 4 * C), bias(4 * C)),
                                     Linear(normal(4 * C, C, std=last), bias(C)), config.activation))

        self.config = config
        self.wte = Embedding(normal(config.vocab_size, C))
        self.wpe = Embedding(normal(config.block_size, C) if config.positions == "learned"
                             else ag.tensor(sinusoids(config.block_size, C), dtype=dtype))
        self.h = [block() for _ in range(config.n_layer)]
        self.ln_f = norm()
        for name, t in self.named_arrays().items():
            t.name = name

    def __call__(self, ids: Array, rng: np.random.Generator | None = None) -> Array:
        shape = np.shape(ids)
        if len(shape) != 2 or not 0 < (T := shape[1]) <= self.config.block_size:
            raise ValueError(f"GPT: ids have shape {shape}: they need to be (B, T), "
                             f"with T from 1 to block_size, which is {self.config.block_size}")
        drop = dropout(self.config.dropout, rng)
        x = self.wte(ids) + self.wpe(np.arange(T))             # (B, T, C) + (T, C)
        x = drop(x)
        for block in self.h:
            x = block(x, drop)                                 # (B, T, C)
        x = self.ln_f(x)                                       # (B, T, C)
        return ag.linear(x, self.wte.weight.T, None)           # (B, T, C) -> (B, T, V)

    def loss(self, ids: Array, targets: Array, rng: np.random.Generator | None = None) -> Array:
        """Mean cross-entropy, in nats a token, of predicting `targets` (B, T), the token after each of `ids` (B, T)."""
        return ag.cross_entropy(self(ids, rng), targets)


def dropout(p: float, rng: np.random.Generator | None) -> Dropout:
    """A function that zeroes a share `p` of an array and scales the rest to the same mean; none without `rng`."""
    if rng is None or p == 0:
        return lambda x: x
    return lambda x: ag.dropout(x, p, rng)


def sinusoids(n: int, n_embd: int) -> Array:
    """Sines and cosines of wavelengths 2π to 20,000π, (n, n_embd): PE(t, 2i) = sin(t / 10000^(2i/C)), cosine at
    2i + 1 (Vaswani et al. 2017, 3.5), scaled to the 0.02 of the token embedding, which they would drown."""
    i = np.arange(n_embd)
    angle = np.arange(n)[:, None] / 10000 ** (i // 2 * 2 / n_embd)
    return 0.02 * 2 ** 0.5 * np.where(i % 2, np.cos(angle), np.sin(angle))
