"""The checks find mistakes, name them, and pass what is right."""

import math

import numpy as np
import pytest

import autograd as ag

X = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])
Q, K = np.random.default_rng(0).normal(size=(2, 3, 4))


def make(formula, rules, **how):
    """An op from a formula and its rules: name of the input -> rule."""
    made = ag.Op(formula, **how)
    for names, rule in rules.items():
        made.gradient(*names.split())(rule)
    return made


def product(x, y):
    return x * y


def scores(q, k):
    return q @ k.mT / math.sqrt(q.shape[-1])


def mean(x):
    return np.mean(x)


def soft(x):
    e = np.exp(x)
    return e / e.sum(axis=-1, keepdims=True)


MISTAKES = {
    "sign": (lambda x: -x, {"x": lambda g, y, x: g}, (X,), "gradient of x.*sign is wrong"),
    "missing 1/√d": (scores, {"q": lambda g, y, q, k: g @ k, "k": lambda g, y, q, k: g.mT @ q / math.sqrt(q.shape[-1])},
                     (Q, K),
                     "gradient of q.*2 times as large.*√4"),
    "1/√d twice": (scores, {"q": lambda g, y, q, k: g @ k / 4, "k": lambda g, y, q, k: g.mT @ q / 2}, (Q, K),
                   "gradient of q.*0.5 times.*√4"),
    "sum for mean": (mean, {"x": lambda g, y, x: g * np.ones_like(x)}, (X,),
                     "gradient of x.*6 times as large.*sum over 6.*mean"),
    "mean for sum": (lambda x: np.sum(x), {"x": lambda g, y, x: g * np.ones_like(x) / 6}, (X,),
                     "mean over 6 where a sum"),
    "constant factor": (lambda x: x * x, {"x": lambda g, y, x: g * x}, (X[0],), "0.5 times as large.*factor"),
    "transposed": (lambda x, y: x @ y, {"x": lambda g, z, x, y: (g @ y.mT).mT, "y": lambda g, z, x, y: x.mT @ g},
                   (Q[:, :3], K[:, :3]),
                   "gradient of x.*transposed"),
    "swapped": (product, {"x": lambda g, z, x, y: g * x, "y": lambda g, z, x, y: g * y}, (Q, K),
                "gradient of x.*gradient of another input"),
    "saved value": (lambda x: np.tanh(x), {"x": lambda g, y, x: g * (1 - x * x)}, (X,), "gradient of x.*saved value"),
    "missing term": (soft, {"x": lambda g, y, x: g * y}, (X,), "gradient of x.*missing term"),
    "g ignored": (lambda x: x * x, {"x": lambda g, y, x: 2 * x}, (X,), "gradient of x is wrong"),
    "zero": (lambda x: x * x, {"x": lambda g, y, x: 0 * x}, (X,), "0 everywhere"),
    "not finite": (lambda x: x * 1, {"x": lambda g, y, x: g / (0 * x)}, (X,), "not finite"),
    "missing rule": (product, {"x": lambda g, z, x, y: g * y}, (X, X + 1), "no gradient rule for its input y"),
    "lost dtype": (lambda x: x * np.float64(2), {"x": lambda g, y, x: 2 * g}, (X.astype(np.float32),),
                   "float64 of float32"),
    "in place": (lambda x: np.multiply(x, 2, out=x), {"x": lambda g, y, x: 2 * g}, (X.copy(),), "changes its input x"),
    "second input only": (product, {"x": lambda g, z, x, y: g * y, "y": lambda g, z, x, y: 1.5 * g * x}, (X, X + 1),
                          "gradient of y.*1.5 times"),
}


@pytest.mark.parametrize("formula, rules, inputs, message", MISTAKES.values(), ids=MISTAKES)
def test_planted_mistakes_are_found_and_named(formula, rules, inputs, message):
    broken = make(formula, rules)
    with np.errstate(all="ignore"), pytest.raises(AssertionError, match=f"(?s){message}"):
        ag.check_op(broken, [inputs])


def test_the_worst_element_and_both_values_are_shown():
    def rule(g, y, x):
        return g * 2 * x * np.where(x == 2.0, 1.5, 1.0)
    with pytest.raises(AssertionError, match=r"index \(0, 2\) it is -?\d\.\d+, and finite differences give -?\d\.\d+"):
        ag.check_op(make(lambda x: x * x, {"x": rule}), [(X,)])


def test_one_wrong_element_of_many_is_found():
    x = np.random.default_rng(0).normal(size=60)

    def rule(g, y, x):
        return g * 2 * x * np.where(x == x[17], 1.001, 1.0)
    with pytest.raises(AssertionError, match=r"index \(17,\)"):
        ag.check_op(make(lambda x: x * x, {"x": rule}), [(x,)])


def test_right_ops_pass():
    ag.check_op(make(lambda x: x * x, {"x": lambda g, y, x: g * 2 * x}), [(X,), (np.zeros((0, 2)),), (np.array(2.0),)],
                order=3)
    ag.check_op(make(product, {"x y": lambda g, z, x, y: (g * y, g * x)}), [(X, X[0]), (X, 2.0)])
    ag.check_op(make(lambda x: np.sign(x), {}, differentiable=False), [(X,)])


def test_what_is_no_float_array_stays_as_given():
    ag.check_op(ag.embedding, [(np.array([0, 1, 1]), X)])
    ag.check_op(ag.power, [(np.abs(X), 3)])


def test_numpy_numbers_are_checked_like_arrays():
    ag.check_op(ag.exp, [(np.float64(2.0),)])


@pytest.mark.parametrize("samples", [[], [(2.0,)], [(np.array([1, 2]),)]], ids=str)
def test_a_check_of_nothing_is_refused(samples):
    with pytest.raises(ValueError, match="nothing was checked"):
        ag.check_op(ag.exp, samples)
    with pytest.raises(ValueError, match="nothing to check"):
        ag.check_grads(np.exp)


def test_a_rule_that_changes_g_is_found():
    @ag.op
    def twice(x):
        return 2 * x

    @twice.gradient("x")
    def _(g, y, x):
        g *= 2
        return g

    try:
        with pytest.raises(AssertionError, match="changes g in place"):
            ag.check_op(twice, [(np.ones(3),)])
    finally:
        del ag.REGISTRY["twice"]


@pytest.mark.parametrize("name, x", [("absolute", [1.0, 0.0]), ("relu", [0.0, 2.0]), ("max", [1.0, 2.0, 2.0]),
                                     ("maximum", [1.0, 1.0])])
def test_a_kink_is_no_wrong_gradient(name, x):
    x = np.array(x)
    with pytest.raises(ValueError, match="not differentiable.*kink"):
        ag.check_op(ag.REGISTRY[name], [(x, 1.0) if name == "maximum" else (x,)])


# ---------------------------------------------------------------------- check_grads


def test_check_grads_passes_right_functions():
    ag.check_grads(lambda x: np.tanh(x) @ X.T, X, order=3)
    ag.check_grads(lambda x, y: {"a": x * y, "b": [np.exp(x)]}, X, X[0])
    ag.check_grads(lambda x: x * x, ag.tensor(X))
    ag.check_grads(lambda x: x * x, 3.0)
    ag.check_grads(lambda x: ag.tensor(1.0) * 2, X)


def test_check_grads_finds_what_a_detach_loses():
    with pytest.raises(AssertionError, match="gradient of argument 0.*0.5 times"):
        ag.check_grads(lambda x: x * x.detach(), X, order=1)


def test_check_grads_finds_what_is_lost_at_the_second_order():
    def rule(g, y, x):
        return g * 2 * (x.detach() if isinstance(x, ag.Tensor) else x)
    square = make(lambda x: x * x, {"x": rule})
    ag.check_grads(lambda x: square(x), X, order=1)
    with pytest.raises(AssertionError, match="in the gradient.*argument 0"):
        ag.check_grads(lambda x: square(x), X, order=2)


def test_a_rule_that_closes_over_its_output_is_found():
    """The mistake that pure rules prevent: a captured array is a constant to the second derivative."""
    captured = {}

    def keeping(x):
        captured["y"] = np.exp(x)
        return captured["y"]
    broken = make(keeping, {"x": lambda g, y, x: g * captured["y"]})
    ag.check_op(broken, [(X,)], order=1)
    with pytest.raises(AssertionError, match="in the gradient"):
        ag.check_op(broken, [(X,)], order=2)


def test_a_value_that_is_not_finite_is_no_success():
    with np.errstate(all="ignore"), pytest.raises((AssertionError, ValueError), match="finite"):
        ag.check_op(ag.log, [(np.array([-1.0, 2.0]),)])


def test_large_inputs_are_sampled():
    x = np.random.default_rng(0).normal(size=(40, 40))
    ag.check_grads(lambda x: x * x, x, order=1)
    with pytest.raises(AssertionError):
        ag.check_grads(lambda x: x * x.detach(), x, order=1)


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1.0, 1e4, 1e8])
def test_scales_neither_hide_nor_invent_mistakes(scale):
    x = X[0] * scale
    ag.check_op(make(lambda x: x * x, {"x": lambda g, y, x: g * 2 * x}), [(x,)])
    with pytest.raises(AssertionError):
        ag.check_op(make(lambda x: x * x, {"x": lambda g, y, x: g * 2.001 * x}), [(x,)])


def test_the_result_does_not_depend_on_chance():
    def message():
        with pytest.raises(AssertionError) as error:
            ag.check_grads(lambda x: x * x.detach(), X)
        return str(error.value)
    assert message() == message()
