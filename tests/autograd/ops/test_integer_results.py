"""Results that are no floating-point numbers: constants, also beside others that carry gradients."""

import numpy as np
import pytest

import autograd as ag
from tests.autograd.common import leaf
from tests.replaying import poisoned

X = np.random.default_rng(0).normal(size=(3, 5))
C = np.random.default_rng(1).normal(size=(3, 2))
INTEGERS = {"int64": int, "int8": np.int8, "uint8": np.uint8, "bool": bool}


def rounded(dtype):
    """An op that gives integers, and has a rule all the same."""
    made = ag.Op(lambda x: np.round(x).astype(dtype))
    made.gradient("x")(lambda g, y, x: g)
    return made


# ---------------------------------------------------------------------- one result


@pytest.mark.parametrize("dtype", INTEGERS.values(), ids=INTEGERS)
def test_an_integer_result_is_a_constant_with_a_buffer_of_its_own(dtype):
    x = leaf([0.6, 2.2])
    y = rounded(dtype)(x)
    assert not y.requires_grad and y.op is None and y.dtype == dtype
    (x * y).sum().backward()
    np.testing.assert_array_equal(x.grad, y.data.astype(float))
    y.data = np.zeros(2, dtype)
    with pytest.raises(RuntimeError, match="through integers"):
        y.backward(np.ones(2))


def test_an_integer_result_needs_no_rule():
    x = leaf([0.6, 2.2])
    assert not ag.Op(lambda x: x > 1)(x).requires_grad
    with pytest.raises(TypeError, match="no gradient rule"):
        ag.Op(lambda x: x * (x > 1))(x)


def test_an_integer_result_in_a_program_is_computed_again():
    count, x = rounded(int), leaf([0.6, 2.2])
    program = ag.record(lambda c: (x * count(x * c)).sum(), np.ones(2))
    for c in (np.ones(2), np.array([5.0, -3.0])):
        x.grad = None
        assert program(c) == (x.data * np.round(x.data * c)).sum()
        program.backward()
        np.testing.assert_array_equal(x.grad, np.round(x.data * c))
    record = next(t for t in program.tape if t.op is count)
    assert not record.requires_grad
    card = repr(record.explain())
    assert card.count("no gradient flows") == 2 and "No numbers" not in card and "∂L/∂x" not in card


def test_an_integer_result_has_derivative_0():
    for f in (rounded(int), lambda x: x > 1, np.argmax):
        (_, y), (_, dy) = ag.jvp(lambda x, f=f: (x * 1, f(x)), (np.array([0.6, 2.2]),), (np.ones(2),))
        np.testing.assert_array_equal(dy, np.zeros(y.shape))
    assert dy.dtype == np.float64


@pytest.mark.parametrize("y", [np.array(["a"]), np.array([None]), np.array([1j]), (np.ones(2), (np.ones(2),))], ids=str)
def test_what_is_no_real_number_is_refused(y):
    with pytest.raises(TypeError, match="real numbers|should return an array"):
        ag.Op(lambda x: y)(leaf([1.0, 2.0]))


# ---------------------------------------------------------------------- some of several: top_k


def by_sorting(x, k):
    """top_k of other ops."""
    places = np.argsort(-x.data, axis=-1)[..., :k]
    return np.take_along_axis(x, places, -1), places


def picked(w, c=C, top_k=ag.top_k):
    """A loss in which values and places are both used."""
    values, places = top_k(np.tanh(w), 2)
    return (values * c * np.take_along_axis(w * w, places, -1)).sum()


def gradient(f, x=X):
    x = leaf(x)
    f(x).backward()
    return x.grad


def test_the_largest_come_first_and_equal_ones_in_order():
    nan = np.nan
    values, places = ag.top_k(np.array([[1.0, 3.0, 3.0, nan, -1.0], [0.0, -0.0, 5.0, 5.0, nan]]), 4)
    np.testing.assert_array_equal(values, [[nan, 3, 3, 1], [nan, 5, 5, 0]])
    np.testing.assert_array_equal(places, [[3, 1, 2, 0], [4, 2, 3, 0]])
    for x, best in ((np.array([0, 255, 3], np.uint8), [1, 2, 0]), (np.array([-128, 127], np.int8), [1, 0]),
                    (np.array([True, False, True]), [0, 2, 1]), (np.array([-np.inf, np.inf]), [1, 0])):
        values, places = ag.top_k(x, len(x))
        assert values.dtype == x.dtype and places.tolist() == best
        np.testing.assert_array_equal(values, x[best])


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_ties_and_nan_go_as_elsewhere(library):
    there = pytest.importorskip(library)
    x = np.array([[0.5, 2.0, np.nan, -1.0], [np.inf, 0.0, 1.0, np.nan]])
    values, places = (there.topk(there.from_numpy(x), 3) if library == "torch" else there.lax.top_k(x, 3))
    ours = ag.top_k(x, 3)
    np.testing.assert_array_equal(ours[0], np.asarray(values))
    np.testing.assert_array_equal(ours[1], np.asarray(places))
    tied = np.array([1.0, 3.0, 3.0, 1.0])
    if library == "jax":
        np.testing.assert_array_equal(ag.top_k(tied, 3)[1], there.lax.top_k(tied, 3)[1])


@pytest.mark.parametrize("call, text", [
    (lambda x: ag.top_k(x, 6), "there are 5 elements along axis -1"), (lambda x: ag.top_k(x, -1), "k = -1"),
    (lambda x: ag.top_k(x, 2, axis=2), "axis"), (lambda x: ag.top_k(x[0, 0], 0), "axis")])
def test_what_top_k_cannot_take_is_named(call, text):
    with pytest.raises(ValueError, match=rf"top_k\(.*{text}|{text}"):
        call(leaf(X))


def test_places_are_constants_and_values_are_not():
    values, places = ag.top_k(leaf(X), 2)
    assert values.requires_grad and not places.requires_grad and places.op is None
    with ag.no_grad():
        assert not any(t.requires_grad for t in ag.top_k(leaf(X), 2))


def test_a_place_that_somebody_assigns_leaves_the_gradient_alone():
    x = leaf(X)
    values, places = ag.top_k(x, 2)
    places.data = np.zeros((3, 2), int)
    values.sum().backward()
    np.testing.assert_array_equal(x.grad, gradient(lambda x: by_sorting(x, 2)[0].sum()))


def test_gradients_beside_integers_of_every_order():
    np.testing.assert_array_equal(gradient(picked), gradient(lambda x: picked(x, top_k=by_sorting)))
    ag.check_grads(picked, X, order=3)
    hessians = [ag.hessian(lambda x, how=how: picked(x, top_k=how))(X) for how in (ag.top_k, by_sorting)]
    np.testing.assert_allclose(*hessians, rtol=1e-13, atol=1e-15)
    assert np.abs(hessians[0]).max() > 0.1


def test_transforms_take_integers_beside_others():
    (values, places), pullback = ag.vjp(lambda x: ag.top_k(x, 2), X)
    for seed in (np.zeros((3, 2), int), np.full((3, 2), 7.0)):  # whatever stands for the gradient of an integer
        np.testing.assert_array_equal(pullback((C, seed))[0], gradient(lambda x: (ag.top_k(x, 2)[0] * C).sum()))
    t = np.random.default_rng(2).normal(size=X.shape)
    (_, again), (d_values, d_places) = ag.jvp(lambda x: ag.top_k(x, 2), (X,), (t,))
    np.testing.assert_array_equal(d_values, np.take_along_axis(t, places, -1))
    np.testing.assert_array_equal(again, places)
    assert not d_places.any() and d_places.shape == places.shape
    np.testing.assert_array_equal(ag.jacobian(lambda x: ag.top_k(x, 2)[0])(X),
                                  ag.jacobian(lambda x: by_sorting(x, 2)[0])(X))


def test_integers_beside_others_are_freed_and_computed_again():
    x = leaf(X)
    loss = picked(x)
    loss.backward()
    record = next(t for t in ag.tape(loss) if t.op is ag.top_k)
    assert record._array is None
    loss.backward()
    np.testing.assert_array_equal(x.grad, 2 * gradient(picked))
    np.testing.assert_array_equal(record._value()[1], by_sorting(np.tanh(leaf(X)), 2)[1])
    np.testing.assert_array_equal(gradient(ag.checkpoint(picked)), gradient(picked))
    with ag.detect_anomaly():
        np.testing.assert_array_equal(gradient(picked), gradient(picked))


def test_integers_beside_others_in_a_program():
    w, rng = leaf(X), np.random.default_rng(3)
    program = ag.record(lambda c: picked(w, c), C)
    program(C)
    program.backward()
    poisoned(program)
    for _ in range(3):
        w.data, c, w.grad = rng.normal(size=X.shape), rng.normal(size=C.shape), None
        loss = picked(w, c)
        loss.backward()
        wanted, w.grad = w.grad, None
        assert program(c) == loss.data
        program.backward()
        np.testing.assert_array_equal(w.grad, wanted)
    both = ag.record(lambda x: ag.top_k(x, 2), X)
    for x in (X, -X):
        for got, wanted in zip(both(x), ag.top_k(x, 2), strict=True):
            assert got.dtype == wanted.dtype
            np.testing.assert_array_equal(got, wanted)


def test_views_show_integers_and_no_gradient_of_them():
    x = leaf(X)
    loss = picked(x)
    tape = ag.tape(loss)
    record = next(t for t in tape if t.op is ag.top_k)
    assert "(f64[3,2], i64[3,2]) = top_k" in repr(tape)
    for explained in (record.explain(loss), record.explain()):
        assert "Jacobian  ∂y/∂x, 6 × 15" in repr(explained) and "agrees with finite differences" in repr(explained)
        assert len(explained.rows[0].value) == 2 and len(explained.rows[0].gradient) == 1
        assert "g · J is the gradient sent" in repr(explained) and explained._repr_html_()
    assert ag.tape(*ag.top_k(x, 2))[1].explain().rows[0].gradient[0].tolist() == np.ones((3, 2)).tolist()
    walk = tape.stepper()
    walk.run()
    np.testing.assert_array_equal(walk.gradient(x), gradient(picked))
    assert len(tape.ledger(x)) == 3 and tape.memory().peak > 0
    assert tape.draw().source and tape.player()._repr_html_()
    assert ag.diff(tape, ag.tape(picked(leaf(X)))).value is None


def test_integers_may_come_first():
    both = ag.Op(lambda x: (np.round(x).astype(int), x * x, x > 0))
    both.gradient("x")(lambda g, y, x: 2 * x * g[1])
    x = leaf([0.6, -2.2])
    whole, square, positive = both(x)
    assert [t.requires_grad for t in (whole, square, positive)] == [False, True, False]
    (whole * square * positive).sum().backward()
    np.testing.assert_array_equal(x.grad, [1.2, 0])
    ag.check_op(both, [(x.data,)])
    assert "agrees with finite differences" in repr(square.inputs[0].explain())


def test_check_grads_needs_a_result_with_a_gradient():
    with pytest.raises(ValueError, match="no array of floating-point numbers"):
        ag.check_grads(lambda x: np.argmax(x), X)
    ag.check_grads(lambda x: (x * x, np.argmax(x)), X)


def test_check_op_finds_an_op_that_loses_its_gradient_in_integers():
    with pytest.raises(AssertionError, match="makes int64 of float64, and no gradient flows through"):
        ag.check_op(rounded(int), [(X,)])
    ag.check_op(ag.Op(lambda x: np.round(x).astype(int), differentiable=False), [(X,)])
