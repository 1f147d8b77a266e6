"""Conversations: messages with roles, read from files of JSON, JSON Lines or CSV."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..text.corpus import read_bytes

ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant",
         "model": "assistant", "bot": "assistant"}
QUESTIONS = ("prompt", "question", "instruction", "input")  # names of fields, the first that a record has
ANSWERS = ("response", "answer", "output", "completion")
LARGEST = 1 << 30  # bytes of a file: all of it is held in memory
OURS = Path(__file__).with_name("pairs.jsonl")  # questions and answers that come with the package


@dataclass(frozen=True)
class Message:
    """What the system, the user or the assistant said."""
    role: str
    text: str

    def __post_init__(self) -> None:
        if self.role not in ("system", "user", "assistant"):
            raise ValueError(f"the role is {self.role!r:.40}, and needs to be system, user or assistant")


@dataclass(frozen=True)
class Conversation:
    """Messages: perhaps the system's, and then the user's and the assistant's by turns, the last one an answer.

    `where`: the file and the line that they come from.
    """
    messages: tuple[Message, ...]
    where: str = ""

    def __post_init__(self) -> None:
        turns = self.messages[self.messages[:1] != () and self.messages[0].role == "system":]
        for i, message in enumerate(turns):
            wanted = ("user", "assistant")[i % 2]
            if message.role != wanted:
                raise ValueError(f"message {i + 1 + len(self.messages) - len(turns)} is of the {message.role}, and "
                                 f"needs to be of the {wanted}: user and assistant take turns, after one message of "
                                 "the system at most")
            if not message.text:
                raise ValueError(f"the {'question' if wanted == 'user' else 'answer'} is empty: write one, or leave "
                                 "the record out")
        if not turns or len(turns) % 2:
            raise ValueError("it ends without an answer: give one, or leave the record out")


def read(paths: Sequence[str] = ()) -> list[Conversation]:
    """The conversations in files; without any, those that come with the package.

    A record is an object with a question and an answer (prompt, question or instruction, with or without input;
    response, answer, output or completion; perhaps system), or one with `messages` of {"role", "content"} or
    `conversations` of {"from", "value"}.  A file holds a list of them, or one a line, or a CSV table with a row of
    names.  Raises OSError or ValueError, in one line that says where, for anything else.
    """
    found = [c for path in paths or [str(OURS)] for c in _of_file(Path(path))]
    if not found:
        raise ValueError(f"{', '.join(paths)}: there is no conversation in there: give records with a question and an "
                         "answer")
    return found


def _of_file(path: Path) -> Iterator[Conversation]:
    text, name = _text(path), "line"
    if path.suffix.lower() in (".csv", ".tsv"):
        records, name = _rows(text, path), "row at line"
    elif text.lstrip()[:1] not in ("[", "{"):
        raise ValueError(f"{path} is neither JSON nor CSV: it needs to start with [ or {{, or to be named .csv")
    elif path.suffix.lower() == ".jsonl" or text.lstrip()[0] == "{":
        records = _lines(text, path)
    else:
        records = _items(text, path)
    for line, record in records:
        where = f"{path}, {name} {line:,}"
        try:
            yield Conversation(messages_of(record), where)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None


def _text(path: Path) -> str:
    """The text of a UTF-8 file, with \\n at the ends of lines."""
    try:
        data = read_bytes(path, LARGEST, "check the path after --data")
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder: give files after --data") from None
    if len(data) > LARGEST:
        raise ValueError(f"{path} has more than {LARGEST >> 20:,} MB: give conversations in smaller files")
    if not data.strip():
        raise ValueError(f"{path} is empty: give a file with conversations in it")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line:,}: this is not UTF-8 text (byte 0x{data[error.start]:02x}): save it as "
                         "UTF-8") from None
    if "\0" in text:
        raise ValueError(f"{path}, line {text.count(chr(10), 0, text.index(chr(0))) + 1:,}: a zero byte is in there: "
                         "it is binary, or UTF-16: save it as UTF-8 text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


# ---------------------------------------------------------------------- records of a file, with their lines


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


_DEEPEST = 100  # lists and objects within each other
_JSON = json.JSONDecoder(parse_constant=_refuse)


def _value(text: str, start: int, path: Path, line: int) -> tuple[Any, int]:
    """The JSON value at a place, and where it ends.  `line`: the number of the text's first one."""
    try:
        value, end = _JSON.raw_decode(text, start)
        check_depth(value)
        return value, end
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {line + error.lineno - 1:,}: this is no JSON ({error.msg} at column "
                         f"{error.colno:,})") from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{path}, line {line + text.count(chr(10), 0, start):,}: this is no JSON for us "
                         f"({reason:.100})") from None


def check_depth(value: Any) -> None:
    """Raise RecursionError for a value with lists and objects in each other so deep that not all can be done with it
    that can be read."""
    within = [value]
    for _ in range(_DEEPEST):
        within = [v for each in within if isinstance(each, (list, dict))
                  for v in (each.values() if isinstance(each, dict) else each)]
    if within:
        raise RecursionError


def _lines(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    """Values one a line; or, where the first line is not a whole one, one value over several lines."""
    if not _whole(text.lstrip().partition("\n")[0]) and path.suffix.lower() != ".jsonl":
        start = len(text) - len(text.lstrip())
        record, end = _value(text, start, path, 1)
        if rest := text[end:].lstrip():
            line = text.count("\n", 0, len(text) - len(rest)) + 1
            raise ValueError(f"{path}, line {line:,}: something follows the record: give a list of records, or one a "
                             "line")
        yield 1, record
        return
    for line, each in enumerate(text.split("\n"), 1):
        if each.strip():
            record, end = _value(each, len(each) - len(each.lstrip()), path, line)
            if each[end:].strip():
                raise ValueError(f"{path}, line {line:,}: something follows the record, at column {end + 1:,}: give "
                                 "one a line")
            yield line, record


def _whole(line: str) -> bool:
    """Whether a line is a JSON value."""
    try:
        _JSON.decode(line)
    except (ValueError, RecursionError):
        return False
    return True


def _items(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    """The items of a JSON list."""
    place, line, seen = text.index("[") + 1, 1, 0

    def skip() -> str:
        nonlocal place, line, seen
        while place < len(text) and text[place] in " \t\n":
            place += 1
        line += text.count("\n", seen, place)
        seen = place
        return text[place:place + 1]

    def broken(wanted: str) -> ValueError:
        return ValueError(f"{path}, line {line:,}: this is no JSON ({wanted} is missing, or the file is cut off)")

    if skip() == "]":
        place += 1
    else:
        while True:
            at = line
            record, place = _value(text, place, path, 1)
            yield at, record
            if (mark := skip()) not in ("]", ","):
                raise broken(", or ]" if mark else "]")
            place += 1
            if mark == "]":
                break
            skip()
    if skip():
        raise ValueError(f"{path}, line {line:,}: something follows the list")


def _rows(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    """The rows of a table whose first row has names."""
    head = text.lstrip("\n").partition("\n")[0]
    rows = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=max(",;\t", key=head.count))
    names: list[str] = []
    csv.field_size_limit(max(LARGEST, csv.field_size_limit()))  # of all readers: 128 KB are no long answer
    try:
        for row in rows:
            if not names:
                names = [name.strip().lower() for name in row]
            elif row and len(row) != len(names):
                raise ValueError(f"{path}, row at line {rows.line_num:,}: {len(row)} fields, and the first row names "
                                 f"{len(names)}: put a text with a comma or a quote in it between quotes")
            elif row:
                yield rows.line_num, dict(zip(names, row))
    except csv.Error as error:
        raise ValueError(f"{path}, row at line {rows.line_num:,}: this is no CSV ({error})") from None


# ---------------------------------------------------------------------- what a record says


def messages_of(record: Any) -> tuple[Message, ...]:
    """The messages of a record.  Raises ValueError that says what is missing."""
    if isinstance(record, list):
        record = {"messages": record}
    if not isinstance(record, dict):
        raise ValueError(f"{json.dumps(record):.40} is no record: give an object with a question and an answer")
    names = {str(name).strip().lower(): value for name, value in record.items()}
    for name in ("messages", "conversations", "conversation"):
        if name in names:
            if not isinstance(names[name], list):
                raise ValueError(f"{name} is {json.dumps(names[name]):.40}, and needs to be a list")
            return tuple(_message(item) for item in names[name])
    question = next((name for name in QUESTIONS if name in names), "")
    answer = next((name for name in ANSWERS if name in names), "")
    if not question or not answer:
        raise ValueError(f"it has {', '.join(map(repr, list(record)[:8])) or 'nothing'}, and needs a question "
                         f"({', '.join(QUESTIONS)}) and an answer ({', '.join(ANSWERS)}), or messages")
    asked = _content(names[question], question)
    if question == "instruction" and names.get("input") not in (None, ""):
        asked += "\n" + _content(names["input"], "input")
    system = _content(names["system"], "system") if names.get("system") else ""
    return (*(Message("system", system) for _ in range(bool(system))), Message("user", asked),
            Message("assistant", _content(names[answer], answer)))


def _message(item: Any) -> Message:
    match item:
        case {"role": role, "content": content} | {"from": role, "value": content}:
            if not isinstance(role, str) or role.lower() not in ROLES:
                raise ValueError(f"a role is {json.dumps(role):.40}, and needs to be one of {', '.join(ROLES)}")
            return Message(ROLES[role.lower()], _content(content, "content"))
    raise ValueError(f"{json.dumps(item):.60} is no message: give objects with role and content, or from and value")


def _content(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is {json.dumps(value):.40}, and needs to be text")
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise ValueError(f"{name} has half of a surrogate pair in it, which is no text: write the whole character")
    return value.replace("\r\n", "\n").strip()
