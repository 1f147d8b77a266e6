"""The benchmark prints what it measured, ours beside each peer, or why a peer is missing."""

import json
import mmap
import platform
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

from gpt.bench import measure
from gpt.bench import step as bench_step
from gpt.bench.command import BenchConfig, bench
from gpt.bench.costs import COSTS, Cost, cost_rows
from gpt.bench.memory import faults_a_step, memory_rows, temporary_bytes
from gpt.bench.peers import pytorch as peers
from gpt.bench.race import nanogpt_config, start_model
from gpt.bench.scaling import scaling_rows
from gpt.bench.small import HIPS, op_rows, sample_rows
from gpt.bench.step import FIRST, first_step, recipe_rows, record_rows, step_rows
from gpt.cli import main
from gpt.training.config import TrainConfig

TINY = dict(n_layer=2, n_head=2, n_embd=16, block_size=8, batch_size=4)
INSTALLED = [name for name in ("torch",) if find_spec(name)]


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    monkeypatch.setattr(measure, "QUIET", 0.01)


@pytest.mark.slow
def test_import_row(capsys):
    bench(BenchConfig(row="import", rounds=3, json=True))
    machine, row, _ = map(json.loads, capsys.readouterr().out.splitlines())
    assert "numpy" in machine and machine["cores"] > 0
    assert row["others"][0]["name"] == "import numpy" and row["others"][0]["ratio"] > 0


def test_a_race_needs_equal_results(monkeypatch, capsys):
    pytest.importorskip("torch")
    honest = peers.loss
    monkeypatch.setattr(peers, "loss", lambda *args: honest(*args) * 1.001)
    monkeypatch.setattr(bench_step, "nanogpt_config", lambda: nanogpt_config(**TINY))
    assert main(["bench", "step", "--rounds", "3", "--peers", "torch"]) == 1
    said = capsys.readouterr()
    assert "no race" in said.err and "tapegrad" in said.out


def test_a_row_of_ours_that_fails_is_no_success(monkeypatch, capsys):
    monkeypatch.setattr("gpt.bench.measure.sys.executable", "/no/such/python")
    assert main(["bench", "import", "--rounds", "3"]) == 1
    said = capsys.readouterr()
    assert "import autograd: FileNotFoundError" in said.err and "import numpy" in said.out


def test_recipe_row():
    small = TrainConfig.from_recipe("fast", warmup_iters=0, **TINY)
    [row] = recipe_rows(3, [], (small, nanogpt_config(**TINY)), "numpy")
    names = [side.name for side in row.sides]
    assert names == ["recipe fast", "recipe nanogpt", "its muon alone", "the other's adamw alone"]
    of = [row.summary()["ours"]["median"], *[other["median"] for other in row.summary()["others"]]]
    assert all(ms > 0 for ms in of) and of[2] < of[0] and of[3] < of[1]  # a part is less than the whole


@pytest.mark.slow
def test_record_rows(tmp_path):
    (tmp_path / "text.txt").write_text("the cat sat on the mat, and the dog sat by the cat.\n" * 40, encoding="utf-8")
    flags = ["--n-layer=1", "--n-head=1", "--n-embd=16", "--block-size=8", "--batch-size=4", "--max-iters=20",
             "--eval-interval=10", "--eval-iters=1", "--no-ladder"]
    reached, missed = record_rows(1, [str(tmp_path / "text.txt")], ["fast"], [2.9, 0.001], flags)
    [seconds] = reached.sides[0].values
    assert 0.3 < seconds and f"{seconds:.2f} s" in reached.notes[0] and "--target-val-loss 2.9" in reached.notes[1]
    assert not missed.sides[0].values and "seed 1 ended at" in missed.sides[0].missing and "20 steps" in missed.notes[0]


def test_a_target_that_is_missed_is_a_result(monkeypatch, capsys):
    sides = [measure.Side("recipe fast", missing="seed 1 ended at 1.7")]
    monkeypatch.setattr("gpt.bench.command.record_rows", lambda *asked: [measure.Row("record", "a run", "s", sides)])
    assert main(["bench", "record"]) == 0
    assert "-  seed 1 ended at 1.7" in capsys.readouterr().out


def test_record_takes_recipes_and_losses(capsys):
    for argv, message in [(["--recipes", "slow"], "recipes are "), (["--targets", "low"], "--targets are losses")]:
        assert main(["bench", "record", *argv]) == 1
        assert message in capsys.readouterr().err


def test_step_row():
    [row] = step_rows(3, INSTALLED, config=nanogpt_config(**TINY), kernel="numpy")
    sides = row.summary()
    assert "numpy kernels" in sides["ours"]["name"] and sides["others"][-1]["name"].startswith("its matrix products")
    assert all(other["ratio"] > 0 for other in sides["others"]) and len(row.sides) == 2 + len(INSTALLED)


@pytest.mark.parametrize("kernel", ["numpy", "fastest"])
def test_first_step(kernel):
    assert first_step(kernel, nanogpt_config(**TINY)) == pytest.approx(np.log(65), rel=0.05)


def test_the_first_step_of_a_fresh_process():
    assert measure.run_fresh(FIRST.format("numpy")) > 0


def test_op_rows_say_how_to_get_a_peer(monkeypatch):
    monkeypatch.delenv(HIPS, raising=False)
    for row in op_rows(3, ["hips"]):
        ours, hips = row.sides
        assert len(ours.values) == 3 and "--target FOLDER" in hips.missing and HIPS in hips.missing


def test_a_peer_of_our_name_runs_in_a_process_of_its_own(monkeypatch, tmp_path):
    """A stand-in with the three names that the chain uses, found in place of our engine."""
    (tmp_path / "autograd" / "numpy").mkdir(parents=True)
    (tmp_path / "autograd" / "__init__.py").write_text(
        "def make_vjp(f):\n    return lambda *given: (lambda g: None, f(*given))\n")
    (tmp_path / "autograd" / "numpy" / "__init__.py").write_text("from numpy import *\n")
    monkeypatch.setenv(HIPS, str(tmp_path))
    for row in op_rows(3, ["hips"]):
        assert len(row.sides[1].values) == 3 and min(row.sides[1].values) > 0


def test_sample_rows():
    rows = list(sample_rows(3, INSTALLED, 40, **TINY))
    assert [row.more_is_better for row in rows] == [True, True]
    assert all(min(side.values) > 0 and not side.missing for row in rows for side in row.sides)


def test_another_text_is_no_race(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(peers, "generate_tokens", lambda w, config, n, *rest: [0] * n)
    assert all(row.sides[1].wrong for row in sample_rows(3, ["torch"], 40, **TINY))


def test_memory_rows():
    memory, faults = memory_rows(3, INSTALLED, nanogpt_config(**TINY))
    assert memory.sides[0].values[0] > 0 and "arenas" in memory.notes[0]
    assert all(side.values or side.missing for side in [*memory.sides, *faults.sides])
    assert len(memory.sides) == len(faults.sides) == 1 + len(INSTALLED)


def test_what_is_held_in_passing():
    def gradient(ids, targets):
        if not kept:
            kept.append(np.zeros(500_000, np.uint8))  # stays, and is not in passing
            np.zeros(900_000, np.uint8)               # only the first time, and does not count
        np.zeros(300_000, np.uint8)
        np.zeros(100_000, np.uint8)

    kept: list = []
    trainer = SimpleNamespace(data=SimpleNamespace(train_batch=lambda rng, n: (None, None)), batches=None,
                              config=SimpleNamespace(batch_size=1), replicas=SimpleNamespace(gradient=gradient))
    assert 300_000 <= temporary_bytes(trainer) < 320_000


@pytest.mark.skipif(platform.system() != "Linux", reason="pages are counted as Linux does")
def test_page_faults_are_counted():
    def step():
        with mmap.mmap(-1, 64 * mmap.PAGESIZE) as memory:
            for page in range(64):
                memory[page * mmap.PAGESIZE] = 1

    assert faults_a_step(lambda: None) < 5 and 60 <= faults_a_step(step) < 80


def test_a_system_without_counts_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    _, faults = memory_rows(3, [], nanogpt_config(**TINY))
    assert faults.sides[0].missing == "this system does not count page faults"


def test_what_pytorch_keeps():
    torch = pytest.importorskip("torch")
    training = peers.TorchTraining(nanogpt_config(**TINY), start_model(nanogpt_config(**TINY)))

    def loss(w, ids, targets):
        x = w["wte.weight"]          # (65, 16): a parameter, not counted
        y = (x * x).exp()            # keeps its own output
        return (y * y[:]).sum()      # keeps y, twice, which is there already
    training.loss = loss
    ids = np.zeros((4, 8), np.int64)
    assert training.saved_bytes(ids, ids) == 65 * 16 * torch.float32.itemsize


def test_scaling_rows():
    [growth] = scaling_rows(3, [], TINY, {"n_layer": (1, 2, 4)})
    e = growth.summary()["exponents"]
    assert growth.sizes == (1, 2, 4) and 0.7 < e["operations"] < 1 and 0 < e["MB"] < 1.2 and 0.5 < e["values"] < 1
    assert "depth 1, 2, 4" in growth.lines()[0]


def test_scaling_rows_of_the_engine_and_its_views():
    rows = list(cost_rows(3, (8, 16, 32)))
    assert len(rows) == len(COSTS) and all(len(row.ms) == 3 and min(row.ms) > 0 for row in rows)
    summary, lines = Cost("x", (1, 2, 4), [3.0, 12.0, 48.0]).summary(), Cost("x", (1, 2, 4), [3.0, 12.0, 48.0]).lines()
    assert summary["exponents"]["ms"] == pytest.approx(2)
    assert lines == ["scaling: x 1, 2, 4", "  time    3.0, 12.0, 48.0 ms: exponent 2.00"]


def test_scaling_predicts_what_batches_take():
    [growth] = scaling_rows(3, [], TINY, {"batch_size": (2, 4, 8)})
    e = growth.summary()["exponents"]
    assert e["operations"] == pytest.approx(1) and e["values"] == pytest.approx(1, abs=0.1)  # all but the positions


@pytest.mark.parametrize("arguments, said", [
    (["--peers", "tensorflow"], "peers are torch, compile, jax, hips or none, and not 'tensorflow'"),
    (["--out", "p.svg"], "add --profile"),
    (["--profile", "--out", "p.txt"], "needs to end in"),
    (["op", "--profile"], "there is a profile of step, step-numpy, step-large, recipe, and not of op"),
])
def test_settings_that_make_no_sense(arguments, said, capsys):
    assert main(["bench", *arguments]) == 1
    assert said in capsys.readouterr().err


def test_profile_command(capsys, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    from gpt.bench import command as module
    monkeypatch.setitem(module.PROFILED, "all", (lambda: nanogpt_config(**TINY), "numpy"))
    assert main(["bench", "--profile", "--rounds", "3", "--out", str(tmp_path / "p.png")]) == 0
    said = capsys.readouterr().out
    assert "linear" in said and "in no kernel" in said and (tmp_path / "p.png").stat().st_size > 1000
