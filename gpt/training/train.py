"""Training: a run from its start, or from the checkpoint it resumes, to its last one; and the loop over its steps."""

import json
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .. import checkpoint
from ..checkpoint import Checkpoint
from ..data.dataset import load_data
from ..data.tasks import load_task
from ..data.tokenizers import Tokenizer
from ..data.tokenizers.bpe import BPETokenizer
from ..model.gpt import GPT
from ..runtime.environment import compare_environments, environment, fastest_kernels
from ..runtime.malloc import keep_freed_memory
from ..runtime.screen import announce, command_line
from ..runtime.settings import is_path
from ..runtime.signals import Stopped, stop_on_signal
from ..runtime.worker_pool import WorkerPool
from .config import TrainConfig
from .metrics import FILE as METRICS
from .metrics import Metrics
from .report import describe_evaluation, describe_pace, diagnose, say_plan, show_sample
from .run_folder import check_run, writable_folder
from .trainer import WHOLE, Interrupted, Trainer

SHOWN = 400  # characters of the samples before and after training
KEPT = ("chat_template", "special_tokens", "pretrained")  # metadata that a model to begin from hands on
_CHECKSUM = ", checksum of all "


@dataclass
class StepResult:
    """The result of a step of the loop."""
    metrics: dict[str, Any]  # for a line of metrics.jsonl; with `val_loss` where it was evaluated
    best: bool = False  # that is the lowest so far
    last: bool = False  # the loop ends here


def train(config: TrainConfig, say: Callable[[str], None] = announce) -> Checkpoint:
    """Train a GPT as `config` says, or resume a run, into the folder `config.out`: the command `gpt train`.

    Returns the run as it ended; `load(config.out)` is the best one if it ended worse than that.

    Ctrl-C or SIGTERM finishes the step, saves and raises Stopped, a KeyboardInterrupt; a second one stops at once.
    Raises OSError or ValueError for an output folder that cannot be written and for text that cannot be used, and
    FloatingPointError for a loss that is not finite; the last checkpoint stays.
    """
    keep_freed_memory()
    with writable_folder(config.out) as out:
        note = "" if config.resumes_in_place else check_run(out, config.overwrite, "train", asdict(config))
        if note:
            say(note)
        with fastest_kernels(), WorkerPool(config.n_replicas) as pool:
            return train_with(pool, out, config, say, replaces=bool(note))


def train_with(pool: WorkerPool, out: Path, config: TrainConfig, say: Callable[[str], None],
               replaces: bool) -> Checkpoint:
    """Train on the workers of a pool.  `replaces`: the folder holds another run, which this one replaces."""
    run, trainer = (resume_run if config.resume else start_run)(config, pool, say)
    say_plan(config, run, trainer, say)
    if not trainer.iter:
        show_sample(run, "Before training it writes", say, sample_length(trainer))
    first, aside = not config.resumes_in_place, replaces or rewinds(config, trainer, say)
    with stop_on_signal() as stop_requested, Metrics(out / METRICS, trainer.steps_logged, aside) as log:
        for result in loop(trainer, stop_requested, say):
            evaluated = "val_loss" in result.metrics
            if not trainer.pending:
                log.write(result.metrics)
            run.metadata |= {"iter": trainer.iter} | ({"val_loss": result.metrics["val_loss"]} if evaluated else {})
            if result.last or evaluated or trainer.iter % config.checkpoint_interval == 0:
                save_run(out, run, trainer, log, first)
                first = False
    if not trainer.finished:
        raise Stopped(f"stopped after {trainer.iter:,} steps; to go on:\n\n    {command_line('train --resume', out)}\n",
                      stop_requested[0])
    say_result(out, run, trainer, stop_requested, say)
    return run


def say_result(out: Path, run: Checkpoint, trainer: Trainer, stop_requested: Sequence[int],
               say: Callable[[str], None]) -> None:
    """Say how a finished run ended: a sample of text, the validation loss, and notes on both.  Raises Stopped, which
    says where the weights are, if that was requested or is now."""
    weights, worse = checkpoint.choose(out)
    done = f"weights in {weights}; more text from them:\n\n    {command_line('sample', out)}\n"
    try:
        if stop_requested:
            raise Stopped(number=stop_requested[0])
        best = checkpoint.load_checkpoint(weights) if worse else run
        show_sample(best, "After training it writes", say, sample_length(trainer))
        scope = f"the {WHOLE}" if trainer.scope == WHOLE else \
            f"{trainer.scope} of its part (--eval-whole takes all of it)"
        say(f"validation loss over {scope}: {run.metadata['val_loss']:.4f}, after {trainer.iter:,} steps")
        if worse:
            say(f"note    the run has ended worse than it was: sample, tune, chat, show and export take {worse}")
        if problem := diagnose(trainer):
            say(f"note    {problem}")
        if trainer.config.task != "text":
            say(f"{trainer.data.accuracy(run.model):.2%} of the questions that were held out are answered exactly")
    except KeyboardInterrupt as stop:
        stop.args = (f"stopped after the last step, {trainer.iter:,}; {done}",)
        raise
    say(done)


def sample_length(trainer: Trainer) -> int:
    """Return the number of tokens of a sample before or after training."""
    return math.ceil(SHOWN / trainer.data.characters_per_token)


# ---------------------------------------------------------------------- the loop


def loop(trainer: Trainer, stop_requested: Sequence[int], say: Callable[[str], None]) -> Iterator[StepResult]:
    """Yield the result of each step until the last one, with a progress bar on the terminal.

    It ends by the number of steps, the time limit, the target, lost patience, or a signal in `stop_requested`.  A
    signal during an evaluation leaves that pending in the trainer: the loop that goes on from there evaluates first.
    """
    c, first, val_loss = trainer.config, trainer.iter, math.nan
    trainer.start_clock()
    with tqdm(total=c.max_iters, initial=first, desc="train", unit="it", disable=None, dynamic_ncols=True) as bar:
        while True:
            result = StepResult(metrics := trainer.advance())
            show_progress(bar, metrics, val_loss)
            trainer.read_clock()
            lines = [describe_pace(trainer, metrics)] if trainer.iter == first + 10 else []
            if trainer.is_over or trainer.iter % c.eval_interval == 0:
                try:
                    evaluation = trainer.evaluate(metrics, stop_requested)
                except Interrupted:
                    yield StepResult(metrics, last=True)
                    return
                metrics["val_loss"] = val_loss = evaluation.val_loss
                trainer.read_clock()
                result.best = evaluation.best
                lines.append(describe_evaluation(trainer, metrics))
            result.last = trainer.finished or bool(stop_requested)  # read once, so that what is saved is what ends
            yield result
            for line in lines:  # only now that it is saved: the reader of the output may have left
                say(line)
            if result.last:
                return


def show_progress(bar: tqdm, metrics: dict[str, Any], val_loss: float) -> None:
    """Move the progress bar to the step of the metrics."""
    bar.set_postfix_str(f"loss {metrics['loss']:.3f}, val {val_loss:.3f}, lr {metrics['lr']:.1e}, "
                        f"{metrics['tokens_per_s']:,} tokens/s", refresh=False)
    bar.update(metrics["iter"] - bar.n)


# ---------------------------------------------------------------------- a run in a folder


def start_run(config: TrainConfig, pool: WorkerPool, say: Callable[[str], None]) -> tuple[Checkpoint, Trainer]:
    """Return a new run and its trainer."""
    run = checkpoint.load_checkpoint(config.from_, say) if config.from_ else None
    data, tokenizer = prepare_data(config, run.tokenizer if run else None)
    model = run.model if run else GPT(config.model_config(tokenizer.vocab_size), seed=config.seed)
    model.config = replace(model.config, dropout=config.dropout)
    if not config.matches(model.config):
        raise ValueError(f"the settings of the model are not those of {config.from_}: take "
                         "TrainConfig.from_recipe(from_=...), which does")
    kept = {name: run.metadata[name] for name in KEPT if name in run.metadata} if run else {}
    metadata = kept | {"train": asdict(config), "data": identify_data(data, tokenizer),
                       "environment": environment(pool.n)}
    return Checkpoint(model, tokenizer, metadata), Trainer(config, model, data, pool)


def resume_run(config: TrainConfig, pool: WorkerPool, say: Callable[[str], None]) -> tuple[Checkpoint, Trainer]:
    """Return the run at `config.resume` and its trainer, as they were when it was saved."""
    assert config.resume is not None
    run, arrays = checkpoint.load_with_state(config.resume)
    data, tokenizer = prepare_data(config, run.tokenizer if config.from_ or is_path(config.tokenizer) else None)
    before, run.metadata["data"] = str(run.metadata.get("data")), identify_data(data, tokenizer)
    if tokenizer.to_json() != run.tokenizer.to_json() or not same_data(before, run.metadata["data"], data):
        raise ValueError(f"the data are not those of the run: it had {before:.300}, and this is {run.metadata['data']}"
                         ": give the same with --data")
    if not config.matches(run.config):
        raise ValueError(f"{config.resume} has other settings of the model than its weights: it is damaged; take "
                         "another checkpoint of its folder")
    trainer = Trainer(config, run.model, data, pool)
    trainer.restore(run.metadata.get("state"), arrays)
    if trainer.steps_logged >= config.max_iters:
        raise ValueError(f"the run has taken its {trainer.iter:,} steps: to go on, raise --max-iters")
    earlier = run.metadata.get("environment")
    if changes := compare_environments(earlier if isinstance(earlier, dict) else {}, now := environment(pool.n)):
        say(f"note    not bit for bit as if it had never stopped, since this differs: {changes}")
    run.metadata |= {"train": asdict(config), "environment": now}
    say(f"resume  {config.resume} at iteration {trainer.iter:,}")
    return run, trainer


def prepare_data(config: TrainConfig, tokenizer: Tokenizer | None = None) -> tuple[Any, Any]:
    """Return the data of a run, and its tokenizer, which may be given."""
    if config.task != "text":
        return load_task(config.task, config.block_size, config.digits)
    if tokenizer is None and is_path(config.tokenizer):
        tokenizer = BPETokenizer.from_file(config.tokenizer)
    return load_data(config.data, tokenizer or config.tokenizer, config.block_size, lines=config.lines,
                     val_fraction=config.val_fraction, cache_dir=config.cache_dir or None,
                     vocab_size=config.vocab_size)


def identify_data(data: Any, tokenizer: Any) -> str:
    """Return a description of the data, with a checksum of all of them and of their tokenizer."""
    return f"{data.description}{_CHECKSUM}{data.checksum(zlib.crc32(json.dumps(tokenizer.to_json()).encode())):08x}"


def same_data(before: str, now: str, data: Any) -> bool:
    """Return True if what `identify_data` returned before is of these data, wherever they were stored."""
    if _CHECKSUM in before:
        return before.rpartition(_CHECKSUM)[2] == now.rpartition(_CHECKSUM)[2]
    ids, _ = data.train_batch(np.random.default_rng(0), 256)  # earlier versions wrote a checksum of these alone
    return before.endswith(f", checksum {zlib.crc32(ids.tobytes()):08x}")


def rewinds(config: TrainConfig, trainer: Trainer, say: Callable[[str], None]) -> bool:
    """Return True if the run resumes from another checkpoint of its folder than the newest; say so if that is a later
    one."""
    newest = Path(config.out) / checkpoint.FILE
    if not (config.resume and config.resumes_in_place and newest.exists()) \
            or newest.samefile(checkpoint.file_of(config.resume)):
        return False
    with suppress(OSError, ValueError):
        if isinstance(i := checkpoint.read_metadata(newest).get("iter"), int) and i > trainer.iter:
            say(f"note    the later checkpoints in {config.out}, up to step {i:,}, are replaced at the first one of "
                "this run; with another --out they stay")
    return True


def save_run(out: Path, run: Checkpoint, trainer: Trainer, log: Metrics, first: bool) -> None:
    """Write a checkpoint, then publish its metrics and its copies; if a kill comes between, `finish_interrupted` makes
    up for it.  The `first` checkpoint replaces those of another run in the folder."""
    log.sync()  # so that no checkpoint is ahead of them
    run.metadata |= {"state": trainer.state(), "metrics": log.pending.name}
    checkpoint.save_checkpoint(out, run.model, run.tokenizer, run.metadata, trainer.arrays(), first)
    log.publish()
    checkpoint.keep_copies(out, run.metadata, trainer.config.keep)
