"""`python -m autograd` lists what Tensors can go through, from the registry; with a NAME it shows that one whole."""

import argparse
import inspect
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import FUNCTIONS, REGISTRY
from .core.methods import ANSWERS, numpy_name
from .engine import Op


def supported() -> Iterator[tuple[str, str, str, str]]:
    """(name, gradient, the NumPy functions it stands in for, what it is) of each op and composed function, by name."""
    for name, known in sorted({**REGISTRY, **FUNCTIONS}.items()):
        answered = [numpy_name(f) for f, answer in ANSWERS.items()
                    if getattr(answer, "op", answer) is known or f.__name__ == name]
        yield name, gradient(known), ", ".join(answered), summary(known)


def gradient(known: Any) -> str:
    """Where the gradient comes from."""
    if not isinstance(known, Op):
        return "composed"
    if not known.differentiable:
        return "none"
    inputs = [f"{p} (surrogate)" if known.rules.surrogates.get(i) is not None else p
              for i, p in enumerate(known.parameters[:known.n_inputs]) if i in known.rules]
    return "of " + ", ".join(inputs)


def summary(known: Any) -> str:
    """The first paragraph of a docstring on one line; of NumPy's the first after the signature."""
    paragraphs = [" ".join(p.split()) for p in (inspect.getdoc(known) or "").split("\n\n")]
    return next((p for p in paragraphs if not p.startswith(f"{known.__name__}(")), "")


def explain(name: str) -> str:
    """Signature, docstring and gradients of one op or function."""
    known = REGISTRY.get(name) or FUNCTIONS.get(name)
    if known is None:
        raise SystemExit(f"autograd has no {name!r}: python -m autograd lists what it has")
    if not isinstance(known, Op):
        return f"{name}{inspect.signature(known)}\n\n{inspect.getdoc(known)}"
    rules = dict.fromkeys(rule for rule, _ in known.rules.values())
    text = inspect.getdoc(known) if known.rules or not isinstance(known.formula, np.ufunc) else summary(known)
    return "\n\n".join([f"{name}{known.signature}", text or "", *[inspect.getdoc(rule) or "" for rule in rules]])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m autograd", description="What Tensors can go through: ops, which "
                                     "have a gradient rule for each input, and functions composed of them.")
    parser.add_argument("name", nargs="?", help="one of them: its signature, formula, edges and gradients")
    name = parser.parse_args().name
    if name:
        return print(explain(name))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL) if hasattr(signal, "SIGPIPE") else None  # `| head` may leave
    rows = [("name", "gradient", "answers for", "what it is"), *supported()]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        print("  ".join([*[cell.ljust(n) for cell, n in zip(row, widths)], row[3]])[:160].rstrip())


if __name__ == "__main__":
    main()
