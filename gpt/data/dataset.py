"""Datasets: the training and validation parts of a text, and batches drawn from them."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable
from zlib import crc32

import numpy as np

from ..model.module import Array
from .corpus import IN_MEMORY, default_text, open_corpus
from .shuffle import mix_bits, shuffled_examples, shuffled_starts, windows_per_epoch
from .token_file import load_or_tokenize, token_dtype, tokenize
from .tokenizers import VOCAB_SIZE, Tokenizer

__all__ = ["Data", "TextData", "LineData", "load_data", "read_text", "default_text", "split", "random_windows",
           "all_windows"]

IGNORED = -100  # cross_entropy's ignore_index: targets that do not count
_BLOCK = 1 << 22  # tokens read at a time

Batch = tuple[Array, Array]  # ids (B, T), and targets (B, T), the next token of each, int64


class Data(Protocol):
    """The interface of a dataset.  Targets of -100 are ignored by the loss."""
    description: str  # one line: the source, and the sizes of the training and validation parts
    characters_per_token: float  # of the validation part

    def train_batch(self, rng: np.random.Generator, batch_size: int) -> Batch:
        """Draw training examples."""

    def val_batch(self, rng: np.random.Generator, batch_size: int) -> Batch:
        """Draw validation examples."""

    def val_windows(self, batch_size: int) -> Iterator[Batch]:
        """Yield the whole validation part once."""


@runtime_checkable
class EpochData(Data, Protocol):
    """The interface of a dataset that has a fixed number of training examples, and so shuffled epochs."""

    @property
    def n_examples(self) -> int:
        """Number of training examples in an epoch."""

    def shuffled_batch(self, seed: int, first: int, batch_size: int) -> Batch:
        """Return the training examples from number `first` on, counted through epochs, each in its own random order."""


def load_data(paths: Sequence[str], tokenizer: str | Tokenizer, block_size: int, *, lines: bool = False,
              val_fraction: float = 0.1, cache_dir: str | os.PathLike | None = None,
              vocab_size: int = VOCAB_SIZE) -> "tuple[TextData | LineData, Tokenizer]":
    """Load text as a dataset; return it and its tokenizer, which is made for it if a kind ("char", "bpe" …) is given.

    paths: text files, folders, `-` for standard input; none: the default text.
    lines: each line is an example; otherwise each window of the text is.
    val_fraction: the last part of the text, or the share of its distinct lines, that is for validation.
    cache_dir: folder for the tokens of a text above 16 MB, which are read from there instead of held in memory, and
    reused until the text changes; by default the user's cache folder.
    vocab_size: tokens that a "bpe" learns at most, from the training part.

    Raises OSError or ValueError that says what to do for text that is missing, no text or too short.
    """
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction is {val_fraction}, and needs to be above 0 and below 1")
    if lines and not isinstance(tokenizer, str):
        check_line_ends(tokenizer)
    corpus = open_corpus(paths)
    line_padding = "\n" * lines  # so that every line has a line end on both sides
    n_train_bytes = int(corpus.size * (1 - val_fraction))
    if corpus.size <= IN_MEMORY:
        text = line_padding + "".join(corpus.pieces()) + line_padding
        if text == 2 * line_padding:  # a byte order mark alone
            raise ValueError(f"{corpus.description} is empty: give a file with text in it")
        made, pieces = tokenize(tokenizer, lambda _: [text], None, vocab_size, n_train_bytes)
        dtype, release = token_dtype(made.vocab_size), _no_release
        tokens = np.concatenate([piece.astype(dtype) for piece in pieces])
    else:
        made, file = load_or_tokenize(corpus, tokenizer, line_padding, cache_dir, vocab_size, n_train_bytes)
        tokens, release = file.tokens, file.release
    dataset_class = LineData if lines else TextData
    return dataset_class.from_tokens(tokens, made, block_size, val_fraction, corpus.description, release), made


def check_line_ends(tokenizer: Tokenizer) -> None:
    """Raise ValueError for a tokenizer in which a line end is not always the same token."""
    ends = [i for i in range(tokenizer.vocab_size) if "\n" in tokenizer.decode([i])]
    if len(ends) != 1 or tokenizer.encode("\n").tolist() != ends:
        raise ValueError("--lines needs a tokenizer in which a line end is always the same token, and this one has "
                         f"{len(ends)} with a line end in them: leave out --lines, or learn one by --tokenizer bpe")


def read_text(paths: Sequence[str] = ()) -> tuple[str, str]:
    """Return the text that `load_data` would read from these paths, and a line that describes it."""
    corpus = open_corpus(paths)
    return "".join(corpus.pieces()), corpus.description


def _no_release() -> None:
    """Do nothing: the tokens are in memory."""


@dataclass
class TextData:
    """Windows of a text, drawn at random from its training and its validation part, or one after the other.  No window
    reaches from one part into the other."""
    train: Array  # tokens (n,)
    val: Array
    block_size: int
    description: str = "tokens"
    characters_per_token: float = 1.0
    release: Callable[[], None] = _no_release  # called after a batch, to release the pages of a file that it used
    left_out: Array | None = None  # (n,): True for training tokens that are no targets (a counterfactual run)

    @classmethod
    def from_tokens(cls, tokens: Array, tokenizer: Tokenizer, block_size: int, val_fraction: float,
                    source: str = "the text", release: Callable[[], None] = _no_release) -> "TextData":
        """Split a text's tokens (n,).  Raises ValueError if a part is too short for a window."""
        unit = getattr(tokenizer, "unit", "tokens")
        train, val = split(tokens, block_size, source, val_fraction, unit)
        description = (f"{source}: {len(tokens):,} {unit}, {tokenizer.vocab_size:,} different ones; {len(train):,} to "
                       f"train on, the last {len(val):,} to validate on")
        ratio = _count_characters(val, tokenizer, release) / len(val)
        return cls(train, val, block_size, description, ratio, release)

    def train_batch(self, rng: np.random.Generator, batch_size: int) -> Batch:
        return self.examples_at(self.random_starts(rng, batch_size))

    def shuffled_batch(self, seed: int, first: int, batch_size: int) -> Batch:
        return self.examples_at(self.shuffled_starts(seed, first, batch_size))

    def random_starts(self, rng: np.random.Generator, batch_size: int) -> Array:
        """Draw the tokens at which windows of the training part begin."""
        return rng.integers(len(self.train) - self.block_size, size=batch_size)

    def shuffled_starts(self, seed: int, first: int, batch_size: int) -> Array:
        """Return where windows begin that do not overlap within an epoch, which begins at an offset of its own."""
        return shuffled_starts(len(self.train), self.block_size, seed, first, batch_size)

    def examples_at(self, starts: Array) -> Batch:
        """Return the windows of the training part that begin at these tokens (B,)."""
        ids, targets = self._to_int64(windows_at(self.train, starts, self.block_size))
        return ids, leave_out(targets, starts, self.left_out)

    @property
    def n_examples(self) -> int:
        """The number of windows in an epoch of `shuffled_batch`."""
        return windows_per_epoch(len(self.train), self.block_size)

    def val_batch(self, rng: np.random.Generator, batch_size: int) -> Batch:
        return self._to_int64(random_windows(self.val, rng, batch_size, self.block_size))

    def val_windows(self, batch_size: int) -> Iterator[Batch]:
        return map(self._to_int64, all_windows(self.val, batch_size, self.block_size))

    def checksum(self, start: int = 0) -> int:
        """Compute the CRC-32 of all tokens, continued from `start`."""
        return _checksum(self.val, _checksum(self.train, start, self.release), self.release)

    def _to_int64(self, pair: Batch) -> Batch:
        ids, targets = (a.astype(np.int64) for a in pair)
        self.release()
        return ids, targets


@dataclass
class LineData:
    """Lines, each an example, up to and with its line end.

    The ids of "emma" are those of "\\nemma" and its targets those of "emma\\n"; padding is line ends in the ids and
    -100 in the targets.  Such a model generates a line when it continues a line end.  Equal lines are in the same part;
    the distinct lines for validation are chosen at random, with a fixed seed.
    """
    tokens: Array  # (n,), the first and the last a line end
    train: Array  # indices of the line ends before each line
    val: Array
    block_size: int
    description: str = "lines"
    characters_per_token: float = 1.0
    release: Callable[[], None] = _no_release
    left_out: Array | None = None  # (n,): True for tokens that are no targets in training (a counterfactual run)

    @classmethod
    def from_tokens(cls, tokens: Array, tokenizer: Tokenizer, block_size: int, val_fraction: float,
                    source: str = "the text", release: Callable[[], None] = _no_release) -> "LineData":
        """Split the lines of a text's tokens (n,), which begin and end with a line end.

        Raises ValueError if a line is longer than block_size - 1 tokens, or there is one line only.
        """
        starts, lengths, n_empty = _find_lines(tokens, int(tokenizer.encode("\n")[0]), release)
        if not len(starts):
            raise ValueError(f"{source} has no lines that are not empty: give text with lines in it")
        if (most := int(lengths.max())) >= block_size:
            raise _too_long_error(tokens, starts, lengths, tokenizer, block_size, source)
        keys = _hash_lines(tokens, starts, tokenizer.vocab_size, release)
        distinct = np.unique(keys)
        if len(distinct) < 2:
            raise ValueError(f"{source} has only one line, or the same one again and again: give text with different "
                             "lines, some to train and some to validate on")
        n_val = min(max(1, round(val_fraction * len(distinct))), len(distinct) - 1)
        is_val = keys < distinct[n_val]  # hashes are as good as random numbers: the smallest are a random choice
        train, val = starts[~is_val], starts[is_val]
        description = (f"{source}: {len(starts):,} lines, {len(distinct):,} different ones, of at most {most:,} of "
                       f"{tokenizer.vocab_size:,} different tokens; {len(train):,} to train on, {len(val):,} others to "
                       f"validate on{f'; {n_empty:,} empty ones left out' * bool(n_empty)}")
        data = cls(tokens, train, val, block_size, description, 1.0, release)
        data.characters_per_token = data._count_characters_per_token(tokenizer)
        return data

    def _count_characters_per_token(self, tokenizer: Tokenizer) -> float:
        if (tokenizer.lengths == 1).all():
            return 1.0
        n_characters = n_tokens = 0
        for _, targets in self.val_windows(1024):
            counted = targets[targets != IGNORED]
            n_characters += _count_characters(counted, tokenizer)
            n_tokens += len(counted)
        return n_characters / n_tokens

    def train_batch(self, rng: np.random.Generator, batch_size: int) -> Batch:
        return self.examples_at(self.random_starts(rng, batch_size))

    def shuffled_batch(self, seed: int, first: int, batch_size: int) -> Batch:
        return self.examples_at(self.shuffled_starts(seed, first, batch_size))

    def random_starts(self, rng: np.random.Generator, batch_size: int) -> Array:
        """Draw training lines, each as the index of the line end before it."""
        return self.train[rng.integers(len(self.train), size=batch_size)]

    def shuffled_starts(self, seed: int, first: int, batch_size: int) -> Array:
        """Return the training lines from number `first` on, counted through epochs, as `random_starts` does."""
        return self.train[shuffled_examples(first, batch_size, self.n_examples, seed)[1]]

    def examples_at(self, starts: Array) -> Batch:
        """Return training lines, given by the index of the line end before each (B,)."""
        ids, targets = self._examples(starts)
        return ids, leave_out(targets, starts, self.left_out)

    @property
    def n_examples(self) -> int:
        return len(self.train)

    def val_batch(self, rng: np.random.Generator, batch_size: int) -> Batch:
        return self._examples(self.val[rng.integers(len(self.val), size=batch_size)])

    def val_windows(self, batch_size: int) -> Iterator[Batch]:
        for start in range(0, len(self.val), batch_size):
            yield self._examples(self.val[start:start + batch_size])

    def checksum(self, start: int = 0) -> int:
        """Compute the CRC-32 of all tokens, continued from `start`."""
        return _checksum(self.tokens, start, self.release)

    def _examples(self, starts: Array) -> Batch:
        """Return lines, given by the index of the line end before each."""
        indices = np.minimum(starts[:, None] + np.arange(self.block_size + 1), len(self.tokens) - 1)
        lines, end = self.tokens[indices].astype(np.int64), int(self.tokens[0])
        self.release()
        ids, targets = lines[:, :-1], lines[:, 1:]
        ends = targets == end
        padding = np.cumsum(ends, axis=1) > ends  # after the first line end
        return np.where(padding, end, ids), np.where(padding, IGNORED, targets)


def leave_out(targets: Array, starts: Array, left_out: Array | None) -> Array:
    """Return targets (B, T) of the examples that begin at tokens `starts`, those that are left out as IGNORED."""
    if left_out is None:
        return targets
    positions = starts[:, None].astype(np.intp) + np.arange(1, targets.shape[1] + 1)
    return np.where(left_out[np.minimum(positions, len(left_out) - 1)], IGNORED, targets)


def _blocks(tokens: Array, release: Callable[[], None]) -> Iterator[tuple[int, Array]]:
    """Yield all tokens in blocks, each with its offset, and release its pages after its use."""
    for start in range(0, len(tokens), _BLOCK):
        yield start, tokens[start:start + _BLOCK]
        release()


def _checksum(tokens: Array, start: int, release: Callable[[], None]) -> int:
    for _, block in _blocks(tokens, release):
        start = crc32(block, start)
    return start


def _count_characters(tokens: Array, tokenizer: Tokenizer, release: Callable[[], None] = _no_release) -> int:
    """Count the characters that these tokens stand for."""
    lengths = tokenizer.lengths
    if (lengths == 1).all():
        return len(tokens)
    return sum(int(np.bincount(block.astype(np.intp, copy=False), minlength=len(lengths)) @ lengths)
               for _, block in _blocks(tokens, release))


def _find_lines(tokens: Array, end: int, release: Callable[[], None]) -> tuple[Array, Array, int]:
    """Return the indices of the line ends before each line that is not empty, the lengths of these lines, and the
    number of empty ones (but for one at the end, after the text's own last line end)."""
    index = np.uint32 if len(tokens) < 1 << 32 else np.int64
    ends = np.concatenate([(np.flatnonzero(block == end) + start).astype(index)
                           for start, block in _blocks(tokens, release)])
    lengths = np.diff(ends) - 1
    full = lengths > 0
    return ends[:-1][full], lengths[full], int((~full[:-1]).sum())


def _hash_lines(tokens: Array, starts: Array, vocab_size: int, release: Callable[[], None]) -> Array:
    """Return a hash of each line, uint64: Σ aᵢ·b(tokenᵢ) mod 2⁶⁴ with random a and b, its bits mixed.  (Two different
    lines with the same hash would be in the same part.)"""
    rng, keys = np.random.default_rng(0), np.empty(len(starts), np.uint64)
    token_factor, index_factor = (rng.integers(1 << 64, size=n, dtype=np.uint64) | np.uint64(1)
                                  for n in (vocab_size, 1 << 12))
    token_factor[tokens[0]] = 0  # line ends add nothing
    cuts = np.searchsorted(starts, np.arange(0, len(tokens) + _BLOCK, _BLOCK))
    for first, last in zip(cuts, cuts[1:]):
        if first == last:
            continue
        stop = starts[last] if last < len(starts) else len(tokens)
        begins = starts[first:last].astype(np.intp)
        block = tokens[begins[0]:stop]
        index = np.arange(len(block)) - np.repeat(begins - begins[0], np.diff(begins, append=stop))  # within its line
        terms = token_factor[block] * index_factor[index % len(index_factor)]
        keys[first:last] = mix_bits(np.add.reduceat(terms, begins - begins[0]))
        release()
    return keys


def _too_long_error(tokens: Array, starts: Array, lengths: Array, tokenizer: Tokenizer, block_size: int,
                    source: str) -> ValueError:
    worst, end = int(lengths.argmax()), tokens[0]
    start, most = int(starts[worst]), int(lengths[worst])
    number = 1 + sum(int((block == end).sum()) for _, block in _blocks(tokens[:start], _no_release))
    begins = tokenizer.decode(tokens[start + 1:start + 1 + min(most, 30)])
    return ValueError(f"{source} has {int((lengths >= block_size).sum()):,} lines that are too long: with a block_size "
                      f"of {block_size} a line may have {block_size - 1} tokens, and the longest, line {number:,}, "
                      f"{begins!r}…, has {most:,}: raise --block-size to {most + 1}, or shorten the lines")


def split(tokens: Array, block_size: int, name: str = "the text", val_fraction: float = 0.1,
          unit: str = "characters") -> tuple[Array, Array]:
    """Split tokens into the training part and, at the end, the validation part, `val_fraction` of all.

    Raises ValueError if one is shorter than a window of block_size tokens and its next token.
    """
    n, cut = len(tokens), int(len(tokens) * (1 - val_fraction))
    if (least := min(cut, n - cut)) <= block_size:
        needed = int((block_size + 1) / min(val_fraction, 1 - val_fraction)) + 1
        raise ValueError(f"{name} is too short with {n:,} {unit}: the last {val_fraction:g} of it is for validation, "
                         f"and a block_size of {block_size} needs about {needed:,} in all: add text"
                         + (f", or lower --block-size to {least - 1}" if least > 1 else ""))
    return tokens[:cut], tokens[cut:]


def random_windows(tokens: Array, rng: np.random.Generator, batch_size: int, block_size: int) -> Batch:
    """Draw windows (B, T), and the next token of each of their tokens (B, T)."""
    return windows_at(tokens, rng.integers(len(tokens) - block_size, size=batch_size), block_size)


def windows_at(tokens: Array, starts: Array, block_size: int) -> Batch:
    """Return the windows (B, T) that begin at `starts` (B,), and the next token of each of their tokens (B, T)."""
    windows = tokens[starts[:, None] + np.arange(block_size + 1)]
    return windows[:, :-1], windows[:, 1:]


def all_windows(tokens: Array, batch_size: int, block_size: int) -> Iterator[Batch]:
    """Yield all of `tokens` in batches of windows that do not overlap, as `random_windows` returns them: each token but
    the first is a target once, the last ones in a shorter window."""
    n = (len(tokens) - 1) // block_size
    inputs, targets = (a[:n * block_size].reshape(n, block_size) for a in (tokens[:-1], tokens[1:]))
    for start in range(0, n, batch_size):
        yield inputs[start:start + batch_size], targets[start:start + batch_size]
    if rest := (len(tokens) - 1) % block_size:
        yield tokens[None, -rest - 1:-1], tokens[None, -rest:]
