"""Conversion between the config.json of GPT-2, Llama, Mistral, Qwen2 or Qwen3 and a GPTConfig."""

import math
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..model.config import GPTConfig
from ..model.families import nearest_family
from ..model.init import frequencies
from ..model.module import Array

ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "gelu_python": "gelu",
               "relu": "relu", "relu2": "squared_relu", "silu": "silu", "swish": "silu"}
HF_ACTIVATION = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}  # the first of each
CLASSES = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM",
           "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
# Features of other families that the model here does not have.
OTHERS = {"gemma": "norms by 1 + weight and scales the embedding",
          "phi": "joins tensors or blocks in other ways",
          "gpt_neox": "adds attention and MLP side by side and turns a part of a head only"}
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
# Keys that do not change what a model computes, or that matter in training only.
HARMLESS = {"architectures", "model_type", "torch_dtype", "dtype", "transformers_version", "use_cache", "n_ctx",
            "initializer_range", "attention_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop", "summary_type",
            "summary_use_proj", "summary_activation", "summary_proj_to_labels", "summary_first_dropout",
            "task_specific_params", "_name_or_path", "pretraining_tp", "id2label", "label2id", "output_past",
            "reorder_and_upcast_attn", "gradient_checkpointing", "output_attentions", "output_hidden_states",
            "return_dict", "_from_model_config", "tokenizer_class", "torchscript", "use_bfloat16", "num_labels",
            "problem_type", "finetuning_task", "is_decoder", "tie_encoder_decoder", "chunk_size_feed_forward",
            "is_llama_config", "max_sequence_length", "sep_token_id", "decoder_start_token_id", "unk_token_id",
            "prefix", *TOKEN_IDS}
# Settings of sampling, for which `gpt sample` has its own.
SAMPLING = {"do_sample", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty",
           "no_repeat_ngram_size", "max_length", "min_length", "max_new_tokens", "num_beams", "num_return_sequences",
           "early_stopping", "bad_words_ids", "forced_bos_token_id", "forced_eos_token_id", "suppress_tokens",
           "begin_suppress_tokens"}
# The author of the file, and the tools.
WRITER = re.compile(r"_(model_)?name_or_path|_commit_hash|_num_labels|_flash_attn.*|_?attn_implementation.*|"
                    r"use_flash_attn.*|unsloth.*|transformers.*|torch_version|version")
_REQUIRED = object()


@dataclass
class Keys:
    """The keys of a config.json, those that were read, and the problems: features that this GPT does not have."""
    values: dict[str, Any]
    read: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def take(self, name: str, expected: type, default: Any = _REQUIRED) -> Any:
        """Return a value, or the default if it is missing or null.  Raises ValueError for a value of another type."""
        self.read.add(name)
        value = self.values.get(name)
        if value is None:
            if default is _REQUIRED:
                raise ValueError(f"{name} is missing")
            return default
        accepted = (int, float) if expected is float else expected
        if not isinstance(value, accepted) or isinstance(value, bool) and expected is not bool:
            raise ValueError(f"{name} is {value!r:.60}, and needs to be of type {expected.__name__}")
        if isinstance(value, (int, float)) and not abs(value) < 1e18:  # true for NaN, too
            raise ValueError(f"{name} is {value!r:.60}, and needs to be a number of usual size")
        return value

    def only(self, name: str, value: Any, feature: str) -> None:
        """Note a problem, with the feature it asks for, for any value but this one and null."""
        self.read.add(name)
        if (found := self.values.get(name)) is not None and found != value:
            self.problems.append(f"{feature} ({name} is {found!r:.60})")

    def activation(self, name: str, default: str) -> str:
        """Return our name of an activation."""
        value = self.take(name, str, default)
        if value not in ACTIVATIONS:
            self.problems.append(f"the activation {value!r:.40}, and it knows {', '.join(ACTIVATIONS)}")
        return ACTIVATIONS.get(value, "gelu")

    def unread(self) -> list[str]:
        """List the keys that were not read and may change what the model computes."""
        return sorted(name for name in self.values.keys() - self.read - HARMLESS - SAMPLING
                      if self.values[name] is not None and not WRITER.fullmatch(name))


def parse_config(values: dict[str, Any]) -> tuple[GPTConfig, dict[str, Any], list[str]]:
    """Return the configuration, other values that an export needs, and the keys that are ignored without harm.

    Raises ValueError for another family, for invalid values, and for features that this GPT does not have, or keys that
    may ask for some.
    """
    keys = Keys(values)
    model_type = keys.take("model_type", str, "")
    if model_type not in CLASSES:
        does = next((does for name, does in OTHERS.items() if model_type.startswith(name)), "")
        raise ValueError(f"its model_type is {model_type!r:.40}{f', which {does}' * bool(does)}, and the known ones "
                         f"are {', '.join(CLASSES)}: take a model of one of these, such as SmolLM2, Llama, Mistral or "
                         "Qwen2.5, or one that has been converted into Llama's form")
    keys.only("is_encoder_decoder", False, "an encoder")
    keys.only("add_cross_attention", False, "cross-attention")
    keys.only("pruned_heads", {}, "pruned heads")
    keys.only("quantization_config", None, "quantized weights")
    keys.only("auto_map", None, "code of its own, which is not run")
    rope: dict[str, Any] = {}
    if model_type == "gpt2":
        choices = gpt2_choices(keys)
    else:
        choices, rope = llama_choices(keys, model_type)
    if keys.problems:
        raise ValueError(f"it asks for what this GPT does not have: {'; '.join(keys.problems)}")
    if unknown := keys.unread():
        raise ValueError(f"it has keys that are not known here and may change what the model computes: "
                         f"{f'{unknown}'[1:-1]:.300}: delete those from the file of which you know that they do not")
    extra = {"model_type": model_type, "rope": rope, **{name: values.get(name) for name in TOKEN_IDS}}
    ignored = sorted(name for name in SAMPLING & values.keys() if values[name] is not None)
    try:
        return GPTConfig(**choices), {k: v for k, v in extra.items() if v not in (None, {})}, ignored
    except TypeError as error:
        raise ValueError(str(error)) from None


# ---------------------------------------------------------------------- GPT-2


def gpt2_choices(keys: Keys) -> dict[str, Any]:
    """Return the fields of a GPTConfig (Radford et al. 2019)."""
    keys.only("scale_attn_weights", True, "attention whose scores are not scaled")
    keys.only("scale_attn_by_inverse_layer_idx", False, "scores scaled by the layer's number")
    return dict(vocab_size=keys.take("vocab_size", int), block_size=keys.take("n_positions", int),
                n_embd=keys.take("n_embd", int), n_layer=keys.take("n_layer", int), n_head=keys.take("n_head", int),
                n_hidden=keys.take("n_inner", int, None), bias=True,
                activation=keys.activation("activation_function", "gelu_new"),
                norm_eps=float(keys.take("layer_norm_epsilon", float, 1e-5)),
                tied=keys.take("tie_word_embeddings", bool, True))


def gpt2_keys(c: GPTConfig) -> dict[str, Any]:
    """Return the config.json of a model that GPT-2 has all choices of."""
    return {"n_positions": c.block_size, "n_embd": c.n_embd, "n_layer": c.n_layer, "n_head": c.n_head,
            "n_inner": c.n_hidden, "activation_function": HF_ACTIVATION[c.activation],
            "layer_norm_epsilon": c.norm_eps, "resid_pdrop": c.dropout, "embd_pdrop": c.dropout, "attn_pdrop": 0.0}


# ---------------------------------------------------------------------- Llama


def llama_choices(keys: Keys, model_type: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields of a GPTConfig (Touvron et al. 2023; Qwen2: Yang et al. 2024; Qwen3: 2025), and the
    positions' scaling."""
    size, heads = keys.take("hidden_size", int), keys.take("num_attention_heads", int)
    layers = keys.take("num_hidden_layers", int)
    head_dim = keys.take("head_dim", int, 128 if model_type == "qwen3" else None)
    if head_dim is not None and head_dim * heads == size:
        head_dim = None
    keys.only("attention_bias", False, "a bias in all of attention")
    keys.only("mlp_bias", False, "a bias in the MLP")
    keys.only("partial_rotary_factor", 1, "rotary positions in a part of a head")
    keys.only("rope_interleaved", False, "rotary positions that turn neighbouring dimensions")
    keys.only("use_mrope", False, "positions of several axes")
    context = keys.take("max_position_embeddings", int)
    check_windows(keys, model_type, layers, context)
    rope, n_kv_head = llama_rope(keys), {"llama": heads, "mistral": 8}.get(model_type, _REQUIRED)
    return dict(vocab_size=keys.take("vocab_size", int), block_size=context,
                n_embd=size, n_layer=layers, n_head=heads, head_dim=head_dim,
                n_hidden=keys.take("intermediate_size", int),
                n_kv_head=keys.take("num_key_value_heads", int, n_kv_head),
                norm="rms_norm", norm_eps=float(keys.take("rms_norm_eps", float, 1e-6)), qkv_bias=model_type == "qwen2",
                qk_norm=model_type == "qwen3", qk_norm_gain=model_type == "qwen3",
                positions="rotary", rope_base=float(rope["rope_theta"]), gated=True,
                activation=keys.activation("hidden_act", "silu"),
                tied=keys.take("tie_word_embeddings", bool, False)), rope


def check_windows(keys: Keys, model_type: str, layers: int, context: int) -> None:
    """Note a problem if a layer's attention has a sliding window shorter than the context."""
    usual = 4096 if model_type == "mistral" and "sliding_window" not in keys.values else None
    window, first = keys.take("sliding_window", int, usual), keys.take("max_window_layers", int, 28)
    used = window is not None
    qwen = model_type.startswith("qwen")
    if not keys.take("use_sliding_window", bool, not qwen) or qwen and first >= layers:
        used = False
    if (types := keys.take("layer_types", list, None)) is not None:
        used = any(each != "full_attention" for each in types)
    if used and (window is None or window < context):
        keys.problems.append("attention to a sliding window (sliding_window, layer_types), which does not matter "
                             "within it: with a max_position_embeddings that is no longer, it can be imported")


def llama_rope(keys: Keys) -> dict[str, Any]:
    """Return the scaling of rotary positions, from rope_parameters, or from the rope_theta and rope_scaling of earlier
    versions: rope_type, rope_theta, and the parameters of the type."""
    theta, scaling = keys.take("rope_theta", float, 10000.0), keys.take("rope_scaling", dict, {})
    inner = Keys({**scaling, **keys.take("rope_parameters", dict, {})})
    rope_type = inner.take("rope_type", str, inner.take("type", str, "default"))
    inner.only("partial_rotary_factor", 1, "rotary positions in a part of a head")
    keys.problems += inner.problems
    rope = {"rope_type": rope_type, "rope_theta": inner.take("rope_theta", float, theta)}
    if rope_type in ("linear", "llama3"):
        rope["factor"] = inner.take("factor", float)
    if rope_type == "llama3":
        rope |= {name: inner.take(name, float) for name in ("low_freq_factor", "high_freq_factor")}
        rope["original_max_position_embeddings"] = inner.take("original_max_position_embeddings", int)
        if not 0 < rope["low_freq_factor"] < rope["high_freq_factor"] or rope["original_max_position_embeddings"] < 1:
            raise ValueError("rope_scaling has a low_freq_factor that is not below its high_freq_factor, or is not "
                             "above 0, or an original_max_position_embeddings below 1")
    if rope_type not in ("default", "linear", "llama3"):
        keys.problems.append(f"rotary positions scaled by {rope_type!r:.40}, and it knows linear and llama3")
    elif rope.get("factor", 1) <= 0:
        raise ValueError(f"rope_scaling has a factor of {rope['factor']}, and needs one above 0")
    elif unread := inner.unread():
        keys.problems.append(f"{', '.join(unread)} in the scaling of rotary positions"[:200])
    return rope


def rope_frequencies(head_size: int, rope: dict[str, Any]) -> Array:
    """Return the rotation of each pair, in radians a token, (d/2,).

    linear: all positions divided by `factor` (Chen et al. 2023).  llama3: pairs with a wavelength above
    L / low_freq_factor divided, those below L / high_freq_factor not, and a straight line in the frequency between
    (Grattafiori et al. 2024), where L is original_max_position_embeddings.
    """
    f = frequencies(head_size, rope["rope_theta"])
    if rope["rope_type"] == "linear":
        return f / rope["factor"]
    if rope["rope_type"] == "llama3":
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        turns = rope["original_max_position_embeddings"] * f / (2 * math.pi)  # of a pair over the first context
        weight = np.clip((turns - low) / (high - low), 0, 1)                # 1: unchanged; 0: divided
        return f * (weight + (1 - weight) / rope["factor"])
    return f


def llama_keys(c: GPTConfig, rope: dict[str, Any]) -> dict[str, Any]:
    """Return the config.json of a model, all of whose choices Llama has, in keys that all versions of transformers
    read."""
    scaling = {k: v for k, v in rope.items() if k != "rope_theta"} if rope["rope_type"] != "default" else None
    return {"max_position_embeddings": c.block_size, "hidden_size": c.n_embd, "num_hidden_layers": c.n_layer,
            "num_attention_heads": c.n_head, "num_key_value_heads": c.n_kv_head or c.n_head,
            "intermediate_size": c.n_hidden or 4 * c.n_embd, "hidden_act": HF_ACTIVATION[c.activation],
            "rms_norm_eps": c.norm_eps, "rope_theta": rope["rope_theta"], "rope_scaling": scaling,
            "attention_dropout": 0.0} | ({"head_dim": c.head_size} if c.qk_norm or c.head_dim else {})


# ---------------------------------------------------------------------- both


def to_hf_config(c: GPTConfig, imported: dict[str, Any], dtype: str) -> dict[str, Any]:
    """Return the config.json of a model, for transformers.

    imported: what `parse_config` returned besides the configuration, if it was imported.  Raises ValueError that lists
    choices without a counterpart.
    """
    family, lacks = nearest_family(c)
    if lacks:
        raise ValueError(f"transformers has no model like this one: of GPT-2's and Llama's kinds the nearest is "
                         f"{family}, which has no counterpart for {', '.join(lacks)}: one that gpt train makes with "
                         "--recipe nanogpt can be exported")
    model_type = family
    if family == "llama" and (c.qk_norm or c.qkv_bias or imported.get("model_type") == "mistral"):
        model_type = "qwen3" if c.qk_norm else "qwen2" if c.qkv_bias else "mistral"
    keys = gpt2_keys(c) if model_type == "gpt2" else llama_keys(c, rope_of(c, imported))
    keys |= {"sliding_window": None} if model_type == "mistral" else {}  # without the key it has one
    return {"architectures": [CLASSES[model_type]], "model_type": model_type, "vocab_size": c.vocab_size, **keys,
            "tie_word_embeddings": c.tied, "torch_dtype": dtype, "use_cache": True,
            **{name: token_ids(imported.get(name)) for name in TOKEN_IDS}}


def token_ids(value: Any) -> Any:
    """Return an integer, or a list of integers; None for anything else."""
    each = value if isinstance(value, list) else [value]
    return value if all(isinstance(i, int) and not isinstance(i, bool) for i in each) else None


def rope_of(c: GPTConfig, imported: dict[str, Any]) -> dict[str, Any]:
    """Return the scaling of rotary positions that an imported model came with, or none."""
    rope = imported.get("rope") or {"rope_type": "default", "rope_theta": c.rope_base}
    return llama_rope(Keys({"rope_parameters": rope}))
