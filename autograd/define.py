"""Definition of ops and composed functions: `op`, `composed`, and how an op is pickled."""

from __future__ import annotations

import copyreg
import functools
import importlib
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from .core.arrays import as_tuple
from .core.mode import scope
from .core.registry import FUNCTIONS, NUMPY_OVERRIDES, REGISTRY, module_of
from .core.signature import is_ufunc, signature_of
from .engine import Op


def op(formula: Any = None, *, differentiable: bool = True, implements: Any = None,
       answers: Any = None) -> Any:
    """Make a function of arrays an op: one that accepts Tensors, is recorded, and has a gradient.

    Write the formula, and under it a VJP rule, the gradient, for each input:

        import numpy as np
        import autograd as ag

        @ag.op
        def swish(x, beta=1.0):
            \"""y = x / (1 + exp(−βx))\"""
            return x / (1 + np.exp(-beta * x))

        @swish.gradient("x")
        def _(g, y, x, beta=1.0):
            \"""∂L/∂x = g ⊙ (s + β y (1 − s)), s = 1 / (1 + exp(−βx))\"""
            s = 1 / (1 + np.exp(-beta * x))
            return g * (s + beta * y * (1 - s))

        ag.check_op(swish, [(np.linspace(-3, 3, 7),), (np.ones((2, 3)), {"beta": 2.0})])

    Parameters without a default are inputs, those with one are attributes, which are never Tensors (unless a rule names
    one: that makes it an input).  `*xs` stands for any number of inputs, given as one list.  A formula may return a
    tuple of arrays; its `g` and `y` are tuples then.  A result that holds integers or booleans is a constant.

    A rule gets g, the gradient of the result y, then y and the arguments of the formula.  It is written with operators,
    methods, `np.` functions and other ops, so that it can be differentiated again; it neither sums over broadcast axes
    nor casts, for the engine does.  One rule may serve several inputs and return a tuple (`.gradient("q", "k")`), or
    all of a list (`.gradient("*xs")`).

    Formula and rules are pure: they change none of their arguments, and return the same each time, since a value that
    backward has freed is recomputed when it is asked for.  So noise is an input, drawn outside (`x * mask`; by
    `ag.resampled` in a captured program).  They may return an argument, or a view of one.

    A rule that is meant not to be the derivative is registered with a surrogate: the function whose derivative it is,
    or True if there is none (a clipped gradient, say).  `check_op` compares it with that, and `explain` names it:

        @ag.op
        def step(x):
            return np.where(x > 0, 1.0, 0.0).astype(x.dtype)

        @step.gradient("x", surrogate=lambda x: x)
        def _(g, y, x):
            \"""∂L/∂x = g, straight through (Bengio et al. 2013)\"""
            return g

    A ufunc of another library becomes an op as it is, and is then called by its own name, with Tensors too:

        from scipy.special import expit
        ag.op(expit).gradient("x")(lambda g, y, x: g * y * (1 - y))

    Its inputs are called x, or x and y, or x1, x2, x3 …; Numba's have the names of the function they are made of.

    implements: the NumPy function (or several) that calls this op when it is given Tensors; without it, the one named
    like the op, if there is one (`answers` is an older name of this argument).  differentiable=False: no gradient
    flows, and none is needed, as the result is constant almost everywhere (a comparison, say).  With
    `swish.batching = "elementwise"` `ag.vmap` computes it for a whole batch at once: help(ag.vmap) has the other words.

    The op is `ag.REGISTRY["swish"]` and `ag.swish` from then on.  Defining it again in the same module replaces it.

    Raises TypeError at once for a rule of an unknown input or with other parameters than the formula's, and for a
    parameter `**kwargs` or a keyword without a default; ValueError for a name that another module has taken.  A call
    in which an input requires a gradient and has no rule is a TypeError.
    """
    if formula is not None and not hasattr(formula, "__name__"):
        raise TypeError(f"an op is made of a function that def has named, and not of {formula!r:.60}")
    implements = answers if implements is None else implements
    if formula is None:
        return functools.partial(op, differentiable=differentiable, implements=implements)
    if is_ufunc(formula) and implements is None:
        implements = [formula, *filter(is_ufunc, [getattr(formula, "ufunc", None)])]  # Numba's have NumPy's inside
    if isinstance(formula, np.ufunc) and all("O" in types for types in formula.types):
        formula = _formula_of_objects(formula)
    return _register(Op(formula, differentiable), formula, REGISTRY, implements)


def _formula_of_objects(ufunc: np.ufunc) -> Callable[..., Any]:
    """Turn a ufunc of `np.frompyfunc`, which computes with Python's objects, into a formula of numbers."""
    def formula(*xs: Any) -> Any:
        floats = [x.dtype for x in xs if getattr(x, "dtype", np.dtype(int)).kind == "f"]
        y = ufunc(*xs)
        made = [np.asarray(a).astype(np.result_type(*floats or [float])) for a in as_tuple(y)]
        return tuple(made) if type(y) is tuple else made[0]

    formula.__name__ = formula.__qualname__ = ufunc.__name__.removesuffix(" (vectorized)")
    formula.__module__, formula.__doc__ = module_of(ufunc), "A function of Python's numbers, for each element."
    formula.__signature__ = signature_of(ufunc)  # type: ignore[attr-defined]
    return formula


def composed(function: Any = None, *, implements: Any = None) -> Any:
    """Register a function made of ops, which needs no rule: under its name, as `op` does with an op.  Its records get a
    scope of that name."""
    if function is None:
        return functools.partial(composed, implements=implements)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with scope(function.__name__):
            return function(*args, **kwargs)

    name, module = function.__name__, sys.modules[function.__module__]
    call.__qualname__ = name
    if not hasattr(module, name):  # one that a table makes, which pickle looks for in its module
        setattr(module, name, call)
    return _register(call, function, FUNCTIONS, implements)


def _register(made: Any, function: Callable[..., Any], table: dict[str, Any], implements: Any) -> Any:
    """Enter `made` under the name of `function`, in place of an earlier definition in the same module."""
    name = function.__name__
    if not name.isidentifier() or name in vars(sys.modules["autograd"]):
        raise ValueError(f"{name!r} cannot be the name of an op, as ag.{name} would not reach it: choose another")
    if implements is None:
        named_alike = getattr(np, name, None)
        implements = named_alike if callable(named_alike) else ()
    overrides = tuple(implements) if isinstance(implements, (list, tuple, set)) else (implements,)
    if not all(map(callable, overrides)):
        raise TypeError(f"implements= takes a NumPy function or several, such as np.sinc, and not {implements!r:.60}")
    if (old := REGISTRY.get(name) or FUNCTIONS.get(name)) and _origin(old) != module_of(function):
        raise ValueError(f"ag.{name} is there already, from {_origin(old) or 'a ufunc'}: choose another name, such as "
                         f"that of a function that calls it, and @ag.op(implements=it)")
    for override in overrides:
        owner = NUMPY_OVERRIDES.get(override)
        if owner is not None and _origin(owner) != module_of(function):
            raise ValueError(f"{_origin(owner)} implements {override.__name__} already: call yours by its own name")
    if old:
        for registry in (REGISTRY, FUNCTIONS, NUMPY_OVERRIDES):
            for key in [key for key, value in registry.items() if value is old]:
                del registry[key]
    table[name] = made
    NUMPY_OVERRIDES.update(dict.fromkeys(overrides, made))
    return made


def _origin(op_or_function: Any) -> str:
    """Return the module that an op or composed function is from."""
    return module_of(getattr(op_or_function, "formula", op_or_function))


def _find_op(name: str, module: str) -> Any:
    """Return the op that was pickled as `name`, after importing `module`, which defines it, if need be."""
    if name not in REGISTRY:
        with suppress(ImportError, ValueError):  # the latter of no name: a ufunc's module is not known
            importlib.import_module(module)
    if name not in REGISTRY:
        raise LookupError(f"there is no op {name!r} here, and importing {module or 'autograd'} defines none: define it "
                          "as where it was pickled before loading this")
    return REGISTRY[name]


def _reduce(op: Op) -> Any:
    """Return the recipe by which pickle and copy make an op: its name in the registry; the name in its module if
    another op has taken the first one."""
    return (_find_op, (op.name, _origin(op))) if REGISTRY.get(op.name) is op else op.formula.__qualname__


copyreg.pickle(Op, _reduce)
