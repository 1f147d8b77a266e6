"""The run that left a checkpoint, trained again: bit for bit, or with some of its text left out."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import numpy as np
from tqdm import tqdm

from ..checkpoint import Checkpoint
from ..data.dataset import IGNORED, Data, LineData, TextData
from ..model.module import Array, raw
from ..runtime.environment import fastest_kernels
from ..runtime.worker_pool import WorkerPool
from ..training.config import TrainConfig
from ..training.train import begin_run, load_start, same_data
from ..training.trainer import Trainer, draw_batch

Text = TextData | LineData


def recorded_config(path: str, run: Checkpoint, data: tuple[str, ...] = ()) -> TrainConfig:
    """Return the settings of the run that left a checkpoint, with as many replicas as it had; `data`: where its text
    lies now.  Raises ValueError for a model that no text was read for."""
    if not run.metadata.get("train"):
        raise ValueError(f"{path} names no text that it was trained on, as if it was imported or tuned: give a model "
                         "of gpt train")
    config = TrainConfig.from_recipe(resume=path)
    if config.task != "text":
        raise ValueError(f"{path} was trained on --task {config.task}, whose examples are drawn anew each time: give a "
                         "model of a text")
    if not data and "-" in config.data:
        raise ValueError(f"{path} was trained on standard input, which is gone: give the same text with --data FILE")
    replicas = run.metadata.get("environment", {}).get("replicas", 0)
    return replace(config, resume=None, replicas=replicas, data=data or config.data)


@contextmanager
def begin_again(config: TrainConfig, run: Checkpoint) -> Iterator[Trainer]:
    """Yield the trainer of a run before its first step.  Raises ValueError if its text is another one."""
    with fastest_kernels(), WorkerPool(config.n_replicas) as pool:
        again, trainer = begin_run(config, pool, load_start(config, lambda line: None)[0])
        before, now = str(run.metadata.get("data")), again.metadata["data"]
        if again.tokenizer.to_json() != run.tokenizer.to_json() or not same_data(before, now, trainer.data):
            raise ValueError(f"the text is not the one that the model was trained on: that was {before:.300}, and this "
                             f"is {now}: give the same text with --data")
        yield trainer


def text_of(trainer: Trainer) -> Text:
    """Return the data of a trainer that reads a text."""
    assert isinstance(trainer.data, Text)
    return trainer.data


def text_tokens(data: Text) -> Array:
    """Return the tokens that the places of a dataset's examples count."""
    return data.tokens if isinstance(data, LineData) else data.train


class Order:
    """The data of a run, of which only the places are wanted: its batches hold where each example begins."""

    def __init__(self, data: Text):
        self.data, self.n_examples = data, data.n_examples

    def train_batch(self, rng: np.random.Generator, batch_size: int) -> tuple[Array, Array]:
        """Draw training examples."""
        return (starts := self.data.random_starts(rng, batch_size)), starts

    def shuffled_batch(self, seed: int, first: int, batch_size: int) -> tuple[Array, Array]:
        """Return the training examples from number `first` on."""
        return (starts := self.data.shuffled_starts(seed, first, batch_size)), starts


def reading_order(trainer: Trainer, n_steps: int) -> list[Array]:
    """Return where the examples of each of a run's first steps begin, of a trainer before its first step."""
    order, rng = cast(Data, Order(text_of(trainer))), copy.deepcopy(trainer.batches)
    c, n = trainer.config, trainer.config.accumulate
    return [np.concatenate([draw_batch(order, c, step * n + i, rng)[0] for i in range(n)]) for step in range(n_steps)]


def train_again(config: TrainConfig, run: Checkpoint, left_out: Array | None = None) -> Checkpoint:
    """Take the steps that led to a checkpoint, with the same batches and random numbers, without the loss of the tokens
    that `left_out` (n,) is True for: they are still read, as the context of others, and never predicted.

    With nothing left out the weights are the checkpoint's, to the bit, in an environment like its own.  Raises
    ValueError if nothing would be left of a batch.
    """
    with begin_again(config, run) as trainer:
        data, n_steps = text_of(trainer), run.metadata["iter"]
        data.left_out = left_out
        for starts in [] if left_out is None else reading_order(trainer, n_steps):
            if any((targets == IGNORED).all() for targets in np.split(data.examples_at(starts)[1], config.accumulate)):
                raise ValueError(f"a batch of {config.batch_size} would have nothing left to learn from: lower "
                                 "--leave-out")
        for _ in tqdm(range(n_steps), desc="train again", unit="step", disable=None, leave=False):
            trainer.step()
        return Checkpoint(trainer.model.map(raw), run.tokenizer, run.metadata)
