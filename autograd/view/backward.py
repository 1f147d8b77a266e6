"""A tape's values and gradients for a view, which leaves everything as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..core.describe import label
from ..engine import Tape, Tensor, free, reverse
from ..engine import tape as tape_of


@contextmanager
def restore_freed(tape: Tape) -> Iterator[None]:
    """Within it, values that a backward has freed come back when they are asked for; after it they are freed again.

    Asking raises RuntimeError, which names the leaf, where a leaf was changed since: the old values are lost then.
    """
    everything = {*tape, *tape_of(*tape.roots)}  # older records too, which a `tape(since=…)` leaves out
    freed = [t for t in everything if t.op is not None and t._array is None]
    try:
        yield
    finally:
        for t in freed:
            free(t)


def backward_pass(tape: Tape, to: Any = None) -> Iterator[tuple[Tensor, Any, list[tuple[Tensor, Any]]]]:
    """The engine's walk from the tape's roots, which start with gradients of 1 (so that of a root with several elements
    it is the sum that is differentiated), to all leaves or `to` some tensors: each record, its gradient, and what it
    sends to which input.  It ends where the tape begins."""
    roots, inside = differentiable_roots(tape), set(tape)
    for t, g, sent in reverse(roots, [np.ones_like(t._value()) for t in roots], to, keep=True):
        if t in inside:
            yield t, g, sent
        elif t.created < tape[0].created:
            return


def differentiable_roots(tape: Tape) -> list[Tensor]:
    """The roots that a walk back starts from, each once."""
    return list(dict.fromkeys(t for t in tape.roots if t.requires_grad))


def input_values(inputs: tuple) -> list[Any]:
    """The arrays, and what else an op was given, behind the inputs of a record."""
    return [a._value() if type(a) is Tensor else a for a in inputs]


def check_focus(tape: Tape, focus: Any) -> None:
    """Raise ValueError for a `focus` that is not a record of the tape (or None)."""
    if focus is not None and focus not in tape:
        raise ValueError(f"{label(focus) if isinstance(focus, Tensor) else repr(focus)} is not in this tape, "
                         "and focus= takes one of its records")
