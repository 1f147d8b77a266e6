"""tapegrad's engine: reverse-mode automatic differentiation on a tape that can be read."""

from . import kernels, ops
from .check import check_grads, check_op
from .engine import Op, Tape, Tensor, op, reverse, tape, tensor
from .methods import REGISTRY
from .state import no_grad, scope
from .transform import checkpoint, grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp

__all__ = ["REGISTRY", "Op", "Tape", "Tensor", "check_grads", "check_op", "checkpoint", "grad", "hessian", "hvp",
           "jacobian", "jvp", "kernels", "no_grad", "op", "ops", "reverse", "scope", "tape", "tensor",
           "value_and_grad", "vjp"]


def __getattr__(name: str) -> Op:
    """Each op by its NumPy or usual name: `ag.softmax`, `ag.matmul` …, a user's own too."""
    if name in REGISTRY:
        return REGISTRY[name]
    raise AttributeError(f"autograd has no {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *REGISTRY})
