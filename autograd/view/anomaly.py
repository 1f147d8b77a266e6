"""Detection of the first NaN or infinity, in the forward or the backward pass (see `autograd.core.views`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..core.describe import label
from ..core.errors import point_at
from ..core.mode import within
from ..engine import Tensor, _item


@contextmanager
def detect_anomaly() -> Iterator[None]:
    """Raise FloatingPointError at the first record whose value, or whose gradient for an input, is not finite."""
    with within(observer=_Observer):
        yield


class _Observer:
    """The observer of grad mode under `detect_anomaly`."""

    @staticmethod
    def on_forward(t: Tensor) -> None:
        """Check the value of a new record.  (An item of a tuple was checked with the tuple.)"""
        if t.op is not _item and (bad := _describe_bad(_arrays(t._array), t.inputs)):
            source = next((a for a in t.inputs if _count(_arrays(a), np.isnan)), None)
            since = f", and so does its input {_name(source)}" if source is not None and "NaN" in bad else ""
            raise point_at(t, FloatingPointError(f"the value of {label(t)} holds {bad}{since}"))

    @staticmethod
    def on_backward(t: Tensor, g: Any, sent: list[tuple[Tensor, Any]]) -> None:
        """Check the gradients of a record's inputs."""
        sources = (g, t, *t.inputs)
        for a, d in sent:
            if bad := _describe_bad(_arrays(d), sources):
                since = ", as does the incoming gradient" if "NaN" in bad and _count(_arrays(g), np.isnan) else ""
                raise point_at(t, FloatingPointError(
                    f"the gradient that {label(t)} sends to {_name(a)} holds {bad}{since}"))


def _describe_bad(arrays: list[Any], sources: tuple) -> str:
    """Describe NaN, and infinities that no array of `sources` has: `3 NaN among 12 numbers`; "" if there are none."""
    n = sum(a.size for a in arrays)
    if nan := _count(arrays, np.isnan):
        return f"{nan:,} NaN among {n:,} numbers"
    if (inf := _count(arrays, np.isinf)) and not any(_count(_arrays(a), np.isinf) for a in sources):
        return f"{inf:,} inf among {n:,} numbers"
    return ""


def _count(arrays: list[Any], test: Any) -> int:
    return sum(test(a).sum().item() for a in arrays)


def _arrays(a: Any) -> list[Any]:
    """Return the floating-point arrays in a value, a gradient or an input."""
    a = a._value() if type(a) is Tensor else a
    items = a.values() if isinstance(a, dict) else a if isinstance(a, (tuple, list)) else [a]
    items = [np.asarray(x) if isinstance(x, float) else x for x in items]
    return [x for x in items if getattr(getattr(x, "dtype", None), "kind", "") == "f"]


def _name(a: Any) -> str:
    return label(a) if type(a) is Tensor else "given as an array"
