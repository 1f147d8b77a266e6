"""`gpt page`: a model as one web page, which computes it in plain JavaScript, without Python and without a network."""

import base64
import re
import zlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from autograd.core.describe import format_bytes, plural
from autograd.view.page import page
from autograd.view.palette import diverging

from ...chat.turns import NAMES
from ...checkpoint import Checkpoint, count_weights, load_checkpoint, read_config
from ...data.tokenizers.bpe import byte_of_character
from ...generation.generate import continue_text, encode_start, read_prompt
from ...model.gpt import GPT, GPTConfig
from ...model.module import Array, raw
from ...runtime.settings import Settings, flag_of, overwrite_setting, setting
from ...runtime.writing import check_ours, write_file

MARK = "gpt page"  # in a comment at the end of the file
CONTEXT = 128      # tokens that the page computes at a time: each key takes a forward pass of them
LARGEST = 16_000_000  # weights of a model: 32 MB
SCRIPTS = ("arrays", "gpt", "tokenizers", "load", "text", "blocks", "lens", "page")

# What gpt.js computes: the choices of an architecture, and the values of those that are names.
CHOICES = {"vocab_size", "block_size", "n_layer", "n_head", "n_kv_head", "n_embd", "n_hidden", "bias", "qkv_bias",
           "dropout", "activation", "gated", "positions", "rope_base", "norm", "norm_gain", "norm_eps",
           "norm_embedding", "qk_norm", "qk_norm_gain", "residual_scalars", "convolution", "smear", "tied", "zero_init"}
VALUES = {"activation": ("gelu", "gelu_tanh", "relu", "squared_relu", "silu"), "norm": ("layer_norm", "rms_norm"),
          "positions": ("learned", "sinusoidal", "rotary")}

_WORDS = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}  # GPT-2's
_LINES = {"type": "Split", "pattern": {"String": "\n"}, "behavior": "Isolated", "invert": False}
_LINES_AND_WORDS = {"type": "Sequence", "pretokenizers": [_LINES, _WORDS]}


@dataclass
class PageConfig(Settings):
    """The settings of `gpt page`."""

    checkpoint: str = setting("out", f"folder or file that gpt train left, of at most {LARGEST:,} weights",
                              positional=True, path=True)
    prompt: str = setting("", "text that the page opens with, which can be changed there; -: standard input; none: "
                              "text that the model writes", group="text", metavar="TEXT")
    out: str = setting("page.html", "file to write", group="output", path=True)
    overwrite: bool = overwrite_setting()


def write_page(config: PageConfig) -> None:
    """Write a model as a web page that computes it: the command `gpt page`.

    The weights are rounded to float16.  Their logits are compared with those of the model here, and by the page with
    NumPy's when it opens.

    Raises OSError or ValueError for a checkpoint that cannot be read, a model that is too large or has a tokenizer that
    the page does not know, and a file that cannot be written.
    """
    out = Path(config.out)
    check_ours(out, MARK, config.overwrite)
    check_size(config.checkpoint)
    run = load_checkpoint(config.checkpoint, print)
    print(f"model     {config.checkpoint}: {plural(run.model.n_parameters, 'parameter')}")
    data = page_data(run, read_prompt(config.prompt), Path(config.checkpoint).resolve().name)
    print(f"weights   {data['rounding']}")
    text = fill_page(data)
    write_file(out, f"{text.rstrip()}\n<!-- {MARK} -->\n".encode("utf-8", "replace"))
    print(f"{out}: {format_bytes(len(text))}, one file with all it needs; it checks its logits against NumPy's as it "
          f"opens\nopen in a browser: {out.resolve().as_uri()}")


def check_size(path: str) -> None:
    """Raise ValueError for a checkpoint whose page a browser would choke on, before its arrays are read."""
    n = count_weights(read_config(path))
    if n > LARGEST:
        raise ValueError(f"{path} has {n:,} weights: its page would have {format_bytes(2 * n)}, and take seconds for "
                         f"each token in plain JavaScript; gpt page takes models of up to {LARGEST:,} weights")


def check_choices(config: GPTConfig) -> None:
    """Raise ValueError for an architecture that the page does not compute."""
    for f in fields(config):
        value = getattr(config, f.name)
        if value not in VALUES.get(f.name, (value,)) or f.name not in CHOICES and value != f.default:
            raise ValueError(f"gpt page does not compute {flag_of(f.name)} {value}, which this model has")


def fill_page(data: dict[str, Any]) -> str:
    """Return the page that holds what `page_data` has returned."""
    return page(Path(__file__).parent, "page", f"{data['name']}: a GPT in a page", data, [f"{s}.js" for s in SCRIPTS])


def page_data(run: Checkpoint, prompt: str, name: str) -> dict[str, Any]:
    """Return all data of the page, ready for JSON: the model and its tokenizer, the text to open with, and logits to
    check it by.  Raises ValueError for a model that a page cannot hold."""
    check_choices(run.config)
    tokenizer, rounded = describe_tokenizer(run.tokenizer.to_json()), round_weights(run.model)
    arrays = {name: a for name, a in rounded.named_arrays().items() if name != "frequencies"}
    shapes, weights = pack_weights(arrays)
    context = min(run.config.block_size, CONTEXT)
    encode_with_names(run.tokenizer, tokenizer["special"], prompt)  # raises for unknown characters
    own = "".join(continue_text(run, "", context, temperature=0.8))
    if tokenizer["kind"] == "byte":  # half a surrogate pair, which JavaScript does not encode
        own = re.sub("[\ud800-\udfff]", "\ufffd", own)
    start = encode_start(run, "")[-context:]
    ids = encode_with_names(run.tokenizer, tokenizer["special"], own)[-context:]
    ids = ids if len(ids) else start  # the model may have ended its text at once
    logits, original = rounded(ids[None])[0], run.model.map(raw)(ids[None])[0]
    if not np.isfinite(logits).all():
        raise ValueError("the model's logits are not finite, so its weights are damaged")
    frequencies = rounded.frequencies
    return {"name": name, "about": describe_model(run, context), "rounding": describe_rounding(logits, original),
            "config": asdict(run.config), "arrays": shapes, "weights": weights, "tokenizer": tokenizer,
            "frequencies": None if frequencies is None else frequencies.tolist(), "context": context, "ends": run.ends,
            "start": start.tolist(), "text": prompt or own[:len(own) // 2],
            "check": {"text": own, "ids": ids.tolist(), "logits": [float(f"{x:.8g}") for x in logits[-1]]},
            "palette": diverging(np.linspace(-1, 1, 511)).tolist()}


def describe_model(run: Checkpoint, context: int) -> str:
    """Describe a model in a sentence or two."""
    c, unit = run.config, getattr(run.tokenizer, "unit", "tokens")
    limit = f"; the page reads the last {context} of them" if context < c.block_size else ""
    return (f"{plural(run.model.n_parameters, 'parameter')}: {plural(c.n_layer, 'block')} of "
            f"{plural(c.n_head, 'head')}, {c.n_embd} dimensions, a context of {c.block_size:,} {unit}{limit}. It "
            "computes in this page, in plain JavaScript: nothing is sent anywhere.")


def describe_rounding(rounded: Array, original: Array) -> str:
    """Describe in a sentence how far two models' logits (T, V) differ."""
    same, most = (rounded.argmax(-1) == original.argmax(-1)).sum(), np.abs(rounded - original).max()
    return (f"Rounded to float16, which changes logits by {most:.2g} at most: the likeliest "
            f"token stays the same at {same} of {plural(len(rounded), 'place')} that were compared.")


# ---------------------------------------------------------------------- weights


def round_weights(model: GPT) -> GPT:
    """Return a model in float64 whose weights are rounded to float16; the frequencies of RoPE are not.

    Raises ValueError for a weight that float16 cannot hold.
    """
    with np.errstate(over="ignore"):
        rounded = model.map(lambda a: raw(a).astype(np.float16).astype(np.float64))
    if rounded.frequencies is not None:
        rounded.frequencies = raw(model.frequencies).astype(np.float64)
    if wrong := [name for name, a in rounded.named_arrays().items() if not np.isfinite(a).all()]:
        raise ValueError(f"{wrong[0]} has a weight that is not finite, or beyond 65,504, the largest number of float16")
    return rounded


def pack_weights(arrays: dict[str, Array]) -> tuple[dict[str, tuple[int, ...]], str]:
    """Return the shapes of arrays as matrices, and all their numbers as float16 in base64.

    Compressed, all first bytes (sign, exponent) before all second ones, they take a seventh less: exponents repeat.
    """
    numbers = np.concatenate([a.reshape(-1) for a in arrays.values()]).astype(">f2")
    packed = zlib.compress(numbers.view(np.uint8).reshape(-1, 2).T.tobytes(), 9)
    return {name: (1, *a.shape)[-2:] for name, a in arrays.items()}, base64.b64encode(packed).decode()


# ---------------------------------------------------------------------- tokenizer


def describe_tokenizer(data: Any) -> dict[str, Any]:
    """Return what the page needs of a tokenizer, from its `to_json()`.  Raises ValueError for a kind that the page does
    not know."""
    match data:
        case {"kind": "char", "characters": characters}:
            return {"kind": "char", "tokens": list(characters), "special": []}
        case {"kind": "word", "tokens": tokens}:
            return {"kind": "word", "tokens": tokens, "special": []}
        case {"kind": "byte"}:
            return {"kind": "byte", "size": 256, "special": []}
        case {"kind": "turns", "base": base}:
            described = describe_tokenizer(base)
            first = described.get("size") or len(described["tokens"])
            return described | {"special": described["special"] + [(name, first + i) for i, name in enumerate(NAMES)]}
        case {"kind": "bpe", "tokenizer": {"normalizer": None, "decoder": {"type": "ByteLevel"},
                                           "pre_tokenizer": words, "model": {"type": "BPE"} as model} as whole}:
            special = whole["added_tokens"]
            if words in (_WORDS, _LINES_AND_WORDS) and byte_of_character().keys() <= model["vocab"].keys() \
                    and all(t["special"] for t in special) and not model.get("ignore_merges"):
                return describe_pairs(model, special, data.get("vocab_size")) | {"lines": words != _WORDS}
    raise ValueError("gpt page knows tokens of characters, bytes and words, and byte pairs that cut words as gpt train "
                     "--tokenizer bpe and GPT-2 do: the tokenizer of this model is of another kind")


def encode_with_names(tokenizer: Any, special: list[tuple[str, int]], text: str) -> Array:
    """Return the tokens of a text in which names of special tokens stand for these, as the page encodes it."""
    id_of = dict(special)
    pieces = re.split(f"({'|'.join(map(re.escape, id_of))})", text) if special else [text]
    return np.concatenate([np.array([id_of[p]]) if p in id_of else tokenizer.encode(p) for p in pieces])


def describe_pairs(model: dict[str, Any], special: list[dict[str, Any]], vocab_size: int | None) -> dict[str, Any]:
    """Return the tokens of byte pairs by name, merges in the order in which they apply, and special tokens."""
    id_of = model["vocab"] | {token["content"]: token["id"] for token in special}
    size = max(vocab_size or 0, 1 + max(id_of.values()))
    tokens = [""] * size
    for name, i in model["vocab"].items():
        tokens[i] = name
    merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    return {"kind": "bpe", "tokens": tokens, "merges": merges, "special": [(t["content"], t["id"]) for t in special]}
