"""The first number that is not finite: found where it is made, forward or back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..core.describe import label
from ..core.errors import pointing_at
from ..core.mode import within
from ..engine import Tensor, _item


@contextmanager
def detect_anomaly() -> Iterator[None]:
    """Within it, the first record whose value, or whose gradient for an input, holds a NaN, or an infinity that is in
    nothing it was made from (a mask of −inf is fine), raises FloatingPointError.

        with ag.detect_anomaly():
            model.loss(ids, targets).backward()

    The error names the record and ends with its line of the tape; `error.record` is the record, to be looked at with
    `error.record.explain()`.  Every array is looked at, so it costs time: use it to find a bad number, not in training.
    What a recorded program (`ag.record`) computes is not looked at: call its function.
    """
    with within(observer=_Observer):
        yield


class _Observer:
    """What a thread under `detect_anomaly` looks at."""

    @staticmethod
    def on_forward(t: Tensor) -> None:
        """Look at the value of a new record.  (One of a tuple's arrays has been looked at in the tuple.)"""
        if t.op is not _item and (bad := _news(_arrays(t._array), t.inputs)):
            sick = next((a for a in t.inputs if _count(_arrays(a), np.isnan)), None)
            since = f", and so does its input {_named(sick)}" if sick is not None and "NaN" in bad else ""
            raise pointing_at(t, FloatingPointError(f"the value of {label(t)} holds {bad}{since}"))

    @staticmethod
    def on_backward(t: Tensor, g: Any, sent: list[tuple[Tensor, Any]]) -> None:
        """Look at what a walk back sends on from a record."""
        sources = (g, t, *t.inputs)
        for a, d in sent:
            if bad := _news(_arrays(d), sources):
                came = ", as does the gradient that came in" if "NaN" in bad and _count(_arrays(g), np.isnan) else ""
                raise pointing_at(t, FloatingPointError(
                    f"the gradient that {label(t)} sends to {_named(a)} holds {bad}{came}"))


def _news(arrays: list[Any], sources: tuple) -> str:
    """What is wrong with `arrays` that is not so already in `sources`: `3 NaN of 12`, `1 inf of 4`, or nothing."""
    n = sum(a.size for a in arrays)
    if nan := _count(arrays, np.isnan):
        return f"{nan:,} NaN among {n:,} numbers"
    if (inf := _count(arrays, np.isinf)) and not any(_count(_arrays(a), np.isinf) for a in sources):
        return f"{inf:,} inf among {n:,} numbers"
    return ""


def _count(arrays: list[Any], what: Any) -> int:
    return sum(what(a).sum().item() for a in arrays)


def _arrays(a: Any) -> list[Any]:
    """The arrays of floating-point numbers in a value, a gradient or an input."""
    a = a._value() if type(a) is Tensor else a
    parts = a.values() if isinstance(a, dict) else a if isinstance(a, (tuple, list)) else [a]
    parts = [np.asarray(p) if isinstance(p, float) else p for p in parts]
    return [p for p in parts if getattr(getattr(p, "dtype", None), "kind", "") == "f"]


def _named(a: Any) -> str:
    return label(a) if type(a) is Tensor else "given as an array"
