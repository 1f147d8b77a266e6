"""A large text in words, read once: parts of it are numbered, and the numbers become tokens once words are counted."""

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain, count
from typing import IO

import numpy as np

from ...model.module import Array
from .tokenizer import WordTokenizer

PARTS = 1 << 20  # different parts of text that are known at a time: a few hundred megabytes
_BLOCK = 1 << 17  # numbers that become tokens at a time: what is made of them stays in the cache
_IN_MEMORY = 1 << 24  # bytes of numbers that are not worth a file

Segment = tuple[int, int, int]  # places in the file: where numbers begin, where the parts they stand for, and their end


def tokenized(pieces: Iterable[str], folder: str | None = None) -> tuple[WordTokenizer, Iterator[Array]]:
    """`WordTokenizer.of(pieces)` and the tokens of all pieces, int64 (n,) at a time, in one pass over them.

    The pieces cut no word and hold no zero character.  A part of text ends with a space or a line end.  There are far
    fewer different ones than parts, and a look into a dict takes a fifth of the time of finding the words in one, so
    words are found in each different part only.  The numbers of the parts wait in a file without a name in `folder`.
    """
    file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=folder)  # type: ignore[assignment]  # noqa: SIM115
    counts, characters, segments = defaultdict[str, int](int), set[str](), []
    for segment, parts in _numbered(pieces, file):
        segments.append(segment)
        times = np.zeros(len(parts), np.int64)
        for numbers in _numbers(file, segment):
            times += np.bincount(numbers, minlength=len(parts))
        for part, n in zip(parts, times.tolist()):
            for word in WordTokenizer.WORD.findall(part):
                counts[word] += n
        characters |= WordTokenizer.make_room(counts)
    tokenizer = WordTokenizer.of_counts(counts, characters)
    return tokenizer, _tokens(tokenizer, file, segments)


def _numbered(pieces: Iterable[str], file: IO[bytes]) -> Iterator[tuple[Segment, dict[str, int]]]:
    """Write the numbers of a text's parts and then the parts, again and again, since only PARTS of them are known at
    a time; the places of these segments and their parts."""
    pieces = iter(pieces)
    while True:
        number, start = defaultdict[str, int](count().__next__), file.seek(0, os.SEEK_END)
        for piece in pieces:
            parts = piece.replace(" ", " \0").replace("\n", "\n\0").split("\0")  # faster than to find what is no end
            file.write(np.fromiter(map(number.__getitem__, parts), np.uint32, len(parts)).tobytes())
            if len(number) >= PARTS:
                break
        if not number:
            return
        middle = file.tell()
        file.write("\0".join(number).encode("utf-8", "surrogatepass"))
        yield (start, middle, file.tell()), number


def _numbers(file: IO[bytes], segment: Segment) -> Iterator[Array]:
    start, middle, _ = segment
    for place in range(start, middle, 4 * _BLOCK):
        file.seek(place)
        yield np.frombuffer(file.read(min(4 * _BLOCK, middle - place)), np.uint32)


def _tokens(tokenizer: WordTokenizer, file: IO[bytes], segments: list[Segment]) -> Iterator[Array]:
    """The tokens of all parts whose numbers are in the file, segment after segment."""
    with file:
        for segment in segments:
            _, middle, end = segment
            file.seek(middle)
            parts = file.read(end - middle).decode("utf-8", "surrogatepass").split("\0")
            blocks = [_encoded(tokenizer, parts[i:i + _BLOCK]) for i in range(0, len(parts), _BLOCK)]
            tokens, lengths = (np.concatenate(arrays) for arrays in zip(*blocks))
            ends = lengths.cumsum()
            for numbers in _numbers(file, segment):
                yield _joined(tokens, ends[numbers], lengths[numbers])


def _encoded(tokenizer: WordTokenizer, parts: list[str]) -> tuple[Array, Array]:
    """The tokens of these parts, one after the other, and how many there are of each."""
    tokens = tokenizer.encode_words(list(chain.from_iterable(map(tokenizer.WORD.findall, parts))))
    characters = tokenizer.lengths[tokens].cumsum()  # at the end of each token, and so of each part
    ends = np.searchsorted(characters, np.cumsum([len(part) for part in parts]), side="right")
    return tokens, np.diff(ends, prepend=0)


def _joined(tokens: Array, ends: Array, lengths: Array) -> Array:
    """tokens[end - length:end] of each end and length, one after the other."""
    total = lengths.cumsum()
    return tokens[np.arange(total[-1]) + np.repeat(ends - total, lengths)]
