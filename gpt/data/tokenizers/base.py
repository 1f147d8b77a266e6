"""The interface of tokenizers, the registry that holds them, and what they share."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Protocol, Self, TypeVar

import numpy as np

from ...model.module import Array

VOCAB_SIZE = 1024  # tokens that byte-pair encoding learns unless told otherwise
TOKENIZERS: dict[str, Any] = {}  # kind, as in `to_json()["kind"]` -> class

T = TypeVar("T", bound=type)


class Tokenizer(Protocol):
    """The interface of a tokenizer; `decode(encode(text)) == text` wherever encode does not raise."""

    @property
    def vocab_size(self) -> int:
        """The number of tokens; tokens are integers from 0 on."""

    @property
    def lengths(self) -> Array:
        """Characters that each token stands for, int64 (vocab_size,)."""

    def encode(self, text: str) -> Array:
        """Return the tokens of `text`, int64 (n,).  Raises ValueError that names what it does not know."""

    def decode(self, tokens: Any) -> str:
        """Return the text of integers (n,), or of one.  Raises ValueError for one outside the vocabulary."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` restores the tokenizer from."""


class BaseTokenizer:
    """Base of the registered tokenizers; a subclass adds the methods of `Tokenizer`, `learn` and `from_json`.

    help: a token in a few words, for --help.
    unit: the name of tokens in descriptions of data.
    knows_all_text: whether `encode` takes any text.
    sized: whether `learn` takes a vocab_size; it then gets only the part of a text that is trained on.
    """

    help: ClassVar[str]
    unit: ClassVar[str] = "tokens"
    knows_all_text: ClassVar[bool] = False
    sized: ClassVar[bool] = False

    @classmethod
    def learn(cls, text: str | Iterable[str]) -> Self:
        """Train a tokenizer on a text, or on pieces of one that cut no word."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Restore the tokenizer that `to_json` described.  Raises ValueError for anything else."""
        raise NotImplementedError

    @classmethod
    def learn_and_encode(cls, pieces: Callable[[str], Iterable[str]],
                         folder: str | None = None) -> tuple[Self, Iterator[Array]]:
        """Return the tokenizer for a text, and the text's tokens, int64 (n,) at a time.

        `pieces(task)` yields the text anew, in pieces that cut no word.  `folder`: for temporary files.
        """
        tokenizer = cls.learn(pieces("vocabulary"))
        return tokenizer, tokenizer.encode_pieces(pieces("tokens"))

    def encode_pieces(self, pieces: Iterable[str], exact: bool = True) -> Iterator[Array]:
        """Yield the tokens of a text that comes in pieces, int64 (n,) at a time.  Unless not `exact`, raises
        LossyTextError for a text that would not come back from `decode`."""
        return map(self.encode, pieces)  # type: ignore[attr-defined]


class LossyTextError(ValueError):
    """A text that would not come back from its tokens."""


def register(name: str) -> Callable[[T], T]:
    """Register the decorated class under the kind that its `to_json` names.

    One with a `learn` is a choice of --tokenizer.
    """
    def add(cls: T) -> T:
        TOKENIZERS[name] = cls
        return cls
    return add


def learned_kinds() -> tuple[str, ...]:
    """List the kinds of tokenizers that can be made for a text."""
    return tuple(name for name, cls in TOKENIZERS.items() if hasattr(cls, "learn"))


def learn(name: str, text: str | Iterable[str], vocab_size: int = VOCAB_SIZE) -> Tokenizer:
    """Train a tokenizer of a kind on a text, or on pieces of one that cut no word.

    `vocab_size`: tokens at most, of kinds that can be so limited ("bpe").  Raises ValueError for another kind, and for
    no text where one is needed, and ImportError for "bpe" where the library `tokenizers` is missing.
    """
    cls = tokenizer_class(name)
    return cls.learn(text, vocab_size) if cls.sized else cls.learn(text)


def tokenizer_class(name: str) -> Any:
    """Return the class of a kind that can be made for a text.  Raises ValueError that lists these kinds."""
    if name not in learned_kinds():
        raise ValueError(f"there is no tokenizer of the kind {name!r}: choose one of {', '.join(learned_kinds())}")
    return TOKENIZERS[name]


def from_json(data: Any) -> Tokenizer:
    """Restore the tokenizer that `to_json` described.  Raises ValueError for anything else."""
    name = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(name, str) or name not in TOKENIZERS:
        raise ValueError(f"no description of a tokenizer: {data!r:.60}")
    return TOKENIZERS[name].from_json(data)


def decode_on(tokenizer: Tokenizer) -> Callable[[Any], str]:
    """Return the method that decodes a continuation: at the start of a text, some tokenizers leave out a space."""
    return getattr(tokenizer, "decode_on", tokenizer.decode)


def encode_prompt(tokenizer: Tokenizer, text: str, **options: bool) -> Array:
    """Return the tokens of a prompt, in which some tokenizers know special tokens and add one for the start.

    `options`: see `BPETokenizer.encode_prompt`.
    """
    tokenizer = getattr(tokenizer, "base", tokenizer)  # without the tokens of turns, which no text has in it
    method = getattr(tokenizer, "encode_prompt", None)
    return method(text, **options) if method else tokenizer.encode(text)


# ---------------------------------------------------------------------- shared by several


def as_pieces(text: str | Iterable[str]) -> Iterable[str]:
    """Return an iterable of pieces of a text."""
    return [text] if isinstance(text, str) else text


def code_points(text: str) -> Array:
    """Return the code points of a text, uint32 (len(text),): its bytes seen so, far faster than a loop of ord."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def from_code_points(points: Array) -> str:
    """Return the text of code points (n,)."""
    return points.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")


def check_tokens(tokens: Any, vocab_size: int) -> Array:
    """Return integers (n,), or one, as an array (n,).  Raises ValueError for one outside the vocabulary."""
    tokens = np.atleast_1d(np.asarray(tokens, dtype=np.int64))
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < vocab_size:
        raise ValueError(f"tokens go from 0 to {vocab_size - 1}, and these from {tokens.min()} to {tokens.max()}")
    return tokens


def no_text() -> ValueError:
    """Return the error for an empty text."""
    return ValueError("a tokenizer needs text to take its characters from, and this one is empty")


def unknown_characters(points: Array) -> ValueError:
    """Return the error that names these characters, in the order in which they first occur."""
    unknown = list(dict.fromkeys(from_code_points(points[:100_000])))
    names = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in unknown[:5]) + (", …" if len(unknown) > 5 else "")
    return ValueError(f"this tokenizer was made from text without {names}: leave out what it does not know, "
                      "or train on text that has it")
