"""The key/value cache: the logits of the model itself, at every position, for texts of any length side by side."""

from dataclasses import replace

import numpy as np
import pytest

import autograd as ag
from gpt import GPT, GPTConfig, generate
from gpt.cache import Cache, Context
from gpt.generate import Batch, Sampling

CHANGES = [{}, {"bias": True}, {"activation": "relu"}, {"positions": "sinusoidal"}, {"n_head": 1}, {"n_layer": 1},
           {"bias": True, "activation": "relu", "positions": "sinusoidal", "n_head": 4}]


def strong(config, std=0.3, dtype=np.float64, seed=0):
    """A model whose logits depend on every token of the context, and that differs from its initialisation in all."""
    rng = np.random.default_rng(seed)
    return GPT(config, dtype=dtype).map(lambda t: t.data + rng.normal(0, std, t.shape).astype(dtype))


def seen(text, prompt_length, window):
    """What the model sees of a text, by the rule that `Context` states: written anew, token by token."""
    context = list(text[:prompt_length])[-window:]
    for token in text[prompt_length:]:
        if len(context) == window:
            context = context[window - window // 2:]
        context.append(token)
    return context


@pytest.mark.parametrize("changes", CHANGES)
def test_logits_equal_the_models_at_every_position_and_past_the_window(config, changes):
    config = replace(config, **changes)
    model, text = strong(config), np.random.default_rng(1).integers(11, size=40)
    for prompt_length in (1, 3, 8, 9, 21):
        context = Context(model, [text[:prompt_length]])
        for t in range(prompt_length, len(text) + 1):
            expected = model(np.array([seen(text[:t], prompt_length, 8)]))[0, -1]
            np.testing.assert_allclose(context.logits()[0], expected, rtol=0, atol=1e-11)
            if t < len(text):
                context.append(text[t:t + 1])


@pytest.mark.parametrize("block_size", [1, 2, 3, 64])
def test_in_single_precision_cached_and_uncached_logits_agree(block_size):
    config = GPTConfig(vocab_size=65, block_size=block_size)  # the shape of the recipe nanogpt
    model, text = strong(config, 0.05, np.float32), np.random.default_rng(2).integers(65, size=150)
    cached, uncached = (Context(model, [text[:1]], cache=c) for c in (True, False))
    largest = 0
    for token in text:
        a, b = cached.logits(), uncached.logits()
        assert a.dtype == b.dtype == np.float32 and a.shape == b.shape == (1, 65)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        largest = max(largest, abs(a).max())
        for context in (cached, uncached):
            context.append(np.array([token]))
    assert largest > 1


@pytest.mark.parametrize("cache", [True, False])
def test_texts_of_different_lengths_side_by_side(config, cache):
    model, rng = strong(config), np.random.default_rng(3)
    texts, lengths = rng.integers(11, size=(5, 30)), [1, 4, 8, 4, 13]
    context = Context(model, [text[:n] for text, n in zip(texts, lengths)], cache)
    for step in range(17):
        every = context.logits()
        for i, (text, n) in enumerate(zip(texts, lengths)):
            expected = model(np.array([seen(text[:n + step], n, 8)]))[0, -1]
            np.testing.assert_allclose(every[i], expected, rtol=0, atol=1e-11)
        context.append([text[n + step] for text, n in zip(texts, lengths)])


@pytest.mark.parametrize("when", [0, 1, 5, 9])
def test_some_texts_go_on_without_the_others(config, when):
    model, rng = strong(config), np.random.default_rng(4)
    texts = rng.integers(11, size=(4, 30))
    context, alone = Context(model, [t[:2 + i] for i, t in enumerate(texts)]), Context(model, [texts[3][:5]])
    for step in range(14):
        if step == when:
            context.keep(np.array([1, 3]))
        np.testing.assert_allclose(context.logits()[-1], alone.logits()[0], rtol=0, atol=1e-11)
        rows = [1, 3] if step >= when else range(4)
        context.append([texts[i][2 + i + step] for i in rows])
        alone.append([texts[3][5 + step]])


def test_only_new_tokens_are_read(config, monkeypatch):
    read, call = [], Cache.__call__
    monkeypatch.setattr(Cache, "__call__", lambda self, ids, *rest: read.append(ids.shape) or call(self, ids, *rest))
    list(generate(GPT(config), np.zeros(3, int), 12, np.random.default_rng(0)))
    assert read == [(1, 3), *[(1, 1)] * 5, (1, 5), *[(1, 1)] * 3, (1, 5), (1, 1)]


def test_it_works_on_arrays_made_once_and_records_nothing(config):
    model = GPT(config)
    context = Context(model, [np.array([1])])
    keys, before = context.cache.keys, model.wte.weight.index
    for _ in range(30):
        assert type(context.logits()) is np.ndarray
        context.append(np.array([2]))
    assert context.cache.keys is keys and keys.shape == (2, 1, 2, 8, 6) and keys.any()
    assert ag.tensor(1.0).index - before < 100  # of its own, the model has some 20 tensors


def test_a_prompt_and_its_text_are_not_changed(config):
    ids = np.arange(5)
    list(generate(GPT(config), ids, 20, np.random.default_rng(0)))
    assert ids.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.5, "top_k": 4}, {"repetition_penalty": 1.5}])
def test_the_same_tokens_with_and_without_cache_and_side_by_side(config, settings):
    model, rng = strong(config), np.random.default_rng(5)
    prompts = [rng.integers(11, size=n) for n in (1, 20, 5, 8)]
    single = [[list(generate(model, ids, 25, np.random.default_rng([7, i]), cache=cache, **settings))
               for i, ids in enumerate(prompts)] for cache in (True, False)]
    batch = Batch(model, prompts, [np.random.default_rng([7, i]) for i in range(4)], Sampling(**settings))
    together = np.array([next(batch) for _ in range(25)]).T.tolist()
    assert single[0] == single[1] == together
    assert len({tuple(tokens) for tokens in together}) == 4
