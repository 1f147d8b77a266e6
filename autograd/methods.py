"""What a NumPy user expects of an array: operators and methods, each one the op of that name."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .describe import label

if TYPE_CHECKING:
    from .engine import Op, Tensor

REGISTRY: dict[str, Op] = {}
"""Every op by its name."""
NO_ATTRS: dict[str, Any] = {}
"""The settings of an op that was given none; nobody writes into it."""
ANSWERS: dict[Any, Any] = {}
"""NumPy function -> the op, or function composed of ops, that answers for it when it meets a Tensor."""


def answers(*functions: Any) -> Any:
    """Let the function below answer for these NumPy functions when they are given a Tensor.  Its first
    argument is the function that was called."""
    def register(answer: Any) -> Any:
        for function in functions:
            ANSWERS[function] = functools.partial(answer, function)
        return answer
    return register


class ArrayMethods:
    """Operators and methods of `Tensor`.  They hold no state and no mathematics: each calls an op."""

    __slots__ = ()
    __array_priority__ = 1000.0  # matrix and other legacy types defer to a Tensor
    __hash__ = object.__hash__  # comparisons are elementwise; a tensor is a key by identity
    data: Any
    op: Any
    touch: Any
    _grad: Any
    _requires_grad: bool
    saved: Any
    _data: Any

    def _value(self) -> Any: raise AssertionError("Tensor defines it")

    def __init_subclass__(cls) -> None:
        if ArrayMethods not in cls.__bases__:
            raise TypeError("Tensor is no base class, since ops know it by its type: keep one in a field of yours")

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow here; it can be set on a leaf of floating-point numbers."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self.op is not None:
            raise TypeError(f"{label(self)} is a result, and only a leaf can be told whether it requires a gradient: "
                            "t.detach() makes one of it")
        if value and self.dtype.kind != "f":
            raise TypeError(f"a gradient needs floating-point numbers, and {label(self)} has none: "
                            "write 1.0 for 1, or pass dtype=float")
        self.touch()  # what was computed before does not know of it
        self._requires_grad = bool(value)  # type: ignore[misc]

    # ------------------------------------------------------------------ operators
    def __add__(self, other: Any) -> Tensor: return REGISTRY["add"].apply((self, other), NO_ATTRS)
    def __radd__(self, other: Any) -> Tensor: return REGISTRY["add"].apply((other, self), NO_ATTRS)
    def __sub__(self, other: Any) -> Tensor: return REGISTRY["subtract"].apply((self, other), NO_ATTRS)
    def __rsub__(self, other: Any) -> Tensor: return REGISTRY["subtract"].apply((other, self), NO_ATTRS)
    def __mul__(self, other: Any) -> Tensor: return REGISTRY["multiply"].apply((self, other), NO_ATTRS)
    def __rmul__(self, other: Any) -> Tensor: return REGISTRY["multiply"].apply((other, self), NO_ATTRS)
    def __truediv__(self, other: Any) -> Tensor: return REGISTRY["divide"].apply((self, other), NO_ATTRS)
    def __rtruediv__(self, other: Any) -> Tensor: return REGISTRY["divide"].apply((other, self), NO_ATTRS)
    def __pow__(self, other: Any) -> Tensor: return REGISTRY["power"].apply((self, other), NO_ATTRS)
    def __rpow__(self, other: Any) -> Tensor: return REGISTRY["power"].apply((other, self), NO_ATTRS)
    def __matmul__(self, other: Any) -> Tensor: return REGISTRY["matmul"].apply((self, other), NO_ATTRS)
    def __rmatmul__(self, other: Any) -> Tensor: return REGISTRY["matmul"].apply((other, self), NO_ATTRS)
    def __neg__(self) -> Tensor: return REGISTRY["negative"].apply((self,), NO_ATTRS)
    def __pos__(self) -> Tensor: return REGISTRY["copy"].apply((self,), NO_ATTRS)
    def __abs__(self) -> Tensor: return REGISTRY["absolute"].apply((self,), NO_ATTRS)
    def __eq__(self, other: Any) -> Tensor: return REGISTRY["equal"].apply((self, other), NO_ATTRS)  # type: ignore[override]
    def __ne__(self, other: Any) -> Tensor: return REGISTRY["not_equal"].apply((self, other), NO_ATTRS)  # type: ignore[override]
    def __lt__(self, other: Any) -> Tensor: return REGISTRY["less"].apply((self, other), NO_ATTRS)
    def __le__(self, other: Any) -> Tensor: return REGISTRY["less_equal"].apply((self, other), NO_ATTRS)
    def __gt__(self, other: Any) -> Tensor: return REGISTRY["greater"].apply((self, other), NO_ATTRS)
    def __ge__(self, other: Any) -> Tensor: return REGISTRY["greater_equal"].apply((self, other), NO_ATTRS)

    # ------------------------------------------------------------------ shape
    @property
    def shape(self) -> tuple[int, ...]: return self._data.shape if self._data is not None else self.saved[0]
    @property
    def ndim(self) -> int: return len(self.shape)
    @property
    def size(self) -> int: return math.prod(self.shape)
    @property
    def dtype(self) -> Any: return self._data.dtype if self._data is not None else self.saved[1]
    @property
    def T(self) -> Tensor: return REGISTRY["transpose"](self)
    @property
    def mT(self) -> Tensor:
        """The matrix transpose: the last two axes swapped."""
        return REGISTRY["swapaxes"](self, -1, -2)

    def reshape(self, *shape: Any) -> Tensor: return REGISTRY["reshape"](self, shape[0] if len(shape) == 1 else shape)
    def transpose(self, *axes: Any) -> Tensor:
        return REGISTRY["transpose"](self, axes=(axes[0] if len(axes) == 1 else axes) or None)
    def swapaxes(self, axis1: int, axis2: int) -> Tensor: return REGISTRY["swapaxes"](self, axis1, axis2)
    def ravel(self) -> Tensor: return REGISTRY["reshape"](self, (-1,))
    flatten = ravel
    def copy(self) -> Tensor: return REGISTRY["copy"](self)
    def astype(self, dtype: Any) -> Tensor:
        return REGISTRY["astype" if np.dtype(dtype).kind == "f" else "truncate"](self, dtype)

    # ------------------------------------------------------------------ reductions
    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return REGISTRY["sum"](self, axis=axis, keepdims=keepdims)
    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return REGISTRY["mean"](self, axis=axis, keepdims=keepdims)
    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return REGISTRY["max"](self, axis=axis, keepdims=keepdims)
    def var(self, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
        return REGISTRY["var"](self, axis=axis, ddof=ddof, keepdims=keepdims)

    # ------------------------------------------------------------------ elements
    def __getitem__(self, index: Any) -> Tensor:
        return REGISTRY["getitem"](self, index if isinstance(index, tuple) else (index,))

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError("a tensor's elements cannot be assigned, since the tape may need the old ones: "
                        "build a new one with np.where(mask, new, t), or for a leaf assign t.data = array")

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.shape:
            raise TypeError("iteration over a 0-d tensor")
        if len(self) == 0:
            return iter(())  # one split record, not one scatter into zeros a row
        return (row.reshape(self.shape[1:]) for row in REGISTRY["split"](self, len(self)))

    def item(self) -> Any:
        """The one element as a Python number."""
        if self.size != 1:
            raise ValueError(f"only a tensor of one element is a number; this one has shape {self.shape}: "
                             "index it or reduce it first")
        return self._value().item()

    def __float__(self) -> float: return float(self.item())
    def __int__(self) -> int: return int(self.item())
    def __bool__(self) -> bool: return bool(self.item())
    def __index__(self) -> int: return operator.index(self.item())
    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)
    def tolist(self) -> Any: return self._value().tolist()

    # ------------------------------------------------------------------ NumPy's protocols
    # np.exp(t), array * t, np.sum(t) and np.asarray(t) end here.
    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__":
            raise TypeError(f"np.{ufunc.__name__}.{method} does not take Tensors: use a function such as np.sum, "
                            "or t.data for the numbers")
        if kwargs.get("out") is not None:
            raise TypeError("an array cannot hold a Tensor, so array += tensor and out= are not possible: "
                            "write array = array + tensor")
        return _answer(ufunc)(*inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: tuple, kwargs: dict) -> Any:
        return _answer(function)(*args, **kwargs)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if self.requires_grad:
            raise TypeError("this tensor requires a gradient, which an array would lose: "
                            "use t.data for its numbers, or t.detach() for a constant")
        return np.array(self._value(), dtype=dtype, copy=copy) if copy else np.asarray(self.data, dtype=dtype)


def _answer(function: Any) -> Any:
    """What stands in for a NumPy function that was given a Tensor."""
    if function not in ANSWERS:
        name = f"{function.__module__.replace('numpy', 'np')}.{function.__name__}" \
            if hasattr(function, "__module__") else f"np.{function.__name__}"
        raise TypeError(f"{name} has no gradient here.  Compose it from what ag.REGISTRY holds, use t.data if no "
                        f"gradient is needed, or define it: @ag.op above a function named {function.__name__}")
    return ANSWERS[function]
