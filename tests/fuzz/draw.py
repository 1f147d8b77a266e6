"""The program of a seed."""

from __future__ import annotations

import numpy as np

from tests.fuzz.builder import Builder
from tests.fuzz.program import VARIANTS, Program
from tests.fuzz.table import TABLE
from tests.layouts import LAYOUTS

SAME_NUMBERS = sorted(LAYOUTS.keys() - {"repeated"})


def draw_program(seed):
    p = Builder(seed)
    n = p.integer(5, 31)
    p.leaf(p.base)
    for _ in range(p.integer(1, 4)):
        p.leaf(p.subshape())
    names = sorted({e.name for e in TABLE})
    with np.errstate(all="ignore"):
        while len(p.statements) < n:
            name = p.choose(names)
            if not p.add(p.choose([e for e in TABLE if e.name == name])):
                break
    variant = p.choose(list(VARIANTS), [v.odds for v in VARIANTS.values()])
    return Program(seed, p.leaves, p.constants, tuple(p.statements), some_results(p), variant, some_part(p),
                   some_layouts(seed, [*p.leaves, *p.constants]))


def some_results(p):
    """The last value and up to three others; one at least has a tape."""
    *others, last = [name for name in p.values if name[0] == "v"]
    results = [last, *p.rng.permutation(others).tolist()[:p.integer(0, 4)]]
    taped = [name for name in (*others, last) if p.values[name].requires_grad]
    return tuple(dict.fromkeys(results + taped[-1:]))


def some_layouts(seed, names):
    """Layouts of about half of the arrays, in two programs of three."""
    rng = np.random.default_rng((seed, 1))
    if rng.random() < 1 / 3:
        return {}
    return {name: str(rng.choice(SAME_NUMBERS)) for name in names if rng.random() < 0.5}


def some_part(p):
    """The statements from .. to that are checkpointed, now and then."""
    if p.chance(0.7) or len(p.statements) < 4:
        return None
    first = p.integer(0, len(p.statements) - 2)
    return first, p.integer(first + 1, len(p.statements) + 1)
