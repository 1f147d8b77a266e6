"""Exercises of chapter 12, a real model."""

import numpy as np

import autograd as ag

from ..judging import equal, exercise, require, returns, same_names, yes_or_no


@exercise("12.1", "a model with activation=\"gelu\" gets the arrays of ours; compare its logits with `by_hand`, place "
          "by place.")
def _(off, changes):
    equal("np.ndim(off), as off is one number,", np.ndim(off), 0)
    require(1e-5 < abs(float(off)) < 2e-2, f"off is {float(off):.2g}: no exact gelu is that "
            f"{'near to' if abs(float(off)) <= 1e-5 else 'far from'} its tanh formula in this model")
    require(off > 0, "off is the largest absolute difference, and this is negative")
    yes_or_no("changes", changes, False, "compare wrong.argmax(axis=-1) with by_hand.argmax(axis=-1)")


@exercise("12.2", "y = x W + c (x A) B. First B in the product (x A) B, then A in x A, where g Bᵀ comes in.")
def _(d_A, d_B, vanishes):
    rng = np.random.default_rng(0)
    for n, i, r, o, c in ((5, 6, 2, 4, 0.5), (3, 3, 3, 3, 2.0), (1, 4, 1, 2, 1.0)):
        x, g, A, B = (rng.normal(size=shape) for shape in ((n, i), (n, o), (i, r), (r, o)))
        inputs = {"x": x, "g": g, "A": A, "B": B, "c": c}
        returns(d_A, inputs, c * x.T @ g @ B.T, {"The factor c is missing.": x.T @ g @ B.T} if c != 1 else {})
        returns(d_B, inputs, c * (x @ A).T @ g, {"The factor c is missing.": (x @ A).T @ g} if c != 1 else {})
    same_names("vanishes", vanishes, {"A"})


@exercise("12.3", "(y − q)/n where the target counts, with the number n of those that count, and 0 elsewhere.")
def _(masked_back):
    rng = np.random.default_rng(0)
    for T, V, masked in ((4, 5, 0), (8, 5, 4), (6, 3, 5)):
        logits, targets = rng.normal(size=(T, V)), rng.integers(V, size=T)
        targets[:masked] = -100
        counts = targets >= 0
        d = (ag.softmax(logits) - np.eye(V)[np.where(counts, targets, 0)])
        hints = {"The mean is over the targets that count, and not over all.": d * counts[:, None] / T,
                 "A masked target gets no gradient.": d / counts.sum()} if masked else {}
        returns(masked_back, {"logits": logits, "targets": targets}, d * counts[:, None] / counts.sum(), hints | {
            "The loss is a mean.": d * counts[:, None]})


