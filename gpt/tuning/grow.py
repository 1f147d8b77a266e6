"""Extension of a model for tuning: embeddings for new tokens, and a longer context."""

import copy
from dataclasses import replace

import numpy as np

import autograd as ag

from ..model.gpt import GPT, Embedding, Linear
from ..model.init import sinusoids
from ..model.module import raw


def extend_vocab_and_context(model: GPT, n_tokens: int = 0, block_size: int | None = None) -> GPT:
    """Return the model with `n_tokens` new tokens and another context length; it shares all other arrays with `model`.

    The embedding and the head of a new token are the mean of those of the others.  Raises ValueError for a longer
    context with learned positions, which have no values beyond the old one.
    """
    config, block_size = model.config, block_size or model.config.block_size
    if block_size > config.block_size and config.positions == "learned":
        raise ValueError(f"this model has learned {config.block_size} positions, and cannot see {block_size} tokens: "
                         f"lower --block-size, or train one with --block-size {block_size} or --positions rotary")
    new = copy.copy(model)
    new.config = replace(config, vocab_size=config.vocab_size + n_tokens, block_size=block_size)
    if n_tokens:
        table = _append_means(raw(model.wte.weight), n_tokens)
        new.wte = Embedding(ag.tensor(table, requires_grad=True, name="wte.weight"))
        if model.lm_head is not None:
            head = _append_means(raw(model.lm_head.weight).T, n_tokens).T
            new.lm_head = Linear(ag.tensor(head, requires_grad=True, name="lm_head.weight"), None)
    if block_size != config.block_size and model.wpe is not None:
        table = raw(model.wpe.weight)[:block_size] if config.positions == "learned" else \
            sinusoids(block_size, config.n_embd)
        new.wpe = Embedding(ag.tensor(table, model.wpe.weight.dtype, requires_grad=config.positions == "learned",
                                      name="wpe.weight"))
    return new


def _append_means(table: np.ndarray, n: int) -> np.ndarray:
    """Return a table (V, C) with its mean appended `n` times."""
    table = np.asarray(table)  # packed weights are widened
    return np.concatenate([table, np.repeat(table.mean(0, keepdims=True), n, 0)])
