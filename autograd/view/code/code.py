"""`tape.code()`: a tape's forward and backward pass as a program that needs NumPy alone."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...core.describe import plural
from ...core.mode import within
from ...core.tree import tree_leaves
from ...engine import Tape, Tensor, reverse
from ...engine import tape as tape_of
from ..backward import differentiable_roots, restore_freed
from ..what_if import replay
from .layout import break_line, lay_out
from .library import Library
from .names import identifier, name_records
from .numbers import READER, is_large, number_text, quoted, stored
from .passes import Passes
from .repeats import TOKEN, Loop, Misfit, Run, find_runs, repeated_records, write_loop
from .source import double_quoted

MOST = 8
"""Most leaves that are parameters by their names; of more there is a table."""
OWN_NAMES = {"np", "math", "array", "Path", "forward_backward", "zip", "tuple", "slice", "len", "range", "print"}
IN_LOOPS = {"given", "leaves", "d", "names", "saved", "gradients"}
MAIN = '''if __name__ == "__main__":
    {loss}, gradients = forward_backward()
    print("{loss}", {loss})
    for name, gradient in gradients.items():
        print(f"|d_{{name}}| = {{np.linalg.norm(gradient):.6g}}")
'''


def source(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Code:
    """Write the program of the gradient that a transformed function computes; `ag.source` says more."""
    caught = _Caught()
    with within(observer=caught):
        function(*args, **kwargs)
    if caught.passes != 1:
        raise TypeError(f"{plural(caught.passes, 'backward pass').replace('passs', 'passes')} ran in this call, and a "
                        "program has one: source takes a function that computes a gradient, such as ag.grad(f), and "
                        "the arguments to call it with")
    tape = tape_of(caught.root)
    _name_leaves(tape, inspect.signature(function).bind(*args, **kwargs).arguments)
    return Code(tape)


class _Caught:
    """An observer that keeps the result from which a backward pass starts, and counts the passes."""

    root: Any = None
    last: Any = None
    passes = 0

    def on_forward(self, t: Tensor) -> None:
        """Do nothing."""

    def on_backward(self, t: Tensor, g: Any, sent: Any) -> None:
        """Keep the first record of a pass, each of whose later ones is older than the one before."""
        if self.last is None or t.created >= self.last.created:
            self.root, self.passes = t, self.passes + 1
        self.last = t


def _name_leaves(tape: Tape, arguments: dict[str, Any]) -> None:
    """Name the leaves that a transform made of the arguments of a call: as its parameters."""
    given = []
    for parameter, argument in arguments.items():
        leaves = [a for a in tree_leaves(argument) if isinstance(a, (np.ndarray, np.generic, float, Tensor))]
        given += [(parameter if len(leaves) == 1 else f"{parameter}_{i}", a) for i, a in enumerate(leaves)]
    for t in tape:
        if t.op is None and t.requires_grad and not t.name:
            fitting = [pair for pair in given if np.shape(pair[1]) == t.shape and np.array_equal(
                pair[1]._value() if isinstance(pair[1], Tensor) else pair[1], t._value(), equal_nan=True)]
            if fitting:
                t.name = fitting[0][0]
                given.remove(fitting[0])


class Code:
    """A NumPy program of the forward and the backward pass of a tape: `str()` is its source, `save` writes it.

    `forward_backward(**leaves)` in it returns the result and a dict of the leaves' gradients.  It has formulas and VJP
    rules, and no kernels: `rounding` is the largest difference from `backward()`, as a part of the largest number of an
    array, and 0.0 where both have the same bits.  `numbers` are the arrays that are too large to be written out.
    """

    def __init__(self, tape: Tape):
        roots = differentiable_roots(tape)
        if len(roots) != 1:
            raise ValueError("a program computes the gradients of one result, and this tape has "
                             f"{plural(len(roots), 'root')} that require one: ag.tape(loss).code()")
        with restore_freed(tape), within(observer=None, grad_enabled=True), np.errstate(all="ignore"):
            with within(executor=None):
                new = replay(tape)
                self.tape = tape_of(new[roots[0]])
                self.result, self.gradients = _run(self.tape)
                self._write()
            self.rounding = self._compare(tape, {new[t]: t for t in tape_of(*roots)})
            self.source = self._source()
            self._check()

    # ------------------------------------------------------------------ the passes
    def _write(self) -> None:
        """Write the lines of both passes, with loops where scopes repeat."""
        runs = find_runs(self.tape)
        taken = OWN_NAMES | (IN_LOOPS if runs or len(self.tape) > MOST else set())
        names = name_records(self.tape, taken, repeated_records(runs))
        self.library = Library({*names.values(), *[f"d_{n}" for n in names.values()], *taken})
        self.passes = Passes(self.tape, self.library, names)
        self.arrays = {names[t]: np.asarray(t._value()) for t in self.tape if t.op is None} | self.passes.constants
        given = [t.name for t in self.tape if t.op is None]
        self.flat = {names[t]: self.library.free_name(identifier(t.name)) for t in self.tape
                     if t.op is None and "__r" in names[t] and t.name}
        self.flat |= {f"d_{n}": f"d_{flat}" for n, flat in self.flat.items()}
        self.keys = {names[t]: t.name if t.name and given.count(t.name) == 1 else self._flat(names[t])
                     for t in self.tape if t.op is None} | {n: n for n in self.passes.constants}
        has_gradient = {names[t] for t in self.gradients}
        self.loops: list[tuple[Run, Loop]] = []
        for run in runs:
            first = run.groups[0].name
            called = self.library.free_name(*[first] * (first.isidentifier() and first.islower()), "block")
            try:
                self.loops.append((run, write_loop(run, self.passes, called, self.keys, has_gradient)))
            except Misfit:
                continue

    def _flat(self, name: str) -> str:
        """Return a variable's name without the mark of its run: `h_2` of `h__r0i2`; a leaf's is that of its key."""
        if name in self.flat:
            return self.flat[name]
        head, mark, number = name.rpartition("__r")
        return f"{head}_{number.partition('i')[2]}" if mark else name

    def _lines(self, which: str) -> list[str]:
        """Return the lines of one pass, those of a loop replaced by it."""
        renamed = {old: new for _, loop in self.loops for old, new in loop.renamed.items()}

        def rename(text: str) -> str:
            return TOKEN.sub(lambda found: renamed.get(found[0], self._flat(found[0])), text)

        rows, written = [], set()
        for line in getattr(self.passes, which):
            run, loop = next(((r, w) for r, w in self.loops if line.record in r.scope_of), (None, None))
            if loop is None:
                rows.append(lay_out(rename(line.text), line.comment, 4))
            elif loop.table not in written:
                written.add(loop.table)
                rows += ["", *[break_line("    " + rename(text)) for text in getattr(loop, which)], ""]
        return rows

    # ------------------------------------------------------------------ source
    def _source(self) -> str:
        backward, result = self._lines("backward"), self._flat(self.passes.names[self.tape.roots[0]])
        in_loops = {key for _, loop in self.loops for keys in loop.keys for key in keys}
        made = [f'{quoted(self.keys[n])}: d_{self._flat(n)}' for t in self.gradients
                if self.keys[n := self.passes.names[t]] not in in_loops]
        gradients = f"{{{', '.join(['**gradients'] * bool(self.loops) + made)}}}"
        body = ['    """Return the result, and the gradients of the leaves by name."""', *self._leaf_lines(in_loops),
                *self._lines("forward"), "", *["    gradients = {}"] * bool(self.loops), *backward,
                break_line(f"    return {result}, {gradients}")]
        main = "\n".join([*self._definition(), *_without_double_blanks(body)])
        loops = [text for _, loop in self.loops for text in loop.functions]
        imports, constants, functions = self.library.used_by("\n".join([*loops, main]))
        large = any(map(is_large, self.arrays.values()))
        head = [f'"""{self._words(result)}"""', "", *imports, *["from pathlib import Path"] * large,
                *[""] * bool(imports or large), "import numpy as np", ""]
        tables = [f"{loop.table} = {_table_text(run, loop)}" for run, loop in self.loops]
        data = [*[break_line(text) for text in constants], *[READER, "", ""] * large, *self._data(), *tables]
        parts = ["\n".join([*head, *data]), *functions, *loops, main, MAIN.format(loss=result)]
        return double_quoted("\n\n\n".join(parts))

    def _words(self, result: str) -> str:
        """Return the docstring of the program."""
        n = sum(t.op is not None for t in self.tape)
        said = ("It gives the same bits as backward() does." if not self.rounding else
                f"backward() runs kernels for some ops, which round differently: its numbers are\n"
                f"within {self.rounding:.1g} of the largest in their array.")
        needs = " and ".join(["NumPy", *sorted(self.library.foreign)]) if self.library.foreign else "NumPy alone"
        return (f"Forward and backward pass of {result}: {plural(n, 'operation')}, gradients of "
                f"{plural(len(self.gradients), 'leaf').replace('leafs', 'leaves')}.\n\n"
                f"Written by tapegrad's tape.code(); it needs {needs}.  The gradient of x is d_x, and the comment "
                f"beside it\nis the VJP rule.  {said}\n")

    def _definition(self) -> list[str]:
        if len(self.arrays) > MOST:
            return ["def forward_backward(**leaves):"]
        parameters = [f"{self._flat(n)}={_upper(self._flat(n))}" for n in self.arrays]
        return [break_line(f"def forward_backward({', '.join(parameters)}):")]

    def _leaf_lines(self, in_loops: set[str]) -> list[str]:
        """Return the lines that read leaves from the table."""
        if len(self.arrays) <= MOST:
            return ["    given = {" + ", ".join(f'{quoted(self.keys[n])}: {self._flat(n)}' for n in self.arrays
                                           if self.keys[n] in in_loops) + "}"] if in_loops else []
        return ["    given = {**LEAVES, **leaves}",
                *[f'    {self._flat(n)} = given[{quoted(key)}]' for n, key in self.keys.items() if key not in in_loops]]

    def _data(self) -> list[str]:
        """Return the lines that define the numbers of the leaves."""
        if len(self.arrays) <= MOST:
            names = {_upper(self._flat(n)): n for n in self.arrays}
            return [f"{called} = {number_text(self.keys[n], self.arrays[n], len(called) + 3)}"
                    for called, n in names.items()]
        rows = [f'    {quoted(self.keys[n])}: {number_text(self.keys[n], a, len(self.keys[n]) + 8)},'
                for n, a in self.arrays.items()]
        return ["LEAVES = {", *rows, "}"]

    @property
    def numbers(self) -> dict[str, Any]:
        """The arrays that are too large to be written out, as the file beside the program holds them."""
        return {self.keys[n]: stored(a) for n, a in self.arrays.items() if is_large(a)}

    # ------------------------------------------------------------------ checks
    def _compare(self, tape: Tape, olds: dict[Tensor, Tensor]) -> float:
        """Return the largest difference between the program and the tape's own pass, relative to each array."""
        result, gradients = _run(tape_of(olds[self.tape.roots[0]]))
        pairs = [(self.result, result), *[(g, gradients[olds[t]]) for t, g in self.gradients.items()]]
        return max(_distance(a, b) for a, b in pairs)

    def _check(self) -> None:
        """Run the program.  Raises RuntimeError unless it gives the result and the gradients to the bit."""
        namespace: dict[str, Any] = {"__name__": "program", "__file__": "program.py"}
        exec(compile(self.source, "<tape.code()>", "exec"), namespace)
        large = {self.keys[n] if len(self.arrays) > MOST else self._flat(n): a for n, a in self.arrays.items()
                 if is_large(a)}
        result, gradients = namespace["forward_backward"](**large)
        wrong = [] if _same_bits(result, self.result) else ["the result"]
        wrong += [key for t, g in self.gradients.items()
                  if not _same_bits(gradients[key := self.keys[self.passes.names[t]]], g)]
        if wrong:
            raise RuntimeError(f"the program gives other bits than the tape, for {', '.join(wrong)}: a formula or rule "
                               "that is not pure, or that reads something else than its arguments?")

    # ------------------------------------------------------------------ for people
    def save(self, path: str | Path) -> Path:
        """Write the program to a file, and beside it, where there are large arrays, their numbers as `.npz`."""
        path = Path(path)
        path.write_text(self.source, encoding="utf-8")
        if self.numbers:
            np.savez(path.with_suffix(".npz"), **self.numbers)
        return path

    def __str__(self) -> str:
        return self.source

    __repr__ = __str__


def _run(tape: Tape) -> tuple[Any, dict[Tensor, Any]]:
    """Return the value of a tape's root, and the gradients of its leaves."""
    root = tape.roots[0]
    backward = reverse([root], [np.ones_like(root._value())], keep=True)
    found = {t: g for t, g, _ in backward if t.op is None}
    return root._value(), {t: found[t] for t in tape if t in found}


def _upper(name: str) -> str:
    return name.upper() if name.upper() != name else f"{name}_"


def _same_bits(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _distance(a: Any, b: Any) -> float:
    """Return the largest difference of two arrays as a part of their largest finite number; 0.0 for the same bits."""
    if _same_bits(a, b):
        return 0.0
    a, b = np.asarray(a, float), np.asarray(b, float)
    largest = np.max(np.absolute(a), initial=0.0, where=np.isfinite(a)) or 1.0
    apart = np.where((a == b) | (a != a) & (b != b), 0, np.absolute(a - b))
    return max(float(np.max(apart, initial=0.0) / largest), 5e-324)


def _table_text(run: Run, loop: Loop) -> str:
    """Return the table of the keys of the leaves of each repeated scope, as a comprehension if they are alike."""
    number = re.search(r"\d+$", run.groups[0].path)
    start, first = int(number[0]) if number else 0, loop.keys[0]
    for head in {key.partition(str(start))[0] for key in first}:
        tails = [key.removeprefix(f"{head}{start}.") for key in first]
        if all(keys == [f"{head}{i}.{tail}" for tail in tails] for i, keys in enumerate(loop.keys, start)):
            names = "".join(f'"{tail}", ' for tail in tails).rstrip(" " if len(tails) == 1 else ", ")
            every = f"range({start}, {start + len(loop.keys)})" if start else f"range({len(loop.keys)})"
            line = f'[[f"{head}{{i}}.{{name}}" for name in ({names})] for i in {every}]'
            if len(line) < 105:
                return line
            rows = textwrap.fill(names, 112, break_on_hyphens=False, initial_indent="    ", subsequent_indent="    ")
            return line.replace(f"({names})", f"(\n{rows})")
    return "[" + ",\n    ".join(break_line(str(keys)) for keys in loop.keys) + "]"


def _without_double_blanks(rows: list[str]) -> list[str]:
    return [row for i, row in enumerate(rows) if row or i and rows[i - 1] and i + 1 < len(rows)]
