"""Functions made from functions: gradients, products with Jacobians, Jacobians, and less memory."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import has_floats, owned
from .engine import Tensor, free, reverse, seed_for, tape, tensor
from .methods import REGISTRY
from .state import current_mode, no_grad

# A "tree" below is an array, number or Tensor, or a dict, list, tuple or Module (whatever has `map`) of trees.


def tree_map(fn: Callable[[Any], Any], tree: Any) -> Any:
    """The same structure with `fn` of each array, number or Tensor in it; None stays None."""
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {key: tree_map(fn, branch) for key, branch in tree.items()}
    if isinstance(tree, (list, tuple)):
        branches = [tree_map(fn, branch) for branch in tree]
        return type(tree)(*branches) if hasattr(tree, "_fields") else type(tree)(branches)
    return tree.map(fn) if hasattr(tree, "map") else fn(tree)


def tree_leaves(tree: Any) -> list[Any]:
    """What `tree_map` visits, in its order."""
    leaves: list[Any] = []

    def collect(leaf: Any) -> Any:
        leaves.append(leaf)
        return leaf

    tree_map(collect, tree)
    return leaves


def leaves_like(model: Any, tree: Any) -> list[Any]:
    """The leaves of `tree`, which has to have the structure of `model`, in the order of model's."""
    if isinstance(model, dict):
        if not isinstance(tree, dict) or tree.keys() != model.keys():
            raise ValueError(f"a dict with the keys {list(model)} is needed, not {tree!r:.60}")
        return [leaf for key in model for leaf in leaves_like(model[key], tree[key])]
    if isinstance(model, (list, tuple)):
        if not isinstance(tree, (list, tuple)) or len(tree) != len(model):
            raise ValueError(f"a list or tuple of {len(model)} is needed, not {tree!r:.60}")
        return [leaf for a, b in zip(model, tree) for leaf in leaves_like(a, b)]
    return tree_leaves(tree) if hasattr(model, "map") else [np.asarray(tree) if isinstance(tree, list) else tree]


class _Traced:
    """A call of `f` with the arguments at `argnums` made into tensors of its own, and the way back from it.

    A Tensor argument goes in as a recorded copy, so that an outer transform still sees where it came from, and
    a function that also holds that Tensor in a closure does not mix the two up.
    """

    def __init__(self, f: Callable[..., Any], argnums: tuple[int, ...], args: tuple, kwargs: dict):
        outer = current_mode().recording
        self.given_tensors = any(isinstance(leaf, Tensor) for leaf in tree_leaves([*args, *kwargs.values()]))

        def trace(leaf: Any) -> Tensor:
            if outer and isinstance(leaf, Tensor) and leaf.requires_grad:
                return REGISTRY["copy"](leaf)
            return tensor(leaf, requires_grad=True)

        with no_grad(False):
            self.variables = tuple(tree_map(trace, args[i]) for i in argnums)
            traced = dict(zip(argnums, self.variables))
            self.y = f(*[traced.get(i, a) for i, a in enumerate(args)], **kwargs)
        self.leaves = tree_leaves(list(self.variables))
        self.results = tree_leaves(self.y)
        for result in self.results:
            if not isinstance(result, Tensor):
                raise TypeError(f"{_name(f)} returned {result!r:.60} and no Tensor: it left the tape on the way, "
                                "through t.data, float(t) or np.asarray(t)")
        # A leaf made since is one of ours, or of a transform within f, and is known to nobody outside.
        first = min((t.index for t in self.leaves), default=math.inf)
        foreign = any(t.requires_grad and t.op is None and t.index < first for t in tape(*self.results))
        self.graph = outer and foreign  # somebody outside may differentiate what comes out

    def pull(self, seeds: list[Any], keep: bool) -> tuple[Any, ...]:
        """The gradients of `variables`, as trees, for `seeds`, the gradients of the results."""
        graph = self.graph or current_mode().recording and any(isinstance(s, Tensor) and s.requires_grad for s in seeds)
        live = [(t, seed_for(t, s, graph)) for t, s in zip(self.results, seeds) if t.requires_grad]
        walk = reverse([t for t, _ in live], [s for _, s in live], self.leaves, create_graph=graph, keep=keep)
        mine = set(self.leaves)
        found = {t: g for t, g, _ in walk if t in mine}
        return self.out(tuple(tree_map(lambda t: found[t] if t in found else np.zeros_like(t._value()), variable)
                              for variable in self.variables), graph)

    def out(self, tree: Any, graph: bool) -> Any:
        """Arrays in, arrays out; Tensors in, Tensors out; and Tensors wherever there is more to differentiate."""
        if graph:
            return tree_map(lambda t: t if isinstance(t, Tensor) else tensor(t), tree)
        if self.given_tensors:
            return tree_map(tensor, tree)
        return tree_map(lambda t: owned(t._value() if isinstance(t, Tensor) else t), tree)


def value_and_grad(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """A function of the same arguments that returns `(f(...), gradient)`.

    `f` returns one element.  The gradient has the structure of argument `argnums` (array, number, Tensor, or a
    nested dict, list, tuple or Module of these); for several argnums it is a tuple.  Given Tensors, it returns
    Tensors, which can be differentiated again.
    """
    positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        _check_argnums(f, positions, args)
        traced = _Traced(f, positions, args, kwargs)
        if not isinstance(traced.y, Tensor):
            raise TypeError(f"{_name(f)} returned a {type(traced.y).__name__}; a gradient is that of one Tensor: "
                            "use ag.jacobian or ag.vjp for several")
        value = traced.out(traced.y, traced.graph)
        gradients = traced.pull([None], keep=False)
        return value, gradients[0] if isinstance(argnums, int) else gradients

    return call


def grad(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """A function of the same arguments that returns the gradient of `f`: see `value_and_grad`."""
    both = value_and_grad(f, argnums)

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return call


def vjp(f: Callable[..., Any], *xs: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """`(y, pullback)`: y = f(*xs), and pullback(g) = gᵀ J, a tuple with one item for each x.

    `g` has the structure of y.  The pullback can be called any number of times.
    """
    traced = _Traced(f, tuple(range(len(xs))), xs, {})

    def pullback(g: Any) -> tuple[Any, ...]:
        return traced.pull(leaves_like(traced.y, g), keep=True)

    return traced.out(traced.y, traced.graph), pullback


def jvp(f: Callable[..., Any], xs: tuple, tangents: tuple) -> tuple[Any, Any]:
    """`(y, J t)`: the value of f(*xs) and its derivative in the direction of `tangents`, one for each x; results that
    are integers have derivative 0.

    gᵀ J is linear in g, so its own derivative with respect to g, applied to t, is J t: two walks back make one
    walk forward, with no second set of rules (Townsend 2017).
    """
    if len(xs) != len(tangents):
        raise ValueError(f"jvp needs a tangent for each of the {len(xs)} arguments, not {len(tangents)}")

    def zeros_like(a: Any) -> Any:  # floats for a result of integers too, whose derivative is 0
        a = a.data if isinstance(a, Tensor) else a
        return np.zeros_like(a, dtype=a.dtype if has_floats(a) else float)

    y, pullback = vjp(f, *xs)
    zeros = tree_map(zeros_like, y)
    derivative = vjp(pullback, zeros)[1](tuple(tangents))[0]
    if not any(isinstance(leaf, Tensor) for leaf in tree_leaves(y)):  # arrays in, arrays out
        derivative = tree_map(lambda t: owned(t._value()) if isinstance(t, Tensor) else t, derivative)
    return y, derivative


def jacobian(f: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """A function that returns the Jacobian of `f`, of shape (*y.shape, *x.shape): one walk back for each
    element of y."""
    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        _check_argnums(f, (argnums,), args)
        traced = _Traced(f, (argnums,), args, kwargs)
        y, x = traced.y, traced.variables[0]
        if not isinstance(y, Tensor) or not isinstance(x, Tensor):
            raise TypeError(f"a Jacobian is that of one array by one array; {_name(f)} takes or returns several")
        rows = []
        for i in range(y.size):
            one = np.zeros_like(y._value(), shape=y.shape)
            one.reshape(-1)[i] = 1
            rows.append(traced.pull([one], keep=True)[0].reshape((1, *x.shape)))
        empty = np.zeros_like(x._value(), shape=(0, *x.shape))
        return (np.concatenate(rows) if rows else empty).reshape(y.shape + x.shape)

    return call


def hessian(f: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """A function that returns the second derivatives of a scalar `f`, of shape (*x.shape, *x.shape)."""
    return jacobian(grad(f, argnums), argnums)


def hvp(f: Callable[..., Any], x: Any, v: Any) -> Any:
    """The Hessian of the scalar function `f` at `x` times `v` (of x's structure), without the Hessian: it is
    symmetric, so one walk back through the gradient gives vᵀ H = H v."""
    return vjp(grad(f), x)[1](v)[0]


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f` in less memory: the values inside it are freed once its results are known, and computed again when
    a walk back (of any order) comes by.  (Chen et al. 2016.)"""
    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        start = tensor(0).index
        results = f(*args, **kwargs)
        kept = {t for t in tree_leaves(results) if isinstance(t, Tensor)}
        for t in tape(*kept, since=start):
            if t not in kept:
                free(t)
        return results

    return call


def _check_argnums(f: Callable[..., Any], positions: tuple[int, ...], args: tuple) -> None:
    if len(set(positions)) < len(positions) or not all(isinstance(i, int) and 0 <= i < len(args) for i in positions):
        raise ValueError(f"argnums {positions} for {_name(f)}, which was called with {len(args)} positional arguments")


def _name(f: Callable[..., Any]) -> str:
    return getattr(f, "__name__", repr(f))
