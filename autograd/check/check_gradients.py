"""`check_grads`: the gradients of a function, and their gradients, against finite differences."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.errors import point_at
from ..core.tree import is_module, tree_leaves
from ..engine import Tensor, tape, tensor
from ..transform import vjp
from .comparison import Comparison
from .diagnosis import Swaps, broadcasts, likely_cause, no_swaps


def check_grads(f: Callable[..., Any], *xs: Any, order: int = 2, seed: int = 0) -> None:
    """Compare the gradients of `f` at arrays `xs` with finite differences, in float64, and then the gradients of
    those gradients, up to `order`.

    `f` returns an array or a tree of arrays, of any shapes; the sum of all their elements with random weights is
    differentiated.  The step size of the differences is found for each element by trial.  A derivative passes if it
    differs by no more than 1e-6 of itself and the measured uncertainty of the differences.  Of an input with more than
    64 elements, 64 are tried.

    Raises AssertionError with the input, the worst element, both values and a likely cause; ValueError with the
    input, the element and its value where there is nothing to compare with: `f` has a kink or a jump there, is not
    finite, goes through an op whose rule is meant not to be the derivative (`surrogate=`), or rounding hides the
    derivative (it is not known to 5e-5 of the largest in that array).  Where all derivatives in an array are 0 up to
    rounding, they are compared with 0.
    """
    if not xs:
        raise ValueError("nothing to check: pass the arrays at which f is to be differentiated")
    for i, x in enumerate(xs):
        if isinstance(x, dict) or is_module(x):
            raise TypeError(f"argument {i} is a {type(x).__name__}, and check_grads takes arrays: of p = {{'w': w}} "
                            "write check_grads(lambda w: f({'w': w}), w)")
    values = [np.array(x._value() if isinstance(x, Tensor) else x, dtype=np.float64) for x in xs]
    results = tree_leaves(f(*[tensor(x, requires_grad=True) for x in values]))
    for t in tape(*[y for y in results if isinstance(y, Tensor)]):
        _refuse_surrogates(t)
    check_orders(f, values, [f"argument {i}" for i in range(len(xs))], order, np.random.default_rng(seed))


def _refuse_surrogates(t: Tensor) -> None:
    """Raise ValueError if a rule of the record `t` is meant not to be the derivative."""
    op, places = t.op, [i for i, a in enumerate(t.inputs) if isinstance(a, Tensor) and a.requires_grad]
    for surrogate, (i, *_) in op.rules.group_by_surrogate(places).items() if op is not None else ():
        if surrogate is not None:
            raise point_at(t, ValueError(
                f"nothing to compare with: the gradient of {op.name} for its input {op.input_name(i)} is intended not "
                "to be the derivative (surrogate=): check_op checks that op, and check_grads what stands around it"))


def check_orders(f: Callable[..., Any], xs: list[np.ndarray], names: list[str], order: int, rng: np.random.Generator,
                 title: str = "", swaps: Swaps = no_swaps, measures: bool = True) -> None:
    """Check the gradient of the weighted results of `f` (unless not `measures`), then that of this gradient, as a
    function of the weights and of `xs`, up to `order`.  `title` says in errors what is checked."""
    if not xs:
        return
    comparison = Comparison(f, xs, names, rng)
    if not comparison.ys:
        raise ValueError(f"nothing to check: {title or 'f'} returned no array of floating-point numbers")
    prefix = f"{title}: " if title else ""
    _apply_rules(comparison, prefix)
    if measures:
        comparison.measure()
        for failure in filter(None, comparison.failures):
            raise failure
        for i, name in enumerate(names):
            _raise_if_wrong(comparison, i, f"{prefix}gradient of {name}", swaps)
    if order > 1:
        n, f = len(comparison.ys), comparison.f
        check_orders(lambda *all_xs: vjp(f, *all_xs[n:])[1](all_xs[:n]), comparison.weights + xs,
                     ["g" if n == 1 else f"g[{i}]" for i in range(n)] + names, order - 1, rng,
                     f"{prefix}in the gradient")


def _apply_rules(comparison: Comparison, prefix: str) -> None:
    """Compute the gradients by the rules.  Raises AssertionError for a rule that writes into g, or that returns a shape
    that no sum over broadcast axes turns into the input's."""
    try:
        comparison.apply_rules()
    except ValueError as error:
        if "read-only" in str(error):
            raise AssertionError(f"{prefix or 'f: '}a gradient rule changes g in place: work on a copy") from error
        text = str(error).partition("\n")[0]
        shapes = re.fullmatch(r"a gradient rule returned shape \((.*)\) for an input of shape \((.*)\)", text)
        if not shapes:
            raise
        got, wanted = [tuple(map(int, re.findall(r"\d+", shape))) for shape in shapes.groups()]
        causes = ["is it transposed?"] if got in (wanted[::-1], wanted[:-2] + wanted[:-3:-1]) else []
        if got in [x.shape for x in comparison.xs] and not broadcasts(got, wanted):
            causes.append("is it the gradient of another input, and are two rules swapped?")
        cause = " Or ".join(causes) or "is it summed over an axis that is not broadcast, or not brought back?"
        raise AssertionError(f"{prefix}{text}, which cannot be restored: {cause}") from error


def _raise_if_wrong(comparison: Comparison, i: int, title: str, swaps: Swaps) -> None:
    """Raise AssertionError if the two gradients of input i differ."""
    if comparison.disagrees(i).any():
        worst = comparison.worst_index(i)
        analytic, numeric = comparison.analytic[i][worst], comparison.numeric[i][worst]
        raise AssertionError(f"{title} is wrong: at index {worst} it is {analytic:.8g}, and finite differences give "
                             f"{numeric:.8g}.  {likely_cause(comparison, i, swaps)}")
