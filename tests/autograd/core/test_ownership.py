"""A record owns its arrays: the owner of an array that an op was given may write into it."""

import numpy as np
import pytest

import autograd as ag
from tests.autograd.common import leaf


def test_a_result_that_is_or_shows_a_given_array_does_not_change_with_it():
    """Also where nothing is freed, and computed again from the copy that the record has."""
    for formula in (lambda x, c: c, lambda x, c: c[::-1], lambda x, c: (x * c, c[:1])):
        given, x = np.array([5.0, 6.0]), leaf([1.0, 2.0])
        op = ag.Op(formula)
        op.gradient("x")(lambda g, y, x, c: 0 * x)
        made = op(x, given)
        parts = made if isinstance(made, tuple) else (made,)
        before = [part.data.copy() for part in parts]
        given[:] = 99
        for part, wanted in zip(parts, before):
            np.testing.assert_array_equal(part.data, wanted)


def test_a_result_that_is_its_input_is_a_view_of_it_on_tapes_and_a_copy_beside_them():
    same = ag.Op(lambda x: x)
    same.gradient("x")(lambda g, y, x: g)
    x = leaf([1.0, 2.0])
    y = same(x)
    with ag.no_grad():
        constant = same(x)
    constant.data = np.zeros(2)
    np.testing.assert_array_equal(x.data, [1, 2])
    np.testing.assert_array_equal((y * y).data, [1, 4])
    x.data = np.array([3.0, 4.0])
    with pytest.raises(RuntimeError, match="was changed after"):
        y.sum().backward()
    np.testing.assert_array_equal(ag.grad(lambda x: (same(x) * same(x)).sum())(x.data), [6, 8])
    program = ag.record(lambda: (same(x) * x).sum())
    for numbers in ([1.0, 2.0], [5.0, 0.0]):
        x.data, x.grad = np.array(numbers), None
        assert program() == np.sum(np.square(numbers))
        program.backward()
        np.testing.assert_array_equal(x.grad, 2 * np.array(numbers))
    ag.check_op(same, [(np.ones(3),)])


def test_two_results_that_are_one_array_are_two_constants():
    twice = ag.Op(lambda x: (x + 1, ) * 2, differentiable=False)
    a, b = twice(ag.tensor([1.0, 2.0]))
    a.data = np.zeros(2)
    np.testing.assert_array_equal(b.data, [2, 3])


class Keeping:
    """A kernel that saves the array it was given, and looks at it in backward."""

    @staticmethod
    def forward(executor, x, c):
        y = executor.empty(x, x.shape)
        executor.run(np.multiply, x, c, y)
        return y, c

    @staticmethod
    def backward(executor, needed, g, y, saved, x, c):
        d = executor.empty(x, x.shape)
        executor.run(np.multiply, g, saved, d)
        return [d]


def test_what_a_kernel_saves_of_a_given_array_does_not_change_with_it():
    op = ag.Op(lambda x, c: x * c)
    op.gradient("x")(lambda g, y, x, c: g * c)
    op.kernels[np.ndarray] = Keeping
    x, given = leaf([1.0, 2.0]), np.array([5.0, 6.0])
    y = op(x, given)
    given[:] = 99
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, [5, 6])


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
def test_rows_of_a_table_are_those_that_were_asked_for(kernels):
    pytest.importorskip(kernels)
    ag.kernels.use(kernels)
    try:
        table, ids = leaf(np.ones((3, 2))), np.array([0, 1])
        y = ag.embedding(ids, table)
        ids[:] = 2
        y.sum().backward()
        np.testing.assert_array_equal(table.grad, [[1, 1], [1, 1], [0, 0]])
    finally:
        ag.kernels.use("numpy")


def test_complex_numbers_beside_a_tensor_are_refused_by_the_name_of_the_op():
    with pytest.raises(TypeError, match=r"multiply\(.*complex numbers are not supported"):
        leaf([1.0, 2.0]) * np.array([1j, 2])
