"""What goes on in a model on a prompt: what it predicts at each place, from which layer on, and what it looks at."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import autograd as ag
from autograd.view.html import diverging, downsample, sequential
from autograd.view.page import page
from autograd.view.player.pictures import attention_weights

from ..model.gpt import GPT
from ..model.module import Array, raw

LIKELIEST = 5   # tokens that are listed at each place
PLACES = 128    # of a longer prompt the last ones are shown
MAP_BYTES = 1_500_000  # that all maps of attention may take; with many heads or tokens they get coarser


@dataclass
class Prediction:
    """The likeliest tokens at each of T places, each with its probability."""
    tokens: Array          # (T, k)
    probabilities: Array   # (T, k), the largest first


@dataclass
class Inside:
    """A model's run on the tokens `ids` (T,)."""
    ids: Array
    predicted: Prediction   # of the token after each
    lens: list[Prediction]  # the same, read from the residual stream: the embedding, and after each block
    found: Array            # (T − 1,): the probability that each token but the first had
    ranks: Array            # (T − 1,): how many tokens were likelier
    maps: list[list[Array]]  # by layer and head: weights (queries, keys), blocks of them for many tokens
    answer: int             # a token that may follow the prompt,
    probability: float      # how likely it is,
    shares: Array           # and (T,): gradient times input, what each place adds to its log-probability


def look(model: GPT, ids: Array, answer: int | None = None) -> Inside:
    """Run `model` on the tokens `ids` (T,) and look at all of it; `answer`: the likeliest token by default.

    Raises FloatingPointError if its logits are not finite.
    """
    logits = model(ids[None])
    if not np.isfinite(logits.data).all():
        raise FloatingPointError("the model's logits are not finite, so its weights are damaged")
    if answer is None:
        answer = int(logits.data[0, -1].argmax())
    log_p = ag.log_softmax(logits)[0, -1, answer]
    log_p.backward(keep=True)
    tape = ag.tape(log_p)
    residual = stream(tape)
    p = probabilities(logits.data[0])
    shares = (residual[0].grad * residual[0].data)[0].sum(-1)  # before the first block, as the embedding may be normed
    found = p[np.arange(len(ids) - 1), ids[1:]]
    for t in model.named_arrays().values():
        t.grad = None
    return Inside(ids, likeliest(p), [read(model, x) for x in residual], found, (p[:-1] > found[:, None]).sum(-1),
                  maps(tape), answer, float(np.exp(log_p.data)), shares)


def probabilities(logits: Array) -> Array:
    """softmax(logits) (T, V), in double precision."""
    return ag.softmax(logits.astype(np.float64))


def read(model: GPT, x: ag.Tensor) -> Prediction:
    """What the head makes of a residual stream (1, T, C)."""
    return likeliest(probabilities(model.map(raw).logits(x.data)[0]))


def likeliest(p: Array) -> Prediction:
    """Return the largest of the probabilities (T, V)."""
    tokens = np.argsort(-p, axis=-1, kind="stable")[:, :LIKELIEST]
    return Prediction(tokens, np.take_along_axis(p, tokens, -1))


def stream(tape: ag.Tape) -> list[ag.Tensor]:
    """Return the residual stream (1, T, C) before the first block, and after each: the last record in a block's own
    scope."""
    last = {t.scope: t for t in tape if t.scope.startswith("h.") and t.scope.count(".") == 1}
    blocks = [last[f"h.{i}"] for i in range(len(last))]
    first = next(t for t in tape if t.scope == "h.0.ln_1")
    return [first.inputs[0], *blocks]


def maps(tape: ag.Tape) -> list[list[Array]]:
    """By layer and head what each place looks at: probabilities (queries, keys), downsample where they are many."""
    attentions = [t for t in tape if t.op is not None and t.op.name == "attention"]
    n = sum(t.shape[1] for t in attentions)
    side = int(min(PLACES, max(16, (MAP_BYTES / n) ** 0.5)))
    found = []
    for t in attentions:
        weights = attention_weights(t)
        found.append([downsample(head, side, side) for head in weights] if weights is not None else [])
    return found


# ---------------------------------------------------------------------- the page


def inside_page(inside: Inside, labels: Any, about: str) -> str:
    """Return the page that shows it: one file, no network.  `labels(ids)` gives the text of each token; `about` is its
    first line."""
    tokens = labels(inside.ids[-PLACES:])
    last = slice(-len(tokens), None)

    def listed(prediction: Prediction) -> list[Any]:
        return [[labels(row), rounded(p)] for row, p in zip(prediction.tokens[last], prediction.probabilities[last])]

    data = {"about": about, "tokens": tokens, "found": rounded(inside.found[1 - len(tokens):]),
            "ranks": inside.ranks[1 - len(tokens):].tolist(), "predicted": listed(inside.predicted),
            "lens": [listed(prediction) for prediction in inside.lens], "answer": labels([inside.answer])[0],
            "probability": inside.probability, "shares": rounded(inside.shares[last]),
            "maps": [[coded(m) for m in heads] for heads in inside.maps], "side": len(inside.maps[0][0]),
            "sequential": sequential(np.linspace(0, 1, 256)).tolist(),
            "diverging": diverging(np.linspace(-1, 1, 256)).tolist()}
    return page(Path(__file__).parent, "inside", "Inside the model", data, ["inside.js"])


def rounded(x: Any) -> list[float]:
    """Four digits of each, which is what a page shows."""
    return [float(f"{v:.4g}") for v in x]


def coded(p: Array) -> str:
    """Probabilities as bytes in base64: their square roots, so that small ones are seen."""
    return base64.b64encode(np.rint(255 * np.sqrt(p)).astype(np.uint8).tobytes()).decode()
