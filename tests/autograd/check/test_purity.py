"""`check_op` finds formulas and rules that change their arguments, keep state or draw random numbers, and passes pure
ones.  Rules that are meant not to be the derivative are compared with their surrogate."""

import numpy as np
import pytest

import autograd as ag
from tests.autograd.common import leaf

X = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])
rng = np.random.default_rng(0)
kept, count = {}, [0]
TABLE = np.array([1.0, 2.0, 3.0])


def make(formula, rules, surrogate=None):
    made = ag.Op(formula)
    for names, rule in rules.items():
        made.gradient(*names.split(), surrogate=surrogate)(rule)
    return made


def as_given(g, y, x):
    return g


def buffer(key, value):
    """Return `value` in an array of which there is one for each shape."""
    array = kept.setdefault((key, value.shape), np.empty_like(value))
    array[...] = value
    return array


def changed(array, factor=0):
    array *= factor
    return array


def remembered(key, value):
    kept[key] = value
    return value


def counted():
    count[0] += 1
    return count[0]


# ---------------------------------------------------------------------- formulas

IMPURE = {
    "draws": (lambda x: x * rng.normal(size=x.shape), "<lambda> is not pure"),
    "NaN now and then": (lambda x: x * (np.nan, 1, 2)[counted() % 3], "is not pure"),
    "counts": (lambda x: x * counted(), "is not pure"),
    "reads what it saved": (lambda x: x + kept.get("sum", 0) + 0 * remembered("sum", x.sum()), "is not pure"),
    "same buffer": (lambda x: buffer("y", 2 * x), "<lambda> returns the same memory in two calls"),
    "view of a buffer": (lambda x: buffer("y", 2 * x)[::-1], "the same memory"),
    "one of two": (lambda x: (x * 2, buffer("y", 2 * x)), "the same memory"),
    "an array that is always there": (lambda x: TABLE if x.ndim else x, "the same memory"),
    "x": (lambda x: changed(x, 2), "<lambda> changes its input x in place"),
    "x, by nothing": (lambda x: changed(x, 1), "changes what it is given in place"),
    "x, in a view": (lambda x: changed(x.reshape(-1), 2), "changes its input x in place"),
    "x's shape": (lambda x: setattr(x, "shape", (-1,)) or x * 2, "changes its input x in place"),
}


@pytest.fixture(autouse=True)
def nothing_kept():
    kept.clear()


@pytest.mark.filterwarnings("ignore:Setting the shape")
@pytest.mark.parametrize("formula, message", IMPURE.values(), ids=IMPURE)
def test_a_formula_that_is_not_pure_is_found(formula, message):
    x = X.copy()
    with np.errstate(all="ignore"), pytest.raises(AssertionError, match=message):
        ag.check_op(make(formula, {"x": as_given}), [(x,)])
    np.testing.assert_array_equal(x, X)
    with pytest.raises(AssertionError, match=message):
        ag.check_op(ag.Op(formula, differentiable=False), [(x,)])


def test_settings_that_a_formula_or_a_rule_changes_are_found():
    def push(x, stack=()):
        stack["n"] = stack.get("n", 0) + 1
        return x * 2

    def scale(x, mask=None):
        return x * mask

    def bad_rule(g, y, x, mask=None):
        return g * changed(mask, 2)

    def bad_dict_rule(g, y, x, stack=()):
        stack.clear()
        return 2 * g

    with pytest.raises(AssertionError, match="push changes its attribute stack"):
        ag.check_op(ag.Op(push, differentiable=False), [(X, {"stack": {"n": 0}})])
    with pytest.raises(AssertionError, match="the gradient rule of scale for x changes its attribute mask"):
        ag.check_op(make(scale, {"x": bad_rule}), [(X, {"mask": np.ones(3)})])
    fine = ag.Op(lambda x, stack=(): 2 * x)
    fine.gradient("x")(bad_dict_rule)
    with pytest.raises(AssertionError, match="for x changes its attribute stack"):
        ag.check_op(fine, [(X, {"stack": {"n": np.ones(2)}})])


# ---------------------------------------------------------------------- rules

BAD_RULES = {
    "x": (lambda g, y, x: (g * 2, changed(x))[0], "the gradient rule of <lambda> for x changes x in place"),
    "y": (lambda g, y, x: (g * 2, changed(y))[0], "for x changes the output in place"),
    "g": (lambda g, y, x: changed(g, 2), "for x changes g in place"),
    "all": (lambda g, y, x: (g * 2, changed(g), changed(y), changed(x))[0], "changes g and the output and x in place"),
    "draws": (lambda g, y, x: g * 2 * rng.normal(), "rule of <lambda> for x is not pure"),
    "counts": (lambda g, y, x: g * 2 * counted(), "is not pure"),
    "the same buffer": (lambda g, y, x: buffer("d", 2 * g), "for x returns the same memory"),
    "reads what the formula saved": (lambda g, y, x: g * (2 + kept["x"].sum() - x.sum()), "is not pure"),
}


@pytest.mark.parametrize("rule, message", BAD_RULES.values(), ids=BAD_RULES)
def test_a_rule_that_is_not_pure_is_found(rule, message):
    x = X.copy()
    with pytest.raises(AssertionError, match=message):
        ag.check_op(make(lambda x: 2 * remembered("x", x), {"x": rule}), [(x,)])
    np.testing.assert_array_equal(x, X)


def test_rules_of_several_inputs_and_of_several_results_are_looked_at():
    def both(g, z, x, y):
        return g * y, changed(g) * x

    def parts(g, y, x):
        return changed(g[1]) + g[0]

    def each(g, y, *xs):
        return [changed(xs[1]) + g for _ in xs]

    with pytest.raises(AssertionError, match="rule of <lambda> for x, y changes g in place"):
        ag.check_op(make(lambda x, y: x * y, {"x y": both}), [(X, X + 1)])
    with pytest.raises(AssertionError, match="for x changes g in place"):
        ag.check_op(make(lambda x: (x * 1, x * 1), {"x": parts}), [(X,)])
    with pytest.raises(AssertionError, match=r"for xs\[0\], xs\[1\] changes xs\[1\] in place"):
        ag.check_op(make(lambda *xs: xs[0] + xs[1], {"*xs": each}), [([X, X],)])


def test_an_error_of_a_rule_stays_what_it_is():
    def fails(g, y, x):
        raise KeyError("nothing here")
    with pytest.raises(KeyError):
        ag.check_op(make(lambda x: 2 * x, {"x": fails}), [(X,)])


def test_a_rule_that_returns_what_is_no_real_number_is_refused():
    for d in (np.full(X.shape, 1j), np.full(X.shape, "a")):
        op = make(lambda x: 2 * x, {"x": lambda g, y, x: d})  # noqa: B023
        with pytest.raises(TypeError, match="a gradient rule returned .* real numbers"):
            op(leaf(X)).sum().backward()


# ---------------------------------------------------------------------- what is allowed

ALLOWED = {
    "its input": (lambda x: x, as_given), "a view of it": (lambda x: x.T[::-1], lambda g, y, x: g[::-1].T),
    "g": (lambda x: x + 1, as_given), "a view of g": (lambda x: x[1:].T, lambda g, y, x: np.pad(g.T, ((1, 0), (0, 0)))),
}


@pytest.mark.parametrize("formula, rule", ALLOWED.values(), ids=ALLOWED)
def test_what_is_given_may_be_returned_and_views_of_it(formula, rule):
    ag.check_op(make(formula, {"x": rule}), [(X,)])


def test_a_rule_may_return_the_output_itself_or_an_input():
    for rule in (lambda g, y, x: y, lambda g, y, x: x, lambda g, y, x: x[::-1]):
        ag.check_op(make(lambda x: np.exp(x), {"x": rule}, surrogate=True), [(X,)])  # no derivative, as g is left out


def test_values_that_are_not_finite_are_the_same_each_time():
    op = ag.Op(lambda x: np.log(x), differentiable=False)
    with np.errstate(all="ignore"):
        ag.check_op(op, [(np.array([-1.0, 0.0, np.nan]),)])


def test_a_formula_that_refuses_other_numbers_is_checked_at_those_that_it_takes():
    def strict(x):
        if not np.array_equal(x, X):
            raise ValueError("only this")
        return 2 * x
    ag.check_op(ag.Op(strict, differentiable=False), [(X,)])
    with pytest.raises(AssertionError, match="not pure"):
        ag.check_op(ag.Op(lambda x: strict(x) * counted(), differentiable=False), [(X,)])


# ---------------------------------------------------------------------- rules that are meant to be something else


def step(x, window=1.0):
    return np.where(x > 0, 1.0, 0.0).astype(x.dtype)


SURROGATES = {  # formula, rule, surrogate, a wrong rule
    "round": (lambda x: np.round(x), as_given, lambda x: x, lambda g, y, x: g * y),
    "clip": (lambda x: np.clip(x, -1, 1), as_given, lambda x: x, lambda g, y, x: g * (abs(x) < 1)),
    "reversal": (lambda x: x * 1, lambda g, y, x: -g, lambda x: -x, as_given),
    "sign": (lambda x: np.sign(x), lambda g, y, x: g * (abs(x) < 1), lambda x: np.clip(x, -1, 1), as_given),
    "tanh": (lambda x: np.sign(x), lambda g, y, x: g / np.cosh(x) ** 2, np.tanh, lambda g, y, x: g * (1 - y * y)),
}
POINTS = np.array([[0.5, -1.2, 2.1], [1.6, 0.25, -0.75]])


@pytest.mark.parametrize("formula, rule, surrogate, wrong", SURROGATES.values(), ids=SURROGATES)
def test_a_rule_is_compared_with_the_surrogate_it_names(formula, rule, surrogate, wrong):
    op = make(formula, {"x": rule}, surrogate)
    ag.check_op(op, [(POINTS,), (POINTS[0].astype(np.float32),)], order=2)
    card = repr(op(leaf(POINTS)).explain())
    assert "intended: not the derivative, but its surrogate's; agrees with finite differences" in card
    with pytest.raises((AssertionError, ValueError), match="gradient of x is wrong|not differentiable"):
        ag.check_op(make(formula, {"x": rule}), [(POINTS,)])
    off = make(formula, {"x": wrong}, surrogate)
    with pytest.raises(AssertionError, match="<lambda> against its surrogate: gradient of x is wrong"):
        ag.check_op(off, [(POINTS,)])
    assert "but its surrogate's; DIFFERS from" in repr(off(leaf(POINTS)).explain())


def test_a_rule_of_no_function_is_checked_but_for_its_numbers():
    free = make(lambda x: x * 1, {"x": lambda g, y, x: np.clip(g, -0.1, 0.1)}, surrogate=True)
    ag.check_op(free, [(X,)])
    assert "intended: not the derivative\n" in repr(free(leaf(X)).explain()) + "\n"
    for rule, message in [(lambda g, y, x: changed(g), "changes g in place"),
                          (lambda g, y, x: g * rng.normal(), "is not pure"),
                          (lambda g, y, x: buffer("d", g), "the same memory")]:
        with pytest.raises(AssertionError, match=message):
            ag.check_op(make(lambda x: x * 1, {"x": rule}, surrogate=True), [(X,)])
    with pytest.raises(AssertionError, match=r"the gradient of x|returned shape \(3,\)"):
        ag.check_op(make(lambda x: x * 1, {"x": lambda g, y, x: g[0]}, surrogate=True), [(X,)])


def test_the_gradient_of_a_surrogate_gradient_is_checked_too():
    def detached(g, y, x):
        x = x.detach() if isinstance(x, ag.Tensor) else x
        return g / np.cosh(x) ** 2
    op = make(lambda x: np.sign(x), {"x": detached}, np.tanh)
    ag.check_op(op, [(POINTS,)], order=1)
    with pytest.raises(AssertionError, match="against its surrogate: in the gradient: gradient of x"):
        ag.check_op(op, [(POINTS,)], order=2)


def test_one_input_may_have_a_surrogate_and_another_none():
    quantized = ag.Op(lambda x, s: np.round(x / 0.1) * s)
    quantized.gradient("x", surrogate=lambda x, s: x / 0.1 * s)(lambda g, y, x, s: g * s / 0.1)
    quantized.gradient("s")(lambda g, y, x, s: g * np.round(x / 0.1))
    points = np.array([0.52, -1.23])
    ag.check_op(quantized, [(points, np.array([0.3, 0.7]))])
    texts = [row.residual.text for row in quantized(leaf(points), leaf([0.3, 0.7])).explain().rows[1:]]
    assert texts[0].startswith("intended: ") and texts[1].startswith("agrees")
    quantized.gradient("s")(lambda g, y, x, s: g * x)
    with pytest.raises(AssertionError, match="^<lambda>: gradient of s is wrong"):
        ag.check_op(quantized, [(points, np.array([0.3, 0.7]))])
    quantized.gradient("x")(lambda g, y, x, s: g * s / 0.1)  # registered anew, without a surrogate
    assert quantized.rules.surrogates[0] is None


def test_surrogates_of_lists_settings_and_results_of_several_arrays():
    both = ag.Op(lambda *xs, low=0.0: tuple(np.maximum(x, low) for x in xs))
    both.gradient("*xs", surrogate=lambda *xs, low=0.0: xs)(lambda g, y, *xs, low=0.0: list(g))
    ag.check_op(both, [([X, X[0]],), ([X, X], {"low": -0.5})])


def test_what_cannot_be_a_surrogate_is_refused():
    op = ag.Op(step)
    for surrogate in (lambda x: x, lambda x, window=2.0: x, lambda y, window=1.0: y):
        with pytest.raises(TypeError, match=r"a surrogate of step takes \(x, window=1.0\), and this one takes"):
            op.gradient("x", surrogate=surrogate)(lambda g, y, x, window=1.0: g)
    op.gradient("x", surrogate=lambda x, window=1.0: x.sum())(lambda g, y, x, window=1.0: g)
    with pytest.raises(ValueError, match=r"the surrogate of step returned f64\[\], and its formula f64\[2,3\]"):
        ag.check_op(op, [(X,)])


def test_check_grads_of_a_function_says_which_gradient_is_intended():
    op = make(lambda x: np.round(x), {"x": as_given}, lambda x: x)
    with pytest.raises(ValueError, match="gradient of <lambda> for its input x is intended not to be the derivative"):
        ag.check_grads(lambda x: np.sum(op(x * x) * x), X)
    with pytest.raises(ValueError, match="is intended") as error:
        ag.check_grads(lambda x: {"a": x * 2, "b": [op(x)]}, X)
    assert error.value.record.op is op
    ag.check_grads(lambda x: x * op(np.sign(x)), X)  # no gradient goes through it


def test_the_list_of_ops_tells_surrogates(new_op):
    from autograd.__main__ import gradient

    @new_op
    def straight(x, y):
        """z = round(x) y"""
        return np.round(x) * y

    straight.gradient("x", surrogate=lambda x, y: x * y)(lambda g, z, x, y: g * y)
    straight.gradient("y")(lambda g, z, x, y: g * np.round(x))
    assert gradient(straight) == "of x (surrogate), y"
