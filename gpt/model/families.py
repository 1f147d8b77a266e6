"""The model families of the library transformers that a GPT here may be one of."""

from dataclasses import asdict
from typing import Any

from .config import Architecture, GPTConfig

# What a family has for each choice of a GPTConfig; all else is the same in both, or can be given in their config.json.
GPT2 = {"norm": ("layer_norm",), "positions": ("learned", "sinusoidal"), "gated": (False,)}
LLAMA = {"norm": ("rms_norm",), "positions": ("rotary",), "gated": (True,), "bias": (False,)}  # Mistral and Qwen2, too
_NEITHER = ("norm_embedding", "qk_norm", "convolution", "smear")  # neither family has any but the default


def nearest_family(c: GPTConfig) -> tuple[str, list[str]]:
    """Return the family nearest to a model, "gpt2" or "llama", and the model's choices that this family lacks."""
    lacking = {"gpt2": _lacking(c, **GPT2, n_kv_head=(None, c.n_head)), "llama": _lacking(c, **LLAMA)}
    family = min(lacking, key=lambda name: len(lacking[name]))
    return family, lacking[family]


def _lacking(c: GPTConfig, **allowed: tuple[Any, ...]) -> list[str]:
    """List the choices of a model that are not among the allowed ones."""
    allowed |= {name: (getattr(Architecture(), name),) for name in _NEITHER}
    return [f"{name.replace('_', '-')} {value}" for name, value in asdict(c).items()
            if name in allowed and value not in allowed[name]]
