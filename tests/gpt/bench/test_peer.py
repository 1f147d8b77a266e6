"""The whole GPT against PyTorch: logits, loss, every gradient, and three steps of AdamW, from the same weights."""

from dataclasses import fields, replace

import numpy as np
import pytest

from gpt import GPT, AdamW, GPTConfig, Parameters, clip_by_global_norm, generate
from gpt.bench.peers import pytorch as peers
from gpt.model.config import Architecture
from gpt.training.recipes import RECIPES

torch = pytest.importorskip("torch")

CONFIG = GPTConfig(vocab_size=23, block_size=16, n_layer=3, n_head=4, n_embd=32)
SIZES = {"block_size", "n_layer", "n_head", "n_embd"}
FAST = {f.name: RECIPES["fast"][f.name] for f in fields(Architecture)
        if f.name in RECIPES["fast"].keys() - SIZES} | {"zero_init": False}
GPT2 = {"bias": True, "activation": "gelu_tanh"}
LLAMA = {"norm": "rms_norm", "positions": "rotary", "activation": "silu", "gated": True, "n_kv_head": 2,
         "n_hidden": 44, "norm_eps": 1e-6, "tied": False}
QWEN2 = {**LLAMA, "qkv_bias": True, "tied": True, "rope_base": 1e6, "n_kv_head": 1}
VARIANTS = [{}, {"bias": True}, {"bias": True, "activation": "relu"}, {"positions": "sinusoidal"}, FAST, GPT2, LLAMA,
            QWEN2, {"bias": True, "convolution": 2, "smear": True, "norm_embedding": True, "gated": True},
            {"norm_gain": False, "bias": True, "qk_norm": True, "convolution": 5, "activation": "squared_relu"},
            {**LLAMA, "qk_norm": True, "qk_norm_gain": True, "residual_scalars": True}]


def pair(changes):
    """Our model, with weights far from their start so that everything matters, and the peer's."""
    config = replace(CONFIG, **changes)
    model, rng = GPT(config, dtype=np.float64), np.random.default_rng(1)
    for t in model.named_arrays().values():
        t.data = t.data + 0.2 * rng.standard_normal(t.shape)
    return config, model, peers.to_torch(model, torch)


def batches(n):
    rng = np.random.default_rng(2)
    return [rng.integers(CONFIG.vocab_size, size=(2, 5, 16)) for _ in range(n)]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_logits_loss_and_every_gradient(changes):
    config, model, weights = pair(changes)
    ids, targets = batches(1)[0]
    loss = model.loss(ids, targets)
    loss.backward()
    theirs = peers.logits(weights, config, torch.tensor(ids), torch).detach().numpy()
    assert np.abs(model(ids).data - theirs).max() <= 1e-9 * np.abs(theirs).max()
    peer = peers.loss(weights, config, torch.tensor(ids), torch.tensor(targets), torch)
    peer.backward()
    assert loss.item() == pytest.approx(peer.item(), rel=1e-12)
    for name, t in model.named_arrays().items():
        if t.requires_grad:
            theirs = weights[name].grad.numpy()
            assert np.abs(t.grad - theirs).max() <= 1e-9 * np.abs(theirs).max(), name


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_logits_with_keys_and_values_kept(changes):
    config, _, weights = pair(changes)
    ids = torch.tensor(batches(1)[0][0])
    every = peers.logits(weights, config, ids, torch)
    kept = peers.make_cache(config, len(ids), torch.float64, torch)
    assert {tuple(a.shape) for a in kept.values()} == {(2, 5, config.n_kv_head or 4, 16, 8)}
    for a in kept.values():
        a.fill_(torch.nan)
    read = [peers.logits(weights, config, ids[:, :10], torch, kept)]
    read += [peers.logits(weights, config, ids[:, t:t + 1], torch, kept, t) for t in range(10, 16)]
    assert (torch.cat(read, dim=1) - every).abs().max() < 1e-10


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("window", [16, 5])
@pytest.mark.parametrize("changes", [{}, FAST, LLAMA], ids=["nanogpt", "fast", "llama"])
def test_its_text_is_ours_past_the_window(cache, window, changes):
    config, model, weights = pair({"block_size": window, **changes})
    ours = list(generate(model, np.zeros(1, int), 40, np.random.default_rng(0), greedy=True))
    assert peers.generate_tokens(weights, config, 40, lambda logits: logits.argmax(), torch, cache) == ours
    assert len(set(ours)) > 3  # so that the text tells whether the model saw the same


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_three_steps_of_adamw(changes):
    config, model, weights = pair(changes)
    learned = {name: w for name, w in weights.items() if w.requires_grad}
    peer = peers.adamw(weights, torch, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    flat = Parameters(model)
    ours = AdamW(flat, (0.9, 0.99), weight_decay=0.1)
    for ids, targets in batches(3):
        flat.zero_grad()
        model.loss(ids, targets).backward()
        norm = clip_by_global_norm(flat.grad, 1.0)
        ours.step(1e-2)
        peer.zero_grad()
        peers.loss(weights, config, torch.tensor(ids), torch.tensor(targets), torch).backward()
        peer_norm = torch.nn.utils.clip_grad_norm_(learned.values(), 1.0).item()
        assert norm == pytest.approx(peer_norm, rel=1e-9) and norm > 1  # so that clipping does something
        peer.step()
    for name, t in model.named_arrays().items():
        theirs = weights[name].detach().numpy()
        assert np.abs(t.data - theirs).max() <= 1e-9 * np.abs(theirs).max(), name


@pytest.mark.parametrize("changes", VARIANTS[:3], ids=str)
def test_jax_has_the_same_loss_and_gradients(changes):
    jax = pytest.importorskip("jax")
    from gpt.bench.peers import jax as peers_jax
    config, model, _ = pair(changes)
    ids, targets = batches(1)[0]
    loss = model.loss(ids, targets)
    loss.backward()
    weights = {name: t.data.astype(np.float32) for name, t in model.named_arrays().items()}
    value, grads = jax.value_and_grad(peers_jax.loss)(weights, config, ids, targets)
    assert loss.item() == pytest.approx(float(value), rel=1e-5)
    for name, t in model.named_arrays().items():
        assert np.abs(t.grad - grads[name]).max() <= 1e-4 * np.abs(t.grad).max(), name
