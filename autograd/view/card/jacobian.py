"""One record's gradients in numbers: what it sends on, its Jacobian, and how finite differences agree."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ...check.comparison import Comparison, OpFunction
from ...check.diagnosis import likely_cause
from ...core.arrays import read_only
from ...engine import Tensor, reverse
from ..backward import input_values

EVERY = 64  # elements of an input up to which each is compared with differences
_SAMPLED = 8  # of a larger one so many
_MOST = 1_000_000  # elements of inputs and result up to which there is a comparison at all
_EACH = 500  # elements that an array counts as besides, for what it takes to call with it


def parts(value: Any) -> tuple[Any, ...]:
    """The arrays of a value or gradient, which may be a tuple of them."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def floats(value: Any) -> tuple[Any, ...]:
    """The arrays of a value or gradient that there are gradients of: not those of integers."""
    return tuple(part for part in parts(value) if is_array(part) and part.dtype.kind == "f")


def is_array(a: Any) -> bool:
    return hasattr(a, "shape") and hasattr(a, "dtype") and not isinstance(a, type)  # np.float32 has both


def differentiated(t: Tensor) -> list[int]:
    """The numbers of the inputs that a gradient goes to."""
    return [i for i, a in enumerate(t.inputs) if type(a) is Tensor and a.requires_grad]


def pulled(t: Tensor, g: Any) -> dict[int, Any]:
    """What backward sends from record `t`, whose gradient is `g`: number of the input -> its gradient."""
    g = tuple(map(read_only, g)) if isinstance(g, tuple) else read_only(g)
    _, _, sent = next(reverse([t], [g], keep=True))
    return dict(zip(differentiated(t), [_whole(d, a) for a, d in sent]))


def _whole(d: Any, a: Tensor) -> Any:
    """A gradient as an array, or, of a tuple of arrays, as a tuple with zeros for those that got none."""
    if not isinstance(d, dict):
        return d
    return tuple(d[i] if i in d else np.zeros_like(v) for i, v in enumerate(a._value()))


def jacobian(t: Tensor, places: Iterable[int]) -> dict[int, np.ndarray]:
    """Number of the input, of those in `places` -> ∂y/∂x: a row for each element of the result, a column for each of
    the input, both in order.  Each row is what the rule sends for a `g` that is 1 at that element and 0 elsewhere."""
    rows: dict[int, list[np.ndarray]] = {i: [] for i in places}
    for k in range(sum(v.size for v in floats(t._value()))):
        sent = pulled(t, _unit(t._value(), k))
        for i, lines in rows.items():
            lines.append(flat(sent[i]))
    return {i: np.stack(lines) for i, lines in rows.items() if lines}


def flat(value: Any) -> np.ndarray:
    """All floating-point numbers of an array, or of a tuple of arrays, in order."""
    return np.concatenate(floats(value), axis=None)


def _unit(value: Any, k: int) -> Any:
    """Zeros like `value`, with 1 at element k of its floating-point numbers."""
    zeros = tuple(np.zeros(np.shape(part), part.dtype) for part in parts(value))
    for part in floats(zeros):
        if 0 <= k < part.size:
            part.flat[k] = 1
        k -= part.size
    return zeros if isinstance(value, tuple) else zeros[0]


# ---------------------------------------------------------------------- against finite differences


class Residual(NamedTuple):
    """How a gradient compares with finite differences."""

    agrees: bool | None  # None: could not be compared
    text: str


def residuals(t: Tensor, places: list[int]) -> dict[int, Residual]:
    """Number of the input, of those in `places` -> how the gradient that backward sends there compares with differences
    of the formula, both in float64 at this record's inputs and with random weights on its results."""
    values = input_values(t.inputs)
    sizes = [part.size for value in [*values, t._value()] for part in parts(value) if is_array(part)]
    n = sum(sizes)
    if any(isinstance(values[i], tuple) for i in places):
        return {}
    if n + _EACH * len(sizes) > _MOST:
        many = f"{n:,} numbers" if n > _MOST else f"{len(sizes):,} arrays"
        return dict.fromkeys(places, Residual(None, f"not compared: {many} are too many to try"))
    with np.errstate(all="ignore"):
        try:
            found: dict[int, Residual] = {}
            for surrogate, some in t.op.rules.by_surrogate(places).items():  # type: ignore[union-attr]
                found |= _compare(t, values, some, surrogate)
            return found
        except Exception as error:  # whatever a rule or formula in the making raises
            return dict.fromkeys(places, Residual(None, f"not compared: {in_one_line(error)}"))


def _compare(t: Tensor, values: list[Any], places: list[int], surrogate: Any) -> dict[int, Residual]:
    """Compare the gradients of the inputs at `places` with differences of the formula, or of its surrogate."""
    if surrogate is True:
        return dict.fromkeys(places, Residual(None, "intended: not the derivative"))
    function = OpFunction(t.op, values, t.attrs, places, surrogate)  # type: ignore[arg-type]
    comparison = Comparison(function.apply, function.xs, function.names, np.random.default_rng(0), function.evaluate)
    comparison.apply_rules()
    comparison.measure(_choose_elements)
    residuals = {place: _judge(comparison, k) for k, place in enumerate(places)}
    if surrogate is None:
        return residuals
    return {place: residual._replace(text=f"intended: not the derivative, but its surrogate's; {residual.text}")
            for place, residual in residuals.items()}


def _choose_elements(analytic: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Return the elements to measure of a large input: those with the largest gradients, and some at random."""
    if analytic.size <= EVERY:
        return None
    largest = np.argsort(-abs(np.nan_to_num(analytic.ravel(), nan=np.inf)))[:_SAMPLED // 2]
    return np.union1d(largest, rng.choice(analytic.size, _SAMPLED // 2, replace=False))


def _judge(comparison: Comparison, i: int) -> Residual:
    """Say whether the two gradients of input i agree, where they were measured."""
    if failure := comparison.failures[i]:
        return Residual(None, f"not compared: {in_one_line(failure)}")
    analytic, numeric = comparison.analytic[i], comparison.numeric[i]
    measured = ~np.isnan(numeric)
    count = int(measured.sum())
    sample = "" if count == numeric.size else f", at {count} of its {numeric.size:,} elements"
    if not count:
        return Residual(True, "has no elements to compare")
    if not comparison.disagrees(i).any():
        largest = float(abs(analytic - numeric)[measured].max())
        digits = _digits(largest, float(abs(numeric[measured]).max()))
        return Residual(True, f"agrees with finite differences{digits}{sample}")
    worst = comparison.worst_index(i)
    return Residual(False, f"DIFFERS from finite differences{sample}: with random g, at index {worst} it is "
                           f"{analytic[worst]:.6g}, and they give {numeric[worst]:.6g}.  {likely_cause(comparison, i)}")


def _digits(residual: float, size: float) -> str:
    """How far numbers up to `size` agree."""
    if not residual:
        return ": both are 0" if not size else " to 15 digits"
    digits = math.floor(math.log10(min(size / residual, 1e15))) if size else 0
    return f" to {digits} digits" if digits > 0 else f" up to {residual:.0e}"


def in_one_line(error: BaseException) -> str:
    """What an error says, without the lines that point at the record."""
    text, *more = str(error).splitlines() or [""]
    text = text if isinstance(error, (RuntimeError, ValueError)) and text else f"{type(error).__name__}: {text}"
    where = next((line.strip() for line in more if line.startswith("  in the gradient")), "")
    return f"{where}: {text}" if where else text
