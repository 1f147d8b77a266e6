"""Runs on disk: safetensors files that hold weights, configuration, tokenizer and all that training goes on from.

Nothing in them is code, a file is written whole or not at all, and a checksum tells one that was damaged since.
"""

import json
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .model import GPT, GPTConfig
from .module import Array, raw
from .text import tokenizer as tokenizers

FILE = "model.safetensors"  # the newest checkpoint in the folder of a run
BEST = "best.safetensors"  # that of the lowest validation loss
_FORMAT = "tapegrad gpt 1"
_STATE = "training."  # what the arrays are called that only training needs
_CHECKSUM = "checksum"  # its key among the metadata; files of earlier versions have none
_DEEPEST = 16  # levels of lists and objects within each other that metadata may have


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
    arrays = {name: raw(a) for name, a in model.named_arrays().items()}
    arrays |= {_STATE + name: a for name, a in (state or {}).items()}
    arrays = {name: np.asarray(a, order="C") for name, a in arrays.items()}
    metadata[_CHECKSUM] = _checksum(metadata, arrays)
    with _explained(file), _replacing(file) as temporary:
        save_file(arrays, temporary, metadata)
    return file


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    """Turn what goes wrong at a write into an OSError that says what to do."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise OSError(f"the weights could not be saved as {file}, and what lay there before is untouched ({error}): "
                      "make room on the disk, or choose another folder with --out") from None


def _checksum(metadata: dict[str, str], arrays: dict[str, Array]) -> str:
    """CRC-32 of all that a file holds, in whichever order; 1.5 ms for 10 MB."""
    crc = 0
    for key, text in sorted(metadata.items()):
        crc = zlib.crc32(json.dumps([key, text]).encode(), crc)
    for name, a in sorted(arrays.items()):
        crc = zlib.crc32(json.dumps([name, str(a.dtype), a.shape]).encode(), crc)
        crc = zlib.crc32(a.reshape(-1).view(np.uint8), crc)
    return f"{crc:08x}"


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
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell of
            temporary.unlink()
        raise


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
        with _explained(folder / name), _replacing(folder / name) as temporary:
            try:
                os.link(folder / FILE, temporary)  # takes no room
            except OSError:  # a file system without links
                shutil.copyfile(folder / FILE, temporary)
    delete(numbered(folder)[:-last] if last > 1 else numbered(folder))


def numbered(folder: Path) -> list[Path]:
    """The checkpoints that are kept under the numbers of their iterations, oldest first."""
    return sorted(file for file in folder.glob("iter-*.safetensors") if re.fullmatch(r"iter-\d{8}", file.stem))


def sweep(folder: Path) -> None:
    """Delete what runs that were killed have left half-written; no run may be writing to the folder."""
    delete(folder.glob(".*.safetensors.*.tmp"))


def delete(files: Iterable[Path]) -> None:
    """Raises OSError that names the file which cannot be deleted."""
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise type(error)(f"{file} cannot be deleted ({error.strerror}): check the permissions of its folder, or "
                              "choose another folder with --out") from None


def load(path: str | os.PathLike) -> Run:
    """The run that `gpt train` left at `path`, its folder (whose newest checkpoint it is) or its file; where `gpt tune`
    left a LoRA, it is added to the weights that it belongs to.

    Raises FileNotFoundError if there is none, ValueError for a file that is foreign, damaged or does not hold
    the arrays of its configuration.
    """
    from .tuning import lora  # only here: it imports this file
    if lora.beside(_file(path)):
        return lora.load(_file(path).parent)
    return load_with_state(path)[0]


def load_with_state(path: str | os.PathLike) -> tuple[Run, dict[str, Array]]:
    """As `load`, and the arrays that training goes on from."""
    file = _file(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there are no weights here: train some with gpt train --out {file.parent}")
    metadata, arrays = _read(file)
    try:
        config, about = GPTConfig(**_parsed(metadata["config"])), _parsed(metadata["about"])
        tokenizer = tokenizers.from_json(_parsed(metadata["tokenizer"]))
        if tokenizer.vocab_size != config.vocab_size:
            raise ValueError(f"a tokenizer of {tokenizer.vocab_size} tokens for a model of {config.vocab_size}")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} has a configuration or tokenizer that this version cannot read: "
                         f"{error!s:.300}") from None
    state = {name.removeprefix(_STATE): arrays.pop(name) for name in [*arrays] if name.startswith(_STATE)}
    return Run(_filled(config, arrays, file), tokenizer, about), state


def read_about(path: str | os.PathLike) -> dict[str, Any]:
    """What a file says of its training, without its arrays.  Raises as `load` does."""
    file = _file(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there is no run here to go on with: check the path after --resume")
    with _opened(file) as opened:
        metadata = opened.metadata() or {}
    try:
        return _parsed(metadata["about"])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{file} is no checkpoint of gpt train, or damaged ({error})") from None


def _parsed(text: str) -> dict[str, Any]:
    """A JSON object.  Raises ValueError for anything else, and for one nested so deep that no run has written it."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError(f"{text:.40} is no JSON object")
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        level = [v for item in level if isinstance(item, (dict, list))
                 for v in (item.values() if isinstance(item, dict) else item)]
    if level:
        raise ValueError("it is nested too deep")
    return value


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A safetensors file, whose head has been read and fits the file's size.  Raises ValueError if it is none."""
    try:
        with safe_open(file, "np") as opened:
            yield opened
    except SafetensorError as error:
        raise ValueError(f"{file} is no safetensors file, or damaged ({error}): copy it or train again") from None
    except OSError as error:
        raise type(error)(f"{file} cannot be read ({error.strerror or error}): check its permissions") from None


def _read(file: Path) -> tuple[dict[str, str], dict[str, Array]]:
    """Metadata and arrays of a file that `save` wrote."""
    with _opened(file) as opened:
        metadata = opened.metadata() or {}
        if metadata.get("format") != _FORMAT:
            theirs = f": gpt import {file.parent} reads models in Hugging Face's form"
            raise ValueError(f"{file} is a safetensors file, but not one that gpt train wrote"
                             + theirs * (file.parent / "config.json").is_file())
        try:
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ValueError(f"{file} holds arrays that NumPy has no type or shape for ({error})") from None
    found = metadata.pop(_CHECKSUM, None)
    if found is not None and found != _checksum(metadata, arrays):
        raise ValueError(f"{file} is damaged: what it holds has another checksum than when it was written: copy it "
                         "again, or take another checkpoint of its folder")
    return metadata, arrays


def _filled(config: GPTConfig, arrays: dict[str, Array], file: Path) -> GPT:
    """A model with these arrays, which have to be all of its own."""
    dtype = arrays["wte.weight"].dtype if "wte.weight" in arrays else np.dtype(np.float32)
    if dtype.kind != "f":
        raise ValueError(f"{file} holds weights of {dtype}, and weights are floating-point numbers")
    held = sum(a.size for a in arrays.values())
    if _numbers(config) > 2 * held + 1_000_000 or config.n_layer > len(arrays) + 1000:
        raise ValueError(f"{file} does not hold the arrays of its configuration, which asks for far more than the "
                         f"{held:,} numbers in it")  # before a damaged size takes all memory
    model = GPT(config, seed=None, dtype=dtype)
    expected = model.named_arrays()
    wrong = ([f"{name} is missing" for name in expected.keys() - arrays.keys()]
             + [f"{name} is unknown" for name in arrays.keys() - expected.keys()]
             + [f"{name} is {a.dtype}{list(a.shape)} instead of {t.dtype}{list(t.shape)}"
                for name, t in expected.items()
                if (a := arrays.get(name)) is not None and (a.shape, a.dtype) != (t.shape, t.dtype)])
    if wrong:
        raise ValueError(f"{file} does not hold the arrays of its configuration: {'; '.join(sorted(wrong))}")
    for name, t in expected.items():
        t.data = arrays.pop(name)  # which frees it, so that a large model is not held twice
    return model


def _numbers(c: GPTConfig) -> int:
    """How many numbers are in the matrices of a model."""
    keys, hidden = (c.n_kv_head or c.n_head) * c.head_size, c.n_hidden or 4 * c.n_embd
    rows = 2 * c.n_embd + 2 * keys + (3 if c.gated else 2) * hidden + 2 * c.convolution  # of n_embd each, in a block
    tables = c.vocab_size * (1 if c.tied else 2) + (0 if c.positions == "rotary" else c.block_size)
    return (tables + c.n_layer * rows) * c.n_embd


def _file(path: str | os.PathLike) -> Path:
    return path if (path := Path(path)).suffix == ".safetensors" else path / FILE
