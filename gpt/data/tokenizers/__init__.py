"""Tokenizers, each in a file that registers its class: a new file is all that a new one needs (char.py is a model)."""

from importlib import import_module
from pkgutil import iter_modules

from .base import (
    TOKENIZERS,
    VOCAB_SIZE,
    BaseTokenizer,
    LossyTextError,
    Tokenizer,
    decode_on,
    encode_prompt,
    from_json,
    learn,
    learned_kinds,
    register,
)

__all__ = ["TOKENIZERS", "VOCAB_SIZE", "BaseTokenizer", "LossyTextError", "Tokenizer", "decode_on", "encode_prompt",
           "from_json", "learn", "learned_kinds", "register"]

_FIRST = ("char", "byte", "word", "bpe")  # in the order in which --help lists them, before any others
for _name in dict.fromkeys([*_FIRST, *sorted(module.name for module in iter_modules(__path__))]):
    import_module(f"{__name__}.{_name}")
