"""Another library's arrays stay what they are; and the arrays that test this are strict."""

import numpy as np
import pytest

import autograd as ag
from tests.duck import Duck


@pytest.fixture
def x():
    return ag.tensor(Duck(np.array([1.0, 2.0, 3.0])), requires_grad=True)


@pytest.mark.parametrize("f", [
    np.asarray, np.array, list, float, int, lambda d: d + np.ones(3), lambda d: np.ones(3) * d,
    lambda d: np.add(d, np.ones(3)),
    lambda d: np.where(np.ones(3, bool), d, 0), lambda d: np.concatenate([d, np.ones(3)]), lambda d: d @ np.ones(3),
    lambda d: np.zeros(3).__setitem__(slice(None), d), lambda d: d.__setitem__(0, np.ones(1)),
    lambda d: d[np.ones(3, bool)],
    lambda d: np.arange(3)[d], lambda d: d.reshape(np.ones(1)), lambda d: d + [1.0, 2.0, np.ones(3)]])
def test_a_duck_refuses_numpys_arrays(f):
    with pytest.raises((TypeError, IndexError)):
        f(Duck(np.array([1.0, 2.0, 3.0])))


def test_a_duck_works_with_its_kind_and_with_numbers():
    d = Duck(np.array([1.0, 2.0, 3.0]))
    for y in (d + d, d * 2, 2.0 - d, np.float32(2) * d, np.exp(d), d.sum(), d[0], np.zeros_like(d),
              np.zeros_like(d, shape=(2,)), d[d > 1],
              np.arange(3, like=d), np.tri(2, like=d), np.where(d > 1, d, 0), d.T, d @ d, np.split(d, 3)[0],
              np.asanyarray([1.0], like=d)):
        assert isinstance(y, Duck)
    assert d.sum().shape == () and d.sum().item() == 6


@pytest.mark.parametrize("spoil", [lambda x: x + np.zeros(x.shape), lambda x: np.concatenate([x, np.zeros(1)]),
                                   lambda x: np.asarray(x) * 1,
                                   lambda x: x * np.arange(x.shape[0])])
def test_a_formula_that_leaves_the_library_fails(spoil):
    with pytest.raises(TypeError):
        ag.Op(spoil)(ag.tensor(Duck(np.ones(3)), requires_grad=True))


def test_a_rule_that_leaves_the_library_fails(x):
    op = ag.Op(lambda x: x * 2)
    op.gradient("x")(lambda g, y, x: g * np.full(x.shape, 2.0))
    with pytest.raises(TypeError):
        op(x).sum().backward()


def test_tensors_of_ducks(x):
    assert x.shape == (3,) and x.dtype == float and isinstance(x.data, Duck)
    y = (np.exp(x) * 2 + x[1:].sum() - x.mean()).sum()
    assert isinstance(y.data, Duck) and "\n" not in repr(y) and "\n" not in repr(x)
    y.backward(keep=True)
    assert isinstance(x.grad, Duck)
    np.testing.assert_allclose(x.grad.numpy(), 2 * np.exp([1, 2, 3]) - 1 + np.array([0, 3, 3]))
    assert isinstance(ag.tensor(Duck(np.ones(2, np.float32)), dtype=float).data, Duck)


def test_tensor_copies_ducks():
    d = Duck(np.array([1.0, 2.0]))
    x = ag.tensor(d, requires_grad=True)
    y = (x * x).sum()
    d[:] = 9
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 4])


def test_constant_ducks_are_owned():
    x, c = ag.tensor(Duck(np.array([1.0, 2.0])), requires_grad=True), Duck(np.array([3.0, 4.0]))
    y = (x * c).sum()
    c[:] = 0
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3, 4])


def test_gradients_of_ducks_add_up_and_do_not_alias(x):
    z = ag.tensor(Duck(np.ones(3)), requires_grad=True)
    (x + z).sum().backward()
    (x + z).sum().backward()
    x.grad[0] = 7
    np.testing.assert_array_equal(z.grad.numpy(), [2, 2, 2])


def test_freed_ducks_are_computed_again(x):
    y = np.exp(x)
    (y * y).sum().backward()
    assert y._array is None
    np.testing.assert_allclose(y.data.numpy(), np.exp([1, 2, 3]))


def test_assigning_ducks(x):
    x.data = Duck(np.array([4.0, 5.0, 6.0]))
    np.testing.assert_array_equal(x.data.numpy(), [4, 5, 6])
    with pytest.raises(TypeError):
        x.data = np.zeros(3)


def test_lists_of_ducks_tuples_and_rows(x):
    a, b, c = x
    y = np.concatenate([a.reshape(1), b.reshape(1) * c, x])
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 4, 3])


def test_views_of_ducks_under_no_grad(x):
    with ag.no_grad():
        y = x.reshape(3, 1)
    x.data = Duck(np.zeros(3))
    np.testing.assert_array_equal(y.data.numpy(), [[1], [2], [3]])


def test_messages_name_ducks_by_shape(x):
    with pytest.raises(ValueError, match=r"add\(f64\[3\], f64\[2\]\)"):
        x + Duck(np.ones(2))


def test_leaves_of_ducks_with_a_seed(x):
    (x * 2).backward(gradient=Duck(np.array([1.0, 2.0, 3.0])))
    np.testing.assert_array_equal(x.grad.numpy(), [2, 4, 6])
