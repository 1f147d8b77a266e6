"""Programs whose buffers are filled with NaN as soon as no later step should read them."""

from collections import defaultdict


def poisoned(program):
    """Return `program` with captures that overwrite each buffer after the last step that uses it."""
    for capture in program._captures.values():
        dead = defaultdict(list)
        for memory, _, last in capture.plan.lifetimes:
            dead[last].append(memory)
        capture.plan.steps = [(_then_fill(procedure, dead[i]), arguments)
                              for i, (procedure, arguments) in enumerate(capture.plan.steps)]
    return program


def _then_fill(procedure, memories):
    def run(*arguments):
        procedure(*arguments)
        for memory in memories:
            memory.fill(0xFF)  # NaN as a float, -1 as an integer
    return run
