"""Kernels against the formula and the gradient rules of their op."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, combinations
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..core.arrays import has_floats, parts_of, read_only
from ..core.contract import kernel_gradients, kernel_result
from ..core.describe import describe
from ..core.mode import EagerExecutor
from ..engine import Op, tensor
from ..program.program import record
from ..transform import tree_map
from .check import bind_sample, draw_gradient
from .purity import copied, moved, same

_PRECISIONS = {"float64": (2e-12, 2e-14), "float32": (2e-5, 2e-6)}  # what passes: of an element, of the largest or 1
_SEVERAL = 4  # inputs up to which the gradients of every subset are asked for; of more, of each one and of all


def check_kernel(op: Op, samples: Iterable[Sequence[Any]], seed: int = 0) -> list[bool]:
    """Compare the kernel that `op` has for NumPy's arrays with its formula and its gradient rules on `samples`, which
    are those of `check_op`; return for each whether the kernel took it, in one precision at least.

        softsign.kernels[np.ndarray] = Softsign
        ag.check_kernel(softsign, [(np.linspace(-3, 3, 7),), (np.ones((2, 3)), {"slope": 2.0})])

    Floating-point arrays are tried in double and in single precision, and as they are if a sample mixes both.  All
    arrays are tried as they lie in memory, in C and in Fortran order, with gaps between their elements, backwards,
    unaligned, read-only, and with their first row repeated by a stride of 0.  The gradients of every subset of the
    inputs are asked for.  The kernel runs on arrays that hold NaN, or large numbers, until it has filled them; and in a
    recorded program (`ag.record`), whose later calls have other numbers.  In double precision a number may differ by
    2e-12 of itself and 2e-14 of the largest in its array (or of 1, if that is more), in single precision by 2e-5 and
    2e-6.

    Raises AssertionError for a number that differs, with the sample, the input, the worst index and both values; for a
    kernel that raises, changes what it is given, keeps something for the next call, or returns anything but what
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
            calls = [_compare_call(op, kernel, inputs, attrs, f"{where}, {layout}", lay, number, rng)
                     for layout, lay in LAYOUTS.items() for number in (np.nan, 1e30)]
            if calls[0]:
                _compare_program(op, inputs, attrs, f"{where}, in a program", rng)
            taken[-1] |= any(calls)
    if not any(taken):
        raise ValueError(f"nothing was checked: the kernel of {op.name} took none of these {len(taken)} samples")
    return taken


def _is_float(a: Any) -> bool:
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


# ---------------------------------------------------------------------- where arrays lie, and what is in them


def _with_gaps(a: np.ndarray) -> np.ndarray:
    view = np.ones([2 * n for n in a.shape], a.dtype)[(slice(None, None, 2),) * a.ndim]
    view[...] = a
    return view


def _unaligned(a: np.ndarray) -> np.ndarray:
    view = np.ndarray(a.shape, a.dtype, np.empty(a.nbytes + 1, np.uint8), 1)
    view[...] = a
    return view


Layout = Callable[[np.ndarray], np.ndarray]
LAYOUTS: dict[str, Layout] = {
    "as given": lambda a: a, "C order": lambda a: a.copy("C"), "Fortran order": lambda a: a.copy("F"),
    "with gaps": _with_gaps, "backwards": lambda a: np.flip(np.flip(a).copy()), "unaligned": _unaligned,
    "read-only": read_only, "repeated": lambda a: np.broadcast_to(a[:1], a.shape),
}


def _laid(a: Any, lay: Layout) -> Any:
    """An array's numbers in memory of their own, which is laid out like that; anything else as it is."""
    return lay(copied(a)) if isinstance(a, np.ndarray) and a.ndim else copied(a)


def _filled_with(number: float) -> Any:
    """An executor whose new arrays hold a number, which nobody should read."""
    def fill(a: Any) -> Any:
        a.fill(number if _is_float(a) else 1)
        return a

    return SimpleNamespace(empty=lambda *args, **how: fill(EagerExecutor.empty(*args, **how)),
                           empty_like=lambda a: fill(EagerExecutor.empty_like(a)),
                           constant=EagerExecutor.constant, run=EagerExecutor.run)


# ---------------------------------------------------------------------- one sample, in one precision


def _wanted(op: Op, inputs: Sequence[Any]) -> list[int]:
    """The inputs whose gradients are compared."""
    return [i for i, a in enumerate(inputs) if _is_float(a) and i in op.rules]


def _by_rules(op: Op, inputs: Sequence[Any], attrs: dict, rng: np.random.Generator,
              lay: Layout = read_only) -> tuple[Any, Any, dict[int, Any]]:
    """The result by the formula, weights for it, and its gradients by the rules: number of the input -> gradient."""
    values = [a.copy("C") if isinstance(a, np.ndarray) else a for a in inputs]
    kernels, op.kernels = op.kernels, {}  # of the op itself, as a rule may call it
    try:
        with np.errstate(all="ignore"):
            y = op.apply(tuple(values), attrs)
            g = tree_map(lambda a: _laid(a, lay), draw_gradient(y, rng))
            wanted = _wanted(op, inputs)
            return y, g, dict(zip(wanted, [d for _, d in op.vjp(wanted, inputs, values, (g, y, *values), attrs)]))
    finally:
        op.kernels = kernels


@contextmanager
def _kernel_at(where: str) -> Iterator[None]:
    """Within it, an error is one of the kernel's."""
    try:
        with np.errstate(all="ignore"):
            yield
    except Exception as error:
        raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error


def _compare_call(op: Op, kernel: Any, inputs: tuple, attrs: dict, where: str, lay: Layout, number: float,
                  rng: np.random.Generator) -> bool:
    """Compare what the kernel gives when it is called at once; whether it took the arrays."""
    inputs = tuple([_laid(a, lay) for a in inputs])
    y_wanted, g, gradients = _by_rules(op, inputs, attrs, rng, lay)
    given, executor = {op.input_name(i): a for i, a in enumerate(inputs)} | {"g": g}, _filled_with(number)
    before = copied(given)
    with _kernel_at(where):
        if (made := kernel.forward(executor, *inputs, **attrs)) is None:
            return False
        given["the output"], saved = kernel_result(op.name, made)
    _check_unchanged(where, given, before)
    _compare(f"{where}: the result", given["the output"], y_wanted, inputs)
    before["the output"] = copied(given["the output"])
    with suppress(ArithmeticError, ValueError):  # numbers outside of its domain
        kernel.forward(executor, *moved(inputs), **attrs)
    sizes = range(1, len(gradients) + 1) if len(gradients) <= _SEVERAL else (1, len(gradients))
    for needed in chain.from_iterable(combinations(gradients, n) for n in sizes):
        names = ", ".join(map(op.input_name, needed))
        with _kernel_at(f"{where}: the gradients of {names}"):
            found = kernel.backward(executor, list(needed), g, given["the output"], saved, *inputs, **attrs)
            kernel_gradients(op, list(needed), inputs, found)
        _check_unchanged(where, given, before)
        for i, d in zip(needed, found):
            _compare(f"{where}: the gradient of {op.input_name(i)}, if those of {names} are needed", d, gradients[i],
                     inputs)
    return True


def _check_unchanged(where: str, given: dict[str, Any], before: dict[str, Any]) -> None:
    if changed := [name for name, a in before.items() if not same(a, given[name])]:
        raise AssertionError(f"{where} changes {' and '.join(changed)}, which others still need")


def _compare_program(op: Op, inputs: tuple, attrs: dict, where: str, rng: np.random.Generator) -> None:
    """Compare what a program gives that was recorded of the op, also for other numbers than it was recorded with."""
    leaves = {i: tensor(inputs[i], requires_grad=True) for i in _wanted(op, inputs)}
    arrays = [i for i, a in enumerate(inputs) if isinstance(a, np.ndarray) and i not in leaves]

    def call(*given: Any) -> Any:
        there = leaves | dict(zip(arrays, given))
        return _joined(op.apply(tuple([there.get(i, a) for i, a in enumerate(inputs)]), attrs))

    with _kernel_at(where):
        program = record(call, *[inputs[i] for i in arrays])
    for numbers in (inputs, moved(inputs), inputs):
        try:
            y, g, gradients = _by_rules(op, numbers, attrs, rng)
        except (ArithmeticError, ValueError):  # outside of its domain
            continue
        for i, t in leaves.items():
            t.data = numbers[i]
        with _kernel_at(where):
            found = program(*[numbers[i] for i in arrays])
            if gradients:
                program.backward(_joined(g))
        _compare(f"{where}: the result", found, _joined(y), inputs)
        for i, d in gradients.items():
            _compare(f"{where}: the gradient of {op.input_name(i)}", leaves[i].grad, d, inputs)


def _joined(value: Any) -> Any:
    """The floating-point arrays of a value as one."""
    floats = [a for a in parts_of(value) if has_floats(a)]
    return floats[0] if len(floats) == 1 else np.concatenate([a.reshape(-1) for a in floats])


def _compare(what: str, found: Any, wanted: Any, inputs: Sequence[Any]) -> None:
    """Raise AssertionError unless arrays (or tuples of them) are of one shape and dtype and have the same numbers, as
    far as the least precise of `inputs` allows."""
    passing = [_PRECISIONS.get(str(a.dtype), (2e-3, 2e-4)) for a in inputs if _is_float(a)]
    relative, absolute = max(passing, default=(0, 0))
    parts, wanted_parts = parts_of(found), parts_of(wanted)
    if [describe(a) for a in parts] != [describe(a) for a in wanted_parts]:
        raise AssertionError(f"{what} is {', '.join(map(describe, parts))}, and has to be "
                             f"{', '.join(map(describe, wanted_parts))}")
    for a, b in zip(parts, wanted_parts):
        a, b = np.asarray(a, float), np.asarray(b, float)
        with np.errstate(all="ignore"):
            largest = float(np.max(abs(b), where=np.isfinite(b), initial=1))
            excess = abs(a - b) - relative * abs(b) - absolute * largest
            wrong = ~((excess <= 0) | (a == b) | np.isnan(a) & np.isnan(b))
        if wrong.any():
            excess = np.where(wrong, np.nan_to_num(excess, nan=np.inf), -1)
            worst = tuple(map(int, np.unravel_index(int(np.argmax(excess)), excess.shape)))
            raise AssertionError(f"{what} at index {worst} is {a[worst]:.9g}, and has to be {b[worst]:.9g}")
