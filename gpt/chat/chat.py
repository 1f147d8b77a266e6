"""A conversation with a model, kept within the model's context; the model reads only new tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from ..checkpoint import Checkpoint
from ..data.tokenizers import decode_on, encode_prompt
from ..generation.generate import Stream
from ..generation.incremental import DecodingState
from ..generation.sampling import Sampling, sample_token
from ..model.module import Array
from .conversation import Message
from .turns import template_of

RUNNERS_UP = 3  # other likely tokens that `/why` shows
ANSWER_SHARE = 4  # at least 1/4 of the context is kept free for the answer


@dataclass
class Choice:
    """A token of an answer, its probability before any setting of sampling, and the likeliest others with theirs."""
    token: int
    probability: float
    others: list[tuple[int, float]]


class Chat:
    """A conversation with a model.  A model without a chat template continues the text.

    transcript: all messages.
    turns: the messages that still fit the context, with the tokens of those that the model generated.
    choices: the last answer, token by token.
    prompt: the tokens that it answers.
    notes: lines to show to the user; whoever shows them empties the list.
    """

    def __init__(self, run: Checkpoint, sampling: Sampling, max_new_tokens: int = 400, system: str = "",
                 seed: int = 1337):
        self.run, self.sampling, self.max_new_tokens = run, sampling, max_new_tokens
        self.window, self.template = run.config.block_size, template_of(run)
        self.rng, self.system, self.notes = np.random.default_rng(seed), system, list[str]()
        self.decoding: DecodingState | None = None  # after the tokens `read`
        self.read: list[int] = []
        self.choices: list[Choice] = []
        self.prompt: list[int] = []
        self.n_others = RUNNERS_UP
        self.reset()

    def reset(self) -> None:
        """Begin a new conversation."""
        self.transcript: list[Message] = []
        self.turns: list[tuple[Message, list[int] | None]] = []
        if self.system:
            self.turns = [(Message("system", self.system), None)]
        self.read, self.decoding, self.choices = [], None, []

    def ask(self, text: str, stop_requested: Sequence[Any] = ()) -> Iterator[str]:
        """Yield the answer in pieces, as it is generated.  It ends with an end token, after max_new_tokens, or once
        `stop_requested` is not empty.  Raises ValueError for text that the tokenizer does not know; the conversation
        is then as before."""
        return (piece for piece, _ in self.answer(text, stop_requested) if piece)

    def answer(self, text: str, stop_requested: Sequence[Any] = (),
               begin: Sequence[int] = ()) -> Iterator[tuple[str, Choice | None]]:
        """Yield the answer by tokens, as `ask` does in pieces: the text that can be shown with a token, mostly its own,
        and its choice; at last what is left of the text, with None.  `begin`: tokens that it begins with, without
        a choice."""
        before = self.turns
        self.turns = [*before, (Message("user", text), None)]
        try:
            prompt = self._encode_prompt()
        except ValueError:
            self.turns = before
            raise
        self.prefill(self.seen(prompt, begin))
        stream, generated, pieces = Stream(decode_on(self.run.tokenizer)), list[int](), list[str]()
        self.prompt, self.choices = prompt, []
        try:
            for token, choice in chain(((token, None) for token in begin), self._generate(stop_requested)):
                ended = choice is not None and token in self.ends
                generated += [token] * (not ended)
                pieces.append("" if ended else stream.add(token))
                yield pieces[-1], choice
            pieces.append(stream.rest())
            yield pieces[-1], None
        finally:
            said = "".join(pieces)
            self.turns.append((Message("assistant", said), generated))
            self.transcript += [Message("user", text), Message("assistant", said)]

    @property
    def ends(self) -> set[int]:
        """The tokens that end an answer."""
        return {*self.run.ends, *(self.template.ends if self.template else ())}

    def _generate(self, stop_requested: Sequence[Any]) -> Iterator[tuple[int, Choice]]:
        assert self.decoding is not None
        seen = np.zeros(self.run.config.vocab_size, bool)
        seen[self.read] = True
        for _ in range(self.max_new_tokens):
            if stop_requested:
                self.notes.append("the answer was stopped")
                return
            logits = self.decoding.logits()[0]
            token = sample_token(logits, self.rng, seen, self.sampling)
            self.choices.append(inspect_choice(logits, token, self.n_others))
            if token not in self.ends:
                self._append(token)
                seen[token] = True
            yield token, self.choices[-1]
            if token in self.ends:
                return
        self.notes.append(f"the answer was stopped after {self.max_new_tokens:,} tokens (--max-new-tokens)")

    # ------------------------------------------------------------------ the context
    def _encode_prompt(self) -> list[int]:
        """Return the tokens of the prompt; turns that no longer fit the context are dropped."""
        most = self.window - min(self.max_new_tokens, max(1, self.window // ANSWER_SHARE))
        dropped = 0
        if self.template is None:
            tokens = self._encode_text()
            if not tokens:
                raise ValueError("there is no text to go on with: write some")
        else:
            tokens = self._encode_turns()
            first = int(self.turns[0][0].role == "system")
            while len(tokens) > most and len(self.turns) > first + 2:
                self.turns = self.turns[:first] + self.turns[first + 2:]
                tokens, dropped = self._encode_turns(), dropped + 1
            if dropped:
                turns = "question and its answer" if dropped == 1 else f"{dropped} questions and their answers"
                self.notes.append(f"the context of {self.window:,} tokens is full: the oldest {turns} had to go")
        if len(tokens) > most:
            self.notes.append(f"the model sees {self.window:,} tokens at once, and the start of the text had to go")
            tokens = tokens[-most:]
        return tokens

    def _encode_turns(self) -> list[int]:
        assert self.template is not None
        return self.template.tokens([m for m, _ in self.turns],
                                    {i: tokens for i, (_, tokens) in enumerate(self.turns) if tokens is not None})

    def _encode_text(self) -> list[int]:
        """Return the tokens of a text that the user and the model write by turns."""
        tokens: list[int] = []
        for message, generated in self.turns:
            if generated is None and message.role != "system":
                more = encode_prompt(self.run.tokenizer, message.text, special=False, template=not tokens)
                generated = more.tolist()
            tokens += generated or []
        return tokens

    def prefill(self, tokens: list[int]) -> DecodingState:
        """Let the model read these tokens, but for those at the start that it has read already; return its state."""
        n = next((i for i, (a, b) in enumerate(zip(self.read, tokens)) if a != b), min(len(self.read), len(tokens)))
        if self.decoding is not None and n:
            self.decoding.cut(n)
            for token in tokens[n:]:
                self.decoding.append(np.array([token]))
        else:
            self.decoding = DecodingState(self.run.model, [np.array(tokens)])
        self.read = list(tokens)
        return self.decoding

    def seen(self, prompt: Sequence[int], answer: Sequence[int]) -> list[int]:
        """Return what the model sees of a prompt, and what it has answered: a full context drops its older half."""
        n = len(prompt)
        for _ in answer:
            n = (self.window // 2 if n == self.window else n) + 1
        return [*prompt, *answer][-n:]

    def _append(self, token: int) -> None:
        assert self.decoding is not None
        if len(self.read) == self.window:  # `DecodingState` drops the older half
            self.read = self.read[self.window - self.window // 2:]
            self.notes.append(f"the context of {self.window:,} tokens is full: the model forgot its older half")
        self.decoding.append(np.array([token]))
        self.read.append(token)


def inspect_choice(logits: Array, token: int, n_others: int = RUNNERS_UP) -> Choice:
    """Return a token with its probability and the likeliest others, from logits (V,)."""
    x = logits.astype(np.float64)
    p = np.exp(x - x.max())
    p /= p.sum()
    n = min(n_others + 1, len(p))
    likely = np.flatnonzero(p >= np.partition(p, -n)[-n])  # a few, so that not all tokens have to be sorted
    best = likely[np.argsort(-p[likely], kind="stable")].tolist()
    return Choice(token, float(p[token]), [(i, float(p[i])) for i in best if i != token][:n_others])


def answer(run: Checkpoint, messages: Sequence[Message], n: int, **sampling: Any) -> str:
    """Return the answer, of at most `n` tokens, to messages that end with a user's, by default with greedy decoding."""
    chat = Chat(run, Sampling(**{"temperature": 0.0, **sampling}), n)
    chat.turns = [(message, None) for message in messages[:-1]]
    return "".join(chat.ask(messages[-1].text))
