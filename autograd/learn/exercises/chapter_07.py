"""Exercises of chapter 7, your own op."""

import numpy as np

import autograd as ag

from ..judging import Wrong, ask, choose, equal, exercise, require, returns, yes_or_no


@exercise("7.1", "one sign changes, inside the brackets; `cosine(gradients(made, start)[0], right[0])` is the number, "
          "and `train(made)` tells the rest.")
def _(rule, cosine, trains):
    rng = np.random.default_rng(0)
    for shape, scale in (((3, 5), 1.0), ((2, 3, 4), 0.3)):
        g, x = rng.normal(size=shape), rng.normal(size=shape)
        sink = np.zeros(())
        e = np.exp(scale * x)
        y = e / (1 + e.sum(axis=-1, keepdims=True))
        total = (g * y).sum(axis=-1, keepdims=True)
        returns(rule, {"g": g, "y": y, "x": x, "sink": sink, "scale": scale}, scale * y * (g + total), {
            "That is the right rule; this slip has a plus.": scale * y * (g - total),
            "The scale belongs in front.": y * (g + total),
            "The sum goes over each row by itself.": scale * y * (g + (g * y).sum())})
    require(0.3 < float(cosine) < 0.99, f"the cosine of the wrong and the right gradient is positive and below 1, and "
            f"this is {cosine}")
    yes_or_no("trains", trains, True, "its last losses are as low as those of the right rule: look at "
              "np.mean(train(made)[1][-10:])")


@exercise("7.2", "d tanh(u)/du = 1 − tanh²u with u = x/c: the c in front and the 1/c inside cancel, and tanh u = y/c.")
def _(softcap):
    require(isinstance(softcap, ag.Op), "softcap is to be an op: is `@ag.op` above it?")
    for cap in (2.0, 30.0):
        x = np.linspace(-50, 50, 7)
        y = ask(softcap.formula, {"x": x, "cap": cap})
        equal(f"softcap(x, cap={cap})", y, cap * np.tanh(x / cap), {"x": x})
    equal("softcap(x), with the cap of 30 by default,", ask(softcap.formula, {"x": x}), 30 * np.tanh(x / 30), {"x": x})
    for cap in (2.0, 30.0):
        x, g = np.linspace(-3, 3, 5), np.array([1.0, -2.0, 0.5, 3.0, 1.0])
        t = ag.tensor(x, requires_grad=True)
        try:
            softcap(t, cap=cap).backward(g)
        except Exception as error:
            raise Wrong(f"its rule raises {type(error).__name__}: {error}") from None
        u = np.tanh(x / cap)
        equal(f"the gradient of x for cap = {cap}", t.grad, g * (1 - u**2), {"x": x, "g": g}, {
            "The c in front and the 1/c inside cancel.": g * (1 - u**2) / cap,
            "y is c tanh(x/c): divide it by c before it is squared.": g * (1 - (cap * u) ** 2),
            "The incoming gradient g is missing.": 1 - u**2,
            "It is the square of y/c.": g * (1 - u)})


@exercise("7.3", "`check_op` calls formula and rule with other numbers in between. And what is a variable of yours to "
          "the engine: a record, or a constant?")
def _(noticed, second):
    yes_or_no("noticed", noticed, True, "run `ag.check_op(remembering, [(np.array([0.3, -0.5]),)])`: it raises")
    choose("second", second, "a", {"b": "That needs kept[\"y\"] to be on the tape, where it could be differentiated.",
                                   "c": "Twice would need two ways to x; look at what kept[\"y\"] is."})
