"""Lines that training prints: the plan of a run, its evaluations, samples of text, and a diagnosis."""

import math
import statistics
from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile

from tqdm import tqdm

import autograd as ag

from ..checkpoint import Checkpoint
from ..data.dataset import EpochData, TextData
from ..data.ladder import Ladder
from ..data.tokenizers import Tokenizer
from ..generation.generate import continue_text
from ..model.families import nearest_family
from ..optim.schedule import SCHEDULES
from ..runtime.screen import clock_time, escape_line
from .config import TrainConfig
from .trainer import Evaluation, StepResult, Trainer

VANISHED = 1e-7  # norm of a gradient that changes nothing
COPY = 24  # characters that are hardly the same by chance
COPIED = 0.2  # share of a sample above which it is worth a word
SEARCHED = 1 << 22  # tokens in which copies are looked for
WIDE = 0.1  # nats between the losses on the training and on other text that are worth a word
FEW_PASSES = 20  # over a text, after which a model of our sizes gains little by more
KERNELS = {"numpy": 'NumPy (pip install "tapegrad[fast]" brings Numba\'s, which are faster)',
           "numba": "Numba (the first run on a machine compiles them, some ten seconds)"}


def say_plan(config: TrainConfig, run: Checkpoint, trainer: Trainer, say: Callable[[str], None],
             ladder: Ladder | None = None) -> None:
    """Say the first lines of a run: data and what counting reaches on them, model, steps, and how it learns."""
    c, tokens = config, config.batch_size * config.accumulate * config.block_size
    say(f"text    {escape_line(trainer.data.description)}")
    if ladder:
        say(f"ladder  {ladder.describe()}")
    say(f"model   {c.n_layer} layers, {c.n_head} heads, {c.n_embd} dimensions, context {run.config.block_size}: "
        f"{run.model.n_parameters:,} parameters")
    passes = f", {n:.2g} passes over the text" if (n := count_passes(trainer, c.max_iters)) else ""
    say(f"run     {f'from {c.from_}' if c.from_ else f'recipe {c.recipe}'}: {c.max_iters:,} steps of {c.batch_size}"
        f"{f' x {c.accumulate}' if c.accumulate > 1 else ''} x {c.block_size} = {tokens:,} tokens{passes}, "
        f"{c.batches} batches, seed {c.seed}")
    say(f"learn   {describe_learning(c, trainer)}")
    family, lacks = nearest_family(run.config)
    if lacks:
        say(f"export  transformers has no model like this one, so gpt export will refuse it: {family}, the nearest, "
            f"has no counterpart for {', '.join(lacks)}; one of --recipe nanogpt can be exported")
    kernels = ag.kernels.in_use()
    n, ranks = trainer.pool.n, trainer.ranks
    workers = ranks.describe(n) if ranks.size > 1 else f"{n} replica{'s' * (n > 1)}"
    say(f"speed   {workers}, kernels of {KERNELS[kernels]}")


def count_passes(trainer: Trainer, steps: int) -> float:
    """Return how often so many steps see each example, on average; 0 for a task, which has as many as one draws."""
    if not isinstance(trainer.data, EpochData):
        return 0.0
    return steps * trainer.config.accumulate * trainer.config.batch_size / trainer.data.n_examples


def describe_learning(c: TrainConfig, trainer: Trainer) -> str:
    """Return a line about the optimizer, its parameter groups, and the learning-rate schedule."""
    decay = SCHEDULES[c.schedule].summary.format(floor=c.min_lr, decay_fraction=c.falling_share)
    return f"{trainer.optimizer.describe(c.learning_rate)}; {c.warmup_iters:,} steps of warm-up, then {decay}"


def report_steps(trainer: Trainer, results: Iterable[StepResult], say: Callable[[str], None],
                 ladder: Ladder | None = None) -> Iterator[StepResult]:
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
                say(describe_evaluation(trainer, result, result.evaluation, ladder))


def describe_pace(trainer: Trainer, result: StepResult) -> str:
    """Return the line about the speed of the first steps."""
    left = result.ms / 1e3 * (trainer.config.max_iters - result.iter)
    return f"pace    {result.ms:.0f} ms per step, gradient norm {result.grad_norm:.2f}; about {clock_time(left)} left"


def describe_evaluation(trainer: Trainer, result: StepResult, evaluation: Evaluation,
                        ladder: Ladder | None = None) -> str:
    """Return the line about an evaluation, and one that says where on the ladder its loss stands."""
    val_loss, i = evaluation.val_loss, result.iter
    perplexity = math.exp(val_loss) if val_loss < 709 else math.inf
    bits = val_loss / math.log(2) / trainer.data.characters_per_token
    left = trainer.seconds / i * (trainer.config.max_iters - i)
    return (f"iter {i:>5,}  loss {result.loss:.4f}  val {val_loss:.4f} ({evaluation.scope}; perplexity "
            f"{perplexity:.4g}, {bits:.3f} bits/character)  lr {result.lr:.1e}  {result.tokens_per_s:,} "
            f"tokens/s  {clock_time(trainer.seconds)} passed, {clock_time(left)} left"
            + (f"\n            {ladder.place(val_loss)}" if ladder else ""))


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


def advise(trainer: Trainer, verbatim: float) -> str:
    """Return what would lower the loss of a healthy run next; `verbatim`: the share of a sample that is copied.  Empty
    if the run took no step since it was resumed."""
    if not trainer.recent:
        return ""
    c, steps = trainer.config, trainer.iter
    train_loss = statistics.fmean(loss for loss, _ in trainer.recent)
    gap, passes = trainer.latest - train_loss, count_passes(trainer, steps)
    copied = f"; {verbatim:.0%} of the sample above is in the text word for word" if verbatim >= COPIED else ""
    against = "more text, a larger --dropout or --weight-decay, or a smaller model"
    wide = gap > max(WIDE, 0.05 * trainer.latest)
    if trainer.best_iter < steps:
        cure = f", {against}{copied}" if wide else f", or a lower --learning-rate than {c.learning_rate:g}{copied}"
        return f"it was best after {trainer.best_iter:,} steps: fewer steps (--patience 3 stops in time){cure}"
    if wide or copied:
        return (f"its loss is {train_loss:.3f} on the text it learns from, {gap:.3f} lower than on other text: "
                f"{against}{copied}")
    if passes < FEW_PASSES:
        return (f"it has read its text {passes:.2g} times and does as well on other text: more steps (--max-iters "
                f"{2 * steps})")
    return (f"it has read its text {passes:.2g} times and does as well on other text: a larger model (--n-layer "
            f"{c.n_layer + 2} --n-embd {c.n_embd + 64}), and more steps for it")


def verbatim_share(sample: str, tokenizer: Tokenizer, data: TextData) -> float:
    """Return the share of a sample that is copied: of its pieces of COPY characters, those that are in the training
    part (its first SEARCHED tokens)."""
    text = tokenizer.decode(data.train[:SEARCHED])
    data.release()
    pieces = [sample[i:i + COPY] for i in range(len(sample) - COPY + 1)]
    return sum(piece in text for piece in pieces) / len(pieces) if pieces else 0.0


def show_sample(run: Checkpoint, title: str, say: Callable[[str], None], n: int) -> str:
    """Say a sample of `n` tokens from the model, and return it."""
    text = "".join(continue_text(run, "", n, temperature=0.8)).strip()
    say(f"\n{title}:\n" + "\n".join(f"  | {line}" for line in text.splitlines()) + "\n")
    return text
