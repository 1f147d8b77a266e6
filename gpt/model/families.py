"""The model families of the library transformers that a GPT here may be one of."""

from dataclasses import asdict, fields
from typing import Any

from .config import GPTConfig

# The choices of a GPTConfig that a family restricts, and those that both leave free: by a key of their config.json, or
# because a model without it is one whose gains are 1 and biases 0.  Of any other choice they have the default only.
GPT2 = {"norm": ("layer_norm",), "positions": ("learned", "sinusoidal"), "gated": (False,)}
LLAMA = {"norm": ("rms_norm",), "positions": ("rotary",), "gated": (True,), "bias": (False,),  # Mistral and Qwen, too
         "qk_norm": (False, True), "qk_norm_gain": (False, True)}
FREE = {"vocab_size", "block_size", "n_layer", "n_head", "n_kv_head", "n_embd", "n_hidden", "bias", "qkv_bias",
        "dropout", "activation", "rope_base", "norm_gain", "norm_eps", "tied", "zero_init"}


def nearest_family(c: GPTConfig) -> tuple[str, list[str]]:
    """Return the family nearest to a model, "gpt2" or "llama", and the model's choices that this family lacks."""
    either = (False,) if c.qk_norm else (False, True)  # Qwen2 has biases, Qwen3 QK norm
    lacking = {"gpt2": _lacking(c, **GPT2, n_kv_head=(None, c.n_head), head_dim=(None, c.n_embd / c.n_head)),
               "llama": _lacking(c, **LLAMA, qkv_bias=either, head_dim=(c.head_dim,))}
    family = min(lacking, key=lambda name: len(lacking[name]))
    return family, lacking[family]


def _lacking(c: GPTConfig, **allowed: tuple[Any, ...]) -> list[str]:
    """List the choices of a model that are not among the allowed ones."""
    allowed = {name: (f.default,) for f in fields(c) if (name := f.name) not in FREE} | allowed
    return [f"{name.replace('_', '-')} {value}" for name, value in asdict(c).items()
            if name in allowed and value not in allowed[name]]
