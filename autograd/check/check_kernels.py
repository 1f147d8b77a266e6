"""`check_kernel`: a kernel against the formula and the gradient rules of its op."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, combinations
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..core.arrays import as_tuple, has_floats, read_only
from ..core.contract import check_kernel_gradients, check_kernel_result
from ..core.describe import describe
from ..core.mode import EagerExecutor
from ..core.tree import tree_map
from ..engine import Op, tensor
from ..program.program import record
from .check_ops import bind_sample, draw_gradient
from .purity import copy_arrays, have_same_bits, perturb

_PRECISIONS = {"float64": (2e-12, 2e-14), "float32": (2e-5, 2e-6)}
"""Dtype -> the differences that pass, relative to the element and to the largest in its array (or to 1)."""
_MANY = 4  # inputs of which the gradients of every subset are asked for; of more, those of each one and of all


def check_kernel(op: Op, samples: Iterable[Sequence[Any]], seed: int = 0) -> list[bool]:
    """Compare the kernel that `op` has for NumPy arrays with its formula and its gradient rules on `samples`, which are
    those of `check_op`; return for each whether the kernel took it, in at least one precision.

        softsign.kernels[np.ndarray] = Softsign
        ag.check_kernel(softsign, [(np.linspace(-3, 3, 7),), (np.ones((2, 3)), {"slope": 2.0})])

    Floating-point arrays are tried in double and in single precision, and as they are if a sample mixes both.  All
    arrays are tried in their own memory layout, in C and in Fortran order, with gaps between their elements, backwards,
    unaligned, read-only, and with their first row repeated by a stride of 0.  The gradients of every subset of the
    inputs are asked for.  The kernel gets output arrays filled with NaN or with large numbers, which it has to
    overwrite, and runs in a recorded program (`ag.record`), whose later calls have other numbers.  In double precision
    a number may differ by 2e-12 of itself and 2e-14 of the largest in its array (or of 1, if that is more), in single
    precision by 2e-5 and 2e-6.

    Raises AssertionError for a number that differs, with the sample, the input, the worst index and both values; for a
    kernel that raises, changes its arguments, keeps something for the next call, or returns anything but what
    `help(ag.Op)` says.  Raises ValueError if it took no sample.
    """
    if not isinstance(op, Op):
        raise TypeError(f"check_kernel checks ops, and {getattr(op, '__name__', op)!r} is none")
    kernel, rng, taken = op.kernels.get(np.ndarray), np.random.default_rng(seed), []
    if kernel is None:
        raise ValueError(f"{op.name} has no kernel for NumPy's arrays: enter one in {op.name}.kernels[np.ndarray]")
    for k, sample in enumerate(samples):
        given, attrs = bind_sample(op, sample)
        is_mixed = len({a.dtype for a in given if _is_float(a)}) > 1
        taken.append(False)
        for precision in ["mixed precision"] if is_mixed else _PRECISIONS:
            inputs = tuple([a.astype(precision) if _is_float(a) and not is_mixed else a for a in given])
            where = f"the kernel of {op.name}, sample {k}, {precision}"
            calls = [_compare_call(op, kernel, inputs, attrs, f"{where}, {name}", layout, filler, rng)
                     for name, layout in LAYOUTS.items() for filler in (np.nan, 1e30)]
            if calls[0]:
                _compare_program(op, inputs, attrs, f"{where}, in a program", rng)
            taken[-1] |= any(calls)
    if not any(taken):
        raise ValueError(f"nothing was checked: the kernel of {op.name} took none of these {len(taken)} samples")
    return taken


def _is_float(a: Any) -> bool:
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


# ---------------------------------------------------------------------- memory layouts, and what new arrays hold


def _spread_out(a: np.ndarray) -> np.ndarray:
    """Return a copy with gaps between its elements."""
    view = np.ones([2 * n for n in a.shape], a.dtype)[(slice(None, None, 2),) * a.ndim]
    view[...] = a
    return view


def _misalign(a: np.ndarray) -> np.ndarray:
    """Return a copy that begins at an odd address."""
    view = np.ndarray(a.shape, a.dtype, np.empty(a.nbytes + 1, np.uint8), 1)
    view[...] = a
    return view


Layout = Callable[[np.ndarray], np.ndarray]
LAYOUTS: dict[str, Layout] = {
    "as given": lambda a: a, "C order": lambda a: a.copy("C"), "Fortran order": lambda a: a.copy("F"),
    "with gaps": _spread_out, "backwards": lambda a: np.flip(np.flip(a).copy()), "unaligned": _misalign,
    "read-only": read_only, "repeated": lambda a: np.broadcast_to(a[:1], a.shape),
}


def _lay_out(a: Any, layout: Layout) -> Any:
    """Return a copy of an array in this memory layout; anything else as it is."""
    return layout(copy_arrays(a)) if isinstance(a, np.ndarray) and a.ndim else copy_arrays(a)


def _executor_filling(number: float) -> Any:
    """Return an executor whose new arrays hold a number, which nobody should read."""
    def fill(a: Any) -> Any:
        a.fill(number if _is_float(a) else 1)
        return a

    return SimpleNamespace(empty=lambda *args, **kwargs: fill(EagerExecutor.empty(*args, **kwargs)),
                           empty_like=lambda a: fill(EagerExecutor.empty_like(a)),
                           constant=EagerExecutor.constant, run=EagerExecutor.run)


# ---------------------------------------------------------------------- one sample, in one precision


def _differentiable_inputs(op: Op, inputs: Sequence[Any]) -> list[int]:
    """Return the numbers of the inputs whose gradients are compared."""
    return [i for i, a in enumerate(inputs) if _is_float(a) and i in op.rules]


def _apply_rules(op: Op, inputs: Sequence[Any], attrs: dict, rng: np.random.Generator,
                 layout: Layout = read_only) -> tuple[Any, Any, dict[int, Any]]:
    """Return the result by the formula, a gradient g for it, and the gradients by the rules, keyed by input number."""
    values = [a.copy("C") if isinstance(a, np.ndarray) else a for a in inputs]
    kernels, op.kernels = op.kernels, {}  # of the op itself, as a rule may call it
    try:
        with np.errstate(all="ignore"):
            y = op.apply(tuple(values), attrs)
            g = tree_map(lambda a: _lay_out(a, layout), draw_gradient(y, rng))
            needed = _differentiable_inputs(op, inputs)
            return y, g, dict(zip(needed, [d for _, d in op.vjp(needed, inputs, values, (g, y, *values), attrs)]))
    finally:
        op.kernels = kernels


@contextmanager
def _blame_kernel(where: str) -> Iterator[None]:
    """Raise any error within as an AssertionError about the kernel."""
    try:
        with np.errstate(all="ignore"):
            yield
    except Exception as error:
        raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error


def _compare_call(op: Op, kernel: Any, inputs: tuple, attrs: dict, where: str, layout: Layout,
                  filler: float, rng: np.random.Generator) -> bool:
    """Compare a direct call of the kernel with the formula and the rules; return whether it took the arrays."""
    inputs = tuple([_lay_out(a, layout) for a in inputs])
    y_expected, g, gradients = _apply_rules(op, inputs, attrs, rng, layout)
    executor = _executor_filling(filler)
    given = {op.input_name(i): a for i, a in enumerate(inputs)} | {"g": g}
    before = copy_arrays(given)
    with _blame_kernel(where):
        if (made := kernel.forward(executor, *inputs, **attrs)) is None:
            return False
        given["the output"], saved = check_kernel_result(op.name, made)
    _check_unchanged(where, given, before)
    _compare(f"{where}: the result", given["the output"], y_expected, inputs)
    before["the output"] = copy_arrays(given["the output"])
    with suppress(ArithmeticError, ValueError):  # numbers outside of its domain
        kernel.forward(executor, *perturb(inputs), **attrs)
    sizes = range(1, len(gradients) + 1) if len(gradients) <= _MANY else (1, len(gradients))
    for needed in chain.from_iterable(combinations(gradients, n) for n in sizes):
        names = ", ".join(map(op.input_name, needed))
        with _blame_kernel(f"{where}: the gradients of {names}"):
            found = kernel.backward(executor, list(needed), g, given["the output"], saved, *inputs, **attrs)
            check_kernel_gradients(op, list(needed), inputs, found)
        _check_unchanged(where, given, before)
        for i, d in zip(needed, found):
            _compare(f"{where}: the gradient of {op.input_name(i)}, if those of {names} are needed", d, gradients[i],
                     inputs)
    return True


def _check_unchanged(where: str, given: dict[str, Any], before: dict[str, Any]) -> None:
    if changed := [name for name, a in before.items() if not have_same_bits(a, given[name])]:
        raise AssertionError(f"{where} changes {' and '.join(changed)}, which others still need")


def _compare_program(op: Op, inputs: tuple, attrs: dict, where: str, rng: np.random.Generator) -> None:
    """Compare a recorded program of the op with its formula and rules, also for other numbers than it was recorded
    with."""
    leaves = {i: tensor(inputs[i], requires_grad=True) for i in _differentiable_inputs(op, inputs)}
    arrays = [i for i, a in enumerate(inputs) if isinstance(a, np.ndarray) and i not in leaves]

    def call(*given: Any) -> Any:
        by_number = leaves | dict(zip(arrays, given))
        return _join_floats(op.apply(tuple([by_number.get(i, a) for i, a in enumerate(inputs)]), attrs))

    with _blame_kernel(where):
        program = record(call, *[inputs[i] for i in arrays])
    for numbers in (inputs, perturb(inputs), inputs):
        try:
            y, g, gradients = _apply_rules(op, numbers, attrs, rng)
        except (ArithmeticError, ValueError):  # outside of its domain
            continue
        for i, t in leaves.items():
            t.data = numbers[i]
        with _blame_kernel(where):
            found = program(*[numbers[i] for i in arrays])
            if gradients:
                program.backward(_join_floats(g))
        _compare(f"{where}: the result", found, _join_floats(y), inputs)
        for i, d in gradients.items():
            _compare(f"{where}: the gradient of {op.input_name(i)}", leaves[i].grad, d, inputs)


def _join_floats(value: Any) -> Any:
    """Return the floating-point arrays of a value as one array."""
    floats = [a for a in as_tuple(value) if has_floats(a)]
    return floats[0] if len(floats) == 1 else np.concatenate([a.reshape(-1) for a in floats])


def _compare(title: str, found: Any, expected: Any, inputs: Sequence[Any]) -> None:
    """Raise AssertionError unless arrays (or tuples of them) are of one shape and dtype and have the same numbers, as
    far as the least precise of `inputs` allows."""
    tolerances = [_PRECISIONS.get(str(a.dtype), (2e-3, 2e-4)) for a in inputs if _is_float(a)]
    relative, absolute = max(tolerances, default=(0, 0))
    arrays, expected_arrays = as_tuple(found), as_tuple(expected)
    if [describe(a) for a in arrays] != [describe(a) for a in expected_arrays]:
        raise AssertionError(f"{title} is {', '.join(map(describe, arrays))}, and has to be "
                             f"{', '.join(map(describe, expected_arrays))}")
    for a, b in zip(arrays, expected_arrays):
        a, b = np.asarray(a, float), np.asarray(b, float)
        with np.errstate(all="ignore"):
            largest = float(np.max(abs(b), where=np.isfinite(b), initial=1))
            excess = abs(a - b) - relative * abs(b) - absolute * largest
            wrong = ~((excess <= 0) | (a == b) | np.isnan(a) & np.isnan(b))
        if wrong.any():
            excess = np.where(wrong, np.nan_to_num(excess, nan=np.inf), -1)
            worst = tuple(map(int, np.unravel_index(int(np.argmax(excess)), excess.shape)))
            raise AssertionError(f"{title} at index {worst} is {a[worst]:.9g}, and has to be {b[worst]:.9g}")
