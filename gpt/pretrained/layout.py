"""Where GPT-2's and Llama's tensors, as Hugging Face names them, belong in our model."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..model.config import GPTConfig
from ..model.gpt import GPT
from ..model.module import Array, raw
from ..runtime.safetensors_file import FLOATS, Stored
from .config import rope_frequencies
from .files import shortened


@dataclass(frozen=True)
class Theirs:
    """One of their tensors, which is one of ours, or a part of it."""
    name: str
    shape: tuple[int, ...]                                     # theirs
    turned: bool = False                                       # (n_out, n_in), and ours (n_in, n_out)

    @property
    def width(self) -> int:
        """Its share of our last axis."""
        return self.shape[0] if self.turned else self.shape[-1]


Layout = dict[str, list[Theirs]]  # our name -> their tensors, side by side along our last axis
# Of all names but that of the head.
PREFIX = {"gpt2": "transformer.", "llama": "model.", "mistral": "model.", "qwen2": "model."}
# Constants, which some versions of transformers saved, too.
BUFFERS = re.compile(r"h\.\d+\.attn\.(masked_)?bias|(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")
HEAD = "lm_head.weight"


def layout_of(kind: str, c: GPTConfig) -> Layout:
    """Return the tensors of a model of a kind, one of CLASSES."""
    layout = gpt2_layout(c) if kind == "gpt2" else llama_layout(c, biased=kind == "qwen2")
    if not c.tied:
        layout[HEAD] = [Theirs(HEAD, (c.vocab_size, c.n_embd), True)]
    return layout


def gpt2_layout(c: GPTConfig) -> Layout:
    """GPT-2's names are ours, and its matrices (n_in, n_out) as ours."""
    C, F = c.n_embd, c.n_hidden or 4 * c.n_embd
    layout = {"wte.weight": [Theirs("wte.weight", (c.vocab_size, C))],
              "wpe.weight": [Theirs("wpe.weight", (c.block_size, C))]}

    def add(name: str, *shape: int) -> None:
        layout[f"{name}.weight"] = [Theirs(f"{name}.weight", shape)]
        layout[f"{name}.bias"] = [Theirs(f"{name}.bias", shape[-1:])]

    for i in range(c.n_layer):
        for name, shape in (("ln_1", (C,)), ("attn.c_attn", (C, 3 * C)), ("attn.c_proj", (C, C)),
                            ("ln_2", (C,)), ("mlp.c_fc", (C, F)), ("mlp.c_proj", (F, C))):
            add(f"h.{i}.{name}", *shape)
    add("ln_f", C)
    return layout


def llama_layout(c: GPTConfig, biased: bool) -> Layout:
    """Llama's matrices are (n_out, n_in), and its queries, keys and values apart; `biased`: with biases, as Qwen2's."""
    C, F, D = c.n_embd, c.n_hidden or 4 * c.n_embd, (c.n_kv_head or c.n_head) * c.head_size
    layout = {"wte.weight": [Theirs("embed_tokens.weight", (c.vocab_size, C))]}
    for i in range(c.n_layer):
        ours, theirs = f"h.{i}.", f"layers.{i}."
        parts = [(f"{theirs}self_attn.{x}_proj", n) for x, n in (("q", C), ("k", D), ("v", D))]
        layout |= {
            ours + "ln_1.weight": [Theirs(theirs + "input_layernorm.weight", (C,))],
            ours + "attn.c_attn.weight": [Theirs(f"{name}.weight", (n, C), True) for name, n in parts],
            ours + "attn.c_proj.weight": [Theirs(theirs + "self_attn.o_proj.weight", (C, C), True)],
            ours + "ln_2.weight": [Theirs(theirs + "post_attention_layernorm.weight", (C,))],
            ours + "mlp.c_fc.weight": [Theirs(theirs + "mlp.up_proj.weight", (F, C), True)],
            ours + "mlp.c_gate.weight": [Theirs(theirs + "mlp.gate_proj.weight", (F, C), True)],
            ours + "mlp.c_proj.weight": [Theirs(theirs + "mlp.down_proj.weight", (C, F), True)],
        }
        if biased:
            layout[ours + "attn.c_attn.bias"] = [Theirs(f"{name}.bias", (n,)) for name, n in parts]
    layout["ln_f.weight"] = [Theirs("norm.weight", (C,))]
    return layout


# ---------------------------------------------------------------------- import


def model_of(kind: str, c: GPTConfig, rope: dict[str, Any], stored: dict[str, Stored], dtype: Any) -> GPT:
    """Return a model with the numbers of these tensors.  Raises ValueError that lists the tensors that are missing,
    unknown or of another shape or type, and for numbers that are not finite."""
    if c.n_layer > len(stored):  # before a damaged number takes all time
        raise ValueError(f"the configuration asks for {c.n_layer:,} layers, and there are {len(stored):,} tensors")
    layout = layout_of(kind, c)
    stored = {name.removeprefix(PREFIX[kind]) if name.removeprefix(PREFIX[kind]) not in stored else name: t
              for name, t in stored.items()}
    head = stored.pop(HEAD, None) if c.tied else None
    check(layout, {name: t for name, t in stored.items() if not BUFFERS.fullmatch(name)})
    if head is not None and not same(head, stored[layout["wte.weight"][0].name]):
        raise ValueError(f"tie_word_embeddings is true, and {HEAD} has other numbers than the embedding of tokens")
    model = GPT(c, seed=None, dtype=dtype)
    for name, t in model.named_arrays().items():
        t.data = rope_frequencies(c.head_size, rope) if name == "frequencies" else joined(layout[name], stored, dtype)
    return model


def check(layout: Layout, stored: dict[str, Stored]) -> None:
    """Raise ValueError that lists the tensors that are missing, unknown or of another shape or type."""
    wanted = {part.name: part for parts in layout.values() for part in parts}
    both = [name for name in wanted if name in stored]
    problems = {
        "missing": [name for name in wanted if name not in stored],
        "unknown": [name for name in stored if name not in wanted],
        "of another shape": [f"{name} {list(stored[name].shape)} instead of {list(wanted[name].shape)}"
                             for name in both if stored[name].shape != wanted[name].shape],
        f"of another type than {', '.join(FLOATS)}": [f"{name} {stored[name].dtype}" for name in both
                                                      if stored[name].dtype not in FLOATS],
    }
    if any(problems.values()):
        raise ValueError("the tensors are not those of the configuration: " + "; ".join(
            f"{what}: {shortened(names)}" for what, names in problems.items() if names))


def same(a: Stored, b: Stored) -> bool:
    """Return whether two tensors hold the same numbers."""
    return a.dtype in FLOATS and a.shape == b.shape and np.array_equal(a.read(), b.read())


def joined(parts: list[Theirs], stored: dict[str, Stored], dtype: Any) -> Array:
    """Our array of their tensors; of a single one a view, which is cast where it is put."""
    arrays = []
    for part in parts:
        a = stored[part.name].read()
        check_finite(part.name, a, dtype)
        arrays.append(a.T if part.turned else a)
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate(arrays, axis=-1, dtype=dtype, casting="same_kind")


def check_finite(name: str, a: Array, dtype: Any) -> None:
    """Raise ValueError for NaN, and for numbers too large for a dtype: every logit would be NaN."""
    largest = np.finfo(dtype).max
    if not (-largest <= a.min() and a.max() <= largest):  # which NaN is not, either
        raise ValueError(f"{name} holds numbers that are NaN, infinite or too large for {np.dtype(dtype).name}: "
                         "the file is damaged, or its training failed; download it again")


# ---------------------------------------------------------------------- export


def their_arrays(kind: str, model: GPT) -> dict[str, Array]:
    """Return a model's numbers under their names, as views.  Where theirs has a gain or bias that ours has not, ones
    and zeros.  Raises ValueError for arrays of which theirs has no like."""
    layout, ours = layout_of(kind, model.config), {name: raw(a) for name, a in model.named_arrays().items()}
    if unknown := sorted(ours.keys() - layout.keys() - {"frequencies"}):
        raise ValueError(f"the model holds arrays that transformers has nothing like: {shortened(unknown)}")
    dtype, arrays = ours["wte.weight"].dtype, {}
    for name, parts in layout.items():
        start = 0
        for part in parts:
            if name in ours:
                a = ours[name][..., start:start + part.width]
                a = a.T if part.turned else a
            else:
                a = np.broadcast_to(np.asarray(name.endswith("weight"), dtype), part.shape)
            arrays[part.name if part.name == HEAD else PREFIX[kind] + part.name] = a
            start += part.width
    return arrays
