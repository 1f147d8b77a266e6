"""`gpt show`: a page on a model's predictions and attention on a prompt, its tape to play, a graph, and a summary."""

import math
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import autograd as ag
from autograd.core.describe import format_bytes, plural
from autograd.view.text import number_records, totals

from ..checkpoint import Checkpoint, load_checkpoint
from ..data.dataset import IGNORED, load_data
from ..data.tokenizers import decode_on
from ..generation.generate import encode_start, generate, read_prompt
from ..model.gpt import GPT
from ..model.module import Array, raw
from ..runtime.settings import Settings, overwrite_setting, setting
from ..runtime.writing import check_ours, delete, write_file
from ..training.config import TrainConfig
from ..training.run_folder import writable_folder
from ..training.trainer import Trainer
from .component_ablation import ComponentAblation, ablate_components, choose_components, describe, page_data

PAGE, TAPE, GRAPH = "show.html", "tape.html", "tape.svg"
MARK = "gpt show"  # in a comment at the end of each file
STEPS = 2  # that a new model is trained if no checkpoint is given
GENERATED = 32  # tokens that the model generates if no prompt is given
LARGEST = 5  # parameters whose gradients are listed
SHOWN = 60  # characters of the prompt in a line


@dataclass
class ShowConfig(Settings):
    """The settings of `gpt show`."""

    checkpoint: str | None = setting(None, "folder or file that gpt train left; none: a new model, trained "
                                           f"{STEPS} steps on the default text, which is not saved", positional=True,
                                     path=True)
    prompt: str = setting("", "text whose tokens the model predicts, each from those before it; only its end if it is "
                              "longer than the context; -: standard input; none: text that the model generates",
                          group="text", metavar="TEXT")
    answer: str = setting("", "text that may follow the prompt, to be explained by the tokens before it, and by "
                              "--ablate; none: the likeliest token", group="text", metavar="TEXT")
    ablate: tuple[str, ...] = setting((), "components to switch off, one at a time, to see what each is worth to the "
                                          "answer and the prompt: heads (h.1.attn.3), attention (h.1.attn), MLPs "
                                          "(h.*.mlp), blocks (h.1); all: a table of all", group="ablation",
                                      metavar="COMPONENT")
    ablate_by: str = setting("zero", "what the output of a component that is off becomes: zero, or its mean over the "
                                     "positions", choices=("zero", "mean"), group="ablation")
    out: str = setting("show", f"folder for {PAGE}, {TAPE} and {GRAPH}", group="output", path=True)
    overwrite: bool = overwrite_setting()


def show(config: ShowConfig) -> None:
    """Run a model forward and backward on a prompt, and write pages on it to a folder: the command `gpt show`.

    One page has the likeliest tokens at each position and after each layer (logit lens), each head's attention, and the
    tokens that speak for an answer; another plays the tape, which is drawn as a graph, too.  With `ablate` it has
    a table of what heads, attentions, MLPs and blocks are worth to the answer and to the prompt, which is printed, too.

    Raises OSError or ValueError for a checkpoint that cannot be read, a prompt or answer that the tokenizer does not
    know, a component that the model does not have, and a folder that cannot be written.
    """
    for name in (PAGE, TAPE, GRAPH):
        check_ours(Path(config.out) / name, MARK, config.overwrite)
    run = train_briefly() if config.checkpoint is None else load_checkpoint(config.checkpoint, print)
    names = choose_components(run.config, config.ablate)
    answer = answer_tokens(run, config.answer)
    ids, note = prompt_ids(run, read_prompt(config.prompt), max(1, len(answer)))
    model = f"{config.checkpoint or f'new, trained {STEPS} steps on the default text'}: " \
            f"{plural(run.model.n_parameters, 'parameter')}"
    say("model", model)
    text = run.tokenizer.decode(ids)
    say("prompt", f"{text[:SHOWN]!r}{' …' * (len(text) > SHOWN)}, {plural(len(ids), 'token')}{note}")
    targets, loss_text = next_tokens(run, ids)
    loss = run.model.loss(ids[None], targets[None])
    backward(run.model, loss)
    tape = ag.tape(loss)
    for label, line in summarize(run.model, tape, loss.item(), loss_text):
        say(label, line)
    likeliest = run.model.map(raw)(ids[None])[0, -1].argmax(keepdims=True)
    answer = answer if len(answer) else likeliest
    ablation = ablate_components(run.model, ids, answer, names, config.ablate_by, targets) if names else None
    for label, line in report_ablation(run, ablation, bool(config.answer)) if ablation else []:
        say(label, line)
    with writable_folder(config.out) as out:
        written = [write_inside(run, ids, answer, model, out, ablation),
                   *write_tape(tape, labels(run.tokenizer, ids), out)]
    for line in [*written, f"open in a browser: {(out / PAGE).resolve().as_uri()}"]:
        say("", line)


def say(label: str, line: str) -> None:
    """Print a line with its label."""
    print(f"{label:9} {line}", flush=True)


# ---------------------------------------------------------------------- what is shown


def train_briefly() -> Checkpoint:
    """Train a new model for its first steps on the default text."""
    config = TrainConfig.from_recipe(max_iters=STEPS, warmup_iters=0)
    data, tokenizer = load_data(config.data, config.tokenizer, config.block_size)
    trainer = Trainer(config, GPT(config.model_config(tokenizer.vocab_size), seed=config.seed), data)
    for _ in range(STEPS):
        trainer.step()
    return Checkpoint(trainer.model, tokenizer)


def prompt_ids(run: Checkpoint, prompt: str, n_answer: int = 1) -> tuple[Array, str]:
    """Return the tokens of the prompt (T,) that fit into the context before an answer of `n_answer` tokens, and a note
    if these are not all.  Without a prompt the model generates them."""
    room = run.config.block_size + 1 - n_answer
    if not prompt:
        first, rng = encode_start(run, ""), np.random.default_rng(0)
        generated = list(generate(run.model.map(raw), first, min(GENERATED, room) - len(first), rng, temperature=0.8))
        return np.array([*first, *generated]), ", written by the model"
    ids = encode_start(run, prompt)
    note = f": the last of {len(ids):,}, since the context is {run.config.block_size}" if len(ids) > room else ""
    return ids[-room:], note


def answer_tokens(run: Checkpoint, answer: str) -> Array:
    """Return the tokens of the text `answer` (K,).  Raises ValueError if a context has no room for them."""
    tokens = np.asarray(run.tokenizer.encode(answer), np.int64)
    if len(tokens) > run.config.block_size:
        raise ValueError(f"--answer is {len(tokens)} tokens, and the model's context {run.config.block_size}")
    return tokens


def next_tokens(run: Checkpoint, ids: Array) -> tuple[Array, str]:
    """Return the targets (T,) of the tokens (T,), and a description of the loss.  For a single token the target is the
    one that the model finds likeliest to follow, so that there is a gradient."""
    targets = np.append(ids[1:], IGNORED)
    if len(ids) > 1:
        return targets, f"the mean over {plural(len(ids) - 1, 'token')}, each predicted from those before it"
    targets[-1] = run.model.map(raw)(ids[None])[0, -1].argmax()
    follower = labels(run.tokenizer, targets)[0]
    return targets, f"that of {follower!r}, the likeliest token to follow the only one of the prompt"


def labels(tokenizer: Any, ids: Array) -> list[str]:
    """Return the text of each token (T,), or the number of a byte that is not a character."""
    texts = (decode_on(tokenizer)([int(i)]) for i in ids)
    return [f"byte {i}" if "\ufffd" in text else text for i, text in zip(ids, texts)]


def backward(model: GPT, loss: Any) -> None:
    """Run the backward pass from the loss; gradients that parameters had before are dropped."""
    for t in model.named_arrays().values():
        t.grad = None
    loss.backward(keep=True)  # the views need the values


# ---------------------------------------------------------------------- in words


def summarize(model: GPT, tape: ag.Tape, loss: float, loss_text: str) -> list[tuple[str, str]]:
    """Return labelled lines on the tape, the loss, the memory and the largest gradients."""
    from autograd.view.memory.memory import (
        memory,  # only here and below, so that other commands start as quickly as they can
    )

    perplexity = f" (perplexity {math.exp(loss):.4g})" if abs(loss) < 700 else ""
    m = memory(tape)
    record, phase = m.steps[m.peak_step], "forward" if m.peak_step < m.n_forward else "backward"
    lines = [("tape", totals(tape)),
             ("loss", f"{loss:.4f} nats per token{perplexity}: {loss_text}"),
             ("memory", f"{format_bytes(m.peak)} at the peak, step {m.peak_step}, {phase} of "
                        f"%{number_records(tape)[record]} {record.op.name}; parameters {format_bytes(m.parameters)}")]
    norms = gradient_norms(model)
    total = math.sqrt(sum(norm**2 for norm, _, _ in norms))
    lines.append(("gradients", f"norm {total:.4g} in all; the largest:"))
    width = max(len(name) for _, name, _ in norms[:LARGEST])
    return lines + [("", f"  {norm:<10.4g} {name:{width}}  {shape}") for norm, name, shape in norms[:LARGEST]]


def report_ablation(run: Checkpoint, ablation: ComponentAblation, is_given: bool) -> list[tuple[str, str]]:
    """Return labelled lines on what switching components off costs an answer that was given, or else the prompt."""
    whole, show_tokens = ablation.whole, partial(labels, run.tokenizer)
    measure = "answer" if is_given or math.isnan(whole.text) else "text"
    loss = f"the prompt ({whole.text:.4f})" if measure == "text" else \
        f"{''.join(show_tokens(ablation.answer))!r} ({whole.answer:.4f}, probability {math.exp(-whole.answer):.1%})"
    off = "0" if ablation.by == "zero" else "replaced by its mean over the positions"
    lines = describe(ablation, measure, show_tokens, shutil.get_terminal_size().columns - 10)
    return [("ablation", f"nats added to the loss of {loss} when a component's output is {off}:"),
            *(("", line) for line in lines)]


def gradient_norms(model: GPT) -> list[tuple[float, str, str]]:
    """Return the norm of each parameter's gradient, its name and its shape, the largest norms (and NaN) first."""
    found = [(float(np.linalg.norm(t.grad)), name, " x ".join(map(str, t.shape)))
             for name, t in model.named_arrays().items() if t.grad is not None]
    return sorted(found, key=lambda entry: -entry[0] if entry[0] >= 0 else -math.inf)


# ---------------------------------------------------------------------- on disk


def write_inside(run: Checkpoint, ids: Array, answer: Array, heading: str, out: Path,
                 ablation: ComponentAblation | None) -> str:
    """Write the page on the inside of the model, and return a line on it."""
    from .inside import inside_page, look

    page = out / PAGE
    try:
        inside = look(run.model, ids, answer)
    except FloatingPointError as error:
        delete([page])  # it is that of another run
        return f"{page} was not written: {error}"
    show_tokens = partial(labels, run.tokenizer)
    table = page_data(ablation, show_tokens) if ablation else None
    write_marked(page, inside_page(inside, show_tokens, heading, table))
    return f"{page}: what the model expects at each place, from which layer on, what its heads look at, and why"


def write_tape(tape: ag.Tape, tokens: list[str], out: Path) -> list[str]:
    """Write the player and the graph, and return a line on how to use each."""
    from autograd.view.graph.graph import draw
    from autograd.view.graph.render import NoGraphviz, render_dot
    from autograd.view.player.player import Player

    player, graph = out / TAPE, out / GRAPH
    write_marked(player, Player(tape, tokens).page)
    try:
        write_marked(graph, render_dot(draw(tape).source, "svg").decode())
        drawn = f"{graph}: the tape as a graph; point at a box for its line of the tape and its formula"
    except NoGraphviz as error:
        delete([graph])
        drawn = f"{graph} was not written: {error}"
    return [f"{player}: plays the tape forward and back, with every value and gradient", drawn]


def write_marked(file: Path, text: str) -> None:
    """Write a file with this command's mark at its end."""
    write_file(file, f"{text.rstrip()}\n<!-- {MARK} -->\n".encode("utf-8", "replace"))
