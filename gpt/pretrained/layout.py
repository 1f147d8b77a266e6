"""Map between the tensors of GPT-2 and Llama, as Hugging Face names them, and the arrays of a GPT here."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

import autograd as ag
from autograd.core.packed import FORMATS

from ..model.config import GPTConfig
from ..model.gpt import GPT
from ..model.init import Blank, Blanks
from ..model.module import Array, raw
from ..runtime.safetensors_file import FLOATS, Stored
from .files import shortened


@dataclass(frozen=True)
class FileTensor:
    """A tensor in a file: one of our arrays, or a part of its last axis."""
    name: str
    shape: tuple[int, ...]
    transposed: bool = False                                   # (n_out, n_in), where ours is (n_in, n_out)
    neighbours: int = 0                                        # head size, if the pairs of a head that rotate together
                                                               # are neighbours, where ours are half a head apart

    @property
    def width(self) -> int:
        """Its size along our last axis."""
        return self.shape[0] if self.transposed else self.shape[-1]


Layout = dict[str, list[FileTensor]]  # name of our array -> the tensors that it concatenates along its last axis
# Of all names of tensors but that of the head.
PREFIX = {"gpt2": "transformer.", "llama": "model.", "mistral": "model.", "qwen2": "model.", "qwen3": "model."}
# Constants, which some versions of transformers save, too.
BUFFERS = re.compile(r"h\.\d+\.attn\.(masked_)?bias|(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")
HEAD = "lm_head.weight"
TABLES = ("wte.weight", "wpe.weight")


def layout_of(model_type: str, c: GPTConfig) -> Layout:
    """Return the tensors of a model of one of CLASSES."""
    layout = gpt2_layout(c) if model_type == "gpt2" else llama_layout(c, model_type)
    if not c.tied:
        layout[HEAD] = [FileTensor(HEAD, (c.vocab_size, c.n_embd), True)]
    return layout


def gpt2_layout(c: GPTConfig) -> Layout:
    """Return the tensors of a GPT-2, whose names are ours, and whose matrices are (n_in, n_out) as ours."""
    C, F = c.n_embd, c.n_hidden or 4 * c.n_embd
    layout = {"wte.weight": [FileTensor("wte.weight", (c.vocab_size, C))],
              "wpe.weight": [FileTensor("wpe.weight", (c.block_size, C))]}

    def add(name: str, *shape: int) -> None:
        layout[f"{name}.weight"] = [FileTensor(f"{name}.weight", shape)]
        layout[f"{name}.bias"] = [FileTensor(f"{name}.bias", shape[-1:])]

    for i in range(c.n_layer):
        for name, shape in (("ln_1", (C,)), ("attn.c_attn", (C, 3 * C)), ("attn.c_proj", (C, C)),
                            ("ln_2", (C,)), ("mlp.c_fc", (C, F)), ("mlp.c_proj", (F, C))):
            add(f"h.{i}.{name}", *shape)
    add("ln_f", C)
    return layout


def llama_layout(c: GPTConfig, model_type: str) -> Layout:
    """Return the tensors of a Llama, whose matrices are (n_out, n_in), and whose queries, keys and values are separate;
    Qwen2 has biases of these, Qwen3 gains of normalized queries and keys."""
    C, F, Q, D = c.n_embd, c.n_hidden or 4 * c.n_embd, c.n_head * c.head_size, (c.n_kv_head or c.n_head) * c.head_size
    layout = {"wte.weight": [FileTensor("embed_tokens.weight", (c.vocab_size, C))]}
    for i in range(c.n_layer):
        block, layer = f"h.{i}.", f"layers.{i}."
        qkv = [(f"{layer}self_attn.{x}_proj", n) for x, n in (("q", Q), ("k", D), ("v", D))]
        layout |= {
            block + "ln_1.weight": [FileTensor(layer + "input_layernorm.weight", (C,))],
            block + "attn.c_attn.weight": [FileTensor(f"{name}.weight", (n, C), True) for name, n in qkv],
            block + "attn.c_proj.weight": [FileTensor(layer + "self_attn.o_proj.weight", (C, Q), True)],
            block + "ln_2.weight": [FileTensor(layer + "post_attention_layernorm.weight", (C,))],
            block + "mlp.c_fc.weight": [FileTensor(layer + "mlp.up_proj.weight", (F, C), True)],
            block + "mlp.c_gate.weight": [FileTensor(layer + "mlp.gate_proj.weight", (F, C), True)],
            block + "mlp.c_proj.weight": [FileTensor(layer + "mlp.down_proj.weight", (C, F), True)],
        }
        if model_type == "qwen2":
            layout[block + "attn.c_attn.bias"] = [FileTensor(f"{name}.bias", (n,)) for name, n in qkv]
        if model_type == "qwen3":
            layout[block + "attn.norm.weight"] = [FileTensor(f"{layer}self_attn.{x}_norm.weight", (c.head_size,))
                                                  for x in ("q", "k")]
    layout["ln_f.weight"] = [FileTensor("norm.weight", (C,))]
    return layout


# ---------------------------------------------------------------------- import


def check_layers(c: GPTConfig, stored: dict[str, Stored]) -> None:
    """Raise ValueError for more layers than tensors, before a damaged count takes all time."""
    if c.n_layer > len(stored):
        raise ValueError(f"the configuration asks for {c.n_layer:,} layers, and there are {len(stored):,} tensors")


def without_prefix(model_type: str, c: GPTConfig, stored: dict[str, Stored]) -> dict[str, Stored]:
    """Return the tensors of a folder by the names that `layout_of` has, without constants and the copy of a tied
    embedding.  Raises ValueError for a copy that is none."""
    prefix, embedding = PREFIX[model_type], layout_of(model_type, c)["wte.weight"][0].name
    stored = {name if (short := name.removeprefix(prefix)) in stored else short: t for name, t in stored.items()}
    head = stored.pop(HEAD, None) if c.tied else None
    if head is not None and embedding in stored and not same_numbers(head, stored[embedding]):
        raise ValueError(f"tie_word_embeddings is true, and {HEAD} has other numbers than the embedding of tokens")
    return {name: t for name, t in stored.items() if not BUFFERS.fullmatch(name)}


def build_model(c: GPTConfig, layout: Layout, stored: dict[str, Stored], turns: Array | None, dtype: Any,
                packed: bool = False) -> GPT:
    """Return the model with the weights of these tensors; `turns`: the frequencies of its rotary positions; `packed`:
    matrices stay in the few bits that they are stored in, where these are a format of `ag.Packed`.  Raises ValueError
    that lists the tensors that are missing, unknown or of another shape or type, and for weights that are not finite.
    """
    check_tensors(layout, stored)

    def fill(t: Blank) -> Array:
        if t.name == "frequencies":
            return ag.tensor(turns, dtype, name=t.name)
        if packed and (a := packed_tensors(layout[t.name], stored, t.name in TABLES)) is not None:
            return a
        return ag.tensor(from_tensors(layout[t.name], stored, dtype), dtype, requires_grad=t.requires_grad, name=t.name)

    return GPT(c, Blanks(dtype)).map(fill)


def check_tensors(layout: Layout, stored: dict[str, Stored]) -> None:
    """Raise ValueError that lists the tensors that are missing, unknown or of another shape or type."""
    expected = {tensor.name: tensor for tensors in layout.values() for tensor in tensors}
    both = [name for name in expected if name in stored]
    problems = {
        "missing": [name for name in expected if name not in stored],
        "unknown": [name for name in stored if name not in expected],
        "of another shape": [f"{name} {list(stored[name].shape)} instead of {list(expected[name].shape)}"
                             for name in both if stored[name].shape != expected[name].shape],
        f"of another type than {', '.join(FLOATS)}": [f"{name} {stored[name].dtype}" for name in both
                                                      if not stored[name].is_float],
    }
    if any(problems.values()):
        raise ValueError("the tensors are not those of the configuration: " + "; ".join(
            f"{problem}: {shortened(names)}" for problem, names in problems.items() if names))


def same_numbers(a: Stored, b: Stored) -> bool:
    """Return whether two tensors hold the same numbers."""
    return a.is_float and b.is_float and a.shape == b.shape and np.array_equal(a.read(), b.read())


def from_tensors(tensors: list[FileTensor], stored: dict[str, Stored], dtype: Any) -> Array:
    """Return the array that concatenates these tensors; of a single one that is mapped a view, not yet cast to
    `dtype`."""
    arrays = []
    for tensor in tensors:
        a = stored[tensor.name].read()
        check_finite(tensor.name, a, dtype)
        if d := tensor.neighbours:
            a = a.reshape(-1, d // 2, 2, a.shape[-1]).swapaxes(1, 2).reshape(a.shape)
        arrays.append(a.T if tensor.transposed else a)
    if len(arrays) == 1:
        return np.ascontiguousarray(arrays[0]) if a.flags.writeable else arrays[0]  # one copy now, or later
    return np.concatenate(arrays, axis=-1, dtype=dtype, casting="same_kind")


def packed_tensors(tensors: list[FileTensor], stored: dict[str, Stored], is_table: bool) -> ag.Packed | None:
    """Return the array that concatenates these tensors as they are stored, or None if they are of no format, or of
    several.  A matrix of a linear layer lies by outputs, a table by its rows."""
    found, forms = [stored[tensor.name] for tensor in tensors], {stored[tensor.name].dtype for tensor in tensors}
    if len(forms) > 1 or not forms <= FORMATS.keys() or any(len(a.shape) != 2 for a in found):
        return None
    rows = []
    for tensor, a in zip(tensors, found):
        by_row = a.flat().view(np.uint8).reshape(a.shape[0], -1)
        if not ag.Packed(by_row, a.dtype).is_finite:
            raise ValueError(f"{tensor.name} holds numbers that are NaN or infinite: the file is damaged, or its "
                             "training failed; download it again")
        if not is_table and not tensor.transposed:  # of GPT-2 in Hugging Face's form, in half precision
            by_row = np.ascontiguousarray(by_row.view(np.uint16).T).view(np.uint8)
        if d := tensor.neighbours:
            by_row = by_row.reshape(-1, d // 2, 2, by_row.shape[-1]).swapaxes(1, 2).reshape(by_row.shape)
        rows.append(by_row)
    kept = ag.Packed(rows[0] if len(rows) == 1 else np.concatenate(rows), forms.pop())
    return kept if is_table else kept.T


def check_finite(name: str, a: Array, dtype: Any) -> None:
    """Raise ValueError for NaN, and for numbers too large for a dtype, which would make every logit NaN."""
    largest = np.finfo(dtype).max
    if not (-largest <= a.min() and a.max() <= largest):  # false for NaN
        raise ValueError(f"{name} holds numbers that are NaN, infinite or too large for {np.dtype(dtype).name}: "
                         "the file is damaged, or its training failed; download it again")


# ---------------------------------------------------------------------- export


def to_hf_arrays(model_type: str, model: GPT) -> dict[str, Array]:
    """Return a model's weights by Hugging Face's names, as views, with ones and zeros for gains and biases that the
    model does not have.  Raises ValueError for arrays that have no counterpart."""
    layout, ours = layout_of(model_type, model.config), {name: raw(a) for name, a in model.named_arrays().items()}
    if unknown := sorted(ours.keys() - layout.keys() - {"frequencies"}):
        raise ValueError(f"the model holds arrays that transformers has nothing like: {shortened(unknown)}")
    dtype, arrays = ours["wte.weight"].dtype, {}
    for name, tensors in layout.items():
        start = 0
        for tensor in tensors:
            if name in ours:
                a = ours[name][..., start:start + tensor.width]
                a = a.T if tensor.transposed else a
            else:
                a = np.broadcast_to(np.asarray(name.endswith("weight"), dtype), tensor.shape)
            arrays[tensor.name if tensor.name == HEAD else PREFIX[model_type] + tensor.name] = a
            start += tensor.width
    return arrays
