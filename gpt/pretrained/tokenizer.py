"""Tokenizers, their special tokens and chat templates, in a model's folder in Hugging Face's form."""

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
VOCAB, MERGES, ADDED = "vocab.json", "merges.txt", "added_tokens.json"  # what GPT-2's has instead of tokenizer.json
END = "<|endoftext|>"  # theirs, where no file names another
# How Qwen2's cuts a text into words (its tokenizer.json).
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|"
         r"\s+")
SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")
# The form of conversations that `gpt tune` teaches a model which has none.
TURNS = ("{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
         "{% if message['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
         "{% if add_generation_prompt %}<|assistant|>{% endif %}")
_LARGEST_TEMPLATE = 1 << 20  # characters


def read_tokenizer(folder: Path, vocab_size: int) -> Tokenizer:
    """Return the tokenizer of a folder, for a model that knows `vocab_size` tokens, which may be more.

    Raises FileNotFoundError if there is none, ValueError for one that is damaged or too large for the model, and
    ImportError without the extra `bpe`.
    """
    file = inside(folder, FILE)
    if file.is_file():
        return BPETokenizer.from_file(file, vocab_size)
    try:
        return BPETokenizer(of_merges(folder), vocab_size)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{inside(folder, VOCAB)}, {MERGES}: {error}") from None


def of_merges(folder: Path) -> dict[str, Any]:
    """Return the content of a tokenizer.json that does what GPT-2's or Qwen2's vocab.json and merges.txt say.

    Raises FileNotFoundError if these are not there, or belong to another family.
    """
    vocab, merges, settings = inside(folder, VOCAB), inside(folder, MERGES), optional(folder, SETTINGS)
    kind = str(settings.get("tokenizer_class") or optional(folder, CONFIG).get("model_type")).lower()
    if not (vocab.is_file() and merges.is_file() and kind.startswith(("gpt2", "qwen2"))):
        raise FileNotFoundError(f"{folder} has no {FILE}: download it, too, or make it of the other files with "
                                "transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)")
    tokens = read_json(vocab)
    byte_level = {"type": "ByteLevel", "add_prefix_space": bool(settings.get("add_prefix_space")),
                  "trim_offsets": True, "use_regex": kind.startswith("gpt2")}
    splits, form = byte_level, None
    if kind.startswith("qwen2"):
        words = {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": False}
        splits, form = {"type": "Sequence", "pretokenizers": [words, byte_level]}, {"type": "NFC"}
    ends = {"bos_token": END, "eos_token": END} | special_tokens(folder)
    names = {END, *ends.values()} & tokens.keys()
    added = {tokens[name]: {"content": name, "special": True} for name in sorted(names)}
    added |= {i: {"content": name, "special": name in names} for name, i in optional(folder, ADDED).items()}
    if isinstance(decoder := settings.get("added_tokens_decoder"), dict):
        added |= {int(i): token for i, token in decoder.items() if i.isdecimal() and isinstance(token, dict)}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    lines = text_of(merges, 1 << 26).split("\n")
    pairs = [line.split(" ") for line in lines if line.strip() and not line.startswith("#version")]
    return {"added_tokens": [plain | added[i] | {"id": i} for i in sorted(added)], "normalizer": form,
            "pre_tokenizer": splits, "decoder": byte_level, "post_processor": _ends(ends, settings, tokens),
            "model": {"type": "BPE", "vocab": tokens, "merges": pairs}}


def _ends(ends: dict[str, str], settings: dict[str, Any], numbers: dict[str, int]) -> dict[str, Any] | None:
    """Return the post-processor that begins and ends a text with tokens as tokenizer_config.json asks; none if it does
    not."""
    first, last = ([name] if settings.get(f"add_{which}") and (name := ends[which]) in numbers else []
                   for which in ("bos_token", "eos_token"))
    single = [*first, "$A", *last]
    return {"type": "TemplateProcessing", "pair": [], "special_tokens": {
        name: {"id": name, "ids": [numbers[name]], "tokens": [name]} for name in first + last}, "single": [
        {"SpecialToken": {"id": name, "type_id": 0}} if name != "$A" else {"Sequence": {"id": "A", "type_id": 0}}
        for name in single]} if first or last else None


def with_special(plain: dict[str, Any], tokens: dict[int, str]) -> dict[str, Any]:
    """Return a tokenizer.json with more special tokens, by their numbers."""
    return plain | {"added_tokens": [*plain["added_tokens"], *(
        {"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True} for i, text in tokens.items())]}


def optional(folder: Path, name: str) -> dict[str, Any]:
    """Return the JSON object in a file of a folder; an empty one where there is no such file."""
    file = inside(folder, name)
    return read_json(file) if file.is_file() else {}


def special_tokens(folder: Path) -> dict[str, str]:
    """Return the texts of the special tokens that a folder names, by their roles."""
    values = optional(folder, SETTINGS)
    if "added_tokens_decoder" not in values:  # in files of earlier versions of transformers
        values |= optional(folder, "special_tokens_map.json")
    special = {name: token["content"] if isinstance(token, dict) and "content" in token else token
               for name in SPECIAL if (token := values.get(name)) is not None}
    return {name: token for name, token in special.items() if isinstance(token, str)}


def read_words(folder: Path) -> dict[str, Any]:
    """Return the chat_template and special_tokens of a folder, where it has them."""
    found: dict[str, Any] = {}
    if special := special_tokens(folder):
        found["special_tokens"] = special
    template = optional(folder, SETTINGS).get("chat_template")
    if isinstance(template, list):  # several, by names
        template = next((t.get("template") for t in template if isinstance(t, dict) and t.get("name") == "default"),
                        None)
    own = inside(folder, TEMPLATE)
    if own.is_file():
        template = text_of(own, _LARGEST_TEMPLATE)
    if isinstance(template, str) and template:
        if len(template) > _LARGEST_TEMPLATE:
            raise ValueError(f"{folder} has a chat template of {len(template):,} characters, more than any model's: "
                             "shorten or delete it")
        found["chat_template"] = template
    return found


def text_of(file: Path, most: int) -> str:
    """Return the text of a UTF-8 file, or its first `most` + 1 characters."""
    try:
        with open(file, encoding="utf-8-sig") as opened:
            return opened.read(most + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read ({error!s:.200}): download it again") from None


# ---------------------------------------------------------------------- writing


def write_tokenizer(folder: Path, tokenizer: Any, about: dict[str, Any]) -> str:
    """Write a tokenizer, its special tokens and chat template, as far as `tokenizers` has its like; says what."""
    if (plain := tokenizer_json(tokenizer)) is None:
        return f"without its tokenizer ({type(tokenizer).__name__} has no counterpart in the library tokenizers)"
    write_json(folder / FILE, plain)
    special, template = about.get("special_tokens"), about.get("chat_template")
    values = {name: token for name, token in special.items() if name in SPECIAL and isinstance(token, str)} \
        if isinstance(special, dict) else {}
    if isinstance(tokenizer, TurnTokenizer):
        template, values["eos_token"] = TURNS, NAMES[-1]
    if isinstance(template, str):
        values["chat_template"] = template
    write_json(folder / SETTINGS, {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
                                   **values})
    return "with its tokenizer"


def tokenizer_json(tokenizer: Any) -> dict[str, Any] | None:
    """Return the content of tokenizer.json that does what a tokenizer does; None if the library has nothing like it."""
    if isinstance(tokenizer, TurnTokenizer):
        plain = tokenizer_json(tokenizer.base)
        return plain and with_special(plain, dict(enumerate(NAMES, tokenizer.base.vocab_size)))
    if isinstance(tokenizer, CharTokenizer):
        return _described({c: i for i, c in enumerate(tokenizer.characters)}, {"type": "WordLevel", "unk_token": ""},
                          {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False},
                          {"type": "Fuse"})
    if isinstance(tokenizer, WordTokenizer):  # characters, but a word that is a token is taken as it is
        words = {"type": "Split", "pattern": {"Regex": r"[\p{L}\p{N}_]+|[^\p{L}\p{N}_]"}, "behavior": "Isolated",
                 "invert": False}
        return _described({word: i for i, word in enumerate(tokenizer.tokens)},
                          {"type": "BPE", "merges": [], "ignore_merges": True}, words, {"type": "Fuse"})
    if isinstance(tokenizer, ByteTokenizer):
        bytelevel = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
        return _described(byte_of_character(), {"type": "BPE", "merges": []}, bytelevel, bytelevel)
    if isinstance(tokenizer, BPETokenizer):
        return tokenizer.to_json()["tokenizer"]
    return None


def _described(vocab: dict[str, int], model: dict[str, Any], splits: dict[str, Any],
               decoder: dict[str, Any]) -> dict[str, Any]:
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
            "pre_tokenizer": splits, "post_processor": None, "decoder": decoder, "model": model | {"vocab": vocab}}
