"""Exercises of chapter 6, attention by hand."""

import numpy as np

import autograd as ag

from ..judging import Wrong, ask, equal, exercise, returns, same_names


def _arrays(T, S, d, e):
    rng = np.random.default_rng(0)
    shapes = {"q": (T, d), "k": (S, d), "v": (S, e), "g": (T, e)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def _scores_back(q, k, v, g):
    """Return the weights, the output, and the gradient of the scores."""
    p = ag.softmax(q @ k.T / np.sqrt(q.shape[-1]))
    y = p @ v
    return p, y, p * (g @ v.T - (g * y).sum(axis=-1, keepdims=True))


@exercise("6.1", "all scores are 0, and softmax sees only differences. In sᵀ q and s k, which factor is 0?")
def _(weight, output, zero):
    for S in (2, 6, 9):
        returns(weight, {"S": S}, 1 / S)
    for S, e in ((2, 3), (6, 3), (4, 4)):
        v = np.random.default_rng(S).normal(size=(S, e))
        returns(output, {"v": v}, v.mean(axis=0), {"The weights sum to 1, so it is a mean.": v.sum(axis=0),
                                                   "The mean goes over the positions, the rows of v.": v.mean(axis=-1),
                                                   "The mean goes over the rows of v alone.": v.mean()})
    same_names("zero", zero, {"k"})


@exercise("6.2", "the scores and the mask are added, so both get the same gradient: that of the scores.")
def _(mask_gradient):
    for shape in ((2, 3, 4, 2), (5, 6, 4, 3), (3, 3, 9, 3)):
        a = _arrays(*shape)
        p, y, s = _scores_back(**a)
        scale, total, wanted = 1 / np.sqrt(shape[2]), (a["g"] * y).sum(axis=-1, keepdims=True), a["g"] @ a["v"].T
        returns(mask_gradient, a, s, {
            "1/√d scales q kᵀ, and the mask is added after that.": s * scale,
            "That is the gradient of the weights: softmax comes between.": wanted,
            "The row's sum is not subtracted.": p * wanted,
            "p stands in front of the whole bracket.": p * wanted - total})


@exercise("6.3", "for row i: p = exp(k q[i]/√d − ℓ[i]), s = p (v g[i] − g[i]·y[i]). Row i writes dq[i], and adds to "
          "dk and dv.")
def _(backward_rows):
    for shape in ((2, 3, 4, 2), (5, 6, 9, 3), (4, 4, 4, 4)):
        a = _arrays(*shape)
        p, y, s = _scores_back(**a)
        q, k, v, g = a.values()
        scale = 1 / np.sqrt(shape[2])
        inputs = {"q": q, "k": k, "v": v, "y": y, "g": g, "ell": np.log(np.exp(q @ k.T * scale).sum(axis=-1))}
        found = ask(backward_rows, inputs)
        if not isinstance(found, (tuple, list)) or len(found) != 3:
            raise Wrong("backward_rows returns three arrays, the gradients of q, k and v")
        last = {"k": np.outer(s[-1], q[-1]) * scale, "v": np.outer(p[-1], g[-1])}
        for name, given, right in zip("qkv", found, (s @ k * scale, s.T @ q * scale, p.T @ g)):
            hints = {"Only the last row is there: each row adds its part.": last[name]} if name in last else {}
            equal(f"the gradient of {name} for shapes q {q.shape}, k {k.shape}, v {v.shape}", given, right, None,
                  hints | {"The scale 1/√d is missing.": right / scale})
