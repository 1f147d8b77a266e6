"""Derivations and examples of ops, read from Markdown: `## op`, its example, and `### input` for each gradient rule."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import autograd as ag
from autograd.core.registry import module_of

from .running import Trouble

_EXAMPLE = re.compile(r"^```python\n(.*?)^```\n", re.DOTALL | re.MULTILINE)


@dataclass
class Derivation:
    """The derivation of one op: its text, its example, and a paragraph for each input."""
    where: str                                     # network.md:12
    family: str = ""                               # what stands before the first op, for all ops of the file
    text: str = ""                                 # before the first input: what the derivations share
    example: str = ""                              # code that leaves a Tensor `y`
    inputs: dict[str, str] = field(default_factory=dict)   # "q, k, v" -> how the gradients of these come about


def read(folder: Path) -> dict[str, Derivation]:
    """The derivations of all ops, by name.

    Raises Trouble for a rule without a derivation, a derivation without a rule, and an op without an example.
    """
    found: dict[str, Derivation] = {}
    for path in sorted(folder.glob("*.md")):
        for name, derivation in _sections(path):
            if name in found:
                raise Trouble(f"{derivation.where}: {name} is derived in {found[name].where} already")
            found[name] = derivation
    for name, derivation in found.items():
        _check_names(name, derivation)
    for name, op in ag.REGISTRY.items():
        if op.rules and not module_of(op.formula).startswith(("example", "__main__")):
            _check_complete(name, found.get(name), f"{folder.name}/{family(op)}.md")
    return found


def family(op: ag.Op) -> str:
    """The file or folder of autograd/ops that an op is from; those made of NumPy's own functions are in
    elementwise.py."""
    module = module_of(op.formula)
    return module.split(".")[2] if module.startswith("autograd.ops.") else "elementwise"


def _sections(path: Path) -> Iterator[tuple[str, Derivation]]:
    """(op, what is written about it) in a file."""
    lines, fenced, starts = path.read_text(encoding="utf-8").splitlines(keepends=True), False, []
    for i, line in enumerate(lines):
        fenced ^= line.startswith("```")
        if line.startswith("## ") and not fenced:
            starts.append(i)
    for start, end in zip(starts, [*starts[1:], len(lines)]):
        intro, *inputs = re.split(r"^### (.+)\n", "".join(lines[start + 1:end]), flags=re.MULTILINE)
        derivation = Derivation(f"{path.name}:{start + 1}", "".join(lines[1:starts[0]]).strip())
        example = _EXAMPLE.search(intro)
        derivation.example = example[1] if example else ""
        derivation.text = _EXAMPLE.sub("", intro, count=1).strip()
        derivation.inputs = {", ".join(re.split(r",\s*", names.strip())): text.strip()
                             for names, text in zip(inputs[::2], inputs[1::2])}
        yield lines[start][3:].strip(), derivation


def _check_names(name: str, derivation: Derivation) -> None:
    op = ag.REGISTRY.get(name)
    if op is None or not op.rules:
        raise Trouble(f"{derivation.where}: there is no op {name} with a gradient rule")
    ruled = [op.parameters[i] for i in op.rules]
    for names in derivation.inputs:
        for x in names.split(", "):
            if x not in ruled:
                raise Trouble(f"{derivation.where}: {name} has no gradient rule for {x}, only for {', '.join(ruled)}")


def _check_complete(name: str, derivation: Derivation | None, file: str) -> None:
    op = ag.REGISTRY[name]
    if derivation is None:
        raise Trouble(f"{name} has no derivation: write one under `## {name}` in {file}")
    if not derivation.example:
        raise Trouble(f"{derivation.where}: {name} has no example: begin with a block of python that makes y")
    for i in op.rules:
        x = op.parameters[i]
        if not any(text and x in names.split(", ") for names, text in derivation.inputs.items()):
            raise Trouble(f"{derivation.where}: {name} has no derivation for its input {x}: write it under `### {x}`")
