"""Functions made from functions: gradients, products with Jacobians, Jacobians, and less memory."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .core.arrays import has_floats, own
from .core.errors import NumberError, not_floating_error
from .core.leaf import now
from .core.mode import current_mode, within
from .core.recompute import free, value_of
from .core.registry import REGISTRY
from .core.tree import copy_structure, leaves_like, tree_leaves, tree_map
from .engine import Tensor, reverse, seed_for, tape, tensor


class _Traced:
    """A call of `f` with the arguments at `argnums` made into tensors of its own, and the way back from it.

    A Tensor argument goes in as a recorded copy, so that an outer transform still sees where it came from, and
    a function that also holds that Tensor in a closure does not mix the two up.
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
            # f gets containers of its own, since it may put other values into them
            traced = dict(zip(argnums, copy_structure(self.variables)))
            y = called(f, [traced.get(i, a) for i, a in enumerate(args)], kwargs)
        aux = None
        if has_aux:
            if not isinstance(y, (tuple, list)) or len(y) != 2:
                raise TypeError(f"with has_aux=True {name_of(f)} returns (result, aux), and it returned {y!r:.60}")
            y, aux = y
        self.y, self.aux = copy_structure(y), copy_structure(aux)
        self.results = tree_leaves(self.y)
        self._check_results(f)
        # What requires a gradient and was made since is known to nobody outside.
        first = min((t.created for t in self.leaves), default=math.inf)
        ends = self.results + [leaf for leaf in tree_leaves(self.aux) if isinstance(leaf, Tensor)]
        foreign = any(type(a) is Tensor and a.requires_grad and a.created < first
                      for t in tape(*ends, since=first - 1) for a in (t, *t.inputs))
        self.graph = outer and foreign  # somebody outside may differentiate what comes out

    def _check_results(self, f: Callable[..., Any]) -> None:
        """Raise TypeError for results that no gradient can come back from."""
        for result in self.results:
            if not isinstance(result, Tensor):
                raise TypeError(f"{name_of(f)} returned {result!r:.60} and no Tensor: it left the tape on the way, "
                                "through t.data, t.item() or math; what is only to be handed on is an aux "
                                "(has_aux=True)")
        if self.results and not any(result.dtype.kind == "f" for result in self.results):
            raise TypeError(f"{name_of(f)} returned {self.results[0].dtype} numbers, which are constant almost "
                            "everywhere and have no gradient: return what they are computed from")

    def pullback(self, seeds: list[Any], keep: bool) -> tuple[Any, ...]:
        """The gradients of `variables`, as trees, for `seeds`, the gradients of the results."""
        mode = current_mode()
        graph = self.graph or mode.grad_enabled and any(isinstance(s, Tensor) and s.requires_grad for s in seeds)
        as_records, mine = graph or bool(mode.tracing), set(self.leaves)
        with within(grad_enabled=mode.grad_enabled and graph):
            live = [(t, seed_for(t, s, as_records)) for t, s in zip(self.results, seeds) if t.requires_grad]
            walk = reverse([t for t, _ in live], [s for _, s in live], self.leaves, create_graph=as_records, keep=keep)
            found = {t: g for t, g, _ in walk if t in mine}
        return self.out(tuple(tree_map(lambda t: found[t] if t in found else np.zeros_like(value_of(t)), variable)
                              for variable in self.variables), graph)

    def out(self, tree: Any, graph: bool) -> Any:
        """Arrays in, arrays out; Tensors in, Tensors out; and Tensors wherever there is more to differentiate, or
        somebody is tracing."""
        tracing = current_mode().tracing
        if tracing and not graph:
            tree = tree_map(lambda t: t.detach() if isinstance(t, Tensor) and t.requires_grad else t, tree)
        if tracing or graph:
            return tree_map(lambda t: t if isinstance(t, Tensor) else tensor(t), tree)
        if self.given_tensors:
            return tree_map(tensor, tree)
        return tree_map(lambda t: own(t._value() if isinstance(t, Tensor) else t), tree)

    def aux_out(self) -> Any:
        """What f returned beside its result, as `out` hands it on; what is neither array nor Tensor as it is."""
        return tree_map(lambda leaf: self.out(leaf, self.graph) if isinstance(leaf, Tensor) else leaf, self.aux)


def _variable(leaf: Any) -> Tensor:
    """A copy of `leaf` to differentiate by, while a function is traced: a record, so that it is known where it came
    from, at which gradients end."""
    leaf = leaf if isinstance(leaf, Tensor) else tensor(leaf)
    if leaf.dtype.kind != "f":
        raise not_floating_error(leaf)
    t = REGISTRY["copy"](leaf)
    t._requires_grad = True
    return t


def value_and_grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0,
                   has_aux: bool = False) -> Callable[..., Any]:
    """A function of the same arguments that returns `(f(...), gradient)`.

    `f` returns one element.  The gradient has the structure of argument `argnums` (array, number, Tensor, or a
    nested dict, list, tuple or Module of these); for a list or tuple of argnums it is a tuple.  Negative ones count
    from the last argument.  Given Tensors, it returns Tensors, which can be differentiated again.

    has_aux: `f` returns `(result, aux)`, aux being anything that is to be handed on and not differentiated (losses to
    print, predictions), and the function returns `((result, aux), gradient)`.
    """
    positions = _positions(argnums)

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        traced = _Traced(f, _of_call(positions, f, args), args, kwargs, has_aux)
        if not isinstance(traced.y, Tensor):
            raise TypeError(f"{name_of(f)} returned a {type(traced.y).__name__}; a gradient is that of one Tensor: "
                            "use ag.jacobian or ag.vjp for several, or has_aux=True for (result, aux)")
        value = traced.out(traced.y, traced.graph)
        gradients = traced.pullback([None], keep=False)
        return ((value, traced.aux_out()) if has_aux else value,
                gradients if isinstance(argnums, Sequence) else gradients[0])

    return call


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function of the same arguments that returns the gradient of `f`, or with has_aux=True `(gradient, aux)`: see
    `value_and_grad`."""
    both = value_and_grad(f, argnums, has_aux)

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return call


def vjp(f: Callable[..., Any], *xs: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """`(y, pullback)`: y = f(*xs), and pullback(g) = gᵀ J, a tuple with one item for each x.

    `g` has the structure of y.  The pullback can be called any number of times.  With has_aux=True `f` returns
    `(y, aux)`, and this `(y, pullback, aux)`.
    """
    traced = _Traced(f, tuple(range(len(xs))), xs, {}, has_aux)

    def pullback(g: Any) -> tuple[Any, ...]:
        return traced.pullback(leaves_like(traced.y, g), keep=True)

    y = traced.out(traced.y, traced.graph)
    return (y, pullback, traced.aux_out()) if has_aux else (y, pullback)


def jvp(f: Callable[..., Any], xs: tuple, tangents: tuple, has_aux: bool = False) -> tuple[Any, ...]:
    """`(y, J t)`: the value of f(*xs) and its derivative in the direction of `tangents`, one for each x; results that
    are integers have derivative 0.  With has_aux=True, where `f` returns `(y, aux)`, it is `(y, J t, aux)`.

    gᵀ J is linear in g, so its own derivative with respect to g, applied to t, is J t: two walks back make one
    walk forward, with no second set of rules (Townsend 2017).
    """
    if len(xs) != len(tangents):
        raise ValueError(f"jvp needs a tangent for each of the {len(xs)} arguments, not {len(tangents)}")

    def zeros_like(a: Any) -> Any:  # floats for a result of integers too, whose derivative is 0
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
        derivative = tree_map(lambda t: own(t._value()) if isinstance(t, Tensor) else t, derivative)
    return (y, derivative, *aux)


def jacobian(f: Callable[..., Any], argnums: int = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the Jacobian of `f`, of shape (*y.shape, *x.shape): one walk back for each
    element of y.  With has_aux=True, where `f` returns `(y, aux)`, it returns `(Jacobian, aux)`."""
    if isinstance(argnums, Sequence):
        raise TypeError(f"a Jacobian is by one argument: argnums is its position, not {argnums!r:.60}")
    positions = _positions(argnums)

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        traced = _Traced(f, _of_call(positions, f, args), args, kwargs, has_aux)
        y, x = traced.y, traced.variables[0]
        if not isinstance(y, Tensor) or not isinstance(x, Tensor):
            raise TypeError(f"a Jacobian is that of one array by one array; {name_of(f)} takes or returns several")
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
    """A function that returns the second derivatives of a scalar `f`, of shape (*x.shape, *x.shape).  With
    has_aux=True, where `f` returns `(y, aux)`, it returns `(Hessian, aux)`."""
    return jacobian(grad(f, argnums, has_aux), argnums, has_aux)


def hvp(f: Callable[..., Any], x: Any, v: Any, has_aux: bool = False) -> Any:
    """The Hessian of the scalar function `f` at `x` times `v` (of x's structure), without the Hessian: it is
    symmetric, so one walk back through the gradient gives vᵀ H = H v.  With has_aux=True, where `f` returns `(y, aux)`,
    `(H v, aux)`."""
    _, pullback, *aux = vjp(grad(f, has_aux=has_aux), x, has_aux=has_aux)
    return (pullback(v)[0], *aux) if has_aux else pullback(v)[0]


def stop_gradient(x: Any) -> Any:
    """The same numbers as constants, to the gradient and to every transform: an array (as it is) or a Tensor, or a
    dict, list, tuple or Module of them.

        loss = np.square(prediction - ag.stop_gradient(target)).mean()
        y = x + ag.stop_gradient(np.round(x) - x)      # rounds, with the gradient of x ("straight-through")
    """
    return tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, x)


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f` in less memory: the values inside it are freed once its results are known, and computed again when
    a walk back (of any order) comes by.  (Chen et al. 2016.)"""
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


def called(f: Callable[..., Any], args: list, kwargs: dict) -> Any:
    """f(*args, **kwargs).  NumPy hides what a Tensor says to `array[i] = t` behind an error of its own: raised is that
    of the Tensor, while f is being differentiated or traced."""
    try:
        return f(*args, **kwargs)
    except ValueError as error:
        if isinstance(cause := error.__cause__, NumberError):
            raise cause.with_traceback(error.__traceback__) from None
        raise


def _positions(argnums: Any) -> tuple[int, ...]:
    """The positions of arguments: whole numbers, Python's or NumPy's.  Raises TypeError for anything else."""
    positions = argnums if isinstance(argnums, Sequence) else (argnums,)
    if not all(isinstance(i, (int, np.integer)) and not isinstance(i, bool) for i in positions):
        raise TypeError(f"argnums is the position of an argument, or a list or tuple of several, not {argnums!r:.60}")
    return tuple(map(int, positions))


def _of_call(positions: tuple[int, ...], f: Callable[..., Any], args: tuple) -> tuple[int, ...]:
    """The positions among the arguments of a call, those that count from the last too.  Raises ValueError for one that
    is not there, or there twice."""
    found = tuple([i + len(args) if i < 0 else i for i in positions])
    if len(set(found)) < len(found) or not all(0 <= i < len(args) for i in found):
        raise ValueError(f"argnums {positions} for {name_of(f)}, which was called with {len(args)} positional "
                         "arguments: they count from 0, negative ones from the last, and each stands there once")
    return found


def name_of(f: Callable[..., Any]) -> str:
    return getattr(f, "__name__", repr(f))
