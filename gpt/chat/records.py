"""Records of conversations: the messages in the formats in use, of which nothing is dropped silently."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

USER, ASSISTANT, SYSTEM, TOOL = "user", "assistant", "system", "tool"
PLAIN = "text"  # of no role: a text without turns
ROLES = {**dict.fromkeys(("system", "developer"), SYSTEM), **dict.fromkeys(("user", "human", "prompter"), USER),
         **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model", "bot", "ai", "function_call"),
                         ASSISTANT),
         **dict.fromkeys(("tool", "function", "observation", "function_response", "tool_response", "ipython"), TOOL)}
# Names of fields.  A question is the text of all its fields, in this order; an answer is the first of its fields.
QUESTIONS = ("instruction", "prompt", "question", "query", "input", "context")
ANSWERS = ("response", "answer", "output", "completion")
SYSTEMS = ("system", "system_prompt")
TOOLS = ("tools", "functions")
LISTS = ("messages", "conversations", "conversation")
TEXTS = ("text", "input_text", "output_text")  # types of a content part


@dataclass(frozen=True)
class Message:
    """A message of the system, the user or the assistant, or a plain text."""
    role: str
    text: str

    def __post_init__(self) -> None:
        if self.role not in (SYSTEM, USER, ASSISTANT, PLAIN):
            raise ValueError(f"the role is {self.role!r:.40}, and needs to be system, user or assistant")


def parse_messages(record: Any) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """Return the messages of a record, and the names of its fields that are not used for them, though they hold
    something. Raises ValueError that says what is missing."""
    if isinstance(record, list):
        record = {"messages": record}
    if not isinstance(record, dict):
        raise ValueError(f"it is no record: {json.dumps(record):.40}; give an object with a question and an answer")
    names = Counter(str(name).strip().lower() for name in record)
    if twice := next((name for name, n in names.items() if n > 1), None):
        raise ValueError(f"it has a field twice: {twice!r:.40}; rename one")
    fields = {str(name).strip().lower(): value for name, value in record.items() if value not in (None, "", [], {})}
    fields = {name: value for name, value in fields.items() if not isinstance(value, str) or value.strip()}
    system = [_clean_text(fields.pop(name), name) for name in SYSTEMS if name in fields]
    system += [json.dumps(fields.pop(name), ensure_ascii=False) for name in TOOLS if name in fields]
    if lists := [name for name in LISTS if isinstance(fields.get(name), list)]:
        turns, unused = _parse_turns(fields.pop(lists[0]))
    elif any(name in record for name in LISTS):
        name = next(name for name in LISTS if name in record)
        if record[name] == []:
            raise ValueError("it ends without an answer: give one, or leave the record out")
        raise ValueError(f"its messages are no list: {name} is {json.dumps(record[name]):.40}")
    else:
        turns, unused = _parse_pair(fields, record)
    return _merge_turns([(SYSTEM, text) for text in system] + turns), (*sorted({*fields} | unused),)


def _parse_pair(fields: dict[str, Any], record: dict[str, Any]) -> tuple[list[tuple[str, str]], set[str]]:
    """Return the roles and texts of a question and its answer, whose fields are taken out of `fields`, and the names of
    fields of messages in them that are not used."""
    question_fields = [name for name in QUESTIONS if name in fields]
    names = {str(name).strip().lower() for name in record}
    answer = next((name for name in ANSWERS if name in fields), "")
    if "text" in fields and not question_fields and not answer:
        return [(PLAIN, _clean_text(fields.pop("text"), "text"))], set()
    if not names & {*QUESTIONS} or not names & {*ANSWERS}:
        raise ValueError(f"it needs a question ({', '.join(QUESTIONS)}) and an answer ({', '.join(ANSWERS)}), or "
                         f"messages, or text: it has {', '.join(map(repr, list(record)[:8])) or 'nothing'}")
    if not question_fields or not answer:
        raise ValueError(f"the {'answer' if question_fields else 'question'} is empty: write one, or leave the record "
                         "out")
    turns, unused = _parse_turns(fields.pop("history")) if isinstance(fields.get("history"), list) else ([], set())
    if isinstance(fields[question_fields[0]], list) and isinstance(fields[answer], list):  # both in messages
        asked, unused_1 = _parse_turns(fields.pop(question_fields[0]))
        answered, unused_2 = _parse_turns(fields.pop(answer))
        return turns + asked + answered, unused | unused_1 | unused_2
    question = "\n".join(_clean_text(fields.pop(name), name) for name in question_fields)
    return [*turns, (USER, question), (ASSISTANT, _clean_text(fields.pop(answer), answer))], unused


def _parse_turns(items: list[Any]) -> tuple[list[tuple[str, str]], set[str]]:
    """Return the roles and texts of messages, of texts that take turns, or of pairs of those; and the names of fields
    that are not used."""
    if all(isinstance(item, list) for item in items):
        items = [text for pair in items for text in pair]
    if all(isinstance(item, str) for item in items):
        return [((USER, ASSISTANT)[i % 2], _clean_text(text, "a message")) for i, text in enumerate(items)], set()
    turns, unused = [], set()
    for item in items:
        match item:
            case {"role": role, **rest} | {"from": role, **rest} if isinstance(role, str) and role.lower() in ROLES:
                name = next((name for name in ("content", "value") if name in rest), "")
                text = _clean_text(rest.pop(name, None), "a message")
                calls = _tool_calls(rest.pop("tool_calls", None)) or _tool_calls(rest.pop("function_call", None))
                lines = [text] * bool(text) + [_format_tool_call(call) for call in calls]
                turns.append((ROLES[role.lower()], "\n".join(lines)))
                if not name and not calls:
                    raise ValueError(f"a message has no content: {json.dumps(item):.60}")
                unused |= {str(key) for key, value in rest.items() if value not in (None, "", [], {})}
            case {"role": role} | {"from": role}:
                raise ValueError(f"a role is none of {', '.join(sorted(ROLES))}: it is {json.dumps(role):.40}")
            case _:
                raise ValueError(f"a message lacks role and content, or from and value: {json.dumps(item):.60}")
    return turns, unused


def _tool_calls(value: Any) -> list[dict[str, Any]]:
    """Return the calls of tools in a field: a list of objects, or one of them."""
    calls = value if isinstance(value, list) else [value] if value else []
    if wrong := next((call for call in calls if not isinstance(call, dict)), None):
        raise ValueError(f"a call of a tool is no object: {json.dumps(wrong):.40}")
    return [call for call in calls if call]


def _format_tool_call(call: dict[str, Any]) -> str:
    """Return a call of a tool as text: JSON of its name and arguments."""
    function = call.get("function", call)
    if isinstance(function, dict):
        function = {name: _parse_json(function[name]) for name in ("name", "arguments") if name in function} or function
    return json.dumps(function, ensure_ascii=False)


def _parse_json(value: Any) -> Any:
    """Return the value of a text of JSON; any other value, or text, unchanged."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


def _merge_turns(turns: list[tuple[str, str]]) -> tuple[Message, ...]:
    """Return messages of these roles and texts.  System messages that follow each other are joined, as are tool
    results, which count as the user's."""
    messages: list[Message] = []
    before = ""
    for role, text in turns:
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise ValueError("it is no UTF-8 text, or has half of a surrogate pair in it: write whole characters")
        if role == SYSTEM and not text:
            continue
        if role == before and role in (SYSTEM, TOOL):
            messages[-1] = Message(messages[-1].role, f"{messages[-1].text}\n\n{text}")
        else:
            messages.append(Message(USER if role == TOOL else role, text))
        before = role
    return tuple(messages)


def _clean_text(value: Any, name: str) -> str:
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        if other := next((item for item in value if not isinstance(item.get("text"), str)
                          or item.get("type", "text") not in TEXTS), None):
            raise ValueError(f"a message has a piece that is no text: {json.dumps(other):.40}")
        value = "\n".join(item["text"] for item in value)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"what is said needs to be text: {name} is {json.dumps(value):.40}")
    return value.replace("\r\n", "\n").strip()
