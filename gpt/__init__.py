"""A GPT built on `autograd`: model, training, sampling and the command line."""

import sys
from pathlib import Path

from .runtime.signals import leave_on_signal

_command_line = sys.argv[:1] == ["-m"] and "gpt" in sys.orig_argv or Path(*sys.argv[:1]).stem == "gpt"
if _command_line:
    leave_on_signal()  # first, since importing takes longer than an impatient hand

import autograd  # noqa: E402

if not hasattr(autograd, "REGISTRY"):  # a package of the same name, which Python found first
    _problem = ("gpt needs the `autograd` that comes with tapegrad, and Python finds another package of that name in "
                f"{next(iter(autograd.__path__), '?') if hasattr(autograd, '__path__') else autograd.__file__}: if pip "
                "installed it, `python -m pip uninstall autograd` and install tapegrad again, or use a fresh virtual "
                "environment; if it is your own file or folder, rename it")
    if _command_line:  # no traceback
        sys.exit(f"gpt: error: {_problem}")
    raise ImportError(_problem)

from .chat import turns as turns  # noqa: E402  registers the tokenizer of its conversations
from .checkpoint import Checkpoint  # noqa: E402
from .checkpoint import load_checkpoint as load  # noqa: E402
from .checkpoint import save_checkpoint as save  # noqa: E402
from .data.tokenizers.char import CharTokenizer  # noqa: E402
from .generation.generate import GenerationBatch, continue_text, continue_texts, generate  # noqa: E402
from .generation.sampling import Sampling  # noqa: E402
from .model.gpt import (  # noqa: E402
    GPT,
    MLP,
    Attention,
    Block,
    Convolution,
    Embedding,
    GPTConfig,
    LayerNorm,
    Linear,
    RMSNorm,
)
from .model.module import Module  # noqa: E402
from .optim.adamw import AdamW  # noqa: E402
from .optim.muon import Muon  # noqa: E402
from .optim.parameters import Parameters, clip_by_global_norm  # noqa: E402
from .optim.schedule import learning_rate_at  # noqa: E402
from .optim.sgd import SGD  # noqa: E402
from .pretrained.convert import read_pretrained  # noqa: E402
from .training.config import TrainConfig  # noqa: E402
from .training.train import train  # noqa: E402
from .tuning import lora as lora  # noqa: E402  registers its loader of checkpoints

Run, Batch = Checkpoint, GenerationBatch  # their earlier names

__all__ = ["GPT", "GPTConfig", "Module", "Linear", "Embedding", "LayerNorm", "RMSNorm", "Convolution",
           "Attention", "MLP", "Block",
           "Parameters", "AdamW", "SGD", "Muon", "clip_by_global_norm", "learning_rate_at", "CharTokenizer",
           "TrainConfig", "train", "Checkpoint", "Run", "save", "load", "read_pretrained", "generate", "continue_text",
           "continue_texts", "Sampling", "GenerationBatch", "Batch"]
