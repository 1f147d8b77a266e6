"""Conversations: messages with roles, read from files of JSON, JSON Lines or CSV."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.corpus import UTF8, encoding_of, read_bytes
from .records import ASSISTANT, PLAIN, SYSTEM, USER, Message, parse_messages

LARGEST = 1 << 30  # bytes of a file: all of it is held in memory
BUILT_IN = Path(__file__).with_name("pairs.jsonl")  # questions and answers that come with the package
UNKNOWN = Path(__file__).with_name("unknown.jsonl")  # questions beyond these, each answered "I do not know that."
UNKNOWN_HELD_OUT = Path(__file__).with_name("outside.jsonl")  # more of them, which are never trained on


@dataclass(frozen=True)
class Conversation:
    """Messages: an optional system message, then the user and the assistant in turns, an answer last; or a plain text.

    where: the file and line that they come from.  unused: names of fields of the record that were not used.
    """
    messages: tuple[Message, ...]
    where: str = ""
    unused: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """True for a text without turns."""
        return [message.role for message in self.messages] == [PLAIN]

    def __post_init__(self) -> None:
        turns = self.messages[self.messages[:1] != () and self.messages[0].role == SYSTEM:]
        for i, message in enumerate(turns):
            wanted = (USER, ASSISTANT)[i % 2]
            if message.role != wanted and not self.is_plain:
                raise ValueError("user and assistant do not take turns, after one message of the system at most: "
                                 f"message {i + 1 + len(self.messages) - len(turns)} is of the {message.role}")
            if not message.text:
                raise ValueError(f"the {'question' if message.role == USER else 'answer'} is empty: write one, or "
                                 "leave the record out")
        if not turns or len(turns) % 2 and not self.is_plain:
            raise ValueError("it ends without an answer: give one, or leave the record out")


class Unusable(ValueError):
    """An error for a record that cannot be used: where it is, and why; `reason` is the part that several share."""

    def __init__(self, where: str, error: ValueError):
        super().__init__(f"{where}: {error}")
        self.reason = str(error).partition(":")[0]


def read_conversations(paths: Sequence[str] = (), strict: bool = True,
                       say: Callable[[str], None] | None = None) -> list[Conversation]:
    """Read conversations from files, by default those that come with the package.

    A record is an object with a question and an answer (see QUESTIONS and ANSWERS; optionally with a system message,
    and history as pairs), one with `messages` of {"role", "content"} or `conversations` of {"from", "value"}, or a
    plain `text`.  A file holds a list of them, or one a line, or a CSV table with a row of names.  What a tool says
    counts as the user's, and its calls as the assistant's.

    Raises OSError or ValueError, in one line that says where, for anything else; unless `strict`, a record that cannot
    be used is left out, and `say` is told how many are, and why, and which fields are not used.
    """
    found: list[Conversation] = []
    wrong: list[Unusable] = []
    for path in paths or [str(BUILT_IN), str(UNKNOWN)]:
        for each in _read_file(Path(path), strict):
            if isinstance(each, Conversation):
                found.append(each)
            elif strict:
                raise each
            else:
                wrong.append(each)
    if not found:
        raise ValueError(f"{', '.join(paths)}: there is no conversation in there: give records with a question and an "
                         f"answer{f' ({wrong[0]})' if wrong else ''}")
    for line in _summarize(found, wrong) if say else ():
        say(f"note    {line}")  # type: ignore[misc]
    return found


def _summarize(found: Sequence[Conversation], wrong: Sequence[Unusable]) -> Iterator[str]:
    """Yield lines on the records left out, by reason, each with an example, and on the fields that are not used."""
    examples = {error.reason: error for error in reversed(wrong)}
    for reason, n in Counter(error.reason for error in wrong).most_common():
        yield f"{n:,} of {len(found) + len(wrong):,} records left out, such as {examples[reason]}"
    if wrong:
        yield f"{len(found):,} records are taken; with --strict the first that cannot be used would end the command"
    if unused := Counter(name for c in found for name in c.unused):
        names = ", ".join(f"{name} ({n:,} records)" for name, n in unused.most_common(8))
        yield f"fields that are not used: {names}{' and others' * (len(unused) > 8)}"


def _read_file(path: Path, strict: bool) -> Iterator[Conversation | Unusable]:
    """Yield the conversations of a file, and errors for records that are none."""
    text, name = _read_text(path, strict), "line"
    if path.suffix.lower() in (".csv", ".tsv"):
        records, name = _read_table(text, path), "row at line"
    elif text.lstrip()[:1] not in ("[", "{"):
        raise ValueError(f"{path} is neither JSON nor CSV: it needs to start with [ or {{, or to be named .csv")
    elif text.lstrip()[0] == "{" or path.suffix.lower() == ".jsonl" and _is_json(text.lstrip().partition("\n")[0]):
        records = _read_lines(text, path)
    else:
        records, name = _read_list(text, path), "record"
    for position, record in records:
        where = f"{path}, {name} {position}"
        try:
            if isinstance(record, ValueError):
                raise record
            messages, unused = parse_messages(record)
            yield Conversation(messages, where, unused)
        except ValueError as error:
            yield Unusable(where, error)


def _read_text(path: Path, strict: bool) -> str:
    """Return the text of a file of UTF-8, or of UTF-16 with a byte order mark, with \\n at the ends of lines; unless
    `strict`, a byte that is no UTF-8 becomes half of a surrogate pair, which its record is left out for."""
    try:
        data = read_bytes(path, LARGEST, "check the path after --data")
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder: give files after --data") from None
    if len(data) > LARGEST:
        raise ValueError(f"{path} has more than {LARGEST >> 20:,} MB: give conversations in smaller files")
    if not data.strip():
        raise ValueError(f"{path} is empty: give a file with conversations in it")
    encoding = encoding_of(data[:4])
    try:
        text = data.decode(encoding, "strict" if strict or encoding != UTF8 or b"\0" in data else "surrogateescape")
    except UnicodeDecodeError as error:
        if encoding != UTF8:
            raise ValueError(f"{path} is not the text in {encoding} that its byte order mark promises: save it as "
                             "UTF-8") from None
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line:,}: this is not UTF-8 text (byte 0x{data[error.start]:02x}): save it as "
                         "UTF-8") from None
    if "\0" in text:
        raise ValueError(f"{path}, line {text.count(chr(10), 0, text.index(chr(0))) + 1:,}: a zero byte is in there: "
                         "it is binary, or UTF-16: save it as UTF-8 text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


# ---------------------------------------------------------------------- the records of a file

Record = tuple[str, Any]  # its position, and a JSON value, or a ValueError if there is none


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


_DEEPEST = 100  # levels of nested lists and objects


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object with these fields.  Raises ValueError for a name that comes twice: one would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"an object has the name {next(name for name in names if names.count(name) > 1)!r:.40} twice")
    return found


_JSON = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=_make_object)


def _parse_value(text: str, start: int = 0) -> tuple[Any, int]:
    """Return the JSON value at a place, and where it ends.  Raises ValueError, with the line within the text as
    `lineno`."""
    try:
        value, end = _JSON.raw_decode(text, start)
        check_depth(value)
        return value, end
    except json.JSONDecodeError as error:
        problem, line = ValueError(f"this is no JSON: {error.msg} at column {error.colno:,}"), error.lineno
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        problem, line = ValueError(f"this is no JSON for us: {reason:.100}"), text.count("\n", 0, start) + 1
    problem.lineno = line  # type: ignore[attr-defined]
    raise problem


def check_depth(value: Any) -> None:
    """Raise RecursionError for a value nested so deep that other functions of `json` could fail on it."""
    within = [value]
    for _ in range(_DEEPEST):
        within = [v for each in within if isinstance(each, (list, dict))
                  for v in (each.values() if isinstance(each, dict) else each)]
    if within:
        raise RecursionError


def _read_lines(text: str, path: Path) -> Iterator[Record]:
    """Values one a line, of which a list may be several records; or, where the first line is not a whole one, one value
    over several lines."""
    if not _is_json(text.lstrip().partition("\n")[0]) and path.suffix.lower() != ".jsonl":
        try:
            record, end = _parse_value(text, len(text) - len(text.lstrip()))
        except ValueError as error:
            raise ValueError(f"{path}, line {error.lineno:,}: {error}") from None  # type: ignore[attr-defined]
        if rest := text[end:].lstrip():
            line = text.count("\n", 0, len(text) - len(rest)) + 1
            raise ValueError(f"{path}, line {line:,}: something follows the record: give a list of records, or one a "
                             "line")
        yield "1", record
        return
    for line, each in enumerate(text.split("\n"), 1):
        if each := each.strip(" \t\ufeff"):
            try:
                value, end = _parse_value(each)
                if each[end:].strip():
                    raise ValueError(f"something follows the record: at column {end + 1:,}; give one a line")
            except ValueError as error:
                yield f"{line:,}", error
                continue
            if isinstance(value, list) and not _are_messages(value):
                yield from ((f"{line:,}, record {i:,}", record) for i, record in enumerate(value, 1))
            else:
                yield f"{line:,}", value


def _is_json(line: str) -> bool:
    """Return whether a line is a JSON value."""
    try:
        json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _are_messages(value: list[Any]) -> bool:
    """Return whether the items of a list are messages, and not records."""
    return any(isinstance(item, dict) and ("role" in item or "from" in item) for item in value)


def _read_list(text: str, path: Path) -> Iterator[Record]:
    """Yield the items of a JSON list, which are records; or messages of the only one."""
    at, line, seen, number = text.index("[") + 1, 1, 0, 0

    def skip() -> str:
        nonlocal at, line, seen
        while at < len(text) and text[at] in " \t\n":
            at += 1
        line += text.count("\n", seen, at)
        seen = at
        return text[at:at + 1]

    def broken(wanted: str) -> ValueError:
        return ValueError(f"{path}, line {line:,}: this is no JSON ({wanted} is missing after record {number:,}, or "
                          "the file is cut off)")

    found: list[Record] = []
    if skip() == "]":
        at += 1
    else:
        while True:
            first_line, number = line, number + 1
            try:
                record, at = _parse_value(text, at)
            except ValueError as error:
                raise ValueError(f"{path}, record {number:,} at line {error.lineno:,}: {error}") from None  # type: ignore
            found.append((f"{number:,} at line {first_line:,}", record))
            if (mark := skip()) not in ("]", ","):
                raise broken(", or ]" if mark else "]")
            at += 1
            if mark == "]":
                break
            skip()
    if skip():
        raise ValueError(f"{path}, line {line:,}: something follows the list")
    records = [record for _, record in found]
    yield from [("1", records)] if _are_messages(records) else found


def _read_table(text: str, path: Path) -> Iterator[Record]:
    """Yield the rows of a table whose first row has names."""
    head = text.lstrip("\n").partition("\n")[0]
    rows = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=max(",;\t", key=head.count))
    names: list[str] = []
    csv.field_size_limit(max(LARGEST, csv.field_size_limit()))  # of all readers: 128 KB are no long answer
    try:
        for row in rows:
            if not names:
                names = [name.strip().lower() or f"column {i}" for i, name in enumerate(row, 1)]
                if twice := next((name for name in names if names.count(name) > 1), None):
                    raise ValueError(f"{path}: the first row has the name {twice!r:.40} twice: rename one")
            elif row and len(row) != len(names):
                yield f"{rows.line_num:,}", ValueError(
                    f"it has more or fewer fields than the first row has names: {len(row)}, and not {len(names)}; put "
                    "a text with a comma or a quote in it between quotes")
            elif row:
                yield f"{rows.line_num:,}", dict(zip(names, row))
    except csv.Error as error:
        raise ValueError(f"{path}, row at line {rows.line_num:,}: this is no CSV ({error})") from None
