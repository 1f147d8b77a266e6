"""The steps of a program as they are traced: every procedure call, with the arrays it read and wrote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..core.arrays import find_owner

FORWARD, RECOMPUTE, BACKWARD, SUM = "forward", "recomputed", "backward", "sum of gradients"
"""Purposes of steps: RECOMPUTE computes a value once more in the backward pass, SUM accumulates a gradient."""


@dataclass
class Step:
    """A procedure and its arguments: arrays, and constants of any type."""

    procedure: Callable[..., None]
    arguments: tuple
    replaces: bool = False  # True if the last argument may overwrite the first, once nothing else needs that
    record: Any = None      # the record of the tape that it was computed for
    purpose: str = ""       # FORWARD, RECOMPUTE, BACKWARD or SUM


class Trace:
    """`steps`: every procedure call, in execution order.  `buffers`: id -> base array that a step writes into.  Every
    other array in the steps is a view of a buffer, a constant (`constants`: id -> base array), or an alias, for which
    another array stands in (`alias_of`: id -> that array)."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.buffers: dict[int, Any] = {}
        self.constants: dict[int, Any] = {}
        self.alias_of: dict[int, Any] = {}
        self.numbers: set[int] = set()  # ids of the arrays without axes that stand for a NumPy scalar
        self._committed = (0, 0)        # the numbers of steps and buffers that are final
        self._alive: list[Any] = []     # keeps arrays alive: id() may be reused once an object dies

    def add_step(self, procedure: Callable[..., None], *arguments: Any, replaces: bool = False) -> None:
        """Append a call that has been made."""
        self.steps.append(Step(procedure, arguments, replaces))

    def add_buffer(self, array: Any) -> Any:
        """Register an array that steps write into; return it."""
        self.buffers[id(find_owner(array))] = find_owner(array)
        return array

    def add_constant(self, a: Any) -> Any:
        """Register an array that no step writes into, and that stays where it is; return `a`."""
        if isinstance(a, np.ndarray):
            self.constants[id(find_owner(a))] = find_owner(a)
        return a

    def add_alias(self, a: Any, stand_in: Any) -> None:
        """Let `stand_in` stand for an array (and all views of it), or for a NumPy scalar."""
        self._alive.append(a)
        self.alias_of[id(a) if isinstance(a, np.generic) else id(find_owner(a))] = stand_in

    def as_arrays(self, value: Any) -> Any:
        """Return a value with arrays without axes in place of NumPy scalars, since steps write into arrays."""
        if type(value) is tuple:
            return tuple([self.as_arrays(a) for a in value])
        if isinstance(value, np.generic):
            self._alive.append(value := np.array(value))
            self.numbers.add(id(value))
        return value

    def buffer_for(self, d: Any) -> Any:
        """Register a new array as a buffer, and for a NumPy scalar one that stands for it; return the buffer."""
        if isinstance(d, np.generic):
            array = self.as_arrays(d)
            self.add_alias(d, array)
            d = array
        return self.add_buffer(d)

    def numbers_among(self, values: list[Any]) -> set[int]:
        """Return the positions of NumPy scalars: for an array without axes a few operations compute another last bit.
        """
        return {i for i, v in enumerate(values) if isinstance(v, np.generic) or id(v) in self.numbers}

    def commit_steps(self, t: Any, purpose: str) -> None:
        """Make the steps since the last commit final, and attribute them to record `t`."""
        for step in self.steps[self._committed[0]:]:
            step.record, step.purpose = t, purpose
        self._committed = len(self.steps), len(self.buffers)

    def rollback_steps(self) -> None:
        """Drop the steps since the last commit: kernels ran inside a formula or rule, which is replayed as one step."""
        n_steps, n_buffers = self._committed
        del self.steps[n_steps:]
        while len(self.buffers) > n_buffers:
            self._alive.append(self.buffers.popitem())

    def insert_copy(self, a: Any, like: Any) -> Any:
        """Return a buffer in the memory order of `like`, into which `a` is copied before the steps since the last
        commit."""
        copy = self.add_buffer(np.empty_like(like))
        self.steps.insert(self._committed[0], Step(np.copyto, (copy, a)))
        return copy

    def contains(self, a: Any) -> bool:
        """Tell whether an array lies in a buffer or in a constant."""
        k = id(find_owner(a))
        return k in self.buffers or k in self.constants

    def resolve(self, a: Any) -> Any:
        """Return the array that stands for `a`: a buffer, a view of one, or a constant.  Raises RuntimeError for an
        array that no step has made."""
        if id(a) in self.alias_of:
            return self.alias_of[id(a)]
        if not isinstance(a, np.ndarray):
            return a
        base = find_owner(a)
        if id(base) in self.buffers or id(base) in self.constants:
            return a
        if id(base) not in self.alias_of:
            raise RuntimeError(f"a kernel was handed an array {a.dtype}{list(a.shape)} that was made outside of "
                               "executor.run: a program cannot make it again")
        memory = self.alias_of[id(base)].ravel(order="K")
        start = a.__array_interface__["data"][0] - base.__array_interface__["data"][0]
        return np.ndarray(a.shape, a.dtype, memory, start, a.strides)

    def resolved_steps(self) -> list[Step]:
        """Return the steps with resolved arrays as arguments."""
        return [replace(step, arguments=tuple([self.resolve(a) for a in step.arguments])) for step in self.steps]
