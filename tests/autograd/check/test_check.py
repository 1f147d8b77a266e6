"""The checks find mistakes, name them, and pass what is right."""

import math
import re

import numpy as np
import pytest

import autograd as ag

X = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])
Q, K = np.random.default_rng(0).normal(size=(2, 3, 4))


def make(formula, rules, **how):
    """Return an op with a formula and rules: name of the input -> rule."""
    made = ag.Op(formula, **how)
    for names, rule in rules.items():
        made.gradient(*names.split())(rule)
    return made


POSITIVE = np.abs(X) + 0.1
ROW = np.array([0.3, -1.2, 0.8])
S, T = np.random.default_rng(1).normal(size=(2, 3, 3))
BATCH_S, BATCH_T = np.random.default_rng(2).normal(size=(2, 2, 3, 3))
WIDE, TALL, SEVEN = (np.random.default_rng(3).normal(size=shape) for shape in [(3, 4), (3, 2), 7])


def add(x, y):
    return x + y


def subtract(x, y):
    return x - y


def product(x, y):
    return x * y


def divide(x, y):
    return x / y


def matmul(x, y):
    return x @ y


def scores(q, k):
    return q @ k.mT / math.sqrt(q.shape[-1])


def scaled(x, w):
    return x @ w / math.sqrt(x.shape[-1])


def exp(x):
    return np.exp(x)


def square(x):
    return x * x


def row_sums(x):
    return np.sum(x, 1)


def soft(x):
    e = np.exp(x)
    return e / e.sum(axis=-1, keepdims=True)


def full(a, x):
    """Return `a` at every element of `x`."""
    return a * np.ones(x.shape)


CAUSES = {  # what each message says, and no message of another cause
    "1/√d": "missing 1/√", "1/√d twice": "one 1/√. too many", "sum": "a sum over . where a mean belongs",
    "mean": "a mean over . where a sum belongs", "broadcast": "broadcast", "sign": "sign is wrong",
    "transposed": "transposed", "saved value": "wrong saved value: (x|y|the output) ",
    "g twice": "saved value: g is used twice", "no g": "(not|rule) use g", "swapped": "gradient of another input",
    "not finite": "It is not finite", "factor": "constant factor", "term": "missing term",
}

PLANTED = [  # cause, input whose gradient is wrong, formula, rules, inputs
    ("1/√d", "q", scores, {"q": lambda g, y, q, k: g @ k, "k": lambda g, y, q, k: g.mT @ q / math.sqrt(q.shape[-1])},
     (Q, K)),
    ("1/√d", "w", scaled, {"x": lambda g, y, x, w: g @ w.mT / math.sqrt(3), "w": lambda g, y, x, w: x.mT @ g},
     (X, TALL)),
    ("1/√d", "x", lambda x: x / math.sqrt(x.size), {"x": lambda g, y, x: g}, (SEVEN,)),
    ("1/√d twice", "q", scores, {"q": lambda g, y, q, k: g @ k / 4, "k": lambda g, y, q, k: g.mT @ q / 2}, (Q, K)),
    ("1/√d twice", "x", scaled, {"x": lambda g, y, x, w: g @ w.mT / 3, "w": lambda g, y, x, w: x.mT @ g / math.sqrt(3)},
     (X, TALL)),
    ("sum", "x", lambda x: np.mean(x), {"x": lambda g, y, x: full(g, x)}, (X,)),
    ("sum", "x", lambda x: np.mean(x, 0), {"x": lambda g, y, x: full(g, x)}, (X,)),
    ("sum", "x", lambda x: np.var(x), {"x": lambda g, y, x: 2 * g * (x - x.mean())}, (X,)),
    ("mean", "x", lambda x: np.sum(x), {"x": lambda g, y, x: full(g, x) / 6}, (X,)),
    ("mean", "x", row_sums, {"x": lambda g, y, x: full(g[:, None], x) / 3}, (X,)),
    ("mean", "x", lambda x: np.sum(x * x, 0), {"x": lambda g, y, x: g * x}, (X,)),
    ("broadcast", "x", product, {"x": lambda g, z, x, y: (g * y).mean(0), "y": lambda g, z, x, y: g * x}, (ROW, X)),
    ("broadcast", "y", add, {"x": lambda g, z, x, y: g, "y": lambda g, z, x, y: g.mean(0)}, (X, ROW)),
    ("broadcast", "x", product, {"x": lambda g, z, x, y: full((g * y).sum(0), g), "y": lambda g, z, x, y: g * x},
     (ROW, X)),
    ("broadcast", "y", add, {"x": lambda g, z, x, y: g, "y": lambda g, z, x, y: full(g.sum(0), g)}, (X, ROW)),
    ("broadcast", "x", product, {"x": lambda g, z, x, y: (g * y)[0], "y": lambda g, z, x, y: g * x}, (ROW, X)),
    ("broadcast", "y", add, {"x": lambda g, z, x, y: g, "y": lambda g, z, x, y: g[-1]}, (X, ROW)),
    ("broadcast", "x", add, {"x": lambda g, z, x, y: full(g.sum(0), g), "y": lambda g, z, x, y: g}, (X, X + 1)),
    ("broadcast", "x", exp, {"x": lambda g, y, x: full((g * y).mean(1, keepdims=True), x)}, (X,)),
    ("broadcast", "", product, {"x": lambda g, z, x, y: (g * y).sum(0), "y": lambda g, z, x, y: g * x}, (X, ROW)),
    ("broadcast", "", add, {"x": lambda g, z, x, y: g, "y": lambda g, z, x, y: g.sum()}, (X, ROW)),
    ("broadcast", "", row_sums, {"x": lambda g, y, x: g}, (X,)),
    ("sign", "x", lambda x: -x, {"x": lambda g, y, x: g}, (X,)),
    ("sign", "x", lambda x: np.cos(x), {"x": lambda g, y, x: g * np.sin(x)}, (X,)),
    ("sign", "y", subtract, {"x": lambda g, z, x, y: g, "y": lambda g, z, x, y: g}, (X, ROW)),
    ("transposed", "x", matmul, {"x": lambda g, z, x, y: (g @ y.mT).mT, "y": lambda g, z, x, y: x.mT @ g}, (S, T)),
    ("transposed", "y", matmul, {"x": lambda g, z, x, y: g @ y.mT, "y": lambda g, z, x, y: (x.mT @ g).mT},
     (BATCH_S, BATCH_T)),
    ("transposed", "", matmul, {"x": lambda g, z, x, y: (g @ y.mT).mT, "y": lambda g, z, x, y: x.mT @ g}, (X, WIDE)),
    ("transposed", "x", lambda x: 2 * x.mT, {"x": lambda g, y, x: 2 * g}, (BATCH_S,)),
    ("transposed", "x", lambda x: 2 * x.T, {"x": lambda g, y, x: 2 * g}, (BATCH_S[:, :, :2],)),
    ("transposed", "", lambda x: 2 * x.mT, {"x": lambda g, y, x: 2 * g}, (X,)),
    ("saved value", "x", exp, {"x": lambda g, y, x: g * x}, (X,)),
    ("saved value", "x", lambda x: np.sqrt(x), {"x": lambda g, y, x: g / (2 * x)}, (POSITIVE,)),
    ("saved value", "x", lambda x: np.tanh(x), {"x": lambda g, y, x: g * (1 - x * x)}, (X,)),
    ("saved value", "x", lambda x: 1 / (1 + np.exp(-x)), {"x": lambda g, y, x: g * x * (1 - x)}, (X,)),
    ("saved value", "x", square, {"x": lambda g, y, x: 2 * g * y}, (X,)),
    ("saved value", "x", lambda x: np.log(x), {"x": lambda g, y, x: g / y}, (POSITIVE,)),
    ("saved value", "x", product, {"x": lambda g, z, x, y: g * x, "y": lambda g, z, x, y: g * x}, (X, POSITIVE)),
    ("saved value", "y", divide, {"x": lambda g, z, x, y: g / y, "y": lambda g, z, x, y: -g * x / y}, (X, POSITIVE)),
    ("saved value", "x", square, {"x": lambda g, y, x: 2 * g * x * x}, (X,)),
    ("saved value", "x", square, {"x": lambda g, y, x: 2 * g}, (X,)),
    ("g twice", "x", exp, {"x": lambda g, y, x: g * g * y}, (X,)),
    ("g twice", "x", lambda x: np.sum(x), {"x": lambda g, y, x: full(g * g, x)}, (X,)),
    ("g twice", "x", row_sums, {"x": lambda g, y, x: full((g * g)[:, None], x)}, (X,)),
    ("no g", "x", exp, {"x": lambda g, y, x: y}, (X,)),
    ("no g", "x", lambda x: np.sum(x * x), {"x": lambda g, y, x: 2 * x}, (X,)),
    ("no g", "x", square, {"x": lambda g, y, x: 0 * x}, (X,)),
    ("swapped", "x", product, {"x": lambda g, z, x, y: g * x, "y": lambda g, z, x, y: g * y}, (Q, K)),
    ("swapped", "x", product, {"x": lambda g, z, x, y: g * x, "y": lambda g, z, x, y: g * y}, (X, ROW)),
    ("swapped", "x", divide, {"x": lambda g, z, x, y: -g * x / y ** 2, "y": lambda g, z, x, y: g / y}, (X, POSITIVE)),
    ("swapped", "x", matmul, {"x": lambda g, z, x, y: x.mT @ g, "y": lambda g, z, x, y: g @ y.mT}, (S, T)),
    ("swapped", "", matmul, {"x": lambda g, z, x, y: x.mT @ g, "y": lambda g, z, x, y: g @ y.mT}, (X, WIDE)),
    ("not finite", "x", lambda x: x * 1, {"x": lambda g, y, x: g / (0 * x)}, (X,)),
    ("factor", "x", square, {"x": lambda g, y, x: g * x * 0.7}, (X,)),
    ("factor", "y", product, {"x": lambda g, z, x, y: g * y, "y": lambda g, z, x, y: 1.3 * g * x}, (X, X + 1)),
    ("term", "x", soft, {"x": lambda g, y, x: g * y}, (X,)),
    ("term", "x", lambda x: x * np.sin(x), {"x": lambda g, y, x: g * np.sin(x)}, (X,)),
]


@pytest.mark.parametrize("cause, name, formula, rules, inputs", PLANTED)
def test_the_cause_of_a_planted_mistake_is_named_and_no_other(cause, name, formula, rules, inputs):
    with np.errstate(all="ignore"), pytest.raises(AssertionError) as error:
        ag.check_op(make(formula, rules), [inputs], order=1)
    message = str(error.value)
    assert f"gradient of {name} is wrong" in message or not name and "a gradient rule returned shape" in message
    assert [other for other, text in CAUSES.items() if re.search(text, message)] == [cause], message


@pytest.mark.parametrize("x_scale, slope", [(1e-150, 3), (1e-8, 3), (1e8, 3), (1e100, 3), (1, 1e-200), (1, 1e200)])
def test_causes_are_named_at_every_scale(x_scale, slope):
    x = X * x_scale
    with pytest.raises(AssertionError, match="sign is wrong"):
        ag.check_op(make(lambda x: slope * x, {"x": lambda g, y, x: -slope * g}), [(x,)])
    with pytest.raises(AssertionError, match="a sum over 6 where a mean belongs"):
        ag.check_op(make(lambda x: slope * x, {"x": lambda g, y, x: 6 * slope * g}), [(x,)])


@pytest.mark.parametrize("shapes, cause", [(((2, 2), (2, 2)), "1/√4|sum over 2"),
                                           (((3, 2), (2, 3)), "transposed|input")])
def test_causes_that_cannot_be_told_apart_are_all_named(shapes, cause):
    x, y = (np.random.default_rng(4).normal(size=shape) for shape in shapes)
    rules = {"x": lambda g, z, x, y: x.mT @ g if len(x) == 3 else 2 * g @ y.mT, "y": lambda g, z, x, y: x.mT @ g}
    with pytest.raises(AssertionError) as error:
        ag.check_op(make(matmul, rules), [(x, y)])
    assert all(text in str(error.value) for text in cause.split("|"))


def test_check_grads_names_causes_too():
    bad = make(lambda x: np.mean(x), {"x": lambda g, y, x: full(g, x)})
    with pytest.raises(AssertionError, match="argument 0.*a sum over 6 where a mean belongs"):
        ag.check_grads(lambda x: bad(x * 2), X)


MISTAKES = {
    "missing rule": (product, {"x": lambda g, z, x, y: g * y}, (X, X + 1), "no gradient rule for its input y"),
    "lost dtype": (lambda x: x * np.float64(2), {"x": lambda g, y, x: 2 * g}, (X.astype(np.float32),),
                   "float64 of float32"),
    "in place": (lambda x: np.multiply(x, 2, out=x), {"x": lambda g, y, x: 2 * g}, (X.copy(),), "changes its input x"),
}


@pytest.mark.parametrize("formula, rules, inputs, message", MISTAKES.values(), ids=MISTAKES)
def test_ops_that_break_the_contract_are_refused(formula, rules, inputs, message):
    broken = make(formula, rules)
    with np.errstate(all="ignore"), pytest.raises(AssertionError, match=f"(?s){message}"):
        ag.check_op(broken, [inputs])


def test_the_worst_element_and_both_values_are_shown():
    def rule(g, y, x):
        return g * 2 * x * np.where(x == 2.0, 1.5, 1.0)
    with pytest.raises(AssertionError, match=r"index \(0, 2\) it is -?\d\.\d+, and finite differences give -?\d\.\d+"):
        ag.check_op(make(lambda x: x * x, {"x": rule}), [(X,)])


def test_the_worst_element_is_one_that_differs():
    def rule(g, y, x):
        return g * np.array([0.0, 1.0, 0.0])  # the others are 0, as the differences are, with no uncertainty
    with pytest.raises(AssertionError, match=r"at index \(1,\) it is -?\d\.\d+, and finite differences give 0\."):
        ag.check_op(make(lambda x: 0 * x, {"x": rule}), [(np.ones(3),)])


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
    """The mistake that pure rules prevent: the next call overwrites it."""
    captured = {}

    def keeping(x):
        captured["y"] = np.exp(x)
        return captured["y"]
    broken = make(keeping, {"x": lambda g, y, x: g * captured["y"]})
    with pytest.raises(AssertionError, match="rule of keeping for x is not pure"):
        ag.check_op(broken, [(X,)], order=1)


def test_a_value_that_is_not_finite_is_no_success():
    with np.errstate(all="ignore"), pytest.raises((AssertionError, ValueError), match="finite"):
        ag.check_op(ag.log, [(np.array([-1.0, 2.0]),)])


def test_large_inputs_are_sampled():
    x = np.random.default_rng(0).normal(size=(40, 40))
    ag.check_grads(lambda x: x * x, x, order=1)
    with pytest.raises(AssertionError):
        ag.check_grads(lambda x: x * x.detach(), x, order=1)


# ---------------------------------------------------------------------- every scale

SMOOTH = {  # formula and derivative
    "square": (square, lambda x: 2 * x), "cube": (lambda x: x ** 3, lambda x: 3 * x * x), "exp": (exp, np.exp),
    "reciprocal": (lambda x: 1 / x, lambda x: -1 / x ** 2), "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "sin": (np.sin, np.cos), "cos": (np.cos, lambda x: -np.sin(x)), "log": (lambda x: np.log(abs(x)), lambda x: 1 / x),
    "sqrt": (lambda x: np.sqrt(abs(x)), lambda x: 0.5 * np.sign(x) / np.sqrt(abs(x))),
    "affine": (lambda x: 3 * x + 7, lambda x: 3 + 0 * x), "rounds": (lambda x: np.exp(x) - 1, np.exp),
    "bell": (lambda x: np.exp(-x * x), lambda x: -2 * x * np.exp(-x * x)),
    "tiny": (lambda x: 1e-200 * x * x, lambda x: 2e-200 * x), "huge": (lambda x: 1e150 * x * x, lambda x: 2e150 * x),
    "waves": (lambda x: np.sin(100 * x), lambda x: 100 * np.cos(100 * x)),
    "edge": (np.arccos, lambda x: -1 / np.sqrt(1 - x * x)),
    "pole": (lambda x: 1 / (x - 1), lambda x: -1 / (x - 1) ** 2),
    "steep": (lambda x: np.tanh(1e4 * x), lambda x: 1e4 * (1 - np.tanh(1e4 * x) ** 2)),
}
AT = {f"{scale:g}": X[0] * scale for scale in (1e-8, 1e-3, 1.0, 1e5, 1e8)} | {
    "mixed": np.array([1e8, -1e-3, 1.0, 1e-8]), "zero among large": np.array([0.0, 1e8, -3e7]), "zero": np.zeros(2),
    "zero among tiny": np.array([0.0, 1e-8, -3e-9]), "near 1": np.array([1 - 1e-6, 1 - 1e-4, 1 - 1e-9]),
    "far": np.array([38275716.02707609, 31941422.02523809, -35891330.85386205]),
    "small steps of rounding": np.array([0.0, 6.96536632e-10, 1.03933291e-8]),
}


def outcome(formula, rule, x, order=1):
    """Return "passes", "wrong", or the reason for which the check was refused."""
    try:
        with np.errstate(all="ignore"):
            ag.check_op(make(lambda x: formula(x), {"x": lambda g, y, x: g * rule(x)}), [(x,)], order=order)
    except AssertionError:
        return "wrong"
    except ValueError as error:
        return str(error)
    return "passes"


@pytest.mark.slow_but_every(5)
@pytest.mark.parametrize("x", AT.values(), ids=AT)
@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("summed", [False, True], ids=["each", "sum"])
def test_a_right_rule_never_fails_and_one_off_by_a_ten_thousandth_never_passes(name, x, summed):
    formula, rule = SMOOTH[name]
    with np.errstate(all="ignore"):
        if not np.isfinite(rule(x)).all():
            return
        some_slope = np.any(rule(x))
    f = (lambda x: np.sum(formula(x))) if summed else formula
    right, off = outcome(f, rule, x), outcome(f, lambda x: rule(x) * 1.0001, x)
    assert right != "wrong", x
    assert off != "passes" or not some_slope
    assert right.startswith(("passes", "nothing", "not diff", "the deriv"))


@pytest.mark.parametrize("name", ["square", "cube", "reciprocal", "affine", "tiny", "huge", "sqrt", "log"])
@pytest.mark.parametrize("x", [AT[key] for key in AT if "1" in key[:1] or key in ("mixed", "0.001")], ids=str)
def test_powers_and_the_like_are_measured_at_every_scale(name, x):
    formula, rule = SMOOTH[name]
    assert outcome(formula, rule, x, order=2) == "passes"
    assert outcome(formula, lambda x: rule(x) * 1.0001, x) == "wrong"


def test_the_smallest_element_is_checked_beside_the_largest():
    x = np.array([1e8, 1e-3])
    assert outcome(square, lambda x: 2 * x, x) == "passes"
    assert outcome(square, lambda x: 2 * x * np.where(x < 1, 1.0001, 1), x) == "wrong"


@pytest.mark.parametrize("name", ["exp", "sin", "tanh", "waves", "rounds", "affine"])
@pytest.mark.parametrize("x", [np.zeros(2), 1e-8 * X[0], np.array([0.0, 1e-8]), X[0]], ids=str)
def test_functions_with_a_scale_of_their_own_are_measured_at_small_inputs(name, x):
    formula, rule = SMOOTH[name]
    assert outcome(formula, rule, x) == "passes"
    assert outcome(formula, lambda x: rule(x) * 1.0001, x) == "wrong"


@pytest.mark.parametrize("name, x", [("edge", [1 - 1e-6]), ("edge", [-1 + 1e-9, 0.0]), ("log", [1e-30, 1e-8]),
                                     ("sqrt", [1e-12, 1.0]), ("pole", [1.0001, 0.9999]), ("steep", [1e-5, 1e-4])])
def test_steps_that_leave_the_domain_are_made_smaller(name, x):
    formula, rule = SMOOTH[name]
    x = np.array(x)
    assert outcome(formula, rule, x) == "passes"
    assert outcome(formula, lambda x: rule(x) * 1.0001, x) == "wrong"


def test_what_rounding_hides_is_refused_and_says_so():
    x = np.array([1e-3])
    message = outcome(lambda x: 1e6 + x ** 3, lambda x: 3 * x * x, np.array([0.01]))
    assert "could not be measured" in message and "x at index (0,) (value 0.01)" in message and "rounding" in message
    assert "not finite" in outcome(np.sqrt, lambda x: 0 * x, np.zeros(1))
    assert outcome(lambda x: 1e9 + 1e6 * x, lambda x: 1e6 + 0 * x, x) == "passes"


@pytest.mark.parametrize("name, x", [("sin", 77358978.02968286), ("sin", 4646257.9765065685),
                                     ("sin", 283658870.05118316), ("rounds", 4.438183342005142e-11),
                                     ("rounds", 6.656825470184865e-11), ("rounds", 3.1533728315958235e-10),
                                     ("waves", [-3.226357089946742e-09, -5220569.376740075, 0.0003182640209624551])])
def test_steps_that_agree_by_accident_are_found_out(name, x):
    """Some steps are almost whole periods here, or almost whole multiples of the rounding of 1 + x."""
    assert outcome(*SMOOTH[name], np.atleast_1d(x)) != "wrong"


@pytest.mark.slow
def test_stairs_of_rounding_are_no_slope():
    """Far to the left, tanh-GELU changes by rounding alone within small steps."""
    x = np.array([[0.0, -6.0, 6.0], [2e-7, 0.8, -0.8]])
    for approximate in ("none", "tanh"):
        ag.check_op(ag.gelu, [(x, {"approximate": approximate})])
        rule = ag.grad(lambda x, how=approximate: ag.gelu(x, approximate=how).sum())
        for place in np.linspace(-8.4, -5, 171):
            found = outcome(lambda x, how=approximate: ag.gelu(x, approximate=how), rule, np.array([place]))
            assert found != "wrong", place


def test_derivatives_that_are_zero_up_to_rounding_are_compared_with_zero():
    """The standard deviation of two numbers is half their distance, so its second derivative is all rounding."""
    def spread(x):
        return np.sqrt(np.mean((x - np.mean(x, 0)) ** 2, 0))
    ag.check_grads(spread, X, order=2)
    ag.check_op(make(lambda x: x * x / x, {"x": lambda g, y, x: g * (2 * x / x - x * x / x ** 2)}), [(X,)])


def test_nothing_is_measured_of_an_empty_array():
    ag.check_grads(lambda x: np.sum(x) - np.inf, np.zeros((2, 0)), order=1)


def test_a_function_that_raises_outside_its_domain_is_measured_inside():
    def checked_sqrt(x):
        if np.any(x < 0):
            raise ValueError("negative")
        return np.sqrt(x)
    assert outcome(lambda x: checked_sqrt(x - 1), lambda x: 0.5 / np.sqrt(x - 1), np.array([1.0001])) == "passes"


# ---------------------------------------------------------------------- kinks

KINKS = {  # of one at c: formula, derivative, and what the refusal says
    "absolute": (lambda x, c: abs(x - c), lambda x, c: np.sign(x - c), "is a kink"),
    "relu": (lambda x, c: np.maximum(x - c, 0), lambda x, c: (x > c) * 1.0, "is a kink"),
    "root": (lambda x, c: np.sign(x - c) * np.cbrt(abs(x - c)), lambda x, c: np.cbrt(abs(x - c)) ** -2 / 3,
             "the slope is infinite"),
    "cusp": (lambda x, c: np.sqrt(abs(x - c)), lambda x, c: np.sign(x - c) / np.sqrt(abs(x - c)) / 2, "is a kink"),
    "floor": (lambda x, c: np.where(x >= c, c or 1.0, 0.0), lambda x, c: 0 * x, "is at a jump"),
    "step": (lambda x, c: np.where(x >= c, c or 1.0, 0.0) + x, lambda x, c: 1 + 0 * x, "is at a jump"),
    "sqrt": (lambda x, c: np.sqrt(x - c), lambda x, c: 0.5 / np.sqrt(x - c), "not finite"),
}


@pytest.mark.slow_but_every(5)
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("centered", [True, False], ids=["at 0", "elsewhere"])
@pytest.mark.parametrize("name", KINKS)
def test_a_kink_is_refused_or_resolved_and_never_decided_by_luck(name, centered, scale):
    formula, rule, refusal = KINKS[name]
    c = 0.0 if centered else scale

    def f(x):
        return formula(x, c)
    for distance in (0, 1e-12, 1e-9, 1e-6, 1e-4, 1e-3, -1e-12, -1e-9, -1e-6, -1e-4, -1e-3):
        x = np.array([c + distance * scale, 1.7 * scale])
        right = outcome(f, lambda x: rule(x, c), x)
        off = outcome(f, lambda x: rule(x, c) * 1.0001 + 1e-4 * (rule(x, c) == 0), x)
        assert right != "wrong" and off != "passes", (distance, right, off)
        if distance == 0 and not (name == "step" and centered and scale > 1):  # that step is small beside the inputs
            assert refusal in right, right
            assert name == "sqrt" or f"x at index (0,) (value {x[0]:.6g})" in right


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("c", [0.0, 1.0])
def test_a_kink_of_second_order_is_one_at_the_second_order(c, scale):
    def f(x):
        return (x - c * scale) * abs(x - c * scale)

    def rule(x):
        return 2 * abs(x - c * scale)
    at, near = np.array([c * scale, 1.7 * scale]), np.array([(c + 1e-6) * scale, 1.7 * scale])
    assert outcome(f, rule, at, order=1) == outcome(f, rule, near, order=2) == "passes"
    assert "kink" in outcome(f, rule, at, order=2)
    assert outcome(f, lambda x: 1.0001 * rule(x), at) == "wrong"


@pytest.mark.parametrize("distance", [0, 1e-12, 1e-9, 1e-6])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_a_maximum_of_almost_equal_elements_is_no_matter_of_luck(distance, scale):
    x = np.array([1.0, 2.0, 2.0 + distance]) * scale

    def rule(x):
        return (x == x.max()) / np.sum(x == x.max())
    right, off = outcome(np.max, rule, x), outcome(np.max, lambda x: 1.0001 * rule(x), x)
    assert right != "wrong" and off != "passes"
    if distance == 0:
        assert "kink" in right


@pytest.mark.parametrize("curvature", [1e3, 1e6])
def test_strong_curvature_is_no_kink(curvature):
    x = np.array([0.3, 0.0, -1e-3])
    for formula, rule in [(lambda x: np.tanh(curvature * x), lambda x: curvature / np.cosh(curvature * x) ** 2),
                          (lambda x: np.sqrt(x * x + curvature ** -2), lambda x: x / np.sqrt(x * x + curvature ** -2))]:
        assert outcome(formula, rule, x) == "passes"


@pytest.mark.parametrize("order, most", [(1, 60), (2, 180)])
def test_smooth_functions_at_ordinary_points_cost_few_evaluations(order, most):
    calls = []

    def f(x):
        calls.append(1)
        return np.tanh(x) * x
    ag.check_grads(f, X, order=order)
    assert len(calls) <= most


def test_the_result_does_not_depend_on_chance():
    def message():
        with pytest.raises(AssertionError) as error:
            ag.check_grads(lambda x: x * x.detach(), X)
        return str(error.value)
    assert message() == message()


def test_a_gradient_of_zero_is_one():
    """Also if the value itself is 0, as the loss of a perfect fit."""
    ag.check_grads(np.square, np.zeros(3))
    ag.check_grads(lambda x: x ** 4, np.array(0.0))
    ag.check_grads(lambda x: ag.mse(x, np.ones(3)), np.ones(3))
    with pytest.raises(AssertionError):
        ag.check_grads(lambda x: x * x + 1e-3 * (x - x.detach()).detach() + 1e-3 * x - 1e-3 * x.detach(), np.zeros(3))


def test_what_cannot_be_checked_is_said():
    with pytest.raises(ValueError, match="returned no array"):
        ag.check_grads(lambda x: None, np.ones(2))
    with pytest.raises(TypeError, match="check_op checks ops, and 'silu' is none: use check_grads"):
        ag.check_op(ag.silu, [(np.ones(2),)])
    with pytest.raises(TypeError, match=r"a list of tuples of arguments, such as \[\(x,\)\]"):
        ag.check_op(ag.softmax, (np.ones(2),))
    ag.check_grads(np.square, np.array([1e-150, 1e150]), order=1)


ODD = {"inf": [1.0, np.inf], "-inf": [1.0, -np.inf], "nan": [1.0, np.nan], "large": [1.0, 1.7e308],
       "subnormal": [1.0, 5e-324], "all inf": [np.inf, np.inf], "zeros": [0.0, 0.0], "empty": []}


@pytest.mark.parametrize("values", ODD.values(), ids=ODD)
@pytest.mark.parametrize("f", [ag.softmax, np.exp, np.square, np.log, np.tanh, np.absolute, ag.logsumexp])
def test_odd_numbers_are_checked_or_refused_in_words(f, values):
    with np.errstate(all="ignore"):
        try:
            ag.check_grads(f, np.array(values))
        except (ValueError, AssertionError) as error:  # and no OverflowError, say
            assert str(error)


def test_a_masked_softmax_passes():
    ag.check_grads(ag.softmax, np.array([0.3, -np.inf, 1.2]))
    with pytest.raises(AssertionError, match=r"index \(2,\)"):
        wrong = ag.Op(lambda x: ag.softmax(x))
        wrong.gradient("x")(lambda g, y, x: y * (g - (g * y).sum()) * np.array([1.0, 1.0, 1.1]))
        ag.check_grads(wrong, np.array([0.3, -np.inf, 1.2]), order=1)
