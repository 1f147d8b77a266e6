"""A small run from end to end, and what the trainer promises."""

import io
import json
import math
import signal
import sys
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import gpt
from gpt import AdamW, TrainConfig, train
from gpt.cli import main
from gpt.data import dataset as data
from gpt.data.tasks import ADDITION
from gpt.optim.parameters import clip_scale, global_norm
from gpt.training import trainer as trainer_module
from gpt.training.recipes import RECIPES
from gpt.training.run_folder import writable_folder
from gpt.training.trainer import WHOLE, Evaluation, Trainer, mean_loss

TRAIN = sys.modules["gpt.training.train"]  # the module, which the function of that name hides


def metrics(out):
    return [json.loads(line) for line in (Path(out) / "metrics.jsonl").read_text().splitlines()]


def test_a_run_learns_and_says_what_it_does(tiny):
    said = []
    run = train(TrainConfig(**tiny | {"max_iters": 150}), said.append)
    rows = metrics(tiny["out"])
    assert [row["iter"] for row in rows] == list(range(1, 151))
    assert rows[0]["loss"] == pytest.approx(math.log(run.tokenizer.vocab_size), abs=0.1)
    assert rows[-1]["val_loss"] < 0.7 < rows[0]["loss"]
    text = "\n".join(said)
    for words in ("2,080 characters", "17 different ones", "1,872 to train on", "1 layers, 2 heads, 16 dimensions",
                 f"{run.model.n_parameters:,} parameters", "Before training it writes", "After training it writes",
                 f"over the whole validation part: {rows[-1]['val_loss']:.4f}", "model.safetensors",
                 f"-m gpt sample {tiny['out']}"):
        assert words in text


def test_lines_come_at_once_into_a_file_too(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file := io.BytesIO()))
    TRAIN.announce("iter 1")
    assert file.getvalue() == b"iter 1\n"


@pytest.mark.parametrize("word, n", [("pace", 10), ("iter", 20)])
def test_what_is_said_is_saved_already(tiny, word, n):
    """The reader of a pipe may have gone, as `tee` does at the same Ctrl-C."""
    def say(line):
        if line.startswith(word):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        train(TrainConfig(**tiny | {"eval_interval": 20, "checkpoint_interval": 10}), say)
    assert gpt.load(tiny["out"]).metadata["iter"] == len(metrics(tiny["out"])) == n


def test_a_row_of_metrics_has_what_is_promised(run, tiny):
    rows = metrics(run[1])
    assert all({"iter", "loss", "lr", "ms", "tokens_per_s"} <= row.keys() for row in rows)
    assert [row["iter"] for row in rows if "val_loss" in row] == [10, 20, 30]
    assert all(row["tokens_per_s"] == pytest.approx(8 * 16 / row["ms"] * 1e3, rel=0.01) for row in rows)
    expected = [gpt.learning_rate_at(i, "cosine", 1e-2, 1e-4, 5, 30) for i in range(30)]
    np.testing.assert_allclose([row["lr"] for row in rows], expected)


def test_the_saved_run_is_the_trained_one(run):
    trained, loaded = run[0], gpt.load(run[1])
    for name, t in trained.model.named_arrays().items():
        np.testing.assert_array_equal(t.data, loaded.model.named_arrays()[name].data)
    assert loaded.metadata["iter"] == 30 and loaded.metadata["train"]["n_embd"] == 16


def test_the_last_evaluation_is_over_the_whole_validation_part(run, text_file):
    loaded = gpt.load(run[1])
    _, val = data.split(loaded.tokenizer.encode(data.read_text([text_file])[0]), 16)
    whole = mean_loss(loaded.model.map(lambda t: t.data).loss, data.all_windows(val, 5, 16))
    assert metrics(run[1])[-1]["val_loss"] == pytest.approx(whole, rel=1e-6)
    assert loaded.metadata["val_loss"] == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("changes", [{}, {"dropout": 0.2}])
def test_a_seed_gives_the_same_run(tiny, tmp_path, changes):
    runs = [train(TrainConfig(**tiny | changes | {"seed": seed, "out": str(tmp_path / name)}), lambda line: None)
            for seed, name in ((1, "a"), (1, "b"), (2, "c"))]
    a, b, c = ([row["loss"] for row in metrics(tmp_path / name)] for name in "abc")
    assert a == b and a != c
    np.testing.assert_array_equal(runs[0].model.wte.weight.data, runs[1].model.wte.weight.data)


def test_evaluating_more_often_does_not_change_the_run(tiny, tmp_path):
    losses = []
    for name, changes in (("a", {}), ("b", {"eval_interval": 3, "eval_iters": 0})):
        train(TrainConfig(**tiny | changes | {"out": str(tmp_path / name)}), lambda line: None)
        losses.append([row["loss"] for row in metrics(tmp_path / name)])
    assert losses[0] == losses[1]


def test_a_run_is_this_loop(tiny):
    config = TrainConfig(**tiny | {"max_iters": 6, "dropout": 0.3, "replicas": 1})
    train(config, lambda line: None)
    text = data.read_text(config.data)[0]
    tokens = gpt.CharTokenizer(text).encode(text)
    model = gpt.GPT(config.model_config(17), seed=config.seed)
    flat = gpt.Parameters(model)
    optimizer = gpt.AdamW(flat, (0.9, 0.99), weight_decay=0.1)
    batches, dropout = (np.random.default_rng([config.seed, *stream]) for stream in ([1], [2, 0]))
    losses = []
    with TRAIN.fastest_kernels():
        for i in range(6):
            x, y = data.random_windows(tokens[:int(len(tokens) * 0.9)], batches, 8, 16)
            loss = model.loss(x, y, dropout)
            flat.grad[:] = 0
            loss.backward()
            scale = clip_scale(global_norm(flat.grad), 1.0)
            optimizer.step(gpt.learning_rate_at(i, "cosine", 1e-2, 1e-4, 5, 6), scale)
            losses.append(loss.item())
    assert [row["loss"] for row in metrics(tiny["out"])] == losses
    np.testing.assert_array_equal(gpt.load(tiny["out"]).model.wte.weight.data, model.wte.weight.data)


def test_dropout_is_for_training_only(tiny):
    run = train(TrainConfig(**tiny | {"dropout": 0.5}), lambda line: None)
    x = np.arange(16)[None]
    np.testing.assert_array_equal(run.model(x).data, run.model(x).data)


@pytest.mark.slow_but_every(3)
@pytest.mark.parametrize("changes, batches, scope", [
    ({"max_iters": 2}, 6, "over 6 batches of its part (--eval-whole takes all of it)"),
    ({"max_iters": 2, "eval_iters": 8}, 8, "over 8 batches of its part"),
    ({"max_iters": 2, "accumulate": 2}, 12, "over 12 batches of its part"),
    ({"max_iters": 2, "eval_whole": True}, 13, "over the whole validation part"),
    ({"max_iters": 2, "eval_iters": 0}, 13, "over the whole validation part"),
    ({"max_iters": 5}, 13, "over the whole validation part"),
    ({"max_iters": 99, "patience": 1, "eval_interval": 1, "learning_rate": 1e-9, "min_lr": 0.0}, 6, "over 6 batches")])
def test_the_last_evaluation_takes_no_longer_than_the_training(tiny, monkeypatch, changes, batches, scope):
    """Of the 13 windows of the validation part, in batches of one, three in the time of a step."""
    found, said = [], []

    def counted(loss, pairs):
        pairs = list(pairs)
        found.append((len(pairs), mean_loss(loss, pairs)))
        return found[-1][1]

    monkeypatch.setattr(sys.modules["gpt.training.trainer"], "mean_loss", counted)
    train(TrainConfig(**tiny | {"batch_size": 1, "eval_interval": 100} | changes), said.append)
    longest = max(found)
    assert longest[0] == batches and metrics(tiny["out"])[-1]["val_loss"] == longest[1]
    assert any(scope in line for line in said)
    assert any(f"({scope.split()[1]}".replace("the", "whole") in line for line in said)


def test_the_target_stops_a_run(tiny):
    said = []
    train(TrainConfig(**tiny | {"max_iters": 500, "target_val_loss": 1.5}), said.append)
    rows = metrics(tiny["out"])
    assert len(rows) < 500 and rows[-1]["val_loss"] <= 1.5
    assert all(row.get("val_loss", 9) > 1.5 for row in rows[:-1])
    assert any("over the whole validation part" in line for line in said)


def test_clipping_and_decay_reach_the_optimizer(tiny, tmp_path):
    last = {}
    for name, changes in (("plain", {}), ("clip", {"grad_clip": 1e-9}), ("decay", {"weight_decay": 5.0})):
        run = train(TrainConfig(**tiny | changes | {"out": str(tmp_path / name)}), lambda line: None)
        last[name] = np.abs(run.model.h[0].mlp.c_fc.weight.data).mean()
    assert last["decay"] < 0.7 * last["plain"] and last["clip"] < 0.9 * last["plain"]


def test_a_loss_that_is_not_finite_stops_the_run(tiny):
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="lower --learning-rate"):
        train(TrainConfig(**tiny | {"learning_rate": 1e30, "grad_clip": 0.0, "warmup_iters": 0}), lambda line: None)


def test_an_output_folder_that_takes_no_files(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match=r"nothing can be written to .*file.*choose another folder with --out"):
        with writable_folder(str(tmp_path / "file")):
            pass
    with writable_folder(str(tmp_path / "new" / "one")) as folder:
        assert folder.is_dir() and not list(folder.iterdir())


def test_a_folder_that_a_command_made_goes_if_it_fails(tmp_path):
    (tmp_path / "old").mkdir()
    for name, left in ("new/one", False), ("old", True), ("old/new", False):
        with pytest.raises(KeyError), writable_folder(tmp_path / name):
            raise KeyError
        assert (tmp_path / name).exists() is left
    assert not (tmp_path / "new").exists()
    with pytest.raises(KeyError), writable_folder(tmp_path / "new") as folder:
        (folder / "mine").touch()
        raise KeyError
    assert (tmp_path / "new" / "mine").exists()


def test_an_output_folder_without_permission(tmp_path, monkeypatch):
    def denied(dir):
        raise PermissionError(13, "Permission denied", str(dir / "name"))

    monkeypatch.setattr("gpt.training.run_folder.tempfile.TemporaryFile", denied)
    with pytest.raises(PermissionError, match=r"nothing can be written to .* \(Permission denied\): choose another"), \
            writable_folder(str(tmp_path / "new")):
        pass
    assert not (tmp_path / "new").exists()


def test_the_folder_is_checked_before_anything_else(tiny, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="--out"):
        train(TrainConfig(**tiny | {"out": str(tmp_path / "file"), "data": ("missing.txt",)}))


@pytest.mark.parametrize("changes", [dict(batch_size=0), dict(max_iters=0), dict(learning_rate=0.0), dict(beta2=1.0),
                                     dict(min_lr=-1.0), dict(grad_clip=-1.0), dict(recipe="soup"), dict(seed=-1),
                                     dict(learning_rate=float("inf")), dict(n_embd=6), dict(target_val_loss=0.0)])
def test_settings_that_make_no_sense(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        TrainConfig(**changes)


def test_recipes_are_overridden_by_single_settings():
    assert TrainConfig.from_recipe("nanogpt", n_layer=2) == replace(TrainConfig(**RECIPES["nanogpt"]), n_layer=2)
    assert TrainConfig.from_recipe() == TrainConfig(**RECIPES["fast"], recipe="fast")
    assert TrainConfig.from_recipe("fast", n_layer=2, optimizer="sgd") == replace(TrainConfig.from_recipe(), n_layer=2,
                                                                                  optimizer="sgd")
    with pytest.raises(ValueError, match="recipe is 'soup'"):
        TrainConfig.from_recipe("soup")


NANOGPT = dict(
    n_layer=4, n_head=4, n_kv_head=None, n_embd=128, head_dim=None, n_hidden=None, block_size=64, bias=False,
    qkv_bias=False, dropout=0.0, activation="gelu", gated=False, positions="learned", rope_base=10000.0,
    norm="layer_norm", norm_gain=True, norm_eps=1e-5, norm_embedding=False, qk_norm=False, qk_norm_gain=False,
    residual_scalars=False, convolution=0, smear=False, tied=True, zero_init=False,
    batches="random", batch_size=12, accumulate=1, max_iters=2000, time_limit=None, learning_rate=1e-3, min_lr=1e-4,
    schedule="cosine", falling_share=0.2, warmup_iters=100, lr_decay_iters=None, optimizer="adamw", weight_decay=0.1,
    beta1=0.9, beta2=0.99, momentum=0.9, embedding_lr=0.015, taps_lr=0.04, grad_clip=1.0, eval_interval=250,
    eval_iters=20, eval_whole=False, ladder=True, patience=None, target_val_loss=None, seed=1337, recipe="nanogpt")
DATA_AND_OUTPUT = {"data", "task", "digits", "tokenizer", "vocab_size", "lines", "val_fraction", "cache_dir", "out",
                   "overwrite", "from_", "resume", "checkpoint_interval", "keep", "replicas", "code"}


def test_the_nanogpt_recipe_to_the_letter():
    """Every setting of the model and of training, also those that are of no effect in it; `TrainConfig()` is the same,
    so that a run which was saved before a setting was there goes on as it was."""
    c = TrainConfig.from_recipe("nanogpt")
    assert {name: value for name, value in asdict(c).items() if name not in DATA_AND_OUTPUT} == NANOGPT
    assert c == TrainConfig()
    assert c.tokenizer == "char" and c.val_fraction == 0.1 and not c.lines


def test_addition_has_settings_of_its_own():
    c = TrainConfig.from_recipe(task="addition")
    assert c == TrainConfig.from_recipe("nanogpt", task="addition") == TrainConfig(**{**NANOGPT, **ADDITION},
                                                                                   task="addition")
    assert TrainConfig.from_recipe(task="addition", n_layer=1).n_layer == 1
    with pytest.raises(ValueError, match="--task addition has settings of its own, and takes no --recipe fast"):
        TrainConfig.from_recipe("fast", task="addition")
    with pytest.raises(ValueError, match="shuffled windows of a text, and --task addition has none: leave out"):
        TrainConfig.from_recipe(task="addition", batches="shuffled")


@pytest.mark.parametrize("recipe, words", [
    ("nanogpt", ["AdamW at 0.001; 5 steps of warm-up, then cosine to 0.0001", "random batches"]),
    ("fast", ["Muon at 0.016 for matrices (3,072 parameters), Adam at 0.015 for embeddings (544), at 0.04 for "
              "taps of convolutions (96); 5 steps of warm-up, then constant, and to 0 over the last 60%",
              "0.56 passes over the text", "shuffled batches"])])
def test_a_run_says_how_it_learns(tiny, recipe, words):
    sizes = {name: tiny[name] for name in tiny if name != "learning_rate"} | {"max_iters": 8, "eval_interval": 8}
    said = []
    train(TrainConfig.from_recipe(recipe, **sizes), said.append)
    text = "\n".join(said)
    assert f"recipe {recipe}" in text and all(each in text for each in words), text


@pytest.mark.parametrize("recipe", ["nanogpt", "fast"])
def test_a_run_says_at_its_start_whether_its_model_can_be_exported(tiny, tmp_path, recipe):
    said = []
    train(TrainConfig.from_recipe(recipe, **tiny | {"max_iters": 1, "warmup_iters": 0}), said.append)
    (line,) = [line for line in said if line.startswith("export")] or [""]
    argv = ["export", tiny["out"], "--out", str(tmp_path / "made")]
    assert main(argv) == (recipe == "fast") and bool(line) is (recipe == "fast")
    assert not line or "gpt export will refuse it: llama, the nearest, has no counterpart for gated False" in line


def test_learning_rates_of_muon_reach_their_parameters(tiny, tmp_path):
    """Each moves with its own rate only."""
    moved = {}
    sizes = {name: tiny[name] for name in tiny if name != "learning_rate"} | {"max_iters": 1, "warmup_iters": 0}
    for which in ("learning_rate", "embedding_lr", "taps_lr"):
        rates = {"learning_rate": 1e-9, "embedding_lr": 1e-9, "taps_lr": 1e-9, which: 0.1}
        c = TrainConfig.from_recipe(**sizes | rates | {"out": str(tmp_path / which), "zero_init": False, "smear": True})
        after = train(c, lambda line: None).model.named_arrays()
        before = gpt.GPT(c.model_config(17), seed=c.seed).named_arrays()
        moved[which] = {name for name in after if np.abs(after[name].data - before[name].data).max() > 1e-4}
    assert moved["embedding_lr"] == {"wte.weight", "lm_head.weight"}
    assert moved["taps_lr"] == {"smear.weight", "h.0.attn.conv.weight", "h.0.mlp.conv.weight"}
    assert moved["learning_rate"] == {f"h.0.{name}.weight" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc",
                                                                       "mlp.c_proj")}


def test_shuffled_batches_are_those_of_the_data(tiny, monkeypatch):
    """Step after step, and `accumulate` of them each, they go through the text."""
    c = TrainConfig(**tiny | {"batches": "shuffled", "accumulate": 2, "max_iters": 9, "replicas": 1})
    dataset, tokenizer = TRAIN.prepare_data(c)
    trainer = Trainer(c, gpt.GPT(c.model_config(tokenizer.vocab_size)), dataset)
    seen = []
    gradient = trainer.replicas.gradient
    monkeypatch.setattr(trainer.replicas, "gradient", lambda x, y: (seen.append(x), gradient(x, y))[1])
    for _ in range(9):
        trainer.step()
    expected = trainer.data.shuffled_batch(c.seed, 0, 8 * 2 * 9)[0]
    np.testing.assert_array_equal(np.concatenate(seen), expected)
    assert trainer.data.n_examples == 116 - 1 and len(expected) == 144  # more than a pass


def test_weights_that_are_not_finite_are_not_saved_over_good_ones(tiny):
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="--learning-rate"):
        train(TrainConfig(**tiny | {"weight_decay": 1e300, "warmup_iters": 0, "max_iters": 1}))
    assert not (Path(tiny["out"]) / "model.safetensors").exists()


# ---------------------------------------------------------------------- what ends a run before its last step


@pytest.fixture
def minute_a_step(monkeypatch):
    """A clock that goes on by a minute a step, and by half of one an evaluation."""
    now = [1e6]

    def slow(owner, name, seconds):
        real = getattr(owner, name)

        def slower(*args, **kwargs):
            now[0] += seconds
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, slower)

    slow(AdamW, "step", 60)
    slow(Trainer, "validate", 30)
    monkeypatch.setattr(trainer_module, "time", SimpleNamespace(perf_counter=lambda: now[0]))


@pytest.mark.slow_but_every(3)
@pytest.mark.parametrize("limit, steps", [(5.0, 5), (4.1, 5), (0.01, 1), (11.4, 11), (11.6, 12), (1000.0, 30)])
def test_the_time_limit_stops_a_run(tiny, minute_a_step, limit, steps):
    """Evaluations count, too: with that after the tenth step, the eleventh ends after 11.5 minutes."""
    said = []
    run = train(TrainConfig(**tiny | {"time_limit": limit}), said.append)
    rows = metrics(tiny["out"])
    assert len(rows) == run.metadata["iter"] == steps and "val_loss" in rows[-1]
    assert sum("(whole validation part;" in line for line in said) == 1
    assert said[-4].endswith(f", after {steps:,} steps")


def test_the_time_of_a_run_that_goes_on_counts_from_its_start(tiny, minute_a_step, monkeypatch):
    monkeypatch.setattr(TRAIN, "stop_on_signal", lambda: nullcontext([signal.SIGINT]))
    with pytest.raises(KeyboardInterrupt, match="stopped after 1 steps"):
        train(TrainConfig(**tiny | {"time_limit": 5.0}), lambda line: None)
    monkeypatch.setattr(TRAIN, "stop_on_signal", lambda: nullcontext([]))
    run = train(TrainConfig.from_recipe(resume=tiny["out"]), lambda line: None)
    assert run.metadata["iter"] == 5 and run.metadata["state"]["seconds"] == 5 * 60 + 30


@pytest.mark.parametrize("losses, steps, best", [
    ([3, 2, 2.5, 2.4, 9], 8, 2), ([3, 2, 2, 2, 9], 8, 2), ([3, 4, 2, 4, 4], 10, 2), ([3, 4, 5, 9, 9], 6, 3)])
def test_patience_ends_with_so_many_evaluations_without_gain(tiny, monkeypatch, losses, steps, best):
    given = iter(losses)
    monkeypatch.setattr(Trainer, "validate", lambda self, last, stop_requested:
                        Evaluation(7.0, WHOLE) if last else Evaluation(next(given), "2 batches"))
    run = train(TrainConfig(**tiny | {"patience": 2, "eval_interval": 2, "max_iters": 10}), lambda line: None)
    rows = metrics(tiny["out"])
    assert len(rows) == steps and rows[-1]["val_loss"] == run.metadata["val_loss"] == 7.0  # over the whole part
    assert gpt.load(Path(tiny["out"]) / "best.safetensors").metadata["val_loss"] == best


def test_without_patience_a_run_goes_on(tiny, monkeypatch):
    losses = iter(range(1, 100))
    monkeypatch.setattr(Trainer, "validate", lambda *_: Evaluation(float(next(losses)), "2 batches"))
    train(TrainConfig(**tiny | {"eval_interval": 2}), lambda line: None)
    assert len(metrics(tiny["out"])) == 30


def test_the_target_counts_on_the_whole_validation_part_only(tiny, monkeypatch):
    """Step 2: an estimate above the target; step 4: the whole part is above it; step 6: it is reached exactly."""
    losses = iter([2.2, 2.0, 2.3, 1.9, 2.1])
    monkeypatch.setattr(trainer_module, "mean_loss", lambda loss, batches: next(losses))
    train(TrainConfig(**tiny | {"target_val_loss": 2.1, "eval_interval": 2}), lambda line: None)
    assert [row.get("val_loss") for row in metrics(tiny["out"])] == [None, 2.2, None, 2.3, None, 2.1]
    assert next(losses, None) is None
