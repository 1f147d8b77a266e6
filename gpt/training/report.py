"""Lines that training prints: the plan of a run, its evaluations, samples of text, and a diagnosis."""

import math
import statistics
from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile

from tqdm import tqdm

import autograd as ag

from ..checkpoint import Checkpoint
from ..data.dataset import EpochData
from ..generation.generate import continue_text
from ..model.families import nearest_family
from ..optim.schedule import SCHEDULES
from ..runtime.screen import clock_time, escape_line
from .config import TrainConfig
from .trainer import Evaluation, StepResult, Trainer

VANISHED = 1e-7  # norm of a gradient that changes nothing
KERNELS = {"numpy": 'NumPy (pip install "tapegrad[fast]" brings Numba\'s, which are faster)',
           "numba": "Numba (the first run on a machine compiles them, some ten seconds)"}


def say_plan(config: TrainConfig, run: Checkpoint, trainer: Trainer, say: Callable[[str], None]) -> None:
    """Say the first lines of a run: data, model, steps, and how it learns."""
    c, tokens = config, config.batch_size * config.accumulate * config.block_size
    say(f"text    {escape_line(trainer.data.description)}")
    say(f"model   {c.n_layer} layers, {c.n_head} heads, {c.n_embd} dimensions, context {run.config.block_size}: "
        f"{run.model.n_parameters:,} parameters")
    n = trainer.data.n_examples if isinstance(trainer.data, EpochData) else 0  # a task draws from as many as there are
    passes = f", {c.max_iters * c.accumulate * c.batch_size / n:.2g} passes over the text" if n else ""
    say(f"run     {f'from {c.from_}' if c.from_ else f'recipe {c.recipe}'}: {c.max_iters:,} steps of {c.batch_size}"
        f"{f' x {c.accumulate}' if c.accumulate > 1 else ''} x {c.block_size} = {tokens:,} tokens{passes}, "
        f"{c.batches} batches, seed {c.seed}")
    say(f"learn   {describe_learning(c, trainer)}")
    family, lacks = nearest_family(run.config)
    if lacks:
        say(f"export  transformers has no model like this one, so gpt export will refuse it: {family}, the nearest, "
            f"has no counterpart for {', '.join(lacks)}; one of --recipe nanogpt can be exported")
    kernels = ag.kernels.in_use()
    say(f"speed   {c.n_replicas} replica{'s' * (c.n_replicas > 1)}, kernels of {KERNELS[kernels]}")


def describe_learning(c: TrainConfig, trainer: Trainer) -> str:
    """Return a line about the optimizer, its parameter groups, and the learning-rate schedule."""
    decay = SCHEDULES[c.schedule].summary.format(floor=c.min_lr, decay_fraction=c.falling_share)
    return f"{trainer.optimizer.describe(c.learning_rate)}; {c.warmup_iters:,} steps of warm-up, then {decay}"


def report_steps(trainer: Trainer, results: Iterable[StepResult], say: Callable[[str], None]) -> Iterator[StepResult]:
    """Yield the results of `trainer.run` with a progress bar on the terminal, and say how fast the first steps are and
    what each evaluation finds: only once the caller has saved the step, since the reader of the output may have left.
    """
    first, val_loss = trainer.iter, math.nan
    with tqdm(total=trainer.config.max_iters, initial=first, desc="train", unit="it", disable=None,
              dynamic_ncols=True) as bar:
        for result in results:
            val_loss = result.evaluation.val_loss if result.evaluation else val_loss
            bar.set_postfix_str(f"loss {result.loss:.3f}, val {val_loss:.3f}, lr {result.lr:.1e}, "
                                f"{result.tokens_per_s:,} tokens/s", refresh=False)
            bar.update(result.iter - bar.n)
            yield result
            if result.iter == first + 10:
                say(describe_pace(trainer, result))
            if result.evaluation:
                say(describe_evaluation(trainer, result, result.evaluation))


def describe_pace(trainer: Trainer, result: StepResult) -> str:
    """Return the line about the speed of the first steps."""
    left = result.ms / 1e3 * (trainer.config.max_iters - result.iter)
    return f"pace    {result.ms:.0f} ms a step, gradient norm {result.grad_norm:.2f}; about {clock_time(left)} left"


def describe_evaluation(trainer: Trainer, result: StepResult, evaluation: Evaluation) -> str:
    """Return the line about an evaluation."""
    val_loss, i = evaluation.val_loss, result.iter
    perplexity = math.exp(val_loss) if val_loss < 709 else math.inf
    bits = val_loss / math.log(2) / trainer.data.characters_per_token
    left = trainer.seconds / i * (trainer.config.max_iters - i)
    return (f"iter {i:>5,}  loss {result.loss:.4f}  val {val_loss:.4f} ({evaluation.scope}; perplexity "
            f"{perplexity:.4g}, {bits:.3f} bits/character)  lr {result.lr:.1e}  {result.tokens_per_s:,} "
            f"tokens/s  {clock_time(trainer.seconds)} passed, {clock_time(left)} left")


def diagnose(trainer: Trainer) -> str:
    """Return what went wrong in a run that has ended, and what to try; empty if nothing did."""
    c, losses = trainer.config, [loss for loss, _ in trainer.recent]
    if not losses:
        return ""
    guess, loss, val_loss = math.log(trainer.model.config.vocab_size), statistics.fmean(losses), trainer.latest
    n_vanished = sum(1 for _ in takewhile(lambda norm: norm < VANISHED, (norm for _, norm in reversed(trainer.recent))))
    lower = f"lower --learning-rate, which is {c.learning_rate:g}, or raise --warmup-iters"
    if n_vanished >= 3 and losses[-1] > guess / 2:
        return (f"the run is dead: its gradient has been 0 for the last {n_vanished} steps or more, so it learns "
                f"nothing any more, with a loss of {losses[-1]:.2f} (a guess among all tokens has {guess:.2f}): "
                f"{lower}")
    if loss > guess - 0.01 and trainer.iter > max(c.warmup_iters, 50):
        return (f"the model has learned nothing: its loss is {loss:.2f}, and a guess among all tokens has {guess:.2f}: "
                f"{lower}")
    if val_loss > max(1.5 * loss, loss + 0.5):
        return (f"overfitted: the loss is {loss:.2f} on text that was trained on, and {val_loss:.2f} on other text, so "
                "the model knows its text by heart: train on more text, or for fewer steps (--patience 3 stops in "
                "time), or with more --dropout or --weight-decay, or a smaller model")
    return ""


def show_sample(run: Checkpoint, title: str, say: Callable[[str], None], n: int) -> None:
    """Say a sample of `n` tokens from the model."""
    text = "".join(continue_text(run, "", n, temperature=0.8)).strip()
    say(f"\n{title}:\n" + "\n".join(f"  | {line}" for line in text.splitlines()) + "\n")
