"""The state of a program while it is drawn, and random choices from it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import autograd as ag
from tests.fuzz.program import Statement
from tests.strategies import outputs

MOST_ELEMENTS, MOST_AXES, MOST_LEAVES = 64, 4, 6
LARGE = 3.0  # values beyond it are scaled down
GAP = 0.02  # how far values stay from kinks and ties


class Unfit(Exception):
    """The values there are so far do not suit this operation."""


class Builder:
    """Leaves, constants, statements and the values they have, by name: x0, c0, v0."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.values: dict[str, Any] = {}  # of leaves and statements -> Tensor
        self.leaves: dict[str, np.ndarray] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.statements: list[Statement] = []
        self.base = tuple(self.choose((2, 3, 4, 1, 5, 0), (30, 30, 20, 12, 6, 2))
                          for _ in range(self.choose((1, 2, 3), (2, 5, 3))))

    # random choices -----------------------------------------------------

    def chance(self, p):
        return self.rng.random() < p

    def choose(self, items, odds=None):
        return items[self.rng.choice(len(items), p=None if odds is None else np.asarray(odds) / sum(odds))]

    def integer(self, low, high):
        """From low to high - 1."""
        return int(self.rng.integers(low, high))

    def axis(self, x, new=0):
        n = len(self.shape(x)) + new
        return self.integer(-n, n)

    def subshape(self):
        """A shape that broadcasts with the others of this program."""
        shape = self.base[self.integer(0, len(self.base) + 1):] if self.chance(0.3) else self.base
        return tuple(1 if self.chance(0.12) else n for n in shape)

    # names of values and constants --------------------------------------

    def array(self, name):
        return self.values[name].data

    def shape(self, name):
        return self.values[name].shape

    def pick(self, fits=lambda a: True):
        """The name of a value whose array fits: often a young one, so that programs get deep."""
        names = [name for name, t in self.values.items() if fits(t.data)]
        if not names:
            raise Unfit
        if self.chance(0.6):
            return names[max(len(names) - 1 - int(self.rng.exponential(2)), 0)]
        return self.choose(names)

    def leaf(self, shape):
        """A new leaf."""
        if len(self.leaves) == MOST_LEAVES:
            raise Unfit
        name = f"x{len(self.leaves)}"
        a = np.asarray(np.round(self.rng.normal(size=shape) * 0.8, 3))
        self.leaves[name] = np.where(abs(a) < GAP, 0.5, a)
        self.values[name] = ag.tensor(self.leaves[name], requires_grad=True)
        return name

    def of_shape(self, *shape):
        """A value of this shape, there already or a new leaf."""
        if self.chance(0.7):
            try:
                return self.pick(lambda a: a.shape == shape)
            except Unfit:
                pass
        return self.leaf(shape)

    def pair(self, fits=lambda a, b: True):
        """Two values that broadcast and fit together, in either order."""
        x = self.pick()
        y = self.pick(lambda b: broadcasts(self.array(x), b) and fits(self.array(x), b))
        return (x, y) if self.chance(0.5) else (y, x)

    def constant(self, a):
        """The name of a constant array."""
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(a)
        return name

    def numbers(self, high, *shape):
        """A constant of integers from 0 to high - 1."""
        return self.constant(self.rng.integers(high, size=shape))

    def mask(self, *shape):
        return self.constant(self.rng.random(shape) < 0.6)

    # statements ---------------------------------------------------------

    def add(self, entry):
        """Try to add a statement of `entry`, and one that keeps its value in range; False if nothing can follow."""
        marks = [(table, len(table)) for table in (self.leaves, self.constants)]
        try:
            sound = self._append(entry.name, *entry.texts(self))
        except Unfit:
            for table, mark in marks:
                for name in list(table)[mark:]:
                    table.pop(name)
                    self.values.pop(name, None)
            return True
        for name in self.statements[-1].names:
            largest = float(np.max(abs(self.array(name)), initial=0))
            if not math.isfinite(largest):
                return False
            if largest > LARGE or 0.01 < largest < 0.05:
                text = f"{name} * {float(f'{1 / largest:.2g}')}"
                self._append("multiply", text, text)
                del self.values[name]  # the large one serves nothing else
        return sound

    def _append(self, operation, ours, theirs):
        """Add this statement; whether it gives Tensors.  If not, that is a bug, and running the program tells it."""
        try:
            made = outputs(eval(ours, {"np": np, "ag": ag, **self.constants, **self.values}))
            sound = all(isinstance(t, ag.Tensor) for t in made)
        except Exception:
            sound = False
        made = made if sound else [ag.tensor(0.0)]
        if any(t.size > MOST_ELEMENTS or t.ndim > MOST_AXES for t in made):
            raise Unfit
        n = sum(len(s.names) for s in self.statements)
        names = tuple(f"v{n + i}" for i in range(len(made)))
        self.statements.append(Statement(names, ours, theirs, operation))
        self.values.update(zip(names, made))
        return sound


# ---------------------------------------------------------------------- what fits


def broadcasts(*arrays):
    try:
        return math.prod(np.broadcast_shapes(*[np.shape(a) for a in arrays])) <= MOST_ELEMENTS
    except ValueError:
        return False


def apart(a, b):
    """Return True if no element of a is near its counterpart in b."""
    return bool(np.all(abs(a - b) > GAP))
