"""Component ablation: each attention head, attention, MLP and block of a model switched off, and the loss of an answer
that follows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

import autograd as ag
from autograd.view.what_if import replay_changed

from ..data.dataset import IGNORED
from ..model.config import GPTConfig
from ..model.gpt import GPT
from ..model.module import Array
from .inside import Prediction, likeliest_tokens, round_all

TOKENS = 512  # that are computed at once: several copies of a short text, each with another component off
LISTED = 5  # components below the table
NEGLIGIBLE = 0.0005  # nats, which the table prints as a dot


@dataclass
class Outcome:
    """The losses of a model on a text, and its prediction of the answer's last token."""
    answer: float       # −log p of the answer, in nats
    text: float         # the mean loss of the text's own tokens, in nats; NaN if it has but one
    next: Prediction    # the likeliest tokens, in one row


@dataclass
class ComponentAblation:
    """The outcome with the whole model, and with each of some components off.

    `cost(name)` is what switching it off adds to a loss, in nats: positive if the component speaks for the answer.
    """
    config: GPTConfig
    answer: Array                # (K,): tokens
    by: str                      # what an output becomes that is off: "zero", or the "mean" over the positions
    whole: Outcome
    without: dict[str, Outcome]  # by component: h.2.attn.3, h.2.attn, h.2.mlp, h.2

    def cost(self, name: str, measure: str = "answer") -> float:
        """Return the loss without a component minus that of the whole model; `measure`: "answer" or "text"."""
        return getattr(self.without[name], measure) - getattr(self.whole, measure)


def component_names(config: GPTConfig) -> list[str]:
    """Return the names of all components, a block after the other: its heads, its attention, its MLP, itself."""
    return [name for i in range(config.n_layer)
            for name in (*(f"h.{i}.attn.{k}" for k in range(config.n_head)), f"h.{i}.attn", f"h.{i}.mlp", f"h.{i}")]


def choose_components(config: GPTConfig, patterns: Sequence[str]) -> list[str]:
    """Return the components that match one of the patterns (`all`, `h.2.attn.3`, `h.*.mlp`), in the model's order.
    Raises ValueError for a pattern that matches none."""
    names = component_names(config)
    for pattern in patterns:
        if pattern != "all" and not any(fnmatchcase(name, pattern) for name in names):
            last, head = config.n_layer - 1, config.n_head - 1
            raise ValueError(f"--ablate {pattern!r} is no component of this model: there are the blocks h.0 to h.{last}"
                             f", in each .attn and .mlp, and the heads .attn.0 to .attn.{head}; h.*.mlp for all "
                             "of a kind, or all")
    return [name for name in names if any(pattern == "all" or fnmatchcase(name, pattern) for pattern in patterns)]


def ablate_components(model: GPT, prompt: Array, answer: Array, names: Sequence[str], by: str = "zero",
                      targets: Array | None = None) -> ComponentAblation:
    """Switch components of a model off, one at a time, on the tokens `prompt` (T,) and the `answer` (K,) after them.

    The output of a head, of attention or of the MLP, as it is added up in the residual stream, becomes 0, or with
    `by` = "mean" its mean over the positions; of a block, those of its attention and its MLP.  The forward pass runs
    once, and for each component again from its output on (`replay_changed`), with a progress bar on a terminal.
    `targets` (T,): the tokens that the text's loss is on, by default the next of each.
    """
    ids = np.append(prompt, answer[:-1])
    targets = np.append(prompt[1:], IGNORED) if targets is None else targets
    rows = max(1, min(len(names), TOKENS // len(ids)))
    logits = model(np.tile(ids, (rows, 1)))                    # (rows, T + K − 1, V)
    tape = ag.tape(logits)
    outputs = component_outputs(tape, model.config)
    found = {}
    with tqdm(total=len(names), desc="ablate", unit="component", disable=None, dynamic_ncols=True, leave=False) as bar:
        for start in range(0, len(names), rows):
            some = names[start:start + rows]
            changes = switch_off([outputs[name] for name in some], by)
            for name, row in zip(some, replay_changed(tape, changes)[logits]):
                found[name] = outcome(row, targets, answer)
            bar.update(len(some))
    return ComponentAblation(model.config, answer, by, outcome(logits.data[0], targets, answer), found)


Output = tuple[ag.Tensor, tuple[Any, ...]]  # a record, and an index into each of its rows


def component_outputs(tape: ag.Tape, config: GPTConfig) -> dict[str, list[Output]]:
    """Return the outputs of each component: records of the tape, with indices."""
    found: dict[str, list[Output]] = {}
    for i in range(config.n_layer):
        attention, = tape.find(op="attention", scope=f"h.{i}.attn")          # (B, H, T, d)
        parts = [[(tape.find(scope=f"h.{i}.{name}")[-1], ())] for name in ("attn", "mlp")]  # (B, T, C)
        found |= {f"h.{i}.attn.{k}": [(attention, (k,))] for k in range(config.n_head)}
        found |= {f"h.{i}.attn": parts[0], f"h.{i}.mlp": parts[1], f"h.{i}": parts[0] + parts[1]}
    return found


def switch_off(outputs: Sequence[list[Output]], by: str) -> dict[ag.Tensor, Callable[[Array], Array]]:
    """Return changes of records: in row k the outputs `outputs[k]` become 0, or their means over the positions."""
    places: dict[ag.Tensor, list[tuple[Any, ...]]] = {}
    for row, component in enumerate(outputs):
        for record, index in component:
            places.setdefault(record, []).append((row, *index))

    def change(y: Array, places: list[tuple[Any, ...]]) -> Array:
        y = y.copy()
        for place in places:
            y[place] = y[place].mean(-2, keepdims=True) if by == "mean" else 0
        return y

    return {record: partial(change, places=found) for record, found in places.items()}


def outcome(logits: Array, targets: Array, answer: Array) -> Outcome:
    """Return the losses of logits (T + K − 1, V) on the targets (T,) of the text and on the answer (K,)."""
    log_p = ag.log_softmax(logits.astype(np.float64))
    last = log_p[-len(answer):]
    kept = np.flatnonzero(targets != IGNORED)
    text = -log_p[kept, targets[kept]].mean() if len(kept) else math.nan
    return Outcome(-last[np.arange(len(answer)), answer].sum(), text, likeliest_tokens(np.exp(last[-1:])))


# ---------------------------------------------------------------------- in words


def describe(ablation: ComponentAblation, measure: str, labels: Callable[[Array], list[str]], width: int) -> list[str]:
    """Return lines of at most `width` characters on what switching components off costs, by a measure ("answer" or
    "text"): a table, if it is all of them, and the costliest.  `labels(ids)` gives the text of each token."""
    names = sorted(ablation.without, key=lambda name: -abs(ablation.cost(name, measure)))
    if len(names) < len(component_names(ablation.config)):
        return [describe_component(ablation, name, labels) for name in names]
    lines = format_table(ablation, measure, width)
    return [*lines, "", *(describe_component(ablation, name, labels) for name in names[:LISTED])]


def format_table(ablation: ComponentAblation, measure: str, width: int) -> list[str]:
    """Return a table of all costs: a row for each block, the last on top, with its heads in as many lines as the width
    demands."""
    n_layer, n_head = ablation.config.n_layer, ablation.config.n_head
    heads = [f".attn.{k}" for k in range(n_head)]
    labels = [f"h.{i}" for i in reversed(range(n_layer))]
    rows = [["block", "attn", "mlp", "head 0", *map(str, range(1, n_head))]]
    rows += [[cost_text(ablation.cost(label + name, measure)) for name in ("", ".attn", ".mlp", *heads)]
             for label in labels]
    cell = 2 + max(len(text) for row in rows for text in row)
    most = max(1, (width - 5) // cell - 3)  # heads in a line
    lines = []
    for label, row in zip(["", *labels], rows):
        for start in range(0, n_head, most):
            texts = [*([""] * 3 if start else row[:3]), *row[3 + start:3 + start + most]]
            lines.append(f"{'' if start else label:5}" + "".join(f"{text:>{cell}}" for text in texts))
    return lines


def cost_text(cost: float) -> str:
    """Return a cost in nats as text, a dot for a negligible one."""
    return "·" if abs(cost) < NEGLIGIBLE else f"{cost:+.3f}".replace("-", "−")


def describe_component(ablation: ComponentAblation, name: str, labels: Callable[[Array], list[str]]) -> str:
    """Return a line on the answer, the loss of the text and the likeliest tokens without a component."""
    whole, without = ablation.whole, ablation.without[name]
    width = max(map(len, ablation.without))
    loss = "" if math.isnan(whole.text) else f"; loss of the prompt {whole.text:.3f} -> {without.text:.3f}"
    tokens = zip(labels(without.next.tokens[0, :2]), without.next.probabilities[0])
    likeliest = ", ".join(f"{token!r} {p:.1%}" for token, p in tokens)
    answer = "".join(labels(ablation.answer))
    return f"{name:{width}}  {answer!r} {math.exp(-whole.answer):.1%} -> {math.exp(-without.answer):.1%}{loss}; " \
           f"likeliest {likeliest}"


# ---------------------------------------------------------------------- on the page


def page_data(ablation: ComponentAblation, labels: Callable[[Array], list[str]]) -> dict[str, Any]:
    """Return an ablation as data of a page: the outcomes as lists of the answer's and the text's loss (None if there
    is none), the likeliest tokens and their probabilities."""
    def listed(outcome: Outcome) -> list[Any]:
        losses = [x if math.isfinite(x) else None for x in round_all([outcome.answer, outcome.text])]
        return [*losses, labels(outcome.next.tokens[0]), round_all(outcome.next.probabilities[0])]

    return {"by": ablation.by, "blocks": ablation.config.n_layer, "heads": ablation.config.n_head,
            "whole": listed(ablation.whole),
            "without": {name: listed(outcome) for name, outcome in ablation.without.items()}}
