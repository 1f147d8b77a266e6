"""Models in GGUF files: their metadata as a GPTConfig, and the map between their arrays and ours."""

import re
from dataclasses import replace
from typing import Any

import numpy as np

from ..model.config import GPTConfig
from ..runtime.safetensors_file import Stored
from .config import TOKEN_IDS, Keys, rope_frequencies
from .layout import FileTensor, Layout, layout_of

# The name of an array in a block, or outside of them: Hugging Face's (GPT-2's first) -> GGUF's.
NAMES = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "ln_1": "attn_norm", "ln_2": "ffn_norm",
         "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
         "embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
         "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
         "mlp.up_proj": "ffn_up", "mlp.gate_proj": "ffn_gate", "mlp.down_proj": "ffn_down"}
ARCHITECTURES = ("gpt2", "llama", "qwen2", "qwen3")  # Mistral and SmolLM are Llamas, too
ROPE_FACTORS = "rope_freqs.weight"  # (d/2,), by which the frequencies of rotary positions are divided
# Prefixes of keys that do not change what a model computes, but for those of tokenizers, which are read elsewhere.
HARMLESS = ("general.", "tokenizer.", "quantize.", "split.")
# Those of `rope.scaling` that matter with YaRN only, which is refused.
YARN = {"finetuned", "original_context_length", "yarn_log_multiplier", "yarn_ext_factor", "yarn_attn_factor",
        "yarn_beta_fast", "yarn_beta_slow"}


def parse_metadata(metadata: dict[str, Any], stored: dict[str, Stored]) -> tuple[GPTConfig, dict[str, Any]]:
    """Return the configuration of a GGUF file's model, and other values that an export needs.

    Raises ValueError for another architecture, for invalid values, and for features that this GPT does not have, or
    keys that may ask for some.
    """
    keys = Keys(metadata)
    architecture = keys.take("general.architecture", str)
    if architecture not in ARCHITECTURES:
        raise ValueError(f"its general.architecture is {architecture!r:.40}, and the known ones are "
                         f"{', '.join(ARCHITECTURES)}: take a model of one of these, such as SmolLM2, Llama, Mistral, "
                         "Qwen2.5 or Qwen3")
    keys.only("general.type", "model", "what is no whole model")
    if (n := keys.take("split.count", int, 0)) > 1:
        raise ValueError(f"it is one of the {n} files of a model: join them with llama.cpp's llama-gguf-split --merge")
    if "token_embd.weight" not in stored:
        raise ValueError("it holds no token_embd.weight, the embedding of tokens")
    embedding = stored["token_embd.weight"].shape
    choices, rope = gguf_choices(keys, architecture)
    if keys.problems:
        raise ValueError(f"it asks for what this GPT does not have: {'; '.join(keys.problems)}")
    unknown = [name for name in keys.unread() if not name.startswith(HARMLESS)]
    if unknown:
        raise ValueError(f"it has keys that are not known here and may change what the model computes: "
                         f"{f'{unknown}'[1:-1]:.300}")
    extra = {"model_type": architecture, "rope": rope, **token_ids(metadata)}
    try:
        config = GPTConfig(vocab_size=embedding[0], tied="output.weight" not in stored, **choices)
    except TypeError as error:
        raise ValueError(str(error)) from None
    return config, {k: v for k, v in extra.items() if v not in (None, {}, [])}


def gguf_choices(keys: Keys, architecture: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields of a GPTConfig but for those that the arrays tell, and the scaling of rotary positions."""
    def take(name: str, expected: type, *default: Any) -> Any:
        return keys.take(f"{architecture}.{name}", expected, *default)

    def only(name: str, value: Any, feature: str) -> None:
        keys.only(f"{architecture}.{name}", value, feature)

    size, heads = take("embedding_length", int), take("attention.head_count", int)
    kv_heads = take("attention.head_count_kv", int, heads)
    choices = dict(n_embd=size, n_head=heads, n_layer=take("block_count", int), block_size=take("context_length", int),
                   n_hidden=take("feed_forward_length", int))
    keys.read.add(f"{architecture}.vocab_size")
    only("attention.causal", True, "attention to later tokens")
    if architecture == "gpt2":
        only("attention.head_count_kv", heads, "grouped-query attention in a GPT-2")
        return choices | dict(bias=True, activation="gelu_tanh",
                              norm_eps=take("attention.layer_norm_epsilon", float)), {}
    if heads < 1:
        raise ValueError(f"{architecture}.attention.head_count is {heads}, and needs to be at least 1")
    head_dim = take("attention.key_length", int, None)
    d = head_dim or size // heads
    for name in ("attention.value_length", "rope.dimension_count"):
        only(name, d, f"values of other dimensions than the {d} of queries, or rotary positions in a part of a head")
    only("expert_count", 0, "a mixture of experts")
    only("expert_used_count", 0, "a mixture of experts")
    only("use_parallel_residual", False, "attention and MLP side by side")
    only("tensor_data_layout", "Meta AI original pth", "another order of weights")
    window = take("attention.sliding_window", int, 0)
    if 0 < window < choices["block_size"]:
        keys.problems.append(f"attention to a sliding window ({architecture}.attention.sliding_window is {window})")
    qwen3 = architecture == "qwen3"
    rope = gguf_rope(keys, architecture)
    return choices | dict(n_kv_head=kv_heads, head_dim=None if d * heads == size else head_dim,
                          norm="rms_norm", positions="rotary", gated=True, activation="silu",
                          norm_eps=take("attention.layer_norm_rms_epsilon", float), rope_base=rope["rope_theta"],
                          qkv_bias=architecture == "qwen2", qk_norm=qwen3, qk_norm_gain=qwen3), rope


def gguf_rope(keys: Keys, architecture: str) -> dict[str, Any]:
    """Return the scaling of rotary positions, as in a config.json: rope_type, rope_theta and, if linear, factor."""
    prefix = f"{architecture}.rope."
    rope = {"rope_type": "default", "rope_theta": float(keys.take(prefix + "freq_base", float, 10000.0))}
    kind = keys.take(prefix + "scaling.type", str, "none")
    older = keys.take(prefix + "scale_linear", float, 1.0)
    factor = keys.take(prefix + "scaling.factor", float, older)
    if kind not in ("none", "linear"):
        keys.problems.append(f"rotary positions scaled otherwise than linearly ({prefix}scaling.type is {kind!r:.40})")
    keys.only(prefix + "scaling.attn_factor", 1, "attention scores that are scaled with the positions")
    keys.read |= {f"{prefix}scaling.{name}" for name in YARN}
    if factor <= 0:
        raise ValueError(f"{prefix}scaling.factor is {factor}, and needs to be above 0")
    if factor != 1 and (kind == "linear" or prefix + "scaling.type" not in keys.values):
        rope |= {"rope_type": "linear", "factor": factor}
    return rope


def token_ids(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the ids of the tokens that begin, end and pad a text, by their names in a config.json; of several that end
    one, such as the end of a turn, a list."""
    keys = Keys({name.removeprefix("tokenizer.ggml."): value for name, value in metadata.items()})
    bos, eos, pad = (keys.take(name.replace("pad_", "padding_"), int, None) for name in TOKEN_IDS)
    ends = [eos, *(keys.take(f"{name}_token_id", int, None) for name in ("eot", "eom"))]
    ends = [*dict.fromkeys(i for i in ends if i is not None)]
    return dict(zip(TOKEN_IDS, (bos, ends[0] if len(ends) == 1 else ends, pad)))


# ---------------------------------------------------------------------- arrays


def gguf_layout(architecture: str, c: GPTConfig) -> Layout:
    """Return the tensors of a model in a GGUF file, where each matrix is (n_out, n_in), and where the dimensions of a
    Llama's queries and keys that rotate together are neighbours."""
    def rename(tensor: FileTensor) -> FileTensor:
        block, name, suffix = re.fullmatch(r"(?:(?:h|layers)\.(\d+)\.)?(.+)\.(\w+)", tensor.name).groups()  # type: ignore[union-attr]
        theirs = replace(tensor, name=f"blk.{block}." * (block is not None) + f"{NAMES[name]}.{suffix}")
        if architecture == "gpt2" and block is not None and len(tensor.shape) == 2:
            return replace(theirs, shape=tensor.shape[::-1], transposed=True)
        turned = architecture == "llama" and NAMES[name] in ("attn_q", "attn_k")
        return replace(theirs, neighbours=c.head_size) if turned else theirs

    return {ours: [rename(tensor) for tensor in tensors] for ours, tensors in layout_of(architecture, c).items()}


def gguf_frequencies(c: GPTConfig, rope: dict[str, Any], factors: Stored | None) -> tuple[Any, dict[str, Any]]:
    """Return the rotation of each pair of dimensions, in radians a token, (d/2,), and the scaling it comes from.

    `factors`: the array that a Llama 3.1 has in place of keys.  Its scaling is named if it is that of a released model:
    only its factor differs between them.  Raises ValueError for factors of another shape, or that are not above 0.
    """
    frequencies = rope_frequencies(c.head_size, rope)
    if factors is None:
        return frequencies, rope
    if factors.shape != frequencies.shape or not factors.is_float or not np.all((by := factors.read()) > 0):
        raise ValueError(f"{ROPE_FACTORS} is no array of {frequencies.size} numbers above 0")
    llama3 = {"rope_type": "llama3", "rope_theta": rope["rope_theta"], "factor": float(by.max()),
              "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    if rope["rope_type"] == "default" and np.allclose(rope_frequencies(c.head_size, llama3), frequencies / by, 1e-5, 0):
        return rope_frequencies(c.head_size, llama3), llama3
    return frequencies / by, rope
