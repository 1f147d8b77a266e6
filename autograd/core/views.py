"""Entry points of the views: methods of Tape and Tensor, `diff` and `detect_anomaly`.

Views import the engine, and the engine works without them (the folder autograd/view may be deleted): each is imported
when it is first called.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphviz import Digraph

    from ..engine import Tape, Tensor
    from ..view.card.card import Card
    from ..view.code.code import Code
    from ..view.diff.diff import Difference
    from ..view.ledger import Ledger
    from ..view.memory.memory import Memory
    from ..view.player.player import Player
    from ..view.step import Stepper
    from ..view.what_if import WhatIf


def view(name: str) -> Any:
    """Import the module `name` of autograd/view."""
    return importlib.import_module(f"..view.{name}", __package__)


class TapeViews:
    """Views of a Tape: text, steps, contributions to a gradient, graph, player and memory."""

    def __repr__(self) -> str:
        try:
            return view("text").tape_text(self)
        except ModuleNotFoundError:  # autograd/view was deleted
            return super().__repr__()

    def _repr_html_(self) -> str:
        return view("reprs_html").tape_html(self)

    def stepper(self) -> Stepper:
        """Step through the computation graph: forward to the loss, then the backward pass to the leaves.

            steps = ag.tape(loss).stepper()                           # help(steps) lists all methods
            steps.step(), steps.until(op="softmax"), steps.back(), steps.gradient(w)
        """
        return view("step").Stepper(self)

    def ledger(self, tensor: Tensor) -> Ledger:
        """List each contribution that the backward pass adds to the gradient of `tensor`: its record, norm and share.

            print(ag.tape(loss).ledger(w))                            # iterate for c.record, c.norm, c.share

        Raises ValueError for a tensor that is not in the tape, or to which no gradient flows.
        """
        return view("ledger").ledger(self, tensor)

    def draw(self, depth: int | None = None, expand: str | tuple[str, ...] = (), focus: Tensor | None = None,
             color: str = "op", mark: Sequence[Tensor] = ()) -> Digraph:
        """Draw the computation graph as a graphviz.Digraph, which a notebook shows.

            ag.tape(loss).draw().save("tape.svg")                     # or .png, .pdf, and .gv for the source
            ag.tape(loss).draw(color="grad", expand="h.0.attn")
            tape.draw(mark=tape.find(op="softmax"))                   # orange borders

        depth: number of levels of scopes to open; by default as many as fit on a page.  expand: path of a scope (or
        several) to open in addition.  focus: a tensor; only its neighbourhood is drawn.  color: color boxes by "op",
        "grad", "time" or "memory".  mark: records whose boxes stand out.  help(autograd.view.graph.graph.draw) has the
        rest.
        """
        return view("graph.graph").draw(self, depth, expand, focus, color, mark)

    def player(self, tokens: Sequence[str] | None = None, focus: Tensor | None = None) -> Player:
        """Make a web page that plays the tape forward and backward; a notebook shows it too.

            ag.tape(loss).player().save("tape.html")

        tokens: strings that label the positions in attention maps.  focus: a tensor; of a tape that is too long for
        one page its neighbourhood is shown, instead of the two ends.
        """
        return view("player.player").Player(self, tokens, focus)

    def code(self) -> Code:
        """Write the forward and the backward pass as a program that needs NumPy alone.

            print(ag.tape(loss).code())                               # the program: a line a record, in your names
            ag.tape(loss).code().save("pass.py")                      # python pass.py prints the loss and the norms

        `forward_backward(**leaves)` in it returns the result and the gradients of the leaves by name; numbers that are
        not given are those of the tape.  Formulas and VJP rules are written as they are for these shapes and dtypes,
        repeated scopes as a loop.  It has no kernels, which may round differently from the formulas: `code().rounding`
        says by how much; to formulas and rules it is equal to the bit, which is checked.

        Raises ValueError for a tape of several results and for an op whose source cannot be read, RuntimeError if a
        leaf has changed or if the program's numbers are not those of the tape.
        """
        return view("code.code").Code(self)

    def find(self, op: Any = None, scope: str | None = None, name: str | None = None,
             where: Callable[[Tensor], Any] | None = None) -> list[Tensor]:
        """Return the records that match all given conditions, oldest first.

            ag.tape(loss).find(op="softmax", scope="h.2"), ag.tape(loss).find(where=lambda t: np.isnan(t.data).any())

        op: an operation, or its name.  scope: a scope that they were made in, or in one within it; name: their own name
        (in both `*` stands for anything: `h.*.attn`).  where: a function of a record that returns true.  Raises
        ValueError for an `op` that the tape does not contain.
        """
        return view("what_if").find(self, op, scope, name, where)

    def what_if(self, changes: Mapping[Tensor, Any]) -> WhatIf:
        """Play the tape again, forward and backward, with the values of some records replaced.

            new, difference = ag.tape(loss).what_if({h: 0})           # print both in one: print(tape.what_if({h: 0}))
            tape.what_if({h: lambda h: np.where(h > 1, 1, h), w: w.data + 0.1, attn: (np.s_[:, 3], 0)})

        A value is a number, an array of the record's shape, or a function of the old value; a pair (index, value)
        replaces what is at that index only (a head, a channel).  Functions are recorded, so that gradients flow through
        them; a number or an array takes the record's place as a leaf, where they end.  A leaf gets new numbers and
        stays a leaf.  Constants computed from a replaced value (a mask, the order of a sort) are leaves too, and stay
        as they are.  Returns the new `tape`, and its `diff` with this one, as of `ag.diff`.

        Raises ValueError for a record of another tape and for another shape, TypeError for numbers that the record
        cannot hold, RuntimeError if a leaf has changed, or if the tape, played again as it is, gives other bits.
        """
        return view("what_if").what_if(self, changes)

    def memory(self) -> Memory:
        """Measure the memory of each record over a forward and backward pass: size, lifetime, readers, and the peak.

            m = ag.tape(loss).memory()                                # prints as a table; m.peak is in bytes
        """
        return view("memory.memory").memory(self)


class TensorViews:
    """Views of a Tensor: a card that explains it, and its repr in a notebook."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return view("reprs_html").tensor_html(self)

    def explain(self, loss: Tensor | None = None) -> Card:
        """Explain one record: its formula and VJP rules, its numbers, its Jacobian, and a check of the gradient.

            h.explain(loss)                                           # a notebook shows it; print() it in a terminal

        The incoming gradient is that of `loss`; without it the one that `backward(keep=True)` left, or else all ones.
        Raises ValueError if `loss` was not computed from this tensor.
        """
        return view("card.card").Card(self, loss)


def source(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Code:
    """Write the gradient that `function(*args)` computes as a program that needs NumPy alone, as `Tape.code` does.

        print(ag.source(ag.grad(f), x))

    Raises TypeError for a function that computes no gradient.
    """
    return view("code.code").source(function, *args, **kwargs)


def diff(tape_a: Tape, tape_b: Tape, rtol: float = 0.0) -> Difference:
    """Find the first record of two tapes whose value differs, and the first whose gradient does, and by how much.

        ag.diff(ag.tape(loss_before), ag.tape(loss_after))        # an edit, a kernel, a cache: where does it show?

    Numbers pass as equal if they differ by at most `rtol` times the largest magnitude in their array.
    """
    return view("diff.diff").diff(tape_a, tape_b, rtol)


def detect_anomaly() -> AbstractContextManager[None]:
    """Raise FloatingPointError at the first record whose value, or whose gradient for an input, holds a NaN, or an
    infinity that none of the arrays it was computed from holds (a mask of −inf is fine).

        with ag.detect_anomaly():
            model.loss(ids, targets).backward()

    The error names the record and ends with its line of the tape; `error.record` is the record, and
    `error.record.explain()` shows it.  Every array is checked, which costs time: use it to find a bad number, not in
    training.  Values inside a captured program (`ag.record`) are not checked: call its function instead.
    """
    return view("anomaly").detect_anomaly()
