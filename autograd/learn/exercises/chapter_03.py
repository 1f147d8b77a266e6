"""Exercises of chapter 3, seeing the graph."""

import numpy as np

import autograd as ag

from ..judging import Wrong, ask, exercise, same_names, yes_or_no


def _network(uses):
    """Parameters, and a loss that multiplies by these of them, one after the other."""
    rng = np.random.default_rng(0)
    p = {name: ag.tensor(rng.normal(size=(3, 3)), requires_grad=True, name=name) for name in ("w1", "w2", "w3", "w4")}
    h = np.ones((2, 3))
    for name in uses:
        h = np.tanh(h @ p[name])
    return p, np.square(h).mean()


@exercise("3.1", "`t in tape` says whether a record is on the tape, and `len(tape.ledger(t))` how many contributions "
          "its gradient has.")
def _(suspects):
    for uses in ("w1 w2 w2 w3", "w1 w2 w3 w4", "w4 w1 w4 w1", "w2 w2 w2"):
        names = uses.split()
        p, loss = _network(names)
        found = ask(suspects, {"p": p, "loss": loss})
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise Wrong("suspects returns two lists of names: the unused parameters, and those used more than once")
        for label, given, right in (("unused", found[0], {name for name in p if name not in names}),
                                    ("shared", found[1], {name for name in names if names.count(name) > 1})):
            same_names(f"for a network that uses {', '.join(names)}, the {label} ones", given, right)


@exercise("3.2", "run both networks backward and compare the gradients name by name; `None` is no gradient at all.")
def _(same_loss, no_gradient, other_gradient):
    yes_or_no("same_loss", same_loss, True, "`h.data @ w2.data` computes with the same numbers: compare the two losses")
    same_names("no_gradient", no_gradient, {"w2"})
    same_names("other_gradient", other_gradient, {"w1", "b1"})
