"""Models of Hugging Face's transformers, here and back: the same logits, text, loss and gradients."""

import json

import numpy as np
import pytest

import gpt
from gpt import GPT, Checkpoint, GPTConfig
from gpt.chat.conversation import Message
from gpt.chat.turns import TurnTokenizer, template_of
from gpt.cli import main
from gpt.data.tokenizers.bpe import BPETokenizer
from gpt.data.tokenizers.byte import ByteTokenizer
from gpt.data.tokenizers.char import CharTokenizer
from gpt.data.tokenizers.word import WordTokenizer
from gpt.pretrained.convert import read_model, write_pretrained
from gpt.pretrained.layout import to_hf_arrays

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

V = 97
GPT2 = dict(vocab_size=V, n_positions=96, n_embd=24, n_layer=3, n_head=4, bos_token_id=None, eos_token_id=None)
LLAMA = dict(vocab_size=V, hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=6,
             max_position_embeddings=96, bos_token_id=None, eos_token_id=None)
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
VARIANTS = {
    "gpt2": ("GPT2", GPT2),
    "gpt2 untied, exact gelu": ("GPT2", GPT2 | {"tie_word_embeddings": False, "activation_function": "gelu",
                                                "n_inner": 40, "layer_norm_epsilon": 1e-3}),
    "gpt2 relu2": ("GPT2", GPT2 | {"activation_function": "relu2"}),
    "llama": ("Llama", LLAMA),
    "llama grouped, tied": ("Llama", LLAMA | {"num_key_value_heads": 2, "tie_word_embeddings": True,
                                              "rms_norm_eps": 1e-3}),
    "llama linear": ("Llama", LLAMA | {"rope_parameters": {"rope_type": "linear", "factor": 4.0,
                                                           "rope_theta": 700.0}}),
    "llama 3": ("Llama", LLAMA | {"rope_parameters": LLAMA3, "num_key_value_heads": 3}),
    "mistral": ("Mistral", LLAMA | {"num_key_value_heads": 2, "sliding_window": None}),
    "qwen2": ("Qwen2", LLAMA | {"num_key_value_heads": 2}),
    "qwen3": ("Qwen3", LLAMA | {"num_key_value_heads": 2, "head_dim": 4}),
    "qwen3 0.6B's heads": ("Qwen3", LLAMA | {"num_key_value_heads": 2, "head_dim": 8}),
    "mistral nemo's heads": ("Mistral", LLAMA | {"num_key_value_heads": 2, "head_dim": 2, "sliding_window": None}),
    "qwen2 tied": ("Qwen2", LLAMA | {"num_key_value_heads": 1, "tie_word_embeddings": True}),
}


@pytest.fixture(autouse=True)
def one_thread():
    """Models this small are slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def double(monkeypatch):
    """transformers computes Llama's norms and the angles of positions in float32, in a float64 model, too.  To compare
    in double precision, what it asks for as float32 is float64 within the test; its formulas stay."""
    def use():
        monkeypatch.setattr(torch, "float", torch.float64)
        monkeypatch.setattr(torch, "float32", torch.float64)
    return use


def reference(name, dtype):
    """A model of transformers with weights far from their start, so that everything matters."""
    family, settings = VARIANTS[name]
    config = getattr(transformers, f"{family}Config")(**settings)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval().to(dtype)
    rng = np.random.default_rng(100 + len(name))
    with torch.no_grad():
        for p in model.parameters():
            p += torch.tensor(0.3 * rng.standard_normal(p.shape)).to(p.dtype)
    return model


def saved(model, folder, **how):
    model.save_pretrained(folder, **how)
    return folder


def batch(T=40):
    return np.random.default_rng(0).integers(V, size=(2, T))


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor(ids)).logits.numpy()


def close(a, b, to):
    return np.abs(a - b).max() <= to * np.abs(b).max()


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_in_single_precision(name, tmp_path):
    theirs = reference(name, torch.float32)
    model, _, unread = read_model(saved(theirs, tmp_path))
    assert close(model(batch()).data, logits_of(theirs, batch()), 1e-4) and model.wte.weight.dtype == np.float32
    assert not unread


@pytest.mark.parametrize("name", VARIANTS)
def test_everything_in_double_precision(name, tmp_path, double):
    """Logits to 1e-9, every gradient of the loss to 1e-9, and the 64 likeliest tokens after a prompt."""
    double()
    theirs, ids = reference(name, torch.float64), batch()
    model, about, _ = read_model(saved(theirs, tmp_path), np.float64)
    assert close(model(ids).data, logits_of(theirs, ids), 1e-9)

    loss = model.loss(ids[:, :-1], ids[:, 1:])
    loss.backward()
    out = theirs(torch.tensor(ids)).logits[:, :-1]
    peer = torch.nn.functional.cross_entropy(out.reshape(-1, V), torch.tensor(ids[:, 1:].reshape(-1)))
    peer.backward()
    assert loss.item() == pytest.approx(peer.item(), rel=1e-11)
    ours = to_hf_arrays(about["pretrained"]["model_type"], model.map(lambda t: t.grad if t.requires_grad else t.data))
    compared = dict(theirs.named_parameters())
    assert ours.keys() == compared.keys()
    for key, p in compared.items():
        assert close(ours[key], p.grad.numpy(), 1e-9) or np.abs(p.grad.numpy()).max() < 1e-12, key

    prompt = ids[0, :5]
    written = list(gpt.generate(model, prompt, 64, np.random.default_rng(0), greedy=True))
    told = theirs.generate(torch.tensor(prompt[None]), do_sample=False, max_new_tokens=64, pad_token_id=0,
                           attention_mask=torch.ones(1, 5, dtype=torch.long))
    assert written == told[0, 5:].tolist() and len(set(written)) > 3


@pytest.mark.parametrize("name", ["gpt2", "llama grouped, tied", "qwen2"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_widened_exactly(name, dtype, tmp_path):
    theirs = reference(name, getattr(torch, dtype))
    model, about, _ = read_model(saved(theirs, tmp_path))
    held = to_hf_arrays(about["pretrained"]["model_type"], model)
    for key, p in theirs.named_parameters():
        assert held[key].dtype == np.float32 and np.array_equal(held[key], p.detach().float().numpy()), key


@pytest.mark.parametrize("name", ["gpt2", "llama grouped, tied", "qwen2"])
def test_several_files(name, tmp_path):
    theirs = reference(name, torch.float32)
    model, _, _ = read_model(saved(theirs, tmp_path / "one"))
    parts, _, _ = read_model(saved(theirs, tmp_path / "parts", max_shard_size="10KB"))
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 2
    for key, t in model.named_arrays().items():
        assert np.array_equal(t.data, parts.named_arrays()[key].data), key


@pytest.mark.parametrize("name", VARIANTS)
def test_there_and_back(name, tmp_path):
    """Files written after reading hold the same numbers, and transformers reads the same model from them."""
    theirs = reference(name, torch.float32)
    model, about, _ = read_model(saved(theirs, tmp_path))
    (tmp_path / "back").mkdir()
    write_pretrained(tmp_path / "back", Checkpoint(model, None, about))
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "back")
    assert type(again) is type(theirs) and np.array_equal(logits_of(again, batch()), logits_of(theirs, batch()))
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}


OURS = [{}, {"bias": True, "n_hidden": 20}, {"positions": "sinusoidal", "activation": "relu"},
        {"norm_gain": False, "qkv_bias": True, "tied": False}, {"activation": "squared_relu", "n_kv_head": 4},
        {"norm": "rms_norm", "positions": "rotary", "gated": True, "rope_base": 1000.0, "norm_gain": False},
        {"norm": "rms_norm", "positions": "rotary", "gated": True, "activation": "silu", "n_kv_head": 2,
         "tied": False, "qkv_bias": True}]


@pytest.mark.parametrize("choices", OURS, ids=str)
def test_a_model_of_our_own_in_transformers(choices, tmp_path):
    config = GPTConfig(vocab_size=V, block_size=48, n_layer=2, n_head=4, n_embd=16, **choices)
    model, rng = GPT(config, dtype=np.float64), np.random.default_rng(1)
    for t in model.named_arrays().values():
        t.data = t.data + 0.2 * rng.standard_normal(t.shape) * t.requires_grad
    write_pretrained(tmp_path, Checkpoint(model, None))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64)
    # Norms and angles of Llama's kind are single precision there: see `double`.
    to = 1e-5 if config.norm == "rms_norm" else 1e-9
    assert close(model(batch()).data, logits_of(theirs, batch()), to)
    again, _, unread = read_model(tmp_path, np.float64)
    assert close(again(batch()).data, model(batch()).data, 1e-12) and not unread


@pytest.mark.parametrize("tokenizer", [CharTokenizer("the cat sat\n<s>. é🙂"), ByteTokenizer(),
                                       WordTokenizer.learn("the cat sat on the hat;\n  a cat é🙂<s> हिन्दी ½ x_1. ½ x_1")
                                       ],
                         ids=["char", "byte", "word"])
def test_tokenizers_of_our_own_in_transformers(tokenizer, tmp_path):
    pytest.importorskip("tokenizers")
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, block_size=8, n_layer=1, n_head=1, n_embd=4))
    write_pretrained(tmp_path, Checkpoint(model, tokenizer))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("the cat sat", "é🙂<s>\n\n the  s.", " a ", *["हिन्दी½ x_1 hat. cats ½"] * hasattr(tokenizer, "WORD")):
        ids = theirs(text)["input_ids"]
        assert ids == tokenizer.encode(text).tolist() and theirs.decode(ids) == text
    assert len(theirs) == tokenizer.vocab_size


def test_a_tokenizer_of_theirs_here_and_back(tmp_path):
    """With its special tokens and chat template, for a model that has more rows than the tokenizer tokens."""
    of = pytest.importorskip("tokenizers")
    rust = of.Tokenizer(of.models.BPE())
    rust.pre_tokenizer, rust.decoder = of.pre_tokenizers.ByteLevel(add_prefix_space=False), of.decoders.ByteLevel()
    trainer = of.trainers.BpeTrainer(vocab_size=300, special_tokens=["<|im_start|>", "<|im_end|>"], show_progress=False,
                                     initial_alphabet=of.pre_tokenizers.ByteLevel.alphabet())
    rust.train_from_iterator(["the cat sat on the mat, and the dog sat by the cat.\n"] * 9, trainer)
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=rust, eos_token="<|im_end|>")
    theirs.chat_template = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
    theirs.save_pretrained(tmp_path / "theirs")
    n = len(theirs)
    config = transformers.LlamaConfig(**LLAMA | {"vocab_size": n + 9, "eos_token_id": 1})
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "theirs")

    assert main(["import", str(tmp_path / "theirs"), "--out", str(tmp_path / "out")]) == 0
    run = gpt.load(tmp_path / "out")
    for text in ("the cat sat on the mat é🙂\n", " and  the\tdog"):
        assert run.tokenizer.encode(text).tolist() == theirs(text)["input_ids"]
    assert run.tokenizer.encode("<|im_end|>", special=True).tolist() == [1]
    assert len(run.tokenizer.encode("<|im_end|>")) > 1
    assert run.metadata["chat_template"] == theirs.chat_template
    assert run.metadata["special_tokens"] == {"eos_token": "<|im_end|>"}
    assert run.metadata["pretrained"]["eos_token_id"] == 1

    assert main(["export", str(tmp_path / "out"), "--out", str(tmp_path / "back")]) == 0
    back = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
    chat = [{"role": "user", "content": "the cat"}]
    assert len(back) == n and back.eos_token == "<|im_end|>"
    assert back("a cat")["input_ids"] == theirs("a cat")["input_ids"]
    assert back.apply_chat_template(chat)["input_ids"] == theirs.apply_chat_template(chat)["input_ids"]
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "back")
    assert again.config.eos_token_id == 1 and again.get_input_embeddings().weight.shape[0] == n + 9


def test_older_configurations(tmp_path):
    """rope_theta and rope_scaling with `type`, torch_dtype, and no keys that are as usual."""
    theirs = reference("llama linear", torch.float32)
    values = json.loads((saved(theirs, tmp_path) / "config.json").read_text())
    rope = values.pop("rope_parameters")
    values |= {"rope_theta": rope["rope_theta"], "rope_scaling": {"type": "linear", "factor": 4.0},
               "torch_dtype": values.pop("dtype")}
    for usual in ("head_dim", "attention_bias", "mlp_bias", "num_key_value_heads", "hidden_act"):
        values.pop(usual)
    (tmp_path / "config.json").write_text(json.dumps(values))
    model, about, _ = read_model(tmp_path)
    assert close(model(batch()).data, logits_of(theirs, batch()), 1e-4)
    assert about["pretrained"]["rope"] == {"rope_type": "linear", "rope_theta": 700.0, "factor": 4.0}


# ---------------------------------------------------------------------- models of one's own, tuned


@pytest.mark.parametrize("make", [lambda: CharTokenizer("the cats do.\n"), ByteTokenizer,
                                  lambda: BPETokenizer.learn("the cats do. " * 20, 262),
                                  lambda: WordTokenizer.learn("the cats do.\n the does")],
                         ids=["char", "byte", "bpe", "word"])
def test_a_tuned_model_takes_its_tokenizer_and_its_form_of_turns_along(tmp_path, make):
    pytest.importorskip("tokenizers")
    tokenizer = TurnTokenizer(make())
    config = GPTConfig(vocab_size=tokenizer.vocab_size, block_size=64, n_layer=1, n_head=2, n_embd=8)
    run = Checkpoint(GPT(config, seed=1), tokenizer)
    gpt.save(tmp_path / "model.safetensors", run.model, tokenizer)
    assert main(["export", str(tmp_path), "--out", str(tmp_path / "made")]) == 0
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "made")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "made")
    said = [("system", "do the\ncats"), ("user", "the cat"), ("assistant", "does."), ("user", "cats do")]
    ours = template_of(run).tokens([Message(role, text) for role, text in said])
    ids = theirs.apply_chat_template([{"role": role, "content": text} for role, text in said],
                                     add_generation_prompt=True, return_dict=False)
    assert list(ids) == ours and theirs.decode(ids) == tokenizer.decode(ours)
    assert theirs.eos_token_id == model.generation_config.eos_token_id == tokenizer.end
    with torch.no_grad():
        np.testing.assert_allclose(model(torch.tensor([ours])).logits[0].numpy(),
                                   run.model(np.array([ours])).data[0], atol=1e-5)
    pytest.importorskip("jinja2")
    assert main(["import", str(tmp_path / "made"), "--out", str(tmp_path / "back")]) == 0
    back = gpt.load(tmp_path / "back")
    template = template_of(back)
    assert template.tokens([Message(role, text) for role, text in said]) == ours and template.ends == {tokenizer.end}
