"""Folders as Hugging Face's libraries write them: JSON, and safetensors files that are read and written a tensor at a
time, so that a second copy of a model is never in memory."""

import json
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from ..checkpoint import _parsed
from ..module import Array

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # a bfloat16 is the upper half of a float32
NAMES = {"float64": "F64", "float32": "F32"}
_LARGEST_HEADER = _LARGEST_JSON = 32 << 20  # bytes; those of models of 100,000,000,000 numbers take 1 MB


@dataclass(frozen=True)
class Stored:
    """A tensor in a safetensors file: where its numbers lie."""
    file: Path
    dtype: str                                                 # safetensors' name of it
    shape: tuple[int, ...]
    offset: int                                                # bytes from the start of the file

    def read(self) -> Array:
        """Its numbers, mapped from the file; those of float16 and bfloat16 widened to float32."""
        stored = np.memmap(self.file, DTYPES[self.dtype], "r", self.offset, self.shape)
        if self.dtype != "BF16":
            return stored.astype(np.float32) if self.dtype == "F16" else stored
        wide = np.empty(self.shape, np.float32)
        bits = wide.view(np.uint32)
        bits[...] = stored
        bits <<= 16
        return wide


def given_folder(path: str) -> Path:
    """A model's folder.  Raises OSError or ValueError that says what to give instead."""
    folder = Path(path)
    if folder.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl"):
        raise pickled(folder)
    if folder.is_file():
        raise ValueError(f"{folder} is a file: give the folder that holds config.json and {WEIGHTS}")
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no such folder: give that of a downloaded model, since nothing is "
                                "fetched from the network here")
    return folder


def pickled(file: Path) -> ValueError:
    return ValueError(f"{file} is no .safetensors file but a pickle, which can run any code when it is read: where you "
                      "trust it, convert it once with transformers: AutoModelForCausalLM.from_pretrained(FOLDER)"
                      ".save_pretrained(NEW_FOLDER)")


def inside(folder: Path, name: str) -> Path:
    """The file `name` of a folder.  Raises ValueError for one that lies elsewhere, by its name or by a link; links into
    the blobs of a download cache, of which the folder is a snapshot, are fine."""
    file, home = folder / name, Path(os.path.realpath(folder))
    usual = name.isprintable() and 0 < len(name.encode()) < 256 and "\\" not in name
    if not usual or Path(name).name != name or name == "..":
        raise ValueError(f"{folder} names {name!r:.200} as one of its files, and only those right within it are read")
    real = Path(os.path.realpath(file))  # which takes loops of links, too
    blobs = home.parent.parent / "blobs" if home.parent.name == "snapshots" else home
    if not (real.is_relative_to(home) or real.is_relative_to(blobs)):
        raise ValueError(f"{file} is a link that leads out of its folder: put the file itself there")
    return file


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object of bounded size and depth.  Raises OSError or ValueError that names the file."""
    try:
        if file.stat().st_size > _LARGEST_JSON:
            raise ValueError(f"it has {file.stat().st_size:,} bytes, more than the {_LARGEST_JSON:,} of any model's")
        return _parsed(file.read_text("utf-8-sig"))
    except OSError as error:
        raise type(error)(f"{file} cannot be read ({error.strerror or error}): copy it or check its permissions") \
            from None
    except ValueError as error:
        raise ValueError(f"{file} cannot be read ({error!s:.200}): download the model again") from None


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """All tensors of a folder's model.safetensors, or of the files in its index.

    Raises OSError or ValueError for no such files, for pickles, and for files that are damaged or lie elsewhere.
    """
    if (folder / WEIGHTS).is_file():
        return _tensors_of(inside(folder, WEIGHTS))
    if (folder / INDEX).is_file():
        return _sharded(folder)
    for pattern in ("*.bin", "*.pt", "*.pth"):
        for file in sorted(folder.glob(pattern)):
            raise pickled(file)
    raise FileNotFoundError(f"{folder} has neither {WEIGHTS} nor {INDEX}: download the weights, too")


def _sharded(folder: Path) -> dict[str, Stored]:
    """The tensors of the files that an index names."""
    index = inside(folder, INDEX)
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
        raise ValueError(f"{index} has no weight_map of tensors' names to files: download it again")
    tensors: dict[str, Stored] = {}
    paths = {name: inside(folder, name) for name in sorted(set(files.values()))}  # all, before any is read
    if others := [file for file in paths.values() if file.suffix != ".safetensors"]:
        raise pickled(others[0])
    for name, file in paths.items():
        for tensor, stored in _tensors_of(file).items():
            if files.get(tensor) != name:
                raise ValueError(f"{file} holds {tensor!r:.100}, which its index does not place there: "
                                 "download the model again")
            tensors[tensor] = stored
    if missing := sorted(files.keys() - tensors.keys()):
        raise ValueError(f"{index} names tensors that its files do not hold: {shortened(missing)}")
    return tensors


def _tensors_of(file: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file, whose header the library checks: entries fill the file and do not overlap."""
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: download it, too")
    try:
        with open(file, "rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if length > _LARGEST_HEADER:
                raise ValueError(f"its header claims {length:,} bytes")
            with safe_open(file, "np"):
                pass
            header = json.loads(opened.read(length))
        header.pop("__metadata__", None)
        found = {name: Stored(file, entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])
                 for name, entry in header.items()}
    except OSError as error:
        raise type(error)(f"{file} cannot be read ({error.strerror or error}): copy it or check its permissions") \
            from None
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"{file} is no safetensors file, or damaged ({error!s:.200}): download it again") from None
    size = file.stat().st_size
    for name, t in found.items():
        if t.dtype in DTYPES and t.offset + prod(t.shape) * np.dtype(DTYPES[t.dtype]).itemsize > size:
            raise ValueError(f"{file} is damaged: {name!r:.100} ends behind the end of the file: download it again")
    return found


def shortened(names: list[str], most: int = 12) -> str:
    """Names in a line: the first ones, and how many there are more."""
    listed = ", ".join(f"{name:.100}" if name.isprintable() else f"{name!r:.100}" for name in names[:most])
    return listed + f" and {len(names) - most:,} more" * (len(names) > most)


# ---------------------------------------------------------------------- writing


def free_folder(path: str) -> Path:
    """A folder that is not there, or is empty.  Raises ValueError for any other."""
    if not path:
        raise ValueError("--out is empty: give the name of a folder")
    folder = Path(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already, and nothing is written over: choose another folder with --out")
    return folder


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which then becomes `folder`: what fails leaves nothing.  Raises OSError if it cannot be
    written."""
    temporary = folder.absolute().with_name(f".{folder.absolute().name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    except OSError as error:
        raise type(error)(f"{folder} could not be written ({error.strerror or error}): make room on the disk, or "
                          "choose another folder with --out") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def write_tensors(file: Path, arrays: dict[str, Array]) -> None:
    """A safetensors file of these arrays, which may be views: each is laid out for itself when its turn comes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # without it transformers refuses the file
    end = 0
    for name, a in arrays.items():
        start, end = end, end + a.nbytes
        header[name] = {"dtype": NAMES[a.dtype.name], "shape": list(a.shape), "data_offsets": [start, end]}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)  # the numbers begin at a multiple of 8
    with open(file, "wb") as opened:
        opened.write(struct.pack("<Q", len(head)) + head)
        for a in arrays.values():
            little = a.astype(a.dtype.newbyteorder("<"), copy=False)
            opened.write(np.ascontiguousarray(little).data.cast("B"))
        opened.flush()
        os.fsync(opened.fileno())
