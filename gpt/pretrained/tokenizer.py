"""Tokenizers, special tokens and chat templates of a folder in Hugging Face's form."""

from pathlib import Path
from typing import Any

from ..chat.turns import NAMES, TurnTokenizer
from ..data.tokenizers import Tokenizer
from ..data.tokenizers.bpe import BPETokenizer, byte_of_character
from ..data.tokenizers.byte import ByteTokenizer
from ..data.tokenizers.char import CharTokenizer
from ..data.tokenizers.word import WordTokenizer
from .files import CONFIG, inside, read_json, write_json

FILE, SETTINGS, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
VOCAB, MERGES, ADDED = "vocab.json", "merges.txt", "added_tokens.json"  # GPT-2's files in place of tokenizer.json
END = "<|endoftext|>"  # their end token, unless a file names another
# Qwen2's pattern of words (from its tokenizer.json).
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|"
         r"\s+")
SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")
# The chat template that `gpt tune` teaches a model without one.
TURNS = ("{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
         "{% if message['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
         "{% if add_generation_prompt %}<|assistant|>{% endif %}")
_LARGEST_TEMPLATE = 1 << 20  # characters


def read_tokenizer(folder: Path, vocab_size: int) -> Tokenizer:
    """Read the tokenizer of a folder, for a model of `vocab_size` tokens, which may be more than the tokenizer has.

    Raises FileNotFoundError if there is none, ValueError for one that is damaged or too large for the model, and
    ImportError without the extra `bpe`.
    """
    file = inside(folder, FILE)
    if file.is_file():
        return BPETokenizer.from_file(file, vocab_size)
    try:
        return BPETokenizer(from_merges(folder), vocab_size)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{inside(folder, VOCAB)}, {MERGES}: {error}") from None


def from_merges(folder: Path) -> dict[str, Any]:
    """Return a tokenizer.json equivalent to the vocab.json and merges.txt of a GPT-2 or Qwen2.

    Raises FileNotFoundError if these are missing, or belong to another family.
    """
    vocab, merges, settings = inside(folder, VOCAB), inside(folder, MERGES), read_optional_json(folder, SETTINGS)
    tokenizer_class = settings.get("tokenizer_class") or read_optional_json(folder, CONFIG).get("model_type")
    tokenizer_class = str(tokenizer_class).lower()
    if not (vocab.is_file() and merges.is_file() and tokenizer_class.startswith(("gpt2", "qwen2", "qwen3"))):
        raise FileNotFoundError(f"{folder} has no {FILE}: download it, too, or make it of the other files with "
                                "transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)")
    tokens = read_json(vocab)
    step = byte_level(tokenizer_class.startswith("gpt2"), bool(settings.get("add_prefix_space")))
    splits, form = step, None
    if tokenizer_class.startswith("qwen"):
        splits, form = split_words(QWEN2, step), {"type": "NFC"}
    ends = {"bos_token": END, "eos_token": END} | read_special_tokens(folder)
    names = {END, *ends.values()} & tokens.keys()
    added = {tokens[name]: {"content": name, "special": True} for name in sorted(names)}
    added |= {i: {"content": name, "special": name in names} for name, i in read_optional_json(folder, ADDED).items()}
    if isinstance(decoder := settings.get("added_tokens_decoder"), dict):
        added |= {int(i): token for i, token in decoder.items() if i.isdecimal() and isinstance(token, dict)}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    lines = read_utf8(merges, 1 << 26).split("\n")
    pairs = [line.split(" ") for line in lines if line.strip() and not line.startswith("#version")]
    return {"added_tokens": [plain | added[i] | {"id": i} for i in sorted(added)], "normalizer": form,
            "pre_tokenizer": splits, "decoder": step, "post_processor": start_and_end(ends, settings, tokens),
            "model": {"type": "BPE", "vocab": tokens, "merges": pairs}}


def byte_level(use_regex: bool, add_prefix_space: bool = False) -> dict[str, Any]:
    """Return the step of a tokenizer.json that spells a text in bytes; `use_regex`: cut into GPT-2's words before."""
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": use_regex}


def split_words(pattern: str, then: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the step of a tokenizer.json that cuts a text into the words of a pattern, in bytes."""
    words = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [words, then or byte_level(use_regex=False)]}


def start_and_end(ends: dict[str, str], settings: dict[str, Any], numbers: dict[str, int]) -> dict[str, Any] | None:
    """Return the post-processor that begins and ends a text with tokens as tokenizer_config.json asks; none if it does
    not."""
    first, last = ([name] if settings.get(f"add_{which}") and (name := ends.get(which)) in numbers else []
                   for which in ("bos_token", "eos_token"))
    single = [*first, "$A", *last]
    return {"type": "TemplateProcessing", "pair": [], "special_tokens": {
        name: {"id": name, "ids": [numbers[name]], "tokens": [name]} for name in first + last}, "single": [
        {"SpecialToken": {"id": name, "type_id": 0}} if name != "$A" else {"Sequence": {"id": "A", "type_id": 0}}
        for name in single]} if first or last else None


def add_special_tokens(plain: dict[str, Any], tokens: dict[int, str]) -> dict[str, Any]:
    """Return a tokenizer.json with more special tokens, given by id."""
    return plain | {"added_tokens": [*plain["added_tokens"], *(
        {"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True} for i, text in tokens.items())]}


def read_optional_json(folder: Path, name: str) -> dict[str, Any]:
    """Read the JSON object in a file of a folder; an empty one if there is no such file."""
    file = inside(folder, name)
    return read_json(file) if file.is_file() else {}


def read_special_tokens(folder: Path) -> dict[str, str]:
    """Read the texts of the special tokens that a folder names, by role."""
    values = read_optional_json(folder, SETTINGS)
    if "added_tokens_decoder" not in values:  # earlier versions of transformers
        values |= read_optional_json(folder, "special_tokens_map.json")
    special = {name: token["content"] if isinstance(token, dict) and "content" in token else token
               for name in SPECIAL if (token := values.get(name)) is not None}
    return {name: token for name, token in special.items() if isinstance(token, str)}


def read_chat_metadata(folder: Path) -> dict[str, Any]:
    """Read the chat_template and special_tokens of a folder, if it has them."""
    found: dict[str, Any] = {}
    if special := read_special_tokens(folder):
        found["special_tokens"] = special
    template = read_optional_json(folder, SETTINGS).get("chat_template")
    if isinstance(template, list):  # several, by name
        template = next((t.get("template") for t in template if isinstance(t, dict) and t.get("name") == "default"),
                        None)
    file = inside(folder, TEMPLATE)
    if file.is_file():
        template = read_utf8(file, _LARGEST_TEMPLATE)
    if isinstance(template, str) and template:
        if len(template) > _LARGEST_TEMPLATE:
            raise ValueError(f"{folder} has a chat template of {len(template):,} characters, more than any model's: "
                             "shorten or delete it")
        found["chat_template"] = template
    return found


def read_utf8(file: Path, most: int) -> str:
    """Read a UTF-8 file, or its first `most` + 1 characters."""
    try:
        with open(file, encoding="utf-8-sig") as opened:
            return opened.read(most + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read ({error!s:.200}): download it again") from None


# ---------------------------------------------------------------------- writing


def write_tokenizer(folder: Path, tokenizer: Any, metadata: dict[str, Any]) -> str:
    """Write a tokenizer, its special tokens and chat template, if `tokenizers` has an equivalent; return a line on
    it."""
    if (plain := to_tokenizer_json(tokenizer)) is None:
        return f"without its tokenizer ({type(tokenizer).__name__} has no counterpart in the library tokenizers)"
    write_json(folder / FILE, plain)
    special, template = metadata.get("special_tokens"), metadata.get("chat_template")
    values = {name: token for name, token in special.items() if name in SPECIAL and isinstance(token, str)} \
        if isinstance(special, dict) else {}
    if isinstance(tokenizer, TurnTokenizer):
        template, values["eos_token"] = TURNS, NAMES[-1]
    if isinstance(template, str):
        values["chat_template"] = template
    write_json(folder / SETTINGS, {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
                                   **values})
    return "with its tokenizer"


def to_tokenizer_json(tokenizer: Any) -> dict[str, Any] | None:
    """Return a tokenizer.json equivalent to a tokenizer; None if the library has no equivalent."""
    if isinstance(tokenizer, TurnTokenizer):
        plain = to_tokenizer_json(tokenizer.base)
        return plain and add_special_tokens(plain, dict(enumerate(NAMES, tokenizer.base.vocab_size)))
    if isinstance(tokenizer, CharTokenizer):
        return _make_json({c: i for i, c in enumerate(tokenizer.characters)}, {"type": "WordLevel", "unk_token": ""},
                          {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False},
                          {"type": "Fuse"})
    if isinstance(tokenizer, WordTokenizer):  # characters, but a word that is a token is taken as it is
        words = {"type": "Split", "pattern": {"Regex": r"[\p{L}\p{N}_]+|[^\p{L}\p{N}_]"}, "behavior": "Isolated",
                 "invert": False}
        return _make_json({word: i for i, word in enumerate(tokenizer.tokens)},
                          {"type": "BPE", "merges": [], "ignore_merges": True}, words, {"type": "Fuse"})
    if isinstance(tokenizer, ByteTokenizer):
        bytelevel = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
        return _make_json(byte_of_character(), {"type": "BPE", "merges": []}, bytelevel, bytelevel)
    if isinstance(tokenizer, BPETokenizer):
        return tokenizer.to_json()["tokenizer"]
    return None


def _make_json(vocab: dict[str, int], model: dict[str, Any], splits: dict[str, Any],
               decoder: dict[str, Any]) -> dict[str, Any]:
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
            "pre_tokenizer": splits, "post_processor": None, "decoder": decoder, "model": model | {"vocab": vocab}}
