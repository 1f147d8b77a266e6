"""Drawing tokens and writing text."""

import numpy as np
import pytest

from gpt import GPT, CharTokenizer, GPTConfig, Run, continue_text, generate
from gpt.generate import choose

LOGITS = np.log(np.array([0.1, 0.2, 0.3, 0.4], np.float32))


def frequencies(n=4000, **settings):
    rng = np.random.default_rng(0)
    return np.bincount([choose(LOGITS, rng, **settings) for _ in range(n)], minlength=4) / n


def test_draws_have_the_distribution_they_claim():
    np.testing.assert_allclose(frequencies(), [0.1, 0.2, 0.3, 0.4], atol=0.03)
    np.testing.assert_allclose(frequencies(temperature=0.5), np.array([1, 4, 9, 16]) / 30, atol=0.03)
    np.testing.assert_allclose(frequencies(top_k=2), [0, 0, 3 / 7, 4 / 7], atol=0.03)
    np.testing.assert_allclose(frequencies(top_k=99), [0.1, 0.2, 0.3, 0.4], atol=0.03)


@pytest.mark.parametrize("settings", [dict(temperature=0), dict(top_k=1), dict(temperature=1e-300)])
def test_greedy(settings):
    assert frequencies(50, **settings).tolist() == [0, 0, 0, 1]


def test_the_model_sees_the_last_block_of_tokens(model, ids):
    rng = np.random.default_rng(4)
    raw = model.map(lambda t: rng.standard_normal(t.shape))  # large weights: every token of the context matters
    seen = np.concatenate(ids)  # three times the block
    tokens = list(generate(raw, seen, 12, rng, temperature=0))
    for token in tokens:
        assert token == raw(seen[None, -8:])[0, -1].argmax()
        seen = np.append(seen, token)
    assert len(set(tokens)) > 3


def test_a_model_on_raw_arrays_generates_the_same(model):
    both = [list(generate(m, np.array([1]), 9, np.random.default_rng(0))) for m in (model, model.map(lambda t: t.data))]
    assert both[0] == both[1]


@pytest.fixture
def run(tokenizer):
    return Run(GPT(GPTConfig(vocab_size=tokenizer.vocab_size, block_size=8, n_layer=1, n_head=1, n_embd=8)), tokenizer)


def test_text_is_seeded_and_of_the_length_asked_for(run):
    one, again, other = ("".join(continue_text(run, "the", 50, seed=s)) for s in (1, 1, 2))
    assert len(one) == 50 and one == again != other and set(one) <= set(run.tokenizer.characters)


def test_no_prompt_starts_a_line(run):
    assert "".join(continue_text(run, "", 20, seed=1)) == "".join(continue_text(run, "\n", 20, seed=1))
    other = Run(GPT(GPTConfig(vocab_size=2)), CharTokenizer("ab"))  # knows no newline
    assert len("".join(continue_text(other, "", 5))) == 5


def test_an_unknown_character_in_the_prompt_raises_at_once(run):
    with pytest.raises(ValueError, match=r"'Ω' \(U\+03A9\)"):
        continue_text(run, "the Ω", 5)
