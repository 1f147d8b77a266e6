"""What the player shows of arrays: their statistics in words, and small pictures, a byte for each place."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from ...core.describe import describe, shortened
from ...engine import Tensor
from ..html import downsample
from ..text import norm

PICTURE_BYTES = 130_000
"""About how much all pictures of values and gradients may take; they get coarser where there are many."""
WEIGHT_BYTES = 200_000
"""The same for the pictures of attention weights."""
HEADS = 8  # heads of an attention that are shown
PRINTED = 24  # elements of an array that is shown by its numbers
NAN, PLUS, MINUS, LEVELS = 255, 254, 253, 252  # codes of what has no colour on a scale of 252


class Pictures:
    """Small pictures of arrays, a byte for each place, one behind the other."""

    def __init__(self, n_records: int, n_weights: int):
        room = PICTURE_BYTES / max(1, 2 * n_records)
        self.rows = int(min(24, max(6, math.sqrt(room / 2))))
        self.columns = 2 * self.rows
        self.side = int(min(64, max(8, math.sqrt(WEIGHT_BYTES / max(1, 4 * n_weights)))))
        self.parts: list[bytes] = []
        self.length = 0

    def add(self, array: np.ndarray) -> list[Any]:
        """[where it begins, rows, columns, low, high]: the ends of its scale, from 0 on if no number is below."""
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
        """Pictures of matrices of probabilities, as their square roots, so that small ones are seen too."""
        if p is None or not p.size:
            return None
        t, s = p.shape[-2:]
        shown = [np.nan_to_num(np.sqrt(downsample(m, self.side, self.side)), posinf=0) for m in p[:HEADS]]
        return {"of": len(p), "queries": t, "keys": s, "pictures": [self._append(m * (LEVELS - 1)) for m in shown]}

    def _append(self, code: np.ndarray) -> list[Any]:
        start, data = self.length, np.rint(code).astype(np.uint8).tobytes()
        self.parts.append(data)
        self.length += len(data)
        return [start, *code.shape]

    def encoded(self) -> str:
        """All of them in base64."""
        return base64.b64encode(b"".join(self.parts)).decode()


# ---------------------------------------------------------------------- words


def entries_of(value: Any, pictures: Pictures) -> list[Any]:
    """An entry for an array, or for each array of a tuple or of a part of one; of many those at the ends."""
    arrays = list(value.values()) if isinstance(value, dict) else value if isinstance(value, tuple) else [value]
    return [entry_of(array, pictures) for array in shortened(arrays)]


def entry_of(array: Any, pictures: Pictures) -> dict[str, Any]:
    """What a card says of an array: numbers in words, and a picture; or a text in place of arrays."""
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
    """Name and text of what tells about an array's numbers, which are passed over as few times as possible."""
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
    """The standard deviation where digits cancel, or squares overflow."""
    return largest * float((x.astype(float) / largest).std()) if largest else 0.0


def _norm(x: np.ndarray) -> float:
    """√Σx², in double precision and with care where the quick way would not do."""
    x = x.ravel()
    square = float(np.dot(x, x))
    return math.sqrt(square) if 1e-30 < square < 1e30 else norm(x)


def norm_text(d: Any) -> str:
    """The norm of a gradient, or of the parts of one."""
    arrays = list(d.values()) if isinstance(d, dict) else [d]
    if not all(isinstance(a, (np.ndarray, np.generic)) for a in arrays):
        return ""
    with np.errstate(over="ignore", invalid="ignore"):
        return f"{math.hypot(*(_norm(np.asarray(a)) for a in arrays)):.4g}"


# ---------------------------------------------------------------------- weights


def attention_weights(t: Tensor) -> np.ndarray | None:
    """The weights of the first sequence (heads, queries, keys): what it gives where v is the identity."""
    q, k, _, *rest = [a._value() if type(a) is Tensor else a for a in t.inputs]
    if not isinstance(q, np.ndarray) or not q.size or not k.size:
        return None
    mask = rest[0] if rest else (t.attrs or {}).get("mask")
    q, k, mask = (None if a is None else _first(a, 3) for a in (q, k, mask))
    attrs = {name: a for name, a in (t.attrs or {}).items() if name != "mask"}
    return _stacked(t.op.formula(q, k, np.eye(k.shape[-2], dtype=q.dtype), mask, **attrs))  # type: ignore[union-attr]


def softmax_weights(t: Tensor) -> np.ndarray | None:
    """The probabilities of a softmax, its axis last."""
    y = t._value()
    return _stacked(_first(np.moveaxis(y, (t.attrs or {}).get("axis", -1), -1), 3)) \
        if isinstance(y, np.ndarray) and y.ndim and y.size else None


def _first(a: Any, ndim: int) -> Any:
    """The first of what the axes before the last `ndim` count."""
    while a.ndim > ndim:
        a = a[0]
    return a


def _stacked(p: np.ndarray) -> np.ndarray:
    """As a stack of matrices."""
    return p.reshape((1,) * (3 - p.ndim) + p.shape)


WEIGHTS = {"attention": attention_weights, "softmax": softmax_weights}
"""The ops whose weights are pictures, and what computes them: (n, queries, keys)."""
