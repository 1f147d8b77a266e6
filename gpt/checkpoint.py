"""The checkpoint format: safetensors files of weights, configuration, tokenizer, metadata and training state.

They hold no code, a file is written whole or not at all, and a checksum reveals later damage.
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

import autograd as ag
from autograd.core.describe import format_bytes

from .data import tokenizers
from .model.gpt import GPT, GPTConfig
from .model.init import Blank, Blanks
from .model.module import Array, raw
from .runtime.safetensors_file import Stored, read_head, room_for, write_tensors
from .runtime.writing import delete, replacing

FILE = "model.safetensors"  # the newest checkpoint in the folder of a run
BEST = "best.safetensors"  # the one with the lowest validation loss
ADAPTERS: dict[str, "Callable[..., Checkpoint]"] = {}  # file that takes the place of FILE -> its loader
# The current format, an older one, which may lack a checksum, and the current one with weights that are packed.
FORMATS = ("tapegrad gpt 2", "tapegrad gpt 1", "tapegrad gpt 3")
PACKED = "packed"  # key in the header: name of an array -> its format, and whether it is transposed
STATE_PREFIX = "training."  # of the names of the arrays that only training needs
_CHECKSUM = "checksum"  # its key in the header
_DEEPEST = 16  # levels of nested lists and objects that a JSON text may have


@dataclass
class Checkpoint:
    """A trained model, its tokenizer, and metadata: the settings and results of its training."""
    model: GPT
    tokenizer: Any
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def about(self) -> dict[str, Any]:
        """The metadata, by its name in earlier versions."""
        return self.metadata

    @property
    def config(self) -> GPTConfig:
        """The configuration of the model."""
        return self.model.config

    @property
    def ends(self) -> list[int]:
        """The end-of-text tokens: that of the chat turns the model was tuned to, and those an imported model names."""
        pretrained = self.metadata.get("pretrained")
        ids = pretrained.get("eos_token_id") if isinstance(pretrained, dict) else None
        ids = [getattr(self.tokenizer, "end", None), *(ids if isinstance(ids, list) else [ids])]
        return [i for i in ids if type(i) is int and 0 <= i < self.config.vocab_size]


def register_adapter(file_name: str) -> Callable[[Callable[..., Checkpoint]], Callable[..., Checkpoint]]:
    """Register the decorated loader (path, packed=) for folders whose newest checkpoint is a file of this name beside
    other weights."""
    def register(load: Callable[..., Checkpoint]) -> Callable[..., Checkpoint]:
        ADAPTERS[file_name] = load
        return load
    return register


# ---------------------------------------------------------------------- writing


def save_checkpoint(path: str | os.PathLike, model: GPT, tokenizer: Any, metadata: dict[str, Any] | None = None,
                    state: dict[str, Array] | None = None, first: bool = False) -> Path:
    """Write a checkpoint to `path` (a file, or the folder of the run), whole or not at all, and return its file.

    `state`: arrays that training resumes from, such as an optimizer's.  `first`: the first one of its run, after which
    another run's checkpoints in the folder are deleted.  Raises OSError, and leaves the old file as it was, if the disk
    is full or refuses.
    """
    file = file_of(path)
    header = {"format": FORMATS[0], "config": json.dumps(asdict(model.config)),
              "tokenizer": json.dumps(tokenizer.to_json()), "about": json.dumps(metadata or {})}
    arrays = {name: raw(a) for name, a in model.named_arrays().items()}
    packed = {name: a for name, a in arrays.items() if isinstance(a, ag.Packed)}
    if packed:  # their bytes, (rows, bytes), and how they are to be read
        forms = {name: [a.format, a.transposed] for name, a in packed.items()}
        header |= {"format": FORMATS[2], PACKED: json.dumps(forms)}
        arrays |= {name: a.rows for name, a in packed.items()}
    write_arrays(file, header, arrays | {STATE_PREFIX + name: a for name, a in (state or {}).items()}, first)
    return file


def write_arrays(file: Path, header: dict[str, str], arrays: dict[str, Array], first: bool = False) -> None:
    """Write a safetensors file of arrays with a checksum in its header.  `first`, errors: see `save_checkpoint`."""
    arrays = {name: np.asarray(a, order="C") for name, a in arrays.items()}
    with _explain_errors(file), replacing(file) as temporary:
        write_tensors(temporary, arrays, header | {_CHECKSUM: checksum(header, arrays)})
        if first:  # before the new file is in place, so that no copy of another run's checkpoint outlives its original
            delete([*numbered_checkpoints(file.parent), file.with_name(BEST)])
    if first:
        delete([file.with_name(name) for name in (FILE, *ADAPTERS) if name != file.name])


@contextmanager
def _explain_errors(file: Path) -> Iterator[None]:
    """Turn an error in writing into an OSError that says what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(f"the weights could not be saved as {file}, and what lay there before is untouched ({error}): "
                      "make room on the disk, or choose another folder with --out") from None


def checksum(header: dict[str, str], arrays: Mapping[str, Array | Stored]) -> str:
    """Return the CRC-32 of a file's content, in hexadecimal, independent of order; 1.5 ms for 10 MB."""
    crc = 0
    for key, text in sorted(header.items()):
        crc = zlib.crc32(json.dumps([key, text]).encode(), crc)
    for name, a in sorted(arrays.items()):
        a = a.map() if isinstance(a, Stored) else a
        crc = zlib.crc32(json.dumps([name, str(a.dtype), a.shape]).encode(), crc)
        crc = zlib.crc32(a.reshape(-1).view(np.uint8), crc)
    return f"{crc:08x}"


# ---------------------------------------------------------------------- the checkpoints of a run


def keep_copies(folder: Path, metadata: dict[str, Any], n_kept: int) -> None:
    """Copy the newest checkpoint of a run to its numbered name, and to BEST if it is the best one; delete the oldest
    numbered ones until `n_kept` are left."""
    name = copy_newest(folder, metadata, n_kept)
    later = [file for file in numbered_checkpoints(folder) if file.name > name]  # of a run resumed from an earlier one
    earlier = [file for file in numbered_checkpoints(folder) if file.name <= name]
    delete(later + (earlier[:-n_kept] if n_kept > 1 else earlier))


def copy_newest(folder: Path, metadata: dict[str, Any], n_kept: int) -> str:
    """Copy the newest checkpoint as `keep_copies` does, and return the name with its number."""
    name = f"iter-{metadata['iter']:08d}.safetensors"
    is_best = metadata["state"]["best_iter"] == metadata["iter"] and _best_loss_in(folder) >= best_loss(metadata)
    for copy in [name] * (n_kept > 1) + [BEST] * is_best:
        if (folder / copy).exists() and (folder / copy).samefile(folder / FILE):
            continue
        with _explain_errors(folder / copy), replacing(folder / copy) as temporary:
            temporary.unlink()
            try:
                os.link(folder / FILE, temporary)  # takes no room
            except (OSError, AttributeError):  # a file system, or a system, without links
                shutil.copyfile(folder / FILE, temporary)
    return name


def best_loss(metadata: dict[str, Any]) -> float:
    """Return the lowest validation loss of a run up to a checkpoint with this metadata; infinite before the first."""
    match metadata:
        case {"state": {"best": float() | int() as loss}}:
            return loss
    return math.inf


def _best_loss_in(folder: Path) -> float:
    """Return the loss of the best checkpoint in a folder; infinite if it has none."""
    try:
        return best_loss(read_metadata(folder / BEST))
    except (OSError, ValueError):
        return math.inf


def numbered_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints that are kept under the number of their iteration, oldest first."""
    return sorted(file for file in folder.glob("iter-*.safetensors") if re.fullmatch(r"iter-\d{8}", file.stem))


def file_of(path: str | os.PathLike) -> Path:
    """Return the file that a path stands for: itself, or the newest checkpoint of a folder."""
    return path if (path := Path(path)).suffix == ".safetensors" else path / FILE


def folder_of(path: str | os.PathLike) -> Path:
    """Return the folder that a path stands for: itself, or the one that a checkpoint is in."""
    return file_of(path).parent


def adapter_beside(file: Path) -> Path | None:
    """Return the file of an adapter in the folder of `file`, if there is one and `file` itself is missing."""
    if file.is_file():
        return None
    return next((file.with_name(name) for name in ADAPTERS if file.with_name(name).is_file()), None)


def choose(path: str | os.PathLike) -> tuple[Path, str]:
    """Return the checkpoint that a path stands for, and a note if it is not the newest one of a folder: the best one,
    where the last evaluation of the run was worse."""
    file = file_of(path)
    if file == Path(path):
        return file, ""
    try:
        last, best = read_metadata(file), read_metadata(file.with_name(BEST))
    except (OSError, ValueError):  # reported when the file is read
        return file, ""
    match last, best:
        case {"state": {"latest": float(end)}, "iter": int(i)}, {"iter": int(j)} \
                if end > best_loss(last) >= (loss := best_loss(best)):
            return file.with_name(BEST), (f"the best weights of {path}, of step {j:,} with a validation loss of "
                                          f"{loss:.4f}, and not the last ones, of step {i:,} with {end:.4f}, which are "
                                          f"in {file}")
    return file, ""


# ---------------------------------------------------------------------- reading


def load_checkpoint(path: str | os.PathLike, say: Callable[[str], None] | None = None,
                    packed: bool = False) -> Checkpoint:
    """Load the checkpoint at `path`, a file or the folder of a run: its newest one, or the best one if training has
    gone on to worse ones (`say` is told).  An adapter, such as a LoRA, is merged into the weights that it belongs to.

    Weights that `gpt import` has left in few bits are widened to float32, and can be trained; with `packed` they stay
    as they are, `ag.Packed`, mapped from the file, and an adapter of them stays beside them.

    Raises FileNotFoundError if there is none, ValueError for a file that is foreign, damaged or does not hold
    the arrays of its configuration, and OSError for one that does not fit in memory.
    """
    file, note = choose(path)
    if note and say:
        say(f"note    taking {note}")
    if adapter := adapter_beside(file):
        return ADAPTERS[adapter.name](adapter, packed=packed)
    return _load_file(file, packed, say)[0]


def load_with_state(path: str | os.PathLike) -> tuple[Checkpoint, dict[str, Array]]:
    """Load the newest checkpoint at `path` and the arrays that training resumes from.  Raises as `load_checkpoint`."""
    checkpoint, state = _load_file(file_of(path), packed=False)
    return checkpoint, {name: a.map() for name, a in state.items()}


def _load_file(file: Path, packed: bool,
               say: Callable[[str], None] | None = None) -> tuple[Checkpoint, dict[str, Stored]]:
    """Load a checkpoint; the arrays that training resumes from are not read yet."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there are no weights here: train some with gpt train --out {file.parent}")
    header, stored = read_arrays(file, *FORMATS)
    try:
        config, metadata = GPTConfig(**parse_object(header["config"])), parse_object(header["about"])
        tokenizer = tokenizers.from_json(parse_object(header["tokenizer"]))
        forms = parse_object(header.get(PACKED, "{}"))
        if tokenizer.vocab_size != config.vocab_size:
            raise ValueError(f"a tokenizer of {tokenizer.vocab_size} tokens for a model of {config.vocab_size}")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} has a configuration or tokenizer that this version cannot read: "
                         f"{error!s:.300}") from None
    state = {name.removeprefix(STATE_PREFIX): stored.pop(name) for name in [*stored] if name.startswith(STATE_PREFIX)}
    with room_for(sum(a.nbytes for a in stored.values()), file):
        model = _build_model(config, stored, forms, packed, file)
        if forms and not packed and say:
            size = sum(a.nbytes for a in model.map(raw).named_arrays().values())
            say(f"note    weights in few bits are widened to float32: {format_bytes(size)}")
        return Checkpoint(model, tokenizer, metadata), state


def read_arrays(file: Path, *formats: str) -> tuple[dict[str, str], dict[str, Stored]]:
    """Return header and arrays of a file that `write_arrays` wrote, in one of these formats.

    Raises ValueError for one of another format, or that is damaged.
    """
    header, stored = read_head(file)
    if header.get("format") not in formats:
        hint = f": gpt import {file.parent} reads models in Hugging Face's form"
        raise ValueError(f"{file} is a safetensors file, but not one that gpt train wrote"
                         + hint * (file.parent / "config.json").is_file())
    expected = header.pop(_CHECKSUM, None)
    try:
        with room_for(sum(a.nbytes for name, a in stored.items() if not name.startswith(STATE_PREFIX)), file):
            found = checksum(header, stored)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{file} holds arrays that NumPy has no type or shape for ({error})") from None
    if expected is None and header["format"] == FORMATS[1]:
        return header, stored
    if expected != found:
        raise ValueError(f"{file} is damaged: what it holds has another checksum than when it was written: copy it "
                         "again, or take another checkpoint of its folder")
    return header, stored


def stored_checksum(file: Path) -> str:
    """Return the checksum that the header of a checkpoint names."""
    return str(read_head(file)[0].get(_CHECKSUM))


def read_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """Return the metadata of a checkpoint, without reading its arrays.  Raises as `load_checkpoint` does."""
    file = file_of(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there is no run here to go on with: check the path after --resume")
    try:
        return parse_object(read_head(file)[0]["about"])
    except KeyError as error:
        raise ValueError(f"{file} is no checkpoint of gpt train, or damaged ({error})") from None


def read_config(path: str | os.PathLike) -> GPTConfig:
    """Return the configuration of the model that `load_checkpoint` would load, without its arrays.  Raises as that."""
    file = choose(path)[0]
    file = adapter_beside(file) or file
    if not file.is_file():
        raise FileNotFoundError(f"{file_of(path)}: there are no weights here: check the path")
    try:
        return GPTConfig(**parse_object(read_head(file)[0]["config"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} has a configuration that this version cannot read: {error!s:.300}") from None


def parse_object(text: str) -> dict[str, Any]:
    """Return the JSON object in a text.  Raises ValueError for anything else, and for one nested too deep."""
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


def _build_model(config: GPTConfig, stored: dict[str, Stored], forms: dict[str, Any], packed: bool, file: Path) -> GPT:
    """Return the model with these arrays.  Raises ValueError unless they are exactly those of its configuration.

    forms: of packed ones, their format and whether they are transposed; they are widened unless `packed`.
    """
    try:
        arrays = {name: ag.Packed(a.map(), *forms[name]) if name in forms else a for name, a in stored.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file} has packed weights that this version cannot read: {error!s:.300}") from None
    dtype = _dtype_of(arrays["wte.weight"]) if "wte.weight" in arrays else np.dtype(np.float32)
    if dtype.kind != "f":
        raise ValueError(f"{file} holds weights of {dtype}, and weights are floating-point numbers")
    n_stored = sum(math.prod(a.shape) for a in arrays.values())
    if count_weights(config) > 2 * n_stored + 1_000_000 or config.n_layer > len(stored) + 1000:
        raise ValueError(f"{file} does not hold the arrays of its configuration, which asks for far more than the "
                         f"{n_stored:,} numbers in it")  # before a damaged size takes all memory
    blank = GPT(config, Blanks(dtype))
    expected = blank.named_arrays()
    wrong = ([f"{name} is missing" for name in expected.keys() - arrays.keys()]
             + [f"{name} is unknown" for name in arrays.keys() - expected.keys()]
             + [f"{name} is {_dtype_of(a)}{list(a.shape)} instead of {t.dtype}{list(t.shape)}"
                for name, t in expected.items()
                if (a := arrays.get(name)) is not None and (a.shape, _dtype_of(a)) != (t.shape, t.dtype)])
    if wrong:
        raise ValueError(f"{file} does not hold the arrays of its configuration: {'; '.join(sorted(wrong))}")

    def fill(t: Blank) -> Array:
        a = arrays[t.name]
        if packed and isinstance(a, ag.Packed):
            return a
        return ag.tensor(a.map() if isinstance(a, Stored) else a, requires_grad=t.requires_grad, name=t.name)

    return blank.map(fill)


def _dtype_of(a: Stored | ag.Packed) -> np.dtype:
    """Return the dtype that the model is to have for an array."""
    return a.numpy_dtype if isinstance(a, Stored) else a.dtype


def count_weights(c: GPTConfig) -> int:
    """Count the numbers in the matrices of a model, without building it."""
    heads, hidden = 2 * (c.n_head + (c.n_kv_head or c.n_head)), c.n_hidden or 4 * c.n_embd
    rows = heads * c.head_size + (3 if c.gated else 2) * hidden + 2 * c.convolution  # of n_embd each, in a block
    tables = c.vocab_size * (1 if c.tied else 2) + (0 if c.positions == "rotary" else c.block_size)
    return (tables + c.n_layer * rows) * c.n_embd
