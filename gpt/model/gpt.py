"""The GPT: GPT-2's architecture and later additions to it, in nanoGPT's names, on Tensors or raw arrays."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import autograd as ag

from .config import Architecture, GPTConfig
from .init import STD, Initializer, frequencies, sinusoids
from .module import Array, Module

__all__ = ["GPT", "Architecture", "GPTConfig"]

Dropout = Callable[[Array], Array]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": ag.gelu, "gelu_tanh": partial(ag.gelu, approximate="tanh"), "relu": ag.relu,
    "squared_relu": ag.squared_relu, "silu": ag.silu,
}


@dataclass
class Linear(Module):
    """A linear layer.  y = x W + b"""
    weight: Array                                              # (n_in, n_out)
    bias: Array | None                                         # (n_out,)

    def __call__(self, x: Array) -> Array:                     # (…, n_in) -> (…, n_out)
        return ag.linear(x, self.weight, self.bias)


@dataclass
class Embedding(Module):
    """A lookup table: its row for each integer."""
    weight: Array                                              # (n, C)

    def __call__(self, ids: Array) -> Array:                   # (…) -> (…, C)
        return ag.embedding(ids, self.weight)


@dataclass
class LayerNorm(Module):
    """Normalization of each vector to mean 0 and variance 1 (Ba, Kiros & Hinton 2016)."""
    weight: Array | None                                       # (C,)
    bias: Array | None                                         # (C,)
    eps: float = 1e-5

    def __call__(self, x: Array) -> Array:                     # (…, C) -> (…, C)
        return ag.layer_norm(x, self.weight, self.bias, eps=self.eps)


@dataclass
class RMSNorm(Module):
    """Normalization of each vector to mean square 1 (Zhang & Sennrich 2019)."""
    weight: Array | None                                       # (C,)
    eps: float = 1e-5

    def __call__(self, x: Array) -> Array:                     # (…, C) -> (…, C)
        return ag.rms_norm(x, self.weight, eps=self.eps)


@dataclass
class QKNorm(Module):
    """Normalization of queries and keys to mean square 1 (Henry et al. 2020), with a gain for each of the two, or none.
    """
    weight: Array | None                                       # (2d,): of queries, then of keys
    eps: float

    def __call__(self, qk: Array, n_head: int) -> Array:       # (B, H + G, T, d) -> (B, H + G, T, d)
        qk = ag.rms_norm(qk, None, eps=self.eps)
        if self.weight is None:
            return qk
        G = qk.shape[1] - n_head
        gains = ag.repeat(self.weight.reshape(2, 1, -1), (n_head, G), axis=0)  # (H + G, 1, d)
        return qk * gains


@dataclass
class Convolution(Module):
    """A short causal depthwise convolution: weight[k] is for the k-th token before (So et al. 2021, 3.2)."""
    weight: Array                                              # (K, C)

    def __call__(self, x: Array, cache: Any = None) -> Array:  # (B, T, C) -> (B, T, C)
        return (ag if cache is None else cache).causal_conv(x, self.weight)


@dataclass
class Attention(Module):
    """Causal self-attention: each token attends to itself and those before it (Vaswani et al. 2017, 3.2)."""
    conv: Convolution | None
    c_attn: Linear                                             # C -> H·d + 2D: queries; keys and values of D = G·d
    c_proj: Linear                                             # H·d -> C
    n_head: int                                                # H
    head_size: int                                             # d, mostly C / H
    norm: QKNorm | None

    def __call__(self, x: Array, angles: Array | None, cache: Any = None) -> Array:
        B, T, _ = x.shape                                      # (B, T, C)
        if self.conv is not None:
            x = self.conv(x, cache)
        heads = self.c_attn(x).reshape(B, T, -1, self.head_size).swapaxes(1, 2)  # (B, H + 2G, T, d)
        H, G = self.n_head, (heads.shape[1] - self.n_head) // 2
        if self.norm is None and angles is None:
            q, k, v = ag.split(heads, (H, H + G), axis=1)
        else:                                                  # queries and keys side by side, in fewer operations
            qk, v = ag.split(heads, (H + G,), axis=1)
            qk = qk if self.norm is None else self.norm(qk, H)
            qk = qk if angles is None else ag.rotary(qk, angles)
            q, k = ag.split(qk, (H,), axis=1)
        y = (ag if cache is None else cache).attention(q, k, v, causal=True)  # (B, H, T, d)
        y = y.swapaxes(1, 2).reshape(B, T, -1)                 # heads side by side again: (B, T, H·d)
        return self.c_proj(y)                                  # (B, T, C)


@dataclass
class MLP(Module):
    """The feed-forward network of a block, optionally gated (Shazeer 2020)."""
    conv: Convolution | None
    c_fc: Linear                                               # C -> F, mostly 4C
    c_gate: Linear | None                                      # C -> F
    c_proj: Linear                                             # F -> C
    activation: str

    def __call__(self, x: Array, cache: Any = None) -> Array:
        if self.conv is not None:
            x = self.conv(x, cache)
        activation = ACTIVATIONS[self.activation]
        hidden = self.c_fc(x)                                  # (B, T, C) -> (B, T, F)
        hidden = activation(hidden) if self.c_gate is None else activation(self.c_gate(x)) * hidden
        return self.c_proj(hidden)                             # (B, T, F) -> (B, T, C)


@dataclass
class Block(Module):
    """A pre-norm transformer block: attention, then MLP, each on a normalized copy, added to the residual stream, which
    learnable scalars may weigh (Bachlechner et al. 2020, "ReZero"; here they begin at 1)."""
    ln_1: LayerNorm | RMSNorm
    attn: Attention
    ln_2: LayerNorm | RMSNorm
    mlp: MLP
    scalars: Array | None                                      # (2,): of attention, and of the MLP

    def __call__(self, x: Array, angles: Array | None, drop: Dropout, cache: Any = None) -> Array:
        y = drop(self.attn(self.ln_1(x), angles, cache))       # (B, T, C)
        x = x + (y if self.scalars is None else y * self.scalars[0])
        y = drop(self.mlp(self.ln_2(x), cache))
        return x + (y if self.scalars is None else y * self.scalars[1])


@dataclass
class GPT(Module):
    """A GPT (Radford et al. 2019) with random weights, which `seed` determines; None leaves them 0.

    `model(ids)` returns logits and `model.loss(ids, targets)` their mean cross-entropy in nats, for integers of
    shape (B, T) with T at most block_size.  `model(ids, cache)` reads on after the tokens that a KV cache holds
    (`gpt.generation.kv_cache.Cache`), on raw arrays or in a program.  Given a generator `rng`, dropout applies to the
    embedding and to the outputs of attention and MLP.  Without `lm_head` the head is the token embedding, transposed
    (weight tying).
    """
    config: GPTConfig
    wte: Embedding                                             # (V, C): tokens
    wpe: Embedding | None                                      # (block_size, C): position embeddings
    frequencies: Array | None                                  # (d/2,): of RoPE, in radians a token
    smear: Convolution | None                                  # (2, C)
    norm: LayerNorm | RMSNorm | None                           # of the embedding
    h: list[Block]
    ln_f: LayerNorm | RMSNorm
    lm_head: Linear | None                                     # C -> V

    def __init__(self, config: GPTConfig, seed: int | Initializer | None = 0, dtype: Any = np.float32):
        c, start = config, seed if isinstance(seed, Initializer) else Initializer(seed, dtype)
        C, d, F = c.n_embd, c.head_size, c.n_hidden or 4 * c.n_embd
        Q, D = c.n_head * d, (c.n_kv_head or c.n_head) * d     # dimension of all queries; of all keys, and all values
        std_out = 0 if c.zero_init else STD / (2 * c.n_layer) ** 0.5  # of what is summed in the residual stream

        def linear(n_in: int, n_out: int, std: float = STD, bias: bool = c.bias) -> Linear:
            return Linear(start.normal(n_in, n_out, std=std), start.zeros(n_out) if bias else None)

        def norm() -> LayerNorm | RMSNorm:
            weight = start.ones(C) if c.norm_gain else None
            if c.norm == "rms_norm":
                return RMSNorm(weight, c.norm_eps)
            return LayerNorm(weight, start.zeros(C) if c.bias else None, c.norm_eps)

        def conv() -> Convolution | None:
            return Convolution(start.identity_conv(c.convolution, C)) if c.convolution else None

        def block() -> Block:
            qk_norm = QKNorm(start.ones(2 * d) if c.qk_norm_gain else None, c.norm_eps) if c.qk_norm else None
            attention = Attention(conv(), linear(C, Q + 2 * D, bias=c.bias or c.qkv_bias), linear(Q, C, std=std_out),
                                  c.n_head, d, qk_norm)
            mlp = MLP(conv(), linear(C, F), linear(C, F) if c.gated else None, linear(F, C, std=std_out), c.activation)
            return Block(norm(), attention, norm(), mlp, start.ones(2) if c.residual_scalars else None)

        self.config = c
        self.wte = Embedding(start.normal(c.vocab_size, C))
        self.wpe = Embedding(start.normal(c.block_size, C)) if c.positions == "learned" else \
            Embedding(start.constant(sinusoids(c.block_size, C))) if c.positions == "sinusoidal" else None
        self.frequencies = start.constant(frequencies(d, c.rope_base)) if c.positions == "rotary" else None
        self.smear = Convolution(start.identity_conv(2, C)) if c.smear else None
        self.norm = norm() if c.norm_embedding else None
        self.h = [block() for _ in range(c.n_layer)]
        self.ln_f = norm()
        self.lm_head = None if c.tied else linear(C, c.vocab_size, std=0 if c.zero_init else STD, bias=False)
        for name, t in self.named_arrays().items():
            t.name = name

    def __call__(self, ids: Array, cache: Any = None, rng: np.random.Generator | None = None) -> Array:
        return self.logits(self.stream(ids, cache, rng))       # (B, T) -> (B, T, V)

    def stream(self, ids: Array, cache: Any = None, rng: np.random.Generator | None = None) -> Array:
        """The residual stream after the last block, (B, T, C)."""
        shape = np.shape(ids)
        if len(shape) != 2 or not 0 < (T := shape[1]) <= self.config.block_size:
            raise ValueError(f"GPT: ids have shape {shape}: they need to be (B, T), "
                             f"with T from 1 to block_size, which is {self.config.block_size}")
        drop = dropout(self.config.dropout, rng)
        x = self.wte(ids)                                      # (B, T) -> (B, T, C)
        dtype = int if self.frequencies is None else x.dtype
        positions = np.arange(T, dtype=dtype) if cache is None else cache.begin(dtype)  # (T,), or (B, T)
        if self.wpe is not None:
            x = x + self.wpe(positions)                        # (B, T, C) + (T, C)
        angles = None                                          # of queries and keys: (T, d/2), or (B, 1, T, d/2)
        if self.frequencies is not None:
            angles = positions[..., None, :, None] * self.frequencies if positions.ndim == 2 else \
                positions[:, None] * self.frequencies
        if self.smear is not None:
            x = self.smear(x, cache)
        if self.norm is not None:
            x = self.norm(x)
        x = drop(x)
        for block in self.h:
            x = block(x, angles, drop, cache)                  # (B, T, C)
        return x

    def logits(self, x: Array) -> Array:
        """Return the logits (…, V) of a residual stream (…, C), after the last block or an earlier one (logit lens)."""
        x = self.ln_f(x)
        return ag.linear(x, self.wte.weight.T, None) if self.lm_head is None else self.lm_head(x)

    def loss(self, ids: Array, targets: Array, rng: np.random.Generator | None = None) -> Array:
        """Return the mean cross-entropy in nats per token; `targets` (B, T) are the tokens after `ids` (B, T)."""
        return ag.cross_entropy(self(ids, rng=rng), targets)


def dropout(p: float, rng: np.random.Generator | None) -> Dropout:
    """Return the dropout function with probability `p`; the identity without `rng`."""
    if rng is None or p == 0:
        return lambda x: x
    return lambda x: ag.dropout(x, p, rng)
