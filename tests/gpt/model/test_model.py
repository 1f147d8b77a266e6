"""The GPT: shapes, causality, initialisation, dropout, raw arrays, errors."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest

import autograd as ag
from gpt import GPT, GPTConfig, TrainConfig
from gpt.model.gpt import Architecture, dropout
from gpt.model.init import sinusoids
from gpt.training.recipes import RECIPES

SIZES = {"block_size", "n_layer", "n_head", "n_embd"}
FAST = {f.name: RECIPES["fast"][f.name] for f in fields(Architecture) if f.name in RECIPES["fast"].keys() - SIZES}
LLAMA = {"norm": "rms_norm", "positions": "rotary", "activation": "silu", "gated": True, "n_head": 6, "n_kv_head": 3,
         "n_hidden": 20, "tied": False}
VARIANTS = [FAST, LLAMA, {"bias": True, "activation": "gelu_tanh"}, {**LLAMA, "qkv_bias": True, "tied": True},
            {"bias": True, "activation": "relu", "positions": "sinusoidal", "convolution": 2, "norm_embedding": True},
            {"norm_gain": False, "bias": True, "activation": "squared_relu", "n_kv_head": 1, "smear": True},
            {"norm_gain": False, "qk_norm": True, "norm": "rms_norm"}, {"residual_scalars": True},
            {"qk_norm": True, "qk_norm_gain": True, "n_head": 6, "n_kv_head": 3, "positions": "rotary"},
            {**LLAMA, "head_dim": 4}, {"n_head": 5, "head_dim": 3, "bias": True}]


def varied(config, changes, seed=3):
    """A model in double precision none of whose weights is at its start, where some are 0 or 1."""
    model, rng = GPT(replace(config, **changes), dtype=np.float64), np.random.default_rng(seed)
    for t in model.named_arrays().values():
        if t.requires_grad:
            t.data = t.data + rng.normal(0, 0.2, t.shape)
    return model


def test_names_and_shapes_are_nanogpts(config):
    shapes = {name: t.shape for name, t in GPT(replace(config, bias=True)).named_arrays().items()}
    block = {"ln_1.weight": (12,), "ln_1.bias": (12,), "attn.c_attn.weight": (12, 36), "attn.c_attn.bias": (36,),
             "attn.c_proj.weight": (12, 12), "attn.c_proj.bias": (12,), "ln_2.weight": (12,), "ln_2.bias": (12,),
             "mlp.c_fc.weight": (12, 48), "mlp.c_fc.bias": (48,),
             "mlp.c_proj.weight": (48, 12), "mlp.c_proj.bias": (12,)}
    assert shapes == {"wte.weight": (11, 12), "wpe.weight": (8, 12), "ln_f.weight": (12,), "ln_f.bias": (12,),
                      **{f"h.{i}.{name}": shape for i in (0, 1) for name, shape in block.items()}}


def test_names_and_shapes_of_what_has_been_added(config):
    def shapes(**changes):
        return {name: t.shape for name, t in GPT(replace(config, **changes)).named_arrays().items()}

    block = {"attn.conv.weight": (3, 12), "attn.c_attn.weight": (12, 36), "attn.c_proj.weight": (12, 12),
             "mlp.conv.weight": (3, 12), "mlp.c_fc.weight": (12, 48), "mlp.c_proj.weight": (48, 12)}
    assert shapes(**FAST | {"smear": True}) == {
        "wte.weight": (11, 12), "frequencies": (3,), "smear.weight": (2, 12), "lm_head.weight": (12, 11),
        **{f"h.{i}.{name}": shape for i in (0, 1) for name, shape in block.items()}}
    block = {"ln_1.weight": (12,), "ln_2.weight": (12,), "attn.c_attn.weight": (12, 12 + 2 * 3 * 2),
             "attn.c_attn.bias": (24,), "attn.c_proj.weight": (12, 12), "mlp.c_fc.weight": (12, 20),
             "mlp.c_gate.weight": (12, 20), "mlp.c_proj.weight": (20, 12)}
    assert shapes(**LLAMA, qkv_bias=True) == {
        "wte.weight": (11, 12), "frequencies": (1,), "ln_f.weight": (12,), "lm_head.weight": (12, 11),
        **{f"h.{i}.{name}": shape for i in (0, 1) for name, shape in block.items()}}


def test_without_bias_there_is_none(model):
    assert not [name for name in model.named_arrays() if "bias" in name]
    assert all(t.name == name and t.requires_grad for name, t in model.named_arrays().items())


def test_logits_loss_and_dtype(config, ids):
    model = GPT(config)
    logits = model(ids)
    assert logits.shape == (3, 8, 11) and logits.dtype == np.float32
    p = np.exp(logits.data) / np.exp(logits.data).sum(-1, keepdims=True)
    targets = (ids + 1) % 11
    expected = -np.log(np.take_along_axis(p, targets[..., None], -1)).mean()
    assert model.loss(ids, targets).item() == pytest.approx(expected, rel=1e-5)
    assert expected == pytest.approx(math.log(11), abs=0.05)  # small weights: near the uniform guess


@pytest.mark.parametrize("changes", [{}, *VARIANTS], ids=str)
def test_raw_arrays_give_the_same_numbers_and_no_tape(config, ids, changes):
    model = varied(config, changes)
    raw = model.map(lambda t: t.data)(ids)
    assert type(raw) is np.ndarray
    np.testing.assert_array_equal(raw, model(ids).data)


@pytest.mark.parametrize("changes", [{}, *VARIANTS], ids=str)
def test_a_token_sees_only_itself_and_those_before(config, ids, changes):
    raw = varied(config, changes).map(lambda t: t.data)
    changed = ids.copy()
    changed[:, 5] = (changed[:, 5] + 1) % 11
    same = np.isclose(raw(ids), raw(changed), rtol=0, atol=1e-12).all(axis=(0, 2))
    assert same.tolist() == [True] * 5 + [False] * 3
    np.testing.assert_allclose(raw(ids[:, :4]), raw(ids)[:, :4], atol=1e-12)


@pytest.mark.parametrize("changes", [{}, *VARIANTS], ids=str)
def test_every_parameter_gets_a_gradient_that_matches_a_finite_difference(config, ids, changes):
    model, targets = varied(config, changes), (ids + 1) % 11
    model.loss(ids, targets).backward()
    rng = np.random.default_rng(1)
    for name, t in model.named_arrays().items():
        if not t.requires_grad:
            assert name in ("frequencies", "wpe.weight") and t.grad is None
            continue
        direction, old, step = rng.standard_normal(t.shape), t.data.copy(), 1e-5
        losses = []
        for sign in (1, -1):
            t.data = old + sign * step * direction
            losses.append(model.loss(ids, targets).item())
        t.data = old
        assert (t.grad * direction).sum() == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-5), name


def test_initialisation_is_scaled_by_depth_and_seeded():
    config = GPTConfig(vocab_size=50, n_layer=8, n_embd=64)
    a, b, c = GPT(config, seed=1), GPT(config, seed=1), GPT(config, seed=2)
    for name, t in a.named_arrays().items():
        std = t.data.std()
        if "ln" in name:
            assert (t.data == 1).all()
        else:
            assert std == pytest.approx(0.02 / 4 if "c_proj" in name else 0.02, rel=0.1), name
        np.testing.assert_array_equal(t.data, b.named_arrays()[name].data)
    assert (a.wte.weight.data != c.wte.weight.data).all()


def test_a_model_of_zeros_at_the_start_finds_all_tokens_as_likely(config, ids):
    model = GPT(replace(config, **FAST), seed=1)
    zero = {name for name, t in model.named_arrays().items() if not t.data.any()}
    assert zero == {"lm_head.weight", *[f"h.{i}.{layer}.c_proj.weight" for i in (0, 1) for layer in ("attn", "mlp")]}
    assert (model(ids).data == 0).all() and model.loss(ids, ids).item() == pytest.approx(math.log(11), rel=1e-6)
    tied = GPT(replace(config, **FAST | {"tied": True}), seed=1)
    assert tied.lm_head is None and tied(ids).data.any()


def test_convolutions_change_nothing_at_the_start(config, ids):
    with_taps, without = (GPT(replace(config, convolution=k, smear=k > 0), seed=1, dtype=np.float64) for k in (3, 0))
    np.testing.assert_array_equal(with_taps(ids).data, without(ids).data)
    assert with_taps.h[0].mlp.conv.weight.data.tolist() == [[1.0] * 12, [0.0] * 12, [0.0] * 12]


def test_heads_that_share_keys_are_those_whose_keys_are_equal(config, ids):
    few = varied(config, {"n_head": 6, "n_kv_head": 2})
    many = GPT(replace(config, n_head=6), dtype=np.float64)
    repeated = [*range(12), *[12 + g * 2 + i for g in (0, 0, 0, 1, 1, 1) for i in (0, 1)],
                *[16 + g * 2 + i for g in (0, 0, 0, 1, 1, 1) for i in (0, 1)]]
    for (name, t), own in zip(many.named_arrays().items(), few.named_arrays().values()):
        t.data = own.data[:, repeated] if "c_attn" in name else own.data
    np.testing.assert_allclose(many(ids).data, few(ids).data, rtol=1e-12)
    as_many = varied(config, {"n_head": 6, "n_kv_head": 6})
    np.testing.assert_array_equal(as_many(ids).data, varied(config, {"n_head": 6})(ids).data)


def test_rotary_attention_knows_how_far_back_a_token_is_and_not_where(config):
    model = varied(config, {"positions": "rotary"}).map(lambda t: t.data)
    x, places = np.random.default_rng(0).normal(size=(2, 8, 12)), np.arange(8.0)[:, None]
    here, later, further = (model.h[0].attn(x, p * model.frequencies) for p in (places, places + 31, places * 2))
    np.testing.assert_allclose(here, later, rtol=1e-9, atol=1e-12)
    assert abs(here - further)[:, 1:].max(-1).min() > 1e-5
    swapped = model(np.array([[1, 2, 3, 3], [2, 1, 3, 3]]))  # in the model itself, too, the order matters
    assert abs(np.subtract(*swapped)[2:]).max(-1).min() > 1e-6


def test_normed_queries_and_keys_have_no_size(config, ids):
    model = varied(config, {"qk_norm": True, "norm_eps": 1e-12})
    before = model(ids).data
    for block in model.h:
        block.attn.c_attn.weight.data = block.attn.c_attn.weight.data * np.r_[np.full(24, 7.0), np.ones(12)]
    np.testing.assert_allclose(model(ids).data, before, rtol=1e-9)


def test_a_normed_embedding_has_no_size(config, ids):
    model = varied(config, {"norm_embedding": True, "norm": "rms_norm", "norm_eps": 1e-12, "tied": False})
    before = model(ids).data
    for table in (model.wte, model.wpe):
        table.weight.data = table.weight.data * 5
    np.testing.assert_allclose(model(ids).data, before, rtol=1e-9)


def test_the_frequencies_of_rotary_positions_are_constants(config):
    model = GPT(replace(config, positions="rotary", rope_base=100.0), dtype=np.float64)
    assert model.wpe is None and not model.frequencies.requires_grad
    np.testing.assert_allclose(model.frequencies.data, [1, 100 ** (-1 / 3), 100 ** (-2 / 3)])
    assert model.n_parameters == GPT(config).n_parameters - 8 * 12


def test_dropout_needs_a_generator_and_keeps_the_mean(config, ids):
    model = GPT(replace(config, dropout=0.5), dtype=np.float64)
    np.testing.assert_array_equal(model(ids).data, model(ids).data)
    one, again, other = (model(ids, rng=np.random.default_rng(s)).data for s in (0, 0, 1))
    assert (one == again).all() and (one != other).any()
    x = dropout(0.25, np.random.default_rng(0))(np.ones((200, 200), np.float32))
    assert x.dtype == np.float32 and set(np.unique(x)) == {0, np.float32(4 / 3)}
    assert x.mean() == pytest.approx(1, abs=0.02)


def test_dropout_has_gradients(config, ids):
    model = GPT(replace(config, dropout=0.3), dtype=np.float64)

    def loss():
        return model.loss(ids, ids, np.random.default_rng(5))

    loss().backward()
    t = model.h[0].mlp.c_fc.weight
    old, direction = t.data.copy(), np.random.default_rng(0).standard_normal(t.shape)
    t.data = old + 1e-5 * direction
    up = loss().item()
    t.data = old - 1e-5 * direction
    assert (t.grad * direction).sum() == pytest.approx((up - loss().item()) / 2e-5, rel=1e-5)


def test_sinusoidal_positions_are_constants(config, ids):
    model = GPT(replace(config, positions="sinusoidal"))
    assert not model.wpe.weight.requires_grad
    assert model.n_parameters == GPT(config).n_parameters - 8 * 12
    model.loss(ids, ids).backward()
    assert model.wpe.weight.grad is None
    table = sinusoids(50, 6) / (0.02 * 2 ** 0.5)
    angles = [7, 7 / 10000 ** (1 / 3), 7 / 10000 ** (2 / 3)]
    np.testing.assert_allclose(table[7], [f(a) for a in angles for f in (np.sin, np.cos)])


@pytest.mark.parametrize("changes, message", [
    (dict(n_embd=10, n_head=4), r"n_embd is 10 and n_head 4.*multiple of n_head, such as 12"),
    (dict(n_layer=0), "n_layer is 0, and needs to be at least 1"),
    (dict(vocab_size=0), "vocab_size is 0"),
    (dict(dropout=1.0), "dropout is 1.0, and needs to be below 1"),
    (dict(dropout=float("nan")), "dropout is nan, and needs to be a finite number"),
    (dict(activation="sine"), "activation is 'sine', and needs to be one of gelu, gelu_tanh, relu"),
    (dict(positions="none"), "positions is 'none'"),
    (dict(n_head=4, n_kv_head=3), "n_head is 4 and n_kv_head 3.*multiple of n_kv_head"),
    (dict(n_kv_head=0), "n_kv_head is 0, and needs to be at least 1"),
    (dict(positions="rotary", n_embd=12, n_head=4), "a head has 3 of them.*even"),
    (dict(rope_base=1.0), "rope_base is 1.0, and needs to be above 1"),
    (dict(norm="batch_norm"), "norm is 'batch_norm', and needs to be one of layer_norm, rms_norm"),
    (dict(n_hidden=0), "n_hidden is 0"), (dict(convolution=-1), "convolution is -1"),
    (dict(norm_eps=-1e-5), "norm_eps is -1e-05, and needs to be at least 0"),
])
def test_settings_that_make_no_sense(changes, message):
    with pytest.raises(ValueError, match=message):
        GPTConfig(**{"vocab_size": 4, **changes})


@pytest.mark.parametrize("changes", [dict(n_layer=2.0), dict(n_embd="128"), dict(bias=1), dict(n_head=True),
                                     dict(n_kv_head=1.0), dict(smear=2), dict(norm_eps="1e-5")])
def test_settings_of_the_wrong_type(changes):
    with pytest.raises(TypeError, match=next(iter(changes))):
        GPTConfig(**{"vocab_size": 4, **changes})


@pytest.mark.parametrize("shape", [(8,), (2, 9), (2, 0), (1, 2, 3)])
def test_ids_of_a_wrong_shape(model, shape):
    with pytest.raises(ValueError, match=r"ids have shape .*block_size, which is 8"):
        model(np.zeros(shape, int))


@pytest.mark.parametrize("bad", [11, -1])
def test_an_id_outside_the_vocabulary(model, bad):
    with pytest.raises(IndexError, match="embedding"):
        model(np.array([[0, bad]]))


def test_every_choice_of_architecture_is_a_setting_of_a_run():
    assert {f.name for f in fields(Architecture)} <= {f.name for f in fields(TrainConfig)}
    made = TrainConfig(bias=True, n_layer=1, positions="sinusoidal").model_config(5)
    assert (made.bias, made.n_layer, made.positions, made.vocab_size) == (True, 1, "sinusoidal", 5)


def test_value_and_grad_takes_a_model(model, ids):
    loss, grads = ag.value_and_grad(lambda m: m.loss(ids, ids))(model.map(lambda t: t.data))
    model.loss(ids, ids).backward()
    for name, g in grads.named_arrays().items():
        np.testing.assert_allclose(g, model.named_arrays()[name].grad, rtol=1e-12)


def test_without_a_seed_weights_are_zero(config):
    named = GPT(config, seed=None).named_arrays()
    assert all((t.data == (1 if "ln" in name else 0)).all() for name, t in named.items()) and len(named) > 10
