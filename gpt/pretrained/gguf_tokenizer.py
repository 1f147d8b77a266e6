"""Tokenizers and chat templates of GGUF files, as the library `tokenizers` has them."""

from typing import Any

from ..chat.jinja import LARGEST
from ..data.tokenizers.bpe import BPETokenizer
from .config import Keys
from .tokenizer import QWEN2, byte_level, split_words, start_and_end

LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
          r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
          r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
# The names that tokenizer.ggml.pre has for each way to cut a text into words.
PRE = {"gpt2": ("gpt-2", "mpt", "olmo", "trillion"), "digits": ("smollm", "starcoder", "refact", "minerva-7b"),
       "qwen2": ("qwen2", "deepseek-r1-qwen", "megrez"), "tekken": ("tekken",),
       "llama3": ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral")}
WORDS = {name: words for words, names in PRE.items() for name in names}
USUAL = {"gpt2": "gpt-2", "qwen2": "qwen2", "qwen3": "qwen2"}  # that of an architecture, in files without the key
BEGUN = {*PRE["llama3"], *PRE["tekken"]}  # whose texts begin with bos_token where the file is silent
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # token types
SPECIAL = {"bos_token": "bos_token_id", "eos_token": "eos_token_id", "unk_token": "unknown_token_id",
           "pad_token": "padding_token_id"}
_LONGEST = 1 << 23  # characters of all tokens together; 262,000 tokens have 2 million
SPACE = "▁"  # stands for a space in SentencePiece


def read_gguf_tokenizer(metadata: dict[str, Any], vocab_size: int) -> BPETokenizer:
    """Return the tokenizer of a GGUF file, for a model of `vocab_size` tokens.  Raises ValueError for one that is
    damaged or of another kind, and ImportError without the extra `bpe`."""
    keys = Keys({name.removeprefix("tokenizer.ggml."): value for name, value in metadata.items()
                 if name.startswith("tokenizer.ggml.")})
    model, tokens = keys.take("model", str), texts(keys, "tokens")
    types = keys.take("token_type", list, [NORMAL] * len(tokens))
    if len(types) != len(tokens) or sum(map(len, tokens)) > _LONGEST:
        raise ValueError(f"its {len(tokens):,} tokens have {len(types):,} types, or are longer than any tokenizer's")
    by_type = [(text, i, types[i]) for i, text in enumerate(tokens) if types[i] != UNUSED]
    added = [{"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": t == CONTROL} for text, i, t in by_type if t in (CONTROL, USER_DEFINED)]
    vocab = {text: i for text, i, t in by_type if t not in (CONTROL, USER_DEFINED)}
    special = special_tokens(metadata)
    if model == "gpt2":
        plain, begins = bytes_of_pairs(keys, vocab, metadata.get("general.architecture"))
    elif model == "llama":
        plain, begins = sentence_pieces(keys, vocab, tokens, types, special.get("unk_token")), True
    else:
        raise ValueError(f"its tokenizer.ggml.model is {model!r:.40}, and the known ones are gpt2 (byte-level BPE) and "
                         "llama (SentencePiece)")
    ends = {"add_bos_token": keys.take("add_bos_token", bool, begins),
            "add_eos_token": keys.take("add_eos_token", bool, False)}
    numbers = {token["content"]: token["id"] for token in added} | vocab
    return BPETokenizer(plain | {"added_tokens": added, "post_processor": start_and_end(special, ends, numbers)},
                        vocab_size)


def bytes_of_pairs(keys: Keys, vocab: dict[str, int], architecture: Any) -> tuple[dict[str, Any], bool]:
    """Return the parts of a tokenizer.json of byte-level BPE, and whether it begins a text with a token unless told
    otherwise."""
    pre = keys.take("pre", str, USUAL.get(architecture, ""))
    if pre not in WORDS:
        raise ValueError(f"its tokenizer.ggml.pre, which names how a text is cut into words, is {pre!r:.40}, and the "
                         f"known ones are {', '.join(WORDS)}")
    words = WORDS[pre]
    step: dict[str, Any] = byte_level(use_regex=True)
    if words == "digits":
        step = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, step]}
    elif words != "gpt2":
        step = split_words({"llama3": LLAMA3, "qwen2": QWEN2, "tekken": TEKKEN}[words])
    model = {"type": "BPE", "vocab": vocab, "merges": [merge.split(" ") for merge in texts(keys, "merges")],
             "ignore_merges": words in ("llama3", "tekken")}
    return {"normalizer": {"type": "NFC"} if words == "qwen2" else None, "pre_tokenizer": step,
            "decoder": byte_level(use_regex=True), "model": model}, pre in BEGUN


def sentence_pieces(keys: Keys, vocab: dict[str, int], tokens: list[str], types: list[Any],
                    unknown: str | None) -> dict[str, Any]:
    """Return the parts of a tokenizer.json of a SentencePiece model (Kudo & Richardson 2018), which merges the pair of
    neighbours whose union has the highest score, and spells what it does not know in bytes."""
    scores = keys.take("scores", list)
    if len(scores) != len(tokens) or not all(isinstance(score, (int, float)) for score in scores):
        raise ValueError(f"its {len(tokens):,} tokens have {len(scores):,} scores, or such that are no numbers")
    pieces = {text: i for text, i in vocab.items() if types[i] == NORMAL}
    merges = [(-scores[i], i, text[:cut], text[cut:]) for text, i in pieces.items() for cut in range(1, len(text))
              if text[:cut] in pieces and text[cut:] in pieces]
    merges.sort(key=lambda merge: (merge[0], pieces[merge[2]], pieces[merge[3]]))
    prefix = keys.take("add_space_prefix", bool, True)
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    back = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    return {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}] * prefix
                           + [replace]},
            "pre_tokenizer": None,
            "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}]
                        + [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] * prefix},
            "model": {"type": "BPE", "unk_token": unknown if unknown in vocab else None, "fuse_unk": True,
                      "byte_fallback": True, "vocab": vocab, "merges": [[left, right] for *_, left, right in merges]}}


def special_tokens(metadata: dict[str, Any]) -> dict[str, str]:
    """Return the texts of the special tokens, by role."""
    tokens, numbers = metadata.get("tokenizer.ggml.tokens"), {
        name: metadata.get(f"tokenizer.ggml.{key}") for name, key in SPECIAL.items()}
    return {name: tokens[i] for name, i in numbers.items()
            if isinstance(tokens, list) and type(i) is int and 0 <= i < len(tokens) and isinstance(tokens[i], str)}


def chat_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the chat_template and special_tokens of a GGUF file, if it has them."""
    template = metadata.get("tokenizer.chat_template")
    if isinstance(template, str) and len(template) > LARGEST:
        raise ValueError(f"it has a chat template of {len(template):,} characters, more than any model's")
    found = {"special_tokens": special_tokens(metadata), "chat_template": template}
    return {name: value for name, value in found.items() if value and isinstance(value, (dict, str))}


def texts(keys: Keys, name: str) -> list[str]:
    """Return a list of texts.  Raises ValueError for anything else."""
    found = keys.take(name, list)
    if not all(isinstance(text, str) for text in found):
        raise ValueError(f"tokenizer.ggml.{name} is no list of texts")
    return found
