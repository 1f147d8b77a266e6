"""Text from a trained model: generation, decoding to text that can be shown at once, and the command `gpt sample`."""

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
from ..runtime.settings import setting
from .incremental import DecodingState
from .sampling import Sampling, sample_token

BATCH = 16  # texts that `gpt sample` writes at a time


@dataclass
class SampleConfig(Sampling):
    """The settings of `gpt sample`."""

    path: str = setting("out", "folder or file that gpt train left", positional=True, path=True)
    prompt: str = setting("", "text to continue, in which names of special tokens stand for these; -: standard input; "
                          "none: the start of a text, or of a line", group="text", metavar="TEXT")
    num_samples: int = setting(1, "texts to generate", at_least=1, group="text")
    max_new_tokens: int = setting(500, "tokens to generate for each text; when the context window is full, its older "
                                  "half is dropped", at_least=1, group="text")
    stop: tuple[str, ...] = setting((), "stop strings: a text ends before the first of these; none: the end of the "
                                    "line, for a model trained with --lines or on a task", group="text",
                                    metavar="TEXT")
    temperature: float = setting(0.8, "sampling temperature; below 1: more predictable, above: more varied, 0: greedy",
                                 at_least=0, group="sampling")
    seed: int = setting(1337, "seed of the sampling: the same one gives the same text", at_least=0, group="sampling")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_stop(self.stop)

    def sampling(self) -> dict[str, Any]:
        """Return the fields of `Sampling`."""
        return {f.name: getattr(self, f.name) for f in fields(Sampling)}


def generate(model: GPT, ids: Array, n: int, rng: np.random.Generator, *, cache: bool = True,
             **sampling: Any) -> Iterator[int]:
    """Yield `n` tokens that continue `ids`, integers (T,) with T at least 1.

    cache: use a KV cache (see `DecodingState`).  sampling: fields of `Sampling`.  Raises ValueError or TypeError, at
    the call, for ids, n or settings that make no sense.
    """
    batch = GenerationBatch(model, [ids], [rng], Sampling(**sampling), cache)
    if n < 0:
        raise ValueError(f"n is {n}, and needs to be at least 0")
    return (int(next(batch)[0]) for _ in range(n))


class GenerationBatch:
    """Texts that are generated together, each from its own prompt (T,) and random generator, with the same result as
    one by one.  `next(batch)` gives the next token of each, (B,); `keep` drops texts that have ended."""

    def __init__(self, model: GPT, prompts: Sequence[Array], rngs: Sequence[np.random.Generator], sampling: Sampling,
                 cache: bool = True):
        V = model.config.vocab_size
        prompts = [check_ids(ids, V) for ids in prompts]
        if not len(prompts) == len(rngs) > 0:
            raise ValueError(f"{len(prompts)} prompts and {len(rngs)} generators: each text needs one of both")
        self.decoding, self.rngs, self.sampling = DecodingState(model, prompts, cache), list(rngs), sampling
        self.held = np.zeros((len(prompts), V), bool)  # tokens that each text holds
        for held, ids in zip(self.held, prompts):
            held[ids] = True
        self.tokens: Array | None = None  # the last ones, not yet read by the model

    def __iter__(self) -> Iterator[Array]:
        return self

    def __next__(self) -> Array:
        if self.tokens is not None:
            self.decoding.append(self.tokens)
        drawn = [sample_token(*row, self.sampling) for row in zip(self.decoding.logits(), self.rngs, self.held)]
        self.tokens = np.array(drawn)
        for held, token in zip(self.held, drawn):
            held[token] = True
        return self.tokens

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all texts but these, given by their present index."""
        self.decoding.keep(np.asarray(rows))
        self.rngs, self.held = [self.rngs[i] for i in rows], self.held[rows]
        if self.tokens is not None:
            self.tokens = self.tokens[rows]


def check_ids(ids: Any, vocab_size: int) -> Array:
    """Return a prompt as integers (T,).  Raises ValueError for anything else, and for tokens that there are not."""
    ids = np.asarray(ids)
    if ids.ndim != 1 or not ids.size or ids.dtype.kind not in "iu":
        raise ValueError(f"a prompt is an array of one or more integers, and this one is {ids.dtype}{list(ids.shape)}")
    if ids.min() < 0 or ids.max() >= vocab_size:
        raise ValueError(f"the prompt has tokens from {ids.min()} to {ids.max()}, and the model knows those from 0 to "
                         f"{vocab_size - 1}: encode it with the model's own tokenizer")
    return ids.astype(np.int64)


# ---------------------------------------------------------------------- text


def continue_text(run: Checkpoint, prompt: str, n: int, seed: int | Sequence[int] = 1337, *, stop: Sequence[str] = (),
                  **sampling: Any) -> Iterator[str]:
    """Yield the text of `n` tokens that continue `prompt` (see `encode_start`), in pieces, as soon as they can be
    shown.  It ends before the first end-of-text token, and before the first of the strings `stop`.

    sampling: fields of `Sampling`.  Raises ValueError, at the call, for a prompt that the tokenizer does not know.
    """
    pieces = continue_texts(run, [prompt], n, [seed], stop=stop, **sampling)
    return (piece for _, piece in pieces if piece is not None)


def continue_texts(run: Checkpoint, prompts: Sequence[str], n: int, seeds: Sequence[Any], *, stop: Sequence[str] = (),
                   **sampling: Any) -> Iterator[tuple[int, str | None]]:
    """Generate several texts at a time: yield (index of the text, a piece of it), with None for the piece at its end.

    Each text is the one that `continue_text` yields for its prompt and its seed.
    """
    check_stop(stop)
    if n < 0:
        raise ValueError(f"n is {n}, and needs to be at least 0")
    batch = GenerationBatch(run.model, [encode_start(run, prompt) for prompt in prompts],
                            [np.random.default_rng(seed) for seed in seeds], Sampling(**sampling))
    streams = [(i, Stream(decode_on(run.tokenizer), stop, run.ends)) for i in range(len(prompts))]
    return _pieces(batch, streams, n)


def _pieces(batch: GenerationBatch, streams: list[tuple[int, "Stream"]], n: int) -> Iterator[tuple[int, str | None]]:
    for _ in range(n):
        for (i, stream), token in zip(streams, next(batch)):
            if piece := stream.add(int(token)):
                yield i, piece
            if stream.ended:
                yield i, None
        active = [row for row, (_, stream) in enumerate(streams) if not stream.ended]
        if not active:
            return
        if len(active) < len(streams):
            streams = [streams[row] for row in active]
            batch.keep(active)
    for i, stream in streams:
        yield i, stream.rest()
        yield i, None


def encode_start(run: Checkpoint, prompt: str) -> Array:
    """Return the tokens of a prompt, with those that the tokenizer puts at the start of a text.  For an empty one: the
    start token that an imported model names, a newline, or token 0 if the tokenizer knows no newline."""
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
    """Decoder of a stream of tokens: text comes out in whole characters, and never as part of a string of `stop`.

    ended: true after one of these strings, or one of the tokens `ends`.
    """

    def __init__(self, decode: Callable[[Any], str], stop: Sequence[str] = (), ends: Sequence[int] = ()):
        self.decode, self.stop, self.ends, self.ended = decode, stop, ends, False
        self.tokens: list[int] = []  # since the last whole character; their text may end within one
        self.n_shown = 0             # characters of that text that were given out
        self.waiting = ""            # text that may be the beginning of a stop string

    def add(self, token: int) -> str:
        """Add a token, and return the text that can be shown now."""
        if token in self.ends:
            shown, self.ended = self.rest(), True
            return shown
        self.tokens.append(token)
        text = self.decode(self.tokens)
        whole = text[:-1] if text.endswith("\ufffd") else text  # \ufffd: bytes of an incomplete or invalid character
        new, self.n_shown = whole[self.n_shown:], len(whole)
        if whole == text:
            self.tokens, self.n_shown = [], 0
        return self._show(new)

    def rest(self) -> str:
        """Return the text that is left when no token follows."""
        shown = self._show(self.decode(self.tokens)[self.n_shown:] if self.tokens else "")
        return shown + ("" if self.ended else self.waiting)

    def _show(self, new: str) -> str:
        text = self.waiting + new
        if found := [(place + len(s), place) for s in self.stop if (place := text.find(s)) >= 0]:
            self.ended, self.waiting = True, ""
            return text[:min(found)[1]]  # before the string that is complete first, wherever tokens end
        held = max((k for s in self.stop for k in range(1, len(s)) if text.endswith(s[:k])), default=0)
        self.waiting = text[len(text) - held:]
        return text[:len(text) - held]


def check_stop(stop: Any) -> None:
    """Raise TypeError or ValueError unless `stop` is a sequence of texts, none of them empty."""
    if isinstance(stop, str) or not all(isinstance(s, str) for s in stop):
        raise TypeError(f"stop is {stop!r}, and needs to be a sequence of texts")
    if "" in stop:
        raise ValueError("stop has an empty text in it, at which all texts would end: leave it out")


# ---------------------------------------------------------------------- the command


def sample(config: SampleConfig) -> None:
    """Print texts of the model at `config.path` as they are generated: the command `gpt sample`."""
    run = load_checkpoint(config.path, partial(print, file=sys.stderr), packed=True)
    prompt, lines = read_prompt(config.prompt), writes_lines(run)
    stop, between = config.stop or ("\n",) * lines, "" if lines else "-" * 40 + "\n"
    for first in range(0, config.num_samples, BATCH):
        numbers = range(first, min(first + BATCH, config.num_samples))
        pieces = continue_texts(run, [prompt] * len(numbers), config.max_new_tokens,
                                [[config.seed, i] for i in numbers], stop=stop, **config.sampling())
        titles = ((between if i else "") + prompt for i in numbers)
        for piece in print_order(pieces, titles):
            print(piece, end="")
            sys.stdout.flush()


def writes_lines(run: Checkpoint) -> bool:
    """Return whether a model was trained on lines, each an example of its own."""
    match run.metadata:
        case {"train": {"lines": True}}:
            return True
        case {"train": {"task": str(task)}}:
            return task != "text"
    return False


def print_order(pieces: Iterator[tuple[int, str | None]], titles: Iterator[str]) -> Iterator[str]:
    """Yield texts one after the other, each between its title and a newline: the first one as it is generated, and of
    each later one, when its turn comes, what there is of it by then."""
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
    """Return `prompt`, or for `-` standard input, without its last newline.  Raises ValueError if that is not UTF-8."""
    if prompt != "-":
        return prompt
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"standard input is not UTF-8 text (byte 0x{error.object[error.start]:02x} at "
                         f"{error.start:,}): give a prompt that is") from None
    return text.removesuffix("\n")
