"""A token two characters."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Self

import numpy as np

from ...model.module import Array
from .base import BaseTokenizer, as_pieces, check_tokens, code_points, no_text, register, unknown_characters


@register("bigram")
class BigramTokenizer(BaseTokenizer):
    """A token for each character and for each frequent pair of them; a text is cut into pairs from its start."""

    help = "two characters"

    def __init__(self, tokens: list[str]):
        self.tokens = tokens
        self._token = {token: i for i, token in enumerate(tokens)}
        if not tokens or len(self._token) < len(tokens) or any(len(token) not in (1, 2) for token in tokens):
            raise ValueError("a tokenizer of bigrams needs different tokens of one or two characters")

    @classmethod
    def learn(cls, text: str | Iterable[str], most: int = 2000) -> Self:
        """Return the tokenizer with all characters of a text (or pieces of one) and its `most` most frequent pairs."""
        counts, characters = Counter[str](), set[str]()
        for piece in as_pieces(text):
            counts.update(_pairs(piece))
            characters.update(piece)
        if not characters:
            raise no_text()
        pairs = sorted((-n, pair) for pair, n in counts.items() if len(pair) == 2)
        return cls(sorted(characters) + [pair for _, pair in pairs[:most]])

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    @property
    def lengths(self) -> Array:
        return np.array([len(token) for token in self.tokens])

    def encode(self, text: str) -> Array:
        parts = [part for pair in _pairs(text) for part in ([pair] if pair in self._token else pair)]
        if unknown := "".join(part for part in parts if part not in self._token):
            raise unknown_characters(code_points(unknown))
        return np.array([self._token[part] for part in parts], np.int64)

    def decode(self, tokens: Any) -> str:
        return "".join(self.tokens[i] for i in check_tokens(tokens, self.vocab_size))

    def to_json(self) -> dict[str, Any]:
        return {"kind": "bigram", "tokens": self.tokens}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        match data:
            case {"kind": "bigram", "tokens": list(tokens)} if all(isinstance(token, str) for token in tokens):
                return cls(tokens)
        raise ValueError(f"no description of a bigram tokenizer: {data!r:.60}")

    def __repr__(self) -> str:
        return f"BigramTokenizer({self.vocab_size} tokens, the last {self.tokens[-1]!r})"


def _pairs(text: str) -> list[str]:
    return [text[i:i + 2] for i in range(0, len(text), 2)]
