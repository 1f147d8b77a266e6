"""Text from a trained model, a token at a time."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .checkpoint import Run, load
from .model import GPT
from .module import Array, raw
from .settings import Settings, setting


@dataclass
class SampleConfig(Settings):
    """The settings of `gpt sample`."""

    path: str = setting("out", "folder or file that gpt train left", positional=True)
    prompt: str = setting("", "text to go on from; none: the start of a line")
    num_samples: int = setting(1, "texts to write", at_least=1)
    max_new_tokens: int = setting(500, "length of each, in tokens", at_least=1)
    temperature: float = setting(0.8, "below 1: more predictable; above: more varied; 0: always the likeliest token",
                                 at_least=0)
    top_k: int | None = setting(None, "draw from this many of the likeliest tokens only", at_least=1)
    seed: int = setting(1337, "the same seed writes the same text", at_least=0)


def generate(model: GPT, ids: Array, n: int, rng: np.random.Generator, temperature: float = 1.0,
             top_k: int | None = None) -> Iterator[int]:
    """Yield `n` tokens that go on from `ids`, integers (T,) with T at least 1, of which the model sees the last
    block_size."""
    frozen, window = model.map(raw), model.config.block_size
    ids = np.asarray(ids)[-window:]
    for _ in range(n):
        token = choose(frozen(ids[None])[0, -1], rng, temperature, top_k)
        yield token
        ids = np.append(ids, token)[-window:]


def choose(logits: Array, rng: np.random.Generator, temperature: float = 1.0, top_k: int | None = None) -> int:
    """Draw a token from logits (V,) divided by `temperature`, among the `top_k` largest; the largest if it is 0."""
    logits = logits.astype(np.float64)
    if not np.isfinite(logits).all():
        raise ValueError("the model's logits are not finite, so its weights are damaged: train again, "
                         "with a lower --learning-rate")
    if temperature == 0:
        return int(logits.argmax())
    if top_k is not None and top_k < len(logits):
        logits[np.argpartition(logits, -top_k)[:-top_k]] = -np.inf
    p = np.exp((logits - logits.max()) / temperature)  # differences first: a tiny temperature cannot overflow
    return int(rng.choice(len(p), p=p / p.sum()))


def continue_text(run: Run, prompt: str, n: int, seed: int = 1337, temperature: float = 1.0,
                  top_k: int | None = None) -> Iterator[str]:
    """Yield `n` characters that go on from `prompt`, one by one; from the start of a line if there is none.

    Raises ValueError that names characters of the prompt that the tokenizer does not know.
    """
    start = prompt or ("\n" if "\n" in run.tokenizer.characters else run.tokenizer.characters[0])
    ids, rng = run.tokenizer.encode(start), np.random.default_rng(seed)  # now: an unknown character raises at the call
    return (run.tokenizer.decode(token) for token in generate(run.model, ids, n, rng, temperature, top_k))


def sample(config: SampleConfig) -> None:
    """Print texts of the model at `config.path` as they are written: the command `gpt sample`."""
    run = load(config.path)
    for i in range(config.num_samples):
        text = continue_text(run, config.prompt, config.max_new_tokens, config.seed + i,
                             config.temperature, config.top_k)
        print("-" * 40 + "\n" if i else "", config.prompt, sep="", end="")
        for piece in text:
            print(piece, end="")
            sys.stdout.flush()
        print()
