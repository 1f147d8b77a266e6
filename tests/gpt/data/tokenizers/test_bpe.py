"""Byte-pair encoding of one's own text, from its tokens to training, resuming and sampling."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpt
from gpt import TrainConfig, train
from gpt.cli import main
from gpt.data import corpus, token_file
from gpt.data import dataset as data
from gpt.data.tokenizers import bpe, decode_on, from_json, learn
from gpt.data.tokenizers.bpe import BPETokenizer
from gpt.generation.generate import Stream
from tests.tokenizer_files import TEXT


@pytest.fixture(scope="module", autouse=True)
def _needs_tokenizers():
    pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def trained():
    return BPETokenizer.learn(TEXT, 400)


def test_a_tokenizer_of_a_text(trained):
    tokens = trained.encode(TEXT)
    assert tokens.dtype == np.int64 and 0 <= tokens.min() and 256 < trained.vocab_size <= 400
    assert len(tokens) < len(TEXT) / 2 and trained.decode(tokens) == TEXT
    assert trained.lengths.shape == (trained.vocab_size,) and trained.lengths[tokens].sum() == len(TEXT)
    assert [trained.decode(t) for t in trained.encode(" the cat\n\n")] == [" the", " cat", "\n", "\n"]
    assert trained.special == {} and trained.encode("").shape == (0,) and trained.decode([]) == ""


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.text("ab \n\t\r\x1c\u3000'ś日.1"))
def test_any_text_comes_back(trained, text):
    tokens = trained.encode(text)
    assert trained.decode(tokens) == text and trained.lengths[tokens].sum() == len(text)
    assert tokens.tolist() == trained._tokens(text)  # of the whole at once


def test_parts_end_where_words_of_the_library_do():
    # U+001C to U+001F are white space to Python only
    text = "".join(f"!{c}!  {c}a {c}\n{c} " for c in map(chr, range(0x3100)) if c.isspace() or ord(c) < 0x20) * 3
    tokenizer = BPETokenizer.learn(text, 2000)
    assert tokenizer.encode(text).tolist() == tokenizer._tokens(text)


@given(st.lists(st.text("ab \n\t\x1c\u3000'日.1", max_size=12), max_size=8))
def test_pieces_have_the_tokens_of_the_whole(trained, pieces):
    tokens = [t for piece in trained.encode_pieces(pieces) for t in piece.tolist()]
    assert tokens == trained.encode("".join(pieces)).tolist()


def test_pieces_make_the_tokenizer_of_the_whole_and_runs_agree(trained):
    pieces = [TEXT[i:i + 13] for i in range(0, len(TEXT), 13)]
    assert BPETokenizer.learn(iter(pieces), 400).to_json() == trained.to_json()
    code = ("import sys, zlib; from gpt.data.tokenizers.bpe import BPETokenizer;"
            "print(zlib.crc32(BPETokenizer.learn(sys.stdin.buffer.read().decode(), 400).file_text().encode()))")
    done = {subprocess.run([sys.executable, "-c", code], input=TEXT.encode(), capture_output=True, check=True,
                           env=os.environ | {"RAYON_NUM_THREADS": n}).stdout for n in "14"}
    assert len(done) == 1


def test_long_texts_are_looked_at_in_blocks_and_memory_of_parts_is_bounded(trained, monkeypatch):
    expected = trained.encode(TEXT)
    monkeypatch.setattr(bpe, "_BLOCK", 7)
    monkeypatch.setattr(bpe, "_CACHE_SIZE", 20)
    tokenizer = BPETokenizer.from_json(trained.to_json())
    np.testing.assert_array_equal(tokenizer.encode(TEXT), expected)
    assert len(tokenizer._cache) < 20
    monkeypatch.setattr(bpe, "_LONGEST", 10)
    assert tokenizer.decode(tokenizer.encode("x" * 1000 + "日" * 100)) == "x" * 1000 + "日" * 100


@pytest.mark.parametrize("text", ["", [], ["", ""]])
def test_no_text(text):
    with pytest.raises(ValueError, match="empty"):
        BPETokenizer.learn(text)


def test_a_vocabulary_that_is_too_small():
    with pytest.raises(ValueError, match="vocab_size is 255, and needs to be at least 256"):
        BPETokenizer.learn(TEXT, 255)
    assert BPETokenizer.learn("ab", 500).vocab_size == 256  # nothing occurs twice


def test_errors_of_the_text_go_through(trained):
    def pieces():
        yield TEXT
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        BPETokenizer.learn(pieces())
    for encode in (trained.encode, BPETokenizer.learn, lambda text: list(trained.encode_pieces([text]))):
        with pytest.raises(ValueError, match=r"U\+D800 is half a character"):
            encode("a \ud800")


def test_json_and_repr(trained):
    again = from_json(json.loads(json.dumps(trained.to_json())))
    assert again.to_json() == trained.to_json() and repr(again) == repr(trained)
    assert repr(again).startswith(f"BPETokenizer({trained.vocab_size} tokens")
    np.testing.assert_array_equal(again.encode(TEXT), trained.encode(TEXT))
    assert BPETokenizer(json.loads(trained.file_text())).to_json() == trained.to_json()


def test_whole_characters_are_streamed(trained):
    text = "日本語 🚀🙂 naïve the cat\n"
    stream = Stream(decode_on(trained))
    pieces = [stream.add(int(t)) for t in trained.encode(text)] + [stream.rest()]
    assert "".join(pieces) == text and all("\ufffd" not in piece for piece in pieces) and len(pieces) > 8


# ---------------------------------------------------------------------- gpt train


@pytest.mark.parametrize("lines", [False, True])
def test_large_text_gives_the_same_data_as_small(tmp_path, lines, monkeypatch):
    (tmp_path / "a.txt").write_text(TEXT * 3 + "last words\n", encoding="utf-8")
    args = [[str(tmp_path / "a.txt")], "bpe", 64]
    small, tokenizer = data.load_data(*args, lines=lines, vocab_size=300)
    monkeypatch.setattr(data, "IN_MEMORY", 0)
    monkeypatch.setattr(corpus, "BLOCK", 50)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    large, again = data.load_data(*args, lines=lines, vocab_size=300)
    assert again.to_json() == tokenizer.to_json() and (small.train == large.train).all() and \
        (small.val == large.val).all()
    assert small.characters_per_token == large.characters_per_token > 1.5
    monkeypatch.setattr(token_file, "_tokenize_to", None)  # making them again would fail
    data.load_data(*args, lines=lines, vocab_size=300)
    for change in ({"vocab_size": 301}, {"vocab_size": 300, "val_fraction": 0.2}):
        with pytest.raises(TypeError):
            data.load_data(*args, lines=lines, **change)


def test_nothing_is_learned_from_the_end_of_the_text(tmp_path):
    (tmp_path / "a.txt").write_text("abab abab\n" * 90 + "xyxyxy xy\n" * 10, encoding="utf-8")
    tokenizer = data.load_data([str(tmp_path / "a.txt")], "bpe", 8)[1]
    assert len(tokenizer.encode("abab")) == 1 and len(tokenizer.encode("xyxyxy")) == 6


@given(st.lists(st.text("ab 日\n", max_size=9), max_size=9), st.integers(0, 40))
def test_the_first_bytes_of_a_text(pieces, n):
    text = "".join(pieces)
    whole = text.encode() if n == 0 else text.encode()[:n]
    assert "".join(token_file._first_bytes(pieces, n)) == whole.decode("utf-8", "ignore")


def test_a_vocabulary_of_a_huge_text_is_learned_from_a_share_of_it(monkeypatch):
    monkeypatch.setattr(token_file, "_MOST_LEARNED", 100)
    assert len(list(token_file._first_bytes(["x" * 10] * 100, 1000))) == 10
    assert len("".join(token_file._first_bytes(["x" * 10] * 100, 150))) == 80  # every second one


def test_train_resume_sample_and_info(tiny, capsys, tmp_path):
    settings = tiny | dict(tokenizer="bpe", vocab_size=300, max_iters=20)
    whole = train(TrainConfig(**settings), lambda line: None)
    assert isinstance(whole.tokenizer, BPETokenizer) and whole.config.vocab_size == whole.tokenizer.vocab_size <= 300
    part = settings | {"out": str(tmp_path / "part")}
    train(TrainConfig(**part | {"max_iters": 10, "lr_decay_iters": 20}), lambda line: None)
    gone_on = train(TrainConfig.from_recipe(resume=part["out"], max_iters=20), lambda line: None)
    straight = train(TrainConfig(**settings | {"out": str(tmp_path / "x"), "lr_decay_iters": 20}), lambda line: None)
    for name, array in straight.model.named_arrays().items():
        np.testing.assert_array_equal(gone_on.model.named_arrays()[name].data, array.data)
    loaded = gpt.load(settings["out"])
    assert loaded.tokenizer.to_json() == whole.tokenizer.to_json()
    assert main(["sample", settings["out"], "--prompt", "the 🙂", "--max-new-tokens", "9"]) == 0
    assert main(["info", settings["out"]]) == 0
    shown = capsys.readouterr().out
    assert "the 🙂" in shown and f"bpe, {loaded.config.vocab_size} tokens" in shown


def test_without_the_library(tiny, monkeypatch, capsys, trained, tmp_path):
    monkeypatch.setitem(sys.modules, "tokenizers", None)  # importing it now fails
    with pytest.raises(ImportError, match=r'^byte-pair encoding needs .*: python -m pip install "tapegrad\[bpe\]"$'):
        learn("bpe", TEXT)
    with pytest.raises(ImportError, match=r"tapegrad\[bpe\]"):
        from_json(trained.to_json())
    (tmp_path / "t.json").write_text(trained.file_text())
    with pytest.raises(ImportError, match=r"tapegrad\[bpe\]"):
        BPETokenizer.from_file(tmp_path / "t.json")
    assert main(["train", "--data", *tiny["data"], "--out", tiny["out"], "--tokenizer", "bpe"]) == 1
    assert capsys.readouterr().err.startswith("gpt: error: byte-pair encoding needs tokenizers: python -m pip")
