"""Fields of a Tensor that can be assigned on a leaf (data, grad, requires_grad), and the version counter."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from .arrays import as_gradient, is_tensor, make_array, private_copy, read_only
from .describe import describe, label
from .errors import Unavailable, not_floating_error, not_leaf_error, point_at, traced_error
from .mode import current_mode
from .recompute import value_of

clock = itertools.count()
"""Numbers every creation of a Tensor and every change of a leaf, across threads."""


def now() -> int:
    """Return a time on the clock of `Tensor.created` and `Tensor.version`: later than all there are."""
    return next(clock)


class LeafMethods:
    """Data, gradient and version of a Tensor; those of a leaf can be assigned."""

    __slots__ = ()
    op: Any
    shape: Any
    dtype: Any
    version: int
    _array: Any
    _grad: Any
    _requires_grad: bool

    def _value(self) -> Any:
        """Return the array itself, where `data` is a view; raises while a function is traced.  For use within the
        package, which does not write into it."""
        if current_mode().tracing:
            raise traced_error(self)
        return value_of(self)

    @property
    def data(self) -> Any:
        """The values, as a read-only view.  Assigning writes into the buffer of a leaf, after which a backward pass
        that still needs the old values refuses.  So a step of gradient descent is `w.data = w.data - 0.1 * w.grad`:
        `w.data -= ...` and `w.data[i] = ...` would write into the view, and NumPy says that it is read-only."""
        return read_only(self._value())

    @data.setter
    def data(self, value: Any) -> None:
        self._check_leaf("assigned")
        value = value._value() if is_tensor(value) else make_array(value, None, copy=False)
        if np.shape(value) != self.shape:
            raise point_at(self, ValueError(f"{label(self)} takes no data of shape {np.shape(value)}: make another"))
        self._array[...] = value
        self.bump_version()

    @property
    def grad(self) -> Any:
        """Gradient that backward has accumulated in a leaf: an array (a Tensor after `create_graph`), or None."""
        if self.op is not None and self._grad is None:
            raise point_at(self, Unavailable(f"{label(self)} is no leaf, and only leaves accumulate gradients: "
                                                "call backward(keep=True), or differentiate with ag.grad"))
        return self._grad if self.op is None else read_only(self._grad)

    @grad.setter
    def grad(self, value: Any) -> None:
        self._check_leaf("given a gradient")
        if value is not None and np.shape(value) != self.shape:
            raise point_at(self, ValueError(f"{label(self)} cannot take a gradient of shape {np.shape(value)}"))
        self._grad = value if value is None or is_tensor(value) else make_array(value, self.dtype)

    @property
    def requires_grad(self) -> bool:
        """True if gradients flow here; it can be set on a leaf of floating-point numbers."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self.op is not None:
            raise TypeError(f"{label(self)} is a result, and only a leaf can be told whether it requires a gradient: "
                            "t.detach() makes one of it")
        if value and self.dtype.kind != "f":
            raise not_floating_error(self)
        self.bump_version()  # the records computed before did not see that it requires one
        self._requires_grad = bool(value)  # type: ignore[misc]

    def use_buffers(self, data: Any, grad: Any = None) -> None:
        """Move a leaf's values into `data`, a writable array like its own (a slice of an optimizer's flat one, say),
        and accumulate gradients in `grad`.  Whoever writes into `data` later calls `bump_version()`."""
        self._check_leaf("moved")
        for a in (data, grad) if grad is not None else (data,):
            if (a.shape, a.dtype) != (self.shape, self.dtype):
                raise point_at(self, ValueError(f"{label(self)} cannot live in {describe(a)}"))
        data[...] = self._array
        self._array, self._grad = data, grad

    def _accumulate(self, g: Any, create_graph: bool) -> None:
        """Add the gradient `g` of a backward pass to `.grad`: a Tensor with `create_graph`, or else an array."""
        if self._grad is None:  # a copy, since `add` sends the same array to both of its inputs
            self._grad = +g if create_graph else private_copy(as_gradient(g, self.dtype))
        elif create_graph or is_tensor(self._grad):
            self._grad = self._grad + g
        else:
            np.add(self._grad, g, out=self._grad)

    def bump_version(self) -> None:
        """Raise the version counter of a leaf that was written to, so that no backward mixes old and new values."""
        self._check_leaf("changed")
        self.version = next(clock)  # type: ignore[misc]

    bind, touch = use_buffers, bump_version  # their names in earlier versions

    def _check_leaf(self, verb: str) -> None:
        """Raise TypeError unless this is a leaf, outside of a function that is traced."""
        if current_mode().tracing:
            raise traced_error(self, verb)
        if self.op is not None:
            raise not_leaf_error(self, verb)
