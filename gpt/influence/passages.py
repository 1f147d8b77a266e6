"""Passages of the training text, the examples that a run has read, and their scores for a prediction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.dataset import IGNORED
from ..model.module import Array
from .retraining import Text

_BLOCK = 4096  # examples looked at together


@dataclass
class Passages:
    """Examples that a run has read, which do not overlap, by the token before their first target, and their lengths in
    targets, (N,) each; `scores` (N,), what each did for the log-probability of an answer, in nats, the largest first.
    """
    starts: Array
    lengths: Array
    scores: Array

    @classmethod
    def rank(cls, batches: Sequence[Array], data: Text, token_scores: Array) -> "Passages":
        """Order the examples in the batches of a run by the scores of their tokens; one that overlaps with a better one
        is left out, so that no token counts twice."""
        starts = np.unique(np.concatenate(batches)).astype(np.int64)
        lengths = np.concatenate([(data.examples_at(starts[i:i + _BLOCK])[1] != IGNORED).sum(1)
                                  for i in range(0, len(starts), _BLOCK)])
        total = np.append(0, token_scores.cumsum())
        scores = total[starts + lengths + 1] - total[starts + 1]
        taken, chosen = np.zeros(len(token_scores), bool), []
        for i in np.argsort(-scores, kind="stable"):
            span = slice(starts[i] + 1, starts[i] + lengths[i] + 1)
            if not taken[span].any():
                taken[span] = True
                chosen.append(i)
        return cls(starts[chosen], lengths[chosen], scores[chosen])

    def __len__(self) -> int:
        return len(self.starts)

    def mask(self, chosen: Any, n: int) -> Array:
        """Return an array (n,) that is True for the tokens of some passages, given by their indices."""
        left_out = np.zeros(n, bool)
        for start, length in zip(self.starts[chosen], self.lengths[chosen]):
            left_out[start + 1:start + length + 1] = True
        return left_out

    def draw(self, n: int, seed: Sequence[int]) -> Array:
        """Draw the indices of `n` passages at random, the same ones however they are ranked."""
        return np.argsort(self.starts)[np.random.default_rng(seed).permutation(len(self))[:n]]
