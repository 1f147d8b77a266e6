"""A module as a tree: its arrays and modules with shapes, numbers of parameters and bytes.

Modules are recognized by their method `named_arrays`, and not by isinstance, since `module` imports this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from autograd.core.describe import describe, format_bytes, plural
from autograd.core.packed import Packed
from autograd.view.html import Html, details, escape


@dataclass
class Branch:
    """An array, or a module with its branches."""

    name: str
    description: str
    n: int = 0  # parameters; a shared array counts where it is first found
    n_bytes: int = 0
    branches: list[Branch] = field(default_factory=list)

    def same_but_for_name(self, other: Branch) -> bool:
        """Return True if only the names of the two differ."""
        return (self.description, self.n, self.n_bytes) == (other.description, other.n, other.n_bytes) and \
            len(self.branches) == len(other.branches) and all(
                a.name == b.name and a.same_but_for_name(b) for a, b in zip(self.branches, other.branches))


def flatten_containers(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the dotted names and items of a field, through lists, tuples and dicts."""
    if isinstance(value, (list, tuple, dict)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flatten_containers(f"{name}.{key}", item)
    else:
        yield name, value


def is_array(value: Any) -> bool:
    """Return True for a NumPy array or Tensor, and False for a type like np.float32, which has a shape, too."""
    return hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, type)


def is_parameter(array: Any) -> bool:
    """Return True for raw arrays, packed weights, and Tensors that require a gradient."""
    return isinstance(array, Packed) or getattr(array, "requires_grad", True)


def module_text(module: Any) -> str:
    """Return an indented tree under a line of totals; repeated modules are one line: `h.0 … h.3`."""
    rows: list[tuple[str, str]] = []

    def visit(branch: Branch, depth: int) -> None:
        n = f"{branch.n:,}" if branch.n else ""
        counts = f"{n:>12}  {format_bytes(branch.n_bytes):>9}" if branch.n_bytes else ""
        rows.append((f"{'  ' * depth}{branch.name}: {branch.description}", counts))
        for inner in _fold_repeated(branch.branches):
            visit(inner, depth + 1)

    root = _tree(module)
    for inner in _fold_repeated(root.branches):
        visit(inner, 1)
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join([f"{root.description}: {_totals(root)}",
                      *(f"{name:{width}}  {counts}".rstrip() for name, counts in rows)])


def module_html(module: Any) -> Html:
    """Return the tree as nested lists to unfold, under a line of totals."""
    def visit(branch: Branch, is_open: bool) -> Html:
        name = f"<b>{escape(branch.name)}</b> " if branch.name else ""
        counts = _totals(branch) if is_open else \
            " · ".join([f"{branch.n:,}"] * (branch.n > 0) + [format_bytes(branch.n_bytes)] * (branch.n_bytes > 0))
        counts = f" &nbsp; <small>{counts}</small>" if counts else ""
        line = Html(f"{name}<code>{escape(branch.description)}</code>{counts}")
        if not branch.branches:
            return Html(f"<div>{line}</div>")
        inner = "".join(f"<li>{visit(b, False)}</li>" for b in _fold_repeated(branch.branches))
        return details(line, Html(f'<ul style="list-style-type: none; margin: 0">{inner}</ul>'), is_open)

    return Html(f"<div>{visit(_tree(module), True)}</div>")


def _totals(root: Branch) -> str:
    """Return the totals: `804,096 parameters, 3.2 MB`."""
    return f"{plural(root.n, 'parameter')}, {format_bytes(root.n_bytes)}"


def _tree(module: Any) -> Branch:
    first: dict[int, str] = {}  # id of an array -> the path where it was first found

    def visit(name: str, path: str, value: Any) -> Branch:
        if is_array(value):
            seen = first.setdefault(id(value), path)
            if seen != path:
                return Branch(name, f"{describe(value)}, the same as {seen}")
            learned = is_parameter(value)
            return Branch(name, describe(value) + ("" if learned else " constant"), value.size if learned else 0,
                          getattr(value, "nbytes", value.size * value.dtype.itemsize))
        branch, settings = Branch(name, type(value).__name__), []
        for f in fields(value):
            for inner, item in flatten_containers(f.name, getattr(value, f.name, None)):
                if hasattr(item, "named_arrays") or is_array(item):
                    branch.branches.append(visit(inner, f"{path}.{inner}".lstrip("."), item))
                elif isinstance(item, (bool, int, float, str)):
                    settings.append(f"{inner}={item!r:.40}")
        branch.description += f"({', '.join(settings)})" if settings else ""
        branch.n, branch.n_bytes = (sum(getattr(b, key) for b in branch.branches) for key in ("n", "n_bytes"))
        return branch

    return visit("", "", module)


def _fold_repeated(branches: list[Branch]) -> list[Branch]:
    """Fold neighbouring modules that differ only by name into one, `h.0 … h.3`, with the total of their numbers."""
    runs: list[list[Branch]] = []
    for b in branches:
        if runs and b.branches and b.same_but_for_name(runs[-1][0]):
            runs[-1].append(b)
        else:
            runs.append([b])
    return [_fold(run) if len(run) > 1 else run[0] for run in runs]


def _fold(run: list[Branch]) -> Branch:
    one, n = run[0], len(run)
    return Branch(f"{one.name} … {run[-1].name}", f"{n} × {one.description}", n * one.n, n * one.n_bytes, one.branches)
