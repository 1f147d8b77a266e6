"""Entries of the search and of the index: words that readers look for, under the headings that answer them."""

from __future__ import annotations

import re

from .running import Trouble

SUBJECTS: dict[str, dict[str, tuple[str, ...]]] = {
    "views.md": {
        "Which view for which question": ("debugging a gradient", "views"),
        "NaN or infinity": ("NaN", "infinity", "inf", "overflow"),
        "A vanishing gradient": ("vanishing gradients", "saturation"),
        "An exploding gradient": ("exploding gradients", "divergence"),
        "The gradient is": ("gradient is None", "missing gradient"),
        "It trains, but worse": ("bad loss", "wrong gradient"),
        "Gradients are too large": ("zero_grad", "accumulated gradients")},
    "01_a_scalar_and_its_tape.ipynb": {
        "The chain rule": ("chain rule", "backpropagation", "backward pass"),
        "Why an order": ("topological order",)},
    "02_tensors.ipynb": {"Broadcasting": ("broadcasting", "broadcast"), "The matrix product": ("matrix products",)},
    "04_softmax_by_hand.ipynb": {"The Jacobian": ("softmax Jacobian",), "Overflow": ("max trick",),
                                 "Cross-entropy": ("cross-entropy",)},
    "05_layer_norm_by_hand.ipynb": {"What it computes": ("layer norm",)},
    "06_attention_by_hand.ipynb": {"A soft look-up": ("attention", "self-attention"), "Masks": ("causal mask", "mask")},
    "07_your_own_op.ipynb": {"As an op": ("custom op",)},
    "08_a_gpt_step_by_step.ipynb": {"The model": ("residual stream", "transformer"), "Writing": ("KV cache",)},
    "10_twice_differentiable.ipynb": {"The Hessian": ("Hessians",), "Forward mode": ("forward mode", "jvp")},
    "11_where_time_and_memory_go.ipynb": {"Checkpoints": ("gradient checkpointing", "rematerialization"),
                                          "Replicas": ("data parallelism",)},
    "12_a_real_model.ipynb": {"LoRA": ("LoRA",), "Inside a prompt": ("logit lens", "attribution")},
    "13_rounding.ipynb": {"Numbers with": ("rounding", "float32"), "What should a tolerance": ("tolerance",)},
    "14_what_counting_knows.ipynb": {"How much context": ("n-grams",), "Compression": ("bits per byte", "perplexity")},
}
"""Page -> beginning of a heading -> what to enter there.  A plural also finds its singular."""


def insert(text: str, page: str) -> str:
    """Return the Markdown of a page, or of a part of it, with its entries above its headings."""
    for heading, words in SUBJECTS.get(page, {}).items():
        entry = f"```{{index}} {', '.join(f'! {word}' for word in words)}\n```\n\n"
        text = re.sub(rf"^(?=##* {re.escape(heading)})", entry, text, count=1, flags=re.MULTILINE)
    return text


def check(text: str, page: str) -> None:
    """Raise Trouble for a heading that a page, with its entries, does not have."""
    for heading, words in SUBJECTS.get(page, {}).items():
        if f"! {words[0]}" not in text:
            raise Trouble(f"{page} has no heading that begins with {heading!r}: see notebooks/reference/subjects.py")


def insert_words(glossary: str) -> str:
    """Return the glossary with its words, and the field's beside them, as entries, but for those of other pages."""
    elsewhere = {word.lower() for page in SUBJECTS.values() for words in page.values() for word in words}
    first, *sections = re.split(r"^(?=## )", glossary, flags=re.MULTILINE)
    made = [first]
    for section in sections:
        cells = re.findall(r"^\| ([^|]+)\|([^|]*)\|", section, re.MULTILINE)[1:]  # but for the table's head
        words = dict.fromkeys(word.strip("` ").lower() for row in cells for cell in row for word in cell.split(","))
        entries = [f"! {word}" for word in words if re.fullmatch(r"[a-z][\w. -]+", word) and word not in elsewhere]
        made.append(f"```{{index}} {', '.join(entries)}\n```\n\n{section}")
    return "".join(made)
