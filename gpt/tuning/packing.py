"""Conversations as tokens to train on: packed into windows, with a loss mask that keeps the assistant's answers."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..chat.conversation import Conversation, Message
from ..chat.template import MaskedTokens, Template
from ..chat.turns import Turns
from ..data.dataset import IGNORED, Batch
from ..data.tokenizers import TOKENIZERS, learned_kinds
from ..model.module import Array

Example = tuple[Array, Array]  # tokens int64 (n,), and their loss mask, booleans (n,)
Encoded = MaskedTokens | ValueError  # the reason why there are none


@dataclass
class ConversationData:
    """Conversations in windows (B, block_size), with the next tokens as targets, and -100 where the loss mask is False.

    To train, windows are packed with whole conversations, in shuffled order, one after the other as in a long chat, so
    that little is padding and the model learns to answer after other turns, too.  To validate, each conversation has a
    window of its own, as a new chat does.

    noise: fraction of the questions' tokens that are replaced by random ones, anew in each epoch, so that the model
    does not depend on the exact wording of a question.
    n_text: tokens from this id on mark turns, and are never replaced.
    """
    train: list[Example]
    val: list[Example]
    block_size: int
    description: str = "conversations"
    val_description: str = "held-out questions"  # a phrase for what the validation loss is on
    characters_per_token: float = 1.0
    noise: float = 0.0
    n_text: int = 0
    waiting: deque[int] = field(default_factory=deque, repr=False)  # of this epoch, in shuffled order

    def train_batch(self, rng: np.random.Generator, batch_size: int) -> Batch:
        """Return the next windows, in an order that `rng` draws for each epoch."""
        ids, targets = self._windows([self._pack(rng) for _ in range(batch_size)], self.block_size)
        if self.noise:
            replaced = (targets == IGNORED) & (ids < self.n_text) & (rng.random(ids.shape) < self.noise)
            ids = np.where(replaced, rng.integers(self.n_text, size=ids.shape), ids)
        return ids, targets

    def val_batch(self, rng: np.random.Generator, batch_size: int) -> Batch:
        """Return held-out conversations drawn at random."""
        return self._windows([[self.val[i]] for i in rng.integers(len(self.val), size=batch_size)], self.val_length)

    def val_windows(self, batch_size: int) -> Iterator[Batch]:
        """Yield all held-out conversations, in batches."""
        for start in range(0, len(self.val), batch_size):
            yield self._windows([[e] for e in self.val[start:start + batch_size]], self.val_length)

    @property
    def val_length(self) -> int:
        """Tokens of the window that the longest held-out conversation needs."""
        return max(len(tokens) for tokens, _ in self.val) - 1

    @property
    def trained_fraction(self) -> float:
        """Fraction of the tokens of the training conversations that the loss is on."""
        return sum(int(mask[1:].sum()) for _, mask in self.train) / sum(len(t) - 1 for t, _ in self.train)

    def _pack(self, rng: np.random.Generator) -> list[Example]:
        """Return conversations that fill a window; the first that does not fit begins the next one."""
        found: list[Example] = []
        left = self.block_size + 1
        while True:
            if not self.waiting:
                self.waiting.extend(rng.permutation(len(self.train)).tolist())
            example = self.train[self.waiting[0]]
            if len(example[0]) > left:
                return found
            left -= len(example[0])
            found.append(example)
            self.waiting.popleft()

    @staticmethod
    def _windows(rows: Sequence[Sequence[Example]], length: int) -> Batch:
        """Return ids and targets (len(rows), length), each row padded with zeros that do not count."""
        ids, targets = np.zeros((len(rows), length), np.int64), np.full((len(rows), length), IGNORED)
        for i, row in enumerate(rows):
            tokens, mask = (np.concatenate(arrays) for arrays in zip(*row))
            n = len(tokens) - 1
            ids[i, :n] = tokens[:-1]
            targets[i, :n] = np.where(mask[1:], tokens[1:], IGNORED)
        return ids, targets


def encode_conversations(conversations: Sequence[Conversation], template: Template,
                         longest: int) -> tuple[list[Example | None], list[str]]:
    """Return an example of at most `longest` tokens for each conversation, or None; and notes on what was left out.

    A longer conversation loses its first turns, until it fits.  One whose last question and answer do not fit, or that
    has text which the tokenizer does not know, is left out.
    """
    encoded = _apply_template(conversations, template)
    truncated = _truncate(encoded, conversations, template, longest)
    unknown = {i: f"{conversations[i].where}: {e}" for i, e in enumerate(encoded) if isinstance(e, ValueError)}
    too_long = {i: f"{conversations[i].where}, with {len(e[0]):,} tokens" for i, e in enumerate(encoded)
                if not isinstance(e, ValueError) and len(e[0]) > longest}
    shortened = {i: conversations[i].where for i in truncated if i not in unknown and i not in too_long}
    notes = [f"{len(found):,} of {len(encoded):,} conversations {problem}, such as {next(iter(found.values()))}{cure}"
             for found, problem, cure in (
                 (unknown, "are left out, which cannot be encoded", _cure(template)),
                 (too_long, f"are left out, which are longer than a window of {longest - 1:,} tokens",
                  ": raise --block-size"),
                 (shortened, "lose their first turns, to fit the window", "")) if found]
    return [None if i in too_long or isinstance(e, ValueError) else
            (np.array(e[0], np.int64), np.array(e[1], bool)) for i, e in enumerate(encoded)], notes


def _apply_template(conversations: Sequence[Conversation], template: Template) -> list[Encoded]:
    """Encode each conversation whole."""
    chats = iter(template.examples([c.messages for c in conversations if not c.is_plain]))
    encoded = [_encode_plain(c, template) if c.is_plain else next(chats) for c in conversations]
    return [e if isinstance(e, ValueError) or any(e[1]) else ValueError("the chat template writes no answer of it")
            for e in encoded]


def _encode_plain(conversation: Conversation, template: Template) -> Encoded:
    """Encode a text without turns, all of which counts."""
    try:
        tokens = template.tokenizer.encode(conversation.messages[0].text).tolist()
    except ValueError as error:
        return error
    return tokens, [True] * len(tokens)


def _truncate(encoded: list[Encoded], conversations: Sequence[Conversation], template: Template,
              longest: int) -> list[int]:
    """Drop first turns, in place, from those of more than `longest` tokens, and return the indices of what changed."""
    messages = [c.messages for c in conversations]
    truncated, rest = set[int](), list(range(len(encoded)))
    while rest := [i for i in rest if _too_long(encoded[i], longest) and drop_first_turn(messages[i])]:
        for i in rest:
            messages[i] = drop_first_turn(messages[i])
        for i, shorter in zip(rest, template.examples([messages[i] for i in rest])):
            encoded[i] = shorter
        truncated.update(rest)
    return sorted(truncated)


def _too_long(encoded: Encoded, longest: int) -> bool:
    return not isinstance(encoded, ValueError) and len(encoded[0]) > longest


def drop_first_turn(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return the messages without the first question and its answer; none if there is only one."""
    first = int(messages[0].role == "system")
    return (*messages[:first], *messages[first + 2:]) if len(messages) > first + 2 else ()


def _cure(template: Template) -> str:
    """Return advice for text that a model has no tokens for."""
    if isinstance(template, Turns) and not getattr(template.tokenizer.base, "knows_all_text", True):
        flags = [f"--tokenizer {name}" for name in learned_kinds() if TOKENIZERS[name].knows_all_text]
        return f"; a model that gpt train {' or '.join(flags)} has made takes all text"
    return ""


def split_held_out(conversations: Sequence[Conversation], val_fraction: float, seed: int) -> Array:
    """Return booleans (n,), True for held-out conversations: a random fraction, in which those that begin with the same
    question are together.  Raises ValueError if there is only one question."""
    questions = [next((m.text for m in c.messages if m.role == "user"), c.messages[0].text) for c in conversations]
    different = sorted(set(questions))
    if len(different) < 2:
        raise ValueError("there is one question only, and one more is needed, to hold it out: give more conversations")
    n = min(max(1, round(val_fraction * len(different))), len(different) - 1)
    chosen = {different[i] for i in np.random.default_rng([seed, 4]).permutation(len(different))[:n]}
    return np.array([question in chosen for question in questions])
