"""The page's server: it listens on this machine alone, and answers those who know the token in the page's address."""

from __future__ import annotations

import hmac
import json
import logging
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qs

import numpy as np

from autograd.core.describe import plural
from autograd.view.page import page
from autograd.view.palette import sequential

from ...checkpoint import parse_object
from ...data.tokenizers import decode_on
from ...generation.sampling import Sampling
from ..chat import Chat, Choice
from ..records import Message
from .inside import describe, look

HOST = "127.0.0.1"
LARGEST = 1 << 20  # bytes of a request
N_OTHERS = 7       # runners-up of each token that the page shows
STEP = 60          # seconds that a question waits for the last step of an answer that was stopped
PATIENCE = 5       # seconds that the end of the program waits for the end of an answer
SCRIPTS = ("parts.js", "turns.js", "inside.js", "chat.js")
HEADERS = {"Cache-Control": "no-store", "Cross-Origin-Opener-Policy": "same-origin",
           "Cross-Origin-Resource-Policy": "same-origin", "Referrer-Policy": "no-referrer",
           "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"}
LOOSE = "; connect-src 'self'; base-uri 'none'; form-action 'none'"  # of the page's Content-Security-Policy


class Refused(Exception):
    """A request that is refused: `status`, as in "403 Forbidden", and a line for the reader."""

    def __init__(self, status: str, line: str):
        super().__init__(line)
        self.status = status


@dataclass
class Question:
    """A request for an answer: the conversation up to the user's last message, and how to sample."""
    messages: list[Any]
    sampling: Sampling
    max_new_tokens: int
    begin: list[int]  # tokens that the answer begins with

    @classmethod
    def parse(cls, given: dict[str, Any], chat: Chat) -> Question:
        """Return the question in a request.  Raises ValueError or TypeError for one that is none."""
        check_names(given, {"messages", "begin", "temperature", "top_k", "max_new_tokens"})
        sampling = replace(chat.sampling, greedy=False, temperature=given["temperature"], top_k=given["top_k"])
        n, messages = given["max_new_tokens"], given["messages"]
        if type(n) is not int or not 0 < n <= 1_000_000:
            raise ValueError("max_new_tokens is a positive integer")
        if not isinstance(messages, list) or not messages:
            raise ValueError("messages is a list of one or more")
        return cls([parse_message(m, chat) for m in messages], sampling, n, parse_tokens(given["begin"], chat))


def parse_message(given: Any, chat: Chat) -> tuple[Message, list[int] | None]:
    """Return a message, and the tokens of one that the model wrote."""
    if not isinstance(given, dict):
        raise ValueError("a message is an object")
    check_names(given, {"role", "text"}, {"tokens"})
    if given["role"] not in ("system", "user", "assistant") or not isinstance(given["text"], str):
        raise ValueError("a message has a text, and the role system, user or assistant")
    tokens = parse_tokens(given["tokens"], chat) if "tokens" in given else None
    return Message(given["role"], given["text"]), tokens


def parse_tokens(given: Any, chat: Chat) -> list[int]:
    """Return a list of tokens of the model.  Raises ValueError."""
    if not isinstance(given, list) or not all(type(i) is int and 0 <= i < chat.run.config.vocab_size for i in given):
        raise ValueError("tokens are a list of integers that the model knows")
    return given


def check_names(given: dict[str, Any], needed: Set[str], optional: Set[str] = frozenset()) -> None:
    """Raise ValueError for a field that is missing, or unknown."""
    if wrong := (needed - given.keys()) | (given.keys() - needed - optional):
        raise ValueError(f"fields that are missing or unknown: {', '.join(sorted(wrong)):.200}")


class App:
    """A WSGI application: the page at `/`, answers as lines of JSON at `/answer`, and the inside at `/look`.

    One answer is written at a time, in steps; the model can be looked into between them.  `stopping` is not empty once
    the program ends, which ends the answer, too.
    """

    def __init__(self, chat: Chat, name: str):
        self.chat, self.name, self.token = chat, name, secrets.token_urlsafe(24)
        self.system, self.start = chat.system, (chat.sampling, chat.max_new_tokens)
        self.answering, self.computing, self.next_in_line = (threading.Lock() for _ in range(3))
        self.stopping: list[int] = []
        self.stop: Sequence[Any] = []  # not empty if the answer that is written was stopped
        self.takes_system = takes_system(chat)
        self.hosts: set[str] = set()  # names by which the page may be asked for
        chat.n_others = N_OTHERS

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        kind, status, body = "application/json", "200 OK", iter(())  # type: str, str, Iterable[bytes]
        try:
            self._check(environ)
            match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
                case "GET", "/":
                    kind, body = "text/html; charset=utf-8", [self.page().encode()]
                case "POST", "/answer":
                    body = self.answer(self._read(environ), environ.get("waitress.client_disconnected", bool))
                case "POST", "/look":
                    body = [encode(self.look(self._read(environ)))]
                case _:
                    raise Refused("404 Not Found", "there is nothing at this address")
        except Refused as refused:
            status, body = refused.status, [encode({"error": str(refused)})]
        except (ValueError, TypeError) as error:
            status, body = "400 Bad Request", [encode({"error": str(error)[:500]})]
        except MemoryError:
            status, body = "500 Internal Server Error", [b'{"error": "there is not enough memory for it"}']
        start_response(status, [("Content-Type", kind), *HEADERS.items()])
        return body

    # ------------------------------------------------------------------ who may ask
    def _check(self, environ: dict[str, Any]) -> None:
        """Raise Refused for a request that another page, or whoever lacks the token, can make."""
        host, origin = environ.get("HTTP_HOST", ""), environ.get("HTTP_ORIGIN")
        if host not in self.hosts or origin not in (None, f"http://{host}"):  # DNS rebinding, and other pages
            raise Refused("403 Forbidden", "this page answers only at the address that gpt chat printed")
        query = parse_qs(environ.get("QUERY_STRING", ""), errors="replace")
        token = query.get("token", [""])[0] if environ["REQUEST_METHOD"] == "GET" else environ.get("HTTP_X_TOKEN", "")
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self.token.encode()):
            raise Refused("403 Forbidden", "the token in the address is not that of this chat: open the whole address "
                                           "that gpt chat printed, up to its end")

    def _read(self, environ: dict[str, Any]) -> dict[str, Any]:
        """Return the JSON object of a request.  Raises ValueError or Refused."""
        body = environ["wsgi.input"].read(LARGEST + 1)
        if len(body) > LARGEST:
            raise Refused("413 Content Too Large", f"this is more than {LARGEST >> 20} MB of text: shorten it, or "
                                                   "begin a new conversation")
        try:
            return parse_object(body.decode())
        except ValueError as error:
            raise ValueError(f"the request is no JSON that can be used: {error}") from None

    # ------------------------------------------------------------------ what is asked for
    def page(self) -> str:
        """Return the page."""
        chat, (sampling, most) = self.chat, self.start
        c, unit = chat.run.config, getattr(chat.run.tokenizer, "unit", "tokens")
        data = {"name": self.name, "chats": chat.template is not None, "takesSystem": self.takes_system,
                "about": f"{plural(chat.run.model.n_parameters, 'parameter')}, {plural(c.n_layer, 'block')} of "
                         f"{plural(c.n_head, 'head')}, a context of {c.block_size:,} {unit}",
                "system": self.system, "temperature": 0 if sampling.greedy else sampling.temperature,
                "topK": sampling.top_k or 0, "vocabulary": c.vocab_size, "maxNewTokens": most,
                "sequential": sequential(np.linspace(0, 1, 256)).tolist()}
        return page(Path(__file__).parent, "chat", f"{self.name} · gpt chat", data, SCRIPTS, LOOSE)

    def answer(self, given: dict[str, Any], has_left: Callable[[], bool]) -> Iterator[bytes]:
        """Return the answer as lines of JSON: the prompt's tokens, then each token, and notes.  Raises Refused while
        another is written, and ValueError for a question that is none."""
        lines = self._answer(Question.parse(given, self.chat), StopRequests(self.stopping, has_left))
        next(lines)  # raises what is wrong, before anything is sent
        return lines

    def _answer(self, question: Question, stop: Sequence[Any]) -> Iterator[bytes]:
        """Yield an empty line once there is a token, and then all lines."""
        if not (self.answering.acquire(timeout=1) or self.stop and self.answering.acquire(timeout=STEP)):
            raise Refused("409 Conflict", "the model is answering in another tab: stop it there, or wait until it has "
                                          "finished")
        self.stop = stop
        try:
            chat, (*turns, (last, tokens)) = self.chat, question.messages
            if last.role != "user" or tokens is not None:
                raise ValueError("the last message is the user's")
            self._check_length([m.text for m, _ in turns if m.role == "system"] + [last.text])
            chat.sampling, chat.max_new_tokens = question.sampling, question.max_new_tokens
            chat.turns, chat.transcript, chat.notes = turns, [], []
            steps = chat.answer(last.text, stop, question.begin)
            line = self._next_line(steps)
            yield b""
            yield encode({"prompt": chat.prompt})
            try:
                while line:
                    yield line
                    line = self._next_line(steps)
            except (ValueError, MemoryError) as error:  # logits that are not finite, say
                yield encode({"error": str(error) or "there is not enough memory to go on"})
        finally:
            self.answering.release()

    def _next_line(self, steps: Iterator[tuple[str, Choice | None]]) -> bytes:
        """Return the next token of an answer, and notes; nothing at its end."""
        with self._turn():
            step = next(steps, None)
        notes, self.chat.notes = self.chat.notes, []
        events = [{"note": note.removesuffix(" (--max-new-tokens)")} for note in notes]
        return b"".join(map(encode, events + ([self.describe(*step)] if step else [])))

    def describe(self, text: str, choice: Choice | None) -> dict[str, Any]:
        """Return a token of the answer as plain data, or the text that is left at its end."""
        if choice is None:
            return {"text": text}
        return {"text": text, "id": choice.token, "label": self.label(choice.token), "p": choice.probability,
                "others": [[i, self.label(i), p] for i, p in choice.others], "end": choice.token in self.chat.ends}

    def _check_length(self, texts: list[str]) -> None:
        """Raise ValueError for a system prompt and a question that leave no room for an answer."""
        chat, most = self.chat, self.chat.window * 3 // 4
        if chat.template and (n := sum(len(chat.run.tokenizer.encode(text)) for text in texts)) > most:
            raise ValueError(f"this is {n:,} tokens long, and the model's context of {chat.window:,} has room for "
                             f"{most:,} and an answer: shorten it")

    def look(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return the inside of the model at a token: see `inside.look`.  Raises Refused while another text is written.
        """
        check_names(given, {"prompt", "answer", "token"})
        prompt, answer, (token,) = (parse_tokens(each, self.chat) for each in (given["prompt"], given["answer"],
                                                                               [given["token"]]))
        if not 0 < len(prompt) <= self.chat.window:
            raise ValueError("the prompt is empty, or longer than the context")
        ids = self.chat.seen(prompt, answer)
        with self._turn():
            if self.answering.locked() and self.chat.read[:len(ids)] != ids:
                raise Refused("409 Conflict", "the model is writing: what it no longer has in its context can be "
                                              "looked at once it has finished")
            return describe(look(self.chat, ids, token), self.label)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Have the model to itself within it; whoever waits comes before the next step of an answer."""
        with self.next_in_line:
            self.computing.acquire()
        try:
            yield
        finally:
            self.computing.release()

    def label(self, token: int) -> str:
        """Return the text of a token, or the number of a byte that is no character."""
        text = decode_on(self.chat.run.tokenizer)([token])
        return f"byte {token}" if "\ufffd" in text else text


class StopRequests(Sequence[Any]):
    """A sequence that is not empty once the program ends, or whoever asked has left."""

    def __init__(self, stopping: list[int], has_left: Callable[[], bool]):
        self.stopping, self.has_left = stopping, has_left

    def __len__(self) -> int:
        return len(self.stopping) or int(self.has_left())

    def __getitem__(self, i: Any) -> Any:
        return self.stopping[i]


def encode(event: dict[str, Any]) -> bytes:
    """Return a line of JSON."""
    return json.dumps(event, allow_nan=False).encode() + b"\n"


def takes_system(chat: Chat) -> bool:
    """Return whether a system message changes the tokens of a conversation."""
    if chat.template is None:
        return False
    question = Message("user", "a" if not chat.system else chat.system)
    try:
        return chat.template.tokens([Message("system", question.text), question]) != chat.template.tokens([question])
    except ValueError:  # the template raises, or the tokenizer does not know the letter
        return False


# ---------------------------------------------------------------------- the server


def check_library() -> None:
    """Raise ImportError if the library of the server is missing."""
    if find_spec("waitress") is None:
        raise ImportError('the page needs the library waitress: pip install "tapegrad[web]"')


def serve(chat: Chat, name: str, port: int = 0) -> NoReturn:
    """Serve the page until Ctrl-C or SIGTERM, which the caller turns into an exception.  Raises OSError for a port that
    is taken."""
    with started(chat, name, port) as app:
        print(f"{app.name}: open this address in a browser on this machine (Ctrl-C ends it)\n\n    {app.address}\n",
              flush=True)
        while True:
            threading.Event().wait(60)  # a wait without a limit could not be interrupted on Windows


@contextmanager
def started(chat: Chat, name: str, port: int = 0) -> Iterator[Any]:
    """Serve the page within it, in a thread, and yield the app, with its `address`."""
    import waitress  # an extra

    app: Any = App(chat, name)
    try:
        server: Any = waitress.create_server(app, host=HOST, port=port, ident=None, channel_request_lookahead=1,
                                             max_request_body_size=8 * LARGEST)
    except OSError as error:
        raise OSError(f"port {port} cannot be used ({error.strerror}): choose another with --port") from None
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # requests may wait for each other
    host = f"{HOST}:{server.effective_port}"
    app.hosts, app.address = {host, f"localhost:{server.effective_port}"}, f"http://{host}/?token={app.token}"
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield app
    finally:
        app.stopping.append(1)
        for lock in (app.answering, app.computing):  # an answer ends after the current token
            lock.acquire(timeout=PATIENCE)
        server.task_dispatcher.shutdown(timeout=1)
        server.trigger.pull_trigger(partial(close, server))  # in its own thread
        thread.join(PATIENCE)


def close(server: Any) -> None:
    """Close a server of waitress and its connections, which ends its loop."""
    for channel in [*server.active_channels.values()]:
        channel.handle_close()
    server.close()
