"""The pages that list: all operations by family, composed functions, and what has no gradient."""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import Any

import numpy as np

import autograd as ag
from autograd.core.registry import module_of, numpy_name
from autograd.view.card.mathematics import find_description, find_formula

from . import chapters
from .derivation import Derivation, family
from .docstrings import as_rest
from .running import IMPORTS, run

FAMILIES = {
    "elementwise": "Element by element", "linear": "Products, convolution and the Fourier transform",
    "linalg": "Inverses, determinants and decompositions", "reduce": "Reductions", "shape": "Shapes",
    "index": "Indexing", "network": "Neural networks"}


def index(derivations: dict[str, Derivation]) -> str:
    parts = ["# Operations", "Each has a page, made from the registry when these pages were built: formula, derivation "
             "of every gradient, an example that was run, its graph and the result of its check. [What is composed of "
             "them](composed.rst) needs no rule, and [what has no gradient](constant.rst) gives constants."]
    toc = []
    for key, title in FAMILIES.items():
        names = [name for name in ag.REGISTRY if name in derivations and family(ag.REGISTRY[name]) == key]
        rows = "\n".join(f"| [{name}]({name}.md) | {_cell(find_formula(ag.REGISTRY[name]))} |" for name in names)
        parts.append(f"## {title}\n\n| | |\n|---|---|\n{rows}")
        toc += names
    parts.append("\n".join(["```{toctree}", ":hidden:", "", *toc, "composed", "constant", "```"]))
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return f"${text}$".replace("|", "\\|") if text else ""


def composed(uses: dict[str, list[chapters.Use]]) -> str:
    lines = ["Composed functions", "==================", "",
             "These are made of operations and need no rule. On a tape, what they record stands in a scope of their "
             "name.", ""]
    for name, function in sorted(ag.FUNCTIONS.items()):
        lines += [name, "-" * len(name), "", *_code_rest(f"ag.{name}{inspect.signature(function)}"),
                  *as_rest((inspect.getdoc(function) or "").splitlines(), function), *_sample(name)]
        if name in uses:
            links = "; ".join(chapters.link(use) for use in uses[name])
            lines += [".. raw:: html", "", f"   <p>Used in: {links}</p>", ""]
    return "\n".join(lines)


def constant() -> str:
    lines = ["Without a gradient", "==================", "",
             "These are constant almost everywhere, or give places and truths: what they return is a constant.", ""]
    for name, op in sorted(ag.REGISTRY.items()):
        if op.rules:
            continue
        own = not module_of(op.formula).startswith("numpy")
        lines += [name, "-" * len(name), "", *_code_rest(f"ag.{name}{op.signature}".replace("<no value>", "..."))]
        lines += as_rest((inspect.getdoc(op) or "").splitlines(), op.formula) if own else \
            [f"NumPy's ``{numpy_name(op.formula)}``.", "", *as_rest([f"{find_description(op)}."])]
        lines += _sample(name)
    return "\n".join(lines)


def _sample(name: str) -> list[str]:
    """A call with one of the samples of the tests that can be written down, in two decimals, and what it gives."""
    from tests.samples import SAMPLES
    samples = SAMPLES.get(name, []) if name != "empty_like" else []  # which gives whatever is in memory
    for sample in [*samples[1:], *samples[:1]]:
        args, attrs = (sample[:-1], sample[-1]) if isinstance(sample[-1], dict) else (sample, {})
        with suppress(TypeError):
            given = [*map(_literal, args), *[f"{key}={_literal(value)}" for key, value in attrs.items()]]
            code = f"print(ag.{name}({', '.join(given)}))"
            printed = run(IMPORTS + code, {}, name)
            shown = [f"   {line}" for line in printed.splitlines()]
            return [*_code_rest(code), ".. code-block:: text", "   :class: output", "", *shown, ""]
    return []


def _literal(value: Any) -> str:
    """Return a value as it is written in code.  Raises TypeError for one that is not written easily."""
    if isinstance(value, np.ndarray):
        if not value.size or value.dtype.kind == "f" and not np.isfinite(value).all():
            raise TypeError("nothing to see, or nothing that is written easily")
        return f"np.array({np.round(value, 2).tolist() if value.dtype.kind == 'f' else value.tolist()})"
    if isinstance(value, (list, tuple)):
        inner = ", ".join(map(_literal, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' * (len(value) == 1)})"
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    raise TypeError(f"{value!r} is no literal")


def _code_rest(code: str) -> list[str]:
    return [".. code-block:: python", "", f"   {code}", ""]
