"""The command line: flags from settings, and one clear line for every mistake."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from gpt import TrainConfig
from gpt.cli import COMMANDS, main, parser

ROOT = Path(__file__).parents[2]


def flags(tiny, **changes):
    settings = {k: v for k, v in (tiny | changes).items() if k != "data"}
    return ["train", *(f"--{k.replace('_', '-')}={v}" for k, v in settings.items()), "--data", *tiny["data"]]


def fails(argv, capsys):
    """The one line of an error, and the exit status."""
    try:
        status = main(argv)
    except SystemExit as stop:
        status = stop.code
    lines = capsys.readouterr().err.strip().splitlines()
    assert status in (1, 2) and len(lines) == 1 and lines[0].startswith("gpt: error: "), lines
    return lines[0]


def test_train_then_sample(tiny, capsys):
    assert main(flags(tiny)) == 0
    assert f"-m gpt sample {tiny['out']}" in capsys.readouterr().out
    texts = []
    for seed in (1, 1, 2):
        assert main(["sample", tiny["out"], "--prompt", "the cat", "--max-new-tokens", "30", "--seed", str(seed)]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2] and texts[0].startswith("the cat") and len(texts[0]) == 7 + 30 + 1
    assert main(["sample", tiny["out"], "--num-samples", "3", "--max-new-tokens", "5", "--temperature", "0"]) == 0
    assert capsys.readouterr().out.count("-" * 40) == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_setting_and_its_default(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0
    for f in fields(COMMANDS[name].settings):
        assert f.metadata["positional"] or f"--{f.name.replace('_', '-')}" in text, f.name
        assert " ".join(f.metadata["help"].split()) in text
        assert f.default in (None, (), "") or f"(default: {f.default})" in text, f.name


def test_flags_become_settings_of_their_type():
    given = vars(parser().parse_args(["train", "--n-layer", "2", "--learning-rate=1e-2", "--bias", "--data", "a", "-"]))
    given.pop("command")
    config = TrainConfig.from_recipe(**given)
    assert (config.n_layer, config.learning_rate, config.bias, list(config.data)) == (2, 1e-2, True, ["a", "-"])
    assert vars(parser().parse_args(["train", "--no-bias"]))["bias"] is False
    assert vars(parser().parse_args(["train"])) == {"command": "train"}  # what is not given is left to the recipe


@pytest.mark.parametrize("argv, message", [
    ([], "COMMAND"),
    (["fly"], "invalid choice: 'fly'"),
    (["train", "--wings", "2"], "unrecognized arguments: --wings 2"),
    (["train", "--n-layer", "two"], "argument --n-layer: invalid int value: 'two'"),
    (["train", "--n-layer", "0"], "n_layer is 0, and needs to be at least 1"),
    (["train", "--batch-size=-3"], "batch_size is -3"),
    (["train", "--learning-rate", "nan"], "learning_rate is nan, and needs to be a finite number"),
    (["train", "--dropout", "1.5"], "dropout is 1.5, and needs to be below 1"),
    (["train", "--n-embd", "30"], "n_embd is 30 and n_head 4"),
    (["train", "--activation", "sine"], "argument --activation: invalid choice: 'sine'"),
    (["train", "--recipe", "soup"], "argument --recipe: invalid choice: 'soup'"),
    (["train", "--data"], "argument --data: expected at least one argument"),
    (["sample", "--temperature", "-1"], "temperature is -1.0, and needs to be at least 0"),
    (["sample", "--top-k", "0"], "top_k is 0, and needs to be at least 1"),
    (["sample", "nowhere"], "there are no weights here: train some"),
])
def test_mistakes_are_one_line(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in fails(argv, capsys)


@pytest.mark.parametrize("content, message", [
    (None, "there is no such file"), (b"", "is empty"), (b"\xff\xfe", "is not UTF-8"), (b"a\0b", "is binary"),
    (b"short", "is too short with 5 characters"), (b"x" * 200, "lower --block-size to 19")])
def test_text_that_cannot_be_used(tiny, capsys, tmp_path, content, message):
    if content is not None:
        (tmp_path / "given").write_bytes(content)
    error = fails(flags(tiny | {"data": [str(tmp_path / "given")]}, block_size=64), capsys)
    assert message in error and "given" in error


def test_an_output_folder_that_takes_no_files(tiny, capsys, tmp_path):
    (tmp_path / "taken").write_text("x")
    error = fails(flags(tiny, out=tmp_path / "taken"), capsys)
    assert "taken" in error and "--out" in error


def test_a_prompt_the_model_cannot_read(run, capsys):
    capsys.readouterr()
    assert "text without 'Z' (U+005A), '!' (U+0021)" in fails(["sample", run[1], "--prompt", "Z!"], capsys)


def test_weights_that_cannot_be_read(capsys, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    assert "is no safetensors file, or damaged" in fails(["sample", str(tmp_path)], capsys)


def python(*argv, cwd, **kwargs):
    return subprocess.run([sys.executable, *argv], cwd=cwd, capture_output=True, text=True, timeout=120, **kwargs)


def test_a_bar_only_where_somebody_sees_it(tiny):
    done = python("-m", "gpt", *flags(tiny), cwd=ROOT)
    assert done.returncode == 0 and done.stderr == "" and "\r" not in done.stdout
    assert done.stdout.count("\niter ") == 3


def test_output_that_nobody_reads_any_more(run):
    command = f"{sys.executable} -m gpt sample {run[1]} --max-new-tokens 3000 | head -c 10"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert len(done.stdout) == 10 and done.stderr == ""


def test_another_package_named_autograd(tmp_path):
    (tmp_path / "autograd").mkdir()
    (tmp_path / "autograd" / "__init__.py").write_text("def grad(f): ...\n")
    (tmp_path / "gpt").symlink_to(ROOT / "gpt")
    imported = python("-c", "import gpt", cwd=tmp_path)
    assert imported.returncode == 1 and "ImportError: gpt needs the `autograd` that comes with" in imported.stderr
    assert str(tmp_path / "autograd") in imported.stderr and "uninstall autograd" in imported.stderr
    run = python("-m", "gpt", "train", cwd=tmp_path)
    assert run.returncode != 0 and len(run.stderr.strip().splitlines()) == 1
    assert run.stderr.startswith("gpt: error: gpt needs the `autograd`")


@pytest.mark.parametrize(("argv", "message"), [
    (["train", "--nope"], "unrecognized arguments: --nope (see gpt train --help)"),
    (["train", "--learning-rate", "5e-5"], "lower --min-lr too"),
    (["train", "--out", ""], "--out is empty"),
    (["train", "--data", ""], "--data has an empty name"),
])
def test_one_line_says_what_to_do(argv, message, capsys):
    try:
        status = main(argv)
    except SystemExit as stop:
        status = stop.code
    out = capsys.readouterr()
    assert status in (1, 2) and message in out.err and out.err.count("\n") == 1


def test_bench_needs_no_row():
    assert vars(parser().parse_args(["bench"]))["row"] == "all"
