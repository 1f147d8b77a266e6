"""Operators, methods and protocols of NumPy's arrays on a Tensor: each calls the op or function of that name."""

from __future__ import annotations

import functools
import inspect
import math
import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import Deferred
from .describe import label, source_line, tensor_repr
from .errors import NumberError
from .mode import current_mode, no_grad
from .registry import FUNCTIONS, NUMPY_OVERRIDES, REGISTRY, find_override, numpy_name
from .signature import NO_ATTRS

if TYPE_CHECKING:
    from ..engine import Tensor


def _numpy_method(name: str) -> Any:
    """Return the method that calls our implementation of `np.name`."""
    function = getattr(np, name)

    @functools.wraps(function)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if len(args) > 1 or "out" in kwargs:
            args, kwargs = _convert_arguments(function, (self, *args), kwargs)
            return NUMPY_OVERRIDES[function](*args, **kwargs)
        return NUMPY_OVERRIDES[function](self, *args, **kwargs)

    return method


def _binary_operator(name: str) -> tuple[Any, Any]:
    """Return the operator that calls op `name`, and its reflection for a Tensor on the right."""
    def forward(self: Any, other: Any) -> Any:
        try:
            return REGISTRY[name].apply((self, other), NO_ATTRS)
        except Deferred:
            return NotImplemented

    def reflected(self: Any, other: Any) -> Any:
        try:
            return REGISTRY[name].apply((other, self), NO_ATTRS)
        except Deferred:
            return NotImplemented

    return forward, reflected


def _comparison_operator(compare: Any, name: str) -> Any:
    """Return the comparison that calls op `name`; an object with an operator of its own compares with the array."""
    def method(self: Any, other: Any) -> Any:
        try:
            return REGISTRY[name].apply((self, other), NO_ATTRS)
        except Deferred:  # pytest.approx, for one; a comparison has no gradient that could be lost
            return compare(self.data, other)
    return method


def _refuse_writing(name: str, instead: str) -> Any:
    """Return a method that raises: the array method of this name writes in place."""
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"t.{name} would change the tensor, since the tape may need the old numbers: {instead} returns "
                        "a new one")
    return method


class _PandasPriority:
    """Priority that raises when pandas compares it with its own, to decide who computes `series + t`: pandas would lose
    the gradient, and does not defer in `series += t`."""

    def __gt__(self, other: Any) -> bool:
        raise TypeError("an object of pandas beside a Tensor would lose the gradient: make an array of it first, "
                        "np.asarray(series)")


class ArrayMethods:
    """Operators and methods of `Tensor` as a NumPy user expects them.  They hold no mathematics: each calls an op."""

    __slots__ = ()
    __array_priority__ = 1000.0  # np.matrix and scipy.sparse defer to a Tensor in a product
    __pandas_priority__ = _PandasPriority()
    __hash__ = object.__hash__  # comparisons are elementwise; a tensor is a key by identity
    data: Any
    name: str
    op: Any
    requires_grad: Any
    freed: Any
    _array: Any
    _grad: Any
    _requires_grad: bool
    _value: Any

    def __init_subclass__(cls) -> None:
        if ArrayMethods not in cls.__bases__:
            raise TypeError("Tensor is no base class, since ops know it by its type: keep one in a field of yours")

    __repr__ = tensor_repr
    source = property(source_line, doc="File and line of the user's code that made it.")

    # ------------------------------------------------------------------ operators
    __add__, __radd__ = _binary_operator("add")
    __sub__, __rsub__ = _binary_operator("subtract")
    __mul__, __rmul__ = _binary_operator("multiply")
    __truediv__, __rtruediv__ = _binary_operator("divide")
    __pow__, __rpow__ = _binary_operator("power")
    __matmul__, __rmatmul__ = _binary_operator("matmul")
    __floordiv__, __rfloordiv__ = _binary_operator("floor_divide")
    __mod__, __rmod__ = _binary_operator("remainder")
    def __divmod__(self, other: Any) -> tuple[Tensor, Tensor]: return self // other, self % other
    def __rdivmod__(self, other: Any) -> tuple[Tensor, Tensor]: return other // self, other % self
    def __neg__(self) -> Tensor: return REGISTRY["negative"].apply((self,), NO_ATTRS)
    def __pos__(self) -> Tensor: return REGISTRY["copy"].apply((self,), NO_ATTRS)
    def __abs__(self) -> Tensor: return REGISTRY["absolute"].apply((self,), NO_ATTRS)
    __eq__ = _comparison_operator(operator.eq, "equal")  # type: ignore[assignment]
    __ne__ = _comparison_operator(operator.ne, "not_equal")  # type: ignore[assignment]
    __lt__ = _comparison_operator(operator.lt, "less")
    __le__ = _comparison_operator(operator.le, "less_equal")
    __gt__ = _comparison_operator(operator.gt, "greater")
    __ge__ = _comparison_operator(operator.ge, "greater_equal")
    __and__, __rand__ = _binary_operator("bitwise_and")
    __or__, __ror__ = _binary_operator("bitwise_or")
    __xor__, __rxor__ = _binary_operator("bitwise_xor")
    def __invert__(self) -> Tensor: return REGISTRY["invert"].apply((self,), NO_ATTRS)

    # ------------------------------------------------------------------ shape
    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes; known of a freed value too."""
        return self._array.shape if self._array is not None else self.freed[0]
    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)
    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)
    @property
    def dtype(self) -> Any:
        """The value's dtype; known of a freed value too."""
        return self._array.dtype if self._array is not None else self.freed[1]
    @property
    def T(self) -> Tensor:
        """The transpose: all axes reversed."""
        return REGISTRY["transpose"](self)
    @property
    def mT(self) -> Tensor:
        """The matrix transpose: the last two axes swapped."""
        return REGISTRY["swapaxes"](self, -1, -2)

    def reshape(self, *shape: Any, order: str = "C") -> Tensor:
        """Return the elements in another shape, given as one tuple or one by one: np.reshape."""
        shape = shape[0] if len(shape) == 1 else shape
        return REGISTRY["reshape"](self, shape) if order == "C" else NUMPY_OVERRIDES[np.reshape](self, shape, order)
    def transpose(self, *axes: Any) -> Tensor:
        """Permute the axes, or reverse them all: np.transpose."""
        return REGISTRY["transpose"](self, axes=(axes[0] if len(axes) == 1 else axes) or None)
    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        """Exchange two axes: np.swapaxes."""
        return REGISTRY["swapaxes"](self, axis1, axis2)
    def copy(self) -> Tensor:
        """Return a copy, through which gradients flow: np.copy."""
        return REGISTRY["copy"](self)
    conj = conjugate = copy
    @property
    def real(self) -> Tensor:
        """A copy, since all numbers are real."""
        return self.copy()
    @property
    def imag(self) -> Tensor:
        """Zeros, since all numbers are real."""
        return FUNCTIONS["zeros_like"](self)
    def detach(self) -> Tensor:
        """Return a constant leaf with a copy of the values; no gradient flows through it."""
        with no_grad():
            t = REGISTRY["copy"](self)
        t.name = self.name
        return t
    ravel = flatten = _numpy_method("ravel")
    squeeze, repeat = _numpy_method("squeeze"), _numpy_method("repeat")
    def astype(self, dtype: Any) -> Tensor:
        """Cast to a dtype; to integers or booleans it is a constant."""
        return REGISTRY["astype" if np.dtype(dtype).kind == "f" else "truncate"](self, dtype)

    # ------------------------------------------------------------------ the functions of that name
    sum, prod, mean, var, std = map(_numpy_method, ("sum", "prod", "mean", "var", "std"))
    max, min, argmax, argmin = map(_numpy_method, ("max", "min", "argmax", "argmin"))
    any, all, cumsum, cumprod = map(_numpy_method, ("any", "all", "cumsum", "cumprod"))
    dot, trace, diagonal = map(_numpy_method, ("dot", "trace", "diagonal"))
    round, nonzero = map(_numpy_method, ("round", "nonzero"))
    def clip(self, min: Any = None, max: Any = None) -> Tensor:
        """Limit the elements to the range from min to max: np.clip."""
        return REGISTRY["clip"](self, min, max)
    take, choose = map(_numpy_method, ("take", "choose"))
    def compress(self, condition: Any, axis: Any = None) -> Tensor:
        """Select slices along an axis by a condition: np.compress."""
        return FUNCTIONS["compress"](condition, self, axis)
    argsort, argpartition, searchsorted = map(_numpy_method, ("argsort", "argpartition", "searchsorted"))

    sort, partition = _refuse_writing("sort", "np.sort(t)"), _refuse_writing("partition", "np.partition(t, kth)")
    fill, put = _refuse_writing("fill", "np.full_like(t, value)"), _refuse_writing("put", "ag.put(t, v, index)")

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
        """Return the only element as a Python number.  Raises ValueError if there are several."""
        if self.size != 1:
            raise ValueError(f"only a tensor of one element is a number; this one has shape {self.shape}: "
                             "index it or reduce it first")
        return self._value().item()

    # Python's numbers carry no gradient: float(t), math.sin(t) and array[i] = t take the value alone, and raise where a
    # function is being differentiated.
    def __float__(self) -> float:
        mode = current_mode()
        if self.requires_grad and mode.differentiating and mode.grad_enabled:
            raise NumberError(f"a number would lose the gradient of {label(self)} while a function is being "
                                    "differentiated: compute with the tensor itself (np.sin in place of math.sin, "
                                    "np.stack in place of array[i] = t), or say t.item() where no gradient is wanted")
        return float(self.item())
    def __int__(self) -> int: return int(self.item())
    def __bool__(self) -> bool: return bool(self.item())
    def __index__(self) -> int: return operator.index(self.item())
    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)
    def tolist(self) -> Any:
        """Return the elements as nested lists of Python numbers."""
        return self._value().tolist()

    # ------------------------------------------------------------------ NumPy's protocols
    # np.exp(t), array * t, np.sum(t) and np.asarray(t) are dispatched here (NEP 13, NEP 18).
    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__":
            raise TypeError(f"{numpy_name(ufunc)}.{method} does not take Tensors: use a function such as np.sum, "
                            "or t.data for the numbers")
        _refuse_out(kwargs)
        return _call_override(ufunc, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: tuple, kwargs: dict) -> Any:
        return _call_override(function, *_convert_arguments(function, args, kwargs))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if self.requires_grad:
            raise TypeError("this tensor requires a gradient, which an array would lose: use t.data for its numbers, "
                            "t.detach() for a constant, ag.array (or np.stack) to make one Tensor of a list of them; "
                            "and beside a masked array, a sparse matrix or another library's object, make that an "
                            "array first: np.ma.filled(a, value), a.toarray(), np.asarray(a)")
        return np.array(self._value(), dtype=dtype, copy=copy) if copy else np.asarray(self.data, dtype=dtype)


@functools.cache
def _signature(function: Any) -> inspect.Signature | None:
    """Return the signature of a NumPy function, or None if NumPy does not state it."""
    try:
        return inspect.signature(function)
    except ValueError:
        return None


def _convert_arguments(function: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Convert the arguments of a NumPy call for our implementation, whose parameters may be named differently:
    required ones by position, others by NumPy's keyword, and none that has its default."""
    signature = _signature(function)
    if signature is None:
        return args, kwargs
    bound = signature.bind(*args, **kwargs)
    _refuse_out(bound.arguments)
    args, kwargs = (), {}
    for name, value in bound.arguments.items():
        p = signature.parameters[name]
        if p.kind is p.VAR_POSITIONAL:
            args += tuple(value)
        elif p.kind is p.VAR_KEYWORD:
            kwargs |= value
        elif p.default is p.empty and p.kind is not p.KEYWORD_ONLY:
            args += (value,)
        elif name != "out" and value is not p.default and not (
                type(value) is type(p.default) in (bool, int, str) and value == p.default):
            kwargs[name] = value
    return args, kwargs


def _call_override(function: Any, args: tuple, kwargs: dict) -> Any:
    """Call our implementation of a NumPy function.  Raises TypeError, with the arguments that ours takes, where NumPy's
    has more."""
    implementation = find_override(function)
    try:
        return implementation(*args, **kwargs)
    except TypeError:
        signature = getattr(implementation, "signature", None) or inspect.signature(implementation)
        try:
            signature.bind(*args, **kwargs)
        except TypeError as misfit:
            raise TypeError(f"{numpy_name(function)} of a Tensor takes {signature}: {misfit}.  Where no gradient is "
                            "needed, give it t.data") from None
        raise


def _refuse_out(kwargs: dict) -> None:
    """Raise TypeError for `out=`."""
    if kwargs.get("out") is not None:
        raise TypeError("an array cannot hold a Tensor, so array += tensor and out= are not possible: "
                        "write array = array + tensor")
