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

_BLOCK = 1 << 18  # characters of a text looked at once
_LONGEST = 1 << 16  # characters without a space after which a part ends all the same
_MOST_TOKENS = 1 << 22  # that a model may know
_MOST_KNOWN = 1 << 21  # characters of the parts whose tokens are known: some 80 MB with the tokens

# A part is some white space and what follows it.  The pattern of GPT-2 that cuts a text into words always cuts there,
# so a text's tokens are those of its parts.  (To Python the four separators are white space, but not to the pattern.)
_PART = re.compile(r"[^\S\x1c-\x1f]*[\S\x1c-\x1f]+|[^\S\x1c-\x1f]+")
_WORDS = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}  # GPT-2's
_LINES = {"type": "Split", "pattern": {"String": "\n"}, "behavior": "Isolated", "invert": False}
_OURS = {"type": "Sequence", "pretokenizers": [_LINES, _WORDS]}


@register("bpe")
class BPETokenizer(BaseTokenizer):
    """A token for each of the 256 bytes and for what occurs often, such as " the"; or whatever a tokenizer.json says.

    Byte-pair encoding (Sennrich et al. 2016) of bytes (Radford et al. 2019): a word starts as its bytes, and pairs of
    neighbours are merged in the order in which they were learned.  `special`: the tokens that stand for no text, such
    as "<|endoftext|>", by name.
    """

    help = "a piece of a word (byte-pair encoding)"
    knows_all_text = True
    sized = True

    def __init__(self, data: Any, vocab_size: int | None = None):
        """`data`: the object in a tokenizer.json, of any model of the library's (BPE, Unigram, WordPiece, WordLevel).
        `vocab_size`: that of the model, which may know more tokens than there are; those stand for no text, as do
        numbers in between that no token has.

        Raises ValueError for one that is damaged or has tokens beyond `vocab_size`, and ImportError where the library
        is missing.
        """
        try:
            data = tokenizer_file.checked(data)
            self._text = json.dumps(data, allow_nan=False)
            self._rust = tokenizer_file.opened(self._text)
        except ValueError as error:
            raise ValueError(f"the tokenizer is damaged, or of no kind that is known here: {error}") from None
        self._n: int = 1 + max(self._rust.get_vocab(with_added_tokens=True).values(), default=-1)
        self.vocab_size: int = self._n if vocab_size is None else vocab_size
        if type(self.vocab_size) is not int or not self._n <= self.vocab_size <= max(self._n, _MOST_TOKENS):
            raise ValueError(f"the tokenizer has {self._n:,} tokens, and the model knows {vocab_size!s:.40}: take the "
                             "tokenizer that belongs to it")
        self.special = {t["content"]: t["id"] for t in data["added_tokens"] if t.get("special")}
        decoder = data["decoder"] if isinstance(data["decoder"], dict) else {}
        self._bytes = self._table() if decoder.get("type") == "ByteLevel" else None
        self._in_parts = (self._bytes is not None and data["normalizer"] is None
                          and data["pre_tokenizer"] in (_WORDS, _OURS)
                          and all(t["content"] in self.special for t in data["added_tokens"]))
        self._known: dict[str, list[int]] = {}  # the tokens of parts that were met before
        self._n_known = 0  # characters in there

    @classmethod
    def learn(cls, text: str | Iterable[str], vocab_size: int = VOCAB_SIZE) -> Self:
        """Return the tokenizer of at most `vocab_size` tokens, 256 or more, for a text or pieces of one.

        A line end is always a token of its own.  What occurs only once gets no token.  Memory grows with the number of
        different words.  The same text gives the same tokenizer, however it comes in pieces.
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
            rust.train_from_iterator(map(_valid, chain([first], pieces)), trainer)
        return cls(json.loads(rust.to_str()))

    @classmethod
    def from_file(cls, path: str | os.PathLike, vocab_size: int | None = None) -> Self:
        """Return the tokenizer in a tokenizer.json, for a model that knows `vocab_size` tokens, or as many as there
        are.

        Raises OSError, or ValueError for what is none, damaged or too large.
        """
        try:
            return cls(tokenizer_file.read(path), vocab_size)
        except ValueError as error:
            raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from None

    @cached_property
    def lengths(self) -> Array:
        """Characters that each token stands for within a text, int64 (vocab_size,).  Of a character that is more than
        one token, the first one counts."""
        if self._bytes is not None:
            lengths = [sum(b & 0xC0 != 0x80 for b in token) for token in self._bytes]
        else:
            lengths = [_one_byte(self._rust.id_to_token(i) or "", len(self.decode_on([i]))) for i in range(self._n)]
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
        tokens = self._tokens(_valid(text), special, template)
        if not (special or template):
            self._check(text, tokens, exact)
        return np.array(tokens, np.int64)

    def encode_prompt(self, text: str, special: bool = True, template: bool = True) -> Array:
        """As `encode`, of a text that a model is to go on from, which need not come back from `decode`."""
        return self.encode(text, special=special, template=template, exact=False)

    def encode_pieces(self, pieces: Iterable[str], exact: bool = True) -> Iterator[Array]:
        """Yield the tokens of a text that comes in pieces, int64 (n,) at a time: those of the whole, in bounded memory
        for tokenizers that were learned here (or cut words as GPT-2 does) and texts with spaces or lines in them.
        Raises as `encode` does."""
        if not self._in_parts:
            yield self.encode("".join(pieces), exact=exact)
            return
        for parts in _parts(pieces):
            yield self._encoded(parts)

    def decode(self, tokens: Any) -> str:
        """Return the text of integers (n,), or of one, with the names of special tokens; what is no UTF-8, such as a
        part of a character, shows as �.  Raises ValueError for one outside the vocabulary."""
        ids = check_tokens(tokens, self.vocab_size).tolist()
        if self._bytes is not None:
            return self._joined(ids).decode("utf-8", "replace")
        with plain_errors("this tokenizer cannot decode its tokens"):
            return self._rust.decode(ids, skip_special_tokens=False)

    def decode_on(self, tokens: Any) -> str:
        """As `decode`, for tokens that go on from others: some tokenizers leave out a space at the start of a text.  A
        part of a character at the end is one �."""
        if self._bytes is not None:
            return self.decode(tokens)
        before, shown = self._before
        text = self.decode([*before, *check_tokens(tokens, self.vocab_size).tolist()])
        text = text[len(shown):] if text.startswith(shown) else self.decode(tokens)
        return text.rstrip("\ufffd") + "\ufffd" if text.endswith("\ufffd") else text

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` makes the same tokenizer of."""
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

    # ------------------------------------------------------------------ inside

    def _table(self) -> list[bytes]:
        """Return the bytes that each token stands for; its name has a character for each of them."""
        names = {i: token.content for i, token in self._rust.get_added_tokens_decoder().items()}
        byte_of = byte_of_character()

        def bytes_of(name: str) -> bytes:
            known = [byte_of.get(c) for c in name]
            return name.encode() if None in known else bytes(known)  # type: ignore[arg-type]

        table = [names[i].encode() if i in names else bytes_of(self._rust.id_to_token(i) or "")
                 for i in range(self._n)]
        return table + [b""] * (self.vocab_size - self._n)

    @cached_property
    def _reads_special(self) -> Any:
        """The library's tokenizer that takes special tokens in a text as such: another one, since it is a setting."""
        rust = library().Tokenizer.from_str(self._text)
        rust.encode_special_tokens = False
        return rust

    @cached_property
    def _before(self) -> tuple[list[int], str]:
        """Tokens of a letter to decode others after, and their text; none if this tokenizer knows no letter."""
        for letter in "a", "A", "e", "0", ".":
            tokens = self._tokens(letter)
            if tokens and letter in self.decode(tokens):
                return tokens, self.decode(tokens)
        return [], ""

    def _tokens(self, text: str, special: bool = False, template: bool = False) -> list[int]:
        with plain_errors("this tokenizer cannot encode the text"):
            return (self._reads_special if special else self._rust).encode(text, add_special_tokens=template).ids

    def _encoded(self, parts: list[str]) -> Array:
        """Return the tokens of parts, which are looked up where they were met before: a text has far more parts than
        different ones, and a look into a dict takes a fifth of the time of finding their tokens."""
        known = self._known
        if new := [part for part in dict.fromkeys(parts) if part not in known]:
            for part in new:
                _valid(part)
            with plain_errors("this tokenizer cannot encode the text"):
                encodings = self._rust.encode_batch_fast(new, add_special_tokens=False)
            for part, encoding in zip(new, encodings):
                known[part] = tokens = encoding.ids
                if self._joined(tokens) != part.encode() or self.special:
                    self._check(part, tokens)
            self._n_known += sum(map(len, new))
        tokens = np.fromiter(chain.from_iterable(map(known.__getitem__, parts)), np.int64)
        if self._n_known > _MOST_KNOWN:
            self._known, self._n_known = {}, 0
        return tokens

    def _joined(self, tokens: list[int]) -> bytes:
        return b"".join([self._bytes[token] for token in tokens])  # type: ignore[index]

    def _check(self, text: str, tokens: list[int], exact: bool = True) -> None:
        """Raise ValueError where a text would not come back, or a name of a special token has become one."""
        for name, token in self.special.items():
            if name in text and token in tokens:
                raise ValueError(f"this tokenizer can read {name!r} only as its special token: leave it out of the "
                                 "text, or pass special=True")
        if exact and (back := self.decode(tokens)) != text:
            at = next((i for i, (a, b) in enumerate(zip(text, back)) if a != b), min(len(text), len(back)))
            raise LossyTextError(f"this tokenizer changes the text: {text[at:at + 20]!r} comes back as "
                                 f"{back[at:at + 20]!r}: write it so, or pass exact=False to encode")


def byte_of_character() -> dict[str, int]:
    """Return the byte that each character of a token's name stands for (Radford et al. 2019): those of Latin-1 that can
    be seen stand for themselves, and the 68 others have the characters from U+0100 on."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (b for b in range(256) if b not in seen)
    return {chr(b): b for b in seen} | {chr(0x100 + i): b for i, b in enumerate(others)}


def _one_byte(name: str, length: int) -> int:
    """Return the length of a token, which for a byte that a character starts with, such as "<0xE6>", is 1, and 0 for
    those that follow it."""
    if found := re.fullmatch(r"<0x([0-9A-F]{2})>", name):
        return int(int(found[1], 16) & 0xC0 != 0x80)
    return length


def _blocks(text: str | Iterable[str]) -> Iterable[str]:
    return (text[i:i + _BLOCK] for i in range(0, len(text), _BLOCK)) if isinstance(text, str) else text


def _parts(pieces: Iterable[str]) -> Iterator[list[str]]:
    """Yield the parts of a text that comes in pieces: the same ones, wherever the pieces cut it."""
    rest = ""
    for piece in pieces:
        *parts, rest = _PART.findall(rest + piece) or [""]
        if len(rest) > _LONGEST:
            parts, rest = [*parts, rest], ""
        if parts:
            yield parts
    if rest:
        yield [rest]


def _valid(text: str) -> str:
    """Return a text that is UTF-8.  Raises ValueError for one with half a surrogate pair in it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"U+{ord(text[error.start]):04X} is half a character, which this tokenizer has no tokens for: "
                         "leave it out") from None
    return text
