"""Folders of models in Hugging Face's form: what is read, what is refused and why, and what is written."""

import json
import re
import shutil
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import autograd as ag
import gpt
from gpt import GPT, Checkpoint, GPTConfig, checkpoint
from gpt.cli import main
from gpt.data.tokenizers.byte import ByteTokenizer
from gpt.model.module import raw
from gpt.pretrained import convert as pretrained
from gpt.pretrained.config import rope_frequencies
from gpt.pretrained.convert import read_model, read_pretrained, write_pretrained

pytest.importorskip("tokenizers")

GPT2 = dict(bias=True, activation="gelu_tanh")
LLAMA = dict(norm="rms_norm", positions="rotary", gated=True, activation="silu", n_kv_head=1, n_hidden=20, tied=False)


def folder_of(path, choices, vocab_size=256, about=None):
    """A folder with a model of random numbers."""
    config = GPTConfig(vocab_size=vocab_size, block_size=16, n_layer=2, n_head=2, n_embd=8, **choices)
    path.mkdir(parents=True, exist_ok=True)
    write_pretrained(path, Checkpoint(GPT(config, seed=1), ByteTokenizer(), about or {}))
    return path


@pytest.fixture
def gpt2(tmp_path):
    return folder_of(tmp_path / "gpt2", GPT2)


@pytest.fixture
def llama(tmp_path):
    return folder_of(tmp_path / "llama", LLAMA)


def change(folder, **keys):
    """Put keys into a config.json; those of None are taken out."""
    values = json.loads((folder / "config.json").read_text()) | keys
    (folder / "config.json").write_text(json.dumps({k: v for k, v in values.items() if v is not None}))


def retensor(folder, change):
    """Write model.safetensors again, with changed tensors."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file({name: np.ascontiguousarray(a) for name, a in tensors.items()}, file, {"format": "pt"})


def shard(folder, n=3):
    """Divide model.safetensors into files with an index, which is returned."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = {name: f"model-{i % n}.safetensors" for i, name in enumerate(tensors)}
    for file in set(files.values()):
        save_file({name: a for name, a in tensors.items() if files[name] == file}, folder / file)
    index = {"metadata": {"total_size": 1}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return index


def refused(capsys, folder, says):
    """The import fails in one line that says this, and writes nothing."""
    out = folder.parent / "refused"
    capsys.readouterr()
    assert main(["import", str(folder), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert re.search(says, error) and error.count("\n") == 1 and error.startswith("gpt: error: "), error
    assert not (out / checkpoint.FILE).exists()
    return error


# ---------------------------------------------------------------------- the commands


@pytest.mark.parametrize("choices", [GPT2, LLAMA, LLAMA | {"qkv_bias": True},
                                     LLAMA | {"qk_norm": True, "qk_norm_gain": True}],
                         ids=["gpt2", "llama", "qwen2", "qwen3"])
def test_import_and_export(tmp_path, capsys, choices):
    folder = folder_of(tmp_path / "theirs", choices)
    assert main(["import", str(folder), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "2 layers" in said and "-m gpt sample" in said and "note" not in said
    run, right = gpt.load(tmp_path / "out"), GPT(GPTConfig(**vars(gpt.load(tmp_path / "out").config)), seed=1)
    for name, t in right.named_arrays().items():
        assert np.array_equal(run.model.named_arrays()[name].data, t.data), name
    assert run.tokenizer.decode(run.tokenizer.encode("é <s>")) == "é <s>" and run.tokenizer.vocab_size == 256

    assert main(["export", str(tmp_path / "out"), "--out", str(tmp_path / "back")]) == 0
    assert "with its tokenizer" in capsys.readouterr().out
    for name in ("model.safetensors", "config.json", "tokenizer_config.json"):
        assert (tmp_path / "back" / name).read_bytes() == (folder / name).read_bytes(), name
    assert read_pretrained(tmp_path / "back").tokenizer.encode("é <s>").tolist() == list("é <s>".encode())


def test_an_imported_model_writes_text(gpt2, tmp_path, capsys):
    assert main(["import", str(gpt2), "--out", str(tmp_path / "out"), "--dtype", "float64"]) == 0
    assert gpt.load(tmp_path / "out").model.wte.weight.dtype == np.float64
    capsys.readouterr()
    assert main(["sample", str(tmp_path / "out"), "--max-new-tokens", "5", "--prompt", "ab"]) == 0
    assert capsys.readouterr().out.startswith("ab")
    assert main(["info", str(tmp_path / "out")]) == 0


def test_nothing_is_written_over(gpt2, tmp_path, capsys):
    assert main(["import", str(gpt2), "--out", str(tmp_path / "out")]) == 0
    before = (tmp_path / "out" / checkpoint.FILE).read_bytes(), (gpt2 / "model.safetensors").read_bytes()
    shard(shutil.copytree(gpt2, tmp_path / "sharded"))
    for source, out in ((gpt2, tmp_path / "out"), (gpt2, gpt2), (tmp_path / "sharded", tmp_path / "sharded")):
        assert main(["import", str(source), "--out", str(out)]) == 1
        assert re.search("holds (a model that gpt import has made|the model itself)", capsys.readouterr().err)
    assert not (tmp_path / "sharded" / "model.safetensors").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for out in ("mine", "gpt2", "mine/notes.txt"):
        assert main(["export", str(tmp_path / "out"), "--out", str(tmp_path / out)]) == 1
        assert "nothing is written over" in capsys.readouterr().err
    assert before == ((tmp_path / "out" / checkpoint.FILE).read_bytes(), (gpt2 / "model.safetensors").read_bytes())
    assert [f.name for f in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_an_export_that_fails_leaves_nothing(gpt2, tmp_path, capsys):
    assert main(["export", str(tmp_path / "nowhere"), "--out", str(tmp_path / "made")]) == 1
    error = capsys.readouterr().err
    assert "there are no weights" in error and "made" not in error
    assert sorted(f.name for f in tmp_path.iterdir()) == ["gpt2"]


def test_a_disk_that_is_full(gpt2, tmp_path, capsys, monkeypatch):
    assert main(["import", str(gpt2), "--out", str(tmp_path / "out")]) == 0

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pretrained, "write_tensors", full)
    assert main(["export", str(tmp_path / "out"), "--out", str(tmp_path / "made")]) == 1
    assert "made could not be written (No space left on device): make room" in capsys.readouterr().err
    assert sorted(f.name for f in tmp_path.iterdir()) == ["gpt2", "out"]


def test_an_empty_folder_may_be_filled(gpt2, tmp_path):
    assert main(["import", str(gpt2), "--out", str(tmp_path / "out")]) == 0
    (tmp_path / "made").mkdir()
    assert main(["export", str(tmp_path / "out"), "--out", str(tmp_path / "made")]) == 0
    assert (tmp_path / "made" / "model.safetensors").is_file()


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("keys, says", [
    ({"model_type": "mamba"}, "model_type is 'mamba', and the known ones are gpt2, llama, mistral, qwen2, qwen3: take"),
    ({"model_type": "gemma2"}, "'gemma2', which norms by 1 .*: take a model of one of these, such as Sm"),
    ({"model_type": "phi3"}, "'phi3', which joins"),
    ({"model_type": "gpt_neox"}, "'gpt_neox', which adds attention and MLP side by side"),
    ({"model_type": None}, "model_type is ''"),
    ({"model_type": 3}, "model_type is 3, and needs to be of type str"),
    ({"quantization_config": {"bits": 4}}, "quantized weights"),
    ({"auto_map": {"AutoModel": "x.y"}}, "code of its own"),
    ({"activation_function": "mish"}, "the activation 'mish', and it knows gelu_new, .*silu"),
    ({"scale_attn_weights": False}, "not scaled"),
    ({"scale_attn_by_inverse_layer_idx": True}, "by the layer's number"),
    ({"add_cross_attention": True}, "cross-attention"),
    ({"n_embd": None}, "n_embd is missing"),
    ({"n_embd": "8"}, "n_embd is '8', and needs to be of type int"),
    ({"n_embd": True}, "n_embd is True"),
    ({"n_layer": 10 ** 30}, "n_layer is 10.*usual size"),
    ({"n_layer": 10 ** 4}, "10,000 layers, and there are 28 tensors"),
    ({"n_embd": 10 ** 12}, "of another shape: wte.weight"),
    ({"n_head": 3}, "a multiple of n_head"),
    ({"n_head": 0}, "n_head is 0"),
    ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon is nan"),
    ({"layer_norm_epsilon": -1.0}, "norm_eps is -1.0, and needs to be at least 0"),
    ({"tie_word_embeddings": False}, "missing: lm_head.weight"),
    ({"n_layer": 3}, "missing: h.2.ln_1.weight, .* and 0 more|missing: h.2.ln_1.weight"),
    ({"n_layer": 1}, "unknown: h.1"),
    ({"n_inner": 31}, r"of another shape: h.0.mlp.c_fc.weight \[8, 32\] instead of \[8, 31\], h.0.mlp.c_fc.bias"),
])
def test_gpt2_configurations(gpt2, capsys, keys, says):
    change(gpt2, **keys)
    refused(capsys, gpt2, says)


@pytest.mark.parametrize("keys, says", [
    ({"attn_logit_softcapping": 30.0}, "may change what the model computes: 'attn_logit_softcapping': delete"),
    ({"residual_multiplier": 0.2, "logits_scaling": 8, "use_qk_norm": True}, "'logits_scaling', 'residual_multiplier'"),
    ({"embedding_multiplier": 12, "clip_qkv": 8.0}, "'clip_qkv', 'embedding_multiplier'"),
    ({"rope_interleaved": True}, "turn neighbouring dimensions"), ({"use_mrope": True}, "positions of several axes"),
    ({"model_type": "mistral", "max_position_embeddings": 4097},
     "a sliding window .* within it: with a max_position_embeddings that is no longer"),
    ({"model_type": "mistral", "sliding_window": 15}, "a sliding window"), ({"sliding_window": 15}, "a sliding window"),
    ({"head_dim": 8}, r"of another shape: .*q_proj.weight \[8, 8\] instead of \[16, 8\]"),
    ({"attention_bias": True}, "a bias in all of attention"),
    ({"mlp_bias": True}, "a bias in the MLP"),
    ({"partial_rotary_factor": 0.5}, "in a part of a head"),
    ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "in a part of a head"),
    ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, "scaled by 'yarn', and it knows linear and llama3"),
    ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "scaled by 'dynamic'"),
    ({"rope_scaling": {"rope_type": "linear"}}, "factor is missing"),
    ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "a factor of 0"),
    ({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "mscale": 3}}, "mscale in the scaling"),
    ({"rope_scaling": {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 4, "high_freq_factor": 1,
                       "original_max_position_embeddings": 8}}, "not below its high_freq_factor"),
    ({"rope_scaling": [1]}, "rope_scaling is .1., and needs to be of type dict"),
    ({"rope_theta": 0.5}, "rope_base is 0.5"),
    ({"hidden_act": "gelu_fast"}, "the activation 'gelu_fast'"),
    ({"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
     "a sliding window"),
    ({"model_type": "qwen2", "layer_types": ["full_attention", "sliding_attention"]}, "a sliding window"),
    ({"model_type": "qwen2", "num_key_value_heads": None}, "num_key_value_heads is missing"),
    ({"model_type": "qwen2"}, "missing: layers.0.self_attn.q_proj.bias"),
    ({"model_type": "qwen3", "head_dim": 4}, "missing: layers.0.self_attn.q_norm.weight"),
    ({"model_type": "qwen3"}, r"missing: .*q_norm.weight.*q_proj.weight \[8, 8\] instead of \[256, 8\]"),
    ({"num_key_value_heads": 2}, r"k_proj.weight \[4, 8\] instead of \[8, 8\]"),
    ({"attention_bias": True, "mlp_bias": True, "hidden_act": "x"}, "attention .*; a bias in the MLP .*; the act"),
])
def test_llama_configurations(llama, capsys, keys, says):
    change(llama, **keys)
    refused(capsys, llama, says)


def test_windows_that_are_not_in_use(tmp_path):
    folder = folder_of(tmp_path / "q", LLAMA | {"qkv_bias": True})
    for keys in ({"use_sliding_window": False, "sliding_window": 4, "max_window_layers": 1},
                 {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2},
                 {"layer_types": ["full_attention"] * 2}):
        change(folder, **keys)
        read_model(folder)


@pytest.mark.parametrize("keys", [{}, {"sliding_window": 16}, {"max_position_embeddings": 4096}])
def test_a_window_as_long_as_the_context_is_none(llama, keys):
    """The default of Mistral's files without the key is 4,096."""
    right = read_model(llama)[0]
    change(llama, model_type="mistral", **keys)
    assert np.array_equal(read_model(llama)[0](np.arange(16)[None]).data, right(np.arange(16)[None]).data)


def test_keys_that_are_not_used_are_told(gpt2, tmp_path, capsys):
    change(gpt2, summary_type="x", my_own_trick=True)
    refused(capsys, gpt2, "has keys that are not known here and may change .*: 'my_own_trick': delete those")
    change(gpt2, my_own_trick=None, temperature=0.6, _model_name_or_path="x", unk_token_id=0, unsloth_fixed=True,
           transformers_weights="y")
    assert main(["import", str(gpt2), "--out", str(tmp_path / "out")]) == 0
    assert "note    keys of config.json that are not used: temperature\n" in capsys.readouterr().out


def test_all_wrong_tensors_are_listed(gpt2, capsys):
    def wrong(tensors):
        del tensors["transformer.ln_f.bias"], tensors["transformer.h.1.ln_2.weight"]
        tensors |= {"score.weight": np.zeros(3), "transformer.h.0.attn.c_attn.weight": np.zeros((24, 8), np.float32),
                    "transformer.wpe.weight": np.zeros((16, 8), np.int8)}
    retensor(gpt2, wrong)
    refused(capsys, gpt2, r"missing: h.1.ln_2.weight, ln_f.bias; unknown: score.weight; of another shape: "
            r"h.0.attn.c_attn.weight \[24, 8\] instead of \[8, 24\]; of another type than .*: wpe.weight I8")


def test_hundreds_of_names_are_shortened(gpt2, capsys):
    retensor(gpt2, lambda tensors: tensors.update({f"extra.{i}": np.zeros(1) for i in range(400)}))
    assert len(refused(capsys, gpt2, "and 388 more")) < 1000


def test_names_without_their_prefix_and_buffers(gpt2, capsys):
    """As in GPT-2's first files; and a tied head, if it is there, has to be the embedding."""
    right = read_model(gpt2)[0].named_arrays()

    def older(tensors):
        for name in [*tensors]:
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        tensors |= {"h.0.attn.bias": np.tril(np.ones((1, 1, 16, 16), np.float32)), "h.1.attn.masked_bias": np.zeros(()),
                    "lm_head.weight": tensors["wte.weight"]}
    retensor(gpt2, older)
    for name, t in read_model(gpt2)[0].named_arrays().items():
        assert np.array_equal(t.data, right[name].data)
    retensor(gpt2, lambda tensors: tensors.update({"lm_head.weight": tensors["wte.weight"] + 1}))
    refused(capsys, gpt2, "lm_head.weight has other numbers than the embedding")
    retensor(gpt2, lambda tensors: tensors.update({"lm_head.weight": tensors["wte.weight"],
                                                   "transformer.wte.weight": tensors["wte.weight"]}))
    refused(capsys, gpt2, "unknown: transformer.wte.weight")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(llama, capsys, bad):
    def spoil(tensors):
        tensors["model.layers.1.self_attn.k_proj.weight"][3, 7] = bad
    retensor(llama, spoil)
    refused(capsys, llama, "layers.1.self_attn.k_proj.weight holds numbers that are NaN, infinite or too large")


def test_numbers_too_large_for_single_precision(gpt2, capsys):
    retensor(gpt2, lambda tensors: tensors.update({"transformer.ln_f.bias": np.full(8, 1e300)}))
    refused(capsys, gpt2, "ln_f.bias holds numbers .* too large for float32")
    assert read_model(gpt2, np.float64)[0].ln_f.bias.data[0] == 1e300


# ---------------------------------------------------------------------- files


def test_what_is_no_folder_of_a_model(gpt2, tmp_path, capsys):
    refused(capsys, tmp_path / "nowhere", "there is no such folder")
    refused(capsys, gpt2 / "config.json", "is a file, and no GGUF file: give the folder")
    refused(capsys, tmp_path / "model.bin", "a pickle, which can run any code")
    (gpt2 / "tokenizer.json").unlink()
    refused(capsys, gpt2, r"has no tokenizer.json: .*AutoTokenizer")
    (gpt2 / "config.json").rename(gpt2 / "other.json")
    refused(capsys, gpt2, "has no config.json")
    assert main(["import"]) == 1 and "give a model: gpt import FILE.gguf" in capsys.readouterr().err


def test_pickles_are_refused_unread(gpt2, capsys):
    (gpt2 / "model.safetensors").unlink()
    refused(capsys, gpt2, "has neither model.safetensors nor model.safetensors.index.json")
    (gpt2 / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    refused(capsys, gpt2, "_model.bin is no .safetensors file but a pickle, which can run any code .*save_pretrained")
    assert not Path("ran").exists()


def test_files_of_an_index(llama, capsys):
    right = read_model(llama)[0].named_arrays()
    index = shard(llama)
    for name, t in read_model(llama)[0].named_arrays().items():
        assert np.array_equal(t.data, right[name].data)
    file, first = llama / "model.safetensors.index.json", next(iter(index["weight_map"]))
    for evil, says in (("../gpt2/model.safetensors", "only those right within it"), ("/etc/x.safetensors", "within it"),
                       ("a\\b.safetensors", "within it"), ("x\0.safetensors", "within it"), ("", "within it"),
                       ("pytorch_model.bin", "a pickle"), ("gone.safetensors", "gone.safetensors is missing"),
                       ("model-1.safetensors", "its index does not place there"), (3, "no weight_map")):
        file.write_text(json.dumps({"weight_map": index["weight_map"] | {first: evil}}))
        refused(capsys, llama, says)
    file.write_text(json.dumps({"weight_map": index["weight_map"] | {"more": "model-0.safetensors"}}))
    refused(capsys, llama, "names tensors that its files do not hold: more")
    for text in ("[]", "{}", '{"weight_map": []}', "{", ""):
        file.write_text(text)
        refused(capsys, llama, "index.json")


def test_links_out_of_the_folder(llama, tmp_path, capsys):
    """A link out is refused, but for those of a download cache, into its blobs."""
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        folder = shutil.copytree(llama, tmp_path / name.partition(".")[0])
        (tmp_path / name).write_bytes((folder / name).read_bytes())
        (folder / name).unlink()
        (folder / name).symlink_to(tmp_path / name)
        refused(capsys, folder, f"{name} is a link that leads out of its folder")
    shard(llama)
    (llama / "model-0.safetensors").rename(tmp_path / "model-0.safetensors")
    (llama / "model-0.safetensors").symlink_to("../model-0.safetensors")
    refused(capsys, llama, "model-0.safetensors is a link")
    (llama / "model-0.safetensors").unlink()
    (llama / "model-0.safetensors").symlink_to("model-0.safetensors")
    refused(capsys, llama, "model-0.safetensors is missing")


def test_a_download_cache(gpt2, tmp_path):
    snapshot, blobs = tmp_path / "models--x" / "snapshots" / "abc", tmp_path / "models--x" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for i, file in enumerate(sorted(gpt2.iterdir())):
        shutil.copy(file, blobs / str(i))
        (snapshot / file.name).symlink_to(f"../../blobs/{i}")
    assert read_pretrained(snapshot).config.n_embd == 8


def test_damaged_weights(gpt2, capsys):
    file, whole = gpt2 / "model.safetensors", (gpt2 / "model.safetensors").read_bytes()
    for content in (b"", whole[:7], whole[:100], whole[:-1], whole + b"\0", b"\xff" * 100,
                    struct.pack("<Q", 2 ** 63) + whole[8:], struct.pack("<Q", 90_000_000) + b" " * 100,
                    struct.pack("<Q", 4) + b"null", struct.pack("<Q", 2) + b"{}"):
        file.write_bytes(content)
        refused(capsys, gpt2, "model.safetensors is no safetensors file, or damaged|missing: wte.weight|0 tensors")


def test_a_header_that_is_too_long_is_not_read(gpt2, capsys):
    n = 101 << 20
    (gpt2 / "model.safetensors").write_bytes(struct.pack("<Q", n) + b"{}".ljust(n))
    refused(capsys, gpt2, "its head is said to have 105,906,176 bytes")


def test_json_of_all_kinds(gpt2, capsys):
    for name in ("config.json", "tokenizer_config.json"):
        file, whole = gpt2 / name, (gpt2 / name).read_bytes()
        for content in (b"", whole[:-5], b"[]", b"\xff\xfe", b"[" * 200_000, b'{"a":' * 900 + b"1" + b"}" * 900,
                        b'{"n_layer": ' + b"9" * 10_000 + b"}", whole.rstrip()[:-1] + b" " * (40 << 20) + b"}"):
            file.write_bytes(content)
            assert len(refused(capsys, gpt2, f"{name} cannot be read")) < 600
        file.write_bytes(whole)


def test_templates_and_special_tokens_go_along(gpt2, tmp_path, capsys):
    settings = {"chat_template": [{"name": "tools", "template": "no"}, {"name": "default", "template": "{{ x }}"}],
                "eos_token": {"content": "</s>", "lstrip": False}, "bos_token": "<s>", "pad_token": None,
                "unk_token": 3}
    (gpt2 / "tokenizer_config.json").write_text(json.dumps(settings))
    change(gpt2, eos_token_id=[7, 8])
    assert main(["import", str(gpt2), "--out", str(tmp_path / "out")]) == 0
    about = gpt.load(tmp_path / "out").metadata
    assert about["chat_template"] == "{{ x }}" and about["special_tokens"] == {"bos_token": "<s>", "eos_token": "</s>"}
    assert main(["export", str(tmp_path / "out"), "--out", str(tmp_path / "back")]) == 0
    back = json.loads((tmp_path / "back" / "tokenizer_config.json").read_text())
    assert (back["chat_template"], back["eos_token"]) == ("{{ x }}", "</s>") and "unk_token" not in back
    assert json.loads((tmp_path / "back" / "config.json").read_text())["eos_token_id"] == [7, 8]
    (gpt2 / "chat_template.jinja").write_text("{{ own }}")
    assert read_model(gpt2)[1]["chat_template"] == "{{ own }}"
    (gpt2 / "chat_template.jinja").write_text("x" * (2 << 20))
    refused(capsys, gpt2, "a chat template of 1,048,577 characters")


def test_a_model_with_more_rows_than_tokens(tmp_path, capsys):
    folder = folder_of(tmp_path / "wide", GPT2, vocab_size=300)
    assert main(["import", str(folder), "--out", str(tmp_path / "out")]) == 0
    run = gpt.load(tmp_path / "out")
    assert run.tokenizer.vocab_size == 300 and run.tokenizer.decode(run.tokenizer.encode("<|no token 299|>")) == \
        "<|no token 299|>" and run.tokenizer.encode("<|no token 299|>").max() < 256
    assert main(["export", str(tmp_path / "out"), "--out", str(tmp_path / "back")]) == 0
    assert json.loads((tmp_path / "back" / "tokenizer.json").read_text())["added_tokens"] == []
    small = folder_of(tmp_path / "small", GPT2, vocab_size=200)
    refused(capsys, small, "small/tokenizer.json: the tokenizer has 256 tokens, and the model knows 200")


# ---------------------------------------------------------------------- memory, and what is written


@pytest.mark.parametrize("choices", [GPT2, LLAMA], ids=["gpt2", "llama"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_no_second_copy_in_memory(tmp_path, choices, dtype):
    """Beyond the model itself, reading and writing take a few times the largest tensor at most."""
    config = GPTConfig(vocab_size=256, block_size=64, n_layer=12, n_head=2, n_embd=128, **choices)
    run = Checkpoint(GPT(config), ByteTokenizer())
    size = sum(a.size for a in run.model.named_arrays().values()) * 4
    largest = max(a.size for a in run.model.named_arrays().values()) * 4
    tracemalloc.start()
    write_pretrained(tmp_path, run)
    written = tracemalloc.get_traced_memory()[1]
    retensor(tmp_path, lambda tensors: tensors.update({k: a.astype(dtype) for k, a in tensors.items()}))
    tracemalloc.stop()
    tracemalloc.start()
    model = read_model(tmp_path)[0]
    read = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert model.config == config or config.n_hidden is None
    assert written < 3 * largest + 1_000_000 < size and read < size + 3 * largest + 1_000_000 < 2 * size


@pytest.mark.parametrize("choices", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_half_precision_stays(tmp_path, capsys, choices):
    """Also of GPT-2, whose matrices are the other way round in the file."""
    folder = folder_of(tmp_path / "theirs", choices)
    retensor(folder, lambda tensors: tensors.update({k: a.astype(np.float16) for k, a in tensors.items()}))
    assert main(["import", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert "kept in F16 and float32" in capsys.readouterr().out
    packed, wide = gpt.load(tmp_path / "out", packed=True).model, read_model(folder)[0]
    for (name, a), b in zip(packed.named_arrays().items(), wide.named_arrays().values()):
        assert np.array_equal(np.asarray(raw(a)), b.data), name
        assert isinstance(a, ag.Packed) == (b.ndim == 2)
        assert not isinstance(a, ag.Packed) or a.transposed == (name not in ("wte.weight", "wpe.weight"))
    assert main(["export", str(tmp_path / "out"), "--out", str(tmp_path / "back")]) == 0
    again = read_model(tmp_path / "back")[0]
    assert all(np.array_equal(a.data, b.data) for a, b in zip(again.named_arrays().values(),
                                                              wide.named_arrays().values()))


FAST = dict(norm="rms_norm", norm_gain=False, norm_embedding=True, positions="rotary", qk_norm=True, tied=False,
            activation="squared_relu", convolution=3, smear=True)


@pytest.mark.parametrize("choices, says", [
    (FAST, "norm-embedding True, convolution 3, smear True"),
    ({"positions": "rotary"}, "gpt2, which has no counterpart for positions rotary"),
    ({"gated": True, "n_kv_head": 1}, "gpt2, which has no counterpart for n-kv-head 1, gated True"),
    ({"norm": "rms_norm", "positions": "rotary", "gated": True, "bias": True}, "llama, which .* for bias True"),
])
def test_models_that_have_no_counterpart(tmp_path, capsys, choices, says):
    config = GPTConfig(vocab_size=256, block_size=16, n_layer=1, n_head=2, n_embd=8, **choices)
    gpt.save(tmp_path / "model.safetensors", GPT(config), ByteTokenizer())
    assert main(["export", str(tmp_path), "--out", str(tmp_path / "made")]) == 1
    error = capsys.readouterr().err
    assert re.search(says + ".*: one that gpt train makes with --recipe nanogpt can be exported", error)
    assert error.count("\n") == 1
    assert [f.name for f in tmp_path.iterdir()] == ["model.safetensors"]


def test_scaled_positions_are_kept(tmp_path):
    rope = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    folder = folder_of(tmp_path / "plain", LLAMA)
    change(folder, rope_scaling={"type": "linear", "factor": 4.0})
    run = read_pretrained(folder)
    assert np.array_equal(run.model.frequencies.data, rope_frequencies(4, rope).astype(np.float32))
    (tmp_path / "back").mkdir()
    write_pretrained(tmp_path / "back", run)
    written = json.loads((tmp_path / "back" / "config.json").read_text())
    assert written["rope_scaling"] == {"rope_type": "linear", "factor": 4.0} and written["rope_theta"] == 10000.0
    run.metadata["pretrained"].pop("rope")
    with pytest.raises(ValueError, match="turn by other angles than its settings say"):
        write_pretrained(tmp_path / "back", run)


def test_llama3_leaves_fast_pairs_and_slows_slow_ones():
    rope = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    plain = rope_frequencies(32, rope | {"rope_type": "default"})
    scaled = rope_frequencies(32, rope)
    wavelength = 2 * np.pi / plain
    assert np.array_equal(scaled[wavelength < 16], plain[wavelength < 16]) and (wavelength < 16).sum() > 1
    np.testing.assert_allclose(scaled[wavelength > 64], plain[wavelength > 64] / 8, rtol=1e-14)
    between = (wavelength > 16) & (wavelength < 64)
    assert between.any() and ((scaled < plain) & (scaled > plain / 8))[between].all()


def test_a_tokenizer_without_counterpart_is_told(tmp_path):
    class Mine:
        vocab_size = 3

    said = write_pretrained(tmp_path, Checkpoint(GPT(GPTConfig(vocab_size=3, n_embd=8, n_layer=1)), Mine()))
    assert "without its tokenizer (Mine has no counterpart" in said
    assert sorted(f.name for f in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_arrays_that_have_no_counterpart(tmp_path):
    model = GPT(GPTConfig(vocab_size=3, n_embd=8, n_layer=1))
    model.h[0].mlp = gpt.MLP(None, model.h[0].mlp.c_fc, model.h[0].mlp.c_fc, model.h[0].mlp.c_proj, "gelu")
    model.h[0].mlp.c_gate = gpt.Linear(model.h[0].mlp.c_fc.weight.detach(), None)
    with pytest.raises(ValueError, match="transformers has nothing like: h.0.mlp.c_gate.weight"):
        write_pretrained(tmp_path, Checkpoint(model, None))


def test_written_files_are_as_others_write_them(gpt2):
    with safe_open(gpt2 / "model.safetensors", "np") as opened:
        assert opened.metadata() == {"format": "pt"} and len(opened.keys()) == 28
    assert (struct.unpack("<Q", (gpt2 / "model.safetensors").read_bytes()[:8])[0] + 8) % 8 == 0
