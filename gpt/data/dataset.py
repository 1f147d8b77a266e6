"""What a model trains and is validated on: parts of a text that share nothing, and batches drawn from them."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol
from zlib import crc32

import numpy as np

from ..model.module import Array
from .corpus import IN_MEMORY, default_text, find
from .shuffle import mixed, passes, shuffled_starts, windows_a_pass
from .token_file import kept, token_dtype, tokenized
from .tokenizers import VOCAB_SIZE, Tokenizer

__all__ = ["Data", "TextData", "LineData", "load_data", "read_text", "default_text", "split", "batch", "windows"]

IGNORED = -100  # cross_entropy's ignore_index: targets that do not count
_BLOCK = 1 << 22  # tokens looked through at a time

Batch = tuple[Array, Array]  # ids (B, T) and targets (B, T), the token after each of them, int64


class Data(Protocol):
    """What can be trained on.  Targets may be -100, at places that do not count."""
    description: str  # one line: what it is, and how much of it there is to train and to validate on
    characters_per_token: float  # of the validation part

    def train_batch(self, rng: np.random.Generator, batch_size: int) -> Batch:
        """Random examples to train on."""

    def shuffled_batch(self, seed: int, first: int, batch_size: int) -> Batch:
        """The examples to train on from number `first` on, of passes over all, each in a random order of its own."""

    def val_batch(self, rng: np.random.Generator, batch_size: int) -> Batch:
        """Random examples of the validation part."""

    def val_windows(self, batch_size: int) -> Iterator[Batch]:
        """The whole validation part, once."""

    def checksum(self, start: int = 0) -> int:
        """CRC-32 of all that is trained and validated on, after other bytes whose CRC-32 is `start`."""


def load_data(paths: Sequence[str], kind: str | Tokenizer, block_size: int, *, lines: bool = False,
              val_fraction: float = 0.1, cache_dir: str | os.PathLike | None = None,
              vocab_size: int = VOCAB_SIZE) -> tuple[Data, Tokenizer]:
    """Data from text, and its tokenizer, of the kind "char", "byte", "word" or "bpe", or the given one.

    `paths`: text files, folders, `-` for standard input; none: the default text.  With `lines` each line is an
    example, and otherwise each window of the text.  The last `val_fraction` of the text is for validation, or that
    share of its different lines.  A text above 16 MB becomes a file of tokens in `cache_dir` (the user's cache folder),
    which is not held in memory and used again until the text changes.  A "bpe" learns at most `vocab_size` tokens, from
    what comes before the last `val_fraction` of the text.

    Raises OSError or ValueError that says what to do for text that is missing, no text or too short.
    """
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction is {val_fraction}, and needs to be above 0 and below 1")
    if lines and not isinstance(kind, str):
        check_line_ends(kind)
    corpus = find(paths)
    border = "\n" * lines  # so that every line has a line end on both sides
    learn_from = int(corpus.size * (1 - val_fraction))
    if corpus.size <= IN_MEMORY:
        text = border + "".join(corpus.pieces()) + border
        if text == 2 * border:  # a byte order mark alone
            raise ValueError(f"{corpus.description} is empty: give a file with text in it")
        tokenizer, pieces = tokenized(kind, lambda _: [text], None, vocab_size, learn_from)
        dtype, release = token_dtype(tokenizer.vocab_size), _nothing
        tokens = np.concatenate([piece.astype(dtype) for piece in pieces])
    else:
        tokenizer, file = kept(corpus, kind, border, cache_dir, vocab_size, learn_from)
        tokens, release = file.tokens, file.release
    of = LineData if lines else TextData
    return of.of(tokens, tokenizer, block_size, val_fraction, corpus.description, release), tokenizer


def check_line_ends(tokenizer: Tokenizer) -> None:
    """Raise ValueError for a tokenizer in which a line end is not always one and the same token."""
    ends = [i for i in range(tokenizer.vocab_size) if "\n" in tokenizer.decode([i])]
    if len(ends) != 1 or tokenizer.encode("\n").tolist() != ends:
        raise ValueError("--lines needs a tokenizer in which a line end is always the same token, and this one has "
                         f"{len(ends)} with a line end in them: leave out --lines, or learn one by --tokenizer bpe")


def read_text(paths: Sequence[str] = ()) -> tuple[str, str]:
    """The text that `load_data` would take from these paths, and a line that says what it is."""
    corpus = find(paths)
    return "".join(corpus.pieces()), corpus.description


def _nothing() -> None:
    pass


@dataclass
class TextData:
    """Windows of a text: those of the training part are drawn at random, those of the validation part, too, or in
    turn.  No window reaches from one part into the other."""
    train: Array  # tokens (n,)
    val: Array
    block_size: int
    description: str = "tokens"
    characters_per_token: float = 1.0
    release: Callable[[], None] = _nothing  # called after a batch, to let go of the pages of a file that it used

    @classmethod
    def of(cls, tokens: Array, tokenizer: Tokenizer, block_size: int, val_fraction: float, source: str = "the text",
           release: Callable[[], None] = _nothing) -> "TextData":
        """The parts of a text's tokens (n,).  Raises ValueError if there are too few for a window in each."""
        unit = getattr(tokenizer, "unit", "tokens")
        train, val = split(tokens, block_size, source, val_fraction, unit)
        description = (f"{source}: {len(tokens):,} {unit}, {tokenizer.vocab_size:,} different ones; {len(train):,} to "
                       f"train on, the last {len(val):,} to validate on")
        ratio = _characters(val, tokenizer, release) / len(val)
        return cls(train, val, block_size, description, ratio, release)

    def train_batch(self, rng: np.random.Generator, batch_size: int) -> Batch:
        return self._own(batch(self.train, rng, batch_size, self.block_size))

    def shuffled_batch(self, seed: int, first: int, batch_size: int) -> Batch:
        """Windows that do not overlap in a pass, which begins at a place of its own."""
        starts = shuffled_starts(len(self.train), self.block_size, seed, first, batch_size)
        return self._own(windows_at(self.train, starts, self.block_size))

    @property
    def n_examples(self) -> int:
        """How many windows there are in a pass of `shuffled_batch`."""
        return windows_a_pass(len(self.train), self.block_size)

    def val_batch(self, rng: np.random.Generator, batch_size: int) -> Batch:
        return self._own(batch(self.val, rng, batch_size, self.block_size))

    def val_windows(self, batch_size: int) -> Iterator[Batch]:
        return map(self._own, windows(self.val, batch_size, self.block_size))

    def checksum(self, start: int = 0) -> int:
        return _checksum(self.val, _checksum(self.train, start, self.release), self.release)

    def _own(self, pair: Batch) -> Batch:
        ids, targets = (a.astype(np.int64) for a in pair)
        self.release()
        return ids, targets


@dataclass
class LineData:
    """Lines, each an example: what follows a line end, up to and with the next one.

    The ids of "emma" are those of "\\nemma" and its targets those of "emma\\n"; after them ids are line ends and
    targets -100.  A model of them writes a line when it goes on from a line end.  Lines that are equal are in
    the same part; which of the different lines are for validation is drawn at random, always the same way.
    """
    tokens: Array  # (n,), the first and the last a line end
    train: Array  # the places of the line ends before each line
    val: Array
    block_size: int
    description: str = "lines"
    characters_per_token: float = 1.0
    release: Callable[[], None] = _nothing

    @classmethod
    def of(cls, tokens: Array, tokenizer: Tokenizer, block_size: int, val_fraction: float, source: str = "the text",
           release: Callable[[], None] = _nothing) -> "LineData":
        """The lines of a text's tokens (n,), which begin and end with a line end.

        Raises ValueError if a line is longer than block_size - 1 tokens, or there is one line only.
        """
        starts, lengths, n_empty = _lines(tokens, int(tokenizer.encode("\n")[0]), release)
        if not len(starts):
            raise ValueError(f"{source} has no lines that are not empty: give text with lines in it")
        if (most := int(lengths.max())) >= block_size:
            raise _too_long(tokens, starts, lengths, tokenizer, block_size, source)
        keys = _keys(tokens, starts, tokenizer.vocab_size, release)
        different = np.unique(keys)
        if len(different) < 2:
            raise ValueError(f"{source} has only one line, or the same one again and again: give text with different "
                             "lines, some to train and some to validate on")
        n_val = min(max(1, round(val_fraction * len(different))), len(different) - 1)
        is_val = keys < different[n_val]  # keys are as good as random numbers: the smallest are a random choice
        train, val = starts[~is_val], starts[is_val]
        description = (f"{source}: {len(starts):,} lines, {len(different):,} different ones, of at most {most:,} of "
                       f"{tokenizer.vocab_size:,} different tokens; {len(train):,} to train on, {len(val):,} others to "
                       f"validate on{f'; {n_empty:,} empty ones left out' * bool(n_empty)}")
        data = cls(tokens, train, val, block_size, description, 1.0, release)
        data.characters_per_token = data._characters_per_token(tokenizer)
        return data

    def _characters_per_token(self, tokenizer: Tokenizer) -> float:
        if (tokenizer.lengths == 1).all():
            return 1.0
        n_characters = n_tokens = 0
        for _, targets in self.val_windows(1024):
            counted = targets[targets != IGNORED]
            n_characters += _characters(counted, tokenizer)
            n_tokens += len(counted)
        return n_characters / n_tokens

    def train_batch(self, rng: np.random.Generator, batch_size: int) -> Batch:
        return self._examples(self.train[rng.integers(len(self.train), size=batch_size)])

    def shuffled_batch(self, seed: int, first: int, batch_size: int) -> Batch:
        _, places = passes(first, batch_size, self.n_examples, seed)
        return self._examples(self.train[places])

    @property
    def n_examples(self) -> int:
        return len(self.train)

    def val_batch(self, rng: np.random.Generator, batch_size: int) -> Batch:
        return self._examples(self.val[rng.integers(len(self.val), size=batch_size)])

    def val_windows(self, batch_size: int) -> Iterator[Batch]:
        for start in range(0, len(self.val), batch_size):
            yield self._examples(self.val[start:start + batch_size])

    def checksum(self, start: int = 0) -> int:
        return _checksum(self.tokens, start, self.release)

    def _examples(self, starts: Array) -> Batch:
        """Lines by the places of the line ends before them."""
        places = np.minimum(starts[:, None] + np.arange(self.block_size + 1), len(self.tokens) - 1)
        lines, end = self.tokens[places].astype(np.int64), int(self.tokens[0])
        self.release()
        ids, targets = lines[:, :-1], lines[:, 1:]
        ends = targets == end
        over = np.cumsum(ends, axis=1) > ends  # a line end came before
        return np.where(over, end, ids), np.where(over, IGNORED, targets)


def _blocks(tokens: Array, release: Callable[[], None]) -> Iterator[tuple[int, Array]]:
    """All tokens, part by part, each with its place, and gone from memory after its use."""
    for start in range(0, len(tokens), _BLOCK):
        yield start, tokens[start:start + _BLOCK]
        release()


def _checksum(tokens: Array, start: int, release: Callable[[], None]) -> int:
    for _, block in _blocks(tokens, release):
        start = crc32(block, start)
    return start


def _characters(tokens: Array, tokenizer: Tokenizer, release: Callable[[], None] = _nothing) -> int:
    """How many characters these tokens stand for."""
    lengths = tokenizer.lengths
    if (lengths == 1).all():
        return len(tokens)
    return sum(int(np.bincount(block, minlength=len(lengths)) @ lengths) for _, block in _blocks(tokens, release))


def _lines(tokens: Array, end: int, release: Callable[[], None]) -> tuple[Array, Array, int]:
    """The places of the line ends before each line that is not empty, the lengths of these lines, and how many are
    empty (but for one at the end, which the text's own last line end makes)."""
    index = np.uint32 if len(tokens) < 1 << 32 else np.int64
    ends = np.concatenate([(np.flatnonzero(block == end) + start).astype(index)
                           for start, block in _blocks(tokens, release)])
    lengths = np.diff(ends) - 1
    full = lengths > 0
    return ends[:-1][full], lengths[full], int((~full[:-1]).sum())


def _keys(tokens: Array, starts: Array, vocab_size: int, release: Callable[[], None]) -> Array:
    """A number for each line, uint64, the same for lines that are equal: Σ aᵢ·b(tokenᵢ) mod 2⁶⁴ with random a and b,
    mixed.  (Should two different lines ever share one, they share a part.)"""
    rng, keys = np.random.default_rng(0), np.empty(len(starts), np.uint64)
    of_token, of_place = (rng.integers(1 << 64, size=n, dtype=np.uint64) | np.uint64(1) for n in (vocab_size, 1 << 12))
    of_token[tokens[0]] = 0  # line ends add nothing
    cuts = np.searchsorted(starts, np.arange(0, len(tokens) + _BLOCK, _BLOCK))
    for first, last in zip(cuts, cuts[1:]):
        if first == last:
            continue
        stop = starts[last] if last < len(starts) else len(tokens)
        own = starts[first:last].astype(np.int64)
        block = tokens[own[0]:stop]
        place = np.arange(len(block)) - np.repeat(own - own[0], np.diff(own, append=stop))
        keys[first:last] = mixed(np.add.reduceat(of_token[block] * of_place[place % len(of_place)], own - own[0]))
        release()
    return keys


def _too_long(tokens: Array, starts: Array, lengths: Array, tokenizer: Tokenizer, block_size: int,
              source: str) -> ValueError:
    worst, end = int(lengths.argmax()), tokens[0]
    place, most = int(starts[worst]), int(lengths[worst])
    number = 1 + sum(int((block == end).sum()) for _, block in _blocks(tokens[:place], _nothing))
    begins = tokenizer.decode(tokens[place + 1:place + 1 + min(most, 30)])
    return ValueError(f"{source} has {int((lengths >= block_size).sum()):,} lines that are too long: with a block_size "
                      f"of {block_size} a line may have {block_size - 1} tokens, and the longest, line {number:,}, "
                      f"{begins!r}…, has {most:,}: raise --block-size to {most + 1}, or shorten the lines")


def split(tokens: Array, block_size: int, name: str = "the text", val_fraction: float = 0.1,
          unit: str = "characters") -> tuple[Array, Array]:
    """The first part to train on and the last one, `val_fraction` of all, to validate on.

    Raises ValueError if one has no window of block_size tokens and a next one.
    """
    n, cut = len(tokens), int(len(tokens) * (1 - val_fraction))
    if (least := min(cut, n - cut)) <= block_size:
        needed = int((block_size + 1) / min(val_fraction, 1 - val_fraction)) + 1
        raise ValueError(f"{name} is too short with {n:,} {unit}: the last {val_fraction:g} of it is for validation, "
                         f"and a block_size of {block_size} needs about {needed:,} in all: add text"
                         + (f", or lower --block-size to {least - 1}" if least > 1 else ""))
    return tokens[:cut], tokens[cut:]


def batch(tokens: Array, rng: np.random.Generator, batch_size: int, block_size: int) -> Batch:
    """Random windows (B, T) and the token after each of theirs (B, T)."""
    return windows_at(tokens, rng.integers(len(tokens) - block_size, size=batch_size), block_size)


def windows_at(tokens: Array, starts: Array, block_size: int) -> Batch:
    """The windows (B, T) that begin at `starts` (B,), and the token after each of theirs (B, T)."""
    windows = tokens[starts[:, None] + np.arange(block_size + 1)]
    return windows[:, :-1], windows[:, 1:]


def windows(tokens: Array, batch_size: int, block_size: int) -> Iterator[Batch]:
    """All of `tokens` in windows that do not overlap, batch by batch as `batch` gives them: each token but the
    first is a target once, those at the end in a shorter window."""
    n = (len(tokens) - 1) // block_size
    inputs, targets = (a[:n * block_size].reshape(n, block_size) for a in (tokens[:-1], tokens[1:]))
    for start in range(0, n, batch_size):
        yield inputs[start:start + batch_size], targets[start:start + batch_size]
    if rest := (len(tokens) - 1) % block_size:
        yield tokens[None, -rest - 1:-1], tokens[None, -rest:]
