"""Values that are tuples of arrays: their gradients, and the shapes and dtypes of any value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def shape_and_dtype(t: Any) -> Any:
    """Return (shape, dtype) of the value of record `t`, freed or not, or a list of them if it is a tuple of arrays.
    None: it was never computed, since its op failed."""
    value = t._array
    if value is None:
        return t.freed
    return [(a.shape, a.dtype) for a in value] if type(value) is tuple else (value.shape, value.dtype)


class OutputGradients(dict):
    """Map from the index of an output to its gradient, for the outputs that were used."""

    is_sum = False  # True: made by `+`, which adds in place from then on; a copy for each of n outputs would cost n²

    def __add__(self, other: dict) -> OutputGradients:
        total = self if self.is_sum else OutputGradients(self)
        total.is_sum = True
        total.update({i: total[i] + d if i in total else d for i, d in other.items()})
        return total

    def to_tuple(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Return the gradient of every output, 0 for those that nothing used; `values` are the outputs."""
        return tuple([self[i] if i in self else np.zeros_like(v) for i, v in enumerate(values)])


def unpack(t: Any, item: Any) -> tuple[Any, ...]:
    """Return the arrays of `t`, a record whose value is a tuple, each as a Tensor that the op `item` has made of it."""
    return tuple([item(t, i=i) for i in range(len(t._array))])


def _item(arrays: tuple, i: int = 0) -> Any:
    """One of a tuple of arrays.  y = arrays[i]"""
    return arrays[i]


def item_gradient(g: Any, y: Any, arrays: tuple, i: int = 0) -> OutputGradients:
    """∂L/∂arrays[i] = g, and 0 for the others"""
    return OutputGradients({i: g})
