"""Conversations read from files: every form that is accepted, and a line that says what is wrong with any other."""

import json
import os
import random

import pytest

from gpt.chat.conversation import BUILT_IN, UNKNOWN, UNKNOWN_HELD_OUT, Conversation, Message, read_conversations
from gpt.data.corpus import default_text
from gpt.tuning.tune import UNSURE

FUZZ = int(os.environ.get("FUZZ", 1))  # how many times as many random cases
ASKED = [("What is red?", "A color."), ("Who?", "Me, \"I\"\nsay")]


def pairs(conversations):
    return [tuple(m.text for m in c.messages) for c in conversations]


@pytest.fixture
def given(tmp_path):
    """A function that writes a file and reads it."""
    def give(name, content):
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_conversations([str(file)])
    return give


NAMES = [("prompt", "response"), ("question", "answer"), ("instruction", "output"), ("input", "output"),
         ("Prompt", "Completion")]


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("form", ["a.json", "a.jsonl", "no name"])
def test_pairs_by_their_usual_names(given, names, form):
    records = [dict(zip(names, pair)) for pair in ASKED]
    text = json.dumps(records, indent=1) if form == "a.json" else "\n".join(map(json.dumps, records))
    assert pairs(given(form, text)) == ASKED


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table(given, separator):
    text = f'prompt{separator}response\r\n"What is red?"{separator}A color.\r\n"Who?"{separator}"Me, ""I""\r\nsay"\r\n'
    assert pairs(given("a.csv", text)) == ASKED


def test_messages_with_roles(given):
    ours = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"}]
    theirs = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Hi"},
              {"from": "gpt", "value": "Hello"}]
    wanted = (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello"))
    plain = {"system": "Be brief.", "prompt": "Hi", "answer": "Hello"}
    for record in {"messages": ours}, {"conversations": theirs}, plain:
        assert given("a.jsonl", json.dumps(record))[0].messages == wanted
    assert given("a.json", json.dumps([ours]))[0].messages == wanted


def test_an_instruction_has_its_input_below_it(given):
    found = given("a.json", json.dumps([{"instruction": "Add.", "input": "1, 2", "output": "3"},
                                        {"instruction": "Greet.", "input": "", "output": "Hi"}]))
    assert pairs(found) == [("Add.\n1, 2", "3"), ("Greet.", "Hi")]


def test_marks_line_ends_and_spaces_around_do_not_matter(given):
    text = '\ufeff{"prompt": " a\\r\\nb ", "response": "c\\n"}\r\n\r\n{"prompt": "d", "response": "e"}'
    assert pairs(given("a.jsonl", text)) == [("a\nb", "c"), ("d", "e")]


def test_where_each_comes_from(given):
    assert [c.where.partition(", ")[2] for c in given("a.json", '[\n {"prompt": "a", "answer": "b"},\n\n'
                                                      ' {"prompt": "c", "answer": "d"}]')] == ["record 1 at line 2",
                                                                                             "record 2 at line 4"]
    assert given("a.jsonl", '\n{"prompt": "a", "answer": "b"}\n')[0].where.endswith("a.jsonl, line 2")
    assert given("a.json", '{\n"prompt": "a",\n"answer": "b"}')[0].where.endswith("a.json, line 1")


GOOD = '{"prompt": "a", "response": "b"}\n'
BAD = [
    ("a.jsonl", GOOD + '{"prompt": "a", "respo', "line 2", "no JSON"),
    ("a.jsonl", GOOD + GOOD.strip() * 2, "line 2", "follows"),
    ("a.jsonl", GOOD + '{"prompt": "a", "response": NaN}', "line 2", "NaN is no JSON"),
    ("a.jsonl", GOOD + '{"prompt": "a", "response": ""}', "line 2", "answer is empty"),
    ("a.jsonl", GOOD + '{"prompt": " ", "response": "b"}', "line 2", "question is empty"),
    ("a.jsonl", GOOD + '{"prompt": "a", "response": 3}', "line 2", "needs to be text"),
    ("a.jsonl", GOOD + '{"prompt": "a"}', "line 2", "needs a question"),
    ("a.jsonl", GOOD + "7", "line 2", "no record"),
    ("a.jsonl", GOOD + '"x"', "line 2", "no record"),
    ("a.jsonl", GOOD + "[" * 100_000, "line 2", "no JSON"),
    ("a.jsonl", GOOD + '{"a":' * 100_000, "line 2", "no JSON"),
    ("a.jsonl", GOOD + '{"prompt": "\\ud800", "response": "b"}', "line 2", "surrogate"),
    ("a.jsonl", GOOD + '{"prompt": ' + "9" * 5000 + ', "response": "b"}', "line 2", "no JSON"),
    ("a.jsonl", GOOD.encode() + b'{"prompt": "\xff", "response": "b"}', "line 2", "UTF-8"),
    ("a.jsonl", GOOD + '{"prompt": "\0", "response": "b"}', "line 2", "zero byte"),
    ("a.jsonl", GOOD.encode("utf-16-le"), "line 1", "UTF-8"),
    ("a.jsonl", GOOD.encode("utf-16")[:-1], "byte order mark", "UTF-8"),
    ("a.csv", b"question,answer,Question \na,b,c\n", "the name 'question'", "twice"),
    ("a.jsonl", b'{"prompt": "a", "prompt": "b", "response": "c"}', "the name 'prompt'", "twice"),
    ("a.jsonl", b'{"prompt": "a", "Prompt ": "b", "response": "c"}', "a field twice", "rename one"),
    *[("a.jsonl", json.dumps({"messages": [{"role": "user", "content": "a"}, {
        "role": "assistant", "content": None, "tool_calls": calls}]}).encode(), "line 1",
       "a call of a tool is no object") for calls in (5, True, "foo(1)", [7], ["f"])],
    ("a.jsonl", b'{"tools": ["\\ud800"], "prompt": "a", "response": "b"}', "line 1", "surrogate"),
    ("a.jsonl", b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": null, '
                b'"tool_calls": [{"name": "\\udc00"}]}]}', "line 1", "surrogate"),
    ("a.jsonl", b'{"messages": [{"role": "user", "content": [{"type": "image_url", "text": "a", "image_url": "b"}]}, '
                b'{"role": "assistant", "content": "c"}]}', "line 1", "no text"),
    ("a.jsonl", GOOD + '{"messages": 3}', "line 2", "no list"),
    ("a.jsonl", GOOD + '{"messages": []}', "line 2", "without an answer"),
    ("a.jsonl", GOOD + '{"messages": [3]}', "line 2", "lacks role"),
    ("a.jsonl", GOOD + '{"messages": [{"role": "nobody", "content": "a"}]}', "line 2", "role"),
    ("a.jsonl", GOOD + '{"messages": [{"role": 1, "content": "a"}]}', "line 2", "role"),
    ("a.jsonl", GOOD + '{"messages": [{"role": "assistant", "content": "a"}]}', "line 2", "take turns"),
    ("a.jsonl", GOOD + '{"messages": [{"role": "user", "content": "a"}]}', "line 2", "without an answer"),
    ("a.json", '[{"prompt": "a", "response": "b"}\n', "line 2", "cut off"),
    ("a.json", '[{"prompt": "a", "response": "b"}\n {', "line 2", "missing"),
    ("a.json", '[{"prompt": "a", "response": "b"},\n', "line 2", "no JSON"),
    ("a.json", '[{"prompt": "a", "response": "b"}]\n]', "line 2", "follows"),
    ("a.json", "[\n" * 100_000, "no JSON", "deep"),
    ("a.json", '{\n"prompt": "a", "response": "b"\n}\n{}', "line 4", "follows"),
    ("a.csv", "prompt,response\na,b\nc,d,e\n", "line 3", "more or fewer fields"),
    ("a.csv", 'prompt,response\na,"b', "line 2", "no CSV"),
    ("a.csv", "prompt,response\na,\n", "line 2", "answer is empty"),
    ("a.csv", "one,two\na,b\n", "line 2", "needs a question"),
    ("a.csv", "prompt,response\n", "no conversation", "a.csv"),
    ("a.json", "[]", "no conversation", "a.json"),
    ("a.json", " \n", "empty", "a.json"),
    ("a.txt", "hello", "neither JSON nor CSV", "a.txt"),
]


@pytest.mark.parametrize("name, content, first, second", BAD, ids=range(len(BAD)))
def test_a_mistake_is_told_in_one_line_with_its_place(given, name, content, first, second):
    with pytest.raises((ValueError, OSError)) as caught:
        given(name, content)
    message = str(caught.value)
    assert name in message and first in message and second in message, message
    assert "\n" not in message and len(message) < 500


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="check the path"):
        read_conversations([str(tmp_path / "none.json")])
    with pytest.raises(ValueError, match="is a folder"):
        read_conversations([str(tmp_path)])


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv"])
def test_damaged_files_are_read_or_refused_in_one_line(given, name):
    rng = random.Random(0)
    records = [dict(zip(("prompt", "response"), pair)) for pair in ASKED] * 2
    whole = {"a.json": json.dumps(records), "a.jsonl": "\n".join(map(json.dumps, records)),
             "a.csv": 'prompt,response\nWhat is red?,A color.\nWho?,"Me, ""I"""\n'}[name].encode()
    outcomes = set()
    for _ in range(300 * FUZZ):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(content))
            match rng.randrange(4):
                case 0: content[at] = rng.randrange(256)
                case 1: del content[at:at + rng.randint(1, 20)]
                case 2: content[at:at] = rng.choice([b'"', b"{", b"[", b",", b"\n", b"null", b"\\", b"1e999", b"\xef"])
                case 3: content[at:at] = content[rng.randrange(len(content)):][:30]
            content = content or bytearray(b" ")
        try:
            found = given(name, bytes(content))
            assert all(isinstance(c, Conversation) for c in found)
            outcomes.add("read")
        except ValueError as error:
            assert "\n" not in str(error) and len(str(error)) < 500, error
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_the_questions_that_come_with_the_package():
    found, outside = read_conversations(), read_conversations([str(UNKNOWN_HELD_OUT)])
    asked = [c.messages[0].text for c in found]
    answers = [c.messages[1].text for c in found]
    assert len(found) > 2000 and len(set(asked)) == len(asked) and len(set(answers)) > 40
    assert set("".join(asked + answers)) <= set(default_text()[0])  # `gpt train` knows these characters
    assert all(c.where.startswith((str(BUILT_IN), str(UNKNOWN))) for c in found)
    for c in found:
        assert (c.messages[1].text.startswith(UNSURE)) == c.where.startswith(str(UNKNOWN))
    words = {text.lower().strip("?!. ") for text in asked}
    assert len(outside) >= 40 and not words & {c.messages[0].text.lower().strip("?!. ") for c in outside}
    assert all(c.messages[1].text.startswith(UNSURE) for c in outside)


@pytest.mark.parametrize("depth", [101, 300, 900, *range(960, 1000, 4), 5000])
@pytest.mark.parametrize("record", ['{{"prompt": "a", "response": {}}}', '{{"messages": {}}}', "[{}]",
                                    '{{"messages": [{{"role": {}, "content": "a"}}]}}', '{{"a": {}}}'])
def test_a_record_that_is_nested_deep(tmp_path, depth, record):
    file = tmp_path / "deep.jsonl"
    file.write_text(record.format("[" * depth + "]" * depth) + "\n")
    told = r"deep.jsonl, (record 1 at )?line 1: this is no JSON for us: it is nested too deep"
    with pytest.raises(ValueError, match=told):
        read_conversations([str(file)])


def test_a_long_answer_in_a_table(tmp_path):
    file = tmp_path / "long.csv"
    file.write_text("prompt,response\na," + "long " * 60_000 + "\n")
    assert len(read_conversations([str(file)])[0].messages[1].text) == 299_999


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_byte_order_mark_tells_the_encoding(given, encoding):
    assert given("a.jsonl", GOOD.encode(encoding)) == given("a.jsonl", GOOD.encode())


def test_one_call_needs_no_list_around_it(given):
    call = {"name": "f", "arguments": {}}
    one, several = (given("a.json", json.dumps([{"messages": [{"role": "user", "content": "a"}, {
        "role": "assistant", "content": None, "tool_calls": calls}]}]))[0].messages for calls in (call, [call]))
    assert one == several and one[-1].text == '{"name": "f", "arguments": {}}'


def test_fields_of_messages_before_the_question_are_named_if_they_are_not_used(given):
    record = {"history": [{"role": "user", "content": "a", "name": "Ann"}, {"role": "assistant", "content": "b"}],
              "prompt": "c", "response": "d"}
    assert given("a.json", json.dumps([record]))[0].unused == ("name",)
