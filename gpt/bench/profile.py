"""Profile of a training step: milliseconds by operation and phase, beside those of the matrix products alone."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean, median
from time import perf_counter
from typing import Any

import numpy as np

from autograd.core.describe import plural
from autograd.program.trace import SUM
from autograd.view.palette import GREY, LIGHT, MEMORY

from ..training.config import TrainConfig
from ..training.trainer import Trainer
from ..view.plot import write_picture
from .measure import settled
from .products import Floor
from .race import kernels, nanogpt_config, programs, training
from .step import describe_step

FORWARD, BACKWARD, OPTIMIZER, REST = PHASES = ("forward", "backward", "optimizer", "the rest")
BETWEEN = "between the program's steps"
WITHOUT = ", by its formula"  # suffix of operations without a kernel
TURNS = 3  # of the steps and of the products alone
MARK = "gpt bench"  # in its pictures

Part = tuple[str, str]  # operation and phase


@dataclass
class Profile:
    """Milliseconds of the parts of a step, `total` in all; `floor`: those of its matrix products alone."""
    what: str
    parts: dict[Part, float]
    total: float
    floor: float

    @property
    def names(self) -> list[str]:
        """The operations, the longest first."""
        ms_of = {name: sum(ms for (n, _), ms in self.parts.items() if n == name) for name, _ in self.parts}
        return sorted(ms_of, key=lambda name: -ms_of[name])

    @property
    def outside_kernels(self) -> float:
        """The share of the step that forward and backward pass spend outside of kernels: between the steps of the
        programs, and in formulas."""
        return sum(ms for (name, phase), ms in self.parts.items() if phase in (FORWARD, BACKWARD)
                   and (name == BETWEEN or name.endswith(WITHOUT))) / self.total

    def summary(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        return {"row": "profile", "what": self.what, "ms": self.total, "products_ms": self.floor,
                "outside_kernels": self.outside_kernels,
                "parts": [{"what": name, "phase": phase, "ms": ms} for (name, phase), ms in self.parts.items()]}

    def lines(self) -> list[str]:
        """Return the lines of text that are printed."""
        columns = [f"{phase:>9}" for phase in PHASES]
        table = [f"  {'ms':32}{' '.join(columns)}       all  of step  of products"]
        for name in [*self.names, None]:
            by_phase = [sum(ms for (n, p), ms in self.parts.items() if name in (n, None) and p == phase)
                        for phase in PHASES]
            cells = " ".join(f"{ms:9.3f}" if ms else " " * 9 for ms in by_phase)
            table.append(f"  {name or 'the step':32}{cells} {sum(by_phase):9.3f}  {sum(by_phase) / self.total:7.1%}"
                         f"  {sum(by_phase) / self.floor:11.1%}")
        return [f"profile: {self.what}", *table,
                f"  its matrix products alone, done in sequence by np.matmul: {self.floor:.3f} ms",
                f"  in no kernel: {self.outside_kernels:.1%} of the step is between the steps of the programs or in "
                "formulas"]

    def draw(self, out: str) -> None:
        """Write a picture: a bar for each operation, by phase.

        Raises ImportError if matplotlib is missing, and OSError for a file that cannot be written.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(f"pictures need matplotlib ({error}): python -m pip install matplotlib, or leave out "
                              "--out to see the table alone") from None
        names = self.names
        picture = Figure(figsize=(9.6, 1.6 + 0.3 * len(names)), layout="constrained")
        axes = picture.add_subplot()
        left = np.zeros(len(names))
        for phase, color in zip(PHASES, (LIGHT["forward"], LIGHT["backward"], MEMORY["saved"], GREY)):
            ms = np.array([self.parts.get((name, phase), 0.0) for name in names])
            axes.barh(names, ms, left=left, color=color, label=phase)
            left += ms
        for y, end in enumerate(left):
            axes.text(end, y, f" {end:.2f} ms, {end / self.floor:.0%}", va="center", fontsize=8)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.25 * left.max())  # room for the figures
        axes.set_xlabel(f"ms of {self.total:.2f}, and percent of the {self.floor:.2f} of its matrix products alone")
        picture.suptitle(self.what, fontsize=10, fontweight="bold")
        axes.legend(loc="lower right", frameon=False)
        write_picture(picture, out, MARK)


# ---------------------------------------------------------------------- measuring


def profile(rounds: int, config: TrainConfig | None = None, kernel: str = "fastest") -> Profile:
    """Profile `rounds` training steps or a few more, by timers within them; of each part the mean over the middle half
    of the steps is taken, so that the parts add up."""
    config = config or nanogpt_config()
    with kernels(kernel) as used, training(config) as trainer:
        floor, steps, products_ms = Floor.of_trainer(trainer), [], []
        floor.choose_threads()
        for _ in range(TURNS):
            settled(lambda: trainer.step().ms)
            with timed(trainer) as clock:
                steps += [clock.step(trainer) for _ in range(-(-rounds // TURNS))]
            products_ms.append(floor.ms())
    n = len(steps)
    steps = sorted(steps, key=lambda step: sum(step.values()))[n // 4:][:-(-n // 2)]
    parts = {key: fmean(step.get(key, 0.0) for step in steps) for key in dict.fromkeys(p for s in steps for p in s)}
    return Profile(f"{describe_step(config)}, {used} kernels, {plural(config.n_replicas, 'replica')}", parts,
                   sum(parts.values()), median(products_ms))


class Clock:
    """Milliseconds of the parts of a step: those of each replica's program, and the others."""

    def __init__(self, n_replicas: int):
        self.of_replica: list[dict[Part, float]] = [{} for _ in range(n_replicas)]
        self.of_step: dict[Part, float] = {}

    def step(self, trainer: Trainer) -> dict[Part, float]:
        """Take a step; return the milliseconds of its parts, which add up to the whole: the means of the replicas,
        which work in parallel, the remainder of their time, and the rest."""
        for parts in [*self.of_replica, self.of_step]:
            parts.clear()
        began = perf_counter()
        trainer.step()
        total = (perf_counter() - began) * 1e3
        n = len(self.of_replica)
        parts = {key: sum(replica.get(key, 0.0) for replica in self.of_replica) / n
                 for key in dict.fromkeys(p for replica in self.of_replica for p in replica)}
        gradient = self.of_step.pop(("gradient", REST))
        parts["replicas: starting, waiting, adding up", REST] = gradient - sum(parts.values())
        parts |= self.of_step
        parts["norm, clipping, the rest", REST] = total - gradient - sum(self.of_step.values())
        return parts


@contextlib.contextmanager
def timed(trainer: Trainer) -> Iterator[Clock]:
    """Yield a clock that times every procedure of the replicas' programs and the calls of the trainer."""
    clock = Clock(len(programs(trainer)))
    with contextlib.ExitStack() as stack:
        for program, parts in zip(programs(trainer), clock.of_replica):
            for capture in program._captures.values():
                n, steps = capture.n_forward, capture.plan.steps
                for phase, method in ((FORWARD, "forward"), (BACKWARD, "backward")):
                    for i in range(n) if phase == FORWARD else range(n, len(steps)):
                        name = operation_of(steps[i][0], *capture.plan.origins[i])
                        steps[i] = (_time(steps[i][0], parts, (name, phase)), steps[i][1])
                    _replace(stack, capture, method, functools.partial(_time_rest, parts, phase,
                                                                       getattr(capture, method)))
                stack.callback(_restore, steps)
        for owner, method, key in ((trainer, "batch", ("fetching the batch", REST)),
                                    (trainer.replicas, "gradient", ("gradient", REST)),
                                    (trainer.optimizer, "step", ("optimizer", OPTIMIZER))):
            _replace(stack, owner, method, _time(getattr(owner, method), clock.of_step, key))
        yield clock


def operation_of(procedure: Any, record: Any, purpose: str) -> str:
    """Return the operation that a procedure of a program serves: that of its record, unless it sums gradients."""
    if purpose == SUM:
        return "sums of gradients"
    if record.op is None:  # a leaf of random numbers
        return type(procedure).__name__.lower()
    return record.op.name + WITHOUT * isinstance(procedure, functools.partial)  # which runs a formula or rules


def _time(function: Callable[..., Any], parts: dict[Part, float], key: Part) -> Callable[..., Any]:
    """Return a function that also adds its time to a part."""
    @functools.wraps(function, updated=())  # the original is at __wrapped__
    def run(*arguments: Any) -> Any:
        began = perf_counter()
        result = function(*arguments)
        parts[key] = parts.get(key, 0.0) + (perf_counter() - began) * 1e3
        return result
    return run


def _time_rest(parts: dict[Part, float], phase: str, method: Callable[..., Any], *arguments: Any) -> Any:
    """Run a pass of a program; the time not spent in its procedures goes to BETWEEN."""
    before, began = sum(parts.values()), perf_counter()
    result = method(*arguments)
    took = (perf_counter() - began) * 1e3
    parts[BETWEEN, phase] = parts.get((BETWEEN, phase), 0.0) + took - (sum(parts.values()) - before)
    return result


def _replace(stack: contextlib.ExitStack, owner: Any, method: str, function: Callable[..., Any]) -> None:
    """Replace `owner.method` until the stack ends."""
    setattr(owner, method, function)
    stack.callback(delattr, owner, method)


def _restore(steps: list[tuple[Any, tuple]]) -> None:
    steps[:] = [(procedure.__wrapped__, arguments) for procedure, arguments in steps]
