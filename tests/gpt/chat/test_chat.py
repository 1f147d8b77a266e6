"""Chat: the conversation, what fits its context, and the terminal."""

import io
import json
import os
import select
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import gpt
from gpt import GPT, GPTConfig
from gpt.chat.chat import Chat, answer
from gpt.chat.conversation import Message, read_conversations
from gpt.chat.turns import TurnTokenizer
from gpt.checkpoint import Checkpoint
from gpt.cli import main
from gpt.data.tokenizers.byte import ByteTokenizer
from gpt.data.tokenizers.char import CharTokenizer
from gpt.generation.generate import generate
from gpt.generation.sampling import Sampling
from gpt.model.module import raw


def run_of(tokenizer, block_size=64, always=None):
    """A model with random weights, whose answers end early; or one that always writes the token `always`."""
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, block_size=block_size, n_layer=1, n_head=2, n_embd=16,
                          tied=False, bias=True))
    if always is not None:  # all that the head reads is ones
        model.ln_f.weight.data, model.ln_f.bias.data = np.zeros(16, np.float32), np.ones(16, np.float32)
        model.lm_head.weight.data = 9 * np.eye(tokenizer.vocab_size, dtype=np.float32)[[always] * 16]
    return Checkpoint(model, tokenizer)


@pytest.fixture
def tuned():
    return run_of(TurnTokenizer(CharTokenizer("abcdefgh \n")))


def talk(run, n=12, **settings):
    return Chat(run, Sampling(temperature=settings.pop("temperature", 1.0)), n, **settings)


def ask(chat, text, **more):
    return "".join(chat.ask(text, **more))


def test_an_answer_is_what_the_model_writes_after_the_question(tuned):
    t = tuned.tokenizer
    prompt = [t.user, *t.encode("abc"), t.assistant]
    tokens = list(generate(tuned.model, np.array(prompt), 12, np.random.default_rng(1337)))
    ends = [i for i, token in enumerate(tokens) if token >= t.base.vocab_size]
    assert ask(talk(tuned), "abc") == t.decode(tokens[:min(ends, default=12)])


def test_it_ends_with_the_end_token(tuned):
    chat = talk(tuned, 500, temperature=1.3)
    for _ in range(20):
        text = ask(chat, "abc")
        assert "<|" not in text and len(chat.choices) <= 500
        assert len(text) == len(chat.choices) - (chat.choices[-1].token >= 10)
    assert any(c.token >= 10 for c in chat.choices[-1:])


def test_only_new_tokens_are_read(tuned, monkeypatch):
    chat = talk(tuned, 6)
    ask(chat, "abc")
    first = chat.decoding
    read = []
    append = first.append
    monkeypatch.setattr(first, "append", lambda t: (read.append(int(t[0])), append(t)))
    before = list(chat.read)
    ask(chat, "de")
    assert chat.decoding is first and chat.read[:len(before)] == before
    asked = tuned.tokenizer.encode("de").tolist()
    assert read[:len(asked) + 3] == [tuned.tokenizer.end, tuned.tokenizer.user, *asked, tuned.tokenizer.assistant]


def test_what_was_read_is_not_used_for_another_text(tuned):
    chat, fresh = talk(tuned, 6), talk(tuned, 6)
    ask(chat, "abc")
    chat.turns = []
    for each in chat, fresh:
        ask(each, "hgfedcba" * 4)
    assert chat.read[:30] == fresh.read[:30] and len(chat.read) > 33
    for (token, p), (other, q) in zip(chat.choices[0].others, fresh.choices[0].others):
        assert token == other and p == pytest.approx(q)


def test_a_long_chat_sees_what_a_new_one_would(tuned):
    """After each question the logits are those of the model on the turns that are left."""
    chat = talk(tuned, 8)
    for i in range(12):
        ask(chat, "abc" * (1 + i % 3))
        turns = [m for m, _ in chat.turns[:-1]]
        written = {i: t for i, (_, t) in enumerate(chat.turns[:-1]) if t is not None}
        tokens = chat.template.tokens(turns, written)
        expected = raw(tuned.model(np.array([tokens])))[0, -1].astype(float)
        p = np.exp(expected - expected.max())
        assert chat.choices[0].probability == pytest.approx(p[chat.choices[0].token] / p.sum(), rel=1e-3)
        assert len(tokens) + 8 <= 64 and len(chat.read) <= 64
    assert sum("had to go" in n for n in chat.notes) >= 3 and len(chat.turns) < 24 == len(chat.transcript)


def test_the_system_message_stays(tuned):
    chat = talk(tuned, 8, system="h")
    for _ in range(12):
        ask(chat, "abc abc")
    assert [m.role for m, _ in chat.turns[:3]] == ["system", "user", "assistant"]
    chat.reset()
    assert [m for m, _ in chat.turns] == [Message("system", "h")] and not chat.transcript


def test_a_question_longer_than_the_context_loses_its_start(tuned):
    chat = talk(tuned, 8)
    ask(chat, "abc" * 50)
    assert any("start of the text had to go" in n for n in chat.notes) and len(chat.choices) >= 1


def test_an_answer_longer_than_the_context_goes_on():
    run = run_of(TurnTokenizer(ByteTokenizer()), 16, always=97)
    chat = talk(run, 60)
    ask(chat, "a")
    assert len(chat.choices) == 60 and any("forgot" in n for n in chat.notes)
    assert any("stopped after 60 tokens" in n for n in chat.notes)


def test_it_can_be_stopped(tuned):
    run = run_of(TurnTokenizer(ByteTokenizer()), always=97)
    asked, chat, pieces = [], talk(run, 50), []
    for piece in chat.ask("a", asked):
        pieces.append(piece)
        if len(chat.choices) == 7:
            asked.append(2)
    assert len(chat.choices) == 7 and "the answer was stopped" in chat.notes
    assert chat.transcript[-1].text == "".join(pieces)
    ask(chat, "b")  # goes on


def test_text_that_is_not_known_changes_nothing(tuned):
    chat = talk(tuned)
    ask(chat, "abc")
    turns, read_ = list(chat.turns), list(chat.read)
    with pytest.raises(ValueError, match="'é'"):
        ask(chat, "é")
    assert chat.turns == turns and chat.read == read_ and len(chat.transcript) == 2
    ask(chat, "abc")


def test_choices_have_their_probabilities(tuned):
    chat = talk(tuned, temperature=0.3)
    ask(chat, "abc")
    prompt = chat.template.tokens([Message("user", "abc")])
    for i, choice in enumerate(chat.choices):
        x = raw(tuned.model(np.array([prompt + [c.token for c in chat.choices[:i]]])))[0, -1].astype(float)
        p = np.exp(x) / np.exp(x).sum()
        order = [j for j in np.argsort(-p) if j != choice.token][:3]
        assert choice.probability == pytest.approx(p[choice.token], rel=1e-4)
        assert [j for j, _ in choice.others] == order
        assert [q for _, q in choice.others] == pytest.approx(p[order], rel=1e-4)


def test_an_untuned_model_goes_on_with_the_text():
    run = run_of(CharTokenizer("abcdefgh \n"))
    chat = talk(run, 5)
    first = ask(chat, "abc")
    tokens = list(generate(run.model, run.tokenizer.encode("abc"), 5, np.random.default_rng(1337)))
    assert first == run.tokenizer.decode(tokens)
    ask(chat, "de")
    assert run.tokenizer.decode(chat.read)[:5 + 5].startswith("abc" + first + "de")


def test_answer_is_the_likeliest(tuned):
    hello = [Message("user", "abc")]
    assert answer(tuned, hello, 9) == answer(tuned, hello, 9) == ask(talk(tuned, 9, temperature=0.0), "abc")


# ---------------------------------------------------------------------- the terminal


@pytest.fixture
def talkative(tmp_path):
    """A checkpoint on disk."""
    run = run_of(TurnTokenizer(CharTokenizer("abcdefgh \n")), always=3)
    gpt.save(_made(tmp_path / "tuned"), run.model, run.tokenizer)
    return tmp_path / "tuned"


def _made(folder):
    folder.mkdir()
    return folder


@pytest.fixture
def piped(talkative, monkeypatch, capsys):
    """A function that gives lines to `gpt chat`: the exit status, and what it prints."""
    def give(text, *flags):
        data = text if isinstance(text, bytes) else text.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        status = main(["chat", str(talkative), "--max-new-tokens", "9", *flags])
        return status, *capsys.readouterr()
    return give


def test_a_script_writes_a_question_a_line(piped):
    status, out, err = piped("abc\n\nde\n", "--temperature", "0")
    assert status == 0 and out == "bbbbbbbbb\nbbbbbbbbb\n"


def test_commands(piped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = piped("abc\n/why\n/temperature 0\n/save talk.jsonl\n/reset\n/help\n/exit\nde\n")
    assert status == 0 and "temperature 0" in err and "a new conversation" in err and "/temperature X" in out
    lines = [line for line in out.splitlines() if "%" in line]
    assert lines and all(line.count("%") == 4 for line in lines)
    assert not any("de" in line for line in err.splitlines())  # after /exit
    text = json.loads((tmp_path / "talk.jsonl").read_text())
    assert [m["role"] for m in text["messages"]] == ["user", "assistant"]
    assert read_conversations([str(tmp_path / "talk.jsonl")])


def test_mistakes_are_told_in_a_line_and_the_chat_goes_on(piped, tmp_path):
    (tmp_path / "there").write_text("mine")
    status, out, err = piped(f"/nonsense\n/temperature hot\n/temperature -1\n/why\n/save {tmp_path}/there\né\n/save\n"
                             f"abc\n/save {tmp_path}/there\n/save {tmp_path}/no/such\n")
    assert status == 0 and len(out.splitlines()) >= 1 and (tmp_path / "there").read_text() == "mine"
    said = err.splitlines()
    for words in ("no /nonsense", "needs a number", "at least 0", "no answer yet to look", "no answer yet that", "'é'",
                  "no /save", "there already", "cannot be written"):
        assert sum(words in line for line in said) == 1, (words, said)


def test_what_is_no_text(piped):
    status, out, err = piped(b"abc\n\xff\n")
    assert status == 1 and "line 2 of standard input is not UTF-8" in err and "Traceback" not in err


def test_an_untuned_model_says_so(tmp_path, monkeypatch, capsys):
    run = run_of(CharTokenizer("abcdefgh \n"))
    gpt.save(_made(tmp_path / "plain"), run.model, run.tokenizer)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"abc\n")))
    assert main(["chat", str(tmp_path / "plain"), "--max-new-tokens", "4"]) == 0
    assert "not tuned" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals on Windows")
def test_ctrl_c_stops_an_answer_and_ctrl_d_the_chat(tmp_path):
    import pty
    run = run_of(TurnTokenizer(ByteTokenizer()), always=ord("z"))
    gpt.save(_made(tmp_path / "endless"), run.model, run.tokenizer)
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-m", "gpt", "chat", str(tmp_path / "endless"), "--max-new-tokens",
                                "1000000000"], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        seen = until(ours, b"> ")
        os.write(ours, b"hello\n")
        seen += until(ours, b"zzzz")
        process.send_signal(signal.SIGINT)
        seen += until(ours, b"answer was stopped", b"> ")
        while not select.select([ours], [], [], 2)[0]:  # one that comes just before the terminal waits is not seen
            process.send_signal(signal.SIGINT)
        seen += until(ours, b"ends the chat", b"> ")
        os.write(ours, b"again\n")
        seen += until(ours, b"zzzz")
        process.send_signal(signal.SIGINT)
        seen += until(ours, b"answer was stopped", b"> ")
        os.write(ours, b"\x04")
        assert process.wait(60) == 0 and b"Traceback" not in seen
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def until(terminal, *words):
    """Read from a terminal until the words have come, one after the other.  Raises after two minutes."""
    seen, place, end = b"", 0, time.monotonic() + 120
    for word in words:
        while (found := seen.find(word, place)) < 0:
            assert select.select([terminal], [], [], max(end - time.monotonic(), 0))[0], seen[-300:]
            seen += os.read(terminal, 1 << 16)
        place = found + len(word)
    return seen
