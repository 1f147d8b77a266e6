"""The interface of chat templates: from messages to tokens, and which of them the loss counts."""

from collections.abc import Sequence
from typing import Any, Protocol

from .records import Message

MaskedTokens = tuple[list[int], list[bool]]  # tokens, and the loss mask: true for those of answers, and their ends


class Template(Protocol):
    """The interface of a chat template."""

    tokenizer: Any
    ends: frozenset[int]  # tokens that end an answer

    def tokens(self, messages: Sequence[Message], answers: dict[int, list[int]] | None = None) -> list[int]:
        """Return the tokens of messages, the last one a user's, up to the start of the answer to it.

        `answers`: the tokens of some of the messages, by index, as the model generated them.
        """

    def examples(self, conversations: Sequence[Sequence[Message]]) -> list[MaskedTokens | ValueError]:
        """Return each conversation's tokens and their loss mask, or the reason that there are none."""
