"""A function that would lose a gradient silently, or has none, is refused while it is differentiated."""

import array
import math
import traceback

import numpy as np
import pytest

import autograd as ag

LOSING = {
    "an element of an array": lambda x: np.sum(element(x) * x),
    "an array filled": lambda x: np.sum(filled(x) * x),
    "an iterator": lambda x: np.sum(np.fromiter(x, float) * x),
    "float": lambda x: float(x[0]) * x[1],
    "math": lambda x: math.sin(x[0]) * x[1],
    "complex": lambda x: complex(x[0]).real * x[1],
    "array.array": lambda x: array.array("d", [x[0]])[0] * x[1],
    "fsum": lambda x: math.fsum(x) * x[1],
    "np.float64": lambda x: np.float64(x[0]) * x[1],
    "a list": lambda x: np.array([x[0], x[1]])[0] * x[1],
    "a list of vectors": lambda x: np.array([x, x])[0, 0] * x[1],
    "np.mean of a list": lambda x: np.mean([x[0], x[1]]) * x[1],
    "np.full": lambda x: np.sum(np.full(3, x[0]) * x[1]),
    "a slice of an array": lambda x: np.sum(element(x[:1], slice(0, 1)) * x[1]),
}


def element(t, i=1):
    a = np.zeros(2)
    a[i] = t[0] if t.ndim and i == 1 else t
    return a


def filled(x):
    a = np.zeros(2)
    a.fill(x[0])
    return a


@pytest.mark.parametrize("name", LOSING)
@pytest.mark.parametrize("transform", [
    ag.grad, ag.value_and_grad, ag.jacobian, ag.hessian, lambda f: lambda x: ag.vjp(f, x),
    lambda f: lambda x: ag.jvp(f, (x,), (x,)), lambda f: lambda x: ag.hvp(f, x, x)])
def test_what_would_lose_a_gradient_raises_while_it_is_differentiated(transform, name):
    with pytest.raises(TypeError, match="np.stack"):
        transform(LOSING[name])(np.array([1.0, 2.0]))


def test_a_number_is_taken_where_nothing_is_differentiated():
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    assert float(x[0]) == 1 and element(x)[1] == 1 and math.sqrt(x[0]) == 1

    def f(x):
        with ag.no_grad():
            shown = float(x[1])
        return x[0] * shown + float(x.detach()[0]) + x[0].item() + float(ag.tensor(2.0)) + len(f"{x[0]:.3f}")
    np.testing.assert_array_equal(ag.grad(f)(np.array([1.0, 2.0])), [2, 0])
    assert float(x[0]) == 1


def test_the_errors_line_is_the_users():
    try:
        ag.grad(LOSING["an element of an array"])(np.ones(2))
    except TypeError as error:
        assert "a[i] = t[0]" in "".join(traceback.format_exception(error)) and error.__cause__ is None


@pytest.mark.parametrize("f", [lambda x: np.all(x > 0), lambda x: np.argmax(x), lambda x: (x > 0).sum(),
                               lambda x: x.astype(int).sum(), lambda x: np.array_equal(x, x)])
@pytest.mark.parametrize("transform", [
    ag.grad, ag.value_and_grad, ag.jacobian, ag.hessian, lambda f: lambda x: ag.vjp(f, x),
    lambda f: lambda x: ag.jvp(f, (x,), (x,)), lambda f: lambda x: ag.hvp(f, x, x)])
def test_a_function_whose_results_are_no_floats_is_refused(transform, f):
    with pytest.raises(TypeError, match="(bool|int64) numbers.*no gradient"):
        transform(f)(np.array([1.0, 2.0]))


def test_results_of_which_some_are_no_floats():
    (y, place), pullback = ag.vjp(lambda x: (np.max(x), np.argmax(x)), np.array([1.0, 3.0]))
    assert (y, place) == (3, 1) and place.dtype == int
    np.testing.assert_array_equal(pullback((2.0, 0))[0], [0, 2])
