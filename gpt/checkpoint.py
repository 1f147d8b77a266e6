"""Weights on disk: one safetensors file that holds the configuration and the tokenizer too, and runs no code."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .model import GPT, GPTConfig
from .module import raw
from .tokenizer import CharTokenizer

FILE = "model.safetensors"  # its name in the folder of a run
_FORMAT = "tapegrad gpt 1"


@dataclass
class Run:
    """A trained model and what is needed to use it; `about` says how it was trained."""
    model: GPT
    tokenizer: CharTokenizer
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> GPTConfig:
        return self.model.config


def save(path: str | os.PathLike, model: GPT, tokenizer: CharTokenizer, about: dict[str, Any] | None = None) -> Path:
    """Write the run to `path` (a file, or the folder of the run), whole or not at all; where it lies."""
    file = _file(path)
    metadata = {"format": _FORMAT, "config": json.dumps(asdict(model.config)),
                "tokenizer": json.dumps(tokenizer.to_json()), "about": json.dumps(about or {})}
    arrays = {name: np.ascontiguousarray(raw(a)) for name, a in model.named_arrays().items()}
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        save_file(arrays, temporary, metadata)
        os.replace(temporary, file)  # whoever reads it sees the old weights or the new ones
    except (OSError, SafetensorError) as error:
        raise OSError(f"the weights could not be saved as {file}, and what lay there before is untouched ({error}): "
                      "make room on the disk, or choose another folder with --out") from None
    finally:
        temporary.unlink(missing_ok=True)
    return file


def load(path: str | os.PathLike) -> Run:
    """The run that `gpt train` left at `path`, its folder or its file.

    Raises FileNotFoundError if there is none, ValueError for a file that is foreign, damaged or does not hold
    the arrays of its configuration.
    """
    file = _file(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there are no weights here: train some with gpt train --out {file.parent}")
    try:
        with safe_open(file, "np") as opened:
            metadata = opened.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise ValueError(f"{file} is a safetensors file, but not one that gpt train wrote")
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}
    except SafetensorError as error:
        raise ValueError(f"{file} is no safetensors file, or damaged ({error}): copy it or train again") from None
    try:
        config, about = GPTConfig(**json.loads(metadata["config"])), json.loads(metadata["about"])
        tokenizer = CharTokenizer.from_json(json.loads(metadata["tokenizer"]))
        if tokenizer.vocab_size != config.vocab_size:
            raise ValueError(f"a tokenizer of {tokenizer.vocab_size} tokens for a model of {config.vocab_size}")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} has a configuration or tokenizer that this version cannot read: {error}") from None
    dtype = arrays["wte.weight"].dtype if "wte.weight" in arrays else np.dtype(np.float32)
    if dtype.kind != "f":
        raise ValueError(f"{file} holds weights of {dtype}, and weights are floating-point numbers")
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
    return Run(model, tokenizer, about)


def _file(path: str | os.PathLike) -> Path:
    return path if (path := Path(path)).suffix == ".safetensors" else path / FILE
