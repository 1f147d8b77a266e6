"""The backward pass over a tape as views run it: no gradient is stored, and freed values are freed again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..core.describe import label
from ..core.recompute import free
from ..engine import Tape, Tensor, reverse
from ..engine import tape as tape_of


@contextmanager
def restore_freed(tape: Tape) -> Iterator[None]:
    """Let values that a backward pass has freed be recomputed on access, and free them again on exit.

    Access raises RuntimeError, naming the leaf, if a leaf was modified since: the old values are lost then.
    """
    everything = {*tape, *tape_of(*tape.roots)}  # older records too, which a `tape(since=…)` leaves out
    freed = [t for t in everything if t.op is not None and t._array is None]
    try:
        yield
    finally:
        for t in freed:
            free(t)


def backward_pass(tape: Tape, to: Any = None) -> Iterator[tuple[Tensor, Any, list[tuple[Tensor, Any]]]]:
    """Run the engine's backward pass from the tape's roots to all leaves, or `to` some tensors, and yield each record
    with its gradient and its list of (input, gradient of that input).  Records older than the tape are skipped.

    Each root is seeded with ones, so a root with several elements is differentiated as their sum.
    """
    roots, inside = differentiable_roots(tape), set(tape)
    for t, g, sent in reverse(roots, [np.ones_like(t._value()) for t in roots], to, keep=True):
        if t in inside:
            yield t, g, sent
        elif t.created < tape[0].created:
            return


def differentiable_roots(tape: Tape) -> list[Tensor]:
    """Return the roots that require a gradient, each once."""
    return list(dict.fromkeys(t for t in tape.roots if t.requires_grad))


def input_values(inputs: tuple) -> list[Any]:
    """Return the inputs of a record as the op's formula gets them, each Tensor replaced by its array."""
    return [a._value() if type(a) is Tensor else a for a in inputs]


def check_focus(tape: Tape, focus: Any) -> None:
    """Raise ValueError if `focus` is neither None nor a record of the tape."""
    if focus is not None and focus not in tape:
        raise ValueError(f"{label(focus) if isinstance(focus, Tensor) else repr(focus)} is not in this tape, "
                         "and focus= takes one of its records")
