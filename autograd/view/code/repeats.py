"""Repeated scopes of a tape, the blocks of a GPT, as one function and a loop in each pass."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ...engine import Tape, Tensor
from ..outline import Group, outline
from .layout import break_line, lay_out
from .passes import Line, Passes

TOKEN = re.compile(r"(?<![\w.])[^\W\d]\w*\b(?!=[^=])")
"""A variable in a line, or a function; no attribute, and no keyword."""


@dataclass
class Run:
    """Repeated scopes, one after the other: their records, and the suffix that the names of each have."""

    groups: list[Group]
    mark: str
    scope_of: dict[Tensor, int] = field(default_factory=dict)

    def suffix(self, i: int) -> str:
        """Return what the names of the records in scope `i` end with."""
        return f"__{self.mark}{i}"

    def split(self, token: str) -> tuple[str, int] | None:
        """Return the name in a token of this run and the number of its scope; None for another token."""
        found = re.fullmatch(rf"(\w+)__{self.mark}(\d+)", token)
        return (found[1], int(found[2])) if found else None


def find_runs(tape: Tape) -> list[Run]:
    """Return the outermost runs of identical scopes, with more than two operations in each."""
    runs: list[Run] = []
    stack = [outline(tape)]
    while stack:
        for item in stack.pop().items:
            if isinstance(item, Group) and item.twin_of is None:
                if item.twins and sum(t.op is not None for t in item.records()) > 2:
                    run = Run([item, *item.twins], f"r{len(runs)}i")
                    run.scope_of = {t: i for i, group in enumerate(run.groups) for t in group.records()}
                    runs.append(run)
                else:
                    stack.append(item)
    return runs


def repeated_records(runs: list[Run]) -> dict[Tensor, tuple[Tensor, str]]:
    """Map each record of a run to that of its first scope, and to the suffix of its own."""
    found = {}
    for run in runs:
        for i, group in enumerate(run.groups):
            for first, t in zip(run.groups[0].records(), group.records()):
                found[t] = first, run.suffix(i)
    return found


class Misfit(Exception):
    """Scopes that are no loop."""


@dataclass
class Loop:
    """A run as two functions, and the loops that call them."""

    functions: list[str]
    table: str                         # the name of the table of the leaves' keys
    keys: list[list[str]]              # which it holds
    forward: list[str]
    backward: list[str]
    renamed: dict[str, str]            # variables of the last scope -> those of the loop


def write_loop(run: Run, passes: Passes, called: str, keys: dict[str, str], has_gradient: set[str]) -> Loop:
    """Return the loop of a run, whose lines `passes` has.  `keys` are those of the leaves by their variables, and
    `has_gradient` names the leaves that have one.  Raises Misfit if the scopes differ, or are read from outside."""
    return _Writer(run, passes, called, keys, has_gradient).loop()


class _Writer:
    """Compares the lines of the scopes of a run, and writes those of the first as functions."""

    def __init__(self, run: Run, passes: Passes, called: str, keys: dict[str, str], has_gradient: set[str]):
        self.run, self.passes, self.called, self.keys, self.has_gradient = run, passes, called, keys, has_gradient
        self.n = len(run.groups)
        self.outer: dict[str, str] = {}  # a value that a scope takes from the one before -> what the first takes
        self.forward = self._common(passes.forward)
        self.backward = self._common(passes.backward)

    # ------------------------------------------------------------------ comparison
    def _common(self, lines: list[Line]) -> list[Line]:
        """Return the lines that all scopes have, with `<own>` and `<before>` in the place of suffixes."""
        scopes: list[list[Line]] = [[] for _ in range(self.n)]
        places = [k for k, line in enumerate(lines) if line.record in self.run.scope_of]
        if not places or places != list(range(places[0], places[-1] + 1)):
            raise Misfit("not one after the other")
        order = []
        for k in places:
            i = self.run.scope_of[lines[k].record]
            order.append(i)
            scopes[i].append(lines[k])
        if order != sorted(order) and order != sorted(order, reverse=True):
            raise Misfit("interleaved")
        texts = [[self._relative(line.text, i) for line in own] for i, own in enumerate(scopes)]
        if self.n > 2 and any(text != texts[1] for text in texts[2:]):
            raise Misfit("other lines")
        self._match_first(texts[0], texts[1])
        return [Line(text, line.comment, line.record) for text, line in zip(texts[1], scopes[0])]

    def _relative(self, text: str, i: int) -> str:
        def mark(found: re.Match) -> str:
            split = self.run.split(found[0])
            if split is None:
                return found[0]
            if split[1] not in (i, i - 1):
                raise Misfit("reads a scope further away")
            return f"{'own' if split[1] == i else 'before'}__{split[0]}"
        return TOKEN.sub(mark, text)

    def _match_first(self, first: list[str], second: list[str]) -> None:
        """Find what the first scope takes from outside in the place of values of a scope before."""
        if len(first) != len(second):
            raise Misfit("other lines")
        for a, b in zip(first, second):
            tokens_a, tokens_b = TOKEN.findall(a), TOKEN.findall(b)
            if len(tokens_a) != len(tokens_b) or TOKEN.sub("", a) != TOKEN.sub("", b):
                raise Misfit("other lines")
            for x, y in zip(tokens_a, tokens_b):
                if y.startswith("before__"):
                    value, outer = y.removeprefix("before__"), x
                    if value.startswith("d_") and x.startswith("d_"):
                        value, outer = value[2:], x[2:]
                    if "__" in outer or self.outer.setdefault(value, outer) != outer:
                        raise Misfit("other values from before")
                elif x != y:
                    raise Misfit("other lines")

    # ------------------------------------------------------------------ writing
    def loop(self) -> Loop:
        """Write the two functions and the two loops."""
        run, carried = self.run, list(self.outer)
        tokens = self._tokens(self.forward), self._tokens(self.backward)
        first = [t for t in run.groups[0].records() if t.op is None]
        leaves = [self._own(self.passes.names[t]) for t in first]
        leaves.sort(key=lambda n: f"{n}{run.suffix(0)}" not in self.has_gradient)  # those without a gradient last
        own = {t[5:] for t in tokens[0] if t.startswith("own__")}
        inside = {n: n if n not in own else f"{n}_in" for n in self.outer.values()}
        shared = self._shared(tokens)
        shared_d = [t for t in tokens[1] if t.startswith("d_") and t[2:] in self.known]
        differentiable = [n for n in carried if f"before__d_{n}" in tokens[1]]
        if any(f"own__d_{n}" not in tokens[1] for n in differentiable):
            raise Misfit("a gradient ends here")
        after = self._used_outside(carried)
        saved = [self._local(t, inside) for t in tokens[1] if self._is_saved(t, leaves)]
        saved = list(dict.fromkeys(saved))
        result = {n: self.outer[n] if self.outer[n] not in after else n for n in carried}
        d = [f"d_{n}" for n in leaves if f"{n}{run.suffix(0)}" in self.has_gradient]
        ins, d_outs = [inside[self.outer[n]] for n in carried], [f"d_{n}" for n in differentiable]
        d_ins = [f"d_{inside[self.outer[n]]}" for n in differentiable]
        scopes = f"{run.groups[0].path} … {run.groups[-1].path}"
        functions = [
            _function(self.called, [*ins, *shared, *leaves], f"Compute one of the scopes {scopes}; return its results, "
                      "and what the backward pass reads.",
                      [self._line(line, inside) for line in self.forward],
                      [*carried, f"({', '.join(saved)}{',' * (len(saved) == 1)})"]),
            _function(f"{self.called}_backward", [*d_outs, *shared_d, "saved", *shared, *leaves],
                      "Return the gradients of the inputs and of the leaves.",
                      [*([(f"{', '.join(saved)}{',' * (len(saved) == 1)} = saved", "")] if saved else []),
                       *[self._line(line, inside) for line in self.backward]], [*d_ins, *shared_d, *d])]
        keys = [[self.keys[f"{n}{run.suffix(i)}"] for n in leaves] for i in range(self.n)]
        outs, d_out = [result[n] for n in carried], [f"d_{result[n]}" for n in differentiable]
        table, kept = f"{self.called.upper()}S", f"saved_{self.called}s"
        read = "*[given[name] for name in names]"
        forward = [*[f"{result[n]} = {self.outer[n]}" for n in carried if result[n] != self.outer[n]],
                   f"{kept} = []", f"for names in {table}:",
                   f"    {', '.join([*outs, 'saved'])} = {self.called}({', '.join([*outs, *shared, read])})",
                   f"    {kept}.append(saved)"]
        backward = [f"for names, saved in zip({table}[::-1], {kept}[::-1]):",
                    f"    {', '.join([*d_out, *shared_d, '*d'])} = {self.called}_backward("
                    f"{', '.join([*d_out, *shared_d, 'saved', *shared, read])})",
                    "    gradients.update(zip(names, d))"]
        backward += [f"d_{self.outer[n]} = d_{result[n]}" for n in differentiable if result[n] != self.outer[n]]
        last = run.suffix(self.n - 1)
        renamed = {f"{n}{last}": result[n] for n in carried} | {f"d_{n}{last}": f"d_{result[n]}" for n in carried}
        return Loop(functions, table, keys, forward, backward, renamed)

    def _tokens(self, lines: list[Line]) -> list[str]:
        return list(dict.fromkeys(token for line in lines for token in TOKEN.findall(line.text)))

    def _own(self, token: str) -> str:
        split = self.run.split(token)
        assert split is not None
        return split[0]

    def _shared(self, tokens: tuple[list[str], list[str]]) -> list[str]:
        """Return the variables from outside that all scopes read."""
        self.known = {n for n in [*self.passes.names.values(), *self.passes.constants] if "__" not in n}
        return [t for t in dict.fromkeys([*tokens[0], *tokens[1]]) if t in self.known]

    def _is_saved(self, token: str, leaves: list[str]) -> bool:
        """Return True for a value of the forward pass that the backward pass reads."""
        value = token.partition("__")[2]
        computed = {t.partition("__")[2] for t in self._tokens(self.forward)}
        return token.startswith(("own__", "before__")) and value in computed and value not in leaves

    def _local(self, token: str, inside: dict[str, str]) -> str:
        """Return the name that a token has in the functions."""
        if token.startswith("own__"):
            return token[5:]
        if token.startswith("before__"):
            value = token[8:]
            is_gradient = value.startswith("d_") and value not in self.outer
            return f"d_{inside[self.outer[value[2:]]]}" if is_gradient else inside[self.outer[value]]
        return token

    def _line(self, line: Line, inside: dict[str, str]) -> tuple[str, str]:
        return TOKEN.sub(lambda found: self._local(found[0], inside), line.text), line.comment

    def _used_outside(self, carried: list[str]) -> set[str]:
        """Return the variables that other lines read after the loop.  Raises Misfit if they read inside a scope, or
        if the gradient of what the first scope takes has a part from elsewhere."""
        used: set[str] = set()
        for lines in (self.passes.forward, self.passes.backward):
            seen = False
            for line in lines:
                inside = line.record in self.run.scope_of
                seen = seen or inside
                if inside:
                    continue
                for token in TOKEN.findall(line.text):
                    split = self.run.split(token)
                    if split and (split[1] != self.n - 1 or split[0].removeprefix("d_") not in carried):
                        raise Misfit("read from outside")
                    if lines is self.passes.backward and not seen and token in {f"d_{n}" for n in self.outer.values()}:
                        raise Misfit("another part of a gradient")
                    if seen or lines is self.passes.backward:
                        used.add(token)
        return used


def _function(called: str, parameters: list[str], words: str, lines: list[tuple[str, str]], results: list[str]) -> str:
    rows = [break_line(f"def {called}({', '.join(parameters)}):"), break_line(f'    """{words}"""')]
    return "\n".join([*rows, *[lay_out(text, comment, 4) for text, comment in lines],
                      break_line(f"    return {', '.join(results)}{',' * (len(results) == 1)}")])
