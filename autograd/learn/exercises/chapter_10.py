"""Exercises of chapter 10, twice differentiable."""

import numpy as np

import autograd as ag

from ..judging import ask, equal, exercise, require, returns, yes_or_no


@exercise("10.1", "the gradient is y − q, and only y depends on the scores. What is vᵀ H v, with y as probabilities?")
def _(hessian, negative):
    rng = np.random.default_rng(0)
    for n in (2, 3, 5):
        y = ag.softmax(rng.normal(size=n))
        returns(hessian, {"y": y}, np.diag(y) - np.outer(y, y), {
            "That is the diagonal alone: the scores share one denominator.": np.diag(y),
            "The diagonal of its own is right, the rest is missing.": np.diag(y - y * y)})
    yes_or_no("negative", negative, False, "vᵀ H v is a variance under the probabilities y: look at np.linalg.eigvalsh")


@exercise("10.2", "ag.jvp gives J v; ag.vjp gives a function that multiplies by Jᵀ.")
def _(gauss_newton):
    def curve(x):
        return np.stack([np.exp(x[0]) * x[1], x[1] ** 2, np.tanh(x[0]), x[0] + x[1]])

    def turn(x):
        return np.stack([x[0] * x[1] - x[2], x[2] ** 2 + x[1]])

    for r, p, v in ((curve, [0.2, 0.5], [1.0, -1.0]), (turn, [0.3, -1.0, 2.0], [1.0, 0.5, -2.0])):
        p, v = np.array(p), np.array(v)
        J = ag.jacobian(r)(p)
        returns(gauss_newton, {"r": r, "p": p, "v": v}, J.T @ J @ v, {
            "That is J v: the way back, Jᵀ, is missing.": J @ v,
            "That is the Hessian's product, with a term of r'' more.":
                ag.hvp(lambda p, r=r: 0.5 * np.square(r(p)).sum(), p, v),
            "That is Jᵀ r, the gradient of the loss.": J.T @ r(p)})


@exercise("10.3", "follow `newton` and print where it ends. The remedy: eigenvalues without their signs, "
          "np.linalg.eigh, and a floor below them.")
def _(end, eigenvalues, safe_step):
    equal("end", end, [0, 0], tolerance=1e-3)
    equal("eigenvalues, in rising order,", np.sort(eigenvalues), [-1, 1], tolerance=1e-6)
    rng = np.random.default_rng(0)
    full = np.array([[1.0, 2.0, 0.0], [2.0, -3.0, 1.0], [0.0, 1.0, 1.5]])
    for H in (np.diag([-0.52, 1.0]), np.diag([2.0, 3.0]), full):
        g = rng.normal(size=len(H))
        inputs = {"gradient": g, "hessian": H}
        s = np.asarray(ask(safe_step, inputs), dtype=float)
        require(s.shape == g.shape, f"safe_step returns a step of shape {g.shape}, and this has {s.shape}")
        require(g @ s < 0, "a safe step goes downhill, and the slope along this one is "
                f"{g @ s:.3g}", inputs | {"step": s})
        if (np.linalg.eigvalsh(H) > 0).all():
            equal("the step where all eigenvalues are positive", s, -np.linalg.solve(H, g), inputs)


@exercise("10.4", "draw v of signs ±1, take v · multiply(v), and the mean over the samples.")
def _(estimate):
    for H in (np.diag([1.0, 2.0, 3.0, 4.0]), np.diag([5.0, -1.0])):
        value = _estimated(estimate, H, 3)
        equal("the estimate for a diagonal matrix, which is exact for every v of signs,", value, np.trace(H),
              {"H": H, "samples": 3}, {"Divide by the number of samples.": 3 * np.trace(H)})
    a = np.random.default_rng(1).normal(size=(6, 6))
    H = a + a.T
    spread = np.sqrt(2 * (H**2).sum() - 2 * (np.diag(H) ** 2).sum())
    equal("the estimate with 400 samples", _estimated(estimate, H, 400), np.trace(H), {"H": H},
          tolerance=4 * spread / 20 / abs(np.trace(H)))
    require(not np.isclose(_estimated(estimate, H, 1), np.trace(H)),
            "one sample cannot give the exact trace of a full matrix: multiply by the random v only", {"H": H})


def _estimated(estimate, H, samples):
    rng = np.random.default_rng(2)
    return ask(estimate, {"multiply": lambda v: H @ v, "n": len(H), "samples": samples, "rng": rng})
