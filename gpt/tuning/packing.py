"""Conversations as tokens to train on: several of them in a window, and only what the assistant says counts."""

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

Example = tuple[Array, Array]  # tokens int64 (n,), and which of them count, booleans (n,)


@dataclass
class ConversationData:
    """Conversations in windows (B, block_size), with the next tokens as targets and -100 for those that do not count.

    A window to train on is filled with whole conversations, in shuffled order, one after the other as in a long chat,
    so that little is padding and the model learns to answer after other turns, too.  To validate, each conversation
    stands in a window of its own, as a new chat does.

    noise: share of the questions' tokens that are replaced by random ones, anew each time, so that the model learns to
    go by several words of a question and not by all of them, of which few conversations have enough variety.
    n_text: tokens from this number on mark turns, and are never replaced.
    """
    train: list[Example]
    val: list[Example]
    block_size: int
    description: str = "conversations"
    judged: str = "held-out questions"  # what the validation loss is of
    characters_per_token: float = 1.0
    noise: float = 0.0
    n_text: int = 0
    waiting: deque[int] = field(default_factory=deque, repr=False)  # of this pass, in shuffled order

    def train_batch(self, rng: np.random.Generator, batch_size: int) -> Batch:
        """The next windows, drawn with `rng` pass by pass."""
        ids, targets = self._windows([self._filled(rng) for _ in range(batch_size)], self.block_size)
        if self.noise:
            replaced = (targets == IGNORED) & (ids < self.n_text) & (rng.random(ids.shape) < self.noise)
            ids = np.where(replaced, rng.integers(self.n_text, size=ids.shape), ids)
        return ids, targets

    def val_batch(self, rng: np.random.Generator, batch_size: int) -> Batch:
        return self._windows([[self.val[i]] for i in rng.integers(len(self.val), size=batch_size)], self.val_length)

    def val_windows(self, batch_size: int) -> Iterator[Batch]:
        for start in range(0, len(self.val), batch_size):
            yield self._windows([[e] for e in self.val[start:start + batch_size]], self.val_length)

    @property
    def val_length(self) -> int:
        return max(len(tokens) for tokens, _ in self.val) - 1

    @property
    def share(self) -> float:
        """The share of the tokens of conversations that are trained on."""
        return sum(int(c[1:].sum()) for _, c in self.train) / sum(len(t) - 1 for t, _ in self.train)

    def _filled(self, rng: np.random.Generator) -> list[Example]:
        """Conversations for a window; the first that does not fit any more begins the next one."""
        found: list[Example] = []
        room = self.block_size + 1
        while True:
            if not self.waiting:
                self.waiting.extend(rng.permutation(len(self.train)).tolist())
            example = self.train[self.waiting[0]]
            if len(example[0]) > room:
                return found
            room -= len(example[0])
            found.append(example)
            self.waiting.popleft()

    @staticmethod
    def _windows(rows: Sequence[Sequence[Example]], length: int) -> Batch:
        ids, targets = np.zeros((len(rows), length), np.int64), np.full((len(rows), length), IGNORED)
        for i, row in enumerate(rows):
            tokens, counted = (np.concatenate(parts) for parts in zip(*row))
            n = len(tokens) - 1
            ids[i, :n] = tokens[:-1]
            targets[i, :n] = np.where(counted[1:], tokens[1:], IGNORED)
        return ids, targets


def encoded(conversations: Sequence[Conversation], template: Template,
            longest: int) -> tuple[list[Example | None], list[str]]:
    """Each conversation as an example of at most `longest` tokens, or None; and lines that say what was left out.

    Of a longer conversation the first turns go, until it fits; one whose last question and answer do not fit, or that
    has text which the tokenizer does not know, goes as a whole.
    """
    messages = [c.messages for c in conversations]
    chats = iter(template.examples([c.messages for c in conversations if not c.is_plain]))
    marked = [_plain(c, template) if c.is_plain else next(chats) for c in conversations]
    marked = [m if isinstance(m, ValueError) or any(m[1]) else ValueError("the chat template writes no answer of it")
              for m in marked]
    cut, rest = set[int](), list(range(len(marked)))
    while rest := [i for i in rest if _too_long(marked[i], longest) and without_first_turn(messages[i])]:
        for i in rest:
            messages[i] = without_first_turn(messages[i])
        for i, shorter in zip(rest, template.examples([messages[i] for i in rest])):
            marked[i] = shorter
        cut.update(rest)
    unknown = {i: f"{conversations[i].where}: {m}" for i, m in enumerate(marked) if isinstance(m, ValueError)}
    too_long = {i: f"{conversations[i].where}, with {len(m[0]):,} tokens" for i, m in enumerate(marked)
                if not isinstance(m, ValueError) and _too_long(m, longest)}
    shortened = {i: conversations[i].where for i in sorted(cut) if i not in unknown and i not in too_long}
    said = [f"{len(which):,} of {len(marked):,} conversations {what}, such as {next(iter(which.values()))}{cure}"
            for which, what, cure in (
                (unknown, "are left out, which cannot be encoded", _cure(template)),
                (too_long, f"are left out, which are longer than a window of {longest - 1:,} tokens",
                 ": raise --block-size"),
                (shortened, "lose their first turns, to fit the window", "")) if which]
    return [None if i in unknown or i in too_long or isinstance(m, ValueError) else
            (np.array(m[0], np.int64), np.array(m[1], bool)) for i, m in enumerate(marked)], said


def _cure(template: Template) -> str:
    """What to do about text that a model has no tokens for."""
    if isinstance(template, Turns) and not getattr(template.tokenizer.base, "knows_all_text", True):
        flags = [f"--tokenizer {kind}" for kind in learned_kinds() if TOKENIZERS[kind].knows_all_text]
        return f"; a model that gpt train {' or '.join(flags)} has made takes all text"
    return ""


def _plain(conversation: Conversation, template: Template) -> MaskedTokens | ValueError:
    """The tokens of a text without turns, all of which count."""
    try:
        tokens = template.tokenizer.encode(conversation.messages[0].text).tolist()
    except ValueError as error:
        return error
    return tokens, [True] * len(tokens)


def _too_long(marked: MaskedTokens | ValueError, longest: int) -> bool:
    return not isinstance(marked, ValueError) and len(marked[0]) > longest


def without_first_turn(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages without the first question and its answer; none if there is only one."""
    first = int(messages[0].role == "system")
    return (*messages[:first], *messages[first + 2:]) if len(messages) > first + 2 else ()


def parted(conversations: Sequence[Conversation], val_fraction: float, seed: int) -> Array:
    """Which conversations are held out, booleans (n,): a random share, in which those that begin with the same question
    are together.  Raises ValueError where there is only one question."""
    asked = [next((m.text for m in c.messages if m.role == "user"), c.messages[0].text) for c in conversations]
    different = sorted(set(asked))
    if len(different) < 2:
        raise ValueError("there is one question only, and one more is needed, to hold it out: give more conversations")
    n = min(max(1, round(val_fraction * len(different))), len(different) - 1)
    chosen = {different[i] for i in np.random.default_rng([seed, 4]).permutation(len(different))[:n]}
    return np.array([question in chosen for question in asked])
