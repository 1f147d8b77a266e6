"""The folder of an output, and one rule for every command that writes on whether it may be replaced."""

import json
import os
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import gpt
from gpt import GPT, Checkpoint, GPTConfig, TrainConfig, checkpoint, train
from gpt.cli import COMMANDS, main
from gpt.data.tokenizers.byte import ByteTokenizer
from gpt.pretrained.convert import write_pretrained
from gpt.runtime.settings import flag_of
from gpt.training.config import SHORT_RUN
from gpt.training.run_folder import writable_folder

from ..test_cli import fails
from .test_resume import quiet

pytest.importorskip("tokenizers")
PAIRS = "\n".join(json.dumps({"prompt": f"the {a} and the {b}", "response": b}) for a in ("cat", "mat", "dog")
                  for b in ("cat", "mat", "dog", "sat"))


def files(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with one output of each command, and what they are made from."""
    root = tmp_path_factory.mktemp("made")
    (root / "text.txt").write_text("the cat sat on the mat, and the dog sat by the cat.\n" * 40, encoding="utf-8")
    (root / "pairs.jsonl").write_text(PAIRS, encoding="utf-8")
    (root / "theirs").mkdir()
    config = GPTConfig(vocab_size=256, block_size=16, n_layer=1, n_head=2, n_embd=8, bias=True, activation="gelu_tanh")
    write_pretrained(root / "theirs", Checkpoint(GPT(config, seed=1), ByteTokenizer(), {}))
    for argv in (train_into(root, root / "run"), tune_into(root, root / "tuned"),
                 [*tune_into(root, root / "lora"), "--lora-rank", "2"],
                 ["import", str(root / "theirs"), "--out", str(root / "imported")]):
        assert main(argv) == 0
    return root


def train_into(root, out, *more):
    return ["train", "--recipe", "nanogpt", "--data", str(root / "text.txt"), "--out", str(out), "--n-layer", "1",
            "--n-head", "2", "--n-embd", "16", "--block-size", "32", "--batch-size", "4", "--max-iters", "6",
            "--checkpoint-interval", "2", "--eval-interval", "3", "--eval-iters", "1", *more]


def tune_into(root, out):
    return ["tune", str(root / "run"), "--data", str(root / "pairs.jsonl"), "--out", str(out), "--max-iters", "2",
            "--batch-size", "2"]


def commands(root, out):
    """The commands that write a checkpoint, by name, and the files that they leave."""
    run = {"model.safetensors", "best.safetensors", "iter-00000004.safetensors", "iter-00000006.safetensors",
           "metrics.jsonl"}
    return {"train": (train_into(root, out, "--seed", "5"), run),
            "tune": ([*tune_into(root, out), "--seed", "5"], {"model.safetensors", "metrics.jsonl"}),
            "tune --lora-rank": ([*tune_into(root, out), "--seed", "5", "--lora-rank", "4"],
                                 {"lora.safetensors", "metrics.jsonl"}),
            "import": (["import", str(root / "theirs"), "--out", str(out)], {"model.safetensors"})}


HELD = {"run": "a run of gpt train, at step 6 of 6", "tuned": "a model that gpt tune has tuned",
        "lora": "a model that gpt tune has tuned", "imported": "a model that gpt import has made",
        "theirs": "model.safetensors, which gpt has not written"}


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("name", ["train", "tune", "tune --lora-rank", "import"])
def test_what_is_there_is_refused_and_replaced_with_overwrite(made, tmp_path, capsys, name, held):
    out = shutil.copytree(made / held, tmp_path / "out")
    argv, left = commands(made, out)[name]
    before = files(out)
    error = fails(argv, capsys)
    assert f"out holds {HELD[held]}" in error and "choose another folder with --out" in error
    assert error.endswith("or replace it with --overwrite") and files(out) == before
    assert ("--resume" in error) is (held == "run")
    (out / "notes.txt").write_text("mine")
    assert main([*argv, "--overwrite"]) == 0
    assert f"{out} holds {HELD[held]}" in capsys.readouterr().out
    theirs = {"config.json", "tokenizer.json", "tokenizer_config.json"} if held == "theirs" else set()
    assert files(out).keys() == left | theirs | {"notes.txt"}  # and nothing of another run
    gpt.load(out)


def test_what_the_message_says_of_resume_is_true(made, tmp_path, capsys):
    out = shutil.copytree(made / "run", tmp_path / "out")
    error = fails(train_into(made, out, "--seed", "5"), capsys)
    given = error.split("go on with it by ")[1].split(", or replace")[0].split("-m gpt ")[1].split()
    assert main(given) == 0 and gpt.load(out).metadata["iter"] == 12


def test_the_same_run_is_replaced_if_it_was_short(made, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(train_into(made, out)) == 0
    first = gpt.load(out).model.wte.weight.data
    (out / "metrics.jsonl").write_text("")
    capsys.readouterr()
    assert main(train_into(made, out, "--keep", "3", "--replicas", "1")) == 0  # which decide nothing
    assert f"note    {out} holds this very run already; as it took 0:0" in capsys.readouterr().out
    np.testing.assert_allclose(gpt.load(out).model.wte.weight.data, first, rtol=1e-4)
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 6
    for more in (["--max-iters", "2"], ["--learning-rate", "0.002"], ["--seed", "1"]):
        assert "holds a run of gpt train" in fails(train_into(made, out, *more), capsys)
    run, arrays = checkpoint.load_with_state(out)
    run.metadata["state"]["seconds"] = SHORT_RUN + 1.0
    gpt.save(out, run.model, run.tokenizer, run.metadata, arrays)
    assert "holds a run of gpt train" in fails(train_into(made, out), capsys)


def test_the_same_tuning_is_replaced_if_it_was_short(made, tmp_path, capsys):
    out = shutil.copytree(made / "tuned", tmp_path / "tuned")
    assert main(tune_into(made, out)) == 0
    assert f"{out} holds this very run already" in capsys.readouterr().out
    assert "a model that gpt tune has tuned" in fails([*tune_into(made, out), "--seed", "5"], capsys)


def test_metrics_alone_are_nothing_if_they_are_few(made, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "metrics.jsonl").write_text('{"iter": 1, "ms": 5.0}\n{"iter": 2, "ms"')
    assert main(train_into(made, out)) == 0
    for text in ('{"iter": 1, "ms": 400000}\n', "mine", "[" * 100_000, '{"a": 3}\n'):
        other = tmp_path / f"other {text[:3].strip()}"
        other.mkdir(exist_ok=True)
        (other / "metrics.jsonl").write_text(text if text.endswith("\n") else text + "\n")
        assert "metrics.jsonl of a run without checkpoints, or of another" in fails(train_into(made, other), capsys)
        assert main([*train_into(made, other), "--overwrite"]) == 0


def test_a_run_that_goes_on_elsewhere_replaces_nothing(made, tmp_path, capsys):
    out = shutil.copytree(made / "imported", tmp_path / "out")
    argv = ["train", "--resume", str(made / "run"), "--max-iters", "8", "--out", str(out)]
    assert "holds a model that gpt import has made" in fails(argv, capsys)
    assert main([*argv, "--overwrite"]) == 0 and gpt.load(out).metadata["iter"] == 8
    assert gpt.load(made / "run").metadata["iter"] == 6
    assert TrainConfig.from_recipe(resume=str(out)).overwrite is False  # it was for that run alone


# ---------------------------------------------------------------------- what fails leaves nothing


@pytest.mark.parametrize("argv", [
    ["train", "--data", "missing.txt"], ["train", "--data", "short.txt"], ["tune", "nowhere"],
    ["tune", "RUN", "--lora-rank", "999"], ["import", "nowhere"], ["import", "."], ["export", "nowhere"],
    ["show", "nowhere"], ["show", "RUN", "--prompt", "€"], ["train", "--resume", "nowhere"],
    ["train", "--resume", "RUN"]])
def test_a_command_that_fails_leaves_no_folder(made, tmp_path, capsys, monkeypatch, argv):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.txt").write_text("short")
    argv = [str(made / "run") if word == "RUN" else word for word in argv]
    fails([*argv, "--out", "new/one"], capsys)
    assert os.listdir(tmp_path) == ["short.txt"]


def test_a_run_that_fails_leaves_no_empty_metrics(tiny, monkeypatch):
    monkeypatch.setattr("gpt.training.trainer.Trainer.step", lambda self: self.fail("the loss is nan"))
    monkeypatch.setattr("gpt.training.trainer.Trainer.fail", lambda self, problem: [][1])
    with pytest.raises(IndexError):
        train(TrainConfig(**tiny), quiet)
    assert not Path(tiny["out"]).exists()


# ---------------------------------------------------------------------- empty paths


PATHS = [(name, f) for name, command in COMMANDS.items() for f in fields(command.settings)
         if f.metadata.get("path") or f.name in ("out", "resume", "data", "cache_dir", "checkpoint", "path", "run")]


@pytest.mark.parametrize("name, f", PATHS, ids=lambda value: getattr(value, "name", value))
def test_an_empty_path_is_a_mistake(name, f, capsys, tmp_path, monkeypatch):
    """As of a variable that is not set: gpt train --resume "$RUN"."""
    monkeypatch.chdir(tmp_path)
    given = [""] if f.metadata["positional"] else [flag_of(f.name), ""]
    more = ["--profile"] if name == "bench" else []
    error = fails([name, *given, *more], capsys)
    assert "empty" in error or "needs to end in" in error
    assert not os.listdir(tmp_path)


def test_an_empty_path_among_others(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("text")
    assert "--data has an empty name in it" in fails(["train", "--data", "a.txt", ""], capsys)
    with pytest.raises(ValueError, match="--resume is empty"):
        TrainConfig.from_recipe(resume="")


# ---------------------------------------------------------------------- files that are no runs


def test_show_replaces_its_own_files_only(made, tmp_path, capsys):
    out = tmp_path / "show"
    argv = ["show", str(made / "run"), "--prompt", "the", "--out", str(out)]
    assert main(argv) == 0 and main(argv) == 0
    for name in ("show.html", "tape.html", "tape.svg"):
        whole = (out / name).read_bytes() if (out / name).exists() else b""
        (out / name).write_bytes(b"mine")
        before = files(out)
        capsys.readouterr()
        assert f"{name} is there already, and gpt show has not written it" in fails(argv, capsys)
        assert files(out) == before and main([*argv, "--overwrite"]) == 0
        assert (out / name).read_bytes() != b"mine" or not whole


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_plot_replaces_its_own_pictures_only(made, tmp_path, capsys, suffix):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure
    out = tmp_path / f"p{suffix}"
    argv = ["plot", str(made / "run"), "--out", str(out)]
    assert main(argv) == 0 and main(argv) == 0
    Figure().savefig(out)
    before = out.read_bytes()
    assert "is there already, and gpt plot has not written it" in fails(argv, capsys)
    assert out.read_bytes() == before and main([*argv, "--overwrite"]) == 0 and out.read_bytes() != before


def test_an_export_replaces_its_own_files_only(made, tmp_path, capsys):
    out = tmp_path / "exported"
    argv = ["export", str(made / "imported"), "--out", str(out)]
    assert main(argv) == 0
    (out / "README.md").write_text("mine")
    (out / "chat_template.jinja").write_text("of an earlier export")
    assert "nothing is written over" in fails(argv, capsys)
    assert main([*argv, "--overwrite"]) == 0
    assert files(out).keys() == {"README.md", *files(made / "theirs")}


# ---------------------------------------------------------------------- what is written, and how


def test_the_modes_of_files_are_what_the_umask_leaves(made, tmp_path):
    before = os.umask(0o027)
    try:
        for name, (argv, _) in commands(made, tmp_path).items():
            assert main([*argv[:argv.index("--out")], "--out", str(tmp_path / name),
                         *argv[argv.index("--out") + 2:]]) == 0
        assert main(["export", str(made / "imported"), "--out", str(tmp_path / "exported")]) == 0
        assert main(["show", str(made / "run"), "--prompt", "the", "--out", str(tmp_path / "show")]) == 0
    finally:
        os.umask(before)
    modes = {file: file.stat().st_mode & 0o777 for file in tmp_path.rglob("*")}
    assert len(modes) > 20 and all(mode == (0o750 if file.is_dir() else 0o640) for file, mode in modes.items()), modes


def test_what_killed_writes_have_left_is_swept(made, tmp_path):
    for name, (argv, _) in [*commands(made, tmp_path / "out").items(),
                            ("export", (["export", str(made / "imported"), "--out", str(tmp_path / "out")], {}))]:
        folder = tmp_path if name == "export" else tmp_path / "out"
        folder.mkdir(exist_ok=True)
        left = [folder / f".{file}.0123abcd.tmp" for file in ("model.safetensors", "best.safetensors", "metrics.jsonl")]
        if name == "export":
            left = [folder / ".out.0123abcd.tmp"]
            left[0].mkdir()
            left = [left[0] / "model.safetensors"]
        others = [folder / ".mine.tmp", folder / "model.safetensors.tmp"]
        for file in [*left, *others]:
            file.touch()
        assert main(argv) == 0
        assert not any(file.exists() for file in left) and all(file.exists() for file in others), name
        shutil.rmtree(tmp_path / "out")


def test_what_another_process_is_writing_is_not_swept(tmp_path):
    writing = pytest.importorskip("gpt.runtime.writing")
    with writing.temporary_beside(tmp_path / "p.svg") as theirs:
        writing.write_file(tmp_path / "p.svg", b"ours")
        assert theirs.exists()
    writing.write_file(tmp_path / "p.svg", b"again")
    assert os.listdir(tmp_path) == ["p.svg"]


def test_a_second_command_waits_for_no_lock(made, tmp_path, capsys):
    pytest.importorskip("fcntl")
    with writable_folder(tmp_path / "out") as out:
        for argv, _ in commands(made, out).values():
            assert "another run is writing to" in fails(argv, capsys)
    assert not (tmp_path / "out").exists() or not os.listdir(out)


def test_a_folder_where_the_weights_go_is_told_before_anything_is_done(tmp_path):
    (tmp_path / "out" / checkpoint.FILE).mkdir(parents=True)
    with pytest.raises(OSError, match="is a folder.*--out"), writable_folder(tmp_path / "out"):
        raise AssertionError("the command went on")
