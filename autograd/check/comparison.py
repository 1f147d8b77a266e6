"""The gradients of a function by its VJP rules, beside those by finite differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..core.arrays import as_tuple, check_result, has_floats
from ..core.describe import describe
from ..core.mode import no_grad
from ..core.tree import tree_leaves
from ..engine import Op, Tensor, tensor
from ..transform import vjp
from .finite_differences import measure_derivatives

_RELATIVE = 1e-6  # difference that passes, relative to the derivative, besides the error of its measurement


class Comparison:
    """The gradients of the sum of all floating-point results of `f`, weighted at random, at the arrays `xs`.

    `apply_rules` sets `analytic`, `measure` sets `numeric` and `errors`, one array for each input.  `evaluate` computes
    the same as f on plain arrays; by default f itself does, on Tensors without recording.
    """

    def __init__(self, f: Callable[..., Any], xs: list[np.ndarray], names: list[str], rng: np.random.Generator,
                 evaluate: Callable[..., Any] | None = None):
        self.f, self.xs, self.names, self.rng = _float_results_of(f), xs, names, rng
        self.evaluate = self.f if evaluate is None else _float_results_of(evaluate)
        self.takes_tensors = evaluate is None
        self.ys, self.pullback = vjp(self.f, *xs)
        self.weights = [rng.normal(size=y.shape) for y in self.ys]
        self.analytic: list[np.ndarray] = []
        self.numeric: list[np.ndarray] = []
        self.errors: list[np.ndarray] = []
        self.failures: list[ValueError | None] = []  # for each input, why it could not be measured
        self.reasons: list[dict[tuple[int, ...], str]] = []  # for each input, why elements of it could not be

    def weighted_results(self, *xs: Any) -> np.ndarray:
        """Return all results of `f` times their weights, flattened."""
        with no_grad(), np.errstate(all="ignore"):
            ys = self.evaluate(*(map(tensor, xs) if self.takes_tensors else xs))
            return np.concatenate([np.ravel(w * (y.data if isinstance(y, Tensor) else y))
                                   for w, y in zip(self.weights, ys)])

    def apply_rules(self) -> None:
        """Compute the gradients by the VJP rules.  Raises whatever a rule raises."""
        self.analytic = [np.asarray(d) for d in self.pullback(tuple(self.weights))]

    def measure(self, choose: Callable[[np.ndarray, np.random.Generator], Any] = lambda *_: None,
                skip: bool = False) -> None:
        """Compute the gradients by finite differences, at the elements that `choose(analytic gradient, rng)` returns,
        or those that `measure_derivatives` chooses; they are NaN at all others, and where a measurement failed.  With
        `skip`, only elements at which it failed are left out, and not their whole array."""
        for i, (x, name) in enumerate(zip(self.xs, self.names)):
            derivatives = errors = np.full(x.shape, np.nan)
            failure, reasons = None, {}  # type: ignore[var-annotated]
            try:
                derivatives, errors = measure_derivatives(self.weighted_results, self.xs, i, name, self.rng,
                                                          choose(self.analytic[i], self.rng),
                                                          reasons if skip else None)
            except ValueError as error:
                failure = error
            self.numeric.append(derivatives)
            self.errors.append(errors)
            self.failures.append(failure)
            self.reasons.append(reasons)

    def disagrees(self, i: int) -> np.ndarray:
        """Return a mask of the elements of input i whose two gradients differ by more than the tolerance."""
        analytic, numeric = self.analytic[i], self.numeric[i]
        with np.errstate(all="ignore"):
            return ~(abs(analytic - numeric) <= self.tolerance(i)) & ~np.isnan(numeric)

    def worst_index(self, i: int) -> tuple[int, ...]:
        """Return the index at which the gradients of input i differ most, relative to the tolerance."""
        analytic, numeric = self.analytic[i], self.numeric[i]
        with np.errstate(all="ignore"):
            excess = np.where(np.isfinite(analytic), abs(analytic - numeric) / self.tolerance(i), np.inf)
        excess = np.where(self.disagrees(i), excess, 0)
        return tuple(map(int, np.unravel_index(int(np.argmax(excess)), excess.shape)))

    def tolerance(self, i: int) -> np.ndarray:
        """Return the difference that passes, for each element of input i."""
        return _RELATIVE * abs(self.numeric[i]) + self.errors[i]


def _float_results_of(f: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
    """Return `f` with the floating-point arrays among its results as a tuple."""
    return lambda *xs: tuple([leaf for leaf in tree_leaves(f(*xs)) if has_floats(leaf)])


class OpFunction:
    """An op as a function of its inputs at `places`, in float64; its other inputs and its attributes are constants.
    With a `surrogate`, it computes that, and keeps the gradient rules of the op."""

    def __init__(self, op: Op, inputs: Iterable[Any], attrs: dict, places: list[int], surrogate: Any = None):
        self.inputs, self.attrs, self.places = tuple(inputs), attrs, places
        self.xs = [np.array(self.inputs[i], np.float64) for i in places]
        self.names = [op.input_name(i) for i in places]
        self.op = op if surrogate is None else _surrogate_op(op, surrogate, self.arguments(self.xs), attrs)

    def arguments(self, xs: Iterable[Any]) -> tuple[Any, ...]:
        """Return all inputs of the op, with `xs` at `places`."""
        at_places = dict(zip(self.places, xs))
        return tuple([at_places.get(i, a) for i, a in enumerate(self.inputs)])

    def apply(self, *xs: Any) -> Any:
        """Apply the op, to Tensors too."""
        return self.op.apply(self.arguments(xs), self.attrs)

    def evaluate(self, *xs: np.ndarray) -> Any:
        """Evaluate the formula on arrays, with no kernel."""
        return check_result(self.op.formula(*self.arguments(xs), **self.attrs))


def variant_of(op: Op, **changes: Any) -> Op:
    """Return another op with the fields of `op` but those that change (copy.copy returns an op itself)."""
    variant = object.__new__(Op)
    vars(variant).update(vars(op), **changes)
    return variant


def _surrogate_op(op: Op, surrogate: Callable[..., Any], inputs: tuple, attrs: dict) -> Op:
    """Return `op` with `surrogate` as its formula (True: its own), whose rules are given the op's own result for these
    inputs, even when they are differentiated.  Raises ValueError if the surrogate's result has another shape."""
    surrogate = op.formula if surrogate is True else surrogate
    y, stand_in = op.apply(inputs, attrs), surrogate(*inputs, **attrs)
    if [a.shape for a in as_tuple(y)] != [np.shape(a) for a in as_tuple(stand_in)]:
        raise ValueError(f"the surrogate of {op.name} returned {describe(stand_in)}, and its formula {describe(y)}: "
                         "they need the same shape")
    variant = variant_of(op, formula=surrogate, kernels={})
    variant.vjp = lambda needed, inputs, values, arguments, attrs: op.vjp(  # type: ignore[method-assign]
        needed, inputs, values, (arguments[0], y, *arguments[2:]), attrs)
    return variant
