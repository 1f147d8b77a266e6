"""Models in Hugging Face's form: `gpt import` reads a folder of one, `gpt export` writes one."""

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
from .config import CLASSES, TOKEN_IDS, parsed_config, rope_frequencies, rope_of, written_config
from .files import (
    CONFIG,
    GENERATION,
    WEIGHTS,
    check_free,
    filled_folder,
    given_folder,
    inside,
    read_json,
    shortened,
    stored_tensors,
    write_json,
)
from .layout import model_of, their_arrays
from .tokenizer import read_tokenizer, read_words, write_tokenizer


@dataclass
class ImportConfig(Settings):
    """The settings of `gpt import`."""

    path: str | None = setting(None, "folder of a model in Hugging Face's form: config.json, model.safetensors (or its "
                               "index and files), tokenizer.json", positional=True, path=True)
    out: str = setting("out", "folder for the checkpoint", group="output", path=True)
    overwrite: bool = overwrite_setting()
    dtype: str = setting("float32", "type of the numbers; those of float16 and bfloat16 are widened",
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
    out: str = setting("exported", "folder to make, which transformers loads", group="output", path=True)
    overwrite: bool = overwrite_setting()


def read_model(path: str | os.PathLike, dtype: Any = np.float32) -> tuple[GPT, dict[str, Any], list[str]]:
    """Return the model in a folder, what else its files say of it (kept in a checkpoint's `about`), and the keys of its
    config.json that are not used.

    Kinds: GPT-2, Llama, Mistral and Qwen2.  The weights are mapped and read a tensor at a time.  Raises OSError or
    ValueError, naming the file, for what is missing, damaged, unknown or asks for what this GPT does not have.
    """
    folder = given_folder(os.fspath(path))
    file, drawing = inside(folder, CONFIG), inside(folder, GENERATION)
    if not file.is_file():
        raise FileNotFoundError(f"{folder} has no config.json: give the folder of a model in Hugging Face's form")
    values = read_json(file)
    if drawing.is_file():  # then it alone says which tokens begin and end a text
        values |= {name: read_json(drawing).get(name) for name in TOKEN_IDS}
    try:
        config, about, unread = parsed_config(values)
    except ValueError as error:
        raise ValueError(f"{file} cannot be used: {error}") from None
    stored = stored_tensors(folder)
    try:
        with room_for(stored.values(), folder):
            model = model_of(about["model_type"], config, about.get("rope", {}), stored, np.dtype(dtype))
    except ValueError as error:
        raise ValueError(f"{folder} does not hold the model of its config.json: {error}") from None
    return model, {"pretrained": about, **read_words(folder)}, unread


def read_pretrained(path: str | os.PathLike, dtype: Any = np.float32) -> Checkpoint:
    """Return the model in a folder with its tokenizer, which needs the extra `bpe`.  Raises as `read_model` does, and
    ImportError where the extra is missing."""
    model, about, _ = read_model(path, dtype)
    return Checkpoint(model, read_tokenizer(Path(path), model.config.vocab_size), about)


def import_model(config: ImportConfig) -> None:
    """Make a checkpoint of a model in Hugging Face's form: the command `gpt import`."""
    assert config.path is not None
    folder = given_folder(config.path)
    if Path(config.out).resolve() == folder.resolve():
        raise ValueError(f"{config.out} holds the model itself: choose another folder with --out")
    with writable_folder(config.out) as out:
        if note := check_run(out, config.overwrite):
            announce(note)
        import_into(out, folder, config)


def import_into(out: Path, folder: Path, config: ImportConfig) -> None:
    """`import_model` of a folder into another one."""
    model, about, unread = read_model(folder, config.dtype)
    tokenizer = read_tokenizer(folder, model.config.vocab_size)
    c, kind = model.config, about["pretrained"]["model_type"]
    announce(f"model   {kind}: {c.n_layer} layers, {c.n_head} heads, {c.n_embd} dimensions, context {c.block_size:,}, "
             f"{c.vocab_size:,} tokens: {model.n_parameters:,} parameters, kept in {config.dtype}")
    if unread:
        announce(f"note    keys of config.json that are not used: {shortened(unread)}")
    file = checkpoint.save_checkpoint(out, model, tokenizer, about, first=True)
    delete([out / METRICS])
    announce(f"weights in {file}; text from them:\n\n    {command_line('sample', out)}\n")


def export_model(config: ExportConfig) -> None:
    """Write a folder that transformers loads: the command `gpt export`."""
    check_free(Path(config.out), config.overwrite)
    run = checkpoint.load_checkpoint(config.checkpoint, announce)
    with filled_folder(Path(config.out)) as folder:
        said = write_pretrained(folder, run)
    announce(f"{said}in {config.out}; to load it:\n\n    transformers.AutoModelForCausalLM.from_pretrained"
             f"({config.out!r})\n")


def write_pretrained(folder: Path, run: Checkpoint) -> str:
    """Fill a folder with config.json, model.safetensors and what there is of a tokenizer; says what was written.

    Raises ValueError that lists the model's choices for which none of these kinds has a counterpart.
    """
    about = run.metadata.get("pretrained")
    about = about if isinstance(about, dict) else {}
    ends = run.ends
    about = about | {"eos_token_id": ends[0] if len(ends) == 1 else ends or None}
    c, model = run.config, run.model
    values = written_config(c, about, raw(model.wte.weight).dtype.name)
    if model.frequencies is not None and not np.allclose(
            raw(model.frequencies), rope_frequencies(c.head_size, rope_of(c, about)), rtol=1e-5, atol=0):
        raise ValueError("the model's rotary positions turn by other angles than its settings say, and config.json has "
                         "no place for them: it cannot be exported")
    arrays = their_arrays(values["model_type"], model)
    write_json(folder / CONFIG, values)
    write_tensors(folder / WEIGHTS, arrays, {"format": "pt"})  # without which transformers refuses the file
    words = write_tokenizer(folder, run.tokenizer, run.metadata)
    return f"a {values['model_type']} of {model.n_parameters:,} parameters, {words}, "
