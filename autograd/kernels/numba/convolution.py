"""The causal convolution by compiled loops."""

from __future__ import annotations

import math

from ..numpy.common import contiguous
from . import layer_loops as loops
from .fitting import fit, kernel


@kernel("causal_conv")
class CausalConv:
    """Kernel of causal_conv; saves nothing."""

    @staticmethod
    def forward(executor, x, weight):
        if x.ndim < 2 or weight.ndim != 2 or not fit(x, weight) or weight.shape[1] != x.shape[-1]:
            return None
        y = executor.empty(x, x.shape)
        executor.run(loops.causal_conv_forward, _texts(x), weight, _texts(y))
        return y, None

    @staticmethod
    def backward(executor, needed, g, y, saved, x, weight):
        dx, dw = executor.empty(x, x.shape), executor.empty(weight, weight.shape)
        executor.run(loops.causal_conv_backward, _texts(contiguous(executor, g)), _texts(x), weight, _texts(dx), dw)
        return [(dx, dw)[i] for i in needed]


def _texts(a):
    """Return an array (…, T, C) as one of three axes."""
    return a.reshape(math.prod(a.shape[:-2]), *a.shape[-2:])
