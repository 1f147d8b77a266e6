"""Models on packed weights: the same text as on the same numbers widened; checkpoints, LoRA, and what is widened."""

import json
import mmap

import numpy as np
import pytest

import autograd as ag
import gpt
from autograd.core.arrays import find_owner
from gpt import GPT, GPTConfig, checkpoint
from gpt.chat.turns import TurnTokenizer
from gpt.cli import main
from gpt.data.tokenizers.byte import ByteTokenizer
from gpt.generation.incremental import DecodingState
from gpt.model.module import raw
from gpt.runtime.safetensors_file import read_head, write_tensors
from gpt.tuning.lora import add_lora, load_lora, merge_lora, save_lora
from tests.packing import NAMES, pack_model

LLAMA = dict(positions="rotary", norm="rms_norm", gated=True, activation="silu", n_kv_head=2)


def config(vocab_size=256, **choices):
    return GPTConfig(vocab_size=vocab_size, block_size=48, n_layer=2, n_head=4, n_embd=32, n_hidden=64, **choices)


def models(name, seed=0, **choices):
    """A model on packed weights, and the same on these numbers widened; they are far from their start."""
    model, rng = GPT(config(**choices), seed), np.random.default_rng(seed)
    for t in model.named_arrays().values():
        t.data = raw(t) + rng.normal(0, 0.2, t.shape).astype(np.float32)
    return pack_model(model, name)


def saved(folder, model, tokenizer, metadata=None):
    folder.mkdir()
    return gpt.save(folder, model, tokenizer, metadata)


def packed_names(model):
    return {name for name, a in model.named_arrays().items() if isinstance(a, ag.Packed)}


@pytest.fixture(params=["numpy", "numba"])
def kernels(request):
    if request.param == "numba":
        pytest.importorskip("numba")
    ag.kernels.use(request.param)
    yield
    ag.kernels.use("numpy")


@pytest.mark.parametrize("name, choices", [*((name, LLAMA) for name in NAMES), ("F16", {}), ("Q4_1", dict(tied=False))])
def test_the_same_text(name, choices, kernels):
    """With a cache and without one, by programs and by arrays, of several texts at once."""
    packed, wide = models(name, **choices)
    assert len(packed_names(packed)) >= 9 and packed.n_parameters == wide.n_parameters
    ids = np.random.default_rng(1).integers(256, size=(2, 40))
    logits = raw(wide(ids))
    assert abs(raw(packed(ids)) - logits).max() < 1e-5 * abs(logits).max()
    prompts = [ids[0, :5], ids[1, :9]]
    states = [DecodingState(model, prompts, cache) for model, cache in ((packed, True), (packed, False), (wide, True))]
    for _ in range(60):  # the window fills, and begins anew
        logits, *others = (state.logits() for state in states[::-1])
        for other in others:
            assert abs(other - logits).max() < 1e-5 * abs(logits).max()
        for state in states:
            state.append(logits.argmax(-1))


@pytest.mark.parametrize("name, choices", [("Q8_0", LLAMA), ("F16", {})])
def test_checkpoints(name, choices, tmp_path):
    packed, wide = models(name, **choices)
    file = saved(tmp_path / "small", packed, ByteTokenizer(), {"iter": 3})
    saved(tmp_path / "wide", wide, ByteTokenizer())
    assert read_head(file)[0]["format"] == "tapegrad gpt 3" and file.stat().st_size < 0.7 * (
        tmp_path / "wide" / checkpoint.FILE).stat().st_size
    kept, again, lines = gpt.load(file, packed=True), gpt.load(file, lines_of := [].append), lines_of.__self__
    ids = np.arange(40)[None]
    assert np.array_equal(raw(kept.model(ids)), raw(packed(ids))) and kept.metadata == {"iter": 3}
    for (key, a), b in zip(wide.named_arrays().items(), again.model.named_arrays().values()):
        assert np.array_equal(a.data, b.data) and b.name == key and b.requires_grad == (key != "frequencies")
    assert lines == [f"note    weights in few bits are widened to float32: {lines[0].rpartition(': ')[2]}"]
    assert packed_names(kept.model) == packed_names(packed) and not packed_names(again.model)
    assert isinstance(find_owner(kept.model.wte.weight.rows).base.obj, mmap.mmap)  # no copy of the file's
    assert saved(tmp_path / "copy", kept.model, ByteTokenizer(), {"iter": 3}).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("change", [{"wte.weight": ["Q6_K", False]}, {"wte.weight": ["Q8_0", True]}, {"wte.weight": 3},
                                    {"wte.weight": ["Q4_1", False]}, {"ln_f.weight": ["Q8_0", False]}, {}])
def test_forms_that_lie(change, tmp_path, capsys):
    packed, _ = models("Q8_0", **LLAMA)
    file = gpt.save(tmp_path / "m.safetensors", packed, ByteTokenizer())
    header, stored = read_head(file)
    forms = json.loads(header["packed"]) | change if change else {}
    header |= {"packed": json.dumps(forms)}
    arrays = {name: np.array(a.map()) for name, a in stored.items()}
    del header["checksum"]
    write_tensors(file, arrays, header | {"checksum": checkpoint.checksum(header, arrays)})
    with pytest.raises(ValueError, match="packed weights that this version cannot read|does not hold the arrays|uint8"):
        gpt.load(file, packed=True)
    assert main(["info", str(file)]) in (0, 1) and "Traceback" not in capsys.readouterr().err


def test_commands(tmp_path, capsys):
    """Commands that need float32 widen the weights, and say so."""
    packed, wide = models("Q4_1", **LLAMA)
    file = gpt.save(tmp_path / "m.safetensors", packed, ByteTokenizer())

    def said(*argv):
        assert main([*map(str, argv)]) == 0
        return capsys.readouterr().out

    text = said("info", file)
    size = sum(raw(a).nbytes if not isinstance(a, ag.Packed) else a.nbytes for a in packed.named_arrays().values())
    assert f"{packed.n_parameters:,} in Q4_1, float32: {size / 1000:.1f} kB" in text and "c_attn 32 x 64" in text
    assert "q4_1[256,32]" in repr(packed) and "q4_1[32,64]" in repr(packed)
    assert len(said("sample", file, "--greedy", "--prompt", "ab", "--max-new-tokens", 5)) >= 7
    assert "widened to float32" in said("show", file, "--prompt", "abc", "--out", tmp_path / "shown")
    assert "widened to float32" in said("page", file, "--out", tmp_path / "page.html")


# ---------------------------------------------------------------------- LoRA


def with_lora(packed):
    model, rng = add_lora(packed, 3, 6.0), np.random.default_rng(5)
    for t in model.named_arrays().values():
        if t.requires_grad:
            t.data = raw(t) + rng.normal(0, 0.1, t.shape).astype(np.float32)
    return model


@pytest.mark.parametrize("name", ["Q4_1", "F16"])
def test_gradients_of_lora_are_those_of_finite_differences(name):
    model, ids = with_lora(models(name, **LLAMA)[0]), np.random.default_rng(6).integers(256, size=(2, 9))
    learned = {key: t for key, t in model.named_arrays().items() if t.requires_grad}
    assert all(key.endswith((".A", ".B")) for key in learned) and len(learned) == 20
    values = [raw(t).astype(np.float64) for t in learned.values()]

    def loss(*arrays):
        found = dict(zip(learned.values(), arrays))
        return model.map(lambda t: found.get(t, t)).loss(ids[:, :-1], ids[:, 1:])

    grads = ag.grad(loss, argnums=tuple(range(len(values))))(*values)
    rng = np.random.default_rng(7)
    for i, g in enumerate(grads):
        step = rng.normal(size=g.shape)
        ends = [float(loss(*values[:i], values[i] + sign * 1e-5 * step, *values[i + 1:])) for sign in (1, -1)]
        np.testing.assert_allclose((ends[0] - ends[1]) / 2e-5, (g * step).sum(), rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["Q4_1", "F16"])
def test_gradients_of_lora_by_kernels(name, kernels):
    """In single precision, where they run, as on the weights widened."""
    packed, wide = models(name, **LLAMA)
    ids, grads = np.random.default_rng(6).integers(256, size=(2, 9)), []
    for model in (with_lora(packed), with_lora(wide)):
        model.loss(ids[:, :-1], ids[:, 1:]).backward()
        grads.append([t.grad for t in model.named_arrays().values() if t.requires_grad])
    assert len(grads[0]) == 20
    for g, right in zip(*grads):
        np.testing.assert_allclose(g, right, rtol=0, atol=1e-4 * abs(right).max())


def test_lora_stays_beside_packed_weights(tmp_path):
    packed, _ = models("Q8_0", **LLAMA)
    base = saved(tmp_path / "base", packed, ByteTokenizer())
    model, ids = with_lora(gpt.load(base, packed=True).model), np.arange(30)[None]
    (tmp_path / "tuned").mkdir()
    save_lora(tmp_path / "tuned", model, ByteTokenizer(), {}, base)
    logits = raw(model(ids))
    kept, merged = gpt.load(tmp_path / "tuned", packed=True).model, gpt.load(tmp_path / "tuned").model
    assert packed_names(kept) == packed_names(model) and not packed_names(merged)
    assert np.array_equal(raw(kept(ids)), logits)
    for other in (merged, merge_lora(model), load_lora(tmp_path / "tuned", merge=False).model):
        assert abs(raw(other(ids)) - logits).max() < 1e-5 * abs(logits).max()
    assert all(t.requires_grad for key, t in merged.named_arrays().items() if key != "frequencies")


@pytest.mark.slow
def test_tune(tmp_path, capsys):
    """LoRA learns beside packed weights, on new tokens too; all weights are learned after widening."""
    packed, _ = models("Q8_0", vocab_size=256, **LLAMA)
    base = saved(tmp_path / "base", packed, ByteTokenizer())
    before = base.read_bytes()
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(json.dumps({"question": f"{i}?", "answer": f"{i}!"}) for i in range(12)))
    argv = ["tune", str(base), "--data", str(data), "--max-iters", "3", "--batch-size", "2", "--replicas", "2"]
    assert main([*argv, "--lora-rank", "2", "--out", str(tmp_path / "lora")]) == 0
    assert "widened" not in capsys.readouterr().out and base.read_bytes() == before
    run = gpt.load(tmp_path / "lora", packed=True)
    assert packed_names(run.model) and isinstance(run.tokenizer, TurnTokenizer)
    assert main([*argv, "--lora-rank", "2", "--merge", "--out", str(tmp_path / "merged")]) == 0
    assert not packed_names(gpt.load(tmp_path / "merged", packed=True).model)
    capsys.readouterr()
    assert main([*argv, "--out", str(tmp_path / "whole")]) == 0
    assert "weights in few bits are widened to float32" in capsys.readouterr().out
    assert not packed_names(gpt.load(tmp_path / "whole", packed=True).model)
