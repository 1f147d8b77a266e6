"""Arrays as the player shows them: statistics in words, and small pictures, a byte for each pixel."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from ...core.describe import describe, shorten
from ...engine import Tensor
from ..html import downsample
from ..text import norm

PICTURE_BYTES = 120_000
"""Approximate limit for all pictures of values and gradients; the more there are, the coarser they get."""
WEIGHT_BYTES = 200_000
"""The same for the pictures of attention weights."""
HEADS = 8  # maximum attention heads shown
PRINTED = 24  # maximum elements of an array that is shown by its numbers
NAN, PLUS, MINUS, LEVELS = 255, 254, 253, 252  # codes of NaN, inf and −inf, beyond the 252 levels of the colormap


def codes(low: float) -> np.ndarray:
    """Return the number of each of the 256 codes of a picture, on a scale from `low` to 1."""
    return np.array([*np.linspace(low, 1, LEVELS), 0, -np.inf, np.inf, np.nan])


class Pictures:
    """Small pictures of arrays, a byte for each pixel, in one buffer."""

    def __init__(self, n_records: int, n_weights: int):
        n_bytes = PICTURE_BYTES / max(1, 2 * n_records)
        self.rows = int(min(24, max(6, math.sqrt(n_bytes / 2))))
        self.columns = 2 * self.rows
        self.side = int(min(64, max(8, math.sqrt(WEIGHT_BYTES / max(1, 4 * n_weights)))))
        self.parts: list[bytes] = []
        self.length = 0

    def add(self, array: np.ndarray) -> list[Any]:
        """Add a picture; return [offset, rows, columns, low, high] with the ends of its scale, from 0 if no number is
        negative."""
        x = downsample(array, self.rows, self.columns)
        finite = np.isfinite(x)
        low, high = (float(x[finite].min()), float(x[finite].max())) if finite.any() else (0.0, 0.0)
        high = max(high, -low)
        low = -high if low < 0 else 0.0
        scaled = x / (high or 1.0)
        code = (scaled if low == 0 else (scaled + 1) / 2) * (LEVELS - 1)
        code = np.where(finite, code, np.where(np.isnan(x), NAN, np.where(x > 0, PLUS, MINUS)))
        return self._append(code) + [float(f"{low:.4g}"), float(f"{high:.4g}")]

    def weights(self, p: np.ndarray | None) -> dict[str, Any] | None:
        """Add pictures of matrices of probabilities, as square roots, which makes small ones visible."""
        if p is None or not p.size:
            return None
        t, s = p.shape[-2:]
        roots = [np.nan_to_num(np.sqrt(downsample(m, self.side, self.side)), posinf=0) for m in p[:HEADS]]
        return {"count": len(p), "queries": t, "keys": s, "pictures": [self._append(m * (LEVELS - 1)) for m in roots]}

    def _append(self, code: np.ndarray) -> list[Any]:
        start, data = self.length, np.rint(code).astype(np.uint8).tobytes()
        self.parts.append(data)
        self.length += len(data)
        return [start, *code.shape]

    def to_base64(self) -> str:
        """Encode the buffer in base64."""
        return base64.b64encode(b"".join(self.parts)).decode()


# ---------------------------------------------------------------------- words


def entries_of(value: Any, pictures: Pictures) -> list[Any]:
    """Return an entry for an array, or one for each array of a tuple or dict; of many the first and last."""
    arrays = list(value.values()) if isinstance(value, dict) else value if isinstance(value, tuple) else [value]
    return [entry_of(array, pictures) for array in shorten(arrays)]


def entry_of(array: Any, pictures: Pictures) -> dict[str, Any]:
    """Return the entry of an array on a card: statistics in words, and a picture; or of a text instead of an array."""
    if isinstance(array, str):
        return {"shape": "", "words": [["", array]]}
    if not isinstance(array, (np.ndarray, np.generic)):
        return {"shape": describe(array), "words": [["", "no numbers: not a NumPy array"]]}
    array = np.asarray(array)
    entry: dict[str, Any] = {"shape": describe(array), "words": _statistics(array)}
    if array.size > 1:
        entry["picture"] = pictures.add(array)
        if array.size <= PRINTED:
            entry["numbers"] = np.array2string(array, precision=5, max_line_width=60)
    return entry


def _statistics(array: np.ndarray) -> list[list[str]]:
    """Return statistics as [name, text] pairs, in as few passes over the numbers as possible."""
    if not array.size:
        return [["", "no elements"]]
    words, x = [], array.astype(float) if array.dtype.kind != "f" or array.dtype.itemsize < 4 else array
    low, high = float(x.min()), float(x.max())
    if not math.isfinite(low) or not math.isfinite(high):
        bad = (("NaN", int(np.isnan(x).sum())), ("inf", int(np.isinf(x).sum())))
        words = [[name, f"{n:,}"] for name, n in bad if n]
        x = x[np.isfinite(x)]
        if not x.size:
            return words
        low, high = float(x.min()), float(x.max())
    if array.size == 1:
        return [*words, ["value", f"{low:.6g}"]]
    with np.errstate(over="ignore"):
        length, mean = _norm(x), float(x.mean())
    variance = length * length / x.size - mean * mean
    deviation = math.sqrt(variance) if 0.1 * mean * mean < variance < math.inf else _deviation(x, max(high, -low))
    return [*words, ["min", f"{low:.4g}"], ["max", f"{high:.4g}"], ["mean", f"{mean:.4g}"],
            ["std", f"{deviation:.4g}"], ["norm", f"{length:.4g}"]]


def _deviation(x: np.ndarray, largest: float) -> float:
    """Compute the standard deviation where the quick formula would cancel digits or overflow."""
    return largest * float((x.astype(float) / largest).std()) if largest else 0.0


def _norm(x: np.ndarray) -> float:
    """Compute √Σx², quickly where the sum of squares neither overflows nor underflows."""
    x = x.ravel()
    square = float(np.dot(x, x))
    return math.sqrt(square) if 1e-30 < square < 1e30 else norm(x)


def norm_text(d: Any) -> str:
    """Format the norm of a gradient, of one array or a dict of several; "" for another library's arrays."""
    arrays = list(d.values()) if isinstance(d, dict) else [d]
    if not all(isinstance(a, (np.ndarray, np.generic)) for a in arrays):
        return ""
    with np.errstate(over="ignore", invalid="ignore"):
        return f"{math.hypot(*(_norm(np.asarray(a)) for a in arrays)):.4g}"


# ---------------------------------------------------------------------- weights


def attention_weights(t: Tensor) -> np.ndarray | None:
    """Compute the attention weights (heads, queries, keys) of the first sequence, as the output for v = identity."""
    q, k, _, *rest = [a._value() if type(a) is Tensor else a for a in t.inputs]
    if not isinstance(q, np.ndarray) or not q.size or not k.size:
        return None
    mask = rest[0] if rest else (t.attrs or {}).get("mask")
    q, k, mask = (None if a is None else _first(a, 3) for a in (q, k, mask))
    attrs = {name: a for name, a in (t.attrs or {}).items() if name != "mask"}
    return _stack(t.op.formula(q, k, np.eye(k.shape[-2], dtype=q.dtype), mask, **attrs))  # type: ignore[union-attr]


def softmax_weights(t: Tensor) -> np.ndarray | None:
    """Return the probabilities of a softmax, with its axis last."""
    y = t._value()
    if not isinstance(y, np.ndarray) or not y.ndim or not y.size:
        return None
    return _stack(_first(np.moveaxis(y, (t.attrs or {}).get("axis", -1), -1), 3))


def _first(a: Any, ndim: int) -> Any:
    """Take the first element along each axis before the last `ndim`."""
    while a.ndim > ndim:
        a = a[0]
    return a


def _stack(p: np.ndarray) -> np.ndarray:
    """Reshape to a stack of matrices."""
    return p.reshape((1,) * (3 - p.ndim) + p.shape)


WEIGHTS = {"attention": attention_weights, "softmax": softmax_weights}
"""Ops whose weights are shown as pictures, and the functions that return them: (n, queries, keys)."""
