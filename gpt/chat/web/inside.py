"""Inside a model at a token of its answer: the logit lens and the heads' attention, read from the chat's KV cache."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import autograd as ag

from ...generation.incremental import NO_WARNING
from ...generation.kv_cache import Cache
from ...generation.pace import Paced
from ...model.module import Array, raw
from ..chat import Chat, Choice, inspect_choice

SIDE = 48    # tokens of a map, at most: the last ones
LISTED = 3   # tokens at each layer of the lens, beside the one that the model chose


class Probe(Cache):
    """A KV cache on the arrays of another that keeps the attention weights of what it reads, (H, T, S) of each layer.

    Tokens that the other has read already can be read again: it stays as it is.
    """

    def __init__(self, cache: Cache):
        super().__init__(cache.room, cache.arrays)
        self.weights: list[Array] = []

    def attention(self, q: Array, k: Array, v: Array, causal: bool = True) -> Array:
        """Return what a cache returns, and keep the weights."""
        y, keys = super().attention(q, k, v, causal), self.arrays[self.asked - 2]
        (B, H, T, d), G = q.shape, k.shape[1]
        scores = q.reshape(B, G, H // G, T, d) @ keys[:, :, None, :self.end].mT * d ** -0.5    # (B, G, H/G, T, S)
        self.weights.append(ag.softmax(scores if self.mask is None else scores + self.mask).reshape(H, T, -1))
        return y


@dataclass
class Inside:
    """A model after the S tokens `ids`, and before the one that it chose."""
    ids: list[int]
    lens: list[Choice]    # from the embedding, and after each block: the chosen token, and the likeliest others
    weights: list[Array]  # of each layer, (H, T, S): the attention of the last T tokens to all


@NO_WARNING
def look(chat: Chat, ids: Sequence[int], token: int) -> Inside:
    """Look into the model where it chose `token` after `ids`: what it has read of them, it does not read again."""
    decoding, ids = chat.decoding, list(ids)
    if decoding is None or chat.read[:len(ids)] != ids:
        decoding = chat.prefill(ids)
        decoding.logits()
    n, stream, reader = min(SIDE, len(ids)), list[Array](), decoding.reader
    assert reader is not None  # a chat has a KV cache
    probe, model = Probe(reader.cache), chat.run.model.map(raw)
    model.h = Paced((tapped(block, stream) for block in model.h), reader.threads)
    probe.move([len(ids) - n], n)
    with reader.threads, ag.no_grad():
        reader.threads.size = n
        stream.append(model.stream(np.array([ids[-n:]]), probe)[0, -1])
        logits = model.logits(np.stack(stream))                                # (layers + 1, V)
    return Inside(ids, [inspect_choice(row, token, LISTED) for row in logits], probe.weights)


def tapped(block: Callable[..., Array], stream: list[Array]) -> Callable[..., Array]:
    """Return a block that also appends the last vector of the residual stream that comes into it, (C,)."""
    def call(x: Array, *more: Any) -> Array:
        stream.append(x[0, -1].copy())
        return block(x, *more)
    return call


def describe(inside: Inside, label: Callable[[int], str]) -> dict[str, Any]:
    """Return it as plain data for the page: tokens by their labels, weights as bytes."""
    side = inside.weights[0].shape[1]
    return {"tokens": [label(i) for i in inside.ids], "side": side,
            "lens": [{"p": c.probability, "others": [[label(i), p] for i, p in c.others]} for c in inside.lens],
            "maps": [[encode(head[:, -side:]) for head in layer] for layer in inside.weights],
            "rows": [[encode(head[-1]) for head in layer] for layer in inside.weights]}


def encode(p: Array) -> str:
    """Encode probabilities as bytes in base64: their square roots, so that small ones are visible."""
    return base64.b64encode(np.rint(255 * np.sqrt(p)).astype(np.uint8).tobytes()).decode()
