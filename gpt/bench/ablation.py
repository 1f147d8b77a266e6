"""`gpt ablate`: an ablation of the recipe `fast`, which is trained without one ingredient at a time."""

import math
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import autograd as ag
from autograd.core.describe import plural

from ..data.dataset import TextData, load_data
from ..model.gpt import GPT
from ..runtime.environment import fastest_kernels
from ..runtime.malloc import keep_freed_memory
from ..runtime.screen import clock_time
from ..runtime.settings import Settings, setting
from ..runtime.worker_pool import WorkerPool
from ..training.config import TrainConfig
from ..training.recipes import RECIPES
from ..training.trainer import Trainer

RECIPE = "fast"
DEVELOPMENT = 0.1  # share of the training text, its end, that is the development set
NOISE = 2  # standard deviations over the seeds within which a difference may be due to them
RATES = (0.001, 0.002, 0.004, 0.008, 0.016)  # learning rates of AdamW that are tried

WHOLE = f"nothing (the recipe {RECIPE})"
# The ingredients left out, and the settings for that; of several learning rates the best one counts, and `max_iters` is
# the share of the steps.
WITHOUT: dict[str, dict[str, Any]] = {
    "small model (nanogpt's, in 3/8 of the steps, which take as long)": dict(n_layer=4, n_embd=128, max_iters=3 / 8),
    "Muon (AdamW at {rate:g} instead)": dict(optimizer="adamw", learning_rate=RATES),
    "convolution": dict(convolution=0),
    "head of its own (tied instead)": dict(tied=True),
    "rotary positions (learned instead)": dict(positions="learned"),
    "squared ReLU (GELU instead)": dict(activation="gelu"),
    "RMS norm without gain (layer norm with gain instead)": dict(norm="layer_norm", norm_gain=True),
    "norm of the embedding": dict(norm_embedding=False),
    "normed queries and keys": dict(qk_norm=False),
    "projections that start at zero": dict(zero_init=False),
    "shuffled windows (random ones instead)": dict(batches="random"),
    "falling learning rate": dict(schedule="constant"),
}
# Baselines, at the end of the table.
OTHERS: dict[str, dict[str, Any]] = {
    "everything (the recipe nanogpt)": dict(recipe="nanogpt"),
    "everything (nanogpt at {rate:g} instead of 0.001)": dict(recipe="nanogpt", learning_rate=RATES[1:]),
}


@dataclass
class AblationConfig(Settings):
    """The settings of `gpt ablate`.  Raises ValueError for values that make no sense."""

    data: tuple[str, ...] = setting((), "UTF-8 text files, folders, - for standard input; none: the Python language "
                                    "reference", path=True)
    seeds: int = setting(3, "trainings of each variant, with the seeds 1, 2 and so on", at_least=1)
    max_iters: int = setting(RECIPES[RECIPE]["max_iters"], "steps of each training", at_least=1)


@dataclass
class Trial:
    """A variant of the recipe, and its results."""
    title: str
    config: TrainConfig
    losses: dict[int, float] = field(default_factory=dict)  # on the development set, by seed; infinite: it diverged
    ms: list[float] = field(default_factory=list)           # of every step
    n_parameters: int = 0

    @property
    def name(self) -> str:
        """The ingredient left out."""
        return self.title.format(rate=self.config.learning_rate)

    @property
    def loss(self) -> float:
        """The mean over the seeds."""
        return statistics.fmean(self.losses.values())

    def run(self, data: TextData, vocab_size: int, seed: int) -> None:
        """Train with this seed, without files, and evaluate the loss on all of `data.val`."""
        config, loss, ms = replace(self.config, seed=seed, eval_whole=True), math.inf, []
        model = GPT(config.model_config(vocab_size), seed=seed)
        with WorkerPool(config.n_replicas) as pool:
            trainer = Trainer(config, model, data, pool)
            with suppress(FloatingPointError):
                for _ in range(config.max_iters):
                    ms.append(trainer.step().ms)
                loss = trainer.validate(last=True).val_loss
        self.losses[seed] = loss if math.isfinite(loss) else math.inf
        self.ms, self.n_parameters = self.ms + ms, model.n_parameters


def trials(max_iters: int) -> Iterator[Trial]:
    """Yield the whole recipe first, then each ablation, one trial for each learning rate that is tried."""
    for title, changes in {WHOLE: {}, **WITHOUT, **OTHERS}.items():
        for rate in changes.get("learning_rate", (None,)):
            settings = {"recipe": RECIPE, **changes, "max_iters": round(max_iters * changes.get("max_iters", 1))}
            yield Trial(title, TrainConfig.from_recipe(**settings | ({"learning_rate": rate} if rate else {})))


def ablate(config: AblationConfig) -> None:
    """Print, as a table in Markdown, what the recipe loses without each of its ingredients: the command `gpt ablate`.

    Progress goes to standard error.  Ctrl-C or SIGTERM ends it early, with the table of the trials done.  Raises
    OSError or ValueError for text that cannot be used.
    """
    keep_freed_memory()
    data, vocab_size = load_development(config.data)
    say(data.description)
    every = list(trials(config.max_iters))
    with fastest_kernels():
        try:
            run_all(every, data, vocab_size, config.seeds)
        finally:
            if every[0].losses:
                print("\n".join([*table(every), "", explain(every, data)]), flush=True)


def load_development(paths: Sequence[str]) -> tuple[TextData, int]:
    """Load the text, and return it with its number of distinct characters.

    It is only the training part of `gpt train`, and its last tenth is the development set that trials are judged by, so
    that the validation part stays unseen.
    """
    block_size = RECIPES[RECIPE]["block_size"]
    found, tokenizer = load_data(paths, "char", block_size)
    assert isinstance(found, TextData)
    n = len(found.train)
    cut = int(n * (1 - DEVELOPMENT))
    if n - cut <= block_size:
        raise ValueError(f"the text has {n + len(found.val):,} characters, and needs about "
                         f"{int((block_size + 2) / DEVELOPMENT / 0.9):,}: give more with --data")
    description = f"{found.description}; of the former the last {n - cut:,} are the development set"
    data = TextData(found.train[:cut], found.train[cut:], block_size, description, release=found.release)
    return data, tokenizer.vocab_size


def run_all(every: Sequence[Trial], data: TextData, vocab_size: int, seeds: int) -> None:
    """Run all trials with one seed, then with the next, so that a machine that slows down does so for all."""
    began, n = time.perf_counter(), len(every) * seeds
    width = max(len(trial.name) for trial in every)
    for i, (seed, trial) in enumerate(((seed, trial) for seed in range(1, seeds + 1) for trial in every), 1):
        trial.run(data, vocab_size, seed)
        left = (time.perf_counter() - began) / i * (n - i)
        say(f"{i:{len(str(n))}} of {n}  seed {seed}  left out: {trial.name:{width}}  loss {trial.losses[seed]:.4f}, "
            f"about {clock_time(left)} left")


def say(line: str) -> None:
    """Print a line to standard error."""
    print(line, file=sys.stderr, flush=True)


# ---------------------------------------------------------------------- the table


def table(every: Sequence[Trial]) -> list[str]:
    """Return the lines of the table: the whole recipe, the ablations by cost, and the baselines."""
    whole, *rest = best_trials(every)
    others = [trial for trial in rest if trial.title in OTHERS]
    rest = sorted((trial for trial in rest if trial.title not in OTHERS), key=lambda trial: -cost(trial, whole)[0])
    return ["| left out | loss | difference | ms a step | parameters | seeds |", "|---|---|---|---|---|---|",
            *[table_row(trial, whole) for trial in (whole, *rest, *others)]]


def best_trials(every: Sequence[Trial]) -> list[Trial]:
    """Return of the trials of each title the one with the least loss, over the seeds that all of them have had."""
    titles: dict[str, list[Trial]] = {}
    for trial in every:
        if trial.losses:
            titles.setdefault(trial.title, []).append(trial)
    return [min(same, key=lambda trial: mean_loss(trial, set.intersection(*[set(other.losses) for other in same])))
            for same in titles.values()]


def mean_loss(trial: Trial, seeds: set[int]) -> float:
    """Return the mean loss of a trial over these seeds."""
    return statistics.fmean(trial.losses[seed] for seed in seeds)


def cost(trial: Trial, whole: Trial) -> tuple[float, float]:
    """Return the difference of a trial's loss from the whole recipe's, seed by seed: mean and standard deviation."""
    differences = [loss - whole.losses[seed] for seed, loss in trial.losses.items()]
    if not all(map(math.isfinite, differences)):
        return math.inf, 0.0
    return statistics.fmean(differences), deviation(differences)


def deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation; 0 for a single value, or infinite ones."""
    return statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else 0.0


def table_row(trial: Trial, whole: Trial) -> str:
    """Return a row of the table."""
    mean, spread = cost(trial, whole)
    loss = format_figure(trial.loss, deviation([*trial.losses.values()])) if trial.loss < math.inf else "diverges"
    difference = format_figure(mean, spread, "+") + " (≈)" * (abs(mean) < NOISE * spread)
    cells = (trial.name, loss, difference if trial is not whole and math.isfinite(mean) else "",
             f"{statistics.median(trial.ms):.1f}" if trial.ms else "", f"{trial.n_parameters:,}",
             str(len(trial.losses)))
    return f"| {' | '.join(cells)} |"


def format_figure(mean: float, spread: float, sign: str = "-") -> str:
    """Return a mean and its spread as text: `1.8123 ± 0.0045`."""
    return f"{mean:{sign}.4f}" + f" ± {spread:.4f}" * bool(spread)


def explain(every: Sequence[Trial], data: TextData) -> str:
    """Return a paragraph that explains the figures."""
    c, n, done = every[0].config, len(data.val), [trial for trial in every if trial.losses]
    rates = sorted({trial.config.learning_rate for trial in done if trial.config.optimizer == "adamw"})
    spread = "one seed does not show which are due to it" if max(len(trial.losses) for trial in done) == 1 else \
        f"(≈) is within {NOISE} standard deviations, and may be due to the seeds"
    return (f"Loss: nats a token on the development set, which is the last {n:,} of the {len(data.train) + n:,} "
            f"characters to train on, after {plural(c.max_iters, 'step')} on those before; the mean over the seeds ± "
            f"their standard deviation.  Difference: from the whole recipe, seed by seed; {spread}.  Learning rates of "
            f"AdamW that were tried: {', '.join(map(str, rates)) or 'none'}.  ms a step: the median, with "
            f"{ag.kernels.in_use()} kernels and {plural(c.n_replicas, 'replica')}.")
