"""The ladder under a loss: counting against a plain program of it, compressors, and where a loss stands."""

import bz2
import collections
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpt.data.ladder as module
from gpt.data.counting import counting_losses
from gpt.data.dataset import TextData
from gpt.data.ladder import Ladder
from gpt.data.tokenizers.char import CharTokenizer

SHARED = next((found for folder in Path(__file__).parents if (found := folder / "shared" / "data").is_dir()), None)


def plainly_counted(train, val, vocab_size, most):
    """Interpolated Witten-Bell counts, from dictionaries."""
    followers = collections.defaultdict(collections.Counter)
    for i, token in enumerate(train):
        for n in range(min(i, most) + 1):
            followers[tuple(train[i - n:i])][token] += 1

    def p(token, context):
        shorter = p(token, context[1:]) if context else 1 / vocab_size
        seen = followers.get(context)
        return shorter if seen is None else (seen[token] + len(seen) * shorter) / (seen.total() + len(seen))

    return [np.mean([-math.log(p(token, tuple(val[max(0, i - n):i]))) for i, token in enumerate(val)])
            for n in range(most + 1)]


@settings(max_examples=60)
@given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 5), st.integers(0, 2**32 - 1), st.integers(0, 6))
def test_counting_is_what_a_plain_program_counts(n, m, vocab_size, seed, most):
    rng = np.random.default_rng(seed)
    train, val = (rng.integers(vocab_size, size=size).astype(np.uint16) for size in (n, m))
    np.testing.assert_allclose(list(counting_losses(train, val, vocab_size, most)),
                               plainly_counted(train.tolist(), val.tolist(), vocab_size, most), rtol=1e-12)


def test_rare_tokens_of_a_large_vocabulary_are_sorted_and_counted_alike():
    rng = np.random.default_rng(0)
    train, val = (rng.zipf(1.3, size=n) % 50_000 for n in (3000, 500))
    np.testing.assert_allclose(list(counting_losses(train, val, 50_000, 3)),
                               plainly_counted(train.tolist(), val.tolist(), 50_000, 3), rtol=1e-12)


@pytest.mark.skipif(SHARED is None, reason="no texts beside the repository (../shared)")
def test_tiny_shakespeare_has_the_rungs_that_are_known():
    ladder = ladder_of((SHARED / "tinyshakespeare.txt").read_text())
    found = {name: round(loss, 3) for name, loss in ladder.rungs.items()}
    assert found["guess"] == 4.174 and found["bz2"] == 1.662
    assert [found[f"{n} characters"] for n in (2, 3, 4)] == [2.049, 1.774, 1.669]


def ladder_of(text):
    tokenizer = CharTokenizer("".join(sorted(set(text))))
    return Ladder.from_data(TextData.from_tokens(tokenizer.encode(text), tokenizer, 8, 0.1), tokenizer)


def words(n, seed=0):
    return " ".join(np.random.default_rng(seed).choice("a bird sings near the old house and we go".split(), n))


def test_compressors_have_seen_the_training_part():
    text = words(4000)
    ladder, cut = ladder_of(text), int(len(text) * 0.9)
    more = len(bz2.compress(text.encode())) - len(bz2.compress(text[:cut].encode()))
    assert ladder.rungs["bz2"] == round(8 * more * math.log(2) / (len(text) - cut), 4)
    assert ladder.rungs["xz"] < ladder.rungs["0 characters"]


def test_a_python_without_a_compressor_has_the_other_rungs(monkeypatch):
    text = words(2000)
    whole = ladder_of(text)
    monkeypatch.setitem(sys.modules, "_lzma", None)
    monkeypatch.delitem(sys.modules, "lzma", raising=False)
    ladder = ladder_of(text)
    assert ladder.rungs == {name: loss for name, loss in whole.rungs.items() if name != "xz"}
    assert "bz2" in ladder.describe() and "xz" not in ladder.describe()


def test_of_a_long_text_some_runs_are_counted_and_it_is_said(monkeypatch):
    text = words(20_000)
    whole = ladder_of(text)
    monkeypatch.setattr(module, "MOST_COUNTED", 20_000)
    some = ladder_of(text)
    assert whole.note == "" and "counted on 19,968 of the" in some.note and some.note in some.describe()
    assert some.rungs["3 characters"] == pytest.approx(whole.rungs["3 characters"], rel=0.05)
    assert some.rungs["3 characters"] != whole.rungs["3 characters"]


class Tokens(CharTokenizer):
    """Each character a token, under another name."""
    unit = "tokens"


def test_tokens_compare_in_bits_per_byte():
    text = words(3000).replace("bird", "Vögel")
    tokenizer = Tokens("".join(sorted(set(text))))
    ladder = Ladder.from_data(TextData.from_tokens(tokenizer.encode(text), tokenizer, 8, 0.1), tokenizer)
    val = text[int(len(text) * 0.9):]
    assert ladder.bytes_per_token == round(len(val.encode()) / len(val), 4)
    assert ladder.bits_per_byte(1.0) == pytest.approx(1 / math.log(2) / ladder.bytes_per_token)
    assert "bits per byte" in ladder.describe() and "1 token" in ladder.rungs


LADDER = Ladder({"guess": 4.0, "0 characters": 3.0, "1 character": 2.5, "2 characters": 2.0, "3 characters": 2.1,
                 "bz2": 1.9})


@pytest.mark.parametrize("loss, words", [
    (4.1, "no better than a guess, 4.000"), (3.5, "better than a guess, 4.000; 0 give 3.000"),
    (2.7, "better than counts with 0 characters of context, 3.000; 1 gives 2.500"),
    (2.2, "better than counts with 1 character of context, 2.500; 2 give 2.000"),
    (2.05, "better than counts with 1 character of context, 2.500; 2 give 2.000"),
    (1.5, "better than counts with 2 characters of context, 2.000, the best of counting"),
    (math.nan, "no better than a guess, 4.000"), (math.inf, "no better than a guess, 4.000")])
def test_where_a_loss_stands(loss, words):
    assert LADDER.place(loss) == words


def test_a_ladder_survives_json():
    again = Ladder.from_json(LADDER.to_json())
    assert again == LADDER
    for damaged in (None, {}, [], {"rungs": 3}, {**LADDER.to_json(), "rungs": {"guess": "x"}}):
        assert Ladder.from_json(damaged) is None
