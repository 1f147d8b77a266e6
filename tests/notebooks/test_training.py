"""The training page: what its Python sends, and in a browser, offline, a model from its text to `gpt sample`."""

import asyncio
import base64
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from gpt import load
from gpt.cli import main as gpt
from gpt.data.corpus import default_text
from gpt.training.trainer import Trainer
from notebooks.site import training
from notebooks.site.__main__ import main
from tests.autograd.view.browser import opened_browser
from tests.notebooks.host import SitePage, hosted, needs_pyodide

TEXT = "the cat sat on the mat, and the dog sat on the log.\n" * 40
SMALL = dict(n_layer=1, n_embd=16, block_size=16, learning_rate=0.016, max_iters=60, seed=1)
REACHED = 0.5  # nats per character, from 2.77, which a guess among its 16 characters has


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Sent(list):
    """All that the page was sent; `sent["step"]` is all of one name."""

    def __call__(self, what, text):
        self.append((what, text))

    def __getitem__(self, what):
        return [text if what in ("refused", "page", "checkpoint") else json.loads(text)
                for name, text in self if name == what]


def train(text=TEXT, send=None, **changes):
    send = Sent() if send is None else send
    if steps := training.train(json.dumps({"text": text, "settings": SMALL | changes}), send):
        asyncio.run(steps)
    return send


# ---------------------------------------------------------------------- what Python sends


def test_a_run_is_told_step_by_step(folder):
    sent = train()
    assert sent["refused"] == []
    assert sent["begun"][0] | {"rungs": []} == dict(parameters=3680, vocabulary=16, steps=60, tokens=128, rungs=[])
    (name, loss), *counts = sent["begun"][0]["rungs"]
    assert "16" in name and loss == round(np.log(16), 4)
    assert counts[0][0] == "counts, 0 characters of context" and loss > counts[0][1] > counts[1][1] > counts[2][1]
    assert [step for step, _, _ in sent["step"]] == list(range(1, 61))
    assert [step for step, _, _ in sent["evaluation"]] == [25, 50, 60]
    assert [step for step, _ in sent["sample"]] == [0, 5, 10, 25, 50, 60]
    assert abs(sent["step"][0][1] - loss) < 0.01 and sent["evaluation"][-1][1] < REACHED
    assert "the" in sent["sample"][-1][1] and "the" not in sent["sample"][0][1]


@pytest.mark.slow
def test_the_checkpoint_is_one_of_gpt_train(folder, capsys):
    train(max_iters=25)
    sent = Sent()
    training.save("", sent)
    (folder / "mine").mkdir()
    (folder / "mine" / "model.safetensors").write_bytes(base64.b64decode(sent["checkpoint"][0]))
    run = load(folder / "mine")
    assert run.metadata["iter"] == 25 and run.config == training.session.run.config
    assert gpt(["train", "--resume", "mine", "--max-iters", "26"]) == 0  # beside text.txt
    assert "at iteration 25" in capsys.readouterr().out
    (folder / "text.txt").write_text("another text" * 100)
    assert gpt(["train", "--resume", "mine", "--max-iters", "27"]) == 1
    assert "the data are not those of the run" in capsys.readouterr().err


def test_a_pause_waits_and_a_stop_ends(folder):
    async def watched():
        sent = Sent()
        task = asyncio.create_task(training.train(json.dumps({"text": TEXT, "settings": SMALL}), sent))
        while len(sent["step"]) < 3:
            await asyncio.sleep(0)
        training.pause("", sent)
        for _ in range(20):
            await asyncio.sleep(0)
        paused = len(sent["step"])
        training.resume("", sent)
        while len(sent["step"]) < 10:
            await asyncio.sleep(0)
        training.pause("", sent)
        training.stop("", sent)
        await task
        return paused, len(sent["step"])

    paused, ended = asyncio.run(watched())
    assert paused in (3, 4) and ended in (10, 11)


@pytest.mark.parametrize("text, changes, words", [
    ("too short", {}, "The text is too short with 9 characters"), ("", {}, "The text is empty"),
    ("x" * 2_000_001, {}, "The text has 2,000,001 characters"), ("a\0b" * 1000, {}, "The text is binary"),
    (TEXT, dict(learning_rate=1e30), "The loss is nan at iteration"),
    (TEXT, dict(n_embd=20, block_size=8), "Rotary positions")])
def test_what_cannot_be_trained_on_is_said(folder, text, changes, words):
    sent = train(text, **changes)
    (said,) = sent["refused"]
    assert said.startswith(words) and said.endswith(".") and "--" not in said and "text.txt" not in said


def test_memory_that_runs_out_is_said(folder, monkeypatch):
    def step(self):
        raise MemoryError
    monkeypatch.setattr(Trainer, "step", step)
    assert "no memory left" in train()["refused"][0]
    assert training.session is not None


def test_half_a_surrogate_pair_is_no_error(folder):
    assert train(TEXT + "\ud800", max_iters=1)["refused"] == []


# ---------------------------------------------------------------------- in a browser


class Training(SitePage):
    """The training page in a browser."""

    def fill(self, text=TEXT, **settings):
        self.page.fill("#text", text)
        for name, value in (SMALL | settings).items():
            field = self.page.locator(f"[name={name}]")
            field.select_option(str(value)) if name == "n_embd" else field.fill(str(value))

    def train(self, text=TEXT, **settings):
        self.fill(text, **settings)
        self.page.evaluate("document.body.dataset.state = 'asked'")  # so that an earlier run's end is not taken for its
        self.page.keyboard.press("Control+Enter")
        self.wait()
        return self.page.inner_text("#status")

    def sample(self, step):
        """The text that the model wrote after a step, once it has."""
        return self.page.locator(f"#samples li:has(b:text-is('After {step} steps')) pre").text_content()

    def inside(self):
        """The page of the model."""
        frame = self.page.frame_locator("#inside iframe")
        frame.locator("main:not([inert])").wait_for()
        return frame

    def saved(self, button, path):
        with self.page.expect_download() as download:
            self.page.click(button)
        download.value.save_as(path)
        return path


@pytest.fixture(scope="module")
def browser():
    with opened_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    with hosted(tmp_path_factory.mktemp("host"), "--without-chapters") as address:
        yield address


@pytest.fixture(scope="module")
def opened(browser, host):
    """The page of all tests below, opened once; on it a model has been trained."""
    opened = Training(browser, host, "train.html")
    opened.default = opened.page.input_value("#text")
    opened.fill()
    opened.page.keyboard.press("Control+Enter")  # while Python is loading
    opened.wait("running")
    opened.wait()
    yield opened
    opened.context.close()


@pytest.fixture
def trained(opened):
    opened.wait()
    yield opened
    opened.check()


@pytest.mark.slow
@needs_pyodide
class TestInABrowser:
    def test_a_model_learns(self, trained):
        page = trained.page
        assert trained.default == default_text()[0]
        assert page.inner_text("#status").startswith("Done: 60 steps in ")
        pace = page.inner_text("#pace")
        assert "step 60 of 60" in pace and re.search(r"\d tokens/s", pace)
        assert float(re.search(r"held out (\d\.\d+)", pace)[1]) < REACHED
        assert [title.split("\n")[0] for title in page.locator("#samples li b").all_inner_texts()] == \
            [f"After {n} steps" for n in (60, 50, 25, 10, 5)] + ["Before training"]
        assert "the" in trained.sample(60)
        assert page.locator("#curve circle").count() == 3
        assert page.get_attribute("#curve", "aria-label").startswith("The loss fell from 2.77")

    def test_the_model_is_seen_inside(self, trained):
        inside = trained.inside()
        assert inside.locator("#name").inner_text() == "Your GPT after 60 steps"
        assert inside.locator("#status").inner_text().startswith("✓ Its logits are NumPy's")
        inside.locator("#text").fill("the c")
        assert inside.locator("#next button").first.inner_text().split()[0] == "a"
        assert inside.locator("#lens tr").count() == 3 and inside.locator(".head").count() == 4
        inside.locator("#text").fill("the Ω")
        assert "trained without: Ω" in inside.locator("#unknown").inner_text()

    def test_the_checkpoint_writes_on_the_readers_machine(self, trained, tmp_path):
        path = trained.saved("#save", tmp_path / "model.safetensors")
        assert "gpt sample model.safetensors" in trained.page.inner_text("#saved")
        done = subprocess.run([sys.executable, "-m", "gpt", "sample", path, "--prompt", "the ", "--temperature", "0",
                               "--max-new-tokens", "12"], capture_output=True, text=True, check=True)
        assert re.match(r"the (cat|dog|mat|log)", done.stdout)
        saved = trained.saved("#save-page", tmp_path / "page.html").read_text()
        assert "Your GPT after 60 steps" in saved and saved.rstrip().endswith("</html>")

    def test_a_pause_holds_and_a_stop_ends(self, trained):
        page = trained.page
        trained.fill(max_iters=10000)
        page.click("#start")
        assert trained.sample(10)
        page.keyboard.press("Control+Enter")
        trained.wait("paused")
        assert page.inner_text("#start") == "Go on" and page.is_disabled("[name=max_iters]")
        page.click("#look")
        name, pace = trained.inside().locator("#name").inner_text(), page.inner_text("#pace")  # that step is over now
        assert name == f"Your GPT after {re.match(r'step (.*) of', pace)[1]} steps"
        page.wait_for_timeout(300)
        assert page.inner_text("#pace") == pace
        page.click("#start")
        assert trained.sample(50)
        page.keyboard.press("Control+.")
        trained.wait()
        taken = int(re.match(r"Stopped: (\d+) steps", page.inner_text("#status"))[1])
        assert 50 <= taken < 10000 and page.is_enabled("[name=max_iters]")

    def test_what_cannot_be_trained_on_is_said(self, trained):
        page = trained.page
        assert trained.train("short").startswith("The text is too short with 5 characters")
        assert page.is_hidden("#model")
        trained.fill(max_iters=0)
        page.keyboard.press("Control+Enter")
        assert page.evaluate("document.activeElement.name") == "max_iters"  # the browser says what is wrong with it
        files = {"bytes.bin": b"\xff\xfe\xfd", "zeros.txt": b"a\0b", "<b>wide": "wide ∂".encode("utf-16")}
        for name, content in files.items():
            page.set_input_files("#file", {"name": name, "mimeType": "text/plain", "buffer": content})
            page.locator("#about", has_text=name).wait_for()
            refused = f"{name} is not UTF-8 text" in page.inner_text("#about")
            assert refused == (name != "<b>wide")
        assert page.input_value("#text") == "wide ∂" and page.inner_text("#about") == "6 characters: <b>wide"

    def test_markup_is_text(self, trained):
        evil = "</script><img src=x onerror=alert(1)><b>\n"
        trained.train(evil * 60, max_iters=50)
        assert "<img" in trained.sample(50)
        assert trained.page.locator("#samples img, #samples pre b").count() == 0
        inside = trained.inside()
        assert "<" in inside.locator("#text").input_value() and inside.locator("img").count() == 0

    def test_the_keyboard_suffices(self, trained):
        page = trained.page
        trained.train(max_iters=1)
        trained.inside()
        page.focus("#text")
        reached = []
        for _ in range(14):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.name || document.activeElement.id"))
        assert reached == ["file", "default", *(n for n in SMALL), "start", "samples", "look", "save", "save-page",
                           ""]  # the frame
        page.focus("#default")
        page.keyboard.press("Enter")
        assert page.input_value("#text") == trained.default

    def test_on_a_phone_nothing_is_wider_than_the_screen(self, trained):
        trained.page.set_viewport_size({"width": 390, "height": 844})
        try:
            assert trained.page.evaluate("document.documentElement.scrollWidth") <= 390
            for control in trained.page.locator("button:visible, select, fieldset input, textarea, iframe, svg").all():
                box = control.bounding_box()
                assert box["x"] >= 0 and box["x"] + box["width"] <= 390
        finally:
            trained.page.set_viewport_size({"width": 1400, "height": 900})


@pytest.mark.slow
@needs_pyodide
def test_a_python_that_is_out_of_reach_is_said(browser, host):
    folder = str(host.root / "some" / "where")
    assert main([folder, "--pyodide", "/nowhere", "--without-chapters", "--without-reference"]) == 0
    opened = Training(browser, host, "train.html")
    opened.wait("failed")
    words = opened.page.inner_text("#status")
    assert words.startswith("Python could not be loaded") and words.endswith("Start tries again.")
    opened.context.close()
