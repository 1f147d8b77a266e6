"""Map between the tensors of GPT-2 and Llama, as Hugging Face names them, and the arrays of a GPT here."""

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
class HFTensor:
    """A tensor in Hugging Face's form: one of our arrays, or a part of its last axis."""
    name: str
    shape: tuple[int, ...]
    transposed: bool = False                                   # (n_out, n_in), where ours is (n_in, n_out)

    @property
    def width(self) -> int:
        """Its size along our last axis."""
        return self.shape[0] if self.transposed else self.shape[-1]


Layout = dict[str, list[HFTensor]]  # name of our array -> the tensors that it concatenates along its last axis
# Of all names of tensors but that of the head.
PREFIX = {"gpt2": "transformer.", "llama": "model.", "mistral": "model.", "qwen2": "model.", "qwen3": "model."}
# Constants, which some versions of transformers save, too.
BUFFERS = re.compile(r"h\.\d+\.attn\.(masked_)?bias|(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")
HEAD = "lm_head.weight"


def layout_of(model_type: str, c: GPTConfig) -> Layout:
    """Return the tensors of a model of one of CLASSES."""
    layout = gpt2_layout(c) if model_type == "gpt2" else llama_layout(c, model_type)
    if not c.tied:
        layout[HEAD] = [HFTensor(HEAD, (c.vocab_size, c.n_embd), True)]
    return layout


def gpt2_layout(c: GPTConfig) -> Layout:
    """Return the tensors of a GPT-2, whose names are ours, and whose matrices are (n_in, n_out) as ours."""
    C, F = c.n_embd, c.n_hidden or 4 * c.n_embd
    layout = {"wte.weight": [HFTensor("wte.weight", (c.vocab_size, C))],
              "wpe.weight": [HFTensor("wpe.weight", (c.block_size, C))]}

    def add(name: str, *shape: int) -> None:
        layout[f"{name}.weight"] = [HFTensor(f"{name}.weight", shape)]
        layout[f"{name}.bias"] = [HFTensor(f"{name}.bias", shape[-1:])]

    for i in range(c.n_layer):
        for name, shape in (("ln_1", (C,)), ("attn.c_attn", (C, 3 * C)), ("attn.c_proj", (C, C)),
                            ("ln_2", (C,)), ("mlp.c_fc", (C, F)), ("mlp.c_proj", (F, C))):
            add(f"h.{i}.{name}", *shape)
    add("ln_f", C)
    return layout


def llama_layout(c: GPTConfig, model_type: str) -> Layout:
    """Return the tensors of a Llama, whose matrices are (n_out, n_in), and whose queries, keys and values are separate;
    Qwen2 has biases of these, Qwen3 gains of normalized queries and keys."""
    C, F, D = c.n_embd, c.n_hidden or 4 * c.n_embd, (c.n_kv_head or c.n_head) * c.head_size
    layout = {"wte.weight": [HFTensor("embed_tokens.weight", (c.vocab_size, C))]}
    for i in range(c.n_layer):
        block, layer = f"h.{i}.", f"layers.{i}."
        qkv = [(f"{layer}self_attn.{x}_proj", n) for x, n in (("q", C), ("k", D), ("v", D))]
        layout |= {
            block + "ln_1.weight": [HFTensor(layer + "input_layernorm.weight", (C,))],
            block + "attn.c_attn.weight": [HFTensor(f"{name}.weight", (n, C), True) for name, n in qkv],
            block + "attn.c_proj.weight": [HFTensor(layer + "self_attn.o_proj.weight", (C, C), True)],
            block + "ln_2.weight": [HFTensor(layer + "post_attention_layernorm.weight", (C,))],
            block + "mlp.c_fc.weight": [HFTensor(layer + "mlp.up_proj.weight", (F, C), True)],
            block + "mlp.c_gate.weight": [HFTensor(layer + "mlp.gate_proj.weight", (F, C), True)],
            block + "mlp.c_proj.weight": [HFTensor(layer + "mlp.down_proj.weight", (C, F), True)],
        }
        if model_type == "qwen2":
            layout[block + "attn.c_attn.bias"] = [HFTensor(f"{name}.bias", (n,)) for name, n in qkv]
        if model_type == "qwen3":
            layout[block + "attn.norm.weight"] = [HFTensor(f"{layer}self_attn.{x}_norm.weight", (c.head_size,))
                                                  for x in ("q", "k")]
    layout["ln_f.weight"] = [HFTensor("norm.weight", (C,))]
    return layout


# ---------------------------------------------------------------------- import


def build_model(model_type: str, c: GPTConfig, rope: dict[str, Any], stored: dict[str, Stored], dtype: Any) -> GPT:
    """Return the model with the weights of these tensors.  Raises ValueError that lists the tensors that are missing,
    unknown or of another shape or type, and for weights that are not finite."""
    if c.n_layer > len(stored):  # before a damaged count takes all time
        raise ValueError(f"the configuration asks for {c.n_layer:,} layers, and there are {len(stored):,} tensors")
    layout = layout_of(model_type, c)
    stored = {name.removeprefix(PREFIX[model_type]) if name.removeprefix(PREFIX[model_type]) not in stored else name: t
              for name, t in stored.items()}
    head = stored.pop(HEAD, None) if c.tied else None
    check_tensors(layout, {name: t for name, t in stored.items() if not BUFFERS.fullmatch(name)})
    if head is not None and not same_numbers(head, stored[layout["wte.weight"][0].name]):
        raise ValueError(f"tie_word_embeddings is true, and {HEAD} has other numbers than the embedding of tokens")
    model = GPT(c, seed=None, dtype=dtype)
    for name, t in model.named_arrays().items():
        if name == "frequencies":
            t.data = rope_frequencies(c.head_size, rope)
        else:
            t.data = from_hf_tensors(layout[name], stored, dtype)
    return model


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
                                                      if stored[name].dtype not in FLOATS],
    }
    if any(problems.values()):
        raise ValueError("the tensors are not those of the configuration: " + "; ".join(
            f"{problem}: {shortened(names)}" for problem, names in problems.items() if names))


def same_numbers(a: Stored, b: Stored) -> bool:
    """Return whether two tensors hold the same numbers."""
    return a.dtype in FLOATS and a.shape == b.shape and np.array_equal(a.read(), b.read())


def from_hf_tensors(tensors: list[HFTensor], stored: dict[str, Stored], dtype: Any) -> Array:
    """Return the array that concatenates these tensors; of a single one a view, not yet cast to `dtype`."""
    arrays = []
    for tensor in tensors:
        a = stored[tensor.name].read()
        check_finite(tensor.name, a, dtype)
        arrays.append(a.T if tensor.transposed else a)
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate(arrays, axis=-1, dtype=dtype, casting="same_kind")


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
