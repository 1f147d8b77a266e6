"""Inside a model on a prompt: its predictions at each position and after each layer, and its attention."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import autograd as ag
from autograd.view.html import downsample
from autograd.view.page import page
from autograd.view.palette import diverging, sequential
from autograd.view.player.pictures import attention_weights

from ..model.gpt import GPT
from ..model.module import Array, raw

LIKELIEST = 5   # tokens that are listed at each position
POSITIONS = 128    # positions that are shown, the last ones of a longer prompt
MAP_BYTES = 1_500_000  # of all attention maps; with many heads or tokens they get coarser


@dataclass
class Prediction:
    """The likeliest tokens at each of T positions, with their probabilities."""
    tokens: Array          # (T, k)
    probabilities: Array   # (T, k), the largest first


@dataclass
class Inside:
    """A forward and backward pass of a model on the tokens `ids` (T,), looked into."""
    ids: Array
    predicted: Prediction   # of the token after each
    lens: list[Prediction]  # logit lens: the same from the embedding, and after each block
    found: Array            # (T − 1,): the probability of each token but the first
    ranks: Array            # (T − 1,): the number of likelier tokens
    maps: list[list[Array]]  # by layer and head: attention weights (queries, keys), downsampled for many tokens
    answer: Array           # (K,): tokens that may follow the prompt,
    probability: float      # their probability,
    shares: Array           # and (T,): gradient times input, the contribution of each position to its logarithm


def look(model: GPT, ids: Array, answer: Array | None = None) -> Inside:
    """Run `model` forward and backward on the tokens `ids` (T,); `answer` (K,): the tokens after them to explain, by
    default the likeliest one.  All but the last of these are read, too, so that T grows by K − 1.

    Raises FloatingPointError if its logits are not finite.
    """
    if answer is not None:
        ids = np.append(ids, answer[:-1])
    logits = model(ids[None])
    if not np.isfinite(logits.data).all():
        raise FloatingPointError("the model's logits are not finite, so its weights are damaged")
    if answer is None:
        answer = logits.data[0, -1].argmax(keepdims=True)
    log_p = ag.log_softmax(logits)[0, np.arange(-len(answer), 0), answer].sum()
    log_p.backward(keep=True)
    tape = ag.tape(log_p)
    residual = residual_stream(tape)
    p = probabilities(logits.data[0])
    shares = (residual[0].grad * residual[0].data)[0].sum(-1)  # before the first block, as the embedding may be normed
    found = p[np.arange(len(ids) - 1), ids[1:]]
    for t in model.named_arrays().values():
        t.grad = None
    lens, ranks = [decode_residual(model, x) for x in residual], (p[:-1] > found[:, None]).sum(-1)
    return Inside(ids, likeliest_tokens(p), lens, found, ranks, attention_maps(tape), answer,
                  float(np.exp(log_p.data)), shares)


def probabilities(logits: Array) -> Array:
    """Return softmax(logits) (T, V), in double precision."""
    return ag.softmax(logits.astype(np.float64))


def decode_residual(model: GPT, x: ag.Tensor) -> Prediction:
    """Return the prediction of last norm and head from a residual stream (1, T, C)."""
    return likeliest_tokens(probabilities(model.map(raw).logits(x.data)[0]))


def likeliest_tokens(p: Array) -> Prediction:
    """Return the tokens with the largest of the probabilities (T, V)."""
    tokens = np.argsort(-p, axis=-1, kind="stable")[:, :LIKELIEST]
    return Prediction(tokens, np.take_along_axis(p, tokens, -1))


def residual_stream(tape: ag.Tape) -> list[ag.Tensor]:
    """Return the residual stream (1, T, C) before the first block, and after each: the last record in a block's own
    scope."""
    last = {t.scope: t for t in tape if t.scope.startswith("h.") and t.scope.count(".") == 1}
    blocks = [last[f"h.{i}"] for i in range(len(last))]
    first = next(t for t in tape if t.scope == "h.0.ln_1")
    return [first.inputs[0], *blocks]


def attention_maps(tape: ag.Tape) -> list[list[Array]]:
    """Return the attention weights (queries, keys) by layer and head, downsampled if they are many."""
    attentions = [t for t in tape if t.op is not None and t.op.name == "attention"]
    n = sum(t.shape[1] for t in attentions)
    side = int(min(POSITIONS, max(16, (MAP_BYTES / n) ** 0.5)))
    found = []
    for t in attentions:
        weights = attention_weights(t)
        found.append([downsample(head, side, side) for head in weights] if weights is not None else [])
    return found


# ---------------------------------------------------------------------- the page


def inside_page(inside: Inside, labels: Any, heading: str, ablation: dict[str, Any] | None = None) -> str:
    """Return the page that shows it: one file, no network.  `labels(ids)` gives the text of each token; `heading` is
    its first line; an `ablation` (`component_ablation.page_data`) gets a table."""
    tokens = labels(inside.ids[-POSITIONS:])
    last = slice(-len(tokens), None)

    def listed(prediction: Prediction) -> list[Any]:
        return [[labels(row), round_all(p)] for row, p in zip(prediction.tokens[last], prediction.probabilities[last])]

    data = {"about": heading, "tokens": tokens, "found": round_all(inside.found[1 - len(tokens):]),
            "ranks": inside.ranks[1 - len(tokens):].tolist(), "predicted": listed(inside.predicted),
            "lens": [listed(prediction) for prediction in inside.lens], "answer": "".join(labels(inside.answer)),
            "answerTokens": len(inside.answer), "probability": inside.probability,
            "shares": round_all(inside.shares[last]),
            "maps": [[encode_map(m) for m in heads] for heads in inside.maps], "side": len(inside.maps[0][0]),
            "ablation": ablation, "sequential": sequential(np.linspace(0, 1, 256)).tolist(),
            "diverging": diverging(np.linspace(-1, 1, 256)).tolist()}
    return page(Path(__file__).parent, "inside", "Inside the model", data, ["inside_ablation.js", "inside.js"])


def round_all(x: Any) -> list[float]:
    """Round each to four digits, which the page shows."""
    return [float(f"{v:.4g}") for v in x]


def encode_map(p: Array) -> str:
    """Encode probabilities as bytes in base64: their square roots, so that small ones are visible."""
    return base64.b64encode(np.rint(255 * np.sqrt(p)).astype(np.uint8).tobytes()).decode()
