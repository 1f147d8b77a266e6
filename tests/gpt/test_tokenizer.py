"""Characters to tokens and back."""

import json

import numpy as np
import pytest

from gpt import CharTokenizer


@pytest.mark.parametrize("text", ["hello world", "a", "naïve – 日本語 🙂\n\t", "\ud800 lone", "a\0b"])
def test_round_trip(text):
    tokenizer = CharTokenizer(text)
    tokens = tokenizer.encode(text)
    assert tokens.dtype.kind == "i" and tokens.shape == (len(text),)
    assert tokenizer.decode(tokens) == text
    assert tokenizer.vocab_size == len(set(text)) and tokens.max() == len(set(text)) - 1
    assert tokenizer.characters == "".join(sorted(set(text)))


def test_tokens_are_numbered_by_code_point():
    tokenizer = CharTokenizer("banana")
    np.testing.assert_array_equal(tokenizer.encode("nab"), [2, 0, 1])
    assert tokenizer.decode(1) == "b" and tokenizer.decode([]) == "" and tokenizer.encode("").shape == (0,)


def test_unknown_characters_are_named():
    tokenizer = CharTokenizer("abc")
    with pytest.raises(ValueError, match=r"without 'z' \(U\+007A\): leave out"):
        tokenizer.encode("abzazc")
    with pytest.raises(ValueError, match=r"'é' \(U\+00E9\), ' ' \(U\+0020\), '🙂' \(U\+1F642\): leave out"):
        tokenizer.encode("aé b🙂")
    with pytest.raises(ValueError, match=r"'h' \(U\+0068\), …: leave"):
        tokenizer.encode("defghij")


@pytest.mark.parametrize("tokens", [[3], [-1], [0, 99]])
def test_tokens_outside_the_vocabulary(tokens):
    with pytest.raises(ValueError, match="from 0 to 2"):
        CharTokenizer("abc").decode(tokens)


def test_json():
    tokenizer = CharTokenizer("héllo\n🙂")
    again = CharTokenizer.from_json(json.loads(json.dumps(tokenizer.to_json())))
    np.testing.assert_array_equal(again.encode("🙂h"), tokenizer.encode("🙂h"))
    for bad in (None, {}, {"kind": "bytes"}, *({"kind": "characters", "characters": c} for c in (3, ""))):
        with pytest.raises(ValueError):
            CharTokenizer.from_json(bad)


def test_empty_text():
    with pytest.raises(ValueError, match="empty"):
        CharTokenizer("")
