"""Records in the forms that are in use: what becomes of each field, and that a bad one leaves out itself alone."""

import json

import pytest

from gpt import CharTokenizer
from gpt.chat.conversation import read_conversations
from gpt.chat.turns import Turns, TurnTokenizer
from gpt.cli import main
from gpt.data.tokenizers.byte import ByteTokenizer
from gpt.tuning.packing import encode_conversations

CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
CALLED = '{"name": "weather", "arguments": {"city": "Rome"}}'
FORMS = [
    ({"instruction": "Add.", "input": "1, 2", "output": "3"}, [("user", "Add.\n1, 2"), ("assistant", "3")]),
    ({"instruction": "Who?", "context": "Ann came.", "response": "Ann", "category": "qa"},
     [("user", "Who?\nAnn came."), ("assistant", "Ann")]),
    ({"prompt": "Sum up.", "input": "A text.", "completion": "Text."},
     [("user", "Sum up.\nA text."), ("assistant", "Text.")]),
    ({"question": "Who?", "context": "Ann came.", "answer": "Ann"},
     [("user", "Who?\nAnn came."), ("assistant", "Ann")]),
    ({"context": "Ann came.", "question": "Who?", "answer": "Ann"},
     [("user", "Who?\nAnn came."), ("assistant", "Ann")]),
    ({"instruction": "Answer.", "question": "Who?", "output": "Ann"},
     [("user", "Answer.\nWho?"), ("assistant", "Ann")]),
    ({"system_prompt": "Be brief.", "question": "Who?", "response": "Ann"},
     [("system", "Be brief."), ("user", "Who?"), ("assistant", "Ann")]),
    ({"instruction": "c", "input": "", "output": "d", "history": [["a", "b"]]},
     [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]),
    ({"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]},
     [("user", "a"), ("assistant", "b")]),
    ({"conversations": [{"from": "human", "value": "a"}, {"from": "chatgpt", "value": "b"},
                        {"from": "user", "value": "c"}, {"from": "bing", "value": "d"}], "system": "s"},
     [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]),
    ({"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "{}"},
                        {"from": "observation", "value": "r"}, {"from": "gpt", "value": "d"}]},
     [("user", "a"), ("assistant", "{}"), ("user", "r"), ("assistant", "d")]),
    ({"messages": [{"role": "developer", "content": "s"}, {"role": "system", "content": "t"},
                   {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                   {"role": "assistant", "content": None, "tool_calls": [CALL]},
                   {"role": "tool", "tool_call_id": "call_1", "content": "sun"}, {"role": "tool", "content": "18"},
                   {"role": "assistant", "content": "Sunny."}], "tools": [{"name": "weather"}]},
     [("system", '[{"name": "weather"}]\n\ns\n\nt'), ("user", "a\nb"), ("assistant", CALLED), ("user", "sun\n\n18"),
      ("assistant", "Sunny.")]),
    ({"messages": [{"role": "user", "content": "a"},
                   {"role": "assistant", "content": "I look.", "function_call": {"name": "f", "arguments": "x"}},
                   {"role": "function", "name": "f", "content": "r"}, {"role": "assistant", "content": "b"}]},
     [("user", "a"), ("assistant", 'I look.\n{"name": "f", "arguments": "x"}'), ("user", "r"), ("assistant", "b")]),
    ({"text": "A plain text.\r\nOf two lines."}, [("text", "A plain text.\nOf two lines.")]),
]


@pytest.fixture
def given(tmp_path):
    """A function that writes a file and reads it, and gives what is said about it."""
    def give(content, name="a.jsonl", strict=False):
        file, said = tmp_path / name, []
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        found = read_conversations([str(file)], strict, said.append)
        return [[(m.role, m.text) for m in c.messages] for c in found], "\n".join(said)
    return give


@pytest.mark.parametrize("record, wanted", FORMS, ids=range(len(FORMS)))
def test_forms(given, record, wanted):
    found, said = given(json.dumps(record))
    assert found == [wanted] and "left out" not in said
    unused = {"category", "tool_call_id", "name"} & {*json.dumps(record).replace('"', " ").split()}
    assert ("category" in said) == ("category" in unused)


def test_fields_that_are_not_used_are_told(given):
    record = {"prompt": "a", "response": "b", "answer": "c", "source": "web", "id": None, "tags": []}
    _, said = given("\n".join([json.dumps(record)] * 3))
    assert "answer (3 records)" in said and "source (3 records)" in said and "id" not in said and "tags" not in said
    _, said = given(json.dumps({"messages": [{"role": "user", "content": "a"},
                                             {"role": "assistant", "content": "b", "reasoning_content": "since"}]}))
    assert "reasoning_content (1 records)" in said


GOOD = {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
BAD = {"the answer is empty": {"prompt": "a", "response": " "}, "it ends without an answer": {
           "conversations": GOOD["conversations"] + [{"from": "human", "value": "c"}]},
       "do not take turns": {"conversations": GOOD["conversations"][1:] + GOOD["conversations"]},
       "a role is none of": {"conversations": [{"from": "nobody", "value": "a"}]},
       "needs a question": {"x": "y"}, "no record": 3, "is no text": {"messages": [
           {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}}


@pytest.mark.parametrize("form", ["a.jsonl", "a.json", "one line.json", "in a line.jsonl"])
def test_a_bad_record_leaves_itself_out(given, form):
    records = [GOOD, *[bad for bad in BAD.values() for _ in range(2)], GOOD]
    text = json.dumps(records, indent=1 if form == "a.json" else None)
    found, said = given("\n".join(map(json.dumps, records)) if form == "a.jsonl" else text, form)
    assert found == [[("user", "a"), ("assistant", "b")]] * 2
    for reason in BAD:
        line = next(line for line in said.splitlines() if reason in line)
        assert line.startswith("note    2 of 16 records left out") and form in line
    assert "2 records are taken" in said and "--strict" in said
    assert ("record 2" in said) == (form != "a.jsonl") and ("line 2:" in said) == (form == "a.jsonl")
    with pytest.raises(ValueError, match="(record|line) 2"):
        given(text if form != "a.jsonl" else "\n".join(map(json.dumps, records)), form, strict=True)


@pytest.mark.parametrize("bad", [b'{"prompt": "\xff", "response": "b"}', b'{"prompt": "a"', b'{"prompt": NaN}',
                                 b'{"prompt": "a", "response": "b"} x', b"[" * 100_000])
def test_a_line_that_is_none_leaves_itself_out(given, bad):
    good = b'{"prompt": "a", "response": "b"}\n'
    found, said = given(b"\xef\xbb\xbf" + good + bad + b"\n\xef\xbb\xbf" + good)
    assert len(found) == 2 and "1 of 3 records" in said and "line 2" in said
    with pytest.raises(ValueError, match="line 2"):
        given(good + bad + b"\n" + good, strict=True)


def test_a_row_with_other_fields_leaves_itself_out(given):
    found, said = given("prompt,response\na,b\nc\nd,e\n", "a.csv")
    assert len(found) == 2 and "1 of 3" in said and "row at line 3" in said


def test_where_no_record_can_be_used_the_first_reason_is_told(given):
    with pytest.raises(ValueError, match="no conversation.*line 1: the answer is empty"):
        given(json.dumps(BAD["the answer is empty"]))


def test_plain_text_is_learned_as_it_is(given, tmp_path):
    (tmp_path / "b.jsonl").write_text('{"text": "abc"}\n{"prompt": "a", "response": "b"}')
    turns = Turns(TurnTokenizer(ByteTokenizer()))
    examples, _ = encode_conversations(read_conversations([str(tmp_path / "b.jsonl")]), turns, 99)
    (tokens, counted), (_, of_chat) = examples
    assert turns.tokenizer.decode(tokens) == "abc" and counted.all() and not of_chat.all()


@pytest.mark.parametrize("base, hint", [(CharTokenizer("ab"), True), (ByteTokenizer(), False)])
def test_a_character_model_without_the_letters_hears_of_others(tmp_path, base, hint):
    (tmp_path / "c.jsonl").write_text('{"prompt": "H", "response": "b"}')
    _, said = encode_conversations(read_conversations([str(tmp_path / "c.jsonl")]), Turns(TurnTokenizer(base)), 99)
    assert ("--tokenizer byte or --tokenizer bpe" in " ".join(said)) == hint


def test_the_command_takes_strict(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "response": "b"}\n{"prompt": "a"}')
    for flags, words in ([], "there are no weights here"), (["--strict"], "line 2: it needs a question"):
        assert main(["tune", str(tmp_path / "none"), "--data", str(tmp_path / "a.jsonl"), "--out", str(tmp_path / "o"),
                     *flags]) == 1
        assert words in "".join(capsys.readouterr())
