"""A token a word or a character, and the reading of a large text in one pass."""

import os
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, count
from typing import IO, Any, Self

import numpy as np

from ...model.module import Array
from .base import BaseTokenizer, as_pieces, check_tokens, code_points, no_text, register, unknown_characters

MOST_PARTS = 1 << 20  # different parts of text that are numbered at a time: a few hundred megabytes
_BLOCK = 1 << 17  # numbers that become tokens at a time: their arrays fit in the cache
_IN_MEMORY = 1 << 24  # bytes of numbers that are not worth a file

Segment = tuple[int, int, int]  # offsets in a file: of numbers, of the parts that they stand for, and of the end


@register("word")
class WordTokenizer(BaseTokenizer):
    """A token for each character of the training text and for each of its frequent words.

    A word is a run of letters, digits and underscores; all else (spaces, punctuation) is a token a character.  A
    word that has no token is spelled in characters, so any text of known characters comes back exactly.
    """

    help = "a word or punctuation mark"

    WORD = re.compile(r"\w+|\W")

    MOST_COUNTED = 2_000_000  # different words; where there are more, those that were seen once are forgotten

    def __init__(self, tokens: list[str]):
        self.tokens = tokens
        self._token = {token: i for i, token in enumerate(tokens)}
        if not tokens or len(self._token) < len(tokens) or not all(tokens):
            raise ValueError("a word tokenizer needs different tokens, none of them empty")

    @classmethod
    def learn(cls, text: str | Iterable[str], max_words: int = 20_000, min_count: int = 2) -> Self:
        """Return the tokenizer with all characters of `text` (a string, or pieces of one that cut no word) and the
        `max_words` most frequent words of two characters or more that occur at least `min_count` times."""
        counts, characters = Counter[str](), set[str]()
        for piece in as_pieces(text):
            counts.update(cls.WORD.findall(piece))
            characters |= cls.forget_rare(counts)
        return cls.from_counts(counts, characters, max_words, min_count)

    @classmethod
    def from_counts(cls, counts: dict[str, int], characters: set[str], max_words: int = 20_000,
                    min_count: int = 2) -> Self:
        """Return the tokenizer that `learn` would, from counts of words, and the characters of forgotten ones."""
        characters = characters.union(*counts)
        if not characters:
            raise no_text()
        words = sorted((-n, word) for word, n in counts.items() if n >= min_count and len(word) > 1)
        return cls(sorted(characters) + [word for _, word in words[:max_words]])

    @classmethod
    def forget_rare(cls, counts: dict[str, int]) -> set[str]:
        """Delete words that were seen once, where there are too many words; return the characters of those deleted."""
        rare = [word for word, n in counts.items() if n == 1] if len(counts) > cls.MOST_COUNTED else []
        for word in rare:
            del counts[word]
        return set[str]().union(*rare)

    @classmethod
    def learn_and_encode(cls, pieces: Callable[[str], Iterable[str]],
                         folder: str | None = None) -> tuple[Self, Iterator[Array]]:
        """Return `learn(text)` and the text's tokens, in one pass over it.

        The pieces hold no zero character.  A part of text ends with a space or a line end.  There are far fewer
        distinct parts than parts, and looking one up takes a fifth of the time of finding its words, so words are found
        in each distinct part only.  The numbers of the parts wait in an unnamed file in `folder` until words are
        counted.
        """
        file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=folder)  # type: ignore[assignment]  # noqa: SIM115
        counts, characters, segments = defaultdict[str, int](int), set[str](), []
        for segment, parts in _write_segments(pieces("words"), file):
            segments.append(segment)
            n_each = np.zeros(len(parts), np.int64)
            for numbers in _read_numbers(file, segment):
                n_each += np.bincount(numbers.astype(np.intp, copy=False), minlength=len(parts))
            for part, n in zip(parts, n_each.tolist()):
                for word in cls.WORD.findall(part):
                    counts[word] += n
            characters |= cls.forget_rare(counts)
        tokenizer = cls.from_counts(counts, characters)
        return tokenizer, _read_tokens(tokenizer, file, segments)

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    @property
    def lengths(self) -> Array:
        return np.array([len(token) for token in self.tokens])

    def encode(self, text: str) -> Array:
        """Return the tokens of `text`, int64 (n,).  Raises ValueError that names characters it does not know."""
        return self.encode_words(self.WORD.findall(text))

    def encode_words(self, words: list[str]) -> Array:
        """Return the tokens of words that `WORD` finds, int64 (n,).  Raises as `encode` does."""
        tokens = list(map(self._token.get, words))
        if None in tokens:  # words without a token are spelled
            words = [part for word, token in zip(words, tokens) for part in ((word,) if token is not None else word)]
            tokens = list(map(self._token.get, words))
            if None in tokens:
                raise unknown_characters(code_points("".join(c for c in words if c not in self._token)))
        return np.array(tokens, np.int64)

    def decode(self, tokens: Any) -> str:
        """Return the text of integers (n,), or of one.  Raises ValueError for one outside the vocabulary."""
        return "".join(map(self.tokens.__getitem__, check_tokens(tokens, self.vocab_size).tolist()))

    def to_json(self) -> dict[str, Any]:
        return {"kind": "word", "tokens": self.tokens}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        match data:
            case {"kind": "word", "tokens": list(tokens)} if all(isinstance(token, str) for token in tokens):
                return cls(tokens)
        raise ValueError(f"no description of a word tokenizer: {data!r:.60}")

    def __repr__(self) -> str:
        return f"WordTokenizer({self.vocab_size} tokens, the last {self.tokens[-1]!r})"


# ---------------------------------------------------------------------- a text in one pass


def _write_segments(pieces: Iterable[str], file: IO[bytes]) -> Iterator[tuple[Segment, dict[str, int]]]:
    """Write the numbers of a text's parts and then the parts, in segments of at most MOST_PARTS different ones; yield
    where each segment lies, and its parts with their numbers."""
    pieces = iter(pieces)
    while True:
        number, start = defaultdict[str, int](count().__next__), file.seek(0, os.SEEK_END)
        for piece in pieces:
            parts = piece.replace(" ", " \0").replace("\n", "\n\0").split("\0")  # faster than to find what is no end
            file.write(np.fromiter(map(number.__getitem__, parts), np.uint32, len(parts)).tobytes())
            if len(number) >= MOST_PARTS:
                break
        if not number:
            return
        middle = file.tell()
        file.write("\0".join(number).encode("utf-8", "surrogatepass"))
        yield (start, middle, file.tell()), number


def _read_numbers(file: IO[bytes], segment: Segment) -> Iterator[Array]:
    start, middle, _ = segment
    for offset in range(start, middle, 4 * _BLOCK):
        file.seek(offset)
        yield np.frombuffer(file.read(min(4 * _BLOCK, middle - offset)), np.uint32)


def _read_tokens(tokenizer: WordTokenizer, file: IO[bytes], segments: list[Segment]) -> Iterator[Array]:
    """Yield the tokens of all parts whose numbers are in the file, segment after segment."""
    with file:
        for segment in segments:
            _, middle, end = segment
            file.seek(middle)
            parts = file.read(end - middle).decode("utf-8", "surrogatepass").split("\0")
            blocks = [_encode_parts(tokenizer, parts[i:i + _BLOCK]) for i in range(0, len(parts), _BLOCK)]
            tokens, lengths = (np.concatenate(arrays) for arrays in zip(*blocks))
            ends = lengths.cumsum()
            for numbers in _read_numbers(file, segment):
                yield _concatenate_slices(tokens, ends[numbers], lengths[numbers])


def _encode_parts(tokenizer: WordTokenizer, parts: list[str]) -> tuple[Array, Array]:
    """Return the tokens of these parts, one after the other, and the number of tokens in each."""
    tokens = tokenizer.encode_words(list(chain.from_iterable(map(tokenizer.WORD.findall, parts))))
    characters = tokenizer.lengths[tokens].cumsum()  # at the end of each token, and so of each part
    ends = np.searchsorted(characters, np.cumsum([len(part) for part in parts]), side="right")
    return tokens, np.diff(ends, prepend=0)


def _concatenate_slices(tokens: Array, ends: Array, lengths: Array) -> Array:
    """Concatenate tokens[end - length:end] for each end and length."""
    total = lengths.cumsum()
    return tokens[np.arange(total[-1]) + np.repeat(ends - total, lengths)]
