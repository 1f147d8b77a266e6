"""Folders of models that are damaged or made with malice: each import works, or gives a clear error of one line."""

import json
import os
import random
import shutil
import struct
import time
from pathlib import Path

import numpy as np
import pytest

import gpt
from gpt import GPT, Checkpoint, GPTConfig
from gpt.cli import main
from gpt.data.tokenizers.byte import ByteTokenizer
from gpt.pretrained.convert import write_pretrained

pytest.importorskip("tokenizers")
from tests.gpt.pretrained.test_pretrained_folders import GPT2, LLAMA, shard  # noqa: E402  # which skips itself without it

FUZZ = int(os.environ.get("FUZZ", 1))  # how many times as many random cases
EVIL = [None, True, False, -1, 0, 1, 3, 10 ** 9, 10 ** 30, -10 ** 400, 0.5, 1e308, float("nan"), float("inf"), "", "x",
        "silu", "../x.safetensors", "\0\x1b[31m\ud800", "x" * 100_000, [], [1], ["x"] * 3, {}, {"a": 1},
        {"type": "linear", "factor": 1e-300}, [[[[[]]]]]]
DEEP = "[" * 900 + "]" * 900, "[" * 200_000, '{"a":' * 400 + "1" + "}" * 400
ALWAYS = ("config.json", "model.safetensors", "tokenizer.json")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of each kind, whole and in several files."""
    made = []
    for choices in (GPT2, LLAMA, LLAMA | {"qkv_bias": True}):
        folder = tmp_path_factory.mktemp("theirs")
        config = GPTConfig(vocab_size=256, block_size=16, n_layer=2, n_head=2, n_embd=8, **choices)
        about = {"chat_template": "{{ x }}", "special_tokens": {"eos_token": "</s>"},
                 "pretrained": {"eos_token_id": 3, **({} if choices is GPT2 else {"rope": {
                     "rope_type": "default", "rope_theta": 10000.0}})}}
        write_pretrained(folder, Checkpoint(GPT(config, seed=1), ByteTokenizer(), about))
        parts = Path(shutil.copytree(folder, tmp_path_factory.mktemp("parts") / "model"))
        shard(parts)
        made += [folder, parts]
    return made


@pytest.fixture
def judge(tmp_path, capsys):
    """A function that imports a folder with one file changed: it must go well or fail in one clear line, soon, and
    leave what is written either whole or not there; the status."""
    resource = pytest.importorskip("resource")  # not on Windows
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() \
        if Path("/proc/self/statm").exists() else 64 << 30
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), limits[1]))  # memory is bounded: a GB more at most

    def given(folder, name, content):
        theirs, out = tmp_path / "theirs", tmp_path / "out"
        for old in (theirs, out):
            shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(folder, theirs)
        (theirs / name).write_bytes(content)
        capsys.readouterr()
        began = time.process_time()
        status = main(["import", str(theirs), "--out", str(out)])
        assert time.process_time() - began < 30
        errors = capsys.readouterr().err.splitlines()
        if status == 0:
            gpt.load(out)
        else:
            assert status == 1 and len(errors) == 1 and len(errors[0]) < 3000, errors
            assert errors[0].startswith("gpt: error: ") and errors[0].isprintable(), errors
            assert not any(word in errors[0] for word in ("memory", "unexpected keyword", "object has no")), errors
            assert not out.exists() or not any(out.iterdir())
        return status

    yield given
    resource.setrlimit(resource.RLIMIT_AS, limits)


def test_the_folders_themselves_are_read(folders, judge):
    for folder in folders:
        assert judge(folder, "config.json", (folder / "config.json").read_bytes()) == 0


def test_truncated_and_flipped_files(folders, judge):
    rng, refused, n = random.Random(0), 0, 60 * FUZZ
    for _ in range(n):
        folder = rng.choice(folders)
        file = rng.choice(sorted(folder.iterdir()))
        content = bytearray(file.read_bytes())
        if rng.random() < 0.4:
            content = content[:rng.choice([0, 1, 7, 8, 9, rng.randrange(len(content)), len(content) - 1])]
        else:
            for _ in range(rng.choice([1, 1, 2, 8])):
                content[rng.randrange(min(len(content), rng.choice([8, 300, 1 << 30])))] ^= 1 << rng.randrange(8)
        refused += judge(folder, file.name, bytes(content))
    assert refused > n / 4


def test_headers_that_lie(folders, judge):
    folder = folders[0]
    whole = (folder / "model.safetensors").read_bytes()
    n = struct.unpack("<Q", whole[:8])[0]
    header, data = json.loads(whole[8:8 + n]), whole[8 + n:]
    name = "transformer.h.0.attn.c_attn.weight"

    def file(header):
        head = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(head)) + head + data

    for length in (0, 1, n - 1, n + 1, len(whole), 33 << 20, 10 ** 8, 2 ** 31, 2 ** 63, 2 ** 64 - 1):
        assert judge(folder, "model.safetensors", struct.pack("<Q", length) + whole[8:]) == 1
    start, end = header[name]["data_offsets"]
    for change in ({"shape": [2 ** 40, 2 ** 40]}, {"shape": [-1]}, {"shape": []}, {"shape": 3}, {"shape": [24, 8]},
                   {"shape": [2 ** 64, 0]}, {"shape": [1] * 100_000}, {"data_offsets": [end, start]},
                   {"data_offsets": [0, len(data)]}, {"data_offsets": [start, 2 ** 64 - 1]}, {"data_offsets": [start]},
                   {"data_offsets": None}, {"dtype": None}, {"dtype": "F64"}, {"dtype": "F33"}, {"dtype": "BF16"},
                   {"dtype": "I32"}, {"dtype": "F8_E4M3"}, {"dtype": "C64"}):
        assert judge(folder, "model.safetensors", file(header | {name: header[name] | change})) == 1, change
    for wrong in (b"", b"{}", b"[]", b"null", b"{", b"\xff" * 50, b"[" * 1_000_000, b'{"a":' * 200_000, b" " * 1000,
                  json.dumps(header)[:-1].encode() + b', "\\u001b[31m": ' + json.dumps(header[name]).encode() + b"}",
                  json.dumps({key.replace("wte", "\x1b[31m\u202e\ud800"): v for key, v in header.items()}).encode()):
        assert judge(folder, "model.safetensors", file(wrong)) == 1, wrong[:40]
    empty = header | {"more": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}
    assert judge(folder, "model.safetensors", file(empty)) == 1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # such weights make NumPy warn
@pytest.mark.parametrize("bits", [0x7FC0_0000, 0x7F80_0000, 0xFF80_0000, 0x7F7F_FFFF, 1, 0])
def test_weights_of_any_bits(folders, judge, bits):
    """NaN and infinities are refused; the largest and the smallest numbers are numbers."""
    whole = (folders[2] / "model.safetensors").read_bytes()
    n = struct.unpack("<Q", whole[:8])[0]
    content = whole[:8 + n] + np.full((len(whole) - 8 - n) // 4, bits, "<u4").tobytes()
    assert judge(folders[2], "model.safetensors", content) == (not np.isfinite(np.uint32(bits).view(np.float32)))


def places(value, path=()):
    """The paths to all values in a JSON value."""
    yield path
    for key in value if isinstance(value, dict) else ():
        yield from places(value[key], (*path, key))


def put(value, path, new):
    """A JSON value with another one at a path."""
    return {**value, path[0]: put(value[path[0]], path[1:], new)} if path else new


KEYS = {"rope_scaling": None, "rope_parameters": None, "head_dim": 4, "use_sliding_window": True, "sliding_window": 3,
        "layer_types": ["full_attention"] * 2, "quantization_config": None, "partial_rotary_factor": 1.0,
        "max_window_layers": 1, "pad_token_id": 0, "chat_template": [{"name": "default", "template": "x"}]}


@pytest.mark.slow
def test_wrong_json(folders, judge):
    """200 cases of some thousand, or FUZZ times as many: each value of each file made evil, one at a time."""
    cases = []
    for folder in folders:
        for file in sorted(folder.glob("*.json")):
            document = json.loads(file.read_text())
            more = KEYS if "config" in file.name else {}
            every = [p for p in places(document | more) if p[:2] != ("model", "vocab") or len(p) < 4]
            for path in every:
                cases += [(folder, file.name, put(document | more, path, evil)) for evil in EVIL]
                cases += [(folder, file.name, (put(document, path, "DEEP"), deep)) for deep in DEEP
                          if path and path[0] in document]
    for folder, name, case in random.Random(0).sample(cases, min(len(cases), 200 * FUZZ)):
        text = json.dumps(case[0]).replace('"DEEP"', case[1]) if isinstance(case, tuple) else json.dumps(case)
        try:
            judge(folder, name, text.encode())
        except BaseException as error:
            error.add_note(f"{name} {text!r:.2000}")
            raise


def test_exports_of_checkpoints_that_lie(folders, tmp_path, capsys):
    """Metadata of an earlier import may be anything: the export works, or says why not."""
    assert main(["import", str(folders[2]), "--out", str(tmp_path / "out")]) == 0
    run = gpt.load(tmp_path / "out")
    for i, evil in enumerate(EVIL[:-7] + [[1], {"a": 1}]):
        for j, about in enumerate(({"pretrained": evil}, {"pretrained": {"rope": evil}}, {"special_tokens": evil},
                                   {"pretrained": {"rope": {"rope_type": evil}}}, {"chat_template": evil},
                                   {"pretrained": {"eos_token_id": evil}})):
            gpt.save(tmp_path / "out", run.model, run.tokenizer, about)
            capsys.readouterr()
            status = main(["export", str(tmp_path / "out"), "--out", str(tmp_path / f"made{i}-{j}")])
            errors = capsys.readouterr().err.splitlines()
            assert status == len(errors) <= 1 and (not errors or errors[0].startswith("gpt: error: ")), (about, errors)
            assert (tmp_path / f"made{i}-{j}").exists() == (status == 0)
