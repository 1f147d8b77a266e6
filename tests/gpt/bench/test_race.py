"""A race needs equal weights, equal batches, and equal results after three steps; else it says what differs."""

import numpy as np
import pytest

import autograd as ag
from gpt.bench import race
from gpt.bench.measure import Disagreement
from gpt.bench.peers import pytorch as peers
from gpt.bench.race import Outcome, PeerTraining, kernels, nanogpt_config, our_numbers, start_model, training

TINY = nanogpt_config(n_layer=2, n_head=2, n_embd=16, block_size=8, batch_size=4)


def ours():
    with training(TINY) as trainer:
        return Outcome.after_steps(TINY, lambda: trainer.step().loss, lambda: our_numbers(trainer))


def theirs(peer):
    other = PeerTraining(TINY, peer)
    return Outcome.after_steps(TINY, lambda: other.step()["loss"], peer.numbers)


def test_pytorch_comes_to_the_same():
    pytest.importorskip("torch")
    ours().check(theirs(peers.TorchTraining(TINY, start_model(TINY))))


def test_jax_comes_to_the_same():
    pytest.importorskip("jax")
    from gpt.bench.peers.jax import JaxTraining
    ours().check(theirs(JaxTraining(TINY, start_model(TINY))))


@pytest.mark.parametrize("change", [{"tied": False}, {"norm": "rms_norm"}, {"activation": "silu"},
                                    {"positions": "rotary"}])
def test_jax_has_nanogpts_choices_only(change):
    from gpt.bench.peers.jax import check
    check(start_model(TINY).config)
    with pytest.raises(ValueError, match="the twin in JAX is nanoGPT's model"):
        check(start_model(nanogpt_config(n_layer=1, n_head=2, n_embd=16, **change)).config)


def test_another_loss_is_no_race(monkeypatch):
    pytest.importorskip("torch")
    honest = peers.loss
    monkeypatch.setattr(peers, "loss", lambda *args: honest(*args) * 1.0001)
    with pytest.raises(Disagreement, match="the loss of step 1 is"):
        ours().check(theirs(peers.TorchTraining(TINY, start_model(TINY))))


def test_another_optimizer_is_no_race_even_if_the_losses_agree(monkeypatch):
    pytest.importorskip("torch")
    honest = peers.adamw
    monkeypatch.setattr(peers, "adamw", lambda *args, **settings: honest(*args, **{**settings, "weight_decay": 0.0}))
    outcome, other = ours(), theirs(peers.TorchTraining(TINY, start_model(TINY)))
    assert np.allclose(outcome.losses, other.losses, rtol=1e-5)
    with pytest.raises(Disagreement, match="has gone another way"):
        outcome.check(other)


def test_a_side_that_disagrees_has_no_figures(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(peers.TorchTraining, "update", lambda self, ids, targets, lr: 1.0)
    side = race.torch_side(TINY, ours())
    assert side.wrong and not side.measure and side.missing.startswith("no race: the loss of step 1")


def test_both_sides_get_the_same_batches():
    class Peer:
        def update(self, ids, targets, lr):
            batches.append((ids, targets, lr))
            return 0.0

    batches: list = []
    peer = PeerTraining(TINY, Peer())
    with training(TINY) as trainer:
        seen = []
        gradient = trainer.replicas.gradient
        trainer.replicas.gradient = lambda ids, targets: seen.append((ids, targets)) or gradient(ids, targets)
        for _ in range(2):
            lr = trainer.step().lr
            peer.step()
            assert all(np.array_equal(a, b) for a, b in zip(batches[-1], seen[-1])) and batches[-1][2] == lr


@pytest.mark.parametrize("name", ["numpy", "fastest"])
def test_kernels_are_as_before_afterwards(name):
    before = ag.kernels.in_use()
    with pytest.raises(KeyError), kernels(name) as used:
        assert used == ag.kernels.in_use() and (name == "fastest" or used == name)
        raise KeyError
    assert ag.kernels.in_use() == before


def test_without_a_compiler_there_is_no_torch_compile(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ImportError, match="no C.. compiler"):
        race.need_compiler()


@pytest.mark.slow
def test_compiled_pytorch_comes_to_the_same():
    pytest.importorskip("torch")
    try:
        race.need_compiler()
    except ImportError as error:
        pytest.skip(str(error))
    side = race.torch_side(TINY, ours(), compiled=True)
    assert side.measure and side.measure() > 0, side.missing
