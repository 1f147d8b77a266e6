"""Every tokenizer in the registry but "bpe", which needs an extra (test_bpe.py), and what sets some of them apart."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt import CharTokenizer
from gpt.data.tokenizers import from_json, learn, learned_kinds
from gpt.data.tokenizers.byte import ByteTokenizer
from gpt.data.tokenizers.word import WordTokenizer

KINDS = [kind for kind in learned_kinds() if kind != "bpe"]
TEXTS = ["hello world", "a", "naïve – 日本語 🙂\n\t", "\ud800 lone", "a\0b", "to be, or not to be; to_be 42!\r\n"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_round_trip_and_json(kind, text):
    tokenizer = learn(kind, text)
    tokens = tokenizer.encode(text)
    assert tokens.dtype == np.int64 and tokens.ndim == 1
    assert 0 <= tokens.min() <= tokens.max() < tokenizer.vocab_size
    assert tokenizer.decode(tokens) == text
    assert tokenizer.lengths.shape == (tokenizer.vocab_size,) and tokenizer.lengths[tokens].sum() == len(text)
    again = from_json(json.loads(json.dumps(tokenizer.to_json())))
    assert type(again) is type(tokenizer) and again.vocab_size == tokenizer.vocab_size
    np.testing.assert_array_equal(again.encode(text), tokens)
    assert repr(again) == repr(tokenizer)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_no_tokens(kind):
    tokenizer = learn(kind, "some text")
    assert tokenizer.encode("").shape == (0,) and tokenizer.encode("").dtype == np.int64
    assert tokenizer.decode([]) == "" and tokenizer.decode(tokenizer.encode("t")[0]) == "t"


@given(st.text(st.characters()), st.text("ab c.\n", max_size=30))
def test_bytes_round_trip_any_text(text, other):
    assert ByteTokenizer().decode(ByteTokenizer().encode(text)) == text
    words = WordTokenizer.learn(text + "abc. \n" + other + " " + other)
    assert words.decode(words.encode(other * 2 + text)) == other * 2 + text


@given(st.lists(st.integers(0, 255)))
def test_bytes_that_are_no_text_still_show(tokens):
    assert isinstance(ByteTokenizer().decode(tokens), str)
    assert "\ufffd" in ByteTokenizer().decode([*tokens, 0xFF])


@pytest.mark.parametrize("kind", ["char", "word"])
def test_pieces_make_the_tokenizer_of_the_whole(kind):
    pieces = ["the cat\n", "sat on the ", "cat 🙂"]
    assert learn(kind, iter(pieces)).to_json() == learn(kind, "".join(pieces)).to_json()


def test_characters_are_numbered_by_code_point():
    tokenizer = CharTokenizer("banana")
    np.testing.assert_array_equal(tokenizer.encode("nab"), [2, 0, 1])
    assert tokenizer.decode(1) == "b" and tokenizer.characters == "abn" and tokenizer.vocab_size == 3


def test_words_that_are_frequent_have_a_token():
    tokenizer = WordTokenizer.learn("the cat, the dog, the cat.", max_words=2)
    assert tokenizer.tokens[-2:] == ["the", "cat"] and "dog" not in tokenizer.tokens and "," in tokenizer.tokens
    assert [tokenizer.decode(t) for t in tokenizer.encode("the cat, dog")] == ["the", " ", "cat", ",", " ", *"dog"]
    assert WordTokenizer.learn("the cat, the dog, the cat.").tokens == [*" ,.acdeghot", "the", "cat"]  # dog occurs once
    assert len(tokenizer.encode("thecat")) == 6  # part of a longer word, which is no token


def test_rare_words_are_forgotten_on_the_way_and_frequent_ones_are_not(monkeypatch):
    monkeypatch.setattr(WordTokenizer, "MOST_COUNTED", 100)
    pieces = [f"often w{i} again\n" for i in range(1000)] * 2
    tokenizer = WordTokenizer.learn(pieces)
    assert "w5" not in tokenizer.tokens and {"often", "again", *"0123456789w"} < set(tokenizer.tokens)
    assert tokenizer.decode(tokenizer.encode("w999 often")) == "w999 often"


@pytest.mark.parametrize("kind", ["char", "word"])
def test_unknown_characters_are_named(kind):
    tokenizer = learn(kind, "abc abc")
    with pytest.raises(ValueError, match=r"without 'z' \(U\+007A\): leave out"):
        tokenizer.encode("abzazc")
    with pytest.raises(ValueError, match=r"'é' \(U\+00E9\), ',' \(U\+002C\), '🙂' \(U\+1F642\): leave out"):
        tokenizer.encode("aé, b🙂")
    with pytest.raises(ValueError, match=r"'h' \(U\+0068\), …: leave"):
        tokenizer.encode("defghij")


@pytest.mark.parametrize("kind, n", [("char", 3), ("byte", 256), ("word", 4)])
def test_tokens_outside_the_vocabulary(kind, n):
    tokenizer = learn(kind, "abcabc" if kind == "char" else "abc abc"[:6] + "c")
    for tokens in ([tokenizer.vocab_size], [-1], [0, 999]):
        with pytest.raises(ValueError, match=f"from 0 to {tokenizer.vocab_size - 1}"):
            tokenizer.decode(tokens)


@pytest.mark.parametrize("data", [
    None, {}, [], {"kind": "piece"}, {"kind": ["char"]}, {"kind": "char"}, {"kind": "char", "characters": 3},
    {"kind": "char", "characters": ""}, {"kind": "byte", "more": 1}, {"kind": "word"}, {"kind": "word", "tokens": []},
    {"kind": "word", "tokens": ["a", 3]}, {"kind": "word", "tokens": ["a", "a"]},
    {"kind": "word", "tokens": ["a", ""]}])
def test_descriptions_that_make_no_tokenizer(data):
    with pytest.raises(ValueError, match="tokenizer"):
        from_json(data)


@pytest.mark.parametrize("kind", ["char", "word"])
def test_empty_text(kind):
    with pytest.raises(ValueError, match="empty"):
        learn(kind, "")


def test_unknown_kind():
    with pytest.raises(ValueError, match="kind 'piece': choose one of char, byte, word, bpe"):
        learn("piece", "text")
