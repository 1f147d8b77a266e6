"""Exercises of chapter 5, layer norm by hand."""

import numpy as np

import autograd as ag

from ..judging import Unfinished, Wrong, ask, choose, equal, exercise, require, returns, yes_or_no

EPS = 1e-5


@exercise("5.1", "the rule returns r (g − mean g): the middle term of the boxed formula, and not the last.")
def _(forgetful, cosine, noticed):
    require(isinstance(forgetful, ag.Op), "forgetful is to be an op: is `@ag.op` above it?")
    rng = np.random.default_rng(0)
    for shape in ((2, 5), (3, 8)):
        x, g = rng.normal(size=shape), rng.normal(size=shape)
        t = ag.tensor(x, requires_grad=True)
        y = ask(forgetful.formula, {"x": x})
        equal("the value of forgetful(x)", y, ag.layer_norm(x, None, None, EPS), {"x": x})
        try:
            forgetful(t).backward(g)
        except Exception as error:
            raise Wrong(f"its rule raises {type(error).__name__}: {error}") from None
        if t.grad is None:
            raise Unfinished("the rule of forgetful")
        r = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + EPS)
        whole = ag.vjp(lambda x: ag.layer_norm(x, None, None, EPS), x)[1](g)
        equal("the gradient by the rule of forgetful", t.grad, r * (g - g.mean(axis=-1, keepdims=True)),
              {"x": x, "g": g}, {"That is the right gradient: leave the variance's term out.": whole[0],
                                 "The mean's term belongs there, only the variance's is left out.": r * g})
    require(0.98 < float(cosine) < 0.998, f"the cosine for rows of 64 numbers is just below 1, and this is {cosine}; "
            "take it over all rows at once, (right * wrong).sum() over the product of the two lengths")
    yes_or_no("noticed", noticed, True, "ag.check_op does notice: run it on a few short rows, in a `try`")


@exercise("5.2", "without the mean c = x, so only the term of the variance is left to subtract.")
def _(rms_back, removed):
    rng = np.random.default_rng(0)
    for shape in ((1, 4), (3, 6), (5, 5)):
        x, g, w = rng.normal(size=shape), rng.normal(size=shape), rng.normal(size=shape[-1])
        r = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + EPS)
        hat, h = x * r, g * w
        right = r * (h - hat * (h * hat).mean(axis=-1, keepdims=True))
        returns(rms_back, {"g": g, "x": x, "w": w}, right, {
            "The weight w multiplies g before anything else.": r * (g - hat * (g * hat).mean(axis=-1, keepdims=True)),
            "The last factor is x̂ = x r, and not x.": r * (h - x * (h * x).mean(axis=-1, keepdims=True)),
            "There is no mean to subtract in RMS norm.":
                r * (h - h.mean(axis=-1, keepdims=True) - hat * (h * hat).mean(axis=-1, keepdims=True)),
            "It is the mean of ĝ ⊙ x̂, and not its sum.": r * (h - hat * (h * hat).sum(axis=-1, keepdims=True)),
            "Each row has a mean of its own.": r * (h - hat * (h * hat).mean()),
            "The term of the root mean square is missing.": r * h})
    choose("removed", removed, "b", {"a": "A constant added to x does change x r: nothing subtracts the mean.",
                                     "c": "Only one direction is invisible: which change of x leaves x r as it is?"})


@exercise("5.3", "x̂ does not change when the row is stretched, and r is what stands in front of the gradient.")
def _(ratio, why):
    equal("ratio, the length of the gradient at 10 x by that at x,", ratio, 0.1, tolerance=2e-3)
    choose("why", why, "c", {"a": "Both are computed in float64, and differ by far more than its rounding.",
                             "b": "The mean does grow by ten, and cancels."})
