"""The command line: flags from settings, and one clear line for every mistake."""

import os
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from tqdm import tqdm

from gpt import TrainConfig
from gpt.cli import COMMANDS, Command, main, parse_command_line
from gpt.runtime.settings import Settings, flag_of, setting

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
    given = COMMANDS[name].configure and COMMANDS[name].configure()  # what the recipe of `gpt train` says
    for f in fields(COMMANDS[name].settings):
        assert f.metadata["positional"] or flag_of(f.name) in text, f.name
        assert " ".join(f.metadata["help"].split()) in text
        default = getattr(given, f.name, f.default)
        default = " ".join(default) if isinstance(default, tuple) else default
        assert default in (None, "") or f"(default: {default})" in text, f.name


def test_flags_become_settings_of_their_type():
    given = parse_command_line(["train", "--n-layer", "2", "--learning-rate=1e-2", "--bias", "--data", "a", "-"])
    given.pop("command")
    config = TrainConfig.from_recipe(**given)
    assert (config.n_layer, config.learning_rate, config.bias, list(config.data)) == (2, 1e-2, True, ["a", "-"])
    assert parse_command_line(["train", "--no-bias"])["bias"] is False
    assert parse_command_line(["train"]) == {"command": "train"}  # what is not given is left to the recipe


@pytest.mark.parametrize("argv, message", [
    (["fly"], "there is no command 'fly' (see gpt --help)"),
    (["train", "--a\nb"], "unrecognized arguments: --a b (see gpt train --help)"),
    (["--fly"], "unrecognized arguments: --fly (see gpt --help)"),
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
    (["sample", "--top-k", "-1"], "top_k is -1, and needs to be at least 0"),
    (["sample", "nowhere"], "there are no weights here: train some"),
])
def test_mistakes_are_one_line(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in fails(argv, capsys)


@pytest.mark.parametrize("content, message", [
    (None, "there is no such file"), (b"", "is empty"), (b"\xff\xfe", "is empty"),
    (b"\xff", "is not UTF-8"), (b"a\0b", "is binary"),
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


# As most have it: what is printed waits in a buffer, and at the end of Python, too.
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
@pytest.mark.parametrize("argv", [["info"], ["plot"], ["sample", "--max-new-tokens", "20"], ["train", "--resume"]])
def test_output_that_there_is_no_room_for(run, argv):
    command = f"{sys.executable} -m gpt {' '.join(argv)} {run[1]} {'--max-iters 40' * ('train' in argv)} > /dev/full"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT, env=BUFFERED, timeout=120)
    assert (done.returncode, done.stderr) == (1, "gpt: error: [Errno 28] No space left on device\n")


@pytest.mark.parametrize("argv", [["info"], ["plot"], ["sample", "--max-new-tokens", "20"]])
def test_output_whose_reader_left_before_it_came(run, argv):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "gpt", *argv, run[1]], stdout=writer, stderr=subprocess.PIPE,
                          text=True, cwd=ROOT, env=BUFFERED, timeout=120)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


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
    (["train", "--recipe", "nanogpt", "--learning-rate", "5e-5"], "lower --min-lr too"),
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
    assert parse_command_line(["bench"])["row"] == "all"


# ---------------------------------------------------------------------- finding one's way


def test_no_command_prints_the_help(capsys):
    assert main([]) == 0
    captured = capsys.readouterr()
    assert captured.err == "" and captured.out.startswith("usage: gpt COMMAND")
    for name, command in COMMANDS.items():
        assert f"\n    {name} " in captured.out and command.help in " ".join(captured.out.split())


@pytest.mark.parametrize(("argv", "near"), [
    (["trian"], "train"), (["Train"], "train"), (["inof"], "info"), (["samples"], "sample"),
    (["--hlep"], "--help"),
    (["train", "--n-layers", "3"], "--n-layer"), (["train", "--n_layer=3"], "--n-layer"),
    (["train", "-n-layer", "3"], "--n-layer"), (["train", "--LEARNING-RATE", "1"], "--learning-rate"),
    (["train", "--lr", "1"], "--learning-rate"), (["train", "--learning", "1"], "--learning-rate"),
    (["train", "--no-bais"], "--no-bias"), (["sample", "--tempreature", "1"], "--temperature"),
    (["plot", "--smoth", "5"], "--smoothing"),
    (["train", "--activation", "gleu"], "gelu"), (["train", "--recipe", "nanoGPT"], "nanogpt"),
    (["bench", "stpe"], "step"),
])
def test_the_nearest_name_is_suggested(argv, near, capsys):
    assert f"; did you mean {near}?" in fails(argv, capsys)


@pytest.mark.parametrize("argv", [["train", "--wings"], ["zzz"], ["train", "--", "x"], ["train", "--"], ["-"],
                                  ["train", "--activation", "sine"], ["train", "---"], ["train", "--=3"]])
def test_what_is_near_nothing_gets_no_suggestion(argv, capsys):
    assert "did you mean" not in fails(argv, capsys)


def test_text_without_its_flag(capsys):
    assert "unrecognized arguments: my.txt; text to train on goes after --data" in fails(["train", "my.txt"], capsys)
    assert "--data" not in fails(["info", "a", "b"], capsys)


def test_settings_stand_in_groups(capsys, monkeypatch):
    @dataclass
    class Grouped(Settings):
        where: tuple[str, ...] = setting(("here",), "the place", positional=True)
        late: int = setting(1, "is of no group")
        other: float = setting(1.0, "is of a new group", group="weather")
        depth: int = setting(2, "100 % deeper", group="model")
        files: tuple[str, ...] = setting((), "what to read", group="data")
        kind: str = setting("a", "which", choices=("a", "b"), group="model")

    seen = []
    monkeypatch.setitem(COMMANDS, "grouped", Command("Try.", Grouped, seen.append))
    with pytest.raises(SystemExit):
        main(["grouped", "-h"])
    out = capsys.readouterr().out
    titles = [line for line in out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["what to work on:", "data:", "model:", "weather:", "settings:", "help:"]
    model = out.split("model:")[1].split("weather:")[0]
    assert "--depth N" in model and "100 % deeper (default: 2)" in model and "--kind {a,b}" in model
    assert "usage: gpt grouped [WHERE ...] [--setting ...]" in out and "the place (default: here)" in out
    assert main(["grouped"]) == 0 and main(["grouped", "x", "y", "--depth", "3"]) == 0
    assert [(list(s.where), s.depth) for s in seen] == [(["here"], 2), (["x", "y"], 3)]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_the_terminal(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_a_missing_package_is_one_line(capsys, monkeypatch):
    def run(config):
        raise ImportError("needs a package:\npython -m pip install it")

    monkeypatch.setattr(COMMANDS["info"], "run", run)
    assert fails(["info"], capsys) == "gpt: error: needs a package: python -m pip install it"


def test_commands_in_a_process_of_their_own(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"iter": 1, "loss": 2.5}\n{"iter": 2, "loss": 1.5}\n{"iter": 3, "lo')
    plain = python("-m", "gpt", "plot", str(tmp_path), cwd=ROOT, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (plain.returncode, plain.stderr) == (0, "") and plain.stdout.isascii() and "\x1b" not in plain.stdout
    assert plain.stdout.split() == [tmp_path.name, "2", "iterations", "loss", "#_", "2.5", "->", "1.5", "min", "1.5",
                                    "at", "2"]
    helped = python("-m", "gpt", cwd=ROOT)
    assert helped.returncode == 0 and "commands:" in helped.stdout
    wrong = python("-m", "gpt", "inof", cwd=ROOT)
    assert wrong.returncode == 2 and wrong.stdout == ""
    assert wrong.stderr == "gpt: error: there is no command 'inof'; did you mean info? (see gpt --help)\n"


def test_an_error_cannot_disturb_the_terminal(tmp_path, capsys):
    assert main(["sample", str(tmp_path / "a\x1b[31m\u202e b")]) == 1
    error = capsys.readouterr().err
    assert r"a\x1b[31m\u202e b" in error and error.strip().isprintable()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_lack_of_memory_names_flags_that_the_command_has(name, capsys, monkeypatch):
    def fails_at_once(config):
        raise MemoryError("Unable to allocate 7 GiB")

    monkeypatch.setattr(COMMANDS[name], "run", fails_at_once)
    error = fails([name, *["here"] * (name == "import")], capsys)
    flags = [word.strip(",") for word in error.split() if word.startswith("--")]
    have = {f"--{f.name.replace('_', '-')}" for f in fields(COMMANDS[name].settings)}
    assert "not enough memory (Unable to allocate 7 GiB)" in error and {*flags} <= have
    assert name != "train" or flags == ["--batch-size", "--block-size", "--n-embd"]
    assert bool(flags) == ("lower" in error) and (flags or name not in ("train", "tune", "sample"))


def test_what_is_nested_too_deep_is_one_line(capsys, monkeypatch):
    def fails_at_once(config):
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(COMMANDS["info"], "run", fails_at_once)
    assert "nested too deep" in fails(["info"], capsys)


@pytest.mark.filterwarnings("error::tqdm.TqdmMonitorWarning")
def test_a_machine_without_room_for_threads(tiny, capsys, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    monkeypatch.setattr(tqdm, "monitor", None)
    monkeypatch.setattr(tqdm, "monitor_interval", 10)  # as in a new process
    assert "3 threads cannot be started here" in fails(flags(tiny, replicas=3), capsys)
    assert main(flags(tiny, replicas=1)) == 0


@pytest.mark.parametrize("flag, value", [("--accumulate", 10 ** 21), ("--batch-size", 10 ** 12),
                                         ("--n-layer", 10 ** 9), ("--convolution", 10 ** 6)])
def test_a_size_beyond_all_machines_is_refused_at_once(tmp_path, flag, value, capsys):
    assert main(["train", "--out", str(tmp_path / "out"), flag, str(value)]) == 1
    assert "needs to be at most" in capsys.readouterr().err and not (tmp_path / "out").exists()
