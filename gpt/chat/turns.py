"""Chat template for models that bring none: a token for the start of each turn and for the end of an answer."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np

from ..checkpoint import Checkpoint
from ..data import tokenizers
from ..data.tokenizers import Tokenizer
from ..model.module import Array
from .jinja import JinjaTemplate
from .records import Message
from .template import MaskedTokens, Template

NAMES = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")  # of the tokens that come after all others


@tokenizers.register("turns")
class TurnTokenizer:
    """A tokenizer with four more tokens after its own, for the starts and the end of turns; no text is encoded to
    them."""

    def __init__(self, base: Tokenizer):
        self.base = base
        first = base.vocab_size
        self.system, self.user, self.assistant, self.end = range(first, first + len(NAMES))

    @property
    def vocab_size(self) -> int:
        """The number of tokens, with those of turns."""
        return self.base.vocab_size + len(NAMES)

    @property
    def lengths(self) -> Array:
        """Characters that each token stands for, int64 (vocab_size,)."""
        return np.concatenate([self.base.lengths, [len(name) for name in NAMES]])

    def encode(self, text: str) -> Array:
        """Return the tokens of `text`, int64 (n,), none of them the start or the end of a turn.  Raises ValueError that
        names what it does not know."""
        return self.base.encode(text)

    def decode(self, tokens: Any) -> str:
        """Return the text of integers (n,), or of one; starts and ends of turns by their names."""
        return self._text(tokens, self.base.decode)

    def decode_on(self, tokens: Any) -> str:
        """Return the text of tokens that continue others."""
        return self._text(tokens, tokenizers.decode_on(self.base))

    def _text(self, tokens: Any, decode: Callable[[Any], str]) -> str:
        tokens = np.atleast_1d(np.asarray(tokens, np.int64))
        first, text, start = self.base.vocab_size, "", 0
        for i in np.flatnonzero((tokens >= first) & (tokens < self.vocab_size)).tolist():
            if i > start:
                text += decode(tokens[start:i])
            text, start = text + NAMES[tokens[i] - first], i + 1
        return text + (decode(tokens[start:]) if start < len(tokens) else "")

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` restores the tokenizer from."""
        return {"kind": "turns", "base": self.base.to_json()}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Restore the tokenizer that `to_json` described.  Raises ValueError for anything else."""
        match data:
            case {"kind": "turns", "base": {"kind": str(kind)} as base} if kind != "turns":
                return cls(tokenizers.from_json(base))
        raise ValueError(f"no description of a tokenizer with turns: {data!r:.60}")

    def __repr__(self) -> str:
        return f"TurnTokenizer({self.base!r})"


class Turns:
    """The chat template that `gpt tune` teaches: each turn begins with the token of its role, and an answer ends with
    the end token."""

    def __init__(self, tokenizer: TurnTokenizer):
        self.tokenizer = t = tokenizer
        self.ends = frozenset((t.end, t.user, t.system, t.assistant))  # the start of a turn ends an answer, too

    def tokens(self, messages: Sequence[Message], answers: dict[int, list[int]] | None = None) -> list[int]:
        turns = [self._encode_turn(m, (answers or {}).get(i)) for i, m in enumerate(messages)]
        return [token for turn in turns for token in turn] + [self.tokenizer.assistant]

    def examples(self, conversations: Sequence[Sequence[Message]]) -> list[MaskedTokens | ValueError]:
        found: list[MaskedTokens | ValueError] = []
        for messages in conversations:
            try:
                found.append(self._mask(messages))
            except ValueError as error:  # the tokenizer does not know the text
                found.append(error)
        return found

    def _mask(self, messages: Sequence[Message]) -> MaskedTokens:
        tokens: list[int] = []
        mask: list[bool] = []
        for message in messages:
            turn = self._encode_turn(message)
            tokens += turn
            mask += [False] + [message.role == "assistant"] * (len(turn) - 1)
        return tokens, mask

    def _encode_turn(self, message: Message, generated: list[int] | None = None) -> list[int]:
        t = self.tokenizer
        text = t.encode(message.text).tolist() if generated is None else generated
        return [getattr(t, message.role), *text, *[t.end] * (message.role == "assistant")]


def template_of(run: Checkpoint) -> Template | None:
    """Return the chat template that a model was tuned to, or brings; None for a model of plain text."""
    if isinstance(run.tokenizer, TurnTokenizer):
        return Turns(run.tokenizer)
    if source := run.metadata.get("chat_template"):
        return JinjaTemplate(source, run.tokenizer, run.metadata.get("special_tokens") or {}, run.ends)
    return None
