"""A run that is stopped, killed or denied the disk goes on as if nothing had happened."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import gpt
from gpt import TrainConfig, checkpoint, train
from gpt.runtime import writing
from gpt.training.metrics import Metrics
from gpt.training.run_folder import writable_folder
from gpt.training.trainer import Evaluation, Interrupted, Trainer

METRICS = sys.modules["gpt.training.metrics"]
TRAIN = sys.modules["gpt.training.train"]  # the module, which the function of that name hides
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
    state = {k: v for k, v in run.metadata["state"].items() if k != "seconds"}
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

        step = Trainer.step

        def counted(self):
            row = step(self)
            if self.iter == n:
                asked.append(signal.SIGINT)
            return row

        monkeypatch.setattr(TRAIN, "stop_on_signal", Stop)
        monkeypatch.setattr(Trainer, "step", counted)
    return at


SETTINGS = [{}, {"dropout": 0.2, "accumulate": 2}, {"optimizer": "sgd", "schedule": "linear"}, {"patience": 5},
            {"recipe": "fast"}, {"recipe": "fast", "accumulate": 2, "dropout": 0.2, "replicas": 2}]
# Settings that there were when checkpoints were first written: what those name.
FIRST = {"block_size", "n_layer", "n_head", "n_embd", "bias", "dropout", "activation", "positions", "vocab_size",
         "data", "task", "digits", "tokenizer", "lines", "val_fraction", "cache_dir", "out", "resume",
         "checkpoint_interval", "keep", "recipe", "batch_size", "accumulate", "max_iters", "time_limit",
         "learning_rate", "min_lr", "schedule", "warmup_iters", "lr_decay_iters", "optimizer", "weight_decay", "beta1",
         "beta2", "momentum", "grad_clip", "eval_interval", "eval_iters", "patience", "target_val_loss", "seed",
         "replicas"}


def of_recipe(settings):
    return TrainConfig.from_recipe(**{"recipe": "nanogpt", **settings})


@pytest.mark.slow_but_every(5)
@pytest.mark.parametrize("changes", SETTINGS, ids=lambda changes: "-".join(changes) or "default")
@pytest.mark.parametrize("n", [1, 10, 17, 30])
def test_a_run_that_was_stopped_equals_one_that_was_not(tiny, tmp_path, stop_after, changes, n):
    whole = tiny | changes | {"out": str(tmp_path / "whole")}
    train(of_recipe(whole), quiet)
    stop_after(n)
    with pytest.raises(KeyboardInterrupt, match=rf"stopped after {n} steps; to go on:\s+.*train --resume"):
        train(of_recipe(tiny | changes), quiet)
    assert len(metrics(tiny["out"])) == (n - 1 if n % 10 == 0 else n)  # without a step whose evaluation was not made
    stop_after(-1)
    train(TrainConfig.from_recipe(resume=tiny["out"]), quiet)
    assert_equal_runs(whole["out"], tiny["out"])


def test_a_checkpoint_from_before_there_were_recipes_goes_on(tiny, tmp_path, stop_after, monkeypatch):
    """It names fewer settings; the others are those it had without a name, whatever the default recipe is now."""
    train(TrainConfig(**tiny | {"out": str(tmp_path / "whole")}), quiet)
    stop_after(17)
    with pytest.raises(KeyboardInterrupt):
        train(TrainConfig(**tiny), quiet)
    stop_after(-1)
    run, arrays = checkpoint.load_with_state(tiny["out"])
    run.metadata["train"] = {name: value for name, value in run.metadata["train"].items() if name in FIRST}
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "asdict", lambda config: {k: v for k, v in asdict(config).items() if k in FIRST})
        gpt.save(tiny["out"], run.model, run.tokenizer, run.metadata, arrays)
    assert "optimizer" in run.metadata["train"] and "batches" not in run.metadata["train"]
    train(TrainConfig.from_recipe(resume=tiny["out"]), quiet)
    assert_equal_runs(tmp_path / "whole", tiny["out"])


@pytest.mark.parametrize("changes", [{"optimizer": "adamw"}, {"batches": "random"}, {"convolution": 0}])
def test_what_the_fast_recipe_is_made_of_cannot_change(tiny, changes):
    train(of_recipe(tiny | {"recipe": "fast", "max_iters": 1}), quiet)
    with pytest.raises(ValueError, match=f"--{next(iter(changes))} cannot change in a run that goes on"):
        TrainConfig.from_recipe(resume=tiny["out"], **changes)


def test_the_state_of_another_optimizer_is_refused(tiny):
    """As of a file that was put together by hand."""
    train(of_recipe(tiny | {"recipe": "fast", "max_iters": 1}), quiet)
    run, arrays = checkpoint.load_with_state(tiny["out"])
    assert sorted(arrays) == ["optimizer.m", "optimizer.steps", "optimizer.v"]
    gpt.save(tiny["out"], run.model, run.tokenizer, run.metadata, arrays | {"optimizer.v": arrays["optimizer.m"]})
    with pytest.raises(ValueError, match="the optimizer's state does not fit this run: start a new one"):
        train(TrainConfig.from_recipe(resume=tiny["out"], max_iters=2), quiet)


def test_an_evaluation_that_was_made_up_for_is_recorded_once(tiny, tmp_path, stop_after, monkeypatch):
    """The run stops in an evaluation; the one that goes on ends after it has written its row, and before it saves."""
    train(TrainConfig(**tiny | {"out": str(tmp_path / "whole")}), quiet)
    stop_after(20)
    with pytest.raises(KeyboardInterrupt):
        train(TrainConfig(**tiny), quiet)
    stop_after(-1)

    def full(*args):
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(TRAIN, "save_run", full)
        train(TrainConfig.from_recipe(resume=tiny["out"]), quiet)
    assert len(metrics(tiny["out"])) == 20
    train(TrainConfig.from_recipe(resume=tiny["out"]), quiet)
    assert_equal_runs(tmp_path / "whole", tiny["out"])


def test_what_an_evaluation_that_was_interrupted_has_judged_is_taken_back(tiny, monkeypatch):
    """The one over the whole part, when patience is lost, is the second of its step."""
    config = TrainConfig(**tiny | {"patience": 1})
    dataset, tokenizer = TRAIN.prepare_data(config)
    trainer = Trainer(config, gpt.GPT(config.model_config(tokenizer.vocab_size)), dataset)
    trainer.best, trainer.without_gain = 1.0, 0

    def validate(self, last, stop_requested):
        if last:
            raise Interrupted
        return Evaluation(2.0, "2 batches")

    monkeypatch.setattr(Trainer, "validate", validate)
    with pytest.raises(Interrupted):
        trainer.evaluate()
    assert (trainer.best, trainer.without_gain) == (1.0, 0)


def test_fewer_steps_than_were_taken_are_refused(tiny, stop_after):
    """Also where the evaluation of the last one is still to be made."""
    stop_after(20)
    with pytest.raises(KeyboardInterrupt):
        train(TrainConfig(**tiny), quiet)
    stop_after(-1)
    for steps in (10, 19):
        with pytest.raises(ValueError, match="has taken its 20 steps: to go on, raise --max-iters"):
            train(TrainConfig.from_recipe(resume=tiny["out"], max_iters=steps, time_limit=1e-9), quiet)
    train(TrainConfig.from_recipe(resume=tiny["out"], max_iters=20), quiet)
    assert len(metrics(tiny["out"])) == 20


def test_rows_after_the_checkpoint_are_cut_off(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"iter": 1}\n{"iter": 2}\n{"iter": 3}\n{"it')
    with Metrics(path, 2) as file:
        file.write({"iter": 3, "loss": 1.5})
    assert path.read_text() == '{"iter": 1}\n{"iter": 2}\n{"iter": 3, "loss": 1.5}\n'
    with Metrics(path, 0):
        pass
    assert path.read_text() == ""


def test_one_run_at_a_time_writes_to_a_folder(tiny):
    pytest.importorskip("fcntl")
    with writable_folder(tiny["out"]) as out:
        (out / "metrics.jsonl").write_text('{"iter": 1, "ms": 5}\n')
        with pytest.raises(OSError, match=r"another run is writing to .*: wait for it, stop it, or .* --out"):
            train(TrainConfig(**tiny), quiet)
        assert (out / "metrics.jsonl").read_text() == '{"iter": 1, "ms": 5}\n'
    train(TrainConfig(**tiny), quiet)
    assert len(metrics(tiny["out"])) == 30


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    pytest.importorskip("fcntl")

    def flock(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(writing, "flock", flock)
    with writable_folder(tmp_path / "out") as out:
        (out / "mine").touch()
    assert (tmp_path / "out" / "mine").exists()


def test_what_killed_runs_left_half_written_is_deleted(tiny):
    out = Path(tiny["out"])
    out.mkdir()
    left = [out / f".{name}.123.tmp" for name in (checkpoint.FILE, checkpoint.BEST, "iter-00000100.safetensors")]
    for file in [*left, out / ".mine.tmp", out / "model.safetensors.tmp"]:
        file.touch()
    train(TrainConfig(**tiny), quiet)
    assert not any(file.exists() for file in left)
    assert (out / ".mine.tmp").exists() and (out / "model.safetensors.tmp").exists()


def test_the_last_few_and_the_best_are_kept(tiny):
    train(TrainConfig(**tiny | {"checkpoint_interval": 7, "keep": 2}), quiet)
    out = Path(tiny["out"])
    assert [file.stem for file in checkpoint.numbered_checkpoints(out)] == ["iter-00000028", "iter-00000030"]
    losses = {row["iter"]: row["val_loss"] for row in metrics(out) if "val_loss" in row}
    best = gpt.load(out / checkpoint.BEST).metadata
    assert best["val_loss"] == min(losses.values()) == losses[best["iter"]]
    assert gpt.load(out).metadata["iter"] == 30
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


def test_a_difference_that_changes_bits_is_said(tiny, stop_after, monkeypatch):
    stop_after(5)
    with pytest.raises(KeyboardInterrupt):
        train(TrainConfig(**tiny | {"replicas": 1}), quiet)
    stop_after(-1)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "17")
    said = []
    stop_after(8)
    with pytest.raises(KeyboardInterrupt):
        train(TrainConfig.from_recipe(resume=tiny["out"]), said.append)
    assert any("not bit for bit" in line and "threads" in line and "-> 17" in line for line in said)
    stop_after(-1)
    train(TrainConfig.from_recipe(resume=tiny["out"], replicas=2), said.append)
    assert any("not bit for bit" in line and "replicas 1 -> 2" in line for line in said)


def test_weights_alone_are_nothing_to_go_on_from(tmp_path, model, tokenizer):
    gpt.save(tmp_path, model, tokenizer)
    with pytest.raises(ValueError, match="nothing to go on from"):
        TrainConfig.from_recipe(resume=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no run here"):
        TrainConfig.from_recipe(resume=str(tmp_path / "nowhere"))


# ---------------------------------------------------------------------- faults

class MetricsFile(io.FileIO):
    """metrics.jsonl, whose methods can be made to fail."""

    def write(self, data):
        return super().write(data)

    def truncate(self, size=None):
        return super().truncate(size)


CALLS = [(os, "replace"), (os, "fsync"), (os, "link"), (os, "unlink"), (checkpoint, "write_tensors"), (os, "open"),
         (MetricsFile, "write")]


@pytest.mark.slow
@pytest.mark.parametrize("where, name", CALLS, ids=[f"{where.__name__}.{name}" for where, name in CALLS])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES], ids=["disk full", "denied"])
def test_a_fault_at_any_write_leaves_a_checkpoint_to_go_on_from(tiny, tmp_path, monkeypatch, where, name, code):
    """The k-th call fails, for each k that a run makes: the run ends with an error or without, and goes on exactly."""
    monkeypatch.setattr(TRAIN, "show_sample", lambda *_: "")  # takes longer than these runs, and writes no file
    monkeypatch.setattr(METRICS, "open", lambda path, mode: io.BufferedWriter(MetricsFile(path, mode)) if mode == "ab"
                        else open(path, mode), raising=False)
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
        except OSError as error:
            failed = True
            assert str(out) in str(error) and ("choose another folder" in str(error) or "make room" in str(error))
        monkeypatch.setattr(where, name, real)
        assert not list(out.glob(".*.tmp"))
        if next(calls) <= k:  # so many calls a run does not make
            break
        if not (out / checkpoint.FILE).exists():  # the first one could not be written
            continue
        survived += 1
        if gpt.load(out).metadata["iter"] < 6:
            assert failed
            train(TrainConfig.from_recipe(resume=str(out)), quiet)
        assert_equal_runs(tmp_path / "whole", out)
    assert survived >= 2


@pytest.mark.parametrize("mine, raised", [(None, OSError), (FloatingPointError, FloatingPointError)])
def test_what_cannot_be_written_at_the_end_does_not_hide_an_error(tmp_path, monkeypatch, mine, raised):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(METRICS, "open", lambda path, mode: io.BufferedWriter(MetricsFile(path, mode)) if mode == "ab"
                        else open(path, mode), raising=False)
    monkeypatch.setattr(MetricsFile, "write", full)
    with pytest.raises(raised), Metrics(tmp_path / "metrics.jsonl", 0) as file:
        file.write({"iter": 1})
        if mine:
            raise mine


@pytest.mark.slow_but_every(3)
@pytest.mark.parametrize("where, name", [(METRICS, "open"), (MetricsFile, "truncate"), (os, "unlink")])
def test_a_fault_before_the_first_step_of_a_run_that_goes_on(tiny, tmp_path, monkeypatch, stop_after, where, name):
    train(TrainConfig(**tiny | {"out": str(tmp_path / "whole")}), quiet)
    stop_after(13)
    with pytest.raises(KeyboardInterrupt):
        train(TrainConfig(**tiny), quiet)
    stop_after(-1)
    before = Path(tiny["out"], "metrics.jsonl").read_bytes()
    Path(tiny["out"], ".model.safetensors.1.tmp").touch()  # to be deleted

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(METRICS, "open", lambda path, mode: io.BufferedWriter(MetricsFile(path, mode)) if mode == "ab"
                      else open(path, mode), raising=False)
        patch.setattr(where, name, full)
        with pytest.raises(OSError, match=r"(metrics.jsonl|\.tmp) cannot be .* \(No space left on device\): "):
            train(TrainConfig.from_recipe(resume=tiny["out"]), quiet)
    assert Path(tiny["out"], "metrics.jsonl").read_bytes() == before
    train(TrainConfig.from_recipe(resume=tiny["out"]), quiet)
    assert_equal_runs(tmp_path / "whole", tiny["out"])


def command(settings, *more):
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items() if name != "data"]
    return [sys.executable, "-m", "gpt", "train", "--data", *settings["data"], *flags, *more]


def go_on(out):
    return [sys.executable, "-m", "gpt", "train", "--resume", str(out)]


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
    metadata = gpt.load(tiny["out"]).metadata
    n = metadata["iter"]
    assert process.returncode == 128 + number and "Traceback" not in errors
    assert f"stopped after {n:,} steps; to go on:" in errors and f"train --resume {tiny['out']}" in errors
    assert len(metrics(tiny["out"])) == (n - 1 if metadata["state"]["row"] else n)
