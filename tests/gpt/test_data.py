"""Reading text, splitting it, batches."""

import io
import sys

import numpy as np
import pytest

from gpt import data


def test_default_text_is_the_language_reference():
    pytest.importorskip("pydoc_data.topics")
    text, source = data.read_text()
    assert "language reference" in source and len(text) > 300_000 and "assert" in text
    assert text == data.default_text()[0]


def test_default_text_of_a_stripped_python(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)  # importing it now fails
    text, source = data.read_text()
    assert "lacks pydoc_data" in source and len(text) > 300_000 and "class ArgumentParser" in text


def test_a_python_without_any_text(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    monkeypatch.setattr(data.os, "__file__", str(tmp_path / "os.py"))
    with pytest.raises(FileNotFoundError, match="--data FILE"):
        data.read_text()


def test_files_are_joined_in_order(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\ntwo".encode())
    (tmp_path / "b.txt").write_bytes("ünf".encode())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"three")))
    text, source = data.read_text([str(tmp_path / "a.txt"), "-", str(tmp_path / "b.txt")])
    assert text == "one\ntwo\nthree\nünf"
    assert source == f"{tmp_path / 'a.txt'}, standard input, {tmp_path / 'b.txt'}"


@pytest.mark.parametrize("content, message", [
    (b"", "is empty: give a file"),
    (b"abc\xff\xfe", r"is not UTF-8 text \(byte 0xff at 3\): save it as UTF-8"),
    (b"ab\0cd", r"is binary \(a zero byte at 2\)"),
])
def test_files_that_are_no_text(tmp_path, content, message):
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(ValueError, match="x.bin " + message):
        data.read_text([str(tmp_path / "x.bin")])


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.txt: there is no such file"):
        data.read_text([str(tmp_path / "nowhere.txt")])
    with pytest.raises(IsADirectoryError, match="is a folder: give the files in it"):
        data.read_text([str(tmp_path)])


def test_split_is_nine_tenths_and_one():
    train, val = data.split(np.arange(1000), 16)
    assert len(train) == 900 and val[0] == 900 and val[-1] == 999


@pytest.mark.parametrize("n, block_size, cure", [
    (100, 10, "lower --block-size to 9"), (25, 8, "lower --block-size to 2"), (1, 4, "add text$"), (9, 1, "add text$")])
def test_text_that_is_too_short(n, block_size, cure):
    with pytest.raises(ValueError, match=rf"poem.txt is too short with {n} characters.*{cure}"):
        data.split(np.arange(n), block_size, "poem.txt")


def test_the_cure_for_a_short_text_works():
    train, val = data.split(np.arange(100), 9)
    x, y = data.batch(val, np.random.default_rng(0), 5, 9)
    assert x.shape == (5, 9) and (y == x + 1).all()


def test_batches_are_windows_and_what_follows():
    x, y = data.batch(np.arange(50), np.random.default_rng(0), 4000, 8)
    assert x.shape == y.shape == (4000, 8)
    assert (y == x + 1).all() and (np.diff(x) == 1).all()
    assert x.min() == 0 and y.max() == 49 and len(np.unique(x[:, 0])) == 42  # every window, the last too


@pytest.mark.parametrize("n", [2, 8, 9, 10, 50, 57, 58])
def test_windows_cover_each_target_once(n):
    parts = list(data.windows(np.arange(n), 3, 8))
    assert all((y == x + 1).all() and x.shape[0] <= 3 and x.shape[1] <= 8 for x, y in parts)
    np.testing.assert_array_equal(np.concatenate([y.ravel() for _, y in parts]), np.arange(1, n))
