"""`gpt chat`: a conversation in the terminal, in a browser, or with a script that sends a question a line."""

import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..checkpoint import folder_of, load_checkpoint
from ..generation.sampling import Sampling
from ..runtime.screen import escape_line
from ..runtime.settings import setting
from ..runtime.writing import replacing
from .chat import Chat
from .web.server import check_library, serve

HELP = """\
/reset           begin a new conversation
/temperature X   draw more predictable answers (below 1) or more varied ones; 0: always the likeliest token
/why             the last answer's tokens, their probabilities and the runners-up
/save FILE       write the conversation as a line of JSON, which gpt tune --data reads
/exit            end the chat, as Ctrl-D does; Ctrl-C stops an answer
A question that begins with / is written with a space before it."""


@dataclass
class ChatConfig(Sampling):
    """The settings of `gpt chat`."""

    path: str = setting("tuned", "folder or file that gpt tune, import or train left", positional=True,
                        path=True)
    system: str = setting("", "system message, before the first question", group="text", metavar="TEXT")
    max_new_tokens: int = setting(400, "tokens of an answer, at most", at_least=1, group="text")
    temperature: float = setting(0.5, "sampling temperature; below 1: more predictable, above: more varied, 0: greedy",
                                 at_least=0, group="sampling")
    seed: int = setting(1337, "seed of the sampling: the same one gives the same answers", at_least=0, group="sampling")
    web: bool = setting(False, "chat in a browser on this machine: the page shows how likely each token was, what else "
                               "might have come, and the layers and heads behind it (pip install "
                               "\"tapegrad[web]\")", group="page")
    port: int = setting(0, "port of the page; 0: a free one", at_least=0, at_most=65535, group="page")


def chat(config: ChatConfig) -> None:
    """Talk to the model at `config.path`: the command `gpt chat`."""
    if config.web:
        check_library()  # before a model that takes a while
    run = load_checkpoint(config.path, lambda line: print_note(line.removeprefix("note    ")), packed=True)
    sampling = Sampling(**{f.name: getattr(config, f.name) for f in fields(Sampling)})
    talk = Chat(run, sampling, config.max_new_tokens, config.system, config.seed)
    if config.web:
        serve(talk, folder_of(config.path).resolve().name, config.port)
    if talk.template is None:
        print_note("this model was not tuned to conversations: it goes on with what you write, until gpt tune "
                   "teaches it to answer")
    if sys.stdin.isatty():
        chat_on_terminal(talk)
        return
    for question in read_questions():
        if not handle_line(talk, question):
            break


def chat_on_terminal(talk: Chat) -> None:
    """Read questions and answer them until Ctrl-D or /exit."""
    with suppress(ImportError):
        import readline  # noqa: F401  # for editing and history of lines
    print("Ask something.  /help lists what else you can do.")
    with handle_interrupts() as answering:
        going_on = True
        while going_on:
            try:
                question = input("\n> ")
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                print("\nCtrl-D or /exit ends the chat")
                continue
            with answering() as stop_requested:
                going_on = handle_line(talk, question, stop_requested)


def read_questions() -> Iterator[str]:
    """Yield the lines of standard input.  Raises ValueError for one that is no UTF-8 text."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise ValueError(f"line {number:,} of standard input is not UTF-8 text") from None


@contextmanager
def handle_interrupts() -> Iterator[Callable[[], Any]]:
    """Let Ctrl-C raise KeyboardInterrupt, but within `with answering() as signals:` append to that list instead."""
    current: list[list[int]] = []

    def handle(number: int, frame: Any) -> None:
        if not current:
            raise KeyboardInterrupt
        current[-1].append(number)

    @contextmanager
    def answering() -> Iterator[list[int]]:
        current.append([])
        try:
            yield current[-1]
        finally:
            current.pop()

    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield answering
        return
    before = signal.signal(signal.SIGINT, handle)
    try:
        yield answering
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)


# ---------------------------------------------------------------------- a line of input


def handle_line(talk: Chat, line: str, stop_requested: list[int] | tuple[()] = ()) -> bool:
    """Answer a question, or run a command; return whether the chat goes on."""
    try:
        if line.startswith("/"):
            return run_command(talk, line)
        if line.strip():
            for piece in talk.ask(line.strip(), stop_requested):
                print(piece, end="", flush=True)
            print(flush=True)
    except ValueError as error:
        print_note(str(error))
    finally:
        while talk.notes:
            print_note(talk.notes.pop(0))
    return True


def run_command(talk: Chat, line: str) -> bool:
    """Run a command, a line that begins with /; return whether the chat goes on.  Raises ValueError for an unknown
    one."""
    name, _, rest = line[1:].strip().partition(" ")
    match name, rest.strip():
        case ("exit" | "quit"), "":
            return False
        case "help", "":
            print(HELP)
        case "reset", "":
            talk.reset()
            print_note("a new conversation")
        case "why", "":
            print("\n".join(explain_answer(talk)))
        case "temperature", value:
            talk.sampling = replace(talk.sampling, temperature=parse_number(value), greedy=False)
            print_note(f"temperature {talk.sampling.temperature:g}")
        case "save", file if file:
            save_conversation(talk, file)
            print_note(f"the conversation is in {file}")
        case _:
            raise ValueError(f"there is no /{line[1:41]}: /help lists what there is")
    return True


def parse_number(text: str) -> float:
    """Return the number after /temperature.  Raises ValueError."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"/temperature needs a number, such as 0.7, and not {text[:40]!r}") from None


def save_conversation(talk: Chat, file: str) -> None:
    """Write the conversation into a new file that `gpt tune` reads.  Raises ValueError if it cannot be written."""
    said = talk.transcript
    pairs = [pair for pair in zip(said[::2], said[1::2]) if pair[0].text.strip() and pair[1].text.strip()]
    if not pairs:
        raise ValueError("there is no answer yet that could be saved")
    messages = [{"role": "system", "content": talk.system}] if talk.system else []
    messages += [{"role": m.role, "content": m.text} for pair in pairs for m in pair]
    path = Path(shlex.split(file)[0])
    if os.path.lexists(path):
        raise ValueError(f"{file} is there already, and nothing is written over: choose another name")
    try:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({"messages": messages}) + "\n", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{file} cannot be written ({error.strerror}): choose another name") from None


def explain_answer(talk: Chat) -> list[str]:
    """Return a line for each token of the last answer: its probability, and those of the likeliest others."""
    if not talk.choices:
        raise ValueError("there is no answer yet to look into: ask something first")
    decode = talk.run.tokenizer.decode

    def shown(token: int) -> str:
        return repr(decode([token]))

    width = min(24, max(len(shown(c.token)) for c in talk.choices))
    return [f"{shown(c.token):{width}} {c.probability:7.2%}   " +
            "   ".join(f"{shown(token)} {p:.2%}" for token, p in c.others) for c in talk.choices]


def print_note(line: str) -> None:
    """Print a line that is not part of an answer."""
    sys.stdout.flush()
    print(f"({escape_line(line)})", file=sys.stderr, flush=True)
