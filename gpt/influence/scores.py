"""Scores of training text: what each of its tokens did for the log-probability of an answer, to first order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

import autograd as ag

from ..data.dataset import IGNORED
from ..model.gpt import GPT
from ..model.module import Array
from ..runtime.worker_pool import WorkerPool
from .retraining import Text, text_tokens

ROWS = 8  # examples that one worker computes at a time: their arrays stay in its cache
LARGEST = 4096  # rows or columns of a matrix that is whitened as one
TINY = 1e-30  # so that a gradient that is 0 everywhere stays so


@dataclass
class Query:
    """A question to a model: how probable is the `answer` (K,) after the tokens `ids` (T,)?"""
    ids: Array
    answer: Array

    def log_probability(self, model: GPT) -> Any:
        """Return the log-probability of the answer, in nats."""
        logits = model(np.append(self.ids, self.answer[:-1])[None])  # (1, T + K − 1, V)
        return ag.log_softmax(logits)[0, np.arange(-len(self.answer), 0), self.answer].sum()

    def gradient(self, model: GPT) -> GPT:
        """Return the gradient of the log-probability by the parameters, as a model of arrays: 0 for constants."""
        for t in model.named_arrays().values():
            t.grad = None
        self.log_probability(model).backward()
        return model.map(lambda t: np.zeros_like(t.data) if t.grad is None else t.grad)


def log_probabilities(model: GPT, ids: Array, targets: Array) -> Array:
    """Return the log-probability of each target (B, T) after its ids (B, T): (B, T), 0 for those that are ignored."""
    return -ag.cross_entropy(model(ids), targets, reduction="none")


def derivative_along(model: GPT, direction: GPT, ids: Array, targets: Array) -> Array:
    """Return the derivative of each target's log-probability, (B, T), if the weights move along a direction.

    With a gradient for the direction it is the inner product of two gradients, of each target and of whatever that
    gradient is of: all of them in one forward-mode pass, where a gradient for each target would take B · T backward
    passes, and the memory of as many models.
    """
    return ag.jvp(lambda weights: log_probabilities(weights, ids, targets), (model,), (direction,))[1]


class Whitening:
    """The step that an optimizer makes of a gradient, to first order: gradients are whitened by their second moments.

    A matrix G becomes L^(−1/4) G R^(−1/4), with L the mean of GGᵀ and R that of GᵀG (Shampoo: Gupta, Koren & Singer
    2018, of which Muon's orthogonalization is the case of one gradient); anything else is divided by the root of its
    mean square, as Adam does.  `damping`: the share of the largest eigenvalue, or square, that is added to all.
    """

    def __init__(self, gradients: Iterable[dict[str, Array]], damping: float = 1e-3):
        self.damping, self.n = damping, 0
        self.moments: dict[str, list[Array]] = {}
        for self.n, each in enumerate(gradients, 1):
            for name, g in each.items():
                g = g.astype(np.float64)
                new = [g @ g.T, g.T @ g] if g.ndim == 2 and max(g.shape) <= LARGEST else [np.square(g)]
                self.moments[name] = [a + b for a, b in zip(self.moments.get(name, [0.0] * 2), new)]

    def __call__(self, name: str, g: Array) -> Array:
        """Return the whitened gradient of a parameter."""
        moments = [m / self.n for m in self.moments[name]]
        if len(moments) == 1:
            return g / np.sqrt(moments[0] + self.damping * moments[0].max() + TINY)
        left, right = map(self._inverse_root, moments)
        return left @ g @ right

    def _inverse_root(self, moment: Array) -> Array:
        """Return M^(−1/4) of a symmetric matrix."""
        values, vectors = np.linalg.eigh(moment)
        values = np.maximum(values, 0)
        return (vectors * (values + self.damping * values.max() + TINY) ** -0.25) @ vectors.T


@dataclass
class Reads:
    """Examples that a run read near one of its checkpoints: where they begin (N,), and the weight of each of their
    targets in the update, the learning rate over the number of targets in the step (N,)."""
    starts: Array
    weights: Array


def score_tokens(models: Sequence[GPT], directions: Sequence[GPT], reads: Sequence[Reads], data: Text,
                 pool: WorkerPool) -> Array:
    """Return what each token of the training text did for a log-probability by being a target, in nats, to first order
    (n,): the sum over all times that the run read it, of its weight and of the derivative of its own log-probability
    along the direction at the checkpoint near that step (TracIn: Pruthi et al. 2020).

    models, directions, reads: of each checkpoint.
    """
    scores = np.zeros(len(text_tokens(data)))
    programs: list[Any] = [None] * pool.n
    with tqdm(total=sum(len(r.starts) for r in reads), desc="read", unit="passage", disable=None, leave=False) as bar:
        for model, direction, read in zip(models, directions, reads):
            for first in range(0, len(read.starts), ROWS * pool.n):
                starts = read.starts[first:first + ROWS * pool.n]
                slices = np.array_split(starts, min(pool.n, len(starts)))

                def work(i: int, slices: list[Array] = slices, model: GPT = model, direction: GPT = direction) -> Any:
                    ids, targets = data.examples_at(slices[i])
                    if programs[i] is None:
                        programs[i] = ag.record(derivative_along, model, direction, ids, targets)
                    return np.where(targets == IGNORED, 0, programs[i](model, direction, ids, targets))

                found = np.concatenate(pool.run(work, len(slices)))
                positions = starts[:, None] + np.arange(1, found.shape[1] + 1)
                weights = read.weights[first:first + ROWS * pool.n, None]
                np.add.at(scores, np.minimum(positions, len(scores) - 1), found * weights)
                bar.update(len(starts))
    return scores
