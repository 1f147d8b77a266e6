"""Text to integers and back: a token a character."""

from typing import Any, Self

import numpy as np

from .module import Array


class CharTokenizer:
    """One token for each different character of `text`, numbered in the order of their code points."""

    def __init__(self, text: str):
        if not text:
            raise ValueError("a tokenizer needs text to take its characters from, and this one is empty")
        self.points = np.unique(_points(text))  # sorted code points; a token is a place in it
        self._token = np.full(self.points[-1] + 1, -1)
        self._token[self.points] = np.arange(len(self.points))

    @property
    def vocab_size(self) -> int:
        return len(self.points)

    @property
    def characters(self) -> str:
        return self.decode(np.arange(self.vocab_size))

    def encode(self, text: str) -> Array:
        """The tokens of `text`, int64 (len(text),).  Raises ValueError that names characters it does not know."""
        points = _points(text)
        tokens = self._token[np.minimum(points, len(self._token) - 1)]
        known = (points < len(self._token)) & (tokens >= 0)
        if not known.all():
            unknown = list(dict.fromkeys(np.asarray(list(text))[~known].tolist()))
            names = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in unknown[:5]) + (", …" if len(unknown) > 5 else "")
            raise ValueError(f"this tokenizer was made from text without {names}: leave out what it does not know, "
                             "or train on text that has it")
        return tokens

    def decode(self, tokens: Any) -> str:
        """The text of integers (n,), or of one.  Raises ValueError for one outside the vocabulary."""
        tokens = np.atleast_1d(np.asarray(tokens, dtype=np.int64))
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < self.vocab_size:
            raise ValueError(f"tokens go from 0 to {self.vocab_size - 1}, "
                             f"and these from {tokens.min()} to {tokens.max()}")
        return self.points[tokens].astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` makes the same tokenizer of."""
        return {"kind": "characters", "characters": self.characters}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        match data:
            case {"kind": "characters", "characters": str(characters)}:
                return cls(characters)
        raise ValueError(f"no description of a character tokenizer: {data!r:.60}")

    def __repr__(self) -> str:
        return f"CharTokenizer({self.vocab_size} characters: {self.characters[:20]!r}{'…' * (self.vocab_size > 20)})"


def _points(text: str) -> Array:
    """Code points, uint32 (len(text),): a view of the text's bytes is far faster than a loop of ord."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
