"""Text from a trained model, a token at a time: how a token is drawn, and how tokens become text that is printed."""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np

from ..checkpoint import Checkpoint, load_checkpoint
from ..data.tokenizers import decode_on, encode_prompt
from ..model.gpt import GPT
from ..model.module import Array
from ..runtime.settings import Settings, setting
from .incremental import Context

BATCH = 16  # texts that `gpt sample` writes at a time


@dataclass
class Sampling(Settings):
    """How a token is drawn from the logits.  Each rule works on what those before it, in this order, have left."""

    greedy: bool = setting(False, "always the likeliest token, as with a temperature of 0", group="drawing a token")
    repetition_penalty: float = setting(1.0, "above 1: make tokens less likely that the text or its prompt holds: it "
                                        "divides their logits, or multiplies negative ones", above=0,
                                        group="drawing a token")
    temperature: float = setting(1.0, "below 1: more predictable; above: more varied; 0: always the likeliest token",
                                 at_least=0, group="drawing a token")
    top_k: int | None = setting(None, "draw from this many of the likeliest tokens only; 0: from all", at_least=0,
                                group="drawing a token")
    top_p: float | None = setting(None, "draw from the fewest tokens that together have at least this probability",
                                  above=0, at_most=1, group="drawing a token")
    min_p: float | None = setting(None, "leave out tokens less likely than this share of the likeliest one's "
                                  "probability", at_least=0, at_most=1, group="drawing a token")


@dataclass
class SampleConfig(Sampling):
    """The settings of `gpt sample`."""

    path: str = setting("out", "folder or file that gpt train left", positional=True, path=True)
    prompt: str = setting("", "text to go on from, in which names of special tokens stand for these; -: read it from "
                          "standard input; none: the start of a text, or of a line", group="text", metavar="TEXT")
    num_samples: int = setting(1, "texts to write", at_least=1, group="text")
    max_new_tokens: int = setting(500, "length of each, in tokens; whenever the model's context is full, it forgets "
                                  "the older half of it", at_least=1, group="text")
    stop: tuple[str, ...] = setting((), "end a text where it comes to one of these, which is not printed; none: for a "
                                    "model trained with --lines or on a task, the end of the line", group="text",
                                    metavar="TEXT")
    temperature: float = setting(0.8, "below 1: more predictable; above: more varied; 0: always the likeliest token",
                                 at_least=0, group="drawing a token")
    seed: int = setting(1337, "the same seed writes the same text", at_least=0, group="drawing a token")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_stop(self.stop)

    def sampling(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(Sampling)}


def generate(model: GPT, ids: Array, n: int, rng: np.random.Generator, *, cache: bool = True,
             **sampling: Any) -> Iterator[int]:
    """Yield `n` tokens that go on from `ids`, integers (T,) with T at least 1.

    sampling: fields of `Sampling`.  What the model sees of a long text, with and without `cache`: see `Context`.
    Raises ValueError or TypeError, at the call, for ids, n or settings that make no sense.
    """
    batch = Batch(model, [ids], [rng], Sampling(**sampling), cache)
    if n < 0:
        raise ValueError(f"n is {n}, and needs to be at least 0")
    return (int(next(batch)[0]) for _ in range(n))


class Batch:
    """Texts that go on together, each from its own prompt (T,) and with draws from its own generator: the same as
    they would one by one.  `next(batch)` gives the next token of each, (B,); `keep` ends some of them."""

    def __init__(self, model: GPT, prompts: Sequence[Array], rngs: Sequence[np.random.Generator], sampling: Sampling,
                 cache: bool = True):
        V = model.config.vocab_size
        prompts = [checked_ids(ids, V) for ids in prompts]
        if not len(prompts) == len(rngs) > 0:
            raise ValueError(f"{len(prompts)} prompts and {len(rngs)} generators: each text needs one of both")
        self.context, self.rngs, self.sampling = Context(model, prompts, cache), list(rngs), sampling
        self.held = np.zeros((len(prompts), V), bool)  # which tokens each text holds
        for held, ids in zip(self.held, prompts):
            held[ids] = True
        self.tokens: Array | None = None  # the last ones, which the model reads only if more are asked for

    def __iter__(self) -> Iterator[Array]:
        return self

    def __next__(self) -> Array:
        if self.tokens is not None:
            self.context.append(self.tokens)
        drawn = [choose(*row, self.sampling) for row in zip(self.context.logits(), self.rngs, self.held)]
        self.tokens = np.array(drawn)
        for held, token in zip(self.held, drawn):
            held[token] = True
        return self.tokens

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these texts only, by their present places."""
        self.context.keep(np.asarray(rows))
        self.rngs, self.held = [self.rngs[i] for i in rows], self.held[rows]
        if self.tokens is not None:
            self.tokens = self.tokens[rows]


def checked_ids(ids: Any, vocab_size: int) -> Array:
    """A prompt as integers (T,)."""
    ids = np.asarray(ids)
    if ids.ndim != 1 or not ids.size or ids.dtype.kind not in "iu":
        raise ValueError(f"a prompt is an array of one or more integers, and this one is {ids.dtype}{list(ids.shape)}")
    if ids.min() < 0 or ids.max() >= vocab_size:
        raise ValueError(f"the prompt has tokens from {ids.min()} to {ids.max()}, and the model knows those from 0 to "
                         f"{vocab_size - 1}: encode it with the model's own tokenizer")
    return ids.astype(np.int64)


# ---------------------------------------------------------------------- drawing a token


def choose(logits: Array, rng: np.random.Generator, held: Array, sampling: Sampling) -> int:
    """Draw a token from logits (V,) for a text that has the tokens `held`, booleans (V,)."""
    cumulative = probabilities(logits, held, sampling).cumsum()
    return int(cumulative.searchsorted(rng.random() * cumulative[-1], "right"))  # a random number is below 1


def probabilities(logits: Array, held: Array, sampling: Sampling) -> Array:
    """The probability with which each token is drawn, (V,), up to a common factor."""
    s, x = sampling, logits.astype(np.float64)
    if not math.isfinite(x.dot(x)) and not np.isfinite(x).all():  # the first is faster, and mostly enough
        raise ValueError("the model's logits are not finite, so its weights are damaged: train again, "
                         "with a lower --learning-rate")
    if s.repetition_penalty != 1:  # Keskar et al. 2019, 4.1; a negative logit has to grow in size to be less likely
        x[held] = np.where(x[held] > 0, x[held] / s.repetition_penalty, x[held] * s.repetition_penalty)
    if s.greedy or s.temperature == 0:
        p = np.zeros_like(x)
        p[x.argmax()] = 1
        return p
    if s.top_k and s.top_k < len(x):
        x[np.argpartition(x, -s.top_k)[:-s.top_k]] = -np.inf
    x -= x[x.argmax()]  # first, so that a tiny temperature gives others a probability of 0
    if s.temperature != 1:
        x /= max(s.temperature, 1e-250)  # by which nothing overflows
    p = np.exp(x, out=x)
    if s.top_p is not None and s.top_p < 1:  # Holtzman et al. 2020, 3.1
        order = np.argsort(-p, kind="stable")
        total = p[order].cumsum()
        p[order[total.searchsorted(s.top_p * total[-1]) + 1:]] = 0
    if s.min_p:  # Nguyen et al. 2024
        p[p < s.min_p * p.max()] = 0
    return p


# ---------------------------------------------------------------------- text


def continue_text(run: Checkpoint, prompt: str, n: int, seed: int | Sequence[int] = 1337, *, stop: Sequence[str] = (),
                  **sampling: Any) -> Iterator[str]:
    """Yield the text of `n` tokens that go on from `prompt` (see `start`), in pieces, as soon as they can be shown.  It
    ends before the first of the run's `ends`, and of the strings `stop`.

    sampling: fields of `Sampling`.  Raises ValueError, at the call, for a prompt that the tokenizer does not know.
    """
    pieces = continue_texts(run, [prompt], n, [seed], stop=stop, **sampling)
    return (piece for _, piece in pieces if piece is not None)


def continue_texts(run: Checkpoint, prompts: Sequence[str], n: int, seeds: Sequence[Any], *, stop: Sequence[str] = (),
                   **sampling: Any) -> Iterator[tuple[int, str | None]]:
    """Write several texts at a time: yields (number of the text, a piece of it), and None for a piece at its end.

    Each text is the one that `continue_text` writes from its prompt and its seed.
    """
    check_stop(stop)
    if n < 0:
        raise ValueError(f"n is {n}, and needs to be at least 0")
    batch = Batch(run.model, [start(run, prompt) for prompt in prompts],
                  [np.random.default_rng(seed) for seed in seeds], Sampling(**sampling))
    streams = [(i, Stream(decode_on(run.tokenizer), stop, run.ends)) for i in range(len(prompts))]
    return _pieces(batch, streams, n)


def _pieces(batch: Batch, streams: list[tuple[int, "Stream"]], n: int) -> Iterator[tuple[int, str | None]]:
    for _ in range(n):
        for (i, stream), token in zip(streams, next(batch)):
            if piece := stream.add(int(token)):
                yield i, piece
            if stream.ended:
                yield i, None
        going = [row for row, (_, stream) in enumerate(streams) if not stream.ended]
        if not going:
            return
        if len(going) < len(streams):
            streams = [streams[row] for row in going]
            batch.keep(going)
    for i, stream in streams:
        yield i, stream.rest()
        yield i, None


def start(run: Checkpoint, prompt: str) -> Array:
    """The tokens of a prompt, with those that the tokenizer begins each text with.  Without any: the start token that
    an imported model names, a newline, or the first token where the tokenizer knows none."""
    if len(tokens := encode_prompt(run.tokenizer, prompt)):
        return tokens
    match run.metadata:
        case {"pretrained": {"bos_token_id": int(first)}} if 0 <= first < run.config.vocab_size:
            return np.array([first])
    try:
        return run.tokenizer.encode("\n")
    except ValueError:
        return np.zeros(1, np.int64)


class Stream:
    """Tokens in, text out that can be shown: whole characters, and never a part of a string of `stop`.

    `ended`: whether one of them has come, or one of the tokens `ends`.
    """

    def __init__(self, decode: Callable[[Any], str], stop: Sequence[str] = (), ends: Sequence[int] = ()):
        self.decode, self.stop, self.ends, self.ended = decode, stop, ends, False
        self.tokens: list[int] = []  # whose text may end within a character,
        self.taken = 0               # except this many characters
        self.waiting = ""            # text that may be the beginning of a stop string

    def add(self, token: int) -> str:
        """What can be shown after one more token."""
        if token in self.ends:
            shown, self.ended = self.rest(), True
            return shown
        self.tokens.append(token)
        text = self.decode(self.tokens)
        whole = text[:-1] if text.endswith("\ufffd") else text  # that stands for bytes which lack others, or are wrong
        new, self.taken = whole[self.taken:], len(whole)
        if whole == text:
            self.tokens, self.taken = [], 0
        return self._show(new)

    def rest(self) -> str:
        """What is left when no token follows."""
        shown = self._show(self.decode(self.tokens)[self.taken:] if self.tokens else "")
        return shown + ("" if self.ended else self.waiting)

    def _show(self, new: str) -> str:
        text = self.waiting + new
        if found := [(place + len(s), place) for s in self.stop if (place := text.find(s)) >= 0]:
            self.ended, self.waiting = True, ""
            return text[:min(found)[1]]  # of the one that is complete first, however the text came in tokens
        held = max((k for s in self.stop for k in range(1, len(s)) if text.endswith(s[:k])), default=0)
        self.waiting = text[len(text) - held:]
        return text[:len(text) - held]


def check_stop(stop: Any) -> None:
    """Raise TypeError or ValueError for what is no sequence of texts to stop at."""
    if isinstance(stop, str) or not all(isinstance(s, str) for s in stop):
        raise TypeError(f"stop is {stop!r}, and needs to be a sequence of texts")
    if "" in stop:
        raise ValueError("stop has an empty text in it, at which all texts would end: leave it out")


# ---------------------------------------------------------------------- the command


def sample(config: SampleConfig) -> None:
    """Print texts of the model at `config.path` as they are written: the command `gpt sample`."""
    run = load_checkpoint(config.path, partial(print, file=sys.stderr))
    prompt, lines = read_prompt(config.prompt), writes_lines(run)
    stop, between = config.stop or ("\n",) * lines, "" if lines else "-" * 40 + "\n"
    for first in range(0, config.num_samples, BATCH):
        numbers = range(first, min(first + BATCH, config.num_samples))
        pieces = continue_texts(run, [prompt] * len(numbers), config.max_new_tokens,
                                [[config.seed, i] for i in numbers], stop=stop, **config.sampling())
        titles = ((between if i else "") + prompt for i in numbers)
        for piece in in_turn(pieces, titles):
            print(piece, end="")
            sys.stdout.flush()


def writes_lines(run: Checkpoint) -> bool:
    """Whether a model was trained on lines, each an example of its own."""
    match run.metadata:
        case {"train": {"lines": True}}:
            return True
        case {"train": {"task": str(task)}}:
            return task != "text"
    return False


def in_turn(pieces: Iterator[tuple[int, str | None]], titles: Iterator[str]) -> Iterator[str]:
    """Texts one after the other, each with its title before and a newline after it: the first as it is written, and
    what has been written of each other when its turn comes."""
    texts = [[title] for title in titles]
    ended, turn = set(), 0
    yield from texts[0]
    for i, piece in pieces:
        if piece is None:
            ended.add(i)
        elif i == turn:
            yield piece
        else:
            texts[i].append(piece)
        while turn in ended:
            yield "\n"
            turn += 1
            if turn < len(texts):
                yield "".join(texts[turn])


def read_prompt(prompt: str) -> str:
    """`prompt`, or standard input, without its last newline, for `-`.  Raises ValueError if that is no UTF-8 text."""
    if prompt != "-":
        return prompt
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"standard input is not UTF-8 text (byte 0x{error.object[error.start]:02x} at "
                         f"{error.start:,}): give a prompt that is") from None
    return text.removesuffix("\n")
