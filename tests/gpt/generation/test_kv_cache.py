"""The cache: the logits of the model itself, at every position, for every architecture, and texts of any length side
by side."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autograd as ag
from gpt import GPT, GPTConfig, generate
from gpt.generation import incremental
from gpt.generation.generate import GenerationBatch
from gpt.generation.incremental import DecodingState
from gpt.generation.kv_cache import Cache
from gpt.generation.sampling import Sampling
from gpt.model.gpt import ACTIVATIONS

CHANGES = [{}, {"bias": True}, {"activation": "relu"}, {"positions": "sinusoidal"}, {"n_head": 1}, {"n_layer": 1},
           {"bias": True, "activation": "relu", "positions": "sinusoidal", "n_head": 4}]


def strong(config, std=0.3, dtype=np.float64, seed=0):
    """A model whose logits depend on every token of the context, and that differs from its initialisation in all."""
    rng = np.random.default_rng(seed)
    return GPT(config, dtype=dtype).map(lambda t: t.data + rng.normal(0, std, t.shape).astype(dtype))


def seen(text, prompt_length, window):
    """Return the tokens that the model sees of a text, by the rule of `DecodingState`, written anew, token by token."""
    context = list(text[:prompt_length])[-window:]
    for token in text[prompt_length:]:
        if len(context) == window:
            context = context[window - window // 2:]
        context.append(token)
    return context


@pytest.mark.slow_but_every(3)
@pytest.mark.parametrize("changes", CHANGES)
def test_logits_equal_the_models_at_every_position_and_past_the_window(config, changes):
    config = replace(config, **changes)
    model, text = strong(config), np.random.default_rng(1).integers(11, size=40)
    for prompt_length in (1, 3, 8, 9, 21):
        context = DecodingState(model, [text[:prompt_length]])
        for t in range(prompt_length, len(text) + 1):
            expected = model(np.array([seen(text[:t], prompt_length, 8)]))[0, -1]
            np.testing.assert_allclose(context.logits()[0], expected, rtol=0, atol=1e-11)
            if t < len(text):
                context.append(text[t:t + 1])


@st.composite
def architectures(draw):
    """Every choice about a GPT, with every other."""
    n_kv_head, group = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    return GPTConfig(
        vocab_size=11, block_size=draw(st.integers(1, 9)), n_layer=draw(st.integers(1, 2)), n_head=n_kv_head * group,
        n_kv_head=n_kv_head if group > 1 or draw(st.booleans()) else None, n_embd=n_kv_head * group * 4,
        n_hidden=draw(st.sampled_from([None, 10])), head_dim=draw(st.sampled_from([None, None, 6])),
        bias=draw(st.booleans()),
        norm_gain=draw(st.booleans()), qkv_bias=draw(st.booleans()), gated=draw(st.booleans()),
        activation=draw(st.sampled_from(list(ACTIVATIONS))),
        positions=draw(st.sampled_from(["learned", "sinusoidal", "rotary"])),
        rope_base=draw(st.sampled_from([9.0, 1e4])), norm=draw(st.sampled_from(["layer_norm", "rms_norm"])),
        norm_eps=draw(st.sampled_from([1e-5, 0.1])), norm_embedding=draw(st.booleans()),
        **draw(st.sampled_from([{}, {"qk_norm": True}, {"qk_norm": True, "qk_norm_gain": True}])),
        convolution=draw(st.sampled_from([0, 1, 2, 4])), smear=draw(st.booleans()), tied=draw(st.booleans()),
        residual_scalars=draw(st.booleans()))


@pytest.mark.slow
@settings(max_examples=100)
@given(architectures(), st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(0, 12),
       st.sampled_from([np.float64, np.float32]), st.sampled_from([1, 3, 512]), st.integers(0, 2**16))
def test_every_architecture_has_the_models_logits(config, lengths, when, dtype, piece, seed):
    rng, model = np.random.default_rng(seed), strong(config, 0.3, dtype, seed)
    texts = rng.integers(11, size=(len(lengths), 24))
    rows = rng.permutation(len(lengths))[:max(1, len(lengths) - 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(incremental, "PREFILL", piece)  # so that prompts are read in several
        patch.setattr(incremental, "CAPACITY", 2)       # so that it has to grow
        earlier = DecodingState(model, rng.integers(11, size=(len(lengths), 1 + seed % 4)))  # its reader is used again
        for _ in range(when):
            earlier.logits()
            earlier.append(rng.integers(11, size=len(lengths)))
        del earlier
        context, going = DecodingState(model, [text[:n] for text, n in zip(texts, lengths)]), range(len(lengths))
        for step in range(12):
            if step == when:
                context.keep(rows)
                going = rows
            for got, i in zip(context.logits(), going):
                expected = model(np.array([seen(texts[i, :lengths[i] + step], lengths[i], config.block_size)]))[0, -1]
                assert got.dtype == dtype
                np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11 if dtype == np.float64 else 2e-4)
            context.append([texts[i, lengths[i] + step] for i in going])


@pytest.mark.slow_but_every(2)
@pytest.mark.parametrize("block_size", [1, 2, 3, 64])
def test_in_single_precision_cached_and_uncached_logits_agree(block_size):
    config = GPTConfig(vocab_size=65, block_size=block_size)  # the shape of the recipe nanogpt
    model, text = strong(config, 0.05, np.float32), np.random.default_rng(2).integers(65, size=100)
    cached, uncached = (DecodingState(model, [text[:1]], cache=c) for c in (True, False))
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
    context = DecodingState(model, [text[:n] for text, n in zip(texts, lengths)], cache)
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
    context = DecodingState(model, [t[:2 + i] for i, t in enumerate(texts)])
    alone = DecodingState(model, [texts[3][:5]])
    for step in range(14):
        if step == when:
            context.keep(np.array([1, 3]))
        np.testing.assert_allclose(context.logits()[-1], alone.logits()[0], rtol=0, atol=1e-11)
        rows = [1, 3] if step >= when else range(4)
        context.append([texts[i][2 + i + step] for i in rows])
        alone.append([texts[3][5 + step]])


def test_only_new_tokens_are_read(config, monkeypatch):
    read = []
    monkeypatch.setattr(GPT, "stream", lambda self, ids, *rest, stream=GPT.stream: read.append(
        (ids.shape, type(ids))) or stream(self, ids, *rest))
    context = DecodingState(GPT(config), [np.zeros(3, int)])
    for token in range(10):
        context.logits()
        context.append([token])
    program = context.reader.programs[GPT.__call__, (1, 1)]
    assert read == [((1, 3), np.ndarray), ((1, 1), np.ndarray), ((1, 1), ag.Tensor), ((1, 5), np.ndarray)]
    assert len(program._captures) == 1                          # which reads all other tokens


def test_it_works_on_arrays_made_once_and_records_nothing(config):
    model = GPT(config)
    context = DecodingState(model, [np.array([1, 2])])
    context.logits()
    context.append([2])
    context.logits()
    kept, before = context.reader.cache.arrays[0], ag.tensor(1.0).created
    for _ in range(30):
        context.append([2])
        assert type(context.logits()) is np.ndarray
    assert context.reader.cache.arrays[0] is kept and kept.shape == (1, 2, 8, 6) and kept.any()
    assert ag.tensor(1.0).created - before < 100


def test_keys_and_values_are_those_of_grouped_heads_and_their_room_grows_with_the_text():
    config = GPTConfig(vocab_size=11, block_size=5000, n_layer=1, n_head=4, n_kv_head=2, n_embd=8, positions="rotary")
    context = DecodingState(GPT(config), [np.zeros(1000, int)])
    sizes = set()
    for _ in range(60):
        context.logits()
        sizes.add(context.reader.cache.arrays[0].shape)
        context.append([1])
    assert sizes == {(1, 2, 1024, 2), (1, 2, 2048, 2)}
    context = DecodingState(GPT(replace(config, block_size=7)), [[1]])
    context.logits()
    assert context.reader.cache.arrays[0].shape == (1, 2, 7, 2)


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_is_read_from_its_own_weights(config, tied):
    model = GPT(replace(config, bias=True, tied=tied, gated=True))
    context = DecodingState(model, [[1, 2]])
    for _ in range(3):
        context.logits()
        context.append([3])
    leaves = {t: t for t in context.reader.programs[GPT.__call__, (1, 1)].tape if t.op is None}
    for name, t in model.named_arrays().items():
        assert np.shares_memory(context.model.named_arrays()[name], t.data)
        assert t in leaves or name == "wpe.weight" and not t.requires_grad


def read_on(model, text, n_texts=1):
    """The logits after each token but the first of a text, and the reader that had them."""
    context, every = DecodingState(model, [text[:1]] * n_texts), []
    for token in text[1:]:
        context.append([token] * n_texts)
        every.append(context.logits()[0].copy())
    return np.array(every), context.reader


@pytest.mark.parametrize("tensors", [True, False])
def test_the_next_text_of_a_model_uses_its_programs_again(config, tensors):
    model = strong(config).map(ag.tensor) if tensors else strong(config)
    text = np.random.default_rng(6).integers(11, size=8)
    _, reader = read_on(model, text[::-1])
    program = reader.programs[GPT.__call__, (1, 1)]
    for a in model.named_arrays().values():                     # as an optimizer's step would
        if tensors:
            a.data = a.data * 1.5
        else:
            a *= 1.5
    again, same = read_on(model, text)
    assert same is reader and reader.programs[GPT.__call__, (1, 1)] is program and len(program._captures) == 1
    np.testing.assert_allclose(again, np.asarray(model(text[None]).__array__())[0, 1:], rtol=0, atol=1e-11)


def test_another_reader_for_other_arrays_other_texts_and_texts_at_the_same_time(config, monkeypatch):
    model, text = strong(config), np.arange(8)
    _, reader = read_on(model, text)
    context, (_, second) = DecodingState(model, [text]), read_on(model, text)
    assert context.reader is reader and second is not reader
    del context
    _, third = read_on(model, text, 2)
    assert third not in (reader, second)
    model.h[0].mlp.c_proj.weight = model.h[0].mlp.c_proj.weight * 2
    every, fourth = read_on(model, text, 2)
    assert fourth is not third
    np.testing.assert_allclose(every, model(text[None])[0, 1:], rtol=0, atol=1e-11)
    assert read_on(model, text, 2)[1] is fourth
    monkeypatch.setattr(incremental, "IDLE", 0)
    read_on(model, text, 2)
    assert read_on(model, text, 2)[1] is not fourth


def test_a_reader_lives_no_longer_than_its_model(config):
    model = strong(config)
    reader = weakref.ref(read_on(model, np.arange(8))[1])
    assert reader() is not None
    del model
    gc.collect()
    assert reader() is None


@pytest.mark.parametrize("tensors", [True, False])
def test_a_cache_reads_on_at_any_position(config, tensors):
    model = strong(replace(config, positions="rotary", convolution=3))
    ids = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
    every = model(ids)
    model, cache = model.map(ag.tensor) if tensors else model, Cache(8)
    for begin, end in ((0, 2), (2, 4), (4, 5), (1, 3), (3, 4)):
        cache.move([begin], end - begin)
        np.testing.assert_allclose(model(ids[:, begin:end], cache), every[:, begin:end], atol=1e-12)
    cache.move([3, 4])
    np.testing.assert_allclose(model(ids[[0, 1], [3, 4]][:, None], cache)[:, 0], every[[0, 1], [3, 4]], atol=1e-12)
    with pytest.raises(ValueError, match="one new token each"):
        cache.move([3, 4], 2)


def test_a_small_models_own_weights_stay_as_they_are(config):
    model = strong(replace(config, bias=True))
    before = {name: a.copy() for name, a in model.named_arrays().items()}
    context = DecodingState(model, [[1, 2]])
    for _ in range(10):
        context.logits()
        context.append([3])
    for name, a in model.named_arrays().items():
        np.testing.assert_array_equal(a, before[name])


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
    batch = GenerationBatch(model, prompts, [np.random.default_rng([7, i]) for i in range(4)], Sampling(**settings))
    together = np.array([next(batch) for _ in range(25)]).T.tolist()
    assert single[0] == single[1] == together
    assert len({tuple(tokens) for tokens in together}) == 4
