"""Shrinking of a program that fails."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

import autograd as ag
from tests.fuzz.program import NAME, Program
from tests.fuzz.run import check
from tests.strategies import outputs


def shrink(program, checker=check, tries=300):
    """The smallest program found that fails in the same way."""
    kind = checker(program)[0].kind
    while tries > 0:
        for candidate in itertools.islice(smaller(program), 100):
            tries -= 1
            if size(candidate) >= size(program):
                continue
            failure, _ = checker(candidate)
            if failure is not None and failure.kind == kind:
                program = candidate
                break
        else:
            break
    return program


def size(program):
    return len(program.statements), len(program.results), program.part is not None, \
        program.variant != "backward", len(program.layouts)


def smaller(program) -> Iterator[Program]:
    """Programs with something left out, the most first."""
    if len(program.results) > 1:
        yield from (replace(program, results=(name,)).used() for name in program.results)
    yield program.used()
    yield replace(program, part=None)
    for i in reversed(range(len(program.statements))):
        if cut := without(program, i):
            yield cut.used()
    for s in program.statements:
        yield replace(program, results=s.names[:1]).used()
    yield replace(program, layouts={})
    if program.kind != "float32":
        yield replace(program, variant="backward")


def without(program, i):
    """The program with statement i left out, its values being leaves; None if they are the results."""
    s = program.statements[i]
    if set(program.results) <= set(s.names):
        return None
    env = {"np": np, "ag": ag, **program.constants, **program.leaves}
    try:
        with np.errstate(all="ignore"):
            for before in program.statements[:i + 1]:
                env.update(zip(before.names, outputs(eval(before.ours, env))))
    except Exception:
        return None
    free = 1 + max((int(name[1:]) for name in program.leaves), default=0)
    renamed = {name: f"x{free + j}" for j, name in enumerate(s.names)}

    def rename(text):
        return NAME.sub(lambda m: renamed.get(m.group(), m.group()), text)

    statements = [replace(t, ours=rename(t.ours), theirs=rename(t.theirs)) for t in program.statements if t is not s]
    return replace(program, statements=tuple(statements),
                   part=program.part and tuple(end - (end > i) for end in program.part),
                   results=tuple(name for name in program.results if name not in renamed),
                   leaves=program.leaves | {renamed[name]: np.round(ag.tensor(env[name]).data, 3) for name in s.names})
