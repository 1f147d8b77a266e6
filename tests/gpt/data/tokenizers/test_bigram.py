"""A tokenizer is added by one file: it is a choice of --tokenizer, and its model is trained, saved and loaded."""

import numpy as np
import pytest

import gpt
from gpt.cli import main
from gpt.data.tokenizers import learn
from gpt.data.tokenizers.bigram import BigramTokenizer


def test_pairs_that_are_frequent_have_a_token():
    tokenizer = BigramTokenizer.learn("abababcd", most=1)
    assert tokenizer.tokens == ["a", "b", "c", "d", "ab"]
    np.testing.assert_array_equal(tokenizer.encode("abcdaba"), [4, 2, 3, 4, 0])


def test_it_is_a_choice_that_help_and_errors_name(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "byte-pair encoding), two characters, or what a tokenizer.json" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(ValueError, match="choose one of char, byte, word, bpe, bigram"):
        learn("piece", "text")


def test_a_model_is_trained_with_it_saved_and_loaded(tmp_path):
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 40)
    assert main(["train", "--data", str(tmp_path / "text.txt"), "--tokenizer", "bigram", "--out", str(tmp_path / "out"),
                 "--max-iters", "2", "--n-layer", "1", "--n-head", "1", "--n-embd", "8", "--block-size", "8"]) == 0
    run = gpt.load(tmp_path / "out")
    assert isinstance(run.tokenizer, BigramTokenizer) and run.tokenizer.vocab_size == run.config.vocab_size
    assert main(["sample", str(tmp_path / "out"), "--max-new-tokens", "3"]) == 0
