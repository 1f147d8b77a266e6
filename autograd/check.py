"""Gradients against finite differences, and a guess at what is wrong with one that differs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .engine import Op, Tensor, tensor
from .state import no_grad
from .transform import tree_leaves, vjp

_STEP = 1e-3  # of an element's magnitude; with one halving and extrapolation the error is of order step⁴
_RELATIVE = 1e-6  # difference that passes, relative to the largest element of that gradient
_MOST = 64  # elements that are tried of one input; of a larger one, so many at random


def check_grads(f: Callable[..., Any], *xs: Any, order: int = 2, seed: int = 0) -> None:
    """Compare the gradients of `f` at arrays `xs` with finite differences, in float64, and then the gradients of
    those gradients, up to `order`.

    `f` returns an array or a tree of them; what is differentiated is the sum of all their elements with random
    weights.  Raises AssertionError with the input, the worst element, both values and a likely cause; ValueError
    where `f` has a kink or is not finite, so that there is nothing to compare with.
    """
    if not xs:
        raise ValueError("nothing to check: pass the arrays at which f is to be differentiated")
    values = [np.array(x._value() if isinstance(x, Tensor) else x, dtype=np.float64) for x in xs]
    _check(f, values, [f"argument {i}" for i in range(len(xs))], order, np.random.default_rng(seed), "")


def check_op(op: Op, samples: Iterable[Sequence[Any]], order: int = 2, seed: int = 0) -> None:
    """Check every gradient rule of `op` on `samples`: tuples of arguments, whose last may be a dict of settings.
    Floating-point arrays in them are differentiated; everything else stays as given.

        ag.check_op(ag.softmax, [(np.array([1.0, 2.0]),), (np.ones((2, 3)), {"axis": 0})])

    Raises AssertionError for a wrong rule (as `check_grads` does, with the input's name), for a missing one, for a
    formula that changes its inputs, and for one that makes another dtype of float32; ValueError as `check_grads`.
    """
    op = copy.copy(op)
    op.kernels = {}  # the rules are what is checked; kernels are compared with them
    checked = False
    for sample in samples:
        args, attrs = (sample[:-1], sample[-1]) if isinstance(sample[-1], dict) else (sample, {})
        checked |= _check_sample(op, *op.bind(tuple(args), attrs), order, np.random.default_rng(seed))
    if not checked:
        raise ValueError(f"nothing was checked: give check_op samples of {op.name} with floating-point arrays in them")


def _check_sample(op: Op, inputs: tuple, attrs: dict, order: int, rng: np.random.Generator) -> bool:
    """Whether there was something to check."""
    inputs = tuple([np.asarray(a) if isinstance(a, np.generic) else a for a in inputs])
    floats = [i for i, a in enumerate(inputs) if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    before = [inputs[i].copy() for i in floats]
    y = op.apply(inputs, attrs)
    for i, a in zip(floats, before):
        if not np.array_equal(a, inputs[i], equal_nan=True):
            raise AssertionError(f"{op.name} changes its input {op.input_name(i)}: work on a copy")
    if not op.differentiable:
        return True
    if floats and all(a.dtype == np.float32 for a in before):
        for leaf in tree_leaves(y):
            if leaf.dtype != np.float32:
                raise AssertionError(f"{op.name} makes {leaf.dtype} of float32")
    for i in floats:
        if i not in op.rules:
            raise AssertionError(f"{op.name} has no gradient rule for its input {op.input_name(i)}")

    def of_floats(*xs: Any) -> Any:
        given = dict(zip(floats, xs))
        return op.apply(tuple([given.get(i, a) for i, a in enumerate(inputs)]), attrs)

    _check(of_floats, [a.astype(np.float64) for a in before], [op.input_name(i) for i in floats], order, rng, op.name)
    return bool(floats)


def _check(f: Callable[..., Any], xs: list[np.ndarray], names: list[str], order: int, rng: np.random.Generator,
           what: str) -> None:
    """Compare the gradient of f's results, weighted at random; then that of this gradient, as a function of the
    weights and of `xs`."""
    if not xs:
        return

    def flat(*xs: Any) -> tuple[Any, ...]:
        return tuple(tree_leaves(f(*xs)))

    y, pullback = vjp(flat, *xs)
    weights = [rng.normal(size=leaf.shape) for leaf in y]

    def weighted(*xs: Any) -> float:
        with no_grad():  # on Tensors too, so that f does the same as when it is recorded
            results = flat(*map(tensor, xs))
        return math.fsum(float(np.sum(w * t.data)) for w, t in zip(weights, results))

    try:
        analytic = [np.asarray(d) for d in pullback(tuple(weights))]
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise AssertionError(f"{what or 'f'}: a gradient rule changes g in place: work on a copy") from error
    size = math.fsum(float(np.sum(abs(w * leaf))) for w, leaf in zip(weights, y))
    numeric = [_differences(weighted, xs, i, size, names[i], rng) for i in range(len(xs))]
    for i, name in enumerate(names):
        _compare(analytic, numeric, i, f"{what}{': ' if what else ''}gradient of {name}", _steps(xs[i]), size)
    if order > 1:
        n = len(weights)
        _check(lambda *all_xs: vjp(flat, *all_xs[n:])[1](all_xs[:n]), weights + xs,
               ["g" if n == 1 else f"g[{i}]" for i in range(n)] + names, order - 1, rng,
               f"{what}{': ' if what else ''}in the gradient")


def _steps(x: np.ndarray) -> np.ndarray:
    return _STEP * np.maximum(abs(x), 0.1)


def _differences(f: Callable[..., float], xs: list[np.ndarray], i: int, size: float, name: str,
                 rng: np.random.Generator) -> np.ndarray:
    """The derivatives of `f` by the elements of xs[i], NaN for those not tried: central differences at two steps,
    extrapolated.  `size`: how large the terms are that f adds up, for its rounding."""
    x, steps = xs[i], _steps(xs[i])
    derivatives = np.full(x.shape, np.nan)
    places = range(x.size) if x.size <= _MOST else rng.choice(x.size, _MOST, replace=False)
    for place in (tuple(map(int, np.unravel_index(p, x.shape))) for p in places):
        h = float(steps[place])

        def at(step: float, place: tuple[int, ...] = place) -> float:
            moved = x.copy()
            moved[place] += step
            return f(*xs[:i], moved, *xs[i + 1:])

        below, middle, above = (at(-h), at(-h / 2)), at(0.0), (at(h), at(h / 2))
        coarse, fine = (above[0] - below[0]) / (2 * h), (above[1] - below[1]) / h
        where = f"{name} at index {place} (value {x[place]:.6g})"
        if not math.isfinite(coarse + fine):
            raise ValueError(f"nothing to compare with: around {where} f is not finite; check at another point")
        # The slopes on the two sides of a smooth point draw together as the step shrinks; at a kink they do not.
        bends = [abs(a - 2 * middle + b) / step for a, b, step in zip(above, below, (h, h / 2))]
        if bends[1] > 0.75 * bends[0] and bends[1] > 1e-3 * (abs(fine) + 1e-3) + 1e-11 * size / h:
            raise ValueError(f"not differentiable: {where} is a kink, where the slopes on its two sides differ; "
                             "check at another point")
        derivatives[place] = (4 * fine - coarse) / 3
    return derivatives


def _compare(analytic: list[np.ndarray], numeric: list[np.ndarray], i: int, what: str, steps: np.ndarray,
             size: float) -> None:
    """Raise if a gradient differs from the differences where these were tried."""
    a, n = analytic[i], numeric[i]
    tried = ~np.isnan(n)
    if not tried.any():
        return
    scale = float(np.max(abs(n[tried])))
    allowed = _RELATIVE * scale + 1e-8 * min(scale, 1) + 1e-12 * size / steps
    error = np.where(tried, np.where(np.isfinite(a), abs(a - n), np.inf), 0)
    if np.all(error <= allowed):
        return
    worst = tuple(map(int, np.unravel_index(int(np.argmax(error / allowed)), error.shape)))
    raise AssertionError(f"{what} is wrong: at index {worst} it is {a[worst]:.8g}, and finite differences give "
                         f"{n[worst]:.8g}.  {_cause(analytic, numeric, i, tried)}")


def _cause(analytic: list[np.ndarray], numeric: list[np.ndarray], i: int, tried: np.ndarray) -> str:
    """What mistake would turn those differences into this gradient."""
    a, n = analytic[i], numeric[i]
    if not np.isfinite(a[tried]).all():
        return "It is not finite: a division by zero, or the logarithm of 0?"
    if not a[tried].any():
        return "It is 0 everywhere: does the rule use g?"
    if any(j != i and other.shape == n.shape and _same(a, other) for j, other in enumerate(numeric)):
        return "It is the gradient of another input: are two rules swapped?"
    if n.ndim == 2 and n.shape[0] == n.shape[1] and _same(a, n.T):
        return "It is transposed."
    ratio = float(np.sum(a[tried] * n[tried]) / (np.sum(n[tried] ** 2) or np.nan))
    if not _same(a, ratio * n):
        return "No single factor explains it: a missing term, or a wrong saved value?"
    if math.isclose(ratio, -1, rel_tol=1e-4):
        return "Its sign is wrong."
    return f"It is {ratio:.6g} times as large: {_factor(abs(ratio), {n.size, *n.shape} - {0, 1})}"


def _factor(ratio: float, sizes: set[int]) -> str:
    """What such a factor usually comes from, in arrays with axes of these sizes."""
    for n in sorted(sizes):
        causes = {float(n): f"a sum over {n} where a mean belongs?", 1 / n: f"a mean over {n} where a sum belongs?",
                  math.sqrt(n): f"a missing 1/√{n}?", 1 / math.sqrt(n): f"one 1/√{n} too many?"}
        for factor, cause in causes.items():
            if math.isclose(ratio, factor, rel_tol=1e-4):
                return cause
    return "a constant factor?"


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether `a` is `b` up to the accuracy of differences, wherever b is known."""
    known = ~np.isnan(b)
    return bool(known.any() and np.allclose(a[known], b[known], rtol=1e-5, atol=1e-7 * float(np.max(abs(b[known])))))
