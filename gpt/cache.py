"""Texts as the model sees them: the window of the last tokens, and the keys and values kept of those already read."""

from collections.abc import Sequence

import numpy as np

import autograd as ag

from .model import GPT, LayerNorm, Linear
from .module import Array, raw


class Context:
    """Texts that grow by a token at a time, and the logits of the next token of each.

    prompts: for each text integers (T,), T at least 1.  The model sees the last block_size tokens of a prompt.  Once a
    text has filled the window, the next token drops the older half of it: the model then sees block_size // 2 tokens
    and the new one, at positions from 0, and the window fills again.  (A window that slid by one would give every token
    a new position, and so new keys and values: all of it would have to be read again for each token.)

    With `cache` only new tokens are read, and attention looks up the keys and values of the earlier ones; without it
    the model reads the whole window each time.  Both see the same tokens at the same positions, so the logits are the
    same up to rounding.  Texts of different lengths lie in rows that start at position 0 and are padded on the right,
    where the causal mask hides what follows the last token.
    """

    def __init__(self, model: GPT, prompts: Sequence[Array], cache: bool = True):
        window = model.config.block_size
        self.model, self.window = model.map(raw), window
        self.ids = np.zeros((len(prompts), window), int)  # (B, block_size), of which each row has `length`
        self.length = np.array([min(len(ids), window) for ids in prompts])
        self.read = np.zeros_like(self.length)  # how many of them the cache knows
        for row, ids in zip(self.ids, prompts):
            row[:min(len(ids), window)] = ids[-window:]
        self.cache = Cache(self.model, len(prompts)) if cache else None

    def logits(self) -> Array:
        """The logits of the next token of each text, (B, V)."""
        if self.cache is None:
            every = self.model(self.ids[:, :self.length.max()])
            return every[np.arange(len(every)), self.length - 1]
        anew = self.read == 0
        if anew.all() or not anew.any():
            return self._read(slice(None))
        logits = np.empty((len(self.ids), self.model.config.vocab_size), self.cache.keys.dtype)
        for rows in (np.flatnonzero(anew), np.flatnonzero(~anew)):
            logits[rows] = self._read(rows)
        return logits

    def _read(self, rows: slice | Array) -> Array:
        """Logits of some rows, none of whose tokens are in the cache, or all but the last."""
        assert self.cache is not None
        start, length = self.read[rows], self.length[rows]
        places = start[:, None] + np.arange((length - start).max())
        ids, last = self.ids[rows][np.arange(len(start))[:, None], places], length - start - 1
        self.read[rows] = length  # last, since `start` is a view of it
        return self.cache(ids, places, last, rows)

    def append(self, tokens: Array) -> None:
        """Add a token to each text, (B,)."""
        for i in np.flatnonzero(self.length == self.window):
            self.length[i] = half = self.window // 2
            self.ids[i, :half] = self.ids[i, self.window - half:]
            self.read[i] = 0
        self.ids[np.arange(len(self.ids)), self.length] = tokens
        self.length += 1

    def keep(self, rows: Array) -> None:
        """Go on with these texts only."""
        self.ids, self.length, self.read = self.ids[rows], self.length[rows], self.read[rows]
        if self.cache is not None:
            self.cache.keys, self.cache.values = self.cache.keys[:, rows], self.cache.values[:, rows]


class Cache:
    """A GPT that reads only new tokens: the mathematics of `GPT.__call__`, to which a test holds it, in plain NumPy,
    with room for the keys and values of `batch_size` rows of block_size tokens.

    For a single token each call of NumPy counts, so what can be computed once is: see `Folded`.
    """

    def __init__(self, model: GPT, batch_size: int):
        c = model.config
        self.config, self.weights, self.activation = c, Folded(model), ag.REGISTRY[c.activation].formula
        shape = (c.n_layer, batch_size, c.n_head, c.block_size, c.n_embd // c.n_head)
        self.keys, self.values = (np.zeros(shape, model.wte.weight.dtype) for _ in range(2))

    def __call__(self, ids: Array, places: Array, last: Array, rows: slice | Array = slice(None)) -> Array:
        """Read `ids` (R, T) at positions `places` (R, T) of some rows; logits after the token `last` (R,) of each."""
        w, (R, T), C, H = self.weights, ids.shape, self.config.n_embd, self.config.n_head
        S = int(places[:, -1].max()) + 1
        where, mask = self._where(places, rows), None
        if T > 1 or isinstance(where[2], np.ndarray):              # else a token that may see all there is
            seen = np.arange(S) <= places[:, None, :, None]        # (R, 1, T, S)
            mask = np.where(seen, 0, -np.inf).astype(self.keys.dtype)
        x = w.wte.take(ids.ravel(), 0) + w.wpe.take(places.ravel(), 0)  # (R T, C)
        for (c_attn, attn_proj, c_fc, mlp_proj), keys, values in zip(w.h, self.keys, self.values):
            qkv = linear(w.normed(x), c_attn)                      # (R T, C) -> (R T, 3C)
            q, k, v = qkv.reshape(R, T, 3, H, C // H).transpose(2, 0, 3, 1, 4)  # each (R, H, T, C/H)
            keys[where], values[where] = k, v
            y = attention(q, keys[rows, :, :S], values[rows, :, :S], mask)  # (R, H, T, C/H)
            x += linear(y.swapaxes(1, 2).reshape(R * T, C), attn_proj)
            hidden = linear(w.normed(x), c_fc)                     # (R T, C) -> (R T, 4C)
            x += linear(self.activation(hidden), mlp_proj)         # (R T, 4C) -> (R T, C)
        x = x.take(np.arange(R) * T + last, 0)                     # (R T, C) -> (R, C)
        return linear(w.normed(x), w.head)                         # (R, C) -> (R, V)

    def _where(self, places: Array, rows: slice | Array) -> tuple:
        """The index of (R, H, T) places in the cache: a slice, which is faster, where all rows are equally long."""
        start = places[:, 0]
        if (start == start[0]).all():
            return rows, slice(None), slice(start[0], start[0] + places.shape[1])
        _, B, H, _, _ = self.keys.shape
        return np.arange(B)[rows][:, None, None], np.arange(H)[:, None], places[:, None]


class Folded:
    """A model's weights such that norms and attention have the least to do, for the same logits up to rounding.

    A norm takes the mean out of x, which is a sum of embeddings and of what attention and MLP add: here the means of
    all of these are taken out of the weights.  What a norm multiplies with and adds goes into the linear layer after
    it, and the 1/√d of attention into the queries.
    """

    def __init__(self, model: GPT):
        c, wte = model.config, model.wte.weight
        C, scale = c.n_embd, np.ones(3 * c.n_embd, wte.dtype)
        scale[:C] = (C // c.n_head) ** -0.5
        self.wte, self.wpe = centred(wte), centred(model.wpe.weight)  # (V, C), (block_size, C)
        self.h = [(after_norm(block.ln_1, block.attn.c_attn, scale), into_x(block.attn.c_proj),
                   after_norm(block.ln_2, block.mlp.c_fc), into_x(block.mlp.c_proj)) for block in model.h]
        self.head = after_norm(model.ln_f, Linear(wte.T, None))
        self.eps = np.asarray(C * 1e-5, wte.dtype)

    def normed(self, x: Array) -> Array:
        """x / √(Σ x² + C eps), (R, C): x / √(var x + eps) / √C for an x whose mean is 0."""
        return x / np.sqrt(np.vecdot(x, x) + self.eps)[:, None]


def centred(a: Array) -> Array:
    return a - a.mean(-1, keepdims=True)


def into_x(layer: Linear) -> Linear:
    """A layer whose outputs have a mean of 0."""
    return Linear(centred(layer.weight), None if layer.bias is None else centred(layer.bias))


def after_norm(norm: LayerNorm, layer: Linear, scale: Array | float = 1) -> Linear:
    """`scale` times a layer, and before it what `Folded.normed` leaves out: (x √C ⊙ weight + bias) W + b."""
    C = len(norm.weight)
    biases: list[Array] = [] if layer.bias is None else [layer.bias]
    if norm.bias is not None:
        biases.append(norm.bias @ layer.weight)
    return Linear((C ** 0.5 * norm.weight)[:, None] * layer.weight * scale, sum(biases) * scale if biases else None)


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
    p /= np.add.reduce(p, -1, keepdims=True)
    return p @ v
