"""Small tokenizer.json files in the style of known models, made by the library's own trainers."""

import json

from gpt.data.tokenizers import tokenizer_file

TEXT = ("The cat sat on the mat, and the dog sat by the cat.\nIt's 12 o'clock; naïve – 日本語 🙂!\n\n"
        "    def f(x):\n\treturn x  # twice\n") * 20
TEXTS = ["the cat", " the", "The 日本 🙂 x", "a\n\n\nb  \n c\t ", "\0\x1c!\x1d a\x1c\x1c", "e\u0301 \u3000x",
         "<|endoftext|>", "<s>", "\ufffd", "▁ ▁▁", "Ġ", "", "<0x41>"]


def built(kind, pre=None, decoder=None, normalizer=None, special=(), text=(TEXT,), **options):
    """The object of a tokenizer.json that the library's own trainers made of TEXT."""
    of = tokenizer_file.library()
    rust = of.Tokenizer(getattr(of.models, kind)(**options.pop("model", {})))
    for name, part in (("pre_tokenizer", pre), ("decoder", decoder), ("normalizer", normalizer)):
        if part is not None:
            setattr(rust, name, part)
    trainer = {"BPE": "BpeTrainer", "Unigram": "UnigramTrainer", "WordPiece": "WordPieceTrainer",
               "WordLevel": "WordLevelTrainer"}[kind]
    rust.train_from_iterator(text, getattr(of.trainers, trainer)(special_tokens=list(special), show_progress=False,
                                                                  **options))
    return json.loads(rust.to_str())


def gpt2_style(**change):
    of = tokenizer_file.library()
    return built("BPE", of.pre_tokenizers.ByteLevel(add_prefix_space=False), of.decoders.ByteLevel(), vocab_size=320,
                 special=["<|endoftext|>"], initial_alphabet=of.pre_tokenizers.ByteLevel.alphabet()) | change


def llama3_style():
    of = tokenizer_file.library()
    words = of.Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
                     r"\s*[\r\n]+|\s+(?!\S)|\s+")
    pre = of.pre_tokenizers.Sequence([of.pre_tokenizers.Split(words, "isolated"),
                                      of.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    made = built("BPE", pre, of.decoders.ByteLevel(), vocab_size=320, special=["<|begin_of_text|>", "<|eot_id|>"],
                 initial_alphabet=of.pre_tokenizers.ByteLevel.alphabet())
    made["model"]["ignore_merges"] = True
    made["post_processor"] = {
        "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}},
                                                 {"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
        "special_tokens": {"<|begin_of_text|>": {"id": "<|begin_of_text|>", "ids": [0],
                                                 "tokens": ["<|begin_of_text|>"]}}}
    return made


def llama2_style():
    of = tokenizer_file.library()
    normalizer = of.normalizers.Sequence([of.normalizers.Prepend("▁"), of.normalizers.Replace(" ", "▁")])
    decoder = of.decoders.Sequence([of.decoders.Replace("▁", " "), of.decoders.ByteFallback(), of.decoders.Fuse(),
                                    of.decoders.Strip(" ", 1, 0)])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
    made = built("BPE", None, decoder, normalizer, special, TEXT.split(" "),
                 vocab_size=420, model=dict(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made["added_tokens"] = made["added_tokens"][:3]  # bytes are part of the model
    return made


def unigram_style():
    of = tokenizer_file.library()
    space = dict(replacement="▁", prepend_scheme="always")
    return built("Unigram", of.pre_tokenizers.Metaspace(**space), of.decoders.Metaspace(**space), vocab_size=150,
                 special=["<s>", "<unk>"], unk_token="<unk>")


def wordpiece_style(lowercase=True):
    of = tokenizer_file.library()
    return built("WordPiece", of.pre_tokenizers.BertPreTokenizer(), of.decoders.WordPiece(),
                 of.normalizers.BertNormalizer(lowercase=lowercase), vocab_size=200, model=dict(unk_token="[UNK]"),
                 special=["[UNK]", "[CLS]", "[SEP]"])


def wordlevel_style():
    of = tokenizer_file.library()
    return built("WordLevel", of.pre_tokenizers.Whitespace(), None, special=["[UNK]"], model=dict(unk_token="[UNK]"))


STYLES = {"gpt2": gpt2_style, "llama3": llama3_style, "llama2": llama2_style, "unigram": unigram_style,
          "wordpiece": wordpiece_style, "wordlevel": wordlevel_style}
