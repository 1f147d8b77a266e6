"""A conversation with a model, which keeps within the model's context and has only new tokens read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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

RUNNERS_UP = 3  # that `/why` shows of a token
ROOM = 4  # at least one in so many tokens of the context is kept free for the answer


@dataclass
class Choice:
    """A token of an answer, its probability before any setting of sampling, and the likeliest others with theirs."""
    token: int
    probability: float
    others: list[tuple[int, float]]


class Chat:
    """A conversation with a model.  A model that was not tuned to one goes on with what it is given.

    `transcript`: all messages; `turns`: those that still fit the context, and the tokens of those that the model wrote;
    `choices`: the last answer, token by token; `notes`: what to tell the user, who empties it.
    """

    def __init__(self, run: Checkpoint, sampling: Sampling, max_new_tokens: int = 400, system: str = "",
                 seed: int = 1337):
        self.run, self.sampling, self.longest = run, sampling, max_new_tokens
        self.window, self.template = run.config.block_size, template_of(run)
        self.rng, self.system, self.notes = np.random.default_rng(seed), system, list[str]()
        self.decoding: DecodingState | None = None  # what the model has read, which is `read`
        self.read: list[int] = []
        self.choices: list[Choice] = []
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.transcript: list[Message] = []
        self.turns: list[tuple[Message, list[int] | None]] = []
        if self.system:
            self.turns = [(Message("system", self.system), None)]
        self.read, self.decoding, self.choices = [], None, []

    def ask(self, text: str, asked: Sequence[Any] = ()) -> Iterator[str]:
        """Yield the answer in pieces, as it is written.  It ends with the model's token for the end, after
        max_new_tokens, or once `asked` holds something.  Raises ValueError, and the conversation is as before, for
        text that the tokenizer does not know."""
        before = self.turns
        self.turns = [*before, (Message("user", text), None)]
        try:
            prompt = self._prompt(text)
        except ValueError:
            self.turns = before
            raise
        self._see(prompt)
        stream, written, pieces = Stream(decode_on(self.run.tokenizer)), list[int](), list[str]()
        self.choices = []
        try:
            for token in self._answer(asked):
                written.append(token)
                if piece := stream.add(token):
                    pieces.append(piece)
                    yield piece
            if piece := stream.rest():
                pieces.append(piece)
                yield piece
        finally:
            said = "".join(pieces)
            self.turns.append((Message("assistant", said), written))
            self.transcript += [Message("user", text), Message("assistant", said)]

    def _answer(self, asked: Sequence[Any]) -> Iterator[int]:
        assert self.decoding is not None
        ends = {*self.run.ends, *(self.template.ends if self.template else ())}
        seen = np.zeros(self.run.config.vocab_size, bool)
        seen[self.read] = True
        for _ in range(self.longest):
            if asked:
                self.notes.append("the answer was stopped")
                return
            logits = self.decoding.logits()[0]
            token = sample_token(logits, self.rng, seen, self.sampling)
            self.choices.append(_choice(logits, token))
            if token in ends:
                return
            self._append(token)
            seen[token] = True
            yield token
        self.notes.append(f"the answer was stopped after {self.longest:,} tokens (--max-new-tokens)")

    # ------------------------------------------------------------------ the context
    def _prompt(self, text: str) -> list[int]:
        """The tokens that the model goes on from; turns that do not fit the context any more are dropped."""
        most = self.window - min(self.longest, max(1, self.window // ROOM))
        dropped = 0
        if self.template is None:
            more = encode_prompt(self.run.tokenizer, text, special=False, template=not self.read)
            tokens = self.read + more.tolist()
            if not tokens:
                raise ValueError("there is no text to go on with: write some")
        else:
            tokens = self._tokens()
            first = int(self.turns[0][0].role == "system")
            while len(tokens) > most and len(self.turns) > first + 2:
                self.turns = self.turns[:first] + self.turns[first + 2:]
                tokens, dropped = self._tokens(), dropped + 1
            if dropped:
                what = "question and its answer" if dropped == 1 else f"{dropped} questions and their answers"
                self.notes.append(f"the context of {self.window:,} tokens is full: the oldest {what} had to go")
        if len(tokens) > most:
            self.notes.append(f"the model sees {self.window:,} tokens at once, and the start of the text had to go")
            tokens = tokens[-most:]
        return tokens

    def _tokens(self) -> list[int]:
        assert self.template is not None
        return self.template.tokens([m for m, _ in self.turns],
                                    {i: tokens for i, (_, tokens) in enumerate(self.turns) if tokens is not None})

    def _see(self, tokens: list[int]) -> None:
        """Let the model read these tokens: only the new ones, if they go on from those it has read."""
        n = len(self.read)
        if self.decoding is not None and n < len(tokens) and tokens[:n] == self.read:
            for token in tokens[n:]:
                self.decoding.append(np.array([token]))
        else:
            self.decoding = DecodingState(self.run.model, [np.array(tokens)])
        self.read = list(tokens)

    def _append(self, token: int) -> None:
        assert self.decoding is not None
        if len(self.read) == self.window:  # then `DecodingState` drops the older half
            self.read = self.read[self.window - self.window // 2:]
            self.notes.append(f"the context of {self.window:,} tokens is full: the model forgot its older half")
        self.decoding.append(np.array([token]))
        self.read.append(token)


def _choice(logits: Array, token: int) -> Choice:
    x = logits.astype(np.float64)
    p = np.exp(x - x.max())
    p /= p.sum()
    best = np.argsort(-p, kind="stable")[:RUNNERS_UP + 1].tolist()
    return Choice(token, float(p[token]), [(i, float(p[i])) for i in best if i != token][:RUNNERS_UP])


def answer(run: Checkpoint, messages: Sequence[Message], n: int, **sampling: Any) -> str:
    """The answer, of at most `n` tokens, to messages that end with a user's: by default the likeliest tokens."""
    chat = Chat(run, Sampling(**{"temperature": 0.0, **sampling}), n)
    chat.turns = [(message, None) for message in messages[:-1]]
    return "".join(chat.ask(messages[-1].text))
