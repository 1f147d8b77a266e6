"""GELU and squared relu by compiled loops."""

from __future__ import annotations

import numpy as np

from ..numpy.common import contiguous
from . import layer_loops, loops
from .fitting import fit, flat, kernel

# ---------------------------------------------------------------------- gelu


@kernel("gelu")
class Gelu:
    """Kernel of gelu; saves nothing: backward recomputes Φ(x); only the exact form, in single precision (in double,
    NumPy's is faster)."""

    @staticmethod
    def forward(executor, x, approximate="none"):
        if approximate != "none" or not fit(x) or x.dtype != np.float32:
            return None
        y = executor.empty(x, x.shape)
        executor.run(loops.gelu_forward, flat(x), flat(y))
        return y, None

    @staticmethod
    def backward(executor, needed, g, y, saved, x, approximate="none"):
        d = executor.empty(x, x.shape)
        executor.run(loops.gelu_backward, flat(contiguous(executor, g)), flat(x), flat(d))
        return [d]


# ---------------------------------------------------------------------- squared relu


@kernel("squared_relu")
class SquaredRelu:
    """Kernel of squared_relu; saves nothing."""

    @staticmethod
    def forward(executor, x):
        if not fit(x):
            return None
        y = executor.empty(x, x.shape)
        executor.run(layer_loops.squared_relu_forward, flat(x), flat(y))
        return y, None

    @staticmethod
    def backward(executor, needed, g, y, saved, x):
        d = executor.empty(x, x.shape)
        executor.run(layer_loops.squared_relu_backward, flat(contiguous(executor, g)), flat(x), flat(d))
        return [d]
