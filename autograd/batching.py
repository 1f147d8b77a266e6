"""Batching rules for `vmap`: each computes an op, recorded for one example, for a whole batch.

A rule is a function `(t, args, mapped)`: the record of one example, the inputs, and for each input True if it is
mapped, that is, has the batch axis in front; the others are shared by all examples.  It returns the result with the
batch axis in front.  Rules compute by ops, so that arrays and Tensors go through them alike.
"""

from __future__ import annotations

import functools
import math
import string
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .core.errors import point_at
from .core.mode import within
from .core.recompute import value_of
from .core.registry import REGISTRY
from .ops.linear import explicit_subscripts

Mapped = Sequence[bool]
Rule = Callable[[Any, tuple, Mapped], Any]
_warned: set[str] = set()  # ops that a warning was given for


def apply_batched(t: Any, args: tuple, mapped: Mapped) -> Any:
    """Compute the op of record `t` for all examples: by its batching rule, or one after the other if it has none."""
    rule = t.op.batching
    if rule is None and isinstance(t.op.formula, np.ufunc) and t.op.formula.signature is None:
        rule = "elementwise"
    if isinstance(rule, str):
        if rule not in FAMILIES:
            raise ValueError(f"{t.op.name}.batching is {rule!r}: it can be {', '.join(FAMILIES)}, or a function")
        rule = FAMILIES[rule]
    return (rule or by_example)(t, args, mapped)


def batch_size(args: Sequence[Any], mapped: Mapped) -> int:
    """Return the number of examples."""
    return next(a.shape[0] for a, m in zip(args, mapped) if m)


# ---------------------------------------------------------------------- one after the other


def by_example(t: Any, args: tuple, mapped: Mapped) -> Any:
    """Compute any op, one example after the other.  Raises ValueError if their results differ in shape."""
    if t.op.name not in _warned:
        _warned.add(t.op.name)
        warnings.warn_explicit(f"vmap applies {t.op.name} to one example after the other: it has no batching rule for "
                               "such arguments (help(ag.vmap) says how to give one)", UserWarning, *t.source)
    rows = [list(a) if m else a for a, m in zip(args, mapped)]
    results = [t.op.apply(tuple([a[i] if m else a for a, m in zip(rows, mapped)]), t.attrs)
               for i in range(batch_size(args, mapped))]
    with within(observer=None):  # an outer program does not need the value of one example
        value = value_of(t)
    if type(value) is tuple:
        return tuple([_stack(t, like, [y[i] for y in results]) for i, like in enumerate(value)])
    return _stack(t, value, results)


def _stack(t: Any, like: Any, results: list[Any]) -> Any:
    """Stack the results of all examples, which have the shape of `like`."""
    if shapes := {y.shape for y in results} - {like.shape}:
        raise point_at(t, ValueError(
            f"{t.op.name} gives shape {like.shape} for the first example and {shapes.pop()} for another: shapes cannot "
            "depend on values (np.where in place of a mask)"))
    return np.stack(results) if results else np.zeros_like(like, shape=(0, *like.shape))


# ---------------------------------------------------------------------- families


def _pad_rank(a: Any, rank: int) -> Any:
    """Insert axes of length 1 after the batch axis, so that an example has `rank` axes."""
    return a if a.ndim > rank else a.reshape((a.shape[0], *[1] * (rank + 1 - a.ndim), *a.shape[1:]))


def _rank(a: Any, is_mapped: bool) -> int:
    """Return the number of axes of an example; 0 if it is no array."""
    return a.ndim - is_mapped if isinstance(getattr(a, "ndim", None), int) else 0


def _attribute(t: Any, name: str) -> Any:
    """Return an attribute of a record's op, or its default."""
    return t.attrs.get(name, t.op.signature.parameters[name].default)


def _add_batch_axis(a: Any, is_mapped: bool, n: int) -> Any:
    """Return an array with the batch axis in front: one that is not mapped is repeated."""
    return a if is_mapped else np.broadcast_to(a, (n, *np.shape(a)))


def elementwise(t: Any, args: tuple, mapped: Mapped) -> Any:
    """Compute an op whose inputs broadcast, at least over their first axes."""
    rank = max(map(_rank, args, mapped))
    return t.op.apply(tuple([_pad_rank(a, rank) if m else a for a, m in zip(args, mapped)]), t.attrs)


def only(place: int, otherwise: Rule = by_example) -> Rule:
    """Return the rule of an op whose input `place` may have further axes in front; `otherwise` if others are mapped."""
    def rule(t: Any, args: tuple, mapped: Mapped) -> Any:
        is_only = mapped[place] and sum(mapped) == 1
        return t.op.apply(args, t.attrs) if is_only else otherwise(t, args, mapped)
    return rule


def along_axis(t: Any, args: tuple, mapped: Mapped, n_arrays: int = 1) -> Any:
    """Compute an op that works on one array (or the first `n_arrays` inputs, or `*xs`) along its attribute `axis`."""
    op, n = t.op, batch_size(args, mapped)
    if "axis" not in op.parameters:
        raise ValueError(f"{op.name}.batching is 'axis', and it has no attribute of that name")
    n_arrays = len(args) if op.star == 0 else n_arrays
    if any(mapped[n_arrays:]) or any(isinstance(a, np.ndarray) for a in t.attrs.values()):
        return by_example(t, args, mapped)
    xs: list[Any] = [a if a is None else _add_batch_axis(a, m, n) for a, m in zip(args[:n_arrays], mapped)]
    rank, axis = xs[0].ndim - 1, _attribute(t, "axis")
    if axis is None or rank == 0:  # over all elements: the result's own axes are restored by its shape
        xs = [x.reshape((n, math.prod(x.shape[1:]))) for x in xs]
        return op.apply((*xs, *args[n_arrays:]), {**t.attrs, "axis": 1}).reshape((n, *t.shape))
    axis = tuple([a % rank + 1 for a in axis]) if isinstance(axis, tuple) else axis % rank + 1
    return op.apply((*xs, *args[n_arrays:]), {**t.attrs, "axis": axis})


FAMILIES: dict[str, Rule] = {"elementwise": elementwise, "leading": only(0), "axis": along_axis}


# ---------------------------------------------------------------------- shapes


def _reshape(t: Any, args: tuple, mapped: Mapped) -> Any:
    return t.op.apply((args[0], (args[0].shape[0], *t.shape)), {})


def _transpose(t: Any, args: tuple, mapped: Mapped) -> Any:
    rank, axes = args[0].ndim - 1, t.attrs.get("axes")
    axes = range(rank)[::-1] if axes is None else axes
    return t.op.apply(args, {"axes": (0, *[a % rank + 1 for a in axes])})


def _swapaxes(t: Any, args: tuple, mapped: Mapped) -> Any:
    x, *axes = args
    return t.op.apply((x, *[a % (x.ndim - 1) + 1 for a in axes]), {})


def _broadcast_to(t: Any, args: tuple, mapped: Mapped) -> Any:
    return t.op.apply((_pad_rank(args[0], len(t.shape)), (args[0].shape[0], *t.shape)), {})


def _triangle(t: Any, args: tuple, mapped: Mapped) -> Any:
    x = _pad_rank(args[0], 2)  # a vector counts as one row
    return t.op.apply((np.broadcast_to(x, (x.shape[0], *t.shape)), *args[1:]), t.attrs)


def _shape_only(t: Any, args: tuple, mapped: Mapped) -> Any:
    """Compute an op whose result depends on the shape of the inputs' last axes alone."""
    return np.broadcast_to(t.op.apply(args, t.attrs), (batch_size(args, mapped), *t.shape))


# ---------------------------------------------------------------------- indexing


def _mask_axes(a: Any) -> int | None:
    """Return the number of axes of a boolean index; None for any other."""
    if isinstance(a, (bool, np.bool)):
        return 0
    return a.ndim if getattr(getattr(a, "dtype", None), "kind", "") == "b" else None


class _Index:
    """An index into an array of `rank` axes, as recorded for one example; `mapped` says which of its items are."""

    def __init__(self, items: Sequence[Any], mapped: Mapped, rank: int):
        self.mapped = mapped
        places = [i for i, a in enumerate(items) if not (a is None or a is Ellipsis or isinstance(a, slice))]
        masks = [_mask_axes(items[i]) for i in places]
        self.by_mask = any(mapped[i] and m is not None for i, m in zip(places, masks))
        self.n_axes = max([getattr(items[i], "ndim", 0) if m is None else 1 for i, m in zip(places, masks)], default=0)
        n_slices, rest = sum(isinstance(a, slice) for a in items), rank - sum(1 if m is None else m for m in masks)
        self.rank = self.n_axes + rest + sum(a is None for a in items)  # of the elements that it selects
        # Adjacent integers and arrays make axes in their place, separated ones make the first axes (NumPy's rule).
        together = not places or places[-1] - places[0] < len(places)
        before = items[:places[0]] if places and together else []
        self.first = sum(rest - n_slices if a is Ellipsis else 1 for a in before)
        self.numbered = any(mapped) or not together  # True: examples are selected by an index array, not a slice

    def align(self, items: Sequence[Any]) -> list[Any]:
        """Return the items for all examples, in shapes that broadcast together."""
        return [_pad_rank(a, self.n_axes) if m else a for a, m in zip(items, self.mapped)]

    def add_batch_axis(self, items: Sequence[Any], n: int) -> list[Any]:
        """Return the index into an array that has the batch axis in front."""
        numbers = np.arange(n).reshape((n, *[1] * self.n_axes)) if self.numbered else slice(None)
        return [numbers, *self.align(items)]

    def restore_axes(self, y: Any) -> Any:
        """Return the elements that the batched index selects, with their axes in the order of an example."""
        return self._move(y, 1, self.first + 1)

    def lay_out(self, v: Any, is_mapped: bool) -> Any:
        """Return `v` in the shape of the places that the batched index selects."""
        if not hasattr(v, "ndim"):
            return v
        v = v if is_mapped else v[None]
        own = (*[1] * self.rank, *v.shape[1:])[v.ndim - 1:]  # NumPy drops first axes of length 1
        return self._move(v.reshape((v.shape[0], *own)), self.first + 1, 1)

    def _move(self, a: Any, start: int, end: int) -> Any:
        if not self.numbered or start == end:
            return a
        return np.moveaxis(a, range(start, start + self.n_axes), range(end, end + self.n_axes))


def _indexing(t: Any, args: tuple, mapped: Mapped) -> Any:
    """Compute getitem, scatter_add, put or last_written."""
    name, start, n = t.op.name, t.op.star, batch_size(args, mapped)
    x, items = args[0], args[start:]
    shape = t.attrs.get("shape", ()) if name == "scatter_add" else t.inputs[0].shape
    index = _Index(t.inputs[start:], mapped[start:], len(shape))
    if index.by_mask:
        return by_example(t, args, mapped)
    if name == "getitem" and not mapped[0]:
        y = t.op.apply((x, *index.align(items)), {})
        return np.moveaxis(y, index.first, 0) if index.first else y
    places = index.add_batch_axis(items, n)
    if name == "scatter_add":
        return t.op.apply((index.lay_out(x, mapped[0]), *places), {"shape": (n, *shape)})
    x = _add_batch_axis(x, mapped[0], n)
    if name == "put":
        return t.op.apply((x, index.lay_out(args[1], mapped[1]), *places), {})
    return index.restore_axes(t.op.apply((x, *places), {}))


# ---------------------------------------------------------------------- products


def _as_matrices(x: Any, is_mapped: bool, rank: int, column: bool) -> Any:
    """Return matrices, with a batch axis and `rank` axes if they are mapped; a vector is a row, or a column."""
    shape = x.shape
    if x.ndim - is_mapped == 1:
        shape = (*shape, 1) if column else (*shape[:-1], 1, shape[-1])
    if is_mapped:
        shape = (shape[0], *[1] * (rank + 1 - len(shape)), *shape[1:])
    return x if shape == x.shape else x.reshape(shape)


def _matmul(t: Any, args: tuple, mapped: Mapped) -> Any:
    (x, y), n = args, batch_size(args, mapped)
    ranks = [_rank(a, m) for a, m in zip(args, mapped)]
    if not mapped[1] and ranks[1] <= 2:  # all rows of all examples at once
        rows = x.reshape((math.prod(x.shape[:-1]), x.shape[-1]))
        return t.op.apply((rows, y), {}).reshape((n, *t.shape))
    if not mapped[0] and ranks == [2, 1]:
        return t.op.apply((y, x.mT), {})
    rank = max(2, *ranks)
    x, y = _as_matrices(x, mapped[0], rank, False), _as_matrices(y, mapped[1], rank, True)
    return t.op.apply((x, y), {}).reshape((n, *t.shape))


def _einsum(t: Any, args: tuple, mapped: Mapped) -> Any:
    subscripts, terms, out = explicit_subscripts(t.inputs[0], t.inputs[1:])
    batch = next(c for c in string.ascii_letters if c not in subscripts)
    left = ",".join(batch + term if m else term for term, m in zip(terms, mapped[1:]))
    return t.op.apply((f"{left}->{batch}{out}", *args[1:]), t.attrs)


def _solve(t: Any, args: tuple, mapped: Mapped) -> Any:
    (a, b), n = args, batch_size(args, mapped)
    rank = max(2, *[_rank(x, m) for x, m in zip(args, mapped)])
    a, b = _as_matrices(a, mapped[0], rank, False), _as_matrices(b, mapped[1], rank, True)
    return t.op.apply((a, b), {}).reshape((n, *t.shape))


def _cross_entropy(t: Any, args: tuple, mapped: Mapped) -> Any:
    n, reduction = batch_size(args, mapped), _attribute(t, "reduction")
    logits, targets = (_add_batch_axis(a, m, n) for a, m in zip(args, mapped))
    losses = t.op.apply((logits, targets), {**t.attrs, "reduction": "none"})
    if reduction == "none":
        return losses
    rows = (n, math.prod(losses.shape[1:]))
    total = losses.reshape(rows).sum(axis=1)
    if reduction == "sum":
        return total
    return total / (targets != _attribute(t, "ignore_index")).reshape(rows).sum(axis=1).astype(losses.dtype)


_RULES: dict[Any, tuple[str, ...]] = {
    "elementwise": ("power", "where", "clip", "sigmoid", "copy", "nan_to_num", "relu", "squared_relu", "softplus",
                    "erf", "gelu", "sinc", "angle", "astype", "truncate", "round", "isclose", "isposinf", "isneginf",
                    "isreal", "iscomplex", "attention", "cofactor"),
    "axis": ("sum", "mean", "var", "max", "min", "prod", "any", "all", "count_nonzero", "argmax", "argmin", "nanargmax",
             "nanargmin", "argsort", "argpartition", "top_k", "logsumexp", "cumsum", "cumprod", "softmax",
             "log_softmax", "concatenate", "split"),
    "leading": ("inv", "det", "slogdet", "pinv", "cholesky", "eigh", "svd", "qr", "embedding", "causal_conv", "one_hot",
                "digitize", "isin"),
    only(1): ("searchsorted",), functools.partial(along_axis, n_arrays=2): ("dft",),
    _reshape: ("reshape",), _transpose: ("transpose",), _swapaxes: ("swapaxes",), _broadcast_to: ("broadcast_to",),
    _triangle: ("tril", "triu"), _shape_only: ("causal_mask",),
    _indexing: ("getitem", "scatter_add", "put", "last_written"),
    _matmul: ("matmul",), _einsum: ("einsum",), _solve: ("solve",), _cross_entropy: ("cross_entropy",),
}
for _rule, _names in _RULES.items():
    for _name in _names:
        REGISTRY[_name].batching = _rule
