"""`tape.code()`: a tape's forward and backward pass as a program that needs NumPy alone."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np

from ...core.describe import plural
from ...core.mode import within
from ...engine import Tape, Tensor, reverse
from ..backward import restore_freed
from ..what_if import replay
from ...engine import tape as tape_of
from .library import Library
from .names import name_records
from .passes import Line, Passes
from .source import array_literal, names_in, text_of

SMALL = 64
"""Most elements of an array that is written out."""
WIDTH = 64
"""Column at which comments begin."""
MOST = 8
"""Most leaves that are parameters by their names."""


class Code:
    """A program with the forward and the backward pass of a tape.  `str()` is its source."""

    def __init__(self, tape: Tape):
        roots = [t for t in tape.roots if t.requires_grad]
        if len(roots) != 1:
            raise ValueError(f"a program computes the gradients of one result, and this tape has {plural(len(roots), 'root')} that "
                             "require one: ag.tape(loss).code()")
        with restore_freed(tape), within(executor=None, observer=None, grad_enabled=True), np.errstate(all="ignore"):
            new = replay(tape)
            self.tape = tape_of(new[roots[0]])
            self.loss, self.gradients = self._reference()
            self._write()

    def _reference(self) -> tuple[Any, dict[Tensor, Any]]:
        """Return the result and the gradients of the leaves, by formulas and rules."""
        root = self.tape.roots[0]
        backward = reverse([root], [np.ones_like(root._value())], keep=True)
        return root._value(), {t: g for t, g, _ in backward if t.op is None}

    def _write(self) -> None:
        names = name_records(self.tape, {"np", "math"})
        self.library = Library(set(names.values()) | {f"d_{n}" for n in names.values()} | {"forward_backward"})
        self.passes = Passes(self.tape, self.library, names)
        self.names = names
        self.leaves = {names[t]: t._value() for t in self.tape if t.op is None}
        self.leaves |= self.passes.constants
        self.keys = {t: t.name or names[t] for t in self.gradients}

    # ------------------------------------------------------------------ source
    def __str__(self) -> str:
        names = self.names
        lines = ["def forward_backward(" + ", ".join(f"{n}={n.upper()}" for n in self.leaves) + "):"]
        lines += [f"    {_with_comment(line)}" for line in self.passes.forward]
        lines += [""]
        lines += [f"    {_with_comment(line)}" for line in self.passes.backward]
        made = ", ".join(f'"{self.keys[t]}": d_{names[t]}' for t in self.gradients)
        lines += [f"    return {names[self.tape.roots[0]]}, {{{made}}}"]
        main = "\n".join(lines)
        imports, constants, functions = self.library.used_by(main)
        data = [f"{n.upper()} = {text_of(array_literal(a))}" for n, a in self.leaves.items()]
        head = "\n".join([*imports, "import numpy as np", "", *constants, *data])
        return "\n\n\n".join([head, *functions, main, MAIN])


MAIN = '''if __name__ == "__main__":
    loss, gradients = forward_backward()
    print(f"loss {loss}")
    for name, gradient in gradients.items():
        print(f"|d_{name}| = {np.linalg.norm(gradient)}")
'''


def _with_comment(line: Line) -> str:
    return f"{line.text:{WIDTH}}  # {line.comment}" if line.comment else line.text
