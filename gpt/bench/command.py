"""`gpt bench`: speed and memory beside peers, measured in turns in one run."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..runtime.settings import Settings, overwrite_setting, setting
from ..training.recipes import DEFAULT, RECIPES
from ..view.plot import check_picture
from .costs import cost_rows
from .measure import Side, describe_machine, load_average
from .memory import memory_rows
from .profile import MARK, profile
from .race import fast_config, large_config, nanogpt_config
from .scaling import scaling_rows
from .small import import_rows, op_rows, sample_rows
from .step import first_rows, large_rows, numpy_rows, recipe_rows, record_rows, step_rows


def _scaling(rounds: int, asked: list[str]) -> Iterator[Any]:
    """Yield the exponents of a training step, and of the engine and the views."""
    yield from scaling_rows(rounds, asked)
    yield from cost_rows(rounds)


ROWS: dict[str, Callable[..., Iterator[Any]]] = {
    "import": import_rows, "first-step": first_rows, "op": op_rows, "step": step_rows, "step-numpy": numpy_rows,
    "step-large": large_rows, "recipe": recipe_rows, "memory": memory_rows, "sample": sample_rows,
    "scaling": _scaling,
}
PEERS = ("torch", "compile", "jax", "hips")
PROFILED = {"all": (nanogpt_config, "fastest"), "step": (nanogpt_config, "fastest"),
            "step-numpy": (nanogpt_config, "numpy"), "step-large": (large_config, "fastest"),
            "recipe": (fast_config, "fastest")}


@dataclass
class BenchConfig(Settings):
    """The settings of `gpt bench`.  Raises ValueError for values that make no sense."""

    row: str = setting("all", f"what to measure: all, or one of {', '.join(ROWS)}; or record, whole runs of gpt "
                       "train, timed until they reach a loss", positional=True, choices=("all", *ROWS, "record"),
                       metavar="ROW")
    rounds: int = setting(30, "times that each side is measured; the medians are compared", at_least=3)
    peers: tuple[str, ...] = setting(PEERS, "frameworks to compare with, if installed: torch, compile (torch.compile), "
                                     "jax, hips (HIPS autograd); none: ours alone", metavar="PEER")
    data: tuple[str, ...] = setting((), "record: text files to train on; none: the default text", group="record",
                                    path=True)
    recipes: tuple[str, ...] = setting((DEFAULT, "nanogpt"), "record: recipes to time, each with three seeds",
                                       group="record", metavar="RECIPE")
    targets: tuple[str, ...] = setting(("1.886",), "record: validation losses to reach, in nats a token (1.886: where "
                                       "nanogpt ends on tiny Shakespeare)", group="record", metavar="LOSS")
    json: bool = setting(False, "print one JSON object a row")
    profile: bool = setting(False, "profile a training step, by operation and phase, and measure no row")
    out: str | None = setting(None, "picture of the profile to write, by its ending .svg, .png or .pdf (needs "
                              "matplotlib); only with --profile", metavar="FILE", group="output")
    overwrite: bool = overwrite_setting()

    def __post_init__(self) -> None:
        super().__post_init__()
        if unknown := [peer for peer in self.asked if peer not in PEERS]:
            raise ValueError(f"peers are {', '.join(PEERS)} or none, and not {unknown[0]!r}")
        if unknown := [recipe for recipe in self.recipes if recipe not in RECIPES]:
            raise ValueError(f"recipes are {', '.join(RECIPES)}, and not {unknown[0]!r}")
        try:
            assert min(self.losses) > 0
        except (AssertionError, ValueError):
            raise ValueError(f"--targets are losses, numbers above 0, and not {' '.join(self.targets)!r}") from None
        if self.out is not None:
            check_picture(self.out, MARK, self.overwrite)
            if not self.profile:
                raise ValueError("--out is for the picture of a profile: add --profile")
        if self.profile and self.row not in PROFILED:
            raise ValueError(f"there is a profile of {', '.join(name for name in PROFILED if name != 'all')}, and not "
                             f"of {self.row}")

    @property
    def losses(self) -> list[float]:
        """The validation losses to reach."""
        return [float(x) for x in self.targets]

    @property
    def asked(self) -> list[str]:
        """The names of the peers."""
        return [peer for peer in self.peers if peer != "none"]


def bench(config: BenchConfig) -> None:
    """Print the medians of ours and the peers', and their ratios: the command `gpt bench`.

    Raises ArithmeticError, at the end, if a peer's results differ from ours, or ours could not be computed.
    """
    say(config, describe_machine())
    if config.profile:
        make, kernel = PROFILED[config.row]
        shown = profile(config.rounds, make(), kernel)
        say(config, shown)
        if config.out is not None:
            shown.draw(config.out)
        return
    wrong: list[Side] = []
    for name in ROWS if config.row == "all" else [config.row]:
        rows = ROWS[name](config.rounds, config.asked) if name in ROWS else \
            record_rows(config.rounds, config.data, config.recipes, config.losses)
        for row in rows:
            say(config, row)
            sides = getattr(row, "sides", []) if name in ROWS else []  # a target that is missed is a result
            wrong += [side for side in sides if side.wrong or side is sides[0] and not side.values]
    if load := load_average():
        say(config, load)
    if wrong:
        raise ArithmeticError(f"{wrong[0].name}: {wrong[0].missing}")


def say(config: BenchConfig, result: Any) -> None:
    """Print a row, or facts by name."""
    if isinstance(result, dict):
        text = json.dumps(result) if config.json else ", ".join(f"{name} {value}" for name, value in result.items())
    else:
        text = json.dumps(result.summary()) if config.json else "\n" + "\n".join(result.lines())
    print(text, flush=True)
