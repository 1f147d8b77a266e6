"""tokenizer.json files that are damaged or made with malice: each gives a clear error of one line, or works."""

import copy
import json
import os
import random
import time

import pytest

from gpt.data.tokenizers import from_json, tokenizer_file
from gpt.data.tokenizers.bpe import BPETokenizer
from tests.tokenizer_files import STYLES, TEXTS

resource = pytest.importorskip("resource")  # not on Windows
FUZZ = int(os.environ.get("FUZZ", 1))  # how many times as many random cases


@pytest.fixture(scope="module", autouse=True)
def _needs_tokenizers():
    pytest.importorskip("tokenizers")


def refused(make_it, *words):
    """The message of a ValueError of one line, raised in a second without a gigabyte."""
    began = time.perf_counter()
    with pytest.raises(ValueError) as error:
        make_it()
    text = str(error.value)
    assert "\n" not in text and len(text) < 600 and all(word in text for word in words), text
    assert time.perf_counter() - began < 5
    return text


def test_files_that_are_no_tokenizers(tmp_path):
    file = tmp_path / "tokenizer.json"
    for raw in (b"", b"{", b"\xff\xfe", b"[" * 200_000, b'{"a":' * 100_000, b"9" * 10_000):
        file.write_bytes(raw)
        refused(lambda: BPETokenizer.from_file(file), str(file), "copy it again")
    for raw in (b"[]", b"null", b"3", b'"x"', b"[" * 900 + b"]" * 900):
        file.write_bytes(raw)
        refused(lambda: BPETokenizer.from_file(file), str(file), "give a tokenizer.json")
    for raw in (b"{}", b'{"model": []}', b'{"model": {}}', b'{"model": {"vocab": {}}}',
                b'{"model": {"vocab": {}, "x": ' + b"[" * 900 + b"]" * 900 + b"}}"):
        file.write_bytes(raw)
        refused(lambda: BPETokenizer.from_file(file), str(file), "the tokenizer is damaged")
    with open(file, "wb") as opened:
        opened.truncate(1 << 40)  # zeros that take no room
    refused(lambda: BPETokenizer.from_file(file), "larger than")
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        BPETokenizer.from_file(tmp_path / "nowhere.json")
    with pytest.raises(OSError, match="cannot be read"):
        BPETokenizer.from_file(tmp_path)


def refuse(made, *words):
    refused(lambda: BPETokenizer(made), "the tokenizer is damaged", *words)


def changed(made, *path, to):
    made = copy.deepcopy(made)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    if callable(to):
        to(inner[path[-1]])
    else:
        inner[path[-1]] = to
    return made


def test_vocabularies_with_holes_and_doubles(styles):
    made = styles["gpt2"]
    for number in (5, 99_999, -1, 2 ** 32 + 1, True, "7", 1.0, None):
        refuse(changed(made, "model", "vocab", "a", to=number))
    for word in ("x" * 5000, "\ud800"):
        refuse(changed(made, "model", "vocab", word, to=len(made["model"]["vocab"])))
    refuse(changed(made, "model", "vocab", to={}))
    refuse(changed(made, "model", "vocab", to=lambda vocab: vocab.pop("a")))
    for path, to in ((("id",), 7), (("id",), 400), (("id",), "0"), (("id",), None), (("content",), None),
                     (("content",), ""), (("content",), "a")):
        refuse(changed(made, "added_tokens", 0, *path, to=to))
    refuse(changed(made, "added_tokens", to=lambda tokens: tokens.append(tokens[0])), "same number")
    refuse(changed(made, "model", "merges", to=[["a", "zz"]]), "`zz`")
    refuse(changed(made, "model", "merges", to=[["Q", "Z"]]), "`QZ`")
    refuse(changed(made, "model", "continuing_subword_prefix", to="é" * 99), "cannot be read")


def step(**fields):
    return fields


@pytest.mark.parametrize("part, steps", [
    ("normalizer", [step(type="Replace", pattern={"String": "a"}, content="aa")] * 40),
    ("normalizer", [step(type="Replace", pattern={"Regex": ""}, content="x" * 2000)]),
    ("normalizer", [step(type="Replace", pattern={"String": ""}, content="x" * 2000)]),
    ("normalizer", [step(type="Prepend", prepend="x" * 5000)]),
    ("normalizer", [step(type="NFKD")] * 8), ("normalizer", [step(type="Lowercase")] * 100),
    ("normalizer", [step(type="Precompiled", precompiled_charsmap="CAAAAAAAAAAAAAAAYWJj")]),
    ("normalizer", [step(type="Precompiled", precompiled_charsmap="?")]),
    ("decoder", [step(type="Replace", pattern={"String": "a"}, content="a" * 5000)]),
    ("pre_tokenizer", [step(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=False)] * 30)])
def test_steps_that_would_take_all_memory(part, steps, styles):
    inner = {"normalizer": "normalizers", "decoder": "decoders", "pre_tokenizer": "pretokenizers"}[part]
    for made in ({"type": "Sequence", inner: steps}, {"type": "Sequence", inner: [{"type": "Sequence", inner: steps}]}):
        refuse(changed(styles["gpt2"], part, to=made))


def test_a_panic_of_the_library_is_an_error_of_one_line(styles):
    words = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    tokenizer = BPETokenizer(changed(styles["gpt2"], "pre_tokenizer", to=words))
    refused(lambda: tokenizer.encode("a" * 5000 + "b"), "this tokenizer cannot encode the text", "retry-limit")
    strip = {"type": "Strip", "content": "a", "start": 2, "stop": 2}
    tokenizer = BPETokenizer(changed(styles["gpt2"], "decoder", to=strip))
    refused(lambda: tokenizer.decode([tokenizer.encode("a", exact=False)[0]] * 2), "cannot decode")
    with pytest.raises(KeyboardInterrupt), tokenizer_file.plain_errors("it"):
        raise KeyboardInterrupt
    refuse(changed(styles["wordpiece"], "model", "max_input_chars_per_word", to=10 ** 9), "minutes")


EVIL = [None, True, -1, 0, 7, 2 ** 32, 10 ** 30, 1.5, -1e308, float("nan"), "", "x", "a", "▁", "\0\ud800", "x" * 10_000,
        [], ["a", "b"], [["a", -1.0]], {}, {"a": 0}, {"type": "Sequence"}, {"String": ""}, {"Regex": "("},
        {"Regex": "a*"}]


def places(value, path=()):
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


@pytest.mark.parametrize("name", STYLES)
def test_mutations(name, styles):
    """Any value replaced, removed or doubled: a tokenizer that works, or one clear line."""
    rng, every = random.Random(name), list(places(styles[name]))
    inside = [p for p in every if p and p[:2] not in {("model", "vocab"), ("model", "merges")}]
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_used() + (2 << 30), hard))
    try:
        for _ in range(150 * FUZZ):
            made = copy.deepcopy(styles[name])
            for _ in range(rng.choice([1, 1, 2])):
                mutate(made, rng.choice(inside if rng.random() < 0.7 else every[1:]), rng)
            began = time.perf_counter()
            try:
                tokenizer = BPETokenizer(made)
                for text in rng.sample(TEXTS, 4):
                    tokens = tokenizer.encode(text)
                    assert tokenizer.decode(tokens) == text and tokenizer.lengths.size == tokenizer.vocab_size
                    tokenizer.encode(text, special=True, template=True)
            except ValueError as error:
                assert str(error) and "\n" not in str(error) and len(str(error)) < 600
            assert time.perf_counter() - began < 10
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _used():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def mutate(made, path, rng):
    for key in path[:-1]:
        try:
            made = made[key]
        except (KeyError, IndexError, TypeError):  # an earlier mutation took it away
            return
    if not isinstance(made, (dict, list)):
        return
    key, what = path[-1], rng.random()
    try:
        if what < 0.15:
            del made[key]
        elif what < 0.25 and isinstance(made, list):
            made.append(made[key])
        else:
            made[key] = copy.deepcopy(rng.choice(EVIL))
    except (KeyError, IndexError, TypeError):
        return


@pytest.mark.parametrize("name", ["gpt2", "llama2"])
def test_flipped_bits_and_cuts(name, styles, tmp_path):
    rng, file, whole = random.Random(name), tmp_path / "tokenizer.json", json.dumps(styles[name]).encode()
    for _ in range(60 * FUZZ):
        raw = bytearray(whole)
        for _ in range(rng.choice([1, 1, 5])):
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        file.write_bytes(raw if rng.random() < 0.7 else raw[:rng.randrange(len(raw))])
        try:
            tokenizer = BPETokenizer.from_file(file)
            assert tokenizer.decode(tokenizer.encode("the cat sat")) == "the cat sat"
        except ValueError as error:
            assert "\n" not in str(error) and len(str(error)) < 600


@pytest.mark.parametrize("data", [{}, {"tokenizer": None}, {"tokenizer": "x"}, {"tokenizer": {}},
                                  {"tokenizer": {"model": {"vocab": {}}}}])
def test_descriptions_that_make_no_tokenizer(data):
    refused(lambda: from_json({"kind": "bpe"} | data), "tokenizer")
