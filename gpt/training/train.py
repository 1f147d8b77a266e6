"""Training: the settings and recipes of a run, and its loop."""

import json
import math
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .. import checkpoint
from ..checkpoint import Checkpoint
from ..data.dataset import load_data
from ..data.tasks import TASKS, load_task
from ..data.tokenizers import TOKENIZERS, VOCAB_SIZE, Tokenizer, learned_kinds
from ..data.tokenizers.bpe import BPETokenizer
from ..model.gpt import GPT, Architecture, GPTConfig
from ..optim.optimizer import OPTIMIZERS
from ..optim.schedule import SCHEDULES
from ..runtime.environment import differences, environment, fastest_kernels
from ..runtime.malloc import keep_freed_memory
from ..runtime.screen import announce, clock_time, command_line
from ..runtime.settings import describe_choices, flag_of, is_path, setting
from ..runtime.signals import Stopped, stop_on_signal
from ..runtime.worker_pool import WorkerPool, cores
from .metrics import FILE as METRICS
from .metrics import Metrics
from .recipes import DEFAULT, FROM, OF_TASK, RATE, RECIPES, WINDOW
from .report import diagnosis, report, say_plan, show_sample
from .run_folder import SHORT, check_run, overwrite_setting, writable_folder
from .trainer import WHOLE, Interrupted, Trainer

# What a run that goes on cannot change: its model, its data, and what its state belongs to.
FIXED = ("from_", "task", "digits", "tokenizer", "lines", "val_fraction", "vocab_size", "batches", "batch_size",
         "accumulate", "optimizer", "seed", *[f.name for f in fields(Architecture)])
SHOWN = 400  # characters that a model writes before and after
KEPT = ("chat_template", "special_tokens", "pretrained")  # what is said of a model that a run begins with


_OF_ALL = ", checksum of all "


@dataclass
class TrainConfig(Architecture):
    """All settings of a run; where none are given, those of the recipe "nanogpt" (`from_recipe` knows others).

    Raises ValueError for values that make no sense."""

    data: tuple[str, ...] = setting((), "UTF-8 text files, folders, - for standard input; none: the Python language "
                                    "reference", group="data", path=True)
    task: str = setting("text", "learn to write text, or to add numbers, whose sums can be checked",
                        choices=("text", *TASKS), group="data")
    digits: int = setting(2, "length of the numbers that --task addition adds", at_least=1, group="data")
    tokenizer: str = setting("char", f"what a token is: {', '.join(TOKENIZERS[k].help for k in learned_kinds())}, or "
                             "what a tokenizer.json says, by its path", choices=learned_kinds(), group="data",
                             path=True)
    vocab_size: int = setting(VOCAB_SIZE, f"{', '.join(k for k in learned_kinds() if TOKENIZERS[k].sized)}: how many "
                              "tokens it learns at most, from the text to train on",
                              at_least=256, at_most=1_000_000, group="data")
    lines: bool = setting(False, "each line of the text is an example of its own", group="data")
    val_fraction: float = setting(0.1, "share that is only validated on: of the text its end, or of the different "
                                  "lines", above=0, below=1, group="data")
    cache_dir: str | None = setting(None, "folder for the tokens of large text; none: the user's cache folder",
                                    group="data", path=True)
    out: str = setting("out", "folder for the checkpoints and metrics.jsonl; one with another run in it is refused, "
                       f"but the same run is replaced if it took less than {SHORT // 60} minutes", group="output",
                       path=True)
    overwrite: bool = overwrite_setting()
    from_: str | None = setting(None, "begin with the model in this folder or file (imported, tuned or one's own), its "
                                "tokenizer and its context; --block-size is then that of the windows of text",
                                group="model", path=True)
    resume: str | None = setting(None, "go on with the run in this folder, or from this checkpoint, with its settings",
                                 group="output", path=True)
    checkpoint_interval: int = setting(100, "steps between checkpoints", at_least=1, group="output")
    keep: int = setting(2, "how many of the last checkpoints to keep, besides the best", at_least=1, group="output")
    recipe: str = setting("nanogpt", "settings by name: fast, or nanoGPT's own, to the letter; single flags override "
                          "them", choices=tuple(RECIPES), group="training")
    batches: str = setting("random", "windows of text that begin anywhere, or the whole text in shuffled windows, "
                           "again and again", choices=("random", "shuffled"), group="training")
    batch_size: int = setting(12, "windows of text computed at once: more give a steadier gradient, and take more "
                              "memory and time a step", at_least=1, at_most=1 << 20, group="training")
    accumulate: int = setting(1, "batches whose gradients make one step: a larger batch in the same memory", at_least=1,
                              group="training", at_most=1 << 20)
    max_iters: int = setting(2000, "steps to train", at_least=1, group="training")
    time_limit: float | None = setting(None, "minutes after which training stops, as after the last step", above=0,
                                       group="training")
    learning_rate: float = setting(1e-3, "size of a step at its largest: higher learns faster until it diverges",
                                   above=0, group="training")
    embedding_lr: float = setting(0.015, "muon: the same for embeddings, head, biases and the gains of norms", above=0,
                                  group="training")
    taps_lr: float = setting(0.04, "muon: the same for the taps of convolutions", above=0, group="training")
    min_lr: float = setting(1e-4, "size of a step at the end", at_least=0, group="training")
    schedule: str = setting("cosine", "learning-rate schedule after the warm-up: " + describe_choices(SCHEDULES),
                            choices=tuple(SCHEDULES), group="training")
    falling_share: float = setting(0.2, "trapezoidal: share of the steps after the warm-up in which it falls", above=0,
                                   at_most=1, group="training")
    warmup_iters: int = setting(100, "steps over which the learning rate rises: more if the loss jumps at the start",
                                at_least=0, group="training")
    lr_decay_iters: int | None = setting(None, "step at which it has fallen to min_lr; none: max_iters", at_least=0,
                                         group="training")
    optimizer: str = setting("adamw", "optimizer: " + describe_choices(OPTIMIZERS), choices=tuple(OPTIMIZERS),
                             group="training")
    weight_decay: float = setting(0.1, "pull of the matrices towards zero: more against overfitting", at_least=0,
                                  group="training")
    beta1: float = setting(0.9, "memory of Adam for the gradient", at_least=0, below=1, group="training")
    beta2: float = setting(0.99, "memory of Adam for its square", at_least=0, below=1, group="training")
    momentum: float = setting(0.9, "memory of sgd and muon for the gradient", at_least=0, below=1, group="training")
    grad_clip: float = setting(1.0, "largest norm of the gradient; 0: no limit", at_least=0, group="training")
    eval_interval: int = setting(250, "steps between evaluations", at_least=1, group="evaluation")
    eval_iters: int = setting(20, "random batches in an evaluation, always the same ones; 0: all the validation part",
                              at_least=0, group="evaluation")
    eval_whole: bool = setting(False, "end with the loss on all the validation part, however long that takes; else on "
                               "as many random batches as take the time of the training, if it has more",
                               group="evaluation")
    patience: int | None = setting(None, "stop after so many evaluations in a row without a lower validation loss",
                                   at_least=1, group="evaluation")
    target_val_loss: float | None = setting(None, "stop once the loss on all the validation part is at or below this",
                                            above=0, group="evaluation")
    seed: int = setting(1337, "the same seed gives the same run", at_least=0, group="training")
    replicas: int = setting(0, "threads that each compute a part of every batch; 0: one a core", at_least=0,
                            group="training")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_lr > self.learning_rate:
            raise ValueError(f"min_lr is {self.min_lr}, above learning_rate, which is {self.learning_rate}: "
                             "lower --min-lr too")
        if self.from_ and Path(self.out).resolve() == checkpoint.folder_of(self.from_).resolve():
            raise ValueError(f"--out is {self.out}, where the model lies that the run begins from: choose another one")
        if self.task != "text" and self.batches == "shuffled":
            raise ValueError(f"batches are shuffled windows of a text, and --task {self.task} has none: leave out "
                             "--batches")

    @classmethod
    def from_recipe(cls, recipe: str | None = None, **changes: Any) -> "TrainConfig":
        """The settings of a recipe, by default "fast", of the run to `resume`, or for the model to begin `from_`, with
        `changes`.

        A task has settings of its own, which change those of nanoGPT."""
        if changes.get("resume") is not None:
            return cls._of_run(**changes, **({"recipe": recipe} if recipe else {}))
        if changes.get("from_") is not None:
            return cls._of_model(**changes, **({"recipe": recipe} if recipe else {}))
        if of_task := OF_TASK.get(changes.get("task", "text")):
            if recipe not in (None, "nanogpt"):
                raise ValueError(f"--task {changes['task']} has settings of its own, and takes no --recipe {recipe}: "
                                 "leave it out, and change single settings")
            return cls(**{**of_task, **changes, "recipe": "nanogpt"})
        recipe = recipe or DEFAULT
        return cls(**{**RECIPES.get(recipe, {}), **changes, "recipe": recipe})

    @classmethod
    def _of_model(cls, from_: str, **changes: Any) -> "TrainConfig":
        cls(from_=from_)  # which raises for an empty one
        fixed = {"recipe", "task", "digits", "tokenizer", "vocab_size", *(f.name for f in fields(Architecture))}
        if given := [flag_of(name) for name in changes if name in fixed - {"block_size", "dropout"}]:
            raise ValueError(f"{', '.join(given)} cannot be chosen for the model of --from, which has its own: leave "
                             "it out")
        config = checkpoint.read_config(from_)
        own = {f.name: getattr(config, f.name) for f in fields(Architecture)}
        rate = changes.get("learning_rate", RATE / config.n_embd)
        settings = {**own, **FROM, "block_size": min(config.block_size, WINDOW), "learning_rate": rate,
                    "min_lr": rate / 10, **changes}
        if settings["block_size"] > config.block_size:
            raise ValueError(f"--block-size is {settings['block_size']}, and the model in {from_} sees "
                             f"{config.block_size} tokens at once: lower it")
        return cls(**settings, from_=from_)

    @classmethod
    def _of_run(cls, resume: str, **changes: Any) -> "TrainConfig":
        cls(resume=resume)  # which raises for an empty one
        metadata = checkpoint.read_metadata(resume)
        if "state" not in metadata or not metadata.get("train"):
            raise ValueError(f"{resume} holds weights and nothing to go on from: give a checkpoint of gpt train")
        try:
            settings = cls._parsed(metadata["train"])
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{resume} has settings that this version cannot read ({error!s:.300}): start a new "
                             "run, or take another checkpoint of its folder") from None
        fixed = [name for name in changes if name in (*FIXED, "recipe") and changes[name] != settings.get(name)]
        if fixed:
            flags = ", ".join(map(flag_of, fixed))
            raise ValueError(f"{flags} cannot change in a run that goes on: leave it out, or start a new run")
        return cls(**{**settings, "out": str(checkpoint.folder_of(resume)), **changes, "resume": resume})

    @classmethod
    def _parsed(cls, plain: Any) -> dict[str, Any]:
        """The settings in what JSON made of them.  Raises AttributeError, TypeError or ValueError for what is none."""
        known = {f.name for f in fields(cls)}
        settings = {name: value for name, value in plain.items() if name in known - {"resume", "overwrite"}}
        if settings.get("cache_dir") == "":  # as earlier versions wrote
            del settings["cache_dir"]
        data = settings.get("data", [])
        if not (isinstance(data, list) and all(isinstance(path, str) for path in data)):
            raise TypeError(f"data is {data!r:.40}, and needs to be a list of paths")
        settings["data"] = tuple(data)  # JSON has no tuples
        cls(**settings)
        return settings

    @property
    def goes_on(self) -> bool:
        """Whether the run in the folder `out` goes on."""
        return self.resume is not None and checkpoint.folder_of(self.resume).resolve() == Path(self.out).resolve()

    @property
    def n_replicas(self) -> int:
        """How many threads there are work for."""
        return min(self.replicas or cores(), self.batch_size)

    def model_config(self, vocab_size: int) -> GPTConfig:
        return GPTConfig(vocab_size=vocab_size, **{f.name: getattr(self, f.name) for f in fields(Architecture)})

    def suits(self, model: GPTConfig) -> bool:
        """Whether these are settings of a model, whose context may be longer than the windows of one begun `from_`."""
        window = self.block_size if self.from_ and model.block_size > self.block_size else model.block_size
        return replace(model, block_size=window) == self.model_config(model.vocab_size)


def train(config: TrainConfig, say: Callable[[str], None] = announce) -> Checkpoint:
    """Train a GPT as `config` says, or go on, and leave its checkpoints in `config.out`: the command `gpt train`.

    Returns the run as it ended; `load(config.out)` is the best one if it ended worse than that.

    Ctrl-C or SIGTERM finishes the step, saves and raises Stopped, a KeyboardInterrupt; a second one stops at once.
    Raises OSError or ValueError for an output folder that cannot be written and for text that cannot be used, and
    FloatingPointError for a loss that is not finite; the last checkpoint stays.
    """
    keep_freed_memory()
    with writable_folder(config.out) as out:
        note = "" if config.goes_on else check_run(out, config.overwrite, "train", asdict(config))
        if note:
            say(note)
        with fastest_kernels(), WorkerPool(config.n_replicas) as pool:
            return train_with(pool, out, config, say, replaces=bool(note))


def train_with(pool: WorkerPool, out: Path, config: TrainConfig, say: Callable[[str], None],
               replaces: bool) -> Checkpoint:
    """`train`, with a pool's threads.  `replaces`: whether another run is in the folder."""
    run, trainer = (resumed if config.resume else started)(config, pool, say)
    say_plan(config, run, trainer, say)
    shown = math.ceil(SHOWN / trainer.data.characters_per_token)
    if not trainer.iter:
        show_sample(run, "Before training it writes", say, shown)
    first, aside = not config.goes_on, replaces or goes_back(config, trainer, say)
    with stop_on_signal() as asked, Metrics(out / METRICS, trainer.recorded, aside) as metrics:
        for row, _, over in loop(trainer, asked, say):
            if not trainer.row:
                metrics.write(row)
            run.metadata |= {"iter": trainer.iter, **{name: row[name] for name in ("val_loss",) if name in row}}
            if over or "val_loss" in row or trainer.iter % config.checkpoint_interval == 0:
                save(out, run, trainer, metrics, first)
                first = False
    if not trainer.finished:
        raise Stopped(f"stopped after {trainer.iter:,} steps; to go on:\n\n    {command_line('train --resume', out)}\n",
                      asked[0])
    weights, worse = checkpoint.choose(out)
    done = f"weights in {weights}; more text from them:\n\n    {command_line('sample', out)}\n"
    try:
        if asked:
            raise Stopped(number=asked[0])
        show_sample(checkpoint.load_checkpoint(weights) if worse else run, "After training it writes", say, shown)
        part = f"the {WHOLE}" if trainer.over == WHOLE else f"{trainer.over} of its part (--eval-whole takes all of it)"
        say(f"validation loss over {part}: {run.metadata['val_loss']:.4f}, after {trainer.iter:,} steps")
        if worse:
            say(f"note    the run has ended worse than it was: sample, tune, chat, show and export take {worse}")
        if wrong := diagnosis(trainer):
            say(f"note    {wrong}")
        if config.task != "text":
            say(f"{trainer.data.accuracy(run.model):.2%} of the questions that were held out are answered exactly")
    except KeyboardInterrupt as stop:
        stop.args = (f"stopped after the last step, {trainer.iter:,}; {done}",)
        raise
    say(done)
    return run


def started(config: TrainConfig, pool: WorkerPool, say: Callable[[str], None]) -> tuple[Checkpoint, Trainer]:
    """A new run."""
    run = checkpoint.load_checkpoint(config.from_, say) if config.from_ else None
    data, tokenizer = load(config, run.tokenizer if run else None)
    model = run.model if run else GPT(config.model_config(tokenizer.vocab_size), seed=config.seed)
    model.config = replace(model.config, dropout=config.dropout)
    if not config.suits(model.config):
        raise ValueError(f"the settings of the model are not those of {config.from_}: take "
                         "TrainConfig.from_recipe(from_=...), which does")
    kept = {name: run.metadata[name] for name in KEPT if name in run.metadata} if run else {}
    metadata = kept | {"train": asdict(config), "data": identity(data, tokenizer), "environment": environment(pool.n)}
    return Checkpoint(model, tokenizer, metadata), Trainer(config, model, data, pool)


def resumed(config: TrainConfig, pool: WorkerPool, say: Callable[[str], None]) -> tuple[Checkpoint, Trainer]:
    """The run at `config.resume`, as it was when it was saved."""
    assert config.resume is not None
    run, arrays = checkpoint.load_with_state(config.resume)
    data, tokenizer = load(config, run.tokenizer if config.from_ or is_path(config.tokenizer) else None)
    before, run.metadata["data"] = str(run.metadata.get("data")), identity(data, tokenizer)
    if tokenizer.to_json() != run.tokenizer.to_json() or not same_data(before, run.metadata["data"], data):
        raise ValueError(f"the data are not those of the run: it had {before:.300}, and this is {run.metadata['data']}"
                         ": give the same with --data")
    if not config.suits(run.config):
        raise ValueError(f"{config.resume} has other settings of the model than its weights: it is damaged; take "
                         "another checkpoint of its folder")
    trainer = Trainer(config, run.model, data, pool)
    trainer.restore(run.metadata.get("state"), arrays)
    if trainer.recorded >= config.max_iters:
        raise ValueError(f"the run has taken its {trainer.iter:,} steps: to go on, raise --max-iters")
    earlier = run.metadata.get("environment")
    if changed := differences(earlier if isinstance(earlier, dict) else {}, now := environment(pool.n)):
        say(f"note    not bit for bit as if it had never stopped, since this differs: {changed}")
    run.metadata |= {"train": asdict(config), "environment": now}
    say(f"resume  {config.resume} at iteration {trainer.iter:,}")
    return run, trainer


def load(config: TrainConfig, tokenizer: Tokenizer | None = None) -> tuple[Any, Any]:
    """The data of a run, and its tokenizer, which may be given."""
    if config.task != "text":
        return load_task(config.task, config.block_size, config.digits)
    if tokenizer is None and is_path(config.tokenizer):
        tokenizer = BPETokenizer.from_file(config.tokenizer)
    return load_data(config.data, tokenizer or config.tokenizer, config.block_size, lines=config.lines,
                     val_fraction=config.val_fraction, cache_dir=config.cache_dir or None,
                     vocab_size=config.vocab_size)


def identity(data: Any, tokenizer: Any) -> str:
    """What the data are, with a checksum of all of them and of their tokenizer."""
    return f"{data.description}{_OF_ALL}{data.checksum(zlib.crc32(json.dumps(tokenizer.to_json()).encode())):08x}"


def same_data(before: str, now: str, data: Any) -> bool:
    """Whether what `identity` said before is of these data, wherever they lay."""
    if _OF_ALL in before:
        return before.rpartition(_OF_ALL)[2] == now.rpartition(_OF_ALL)[2]
    ids, _ = data.train_batch(np.random.default_rng(0), 256)  # of which earlier versions wrote a checksum
    return before.endswith(f", checksum {zlib.crc32(ids.tobytes()):08x}")


def goes_back(config: TrainConfig, trainer: Trainer, say: Callable[[str], None]) -> bool:
    """Whether the run goes on from another checkpoint of its folder than the newest; says so if that is a later one."""
    newest = Path(config.out) / checkpoint.FILE
    if not (config.resume and config.goes_on and newest.exists()) or newest.samefile(checkpoint.file_of(config.resume)):
        return False
    with suppress(OSError, ValueError):
        if isinstance(i := checkpoint.read_metadata(newest).get("iter"), int) and i > trainer.iter:
            say(f"note    the later checkpoints in {config.out}, up to step {i:,}, are replaced at the first one of "
                "this run; with another --out they stay")
    return True


def save(out: Path, run: Checkpoint, trainer: Trainer, metrics: Metrics, first: bool) -> None:
    """Write a checkpoint, and then what else there is of it, which `finish_interrupted` makes up for where that is cut
    short; those of another run that lay there go with the `first`."""
    metrics.sync()  # so that no checkpoint is ahead of them
    run.metadata |= {"state": trainer.state(), "metrics": metrics.pending.name}
    checkpoint.save_checkpoint(out, run.model, run.tokenizer, run.metadata, trainer.arrays(), first)
    metrics.publish()
    checkpoint.keep_copies(out, run.metadata, trainer.config.keep)


def loop(trainer: Trainer, asked: list[int],
         say: Callable[[str], None]) -> Iterator[tuple[dict[str, Any], bool, bool]]:
    """Yield a row of metrics a step, whether its validation loss is the lowest so far, and whether it is the last one:
    by the steps, the target, the time limit, lost patience or an interrupt; with progress on the terminal.

    An interrupt in an evaluation leaves the row in `trainer.row`; the loop that goes on from there evaluates first.
    """
    c, began, val_loss, first = trainer.config, time.perf_counter() - trainer.seconds, math.nan, trainer.iter
    with tqdm(total=c.max_iters, initial=first, desc="train", unit="it", disable=None, dynamic_ncols=True) as bar:
        while True:
            row, trainer.row = trainer.row or trainer.step(), None
            best, i = False, trainer.iter
            bar.set_postfix_str(f"loss {row['loss']:.3f}, val {val_loss:.3f}, lr {row['lr']:.1e}, "
                                f"{row['tokens_per_s']:,} tokens/s", refresh=False)
            bar.update(i - bar.n)
            trainer.seconds = time.perf_counter() - began
            said = [f"pace    {row['ms']:.0f} ms a step, gradient norm {row['grad_norm']:.2f}; about "
                    f"{clock_time(row['ms'] / 1e3 * (c.max_iters - i))} left"] * (i == first + 10)
            last = i == c.max_iters or c.time_limit is not None and trainer.seconds >= 60 * c.time_limit
            if last or i % c.eval_interval == 0:
                try:
                    row["val_loss"], best, last, over = trainer.evaluation(last, asked)
                except Interrupted:
                    trainer.row = row
                    yield row, False, True
                    return
                val_loss, trainer.seconds = row["val_loss"], time.perf_counter() - began
                said.append(report(trainer, row, over))
            trainer.finished, ends = last, last or bool(asked)  # looked at once: what is left has been saved
            yield row, best, ends
            for line in said:  # only now: nobody may be listening any more
                say(line)
            if ends:
                return
