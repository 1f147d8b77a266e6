"""What shows a tape to a person: as text, step by step, explained, drawn, played, weighed and compared.

A view reads a tape and leaves it as it is; values that a backward has freed are computed again for it, and dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..engine import Tape, Tensor
from ..program.program import Program
from .anomaly import detect_anomaly
from .text import tape_text

if TYPE_CHECKING:
    from graphviz import Digraph

    from .card.card import Card
    from .diff.diff import Difference
    from .ledger import Ledger
    from .memory.memory import Memory
    from .memory.program_memory import ProgramMemory
    from .player.player import Player
    from .step import Stepper

__all__ = ["detect_anomaly", "diff"]


def _method_of(cls: type) -> Callable[[Any], Any]:
    """Make a function a method of a class of the engine, which knows nothing of views.  Each loads its module when it
    is first called, so that `import autograd` stays quick."""
    def attach(function: Any) -> Any:
        setattr(cls, function.__name__, function)
        return function
    return attach


def _tensor_html(self: Tensor) -> str:
    from .reprs_html import tensor_html
    return tensor_html(self)


def _tape_html(self: Tape) -> str:
    from .reprs_html import tape_html
    return tape_html(self)


Tape.__repr__ = tape_text  # type: ignore[method-assign, assignment]
Tape._repr_html_ = _tape_html  # type: ignore[attr-defined]
Tensor._repr_html_ = _tensor_html  # type: ignore[attr-defined]


@_method_of(Tape)
def stepper(self: Tape) -> Stepper:
    """A walk over the tape to be taken step by step, forward to the loss and back to the leaves.

        walk = ag.tape(loss).stepper()                            # help(walk) says all that it does
        walk.step(), walk.until(op="softmax"), walk.back(), walk.gradient(w)
    """
    from .step import Stepper
    return Stepper(self)


@_method_of(Tape)
def ledger(self: Tape, tensor: Tensor) -> Ledger:
    """Each contribution that a backward adds into the gradient of `tensor`: from which record, its norm and share.

        print(ag.tape(loss).ledger(w))                            # or go through it: c.record, c.norm, c.share

    Raises ValueError for a tensor that is not in the tape, or to which no gradient flows.
    """
    from .ledger import ledger
    return ledger(self, tensor)


@_method_of(Tape)
def draw(self: Tape, depth: int | None = None, expand: str | tuple[str, ...] = (), focus: Tensor | None = None,
         color: str = "op") -> Digraph:
    """The tape as a graph (a graphviz.Digraph), which a notebook shows.

        ag.tape(loss).draw().save("tape.svg")                     # or .png, .pdf, and .gv for the source
        ag.tape(loss).draw(color="grad", expand="h.0.attn")

    depth: how many levels of scopes are open; as many as fit on a page where it is not given.  expand: the path of a
    scope, or several, to be opened too.  focus: a tensor, to draw only what is near it.  color: what boxes are coloured
    by, "op", "grad", "time" or "memory".  help(autograd.view.graph.draw) has the rest.
    """
    from .graph.graph import draw
    return draw(self, depth, expand, focus, color)


@_method_of(Tape)
def player(self: Tape, tokens: Sequence[str] | None = None, focus: Tensor | None = None) -> Player:
    """The tape as a page to play forward and back in a browser, which a notebook shows too.

        ag.tape(loss).player().save("tape.html")

    tokens: strings that name the positions in the pictures of attention.  focus: a tensor, to show what is around it of
    a tape that is too long for one page, in place of its two ends.
    """
    from .player.player import Player
    return Player(self, tokens, focus)


@_method_of(Tape)
def memory(self: Tape) -> Memory:
    """What each record keeps in memory, until when and for whom, and the peak of forward and backward.

        m = ag.tape(loss).memory()                                # prints as a table; m.peak is in bytes
    """
    from .memory.memory import memory
    return memory(self)


def _memory_of_program(self: Program) -> ProgramMemory:
    """How the last call lies in memory, or what was recorded last before the first call: steps, buffers and what is
    computed again on the way back.

        m = program.memory()                                      # prints as a table; m.n_bytes is the arena's size
    """
    from .memory.program_memory import ProgramMemory
    return ProgramMemory(self)


Program.memory = _memory_of_program  # type: ignore[attr-defined]

@_method_of(Tensor)
def explain(self: Tensor, loss: Tensor | None = None) -> Card:
    """A card for one record: its formula and gradients, its numbers, its Jacobian, and a check of the gradient.

        h.explain(loss)                                           # a notebook shows it; print() it in a terminal

    The gradient that comes in is that of `loss`; without it what `backward(keep=True)` left, or all ones.
    Raises ValueError if `loss` was not made from this tensor.
    """
    from .card.card import Card
    return Card(self, loss)


def diff(tape_a: Tape, tape_b: Tape, rtol: float = 0.0) -> Difference:
    """The first record of two tapes whose value differs, and the first whose gradient does, with how much.

        ag.diff(ag.tape(loss_before), ag.tape(loss_after))        # an edit, a kernel, a cache: where does it show?

    `rtol` lets numbers pass that are no further apart than `rtol` times the largest in their array.
    """
    from .diff.diff import diff
    return diff(tape_a, tape_b, rtol)
