"""A run that is stopped, killed or denied the disk goes on as if nothing had happened."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import gpt
from gpt import TrainConfig, checkpoint, train
from gpt.metrics import Metrics

TRAIN = sys.modules["gpt.train"]  # the module, which the function of that name hides
TIMES = ("ms", "tokens_per_s")


def quiet(line):
    """Say nothing."""


def metrics(out):
    """The rows of a run without the figures that no two runs share."""
    lines = (Path(out) / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


def everything(out):
    """All that a run leaves: weights, optimizer, generators, metrics."""
    run, arrays = checkpoint.load_with_state(out)
    arrays |= {name: t.data for name, t in run.model.named_arrays().items()}
    state = {k: v for k, v in run.about["state"].items() if k != "seconds"}
    return arrays, state, metrics(out)


def assert_equal_runs(a, b):
    (arrays, state, rows), (other_arrays, other_state, other_rows) = everything(a), everything(b)
    assert arrays.keys() == other_arrays.keys() and state == other_state and rows == other_rows
    for name in arrays:
        np.testing.assert_array_equal(arrays[name], other_arrays[name])


@pytest.fixture
def stop_after(monkeypatch):
    """Let the next run be interrupted after n steps, as Ctrl-C would."""
    def at(n):
        asked = []

        class Stop:
            def __enter__(self):
                return asked

            def __exit__(self, *error):
                pass

        step = TRAIN.Trainer.step

        def counted(self):
            row = step(self)
            if self.iter == n:
                asked.append(True)
            return row

        monkeypatch.setattr(TRAIN, "stop_on_signal", Stop)
        monkeypatch.setattr(TRAIN.Trainer, "step", counted)
    return at


SETTINGS = [{}, {"dropout": 0.2, "accumulate": 2}, {"optimizer": "sgd", "schedule": "linear"}, {"patience": 5}]


@pytest.mark.parametrize("changes", SETTINGS, ids=lambda changes: "-".join(changes) or "default")
@pytest.mark.parametrize("n", [1, 10, 17])
def test_a_run_that_was_stopped_equals_one_that_was_not(tiny, tmp_path, stop_after, changes, n):
    whole = tiny | changes | {"out": str(tmp_path / "whole")}
    train(TrainConfig(**whole), quiet)
    stop_after(n)
    with pytest.raises(KeyboardInterrupt, match=rf"stopped after {n} steps; to go on:\s+.*train --resume"):
        train(TrainConfig(**tiny | changes), quiet)
    assert len(metrics(tiny["out"])) == n
    stop_after(-1)
    train(TrainConfig.from_recipe(resume=tiny["out"]), quiet)
    assert_equal_runs(whole["out"], tiny["out"])


def test_rows_after_the_checkpoint_are_cut_off(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"iter": 1}\n{"iter": 2}\n{"iter": 3}\n{"it')
    with Metrics(path, 2) as file:
        file.write({"iter": 3, "loss": 1.5})
    assert path.read_text() == '{"iter": 1}\n{"iter": 2}\n{"iter": 3, "loss": 1.5}\n'
    with Metrics(path, 0):
        pass
    assert path.read_text() == ""


def test_the_last_few_and_the_best_are_kept(tiny):
    train(TrainConfig(**tiny | {"checkpoint_interval": 7, "keep": 2}), quiet)
    out = Path(tiny["out"])
    assert [file.stem for file in checkpoint.numbered(out)] == ["iter-00000028", "iter-00000030"]
    losses = {row["iter"]: row["val_loss"] for row in metrics(out) if "val_loss" in row}
    best = gpt.load(out / checkpoint.BEST).about
    assert best["val_loss"] == min(losses.values()) == losses[best["iter"]]
    assert gpt.load(out).about["iter"] == 30
    assert not [file for file in out.iterdir() if file.name.endswith(".tmp")]


def test_an_older_checkpoint_can_be_gone_on_with(tiny, tmp_path):
    train(TrainConfig(**tiny | {"checkpoint_interval": 7}), quiet)
    expected = everything(tiny["out"])
    train(TrainConfig.from_recipe(resume=tiny["out"] + "/iter-00000028.safetensors"), quiet)
    arrays, state, rows = everything(tiny["out"])
    assert state == expected[1] and rows == expected[2]
    np.testing.assert_array_equal(arrays["wte.weight"], expected[0]["wte.weight"])


def test_a_run_goes_on_for_longer(tiny):
    train(TrainConfig(**tiny), quiet)
    with pytest.raises(ValueError, match="has taken its 30 steps: to go on, raise --max-iters"):
        train(TrainConfig.from_recipe(resume=tiny["out"]), quiet)
    train(TrainConfig.from_recipe(resume=tiny["out"], max_iters=40), quiet)
    assert [row["iter"] for row in metrics(tiny["out"])] == list(range(1, 41))


@pytest.mark.parametrize("changes, words", [
    ({"n_layer": 2}, "--n-layer cannot change"), ({"seed": 1, "batch_size": 3}, "--seed, --batch-size cannot change"),
    ({"recipe": "other"}, "--recipe cannot change")])
def test_what_a_run_is_made_of_cannot_change(tiny, changes, words):
    train(TrainConfig(**tiny), quiet)
    with pytest.raises(ValueError, match=words):
        TrainConfig.from_recipe(resume=tiny["out"], **changes)


def test_other_data_are_refused(tiny, tmp_path):
    train(TrainConfig(**tiny), quiet)
    (tmp_path / "other.txt").write_text("the cat sat on the mat, and the dog sat by the cat.\n" * 41)
    with pytest.raises(ValueError, match="the data are not those of the run"):
        train(TrainConfig.from_recipe(resume=tiny["out"], max_iters=40, data=(str(tmp_path / "other.txt"),)), quiet)


def test_a_difference_that_changes_bits_is_said(tiny, stop_after, monkeypatch):
    stop_after(5)
    with pytest.raises(KeyboardInterrupt):
        train(TrainConfig(**tiny), quiet)
    stop_after(-1)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "17")
    said = []
    train(TrainConfig.from_recipe(resume=tiny["out"]), said.append)
    assert any("not bit for bit" in line and "threads" in line and "-> 17" in line for line in said)


def test_weights_alone_are_nothing_to_go_on_from(tmp_path, model, tokenizer):
    gpt.save(tmp_path, model, tokenizer)
    with pytest.raises(ValueError, match="nothing to go on from"):
        TrainConfig.from_recipe(resume=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no run here"):
        TrainConfig.from_recipe(resume=str(tmp_path / "nowhere"))


# ---------------------------------------------------------------------- faults

CALLS = [(os, "replace"), (os, "fsync"), (os, "link"), (checkpoint, "save_file"), (os, "open")]


@pytest.mark.slow
@pytest.mark.parametrize("where, name", CALLS, ids=[name for _, name in CALLS])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES], ids=["disk full", "denied"])
def test_a_fault_at_any_write_leaves_a_checkpoint_to_go_on_from(tiny, tmp_path, monkeypatch, where, name, code):
    """The k-th call fails, for each k that a run makes: the run ends with an error or without, and goes on exactly."""
    settings = tiny | {"max_iters": 6, "checkpoint_interval": 2, "eval_interval": 3}
    train(TrainConfig(**settings | {"out": str(tmp_path / "whole")}), quiet)
    real, survived = getattr(where, name), 0
    for k in range(200):
        calls = iter(range(10 ** 6))

        def faulty(*args, k=k, calls=calls, **kwargs):
            if next(calls) == k:
                raise OSError(code, os.strerror(code))
            return real(*args, **kwargs)

        out = tmp_path / f"out-{k}"
        monkeypatch.setattr(where, name, faulty)
        try:
            train(TrainConfig(**settings | {"out": str(out)}), quiet)
            failed = False
        except OSError:
            failed = True
        monkeypatch.setattr(where, name, real)
        assert not [file for file in out.iterdir() if file.name.endswith(".tmp")]
        if next(calls) <= k:  # so many calls a run does not make
            break
        if not (out / checkpoint.FILE).exists():  # the first one could not be written
            continue
        survived += 1
        if gpt.load(out).about["iter"] < 6:
            assert failed
            train(TrainConfig.from_recipe(resume=str(out)), quiet)
        assert_equal_runs(tmp_path / "whole", out)
    assert survived >= 3


def command(settings, *more):
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items() if name != "data"]
    return [sys.executable, "-m", "gpt", "train", "--data", *settings["data"], *flags, *more]


def go_on(out):
    return [sys.executable, "-m", "gpt", "train", "--resume", str(out)]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_kills_at_random_moments(tiny, tmp_path):
    """40 of them, or as many as the variable KILLS says; each is followed by --resume."""
    kills, rng = int(os.environ.get("KILLS", 40)), random.Random(0)
    settings = tiny | {"max_iters": 250 * kills, "checkpoint_interval": 5, "eval_interval": 500, "keep": 3}
    train(TrainConfig(**settings | {"out": str(tmp_path / "whole")}), quiet)
    out, done, first = Path(tiny["out"]), 0, command(settings)
    while done < kills:
        process = subprocess.Popen(go_on(out) if (out / checkpoint.FILE).exists() else first,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(rng.uniform(0.3, 0.8))
        if process.poll() is not None:
            errors = process.stderr.read()
            assert process.returncode == 0 or "has taken its" in errors, errors
            break
        process.kill()
        process.communicate()
        done += 1
    if (out / checkpoint.FILE).exists() and gpt.load(out).about["iter"] < settings["max_iters"]:
        subprocess.run(go_on(out), check=True, capture_output=True)
    assert_equal_runs(tmp_path / "whole", out)
    assert done >= kills / 2, f"{done} kills in {settings['max_iters']} steps"
    print(f"{done} kills survived")


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_in_training_save_and_say_how_to_go_on(tiny, number):
    process = subprocess.Popen(command(tiny, "--max-iters=1000000"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)
    for line in process.stdout:
        if line.startswith("iter"):
            break
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    n = gpt.load(tiny["out"]).about["iter"]
    assert process.returncode == 130 and "Traceback" not in errors
    assert f"stopped after {n:,} steps; to go on:" in errors and f"train --resume {tiny['out']}" in errors
    assert len(metrics(tiny["out"])) == n
