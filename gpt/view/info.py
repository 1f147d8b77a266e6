"""`gpt info`: the content of a checkpoint, read from the header of its file without loading an array."""

import json
import math
import os
import textwrap
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from autograd.core.describe import format_bytes
from autograd.core.packed import FORMATS

from .. import checkpoint
from ..data.ladder import Ladder
from ..model.config import Architecture
from ..runtime.safetensors_file import Stored, read_head
from ..runtime.screen import escape
from ..runtime.settings import Settings, setting
from ..tuning import lora

WIDTH = 100
DESCRIPTIONS = {"wte": "token embedding", "wpe": "position embedding", "smear": "share of the token before",
         "norm": "norm of the embedding", "attn": "attention", "mlp": "MLP", "ln_1": "norms before attention",
         "ln_2": "norms before the MLP", "ln_f": "last norm", "lm_head": "head"}
SIZES = ("vocab_size", "block_size", "n_layer", "n_head", "n_embd")
CONSTANTS = {"wpe": "position table, not learned", "frequencies": "rotary positions, not learned"}

DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # names in a file, and NumPy's


@dataclass
class InfoConfig(Settings):
    """The settings of `gpt info`."""

    checkpoint: str = setting("out", "folder that gpt train left, or a .safetensors file in it", positional=True,
                              path=True)
    json: bool = setting(False, "print one JSON object instead of text", group="output")


def info(config: InfoConfig) -> None:
    """Print what is in a checkpoint: the command `gpt info`.

    Raises OSError for a file that cannot be read, ValueError for one that is foreign or damaged.
    """
    found = describe(config.checkpoint)
    print(json.dumps(found) if config.json else "\n".join(format_lines(found)))


def describe(path: str | os.PathLike) -> dict[str, Any]:
    """Describe a checkpoint as plain data: file, note (why it is not the newest), bytes, weight_bytes (without training
    state), saved, config, parts, training_state, tokenizer, about (its metadata).

    Raises OSError for a file that cannot be read, ValueError for one that is foreign or damaged.
    """
    if Path(path).is_file() and Path(path).suffix != ".safetensors":
        raise ValueError(f"{path} is no checkpoint: give the folder of a run, or a .safetensors file in it")
    file, note = checkpoint.choose(path)
    file = checkpoint.adapter_beside(file) or file
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there is no checkpoint here: give the folder of a run, or train one with "
                                f"gpt train --out {file.parent}")
    stat, (header, stored) = file.stat(), read_head(file)
    check_format(file, header.get("format"))
    try:
        config, tokenizer, metadata = (checkpoint.parse_object(header[key]) for key in ("config", "tokenizer", "about"))
        metadata |= {"lora": checkpoint.parse_object(header["lora"])} if "lora" in header else {}
        forms = checkpoint.parse_object(header.get(checkpoint.PACKED, "{}"))
        arrays = {name: packed_array(a, *forms[name]) if name in forms else ([*a.shape], a.dtype)
                  for name, a in stored.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} has a configuration, tokenizer or history that this version cannot read: "
                         f"{error}") from None
    state = {name: a for name, a in arrays.items() if name.startswith(checkpoint.STATE_PREFIX)}
    weights = sum(a.nbytes for name, a in stored.items() if name not in state)
    return {"file": str(file), "note": note, "bytes": stat.st_size, "weight_bytes": weights,
            "saved": int(stat.st_mtime), "config": config,
            "parts": group_parts({name: a for name, a in arrays.items() if name not in state},
                           fixed=("frequencies",) + ("wpe",) * (config.get("positions") == "sinusoidal")),
            "training_state": {"numbers": sum(math.prod(shape) for shape, _ in state.values())},
            "tokenizer": tokenizer, "about": metadata}


def packed_array(stored: Stored, form: str, transposed: bool) -> tuple[list[int], str]:
    """Return the shape and the format of packed weights.  Raises KeyError or ValueError for what are none."""
    n_rows, n_bytes = stored.shape
    shape = [n_rows, n_bytes // FORMATS[form].n_bytes * FORMATS[form].n]
    return shape[::-1] if transposed else shape, form


def check_format(file: Path, found: str | None) -> None:
    """Raise ValueError for a file that `gpt train` did not write, or that a later version wrote."""
    if found in (*checkpoint.FORMATS, lora.FORMAT):
        return
    ours = checkpoint.FORMATS[0].rpartition(" ")[0]
    if found and found.startswith(f"{ours} "):
        raise ValueError(f"{file} has the format {found!r}, and this version reads {checkpoint.FORMATS[0]!r}: "
                         "update tapegrad")
    raise ValueError(f"{file} is a safetensors file, but not one that gpt train wrote")


def group_parts(arrays: dict[str, tuple[list[int], str]], fixed: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Group arrays by part of the model: its name (`h.*.attn`: the attention of all blocks), the shapes of its arrays
    by name, dtypes, count of numbers, and whether they are learned."""
    found: dict[str, dict[str, Any]] = {}
    for name, (shape, dtype) in sorted(arrays.items(), key=lambda item: model_order(item[0])):
        pieces = ["*" if is_number(piece) else piece for piece in name.split(".")]
        depth = 3 if pieces[1:2] == ["*"] else 1
        title = ".".join(pieces[:depth])
        group = found.setdefault(title, {"name": title, "shapes": {}, "dtypes": [], "numbers": 0,
                                         "learned": pieces[0] not in fixed})
        group["shapes"][".".join(pieces[depth:])] = list(shape)
        group["dtypes"] = sorted({*group["dtypes"], DTYPES.get(dtype, dtype)})
        group["numbers"] += math.prod(shape)
    return list(found.values())


def is_number(piece: str) -> bool:
    """Return whether a piece of an array's name is the number of a block: ASCII digits, and not very many."""
    return piece.isascii() and piece.isdigit() and len(piece) < 10


def model_order(name: str) -> list[tuple[Any, ...]]:
    """Return a sort key that orders the names of arrays as the model uses them: embeddings, blocks, last norm, head."""
    first = ("wte", "wpe", "frequencies", "smear", "norm", "h", "ln_f", "lm_head")
    pieces = name.split(".")
    order = first.index(pieces[0]) if pieces[0] in first else len(first)
    inner = ("ln_1", "attn", "ln_2", "mlp")
    return [(order,), *((0, int(p), "") if is_number(p) else (1, inner.index(p) if p in inner else 9, p)
                        for p in pieces)]


# ---------------------------------------------------------------------- in words


def format_lines(found: dict[str, Any]) -> list[str]:
    """Return the text of `gpt info`."""
    metadata, config = dict(found["about"]), found["config"]
    train, state = metadata.pop("train", {}), metadata.pop("state", {})
    for name in ("saved", "metrics"):  # of the folder, not of the model
        metadata.pop(name, None)
    for key in ("best", "seconds"):
        if isinstance(state, dict) and state.get(key):
            metadata[{"best": "best_val_loss"}.get(key, key)] = state[key]
    learned = sum(p["numbers"] for p in found["parts"] if p["learned"])
    dtypes = ", ".join(sorted({d for p in found["parts"] for d in p["dtypes"]}))
    saved = datetime.fromtimestamp(found["saved"]).isoformat(" ", "minutes")
    numbers = found["training_state"]["numbers"]
    return [
        *entry("file", f"{shown(found['file'])}: {format_bytes(found['bytes'])}, saved {saved}"),
        *(entry("note", shown(found["note"])) if found["note"] else []),
        *entry("holds", "weights" + (f", and what training goes on from ({numbers:,} numbers)" if numbers else
                                     " only: training cannot go on from it where it stopped")),
        *entry("model", settings_text(non_default_settings(config))),
        *entry("tokenizer", tokenizer_text(found["tokenizer"], config.get("vocab_size"))),
        *entry("parameters", f"{learned:,} in {dtypes}: {format_bytes(found['weight_bytes'])}"),
        *table(found["parts"], learned, config.get("tied", True)),
        *(entry("training", settings_text({k: v for k, v in train.items()
                                           if k not in config and v not in (None, "", [])}))
          if isinstance(train, dict) and train else []),
        *(line for key, value in metadata.items() for line in entry(key.replace("_", " "), metadata_text(key, value))),
    ]


def entry(title: str, text: str) -> list[str]:
    """Return the lines of a title with its text beside it."""
    wrapped = textwrap.wrap(text, WIDTH, initial_indent=f"{shown(title):13} ", subsequent_indent=" " * 14,
                            break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in wrapped] or [title]


def table(parts: list[dict[str, Any]], learned: int, tied: bool = True) -> list[str]:
    """Return a line for each part: its name, count of numbers, share, description and the shapes of its arrays."""
    rows = []
    for p in parts:
        descriptions = DESCRIPTIONS if p["learned"] else CONSTANTS
        text = next((text for key, text in descriptions.items() if key in p["name"].split(".")), "")
        text += ", and the head" * (p["name"] == "wte" and bool(tied))
        shapes = ", ".join(f"{name.removesuffix('.weight')} " * (name != "weight") + " x ".join(map(str, shape))
                           for name, shape in p["shapes"].items())
        share = f"{p['numbers'] / learned:6.1%}" if p["learned"] and learned else " " * 6
        rows.append((shown(p["name"]), f"{p['numbers']:,}", share, text, shown(shapes)))
    widths = [max(len(row[i]) for row in rows) for i in range(4)] if rows else []
    return [f"{'':14}{a:{widths[0]}}  {n:>{widths[1]}}  {share}  {text:{widths[3]}}  {shapes}".rstrip()
            for a, n, share, text, shapes in rows]


def tokenizer_text(tokenizer: dict[str, Any], vocab_size: Any) -> str:
    """Return the kind of a tokenizer, its size and, if the file has them, its first tokens."""
    name = {"characters": "char"}.get(str(tokenizer.get("kind")), str(tokenizer.get("kind", "unknown")))
    text = f"{shown(name)}, {vocab_size} tokens"
    some: Any = next((v for k, v in tokenizer.items() if k != "kind" and isinstance(v, (str, list)) and v), "")
    listed = "".join(some[:40]) if isinstance(some, str) else " ".join(map(str, some[:12]))
    return text + (f": {listed!r}{' …' if len(some) > (40 if isinstance(some, str) else 12) else ''}" if some else "")


def non_default_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return a model's sizes, and all other settings that differ from their defaults."""
    default = {f.name: f.default for f in fields(Architecture)}
    return {name: value for name, value in config.items() if name in SIZES or value != default.get(name)}


def metadata_text(key: str, value: Any) -> str:
    """Return an entry of the metadata as text: `val_loss` with its perplexity."""
    if key == "ladder" and (ladder := Ladder.from_json(value)):
        return shown(ladder.describe())
    if isinstance(value, dict):
        return settings_text(value)
    if key.endswith("loss") and isinstance(value, (int, float)) and -700 < value < 700:
        return f"{value:.4f} nats per token (perplexity {math.exp(value):.4g})"
    return shown(value)


def settings_text(settings: dict[str, Any]) -> str:
    """Return settings in a line, to be wrapped between them."""
    pairs = (f"{shown(key)} {shown(value)}" for key, value in settings.items())
    return ", ".join(pair.replace(" ", "\xa0") if len(pair) < 40 else pair for pair in pairs)


def shown(value: Any) -> str:
    """Return a value as text within a line; control characters are escaped, since the file may come from anywhere."""
    if isinstance(value, (list, tuple)):
        return " ".join(shown(v) for v in value) or "none"
    if isinstance(value, dict):
        return json.dumps(value)
    text = {None: "none", True: "yes", False: "no"}.get(value) if value is None or isinstance(value, bool) else \
        f"{value:.6g}" if isinstance(value, float) else str(value)
    return escape(str(text)) or "none"
