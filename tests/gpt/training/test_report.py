"""The diagnosis of a run that went wrong, at its end."""

import math
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest

from gpt import GPT, Checkpoint, GPTConfig, TrainConfig, train
from gpt.model.module import raw
from gpt.training.report import diagnose, show_sample

GUESS = math.log(65)


def ended(recent, val_loss, **changes):
    """A trainer of a character model at the end of a run: the losses and gradient norms of its last steps."""
    settings = {"learning_rate": 1e9, "warmup_iters": 100, "min_lr": 0.0} | changes
    return SimpleNamespace(config=TrainConfig(**settings), recent=recent, latest=val_loss, iter=2000,
                           model=SimpleNamespace(config=SimpleNamespace(vocab_size=65)))


@pytest.mark.parametrize("trainer, words", [
    (ended([(GUESS, 0.7)] + [(GUESS, 0.0)] * 19, GUESS),
     "the run is dead: its gradient has been 0 for the last 19 steps or more, so it learns nothing any more, with a "
     "loss of 4.17 (a guess among all tokens has 4.17): lower --learning-rate, which is 1e+09"),
    (ended([(9.5, 0.0)] * 20, 9.5), "the run is dead"),
    (ended([(4.2, 0.7)] * 20, 4.18), "the model has learned nothing: its loss is 4.20"),
    (ended([(31.0, 5e3)] * 20, 40.0, learning_rate=3.0), "lower --learning-rate, which is 3,"),
    (ended([(0.29, 0.7)] * 20, 6.93, learning_rate=1e-3),
     "overfitted: the loss is 0.29 on text that was trained on, and 6.93 on other text"),
    (ended([(1.0, 0.7)] * 20, 1.6), "overfitted"),
])
def test_a_run_that_went_wrong(trainer, words):
    found = diagnose(trainer)
    assert words in found and ("--learning-rate" in found) != ("--patience" in found)


@pytest.mark.parametrize("recent, val_loss", [
    ([(1.1, 0.4)] * 20, 1.55),                      # as the default recipe ends on tiny Shakespeare
    ([(0.001, 0.0)] * 20, 0.001),                   # a text that is learned by rule
    ([(2.5, 0.4), (2.5, 0.0), (2.5, 0.0)], 2.6),
    ([(0.1, 0.4)] * 20, 0.5), ([], math.inf)])
def test_a_run_that_went_well(recent, val_loss):
    assert diagnose(ended(recent, val_loss)) == ""


def test_a_run_that_has_hardly_begun():
    young = ended([(GUESS, 0.7)] * 3, GUESS)
    young.iter = 3
    assert diagnose(young) == ""


@pytest.mark.parametrize("changes, words", [
    ({"learning_rate": 30.0, "max_iters": 60, "warmup_iters": 0}, "has learned nothing"), ({}, ""),
    ({"max_iters": 1}, "")])
def test_training_says_so(tiny, changes, words):
    said = []
    train(TrainConfig(**tiny | changes), said.append)
    notes = [line for line in said if line.startswith("note") and "ended worse" not in line]
    assert len(notes) == bool(words) and all(words in line for line in notes)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1e25, 1e38])
def test_weights_that_have_exploded_write_without_a_warning(size, tokenizer):
    config = GPTConfig(vocab_size=11, block_size=8, n_layer=1, n_head=1, n_embd=8, norm="rms_norm")
    model = GPT(config, seed=1).map(lambda t: raw(t) * np.float32(size))
    with suppress(ValueError):  # the logits are not finite
        show_sample(Checkpoint(model, tokenizer), "it writes", lambda line: None, 20)
