"""The diagnosis of a run that went wrong, at its end."""

import math
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest

from gpt import GPT, Checkpoint, GPTConfig, TrainConfig, train
from gpt.data.dataset import TextData
from gpt.data.ladder import Ladder
from gpt.data.tokenizers.char import CharTokenizer
from gpt.model.module import raw
from gpt.training.report import advise, diagnose, show_sample, verbatim_share

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


# ---------------------------------------------------------------------- what would help next


def healthy(loss, val_loss, best_iter=2000, passes=3.0):
    """The trainer of a run that went well: it has seen its text so many times."""
    tokens = np.zeros(int(2000 * 12 * 64 / passes) + 64, np.uint16)
    trainer = ended([(loss, 0.7)] * 20, val_loss, learning_rate=1e-3)
    trainer.data, trainer.best_iter = TextData(tokens, tokens[:100], 64), best_iter
    return trainer


@pytest.mark.parametrize("trainer, verbatim, begin, end", [
    (healthy(1.5, 1.52), 0, "it has read its text 3 times", "more steps (--max-iters 4000)"),
    (healthy(1.5, 1.52, passes=30), 0, "it has read its text 30 times", "--n-embd 192), and more steps for it"),
    (healthy(1.2, 1.5, passes=30), 0, "its loss is 1.200 on the text it learns from, 0.300 lower", "smaller model"),
    (healthy(1.2, 1.5, best_iter=700), 0, "it was best after 700 steps", "or a smaller model"),
    (healthy(1.5, 1.52, best_iter=700), 0, "it was best after 700 steps", "or a lower --learning-rate than 0.001"),
    (healthy(1.5, 1.52), 0.5, "its loss is", "; 50% of the sample above is in the text word for word")])
def test_what_would_help_next(trainer, verbatim, begin, end):
    advice = advise(trainer, verbatim)
    assert advice.startswith(begin) and advice.endswith(end), advice


def test_the_share_of_a_sample_that_is_copied():
    text = "the quick brown fox jumps over the lazy dog while nobody at all is looking at it"
    tokenizer = CharTokenizer("".join(sorted(set(text))))
    data = TextData(tokenizer.encode(text), tokenizer.encode(text), 8)
    assert verbatim_share(text[10:60], tokenizer, data) == 1.0
    assert verbatim_share(text[:40][::-1], tokenizer, data) == 0.0 == verbatim_share("short", tokenizer, data)
    half = verbatim_share(text[:40] + text[:40][::-1], tokenizer, data)
    assert half == (40 - 24 + 1) / (80 - 24 + 1)


def test_a_run_says_where_it_stands_and_carries_its_ladder(tiny, tmp_path):
    said = []
    run = train(TrainConfig(**tiny), said.append)
    ladder = Ladder.from_json(run.metadata["ladder"])
    assert sum(line == f"ladder  {ladder.describe()}" for line in said) == 1
    evaluations = [line for line in said if line.startswith("iter ")]
    assert evaluations and all(len(line.splitlines()) == 2 for line in evaluations)
    assert f"that is {ladder.place(run.metadata['val_loss'])}" in said
    assert [line.startswith("next    ") for line in said[-3:]].count(True) == 1
    plain = []
    run = train(TrainConfig(**tiny | {"ladder": False, "out": str(tmp_path / "plain")}), plain.append)
    assert "ladder" not in run.metadata and not any("count" in line for line in plain)


def test_a_run_that_is_resumed_keeps_its_ladder(tiny, monkeypatch):
    first = train(TrainConfig(**tiny), lambda line: None)
    monkeypatch.setattr(Ladder, "from_data", None)
    again = train(TrainConfig.from_recipe(resume=tiny["out"], max_iters=first.metadata["iter"] + 2), lambda line: None)
    assert again.metadata["ladder"] == first.metadata["ladder"]
