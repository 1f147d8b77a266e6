"""The page's server: who may ask, what is answered, and the numbers beside those of other views."""

import io
import json
import threading

import numpy as np
import pytest

from gpt.chat.chat import inspect_choice
from gpt.chat.web.inside import SIDE, look
from gpt.chat.web.server import LARGEST, App
from gpt.generation.incremental import DecodingState
from gpt.model.module import raw
from gpt.view.inside import look as look_by_tape
from tests.gpt.chat.web.models import made

HOST = "127.0.0.1:8000"
USER = {"role": "user", "text": "abc"}
FIELDS = {"messages": [USER], "begin": [], "temperature": 1.0, "top_k": 0, "max_new_tokens": 12}


@pytest.fixture
def app():
    return served(made())


def served(chat):
    app = App(chat, "tiny")
    app.hosts = {HOST, "localhost:8000"}
    return app


def ask(app, path, body=b"", method="POST", **environ):
    """Send a request: the status, and the lines of the answer."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "HTTP_HOST": HOST, "HTTP_X_TOKEN": app.token,
               "wsgi.input": io.BytesIO(body), **environ}
    told = []
    answered = app(environ, lambda status, headers: told.extend([status, dict(headers)]))
    return told[0], b"".join(answered).decode().splitlines(), told[1]


def answered(app, **changes):
    """Ask a question: the prompt's tokens, the events of the answer's tokens, and all others."""
    status, lines, _ = ask(app, "/answer", FIELDS | changes)
    assert status == "200 OK", lines
    events = [json.loads(line) for line in lines]
    return events[0]["prompt"], [e for e in events if "id" in e], [e for e in events[1:] if "id" not in e]


def error(app, path, body, **environ):
    status, (line,), _ = ask(app, path, body, **environ)
    return status[:3], json.loads(line)["error"]


# ---------------------------------------------------------------------- who may ask


def test_the_page_is_for_those_who_know_its_token(app):
    status, lines, headers = ask(app, "/", method="GET", QUERY_STRING=f"token={app.token}")
    assert status == "200 OK" and headers["Content-Type"].startswith("text/html") and len(app.token) >= 32
    policy = next(line for line in lines if "Content-Security-Policy" in line)
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy and "connect-src 'self'" in policy
    assert "unsafe" not in policy.partition("script-src")[2]
    for query in ("", "token=", f"token={app.token[:-1]}", f"token={app.token}x", "token=%ff", f"Token={app.token}"):
        code, line = error(app, "/", b"", method="GET", QUERY_STRING=query)
        assert code == "403" and "token" in line and app.token not in line


@pytest.mark.parametrize("path", ["/answer", "/look"])
@pytest.mark.parametrize("environ", [
    {"HTTP_X_TOKEN": ""}, {"HTTP_X_TOKEN": "é"}, {"HTTP_HOST": "evil.example:8000"}, {"HTTP_HOST": "127.0.0.1:8001"},
    {"HTTP_HOST": ""}, {"HTTP_ORIGIN": "http://evil.example"}, {"HTTP_ORIGIN": "null"},
    {"HTTP_ORIGIN": "http://localhost:8000"}])  # not the host that was asked
def test_nobody_else_is_answered(app, path, environ):
    code, line = error(app, path, FIELDS, **environ)
    assert code == "403" and app.token not in line and not app.chat.read


def test_the_page_itself_is_answered(app):
    for host in app.hosts:
        assert ask(app, "/answer", FIELDS, HTTP_HOST=host, HTTP_ORIGIN=f"http://{host}")[0] == "200 OK"
    assert error(app, "/other", b"")[0] == "404" and error(app, "/", b"")[0] == "404"


def test_a_hostile_name_ends_no_script(app):
    app.name = "</script><script>alert(1)</script>"
    page = app.page()
    assert page.count("</script>") == 2 and "<script>alert" not in page


# ---------------------------------------------------------------------- answers


def test_the_answer_is_that_of_the_terminal(app):
    other, (prompt, tokens, rest) = made(), answered(app)
    text = "".join(other.ask("abc"))
    assert prompt == other.prompt and [t["id"] for t in tokens] == [c.token for c in other.choices]
    assert "".join(t["text"] for t in tokens) == text and rest == [{"note": "the answer was stopped after 12 tokens"},
                                                                  {"text": ""}]
    for token, choice in zip(tokens, other.choices):
        assert token["p"] == choice.probability and len(token["others"]) == 7
        assert [(i, p) for i, _, p in token["others"][:3]] == choice.others


def test_an_answer_ends_with_the_end_token():
    app = served(made(always=made().run.tokenizer.end))
    _, (token,), rest = answered(app)
    assert token["end"] and token["label"] == "<|end|>" and token["text"] == "" and rest == [{"text": ""}]


def test_runners_up_are_the_likeliest_others():
    logits = np.random.default_rng(0).normal(size=500).round(1)  # with ties
    p = np.exp(logits) / np.exp(logits).sum()
    for token in (0, int(logits.argmax())):
        order = [i for i in np.argsort(-p, kind="stable") if i != token]
        choice = inspect_choice(logits, token, 40)
        assert [i for i, _ in choice.others] == order[:40] and choice.probability == pytest.approx(p[token])
        assert len(inspect_choice(logits, token, 900).others) == 499


def test_an_answer_goes_on_from_given_tokens(app):
    prompt, first, _ = answered(app, max_new_tokens=4)
    begin = [first[0]["id"], next(i for i, _, _ in first[1]["others"] if i < 10)]
    again, tokens, others = answered(app, begin=begin, temperature=0.0)
    assert again == prompt and len([e for e in others if "text" in e]) >= 2  # a text for each that was given
    logits = raw(app.chat.run.model(np.array([prompt + begin])))[0, -1]
    assert tokens[0]["id"] == logits.argmax() and tokens[0]["p"] == pytest.approx(
        inspect_choice(logits, int(logits.argmax())).probability, rel=1e-4)
    said = [e["text"] for e in others if "text" in e][:2] + [t["text"] for t in tokens]
    assert "".join(said) == app.chat.turns[-1][0].text and app.chat.turns[-1][1][:2] == begin


def test_trying_again_reads_no_token_again(app, monkeypatch):
    prompt, tokens, _ = answered(app, max_new_tokens=5)
    read, append, state = [], app.chat.decoding.append, app.chat.decoding
    monkeypatch.setattr(state, "append", lambda t: (read.append(int(t[0])), append(t)))
    again, others, _ = answered(app, max_new_tokens=5)
    assert app.chat.decoding is state and again == prompt and read == [t["id"] for t in others if not t["end"]]
    assert others[0]["p"] != tokens[0]["p"] or others[0]["id"] == tokens[0]["id"]
    p = {i: p for i, _, p in [[tokens[0]["id"], "", tokens[0]["p"]], *tokens[0]["others"]]}
    assert others[0]["p"] == pytest.approx(p.get(others[0]["id"], others[0]["p"]), rel=1e-4)


def test_a_shortened_text_has_the_logits_of_a_fresh_one(app):
    model, ids = app.chat.run.model, np.arange(12) % 10
    state = DecodingState(model, [ids])
    state.logits()
    state.append([3])
    state.cut(5)
    np.testing.assert_allclose(state.logits(), DecodingState(model, [ids[:5]]).logits(), rtol=1e-4, atol=1e-5)
    for token in (7, 8, 9):
        state.append([token])
    state.cut(6)
    assert state.n_new == [1]  # of the three that were not read yet
    fresh = DecodingState(model, [[*ids[:5], 7]])
    np.testing.assert_allclose(state.logits(), fresh.logits(), rtol=1e-4, atol=1e-5)


def test_the_conversation_is_what_the_page_sends(app):
    messages = [{"role": "system", "text": "h"}, USER, {"role": "assistant", "text": "b", "tokens": [1]}, USER]
    prompt, _, _ = answered(app, messages=messages)
    t = app.chat.run.tokenizer
    abc = t.encode("abc").tolist()
    assert prompt == [t.system, *t.encode("h"), t.user, *abc, t.assistant, 1, t.end, t.user, *abc, t.assistant]
    assert app.takes_system and not served(made(tuned=False)).takes_system
    prompt, _, _ = answered(served(made(tuned=False)), messages=messages[1:])
    assert prompt == [*abc, 1, *abc]


@pytest.mark.parametrize("changes, line", [
    ({"messages": []}, "one or more"), ({"messages": "abc"}, "messages is a list"), ({"messages": [3]}, "an object"),
    ({"messages": [{"role": "user"}]}, "text"), ({"messages": [USER | {"extra": 1}]}, "unknown: extra"),
    ({"messages": [USER | {"role": "text"}]}, "user or assistant"), ({"messages": [USER | {"role": []}]}, "role"),
    ({"messages": [USER | {"text": 3}]}, "a text"), ({"messages": [USER, {"role": "assistant", "text": ""}]}, "last"),
    ({"messages": [USER | {"text": "é"}]}, "'é'"), ({"messages": [USER | {"text": "\ud800"}]}, "'\\ud800'"),
    ({"messages": [USER | {"text": "abc" * 20}]}, "60 tokens long, and the model's context of 64 has room for 48"),
    ({"begin": [14]}, "integers that the model knows"), ({"begin": [-1]}, "integers"), ({"begin": [True]}, "integers"),
    ({"temperature": -1}, "temperature"), ({"temperature": "1"}, "temperature"), ({"temperature": 1e999}, "finite"),
    ({"top_k": 1.5}, "top_k"), ({"max_new_tokens": 0}, "positive"), ({"max_new_tokens": True}, "positive"),
    ({"<b>": 1}, "unknown: <b>")])
def test_a_question_that_is_none(app, changes, line):
    code, found = error(app, "/answer", FIELDS | changes)
    assert code == "400" and line in found
    answered(app)  # nothing is left behind


@pytest.mark.parametrize("body, code, line", [
    (b"", "400", "no JSON"), (b"\xff", "400", "no JSON"), (b"[1]", "400", "no JSON object"), (b"{}", "400", "begin, m"),
    (b'{"a":' * 10**5, "400", "nested"), (b'{"a":' + b"[" * 20 + b"]" * 20 + b"}", "400", "nested"),
    (b" " * (LARGEST + 1), "413", "than 1 MB"), (b'{"a": 1' + b"0" * 5000 + b"}", "400", "no JSON")])
def test_a_request_that_is_none(app, body, code, line):
    for path in "/answer", "/look":
        status, found = error(app, path, body)
        assert status == code and (line in found or path == "/look" and body == b"{}")


def test_one_answer_at_a_time(app):
    first = app.answer(FIELDS | {"max_new_tokens": 10**6}, bool)
    code, line = error(app, "/answer", FIELDS)
    assert code == "409" and line.startswith("the model is answering in another tab: stop it there")
    first.close()
    answered(app)


def test_a_question_waits_for_the_end_of_an_answer_that_was_stopped(app):
    left = []
    first = app.answer(FIELDS | {"max_new_tokens": 10**6}, lambda: bool(left))
    left.append(1)
    release = threading.Timer(1.5, lambda: [*first])  # the step that it is at takes a while
    release.start()
    answered(app)
    release.join()


@pytest.mark.parametrize("by", ["the reader leaves", "the program ends"])
def test_an_answer_that_nobody_waits_for_ends(by):
    app, left = served(made(always=3)), []
    lines = app.answer(FIELDS | {"max_new_tokens": 10**6}, lambda: bool(left))
    for _ in range(30):
        next(lines)
    (left if by == "the reader leaves" else app.stopping).append(1)
    assert len([*lines]) <= 2 and not app.answering.locked()


def test_damaged_weights_are_an_error_of_the_answer(app):
    lines = app.answer(FIELDS | {"max_new_tokens": 50}, bool)
    next(lines)
    app.chat.run.model.ln_f.weight.data = np.full(16, np.nan, np.float32)
    app.chat.decoding.logits = lambda: np.full((1, 14), np.nan)
    assert "not finite" in json.loads([*lines][-1])["error"] and not app.answering.locked()


# ---------------------------------------------------------------------- the inside


def test_the_inside_is_what_the_tape_shows(app):
    prompt, tokens, _ = answered(app, max_new_tokens=40)
    place = 4
    ids, token = prompt + [t["id"] for t in tokens[:place]], tokens[place]["id"]
    status, (line,), _ = ask(app, "/look", {"prompt": prompt, "answer": ids[len(prompt):], "token": token})
    assert status == "200 OK" and json.loads(line)["tokens"][:2] == ["<|user|>", "a"]
    seen, expected = look(app.chat, ids, token), look_by_tape(app.chat.run.model, np.array(ids))
    assert seen.lens[-1].probability == pytest.approx(tokens[place]["p"], rel=1e-4)
    for choice, prediction in zip(seen.lens, expected.lens, strict=True):
        p = {choice.token: choice.probability, **dict(choice.others)}
        best = [i for i in prediction.tokens[-1] if i in p][:3]
        assert best == sorted(p, key=lambda i: -p[i])[:3] or choice.token not in prediction.tokens[-1]
        for i, q in zip(prediction.tokens[-1], prediction.probabilities[-1]):
            assert p.get(i, q) == pytest.approx(q, rel=1e-3)
    for layer, heads in zip(seen.weights, expected.maps, strict=True):
        np.testing.assert_allclose(layer, heads, rtol=1e-4, atol=1e-6)


def test_looking_changes_nothing_that_follows():
    app, other = served(made(n=30)), served(made(n=30))
    prompt, tokens, _ = answered(app, max_new_tokens=20)
    look(app.chat, prompt, 1)
    look(app.chat, prompt + [t["id"] for t in tokens[:3]], 2)
    more = [USER, {"role": "assistant", "text": "", "tokens": [1, 2]}, USER]
    answered(other, max_new_tokens=20)
    for one, two in zip(answered(app, messages=more)[1], answered(other, messages=more)[1]):
        assert one["id"] == two["id"] and one["p"] == pytest.approx(two["p"], rel=1e-3)


def test_the_inside_of_an_answer_longer_than_the_context():
    app = served(made(block_size=16, tuned=False))
    prompt, tokens, _ = answered(app, max_new_tokens=60)
    assert len(tokens) == 60
    for place in (0, 5, 12, 13, 14, 30, 59):
        body = {"prompt": prompt, "answer": [t["id"] for t in tokens[:place]], "token": tokens[place]["id"]}
        status, (line,), _ = ask(app, "/look", body)
        assert json.loads(line)["lens"][-1]["p"] == pytest.approx(tokens[place]["p"], rel=1e-3), place
    body["answer"] = [t["id"] for t in tokens]
    _, more, _ = answered(app, begin=body["answer"], max_new_tokens=3)
    status, (line,), _ = ask(app, "/look", body | {"token": more[0]["id"]})
    assert json.loads(line)["lens"][-1]["p"] == pytest.approx(more[0]["p"], rel=1e-3)


def test_of_a_long_text_the_last_tokens_are_mapped():
    app = served(made(block_size=200, tuned=False))
    ids = [i % 10 for i in range(120)]
    seen = look(app.chat, ids, 3)
    assert {w.shape for w in seen.weights} == {(2, SIDE, 120)}
    p = raw(app.chat.run.model(np.array([ids])))[0, -1]
    assert seen.lens[-1].probability == pytest.approx(inspect_choice(p, 3).probability, rel=1e-3)
    for layer in seen.weights:
        np.testing.assert_allclose(layer.sum(-1), 1, rtol=1e-5)
        assert not np.triu(layer[0, :, -SIDE:], 1).any()


def test_it_is_not_looked_at_another_text_meanwhile(app):
    lines = app.answer(FIELDS | {"max_new_tokens": 10**6}, bool)
    prompt = json.loads(next(lines))["prompt"]
    assert ask(app, "/look", {"prompt": prompt, "answer": [], "token": 1})[0] == "200 OK"
    assert error(app, "/look", {"prompt": [9, *prompt], "answer": [], "token": 1})[0] == "409"
    lines.close()
    for body in ({"prompt": [], "answer": [], "token": 1}, {"prompt": [1] * 65, "answer": [], "token": 1},
                 {"prompt": [1], "answer": [], "token": 99}, {"prompt": [1], "answer": [], "token": 1, "x": 1}):
        assert error(app, "/look", body)[0] == "400"
