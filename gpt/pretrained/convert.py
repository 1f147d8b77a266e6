"""`gpt import` and `gpt export`: models in Hugging Face's form become checkpoints, and the reverse."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import checkpoint
from ..checkpoint import Checkpoint
from ..model.gpt import GPT
from ..model.module import raw
from ..runtime.safetensors_file import room_for, write_tensors
from ..runtime.screen import announce, command_line
from ..runtime.settings import Settings, overwrite_setting, setting
from ..runtime.writing import delete
from ..training.metrics import FILE as METRICS
from ..training.run_folder import check_run, writable_folder
from .config import CLASSES, TOKEN_IDS, parse_config, rope_frequencies, rope_of, to_hf_config
from .files import (
    CONFIG,
    GENERATION,
    WEIGHTS,
    check_folder,
    check_free,
    filled_folder,
    inside,
    read_json,
    read_tensors,
    shortened,
    write_json,
)
from .layout import build_model, to_hf_arrays
from .tokenizer import read_chat_metadata, read_tokenizer, write_tokenizer


@dataclass
class ImportConfig(Settings):
    """The settings of `gpt import`."""

    path: str | None = setting(None, "folder of a model in Hugging Face's form: config.json, model.safetensors (or its "
                               "index and files), tokenizer.json", positional=True, path=True)
    out: str = setting("out", "folder for the checkpoint", group="output", path=True)
    overwrite: bool = overwrite_setting()
    dtype: str = setting("float32", "dtype of the weights; float16 and bfloat16 are widened to it",
                         choices=("float32", "float64"), group="output")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.path is None:
            raise ValueError(f"give the folder of a model: gpt import FOLDER (kinds: {', '.join(CLASSES)})")


@dataclass
class ExportConfig(Settings):
    """The settings of `gpt export`."""

    checkpoint: str = setting("out", "folder that gpt train, import or tune left, or a .safetensors file in it",
                              positional=True, path=True)
    out: str = setting("exported", "folder to write, which transformers loads", group="output", path=True)
    overwrite: bool = overwrite_setting()


def read_model(path: str | os.PathLike, dtype: Any = np.float32) -> tuple[GPT, dict[str, Any], list[str]]:
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
    try:
        with room_for(stored.values(), folder):
            model = build_model(extra["model_type"], config, extra.get("rope", {}), stored, np.dtype(dtype))
    except ValueError as error:
        raise ValueError(f"{folder} does not hold the model of its config.json: {error}") from None
    return model, {"pretrained": extra, **read_chat_metadata(folder)}, unread


def read_pretrained(path: str | os.PathLike, dtype: Any = np.float32) -> Checkpoint:
    """Read the model in a folder with its tokenizer, which needs the extra `bpe`.  Raises as `read_model` does, and
    ImportError if the extra is missing."""
    model, metadata, _ = read_model(path, dtype)
    return Checkpoint(model, read_tokenizer(Path(path), model.config.vocab_size), metadata)


def import_model(config: ImportConfig) -> None:
    """Make a checkpoint of a model in Hugging Face's form: the command `gpt import`."""
    assert config.path is not None
    folder = check_folder(config.path)
    if Path(config.out).resolve() == folder.resolve():
        raise ValueError(f"{config.out} holds the model itself: choose another folder with --out")
    with writable_folder(config.out) as out:
        if note := check_run(out, config.overwrite):
            announce(note)
        import_into(out, folder, config)


def import_into(out: Path, folder: Path, config: ImportConfig) -> None:
    """Import the model in a folder into the folder `out`."""
    model, metadata, unread = read_model(folder, config.dtype)
    tokenizer = read_tokenizer(folder, model.config.vocab_size)
    c, model_type = model.config, metadata["pretrained"]["model_type"]
    announce(f"model   {model_type}: {c.n_layer} layers, {c.n_head} heads, {c.n_embd} dimensions, context "
             f"{c.block_size:,}, {c.vocab_size:,} tokens: {model.n_parameters:,} parameters, kept in {config.dtype}")
    if unread:
        announce(f"note    keys of config.json that are not used: {shortened(unread)}")
    file = checkpoint.save_checkpoint(out, model, tokenizer, metadata, first=True)
    delete([out / METRICS])
    announce(f"weights in {file}; text from them:\n\n    {command_line('sample', out)}\n")


def export_model(config: ExportConfig) -> None:
    """Write a folder that transformers loads: the command `gpt export`."""
    check_free(Path(config.out), config.overwrite)
    run = checkpoint.load_checkpoint(config.checkpoint, announce)
    with filled_folder(Path(config.out)) as folder:
        written = write_pretrained(folder, run)
    announce(f"{written}in {config.out}; to load it:\n\n    transformers.AutoModelForCausalLM.from_pretrained"
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
    return f"a {values['model_type']} of {model.n_parameters:,} parameters, {tokenizer}, "
