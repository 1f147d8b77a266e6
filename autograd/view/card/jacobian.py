"""One record's gradients in numbers: what it sends on, its Jacobian, and how finite differences agree."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ...check.check import surrogate_op
from ...check.diagnosis import Case
from ...check.finite_differences import differences
from ...core.arrays import checked, read_only
from ...engine import Tensor, reverse
from ...transform import vjp
from ..backward import values_of

EVERY = 64  # elements of an input up to which each is compared with differences
_SAMPLED = 8  # of a larger one so many
_MOST = 1_000_000  # elements of inputs and result up to which there is a comparison at all
_EACH = 500  # elements that an array counts as besides, for what it takes to call with it
_RELATIVE = 1e-6  # the difference that `check_op` lets pass too, besides what the measurement is uncertain of


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
    values = values_of(t.inputs)
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
                found |= _compared(t, values, some, surrogate)
            return found
        except Exception as error:  # whatever a rule or formula in the making raises
            return dict.fromkeys(places, Residual(None, f"not compared: {in_one_line(error)}"))


def _compared(t: Tensor, values: list[Any], places: list[int], surrogate: Any) -> dict[int, Residual]:
    """How the gradients of the inputs at `places` compare with differences of the formula, or of its surrogate."""
    if surrogate is True:
        return dict.fromkeys(places, Residual(None, "intended: not the derivative"))
    op, rng = t.op, np.random.default_rng(0)
    assert op is not None
    xs = [np.array(values[i], np.float64) for i in places]
    names = [op.input_name(i) for i in places]

    def given(xs: Any) -> tuple[Any, ...]:
        arrays = dict(zip(places, xs))
        return tuple([arrays.get(i, v) for i, v in enumerate(values)])

    if surrogate is not None:
        op = surrogate_op(op, surrogate, given(xs), t.attrs)

    def weighted(*xs: Any) -> np.ndarray:
        return flat(checked(op.formula(*given(xs), **t.attrs))) * weights

    y, pullback = vjp(lambda *xs: floats(op.apply(given(xs), t.attrs)), *xs)
    gs = [rng.normal(size=part.shape) for part in y]
    weights = flat(gs)
    analytic = [np.asarray(d) for d in pullback(tuple(gs))]
    found: dict[int, Any] = {}
    for k, name in enumerate(names):
        try:
            found[k] = _measured(weighted, xs, k, name, analytic[k], rng)
        except ValueError as error:
            found[k] = in_one_line(error)
    numeric = [np.full(x.shape, np.nan) if isinstance(f, str) else f[0] for x, f in zip(xs, found.values())]
    made = {}
    for k, i in enumerate(places):
        case = Case(weighted, xs, names, list(y), gs, analytic, numeric, k, lambda *_: ())
        made[i] = Residual(None, f"not compared: {found[k]}") if isinstance(found[k], str) else \
            _judged(case, found[k][1])
        if surrogate is not None:
            made[i] = made[i]._replace(text=f"intended: not the derivative, but its surrogate's; {made[i].text}")
    return made


def _measured(f: Any, xs: list[np.ndarray], k: int, name: str, analytic: np.ndarray,
              rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives by xs[k] and their errors: of a large one at the elements with the largest gradients and at some at
    random, and NaN elsewhere."""
    x = xs[k]
    if x.size <= EVERY:
        return differences(f, xs, k, name, rng)
    largest = np.argsort(-abs(np.nan_to_num(analytic.ravel(), nan=np.inf)))[:_SAMPLED // 2]
    chosen = np.union1d(largest, rng.choice(x.size, _SAMPLED // 2, replace=False))

    def at_chosen(elements: np.ndarray) -> np.ndarray:
        moved = x.copy()
        moved.flat[chosen] = elements
        return f(*xs[:k], moved, *xs[k + 1:])

    def in_x(match: re.Match[str]) -> str:
        return f"at index {tuple(map(int, np.unravel_index(chosen[int(match[1])], x.shape)))}"

    try:
        found = differences(at_chosen, [x.ravel()[chosen]], 0, name, rng)
    except ValueError as error:
        raise ValueError(re.sub(r"at index \((\d+),\)", in_x, str(error))) from error
    made = np.full(x.shape, np.nan), np.full(x.shape, np.nan)
    for whole, part in zip(made, found):
        whole.flat[chosen] = part
    return made


def _judged(case: Case, errors: np.ndarray) -> Residual:
    """Whether a gradient is what the differences say, where these were tried."""
    a, n = case.analytic[case.i], case.numeric[case.i]
    tried = ~np.isnan(n)
    count = int(tried.sum())
    sample = "" if count == n.size else f", at {count} of its {n.size:,} elements"
    if not count:
        return Residual(True, "has no elements to compare")
    residual, size = abs(a - n)[tried], float(abs(n[tried]).max())
    if np.all(residual <= (_RELATIVE * abs(n) + errors)[tried]):
        return Residual(True, f"agrees with finite differences{_digits(float(residual.max()), size)}{sample}")
    excess = np.where(tried, np.nan_to_num(abs(a - n) / (_RELATIVE * abs(n) + errors), nan=np.inf), 0)
    place = tuple(map(int, np.unravel_index(int(np.argmax(excess)), excess.shape)))
    return Residual(False, f"DIFFERS from finite differences{sample}: with random g, at index {place} it is "
                           f"{a[place]:.6g}, and they give {n[place]:.6g}.  {case.cause()}")


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
