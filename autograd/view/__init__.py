"""What shows a tape to a person: as text, step by step, explained, drawn, played, weighed and compared.

A view reads a tape and leaves it as it is; values that a backward has freed are computed again for it, and dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..engine import Tape, Tensor
from .anomaly import detect_anomaly
from .text import tape_text

if TYPE_CHECKING:
    from graphviz import Digraph

    from .card import Card
    from .diff import Difference
    from .ledger import Ledger
    from .memory import Memory
    from .player import Player
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
    from .forms import tensor_html
    return tensor_html(self)


def _tape_html(self: Tape) -> str:
    from .forms import tape_html
    return tape_html(self)


Tape.__repr__ = tape_text  # type: ignore[method-assign, assignment]
Tape._repr_html_ = _tape_html  # type: ignore[attr-defined]
Tensor._repr_html_ = _tensor_html  # type: ignore[attr-defined]


@_method_of(Tape)
def stepper(self: Tape) -> Stepper:
    """A walk over the tape to be taken step by step, forward to the loss and back to the leaves: `help(Stepper)`."""
    from .step import Stepper
    return Stepper(self)


@_method_of(Tape)
def ledger(self: Tape, tensor: Tensor) -> Ledger:
    """Each contribution that a backward adds into the gradient of `tensor`: from which record, its norm and share."""
    from .ledger import ledger
    return ledger(self, tensor)


@_method_of(Tape)
def draw(self: Tape, depth: int | None = None, expand: str | tuple[str, ...] = (), focus: Tensor | None = None,
         color: str = "op") -> Digraph:
    """The tape as a graph (a graphviz.Digraph, which a notebook shows): help(autograd.view.graph.draw)."""
    from .graph import draw
    return draw(self, depth, expand, focus, color)


@_method_of(Tape)
def player(self: Tape, tokens: Sequence[str] | None = None) -> Player:
    """The tape as a page to play forward and back in a browser: `.save("tape.html")`, or shown in a notebook.  `tokens`
    name the positions in the pictures of attention."""
    from .player import Player
    return Player(self, tokens)


@_method_of(Tape)
def memory(self: Tape) -> Memory:
    """What each record keeps in memory, until when and for whom, and the peak of forward and backward."""
    from .memory import memory
    return memory(self)


@_method_of(Tensor)
def explain(self: Tensor, loss: Tensor | None = None) -> Card:
    """A card for one record: its formula and gradients, its numbers, its Jacobian, and a check of the gradient, with
    the gradient that came in from `loss` (of ones, where none is known)."""
    from .card import Card
    return Card(self, loss)


def diff(tape_a: Tape, tape_b: Tape, rtol: float = 0.0) -> Difference:
    """The first record of two tapes whose value differs, and the first whose gradient does, with how much: more than
    `rtol` times the larger one counts."""
    from .diff import diff
    return diff(tape_a, tape_b, rtol)
