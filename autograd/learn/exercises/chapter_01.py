"""Exercises of chapter 1, a scalar and its tape."""

import numpy as np

from ..judging import Unfinished, ask, choose, equal, exercise, require


@exercise("1.1", "copy `backward`, change one character, and run both on L = x·x·y + y.")
def _(backward_wrong, Scalar, right_for):
    slope = 1 - np.tanh(9.0) ** 2
    cases = [("x·x·y + y", (3.0, -2.0), lambda x, y: x * x * y + y, (-6, 9), (-12, 10)),
             ("b·b with b = a + a", (1.5,), lambda a: (a + a) * (a + a), (3, ), (12, )),
             ("tanh(a·b + c)", (2.0, 5.0, -1.0), lambda a, b, c: (a * b + c).tanh(),
              (5 * slope, 2 * slope, slope), None)]
    for formula, values, loss_of, wrong, right in cases:
        leaves = [Scalar(value) for value in values]
        loss = loss_of(*leaves)
        _run(backward_wrong, loss)
        found = [leaf.grad for leaf in leaves]
        if loss.grad == 0 and not any(found):
            raise Unfinished("backward_wrong")
        hints = {"That is the right gradient: contributions are still added.": right} if right else None
        equal(f"the gradient by backward_wrong of L = {formula}", found, wrong, {"leaves": values}, hints)
    choose("right_for", right_for, "a", {
        "b": "In tanh(a·b + c) a product and a sum have two inputs each, and all three gradients are right.",
        "c": "y + y has no product, and its gradient is wrong."})


def _run(backward, loss):
    ask(lambda loss: backward(loss) or True, {"loss": loss})  # it returns nothing, and need not


@exercise("1.2", "the slope of exp at s is exp(s) itself: is that number there already when the Scalar is made?")
def _(exp, Scalar):
    for value in (0.7, -1.3, 0.0):
        s = Scalar(value)
        y = ask(exp, {"s": s})
        require(isinstance(y, Scalar), f"exp returns {type(y).__name__}, and a Scalar belongs there", {"s": value})
        equal("the value of exp(s)", y.value, np.exp(value), {"s": value})
        require(len(y.made_from) == 1 and y.made_from[0][0] is s,
                "made_from is a list of one pair, of the input s and the local slope", {"s": value})
        equal("the local slope of exp at s", y.made_from[0][1], np.exp(value), {"s": value},
              {"That is the input, and not the slope.": value, "That is the slope of s itself.": 1.0})


@exercise("1.3", "the loop of the chapter, with s = points @ w + b: forget the gradients after each step, and take "
          "some hundreds of steps.")
def _(w, b, share, points, side):
    w, b = (np.asarray(getattr(t, "data", t), dtype=float) for t in (w, b))
    require(w.size == 2 and b.size == 1, f"a line needs two weights and one bias, and these have {w.size} and {b.size} "
            "numbers")
    w, b = w.ravel(), b.item()
    score, best = side * (points @ w + b), _best_line(points, side)
    right = np.mean(score > 0)
    require(right > 0.5, f"the line gets {right:.0%} of the points right: its sign is wrong, or it was not trained",
            {"w": w, "b": b})
    equal("the hinge loss of your line", np.maximum(0, 1 - score).mean(), best, {"w": w, "b": b}, tolerance=0.03)
    equal("share", share, right, None, {"A share lies between 0 and 1, and this one is in per cent.": 100 * right,
                                        "That is the share of points on the wrong side.": 1 - right})


def _best_line(points, side):
    """Return the lowest hinge loss of a straight line, by gradient descent with a falling rate."""
    x, w = np.c_[points, np.ones(len(points))], np.zeros(3)
    for i in range(1500):
        w = w + 2 / (1 + i / 100) * (x * (side * (side * (x @ w) < 1))[:, None]).mean(axis=0)
    return np.maximum(0, 1 - side * (x @ w)).mean()
