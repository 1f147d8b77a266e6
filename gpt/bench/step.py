"""Rows on training: a step beside peers, with NumPy alone, of a larger model, the first of a process; whole runs."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from tempfile import TemporaryDirectory

from autograd.core.describe import plural

from ..training.config import TrainConfig
from ..training.trainer import Trainer
from .measure import Row, Side, attempt, in_turns, need, process_environment, run_fresh, settled
from .peers import pytorch as peers
from .products import Floor
from .race import (
    SIDES,
    Outcome,
    PeerTraining,
    fast_config,
    kernels,
    large_config,
    nanogpt_config,
    our_numbers,
    start_model,
    training,
)


def step_rows(rounds: int, asked: Sequence[str], name: str = "step", config: TrainConfig | None = None,
              kernel: str = "fastest") -> Iterator[Row]:
    """Yield a training step, from fetching the batch to reading the loss; each peer of `asked` starts from the same
    weights and must agree with us, in losses and parameters, after STEPS steps."""
    config = config or nanogpt_config()
    with kernels(kernel) as used, training(config) as trainer:
        outcome = Outcome.after_steps(config, lambda: trainer.step().loss, lambda: our_numbers(trainer))
        floor = Floor.of_trainer(trainer)
        sides = [Side(f"tapegrad, {used} kernels, {plural(config.n_replicas, 'replica')}",
                      lambda: settled(lambda: trainer.step().ms)),
                 *[SIDES[peer](config, outcome) for peer in asked if peer in SIDES],
                 Side(f"its matrix products alone, {plural(floor.choose_threads(), 'thread')}", floor.ms)]
        yield Row(name, describe_step(config), "ms", in_turns(rounds, sides),
                  [f"the products are {floor.flops / 1e9:.2f} · 10⁹ operations, done in sequence by np.matmul"])


def describe_step(config: TrainConfig) -> str:
    """Describe the step in a line."""
    return (f"training step, {config.n_layer} layers, {config.n_head} heads, {config.n_embd} dimensions, context "
            f"{config.block_size}, batch {config.batch_size}")


def numpy_rows(rounds: int, asked: Sequence[str]) -> Iterator[Row]:
    """Yield the same step with NumPy alone, beside PyTorch."""
    return step_rows(rounds, [peer for peer in asked if peer == "torch"], "step-numpy", kernel="numpy")


def large_rows(rounds: int, asked: Sequence[str]) -> Iterator[Row]:
    """Yield a step of a larger model, in few rounds."""
    return step_rows(min(rounds, 5), asked, "step-large", large_config())


def recipe_rows(rounds: int, asked: Sequence[str], configs: tuple[TrainConfig, TrainConfig] | None = None,
                kernel: str = "fastest") -> Iterator[Row]:
    """Yield a step of the recipe fast beside one of nanogpt, and the time of the optimizer alone in each."""
    config, other = configs or (fast_config(), nanogpt_config())
    with kernels(kernel), training(config) as ours, training(other) as theirs:
        def optimizer_ms(trainer: Trainer) -> Callable[[], float]:
            def run() -> float:
                began = time.perf_counter()
                trainer.optimizer.step(0.0, pool=trainer.pool)  # at a learning rate of 0, which takes as long
                return (time.perf_counter() - began) * 1e3
            return run

        ours.step(), theirs.step()
        sides = [Side(f"recipe {config.recipe}", lambda: settled(lambda: ours.step().ms)),
                 Side(f"recipe {other.recipe}", lambda: settled(lambda: theirs.step().ms)),
                 Side(f"its {config.optimizer} alone", lambda: settled(optimizer_ms(ours))),
                 Side(f"the other's {other.optimizer} alone", lambda: settled(optimizer_ms(theirs)))]
        yield Row("recipe", describe_step(config), "ms", in_turns(rounds, sides))


# ---------------------------------------------------------------------- the first step


FIRST = f"import time, {__name__} as b; t = time.perf_counter(); b.first_step({{!r}}); print(time.perf_counter() - t)"
FIRST_OF_TORCH = (f"import time, torch, {__name__} as b; t = time.perf_counter(); b.first_step_of_torch(); "
                  "print(time.perf_counter() - t)")


def first_step(kernel: str, config: TrainConfig | None = None) -> float:
    """Build a model and take one step; return its loss."""
    config = config or nanogpt_config()
    with kernels(kernel), training(config) as trainer:
        return trainer.step().loss


def first_step_of_torch(config: TrainConfig | None = None) -> float:
    """Do as `first_step` in PyTorch."""
    config = config or nanogpt_config()
    return PeerTraining(config, peers.TorchTraining(config, start_model(config))).step()["loss"]


def first_rows(rounds: int, asked: Sequence[str]) -> Iterator[Row]:
    """Yield the first step of a fresh process, after its imports, with kernels that were compiled earlier."""
    def torch_first_step() -> Callable[[], float]:
        need("torch")
        return lambda: run_fresh(FIRST_OF_TORCH)

    sides = [Side("tapegrad, fastest kernels", lambda: run_fresh(FIRST.format("fastest"))),
             Side("tapegrad, numpy kernels", lambda: run_fresh(FIRST.format("numpy"))),
             *[attempt("PyTorch eager", torch_first_step) for peer in asked if peer == "torch"]]
    yield Row("first-step", "the model and its first training step in a fresh process, after the imports", "s",
              in_turns(min(rounds, 10), sides))


# ---------------------------------------------------------------------- a whole run


SEEDS = 3
EVALUATION = re.compile(r"iter +([\d,]+) .* val ([\d.]+) \(")  # in a line that `gpt train` prints


def record_rows(rounds: int, data: Sequence[str], recipes: Sequence[str], targets: Sequence[float],
                flags: Sequence[str] = ()) -> Iterator[Row]:
    """Yield for each target the seconds until `gpt train`, from the start of its process to its end, has reached that
    loss on the whole validation split, by each recipe and with a few seeds; the notes hold each run's curve."""
    for target in targets:
        sides, notes = [], []
        for recipe in recipes:
            argv = ["train", *["--data"] * bool(data), *data, "--recipe", recipe, "--target-val-loss", str(target),
                    *flags]
            side = Side(f"recipe {recipe}")
            for seed in range(1, min(rounds, SEEDS) + 1):
                seconds, curve = time_run([*argv, "--seed", str(seed)])
                points = ", ".join(f"{at:.1f} s {loss:.4f}" for at, _, loss in curve)
                notes.append(f"{recipe}, seed {seed}: {seconds:.2f} s, {curve[-1][1]:,} steps; after {points}")
                if curve[-1][2] <= target:
                    side.values.append(seconds)
                else:
                    side.missing = f"seed {seed} ended at {curve[-1][2]:.4f}, after {seconds:.1f} s"
                    side.values.clear()
                    break
            sides.append(side)
        command = " ".join(["python -m gpt", *argv])
        yield Row("record", f"a whole process, until its validation loss is {target:g}", "s", sides,
                  [*notes, f"command: {command} --seed N"])


def time_run(argv: Sequence[str]) -> tuple[float, list[tuple[float, int, float]]]:
    """Run a training command to its end; return its seconds, and its evaluations as (seconds from the start, step,
    validation loss).  Raises RuntimeError, with its last line, if it fails."""
    with TemporaryDirectory() as folder:
        began, curve, line = time.perf_counter(), [], ""
        command = [sys.executable, "-m", "gpt", *argv, "--out", folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env=process_environment(PYTHONUNBUFFERED="1")) as process:
            for line in process.stdout or ():
                if found := EVALUATION.match(line):
                    curve.append((time.perf_counter() - began, int(found[1].replace(",", "")), float(found[2])))
        seconds = time.perf_counter() - began
    if process.returncode or not curve:
        raise RuntimeError(f"gpt train has failed: {line.strip()}")
    return seconds, curve
