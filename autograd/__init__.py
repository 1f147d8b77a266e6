"""tapegrad's engine: reverse-mode automatic differentiation on a tape that can be read."""

from typing import Any

from . import kernels, ops  # kernels imports ops before it registers its own in them
from .check import check_grads, check_kernel, check_op
from .core.mode import no_grad, resampled, scope
from .core.packed import Packed
from .core.registry import FUNCTIONS, REGISTRY
from .core.views import detect_anomaly, diff, source
from .define import op
from .engine import Op, Tape, Tensor, reverse, tape, tensor
from .program.program import record
from .transform import checkpoint, grad, hessian, hvp, jacobian, jvp, stop_gradient, value_and_grad, vjp
from .vmap import vmap

drawn = resampled  # an older name

__all__ = [
    # tensors, the tape and modes
    "Tensor", "tensor", "Packed", "Tape", "tape", "reverse", "no_grad", "scope", "stop_gradient", "detect_anomaly",
    # transforms of functions
    "grad", "value_and_grad", "vjp", "jvp", "jacobian", "hessian", "hvp", "vmap", "checkpoint",
    # ops of one's own, and checks of them
    "Op", "op", "REGISTRY", "FUNCTIONS", "check_op", "check_grads", "check_kernel",
    # captured programs, random numbers in them, a comparison of two tapes, and a gradient as a program
    "record", "resampled", "drawn", "diff", "source",
    # the modules of ops and of kernels
    "ops", "kernels",
]


def __getattr__(name: str) -> Any:
    """Each op and composed function by its NumPy or usual name: `ag.softmax`, `ag.stack` …, a user's own ops too."""
    if name in REGISTRY:
        return REGISTRY[name]
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    raise AttributeError(f"autograd has no {name!r}: `python -m autograd` lists what it has")


def __dir__() -> list[str]:
    return sorted({*__all__, *REGISTRY, *FUNCTIONS})
