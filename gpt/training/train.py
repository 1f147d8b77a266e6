"""Training: a run from its settings to its last checkpoint, new or resumed."""

import json
import math
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import checkpoint
from ..checkpoint import Checkpoint
from ..data.dataset import Data, LineData, TextData, load_data
from ..data.ladder import Ladder
from ..data.tasks import Addition, load_task
from ..data.tokenizers import Tokenizer
from ..data.tokenizers.bpe import BPETokenizer
from ..model.gpt import GPT
from ..model.module import Array
from ..runtime.environment import compare_environments, environment, fastest_kernels, sources_checksum
from ..runtime.malloc import keep_freed_memory
from ..runtime.ranks import ALONE, Ranks, current
from ..runtime.screen import announce, command_line
from ..runtime.settings import is_path
from ..runtime.signals import Stopped, stop_on_signal
from ..runtime.worker_pool import SINGLE, WorkerPool
from .config import TrainConfig
from .metrics import FILE as METRICS
from .metrics import Metrics
from .report import advise, diagnose, report_steps, say_plan, show_sample, verbatim_share
from .run_folder import check_run, output_folder
from .trainer import WHOLE, StepResult, Trainer

SHOWN = 400  # characters of the samples before and after training
KEPT = ("chat_template", "special_tokens", "pretrained")  # metadata that a model to begin from hands on
_CHECKSUM = ", checksum of all "

RunData = TextData | LineData | Addition


def train(config: TrainConfig, say: Callable[[str], None] = announce) -> Checkpoint:
    """Train a GPT as `config` says, or resume a run, into the folder `config.out`: the command `gpt train`.

    Returns the run as it ended; `load(config.out)` is the best one if it ended worse than that.

    Under `mpiexec` all ranks train together, and rank 0 alone prints and writes files.

    Ctrl-C or SIGTERM finishes the step, saves and raises Stopped, a KeyboardInterrupt; a second one stops at once.
    Raises OSError or ValueError for an output folder that cannot be written and for text that cannot be used, and
    FloatingPointError for a loss that is not finite; the last checkpoint stays.
    """
    keep_freed_memory()
    ranks = current()
    with fastest_kernels(), output_folder(config.out, ranks) as out:
        replaces = check_run(out, config.overwrite, "train", asdict(config)) \
            if ranks.leads and not config.resumes_in_place else ""
        if replaces:
            say(replaces)
        check_settings(config, ranks)

        with WorkerPool(config.n_replicas) as pool:
            with ranks.in_turn():  # rank 0 first, which fills the cache of tokens
                # Data, model and trainer, and the checkpoint to resume or to begin from, if there is one
                start, state = load_start(config, say)
                run, trainer = begin_run(config, pool, start, ranks)

                # The state of a run to resume
                if start and config.resume:
                    check_data(start, run, trainer.data)
                    trainer.restore(start.metadata.get("state"), state)
                    check_resumed(config, start, run, trainer, say)
                del start, state  # which keep the checkpoint's file mapped
            ranks.agree(data=run.metadata["data"])
            if not ranks.leads:
                return take_part(run, trainer)
            ladder = find_ladder(config, run, trainer.data)
            say_plan(config, run, trainer, say, ladder)
            n_shown = math.ceil(SHOWN / trainer.data.characters_per_token)  # tokens of a sample
            if not trainer.iter:
                show_sample(run, "Before training it writes", say, n_shown)

            # The loop
            first = not config.resumes_in_place  # the next checkpoint replaces those of another run
            aside = bool(replaces) or rewinds(config, trainer, say)
            with stop_on_signal() as signals, Metrics(out / METRICS, trainer.steps_logged, aside) as log:
                stop_requested = ranks.watch(signals)
                for result in report_steps(trainer, trainer.run(stop_requested), say, ladder):
                    if not result.interrupted:
                        rungs = {"ladder": ladder.rungs} if ladder and result.evaluation else {}
                        log.write(result.metrics() | rungs)
                    run.metadata["iter"] = result.iter
                    if result.evaluation:
                        run.metadata["val_loss"] = result.evaluation.val_loss
                    if is_saved(config, result):
                        save_run(out, run, trainer, log, first)
                        first = False
            if not result.finished:
                raise Stopped(f"stopped after {result.iter:,} steps; to go on:\n\n    "
                              f"{command_line('train --resume', out)}\n", stop_requested[0])

            # The end
            say_result(out, run, trainer, result, n_shown, stop_requested, say, ladder)
            return run


def take_part(run: Checkpoint, trainer: Trainer) -> Checkpoint:
    """Train as another rank than 0, which writes nothing."""
    with stop_on_signal() as signals:
        for result in trainer.run(trainer.ranks.watch(signals)):
            if is_saved(trainer.config, result):
                trainer.state()  # of which rank 0 needs this rank's part
    if not result.finished:
        raise Stopped(number=trainer.ranks.stop_requested[0])
    return run


def is_saved(config: TrainConfig, result: StepResult) -> bool:
    """Return True if a checkpoint is written after a step."""
    return result.last or result.evaluation is not None or result.iter % config.checkpoint_interval == 0


# ---------------------------------------------------------------------- how a run begins


def check_settings(config: Any, ranks: Ranks) -> None:
    """Raise ValueError unless all ranks have the same settings, programs and kernels."""
    if ranks.size > 1:
        ranks.agree(checksum_of_tapegrad=sources_checksum(), **environment(1) | asdict(config))


def load_start(config: TrainConfig, say: Callable[[str], None]) -> tuple[Checkpoint | None, dict[str, Array]]:
    """Return the checkpoint to resume, and the arrays of its trainer's state; or the one to begin from, with what it
    hands on of its metadata; or None.  Raises ValueError if its model is not that of the settings."""
    if config.resume:
        start, state = checkpoint.load_with_state(config.resume)
        if not config.matches(start.config):
            raise ValueError(f"{config.resume} has other settings of the model than its weights: it is damaged; take "
                             "another checkpoint of its folder")
        return start, state
    if not config.from_:
        return None, {}
    start = checkpoint.load_checkpoint(config.from_, say)
    start.metadata = {name: start.metadata[name] for name in KEPT if name in start.metadata}
    start.model.config = replace(start.config, dropout=config.dropout)
    if not config.matches(start.config):
        raise ValueError(f"the settings of the model are not those of {config.from_}: take "
                         "TrainConfig.from_recipe(from_=...), which does")
    return start, {}


def begin_run(config: TrainConfig, pool: WorkerPool = SINGLE,
              start: Checkpoint | None = None, ranks: Ranks = ALONE) -> tuple[Checkpoint, Trainer]:
    """Return the model of a run with its tokenizer and metadata, new or that of the checkpoint to `start` from, and its
    trainer: data, optimizer, and gradients on all workers of the pool."""
    data, tokenizer = prepare_data(config, start.tokenizer if start else None)
    metadata = {"train": asdict(config), "data": identify_data(data, tokenizer), "environment": environment(pool.n)}
    model = start.model if start else GPT(config.model_config(tokenizer.vocab_size), seed=config.seed)
    run = Checkpoint(model, tokenizer, (start.metadata if start else {}) | metadata)
    return run, Trainer(config, model, data, pool, ranks)


def prepare_data(config: TrainConfig, tokenizer: Tokenizer | None = None) -> tuple[RunData, Tokenizer]:
    """Return the data of a run and their tokenizer: that of the model to begin from, or the one that the settings name
    by its path, of which a run to resume has a copy; or one that is made for the data, the same each time."""
    if config.task != "text":
        return load_task(config.task, config.block_size, config.digits)
    given = tokenizer if config.from_ or is_path(config.tokenizer) else None
    if given is None and is_path(config.tokenizer):
        given = BPETokenizer.from_file(config.tokenizer)
    return load_data(config.data, given or config.tokenizer, config.block_size, lines=config.lines,
                     val_fraction=config.val_fraction, cache_dir=config.cache_dir or None,
                     vocab_size=config.vocab_size)


def find_ladder(config: TrainConfig, run: Checkpoint, data: Data) -> Ladder | None:
    """Return the ladder of a text, that of the run to resume or a new one, and note it in the metadata; None for other
    data, and where it is switched off."""
    if not config.ladder or not isinstance(data, TextData):
        return None
    ladder = config.resume and Ladder.from_json(run.metadata.get("ladder")) or Ladder.from_data(data, run.tokenizer)
    run.metadata["ladder"] = ladder.to_json()
    return ladder


def identify_data(data: RunData, tokenizer: Tokenizer) -> str:
    """Return a description of the data, with a checksum of all of them and of their tokenizer."""
    return f"{data.description}{_CHECKSUM}{data.checksum(zlib.crc32(json.dumps(tokenizer.to_json()).encode())):08x}"


def check_data(start: Checkpoint, run: Checkpoint, data: Data) -> None:
    """Raise ValueError unless a run has the data and the tokenizer of the checkpoint that it resumes."""
    before, now = str(start.metadata.get("data")), run.metadata["data"]
    if start.tokenizer.to_json() != run.tokenizer.to_json() or not same_data(before, now, data):
        raise ValueError(f"the data are not those of the run: it had {before:.300}, and this is {now}"
                         ": give the same with --data")


def same_data(before: str, now: str, data: Data) -> bool:
    """Return True if what `identify_data` returned before is of these data, wherever they were stored."""
    if _CHECKSUM in before:
        return before.rpartition(_CHECKSUM)[2] == now.rpartition(_CHECKSUM)[2]
    ids, _ = data.train_batch(np.random.default_rng(0), 256)  # earlier versions wrote a checksum of these alone
    return before.endswith(f", checksum {zlib.crc32(ids.tobytes()):08x}")


def check_resumed(config: TrainConfig, start: Checkpoint, run: Checkpoint, trainer: Trainer,
                  say: Callable[[str], None]) -> None:
    """Say where a run goes on, and what keeps it from the same bits.  Raises ValueError if it has no steps left."""
    if trainer.steps_logged >= config.max_iters:
        raise ValueError(f"the run has taken its {trainer.iter:,} steps: to go on, raise --max-iters")
    earlier = start.metadata.get("environment")
    if changes := compare_environments(earlier if isinstance(earlier, dict) else {}, run.metadata["environment"]):
        say(f"note    not bit for bit as if it had never stopped, since this differs: {changes}")
    say(f"resume  {config.resume} at iteration {trainer.iter:,}")


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


# ---------------------------------------------------------------------- what a run writes and says


def save_run(out: Path, run: Checkpoint, trainer: Trainer, log: Metrics, first: bool) -> None:
    """Write a checkpoint, then publish its metrics and its copies; if a kill comes between, `finish_interrupted` makes
    up for it.  The `first` checkpoint replaces those of another run in the folder."""
    log.sync()  # so that no checkpoint is ahead of them
    run.metadata |= {"state": trainer.state(), "metrics": log.pending.name}
    checkpoint.save_checkpoint(out, run.model, run.tokenizer, run.metadata, trainer.arrays(), first)
    log.publish()
    checkpoint.keep_copies(out, run.metadata, trainer.config.keep)


def say_result(out: Path, run: Checkpoint, trainer: Trainer, result: StepResult, n_shown: int,
               stop_requested: Sequence[int], say: Callable[[str], None], ladder: Ladder | None) -> None:
    """Say how a finished run ended: a sample of text, the validation loss, where that stands on the ladder, what would
    help next, and notes.  Raises Stopped, which says where the weights are, if that was requested or is now."""
    assert result.evaluation is not None
    weights, worse = checkpoint.choose(out)
    done = f"weights in {weights}; more text from them:\n\n    {command_line('sample', out)}\n"
    try:
        if stop_requested:
            raise Stopped(number=stop_requested[0])
        best = checkpoint.load_checkpoint(weights) if worse else run
        sample = show_sample(best, "After training it writes", say, n_shown)
        scope = result.evaluation.scope
        scope = f"the {WHOLE}" if scope == WHOLE else f"{scope} of its part (--eval-whole takes all of it)"
        say(f"validation loss over {scope}: {result.evaluation.val_loss:.4f}, after {result.iter:,} steps")
        if worse:
            say(f"note    the run has ended worse than it was: sample, tune, chat, show and export take {worse}")
        if ladder:
            say(f"that is {ladder.place(result.evaluation.val_loss)}")
        if problem := diagnose(trainer):
            say(f"note    {problem}")
        elif isinstance(trainer.data, TextData) \
                and (advice := advise(trainer, verbatim_share(sample, run.tokenizer, trainer.data))):
            say(f"next    {advice}")
        if isinstance(trainer.data, Addition):
            say(f"{trainer.data.accuracy(run.model):.2%} of the questions that were held out are answered exactly")
    except KeyboardInterrupt as stop:
        stop.args = (f"stopped after the last step, {result.iter:,}; {done}",)
        raise
    say(done)
