"""Comparison of two tapes: the first value and the first gradient that differ, and by how much."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.describe import describe, dtype_shape, plural, record_line
from ...core.mode import within
from ...engine import Tape, Tensor
from ..backward import backward_pass, restore_freed
from ..html import Html, details, escape, table
from ..text import number_records
from .align import align, node_type

ROUNDINGS = 100
"""Tolerance between different dtypes, in eps of the coarser one: about the rounding errors of a long program."""
SHOWN = 5
"""Records without a partner that are listed for each tape."""


def diff(tape_a: Tape, tape_b: Tape, rtol: float = 0.0) -> Difference:
    """Find the first record of two tapes whose value differs, and the first whose gradient does, and by how much.

        ag.diff(ag.tape(loss_before), ag.tape(loss_after))     # an edit, a kernel, a cache: where does it show?

    Records are compared with their partners (`autograd.view.diff.align`); those without one are skipped and reported.
    Numbers differ unless they are equal or closer than `rtol` times the largest magnitude in the array; NaN equals NaN.
    For arrays of different dtypes (a program in float32 and in float64) `rtol` is at least `ROUNDINGS` eps of the
    coarser one.  Gradients are those of the tapes' roots, or of their sums.

    Values may have been freed by a backward pass.  Those that cannot be recomputed, because a leaf was modified since,
    are not compared, and the result says so.
    """
    return Difference(tape_a, tape_b, rtol)


@dataclass(eq=False)
class Mismatch:
    """Records `a` and `b` whose numbers differ, and their worst element.

    place: index of that element (for a tuple preceded by the number of its array).  numbers: its values in a and b.
    absolute: their distance; relative: the distance over the largest magnitude in the arrays; ulps: the distance in
    units of the spacing of floats there, in the coarser dtype.  n_differ of n elements differ.  cause: likely cause.
    """

    a: Tensor
    b: Tensor
    place: tuple[int, ...] = ()
    numbers: tuple[Any, Any] = (None, None)
    absolute: float = 0.0
    relative: float = 0.0
    ulps: float = 0.0
    n_differ: int = 0
    n: int = 0
    cause: str = ""

    def __str__(self) -> str:
        if not self.n:
            return ""
        x, y = map(str, self.numbers)
        return f"at {self.where}: {x} against {y}, {self.apart}" if self.place else f"{x} against {y}, {self.apart}"

    @property
    def where(self) -> str:
        """Index of the worst element: `[0, 3]`."""
        return f"[{', '.join(map(str, self.place))}]"

    @property
    def apart(self) -> str:
        """Distance at the worst element, and the number of elements that differ."""
        n_differ = f"{self.n_differ:,} of {plural(self.n, 'element')} differ"
        if not math.isfinite(self.absolute):
            return n_differ
        ulps = f", {plural(round(self.ulps), 'ulp')}" if 0 < self.ulps < 1e6 else ""
        return f"{self.absolute:.3g} apart ({self.relative:.3g} of the largest{ulps}); {n_differ}"


class Difference:
    """The result of `diff`.

    same: True if every record has a partner, and all values and gradients were compared and are equal.
    value, gradient: the first `Mismatch` of a value in the order of the tape, and the first of a gradient in the order
    of the backward pass, or None.
    partners: record of a -> record of b; only_a, only_b: records without a partner.
    values_compared, gradients_compared: number of pairs compared; values_differ, gradients_differ: number of these that
    differ; missing: reasons why other pairs were not compared.
    within: the largest relative tolerance applied to any pair.
    """

    def __init__(self, tape_a: Tape, tape_b: Tape, rtol: float = 0.0, partners: dict[Tensor, Tensor] | None = None):
        if not (isinstance(tape_a, Tape) and isinstance(tape_b, Tape)):
            raise TypeError("diff compares two tapes: ag.diff(ag.tape(loss_a), ag.tape(loss_b))")
        self.tape_a, self.tape_b, self.rtol = tape_a, tape_b, rtol
        self.partners = align(tape_a, tape_b) if partners is None else partners
        partners_b = set(self.partners.values())
        self.only_a = [t for t in tape_a if t not in self.partners]
        self.only_b = [t for t in tape_b if t not in partners_b]
        self.value: Mismatch | None = None
        self.gradient: Mismatch | None = None
        self.values_compared = self.gradients_compared = len(self.partners)
        self.values_differ = self.gradients_differ = 0
        self.missing: list[str] = []
        self.within = rtol
        with restore_freed(tape_a), restore_freed(tape_b), within(observer=None), np.errstate(all="ignore"):
            self._compare_values()
            self._compare_gradients()
        self.same = not (self.only_a or self.only_b or self.missing or self.value or self.gradient)

    def _compare_values(self) -> None:
        stale = _stale(self.tape_a) | _stale(self.tape_b)
        missed: Counter[str] = Counter()
        for s, t in self.partners.items():
            try:
                found = self._compare(s, t, _value(s, stale), _value(t, stale))
            except RuntimeError as error:
                missed[str(error).partition(": call backward")[0]] += 1
                continue
            if found is not None:
                self.values_differ += 1
                if self.value is None:
                    found.cause = found.cause or self._cause_of_value(s, t)
                    self.value = found
        self.values_compared -= missed.total()
        self.missing += [f"{plural(n, 'value')}: {reason}" for reason, n in missed.items()]

    def _compare_gradients(self) -> None:
        of_a, end_a = _gradients(self.tape_a)
        of_b, end_b = _gradients(self.tape_b)
        missed: Counter[str] = Counter()
        for s, t in reversed(self.partners.items()):
            try:
                if s in of_a and t in of_b:
                    found = self._compare(s, t, of_a[s], of_b[t])
                elif end := (s not in of_a and end_a) or (t not in of_b and end_b):
                    raise end
                elif s in of_a or t in of_b:
                    found = Mismatch(s, t, cause=f"only {'a' if s in of_a else 'b'} has one")
                else:
                    continue
            except RuntimeError as error:
                missed[str(error).partition(": call backward")[0]] += 1
                continue
            if found is not None:
                self.gradients_differ += 1
                if self.gradient is None:
                    found.cause = found.cause or self._cause_of_gradient(s, t)
                    self.gradient = found
        self.gradients_compared -= missed.total()
        self.missing += [f"{plural(n, 'gradient')}: {reason}" for reason, n in missed.items()]

    def _compare(self, s: Tensor, t: Tensor, x: Any, y: Any) -> Mismatch | None:
        found = _find_mismatch(s, t, x, y, self.rtol)
        self.within = max(self.within, _tolerance(x, y, self.rtol))
        return found

    # ------------------------------------------------------------------ why
    def _cause_of_value(self, s: Tensor, t: Tensor) -> str:
        """Explain why the values of two records differ although their compared inputs are equal."""
        if node_type(s) != node_type(t):
            return f"{node_type(s)} against {node_type(t)}"
        if s.op is None:
            return "a leaf: they start from different numbers"
        attrs_s, attrs_t = s.attrs or {}, t.attrs or {}
        for name in dict.fromkeys([*attrs_s, *attrs_t]):
            if not _equal(attrs_s.get(name), attrs_t.get(name)):
                return f"the attribute {name}: {_attribute(attrs_s, name)} against {_attribute(attrs_t, name)}"
        if len(s.inputs) != len(t.inputs):
            return f"{len(s.inputs)} inputs against {len(t.inputs)}"
        numbers_a, numbers_b = number_records(self.tape_a), number_records(self.tape_b)
        for i, (x, y) in enumerate(zip(s.inputs, t.inputs)):
            if type(x) is Tensor and type(y) is Tensor:
                if self.partners.get(x) is not y:
                    return f"its input {s.op.input_name(i)}: %{numbers_a.get(x)} of a against %{numbers_b.get(y)} of b"
            elif not _equal(x, y):
                return f"its input {s.op.input_name(i)}: {describe(x)} against {describe(y)}, with other numbers"
        if _dtypes(s) != _dtypes(t):
            return f"{_dtypes(s)} against {_dtypes(t)}"
        return "same operation, attributes and inputs: rounded differently (a kernel, a library), or random?"

    def _cause_of_gradient(self, s: Tensor, t: Tensor) -> str:
        """Explain why the gradients of two records differ although their readers' compared gradients are equal."""
        if self.value is not None:
            return "values differ, and gradients are computed from them"
        numbers_a, numbers_b = number_records(self.tape_a), number_records(self.tape_b)
        readers_a = [u for u in self.tape_a if any(x is s for x in u.inputs)]
        readers_b = [u for u in self.tape_b if any(y is t for y in u.inputs)]
        names_a = ", ".join(f"%{numbers_a[u]} {node_type(u)}" for u in readers_a)
        names_b = ", ".join(f"%{numbers_b[u]} {node_type(u)}" for u in readers_b)
        if [id(self.partners.get(u)) for u in readers_a] != [id(u) for u in readers_b]:  # == compares elementwise
            return f"it is read by {names_a or 'nothing'} in a, by {names_b or 'nothing'} in b"
        return f"it comes from {names_a}: another VJP rule, or one that rounds differently?"

    # ------------------------------------------------------------------ words
    def __repr__(self) -> str:
        rows = [self._verdict()]
        for title, found in self._findings():
            rows += [f"{title}: {found.cause}", *(f"  {side}  {line}" for side, line in self._lines(found))]
            rows += [f"  {found}"] if found.n else []
        return "\n".join([*rows, *self._notes()])

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{escape(self._verdict())}</b></p>"]
        for title, found in self._findings():
            numbers = map(str, found.numbers) if found.n else ("", "")
            cells = [(side, line, number) for (side, line), number in zip(self._lines(found), numbers)]
            head = ["", "record", f"at {found.where}" if found.place else "number"]
            below = found.apart if found.n else ""
            parts.append(f"<p>{escape(title)}: {escape(found.cause)}</p>{table(cells, head)}<p>{escape(below)}</p>")
        for note in self._notes():
            first, *rest = note.split("\n")
            lines = Html("".join(f"<div>{escape(line)}</div>" for line in rest))
            parts.append(details(first, lines) if rest else f"<p>{escape(first)}</p>")
        return "".join(parts)

    def _verdict(self) -> str:
        n_a, n_b = len(self.tape_a), len(self.tape_b)
        tapes = f"Tapes of {plural(n_a, 'record')} (a) and {n_b:,} (b)"
        if self.value or self.gradient:
            values, gradients = plural(self.values_differ, "value"), plural(self.gradients_differ, "gradient")
            return f"{tapes}: {values} and {gradients} differ"
        same = f"the same within {self.within:.2g} of the largest number" if self.within else "the same"
        if self.same:
            return f"{tapes}: {same}, in all values and gradients"
        return (f"{tapes}: {same} as far as compared: values of {self.values_compared:,} and gradients of "
                f"{self.gradients_compared:,} of the {n_a:,} records of a, and of the {n_b:,} of b")

    def _findings(self) -> list[tuple[str, Mismatch]]:
        found = [("First value that differs", self.value),
                 ("First gradient that differs in the backward pass", self.gradient)]
        return [(title, mismatch) for title, mismatch in found if mismatch is not None]

    def _lines(self, found: Mismatch) -> list[tuple[str, str]]:
        return [("a", record_line(found.a, number_records(self.tape_a))),
                ("b", record_line(found.b, number_records(self.tape_b)))]

    def _notes(self) -> list[str]:
        """Return notes on records that were not compared, each with details in lines of their own."""
        notes = []
        for side, tape, alone in (("a", self.tape_a, self.only_a), ("b", self.tape_b, self.only_b)):
            if alone:
                numbers = number_records(tape)
                lines = [f"  {record_line(t, numbers)}" for t in alone[:SHOWN]]
                lines += [f"  … {len(alone) - SHOWN:,} more …"] if len(alone) > SHOWN else []
                first = f"Not compared, as they have no partner: {plural(len(alone), 'record')} of {side}"
                notes.append("\n".join([first, *lines]))
        return notes + [f"Not compared: {reason}" for reason in self.missing]


# ---------------------------------------------------------------------- numbers


def _stale(tape: Tape) -> set[Tensor]:
    """Return the leaves that were modified after the tape was recorded."""
    return {a for t in tape for a in t.inputs if type(a) is Tensor and a.version > t.created}


def _value(t: Tensor, stale: set[Tensor]) -> Any:
    if t in stale:
        raise RuntimeError("a leaf was changed after the tape was made from it")
    return t._value()


def _gradients(tape: Tape) -> tuple[dict[Tensor, Any], RuntimeError | None]:
    """Return the gradients of the tape's records, and the error that ended the backward pass early, or None."""
    gradients = {}
    try:
        for t, g, _ in backward_pass(tape):
            gradients[t] = g
    except RuntimeError as error:
        return gradients, error
    except Exception as error:  # a user's VJP rule may raise anything
        return gradients, RuntimeError(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
    return gradients, None


def _find_mismatch(s: Tensor, t: Tensor, x: Any, y: Any, rtol: float) -> Mismatch | None:
    """Compare two values or gradients (arrays or tuples of them); return their worst mismatch, or None."""
    xs, ys = (a if isinstance(a, tuple) else (a,) for a in (x, y))
    if [a.shape for a in xs] != [a.shape for a in ys]:  # of a formula that depends on more than its inputs
        return Mismatch(s, t, cause=f"{describe(x)} against {describe(y)}")
    found = [_compare_arrays(s, t, x_i, y_i, rtol, (i,) if isinstance(x, tuple) else ())
             for i, (x_i, y_i) in enumerate(zip(xs, ys))]
    differing = [mismatch for mismatch in found if mismatch.n_differ]
    if not differing:
        return None
    worst = max(differing, key=lambda mismatch: mismatch.relative)
    worst.n, worst.n_differ = sum(m.n for m in found), sum(m.n_differ for m in found)
    return worst


def _compare_arrays(s: Tensor, t: Tensor, x: Any, y: Any, rtol: float, prefix: tuple[int, ...]) -> Mismatch:
    """Compare two arrays of one shape; `prefix` comes before the index of the worst element."""
    if not all(isinstance(a, (np.ndarray, np.generic)) for a in (x, y)):
        raise RuntimeError("no numbers: not NumPy arrays")
    unequal = x != y
    if not unequal.any():
        return Mismatch(s, t, n=x.size)
    unequal &= (x == x) | (y == y)  # a NaN is not itself
    with np.errstate(all="ignore"):
        distance = np.where(unequal, abs(np.subtract(x, y, dtype=np.result_type(x, y, float))), 0)
        magnitude = np.maximum(abs(x.astype(float)), abs(y.astype(float)))
    distance = np.where(np.isnan(distance), np.inf, distance)
    largest = float(np.max(magnitude, initial=0, where=np.isfinite(magnitude)))
    rtol = _tolerance(x, y, rtol)
    differ = unequal & ~(distance <= rtol * largest)
    if not differ.any():
        return Mismatch(s, t, n=x.size)
    place = tuple(map(int, np.unravel_index(int(np.argmax(distance)), x.shape)))
    absolute, ulps = float(distance[place]), 0.0
    relative = absolute / largest if largest else math.inf
    if (dtype := _coarser_dtype(x, y)) is not None and math.isfinite(absolute):
        ulps = absolute / float(np.spacing(dtype.type(magnitude[place])))
    return Mismatch(s, t, prefix + place, (x[place], y[place]), absolute, relative, ulps, int(differ.sum()), x.size)


def _coarser_dtype(x: Any, y: Any) -> Any:
    """Return the floating-point dtype of fewer digits, or None if neither is floating-point."""
    return max((a.dtype for a in (x, y) if a.dtype.kind == "f"), key=lambda dtype: np.finfo(dtype).eps, default=None)


def _tolerance(x: Any, y: Any, rtol: float) -> float:
    """Return the relative tolerance for two arrays or tuples of arrays, which is larger for different dtypes."""
    if isinstance(x, tuple):
        return max([_tolerance(*arrays, rtol) for arrays in zip(x, y)], default=rtol)
    dtype = _coarser_dtype(x, y)
    return rtol if x.dtype == y.dtype or dtype is None else max(rtol, ROUNDINGS * float(np.finfo(dtype).eps))


def _equal(x: Any, y: Any) -> bool:
    """Return True if two attributes, or two plain arrays given to an op, are the same."""
    if isinstance(x, (tuple, list)) and isinstance(y, (tuple, list)):
        return len(x) == len(y) and all(map(_equal, x, y))
    if isinstance(x, np.ndarray) or isinstance(y, np.ndarray):
        return np.shape(x) == np.shape(y) and bool(np.array_equal(x, y, equal_nan=np.asarray(x).dtype.kind == "f"))
    return bool(x == y or x != x and y != y) if type(x) is type(y) else False


def _attribute(attrs: dict[str, Any], name: str) -> str:
    return describe(attrs[name]) if name in attrs else "not given"


def _dtypes(t: Tensor) -> str:
    value = t._value()
    arrays = value if isinstance(value, tuple) else (value,)
    return ", ".join(dtype_shape(array.shape, array.dtype) for array in arrays)
