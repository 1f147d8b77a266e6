"""Byte-pair encoding (BPE) by the `tokenizers` library: tokenizer training on one's own text, or any tokenizer.json."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain
from typing import Any, Self

import numpy as np

from ...model.module import Array
from . import tokenizer_file
from .base import VOCAB_SIZE, BaseTokenizer, LossyTextError, check_tokens, no_text, register
from .tokenizer_file import library, plain_errors

_BLOCK = 1 << 18  # characters of a text that are encoded at once
_LONGEST = 1 << 16  # characters without a space after which a part ends all the same
_MOST_TOKENS = 1 << 22  # of a model
_CACHE_SIZE = 1 << 21  # characters of the parts whose tokens are cached: some 80 MB with the tokens

# A part is white space and the characters after it.  GPT-2's pattern of words always cuts before white space, so a
# text's tokens are those of its parts.  (Four separators are white space to Python, but not to the pattern.)
_PART = re.compile(r"[^\S\x1c-\x1f]*[\S\x1c-\x1f]+|[^\S\x1c-\x1f]+")
_WORDS = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}  # GPT-2's
_LINES = {"type": "Split", "pattern": {"String": "\n"}, "behavior": "Isolated", "invert": False}
_LINES_AND_WORDS = {"type": "Sequence", "pretokenizers": [_LINES, _WORDS]}


@register("bpe")
class BPETokenizer(BaseTokenizer):
    """Byte-pair encoding (Sennrich et al. 2016) of bytes (Radford et al. 2019), or any other tokenizer.json.

    There is a token for each of the 256 bytes and for frequent sequences, such as " the": a word starts as its bytes,
    and pairs of neighbours are merged in the order in which they were learned.  `special`: tokens that stand for no
    text, such as "<|endoftext|>", by name.
    """

    help = "a piece of a word (byte-pair encoding)"
    knows_all_text = True
    sized = True

    def __init__(self, data: Any, vocab_size: int | None = None):
        """Make a tokenizer of `data`, the object in a tokenizer.json with any of the library's models (BPE, Unigram,
        WordPiece, WordLevel).

        vocab_size: that of the language model, which may be larger than the tokenizer's; the other tokens stand for no
        text, as do unused ids in between.  Raises ValueError for a description that is damaged or has tokens beyond
        `vocab_size`, and ImportError if the library is missing.
        """
        try:
            data = tokenizer_file.sanitize(data)
            self._text = json.dumps(data, allow_nan=False)
            self._rust = tokenizer_file.build(self._text)
        except ValueError as error:
            raise ValueError(f"the tokenizer is damaged, or of no kind that is known here: {error}") from None
        self._n: int = 1 + max(self._rust.get_vocab(with_added_tokens=True).values(), default=-1)
        self.vocab_size: int = self._n if vocab_size is None else vocab_size
        if type(self.vocab_size) is not int or not self._n <= self.vocab_size <= max(self._n, _MOST_TOKENS):
            raise ValueError(f"the tokenizer has {self._n:,} tokens, and the model knows {vocab_size!s:.40}: take the "
                             "tokenizer that belongs to it")
        self.special = {t["content"]: t["id"] for t in data["added_tokens"] if t.get("special")}
        decoder = data["decoder"] if isinstance(data["decoder"], dict) else {}
        self._bytes = self._byte_table() if decoder.get("type") == "ByteLevel" else None
        self._in_parts = (self._bytes is not None and data["normalizer"] is None
                          and data["pre_tokenizer"] in (_WORDS, _LINES_AND_WORDS)
                          and all(t["content"] in self.special for t in data["added_tokens"]))
        self._cache: dict[str, list[int]] = {}  # part -> tokens
        self._n_cached = 0  # characters in there

    @classmethod
    def learn(cls, text: str | Iterable[str], vocab_size: int = VOCAB_SIZE) -> Self:
        """Return the tokenizer of at most `vocab_size` tokens, 256 or more, for a text or pieces of one.

        A line end is always a token of its own.  Pairs that occur only once are not merged.  Memory grows with the
        number of distinct words.  The result does not depend on the pieces that a text comes in.
        """
        if vocab_size < 256:
            raise ValueError(f"vocab_size is {vocab_size}, and needs to be at least 256, a token for each byte")
        tokenizers = library()
        rust = tokenizers.Tokenizer(tokenizers.models.BPE())
        rust.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
            tokenizers.pre_tokenizers.Split("\n", "isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)])
        rust.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(vocab_size=vocab_size, min_frequency=2, show_progress=False,
                                                 initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
        pieces = ("".join(parts) for parts in _parts(_blocks(text)))
        if not (first := next(pieces, "")):
            raise no_text()
        with plain_errors("a tokenizer could not be learned from this text"):
            rust.train_from_iterator(map(_check_utf8, chain([first], pieces)), trainer)
        return cls(json.loads(rust.to_str()))

    @classmethod
    def from_file(cls, path: str | os.PathLike, vocab_size: int | None = None) -> Self:
        """Read a tokenizer.json, for a model with `vocab_size` tokens, by default as many as there are.

        Raises OSError, or ValueError for a file that is not a tokenizer, damaged or too large.
        """
        try:
            return cls(tokenizer_file.read_object(path), vocab_size)
        except ValueError as error:
            raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from None

    @cached_property
    def lengths(self) -> Array:
        """Characters that each token stands for within a text, int64 (vocab_size,).  A character of several tokens
        counts for the first one."""
        if self._bytes is not None:
            lengths = [sum(b & 0xC0 != 0x80 for b in token) for token in self._bytes]
        else:
            lengths = [_token_length(self._rust.id_to_token(i) or "", len(self.decode_on([i]))) for i in range(self._n)]
        return np.array(lengths + [0] * (self.vocab_size - len(lengths)), np.int64)

    def encode(self, text: str, *, special: bool = False, template: bool = False, exact: bool = True) -> Array:
        """Return the tokens of `text`, int64 (n,).

        `special`: names of special tokens in the text become these tokens; otherwise they are text like any other.
        `template`: add the tokens that belong to each text, such as one at its start.  Unless `exact` is False, or
        `special` or `template` is set, raises LossyTextError, a ValueError, for text that would not come back from
        `decode`, because this tokenizer changes it (upper case, accents, white space).
        """
        if not text:
            return np.array(self._tokens("", special, template), np.int64)
        if self._in_parts and not (special or template):
            return np.concatenate(list(self.encode_pieces(_blocks(text))))
        tokens = self._tokens(_check_utf8(text), special, template)
        if not (special or template):
            self._check(text, tokens, exact)
        return np.array(tokens, np.int64)

    def encode_prompt(self, text: str, special: bool = True, template: bool = True) -> Array:
        """Return the tokens of a prompt, as `encode` does, but without checking that `decode` restores it."""
        return self.encode(text, special=special, template=template, exact=False)

    def encode_pieces(self, pieces: Iterable[str], exact: bool = True) -> Iterator[Array]:
        """Yield the tokens of a text that comes in pieces, int64 (n,) at a time.

        Memory is bounded for tokenizers that were learned here (or cut words as GPT-2 does) and texts with spaces or
        lines.  Raises as `encode` does.
        """
        if not self._in_parts:
            yield self.encode("".join(pieces), exact=exact)
            return
        for parts in _parts(pieces):
            yield self._encode_parts(parts)

    def decode(self, tokens: Any) -> str:
        """Return the text of integers (n,), or of one, with special tokens by name; invalid UTF-8, such as part of a
        character, becomes �.  Raises ValueError for one outside the vocabulary."""
        ids = check_tokens(tokens, self.vocab_size).tolist()
        if self._bytes is not None:
            return self._bytes_of(ids).decode("utf-8", "replace")
        with plain_errors("this tokenizer cannot decode its tokens"):
            return self._rust.decode(ids, skip_special_tokens=False)

    def decode_on(self, tokens: Any) -> str:
        """Return the text of tokens that continue others: some tokenizers leave out a space at the start of a text
        only. A part of a character at the end is one �."""
        if self._bytes is not None:
            return self.decode(tokens)
        before, shown = self._prefix
        text = self.decode([*before, *check_tokens(tokens, self.vocab_size).tolist()])
        text = text[len(shown):] if text.startswith(shown) else self.decode(tokens)
        return text.rstrip("\ufffd") + "\ufffd" if text.endswith("\ufffd") else text

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` restores the tokenizer from."""
        unused = {"vocab_size": self.vocab_size} if self.vocab_size > self._n else {}
        return {"kind": "bpe", **unused, "tokenizer": json.loads(self._text)}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        match data:
            case {"kind": "bpe", "tokenizer": dict(tokenizer)}:
                return cls(tokenizer, data.get("vocab_size"))
        raise ValueError(f"no description of a tokenizer of byte pairs: {data!r:.60}")

    def file_text(self) -> str:
        """Return the content of a tokenizer.json of the same tokenizer."""
        return self._text

    def __repr__(self) -> str:
        return f"BPETokenizer({self.vocab_size} tokens, the last {self.decode(self._n - 1)!r})"

    # ------------------------------------------------------------------ internals

    def _byte_table(self) -> list[bytes]:
        """Return the bytes that each token stands for; its name has a character for each byte."""
        names = {i: token.content for i, token in self._rust.get_added_tokens_decoder().items()}
        byte_of = byte_of_character()

        def bytes_of(name: str) -> bytes:
            values = [byte_of.get(c) for c in name]
            return name.encode() if None in values else bytes(values)  # type: ignore[arg-type]

        table = [names[i].encode() if i in names else bytes_of(self._rust.id_to_token(i) or "")
                 for i in range(self._n)]
        return table + [b""] * (self.vocab_size - self._n)

    @cached_property
    def _reads_special(self) -> Any:
        """The library's tokenizer with the setting that special tokens in a text are read as such."""
        rust = library().Tokenizer.from_str(self._text)
        rust.encode_special_tokens = False
        return rust

    @cached_property
    def _prefix(self) -> tuple[list[int], str]:
        """The tokens of a letter, and its text, to decode other tokens after; empty if this tokenizer knows no
        letter."""
        for letter in "a", "A", "e", "0", ".":
            tokens = self._tokens(letter)
            if tokens and letter in self.decode(tokens):
                return tokens, self.decode(tokens)
        return [], ""

    def _tokens(self, text: str, special: bool = False, template: bool = False) -> list[int]:
        with plain_errors("this tokenizer cannot encode the text"):
            return (self._reads_special if special else self._rust).encode(text, add_special_tokens=template).ids

    def _encode_parts(self, parts: list[str]) -> Array:
        """Return the tokens of parts, from the cache if possible: a text has far fewer distinct parts than parts, and
        looking one up takes a fifth of the time of encoding it."""
        cache = self._cache
        if new := [part for part in dict.fromkeys(parts) if part not in cache]:
            for part in new:
                _check_utf8(part)
            with plain_errors("this tokenizer cannot encode the text"):
                encodings = self._rust.encode_batch_fast(new, add_special_tokens=False)
            for part, encoding in zip(new, encodings):
                cache[part] = tokens = encoding.ids
                if self._bytes_of(tokens) != part.encode() or self.special:
                    self._check(part, tokens)
            self._n_cached += sum(map(len, new))
        tokens = np.fromiter(chain.from_iterable(map(cache.__getitem__, parts)), np.int64)
        if self._n_cached > _CACHE_SIZE:
            self._cache, self._n_cached = {}, 0
        return tokens

    def _bytes_of(self, tokens: list[int]) -> bytes:
        return b"".join([self._bytes[token] for token in tokens])  # type: ignore[index]

    def _check(self, text: str, tokens: list[int], exact: bool = True) -> None:
        """Raise ValueError for a text that would not come back, or in which the name of a special token became one."""
        for name, token in self.special.items():
            if name in text and token in tokens:
                raise ValueError(f"this tokenizer can read {name!r} only as its special token: leave it out of the "
                                 "text, or pass special=True")
        if exact and (back := self.decode(tokens)) != text:
            at = next((i for i, (a, b) in enumerate(zip(text, back)) if a != b), min(len(text), len(back)))
            raise LossyTextError(f"this tokenizer changes the text: {text[at:at + 20]!r} comes back as "
                                 f"{back[at:at + 20]!r}: write it so, or pass exact=False to encode")


def byte_of_character() -> dict[str, int]:
    """Return the byte that each character of a token's name stands for (Radford et al. 2019): visible characters of
    Latin-1 stand for themselves, the other 68 bytes have the characters from U+0100 on."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (b for b in range(256) if b not in seen)
    return {chr(b): b for b in seen} | {chr(0x100 + i): b for i, b in enumerate(others)}


def _token_length(name: str, length: int) -> int:
    """Return the length of a token: for a single byte such as "<0xE6>" 1 if a character starts with it, and 0 if not;
    `length` for all others."""
    if found := re.fullmatch(r"<0x([0-9A-F]{2})>", name):
        return int(int(found[1], 16) & 0xC0 != 0x80)
    return length


def _blocks(text: str | Iterable[str]) -> Iterable[str]:
    return (text[i:i + _BLOCK] for i in range(0, len(text), _BLOCK)) if isinstance(text, str) else text


def _parts(pieces: Iterable[str]) -> Iterator[list[str]]:
    """Yield the parts of a text that comes in pieces, wherever the pieces cut it."""
    rest = ""
    for piece in pieces:
        *parts, rest = _PART.findall(rest + piece) or [""]
        if len(rest) > _LONGEST:
            parts, rest = [*parts, rest], ""
        if parts:
            yield parts
    if rest:
        yield [rest]


def _check_utf8(text: str) -> str:
    """Return a text, if it can be encoded as UTF-8.  Raises ValueError for one with half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"U+{ord(text[error.start]):04X} is half a character, which this tokenizer has no tokens for: "
                         "leave it out") from None
    return text
