"""Training: the settings and recipes of a run, and its loop."""

import json
import math
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from . import checkpoint
from .checkpoint import Run
from .data import batch, read_text, split, windows
from .generate import continue_text
from .malloc import keep_freed_memory
from .model import GPT, Architecture, GPTConfig
from .module import Array, raw
from .optim import AdamW, Parameters, clip_by_global_norm, warmup_cosine
from .settings import setting
from .tokenizer import CharTokenizer

# nanoGPT's training of a character model on a CPU, to the letter (its README and config/train_shakespeare_char.py).
RECIPES: dict[str, dict[str, Any]] = {
    "nanogpt": dict(n_layer=4, n_head=4, n_embd=128, block_size=64, bias=False, dropout=0.0, activation="gelu",
                    positions="learned", batch_size=12, max_iters=2000, learning_rate=1e-3, min_lr=1e-4,
                    warmup_iters=100, weight_decay=0.1, beta1=0.9, beta2=0.99, grad_clip=1.0,
                    eval_interval=250, eval_iters=20),
}

WHOLE = "whole validation part"


@dataclass
class TrainConfig(Architecture):
    """All settings of a run.  Raises ValueError for values that make no sense."""

    data: tuple[str, ...] = setting((), "UTF-8 text files, - for standard input; none: the Python language reference")
    out: str = setting("out", "folder for the weights and metrics.jsonl")
    recipe: str = setting("nanogpt", "named settings, which single flags override", choices=tuple(RECIPES))
    batch_size: int = setting(12, "windows of text in a step", at_least=1)
    max_iters: int = setting(2000, "steps to train", at_least=1)
    learning_rate: float = setting(1e-3, "size of a step at its largest", above=0)
    min_lr: float = setting(1e-4, "size of a step at the end", at_least=0)
    warmup_iters: int = setting(100, "steps over which the learning rate rises", at_least=0)
    lr_decay_iters: int | None = setting(None, "step at which it has fallen to min_lr; none: max_iters", at_least=0)
    weight_decay: float = setting(0.1, "pull of the matrices towards zero", at_least=0)
    beta1: float = setting(0.9, "memory of AdamW for the gradient", at_least=0, below=1)
    beta2: float = setting(0.99, "memory of AdamW for its square", at_least=0, below=1)
    grad_clip: float = setting(1.0, "largest norm of the gradient; 0: no limit", at_least=0)
    eval_interval: int = setting(250, "steps between evaluations", at_least=1)
    eval_iters: int = setting(20, "random batches in an evaluation, always the same ones; 0: all the validation part",
                              at_least=0)
    target_val_loss: float | None = setting(None, "stop once the loss on all the validation part is at or below this",
                                            above=0)
    seed: int = setting(1337, "the same seed gives the same run", at_least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_lr > self.learning_rate:
            raise ValueError(f"min_lr is {self.min_lr}, above learning_rate, which is {self.learning_rate}: "
                             "lower --min-lr too")

    @classmethod
    def from_recipe(cls, recipe: str = "nanogpt", **changes: Any) -> "TrainConfig":
        """The settings of a recipe, with `changes`."""
        return cls(**{**RECIPES.get(recipe, {}), **changes, "recipe": recipe})

    def model_config(self, vocab_size: int) -> GPTConfig:
        return GPTConfig(vocab_size=vocab_size, **{f.name: getattr(self, f.name) for f in fields(Architecture)})


class Trainer:
    """A model, its optimizer and its data, advanced a step at a time."""

    def __init__(self, config: TrainConfig, model: GPT, train_part: Array, val_part: Array):
        self.config, self.model, self.train_part, self.val_part = config, model, train_part, val_part
        self.parameters = Parameters(model)
        self.optimizer = AdamW(self.parameters, (config.beta1, config.beta2), weight_decay=config.weight_decay)
        self.frozen = model.map(raw)  # views of the same numbers: always the present weights, never a tape
        self.batches, self.dropout = (np.random.default_rng([config.seed, stream]) for stream in (1, 2))
        self.iter = 0  # steps taken

    def step(self) -> dict[str, Any]:
        """Train on one batch; what metrics.jsonl says of it."""
        began, c = time.perf_counter(), self.config
        lr = warmup_cosine(self.iter, c.learning_rate, c.min_lr, c.warmup_iters, c.lr_decay_iters or c.max_iters)
        ids, targets = batch(self.train_part, self.batches, c.batch_size, c.block_size)
        self.parameters.zero_grad()
        loss = self.model.loss(ids, targets, self.dropout)
        loss.backward()
        if c.grad_clip:
            clip_by_global_norm(self.parameters.grad, c.grad_clip)
        self.optimizer.step(lr)
        self.iter += 1
        if not math.isfinite(loss := loss.item()):
            raise FloatingPointError(f"the loss is {loss} at iteration {self.iter}: lower --learning-rate, which is "
                                     f"{c.learning_rate}, or set --grad-clip")
        seconds = time.perf_counter() - began
        return {"iter": self.iter, "loss": loss, "lr": lr, "ms": round(seconds * 1e3, 3),
                "tokens_per_s": round(ids.size / seconds)}

    def validate(self, last: bool = False) -> tuple[float, str]:
        """The validation loss, and over what: the whole part in the last evaluation, where eval_iters is 0, and to
        confirm that an estimate from random batches has truly reached the target."""
        c = self.config
        if c.eval_iters and not last:
            rng = np.random.default_rng([c.seed, 3])  # the same batches each time, so that evaluations compare
            some = (batch(self.val_part, rng, c.batch_size, c.block_size) for _ in range(c.eval_iters))
            loss = evaluate(self.frozen, some)
            if c.target_val_loss is None or loss > c.target_val_loss:
                return loss, f"{c.eval_iters} batches"
        return evaluate(self.frozen, windows(self.val_part, c.batch_size, c.block_size)), WHOLE


def train(config: TrainConfig, say: Callable[[str], None] = tqdm.write) -> Run:
    """Train a GPT as `config` says and leave its weights in `config.out`: the command `gpt train`.

    Ctrl-C finishes the step, saves and raises KeyboardInterrupt; a second one stops at once.  Raises OSError or
    ValueError for an output folder that cannot be written and for text that cannot be used, and
    FloatingPointError for a loss that is not finite.
    """
    keep_freed_memory()
    out = writable_folder(config.out)
    text, source = read_text(config.data)
    tokenizer = CharTokenizer(text)
    parts = split(tokenizer.encode(text), config.block_size, source)
    model = GPT(config.model_config(tokenizer.vocab_size), seed=config.seed)
    run, trainer = Run(model, tokenizer, {"train": asdict(config)}), Trainer(config, model, *parts)

    say(f"text    {source}: {len(text):,} characters, {tokenizer.vocab_size} different ones; "
        f"{len(parts[0]):,} to train on, the last {len(parts[1]):,} to validate on")
    say(f"model   {config.n_layer} layers, {config.n_head} heads, {config.n_embd} dimensions, "
        f"context {config.block_size}: {model.n_parameters:,} parameters")
    say(f"run     recipe {config.recipe}: {config.max_iters:,} steps of {config.batch_size} x {config.block_size} "
        f"tokens, seed {config.seed}")
    show_sample(run, "Before training it writes", say)

    with stop_on_interrupt() as interrupted, open(out / "metrics.jsonl", "w", encoding="utf-8") as metrics:
        for row in loop(trainer, interrupted, say):
            metrics.write(json.dumps(row) + "\n")
            if "val_loss" in row:
                metrics.flush()
                run.about |= {"iter": row["iter"], "val_loss": row["val_loss"]}
                file = checkpoint.save(out, model, tokenizer, run.about)
    if interrupted:
        raise KeyboardInterrupt(f"stopped after {trainer.iter:,} steps; weights saved in {file}")

    show_sample(run, "After training it writes", say)
    say(f"validation loss over the {WHOLE}: {run.about['val_loss']:.4f}, after {trainer.iter:,} steps")
    say(f"weights in {file}; more text from them:\n\n"
        f"    {Path(sys.executable).name} -m gpt sample {shlex.quote(config.out)}\n")
    return run


def loop(trainer: Trainer, interrupted: list[bool], say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Yield a row of metrics a step, until the last, the target or an interrupt; with progress on the terminal."""
    c, began, val_loss = trainer.config, time.perf_counter(), math.nan
    with tqdm(total=c.max_iters, desc="train", unit="it", disable=None, dynamic_ncols=True) as bar:
        while True:
            row = trainer.step()
            i, last = row["iter"], row["iter"] == c.max_iters or bool(interrupted)
            bar.set_postfix_str(f"loss {row['loss']:.3f}, val {val_loss:.3f}, lr {row['lr']:.1e}, "
                                f"{row['tokens_per_s']:,} tokens/s", refresh=False)
            bar.update()
            over = ""
            if last or i % c.eval_interval == 0:
                val_loss, over = trainer.validate(last)
                if not math.isfinite(val_loss):  # before the weights of the last evaluation are written over
                    raise FloatingPointError(f"the validation loss is {val_loss} at iteration {i}: lower "
                                             f"--learning-rate, which is {c.learning_rate}, or --weight-decay")
                row["val_loss"] = val_loss
                passed = time.perf_counter() - began
                say(f"iter {i:>5,}  loss {row['loss']:.4f}  val {val_loss:.4f} ({over})  lr {row['lr']:.1e}  "
                    f"{row['tokens_per_s']:,} tokens/s  {clock(passed)} passed, "
                    f"{clock(passed / i * (c.max_iters - i))} left")
            yield row
            if last or over == WHOLE and c.target_val_loss is not None and val_loss <= c.target_val_loss:
                return


def evaluate(model: GPT, batches: Iterator[tuple[Array, Array]]) -> float:
    """Mean loss a token, in nats, over batches (ids, targets), of a model on raw arrays."""
    total, n = 0.0, 0
    for ids, targets in batches:
        total += float(model.loss(ids, targets)) * targets.size
        n += targets.size
    return total / n


def writable_folder(path: str) -> Path:
    """The folder `path`, made if it is missing.  Raises OSError, before a run's work is done, if it takes no files."""
    if not path:
        raise ValueError("--out is empty: give the name of a folder")
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (probe := folder / f".writable.{os.getpid()}").touch()
        probe.unlink()
    except OSError as error:
        raise type(error)(f"nothing can be written to {folder} ({error.strerror}): "
                          "choose another folder with --out") from None
    return folder


@contextmanager
def stop_on_interrupt() -> Iterator[list[bool]]:
    """A list that stays empty until Ctrl-C, so that the step at hand is finished; a second one raises at once."""
    asked: list[bool] = []

    def ask(signal_number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt("stopped at once, without saving")
        asked.append(True)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield asked
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def show_sample(run: Run, title: str, say: Callable[[str], None], n: int = 200) -> None:
    """Say what the model writes at the moment."""
    text = "".join(continue_text(run, "", n, temperature=0.8)).strip()
    say(f"\n{title}:\n" + "\n".join(f"  | {line}" for line in text.splitlines()) + "\n")


def clock(seconds: float) -> str:
    """`1:05` for 65 seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
