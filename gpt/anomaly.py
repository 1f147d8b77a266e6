"""Where the first number that is not finite came from."""

from typing import Any

import numpy as np

import autograd as ag


def blame(loss: ag.Tensor) -> str:
    """The oldest record behind `loss` with a NaN, or an infinity that none of its inputs has (a mask's −inf is fine);
    if all are well, the first in the walk back that sends such a gradient.  Empty if there is none."""
    for t in ag.tape(loss):
        values = t.data if isinstance(t.data, tuple) else (t.data,)
        if any(map(_has_nan, values)) or any(map(_has_infinity, values)) and not _had_infinity(t):
            return f"the first value that is not finite is that of {_described(t)}"
    for t, g, sent in ag.reverse([loss], [np.ones_like(loss.data)], keep=True):
        if _finite(g) and not all(_finite(d) for _, d in sent):
            return f"the first gradient that is not finite is sent by {_described(t)}"
    return ""


def _has_nan(a: Any) -> bool:
    return a.dtype.kind == "f" and bool(np.isnan(a).any())


def _has_infinity(a: Any) -> bool:
    return a.dtype.kind == "f" and bool(np.isinf(a).any())


def _had_infinity(t: ag.Tensor) -> bool:
    inputs = [a.data if isinstance(a, ag.Tensor) else a for a in t.inputs]
    return any(isinstance(a, (np.ndarray, float)) and bool(np.isinf(a).any()) for a in inputs)


def _finite(g: Any) -> bool:
    parts = g if isinstance(g, tuple) else g.values() if isinstance(g, dict) else (g,)
    return all(np.isfinite(part).all() for part in parts)


def _described(t: ag.Tensor) -> str:
    name = t.op.name if t.op else f"the parameter {t.name}" if t.name else "a leaf"
    file, line = t.source
    return f"{name} {list(t.shape)}{f' in {t.scope}' if t.scope else ''}, made at {file}:{line}"
