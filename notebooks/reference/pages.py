"""The pages of ops, made from the registry: formula, gradients and how they come about, example, graph, check."""

from __future__ import annotations

import ast
import base64
import inspect
import textwrap
import zlib
from pathlib import Path
from typing import Any

import autograd as ag
from autograd.__main__ import numpy_name
from autograd.core.registry import NUMPY_OVERRIDES
from autograd.view.card.mathematics import find_description, find_formula, find_gradients

from . import chapters
from .derivation import Derivation
from .docstrings import as_rest
from .running import IMPORTS, Trouble, graph, run
from .tables import composed, constant, index


def write(work: Path, derivations: dict[str, Derivation], folder: Path) -> None:
    """Write the pages of all ops into work/ops; the reference itself will be in `folder`.

    Raises Trouble for an example that fails, and for an op whose check does.
    """
    out, uses = work / "ops", chapters.uses()
    out.mkdir()
    for name, derivation in derivations.items():
        (out / f"{name}.md").write_text(_page(ag.REGISTRY[name], derivation, uses.get(name, []), folder / "ops"),
                                        encoding="utf-8")
    (out / "index.md").write_text(index(derivations), encoding="utf-8")
    (out / "composed.rst").write_text(composed(uses), encoding="utf-8")
    (out / "constant.rst").write_text(constant(), encoding="utf-8")


# ---------------------------------------------------------------------- one op


def _page(op: ag.Op, derivation: Derivation, uses: list[chapters.Use], folder: Path) -> str:
    example = IMPORTS + derivation.example.rstrip() + "\n" + _gradients_of(derivation)
    names: dict[str, Any] = {}
    printed = run(example, names, f"{derivation.where}: {op.name}")
    parts = [f"# {op.name}", _words(op), _call(op), _rest_of_docstring(op),
             "## Gradients", _shared(op, derivation),
             *[_gradient(op, x, text) for x, text in derivation.inputs.items()],
             "## Example", _fence("python", example), _fence("{code-block} text\n:class: output", printed),
             _live_link(example, folder), "## Graph", _fence("{raw} html", graph(names["y"])),
             "## Check", _check(op, names),
             "## Chapters that use it", _links(uses)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _words(op: ag.Op) -> str:
    text = _markdown(find_description(op))
    text += "." * bool(text and text[-1] not in ".:!?")
    return "\n\n".join(part for part in (text, _display(find_formula(op))) if part)


def _call(op: ag.Op) -> str:
    """Return its call: by its own name, and by those of NumPy that it implements."""
    overrides = [f"`{numpy_name(f)}`" for f, known in NUMPY_OVERRIDES.items() if known is op or f.__name__ == op.name]
    call = _fence("python", f"ag.{op.name}{op.signature}")
    return f"{call}\n\nAlso what {' and '.join(overrides)} of a Tensor is." if overrides else call


def _rest_of_docstring(op: ag.Op) -> str:
    """Return the docstring after its first paragraph, but for the formula: attributes, shapes, special cases."""
    rest = (inspect.getdoc(op) or "").partition("\n\n")[2]
    lines = [line for line in rest.splitlines() if not line.startswith(find_formula(op)[:12] or "∂")]
    return _fence("{eval-rst}", "\n".join(as_rest(lines, op.formula)).strip()) if lines else ""


def _shared(op: ag.Op, derivation: Derivation) -> str:
    result = find_formula(op)[:1]
    incoming = "$g$" if result == "L" else "$g = ∂L/∂z$" if result == "z" else "$g = ∂L/∂y$"
    start = f"{incoming} is the gradient that comes in: see [notation](../notation.md)."
    return "\n\n".join(part for part in (start, derivation.family, derivation.text) if part)


def _gradient(op: ag.Op, names: str, text: str) -> str:
    """The rule of some inputs as its docstring has it, how it is derived, and as it stands in the code."""
    said, rules = find_gradients(op), []
    for x in names.split(", "):
        rule = op.rules[op.parameters.index(x)][0]
        rules += [rule] if rule not in rules else []
    shown = "\n".join(dict.fromkeys(line for x in names.split(", ") if (line := said[x])))
    code = "\n\n".join(_source(rule) for rule in rules)
    return f"### {names}\n\n{_display(shown)}\n\n{text}\n\n{_fence('python', code)}"


def _source(rule: Any) -> str:
    """The code of a rule; a lambda without the table that it stands in."""
    if rule.__name__ != "<lambda>":
        return textwrap.dedent(inspect.getsource(rule)).rstrip()
    text, line = Path(inspect.getsourcefile(rule) or "").read_text(encoding="utf-8"), rule.__code__.co_firstlineno
    node = next(n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Lambda) and n.lineno == line)
    return ast.get_source_segment(text, node) or ""


def _gradients_of(derivation: Derivation) -> str:
    """Return the end of every example: a backward pass, and the gradients of the leaves."""
    names: dict[str, Any] = {}
    run(IMPORTS + derivation.example, names, derivation.where)
    y = names.get("y")
    if not isinstance(y, ag.Tensor) or not y.requires_grad:
        raise Trouble(f"{derivation.where}: the example leaves no Tensor y that requires a gradient")
    leaves = [name for name, t in names.items() if isinstance(t, ag.Tensor) and t.op is None and t.requires_grad]
    made = "y.backward()\n" if y.shape == () else \
        f"y.backward(np.linspace(1, 2, {y.size}){f'.reshape{y.shape}' if y.ndim != 1 else ''})     # this is g\n"
    lines = [f'print("{name}.grad =", {name}.grad)' for name in leaves]
    return f'print("y =", y.data)\n{made}' + "\n".join(lines)


def _check(op: ag.Op, names: dict[str, Any]) -> str:
    """Check the rules on the samples of the tests, and the example by its card; return a report."""
    from tests.samples import SAMPLES
    samples = SAMPLES.get(op.name, [])
    if not samples:
        raise Trouble(f"{op.name} has no samples: enter some in tests/samples.py")
    try:
        ag.check_op(op, samples, order=2)
    except (AssertionError, ValueError) as error:
        raise Trouble(f"{op.name} fails its check: {error}") from error
    record = next(t for t in reversed(ag.tape(names["y"])) if t.op is op)
    rows = [(row.name, row.residual) for row in record.explain(names["y"]).rows if row.residual]
    if bad := [f"{name}: {residual.text}" for name, residual in rows if residual.agrees is False]:
        raise Trouble(f"{op.name} fails the check of its example: {bad[0]}")
    lines = [f"- `{name}`: {residual.text}" for name, residual in rows]
    said = f"`ag.check_op` compared the rules with finite differences on the {len(samples)} samples of the tests, " \
           "and the gradients of these gradients too: they agree."
    return said + ("\n\nIn the example, by the card of `y.explain()`:\n\n" + "\n".join(lines) if lines else "")


def _live_link(code: str, folder: Path) -> str:
    """Return a link that opens code in the live page, where the reference is in a site that has one."""
    if not (folder.parents[1] / "live.html").is_file():
        return ""
    packing = zlib.compressobj(9, wbits=-15)
    packed = base64.urlsafe_b64encode(packing.compress(code.encode()) + packing.flush()).decode().rstrip("=")
    return f'<a href="../../live.html#code={packed}">Run it, change it, and play its tape in the browser</a>'


def _links(uses: list[chapters.Use]) -> str:
    lines = "\n".join(f"- {chapters.link(use)}" for use in uses)
    return lines if lines else "None calls it by its name yet."


# ---------------------------------------------------------------------- Markdown


def _fence(kind: str, text: str) -> str:
    kind, _, options = kind.partition("\n")
    ticks = "````" if "```" in text else "```"
    return f"{ticks}{kind}\n{options}{chr(10) * bool(options)}{text}\n{ticks}"


def _display(text: str) -> str:
    return f"$$\n{text}\n$$" if text else ""


def _markdown(text: str) -> str:
    """Plain text whose `words` in backticks are code."""
    parts = text.split("`")
    return "`".join(part if i % 2 else part.replace("*", "\\*").replace("_", "\\_").replace("<", "&lt;")
                    .replace("[", "\\[").replace("$", "\\$") for i, part in enumerate(parts))
