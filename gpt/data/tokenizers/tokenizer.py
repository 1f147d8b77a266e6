"""Text to integers and back: a token a character, a byte or a word; pieces of words are in bpe.py."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Protocol, Self

import numpy as np

from ...model.module import Array

VOCAB_SIZE = 1024  # tokens that byte-pair encoding learns unless told otherwise


class Tokenizer(Protocol):
    """What every tokenizer does; `decode(encode(text)) == text` wherever encode does not raise."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def lengths(self) -> Array:
        """Characters that each token stands for, int64 (vocab_size,)."""

    def encode(self, text: str) -> Array:
        """The tokens of `text`, int64 (n,).  Raises ValueError that names what it does not know."""

    def decode(self, tokens: Any) -> str:
        """The text of integers (n,), or of one.  Raises ValueError for one outside the vocabulary."""

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` makes the same tokenizer of."""


class CharTokenizer:
    """One token for each different character of `text` (a string, or pieces of one), numbered in the order of their
    code points."""

    def __init__(self, text: str | Iterable[str]):
        self.points = _distinct(text)  # sorted code points; a token is a place in it
        self._token = np.full(self.points[-1] + 1, -1)
        self._token[self.points] = np.arange(len(self.points))

    @property
    def vocab_size(self) -> int:
        return len(self.points)

    @property
    def characters(self) -> str:
        return self.decode(np.arange(self.vocab_size))

    @property
    def lengths(self) -> Array:
        return np.ones(self.vocab_size, np.int64)

    def encode(self, text: str) -> Array:
        """The tokens of `text`, int64 (len(text),).  Raises ValueError that names characters it does not know."""
        points = _points(text)
        try:
            tokens = self._token[points]
        except IndexError:  # a character beyond the last one it knows
            tokens = np.full(1, -1)
        if tokens.size and tokens.min() < 0:
            raise _unknown(points[~np.isin(points, self.points)])
        return tokens

    def decode(self, tokens: Any) -> str:
        """The text of integers (n,), or of one.  Raises ValueError for one outside the vocabulary."""
        return _text(self.points[check_tokens(tokens, self.vocab_size)])

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` makes the same tokenizer of."""
        return {"kind": "char", "characters": self.characters}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        match data:
            case {"kind": "char", "characters": str(characters)}:
                return cls(characters)
        raise ValueError(f"no description of a character tokenizer: {data!r:.60}")

    def __repr__(self) -> str:
        return f"CharTokenizer({self.vocab_size} characters: {self.characters[:20]!r}{'…' * (self.vocab_size > 20)})"


class ByteTokenizer:
    """256 tokens, the bytes of UTF-8: it knows every text."""

    vocab_size = 256

    @property
    def lengths(self) -> Array:
        byte = np.arange(256)
        return ((byte < 0x80) | (byte >= 0xC0)).astype(np.int64)  # all but the continuation bytes begin a character

    def encode(self, text: str) -> Array:
        """The bytes of `text`, int64 (n,)."""
        return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64)

    def decode(self, tokens: Any) -> str:
        """The text of bytes (n,), or of one; what is no UTF-8, such as a part of a character, shows as �."""
        raw = check_tokens(tokens, 256).astype(np.uint8).tobytes()
        try:
            return raw.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return raw.decode("utf-8", "replace")

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` makes the same tokenizer of."""
        return {"kind": "byte"}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        if data == {"kind": "byte"}:
            return cls()
        raise ValueError(f"no description of a byte tokenizer: {data!r:.60}")

    def __repr__(self) -> str:
        return "ByteTokenizer()"


class WordTokenizer:
    """A token for each character of the training text and for each of its frequent words.

    A word is a run of letters, digits and underscores; all else (spaces, punctuation) is a token a character.  A
    word that has no token is spelled in characters, so any text of known characters comes back exactly.
    """

    WORD = re.compile(r"\w+|\W")

    MOST_COUNTED = 2_000_000  # different words; where there are more, those that were seen once are forgotten

    def __init__(self, tokens: list[str]):
        self.tokens = tokens
        self._token = {token: i for i, token in enumerate(tokens)}
        if not tokens or len(self._token) < len(tokens) or not all(tokens):
            raise ValueError("a word tokenizer needs different tokens, none of them empty")

    @classmethod
    def of(cls, text: str | Iterable[str], max_words: int = 20_000, min_count: int = 2) -> Self:
        """The tokenizer with all characters of `text` (a string, or pieces of one that cut no word) and the words of
        two characters or more that occur at least `min_count` times, the `max_words` most frequent ones."""
        counts, characters = Counter[str](), set[str]()
        for piece in _pieces(text):
            counts.update(cls.WORD.findall(piece))
            characters |= cls.make_room(counts)
        return cls.of_counts(counts, characters, max_words, min_count)

    @classmethod
    def of_counts(cls, counts: dict[str, int], characters: set[str], max_words: int = 20_000,
                  min_count: int = 2) -> Self:
        """As `of`, from how often each word occurs, and characters of words that are not in there."""
        characters = characters.union(*counts)
        if not characters:
            raise no_text()
        words = sorted((-n, word) for word, n in counts.items() if n >= min_count and len(word) > 1)
        return cls(sorted(characters) + [word for _, word in words[:max_words]])

    @classmethod
    def make_room(cls, counts: dict[str, int]) -> set[str]:
        """Where there are too many words, forget those that were seen once; the characters of the forgotten ones."""
        rare = [word for word, n in counts.items() if n == 1] if len(counts) > cls.MOST_COUNTED else []
        for word in rare:
            del counts[word]
        return set[str]().union(*rare)

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    @property
    def lengths(self) -> Array:
        return np.array([len(token) for token in self.tokens])

    def encode(self, text: str) -> Array:
        """The tokens of `text`, int64 (n,).  Raises ValueError that names characters it does not know."""
        return self.encode_words(self.WORD.findall(text))

    def encode_words(self, words: list[str]) -> Array:
        """The tokens of words that `WORD` finds, one after the other, int64 (n,).  Raises as `encode` does."""
        tokens = list(map(self._token.get, words))
        if None in tokens:  # then in characters what has no token of its own
            words = [part for word, token in zip(words, tokens) for part in ((word,) if token is not None else word)]
            tokens = list(map(self._token.get, words))
            if None in tokens:
                raise _unknown(_points("".join(c for c in words if c not in self._token)))
        return np.array(tokens, np.int64)

    def decode(self, tokens: Any) -> str:
        """The text of integers (n,), or of one.  Raises ValueError for one outside the vocabulary."""
        return "".join(map(self.tokens.__getitem__, check_tokens(tokens, self.vocab_size).tolist()))

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` makes the same tokenizer of."""
        return {"kind": "word", "tokens": self.tokens}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        match data:
            case {"kind": "word", "tokens": list(tokens)} if all(isinstance(token, str) for token in tokens):
                return cls(tokens)
        raise ValueError(f"no description of a word tokenizer: {data!r:.60}")

    def __repr__(self) -> str:
        return f"WordTokenizer({self.vocab_size} tokens, the last {self.tokens[-1]!r})"


KINDS: dict[str, Any] = {"char": CharTokenizer, "byte": ByteTokenizer, "word": WordTokenizer}  # and "bpe"


def make(kind: str, text: str | Iterable[str], vocab_size: int = VOCAB_SIZE) -> Tokenizer:
    """The tokenizer of a kind ("char", "byte", "word" or "bpe") for a text, or for pieces of one that cut no word.

    `vocab_size`: tokens of a "bpe" at most.  Raises ValueError for another kind, and for no text where one is needed,
    and ImportError for "bpe" where the library `tokenizers` is missing.
    """
    match kind:
        case "char":
            return CharTokenizer(text)
        case "byte":
            return ByteTokenizer()
        case "word":
            return WordTokenizer.of(text)
        case "bpe":
            return _bpe().train(text, vocab_size)
    raise ValueError(f"there is no tokenizer of the kind {kind!r}: choose one of char, byte, word, bpe")


def from_json(data: Any) -> Tokenizer:
    """The tokenizer that `to_json` described.  Raises ValueError for anything else."""
    kind = data.get("kind") if isinstance(data, dict) else None
    if kind == "bpe":
        return _bpe().from_json(data)
    if kind == "turns":
        from ...chat.turns import TurnTokenizer  # only here: it imports this file
        return TurnTokenizer.from_json(data)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"no description of a tokenizer: {data!r:.60}")
    return KINDS[kind].from_json(data)


def decode_on(tokenizer: Tokenizer) -> Callable[[Any], str]:
    """The method that decodes tokens which go on from others: at the start of a text, some tokenizers leave out a
    space."""
    return getattr(tokenizer, "decode_on", tokenizer.decode)


def encode_prompt(tokenizer: Tokenizer, text: str, **how: bool) -> Array:
    """The tokens of a text that a model is to go on from, in which some tokenizers know special tokens and add one for
    its start.  `how`: see `BPETokenizer.encode_prompt`."""
    tokenizer = getattr(tokenizer, "base", tokenizer)  # without the tokens of turns, which no text has in it
    method = getattr(tokenizer, "encode_prompt", None)
    return method(text, **how) if method else tokenizer.encode(text)


def _bpe() -> Any:
    from .bpe import BPETokenizer  # only here: it imports this file
    return BPETokenizer


def _pieces(text: str | Iterable[str]) -> Iterable[str]:
    return [text] if isinstance(text, str) else text


def _distinct(text: str | Iterable[str]) -> Array:
    """The different code points of a text, sorted."""
    seen = np.zeros(0x110000, bool)
    for piece in _pieces(text):
        seen[_points(piece)] = True
    if not seen.any():
        raise no_text()
    return np.flatnonzero(seen).astype(np.uint32)


def _points(text: str) -> Array:
    """Code points, uint32 (len(text),): a view of the text's bytes is far faster than a loop of ord."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def no_text() -> ValueError:
    return ValueError("a tokenizer needs text to take its characters from, and this one is empty")


def _text(points: Array) -> str:
    return points.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")


def check_tokens(tokens: Any, vocab_size: int) -> Array:
    """Integers (n,) that are tokens."""
    tokens = np.atleast_1d(np.asarray(tokens, dtype=np.int64))
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < vocab_size:
        raise ValueError(f"tokens go from 0 to {vocab_size - 1}, and these from {tokens.min()} to {tokens.max()}")
    return tokens


def _unknown(points: Array) -> ValueError:
    """The error that names these characters, in the order in which they first occur."""
    unknown = list(dict.fromkeys(_text(points[:100_000])))
    names = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in unknown[:5]) + (", …" if len(unknown) > 5 else "")
    return ValueError(f"this tokenizer was made from text without {names}: leave out what it does not know, "
                      "or train on text that has it")
