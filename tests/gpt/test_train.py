"""A small run from end to end, and what the trainer promises."""

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import gpt
from gpt import TrainConfig, data, train
from gpt.train import RECIPES, evaluate, writable_folder


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
    for part in ("2,080 characters", "17 different ones", "1,872 to train on", "1 layers, 2 heads, 16 dimensions",
                 f"{run.model.n_parameters:,} parameters", "Before training it writes", "After training it writes",
                 f"over the whole validation part: {rows[-1]['val_loss']:.4f}", "model.safetensors",
                 f"-m gpt sample {tiny['out']}"):
        assert part in text


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
    assert loaded.about["iter"] == 30 and loaded.about["train"]["n_embd"] == 16


def test_the_last_evaluation_is_over_the_whole_validation_part(run, text_file):
    loaded = gpt.load(run[1])
    _, val = data.split(loaded.tokenizer.encode(data.read_text([text_file])[0]), 16)
    whole = evaluate(loaded.model.map(lambda t: t.data), data.windows(val, 5, 16))
    assert metrics(run[1])[-1]["val_loss"] == pytest.approx(whole, rel=1e-6)
    assert loaded.about["val_loss"] == pytest.approx(whole, rel=1e-6)


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
    config = TrainConfig(**tiny | {"max_iters": 6, "dropout": 0.3})
    train(config, lambda line: None)
    text = data.read_text(config.data)[0]
    tokens = gpt.CharTokenizer(text).encode(text)
    model = gpt.GPT(config.model_config(17), seed=config.seed)
    flat = gpt.Parameters(model)
    optimizer = gpt.AdamW(flat, (0.9, 0.99), weight_decay=0.1)
    batches, dropout = (np.random.default_rng([config.seed, stream]) for stream in (1, 2))
    losses = []
    for i in range(6):
        x, y = data.batch(tokens[:int(len(tokens) * 0.9)], batches, 8, 16)
        loss = model.loss(x, y, dropout)
        flat.grad[:] = 0
        loss.backward()
        gpt.clip_by_global_norm(flat.grad, 1.0)
        optimizer.step(gpt.learning_rate_at(i, "cosine", 1e-2, 1e-4, 5, 6))
        losses.append(loss.item())
    assert [row["loss"] for row in metrics(tiny["out"])] == losses
    np.testing.assert_array_equal(gpt.load(tiny["out"]).model.wte.weight.data, model.wte.weight.data)


def test_dropout_is_for_training_only(tiny):
    run = train(TrainConfig(**tiny | {"dropout": 0.5}), lambda line: None)
    x = np.arange(16)[None]
    np.testing.assert_array_equal(run.model(x).data, run.model(x).data)


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
        writable_folder(str(tmp_path / "file"))
    assert writable_folder(str(tmp_path / "new" / "one")).is_dir()
    assert not list((tmp_path / "new" / "one").iterdir())


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
    assert TrainConfig.from_recipe() == TrainConfig()
    with pytest.raises(ValueError, match="recipe is 'soup'"):
        TrainConfig.from_recipe("soup")


def test_the_nanogpt_recipe_to_the_letter():
    c = TrainConfig.from_recipe("nanogpt")
    assert (c.n_layer, c.n_head, c.n_embd, c.block_size, c.batch_size, c.max_iters) == (4, 4, 128, 64, 12, 2000)
    assert (c.learning_rate, c.min_lr, c.warmup_iters, c.lr_decay_iters or c.max_iters) == (1e-3, 1e-4, 100, 2000)
    assert (c.beta1, c.beta2, c.weight_decay, c.grad_clip, c.dropout, c.bias) == (0.9, 0.99, 0.1, 1.0, 0.0, False)
    assert (c.eval_interval, c.eval_iters, c.activation, c.positions) == (250, 20, "gelu", "learned")


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_interrupt_finishes_the_step_and_saves(tiny):
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in tiny.items() if name != "data"]
    command = [sys.executable, "-m", "gpt", "train", "--data", *tiny["data"], *flags, "--max-iters=1000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("iter"):
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    rows = metrics(tiny["out"])
    assert process.returncode == 130 and "Traceback" not in errors
    assert f"gpt: stopped after {len(rows):,} steps; to go on:" in errors
    assert gpt.load(tiny["out"]).about["iter"] == len(rows)


def test_weights_that_are_not_finite_are_not_saved_over_good_ones(tiny):
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="--learning-rate"):
        train(TrainConfig(**tiny | {"weight_decay": 1e300, "warmup_iters": 0, "max_iters": 1}))
    assert not (Path(tiny["out"]) / "model.safetensors").exists()
