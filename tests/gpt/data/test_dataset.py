"""Finding text, reading it in pieces, splitting it, and batches of it."""

import io
import os
import resource
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.data import corpus, token_file
from gpt.data import dataset as data
from gpt.data.shuffle import permute, shuffled_starts, windows_per_epoch
from gpt.data.tokenizers.char import CharTokenizer
from gpt.runtime import writing

TEXT = "the cat sat on the mat, and the dog sat by the cat.\n" * 40


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Any text counts as large, is read in blocks of a few bytes, and has its tokens in a folder of the test."""
    monkeypatch.setattr(data, "IN_MEMORY", 0)
    monkeypatch.setattr(corpus, "BLOCK", 7)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tapegrad"


def written(folder, **files):
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


# ---------------------------------------------------------------------- finding and reading


def test_default_text_is_the_language_reference():
    pytest.importorskip("pydoc_data.topics")
    text, source = data.read_text()
    assert "language reference" in source and len(text) > 300_000 and "assert" in text
    assert text == data.default_text()[0]


def test_default_text_of_a_stripped_python(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)  # importing it now fails
    text, source = data.read_text()
    assert "lacks pydoc_data" in source and len(text) > 300_000 and "class ArgumentParser" in text


def test_a_python_without_any_text(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    monkeypatch.setattr(corpus, "_find_source", lambda name: None)
    with pytest.raises(FileNotFoundError, match="--data FILE"):
        data.read_text()


def test_files_are_joined_in_order(tmp_path, monkeypatch):
    written(tmp_path, a_txt="\ufeffone\r\ntwo", b_txt="ünf")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"three")))
    text, source = data.read_text([str(tmp_path / "a.txt"), "-", str(tmp_path / "b.txt")])
    assert text == "one\ntwo\nthree\nünf"
    assert source == f"{tmp_path / 'a.txt'}, standard input, {tmp_path / 'b.txt'}"


@given(st.text(st.sampled_from("aé日🙂\ufeff\r\n b"), max_size=60), st.integers(1, 9))
def test_blocks_may_cut_characters_and_line_ends(text, block):
    part = corpus.Source("it", 1, lambda: "", lambda: io.BytesIO(("\ufeff" + text).encode()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "BLOCK", block)
        pieces = list(corpus.Corpus([part], "it").pieces())
    assert "".join(pieces) == text.replace("\r\n", "\n").replace("\r", "\n") and all(pieces)
    assert all(piece[-1] in "\n " for piece in pieces[:-1])  # no word is cut


def test_text_without_spaces_is_cut_too(monkeypatch):
    monkeypatch.setattr(corpus, "BLOCK", 10)
    monkeypatch.setattr(corpus, "LONGEST", 100)
    part = corpus.Source("it", 1, lambda: "", lambda: io.BytesIO(b"x" * 1005))
    pieces = list(corpus.Corpus([part], "it").pieces())
    assert sum(map(len, pieces)) == 1005 and max(map(len, pieces)) <= 110


@pytest.mark.parametrize("block", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize("content, message", [
    (b"", "is empty: give a file"),
    (b"abc\xff\xfe", r"is not UTF-8 text \(byte 0xff at 3\): save it as UTF-8"),
    (b"\xef\xbb\xbfab\xc3\xc3", r"is not UTF-8 text \(byte 0xc3 at 5\)"),
    ("ab\nc日".encode()[:-1], r"is not UTF-8 text \(byte 0xe6 at 4\)"),
    (b"ab\0cd", r"is binary \(a zero byte at 2\)"),
])
def test_files_that_are_no_text(tmp_path, monkeypatch, content, message, block):
    monkeypatch.setattr(corpus, "BLOCK", block)
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(ValueError, match="x.bin " + message):
        data.read_text([str(tmp_path / "x.bin")])


@pytest.mark.parametrize("lines", [False, True])
def test_a_file_with_a_byte_order_mark_alone(tmp_path, lines):
    written(tmp_path, b_txt="\ufeff")
    with pytest.raises(ValueError, match="b.txt is empty: give a file"):
        data.load_data([str(tmp_path / "b.txt")], "char", 8, lines=lines)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_a_byte_order_mark_tells_the_encoding_and_is_no_text(tmp_path, encoding, large, request, monkeypatch):
    if large:
        request.getfixturevalue("small")
    mark = "\ufeff" * encoding.endswith("e")
    folder, text = tmp_path / "texts", "ünf 日本 🙂 the cat\r\n" * 30
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_bytes((mark + text).encode(encoding))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((mark + text).encode(encoding))))
    whole = text.replace("\r", "")
    assert data.read_text([str(folder), str(folder / "a.txt"), "-"])[0] == "\n".join([whole] * 4)
    of, tokenizer = data.load_data([str(folder)], "char", 8)
    assert tokenizer.decode(np.concatenate([of.train, of.val])) == whole + "\n" + whole


def test_a_vocabulary_is_learned_from_the_part_to_train_on_in_any_encoding(tmp_path):
    pytest.importorskip("tokenizers")
    """As much of it as of the same text in UTF-8, which has half as many bytes."""
    text = "abc abd " * 400 + "xyz xyw " * 40
    for name, encoding in (("a.txt", "utf-8"), ("b.txt", "utf-16")):
        (tmp_path / name).write_bytes(text.encode(encoding))
    a, b = (data.load_data([str(tmp_path / name)], "bpe", 8, vocab_size=262)[1] for name in ("a.txt", "b.txt"))
    assert a.to_json() == b.to_json()


@pytest.mark.parametrize("content, message", [
    (b"\xff\xfeab\0\xd8", "x.txt is not UTF-16 text, as its byte order mark says"),
    (b"\xff\xfea", "x.txt is not UTF-16 text"), (b"\xff\xfe\0\0\1\2\3\4", "x.txt is not UTF-32 text"),
    (b"\xff\xfea\0\0\0", "x.txt is binary"), (b"\xfe\xff", "x.txt is empty"), (b"\xff\xfe\0\0", "x.txt is empty")])
def test_what_follows_a_byte_order_mark_is_no_text(tmp_path, content, message):
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        data.read_text([str(tmp_path / "x.txt")])
    with pytest.raises(ValueError, match="no text files in it"):
        data.read_text([str(tmp_path)])


@pytest.mark.skipif(not os.path.exists("/proc/cpuinfo"), reason="no such file here")
def test_a_file_that_says_it_has_no_bytes():
    assert "processor" in data.read_text(["/proc/cpuinfo"])[0]


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no such device here")
def test_a_stream_that_is_binary_and_has_no_end():
    with pytest.raises(ValueError, match=r"/dev/zero is binary \(a zero byte at 0\), or UTF-16: give .* UTF-8"):
        data.read_text(["/dev/zero"])


def test_standard_input_twice():
    with pytest.raises(ValueError, match="standard input can be read only once"):
        data.read_text(["-", "-"])


def test_a_file_that_is_missing_or_has_no_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.txt: there is no such file"):
        data.read_text([str(tmp_path / "nowhere.txt")])
    with pytest.raises(ValueError, match="empty name"):
        data.read_text([""])


def test_a_folder_is_read_in_order_and_says_what_it_leaves_out(tmp_path):
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    written(tmp_path, b_txt="two", a_md="one", z_txt="four", x_png=b"\x89PNG\0", l_txt=b"caf\xe9", e_txt="")
    written(tmp_path / "sub", c_txt="three\r\n")
    written(tmp_path / "sub" / "deep", z_bin=b"\0")
    written(tmp_path / ".git", config="hidden")
    (tmp_path / "loop").symlink_to(tmp_path)
    text, source = data.read_text([str(tmp_path)])
    assert text == "one\ntwo\nthree\n\nfour"
    assert source == (f"{tmp_path} (4 files; 1 hidden left out: .git; 1 empty left out: e.txt; 3 not UTF-8 text left "
                      f"out: l.txt, {os.path.join('sub', 'deep', 'z.bin')}, x.png; 1 linked folders left out: loop)")


def test_a_folder_within_a_folder_and_so_on(tmp_path, monkeypatch):
    """Deeper than Python calls functions, though not than the system has names."""
    monkeypatch.chdir(tmp_path)
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")
    written(corpus.Path("."), a_txt="the text")
    os.chdir(tmp_path)
    try:
        assert data.read_text(["."])[0] == "the text"
    finally:  # pytest could not delete it
        for _ in range(1200):
            os.chdir("d")
        os.remove("a.txt")
        for _ in range(1200):
            os.chdir("..")
            os.rmdir("d")


def test_a_folder_without_text(tmp_path):
    with pytest.raises(ValueError, match="has no text files in it: give a folder"):
        data.read_text([str(tmp_path)])
    written(tmp_path, x_png=b"\0")
    with pytest.raises(ValueError, match=r"no text files in it \(1 not UTF-8 text left out: x.png\)"):
        data.read_text([str(tmp_path)])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_read_once_for_both_passes(tmp_path, small):
    os.mkfifo(tmp_path / "pipe")
    writer = subprocess.Popen([sys.executable, "-c", f"open({str(tmp_path / 'pipe')!r}, 'w').write({TEXT!r})"])
    of, tokenizer = data.load_data([str(tmp_path / "pipe")], "char", 8)
    assert writer.wait() == 0 and tokenizer.decode(of.train) == TEXT[:len(of.train)]


# ---------------------------------------------------------------------- files of tokens


@pytest.mark.parametrize("vocab_size, dtype", [(1, "|u1"), (256, "|u1"), (257, "<u2"), (65536, "<u2"), (65537, "<u4")])
def test_token_files_are_as_narrow_as_the_vocabulary_allows(tmp_path, vocab_size, dtype):
    assert token_file.token_dtype(vocab_size).str == dtype
    token_file.write_tokens(tmp_path / "t.npy", [np.array([0, vocab_size - 1]), np.zeros(3, int)],
                     token_file.token_dtype(vocab_size))
    expected = [0, vocab_size - 1, 0, 0, 0]
    np.testing.assert_array_equal(token_file.TokenFile(tmp_path / "t.npy").tokens, expected)
    np.testing.assert_array_equal(np.load(tmp_path / "t.npy"), expected)  # a file like any other of NumPy's
    assert os.listdir(tmp_path) == ["t.npy"]


def test_releasing_pages_loses_nothing(tmp_path):
    token_file.write_tokens(tmp_path / "t.npy", [np.arange(100_000)], np.dtype("<u4"))
    file = token_file.TokenFile(tmp_path / "t.npy")
    before = file.tokens.sum()
    file.release()
    assert file.tokens.sum() == before == np.arange(100_000).sum()
    with pytest.raises(ValueError, match="read-only"):
        file.tokens[0] = 1


def test_a_write_that_fails_leaves_nothing(tmp_path):
    def pieces():
        yield np.arange(3)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        token_file.write_tokens(tmp_path / "t.npy", pieces(), np.dtype("u1"))
    assert os.listdir(tmp_path) == []


@settings(max_examples=300)  # it writes files
@given(st.data())
def test_damaged_token_files_are_refused(tmp_path_factory, picker):
    path = tmp_path_factory.mktemp("fuzz") / "t.npy"
    token_file.write_tokens(path, [np.arange(50)], np.dtype("<u2"))
    good = path.read_bytes()
    raw = bytearray(good)
    match picker.draw(st.sampled_from(["flip", "cut", "longer", "header", "noise"])):
        case "flip":
            for bit in picker.draw(st.lists(st.integers(0, 128 * 8 - 1), min_size=1, max_size=4, unique=True)):
                raw[bit // 8] ^= 1 << bit % 8
        case "cut":
            raw = raw[:picker.draw(st.integers(0, len(raw) - 1))]
        case "longer":
            raw += picker.draw(st.binary(min_size=1, max_size=300))
        case "header":
            raw[10:128] = picker.draw(st.text("({['<u2shape descr,0:9]})\n-", min_size=118, max_size=118)).encode()
        case "noise":
            raw = bytearray(picker.draw(st.binary(max_size=300)))
    path.write_bytes(raw)
    try:
        tokens = token_file.TokenFile(path).tokens
    except ValueError as error:
        assert "t.npy is no file of tokens, or damaged (" in str(error) and "\n" not in str(error)
    else:  # a flip may hit padding or the byte order of the padding, and leave a file that is right about its size
        assert raw[:8] == good[:8] and tokens.nbytes == 100 and len(raw) == len(good)


@pytest.mark.parametrize("header", [
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (25,), }", b"{'descr': '|O', 'fortran_order': False, 'shape': "
    b"(25,), }", b"{'descr': '<u2', 'fortran_order': False, 'shape': (5, 10), }",
    b"{'descr': '<u2', 'fortran_order': False, 'shape': (-50,), }",
    b"{'descr': '<u2', 'fortran_order': False, 'shape': (50, 1), }",
    b"{'descr': '<u2', 'fortran_order': False, 'shape': (), }",
    b"{'descr': '<u2', 'fortran_order': False, 'shape': (99999999999999999999999,), }",
    b"{'descr': [('a', '<u2')], 'fortran_order': False, 'shape': (50,), }", b"(" * 117, b"-" * 117, b"9" * 117,
    b"{'descr': '<u2', 'fortran_order': False, 'shape': (True,), }", b"[]", b"\xff" * 50, b""])
def test_headers_of_something_else_are_refused(tmp_path, header):
    raw = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.ljust(117) + b"\n" + bytes(100)
    (tmp_path / "t.npy").write_bytes(raw)
    with pytest.raises(ValueError, match=r"t.npy is no file of tokens, or damaged \("):
        token_file.TokenFile(tmp_path / "t.npy")


@pytest.mark.parametrize("header", [b"(" * 5000, b"-" * 5000, b"{'descr':" * 600, b"9" * 5000])
def test_a_long_header_is_refused_in_a_line(tmp_path, header):
    """NumPy's reader of such ones takes them apart as Python, and says what it found in pages, or nothing at all."""
    raw = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n" + bytes(100)
    (tmp_path / "t.npy").write_bytes(raw)
    with pytest.raises(ValueError, match=r"t.npy is no file of tokens, or damaged \(Header info length") as error:
        token_file.TokenFile(tmp_path / "t.npy")
    assert "\n" not in str(error.value)


def test_a_file_of_no_tokens_is_refused(tmp_path):
    token_file.write_tokens(tmp_path / "t.npy", [], np.dtype("<u2"))
    with pytest.raises(ValueError, match=r"damaged \(it holds uint16\[0\], and no vector of"):
        token_file.TokenFile(tmp_path / "t.npy")


def test_other_versions_of_the_format_are_refused(tmp_path):
    token_file.write_tokens(tmp_path / "t.npy", [np.arange(50)], np.dtype("<u2"))
    raw = (tmp_path / "t.npy").read_bytes()
    (tmp_path / "t.npy").write_bytes(raw[:6] + b"\x02" + raw[7:])
    with pytest.raises(ValueError, match="does not start as a .npy file of version 1.0"):
        token_file.TokenFile(tmp_path / "t.npy")


@pytest.mark.parametrize("start", [
    b"\x93NUMPY\x01\x00\xff\xff", b"\x93NUMPY\x02\x00\xff\xff\xff\xff", b"\x93NUMPY\x03\x00\xff\xff\xff\x7f"])
def test_a_huge_header_is_not_read(tmp_path, start):
    with open(tmp_path / "t.npy", "wb") as file:
        file.write(start)
        file.truncate(1 << 33)  # zeros that take no room
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="damaged"):
        token_file.TokenFile(tmp_path / "t.npy")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 << 10  # kilobytes


# ---------------------------------------------------------------------- large text


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("kind", ["char", "byte", "word"])
def test_large_text_gives_the_same_data_as_small(tmp_path, kind, lines, monkeypatch, request):
    (tmp_path / "texts").mkdir()
    written(tmp_path / "texts", a_txt="Übermut, tut\r\nselten gut 🙂\r\n" * 30, b_txt=TEXT)
    args = [[str(tmp_path / "texts")], kind, 64]
    small, tokenizer = data.load_data(*args, lines=lines)
    request.getfixturevalue("small")
    large, again = data.load_data(*args, lines=lines)
    assert again.to_json() == tokenizer.to_json()
    assert (large.description, large.characters_per_token) == (small.description, small.characters_per_token)
    for draw in ("train_batch", "val_batch"):
        for a, b in zip(getattr(small, draw)(np.random.default_rng(0), 5),
                        getattr(large, draw)(np.random.default_rng(0), 5)):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype == np.int64
    for a, b in zip(small.shuffled_batch(7, 3, 400), large.shuffled_batch(7, 3, 400)):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype == np.int64
    for a, b in zip(small.val_windows(3), large.val_windows(3), strict=True):
        np.testing.assert_array_equal(a, b)


def test_kept_tokens_are_used_again_until_the_text_changes(tmp_path, small, monkeypatch):
    file = written(tmp_path, a_txt=TEXT) / "a.txt"
    data.load_data([str(file)], "char", 8)
    (tokens,) = small.glob("*.npy")
    with monkeypatch.context() as patch:
        patch.setattr(token_file, "_tokenize_to", None)  # making them again would fail
        data.load_data([str(file)], "char", 8)
        with pytest.raises(TypeError):
            data.load_data([str(file)], "byte", 8)
    data.load_data([str(file)], "byte", 8)
    assert len(list(small.glob("*.npy"))) == len(list(small.glob("*.json"))) == 2

    file.write_text(TEXT.replace("cat", "cow"))
    os.utime(file, ns=(1, 1))
    of, tokenizer = data.load_data([str(file)], "char", 8)
    assert "cow" in tokenizer.decode(of.train) and not tokens.exists()  # the old one is gone
    assert len(list(small.glob("*.npy"))) == len(list(small.glob("*.json"))) == 2


def test_an_edit_that_keeps_size_and_time_is_seen(tmp_path, small):
    """As rsync and archives set the time of the content back; and on disks that keep no time of the last change."""
    file = written(tmp_path, a_txt=TEXT) / "a.txt"
    times = os.stat(file)
    data.load_data([str(file)], "char", 8)
    file.write_text(TEXT.replace("cat", "cow"))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    of, tokenizer = data.load_data([str(file)], "char", 8)
    assert "cow" in tokenizer.decode(of.train)


@pytest.mark.parametrize("place", [0, 5000, 60_000])
def test_a_stamp_looks_at_the_text_too(tmp_path, monkeypatch, place):
    file = tmp_path / "a.txt"
    file.write_bytes(b"a" * 60_001)

    def same(descriptor, stat=os.fstat):
        now = stat(descriptor)
        return type("Stat", (), {"st_size": now.st_size, "st_mtime_ns": 1, "st_ctime_ns": 1, "st_mode": now.st_mode,
                                 "st_blksize": now.st_blksize})

    monkeypatch.setattr(corpus.os, "fstat", same)
    before = corpus._stamp(file)
    assert corpus._stamp(file) == before
    file.write_bytes(b"a" * place + b"b" + b"a" * (60_000 - place))
    assert corpus._stamp(file) != before


def flipped(raw, bit):
    raw = bytearray(raw)
    raw[bit // 8] ^= 1 << bit % 8
    return bytes(raw)


@pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda raw: b"", lambda raw: b"x" + raw[1:],
                                    lambda raw: flipped(raw, 1), lambda raw: b"[" * 100_000])
@pytest.mark.parametrize("suffix", ["npy", "json"])
def test_kept_tokens_that_are_damaged_are_made_again(tmp_path, small, damage, suffix, capsys):
    path = str(written(tmp_path, a_txt=TEXT) / "a.txt")
    data.load_data([path], "char", 8)
    (file,) = small.glob(f"*.{suffix}")
    good = file.read_bytes()
    file.write_bytes(damage(good))
    capsys.readouterr()
    of, tokenizer = data.load_data([path], "char", 8)
    assert tokenizer.decode(of.train) == TEXT[:len(of.train)] and file.read_bytes() == good
    note, kept = capsys.readouterr().err.splitlines()
    assert note.startswith("note ") and "made again" in note and "damaged" in note and "are kept for the next" in kept
    data.load_data([path], "char", 8)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("suffix", ["npy", "json"])
def test_a_single_bit_that_flips_in_kept_tokens_is_noticed(tmp_path, small, suffix):
    data.load_data([str(written(tmp_path, a_txt=TEXT) / "a.txt")], "word", 8)
    tokens, file = next(small.glob("*.npy")), next(small.glob(f"*.{suffix}"))
    good, (tokenizer, as_kept) = file.read_bytes(), token_file._open(tokens)
    for bit in np.random.default_rng(0).permutation(len(good) * 8)[:400]:
        file.write_bytes(flipped(good, bit))
        try:
            other, read = token_file._open(tokens)
        except ValueError as error:
            assert "damaged" in str(error) and "\n" not in str(error)
        else:  # it was in the padding of the header, or in a space or a name of the description that says the same
            np.testing.assert_array_equal(read.tokens, as_kept.tokens)
            assert other.to_json() == tokenizer.to_json()


def test_kept_tokens_that_miss_a_file_are_made_again_without_a_word(tmp_path, small, capsys):
    path = str(written(tmp_path, a_txt=TEXT) / "a.txt")
    for suffix in ("npy", "json"):
        data.load_data([path], "char", 8)
        next(small.glob(f"*.{suffix}")).unlink()
    capsys.readouterr()
    data.load_data([path], "char", 8)
    assert "note" not in capsys.readouterr().err and len(list(small.glob("[!.]*"))) == 2


KILLED = """
import os, signal, sys
from gpt.data import corpus
from gpt.data import dataset as data
data.IN_MEMORY = 0
def pieces(self, read=corpus.Corpus.pieces):
    yield from read(self)
    if any(name.endswith(".tmp") for name in os.listdir(sys.argv[2])):  # all but written
        os.kill(os.getpid(), signal.SIGKILL)
corpus.Corpus.pieces = pieces
data.load_data([sys.argv[1]], "char", 8, cache_dir=sys.argv[2])
"""


@pytest.mark.skipif(os.name == "nt", reason="no such signal here")
def test_what_a_killed_run_left_is_deleted_by_the_next_one(tmp_path, small):
    path = str(written(tmp_path, a_txt=TEXT) / "a.txt")
    killed = subprocess.run([sys.executable, "-c", KILLED, path, small], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    (left,) = small.glob(".*.tmp")
    others = [small / name for name in (".notes.tmp", "0123456789abcdef-0123456789abcdef.npy.tmp")]
    for other in others:
        other.touch()
    data.load_data([path], "char", 8)
    assert not left.exists() and all(other.exists() for other in others)


@pytest.mark.skipif(writing.flock is None, reason="nothing is swept without locks")
def test_a_run_at_the_same_time_is_not_disturbed(tmp_path, small):
    path = str(written(tmp_path, a_txt=TEXT) / "a.txt")
    theirs = small / f"{'0' * 16}-{'1' * 16}.npy"
    small.mkdir(parents=True)
    token_file.write_tokens(theirs, (data.load_data([path], "char", 8)[0].val[:9] for _ in range(2)), np.dtype("u1"))
    assert token_file.TokenFile(theirs).tokens.size == 18 and not list(small.glob(".*.tmp"))


def test_two_runs_at_once_write_the_same_files(tmp_path, small, monkeypatch):
    path, tokenized, other = str(written(tmp_path, a_txt=TEXT) / "a.txt"), token_file.tokenize, []

    def tokens_after_another_run(tokens):  # which starts and ends while the file of this one is open
        monkeypatch.setattr(token_file, "tokenize", tokenized)
        other.append(data.load_data([path], "char", 8)[0])
        yield from tokens

    def slow(*args):
        tokenizer, tokens = tokenized(*args)
        return tokenizer, tokens_after_another_run(tokens)

    monkeypatch.setattr(token_file, "tokenize", slow)
    of, _ = data.load_data([path], "char", 8)
    np.testing.assert_array_equal(of.train, other[0].train)
    assert len(list(small.iterdir())) == 2  # tokens and description
    monkeypatch.setattr(token_file, "_tokenize_to", None)
    data.load_data([path], "char", 8)


def test_text_that_changes_while_it_is_read(tmp_path, small, monkeypatch):
    file = written(tmp_path, a_txt=TEXT) / "a.txt"
    make_file = token_file._tokenize_to

    def slow(*args):
        tokenizer = make_file(*args)
        file.write_text(TEXT + "more")
        return tokenizer

    monkeypatch.setattr(token_file, "_tokenize_to", slow)
    with pytest.raises(OSError, match="has changed while it was read"):
        data.load_data([str(file)], "char", 8)
    assert not list(small.glob("*.npy"))


def test_a_user_without_a_home(tmp_path, small, monkeypatch):
    """Neither HOME nor an entry among the users, as in a container."""
    pwd = pytest.importorskip("pwd")
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(number):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    path = str(written(tmp_path, a_txt=TEXT) / "a.txt")
    with pytest.raises(OSError, match="there is no home folder for it: name one with --cache-dir"):
        data.load_data([path], "char", 8)
    data.load_data([path], "char", 8, cache_dir=tmp_path / "here")


def test_a_folder_for_tokens_that_takes_none(tmp_path, small):
    path = str(written(tmp_path, a_txt=TEXT) / "a.txt")
    with pytest.raises(OSError, match=r"cannot be kept in .*a.txt.*: make room there, or choose .* --cache-dir"):
        data.load_data([path], "char", 8, cache_dir=path)


@pytest.mark.slow
def test_a_file_of_many_tokens_is_not_held_in_memory(tmp_path):
    """256 MB of tokens on disk, batches from all over and the whole validation part, in less than 64 MB."""
    code = f"""
import numpy as np, resource
from pathlib import Path
from gpt.data.dataset import TextData
from gpt.data.token_file import TokenFile, write_tokens
from gpt.data.tokenizers.byte import ByteTokenizer
def used(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = used()
path = Path({str(tmp_path / 't.npy')!r})
write_tokens(path, (np.full(1 << 20, i, np.uint8) for i in range(256)), np.dtype("u1"))
file = TokenFile(path)
data = TextData.from_tokens(file.tokens, ByteTokenizer(), 64, 0.25, "it", file.release)
rng = np.random.default_rng(0)
seen = {{int(i) for _ in range(200) for i in data.train_batch(rng, 64)[0].ravel()}}
assert seen == set(range(192)), seen
seen = {{int(i) for k in range(200) for i in data.shuffled_batch(0, k * 64 + 3 * data.n_examples, 64)[0].ravel()}}
assert seen == set(range(192)), seen
assert sum(ids.size for ids, _ in data.val_windows(4096)) == (64 << 20) - 1
print((used() - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64


# ---------------------------------------------------------------------- parts and batches


def test_split_is_nine_tenths_and_one():
    train, val = data.split(np.arange(1000), 16)
    assert len(train) == 900 and val[0] == 900 and val[-1] == 999
    train, val = data.split(np.arange(1000), 16, val_fraction=0.25)
    assert len(train) == 750 and len(val) == 250


@pytest.mark.parametrize("n, block_size, cure", [
    (100, 10, "lower --block-size to 9"), (25, 8, "lower --block-size to 2"), (20, 8, "lower --block-size to 1"),
    (1, 4, "add text$"), (9, 1, "add text$")])
def test_text_that_is_too_short(n, block_size, cure):
    with pytest.raises(ValueError, match=rf"poem.txt is too short with {n} characters.*{cure}"):
        data.split(np.arange(n), block_size, "poem.txt")


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.5, 0.95])
def test_the_cure_for_a_short_text_works(fraction):
    with pytest.raises(ValueError) as error:
        data.split(np.arange(100), 60, val_fraction=fraction)
    cure = int(str(error.value).rsplit(" ", 1)[1])
    train, val = data.split(np.arange(100), cure, val_fraction=fraction)
    assert len(data.random_windows(min(train, val, key=len), np.random.default_rng(0), 5, cure)[0]) == 5
    with pytest.raises(ValueError):
        data.split(np.arange(100), cure + 1, val_fraction=fraction)
    needed = int(str(error.value).split("needs about ")[1].split(" ")[0].replace(",", ""))
    data.split(np.arange(needed), 60, val_fraction=fraction)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan")])
def test_fractions_that_leave_no_part(fraction):
    with pytest.raises(ValueError, match="val_fraction is .*above 0 and below 1"):
        data.load_data([], "char", 8, val_fraction=fraction)


def test_batches_are_windows_and_what_follows():
    x, y = data.random_windows(np.arange(50), np.random.default_rng(0), 4000, 8)
    assert x.shape == y.shape == (4000, 8)
    assert (y == x + 1).all() and (np.diff(x) == 1).all()
    assert x.min() == 0 and y.max() == 49 and len(np.unique(x[:, 0])) == 42  # every window, the last too


@pytest.mark.parametrize("n", [2, 8, 9, 10, 50, 57, 58])
def test_windows_cover_each_target_once(n):
    parts = list(data.all_windows(np.arange(n), 3, 8))
    assert all((y == x + 1).all() and x.shape[0] <= 3 and x.shape[1] <= 8 for x, y in parts)
    np.testing.assert_array_equal(np.concatenate([y.ravel() for _, y in parts]), np.arange(1, n))


def test_no_window_of_training_reaches_into_validation(tmp_path):
    of = data.TextData.from_tokens(np.arange(100), CharTokenizer("".join(map(chr, range(100)))), 8, 0.3)
    seen = {int(t) for pair in (of.train_batch(np.random.default_rng(0), 999),) for a in pair for t in a.ravel()}
    assert seen == set(range(70))
    assert {int(t) for a in of.val_batch(np.random.default_rng(0), 999) for t in a.ravel()} == set(range(70, 100))
    assert "100 characters, 100 different ones; 70 to train on, the last 30 to validate on" in of.description


def test_characters_per_token_are_those_of_the_validation_part(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "_BLOCK", 16)
    path = str(written(tmp_path, a_txt="a" * 900 + "é" * 50) / "a.txt")
    assert data.load_data([path], "char", 8)[0].characters_per_token == 1
    assert data.load_data([path], "byte", 8)[0].characters_per_token == 0.5
    path = str(written(tmp_path, a_txt="word " * 1000) / "a.txt")
    assert data.load_data([path], "word", 8)[0].characters_per_token == 2.5


# ---------------------------------------------------------------------- shuffled passes


@given(st.integers(1, 3000), st.integers(0, 1 << 40), st.integers(0, 5))
def test_an_order_has_each_number_once(n, seed, number):
    order = permute(np.arange(n), n, seed, number)
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    np.testing.assert_array_equal(permute(np.arange(n)[::-1], n, seed, number), order[::-1])  # one by one


def test_orders_are_as_good_as_random():
    """All orders of four are as frequent; in a long one neighbours have nothing to do with each other."""
    found = Counter(tuple(permute(np.arange(4), 4, 1, number).tolist()) for number in range(4800))
    assert len(found) == 24 and sum((k - 200) ** 2 / 200 for k in found.values()) < 50  # χ² of 23 degrees: p = 0.001
    for seed in range(3):
        order = permute(np.arange(15_000), 15_000, seed, 0)
        assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.03
        assert abs(np.corrcoef(order, np.arange(15_000))[0, 1]) < 0.03
        assert np.abs(np.diff(np.sort(order[:1000]))).max() < 15_000 * 0.011  # no large gap in what comes first


def test_orders_differ_by_seed_and_pass():
    orders = [permute(np.arange(100), 100, seed, number) for seed in (0, 1) for number in (0, 1)]
    assert all((a != b).mean() > 0.9 for i, a in enumerate(orders) for b in orders[:i])


@pytest.mark.slow
@given(st.integers(18, 400), st.integers(1, 16), st.integers(0, 3))
def test_windows_of_a_pass_do_not_overlap(n, block_size, number):
    k = windows_per_epoch(n, block_size)
    starts = np.sort(shuffled_starts(n, block_size, 5, number * k, k))
    assert starts[0] >= 0 and starts[-1] + block_size + 1 <= n and (np.diff(starts) == block_size).all()
    assert n - k * block_size <= 2 * block_size + 1  # little is left out


def test_passes_begin_at_different_places():
    k = windows_per_epoch(1000, 8)
    firsts = {int(shuffled_starts(1000, 8, 5, number * k, k).min()) for number in range(100)}
    assert firsts == set(range(8))


@given(st.integers(0, 500), st.integers(1, 60), st.integers(1, 60))
def test_batches_go_on_where_the_last_one_ended(first, a, b):
    """Whatever their sizes, and over the ends of passes: a batch depends on its number only."""
    of = data.TextData.from_tokens(np.arange(300), CharTokenizer("".join(map(chr, range(300)))), 8, 0.3)
    for whole, one, two in zip(*(of.shuffled_batch(3, *at) for at in [(first, a + b), (first, a), (first + a, b)])):
        np.testing.assert_array_equal(whole, np.concatenate([one, two]))
    ids, targets = of.shuffled_batch(3, first, a)
    assert ids.max() < 210 and targets.max() < 210 and (targets == ids + 1).all()  # none of the validation part


def test_a_text_of_one_window():
    of = data.TextData.from_tokens(np.arange(30), CharTokenizer("".join(map(chr, range(30)))), 8, 0.5)
    of.train = of.train[:9]
    assert of.n_examples == 1
    np.testing.assert_array_equal(of.shuffled_batch(0, 5, 3)[0], [range(8)] * 3)


def test_an_order_of_very_many_takes_no_memory():
    n = 1 << 36
    order = permute(np.arange(n - 1000, n), n, 0, 0)
    assert len(set(order.tolist())) == 1000 and 0 <= order.min() < n // 20 and n * 19 // 20 < order.max() < n


# ---------------------------------------------------------------------- lines


NAMES = [f"name{i}" * (1 + i % 2) for i in range(50)]


def lines_of(text, tmp_path, kind="char", block_size=16, **options):
    return data.load_data([str(written(tmp_path, n_txt=text) / "n.txt")], kind, block_size, lines=True, **options)


def texts(batch, tokenizer):
    """The lines of a batch, after a check of their ids, targets and padding."""
    found = []
    for ids, targets in zip(*batch, strict=True):
        n = (targets != -100).sum()
        assert (targets[n:] == -100).all() and tokenizer.decode(targets[n - 1]) == tokenizer.decode(ids[0]) == "\n"
        assert (ids[1:n] == targets[:n - 1]).all() and (ids[n:] == ids[0]).all()
        found.append(tokenizer.decode(ids[1:n]))
    return found


def test_a_shuffled_pass_has_each_line_once(tmp_path):
    of, tokenizer = lines_of("\n".join(NAMES + NAMES[:20]), tmp_path)
    n, orders = of.n_examples, []
    assert n == len(of.train)
    for number in range(3):
        orders.append(texts(of.shuffled_batch(1, number * n, n), tokenizer))
        assert sorted(orders[-1]) == sorted(texts(of._examples(of.train), tokenizer))
    assert orders[0] != orders[1] != orders[2]
    np.testing.assert_array_equal(of.shuffled_batch(1, n - 3, 6)[0], np.concatenate(
        [of.shuffled_batch(1, n - 3, 3)[0], of.shuffled_batch(1, n, 3)[0]]))


@pytest.mark.parametrize("kind", ["char", "byte", "word"])
def test_each_line_is_an_example(tmp_path, kind):
    of, tokenizer = lines_of("\n".join(NAMES), tmp_path, kind)
    assert of.train_batch(np.random.default_rng(0), 5)[0].shape == (5, 16)
    train = set(texts(of.train_batch(np.random.default_rng(0), 2000), tokenizer))
    val = [line for batch in of.val_windows(2) for line in texts(batch, tokenizer)]
    assert len(val) == 5 and train | set(val) == set(NAMES) and not train & set(val)
    assert set(texts(of.val_batch(np.random.default_rng(0), 200), tokenizer)) == set(val)
    assert "50 lines, 50 different ones" in of.description and "45 to train on, 5 others" in of.description
    assert of.characters_per_token == (1 if kind != "word" else pytest.approx(
        sum(len(line) + 1 for line in val) / sum(len(tokenizer.encode(line)) + 1 for line in val)))


@given(st.lists(st.text("ab ", max_size=5), min_size=1, max_size=30), st.sampled_from([0.01, 0.1, 0.5, 0.99]),
       st.integers(3, 50))
def test_lines_that_are_equal_are_in_one_part(lines, fraction, block):
    tokenizer = CharTokenizer("ab \n")
    tokens = tokenizer.encode("\n" + "\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "_BLOCK", block)
        full = [line for line in lines if line]
        if len(set(full)) < 2:
            with pytest.raises(ValueError, match="only one line|no lines"):
                data.LineData.from_tokens(tokens, tokenizer, 6, fraction)
            return
        of = data.LineData.from_tokens(tokens, tokenizer, 6, fraction)
    val = [line for batch in of.val_windows(3) for line in texts(batch, tokenizer)]
    train = texts(of._examples(of.train), tokenizer)
    assert sorted(train + val) == sorted(full) and not set(train) & set(val)
    assert len(set(val)) == min(max(1, round(fraction * len(set(full)))), len(set(full)) - 1)


def test_which_lines_are_for_validation_is_no_matter_of_their_order(tmp_path):
    def validated(lines):
        of, tokenizer = lines_of("\n".join(lines), tmp_path)
        return {line for batch in of.val_windows(9) for line in texts(batch, tokenizer)}

    assert validated(NAMES) == validated(NAMES[::-1]) != set(NAMES[-5:])


def test_empty_lines_are_left_out_and_counted(tmp_path):
    assert "2 empty ones left out" in lines_of("one\n\n\ntwo\n", tmp_path)[0].description
    assert "empty ones" not in lines_of("one\ntwo\n", tmp_path)[0].description
    assert "empty ones" not in lines_of("one\ntwo", tmp_path)[0].description


def test_a_line_that_is_too_long_is_named(tmp_path):
    lines_of("a\nbb\n" + "x" * 15, tmp_path)
    with pytest.raises(ValueError, match="has 1 lines .* line 3, 'xx.* has 16: raise --block-size to 17"):
        lines_of("a\nbb\n" + "x" * 16, tmp_path)
    with pytest.raises(ValueError, match="has 2 lines that are too long: with a block_size of 16 a line may have 15 "
                                         "tokens, and the longest, line 4, 'yyyy.*'…, has 40: raise .* to 41"):
        lines_of("\n" + "x" * 16 + "\n\n" + "y" * 40 + "\nz", tmp_path)
    lines_of("\n" + "x" * 16 + "\n\n" + "y" * 40 + "\nz", tmp_path, block_size=41)
