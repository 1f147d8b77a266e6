"""Memory: that windows fit the conversations and not the model, and that steps are cut where they are large."""

import json

import numpy as np
import pytest

import autograd as ag
import gpt
from gpt import GPT, CharTokenizer, GPTConfig
from gpt.model.module import raw
from gpt.optim.parameters import Parameters
from gpt.runtime.worker_pool import WorkerPool
from gpt.training.data_parallel import Replicas
from gpt.training.footprint import step_bytes
from gpt.tuning import tune as tuning
from gpt.tuning.lora import add_lora
from gpt.tuning.tune import TuneConfig, tune

PAIRS = [(f"what is {a}{b}?", f"{a} {b}" + "!" * i) for i, a in enumerate("abcdef") for b in "uvwxyz"]
LLAMA = dict(n_layer=3, n_head=9, n_kv_head=3, n_embd=144, n_hidden=384, positions="rotary", norm="rms_norm",
             activation="silu", gated=True)


@pytest.fixture
def source(tmp_path):
    """A model with a long context, and short conversations."""
    tokenizer = CharTokenizer("".join(q + a for q, a in PAIRS))
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, block_size=4096, n_layer=1, n_head=2, n_embd=16,
                          positions="rotary"))
    (tmp_path / "base").mkdir()
    gpt.save(tmp_path / "base", model, tokenizer)
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps({"prompt": q, "response": a}) for q, a in PAIRS))
    return tmp_path


def tuned(source, name, **more):
    said = []
    settings = {"checkpoint": str(source / "base"), "data": (str(source / "pairs.jsonl"),), "max_iters": 4,
                "eval_interval": 2, "noise": 0.0, "replicas": 1, "out": str(source / name)}
    run = tune(TuneConfig(**settings | more), said.append)
    rows = [json.loads(line) for line in (source / name / "metrics.jsonl").read_text().splitlines()]
    return run, "\n".join(said), [row["loss"] for row in rows], [row["val_loss"] for row in rows if "val_loss" in row]


@pytest.mark.parametrize("rank", [None, 4])
def test_windows_belong_to_the_conversations_and_the_context_stays(source, rank, monkeypatch):
    run, said, *_ = tuned(source, "a", lora_rank=rank)
    assert run.config.block_size == 4096 and "8 windows of 256 tokens" in said
    run, said, *_ = tuned(source, "b", lora_rank=rank, block_size=40)
    assert run.config.block_size == 4096 and "8 windows of 40 tokens" in said
    monkeypatch.setattr(tuning, "MEMORY", 1 << 10)
    run, said, *_ = tuned(source, "c", lora_rank=rank)
    longest = max(len(q) + len(a) for q, a in PAIRS) + 3 - 1  # tokens of turns; the last one is a target only
    assert run.config.block_size == 4096 and f"8 windows of {longest} tokens, 1 at once" in said


def test_a_step_whose_windows_are_computed_a_few_at_a_time_is_the_same(source, monkeypatch):
    _, said, losses, val = tuned(source, "whole", block_size=21)
    one = step_bytes(gpt.load(source / "base").model, 1, 21)
    monkeypatch.setattr(tuning, "MEMORY", 3 * one)
    _, cut, again, val_again = tuned(source, "cut", block_size=21)
    assert "to save memory" not in said and "2 at once to save memory" in cut
    np.testing.assert_allclose(losses, again, rtol=1e-5)
    np.testing.assert_allclose(val, val_again, rtol=1e-5)


@pytest.mark.parametrize("change", [{}, {"dropout": 0.3}])
def test_a_step_that_is_not_recorded_has_the_same_bits(change):
    model = GPT(GPTConfig(vocab_size=20, block_size=16, n_layer=2, n_head=2, n_embd=16, **change))
    ids = np.random.default_rng(0).integers(20, size=(5, 17))
    parameters, found = Parameters(model), []
    for record in True, False:
        with WorkerPool(2) as pool:
            random = [np.random.default_rng(i) if change else None for i in range(2)]
            replicas = Replicas(model, parameters, pool, random, record)
            for _ in range(2):  # gradients do not add up
                loss = replicas.gradient(ids[:, :-1], ids[:, 1:])
            found.append((loss, replicas.loss(ids[:, :-1], ids[:, 1:]), replicas.norm, parameters.grad.tobytes()))
    assert found[0] == found[1]


@pytest.mark.parametrize("rank", [None, 8])
@pytest.mark.parametrize("choices", [LLAMA, dict(n_layer=3, n_head=4, n_embd=192, bias=True)], ids=["llama", "gpt2"])
@pytest.mark.parametrize("length", [64, 256])
def test_the_estimate_is_near_what_is_kept(choices, rank, length):
    model = GPT(GPTConfig(vocab_size=2000, block_size=256, **choices))
    if rank:
        model = add_lora(model, rank, 16.0)
    ids = np.zeros((2, length), np.int64)
    buffers = {}
    for t in ag.tape(model.loss(ids, ids)):
        for a in raw(t) if isinstance(raw(t), tuple) else [raw(t)] * (t.op is not None):
            while isinstance(a.base, np.ndarray):
                a = a.base
            buffers[id(a)] = a.nbytes
    logits = 2 * length * 2000 * 4  # and as much again for their gradient, and for what is kept of their softmax
    assert 0.8 < step_bytes(model, 2, length) / (sum(buffers.values()) + 2 * logits) < 1.25


def test_what_does_not_fit_in_memory_is_told_before_anything_is_computed(source, monkeypatch):
    monkeypatch.setattr(tuning, "memory_limit", lambda: 100_000)
    with pytest.raises(ValueError, match="give --lora-rank 8") as caught:
        tuned(source, "new")
    assert "--block-size" in str(caught.value) and not (source / "new").exists()
