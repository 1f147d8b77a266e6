"""Exercises of chapter 2, tensors."""

import numpy as np

from ..judging import choose, exercise, returns


@exercise("2.1", "∂yᵢ/∂xₐ = [i = a] − 1/n. Put it into the sum (1); what remains of the second term is a mean.")
def _(centred_back):
    rng = np.random.default_rng(0)
    for shape in ((5,), (2, 5), (4, 4), (2, 3, 4)):
        g = rng.normal(size=shape)
        mean = g.mean(axis=-1, keepdims=True)
        returns(centred_back, {"g": g}, g - mean, {
            "Only the mean's own way back is there, the direct one is missing.": np.broadcast_to(-mean, shape),
            "The mean goes over the whole array; rows do not know of each other.": g - g.mean(),
            "That sends all of g, as if the mean did not depend on x.": g,
            "Each of n elements has only 1/n of the mean.": g - g.sum(axis=-1, keepdims=True)})


@exercise("2.2", "in Σ x[i,j] y[j,i], which element of y stands beside x[a,b]?")
def _(d_x, d_y):
    rng = np.random.default_rng(0)
    for n in (2, 3, 4):
        x, y = rng.normal(size=(2, n, n))
        inputs = {"x": x, "y": y}
        returns(d_x, inputs, y.T, {"Its shape fits, but its indices do not.": y, "That is the other one's.": x.T})
        returns(d_y, inputs, x.T, {"Its shape fits, but its indices do not.": x, "That is the other one's.": y.T})


@exercise("2.3", "what comes in at a b is g cᵀ; then b is the right factor of a b.")
def _(d_b, order):
    rng = np.random.default_rng(0)
    for m, k, n, p in ((2, 3, 4, 5), (3, 3, 3, 3), (1, 4, 2, 3)):
        g, a, c = rng.normal(size=(m, p)), rng.normal(size=(m, k)), rng.normal(size=(n, p))
        hints = {"All shapes fit, since these are square; the transposes do not.": a @ g @ c} if m == p else {}
        returns(d_b, {"g": g, "a": a, "c": c}, a.T @ g @ c.T, hints)
    choose("order", order, "b", {"a": "Both orders gave the same sum over indices.",
                                 "c": "Count the products for a (1, n), b (n, n) and c (n, n)."})
