"""Tokenizers, their special tokens and chat templates, in a model's folder in Hugging Face's form."""

from pathlib import Path
from typing import Any

from ..chat.turns import NAMES, TurnTokenizer
from ..text.bpe import BPETokenizer, _byte_of
from ..text.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer
from .files import inside, read_json, write_json

FILE, SETTINGS, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")
# The form of conversations that `gpt tune` teaches a model which has none.
TURNS = ("{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
         "{% if message['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
         "{% if add_generation_prompt %}<|assistant|>{% endif %}")
_LARGEST_TEMPLATE = 1 << 20  # characters
_UNUSED, _MOST_UNUSED = "<|no token {}|>", 1 << 16


def read_tokenizer(folder: Path, vocab_size: int) -> Tokenizer:
    """The tokenizer of a folder, for a model that knows `vocab_size` tokens, which may be more.

    Raises FileNotFoundError if there is none, ValueError for one that is damaged or too large for the model, and
    ImportError without the extra `bpe`.
    """
    file = inside(folder, FILE)
    if not file.is_file():
        raise FileNotFoundError(f"{folder} has no {FILE}: download it, too, or make it of the other files with "
                                "transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)")
    tokenizer = BPETokenizer.from_file(file)
    missing = vocab_size - tokenizer.vocab_size
    if missing < 0 or missing > _MOST_UNUSED:
        raise ValueError(f"{file} has {tokenizer.vocab_size:,} tokens, and its model {vocab_size:,}: they belong to "
                         "different models; download both again")
    return BPETokenizer(with_unused(tokenizer.to_json()["tokenizer"], vocab_size)) if missing else tokenizer


def with_unused(plain: dict[str, Any], vocab_size: int) -> dict[str, Any]:
    """A tokenizer.json with special tokens that stand for nothing, up to `vocab_size`: models often have more rows than
    tokens, to be of a round size."""
    first = BPETokenizer(plain).vocab_size
    return with_special(plain, {i: _UNUSED.format(i) for i in range(first, vocab_size)})


def with_special(plain: dict[str, Any], tokens: dict[int, str]) -> dict[str, Any]:
    """A tokenizer.json with more special tokens, by their numbers."""
    return plain | {"added_tokens": [*plain["added_tokens"], *(
        {"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True} for i, text in tokens.items())]}


def without_unused(plain: dict[str, Any]) -> dict[str, Any]:
    """What `with_unused` was given."""
    return plain | {"added_tokens": [token for token in plain["added_tokens"]
                                     if token["content"] != _UNUSED.format(token["id"])]}


def read_words(folder: Path) -> dict[str, Any]:
    """The chat_template and special_tokens of a folder, where it has them."""
    file = inside(folder, SETTINGS)
    values = read_json(file) if file.is_file() else {}
    found: dict[str, Any] = {}
    special = {name: token["content"] if isinstance(token, dict) and "content" in token else token
               for name in SPECIAL if (token := values.get(name)) is not None}
    if special := {name: token for name, token in special.items() if isinstance(token, str)}:
        found["special_tokens"] = special
    template = values.get("chat_template")
    if isinstance(template, list):  # several, by names
        template = next((t.get("template") for t in template if isinstance(t, dict) and t.get("name") == "default"),
                        None)
    own = inside(folder, TEMPLATE)
    if own.is_file():
        template = _text(own)
    if isinstance(template, str) and template:
        if len(template) > _LARGEST_TEMPLATE:
            raise ValueError(f"{folder} has a chat template of {len(template):,} characters, more than any model's: "
                             "shorten or delete it")
        found["chat_template"] = template
    return found


def _text(file: Path) -> str:
    try:
        with open(file, encoding="utf-8-sig") as opened:
            return opened.read(_LARGEST_TEMPLATE + 1)
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
    """The content of tokenizer.json that does what a tokenizer does; None if the library has nothing like it."""
    if isinstance(tokenizer, TurnTokenizer):
        plain = tokenizer_json(tokenizer.base)
        return plain and with_special(plain, dict(enumerate(NAMES, tokenizer.base.vocab_size)))
    if isinstance(tokenizer, CharTokenizer):
        return _described({c: i for i, c in enumerate(tokenizer.characters)}, {"type": "WordLevel", "unk_token": ""},
                          {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False},
                          {"type": "Fuse"})
    if isinstance(tokenizer, ByteTokenizer):
        bytelevel = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
        return _described(_byte_of(), {"type": "BPE", "merges": []}, bytelevel, bytelevel)
    if isinstance(tokenizer, BPETokenizer):
        return without_unused(tokenizer.to_json()["tokenizer"])
    return None


def _described(vocab: dict[str, int], model: dict[str, Any], splits: dict[str, Any],
               decoder: dict[str, Any]) -> dict[str, Any]:
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
            "pre_tokenizer": splits, "post_processor": None, "decoder": decoder, "model": model | {"vocab": vocab}}
