"""Ctrl-C and SIGTERM at every phase of every command: real processes that send real signals to themselves."""

import itertools
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gpt
from gpt import TrainConfig, checkpoint, train
from gpt.runtime.signals import Stopped, stop_at_once, stop_on_signal

from ..training.test_resume import assert_equal_runs, command, go_on, quiet

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
ROOT = Path(__file__).parents[3]
INT, TERM = signal.SIGINT, signal.SIGTERM

# Command lines, each in a process of its own, with some functions that send signals to it before or after their n-th
# call.  It is forked from one that has imported all that they need: that would take longer than most of them do.
DRIVER = """
import json, os, sys
import gpt.cli
from gpt.runtime.environment import fastest_kernels

with fastest_kernels():
    pass

def watch(place, nth, when, numbers):
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner = sys.modules.get("gpt." + module) or sys.modules[module]
    for part in owners:
        owner = getattr(owner, part)
    real, calls = getattr(owner, name), iter(range(1, 10 ** 9))

    def watched(*args, **kwargs):
        now = next(calls) == nth
        if now and when == "before":
            send()
        result = real(*args, **kwargs)
        if now and when == "after":
            send()
        return result

    def send():
        for number in numbers:
            os.kill(os.getpid(), number)

    setattr(owner, name, watched)

for line in sys.stdin:
    if not (pid := os.fork()):
        break
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
else:
    sys.exit()
hooks, files, sys.argv[1:] = json.loads(line)
for number, file in enumerate(files):
    os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
for hook in hooks:
    watch(*hook)
sys.exit(gpt.cli.main())
"""


@pytest.fixture(scope="module")
def gpt_with(tmp_path_factory):
    """Return a function that runs a command line with hooks (place, nth call, "before" or "after", signals)."""
    folder = tmp_path_factory.mktemp("outputs")

    def run(hooks, *argv):
        out, err = folder / f"out-{next(numbers)}", folder / f"err-{next(numbers)}"
        print(json.dumps([hooks, [os.devnull, str(out), str(err)], [*map(str, argv)]]), file=server.stdin, flush=True)
        if not select.select([server.stdout], [], [], 120)[0]:
            os.killpg(server.pid, signal.SIGKILL)
            raise TimeoutError(argv)
        status = int(server.stdout.readline())
        return subprocess.CompletedProcess(argv, status, out.read_text("utf-8"), err.read_text("utf-8"))

    numbers = itertools.count()
    with subprocess.Popen([sys.executable, "-c", DRIVER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True, start_new_session=True) as server:
        yield run


@pytest.fixture(scope="module")
def training(gpt_with):
    """Return a function that trains with hooks."""
    return lambda settings, *hooks: gpt_with(hooks, *command(settings)[3:])


def files(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Settings, and the folder of a run of them that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "text.txt").write_text("the cat sat on the mat, and the dog sat by the cat.\n" * 40, encoding="utf-8")
    settings = dict(data=(str(folder / "text.txt"),), out=str(folder / "out"), n_layer=1, n_head=2, n_embd=16,
                    block_size=16, batch_size=8, max_iters=30, warmup_iters=5, learning_rate=1e-2, eval_interval=10,
                    eval_iters=2, checkpoint_interval=7, patience=2)
    train(TrainConfig.from_recipe(**settings), quiet)
    return settings, folder / "out"


@pytest.fixture
def settings(whole, tmp_path):
    return whole[0] | {"out": str(tmp_path / "out")}


START = [("training.run_folder:writable_folder", 1), ("training.run_folder:finish_interrupted", 1),
         ("training.train:prepare_data", 1),
         ("data.dataset:open_corpus", 1), ("training.train:GPT", 1), ("training.train:show_sample", 1),
         ("generation.generate:sample_token", 50)]


@pytest.mark.slow_but_every(5)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("place, nth", START, ids=str)
def test_at_the_start_nothing_is_lost(gpt_with, settings, place, nth, when):
    train(TrainConfig.from_recipe(**settings | {"max_iters": 3}), quiet)
    before, number = files(settings["out"]), INT if when == "before" else TERM
    done = gpt_with([(place, nth, when, [number])], *command(settings)[3:], "--overwrite")
    assert done.returncode == 128 + number and done.stderr.strip() == "gpt: stopped"
    assert files(settings["out"]) == before


# Sends a signal as soon as a module is about to be imported.
IMPORTER = """
import os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Watch())
"""


@pytest.mark.slow_but_every(5)
@pytest.mark.parametrize("name", ["autograd", "numpy", "numpy.linalg", "gpt.model.gpt", "threadpoolctl", "gpt.cli",
                                  "pydoc_data.topics"])
@pytest.mark.parametrize("number", [INT, TERM])
def test_while_modules_are_imported(tmp_path, name, number):
    (tmp_path / "sitecustomize.py").write_text(IMPORTER.format(name=name, number=int(number)))
    done = subprocess.run([sys.executable, "-m", "gpt", "train", "--out", tmp_path / "out"], cwd=ROOT,
                          env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (128 + number, "", "gpt: stopped")
    assert name == "pydoc_data.topics" or not (tmp_path / "out").exists()


# Calls of a run of 30 steps that evaluates every 10, in 2 batches, and saves every 7.
TRAINING = [("training.train:Metrics", 1), ("training.trainer:Trainer.step", 1), ("training.trainer:Trainer.step", 7),
            ("training.data_parallel:Replicas.gradient", 8), ("optim.muon:Muon.step", 8),
            ("training.trainer:Trainer.validate", 1), ("training.trainer:mean_loss", 2),
            ("training.data_parallel:Replicas.loss", 3), ("training.trainer:Trainer.update_best", 2),
            ("training.report:describe_evaluation", 1), ("training.metrics:Metrics.write", 10),
            ("training.metrics:Metrics.sync", 1), ("training.train:save_run", 1), ("training.train:save_run", 2),
            ("checkpoint:write_tensors", 2), ("os:fsync", 1), ("os:fsync", 5), ("os:replace", 1), ("os:replace", 5),
            ("os:link", 2), ("checkpoint:keep_copies", 3)]


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("place, nth", TRAINING, ids=str)
def test_in_training_the_step_is_finished_and_saved(training, whole, settings, place, nth, when):
    number = INT if when == "before" else TERM
    done = training(settings, (place, nth, when, [number]))
    n = gpt.load(settings["out"]).metadata["iter"]
    assert done.returncode == 128 + number and n < 30
    assert done.stderr.strip().splitlines()[0] == f"gpt: stopped after {n:,} steps; to go on:"
    assert done.stderr.split("on:")[1].strip().endswith(f"-m gpt train --resume {settings['out']}")
    train(TrainConfig.from_recipe(resume=settings["out"]), quiet)
    assert_equal_runs(whole[1], settings["out"])


@pytest.mark.slow
@pytest.mark.parametrize("place, nth", TRAINING if "SIGNALS" in os.environ else TRAINING[::3], ids=str)
def test_a_second_signal_leaves_at_once_with_the_last_checkpoint_whole(training, whole, settings, place, nth):
    done = training(settings, (place, nth, "before", [INT, TERM]))
    assert done.returncode == 128 + TERM
    assert done.stderr.strip() == "gpt: stopped at once, without saving; the last checkpoint is whole"
    assert not [name for name in files(settings["out"]) if name.endswith(".tmp")]
    if (Path(settings["out"]) / checkpoint.FILE).exists():
        train(TrainConfig.from_recipe(resume=settings["out"]), quiet)
        assert_equal_runs(whole[1], settings["out"])


@pytest.mark.slow
def test_a_third_signal_does_not_wait_for_what_is_put_away(training, whole, settings):
    done = training(settings, ("training.trainer:Trainer.step", 9, "before", [INT, INT]),
                    ("training.metrics:Metrics.__exit__", 1, "before", [INT]))
    assert done.returncode == 130 and done.stderr.strip() == "gpt: stopped"
    train(TrainConfig.from_recipe(resume=settings["out"]), quiet)
    assert_equal_runs(whole[1], settings["out"])


@pytest.mark.slow
@pytest.mark.parametrize("place, nth", [("training.trainer:Trainer.update_best", 3), ("training.train:save_run", 7)],
                         ids=str)
def test_nothing_is_left_to_go_on_with_after_the_last_step(training, whole, settings, place, nth):
    done = training(settings, (place, nth, "after", [TERM]))
    assert done.returncode == 143 and "After training" not in done.stdout
    assert done.stderr.strip().startswith("gpt: stopped after the last step, 30; weights in ")
    assert_equal_runs(whole[1], settings["out"])


@pytest.mark.slow_but_every(3)
@pytest.mark.parametrize("place, nth, when", [
    ("training.train:show_sample", 2, "before"), ("generation.generate:sample_token", 450, "before"),
    ("training.train:show_sample", 2, "after")])
def test_in_the_last_sample_all_is_saved(training, whole, settings, place, nth, when):
    done = training(settings, (place, nth, when, [INT]))
    assert done.returncode == 130 and done.stderr.count("gpt:") == 1
    assert done.stderr.strip().startswith("gpt: stopped after the last step, 30; weights in ")
    assert_equal_runs(whole[1], settings["out"])


def test_an_evaluation_of_much_text_does_not_wait(training, whole, settings):
    """Of the batches of the validation part one is left to be evaluated, and the whole part when the run goes on."""
    loss = "training.data_parallel:Replicas.loss"
    hooks = (loss, 1, "before", [INT]), (loss, 3, "before", [TERM])
    done = training(settings | {"eval_interval": 100, "batch_size": 2, "patience": 9}, *hooks)
    assert done.returncode == 130 and "stopped after 30 steps; to go on:" in done.stderr
    state = gpt.load(settings["out"]).metadata["state"]
    assert state["row"]["iter"] == state["iter"] == 30
    said = []
    train(TrainConfig.from_recipe(resume=settings["out"]), said.append)
    assert sum(line.startswith("iter") for line in said) == 1
    rows = [json.loads(line) for line in (Path(settings["out"]) / "metrics.jsonl").read_text().splitlines()]
    assert [row["iter"] for row in rows] == list(range(1, 31)) and "val_loss" in rows[-1]


# ---------------------------------------------------------------------- the other commands


@pytest.mark.parametrize("number", [INT, TERM])
def test_a_sample_stops_and_what_was_written_stays(gpt_with, whole, number):
    argv = "sample", whole[1], "--max-new-tokens", 40
    text = gpt_with([], *argv).stdout
    done = gpt_with([("generation.generate:sample_token", 20, "before", [number])], *argv)
    assert done.returncode == 128 + number and done.stderr.strip() == "gpt: stopped"
    assert done.stdout == text[:19] and len(text) == 41
    early = gpt_with([("checkpoint:read_arrays", 1, "after", [number])], *argv)
    assert (early.returncode, early.stdout, early.stderr.strip()) == (128 + number, "", "gpt: stopped")


@pytest.mark.slow_but_every(3)
@pytest.mark.parametrize("argv, place", [(["plot"], "view.plot:read_history"), (["plot"], "view.plot:draw_on_terminal"),
                                         (["info"], "view.info:describe"), (["info"], "view.info:format_lines")])
@pytest.mark.parametrize("number", [INT, TERM])
def test_plot_and_info_stop(gpt_with, whole, argv, place, number):
    done = gpt_with([(place, 1, "before", [number])], *argv, whole[1])
    assert (done.returncode, done.stdout, done.stderr.strip()) == (128 + number, "", "gpt: stopped")


# ---------------------------------------------------------------------- handlers


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (INT, TERM)]
    with stop_at_once(), stop_on_signal() as asked:
        signal.raise_signal(TERM)
        assert asked == [TERM]
    assert [signal.getsignal(number) for number in (INT, TERM)] == before
    with pytest.raises(Stopped) as stop, stop_at_once():
        signal.raise_signal(TERM)
    assert stop.value.status == 143 and isinstance(stop.value, KeyboardInterrupt)
    assert [signal.getsignal(number) for number in (INT, TERM)] == before


@pytest.mark.slow
def test_signals_at_random_moments(tiny, tmp_path):
    """10 of them, or as many as the variable SIGNALS says, some of them two at once; each is followed by --resume."""
    n, rng = int(os.environ.get("SIGNALS", 10)), random.Random(0)
    settings = tiny | {"max_iters": 120 * n, "checkpoint_interval": 5, "eval_interval": 40, "eval_iters": 0}
    train(TrainConfig.from_recipe(**settings | {"out": str(tmp_path / "whole")}), quiet)
    out, first, stopped = Path(tiny["out"]), command(settings), 0
    for _ in range(n):
        process = subprocess.Popen(go_on(out) if (out / checkpoint.FILE).exists() else first, cwd=ROOT,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if not process.stdout.readline():  # nothing is left to do
            process.communicate()
            break
        time.sleep(rng.uniform(0, 0.5))
        number = rng.choice([INT, TERM])
        for _ in range(rng.choice([1, 1, 2])):
            process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode in (0, 128 + number), errors
        assert "Traceback" not in errors and "Exception" not in errors and errors.count("gpt:") <= 1, errors
        stopped += process.returncode != 0
    if gpt.load(out / checkpoint.FILE).metadata["iter"] < settings["max_iters"]:  # the last weights, not the best
        train(TrainConfig.from_recipe(resume=str(out)), quiet)
    assert_equal_runs(tmp_path / "whole", out)
    assert stopped >= n / 2
    print(f"{stopped} signals survived")


@pytest.mark.parametrize("number", [INT, TERM])
def test_a_signal_while_python_ends_comes_too_late(number):
    code = ("import os, sys\nimport gpt.cli\nsys.argv = ['gpt']\n"
            f"class Last:\n    def __del__(self, kill=os.kill, pid=os.getpid()): kill(pid, {int(number)})\n"
            "sys.last_of_all = Last()\ngpt.cli.run()")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
