"""A token a byte."""

from collections.abc import Iterable
from typing import Any, Self

import numpy as np

from ...model.module import Array
from .base import BaseTokenizer, check_tokens, register


@register("byte")
class ByteTokenizer(BaseTokenizer):
    """256 tokens, the bytes of UTF-8: it knows every text."""

    help = "a byte of UTF-8"
    knows_all_text = True
    vocab_size = 256

    @classmethod
    def learn(cls, text: str | Iterable[str]) -> Self:
        return cls()

    @property
    def lengths(self) -> Array:
        byte = np.arange(256)
        return ((byte < 0x80) | (byte >= 0xC0)).astype(np.int64)  # all but the continuation bytes begin a character

    def encode(self, text: str) -> Array:
        """Return the bytes of `text`, int64 (n,)."""
        return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64)

    def decode(self, tokens: Any) -> str:
        """Return the text of bytes (n,), or of one; invalid UTF-8, such as part of a character, becomes �."""
        raw = check_tokens(tokens, 256).astype(np.uint8).tobytes()
        try:
            return raw.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return raw.decode("utf-8", "replace")

    def to_json(self) -> dict[str, Any]:
        return {"kind": "byte"}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        if data == {"kind": "byte"}:
            return cls()
        raise ValueError(f"no description of a byte tokenizer: {data!r:.60}")

    def __repr__(self) -> str:
        return "ByteTokenizer()"
