"""LoRA: its gradients, what it leaves as it is, merging, and its file."""

import json
import random

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import autograd as ag
import gpt
from gpt import GPT, CharTokenizer, GPTConfig, checkpoint
from gpt.chat.turns import TurnTokenizer
from gpt.model.module import raw
from gpt.optim.parameters import Parameters
from gpt.tuning import lora
from gpt.tuning.grow import extend_vocab_and_context
from gpt.tuning.lora import ExtendedEmbedding, LoRALinear, add_lora, merge_lora

ALPHABET = "abcdefg"
SHAPES = [dict(), dict(tied=False, positions="rotary", norm="rms_norm", norm_gain=False, qk_norm=True, convolution=2,
                       smear=True, activation="silu", gated=True, n_kv_head=1, norm_embedding=True)]


def base(dtype=np.float64, **choices):
    return GPT(GPTConfig(vocab_size=len(ALPHABET), block_size=8, n_layer=2, n_head=2, n_embd=8, **choices), 3, dtype)


def learned(model):
    return {name: t for name, t in model.named_arrays().items() if t.requires_grad}


@pytest.fixture(params=SHAPES, ids=["gpt2", "llama"])
def adapter(request):
    """A model with LoRA and four new tokens, as if it had been trained."""
    model = add_lora(extend_vocab_and_context(base(**request.param), 4), rank=2, alpha=6.0, n_new=4)
    rng = np.random.default_rng(1)
    for t in learned(model).values():
        t.data = raw(t) + rng.normal(0, 0.3, t.shape)
    return model


def batch(rng=0):
    ids = np.random.default_rng(rng).integers(11, size=(2, 8))
    return ids[:, :-1], ids[:, 1:]


def test_only_thin_matrices_and_new_rows_are_learned(adapter):
    names = learned(adapter)
    heads = {"lm_head.new"} if adapter.lm_head is not None else set()
    assert {n for n in names if not n.startswith("h.")} == {"wte.new"} | heads
    assert all(n.endswith((".A", ".B")) for n in names if n.startswith("h."))
    layers = 2 * (4 + adapter.config.gated)
    assert len(names) == 2 * layers + 1 + len(heads)
    assert set(Parameters(adapter).tensors.values()) == set(names.values())


def test_gradients_are_those_of_finite_differences(adapter):
    ids, targets = batch()
    adapter.loss(ids, targets).backward()
    rng = np.random.default_rng(2)
    for name, t in learned(adapter).items():
        direction, value, eps = rng.normal(size=t.shape), raw(t).copy(), 1e-6
        ends = []
        for sign in (1, -1):
            t.data = value + sign * eps * direction
            ends.append(float(adapter.loss(ids, targets).data))
        t.data = value
        np.testing.assert_allclose((ends[0] - ends[1]) / (2 * eps), (t.grad * direction).sum(), rtol=1e-5, atol=1e-9,
                                   err_msg=name)


def test_merged_gives_the_same_logits_and_can_be_trained(adapter):
    plain = merge_lora(adapter)
    ids, targets = batch()
    np.testing.assert_allclose(raw(plain(ids)), raw(adapter(ids)), rtol=1e-10, atol=1e-12)
    kinds = {type(v).__name__ for v in vars(plain).values()} | {type(block.mlp.c_fc).__name__ for block in plain.h}
    assert not kinds & {"LoRALinear", "ExtendedEmbedding", "ExtendedHead"}
    fresh = GPT(plain.config, dtype=np.float64).named_arrays()
    assert {n: (t.shape, t.requires_grad, t.name) for n, t in plain.named_arrays().items()} == \
        {n: (t.shape, t.requires_grad, t.name) for n, t in fresh.items()}


def test_it_starts_as_the_base(adapter):
    model = base()
    ids, _ = batch()
    before = raw(model(ids % 7))
    np.testing.assert_array_equal(raw(add_lora(model, 3, 3.0)(ids % 7)), before)
    assert not learned(model)  # frozen there, too


def test_the_formula():
    rng = np.random.default_rng(0)
    W, b, A, B, x = (rng.normal(size=shape) for shape in ((5, 4), (4,), (5, 2), (2, 4), (3, 5)))
    from gpt import Linear
    layer = LoRALinear(Linear(W, b), A, B, 1.5)
    np.testing.assert_allclose(layer(x), x @ (W + 1.5 * A @ B) + b, rtol=1e-12)
    np.testing.assert_allclose(layer.merge()(x), layer(x), rtol=1e-12)
    table = ExtendedEmbedding(W, rng.normal(size=(2, 4)))
    np.testing.assert_array_equal(table(np.array([6, 0, 5])), np.stack([table.new[1], W[0], table.new[0]]))


@pytest.mark.parametrize("rank", [0, -1, 8, 100])
def test_a_rank_that_makes_no_sense(rank):
    with pytest.raises(ValueError, match="lora_rank"):
        add_lora(base(), rank, 1.0)


# ---------------------------------------------------------------------- growing


def test_growing_keeps_what_the_model_says_of_old_tokens():
    for choices in SHAPES:
        model = base(**choices)
        new = extend_vocab_and_context(model, 3)
        ids, _ = batch()
        old = raw(model(ids % 7))
        np.testing.assert_allclose(raw(new(ids % 7))[..., :7], old, rtol=1e-12)
        table = raw(new.wte.weight)
        np.testing.assert_allclose(table[7:], np.repeat(table[:7].mean(0, keepdims=True), 3, 0))
        assert new.config.vocab_size == 10 and model.config.vocab_size == 7


def test_a_longer_context():
    for positions in "rotary", "sinusoidal":
        model, ids = base(positions=positions), np.arange(16)[None] % 7
        new = extend_vocab_and_context(model, block_size=16)
        np.testing.assert_allclose(raw(new(ids[:, :8])), raw(model(ids[:, :8])), rtol=1e-6)
        assert new(ids).shape == (1, 16, 7)
        assert {n: t.shape for n, t in new.named_arrays().items()} == \
            {n: t.shape for n, t in GPT(new.config).named_arrays().items()}
    with pytest.raises(ValueError, match="has learned 8 positions"):
        extend_vocab_and_context(base(), block_size=9)
    assert extend_vocab_and_context(base(), block_size=4).wpe.weight.shape == (4, 8)


# ---------------------------------------------------------------------- on disk


@pytest.fixture
def saved(tmp_path, adapter):
    """A base and a LoRA for it, in two folders."""
    tokenizer = CharTokenizer(ALPHABET)
    shape = {k: v for k, v in SHAPES[1].items()} if adapter.config.gated else {}
    source = gpt.save(_made(tmp_path / "base"), base(**shape), tokenizer)
    lora.save_lora(_made(tmp_path / "lora"), adapter, TurnTokenizer(tokenizer), {"val_loss": 1.0}, source)
    return tmp_path


def _made(folder):
    folder.mkdir()
    return folder


def test_it_comes_back_from_its_file(saved, adapter):
    ids, _ = batch()
    for merge in True, False:
        run = lora.load_lora(saved / "lora", merge)
        np.testing.assert_allclose(raw(run.model(ids)), raw(adapter(ids)), rtol=1e-10, atol=1e-12)
        assert run.metadata == {"val_loss": 1.0} and run.tokenizer.vocab_size == 11 and run.config == adapter.config
    assert {n: raw(t).tolist() for n, t in learned(run.model).items()} == \
        {n: raw(t).tolist() for n, t in learned(adapter).items()}
    assert isinstance(ag.tensor(raw(run.model.wte.weight)), ag.Tensor)


def test_both_folders_can_move_together(saved, tmp_path_factory):
    new = tmp_path_factory.mktemp("moved") / "there"
    saved.rename(new)
    lora.load_lora(new / "lora")


def test_a_base_that_is_gone_or_another(saved):
    file = saved / "base" / checkpoint.FILE
    content = file.read_bytes()
    file.unlink()
    with pytest.raises(FileNotFoundError, match="--merge"):
        lora.load_lora(saved / "lora")
    shape = dict(SHAPES[1]) if lora_gated(saved) else {}
    gpt.save(saved / "base", GPT(base(**shape).config, 4, np.float64), CharTokenizer(ALPHABET))
    with pytest.raises(ValueError, match="other weights"):
        lora.load_lora(saved / "lora")
    file.write_bytes(content)
    lora.load_lora(saved / "lora")


def lora_gated(saved):
    metadata, _ = lora._read(saved / "lora" / lora.FILE)
    return json.loads(metadata["config"])["gated"]


def test_damaged_files_are_refused_in_one_line(saved):
    file, rng = saved / "lora" / lora.FILE, random.Random(0)
    whole = file.read_bytes()
    for _ in range(60):
        content = bytearray(whole)
        at = rng.randrange(len(content))
        content[at:at + rng.randrange(1, 9)] = bytes([rng.randrange(256)])
        file.write_bytes(content)
        try:
            lora.load_lora(saved / "lora")
            assert bytes(content) == whole
        except (ValueError, OSError) as error:
            assert "\n" not in str(error) and len(str(error)) < 600


EVIL = [("lora", "{}"), ("lora", "[1]"), ("lora", '{"rank": 1e400}'), ("lora", "[" * 9999), ("config", "{}"),
        ("config", '{"vocab_size": 1000000000000}'), ("tokenizer", '{"kind": "none"}'), ("about", "3")]


@pytest.mark.parametrize("key, text", EVIL)
def test_malicious_settings_are_refused_in_one_line(saved, key, text):
    file = saved / "lora" / lora.FILE
    (metadata, _), arrays = lora._read(file), load_file(file)
    metadata[key] = text
    metadata["checksum"] = checkpoint.checksum(metadata, arrays)
    save_file(arrays, file, metadata)
    with pytest.raises((ValueError, OSError)) as caught:
        lora.load_lora(saved / "lora")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [dict(rank=10 ** 9), dict(rank=3), dict(alpha="x"), dict(base="/dev/zero"),
                                    dict(base="."), dict(base="../lora/lora.safetensors")])
def test_a_reference_that_makes_no_sense(saved, change):
    file = saved / "lora" / lora.FILE
    (metadata, _), arrays = lora._read(file), load_file(file)
    metadata["lora"] = json.dumps(json.loads(metadata["lora"]) | change)
    metadata["checksum"] = checkpoint.checksum(metadata, arrays)
    save_file(arrays, file, metadata)
    with pytest.raises((ValueError, OSError)):
        lora.load_lora(saved / "lora")


def rewritten(saved, change_metadata=lambda m: None, change_arrays=lambda a: None):
    """The LoRA's file, changed and with a checksum that fits."""
    file = saved / "lora" / lora.FILE
    (metadata, _), arrays = lora._read(file), load_file(file)
    change_metadata(metadata)
    change_arrays(arrays)
    metadata["checksum"] = checkpoint.checksum(metadata, arrays)
    save_file(arrays, file, metadata)
    return file


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.uint16])
def test_numbers_of_another_type_are_refused(saved, dtype):
    """They would be cast silently, bits of bfloat16 to whole numbers among them."""
    def cast(arrays):
        arrays.update({name: a.astype(dtype) for name, a in arrays.items()})

    rewritten(saved, change_arrays=cast)
    with pytest.raises(ValueError, match="does not fit its base"):
        lora.load_lora(saved / "lora")


@pytest.mark.parametrize("name", ["F8_E4M3", "F8_E5M2", "F4", "C64"])
def test_a_type_that_numpy_does_not_have_is_refused(saved, name):
    file = rewritten(saved)
    content = file.read_bytes()
    n = int.from_bytes(content[:8], "little")
    head = content[8:8 + n].replace(b'"F64"', f'"{name}"'.encode())
    file.write_bytes(len(head).to_bytes(8, "little") + head + content[8 + n:])
    with pytest.raises(ValueError, match="no type or shape"):
        lora.load_lora(saved / "lora")


def test_a_context_that_would_take_all_memory_is_refused(tmp_path):
    source = gpt.save(_made(tmp_path / "base"), base(positions="sinusoidal"), CharTokenizer(ALPHABET))
    model = add_lora(extend_vocab_and_context(base(positions="sinusoidal"), 4, 16), rank=2, alpha=6.0, n_new=4)
    lora.save_lora(_made(tmp_path / "lora"), model, TurnTokenizer(CharTokenizer(ALPHABET)), {}, source)
    assert lora.load_lora(tmp_path / "lora").config.block_size == 16

    def lengthen(metadata):
        metadata["config"] = json.dumps(json.loads(metadata["config"]) | {"block_size": 10 ** 7})

    rewritten(tmp_path, lengthen)
    with pytest.raises(ValueError, match="does not fit its base"):
        lora.load_lora(tmp_path / "lora")
