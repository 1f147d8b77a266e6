"""A large text in words, read once: the tokenizer and tokens of the whole, however it comes in pieces."""

import tempfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.data.tokenizers import word
from gpt.data.tokenizers.word import WordTokenizer

PIECES = st.lists(st.text(st.sampled_from("ab é日🙂\n\t.,_7"), max_size=30).map(lambda text: text + " "), max_size=12)


@given(PIECES, st.text("ab", max_size=4), st.integers(1, 9), st.integers(1, 9))
def test_tokens_are_those_of_the_tokenizer_of_the_whole(pieces, end, parts, block):
    pieces = ["a a", *pieces, end]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word, "MOST_PARTS", parts)
        patch.setattr(word, "_BLOCK", block)
        tokenizer, tokens = WordTokenizer.learn_and_encode(lambda _: iter(pieces))
        tokens = list(tokens)
    expected = WordTokenizer.learn(pieces)
    assert tokenizer.to_json() == expected.to_json()
    np.testing.assert_array_equal(np.concatenate(tokens), np.concatenate([expected.encode(p) for p in pieces]))
    assert tokens[0].dtype == np.int64


def test_a_lone_surrogate_is_a_character():
    tokenizer, tokens = WordTokenizer.learn_and_encode(lambda _: ["\ud800 a"])
    assert tokenizer.decode(np.concatenate(list(tokens))) == "\ud800 a"


def test_rare_words_are_forgotten_on_the_way_and_their_characters_are_not(monkeypatch):
    monkeypatch.setattr(WordTokenizer, "MOST_COUNTED", 100)
    monkeypatch.setattr(word, "MOST_PARTS", 150)
    pieces = ["".join(f"often w{i} again\n" for i in range(n, n + 100)) for n in range(0, 1000, 100)] + ["0x9 "]
    tokenizer, tokens = WordTokenizer.learn_and_encode(lambda _: pieces)
    assert "w5" not in tokenizer.tokens and {"often", "again", "x", *"0123456789w"} < set(tokenizer.tokens)
    assert tokenizer.decode(np.concatenate(list(tokens))) == "".join(pieces)


def test_numbers_of_a_large_text_wait_in_a_file_without_a_name(monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(word, "_IN_MEMORY", 100)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda *args, make=tempfile.TemporaryFile, **options:
                        made.append(options) or make(*args, **options))
    tokenizer, tokens = WordTokenizer.learn_and_encode(lambda _: ["to be or not to be "] * 50, str(tmp_path))
    assert made[0]["dir"] == str(tmp_path) and list(tmp_path.iterdir()) == []
    assert tokenizer.decode(np.concatenate(list(tokens))) == "to be or not to be " * 50


@pytest.mark.parametrize("pieces", [[], [""], ["", ""]])
def test_empty_text(pieces):
    with pytest.raises(ValueError, match="empty"):
        WordTokenizer.learn_and_encode(lambda _: pieces)
