"""The registries: ops and composed functions by name, and the one that implements each NumPy function of a Tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .signature import is_ufunc, signature_of

if TYPE_CHECKING:
    from ..engine import Op

REGISTRY: dict[str, Op] = {}
"""Every op by its name."""
FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""Every function composed of ops by its name."""
NUMPY_OVERRIDES: dict[Any, Any] = {}
"""NumPy function -> the op, or function composed of ops, that implements it for Tensors (NEP 13 and NEP 18)."""


def module_of(function: Any) -> str:
    """Return the module of a function; "" for a ufunc of another library than NumPy, which names none."""
    named_alike = getattr(np, getattr(function, "__name__", ""), None)
    return getattr(function, "__module__", None) or ("numpy" if named_alike is function else "")


def numpy_name(function: Any) -> str:
    """Return `np.linalg.inv`; of a ufunc of another library its bare name."""
    return f"{module_of(function).replace('numpy', 'np', 1)}.{function.__name__}".lstrip(".")


def find_override(function: Any) -> Any:
    """Return the implementation for Tensors of a NumPy function or ufunc.  Raises TypeError if there is none."""
    if function in NUMPY_OVERRIDES:
        return NUMPY_OVERRIDES[function]
    name = numpy_name(function)
    if is_ufunc(function) and not name.startswith("np."):
        bare, x = function.__name__.partition(" ")[0], next(iter(signature_of(function).parameters))
        instead = f"ag.{bare} is there" if bare in {*REGISTRY, *FUNCTIONS} else (
            f'make it an op, `{bare} = ag.op({bare})`, and give it a gradient, `@{bare}.gradient("{x}")` (help(ag.op))')
        raise TypeError(f"the ufunc {name} does not take Tensors yet: {instead}; where no gradient is needed, t.data "
                        "is the array")
    raise TypeError(f"{name} does not take Tensors yet.  Compose it of functions that do (`python -m autograd` lists "
                    f"them), or make it an op: @ag.op(implements={name}) above its formula (help(ag.op)); where no "
                    "gradient is needed, t.data is the array")
