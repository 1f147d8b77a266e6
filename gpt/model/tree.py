"""A module as a tree: its parts, their shapes, how many numbers are learned in them, and their bytes."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from autograd.core.describe import describe, format_bytes, plural
from autograd.view.html import Html, details, escape

from .module import Module, _is_array, _items, raw


@dataclass
class Branch:
    """An array, or a module and what is in it."""

    name: str
    what: str
    n: int = 0  # how many numbers are learned; an array that stands in several places counts at the first
    n_bytes: int = 0
    branches: list[Branch] = field(default_factory=list)

    def alike(self, other: Branch) -> bool:
        """Whether only the names differ."""
        return (self.what, self.n, self.n_bytes) == (other.what, other.n, other.n_bytes) and \
            len(self.branches) == len(other.branches) and all(
                a.name == b.name and a.alike(b) for a, b in zip(self.branches, other.branches))


def module_text(module: Module) -> str:
    """An indented tree under a line of totals; parts that repeat are one line: `h.0 … h.3`."""
    rows: list[tuple[str, str]] = []

    def visit(branch: Branch, depth: int) -> None:
        n = f"{branch.n:,}" if branch.n else ""
        counts = f"{n:>12}  {format_bytes(branch.n_bytes):>9}" if branch.n_bytes else ""
        rows.append((f"{'  ' * depth}{branch.name}: {branch.what}", counts))
        for inner in _folded(branch.branches):
            visit(inner, depth + 1)

    root = _tree(module)
    for inner in _folded(root.branches):
        visit(inner, 1)
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join([f"{root.what}: {_totals(root)}",
                      *(f"{name:{width}}  {counts}".rstrip() for name, counts in rows)])


def module_html(module: Module) -> Html:
    """The tree as nested parts to unfold, under a line of totals."""
    def visit(branch: Branch, is_open: bool) -> Html:
        name = f"<b>{escape(branch.name)}</b> " if branch.name else ""
        counts = _totals(branch) if is_open else \
            " · ".join([f"{branch.n:,}"] * (branch.n > 0) + [format_bytes(branch.n_bytes)] * (branch.n_bytes > 0))
        counts = f" &nbsp; <small>{counts}</small>" if counts else ""
        line = Html(f"{name}<code>{escape(branch.what)}</code>{counts}")
        if not branch.branches:
            return Html(f"<div>{line}</div>")
        inner = "".join(f"<li>{visit(b, False)}</li>" for b in _folded(branch.branches))
        return details(line, Html(f'<ul style="list-style-type: none; margin: 0">{inner}</ul>'), is_open)

    return Html(f"<div>{visit(_tree(module), True)}</div>")


def _totals(root: Branch) -> str:
    """`804,096 parameters, 3.2 MB`."""
    return f"{plural(root.n, 'parameter')}, {format_bytes(root.n_bytes)}"


def _tree(module: Module) -> Branch:
    first: dict[int, str] = {}  # the name under which an array was seen

    def visit(name: str, path: str, value: Any) -> Branch:
        if not isinstance(value, Module):
            seen = first.setdefault(id(value), path)
            if seen != path:
                return Branch(name, f"{describe(value)}, the same as {seen}")
            learned = getattr(value, "requires_grad", True)  # as n_parameters has it
            return Branch(name, describe(value) + ("" if learned else " constant"), value.size if learned else 0,
                          raw(value).nbytes)
        branch, settings = Branch(name, type(value).__name__), []
        for f in fields(value):  # type: ignore[arg-type]
            for inner, item in _items(f.name, getattr(value, f.name, None)):
                if isinstance(item, Module) or _is_array(item):
                    branch.branches.append(visit(inner, f"{path}.{inner}".lstrip("."), item))
                elif isinstance(item, (bool, int, float, str)):
                    settings.append(f"{inner}={item!r:.40}")
        branch.what += f"({', '.join(settings)})" if settings else ""
        branch.n, branch.n_bytes = (sum(getattr(b, key) for b in branch.branches) for key in ("n", "n_bytes"))
        return branch

    return visit("", "", module)


def _folded(branches: list[Branch]) -> list[Branch]:
    """Neighbouring modules that are alike as one, `h.0 … h.3`: the numbers of all, and the branches of one."""
    runs: list[list[Branch]] = []
    for b in branches:
        if runs and b.branches and b.alike(runs[-1][0]):
            runs[-1].append(b)
        else:
            runs.append([b])
    return [_as_one(run) if len(run) > 1 else run[0] for run in runs]


def _as_one(run: list[Branch]) -> Branch:
    one, n = run[0], len(run)
    return Branch(f"{one.name} … {run[-1].name}", f"{n} × {one.what}", n * one.n, n * one.n_bytes, one.branches)
