"""Many programs, and counts of what they held."""

from __future__ import annotations

import multiprocessing
from collections import Counter

from tests.fuzz.draw import draw_program
from tests.fuzz.run import check, torch


def outcome(seed):
    """Return the features of a program, and its failure or None."""
    if torch is not None:
        torch.set_num_threads(1)
    program = draw_program(seed)
    failure, notes = check(program)
    return seed, failure, {"operations": [s.operation for s in program.statements], "variants": [program.variant],
                           "notes": [*notes, *["checkpointed"] * (program.part is not None)]}


def outcomes(seeds, jobs=1):
    """Yield the outcomes of many programs, in any order."""
    if jobs == 1:
        yield from map(outcome, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(outcome, seeds, chunksize=10)


class Summary:
    """Counts of what programs held, and those that failed."""

    def __init__(self):
        self.programs, self.failures = 0, []
        self.counts = {"operations": Counter(), "variants": Counter(), "notes": Counter()}

    def add(self, seed, failure, held):
        self.programs += 1
        for title, names in held.items():
            self.counts[title].update(names)
        if failure is not None:
            self.failures = sorted([*self.failures, (seed, failure)], key=lambda item: item[0])

    def __str__(self):
        counts = [f"{counter.total()} {title} of {len(counter)} kinds: "
                  + ", ".join(f"{name} {n}" for name, n in counter.most_common())
                  for title, counter in self.counts.items()]
        return "\n".join([f"{self.programs} programs", *counts, f"failures: {len(self.failures)}",
                          *[f"  seed {seed}: {failure.text}" for seed, failure in self.failures]])
