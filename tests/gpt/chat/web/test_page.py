"""The page of `gpt chat --web` at work in a browser, and the end of its program."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

import gpt
from gpt.chat.web.server import started
from gpt.cli import main
from tests.autograd.view.browser import opened_browser
from tests.gpt.chat.web.models import HOSTILE, Texts, made

pytestmark = pytest.mark.slow
ENDLESS = 10**6


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("waitress")
    with opened_browser() as browser:
        yield browser


@contextmanager
def opened(browser, chat, size=(1200, 800), **settings):
    """A page on a chat, which requests nothing but from its server, and logs no errors; and its app."""
    troubles, requests = [], []
    with started(chat, "tiny <b>model</b>") as app:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **settings)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(app.address)
        yield page, app
        context.close()
    assert not [line for line in troubles if "status of 4" not in line]  # the browser's own line on a refusal
    assert {urlsplit(url).netloc for url in requests} == {urlsplit(app.address).netloc}


def ask(page, text, answers=1):
    """Ask, and wait for the end of the answer: the page then has so many."""
    page.fill("#question", text)
    page.press("#question", "Enter")
    finished(page, answers)


def finished(page, answers):
    page.wait_for_function("n => document.querySelectorAll('.model').length === n && !writing", arg=answers)


def test_a_conversation(browser):
    chat = made(n=20, temperature=0.0)
    with opened(browser, chat) as (page, app):
        assert page.inner_text("#name") == "tiny <b>model</b>" and page.is_visible("#intro")
        ask(page, "abc")
        first = page.inner_text(".model .said")
        tokens = page.locator(".model .token")
        assert tokens.count() == 20 and not page.is_visible("#intro")
        # the tip, under a token
        tokens.nth(3).hover()
        bars = page.locator("#tip .bar b").all_inner_texts()
        choice = chat.choices[3]
        shown = dict(zip(page.evaluate("version(turns[1]).tokens[3].others.map(([id]) => id)"), range(7)))
        assert [i for i, _ in choice.others] == [*shown] and len(bars) == 5 and page.inner_text("#tip").startswith(
            page.evaluate("percent(version(turns[1]).tokens[3].p)"))
        # inside, on a click
        tokens.nth(3).click()
        page.wait_for_selector("#looked:not(.stale)")
        assert page.locator("#lens tr").count() == 3 and page.locator("#heads canvas").count() == 4
        assert page.locator("#context span").count() == len(chat.prompt) + 3
        assert re.match(r"Block \d, head \d: before . it looks at .+ most, with \d+ %\.", page.inner_text("#head-says"))
        page.focus("#heads")
        before = page.evaluate("head")
        page.keyboard.press("ArrowLeft" if before[1] else "ArrowRight")
        assert page.evaluate("head") == [before[0], 1 - before[1]]
        page.click("#later")
        page.wait_for_function(f"() => chosen.place === 4 && inside.tokens.length === {len(chat.prompt) + 4}")
        page.click("#earlier")
        # another token instead
        other = page.locator("#others button:not(.taken)").first
        label = other.locator("b").inner_text()
        other.click()
        finished(page, 1)
        assert page.evaluate("visible(version(turns[1]).tokens[3].label)") == label and not page.is_visible("#inside")
        assert page.evaluate("version(turns[1]).tokens[3].p") == pytest.approx(choice.others[0][1])
        assert page.inner_text(".model .said")[:3] == first[:3] != page.inner_text(".model .said")
        assert "2 of 2" in page.inner_text(".model .tools")
        page.click(".model .tools button:has-text('‹')")
        assert page.inner_text(".model .said") == first
        page.click("text=Try again")  # greedy: the same once more
        finished(page, 1)
        assert page.inner_text(".model .said") == first and "3 of 3" in page.inner_text(".model .tools")
        # more turns, and a turn that is edited
        ask(page, "de", 2)
        page.locator("text=Edit").first.click()
        page.fill(".edit textarea", "fed")
        page.press(".edit textarea", "Enter")
        finished(page, 1)
        assert page.inner_text(".user .said") == "fed" and chat.turns[0][0].text == "fed" and len(chat.turns) == 2
        page.click("#system-box summary")
        page.fill("#system", "h")
        page.fill("#top-k", "3")
        page.fill("#temperature", "1.5")
        page.click("text=Try again")
        finished(page, 1)
        assert chat.turns[0][0].role == "system" and (chat.sampling.top_k, chat.sampling.temperature) == (3, 1.5)
        with page.expect_download() as download:
            page.click("#save")
        saved = json.loads(download.value.path().read_text())["messages"]
        assert [m["role"] for m in saved] == ["system", "user", "assistant"] and saved[1]["content"] == "fed"
        page.reload()  # after which all is as it was
        assert page.locator(".turn").count() == 2 and page.input_value("#system") == "h"
        assert page.locator(".token").count() == page.evaluate("version(turns[1]).tokens.length") > 0
        page.locator(".token").first.click()
        page.wait_for_selector("#looked:not(.stale)")
        page.click("#new")
        assert page.locator(".turn").count() == 0 and page.is_visible("#intro") and not page.is_visible("#inside")
        # what cannot be answered goes back to where it was written
        ask(page, "é", 0)
        assert "'é'" in page.inner_text("#message") and page.input_value("#question") == "é"
        ask(page, "abc " * 40, 0)
        assert "160 tokens long" in page.inner_text("#message")
        sent = "post('look', { prompt: 'a'.repeat(1.1e6) }).catch((error) => error.message)"
        assert "more than 1 MB" in page.evaluate(sent)


def test_stopping_and_tabs(browser):
    chat = made(always=3, n=ENDLESS, block_size=10**5)
    with opened(browser, chat) as (page, app):
        page.fill("#question", "a")
        page.press("#question", "Enter")
        page.wait_for_selector(".token >> nth=20")
        page.locator(".token").nth(5).click()
        page.wait_for_selector("#looked:not(.stale)")  # also while it writes
        assert page.evaluate("!!writing")
        other = page.context.new_page()
        other.goto(app.address)
        ask(other, "b", 0)
        assert "answering in another tab" in other.inner_text("#message")
        page.click("#send")
        finished(page, 1)
        assert "stopped" in page.inner_text(".model .tools") and page.locator(".token").count() > 20
        other.press("#question", "Enter")  # it is still there, and begins now
        other.wait_for_selector(".token >> nth=5")
        other.close()  # which ends that answer, too
        with app.answering:
            assert chat.turns[-2][0].text == "b"
        page.click(".tools :text('Go on')")
        page.wait_for_selector(".token >> nth=30")
        page.keyboard.press("Escape")
        finished(page, 1)
        app.token = "another"
        ask(page, "b", 1)
        assert "The token in the address is not that of this chat" in page.inner_text("#message")
    with opened(browser, chat) as (page, app):
        app.hosts.clear()
        ask(page, "a", 0)
        assert "only at the address" in page.inner_text("#message")
        page.goto(app.address)
        assert "only at the address" in page.inner_text("body")


@pytest.mark.parametrize("size", [(1200, 800), (390, 844)])
def test_a_hostile_model(browser, size):
    chat = made(Texts(HOSTILE), tuned=False, n=150, spread=0.02)
    with opened(browser, chat, size) as (page, app):
        ask(page, "abc")
        used = {c.token for c in chat.choices}
        assert used == set(range(len(HOSTILE)))
        assert page.locator("#turns :is(img, script, b)").count() == 0
        text = page.evaluate("document.querySelector('.model .said').textContent")
        assert HOSTILE[0] in text and HOSTILE[1] in text and "‹1b›[2J" in text and "‹202e›evil‹2066›" in text
        assert "‹2028›‹0›" in text and not set("\x1b\0\u202e\u2066\u2028") & set(text)
        for token in [4, *range(3)]:
            place = next(i for i, c in enumerate(chat.choices) if c.token == token)
            page.evaluate("place => choose(turns[1], place)", place)
            page.wait_for_function("place => chosen.place === place && !document.querySelector('.stale')", arg=place)
        assert page.locator("aside :is(img, script)").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_model_of_plain_text_goes_on(browser):
    chat = made(tuned=False, n=9)
    with opened(browser, chat, color_scheme="dark") as (page, app):
        assert "continues text" in page.inner_text("#intro") and not page.is_visible("#system-box")
        ask(page, "", 0)
        assert "no text to go on with" in page.inner_text("#message")
        ask(page, "abc")
        ask(page, "", 2)
        assert page.locator(".token").count() == 18 and chat.prompt == [2, 3, 4, *chat.turns[1][1]]
        page.focus(".model .said >> nth=0")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert page.locator(".token.shown").get_attribute("data-place") == "1"
        page.keyboard.press("Enter")
        page.wait_for_selector("#looked:not(.stale)")
        assert page.evaluate("chosen.place") == 1
        page.keyboard.press("Escape")
        assert not page.is_visible("#inside")


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_program_ends_with_an_answer_under_way(number, status, tmp_path):
    pytest.importorskip("waitress")
    run = made(always=3).run
    gpt.save(tmp_path, run.model, run.tokenizer)
    process = subprocess.Popen([sys.executable, "-m", "gpt", "chat", str(tmp_path), "--web"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    address = next(line.strip() for line in process.stdout if "http://" in line)
    url, token = urlsplit(address), address.partition("token=")[2]
    assert url.hostname == "127.0.0.1"
    connection = http.client.HTTPConnection(url.netloc, timeout=60)
    question = {"messages": [{"role": "user", "text": "a"}], "begin": [], "temperature": 1, "top_k": 0,
                "max_new_tokens": ENDLESS}
    connection.request("POST", "/answer", json.dumps(question), {"X-Token": token})
    answer = connection.getresponse()
    assert answer.status == 200 and b"prompt" in answer.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    connection.close()
    assert process.returncode == status and err.strip() == "gpt: stopped"


def test_without_the_library(tmp_path, monkeypatch, capsys):
    run = made().run
    gpt.save(tmp_path, run.model, run.tokenizer)
    monkeypatch.setitem(sys.modules, "waitress", None)
    assert main(["chat", str(tmp_path), "--web"]) == 1
    assert 'pip install "tapegrad[web]"' in capsys.readouterr().err
