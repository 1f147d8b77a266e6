"""Sampling: from the logits of the next token to a token."""

import math
from dataclasses import dataclass

import numpy as np

from ..model.module import Array
from ..runtime.settings import Settings, setting


@dataclass
class Sampling(Settings):
    """Settings of sampling.  They apply in this order, each to the tokens that those before it have left."""

    greedy: bool = setting(False, "greedy decoding: always the likeliest token, as with a temperature of 0",
                           group="sampling")
    repetition_penalty: float = setting(1.0, "above 1: tokens of the prompt and the text become less likely: their "
                                        "logits are divided by it, or multiplied if negative", above=0,
                                        group="sampling")
    temperature: float = setting(1.0, "sampling temperature; below 1: more predictable, above: more varied, 0: greedy",
                                 at_least=0, group="sampling")
    top_k: int | None = setting(None, "top-k sampling: draw from this many of the likeliest tokens; 0: from all",
                                at_least=0, group="sampling")
    top_p: float | None = setting(None, "nucleus (top-p) sampling: draw from the fewest tokens that together have at "
                                  "least this probability", above=0, at_most=1, group="sampling")
    min_p: float | None = setting(None, "min-p sampling: leave out tokens less likely than this share of the "
                                  "likeliest one's probability", at_least=0, at_most=1, group="sampling")


def sample_token(logits: Array, rng: np.random.Generator, held: Array, sampling: Sampling) -> int:
    """Draw a token from logits (V,) for a text that holds the tokens `held`, booleans (V,)."""
    cumulative = weigh_tokens(logits, held, sampling).cumsum()
    return int(cumulative.searchsorted(rng.random() * cumulative[-1], "right"))  # rng.random() is below 1


def weigh_tokens(logits: Array, held: Array, sampling: Sampling) -> Array:
    """Return the probability of each token, (V,), up to a common factor."""
    s, x = sampling, logits.astype(np.float64)
    square = x.dot(x) if x.size < 1 << 13 else np.einsum("i,i", x, x)  # of long ones BLAS would wake all its threads
    if not math.isfinite(square) and not np.isfinite(x).all():  # the first test is faster, and mostly enough
        raise ValueError("the model's logits are not finite, so its weights are damaged: train again, "
                         "with a lower --learning-rate")
    if s.repetition_penalty != 1:  # Keskar et al. 2019, 4.1; a negative logit has to grow in size to be less likely
        x[held] = np.where(x[held] > 0, x[held] / s.repetition_penalty, x[held] * s.repetition_penalty)
    if s.greedy or s.temperature == 0:
        p = np.zeros_like(x)
        p[x.argmax()] = 1
        return p
    if s.top_k and s.top_k < len(x):
        x[np.argpartition(x, -s.top_k)[:-s.top_k]] = -np.inf
    x -= x[x.argmax()]  # before the division, so that a tiny temperature gives the others a probability of 0
    if s.temperature != 1:
        x /= max(s.temperature, 1e-250)  # nothing overflows
    p = np.exp(x, out=x)
    if s.top_p is not None and s.top_p < 1:  # Holtzman et al. 2020, 3.1
        order = np.argsort(-p, kind="stable")
        total = p[order].cumsum()
        p[order[total.searchsorted(s.top_p * total[-1]) + 1:]] = 0
    if s.min_p:  # Nguyen et al. 2024
        p[p < s.min_p * p.max()] = 0
    return p
