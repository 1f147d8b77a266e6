"""Exercises of chapter 4, softmax by hand."""

import numpy as np

import autograd as ag

from ..judging import choose, equal, exercise, returns


@exercise("4.1", "put g + c into y ⊙ (g − Σ g⊙y), and use Σ y = 1.")
def _(back, change, row_sum):
    rng = np.random.default_rng(0)
    for shape in ((5,), (3, 5), (2, 3, 4)):
        g, y = rng.normal(size=shape), ag.softmax(rng.normal(size=shape))
        mean = (g * y).sum(axis=-1, keepdims=True)
        returns(back, {"g": g, "y": y}, y * (g - mean), {
            "The sum over the row is missing: that is the diagonal of the Jacobian alone.": g * y,
            "y stands in front of the whole bracket.": y * g - mean,
            "The sum goes over the last axis only, a row at a time.": y * (g - (g * y).sum()),
            "It is the sum of g ⊙ y, and not its mean.": y * (g - (g * y).mean(axis=-1, keepdims=True))})
    choose("change", change, "c", {"a": "The probabilities sum to 1, so Σ (g + c)⊙y = Σ g⊙y + c.",
                                   "b": "The constant is in g and in the sum: subtract."})
    equal("row_sum", row_sum, 0.0, tolerance=1e-6)


@exercise("4.2", "the Jacobian is [i = j] − exp(yⱼ): multiply by gᵢ, and sum over i.")
def _(back):
    rng = np.random.default_rng(0)
    for shape in ((4,), (3, 5), (2, 3, 4)):
        g, y = rng.normal(size=shape), ag.log_softmax(rng.normal(size=shape))
        total = g.sum(axis=-1, keepdims=True)
        returns(back, {"g": g, "y": y}, g - np.exp(y) * total, {
            "y is the logarithm of the probabilities here.": g - y * total,
            "That is the rule of softmax, for its y.": np.exp(y) * (g - (g * np.exp(y)).sum(axis=-1, keepdims=True)),
            "The sum is that of g alone, over the row.": g - np.exp(y) * g,
            "It is the sum of g, and not its mean.": g - np.exp(y) * g.mean(axis=-1, keepdims=True)})


@exercise("4.3", "with u = x/τ the chain rule has two factors: softmax's for u, and ∂u/∂τ = −x/τ².")
def _(d_tau, cold, hot):
    rng = np.random.default_rng(0)
    for n, tau in ((3, 1.0), (6, 0.7), (5, 3.0)):
        g, x = rng.normal(size=(2, n))
        y = ag.softmax(x / tau)
        total = (x * y * (g - (g * y).sum())).sum()
        returns(d_tau, {"g": g, "x": x, "tau": tau}, -total / tau**2, {
            "The probabilities are those of x/τ.": -(x * (p := ag.softmax(x)) * (g - (g * p).sum())).sum() / tau**2})
    equal("cold, the limit of softmax([1, 2, 4]/τ) for τ → 0,", cold, [0, 0, 1])
    equal("hot, the limit of softmax([1, 2, 4]/τ) for τ → ∞,", hot, [1 / 3] * 3)


@exercise("4.4", "L = −Σ qⱼ ln yⱼ with Σ q = 1 gives y − q again, with the new q; then the mean over the rows.")
def _(smoothed_back):
    rng = np.random.default_rng(0)
    for n, v, epsilon in ((1, 4, 0.2), (4, 5, 0.1), (3, 3, 0.0)):
        x, target = rng.normal(size=(n, v)), rng.integers(v, size=n)
        y, hard = ag.softmax(x), np.eye(v)[target]
        q = (1 - epsilon) * hard + epsilon / v
        returns(smoothed_back, {"x": x, "target": target, "epsilon": epsilon}, (y - q) / n, {
            "The loss is a mean over the rows: each has 1/n of it.": y - q,
            "That is the gradient without smoothing.": (y - hard) / n,
            "ε is shared among all V classes, so that q sums to 1.": (y - (1 - epsilon) * hard - epsilon) / n})
