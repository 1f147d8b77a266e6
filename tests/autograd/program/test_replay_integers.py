"""Recorded programs whose arguments are integers: each call recomputes whatever depends on their numbers."""

import numpy as np
import pytest

import autograd as ag
from tests.samples import SAMPLES

A = np.arange(1.0, 7.0)


def leaf(*shape):
    return ag.tensor(np.arange(1.0, np.prod(shape) + 1).reshape(shape), requires_grad=True)


def answer(function, arguments, x):
    """Return the value and the gradient by x."""
    x.grad = None
    y = function(*arguments)
    y.backward()
    return y.data, x.grad


def replayed(program, arguments, x):
    x.grad = None
    y = program(*arguments)
    program.backward()
    return y, x.grad


PLACES = {  # a function of x (6,), and of integers; integers that it is recorded with, and others
    "swapaxes": (lambda x, n: np.swapaxes(x[:4].reshape(2, 2, 1)[..., [0, 0]], n[0], n[1])[0, 1, 0],
                 [np.array([0, 1])], [np.array([1, 2])]),
    "an index": (lambda x, n: x[n] * 2, [np.array(2)], [np.array(3)]),
    "a number of NumPy's": (lambda x, n: x[n] * 2, [np.int64(2)], [np.int64(-1)]),
    "a row": (lambda x, n: (2 * x).reshape(3, 2)[n].sum(), [np.array(0)], [np.array(2)]),
    "a column": (lambda x, n: (2 * x).reshape(3, 2)[:, n].sum(), [np.array(0)], [np.array(1)]),
    "a row that an argument's numbers choose": (
        lambda x, a: (2 * x).reshape(3, 2)[np.argmax(a)].sum(), [np.array([1.0, 0, 0])], [np.array([0, 0, 1.0])]),
    "rows": (lambda x, n: (2 * x)[n].prod(), [np.array([0, 1])], [np.array([3, 3])]),
    "put": (lambda x, n: ag.put(2 * x, 0.0, n).sum(), [np.array(0)], [np.array(4)]),
    "where": (lambda x, n: np.where(n > 1, 2 * x, x).sum(), [np.array(0)], [np.array(4)]),
}


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("inner", [lambda x: x, lambda x: 3 * x, lambda x: x.reshape(2, 3).reshape(6)],
                         ids=["leaf", "result", "view"])
def test_a_place_that_is_up_to_an_argument(name, inner):
    f, first, second = PLACES[name]
    x = leaf(6)

    def function(n):
        return f(inner(x), n)

    program = ag.record(function, *first)
    for arguments in (first, second, second, first):
        expected = answer(function, arguments, x)
        for got, wanted in zip(replayed(program, arguments, x), expected):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(("f", "first", "second"), [
    (lambda x, n: np.split(x, n)[0].sum(), np.array([2]), np.array([4])),
    (lambda x, n: np.split(x, n)[1][0], np.array([2]), np.array([3])),
    (lambda x, n: np.split(x, n)[1][0], np.array(2), np.array(3)),
    (lambda x, n: np.swapaxes(x.reshape(1, 2, 3), n[0], n[1])[0, 0].sum(), np.array([0, 1]), np.array([2, 1])),
    (lambda x, n: x[n].sum(), np.array([True] * 3 + [False] * 3), np.array([True] * 4 + [False] * 2)),
    (lambda x, n: x[np.nonzero(n)].sum(), np.array([1, 1, 0]), np.array([1, 1, 1]))])
def test_a_shape_that_is_up_to_an_argument_is_refused(f, first, second):
    x = leaf(6)
    program = ag.record(lambda n: f(2 * x, n), first)
    assert program(first) == f(2 * x, first).data
    with pytest.raises(ValueError, match="shapes cannot depend on numbers"):
        program(second)


@pytest.mark.parametrize("f", [
    lambda x, n: np.sum(x.reshape(2, 3), axis=n).sum(), lambda x, n: np.transpose(x.reshape(2, 3), (n, 0)).sum(),
    lambda x, n: np.roll(x, n)[0], lambda x, n: np.tril(x.reshape(2, 3), n).sum(), lambda x, n: np.repeat(x, n).sum(),
    lambda x, n: x[:n].sum(), lambda x, n: np.expand_dims(x, n).sum(), lambda x, n: x[int(n)],
    lambda x, n: x.reshape(n, -1).sum() * len(range(n))])
def test_a_setting_that_is_an_argument_is_refused_when_recorded(f):
    x = leaf(6)
    with pytest.raises(TypeError, match="captured|recorded"):
        ag.record(lambda n: f(x, n), np.array(1))


# ---------------------------------------------------------------------- all samples


def integers_of(sample):
    """Return the integer and boolean arrays of a sample, and a function that puts others in their place."""
    found = []

    def take_out(a):
        if isinstance(a, (list, tuple)):
            parts = [take_out(b) for b in a]
            return lambda given: type(a)([part(given) for part in parts])
        if isinstance(a, dict):
            return lambda given: a
        if isinstance(a, np.ndarray) and a.dtype.kind in "iub" or type(a) is int:
            i = len(found)
            found.append(np.asarray(a))
            return lambda given: given[i]
        return lambda given: a

    put_in = take_out(tuple(sample))
    return found, put_in


def others(arrays):
    """Return other integers of the same dtypes and shapes: reversed, shifted, and smaller."""
    yield [np.flip(a) for a in arrays]
    yield [np.roll(a, 1) for a in arrays]
    yield [a // 2 if a.dtype != bool else ~a for a in arrays]
    yield [a + (a < a.max(initial=0)) if a.dtype != bool else a for a in arrays]
    yield [1 - a if a.dtype != bool else a for a in arrays]


CASES = [pytest.param(name, i, id=f"{name}-{i}") for name, op in ag.REGISTRY.items() if op.differentiable
         for i, sample in enumerate(SAMPLES.get(name, ())) if integers_of(sample)[0]]


@pytest.mark.slow_but_every(3)
@pytest.mark.parametrize(("name", "i"), CASES)
def test_integers_of_every_sample(name, i):
    """Each op, recorded with its integers as arguments, gives the eager result for other integers too, or refuses."""
    op, (first, put_in) = ag.REGISTRY[name], integers_of(SAMPLES[name][i])
    x = leaf(2)

    def function(*integers):
        *args, attrs = put_in(list(integers)) if isinstance(SAMPLES[name][i][-1], dict) else (*put_in(integers), {})
        args, attrs = op.bind(tuple(args), attrs)
        args = [ag.tensor(a, requires_grad=True) * x[0] if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a
                for a in args]
        y = op.apply(tuple(args), attrs)
        parts = [part for part in (y if isinstance(y, tuple) else (y,)) if part.requires_grad]
        return sum([(part * (1 + np.arange(part.size).reshape(part.shape))).sum() for part in parts], x[0])

    try:
        program = ag.record(function, *first)
    except TypeError as error:
        assert "recorded" in str(error)
        return
    for integers in (first, *others(first), first):
        try:
            expected = answer(function, integers, x)
        except (IndexError, ValueError, TypeError):
            continue
        try:
            got = replayed(program, integers, x)
        except ValueError as error:
            assert "shapes cannot depend on numbers" in str(error)
            continue
        for a, b in zip(got, expected):
            np.testing.assert_array_equal(a, b)
