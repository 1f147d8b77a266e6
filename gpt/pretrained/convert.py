"""`gpt import` and `gpt export`: GGUF files and models in Hugging Face's form become checkpoints, and the reverse."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import autograd as ag
from autograd.core.describe import format_bytes
from autograd.core.packed import FORMATS

from .. import checkpoint
from ..checkpoint import Checkpoint
from ..model.gpt import GPT
from ..model.module import raw
from ..runtime.gguf_file import read_gguf
from ..runtime.safetensors_file import Stored, room_for, write_tensors
from ..runtime.screen import announce, command_line
from ..runtime.settings import Settings, overwrite_setting, setting
from ..runtime.writing import delete
from ..training.metrics import FILE as METRICS
from ..training.run_folder import check_run, writable_folder
from .config import CLASSES, TOKEN_IDS, parse_config, rope_frequencies, rope_of, to_hf_config
from .files import (
    CONFIG,
    GENERATION,
    PACKAGES,
    WEIGHTS,
    check_folder,
    check_free,
    filled_folder,
    find_gguf,
    inside,
    read_json,
    read_tensors,
    shortened,
    write_json,
)
from .gguf_model import ROPE_FACTORS, gguf_frequencies, gguf_layout, parse_metadata
from .gguf_tokenizer import chat_metadata, read_gguf_tokenizer
from .layout import build_model, check_layers, layout_of, to_hf_arrays, without_prefix
from .tokenizer import read_chat_metadata, read_tokenizer, write_tokenizer


@dataclass
class ImportConfig(Settings):
    """The settings of `gpt import`."""

    path: str | None = setting(None, "a GGUF file; or a folder in Hugging Face's form: config.json, model.safetensors "
                               "(or its index and files), tokenizer.json; or the name of a model from pip: "
                               f"{', '.join(f'{name} ({package})' for name, package in PACKAGES.items())}",
                               positional=True, path=True)
    out: str | None = setting(None, "folder for the checkpoint; none: out, or the name of a model from pip",
                              group="output", path=True)
    overwrite: bool = overwrite_setting()
    dtype: str = setting("stored", "dtype of the weights; stored: matrices stay as they are in the file if that is "
                         f"{', '.join(FORMATS)}, take as little memory, and gpt tune learns a LoRA beside them; all "
                         "others are widened to float32", choices=("stored", "float32", "float64"), group="output")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.path is None:
            raise ValueError("give a model: gpt import FILE.gguf, or gpt import FOLDER, or gpt import "
                             f"{min(PACKAGES)} (kinds: {', '.join(CLASSES)})")
        if self.out is None:
            self.out = self.path if self.path in PACKAGES else "out"


@dataclass
class ExportConfig(Settings):
    """The settings of `gpt export`."""

    checkpoint: str = setting("out", "folder that gpt train, import or tune left, or a .safetensors file in it",
                              positional=True, path=True)
    out: str = setting("exported", "folder to write, which transformers loads", group="output", path=True)
    overwrite: bool = overwrite_setting()


def read_model(path: str | os.PathLike, dtype: Any = np.float32,
               packed: bool = False) -> tuple[GPT, dict[str, Any], list[str]]:
    """Read the model in a folder (a GPT-2, Llama, Mistral, Qwen2 or Qwen3); return it, metadata for its checkpoint, and
    the keys of its config.json that are not used.

    The weights are mapped and read a tensor at a time.  Raises OSError or ValueError, naming the file, for files that
    are missing or damaged, and for features that this GPT does not have.
    """
    folder = check_folder(os.fspath(path))
    file, generation = inside(folder, CONFIG), inside(folder, GENERATION)
    if not file.is_file():
        raise FileNotFoundError(f"{folder} has no config.json: give the folder of a model in Hugging Face's form")
    values = read_json(file)
    if generation.is_file():  # it overrides the tokens that begin and end a text
        values |= {name: read_json(generation).get(name) for name in TOKEN_IDS}
    try:
        config, extra, unread = parse_config(values)
    except ValueError as error:
        raise ValueError(f"{file} cannot be used: {error}") from None
    stored = read_tensors(folder)
    dtype, rope, model_type = np.dtype(dtype), extra.get("rope"), extra["model_type"]
    try:
        with room_for(held_bytes(stored, dtype, packed), folder):
            check_layers(config, stored)
            model = build_model(config, layout_of(model_type, config), without_prefix(model_type, config, stored),
                                rope_frequencies(config.head_size, rope) if rope else None, dtype, packed)
    except ValueError as error:
        raise ValueError(f"{folder} does not hold the model of its config.json: {error}") from None
    return model, {"pretrained": extra, **read_chat_metadata(folder)}, unread


def read_gguf_model(file: Path, dtype: Any = np.float32, packed: bool = False) -> tuple[Checkpoint, list[str]]:
    """Read the model in a GGUF file, its tokenizer and its chat template; return it and notes.

    Arrays are widened one at a time.  Raises OSError or ValueError for a file that is missing or damaged, and for
    features that this GPT does not have, and ImportError without the extra `gguf`.
    """
    metadata, stored = read_gguf(file)
    dtype, factors = np.dtype(dtype), stored.pop(ROPE_FACTORS, None)
    try:
        config, extra = parse_metadata(metadata, stored)
        tokenizer = read_gguf_tokenizer(metadata, config.vocab_size)
        turns = None
        if rope := extra.get("rope"):
            turns, extra["rope"] = gguf_frequencies(config, rope, factors)
        with room_for(held_bytes(stored, dtype, packed), file):
            check_layers(config, stored)
            model = build_model(config, gguf_layout(extra["model_type"], config), stored, turns, dtype, packed)
        about = {"pretrained": extra, **chat_metadata(metadata)}
    except ValueError as error:
        raise ValueError(f"{file} cannot be used: {error}") from None
    kept = {"F32", "F64", *(FORMATS if packed else ())}
    wide = sorted({a.dtype for a in stored.values() if len(a.shape) == 2} - kept)
    notes = [f"its {', '.join(wide)} weights are widened to {dtype}"] if wide else []
    return Checkpoint(model, tokenizer, about), notes


def held_bytes(stored: dict[str, Stored], dtype: Any, packed: bool) -> int:
    """Return the bytes that arrays take in a model."""
    return sum(a.nbytes if packed and a.dtype in FORMATS else math.prod(a.shape) * dtype.itemsize
               for a in stored.values())


def read_with_notes(path: str | os.PathLike, dtype: Any = np.float32,
                    packed: bool = False) -> tuple[Checkpoint, list[str]]:
    """Read what `read_pretrained` reads; return it and notes for the user.  `packed`: see `build_model`."""
    if file := find_gguf(os.fspath(path)):
        return read_gguf_model(file, dtype, packed)
    model, metadata, unread = read_model(path, dtype, packed)
    notes = [f"keys of config.json that are not used: {shortened(unread)}"] if unread else []
    return Checkpoint(model, read_tokenizer(Path(path), model.config.vocab_size), metadata), notes


def read_pretrained(path: str | os.PathLike, dtype: Any = np.float32) -> Checkpoint:
    """Read the model in a GGUF file or a folder in Hugging Face's form, with its tokenizer.

    Raises OSError or ValueError, naming the file, for files that are missing or damaged, and for features that this GPT
    does not have, and ImportError without the extras `bpe` (and `gguf`).
    """
    return read_with_notes(path, dtype)[0]


def import_model(config: ImportConfig) -> None:
    """Make a checkpoint of a model: the command `gpt import`."""
    assert config.path is not None and config.out is not None
    source = find_gguf(config.path) or check_folder(config.path)
    if Path(config.out).resolve() == source.resolve():
        raise ValueError(f"{config.out} holds the model itself: choose another folder with --out")
    with writable_folder(config.out) as out:
        if note := check_run(out, config.overwrite):
            announce(note)
        import_into(out, source, config.dtype)


def import_into(out: Path, source: Path, dtype: str) -> None:
    """Import the model in a file or folder into the folder `out`."""
    packed = dtype == "stored"
    run, notes = read_with_notes(source, "float32" if packed else dtype, packed)
    c, model_type = run.config, run.metadata["pretrained"]["model_type"]
    announce(f"model   {model_type}: {c.n_layer} layers, {c.n_head} heads, {c.n_embd} dimensions, context "
             f"{c.block_size:,}, {c.vocab_size:,} tokens: {run.model.n_parameters:,} parameters, kept in "
             f"{describe_storage(run.model)}")
    for note in notes:
        announce(f"note    {note}")
    file = checkpoint.save_checkpoint(out, run.model, run.tokenizer, run.metadata, first=True)
    delete([out / METRICS])
    use, command = ("to talk to it", "chat") if "chat_template" in run.metadata else ("text from them", "sample")
    announce(f"weights in {file}; {use}:\n\n    {command_line(command, out)}\n")


def describe_storage(model: GPT) -> str:
    """Return the formats that a model's arrays are kept in, and their bytes: `Q4_1, Q8_0 and float32, 97.2 MB`."""
    arrays = [raw(a) for a in model.named_arrays().values()]
    forms = sorted({a.format if isinstance(a, ag.Packed) else str(a.dtype) for a in arrays})
    listed = " and ".join(filter(None, [", ".join(forms[:-1]), forms[-1]]))
    return f"{listed}, {format_bytes(sum(a.nbytes for a in arrays))}"


def export_model(config: ExportConfig) -> None:
    """Write a folder that transformers loads: the command `gpt export`."""
    check_free(Path(config.out), config.overwrite)
    run = checkpoint.load_checkpoint(config.checkpoint, announce)
    with filled_folder(Path(config.out)) as folder:
        written = write_pretrained(folder, run)
    announce(f"{written}, in {config.out}; to load it:\n\n    transformers.AutoModelForCausalLM.from_pretrained"
             f"({config.out!r})\n")


def write_pretrained(folder: Path, run: Checkpoint) -> str:
    """Fill a folder with config.json, model.safetensors and the tokenizer's files; return a line on what was written.

    Raises ValueError that lists the model's choices that none of the families has.
    """
    imported = run.metadata.get("pretrained")
    imported = imported if isinstance(imported, dict) else {}
    ends = run.ends
    imported = imported | {"eos_token_id": ends[0] if len(ends) == 1 else ends or None}
    c, model = run.config, run.model
    values = to_hf_config(c, imported, raw(model.wte.weight).dtype.name)
    if model.frequencies is not None and not np.allclose(
            raw(model.frequencies), rope_frequencies(c.head_size, rope_of(c, imported)), rtol=1e-5, atol=0):
        raise ValueError("the model's rotary positions turn by other angles than its settings say, and config.json has "
                         "no place for them: it cannot be exported")
    arrays = to_hf_arrays(values["model_type"], model)
    write_json(folder / CONFIG, values)
    write_tensors(folder / WEIGHTS, arrays, {"format": "pt"})  # transformers needs it
    tokenizer = write_tokenizer(folder, run.tokenizer, run.metadata)
    return f"a {values['model_type']} of {model.n_parameters:,} parameters, {tokenizer}"
