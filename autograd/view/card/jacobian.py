"""The gradients of one record's inputs in numbers: by backward, as a Jacobian, and against finite differences."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ...check.comparison import Comparison, OpFunction
from ...check.diagnosis import likely_cause
from ...core.arrays import as_tuple, read_only
from ...engine import Tensor, reverse
from ..backward import input_values

EVERY = 64  # elements of an input up to which all are compared with finite differences
_SAMPLED = 8  # elements that are compared of a larger one
_MOST = 1_000_000  # cost, in elements of inputs and result, up to which they are compared at all
_PER_ARRAY = 500  # cost of an array beside its elements, in elements: each evaluation passes it to the formula


def float_arrays(value: Any) -> tuple[Any, ...]:
    """Return the floating-point arrays of a value or gradient, which is an array or a tuple of them."""
    return tuple(a for a in as_tuple(value) if is_array(a) and a.dtype.kind == "f")


def is_array(a: Any) -> bool:
    """Tell an array, of any library, by its attributes."""
    return hasattr(a, "shape") and hasattr(a, "dtype") and not isinstance(a, type)  # np.float32 has both


def find_needed(t: Tensor) -> list[int]:
    """Return the numbers of the inputs that require a gradient."""
    return [i for i, a in enumerate(t.inputs) if type(a) is Tensor and a.requires_grad]


def apply_vjp(t: Tensor, g: Any) -> dict[int, Any]:
    """Return the gradients that backward sends from record `t`, whose own is `g`: number of the input -> gradient."""
    g = tuple(map(read_only, g)) if isinstance(g, tuple) else read_only(g)
    _, _, sent = next(reverse([t], [g], keep=True))
    return dict(zip(find_needed(t), [_fill_in_zeros(d, a) for a, d in sent]))


def _fill_in_zeros(d: Any, a: Tensor) -> Any:
    """Return the gradient of `a`: of a tuple of arrays a tuple, with zeros for arrays that got none."""
    if not isinstance(d, dict):
        return d
    return tuple(d[i] if i in d else np.zeros_like(v) for i, v in enumerate(a._value()))


def compute_jacobians(t: Tensor, places: Iterable[int]) -> dict[int, np.ndarray]:
    """Return ∂y/∂x for the inputs numbered in `places`: a row for each element of the result, a column for each of the
    input.  A row is the gradient of the input for a one-hot gradient of the result."""
    rows: dict[int, list[np.ndarray]] = {i: [] for i in places}
    for k in range(sum(y.size for y in float_arrays(t._value()))):
        sent = apply_vjp(t, _make_one_hot(t._value(), k))
        for i, lines in rows.items():
            lines.append(flatten(sent[i]))
    return {i: np.stack(lines) for i, lines in rows.items() if lines}


def flatten(value: Any) -> np.ndarray:
    """Return all floating-point numbers of an array, or of a tuple of arrays, in one array of one axis."""
    return np.concatenate(float_arrays(value), axis=None)


def _make_one_hot(value: Any, k: int) -> Any:
    """Return zeros like `value`, with 1 at element k of its floating-point numbers."""
    zeros = tuple(np.zeros(np.shape(a), a.dtype) for a in as_tuple(value))
    for a in float_arrays(zeros):
        if 0 <= k < a.size:
            a.flat[k] = 1
        k -= a.size
    return zeros if isinstance(value, tuple) else zeros[0]


# ---------------------------------------------------------------------- against finite differences


class Residual(NamedTuple):
    """The outcome of a comparison with finite differences."""

    agrees: bool | None  # None if there was nothing to compare
    text: str


def check_gradients(t: Tensor, places: list[int]) -> dict[int, Residual]:
    """Compare the gradients of the inputs numbered in `places`, as backward computes them, with finite differences of
    the formula: in float64, at this record's inputs, with random weights on its results.  No error is raised."""
    values = input_values(t.inputs)
    sizes = [a.size for value in [*values, t._value()] for a in as_tuple(value) if is_array(a)]
    n = sum(sizes)
    if any(isinstance(values[i], tuple) for i in places):
        return {}
    if n + _PER_ARRAY * len(sizes) > _MOST:
        many = f"{n:,} numbers" if n > _MOST else f"{len(sizes):,} arrays"
        return dict.fromkeys(places, Residual(None, f"not compared: {many} are too many to try"))
    with np.errstate(all="ignore"):
        try:
            residuals: dict[int, Residual] = {}
            for surrogate, group in t.op.rules.group_by_surrogate(places).items():  # type: ignore[union-attr]
                residuals |= _compare(t, values, group, surrogate)
            return residuals
        except Exception as error:  # a rule or formula under development may raise anything
            return dict.fromkeys(places, Residual(None, f"not compared: {shorten_error(error)}"))


def _compare(t: Tensor, values: list[Any], places: list[int], surrogate: Any) -> dict[int, Residual]:
    """Compare the gradients of the inputs at `places` with differences of the formula, or of its surrogate."""
    if surrogate is True:
        return dict.fromkeys(places, Residual(None, "intended: not the derivative"))
    function = OpFunction(t.op, values, t.attrs, places, surrogate)  # type: ignore[arg-type]
    comparison = Comparison(function.apply, function.xs, function.names, np.random.default_rng(0), function.evaluate)
    _leave_out_infinite_results(comparison)
    comparison.measure(_choose_elements, skip=True)
    residuals = {place: _judge(comparison, k) for k, place in enumerate(places)}
    if surrogate is None:
        return residuals
    return {place: residual._replace(text=f"intended: not the derivative, but its surrogate's; {residual.text}")
            for place, residual in residuals.items()}


def _leave_out_infinite_results(comparison: Comparison) -> None:
    """Compute the gradients by the rules, without the results that are not finite (masked scores, say), if others are.
    """
    finite = [np.isfinite(y.data) for y in comparison.ys]
    mixed = not all(map(np.all, finite)) and any(map(np.any, finite))
    weights, evaluate = comparison.weights, comparison.evaluate
    if mixed:
        comparison.weights = [np.where(mask, w, 0.0) for mask, w in zip(finite, weights)]
    comparison.apply_rules()
    if mixed and not all(np.isfinite(d).all() for d in comparison.analytic):
        comparison.weights = weights
        comparison.apply_rules()
    elif mixed:
        comparison.evaluate = lambda *xs: tuple(np.where(mask, y, 0.0) for mask, y in zip(finite, evaluate(*xs)))


def _choose_elements(analytic: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Return the elements to measure of a large input: those with the largest gradients, and some at random."""
    if analytic.size <= EVERY:
        return None
    largest = np.argsort(-abs(np.nan_to_num(analytic.ravel(), nan=np.inf)))[:_SAMPLED // 2]
    return np.union1d(largest, rng.choice(analytic.size, _SAMPLED // 2, replace=False))


def _judge(comparison: Comparison, i: int) -> Residual:
    """Say whether the two gradients of input i agree, where they were measured."""
    if failure := comparison.failures[i]:
        return Residual(None, f"not compared: {shorten_error(failure)}")
    analytic, numeric = comparison.analytic[i], comparison.numeric[i]
    measured = ~np.isnan(numeric)
    count = int(measured.sum())
    sample = "" if count == numeric.size else f", at {count} of its {numeric.size:,} elements"
    without = describe_reasons(comparison.reasons[i])
    if not count:
        return Residual(None, without) if without else Residual(True, "has no elements to compare")
    if not comparison.disagrees(i).any():
        residual = float(abs(analytic - numeric)[measured].max())
        largest = np.unravel_index(int(np.argmax(np.where(measured, abs(numeric), -1))), numeric.shape)
        digits = _say_digits(residual, float(abs(numeric[largest])))
        where = f"; its largest, {at(largest)}" if numeric.size > 1 else ": "
        both = f"{where}{numeric[largest]:.4g} for a random g" if numeric[largest] else ""
        return Residual(True, f"agrees with finite differences{digits}{sample}{both}{without and '; '}{without}")
    worst = comparison.worst_index(i)
    return Residual(False, f"DIFFERS from finite differences{sample}: with random g, at index {worst} it is "
                           f"{analytic[worst]:.6g}, and they give {numeric[worst]:.6g}.  {likely_cause(comparison, i)}")


def at(index: Iterable[Any]) -> str:
    """Return `at [0, 2]: `, or nothing for the only element of a scalar."""
    index = list(map(int, index))
    return f"at {index}: " if index else ""


def describe_reasons(reasons: dict[tuple[int, ...], str]) -> str:
    """Say which elements have no derivative that could be measured, and why the first has none."""
    if not reasons:
        return ""
    first, *others = reasons.values()
    return f"not compared: {first}" + (f"; nor at {len(others)} more" if others else "")


def _say_digits(residual: float, size: float) -> str:
    """Say to how many digits numbers up to `size` agree that differ by `residual`."""
    if not residual:
        return ": both are 0" if not size else " to 15 digits"
    digits = math.floor(math.log10(min(size / residual, 1e15))) if size else 0
    return f" to {digits} digits" if digits > 0 else f" up to {residual:.0e}"


def shorten_error(error: BaseException) -> str:
    """Return the message of an error without the lines that point at the record."""
    text, *more = str(error).splitlines() or [""]
    text = text if isinstance(error, (RuntimeError, ValueError)) and text else f"{type(error).__name__}: {text}"
    where = next((line.strip() for line in more if line.startswith("  in the gradient")), "")
    return f"{where}: {text}" if where else text
