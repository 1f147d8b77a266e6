"""Runs on disk: safetensors files that hold weights, configuration, tokenizer and all that training goes on from.

Nothing in them is code, and a file is written whole or not at all.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from . import tokenizer as tokenizers
from .model import GPT, GPTConfig
from .module import Array, raw

FILE = "model.safetensors"  # the newest checkpoint in the folder of a run
BEST = "best.safetensors"  # that of the lowest validation loss
_FORMAT = "tapegrad gpt 1"
_STATE = "training."  # what the arrays are called that only training needs


@dataclass
class Run:
    """A trained model and what is needed to use it; `about` says how it was trained."""
    model: GPT
    tokenizer: Any
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> GPTConfig:
        return self.model.config


def save(path: str | os.PathLike, model: GPT, tokenizer: Any, about: dict[str, Any] | None = None,
         state: dict[str, Array] | None = None) -> Path:
    """Write the run to `path` (a file, or the folder of the run), whole or not at all; where it lies.

    `state`: arrays that training goes on from, such as an optimizer's.  Raises OSError, and leaves what was there, if
    the disk is full or refuses.
    """
    file = _file(path)
    metadata = {"format": _FORMAT, "config": json.dumps(asdict(model.config)),
                "tokenizer": json.dumps(tokenizer.to_json()), "about": json.dumps(about or {})}
    arrays = {name: np.ascontiguousarray(raw(a)) for name, a in model.named_arrays().items()}
    arrays |= {_STATE + name: a for name, a in (state or {}).items()}
    try:
        with _replacing(file) as temporary:
            save_file(arrays, temporary, metadata)
    except (OSError, SafetensorError) as error:
        raise OSError(f"the weights could not be saved as {file}, and what lay there before is untouched ({error}): "
                      "make room on the disk, or choose another folder with --out") from None
    return file


@contextmanager
def _replacing(file: Path) -> Iterator[Path]:
    """A temporary file to write, which then takes the place of `file`: whoever reads that, and whatever fails, sees the
    old one or the new one, also after a power cut."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, file)
        _sync(file.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk itself."""
    if path.is_dir() and os.name == "nt":  # where a folder cannot be opened
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def keep(folder: Path, iter: int, last: int, best: bool) -> None:
    """Keep the newest checkpoint of a run, that of iteration `iter`, under its number too, and the `last` numbered ones
    of which it is one; as the best one if it is."""
    for name in [f"iter-{iter:08d}.safetensors"] * (last > 1) + [BEST] * best:
        with _replacing(folder / name) as temporary:
            try:
                os.link(folder / FILE, temporary)  # takes no room
            except OSError:  # a file system without links
                shutil.copyfile(folder / FILE, temporary)
    for old in numbered(folder)[:-last] if last > 1 else numbered(folder):
        old.unlink(missing_ok=True)


def numbered(folder: Path) -> list[Path]:
    """The checkpoints that are kept under the numbers of their iterations, oldest first."""
    return sorted(file for file in folder.glob("iter-*.safetensors") if re.fullmatch(r"iter-\d{8}", file.stem))


def load(path: str | os.PathLike) -> Run:
    """The run that `gpt train` left at `path`, its folder (whose newest checkpoint it is) or its file.

    Raises FileNotFoundError if there is none, ValueError for a file that is foreign, damaged or does not hold
    the arrays of its configuration.
    """
    return load_with_state(path)[0]


def load_with_state(path: str | os.PathLike) -> tuple[Run, dict[str, Array]]:
    """As `load`, and the arrays that training goes on from."""
    file = _file(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there are no weights here: train some with gpt train --out {file.parent}")
    metadata, arrays = _read(file)
    try:
        config, about = GPTConfig(**json.loads(metadata["config"])), json.loads(metadata["about"])
        tokenizer = tokenizers.from_json(json.loads(metadata["tokenizer"]))
        if tokenizer.vocab_size != config.vocab_size:
            raise ValueError(f"a tokenizer of {tokenizer.vocab_size} tokens for a model of {config.vocab_size}")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} has a configuration or tokenizer that this version cannot read: {error}") from None
    state = {name.removeprefix(_STATE): arrays.pop(name) for name in [*arrays] if name.startswith(_STATE)}
    return Run(_filled(config, arrays, file), tokenizer, about), state


def read_about(path: str | os.PathLike) -> dict[str, Any]:
    """What a file says of its training, without its arrays.  Raises as `load` does."""
    file = _file(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there is no run here to go on with: check the path after --resume")
    try:
        with safe_open(file, "np") as opened:
            about = json.loads((opened.metadata() or {})["about"])
    except (SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no checkpoint of gpt train, or damaged ({error})") from None
    if not isinstance(about, dict):
        raise ValueError(f"{file} is no checkpoint of gpt train")
    return about


def _read(file: Path) -> tuple[dict[str, str], dict[str, Array]]:
    """Metadata and arrays of a file that `save` wrote."""
    try:
        with safe_open(file, "np") as opened:
            metadata = opened.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise ValueError(f"{file} is a safetensors file, but not one that gpt train wrote")
            return metadata, {name: opened.get_tensor(name) for name in opened.keys()}
    except SafetensorError as error:
        raise ValueError(f"{file} is no safetensors file, or damaged ({error}): copy it or train again") from None


def _filled(config: GPTConfig, arrays: dict[str, Array], file: Path) -> GPT:
    """A model with these arrays, which have to be all of its own."""
    dtype = arrays["wte.weight"].dtype if "wte.weight" in arrays else np.dtype(np.float32)
    if dtype.kind != "f":
        raise ValueError(f"{file} holds weights of {dtype}, and weights are floating-point numbers")
    c, held = config, sum(a.size for a in arrays.values())
    if (c.vocab_size + c.block_size + 12 * c.n_layer * c.n_embd) * c.n_embd > 2 * held + 1_000_000:
        raise ValueError(f"{file} does not hold the arrays of its configuration, which asks for far more than the "
                         f"{held:,} numbers in it")  # before a damaged size takes all memory
    model = GPT(config, dtype=dtype)
    expected = model.named_arrays()
    wrong = ([f"{name} is missing" for name in expected.keys() - arrays.keys()]
             + [f"{name} is unknown" for name in arrays.keys() - expected.keys()]
             + [f"{name} is {a.dtype}{list(a.shape)} instead of {t.dtype}{list(t.shape)}"
                for name, t in expected.items()
                if (a := arrays.get(name)) is not None and (a.shape, a.dtype) != (t.shape, t.dtype)])
    if wrong:
        raise ValueError(f"{file} does not hold the arrays of its configuration: {'; '.join(sorted(wrong))}")
    for name, t in expected.items():
        t.data = arrays[name]
    return model


def _file(path: str | os.PathLike) -> Path:
    return path if (path := Path(path)).suffix == ".safetensors" else path / FILE
