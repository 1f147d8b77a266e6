"""The rows of the training step: beside peers, with NumPy alone, for a larger model, and the first one of a process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from autograd.core.describe import plural

from ..training.config import TrainConfig
from ..training.trainer import Trainer
from .measure import Row, Side, attempt, fresh, in_turns, need, settled
from .peers import pytorch as peers
from .products import Floor
from .race import SIDES, Outcome, PeerTraining, config_of, fast, kernels, large, our_numbers, start, training


def step_rows(rounds: int, asked: Sequence[str], name: str = "step", config: TrainConfig | None = None,
              kernel: str = "fastest") -> Iterator[Row]:
    """Yield a training step, from fetching the batch to reading the loss; each peer of `asked` starts from the same
    weights and has to agree with us, in losses and parameters, after STEPS steps."""
    config = config or config_of()
    with kernels(kernel) as used, training(config) as trainer:
        outcome = Outcome.of(config, trainer.step, lambda: our_numbers(trainer))
        floor = Floor.of(trainer)
        sides = [Side(f"tapegrad, {used} kernels, {plural(config.n_replicas, 'replica')}",
                      lambda: settled(lambda: trainer.step()["ms"])),
                 *[SIDES[peer](config, outcome) for peer in asked if peer in SIDES],
                 Side(f"its matrix products alone, {plural(floor.choose_threads(), 'thread')}", floor.ms)]
        yield Row(name, what(config), "ms", in_turns(rounds, sides),
                  [f"the products are {floor.flops / 1e9:.2f} · 10⁹ operations, done in sequence by np.matmul"])


def what(config: TrainConfig) -> str:
    """What is computed, in a line."""
    return (f"training step, {config.n_layer} layers, {config.n_head} heads, {config.n_embd} dimensions, context "
            f"{config.block_size}, batch {config.batch_size}")


def numpy_rows(rounds: int, asked: Sequence[str]) -> Iterator[Row]:
    """Yield the same step with nothing but NumPy, beside PyTorch as it is."""
    return step_rows(rounds, [peer for peer in asked if peer == "torch"], "step-numpy", kernel="numpy")


def large_rows(rounds: int, asked: Sequence[str]) -> Iterator[Row]:
    """Yield a larger model, in few rounds."""
    return step_rows(min(rounds, 5), asked, "step-large", large())


def recipe_rows(rounds: int, asked: Sequence[str], configs: tuple[TrainConfig, TrainConfig] | None = None,
                kernel: str = "fastest") -> Iterator[Row]:
    """Yield a step of the recipe fast and one of nanogpt, and what its optimizer alone takes of the one and the
    other."""
    config, other = configs or (fast(), config_of())
    with kernels(kernel), training(config) as ours, training(other) as theirs:
        def optimizer(trainer: Trainer) -> Callable[[], float]:
            def run() -> float:
                began = time.perf_counter()
                trainer.optimizer.step(0.0, pool=trainer.pool)  # changes nothing, and takes as long
                return (time.perf_counter() - began) * 1e3
            return run

        ours.step(), theirs.step()
        sides = [Side(f"recipe {config.recipe}", lambda: settled(lambda: ours.step()["ms"])),
                 Side(f"recipe {other.recipe}", lambda: settled(lambda: theirs.step()["ms"])),
                 Side(f"its {config.optimizer} alone", lambda: settled(optimizer(ours))),
                 Side(f"the other's {other.optimizer} alone", lambda: settled(optimizer(theirs)))]
        yield Row("recipe", what(config), "ms", in_turns(rounds, sides))


# ---------------------------------------------------------------------- the first step


FIRST = f"import time, {__name__} as b; t = time.perf_counter(); b.first_step({{!r}}); print(time.perf_counter() - t)"
FIRST_OF_TORCH = (f"import time, torch, {__name__} as b; t = time.perf_counter(); b.first_step_of_torch(); "
                  "print(time.perf_counter() - t)")


def first_step(kernel: str, config: TrainConfig | None = None) -> float:
    """Take one step, from nothing; its loss."""
    config = config or config_of()
    with kernels(kernel), training(config) as trainer:
        return trainer.step()["loss"]


def first_step_of_torch(config: TrainConfig | None = None) -> float:
    """Return the same in PyTorch."""
    config = config or config_of()
    return PeerTraining(config, peers.TorchTraining(config, start(config))).step()["loss"]


def first_rows(rounds: int, asked: Sequence[str]) -> Iterator[Row]:
    """Yield the first step of a fresh process, from the end of its imports, with kernels that were compiled before."""
    def torch_first() -> Callable[[], float]:
        need("torch")
        return lambda: fresh(FIRST_OF_TORCH)

    sides = [Side("tapegrad, fastest kernels", lambda: fresh(FIRST.format("fastest"))),
             Side("tapegrad, numpy kernels", lambda: fresh(FIRST.format("numpy"))),
             *[attempt("PyTorch eager", torch_first) for peer in asked if peer == "torch"]]
    yield Row("first-step", "the model and its first training step in a fresh process, after the imports", "s",
              in_turns(min(rounds, 10), sides))
