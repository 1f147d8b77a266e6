"""Command `python -m autograd`: list the ops and functions that take Tensors; with a NAME, show that one whole."""

import argparse
import inspect
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import FUNCTIONS, REGISTRY
from .core.registry import NUMPY_OVERRIDES, numpy_name
from .engine import Op


def supported() -> Iterator[tuple[str, str, str, str]]:
    """Yield (name, gradient, NumPy functions, summary) of each op and composed function, by name."""
    for name, function in sorted({**REGISTRY, **FUNCTIONS}.items()):
        overrides = [numpy_name(f) for f, implementation in NUMPY_OVERRIDES.items()
                     if getattr(implementation, "op", implementation) is function or f.__name__ == name]
        yield name, gradient(function), ", ".join(overrides), summary(function)


def gradient(function: Any) -> str:
    """Return the inputs that an op has gradient rules for, in words; "composed" for a function of ops."""
    if not isinstance(function, Op):
        return "composed"
    if not function.differentiable:
        return "none"
    inputs = [f"{p} (surrogate)" if function.rules.surrogates.get(i) is not None else p
              for i, p in enumerate(function.parameters[:function.n_inputs]) if i in function.rules]
    return "of " + ", ".join(inputs)


def summary(function: Any) -> str:
    """Return the first paragraph of a docstring on one line; of NumPy's the first after the signature."""
    paragraphs = [" ".join(p.split()) for p in (inspect.getdoc(function) or "").split("\n\n")]
    return next((p for p in paragraphs if not p.startswith(f"{function.__name__}(")), "")


def explain(name: str) -> str:
    """Return the signature, docstring and gradient rules of one op or function."""
    function = REGISTRY.get(name) or FUNCTIONS.get(name)
    if function is None:
        raise SystemExit(f"autograd has no {name!r}: python -m autograd lists what it has")
    if not isinstance(function, Op):
        return f"{name}{inspect.signature(function)}\n\n{inspect.getdoc(function)}"
    rules = dict.fromkeys(rule for rule, _ in function.rules.values())
    is_ufunc_alone = isinstance(function.formula, np.ufunc) and not function.rules  # whose help is NumPy's, and long
    text = summary(function) if is_ufunc_alone else inspect.getdoc(function)
    return "\n\n".join([f"{name}{function.signature}", text or "", *[inspect.getdoc(rule) or "" for rule in rules]])


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m autograd", description="List the functions that take Tensors: "
                                     "ops, which have a gradient rule for each input, and functions composed of them.")
    parser.add_argument("name", nargs="?", help="show one of them: signature, formula, edge cases and gradients")
    name = parser.parse_args().name
    if name:
        return print(explain(name))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL) if hasattr(signal, "SIGPIPE") else None  # `| head` may leave
    rows = [("name", "gradient", "implements", "summary"), *supported()]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        print("  ".join([*[cell.ljust(n) for cell, n in zip(row, widths)], row[3]])[:160].rstrip())


if __name__ == "__main__":
    main()
