"""Weights on disk: the same back, whole or not at all, and clear errors."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from safetensors import safe_open

import gpt
from gpt import GPT, checkpoint


def save_file(arrays, file, metadata):
    """Write a file of these, with a checksum if there is none: one that is whole."""
    metadata = {"checksum": checkpoint.checksum(metadata, arrays), **metadata}
    safetensors.numpy.save_file(arrays, file, metadata)


@pytest.fixture
def saved(model, tokenizer, tmp_path):
    """A model's file, its metadata without the checksum, and its arrays."""
    file = gpt.save(tmp_path, model, tokenizer, {"iter": 7})
    with safe_open(file, "np") as opened:
        metadata = {key: text for key, text in opened.metadata().items() if key != "checksum"}
        return file, metadata, {name: opened.get_tensor(name) for name in opened.keys()}


def test_a_run_comes_back_from_its_file_and_its_folder(saved, model, tokenizer, ids):
    for path in (saved[0], saved[0].parent, str(saved[0].parent)):
        run = gpt.load(path)
        assert run.config == model.config and run.metadata == {"iter": 7}
        assert run.tokenizer.characters == tokenizer.characters
        np.testing.assert_array_equal(run.model(ids).data, model(ids).data)
        assert {t.dtype for t in run.model.named_arrays().values()} == {np.dtype(np.float64)}


def test_a_model_on_raw_arrays_can_be_saved(model, tokenizer, tmp_path, ids):
    gpt.save(tmp_path, model.map(lambda t: t.data), tokenizer)
    np.testing.assert_array_equal(gpt.load(tmp_path).model(ids).data, model(ids).data)


def test_a_failed_save_leaves_the_old_file_and_nothing_else(saved, config, tokenizer, monkeypatch):
    before = saved[0].read_bytes()

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        gpt.save(saved[0], GPT(config), tokenizer)
    assert saved[0].read_bytes() == before and list(saved[0].parent.iterdir()) == [saved[0]]


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there are no weights here: train some"):
        gpt.load(tmp_path)


@pytest.mark.parametrize("cut", [0, 5, 100, 5000, -1])
def test_truncated_files(saved, cut):
    saved[0].write_bytes(saved[0].read_bytes()[:cut])
    with pytest.raises(ValueError, match="model.safetensors is no safetensors file, or damaged"):
        gpt.load(saved[0])


def test_a_checksum_of_all_that_a_file_holds(saved):
    file, metadata, arrays = saved
    with safe_open(file, "np") as opened:
        checksum = opened.metadata()["checksum"]
    save_file(arrays, file, metadata | {"checksum": checksum})
    gpt.load(file)
    for changed in (metadata | {"about": '{"iter": 8}'}, metadata | {"more": ""}):
        save_file(arrays, file, changed | {"checksum": checksum})
        with pytest.raises(ValueError, match="is damaged: what it holds has another checksum"):
            gpt.load(file)
    arrays["wte.weight"][3, 4] = np.nextafter(arrays["wte.weight"][3, 4], 1)
    save_file(arrays, file, metadata | {"checksum": checksum})
    with pytest.raises(ValueError, match="another checksum .* take another checkpoint of its folder"):
        gpt.load(file)


def test_files_of_earlier_versions_need_no_checksum(saved, model):
    file, metadata, arrays = saved
    safetensors.numpy.save_file(arrays, file, metadata)
    with pytest.raises(ValueError, match="is damaged: what it holds has another checksum"):
        gpt.load(file)
    safetensors.numpy.save_file(arrays, file, metadata | {"format": "tapegrad gpt 1"})
    np.testing.assert_array_equal(gpt.load(file).model.wte.weight.data, model.wte.weight.data)


def test_foreign_files(saved):
    saved[0].write_bytes(b"PK\x03\x04" + b"x" * 5000)
    with pytest.raises(ValueError, match="no safetensors file"):
        gpt.load(saved[0])
    safetensors.numpy.save_file({"w": np.ones(3)}, saved[0])
    with pytest.raises(ValueError, match="not one that gpt train wrote"):
        gpt.load(saved[0])


def test_wrong_arrays_are_all_listed(saved):
    file, metadata, arrays = saved
    del arrays["h.1.ln_2.weight"]
    arrays["extra"] = np.ones(2)
    arrays["wte.weight"] = np.ones((4, 4))
    save_file(arrays, file, metadata)
    with pytest.raises(ValueError) as error:
        gpt.load(file)
    assert "extra is unknown" in str(error.value) and "h.1.ln_2.weight is missing" in str(error.value)
    assert "wte.weight is float64[4, 4] instead of float64[11, 12]" in str(error.value)


@pytest.mark.parametrize("key, value", [
    ("config", "{"), ("config", "[]"), ("config", '{"n_layer": 2}'), ("config", '{"vocab_size": 3, "wings": 2}'),
    ("config", '{"vocab_size": 3, "n_embd": 7}'), ("tokenizer", "null"), ("about", "nonsense"), ("tokenizer", None)])
def test_a_configuration_or_tokenizer_that_cannot_be_read(saved, key, value):
    file, metadata, arrays = saved
    metadata = {k: v for k, v in {**metadata, key: value}.items() if v is not None}
    save_file(arrays, file, metadata)
    with pytest.raises(ValueError, match="configuration or tokenizer that this version cannot read"):
        gpt.load(file)


def test_metadata_that_is_nested_too_deep(saved, model, tokenizer):
    def nested(levels):
        return json.loads("[" * levels + "]" * levels)

    gpt.save(saved[0], model, tokenizer, {"iter": 7, "notes": nested(15)})
    assert gpt.load(saved[0]).metadata["notes"] == nested(15)
    gpt.save(saved[0], model, tokenizer, {"iter": 7, "notes": nested(16)})
    for read in (gpt.load, checkpoint.read_metadata):
        with pytest.raises(ValueError, match="nested too deep"):
            read(saved[0])


def test_a_configuration_of_another_model(saved):
    file, metadata, arrays = saved
    save_file(arrays, file, metadata | {"config": json.dumps(json.loads(metadata["config"]) | {"n_layer": 3})})
    with pytest.raises(ValueError, match="h.2.attn.c_attn.weight is missing"):
        gpt.load(file)


@pytest.mark.parametrize("changes", [
    {"n_hidden": 10**10}, {"block_size": 10**10}, {"n_layer": 10**4},
    {"n_embd": 10**8, "n_head": 1}, {"vocab_size": 10**12}])
def test_a_size_that_no_memory_has_room_for(saved, changes, monkeypatch):
    file, metadata, arrays = saved
    monkeypatch.setattr(checkpoint, "GPT", None)  # no model is made
    monkeypatch.setattr("gpt.data.tokenizers.char.CharTokenizer.vocab_size", changes.get("vocab_size", 11))
    save_file(arrays, file, metadata | {"config": json.dumps(json.loads(metadata["config"]) | changes)})
    with pytest.raises(ValueError, match="asks for far more than the .* numbers in it"):
        gpt.load(file)


@pytest.mark.parametrize("changes", [{"convolution": 10**10}, {"n_layer": 10**9}])
def test_a_size_beyond_all_models(saved, changes, monkeypatch):
    file, metadata, arrays = saved
    monkeypatch.setattr(checkpoint, "GPT", None)
    save_file(arrays, file, metadata | {"config": json.dumps(json.loads(metadata["config"]) | changes)})
    with pytest.raises(ValueError, match="needs to be at most"):
        gpt.load(file)


@pytest.mark.parametrize("changes", [
    {"norm": "rms_norm", "positions": "rotary", "activation": "silu", "gated": True, "n_head": 6, "n_kv_head": 3,
     "n_hidden": 20, "tied": False, "qkv_bias": True, "block_size": 10**9},
    {"norm_gain": False, "norm_embedding": True, "qk_norm": True, "convolution": 3, "smear": True, "tied": False},
    {"bias": True, "positions": "sinusoidal", "convolution": 1}])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_architecture_comes_back(config, tokenizer, tmp_path, ids, changes, dtype):
    model = GPT(replace(config, **changes), seed=5, dtype=dtype)
    gpt.save(tmp_path, model, tokenizer)
    back = gpt.load(tmp_path).model
    assert back.config == model.config
    for (name, t), (other, own) in zip(back.named_arrays().items(), model.named_arrays().items()):
        assert name == other and t.dtype == dtype and t.requires_grad == own.requires_grad
        np.testing.assert_array_equal(t.data, own.data)
    np.testing.assert_array_equal(back(ids).data, model(ids).data)


def test_the_numbers_of_a_model_are_those_in_its_matrices(config):
    large = replace(config, n_layer=3, vocab_size=500, n_embd=60, n_head=6)
    for changes in ({}, {"gated": True, "n_kv_head": 2, "n_hidden": 90}, {"tied": False, "positions": "rotary"},
                    {"convolution": 5}):
        model = GPT(replace(large, **changes))
        assert checkpoint.count_weights(model.config) == sum(
            t.size for name, t in model.named_arrays().items() if t.ndim == 2)


def test_a_path_may_be_a_file_of_any_name(model, tokenizer, tmp_path):
    assert gpt.save(tmp_path / "best.safetensors", model, tokenizer) == tmp_path / "best.safetensors"
    assert gpt.load(tmp_path / "best.safetensors").config == model.config
    assert checkpoint.FILE not in os.listdir(tmp_path)


def test_a_tokenizer_of_another_model(model, tmp_path):
    gpt.save(tmp_path, model, gpt.CharTokenizer("ab"))
    with pytest.raises(ValueError, match="a tokenizer of 2 tokens for a model of 11"):
        gpt.load(tmp_path)


def test_a_disk_that_is_full(saved, model, tokenizer, monkeypatch):
    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr("gpt.checkpoint.write_tensors", full)
    with pytest.raises(OSError, match="could not be saved .* untouched .*No space left"):
        gpt.save(saved[0], model, tokenizer)
    assert list(saved[0].parent.iterdir()) == [saved[0]]


def test_a_folder_of_another_library_is_pointed_at_import(tmp_path):
    safetensors.numpy.save_file({"transformer.wte.weight": np.zeros((2, 2), np.float32)}, tmp_path / checkpoint.FILE)
    with pytest.raises(ValueError, match="not one that gpt train wrote$"):
        gpt.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="gpt train wrote: gpt import .* reads models in Hugging Face"):
        gpt.load(tmp_path)
