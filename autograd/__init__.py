"""tapegrad's engine: reverse-mode automatic differentiation on a tape that can be read."""

from typing import Any

from . import kernels, ops
from .check import check_grads, check_kernel, check_op
from .core.methods import FUNCTIONS, REGISTRY
from .core.mode import no_grad, resampled, scope
from .core.views import detect_anomaly, diff
from .define import op
from .engine import Op, Tape, Tensor, reverse, tape, tensor
from .program.program import record
from .transform import checkpoint, grad, hessian, hvp, jacobian, jvp, stop_gradient, value_and_grad, vjp
from .vmap import vmap

drawn = resampled  # its earlier name

__all__ = ["FUNCTIONS", "REGISTRY", "Op", "Tape", "Tensor", "check_grads", "check_kernel", "check_op", "checkpoint",
           "detect_anomaly", "diff", "drawn", "grad", "hessian", "hvp", "jacobian", "jvp", "kernels", "no_grad", "op",
           "ops", "record", "reverse", "scope", "stop_gradient", "tape", "tensor", "value_and_grad", "vjp", "vmap"]


def __getattr__(name: str) -> Any:
    """Each op and composed function by its NumPy or usual name: `ag.softmax`, `ag.stack` …, a user's own ops too."""
    if name in REGISTRY:
        return REGISTRY[name]
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    raise AttributeError(f"autograd has no {name!r}: `python -m autograd` lists what it has")


def __dir__() -> list[str]:
    return sorted({*__all__, *REGISTRY, *FUNCTIONS})
