"""How ops and functions become known: to `ag.name`, to NumPy's functions, and to the table of what is supported."""

from __future__ import annotations

import copyreg
import functools
import importlib
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from .core.arrays import parts_of
from .core.methods import ANSWERS, FUNCTIONS, REGISTRY, module_of
from .core.mode import scope
from .core.signature import is_ufunc, signature_of
from .engine import Op


def op(formula: Any = None, *, differentiable: bool = True, answers: Any = None) -> Any:
    """Make a function of arrays an op, which Tensors can go through and gradients come back.

    Write the formula, and under it a rule for the gradient of each input:

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

    Parameters without a default are inputs, those with one are settings, which are never Tensors (unless a rule names
    one: that makes it an input).  `*xs` stands for any number of inputs, given as one list.  A formula may return a
    tuple of arrays; its `g` and `y` are tuples then.  A result that holds integers or booleans is a constant.

    A rule gets g, the gradient of the result y, and then what the formula got.  It is written with operators, methods,
    `np.` functions and other ops, so that it can be differentiated again; it neither sums over broadcast axes nor
    casts, for the engine does.  One rule may serve several inputs and return a tuple (`.gradient("q", "k")`), or all of
    a list (`.gradient("*xs")`).

    Formula and rules are pure: they change nothing that they are given, and give the same each time, since a value that
    backward has freed is computed again when it is asked for.  So noise is an input, drawn outside (`x * mask`; by
    `ag.resampled` in a recorded program).  They may return what they are given, or views of it.

    A rule that is meant not to be the derivative says so where it is registered, with the function whose derivative it
    is in place of the formula, or True if there is none (a gradient that is clipped, say).  `check_op` compares it with
    that, and `explain` says that it is intended:

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

    answers: the NumPy function (or several) that the op stands in for when it is given Tensors; without it, the one
    named like the op, if there is one.  differentiable=False: no gradient flows, and none is needed, as the result is
    constant almost everywhere (a comparison, say).  `swish.batching = "elementwise"` lets `ag.vmap` compute it for a
    whole batch at once: help(ag.vmap) has the other words.

    The op is `ag.REGISTRY["swish"]` and `ag.swish` from then on.  Defining it again in the same module replaces it.

    Raises TypeError at once for a rule of an unknown input or with other parameters than the formula's, and for a
    parameter `**kwargs` or a keyword without a default; ValueError for a name that another module has taken.  A call
    in which an input requires a gradient and has no rule is a TypeError.
    """
    if formula is not None and not hasattr(formula, "__name__"):
        raise TypeError(f"an op is made of a function that def has named, and not of {formula!r:.60}")
    if formula is None:
        return functools.partial(op, differentiable=differentiable, answers=answers)
    if is_ufunc(formula) and answers is None:
        answers = [formula, *filter(is_ufunc, [getattr(formula, "ufunc", None)])]  # Numba's have NumPy's inside
    if isinstance(formula, np.ufunc) and all("O" in types for types in formula.types):
        formula = _of_objects(formula)
    return _known(Op(formula, differentiable), formula, REGISTRY, answers)


def _of_objects(ufunc: np.ufunc) -> Callable[..., Any]:
    """Turn a ufunc of `np.frompyfunc`, which computes with Python's objects, into a formula of numbers."""
    def formula(*xs: Any) -> Any:
        floats = [x.dtype for x in xs if getattr(x, "dtype", np.dtype(int)).kind == "f"]
        y = ufunc(*xs)
        made = [np.asarray(part).astype(np.result_type(*floats or [float])) for part in parts_of(y)]
        return tuple(made) if type(y) is tuple else made[0]

    formula.__name__ = formula.__qualname__ = ufunc.__name__.removesuffix(" (vectorized)")
    formula.__module__, formula.__doc__ = module_of(ufunc), "A function of Python's numbers, for each element."
    formula.__signature__ = signature_of(ufunc)  # type: ignore[attr-defined]
    return formula


def composed(function: Any = None, *, answers: Any = None) -> Any:
    """Make known a function that is composed of ops and needs no rule: under its name, as `op` does with an op, and in
    the tape, where what it records stands in a scope of that name."""
    if function is None:
        return functools.partial(composed, answers=answers)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with scope(function.__name__):
            return function(*args, **kwargs)

    name, module = function.__name__, sys.modules[function.__module__]
    call.__qualname__ = name
    if not hasattr(module, name):  # one that a table makes, which pickle looks for in its module
        setattr(module, name, call)
    return _known(call, function, FUNCTIONS, answers)


def _known(made: Any, function: Callable[..., Any], table: dict[str, Any], answers: Any) -> Any:
    """Enter `made` under the name of `function`, in place of what that module defined before under it."""
    name = function.__name__
    if not name.isidentifier() or name in vars(sys.modules["autograd"]):
        raise ValueError(f"{name!r} cannot be the name of an op, as ag.{name} would not reach it: choose another")
    if answers is None:
        named_alike = getattr(np, name, None)
        answers = named_alike if callable(named_alike) else ()
    answers = tuple(answers) if isinstance(answers, (list, tuple, set)) else (answers,)
    if not all(map(callable, answers)):
        raise TypeError(f"answers= takes a NumPy function or several, such as np.sinc, and not {answers!r:.60}")
    if (old := REGISTRY.get(name) or FUNCTIONS.get(name)) and _origin(old) != module_of(function):
        raise ValueError(f"ag.{name} is there already, from {_origin(old) or 'a ufunc'}: choose another name, such as "
                         f"that of a function that calls it, and @ag.op(answers=it)")
    for answered in answers:
        owner = ANSWERS.get(answered)
        if owner is not None and _origin(owner) != module_of(function):
            raise ValueError(f"{_origin(owner)} answers for {answered.__name__} already: call yours by its own name")
    if old:
        for known in (REGISTRY, FUNCTIONS, ANSWERS):
            for key in [key for key, value in known.items() if value is old]:
                del known[key]
    table[name] = made
    ANSWERS.update(dict.fromkeys(answers, made))
    return made


def _origin(known: Any) -> str:
    """The module that an op or function is from."""
    return module_of(getattr(known, "formula", known))


def _named(name: str, module: str) -> Any:
    """Find an op by the name it was pickled as, importing `module`, which defines it, if need be."""
    if name not in REGISTRY:
        with suppress(ImportError, ValueError):  # the latter of no name: a ufunc's module is not known
            importlib.import_module(module)
    if name not in REGISTRY:
        raise LookupError(f"there is no op {name!r} here, and importing {module or 'autograd'} defines none: define it "
                          "as where it was pickled before loading this")
    return REGISTRY[name]


def _by_name(known: Op) -> Any:
    """An op for pickle and copy.  One that is not known is what its module calls it; another has taken its name, if
    that is not so."""
    return (_named, (known.name, _origin(known))) if REGISTRY.get(known.name) is known else known.formula.__qualname__


copyreg.pickle(Op, _by_name)
