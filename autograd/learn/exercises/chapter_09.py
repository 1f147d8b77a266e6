"""Exercises of chapter 9, hunting a bad gradient."""

import numpy as np

import autograd as ag

from ..judging import Wrong, ask, choose, equal, exercise, require, same_names


@exercise("9.1", "`with ag.detect_anomaly():` names the record. Then let the root never see a 0: choose before it, as "
          "well as after it.")
def _(culprit, root_sum):
    require(str(culprit) in ag.REGISTRY, f"culprit is the name of an op, error.record.op.name, and this is {culprit!r}")
    require(culprit == "sqrt", f"{culprit} is not the record that sends the first NaN")
    for values in ([0.0, 1.0, 4.0], [9.0, 0.25], [0.0, 0.0]):
        d = ag.tensor(values, requires_grad=True, name="d")
        with np.errstate(all="ignore"):
            loss = ask(root_sum, {"d": d})
            equal("root_sum(d)", loss, np.sqrt(values).sum(), {"d": d.data}, tolerance=1e-9)
            try:
                loss.backward()
            except Exception as error:
                raise Wrong(f"its backward pass raises {type(error).__name__}: {error}") from None
        slopes = [0.5 / np.sqrt(v) if v else 0.0 for v in values]
        equal("the gradient of d", d.grad, slopes, {"d": d.data})


@exercise("9.2", "is each parameter on the tape? And which slope is infinite where s is exactly 0?")
def _(not_on_tape, culprit):
    same_names("not_on_tape", not_on_tape, {"w0", "w1", "w2", "w3"})
    require(str(culprit) in ag.REGISTRY, f"culprit is the name of an op, error.record.op.name, and this is {culprit!r}")
    require(culprit == "sqrt", f"{culprit} is not the record that sends the first NaN: let the weights have size 0")


@exercise("9.3", "try sizes between 0.5 and 3, and look at first and last; `np.linalg.qr` returns Q and R, and Q is "
          "the orthogonal one.")
def _(size, orthogonal, limit, gradient_sizes, plain):
    sizes = gradient_sizes(plain, float(size))[1]
    factor = sizes[-1] / sizes[0]
    require(1 / 30 < factor < 30, f"with size {size} the gradient at the last block is {factor:.3g} times that at the "
            "first")
    rng = np.random.default_rng(1)
    for n in (2, 5, 16):
        w = rng.normal(size=(n, n))
        q = np.asarray(ask(orthogonal, {"w": w}))
        require(q.shape == w.shape, f"orthogonal(w) has the shape of w, {w.shape}, and not {q.shape}")
        equal("q.T @ q for q = orthogonal(w)", q.T @ q, np.eye(n), {"w": w}, tolerance=1e-9)
    choose("limit", limit, "b", {"a": "An orthogonal matrix keeps the length of every vector, a gradient's too.",
                                 "c": "A bias adds to what goes forward, and multiplies nothing on the way back."})
