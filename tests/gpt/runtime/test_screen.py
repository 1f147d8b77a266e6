"""Text on a terminal: nothing that others wrote can disturb it."""

import io
import json
import os
import pty
import subprocess
import sys
import termios
import threading
import unicodedata
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import gpt
from gpt import GPT, CharTokenizer, GPTConfig, checkpoint
from gpt.cli import COMMANDS, main
from gpt.runtime import screen
from gpt.runtime.screen import Screen, escape, escape_line

ROOT = Path(__file__).parents[3]
HOSTILE = "\x1b\x07\x00\x08\x0e\x7f\x9b\x9d\u202e\u2066\u2028"  # ESC, BEL, NUL, BS, SO, DEL, CSI, OSC, RLO, LRI, LS
NAME = "a\x1b]0;owned\x07\x9b2J\u202e\n b.txt"  # of a file: all but NUL, which no name has


@pytest.fixture
def on_a_terminal(monkeypatch):
    """A function that runs a command on a terminal: what it writes there, as text, and its exit status."""
    def run(*argv, typed=""):
        leader, terminal = pty.openpty()
        termios.tcsetwinsize(terminal, (24, 100))
        quiet = termios.tcgetattr(terminal)
        quiet[3] &= ~termios.ECHO  # what is typed is not what a command writes
        termios.tcsetattr(terminal, termios.TCSANOW, quiet)
        os.write(leader, typed.encode())
        blocks = []
        reader = threading.Thread(target=read_all, args=(leader, blocks))
        reader.start()
        with monkeypatch.context() as patch:
            for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
                patch.setattr(sys, name, open(os.dup(terminal), mode, encoding="utf-8"))
            os.close(terminal)
            try:
                status = main([*map(str, argv)])
            except SystemExit as stop:
                status = stop.code
            for stream in (sys.stdin, sys.stdout, sys.stderr):
                stream.close()
        reader.join()
        os.close(leader)
        return b"".join(blocks).decode().replace("\r\n", "\n"), status

    return run


def read_all(leader, blocks):
    with suppress(OSError):  # the other side is closed
        while block := os.read(leader, 1 << 16):
            blocks.append(block)


def disturbing(text):
    """The characters that a terminal may obey; a bar of progress writes over itself."""
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in "\n\t\r"}


@pytest.fixture
def hostile(tmp_path):
    """A checkpoint that writes hostile characters, with metadata of them."""
    tokenizer = CharTokenizer(HOSTILE + "\n ab?")
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, block_size=16, n_layer=1, n_head=1, n_embd=8,
                          positions="rotary"), seed=1)
    evil = f"x{HOSTILE}\ny"
    metadata = {"train": {"recipe": evil}, "environment": {"python": evil, evil: 1}, evil: evil, "val_loss": 1.0}
    (tmp_path / NAME).mkdir()
    gpt.save(tmp_path / NAME, model, tokenizer, metadata)
    return tmp_path / NAME


@pytest.fixture
def text(tmp_path):
    """A folder of text, with hostile names and letters."""
    folder = tmp_path / ("text" + NAME)
    folder.mkdir()
    (folder / NAME).write_text((HOSTILE.replace("\0", "") + "the cat sat on the mat.\n") * 40)
    (folder / f"empty{NAME}").write_text("")
    return folder


SHORT = ("--n-layer=1", "--n-head=1", "--n-embd=8", "--block-size=16", "--batch-size=4", "--warmup-iters=0",
         "--eval-iters=1", "--replicas=1")


def test_a_text_that_is_trained_on_and_a_run_that_goes_on(text, tmp_path, on_a_terminal):
    out = tmp_path / ("out" + NAME)
    written, status = on_a_terminal("train", "--data", text, "--out", out, "--max-iters=3", *SHORT)
    assert not status and not disturbing(written) and r"\x1b]0;owned\x07\x9b2J\u202e" in written and "0/3" in written
    assert "  | " in written and r"\x1b" in written.split("  | ")[1]  # what the model writes
    run = gpt.load(out)
    state = checkpoint.load_with_state(out)[1]
    run.metadata["environment"] = {"python": f"{HOSTILE}\n3", HOSTILE: 1}
    gpt.save(out, run.model, run.tokenizer, run.metadata, state)
    written, status = on_a_terminal("train", "--resume", out, "--max-iters=5")
    assert not status and not disturbing(written) and r"\x1b\x07\x00" in written.split("since this differs")[1]


@pytest.mark.parametrize("argv, typed, shows", [
    (["sample", "{}", "--max-new-tokens=300"], "", r"\x9b"),
    (["sample", "{}", "--prompt=\x1b[2J"], "", "text without '['"),
    (["chat", "{}", "--max-new-tokens=90"], "ab\n/why\n/save /dev/null/\x9b\n/\x1b[2J\n/temperature \u202e\n/exit\n",
     r"\x9b"),
    (["info", "{}"], "", r"\u202e"),
    (["info", "{}", "--json"], "", r"\u202e"),
    (["show", "{}", "--out={}.shown"], "", r"\u202e"),
    (["page", "{}", "--out={}.html"], "", r"\u202e"),
    (["why", "{}"], "", r"\u202e"),
    (["plot", "{}"], "", "there are no metrics here"),
    (["export", "{}", "--out={}.exported"], "", "no counterpart"),
    (["import", "{}", "--out={}.imported"], "", r"\u202e"),
    (["ablate", "--data", "{}", "--out={}.ablated"], "", r"\u202e"),
    (["bench", "--\x1b[2J"], "", r"\x1b"),
    (["tune", "{}", "--data", "{}.jsonl", "--max-iters=2", "--out={}.tuned", "--replicas=1"], "",
     r"question  a\x1b"),
], ids=lambda value: value[0] if isinstance(value, list) else "")
def test_no_command_lets_it_through(hostile, on_a_terminal, argv, typed, shows):
    pairs = [{"prompt": f"a{HOSTILE}b{i}?".replace(str(i), "ab"[i % 2] * i), "response": HOSTILE} for i in range(1, 9)]
    Path(f"{hostile}.jsonl").write_text("".join(f"{json.dumps(pair)}\n" for pair in pairs))
    written, status = on_a_terminal(*(word.replace("{}", str(hostile)) for word in argv), typed=typed)
    assert not disturbing(written), written
    assert shows in written, written


def test_every_command_is_tried():
    tried = {mark.args[1][i][0][0] for mark in test_no_command_lets_it_through.pytestmark
             for i in range(len(mark.args[1]))}
    assert tried | {"train"} == set(COMMANDS)


def test_a_traceback():
    code = ("from gpt.runtime.screen import protect_terminal\n"
            "with protect_terminal(): raise ValueError('a\\x1b]0;b')")
    leader, terminal = pty.openpty()
    subprocess.run([sys.executable, "-c", code], stderr=terminal, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    os.close(terminal)
    assert rb"a\x1b]0;b" in os.read(leader, 1 << 16)
    os.close(leader)


def test_a_pipe_gets_the_text_as_it_is(hostile):
    done = subprocess.run([sys.executable, "-m", "gpt", "sample", str(hostile), "--max-new-tokens=300"],
                          capture_output=True, cwd=ROOT, timeout=120)
    assert not done.returncode and HOSTILE[0].encode() in done.stdout and b"\\x" not in done.stdout


@pytest.mark.parametrize("text", [
    "naïve Ünïcode — “quoted”", "سلام\u200cدنیا", "👩\u200d👩\u200d👧 ❤\ufe0f", "全角\u3000空白", "a\xa0b",
    "tab\tnew\nline", "עברית\u200f!", "\ue0a0 private"])
def test_text_of_any_language_stays_as_it_is(text):
    assert written(Screen(io.StringIO()), text) == text


def written(stream, text):
    stream.write(text)
    return stream.getvalue()


def test_every_character_is_shown_or_escaped():
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    text = written(Screen(io.StringIO()), every)
    harmless = {*"\n\t\xad\u061c\u200b\u200c\u200d\u200e\u200f\u180e"}  # some scripts need them
    left = disturbing(text) - harmless
    assert all(c in text for c in harmless - {"\r"})
    assert not {c for c in left if unicodedata.category(c) != "Cf"} and "\r" not in text
    assert not {c for c in left if unicodedata.bidirectional(c) in ("RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI",
                                                                    "FSI", "PDI")}


def test_only_a_bar_writes_over_itself():
    assert written(Screen(io.StringIO()), "\rb") == "\\rb"
    assert written(Screen(io.StringIO(), bars=True), "\rb\rc\x1b") == "\rb\\rc\\x1b"
    lines = Screen(io.StringIO())
    lines.writelines(["a\x1b", "b"])
    assert lines.getvalue() == "a\\x1bb"


def test_a_stream_that_is_no_terminal_is_left_alone(capsys):
    before = sys.stdout
    with screen.protect_terminal():
        assert sys.stdout is before


def test_a_line_stays_a_line():
    assert escape_line("a \n\t b\x1b\u2028c\r") == "a b\\x1b c" and escape("a\nb\x9b") == "a\\nb\\x9b"
    assert np.all([c.isprintable() for c in escape_line("".join(map(chr, range(0x3000))))])
