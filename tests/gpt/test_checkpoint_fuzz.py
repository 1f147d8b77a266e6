"""Checkpoints that are damaged or made with malice: each gives a clear error of one line, or works."""

import json
import os
import random
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import gpt
from gpt import TrainConfig, checkpoint, train
from gpt.cli import main

FUZZ = int(os.environ.get("FUZZ", 1))  # how many times as many random cases
EVIL = [None, True, -1, 0, 3, 10 ** 30, -10 ** 400, 1.5, 1e308, float("nan"), float("inf"), "", "x", "\0\x1b[31m\ud800",
        "x" * 100_000, [], [1], ["x", "x"], {}, {"a": 1}, {"kind": "char"}, [[[[[]]]]]]
DEEP = "[" * 900 + "]" * 900, "[" * 200_000, '{"a":' * 400 + "1" + "}" * 400


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The checkpoint of a run of 4 steps: its bytes, metadata (without the checksum) and arrays."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text("the cat sat on the mat, and the dog sat by the cat.\n" * 20, encoding="utf-8")
    train(TrainConfig(data=(str(folder / "text.txt"),), out=str(folder / "out"), n_layer=1, n_head=1, n_embd=8,
                      block_size=8, batch_size=4, max_iters=4, eval_interval=2, eval_iters=1), lambda line: None)
    file = folder / "out" / checkpoint.FILE
    with safe_open(file, "np") as opened:
        metadata = {key: text for key, text in opened.metadata().items() if key != "checksum"}
        return file.read_bytes(), metadata, {name: opened.get_tensor(name) for name in opened.keys()}


@pytest.fixture
def judge(tmp_path, capsys, trained):
    """A function that gives a file to all that read checkpoints: each must go well or fail in one clear line; the
    statuses of info, sample and train."""
    resource = pytest.importorskip("resource")  # not on Windows
    file, limits = tmp_path / "given" / "model.safetensors", resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() \
        if Path("/proc/self/statm").exists() else 64 << 30
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), limits[1]))  # memory is bounded: a GB more at most

    def commands():
        yield ["info", str(file)]
        yield ["info", str(file), "--json"]
        yield ["sample", str(file), "--max-new-tokens", "3"]
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        yield ["train", "--resume", str(file), "--max-iters", "5", "--out", str(tmp_path / "out")]

    def given(content):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
        try:
            gpt.load(file)
        except (ValueError, OSError) as error:
            assert str(file) in str(error) and len(str(error)) < 5000
        statuses = []
        for argv in commands():
            capsys.readouterr()
            statuses.append(main(argv))
            errors = capsys.readouterr().err.splitlines()
            assert statuses[-1] == 0 or statuses[-1] == 1 and len(errors) == 1 and len(errors[0]) < 5000, (argv, errors)
            assert statuses[-1] == 0 or errors[0].startswith("gpt: error: ") and "memory" not in errors[0], errors
        return statuses

    yield given
    resource.setrlimit(resource.RLIMIT_AS, limits)


def file_of(tmp_path, metadata, arrays, checksum=True):
    """The bytes of a file of these, as whole as one that training wrote."""
    metadata = metadata | ({"checksum": checkpoint.checksum(metadata, arrays)} if checksum else {})
    save_file(arrays, tmp_path / "made.safetensors", metadata)
    return (tmp_path / "made.safetensors").read_bytes()


def raw_file(header, data=b""):
    """A safetensors file with this header, an object or bytes, however wrong."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + data


def header_of(content):
    n = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8:8 + n]), content[8 + n:]


def test_the_file_itself_is_read(trained, judge):
    assert judge(trained[0]) == [0, 0, 0, 0]


def test_truncated_and_prolonged_files(trained, judge):
    whole, data = trained[0], len(header_of(trained[0])[1])
    start, rng = len(whole) - data, random.Random(0)
    cuts = [0, 1, 7, 8, 9, start - 1, start, start + 1, start + 4, len(whole) - 1,
            *(rng.randrange(len(whole)) for _ in range(10 * FUZZ))]
    for content in [whole[:cut] for cut in cuts] + [whole + b"\0", whole + whole]:
        assert judge(content) == [1, 1, 1, 1]


def same(run, other):
    (a, b) = (r.model.named_arrays() for r in (run, other))
    a_rest, b_rest = ((r.config, r.metadata, r.tokenizer.to_json()) for r in (run, other))
    return a_rest == b_rest and all(np.array_equal(a[name].data, b[name].data) for name in a)


def test_flipped_bits_are_noticed(trained, tmp_path):
    """A file with a wrong bit is refused, but for one that changes nothing, such as a space after the header."""
    whole, file, rng = trained[0], tmp_path / "model.safetensors", random.Random(0)
    file.write_bytes(whole)
    right, start = gpt.load(file), len(whole) - len(header_of(whole)[1])
    refused = 0
    places = [*range(8), *rng.sample(range(8, start), 200 * min(FUZZ, 5)),
              *(rng.randrange(start, len(whole)) for _ in range(200 * FUZZ))]
    for place in places:
        content = bytearray(whole)
        content[place] ^= 1 << rng.randrange(8)
        file.write_bytes(content)
        try:
            run = gpt.load(file)
        except ValueError:
            refused += 1
        else:
            assert place < start and same(run, right), place
    assert refused > 0.9 * len(places)


def test_flipped_bits_for_every_command(trained, judge):
    rng = random.Random(1)
    for _ in range(25 * FUZZ):
        content = bytearray(trained[0])
        for _ in range(rng.choice([1, 1, 1, 2, 8])):
            content[rng.randrange(rng.choice([8, 3000, len(content)]))] ^= 1 << rng.randrange(8)
        judge(bytes(content))


def test_headers_that_lie(trained, judge):
    whole = trained[0]
    header, data = header_of(whole)
    for length in (0, 1, len(whole), len(whole) - 8, 10 ** 8, 10 ** 8 + 1, 2 ** 31, 2 ** 32 + 5, 2 ** 63, 2 ** 64 - 1):
        assert judge(struct.pack("<Q", length) + whole[8:]) == [1, 1, 1, 1]
    entry = header["wte.weight"]
    (start, end), n = entry["data_offsets"], len(data)
    for change in ({"shape": [2 ** 40, 2 ** 40]}, {"shape": [-1]}, {"shape": []}, {"shape": [2 ** 63]}, {"shape": 3},
                   {"shape": [2 ** 64, 0]}, {"shape": [1] * 100_000}, {"shape": entry["shape"][::-1]},
                   {"data_offsets": [0, n]}, {"data_offsets": [end, start]}, {"data_offsets": [start + 4, end + 4]},
                   {"data_offsets": [n, n + end - start]}, {"data_offsets": [0, 2 ** 64 - 1]},
                   {"data_offsets": [-1, 0]}, {"data_offsets": [start]}, {"data_offsets": None}, {"dtype": None},
                   *({"dtype": dtype} for dtype in ("F33", "BF16", "F64", "I32", "U32", "I8", "BOOL", "F8_E4M3"))):
        assert judge(raw_file(header | {"wte.weight": entry | change}, data))[2:] == [1, 1], change
    for dtype, shape in (("BF16", [4]), ("F8_E4M3", [8]), ("F4", [16]), ("C64", [1]), ("U64", [1, 1]), ("I8", [1] * 70),
                         ("F32", [2 ** 62, 0]), ("F32", [2 ** 63, 0]), ("BOOL", [8])):
        more = bytes(range(8)) if 0 not in shape else b""
        entry = {"dtype": dtype, "shape": shape + [8] * (len(shape) == 70), "data_offsets": [n, n + len(more)]}
        assert judge(raw_file(header | {"extra": entry}, data + more))[2:] == [1, 1], entry
    for wrong in (b"", b"{}", b"[]", b"null", b"{", b"\xff" * 50, b"[" * 1_000_000, b'{"a":' * 200_000, b" " * 1000,
                  b'{"__metadata__": {"format": 3}}', b'{"__metadata__": []}', b'{"__metadata__": {"format": null}}'):
        assert judge(raw_file(wrong)) == [1, 1, 1, 1], wrong[:40]


def test_types_that_are_none_of_weights(trained, judge, tmp_path):
    _, metadata, arrays = trained
    for dtype in (np.int32, np.uint8, np.bool_, np.float16, np.float64, np.complex64):
        judge(file_of(tmp_path, metadata, {name: a.astype(dtype) for name, a in arrays.items()}))
        judge(file_of(tmp_path, metadata, arrays | {"wpe.weight": arrays["wpe.weight"].astype(dtype)}))


# Such weights make NumPy warn.
@pytest.mark.slow_but_every(3)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38, -1.0, 0.0, 1e-45])
def test_numbers_that_training_does_not_leave(trained, judge, tmp_path, value):
    _, metadata, arrays = trained
    for name in ("wte.weight", "h.0.ln_1.weight", "h.0.attn.c_attn.weight", "ln_f.weight", "training.optimizer.m",
                 "training.optimizer.v"):
        changed = np.full_like(arrays[name], value)
        assert judge(file_of(tmp_path, metadata, arrays | {name: changed}))[:2] == [0, 0]
    if not np.isfinite(value):
        assert judge(file_of(tmp_path, metadata, arrays | {"wte.weight": np.full_like(arrays["wte.weight"], value)})) \
            == [0, 0, 1, 1]


@pytest.mark.parametrize("steps", [-1, -2 ** 63, 5, 2 ** 62])
def test_an_optimizer_of_other_steps(trained, judge, tmp_path, steps):
    _, metadata, arrays = trained
    changed = arrays | {"training.optimizer.steps": np.array(steps)}
    assert judge(file_of(tmp_path, metadata, changed)) == [0, 0, 0, 1]


def places(value, path=()):
    """The paths to all values in a JSON value."""
    yield path
    for key in value if isinstance(value, dict) else ():
        yield from places(value[key], (*path, key))


def put(value, path, new):
    """A JSON value with another one at a path."""
    if not path:
        return new
    if isinstance(value, list):
        return [put(item, path[1:], new) if i == path[0] else item for i, item in enumerate(value)]
    return {**value, path[0]: put(value[path[0]], path[1:], new)}


def cases(metadata):
    """Metadata with one value made evil, and what was made of what.  A run may truly ask for huge batches, so those
    sizes stay moderate."""
    for key in ("config", "tokenizer", "about"):
        document = json.loads(metadata[key])
        for path in places(document):
            for evil in EVIL:
                if path[-1:] not in {("batch_size",), ("accumulate",)} or not isinstance(evil, int) or evil < 10:
                    yield metadata | {key: json.dumps(put(document, path, evil))}, (key, path, evil)
            if path:
                for deep in DEEP:
                    yield (metadata | {key: json.dumps(put(document, path, "DEEP")).replace('"DEEP"', deep)},
                           (key, path, deep[:5]))
        for text in ("", "nonsense", "9" * 10_000, *DEEP):
            yield metadata | {key: text}, (key, text[:5])
        yield {k: v for k, v in metadata.items() if k != key}, (key, "missing")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of a learning rate of 1e308
def test_wrong_metadata(trained, judge, tmp_path):
    """100 cases of some thousand, or FUZZ times as many."""
    _, metadata, arrays = trained
    every = list(cases(metadata))
    for changed, what in random.Random(0).sample(every, min(len(every), 100 * FUZZ)):
        try:
            judge(file_of(tmp_path, changed, arrays))
        except BaseException as error:
            error.add_note(f"{what!r:.300}")
            raise


@pytest.mark.slow_but_every(3)
@pytest.mark.parametrize("path, evil", [
    (("iter",), -1), (("iter",), True), (("iter",), 2.0), (("iter",), 10 ** 30), (("iter",), None),
    (("seconds",), "1"), (("seconds",), float("nan")), (("seconds",), None), (("best",), float("inf")), (("best",), []),
    (("without_gain",), -1), (("row",), 3), (("row",), {"iter": 4}), (("row",), []),
    (("batches",), None), (("batches", "bit_generator"), "MT19937"), (("batches", "bit_generator"), 7),
    (("batches", "state"), {}), (("batches", "state", "state"), -1), (("batches", "state", "inc"), 10 ** 400),
    (("dropout", 0, "has_uint32"), "no"), (("dropout", 0, "uinteger"), 2 ** 70), ((), None), ((), [])])
def test_a_state_that_cannot_be_gone_on_from(trained, judge, tmp_path, path, evil, capsys):
    _, metadata, arrays = trained
    about = json.loads(metadata["about"])
    changed = metadata | {"about": json.dumps(about | {"state": put(about["state"], path, evil)})}
    assert judge(file_of(tmp_path, changed, arrays))[1:] == [0, 0, 1]
    assert main(["train", "--resume", str(tmp_path / "given"), "--max-iters", "5", "--out", str(tmp_path / "o")]) == 1
    assert "the state of the run cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("name, evil", [("n_layer", "x"), ("data", 3), ("data", "text.txt"), ("data", [3]), ("bias", 1),
                                        ("learning_rate", float("nan")), ("max_iters", -1), ("optimizer", "newton")])
def test_settings_that_cannot_be_gone_on_with(trained, judge, tmp_path, name, evil):
    _, metadata, arrays = trained
    about = json.loads(metadata["about"])
    changed = metadata | {"about": json.dumps(about | {"train": about["train"] | {name: evil}})}
    assert judge(file_of(tmp_path, changed, arrays))[2:] == [0, 1]
    with pytest.raises(ValueError, match="has settings that this version cannot read"):
        TrainConfig.from_recipe(resume=str(tmp_path / "given"))


def test_settings_of_another_model(trained, judge, tmp_path):
    _, metadata, arrays = trained
    about = json.loads(metadata["about"])
    for change in ({"n_layer": 2}, {"block_size": 4}, {"activation": "relu"}, {"dropout": 0.5}):
        changed = metadata | {"about": json.dumps(about | {"train": about["train"] | change})}
        assert judge(file_of(tmp_path, changed, arrays))[2:] == [0, 1]


def test_configurations_that_would_take_all_memory(trained, judge, tmp_path):
    _, metadata, arrays = trained
    config = json.loads(metadata["config"])
    for change in ({"n_embd": 2 ** 40}, {"n_layer": 10 ** 9}, {"block_size": 10 ** 15}, {"n_layer": 10 ** 30},
                   {"n_layer": 80_000, "n_embd": 1}, {"block_size": 100_000, "positions": "sinusoidal"}):
        assert judge(file_of(tmp_path, metadata | {"config": json.dumps(config | change)}, arrays))[2:] == [1, 1]


def test_a_folder_and_a_file_without_permission(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(OSError, match="there are no weights here"):
        gpt.load(tmp_path)

    def denied(*args):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "best.safetensors").touch()
    monkeypatch.setattr("gpt.runtime.safetensors_file.Opened", denied)
    for read in (gpt.load, checkpoint.read_metadata):
        with pytest.raises(OSError, match=r"best.safetensors cannot be read \(Permission denied\): check its"):
            read(tmp_path / "best.safetensors")
