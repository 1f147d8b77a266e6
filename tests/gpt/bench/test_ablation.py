"""`gpt ablate`: each ingredient is left out, what is judged by was never trained on, and the table says what came."""

import math
import statistics
from dataclasses import asdict, replace

import numpy as np
import pytest

from gpt import GPT, TrainConfig
from gpt.bench import ablation
from gpt.bench.ablation import (
    OTHERS,
    WHOLE,
    WITHOUT,
    AblationConfig,
    Trial,
    ablate,
    best_trials,
    cost,
    load_development,
    table,
    trials,
)
from gpt.cli import main
from gpt.runtime.worker_pool import WorkerPool
from gpt.training.data_parallel import Replicas
from gpt.training.recipes import RECIPES
from gpt.training.trainer import Trainer

TINY = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, warmup_iters=2)
STEPS = 8
# Numbers of the recipe that go with an ingredient, or with how long it trains, and are no ingredients themselves.
NUMBERS = {"rope_base", "norm_eps", "batch_size", "max_iters", "learning_rate", "weight_decay", "grad_clip",
           "warmup_iters", "min_lr", "falling_share", "eval_interval", "recipe"}


@pytest.fixture(autouse=True)
def tiny_recipes(monkeypatch, tmp_path):
    for name in RECIPES:
        monkeypatch.setitem(RECIPES, name, RECIPES[name] | TINY)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def file(tmp_path):
    """A text whose characters say in which part of it they are: - in the validation part only, + in the development
    set only."""
    draw, (train, dev, val) = np.random.default_rng(0), (1620, 180, 200)
    parts = ["".join(draw.choice(list("aabc d" + mark * 3), n)) for mark, n in (("", train), ("+", dev), ("-", val))]
    path = tmp_path / "text.txt"
    path.write_text("".join(parts), encoding="utf-8")
    return str(path)


def rows(text):
    """The cells of the table in a command's output, by what is left out."""
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines() if row.startswith("| ")]
    assert cells[0] == ["left out", "loss", "difference", "ms a step", "parameters", "seeds"]
    return {row[0]: row[1:] for row in cells[1:]}


def loss_of(config, data, vocab_size, seed):
    """Return the loss that `gpt train` would reach."""
    config = replace(config, seed=seed)
    with WorkerPool(config.n_replicas) as pool:
        trainer = Trainer(config, GPT(config.model_config(vocab_size), seed=seed), data, pool)
        for _ in range(config.max_iters):
            trainer.step()
        return trainer.validate(last=True).val_loss


# ---------------------------------------------------------------------- what is left out


@pytest.mark.parametrize("title", WITHOUT)
def test_what_is_left_out_was_there(title):
    changes, whole = WITHOUT[title], asdict(TrainConfig.from_recipe("fast", max_iters=STEPS))
    tried = [asdict(trial.config) for trial in trials(STEPS) if trial.title == title]
    assert tried
    for settings in tried:
        changed = {name for name in settings if settings[name] != whole[name]}
        assert changed | {"learning_rate"} == set(changes) | {"learning_rate"} and changed != {"learning_rate"}


def test_no_ingredient_is_forgotten():
    fast, nanogpt = (asdict(TrainConfig.from_recipe(name)) for name in ("fast", "nanogpt"))
    left_out = {name for changes in WITHOUT.values() for name in changes}
    assert {name for name in fast if fast[name] != nanogpt[name]} - NUMBERS <= left_out


def test_the_whole_recipe_comes_first_and_nanogpt_is_to_the_letter():
    every = list(trials(STEPS))
    assert every[0].title == WHOLE and every[0].config == TrainConfig.from_recipe("fast", max_iters=STEPS)
    assert [t.config for t in every if t.title == next(iter(OTHERS))] == [TrainConfig.from_recipe("nanogpt",
                                                                                                max_iters=STEPS)]
    assert len({t.name for t in every}) == len(every)


# ---------------------------------------------------------------------- what is trained on


def test_the_development_set_is_the_last_tenth_of_the_training_part(file):
    data, vocab_size = load_development((file,))
    with open(file, encoding="utf-8") as opened:
        tokens = np.searchsorted(list("\n +-abcd")[1:], list(opened.read()))
    assert vocab_size == 7 and len(data.train) == 1620 and len(data.val) == 180
    np.testing.assert_array_equal(np.concatenate([data.train, data.val]), tokens[:1800])


@pytest.mark.slow
def test_the_validation_part_is_never_handed_to_a_model(file, monkeypatch, capsys):
    seen = {"gradient": set(), "loss": set()}
    for name in seen:
        honest = getattr(Replicas, name)

        def spied(self, ids, targets, name=name, honest=honest):
            seen[name] |= set(np.unique(ids)) | set(np.unique(targets))
            return honest(self, ids, targets)

        monkeypatch.setattr(Replicas, name, spied)
    monkeypatch.setattr(ablation, "WITHOUT", {"windows": WITHOUT["shuffled windows (random ones instead)"]})
    ablate(AblationConfig((file,), seeds=1, max_iters=150))  # some hundred windows: all of the text that there is
    space, plus, minus, a, b, c, d = range(7)
    assert seen == {"gradient": {space, a, b, c, d}, "loss": {space, plus, a, b, c, d}}


# ---------------------------------------------------------------------- the table


@pytest.fixture
def printed(file, capsys):
    ablate(AblationConfig((file,), seeds=2, max_iters=STEPS))
    return capsys.readouterr()


@pytest.mark.slow
def test_the_table_has_the_losses_of_the_runs(file, printed):
    data, vocab_size = load_development((file,))
    found, every = rows(printed.out), list(trials(STEPS))
    assert len(found) == 1 + len(WITHOUT) + len(OTHERS)
    losses = {t.name: [loss_of(t.config, data, vocab_size, seed) for seed in (1, 2)] for t in every if t.name in found}
    whole = losses[every[0].name]
    for name, (loss, difference, _, parameters, seeds) in found.items():
        mean, spread = map(float, loss.split(" ± "))
        assert mean == pytest.approx(statistics.fmean(losses[name]), abs=6e-5) and seeds == "2"
        assert spread == pytest.approx(statistics.stdev(losses[name]), abs=6e-5)
        if name != every[0].name:
            apart = [b - a for a, b in zip(whole, losses[name])]
            assert float(difference.split()[0]) == pytest.approx(statistics.fmean(apart), abs=6e-5)
            assert losses[name] != whole, name
        config = next(t.config for t in every if t.name == name)
        assert parameters == f"{GPT(config.model_config(vocab_size)).n_parameters:,}"
    costs = [float(row[1].split()[0]) for row in list(found.values())[1:-len(OTHERS)]]
    assert costs == sorted(costs, reverse=True)
    assert list(found)[-2] == "everything (the recipe nanogpt)"


@pytest.mark.slow
def test_nothing_is_written_and_progress_stays_out_of_the_table(file, printed, tmp_path):
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]
    n = 2 * len(list(trials(STEPS)))
    assert f"{n} of {n}  seed 2" in printed.err and "left" in printed.err
    assert "the last 180 of the 1,800 characters" in printed.out and f"after {STEPS} steps" in printed.out


def made(title, losses, ms=(1.0,)):
    return Trial(title, TrainConfig(), dict(enumerate(losses, 1)), [*ms], 12)


def test_a_difference_within_the_spread_of_the_seeds_is_marked():
    whole = made("whole", [1.0, 2.0])
    assert "| +0.1000 ± 0.1414 (≈) |" in ablation.table_row(made("x", [1.2, 2.0]), whole)
    assert "| -0.1000 ± 0.1414 (≈) |" in ablation.table_row(made("x", [0.8, 2.0]), whole)
    assert "| -0.2500 ± 0.0707 |" in ablation.table_row(made("x", [0.7, 1.8]), whole)
    assert "| +0.1500 ± 0.0707 |" in ablation.table_row(made("x", [1.1, 2.2]), whole)
    assert "| 1.0000 |  | 2.0 | 12 | 1 |" in ablation.table_row(one := made("whole", [1.0], [1.0, 2.0, 9.0]), one)


def test_the_best_learning_rate_counts_and_is_judged_by_the_seeds_that_all_have():
    ahead, worse, better = made("x", [3.0, 0.1]), made("x", [2.5]), made("x", [2.0])
    assert best_trials([made("y", [1.0]), ahead, worse, better, made("z", [])])[1:] == [better]
    assert cost(made("x", [2.0, 4.0]), made("y", [1.0, 1.0])) == (2.0, pytest.approx(math.sqrt(2)))


def test_the_note_says_which_learning_rates_were_tried_and_what_one_seed_shows(file):
    whole, slow, fast = made(WHOLE, [1.0]), made("x", [2.0]), made("x", [])
    slow.config, fast.config = (TrainConfig(optimizer="adamw", learning_rate=rate) for rate in (0.001, 0.002))
    whole.config = TrainConfig.from_recipe("fast", max_iters=1)
    data = load_development((file,))[0]
    assert "after 1 step on" in (text := ablation.explain([whole, slow, fast], data)) and "tried: 0.001." in text
    assert "one seed does not show" in text and "(≈)" not in text
    fast.losses.update({1: 1.5, 2: 1.5})
    assert "tried: 0.001, 0.002." in (text := ablation.explain([whole, slow, fast], data)) and "(≈)" in text


def test_a_training_that_diverges_is_told_of(file, monkeypatch):
    def step(self):
        raise FloatingPointError("the loss is nan")

    trial, (data, vocab_size) = next(trials(2)), load_development((file,))
    monkeypatch.setattr(Trainer, "step", step)
    trial.run(data, vocab_size, 1)
    assert "| diverges |  |  |" in ablation.table_row(trial, made("whole", [1.0]))
    lines = table([made(WHOLE, [1.0]), made("b", [1.5]), made("c", [math.inf])])
    assert [text[:3] for text in lines[3:]] == ["| c", "| b"]  # nothing costs more
    lines = table([made(WHOLE, [math.inf, 1.0]), made("b", [1.5, 1.5]), made("c", [1.5, math.inf])])
    assert len(lines) == 5 and "diverges" in lines[2]


# ---------------------------------------------------------------------- the command


def test_a_run_that_is_stopped_prints_what_it_has(file, monkeypatch, capsys):
    honest, calls = Trial.run, []

    def run(self, *args):
        calls.append(self)
        if len(calls) == 3:
            raise KeyboardInterrupt
        honest(self, *args)

    monkeypatch.setattr(Trial, "run", run)
    assert main(["ablate", "--data", file, "--seeds", "2", "--max-iters", "2"]) == 130
    out, err = capsys.readouterr()
    assert [name[:7] for name in rows(out)] == ["nothing", "small m"] and "stopped" in err
    calls[:] = [None] * 2
    assert main(["ablate", "--data", file]) == 130 and capsys.readouterr().out == ""  # there is nothing yet


@pytest.mark.parametrize("argv, message", [
    (["--data", "nowhere"], "nowhere: there is no such file"), (["--seeds", "0"], "seeds is 0"),
    (["--max-iters", "0"], "max_iters is 0"),
    (["--data", "short"], "the text has 170 characters, and needs about 200: give more"),
    (["--data", "empty"], "empty is empty")])
def test_mistakes_are_one_line(argv, message, tmp_path, capsys):
    (tmp_path / "short").write_text("ab" * 85)
    (tmp_path / "empty").touch()
    assert main(["ablate", *argv]) == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_lines_of_the_table_are_of_one_shape():
    assert {text.count("|") for text in table([made(WHOLE, [1.0]), made("b", [1.5])])} == {7}
