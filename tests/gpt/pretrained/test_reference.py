"""Generation beside transformers: the same ids of prompts and chats, the same text, the same stopping place."""

import json

import numpy as np
import pytest

import gpt
from gpt import generate
from gpt.chat.chat import Chat
from gpt.chat.conversation import Message
from gpt.cli import main
from gpt.generation.generate import encode_start
from gpt.generation.sampling import Sampling
from gpt.pretrained.convert import read_model, write_pretrained
from gpt.pretrained.tokenizer import read_tokenizer
from tests.tokenizer_files import built, gpt2_style, llama2_style, llama3_style, unigram_style, wordpiece_style

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

N = 40  # new tokens at most
SHAPE = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=256)
PLAIN = """{% for m in messages %}[{{ m.role }}] {{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}
{%- endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"""
CHATML = """{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}
{%- if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}
{%- else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
LLAMA2 = """{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]
{%- else %} {% generation %}{{ m.content }} {{ eos_token }}{% endgeneration %}{% endif %}{% endfor %}"""
LLAMA3 = """{{ bos_token }}{% for m in messages %}
{{- '<|start|>' + m.role + '<|end|>\n\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|start|>assistant<|end|>\n\n' }}{% endif %}"""


def begun(made, *names, last=()):
    """A tokenizer.json that begins a text with a token, and ends it with others."""
    numbers = {token["content"]: token["id"] for token in made["added_tokens"]}
    single = [*({"SpecialToken": {"id": n, "type_id": 0}} for n in names), {"Sequence": {"id": "A", "type_id": 0}},
              *({"SpecialToken": {"id": n, "type_id": 0}} for n in last)]
    return made | {"post_processor": {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": {
        n: {"id": n, "ids": [numbers[n]], "tokens": [n]} for n in (*names, *last)}}}


def added(made, **numbers):
    """A tokenizer.json with more special tokens, by their numbers."""
    return made | {"added_tokens": [*made["added_tokens"], *(made["added_tokens"][0] | {"id": i, "content": name}
                                                             for name, i in numbers.items())]}


def qwen2_style():
    of = gpt.data.tokenizers.tokenizer_file.library()
    pre = of.pre_tokenizers.Sequence([of.pre_tokenizers.Split(of.Regex(gpt.pretrained.tokenizer.QWEN2), "isolated"),
                                      of.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return built("BPE", pre, of.decoders.ByteLevel(), of.normalizers.NFC(), vocab_size=320,
                 special=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
                 initial_alphabet=of.pre_tokenizers.ByteLevel.alphabet())


def gpt4o_style():
    """Numbers with holes between the vocabulary's words and special tokens, and among these."""
    made = gpt2_style()
    numbers = {"<|a|>": len(made["model"]["vocab"]) + 2, "<|end|>": len(made["model"]["vocab"]) + 19}
    made["model"]["vocab"] |= numbers
    return added(made, **numbers)


# name: tokenizer.json, tokenizer_config.json's words, chat template, and the family of the model
KINDS = {
    "GPT-2, byte-level BPE": (gpt2_style, dict(eos_token="<|endoftext|>"), PLAIN, "GPT2"),
    "Llama 2, BPE with bytes to fall back on": (lambda: begun(llama2_style(), "<s>"),
                                                dict(bos_token="<s>", eos_token="</s>"), LLAMA2, "Llama"),
    "Llama 2, no start token in its template": (llama2_style, dict(bos_token="<s>", eos_token="</s>",
                                                                      add_bos_token=True), LLAMA2, "Mistral"),
    "Llama 3, several ends": (lambda: added(llama3_style(), **{"<|start|>": 320, "<|end|>": 321}),
                              dict(bos_token="<|begin_of_text|>", eos_token="<|eot_id|>"), LLAMA3, "Llama"),
    "Qwen2, NFC and ChatML": (qwen2_style, dict(eos_token="<|im_end|>"), CHATML, "Qwen2"),
    "Gemma, Unigram": (lambda: begun(unigram_style(), "<s>"), dict(bos_token="<s>", eos_token="<unk>"), PLAIN, "Llama"),
    "T5, Unigram with an end": (lambda: begun(unigram_style(), last=["<s>"]), dict(eos_token="<s>"), PLAIN, "Llama"),
    "BERT, WordPiece": (lambda: begun(wordpiece_style(), "[CLS]", last=["[SEP]"]), dict(eos_token="[SEP]"), PLAIN,
                        "GPT2"),
    "GPT-4o, numbers with holes": (gpt4o_style, dict(eos_token="<|end|>"), PLAIN, "Llama"),
}
PROMPTS = ["the cat", "The dog's naïve 日本 🙂 mat,\n\n  and", " e\u0301 x", ""]
TALK = [dict(role="user", content="the cat?"), dict(role="assistant", content="sat."),
        dict(role="user", content="on  the\nmat e\u0301")]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Models this small are slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=KINDS)
def sides(request, tmp_path_factory):
    """Their tokenizer, their model, and ours, imported by the command; both stop at tokens that they write."""
    make, words, template, family = KINDS[request.param]
    folder = tmp_path_factory.mktemp("model")
    (folder / "tokenizer.json").write_text(json.dumps(make()))
    words = words | {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    size = max(tokenizer.get_vocab().values()) + 4  # rows without a token
    shape = SHAPE if family != "GPT2" else dict(n_embd=32, n_layer=2, n_head=4, n_positions=256)
    extra = {"sliding_window": None} if family == "Mistral" else {}
    config = getattr(transformers, f"{family}Config")(**shape, **extra, vocab_size=size, bos_token_id=None,
                                                      eos_token_id=None)
    torch.manual_seed(len(request.param))
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.4 * torch.randn(p.shape)
        # A run of bytes that is no UTF-8 shows otherwise as it comes than as a whole, also in transformers' streams.
        bytes_ = [i for name, i in tokenizer.get_vocab().items() if name.startswith("<0x")]
        model.lm_head.weight[bytes_] = 0
    free = [written(model, tokenizer(prompt)["input_ids"]) for prompt in PROMPTS[:3]]
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *(ids[len(ids) // 2 + i]
                                                                      for i, ids in enumerate(free))]
    model.save_pretrained(folder)
    assert main(["import", str(folder), "--out", str(folder / "ours")]) == 0
    return tokenizer, model, gpt.load(folder / "ours"), folder / "ours"


def written(model, ids):
    """The tokens that transformers' model writes, without the one that ends them."""
    with torch.no_grad():
        found = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=N, pad_token_id=0,
                               attention_mask=torch.ones(1, len(ids), dtype=torch.long))[0, len(ids):].tolist()
    ends = model.generation_config.eos_token_id or []
    return found[:-1] if found[-1] in ends else found


@pytest.mark.parametrize("prompt", PROMPTS)
def test_sample_writes_the_same(sides, prompt, capsys):
    tokenizer, model, run, folder = sides
    ids = tokenizer(prompt)["input_ids"]
    assert encode_start(run, prompt).tolist() == ids or not ids
    ids = ids or encode_start(run, "").tolist()
    theirs = written(model, ids)
    ours = list(generate(run.model, np.array(ids), len(theirs), np.random.default_rng(0), greedy=True))
    assert ours == theirs and not set(ours) & set(run.ends)
    assert main(["sample", str(folder), "--prompt", prompt, "--greedy", "--max-new-tokens", str(N)]) == 0
    before, after = (tokenizer.decode(tokens, clean_up_tokenization_spaces=False) for tokens in (ids, ids + theirs))
    assert capsys.readouterr().out == prompt + after[len(before):] + "\n"


def test_some_text_ends_early(sides):
    tokenizer, model, run, _ = sides
    lengths = [len(written(model, tokenizer(prompt)["input_ids"])) for prompt in PROMPTS[:3]]
    assert min(lengths) < N and len(run.ends) >= 2


def test_special_tokens_in_a_prompt_are_these(sides):
    tokenizer, _, run, _ = sides
    prompt = f"the{tokenizer.eos_token} cat"
    assert encode_start(run, prompt).tolist() == tokenizer(prompt)["input_ids"]


def test_chat_writes_the_same(sides):
    tokenizer, model, run, _ = sides
    ids = tokenizer.apply_chat_template(TALK, add_generation_prompt=True, return_dict=False)
    chat = Chat(run, Sampling(greedy=True), N)
    assert chat.template.tokens([Message(m["role"], m["content"]) for m in TALK]) == list(ids)
    chat.turns = [(Message(m["role"], m["content"]), None) for m in TALK[:2]]
    answer = "".join(chat.ask(TALK[2]["content"]))
    assert chat.template.ends <= set(run.ends)
    theirs = written(model, list(ids))
    before, after = (tokenizer.decode(tokens, clean_up_tokenization_spaces=False) for tokens in (ids, [*ids, *theirs]))
    assert chat.turns[-1][1] == theirs and answer == after[len(before):]


def test_chat_of_a_model_without_a_template_begins_as_a_text(sides):
    """Each line goes on from what came before it; names of special tokens in it are text."""
    tokenizer, _, run, _ = sides
    chat = Chat(gpt.Checkpoint(run.model, run.tokenizer, {}), Sampling(greedy=True), 3)
    for text in ("e\u0301 cat", " e\u0301 the"):
        before, ids = chat.read, tokenizer(text, add_special_tokens=not chat.read)["input_ids"]
        list(chat.ask(text))
        assert chat.read[:len(before) + len(ids)] == [*before, *ids]


@pytest.mark.parametrize("kind", ["llama", "mistral", "gpt2", "qwen2"])
@pytest.mark.parametrize("ids, drawing", [({}, None), ({"eos_token_id": 7}, None), ({"eos_token_id": None}, None),
                                          ({"eos_token_id": 7}, {"eos_token_id": [5, 3]}),
                                          ({"eos_token_id": 7}, {}), ({}, {"eos_token_id": 4})], ids=str)
def test_the_ends_are_those_of_transformers(kind, ids, drawing, tmp_path):
    """Of generation_config.json alone, if there is one, or else of config.json, or else of the model's class."""
    shape = SHAPE if kind != "gpt2" else dict(n_embd=32, n_layer=2, n_head=4, n_positions=256)
    config = transformers.AutoConfig.for_model(kind, **shape, vocab_size=9)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    values = {"model_type": kind, **shape, "vocab_size": 9, "sliding_window": None, **ids}
    (tmp_path / "config.json").write_text(json.dumps(values if kind != "gpt2" else
                                                     {k: v for k, v in values.items() if k != "sliding_window"}))
    (tmp_path / "generation_config.json").unlink()
    if drawing is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(drawing))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).generation_config.eos_token_id
    model, about, _ = read_model(tmp_path)
    assert about["pretrained"].get("eos_token_id") == theirs
    theirs = theirs if isinstance(theirs, list) else [theirs]
    run = gpt.Checkpoint(model, None, about)
    assert run.ends == [i for i in theirs if i is not None and i < 9]
    (tmp_path / "made").mkdir()
    write_pretrained(tmp_path / "made", run)
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "made").generation_config.eos_token_id
    assert (back if isinstance(back, list) else [back] * (back is not None)) == run.ends


# ---------------------------------------------------------------------- a tokenizer in several files


@pytest.mark.parametrize("family, extra", [("gpt2", {}), ("gpt2", {"added_tokens.json": {"<|a|>": 320, "the n": 321}}),
                                           ("gpt2", {"tokenizer_config.json": {"add_bos_token": True}}),
                                           ("gpt2", {"special_tokens_map.json": {"eos_token": {"content": "!"}}}),
                                           ("qwen2", {"tokenizer_config.json": {"tokenizer_class": "Qwen2Tokenizer"}}),
                                           ("qwen3", {"tokenizer_config.json": {"tokenizer_class": "Qwen2Tokenizer"}}),
                                           ("qwen3", {})],
                         ids=str)
def test_a_vocabulary_and_its_merges(family, extra, tmp_path):
    """vocab.json and merges.txt, as GPT-2 came, are read as transformers reads them."""
    made = (gpt2_style if family == "gpt2" else qwen2_style)()["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(made["vocab"]))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, made["merges"])) + "\n")
    config = getattr(transformers, {"gpt2": "GPT2Config", "qwen2": "Qwen2Config", "qwen3": "Qwen3Config"}[family])
    (tmp_path / "config.json").write_text(json.dumps(config().to_dict()))
    for name, content in extra.items():
        (tmp_path / name).write_text(json.dumps(content))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = read_tokenizer(tmp_path, 330)
    assert ours.vocab_size == 330
    for text in (*PROMPTS, "the né<|a|><|endoftext|> 1234 don't  \n\n x", "the cat!! the<|im_end|>"):
        ids = theirs(text)["input_ids"]
        assert ours.encode_prompt(text).tolist() == ids and ours.decode(ids) == theirs.decode(ids), text


def test_a_vocabulary_of_another_family_is_refused(tmp_path):
    for name, content in (("vocab.json", "{}"), ("merges.txt", ""), ("config.json", '{"model_type": "llama"}')):
        (tmp_path / name).write_text(content)
    with pytest.raises(FileNotFoundError, match="has no tokenizer.json: download it, too, or make it of the other"):
        read_tokenizer(tmp_path, 9)
