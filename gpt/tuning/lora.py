"""LoRA: a low-rank product of two matrices, learned beside each frozen one (Hu et al. 2021); saved in its own file."""

import copy
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

import autograd as ag

from .. import checkpoint
from ..checkpoint import Checkpoint
from ..data import tokenizers
from ..model.gpt import GPT, Embedding, GPTConfig, Linear
from ..model.module import Array, Module, raw
from ..runtime.safetensors_file import Stored
from .grow import extend_vocab_and_context

FILE = "lora.safetensors"  # what gpt tune --lora-rank has learned, beside the weights that it belongs to
FORMAT = "tapegrad lora 1"


@dataclass
class LoRALinear(Module):
    """y = x W + b + (x A · scale) B, with W and b frozen, A and B learned; B starts at 0 (Hu et al. 2021, 4.1).

    The paper writes W + B A for column vectors; here x is a row, so A comes first.
    """
    base: Linear                                               # (n_in, n_out)
    A: Array                                                   # (n_in, r)
    B: Array                                                   # (r, n_out)
    scale: float                                               # α / r

    def __call__(self, x: Array) -> Array:                     # (…, n_in) -> (…, n_out)
        return self.base(x) + ag.linear(ag.linear(x, self.A, None) * self.scale, self.B, None)  # r scaled numbers

    def merge(self) -> Linear:
        """Return one layer with the weight W + A B · scale."""
        weight, A, B = (np.asarray(raw(a)) for a in (self.base.weight, self.A, self.B))
        return Linear(weight + A @ B * np.asarray(self.scale, weight.dtype), self.base.bias)


@dataclass
class ExtendedEmbedding(Module):
    """A frozen embedding table with learned rows for new tokens after it."""
    base: Array                                                # (V, C)
    new: Array                                                 # (n, C)

    @property
    def weight(self) -> Array:
        """The whole table (V + n, C)."""
        return ag.concatenate([self.base, self.new])

    def __call__(self, ids: Array) -> Array:                   # (…) -> (…, C)
        return ag.embedding(ids, self.weight)

    def merge(self) -> Embedding:
        """Return one table."""
        return Embedding(np.concatenate([raw(self.base), raw(self.new)]))


@dataclass
class ExtendedHead(Module):
    """A frozen head with learned columns for new tokens after it."""
    base: Array                                                # (C, V)
    new: Array                                                 # (C, n)

    def __call__(self, x: Array) -> Array:                     # (…, C) -> (…, V + n)
        return ag.concatenate([ag.linear(x, self.base, None), ag.linear(x, self.new, None)], axis=-1)

    def merge(self) -> Linear:
        """Return one layer."""
        return Linear(np.concatenate([raw(self.base), raw(self.new)], axis=1), None)


def add_lora(model: GPT, rank: int, alpha: float, n_new: int = 0, seed: int = 0) -> GPT:
    """Return the model with LoRA beside each linear layer of its blocks, and all else frozen except the embeddings and
    head columns of the last `n_new` tokens.  It shares the frozen arrays with `model`, where they are frozen, too.

    Raises ValueError for a rank that is not below that of the matrices.
    """
    rng, dtype = np.random.default_rng(seed), model.wte.weight.dtype

    def with_lora(layer: Linear) -> LoRALinear:
        n_in, n_out = layer.weight.shape
        if not 0 < rank < min(n_in, n_out):
            raise ValueError(f"lora_rank is {rank}, and needs to be at least 1 and below {min(n_in, n_out)}, the "
                             "smaller side of a matrix: lower --lora-rank")
        A = rng.normal(0, n_in ** -0.5, (n_in, rank))  # x A is about as large as x
        return LoRALinear(layer, ag.tensor(A, dtype, requires_grad=True),
                          ag.tensor(np.zeros((rank, n_out)), dtype, requires_grad=True), alpha / rank)

    for t in model.named_arrays().values():
        if t.requires_grad:
            t.requires_grad = False
    new = copy.copy(model)
    new.h = [replace_modules(block, Linear, with_lora) for block in new.h]
    if n_new:
        table = raw(model.wte.weight)
        new.wte = ExtendedEmbedding(ag.tensor(table[:-n_new]),  # type: ignore[assignment]
                                    ag.tensor(table[-n_new:], requires_grad=True))
        if model.lm_head is not None:
            head = raw(model.lm_head.weight)
            new.lm_head = ExtendedHead(ag.tensor(head[:, :-n_new]),  # type: ignore[assignment]
                                    ag.tensor(head[:, -n_new:], requires_grad=True))
    return set_names(new)


def merge_lora(model: GPT) -> GPT:
    """Return the model as plain layers with the LoRA matrices added to the weights, all on new arrays that can be
    trained."""
    plain = replace_modules(model.map(raw), (LoRALinear, ExtendedEmbedding, ExtendedHead), lambda layer: layer.merge())
    new = set_names(plain.map(lambda a: ag.tensor(a)))
    constants = ("frequencies", "wpe.weight") if model.config.positions == "sinusoidal" else ("frequencies",)
    for name, t in new.named_arrays().items():
        t.requires_grad = name not in constants
    return new


def replace_modules(module: Any, types: type | tuple[type, ...], fn: Callable[[Any], Any]) -> Any:
    """Return the module with `fn(layer)` in place of each layer of some types; arrays are shared."""
    if isinstance(module, types):
        return fn(module)
    if isinstance(module, list):
        return [replace_modules(item, types, fn) for item in module]
    if not isinstance(module, Module):
        return module
    new = copy.copy(module)
    for f in fields(module):  # type: ignore[arg-type]
        setattr(new, f.name, replace_modules(getattr(module, f.name), types, fn))
    return new


def set_names(model: GPT) -> GPT:
    """Name the arrays of a model by the fields that lead to them, and return it."""
    for name, t in model.named_arrays().items():
        t.name = name
    return model


# ---------------------------------------------------------------------- on disk


def save_lora(folder: str | os.PathLike, model: GPT, tokenizer: Any, metadata: dict[str, Any],
              base: str | os.PathLike, first: bool = False) -> Path:
    """Write the learned arrays of a model with LoRA, and a reference to the checkpoint `base`, into a folder; return
    the file.

    `first`, errors: as for `save_checkpoint`.
    """
    file, base = Path(folder) / FILE, checkpoint.file_of(base).resolve()
    arrays = {name: raw(t) for name, t in model.named_arrays().items() if t.requires_grad}
    layer = _lora_layers(model)[0]
    header = {"format": FORMAT, "config": json.dumps(asdict(model.config)),
              "tokenizer": json.dumps(tokenizer.to_json()), "about": json.dumps(metadata),
              "lora": json.dumps({"rank": layer.A.shape[1], "alpha": layer.scale * layer.A.shape[1],
                                  "base": os.path.relpath(base, file.parent.resolve()),
                                  "base_checksum": checkpoint.stored_checksum(base)})}
    checkpoint.write_arrays(file, header, arrays, first)
    return file


@checkpoint.register_adapter(FILE)
def load_lora(path: str | os.PathLike, merge: bool = True, packed: bool = False) -> Checkpoint:
    """Return the base with LoRA: as plain layers, or with the learned matrices beside the frozen ones, as they also
    stay where these are `packed`: see `load_checkpoint`.

    Raises OSError or ValueError if one of the two files is missing, damaged or another than it was.
    """
    file = Path(path) / FILE if Path(path).suffix != ".safetensors" else Path(path)
    header, arrays = _read(file)
    try:
        metadata, lora = (checkpoint.parse_object(header[key]) for key in ("about", "lora"))
        config = GPTConfig(**checkpoint.parse_object(header["config"]))
        tokenizer = tokenizers.from_json(checkpoint.parse_object(header["tokenizer"]))
        rank, alpha, base = int(lora["rank"]), float(lora["alpha"]), str(lora["base"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{file} has settings that this version cannot read: {error!s:.300}") from None
    model = _on_base(file, file.parent / base, str(lora.get("base_checksum")), config, rank, alpha, packed)
    learned = {name: t for name, t in model.named_arrays().items() if t.requires_grad}
    wrong = [name for name in learned.keys() | arrays.keys()
             if name not in learned or name not in arrays
             or (learned[name].shape, learned[name].dtype) != (arrays[name].shape, arrays[name].numpy_dtype)]
    if wrong:
        raise ValueError(f"{file} does not fit its base: {', '.join(sorted(wrong)[:8])}")
    for name, t in learned.items():
        t.data = arrays[name].map()
    packed = any(isinstance(a, ag.Packed) for a in model.named_arrays().values())
    return Checkpoint(merge_lora(model) if merge and not packed else model, tokenizer, metadata)


def _on_base(file: Path, base: Path, checksum: str, config: GPTConfig, rank: int, alpha: float, packed: bool) -> GPT:
    """Return the checkpoint `base` with new tokens, context and LoRA as in the settings of `file`."""
    if not base.is_file():
        raise FileNotFoundError(f"{file} belongs to the weights in {base}, which are not there: put them back, or tune "
                                "again with --merge, which needs none")
    if checkpoint.stored_checksum(base) != checksum:
        raise ValueError(f"{file} belongs to other weights than those that are now in {base}: put the old ones back, "
                         "or tune again")
    model = checkpoint.load_checkpoint(base, packed=packed).model
    n_new = config.vocab_size - model.config.vocab_size
    held = sum(t.size for t in model.named_arrays().values())
    if not 0 <= n_new <= 16 or not 0 < rank < model.config.n_embd or \
            checkpoint.count_weights(replace(model.config, block_size=config.block_size)) > 2 * held + 1_000_000:
        raise ValueError(f"{file} does not fit its base, {base}")
    return add_lora(extend_vocab_and_context(model, n_new, config.block_size), rank, alpha, n_new)


def _lora_layers(model: GPT) -> list[LoRALinear]:
    found: list[LoRALinear] = []

    def note(layer: LoRALinear) -> LoRALinear:
        found.append(layer)
        return layer

    replace_modules(model, LoRALinear, note)
    return found


def _read(file: Path) -> tuple[dict[str, str], dict[str, Stored]]:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there is no LoRA here: make one with gpt tune --lora-rank 8")
    return checkpoint.read_arrays(file, FORMAT)
