"""Scores of training text: what each of its tokens did for the log-probability of an answer, to first order."""

from collections.abc import Sequence
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


@dataclass
class Reads:
    """What a run read near one of its checkpoints: where examples begin (N,), and the weight of each of their targets
    in the update, learning rate over number of targets (N,)."""
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
