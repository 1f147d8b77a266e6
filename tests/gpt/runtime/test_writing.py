"""Files on the disk: written whole or not at all, and read by their heads first, whatever their sizes."""

import errno
import json
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy

import gpt
from gpt import checkpoint
from gpt.chat.conversation import Message
from gpt.chat.terminal import save_conversation as save_chat
from gpt.runtime import writing
from gpt.runtime.safetensors_file import Stored, read_head, write_tensors
from gpt.training.metrics import Metrics

ROOT = Path(__file__).parents[3]
DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_are_those_of_the_library(tmp_path, dtype):
    rng = np.random.default_rng(0)
    arrays = {f"{name} é": rng.integers(0, 2, shape).astype(dtype) for name, shape in
              {"a": (3, 4), "scalar": (), "empty": (0, 5), "one": (1,)}.items()}
    arrays |= {"turned": arrays["a é"].T, "big": rng.integers(0, 2, (3, 2)).astype(np.dtype(dtype).newbyteorder(">")),
               "odd": np.ones(3, np.int8), "wide": np.arange(3.0)}
    write_tensors(tmp_path / "ours", arrays, {"who": "wir"})
    theirs = safetensors.numpy.load_file(tmp_path / "ours")
    safetensors.numpy.save_file({k: np.array(v, v.dtype.newbyteorder("="), order="C") for k, v in arrays.items()},
                                tmp_path / "theirs", {"who": "sie"})
    for file, who in ("ours", "wir"), ("theirs", "sie"):
        metadata, stored = read_head(tmp_path / file)
        assert metadata == {"who": who} and stored.keys() == arrays.keys() == theirs.keys()
        for name, a in arrays.items():
            np.testing.assert_array_equal(stored[name].map(), a)
            np.testing.assert_array_equal(theirs[name], a)
            assert stored[name].map().dtype == a.dtype.newbyteorder("<")


def test_all_is_read_of_the_same_file(tmp_path):
    """Another one may take its place meanwhile: that of a run which goes on."""
    write_tensors(tmp_path / "file", {"a": np.zeros(3)}, {})
    _, stored = read_head(tmp_path / "file")
    with writing.replacing(tmp_path / "file") as temporary:
        write_tensors(temporary, {"b": np.ones(5), "a": np.ones(3)}, {})
    np.testing.assert_array_equal(stored["a"].map(), np.zeros(3))


@pytest.mark.parametrize("head", [
    {"a": {"dtype": "F32", "shape": [2 ** 63] * 60, "data_offsets": [0, 4]}},
    {"a": {"dtype": "F32", "shape": [1] * 65, "data_offsets": [0, 4]}},
    {"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}},
    {"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}},
    {"a": {"dtype": "F32", "shape": {"1": 1}, "data_offsets": [0, 4]}},
    {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
    {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "b": {"dtype": "F32", "shape": [1],
                                                                       "data_offsets": [0, 4]}},
    {"a": [1], "b": None}, {"__metadata__": {"a": 1}}, {"__metadata__": [1]}, [1], None, 3])
def test_heads_that_lie(tmp_path, head):
    raw = json.dumps(head).encode()
    (tmp_path / "file").write_bytes(struct.pack("<Q", len(raw)) + raw + b"\0" * 4)
    with pytest.raises(ValueError, match="is no safetensors file, or damaged .*: copy it or train again") as error:
        read_head(tmp_path / "file")
    assert "object has no" not in str(error.value)


@pytest.fixture
def saved(model, tokenizer, tmp_path):
    return gpt.save(tmp_path / "run", model, tokenizer, {"iter": 7}) if (tmp_path / "run").mkdir() is None else None


def in_memory(kilobytes, *argv):
    """A command that may have so much memory, with what Rust would tell of its panics."""
    def limited():
        resource.setrlimit(resource.RLIMIT_AS, (kilobytes << 10, kilobytes << 10))
    return subprocess.run([sys.executable, "-m", "gpt", *map(str, argv)], cwd=ROOT, capture_output=True, text=True,
                          timeout=120, preexec_fn=limited, env=os.environ | {"RUST_BACKTRACE": "1"})


@pytest.mark.slow
def test_weights_larger_than_memory_are_one_plain_line(tmp_path, tokenizer):
    """A head that is right, and nothing behind it: a sparse file of 1 TB, and one of 600 MB in 700."""
    for n_embd, n, room in ((100_000, 1, 32 << 20), (2500, 2, 700_000)):
        config = gpt.GPTConfig(vocab_size=11, block_size=8, n_layer=n, n_head=1, n_embd=n_embd, n_hidden=n_embd * 4)
        small = gpt.GPT(gpt.GPTConfig(vocab_size=11, block_size=8, n_layer=n, n_head=1, n_embd=1))
        file, offset, head = tmp_path / "model.safetensors", 0, {}
        for name, t in small.named_arrays().items():
            scale = {"c_attn": (1, 3), "c_proj": (1 + 3 * (".mlp." in name), 1), "c_fc": (1, 4)}
            shape = [n_embd * m for m in scale[name.split(".")[-2]]] if t.ndim == 2 and ".c_" in name else \
                [*t.shape[:-1], n_embd]
            size = 4 * int(np.prod(shape))
            head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + size]}
            offset += size
        head["__metadata__"] = {"format": "tapegrad gpt 1", "tokenizer": json.dumps(tokenizer.to_json()), "about": "{}",
                                "config": json.dumps(checkpoint.asdict(config))}
        raw = json.dumps(head).encode()
        file.write_bytes(struct.pack("<Q", len(raw)) + raw)
        os.truncate(file, 8 + len(raw) + offset)
        for argv in (["sample", tmp_path], ["train", "--resume", tmp_path], ["chat", tmp_path], ["export", tmp_path]):
            done = in_memory(room, *argv, *(["--out", tmp_path / "new"] if argv[0] in ("export", "train") else []))
            assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
            assert "for which there is no room in memory" in done.stderr or "nothing to go on from" in done.stderr
        done = in_memory(room, "info", tmp_path)
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="nothing tells how much memory there is")
def test_weights_that_are_larger_than_all_memory_are_not_read(saved, monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda name: 10)
    monkeypatch.setattr(Stored, "map", None)
    with pytest.raises(OSError, match="model.safetensors holds .* bytes of numbers, for which there is no room"):
        gpt.load(saved)


def test_no_bit_of_the_key_can_switch_the_checksum_off(saved):
    whole = saved.read_bytes()
    start = whole.index(b'"checksum"')
    wrong = bytearray(whole)
    wrong[-1] ^= 1
    for content in (whole, wrong):
        for place in range(start, start + len(b'"checksum":"00000000"')):
            for bit in range(8):
                flipped = bytearray(content)
                flipped[place] ^= 1 << bit
                saved.write_bytes(flipped)
                with pytest.raises(ValueError, match="damaged"):
                    gpt.load(saved)
    saved.write_bytes(whole)
    gpt.load(saved)


# ---------------------------------------------------------------------- writing


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    file = tmp_path / "picture.svg"
    file.write_bytes(b"old")

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for where, name in (os, "fsync"), (os, "replace"), (Path, "write_bytes"):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="picture.svg cannot be written .*No space"):
            patch.setattr(where, name, full)
            writing.write_file(file, b"new")
        assert file.read_bytes() == b"old" and os.listdir(tmp_path) == ["picture.svg"]


def test_a_file_without_room_is_half_there_nowhere(tmp_path):
    """A limit of the system itself, in a process of its own."""
    code = ("import resource, signal, sys; from pathlib import Path; from gpt.runtime import writing\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
            "writing.write_file(Path(sys.argv[1]), b'x' * 5000)")
    (tmp_path / "file").write_text("old")
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "file"], cwd=ROOT, capture_output=True, text=True)
    assert "file cannot be written (File too large)" in done.stderr.splitlines()[-1]
    assert (tmp_path / "file").read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_a_chat_is_saved_whole_or_not_at_all_and_over_nothing(tmp_path, monkeypatch):
    talk = SimpleNamespace(transcript=[Message("user", "hi"), Message("assistant", "hello")], system="")
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="cannot be written .*No space"):
        patch.setattr(os, "replace", lambda *args: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        save_chat(talk, str(tmp_path / "chat"))
    assert not os.listdir(tmp_path)
    save_chat(talk, str(tmp_path / "chat"))
    (tmp_path / "link").symlink_to(tmp_path / "none")
    for name in ("chat", "link"):
        with pytest.raises(ValueError, match="is there already, and nothing is written over"):
            save_chat(talk, str(tmp_path / name))
    assert json.loads((tmp_path / "chat").read_text())["messages"][1]["content"] == "hello"


@pytest.mark.parametrize("make", ["link", "dangling", "folder", "fifo"])
def test_metrics_are_not_written_through_a_link(tmp_path, make):
    mine, path = tmp_path / "mine", tmp_path / "metrics.jsonl"
    mine.write_text("mine")
    {"link": lambda: path.symlink_to(mine), "dangling": lambda: path.symlink_to(tmp_path / "none"),
     "folder": path.mkdir, "fifo": lambda: os.mkfifo(path)}[make]()
    with pytest.raises(OSError, match="is a link, a folder or a device, and is not written to"):
        Metrics(path, 0)
    assert mine.read_text() == "mine" and not (tmp_path / "none").exists()


def test_metrics_aside_until_they_are_published(tmp_path):
    path = tmp_path / "metrics.jsonl"
    old = '{"iter": 1}\n{"iter": 2}\n{"iter": 3}\n'
    path.write_text(old)
    for iter, kept in (0, ""), (2, '{"iter": 1}\n{"iter": 2}\n'):
        with Metrics(path, iter, aside=True) as file:
            file.write({"iter": 9})
            file.sync()
            assert path.read_text() == old and file.pending.read_text() == kept + '{"iter": 9}\n'
        assert path.read_text() == old
        file.pending.unlink()
    with Metrics(path, 2, aside=True) as file:
        file.write({"iter": 9})
        file.publish()
        file.write({"iter": 10})
    assert path.read_text() == kept + '{"iter": 9}\n{"iter": 10}\n' and os.listdir(tmp_path) == ["metrics.jsonl"]
