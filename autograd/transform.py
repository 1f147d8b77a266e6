"""Transforms of functions: grad, vjp, jvp, jacobian, hessian, hvp and checkpoint."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .core.arrays import has_floats, private_copy
from .core.errors import NumberError, not_floating_error
from .core.leaf import now
from .core.mode import current_mode, within
from .core.recompute import free, value_of
from .core.registry import REGISTRY
from .core.tree import copy_structure, leaves_like, tree_leaves, tree_map
from .engine import Tensor, reverse, seed_for, tape, tensor


class _Traced:
    """A call of `f` with the arguments at `argnums` as new tensors, and the backward passes from its results.

    A Tensor argument goes in as a recorded copy: an outer transform still sees its origin, and a function that also
    holds that Tensor in a closure does not confuse the two.
    """

    def __init__(self, f: Callable[..., Any], argnums: tuple[int, ...], args: tuple, kwargs: dict,
                 has_aux: bool = False):
        outer, tracing = current_mode().grad_enabled, current_mode().tracing
        self.given_tensors = any(isinstance(leaf, Tensor) for leaf in tree_leaves([*args, *kwargs.values()]))

        def trace(leaf: Any) -> Tensor:
            if outer and isinstance(leaf, Tensor) and leaf.requires_grad:
                return REGISTRY["copy"](leaf)
            return _variable(leaf) if tracing else tensor(leaf, requires_grad=True)

        with within(grad_enabled=True, differentiating=True):
            self.variables = tuple(tree_map(trace, args[i]) for i in argnums)
            self.leaves = tree_leaves(list(self.variables))
            # f gets new containers, since it may write into them
            traced = dict(zip(argnums, copy_structure(self.variables)))
            y = call_function(f, [traced.get(i, a) for i, a in enumerate(args)], kwargs)
        aux = None
        if has_aux:
            if not isinstance(y, (tuple, list)) or len(y) != 2:
                raise TypeError(f"with has_aux=True {name_of(f)} returns (result, aux), and it returned {y!r:.60}")
            y, aux = y
        self.y, self.aux = copy_structure(y), copy_structure(aux)
        self.results = tree_leaves(self.y)
        self._check_results(f)
        # A tensor that was made before this call and requires a gradient may be differentiated by an outer transform.
        first = min((t.created for t in self.leaves), default=math.inf)
        ends = self.results + [leaf for leaf in tree_leaves(self.aux) if isinstance(leaf, Tensor)]
        foreign = any(type(a) is Tensor and a.requires_grad and a.created < first
                      for t in tape(*ends, since=first - 1) for a in (t, *t.inputs))
        self.graph = outer and foreign

    def _check_results(self, f: Callable[..., Any]) -> None:
        """Raise TypeError for results that no gradient can flow from."""
        for result in self.results:
            if not isinstance(result, Tensor):
                raise TypeError(f"{name_of(f)} returned {result!r:.60} and no Tensor: it left the tape, through "
                                "t.data, t.item() or math; return a value that needs no gradient as aux (has_aux=True)")
        if self.results and not any(result.dtype.kind == "f" for result in self.results):
            raise TypeError(f"{name_of(f)} returned {self.results[0].dtype} numbers, which are constant almost "
                            "everywhere and have no gradient: return the floats that they are computed from")

    def pullback(self, seeds: list[Any], keep: bool) -> tuple[Any, ...]:
        """Run a backward pass from the results, whose gradients are `seeds`.  Returns those of `variables`, as
        trees."""
        mode = current_mode()
        graph = self.graph or mode.grad_enabled and any(isinstance(s, Tensor) and s.requires_grad for s in seeds)
        as_records, mine = graph or bool(mode.tracing), set(self.leaves)
        with within(grad_enabled=mode.grad_enabled and graph):
            live = [(t, seed_for(t, s, as_records)) for t, s in zip(self.results, seeds) if t.requires_grad]
            roots, seeds = [t for t, _ in live], [s for _, s in live]
            backward = reverse(roots, seeds, self.leaves, create_graph=as_records, keep=keep)
            found = {t: g for t, g, _ in backward if t in mine}
        return self.out(tuple(tree_map(lambda t: found[t] if t in found else np.zeros_like(value_of(t)), variable)
                              for variable in self.variables), graph)

    def out(self, tree: Any, graph: bool) -> Any:
        """Convert a result: arrays for arrays, Tensors for Tensors, and Tensors wherever an outer transform may
        differentiate, or a function is traced."""
        tracing = current_mode().tracing
        if tracing and not graph:
            tree = tree_map(lambda t: t.detach() if isinstance(t, Tensor) and t.requires_grad else t, tree)
        if tracing or graph:
            return tree_map(lambda t: t if isinstance(t, Tensor) else tensor(t), tree)
        if self.given_tensors:
            return tree_map(tensor, tree)
        return tree_map(lambda t: private_copy(t._value() if isinstance(t, Tensor) else t), tree)

    def aux_out(self) -> Any:
        """Convert the Tensors of the aux as `out` does, and leave all else in it as it is."""
        return tree_map(lambda leaf: self.out(leaf, self.graph) if isinstance(leaf, Tensor) else leaf, self.aux)


def _variable(leaf: Any) -> Tensor:
    """Return a copy of `leaf` to differentiate with respect to, while a function is traced: a record, whose origin the
    trace knows, and at which gradients end."""
    leaf = leaf if isinstance(leaf, Tensor) else tensor(leaf)
    if leaf.dtype.kind != "f":
        raise not_floating_error(leaf)
    t = REGISTRY["copy"](leaf)
    t._requires_grad = True
    return t


def value_and_grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0,
                   has_aux: bool = False) -> Callable[..., Any]:
    """Return a function of the same arguments that computes `(f(...), gradient)`.

    `f` returns one element.  The gradient has the structure of argument `argnums` (array, number, Tensor, or a
    nested dict, list, tuple or Module of these); for a list or tuple of argnums it is a tuple.  Negative ones count
    from the last argument.  Given Tensors, it returns Tensors, which can be differentiated again.

        loss, gradient = ag.value_and_grad(loss_of)(model, x, y)

    has_aux: `f` returns `(result, aux)`, where aux is anything not to be differentiated (losses to print, predictions),
    and the function returns `((result, aux), gradient)`.

    Raises TypeError for a result of `f` that no gradient can flow from, ValueError for argnums it was not called with.
    """
    positions = _positions(argnums)

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        traced = _Traced(f, _resolve_positions(positions, f, args), args, kwargs, has_aux)
        if not isinstance(traced.y, Tensor):
            raise TypeError(f"{name_of(f)} returned a {type(traced.y).__name__}; a gradient is of one Tensor: "
                            "use ag.jacobian or ag.vjp for several, or has_aux=True for (result, aux)")
        value = traced.out(traced.y, traced.graph)
        gradients = traced.pullback([None], keep=False)
        return ((value, traced.aux_out()) if has_aux else value,
                gradients if isinstance(argnums, Sequence) else gradients[0])

    return call


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """Return a function of the same arguments that computes the gradient of `f`, or with has_aux=True `(gradient,
    aux)`; `value_and_grad` says the rest."""
    both = value_and_grad(f, argnums, has_aux)

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return call


def vjp(f: Callable[..., Any], *xs: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """Return `(y, pullback)`: y = f(*xs), and pullback(g), the vector-Jacobian products gᵀ J, one for each x.

    `g` has the structure of y.  The pullback can be called any number of times.  With has_aux=True `f` returns
    `(y, aux)`, and `vjp` returns `(y, pullback, aux)`.
    """
    traced = _Traced(f, tuple(range(len(xs))), xs, {}, has_aux)

    def pullback(g: Any) -> tuple[Any, ...]:
        return traced.pullback(leaves_like(traced.y, g), keep=True)

    y = traced.out(traced.y, traced.graph)
    return (y, pullback, traced.aux_out()) if has_aux else (y, pullback)


def jvp(f: Callable[..., Any], xs: tuple, tangents: tuple, has_aux: bool = False) -> tuple[Any, ...]:
    """Return `(y, J t)`: y = f(*xs), and the Jacobian-vector product with `tangents`, one for each x; integer results
    have derivative 0.  With has_aux=True, where `f` returns `(y, aux)`, it is `(y, J t, aux)`.

    gᵀ J is linear in g, so its derivative with respect to g, applied to t, is J t: two backward passes make a
    forward-mode derivative, with no second set of rules (Townsend 2017).
    """
    if len(xs) != len(tangents):
        raise ValueError(f"jvp needs a tangent for each of the {len(xs)} arguments, not {len(tangents)}")

    def zeros_like(a: Any) -> Any:  # of floats even for an integer result, whose derivative is 0
        a = value_of(a) if isinstance(a, Tensor) else a
        return np.zeros_like(a, dtype=a.dtype if has_floats(a) else float)

    for i, (x, tangent) in enumerate(zip(map(tree_leaves, xs), map(tree_leaves, tangents))):
        if (shapes := list(map(np.shape, x))) != (given := list(map(np.shape, tangent))):
            raise ValueError(f"tangent {i} has the shape {', '.join(map(str, given))}, and needs that of its argument: "
                             f"{', '.join(map(str, shapes))}")
    y, pullback, *aux = vjp(f, *xs, has_aux=has_aux)
    zeros = tree_map(zeros_like, y)
    derivative = vjp(pullback, zeros)[1](tuple(tangents))[0]
    if any(isinstance(leaf, Tensor) for leaf in tree_leaves(y)):  # Tensors in, Tensors out; arrays in, arrays out
        derivative = tree_map(lambda t: t if isinstance(t, Tensor) else tensor(t), derivative)
    else:
        derivative = tree_map(lambda t: private_copy(t._value()) if isinstance(t, Tensor) else t, derivative)
    return (y, derivative, *aux)


def jacobian(f: Callable[..., Any], argnums: int = 0, has_aux: bool = False) -> Callable[..., Any]:
    """Return a function that computes the Jacobian of `f`, of shape (*y.shape, *x.shape), by one backward pass for each
    element of y.  With has_aux=True, where `f` returns `(y, aux)`, it returns `(Jacobian, aux)`."""
    if isinstance(argnums, Sequence):
        raise TypeError(f"a Jacobian is with respect to one argument: argnums is its position, not {argnums!r:.60}")
    positions = _positions(argnums)

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        traced = _Traced(f, _resolve_positions(positions, f, args), args, kwargs, has_aux)
        y, x = traced.y, traced.variables[0]
        if not isinstance(y, Tensor) or not isinstance(x, Tensor):
            raise TypeError("a Jacobian is of one array with respect to one array, and "
                            f"{name_of(f)} takes or returns several")
        rows = []
        for i in range(y.size):
            one = np.zeros_like(value_of(y), shape=(y.size,))
            one[i] = 1
            rows.append(traced.pullback([one.reshape(y.shape)], keep=True)[0].reshape((1, *x.shape)))
        empty = np.zeros_like(value_of(x), shape=(0, *x.shape))
        j = (np.concatenate(rows) if rows else empty).reshape(y.shape + x.shape)
        return (j, traced.aux_out()) if has_aux else j

    return call


def hessian(f: Callable[..., Any], argnums: int = 0, has_aux: bool = False) -> Callable[..., Any]:
    """Return a function that computes the Hessian of a scalar `f`, of shape (*x.shape, *x.shape).  With has_aux=True,
    where `f` returns `(y, aux)`, it returns `(Hessian, aux)`."""
    return jacobian(grad(f, argnums, has_aux), argnums, has_aux)


def hvp(f: Callable[..., Any], x: Any, v: Any, has_aux: bool = False) -> Any:
    """Return the Hessian-vector product H v of a scalar `f` at `x`; `v` has x's structure.  H is not computed: it is
    symmetric, so one backward pass through the gradient gives vᵀ H = H v.  With has_aux=True, where `f` returns
    `(y, aux)`, it is `(H v, aux)`."""
    _, pullback, *aux = vjp(grad(f, has_aux=has_aux), x, has_aux=has_aux)
    return (pullback(v)[0], *aux) if has_aux else pullback(v)[0]


def stop_gradient(x: Any) -> Any:
    """Return the same values as constants, for the gradient and for every transform: of an array (as it is), a Tensor,
    or a dict, list, tuple or Module of them.

        loss = np.square(prediction - ag.stop_gradient(target)).mean()
        y = x + ag.stop_gradient(np.round(x) - x)      # rounds, with the gradient of x ("straight-through")
    """
    return tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, x)


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return `f` with gradient checkpointing (rematerialization): the values inside it are freed once its results are
    known, and recomputed when a backward pass (of any order) needs them.  (Chen et al. 2016.)"""
    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        start = now()
        results = f(*args, **kwargs)
        kept = {t for t in tree_leaves(results) if isinstance(t, Tensor)}
        for t in tape(*kept, since=start):
            if t not in kept:
                free(t)
        return results

    return call


def call_function(f: Callable[..., Any], args: list, kwargs: dict) -> Any:
    """Return f(*args, **kwargs), with the Tensor's own error for `array[i] = t`: NumPy wraps it in a ValueError."""
    try:
        return f(*args, **kwargs)
    except ValueError as error:
        if isinstance(cause := error.__cause__, NumberError):
            raise cause.with_traceback(error.__traceback__) from None
        raise


def _positions(argnums: Any) -> tuple[int, ...]:
    """Return argnums as a tuple.  Raises TypeError unless they are integers, Python's or NumPy's."""
    positions = argnums if isinstance(argnums, Sequence) else (argnums,)
    if not all(isinstance(i, (int, np.integer)) and not isinstance(i, bool) for i in positions):
        raise TypeError(f"argnums is the position of an argument, or a list or tuple of several, not {argnums!r:.60}")
    return tuple(map(int, positions))


def _resolve_positions(positions: tuple[int, ...], f: Callable[..., Any], args: tuple) -> tuple[int, ...]:
    """Return positions as indices of the arguments of a call, negative ones too.  Raises ValueError for an argument
    that is missing, or named twice."""
    found = tuple([i + len(args) if i < 0 else i for i in positions])
    if len(set(found)) < len(found) or not all(0 <= i < len(args) for i in found):
        raise ValueError(f"argnums {positions} for {name_of(f)}, which was called with {len(args)} positional "
                         "arguments: they count from 0, negative ones from the last, and each stands there once")
    return found


def name_of(f: Callable[..., Any]) -> str:
    """Return the name of a function for messages."""
    return getattr(f, "__name__", repr(f))
