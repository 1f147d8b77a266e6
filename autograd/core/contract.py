"""The contract of kernels: each call checks what a kernel returned, so that a breach shows where it happens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .arrays import as_tuple, is_foreign
from .describe import describe
from .errors import extend, gradient_line
from .mode import current_mode


def check_kernel_result(name: str, made: Any) -> tuple[Any, Any]:
    """Return `made`, the result of a forward of op `name`.  Raises TypeError unless it is (y, saved)."""
    if type(made) is tuple and len(made) == 2:
        y = made[0]
        if type(y) is np.ndarray or all(isinstance(a, np.ndarray) or is_foreign(a) for a in as_tuple(y)):
            return made
    raise TypeError(f"the forward of {name}'s kernel returned {describe(made)}, and has to return (y, saved), where y "
                    "is an array of the executor's or a tuple of arrays, or None to decline")


def kernel_vjp(op: Any, saved: tuple[Any, Any], needed: list[int], inputs: Sequence[Any], values: Sequence[Any], g: Any,
               y: Any, attrs: dict) -> list[tuple[Any, Any]]:
    """Run the backward of the kernel that computed `y`; `saved` is that kernel and what it saved.  Returns (input,
    gradient) for each of the `inputs` numbered in `needed`."""
    kernel, statistics = saved
    try:
        gradients = kernel.backward(current_mode().executor, needed, g, y, statistics, *values, **attrs)
        check_kernel_gradients(op, needed, values, gradients)
        return [(inputs[i], d) for i, d in zip(needed, gradients)]
    except Exception as error:
        extend(error, gradient_line(op, needed))
        raise


def check_kernel_gradients(op: Any, needed: list[int], values: Sequence[Any], gradients: Any) -> None:
    """Check a kernel's gradients.  Raises TypeError unless there is one for each input that needs one, ValueError
    unless each has its input's shape and dtype."""
    if not isinstance(gradients, (list, tuple)) or len(gradients) != len(needed):
        found = f"{len(gradients)} of them" if isinstance(gradients, (list, tuple)) else describe(gradients)
        raise TypeError(f"the backward of {op.name}'s kernel has to return a list with a gradient for each of "
                        f"{', '.join(map(op.input_name, needed))}, {len(needed)} in all, and it returned {found}")
    for i, d in zip(needed, gradients):
        x = values[i]
        if type(d) is np.ndarray and d.dtype is x.dtype and d.shape == x.shape:  # the quick test, for almost all cases
            continue
        if getattr(d, "shape", None) != x.shape or d.dtype != x.dtype:
            raise ValueError(f"the backward of {op.name}'s kernel returned {describe(d)} as the gradient of "
                             f"{op.input_name(i)}, which is {describe(x)}: they have to be alike")
