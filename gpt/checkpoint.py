"""Runs on disk: safetensors files that hold weights, configuration, tokenizer and all that training goes on from.

Nothing in them is code, a file is written whole or not at all, and a checksum tells one that was damaged since.
"""

import json
import math
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .data.tokenizers import tokenizer as tokenizers
from .model.gpt import GPT, GPTConfig
from .model.module import Array, raw
from .runtime.safetensors_file import Stored, read_head, room_for, write_tensors
from .runtime.writing import delete, replacing
from .training.metrics import FILE as METRICS
from .training.metrics import PENDING

FILE = "model.safetensors"  # the newest checkpoint in the folder of a run
BEST = "best.safetensors"  # that of the lowest validation loss
LORA = "lora.safetensors"  # in place of the newest: what gpt tune --lora-rank has learned beside other weights
FORMATS = ("tapegrad gpt 2", "tapegrad gpt 1")  # ours, and that of earlier versions, whose first wrote no checksum
_STATE = "training."  # what the arrays are called that only training needs
_CHECKSUM = "checksum"  # its key among the metadata
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

    @property
    def ends(self) -> list[int]:
        """The tokens at the first of which a text ends: that of the turns it was tuned to, and those that an imported
        model names."""
        named = self.about.get("pretrained")
        ids = named.get("eos_token_id") if isinstance(named, dict) else None
        ids = [getattr(self.tokenizer, "end", None), *(ids if isinstance(ids, list) else [ids])]
        return [i for i in ids if type(i) is int and 0 <= i < self.config.vocab_size]


def save(path: str | os.PathLike, model: GPT, tokenizer: Any, about: dict[str, Any] | None = None,
         state: dict[str, Array] | None = None, first: bool = False) -> Path:
    """Write the run to `path` (a file, or the folder of the run), whole or not at all; where it lies.

    `state`: arrays that training goes on from, such as an optimizer's.  `first`: of its run, for whose sake the
    checkpoints of another run go that lie there.  Raises OSError, and leaves what was there, if the disk is full or
    refuses.
    """
    file = file_of(path)
    metadata = {"format": FORMATS[0], "config": json.dumps(asdict(model.config)),
                "tokenizer": json.dumps(tokenizer.to_json()), "about": json.dumps(about or {})}
    arrays = {name: raw(a) for name, a in model.named_arrays().items()}
    write(file, metadata, arrays | {_STATE + name: a for name, a in (state or {}).items()}, first)
    return file


def write(file: Path, metadata: dict[str, str], arrays: dict[str, Array], first: bool = False) -> None:
    """Write a file of these with a checksum, as `save` does."""
    arrays = {name: np.asarray(a, order="C") for name, a in arrays.items()}
    with _explained(file), replacing(file) as temporary:
        write_tensors(temporary, arrays, metadata | {_CHECKSUM: _checksum(metadata, arrays)})
        if first:  # before there is a newest checkpoint that they are not copies of
            delete([*numbered(file.parent), file.with_name(BEST)])
    if first:
        delete([file.with_name(LORA if file.name == FILE else FILE)])


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    """Turn what goes wrong at a write into an OSError that says what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(f"the weights could not be saved as {file}, and what lay there before is untouched ({error}): "
                      "make room on the disk, or choose another folder with --out") from None


def _checksum(metadata: dict[str, str], arrays: Mapping[str, Array | Stored]) -> str:
    """CRC-32 of all that a file holds, in whichever order; 1.5 ms for 10 MB."""
    crc = 0
    for key, text in sorted(metadata.items()):
        crc = zlib.crc32(json.dumps([key, text]).encode(), crc)
    for name, a in sorted(arrays.items()):
        a = a.map() if isinstance(a, Stored) else a
        crc = zlib.crc32(json.dumps([name, str(a.dtype), a.shape]).encode(), crc)
        crc = zlib.crc32(a.reshape(-1).view(np.uint8), crc)
    return f"{crc:08x}"


def keep(folder: Path, about: dict[str, Any], last: int) -> None:
    """Keep the newest checkpoint of a run, which says `about` itself, under its number too, and the `last` numbered
    ones of which it is one; as the best one if it is."""
    name = _copied(folder, about, last)
    later = [file for file in numbered(folder) if file.name > name]  # of a run that goes on from an earlier one
    earlier = [file for file in numbered(folder) if file.name <= name]
    delete(later + (earlier[:-last] if last > 1 else earlier))


def _copied(folder: Path, about: dict[str, Any], last: int) -> str:
    """The name with the number of the newest checkpoint, which has been copied to all of its names."""
    name = f"iter-{about['iter']:08d}.safetensors"
    best = about["state"]["best_iter"] == about["iter"] and lowest(folder) >= best_loss(about)
    for copy in [name] * (last > 1) + [BEST] * best:
        if (folder / copy).exists() and (folder / copy).samefile(folder / FILE):
            continue
        with _explained(folder / copy), replacing(folder / copy) as temporary:
            temporary.unlink()
            try:
                os.link(folder / FILE, temporary)  # takes no room
            except OSError:  # a file system without links
                shutil.copyfile(folder / FILE, temporary)
    return name


def restore(folder: Path) -> None:
    """Do what a run that was killed right after its newest checkpoint had left to do: move its metrics into place, and
    copy the checkpoint."""
    try:
        about = read_about(folder if (folder / FILE).exists() else folder / LORA)
    except (OSError, ValueError):
        return
    match about:
        case {"metrics": str(name)} if PENDING.fullmatch(name) and (folder / name).is_file():
            os.replace(folder / name, folder / METRICS)
    match about:
        case {"state": {"best_iter": int()}, "iter": int(i), "train": {"keep": int(last)}} if 0 < i < 10**8:
            _copied(folder, about, last)


def best_loss(about: dict[str, Any]) -> float:
    """The lowest validation loss of a run up to a checkpoint that says `about` itself; infinite before the first."""
    match about:
        case {"state": {"best": float() | int() as loss}}:
            return loss
    return math.inf


def lowest(folder: Path) -> float:
    """The loss of the best checkpoint in a folder; infinite if it has none."""
    try:
        return best_loss(read_about(folder / BEST))
    except (OSError, ValueError):
        return math.inf


def numbered(folder: Path) -> list[Path]:
    """The checkpoints that are kept under the numbers of their iterations, oldest first."""
    return sorted(file for file in folder.glob("iter-*.safetensors") if re.fullmatch(r"iter-\d{8}", file.stem))


def choose(path: str | os.PathLike) -> tuple[Path, str]:
    """The checkpoint that a path stands for, and a note where it is not the newest one of a folder: the best one of a
    run whose last evaluation was worse than that."""
    file = file_of(path)
    if file == Path(path):
        return file, ""
    try:
        last, best = read_about(file), read_about(file.with_name(BEST))
    except (OSError, ValueError):  # who reads them says so
        return file, ""
    match last, best:
        case {"state": {"latest": float(end)}, "iter": int(i)}, {"iter": int(j)} \
                if end > best_loss(last) >= (loss := best_loss(best)):
            return file.with_name(BEST), (f"the best weights of {path}, of step {j:,} with a validation loss of "
                                          f"{loss:.4f}, and not the last ones, of step {i:,} with {end:.4f}, which are "
                                          f"in {file}")
    return file, ""


def load(path: str | os.PathLike, say: Callable[[str], None] | None = None) -> Run:
    """The run that `gpt train` left at `path`, its file or its folder, of which that is the newest checkpoint, or the
    best one if training has gone on to worse ones (`say` is told); where `gpt tune` left a LoRA, it is added to the
    weights that it belongs to.

    Raises FileNotFoundError if there is none, ValueError for a file that is foreign, damaged or does not hold
    the arrays of its configuration, and OSError for one that memory has no room for.
    """
    from .tuning import lora  # only here: it imports this file
    file, note = choose(path)
    if note and say:
        say(f"note    taking {note}")
    if lora.beside(file):
        return lora.load(file.parent)
    return _loaded(file)[0]


def load_with_state(path: str | os.PathLike) -> tuple[Run, dict[str, Array]]:
    """The newest checkpoint at `path`, and the arrays that training goes on from.  Raises as `load` does."""
    run, state = _loaded(file_of(path))
    return run, {name: a.map() for name, a in state.items()}


def _loaded(file: Path) -> tuple[Run, dict[str, Stored]]:
    """A checkpoint, and where the arrays lie that training goes on from."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there are no weights here: train some with gpt train --out {file.parent}")
    metadata, stored = read(file, *FORMATS)
    try:
        config, about = GPTConfig(**_parsed(metadata["config"])), _parsed(metadata["about"])
        tokenizer = tokenizers.from_json(_parsed(metadata["tokenizer"]))
        if tokenizer.vocab_size != config.vocab_size:
            raise ValueError(f"a tokenizer of {tokenizer.vocab_size} tokens for a model of {config.vocab_size}")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} has a configuration or tokenizer that this version cannot read: "
                         f"{error!s:.300}") from None
    state = {name.removeprefix(_STATE): stored.pop(name) for name in [*stored] if name.startswith(_STATE)}
    with room_for(stored.values(), file):
        return Run(_filled(config, stored, file), tokenizer, about), state


def read(file: Path, *formats: str) -> tuple[dict[str, str], dict[str, Stored]]:
    """Metadata and arrays of a file that we wrote, in one of these formats, and that nothing has damaged since."""
    metadata, stored = read_head(file)
    if metadata.get("format") not in formats:
        theirs = f": gpt import {file.parent} reads models in Hugging Face's form"
        raise ValueError(f"{file} is a safetensors file, but not one that gpt train wrote"
                         + theirs * (file.parent / "config.json").is_file())
    found = metadata.pop(_CHECKSUM, None)
    try:
        with room_for([a for name, a in stored.items() if not name.startswith(_STATE)], file):
            checksum = _checksum(metadata, stored)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{file} holds arrays that NumPy has no type or shape for ({error})") from None
    if found is None and metadata["format"] == FORMATS[1]:
        return metadata, stored
    if found != checksum:
        raise ValueError(f"{file} is damaged: what it holds has another checksum than when it was written: copy it "
                         "again, or take another checkpoint of its folder")
    return metadata, stored


def read_about(path: str | os.PathLike) -> dict[str, Any]:
    """What a file says of its training, without its arrays.  Raises as `load` does."""
    file = file_of(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there is no run here to go on with: check the path after --resume")
    try:
        return _parsed(read_head(file)[0]["about"])
    except KeyError as error:
        raise ValueError(f"{file} is no checkpoint of gpt train, or damaged ({error})") from None


def read_config(path: str | os.PathLike) -> GPTConfig:
    """The configuration of the model that `load` would give, without its arrays.  Raises as `load` does."""
    file = choose(path)[0]
    if not file.is_file():
        file = file.with_name(LORA)
    if not file.is_file():
        raise FileNotFoundError(f"{file_of(path)}: there are no weights here: check the path")
    try:
        return GPTConfig(**_parsed(read_head(file)[0]["config"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} has a configuration that this version cannot read: {error!s:.300}") from None


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


def _filled(config: GPTConfig, stored: dict[str, Stored], file: Path) -> GPT:
    """A model with these arrays, which have to be all of its own."""
    dtype = stored["wte.weight"].type if "wte.weight" in stored else np.dtype(np.float32)
    if dtype.kind != "f":
        raise ValueError(f"{file} holds weights of {dtype}, and weights are floating-point numbers")
    held = sum(math.prod(a.shape) for a in stored.values())
    if _numbers(config) > 2 * held + 1_000_000 or config.n_layer > len(stored) + 1000:
        raise ValueError(f"{file} does not hold the arrays of its configuration, which asks for far more than the "
                         f"{held:,} numbers in it")  # before a damaged size takes all memory
    model = GPT(config, seed=None, dtype=dtype)
    expected = model.named_arrays()
    wrong = ([f"{name} is missing" for name in expected.keys() - stored.keys()]
             + [f"{name} is unknown" for name in stored.keys() - expected.keys()]
             + [f"{name} is {a.type}{list(a.shape)} instead of {t.dtype}{list(t.shape)}"
                for name, t in expected.items()
                if (a := stored.get(name)) is not None and (a.shape, a.type) != (t.shape, t.dtype)])
    if wrong:
        raise ValueError(f"{file} does not hold the arrays of its configuration: {'; '.join(sorted(wrong))}")
    for name, t in expected.items():
        t.data = stored[name].map()
    return model


def _numbers(c: GPTConfig) -> int:
    """How many numbers are in the matrices of a model."""
    keys, hidden = (c.n_kv_head or c.n_head) * c.head_size, c.n_hidden or 4 * c.n_embd
    rows = 2 * c.n_embd + 2 * keys + (3 if c.gated else 2) * hidden + 2 * c.convolution  # of n_embd each, in a block
    tables = c.vocab_size * (1 if c.tied else 2) + (0 if c.positions == "rotary" else c.block_size)
    return (tables + c.n_layer * rows) * c.n_embd


def file_of(path: str | os.PathLike) -> Path:
    """The file that a path stands for: itself, or the newest checkpoint of a folder."""
    return path if (path := Path(path)).suffix == ".safetensors" else path / FILE


def folder_of(path: str | os.PathLike) -> Path:
    """The folder that a path stands for: itself, or the one that a checkpoint is in."""
    return file_of(path).parent
