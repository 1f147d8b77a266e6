"""A token a character."""

from collections.abc import Iterable
from typing import Any, Self

import numpy as np

from ...model.module import Array
from .base import (
    BaseTokenizer,
    as_pieces,
    check_tokens,
    code_points,
    from_code_points,
    no_text,
    register,
    unknown_characters,
)


@register("char")
class CharTokenizer(BaseTokenizer):
    """One token for each different character of `text` (a string, or pieces of one), numbered in the order of their
    code points."""

    help = "a character"
    unit = "characters"

    def __init__(self, text: str | Iterable[str]):
        self.points = _distinct(text)  # sorted code points; a token is an index into it
        self._token = np.full(self.points[-1] + 1, -1, np.int64)
        self._token[self.points] = np.arange(len(self.points))

    @classmethod
    def learn(cls, text: str | Iterable[str]) -> Self:
        return cls(text)

    @property
    def vocab_size(self) -> int:
        return len(self.points)

    @property
    def characters(self) -> str:
        """The characters, in the order of their tokens."""
        return self.decode(np.arange(self.vocab_size))

    @property
    def lengths(self) -> Array:
        return np.ones(self.vocab_size, np.int64)

    def encode(self, text: str) -> Array:
        """Return the tokens of `text`, int64 (len(text),).  Raises ValueError that names unknown characters."""
        points = code_points(text)
        try:
            tokens = self._token[points]
        except IndexError:  # a character beyond the last one it knows
            tokens = np.full(1, -1)
        if tokens.size and tokens.min() < 0:
            raise unknown_characters(points[~np.isin(points, self.points)])
        return tokens

    def decode(self, tokens: Any) -> str:
        """Return the text of integers (n,), or of one.  Raises ValueError for one outside the vocabulary."""
        return from_code_points(self.points[check_tokens(tokens, self.vocab_size)])

    def to_json(self) -> dict[str, Any]:
        return {"kind": "char", "characters": self.characters}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        match data:
            case {"kind": "char", "characters": str(characters)}:
                return cls(characters)
        raise ValueError(f"no description of a character tokenizer: {data!r:.60}")

    def __repr__(self) -> str:
        return f"CharTokenizer({self.vocab_size} characters: {self.characters[:20]!r}{'…' * (self.vocab_size > 20)})"


def _distinct(text: str | Iterable[str]) -> Array:
    """Return the different code points of a text, sorted."""
    seen = np.zeros(0x110000, bool)
    for piece in as_pieces(text):
        seen[code_points(piece)] = True
    if not seen.any():
        raise no_text()
    return np.flatnonzero(seen).astype(np.uint32)
