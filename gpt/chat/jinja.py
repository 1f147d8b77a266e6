"""The chat template that a model brings, in Jinja, rendered in a sandbox and in a process of its own."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .records import Message
from .template import MaskedTokens

SECONDS, MEMORY = 20, 1 << 29  # limits of time and of memory in bytes
LONGEST = 1 << 26  # characters that it may output
LARGEST = 1 << 20  # characters of a template
BATCH = 2_000  # renderings by one process
PROBE = "an answer without an end"


class JinjaTemplate:
    """A model's own chat template.

    source: Jinja, as in tokenizer_config.json.  tokenizer: one with `encode(text, special=True)`.  special: names and
    texts of special tokens that the template uses, such as eos_token.  ends: the model's end tokens.  Text in a message
    that looks like a special token stays text.  Raises ImportError without Jinja2, and ValueError for a template that
    fails, takes too much time or memory, or accesses what the sandbox forbids.
    """

    def __init__(self, source: Any, tokenizer: Any, special: Any = None, ends: Sequence[int] = ()):
        if not isinstance(source, str) or len(source) > LARGEST:
            raise ValueError(f"the chat template is no text of at most {LARGEST:,} characters: import the model again, "
                             "with another tokenizer_config.json")
        special = special if isinstance(special, dict) else {}
        self.source, self.tokenizer = source, tokenizer
        self.special = {str(k): v for k, v in special.items() if isinstance(v, str)}
        self.end = self._find_end(ends)
        self.ends = frozenset([self.end])

    def tokens(self, messages: Sequence[Message], answers: dict[int, list[int]] | None = None) -> list[int]:
        (text,), hidden = self._render([(messages, True)])
        return self._encode(_valid(text), hidden)

    def examples(self, conversations: Sequence[Sequence[Message]]) -> list[MaskedTokens | ValueError]:
        jobs = [(messages[:i + done], not done) for messages in conversations
                for i, message in enumerate(messages) if message.role == "assistant" for done in (0, 1)]
        texts, hidden = self._render(jobs)
        rest = iter(texts)
        found: list[MaskedTokens | ValueError] = []
        for messages in conversations:
            own = [next(rest) for m in messages if m.role == "assistant" for _ in (0, 1)]
            try:
                found.append(self._mask([_valid(text) for text in own], hidden))
            except ValueError as error:
                found.append(error)
        return found

    def _mask(self, texts: Sequence[str], hidden: dict[str, str]) -> MaskedTokens:
        """Return the tokens of a conversation and their loss mask, from its text before and after each answer."""
        tokens: list[int] = []
        mask: list[bool] = []
        done = ""
        for before, after in zip(texts[::2], texts[1::2]):
            if not (before.startswith(done) and after.startswith(before)):
                raise ValueError("the model's chat template changes what came before when a turn is added, so that "
                                 "answers cannot be told from the rest: give conversations of one question each")
            prompt, answer = (self._encode(text, hidden) for text in (before[len(done):], after[len(before):]))
            cut = answer.index(self.end) + 1 if self.end in answer else len(answer)
            tokens += prompt + answer
            mask += [False] * len(prompt) + [True] * cut + [False] * (len(answer) - cut)
            done = after
        return tokens, mask

    def _find_end(self, ends: Sequence[int]) -> int:
        """Return the token that the template writes after an answer, or the model's own for the end of a text: the
        eos_token or the first of `ends`."""
        question = Message("user", "a question")
        (before, after), hidden = self._render([([question], True), ([question, Message("assistant", PROBE)], False)])
        _valid(before)
        _, found, rest = _valid(after).rpartition(PROBE)
        for text in (rest if found else "", self.special.get("eos_token", "")):
            if text and len(tokens := self.tokenizer.encode(text.lstrip(), special=True)):
                return int(tokens[0])
        if ends:
            return ends[0]
        raise ValueError("the chat template writes nothing after an answer, and the model names no eos_token: where an "
                         "answer ends cannot be learned")

    def _encode(self, text: str, hidden: dict[str, str]) -> list[int]:
        """Return the tokens of a rendered text, with its special tokens, but for those that messages had in them."""
        tokens: list[int] = []
        for i, piece in enumerate(_split(text, hidden)):
            if piece:
                tokens += self.tokenizer.encode(hidden[piece] if i % 2 else piece, special=i % 2 == 0).tolist()
        return tokens

    def _render(self, jobs: Sequence[tuple[Sequence[Message], bool]]) -> tuple[list[str | ValueError], dict[str, str]]:
        """Return the text of each list of messages, with the start of an answer where asked for; and the map from
        characters that stand in for special tokens within messages to these tokens."""
        names = sorted({*getattr(self.tokenizer, "special", {}), *self.special.values()} - {""}, key=len, reverse=True)
        first = 1 + max([0xF0000, *(ord(max(m.text)) for messages, _ in jobs for m in messages if m.text)])
        if first + len(names) > 0x110000:
            raise ValueError("a message has U+10FFFF in it, or one near it, which is no character: leave it out")
        hidden = {chr(first + i): name for i, name in enumerate(names)}  # characters that no message has

        def hide(text: str) -> str:
            for stand_in, name in hidden.items():
                text = text.replace(name, stand_in)
            return text

        plain = [([{"role": m.role, "content": hide(m.text)} for m in messages], prompt) for messages, prompt in jobs]
        texts: list[str | ValueError] = []
        for start in range(0, len(plain), BATCH):
            texts += render_templates(self.source, self.special, plain[start:start + BATCH])
        return texts, hidden


def _split(text: str, hidden: dict[str, str]) -> list[str]:
    """Split a text at stand-ins for special tokens: text, stand-in, text, and so on."""
    return re.split(f"([{re.escape(''.join(hidden))}])", text) if hidden else [text]


def _valid(text: str | ValueError) -> str:
    if isinstance(text, ValueError):
        raise text
    return text


def render_templates(source: str, tokens: dict[str, str], jobs: Sequence[Any]) -> list[str | ValueError]:
    """Render lists of messages, in a process of its own; of each the text, or the error.

    Raises ValueError or ImportError if none can be rendered.
    """
    if find_spec("jinja2") is None:
        raise ImportError('this model has a chat template of its own, which needs Jinja2: pip install "tapegrad[chat]"')
    request = json.dumps({"source": source, "tokens": tokens, "jobs": list(jobs), "seconds": SECONDS, "bytes": MEMORY,
                          "longest": LONGEST})
    script = Path(__file__).with_name("render.py")
    try:
        done = subprocess.run([sys.executable, "-P", str(script)], input=request.encode(), capture_output=True,
                              timeout=2 * SECONDS, check=False, start_new_session=True)  # Ctrl-C is not for it
        answer = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):  # it was ended by its limits before it could answer
        raise _unusable(f"it takes more than {SECONDS} seconds or {MEMORY >> 20:,} MB") from None
    if error := answer.get("error"):
        raise _unusable(error)
    return [text if isinstance(text, str) else _unusable(text["error"]) for text in answer["texts"]]


def _unusable(reason: str) -> ValueError:
    return ValueError(f"the model's chat template cannot be used: {reason}")
