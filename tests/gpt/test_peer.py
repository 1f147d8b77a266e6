"""The whole GPT against PyTorch: logits, loss, every gradient, and three steps of AdamW, from the same weights."""

from dataclasses import replace

import numpy as np
import pytest

from gpt import GPT, AdamW, GPTConfig, Parameters, clip_by_global_norm, peers

torch = pytest.importorskip("torch")

CONFIG = GPTConfig(vocab_size=23, block_size=16, n_layer=3, n_head=4, n_embd=32)
VARIANTS = [{}, {"bias": True}, {"bias": True, "activation": "relu"}, {"positions": "sinusoidal"}]


def pair(changes):
    """Our model, with weights far from their start so that everything matters, and the peer's."""
    config = replace(CONFIG, **changes)
    model, rng = GPT(config, dtype=np.float64), np.random.default_rng(1)
    for t in model.named_arrays().values():
        t.data = t.data + 0.2 * rng.standard_normal(t.shape)
    return config, model, peers.weights(model, torch)


def batches(n):
    rng = np.random.default_rng(2)
    return [rng.integers(CONFIG.vocab_size, size=(2, 5, 16)) for _ in range(n)]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_loss_and_every_gradient(changes):
    config, model, weights = pair(changes)
    ids, targets = batches(1)[0]
    loss = model.loss(ids, targets)
    loss.backward()
    peer = peers.loss(weights, config, torch.tensor(ids), torch.tensor(targets), torch)
    peer.backward()
    assert loss.item() == pytest.approx(peer.item(), rel=1e-12)
    for name, t in model.named_arrays().items():
        if t.requires_grad:
            theirs = weights[name].grad.numpy()
            assert np.abs(t.grad - theirs).max() <= 1e-9 * np.abs(theirs).max(), name


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
