"""A strict array of another library: it works through NumPy's protocols only, and never becomes a NumPy array.

It stands for a GPU array where there is no GPU.  Like CuPy's it refuses `np.asarray`, and to be mixed with NumPy
arrays; unlike a NumPy array its reductions give 0-d arrays and no scalars.
"""

import numpy as np


class Duck:
    """Wraps a NumPy array, which only `Duck.numpy()` gives back."""

    __hash__ = None

    def __init__(self, array):
        self._array = np.array(array)

    def numpy(self):
        """A copy on the other side, asked for in so many words."""
        return self._array.copy()

    def item(self):
        """One element as a Python number, asked for in so many words."""
        return self._array.item()

    def __array__(self, dtype=None, copy=None):
        raise TypeError("a Duck does not become a NumPy array")

    def __iter__(self):
        raise TypeError("iterating over a Duck would fetch its elements one by one")

    def __float__(self): raise TypeError("float() would fetch an element")
    def __int__(self): raise TypeError("int() would fetch an element")
    def __index__(self): raise TypeError("index() would fetch an element")
    def __bool__(self): return bool(self._array)
    def __len__(self): return len(self._array)
    def __repr__(self): return f"Duck({self._array!r})"

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if not all(map(_known, map(type, inputs))):
            return NotImplemented
        if method == "at":
            return ufunc.at(_plain(inputs[0]), _index(inputs[1]), *_plain(inputs[2:]))
        return _wrapped(getattr(ufunc, method)(*_plain(inputs), **_plain(kwargs)))

    def __array_function__(self, function, types, args, kwargs):
        if not all(map(_known, types)):
            return NotImplemented
        if function is np.split:
            return _wrapped(np.split(_plain(args[0]), args[1], **kwargs))
        if function in (np.asarray, np.asanyarray, np.array):  # reached by like=: a conversion that is asked for
            return args[0] if isinstance(args[0], Duck) else Duck(function(*args, **kwargs))
        return _wrapped(function(*_plain(args), **_plain(kwargs)))

    def __getitem__(self, index): return _wrapped(self._array[_index(index)])
    def __setitem__(self, index, value): self._array[_index(index)] = _plain(value)


def _known(kind):
    """Return True if a Duck computes with such an object; a Tensor computes with Ducks, and not they with it."""
    return issubclass(kind, (Duck, np.ndarray, np.generic)) or not hasattr(kind, "__array_ufunc__")


def _index(index):
    """An index with NumPy arrays for Ducks; places may also be listed on this side."""
    if isinstance(index, tuple):
        return tuple(map(_index, index))
    return index if isinstance(index, np.ndarray) and index.dtype.kind == "i" else _plain(index)


def _plain(x):
    """Arguments with NumPy arrays for Ducks."""
    if isinstance(x, Duck):
        return x._array
    if isinstance(x, np.ndarray) and x.ndim > 0:
        raise TypeError("a NumPy array met a Duck: make it with like=, or with np.zeros_like(a Duck, shape=...)")
    if isinstance(x, (tuple, list)):
        return type(x)(map(_plain, x))
    return {key: _plain(value) for key, value in x.items()} if isinstance(x, dict) else x


def _wrapped(x):
    """A result with Ducks for NumPy's arrays and scalars."""
    if isinstance(x, (np.ndarray, np.generic)):
        duck = Duck.__new__(Duck)
        duck._array = np.asarray(x)
        return duck
    if hasattr(x, "_fields"):  # a named tuple
        return type(x)(*map(_wrapped, x))
    return type(x)(map(_wrapped, x)) if isinstance(x, (tuple, list)) else x


def _forward(name):
    def method(self, *args, **kwargs):
        if not all(map(_known, map(type, args))):
            return NotImplemented
        result = getattr(self._array, name)(*_plain(args), **_plain(kwargs))
        return self if result is self._array else _wrapped(result)  # x += 1 stays x
    method.__name__ = name
    return method


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"):
    for _operator in (f"__{_name}__", f"__r{_name}__", f"__i{_name}__"):
        setattr(Duck, _operator, _forward(_operator))
for _name in ("neg", "abs", "invert", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "rand", "ror"):
    setattr(Duck, f"__{_name}__", _forward(f"__{_name}__"))
for _name in ("sum", "mean", "var", "max", "min", "all", "any", "reshape", "transpose", "swapaxes", "astype", "copy",
              "ravel"):
    setattr(Duck, _name, _forward(_name))
for _name in ("shape", "ndim", "size", "dtype", "T", "mT", "base"):
    setattr(Duck, _name, property(lambda self, name=_name: _wrapped(getattr(self._array, name))))
