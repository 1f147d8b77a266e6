"""tokenizer.json files of the `tokenizers` library, from any source: reading, checking and building.

Such a file is data that names steps of a library written in Rust.  The checks here are those that the library lacks:
no id is used twice, and no step takes unbounded time or memory.
"""

import base64
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..corpus import read_bytes

LARGEST = 1 << 26  # bytes of a file; large models have 35 million
LONGEST = 4096  # characters of a token
_DEEPEST = 16  # levels of nested lists and objects
MOST_HOLES = 1 << 16  # unused ids below the largest one
_MOST_STEPS = 64
_MOST_GROWTH = 1000  # factor by which the steps may lengthen a text
_COMPONENTS = ("version", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model")
_FORMS = ("NFC", "NFD", "NFKC", "NFKD")


def library() -> Any:
    """Import the module `tokenizers`.  Raises ImportError that says how to install it."""
    try:
        import tokenizers
    except ImportError:
        raise ImportError('byte-pair encoding needs tokenizers: python -m pip install "tapegrad[bpe]"') from None
    return tokenizers


@contextmanager
def plain_errors(doing: str) -> Iterator[None]:
    """Turn exceptions of the library, panics of Rust too, into a ValueError of one line."""
    try:
        yield
    except (OSError, ValueError, MemoryError, ImportError):
        raise
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":  # a BaseException
            raise ValueError(f"{doing} ({' '.join(str(error).split()):.200})") from None
        raise


def read_object(path: str | os.PathLike) -> dict[str, Any]:
    """Read the JSON object in a file, without further checks.  Raises OSError, or ValueError for anything else."""
    file = Path(path)
    raw = read_bytes(file, LARGEST, "give the path of a tokenizer.json")
    if len(raw) > LARGEST:
        raise ValueError(f"{file} is larger than {LARGEST:,} bytes, and no tokenizer: give a tokenizer.json")
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON, or damaged ({error!s:.100}): copy it again") from None
    if not isinstance(data, dict):
        raise ValueError(f"{file} is JSON, but no tokenizer (it holds no object): give a tokenizer.json")
    return data


def build(text: str) -> Any:
    """Build the library's tokenizer from the JSON of a `sanitize`d description; it reads special tokens in a text as
    text.

    Raises ValueError for one in which two tokens have the same id, or that the library cannot read."""
    with plain_errors("it cannot be read"):
        rust = library().Tokenizer.from_str(text)
        vocab = rust.get_vocab(with_added_tokens=True)
        added = {id: token.content for id, token in rust.get_added_tokens_decoder().items()}
    wanted = {token["id"]: token["content"] for token in json.loads(text)["added_tokens"]}
    if added != wanted:
        raise ValueError("its added tokens have other numbers than they can have, or the same text twice")
    numbers = set(vocab.values())
    if len(numbers) < len(vocab) or max(numbers, default=0) > len(vocab) + MOST_HOLES:
        raise ValueError(f"its {len(vocab):,} tokens have numbers up to {max(numbers):,}, of which one is taken twice, "
                         f"or more than {MOST_HOLES:,} by none")
    rust.encode_special_tokens = True
    return rust


# ---------------------------------------------------------------------- checks


def sanitize(data: Any) -> dict[str, Any]:
    """Return the parts of a description that are used, checked to be harmless.

    Padding and truncation are dropped, as is dropout, which would make encoding random.  Raises ValueError that says
    what is wrong.
    """
    if not (isinstance(data, dict) and isinstance(data.get("model"), dict)):
        raise ValueError("it has no model: give a tokenizer.json of the `tokenizers` library")
    _check_depth(data)
    data = {name: data.get(name) for name in _COMPONENTS}
    data["version"] = "1.0"
    data["added_tokens"] = _check_added(data["added_tokens"])
    data["model"] = _check_model({name: value for name, value in data["model"].items() if name != "dropout"})
    data["model"] = _keep_ids(data["model"], data["added_tokens"])
    for name in ("normalizer", "pre_tokenizer", "decoder"):
        steps = list(_steps(data[name]))
        if len(steps) > _MOST_STEPS or math.prod(map(_growth, steps)) > _MOST_GROWTH:
            raise ValueError(f"its {name} could make a text more than {_MOST_GROWTH:,} times as long, or has more than "
                             f"{_MOST_STEPS} steps")
    return data


def _check_depth(data: Any) -> None:
    level: list[Any] = [data]
    for _ in range(_DEEPEST):
        level = [v for item in level for v in (item.values() if isinstance(item, dict) else item)
                 if isinstance(v, (dict, list))]
    if level:
        raise ValueError("it is nested too deep")


def _check_added(tokens: Any) -> list[dict[str, Any]]:
    tokens = [] if tokens is None else tokens
    if not (isinstance(tokens, list) and all(isinstance(token, dict) for token in tokens)):
        raise ValueError("its added_tokens are no list of objects")
    for token in tokens:
        _check_token(token.get("content"))
        if type(token.get("id")) is not int:
            raise ValueError(f"its added token {token['content']!r:.40} has no number")
    if len({token["id"] for token in tokens}) < len(tokens):
        raise ValueError("two of its added tokens have the same number")
    return tokens


def _check_model(model: dict[str, Any]) -> dict[str, Any]:
    match model.get("vocab"):
        case dict(vocab):
            tokens: list[Any] = list(vocab)
            if not all(type(id) is int and 0 <= id < 1 << 31 for id in vocab.values()):
                raise ValueError("its vocabulary has tokens without a number")
        case list(vocab) if all(isinstance(item, list) and len(item) == 2 for item in vocab):
            tokens = [item[0] for item in vocab]
            if not all(isinstance(item[1], (int, float)) and abs(item[1]) <= 1e9 for item in vocab):
                raise ValueError("its vocabulary has scores that are no reasonable numbers")
        case _:
            raise ValueError("its vocabulary is neither an object nor a list of pairs")
    for token in tokens:
        _check_token(token)
    if model.get("type") == "WordPiece" and not _at_most(model.get("max_input_chars_per_word", 100), 1000):
        raise ValueError("its max_input_chars_per_word is above 1,000: such words would take minutes")
    return model


def _keep_ids(model: dict[str, Any], added: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a model in which added tokens keep their ids: the library would number those that are not in its
    vocabulary consecutively, from the size of the vocabulary on."""
    vocab = model["vocab"]
    if not isinstance(vocab, dict):
        return model
    new = {token["content"]: token["id"] for token in added if token["content"] not in vocab}
    if [*new.values()] == [*range(len(vocab), len(vocab) + len(new))]:
        return model
    return model | {"vocab": vocab | new}


def _check_token(token: Any) -> None:
    if not isinstance(token, str) or len(token) > LONGEST:
        raise ValueError(f"it has a token that is no text, or longer than {LONGEST:,} characters: {token!r:.40}")


def _at_most(value: Any, most: int) -> bool:
    return type(value) is int and 0 <= value <= most


def _steps(component: Any) -> Iterator[dict[str, Any]]:
    """Yield the steps of a normalizer, pre-tokenizer or decoder."""
    if isinstance(component, dict):
        yield component
        for name in ("normalizers", "pretokenizers", "decoders"):
            for inner in component[name] if isinstance(component.get(name), list) else ():
                yield from _steps(inner)


def _growth(step: dict[str, Any]) -> int:
    """Return the largest factor by which a step can lengthen a text."""
    match step:
        case {"type": "Replace", "content": str(content), "pattern": {"String": str(old)}} if old:
            return max(1, math.ceil(len(content) / len(old)))
        case {"type": "Replace", "content": str(content)}:
            return 1 + len(content)  # the pattern may match the empty string everywhere
        case {"type": "Prepend", "prepend": str(start)} if len(start) > LONGEST:
            return len(start)
        case {"type": "ByteLevel"}:
            return 2
        case {"type": "Precompiled", "precompiled_charsmap": str(table)}:
            return max(12, _longest_replacement(table))
        case {"type": form} if form in _FORMS:
            return 12  # one ligature of 3 bytes becomes 33
    return 1


def _longest_replacement(table: str) -> int:
    """Return the bytes, divided by 3, of the longest text in a SentencePiece table: the size of a trie, the trie, and
    texts that end in 0.  (In any such table it is within 12: a ligature of 33 bytes for one of 3.)"""
    try:
        raw = base64.b64decode(table, validate=True)
    except ValueError:
        raise ValueError("its precompiled_charsmap is not in base64") from None
    texts = raw[4 + int.from_bytes(raw[:4], "little"):]
    if len(raw) < 8 or not texts.endswith(b"\0"):
        raise ValueError("its precompiled_charsmap is damaged")
    return math.ceil(max(map(len, texts.split(b"\0"))) / 3)
