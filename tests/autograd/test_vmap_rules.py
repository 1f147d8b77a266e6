"""Batching rules: each op on all its samples, whichever inputs are mapped, indices that lie in many ways, and ops of a
user."""

import itertools
import warnings

import numpy as np
import pytest

import autograd as ag
from autograd import batching
from tests.autograd.common import decides_by_numbers
from tests.autograd.ops.test_ops import CONSTANT, OPS, OURS, map_arrays, outputs, seeds, split_attrs
from tests.autograd.test_vmap import X, assert_same, loop
from tests.samples import SAMPLES

rng = np.random.default_rng(1)

# Ops that go by one example after the other, with a warning: whatever is mapped, or only where what is named is.
BY_EXAMPLE = {"allclose": "", "array_equal": "", "array_equiv": "", "matrix_rank": "", "convolve": "",
              "nonzero": "", "flatnonzero": "", "argwhere": "",
              "embedding": "the table", "causal_conv": "the weight", "one_hot": "n", "isin": "the second array",
              "digitize": "the bins", "searchsorted": "the sorted array", "argpartition": "kth",
              "getitem": "a mask", "put": "a mask", "scatter_add": "a mask", "last_written": "a mask"}


# ---------------------------------------------------------------------- every op


def vary(a, i):
    """Another example like `a`."""
    if i == 0 or a.dtype.kind == "b":
        return a
    return a * (1 + 0.05 * i) if a.dtype.kind == "f" else rng.permutation(a.reshape(-1)).reshape(a.shape)


@pytest.mark.slow_but_every(21)
@pytest.mark.parametrize("name, sample", [pytest.param(name, sample, id=f"{name}-{i}") for name in SAMPLES
                                          if name != "empty_like" for i, sample in enumerate(SAMPLES[name])
                                          if not decides_by_numbers(name, sample)])
@pytest.mark.filterwarnings("ignore:vmap applies", "ignore:invalid value")
def test_each_op_and_its_gradients_are_those_of_the_examples(name, sample, monkeypatch):
    """Whichever of its arrays are mapped: values, a gradient for each example, and the gradient of a sum over them."""
    noted = set()
    monkeypatch.setattr(batching, "_warned", noted)
    args, attrs = split_attrs(sample)
    arrays = []
    map_arrays(arrays.append, args)
    floats = tuple(i for i, a in enumerate(arrays) if a.dtype.kind == "f")

    def function(*xs):
        given = iter(xs)
        return OURS[name](*map_arrays(lambda a: next(given), args), **attrs)

    def loss(*xs):
        ys = outputs(function(*xs))
        return sum((y * weights.astype(y.dtype)).sum() for y, weights in zip(ys, seeds(ys)))

    for axes in itertools.islice(itertools.product((0, None), repeat=len(arrays)), 2 ** len(arrays) - 1):
        batches = [np.stack([vary(a, i) for i in range(3)]) if axis == 0 else a for a, axis in zip(arrays, axes)]
        expected = loop(lambda *xs: function(*map(ag.tensor, xs)), *batches, axes=axes)
        assert_same(ag.vmap(function, axes)(*batches), expected)
        if name in CONSTANT or not floats:
            continue
        gradient = ag.grad(loss, floats)
        assert_same(ag.vmap(gradient, axes)(*batches), loop(gradient, *batches, axes=axes))
        together = ag.grad(lambda *xs, axes=axes: (ag.vmap(loss, axes)(*xs) * np.arange(1.0, 4.0)).sum(), floats)
        one_by_one = ag.grad(lambda *xs, axes=axes: sum(
            (i + 1.0) * loss(*[x[i] if axis == 0 else x for x, axis in zip(xs, axes)]) for i in range(3)), floats)
        assert_same(together(*batches), one_by_one(*batches))
    assert noted <= set(BY_EXAMPLE)


def test_the_ops_without_a_rule_are_those_that_are_meant():
    without = {name for name, op in OPS.items() if op.batching is None and not isinstance(op.formula, np.ufunc)}
    assert without == {name for name, what in BY_EXAMPLE.items() if not what}


# ---------------------------------------------------------------------- indices, which lie in many ways


@pytest.mark.slow_but_every(4)
@pytest.mark.parametrize("index", [
    lambda i: (i,), lambda i: (slice(None), i), lambda i: (Ellipsis, i), lambda i: (i, slice(None), i),
    lambda i: (slice(1), i, i), lambda i: (None, i), lambda i: (slice(None), None, i), lambda i: (i, None, i),
    lambda i: (0, i), lambda i: (Ellipsis, i, slice(None)), lambda i: (np.array([True, False]), i),
    lambda i: (slice(None), np.array([[1], [0]]), i), lambda i: (i, Ellipsis, 0), lambda i: (1, slice(None), i),
    lambda i: (True, i), lambda i: (i, np.array(True)), lambda i: (slice(None), np.array(True), i)])
@pytest.mark.parametrize("shape", [(), (2,), (2, 2)])
@pytest.mark.parametrize("axes", [(0, 0), (None, 0), (0, None)])
def test_indices_of_each_example(index, shape, axes):
    x, i = rng.normal(size=(3, 2, 2, 2)), rng.integers(0, 2, (3, *shape))
    x, i = (a if axis == 0 else a[0] for a, axis in zip((x, i), axes))

    def get(x, i):
        return x[index(i)]

    def put(x, i):
        return ag.put(x, np.square(x[index(i)]), index(i))

    def add(x, i):
        return ag.scatter_add(np.square(x[index(i)]), index(i), shape=(2, 2, 2))

    for function in (get, put, add):
        def gradient(x, i):
            return ag.grad(lambda x: np.sum(function(x, i) ** 2))(x)  # noqa: B023

        expected = loop(lambda *xs: function(*map(ag.tensor, xs)), x, i, axes=axes)  # noqa: B023
        assert_same(ag.vmap(function, axes)(x, i), expected)
        assert_same(ag.vmap(gradient, axes)(x, i), loop(gradient, x, i, axes=axes))


# ---------------------------------------------------------------------- ops of a user


def swish_op(new_op, calls):
    @new_op
    def swish(x, beta=1.0):
        calls.append(x.shape)
        return x / (1 + np.exp(-beta * x))

    @swish.gradient("x")
    def _(g, y, x, beta=1.0):
        sigmoid = 1 / (1 + np.exp(-beta * x))
        return g * (sigmoid + beta * y * (1 - sigmoid))

    return swish


def test_an_op_goes_by_example_with_one_warning_until_it_says_how(new_op, monkeypatch):
    monkeypatch.setattr(batching, "_warned", set())
    calls = []
    swish = swish_op(new_op, calls)
    expected = loop(lambda x: swish(x, beta=2.0), X)
    with pytest.warns(UserWarning, match=r"applies swish to one example after the other.*help\(ag.vmap\)") as caught:
        calls.clear()
        assert_same(ag.vmap(lambda x: swish(x, beta=2.0))(X), expected)
    assert caught[0].filename == __file__ and len(caught) == 1 and calls == [(3,)] * 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(ag.vmap(lambda x: swish(x, beta=2.0))(X), expected)
        swish.batching, _ = "elementwise", calls.clear()
        assert_same(ag.vmap(lambda x: swish(x, beta=2.0))(X), expected)
        assert calls == [(3,), (4, 3)]
        assert_same(ag.vmap(ag.grad(lambda x: np.sum(swish(x))))(X), loop(ag.grad(lambda x: np.sum(swish(x))), X))
        swish.batching = lambda t, args, mapped: -t.op.apply((-args[0],), {"beta": -t.attrs["beta"]})
        assert_same(ag.vmap(lambda x: swish(x, beta=2.0))(X), expected)
    ag.check_op(swish_op(new_op, calls), [(X,)])


def test_words_for_how_an_op_goes(new_op):
    @new_op
    def centred(x, axis=-1):
        return x - x.mean(axis=axis, keepdims=True)

    @new_op
    def gram(x):
        return x @ x.mT

    z = rng.normal(size=(3, 2, 4))
    for op, word, settings in ((centred, "axis", [{}, {"axis": 0}, {"axis": -2}]), (gram, "leading", [{}])):
        op.batching = word
        for attrs in settings:
            assert_same(ag.vmap(lambda x: op(x, **attrs))(z), loop(lambda x: op(x, **attrs), z))  # noqa: B023


def test_choices_of_each_example():
    places, choices = np.array([[0, 5], [-1, 1], [2, 2]]), list(rng.normal(size=(3, 3, 2)))
    for mode in ("wrap", "clip"):
        def choose(i, *choices):
            return ag.choose(i, choices, mode=mode)  # noqa: B023
        assert_same(ag.vmap(choose)(places, *choices), loop(choose, places, *choices))


@pytest.mark.filterwarnings("ignore:vmap applies")
def test_a_program_of_an_op_that_goes_by_example(new_op):
    """Also where `checkpoint` has freed what it made of the first one."""
    @new_op
    def doubled(x):
        return x * 2

    @new_op
    def halves(x):
        return x / 2, x / 2

    doubled.gradient("x")(lambda g, y, x: g * 2)
    halves.gradient("x")(lambda g, y, x: (g[0] + g[1]) / 2)
    def function(x):
        return sum(halves(doubled(x))) * 3

    programs = [ag.record(ag.vmap(f), X) for f in (function, ag.checkpoint(function))]
    assert all(np.array_equal(program(2 * X), 12 * X) for program in programs)
    steps = [len(capture.plan.steps) for program in programs for capture in program._captures.values()]
    assert steps[0] == steps[1]  # and none for what was freed


@pytest.mark.filterwarnings("ignore:vmap applies")
def test_a_setting_that_is_an_array_keeps_its_axes(new_op):
    @new_op
    def weighted(x, axis=None, weights=1.0):
        return (x * weights).sum(axis=axis)

    weighted.batching, z = "axis", rng.normal(size=(3, 2, 4))
    for axis in (None, 0, -1):
        assert_same(ag.vmap(lambda x: weighted(x, axis=axis, weights=z[0]))(z),  # noqa: B023
                    loop(lambda x: weighted(x, axis=axis, weights=z[0]), z))  # noqa: B023


@pytest.mark.parametrize("axis", [None, 0, -1])
def test_numbers_have_one_axis_to_sum_over(axis):
    z = rng.normal(size=3)
    for function in (lambda x: np.sum(x, axis=axis), ag.grad(lambda x: np.square(np.sum(x, axis=axis)))):
        assert_same(ag.vmap(function)(z), loop(function, z))


@pytest.mark.parametrize("word, message", [
    ("elementwise", "makes something else of two examples together"), ("axis", "has no attribute of that name"),
    ("rows", "is 'rows': it can be elementwise, leading, axis"),
    (lambda t, args, mapped: args[0][:1], "returned shape")])
def test_a_wrong_rule_is_found(new_op, word, message):
    @new_op
    def share(x):
        return x / np.sum(x)

    share.gradient("x")(lambda g, y, x: (g - np.sum(g * y)) / np.sum(x))
    ag.check_op(share, [(np.abs(X),)])
    share.batching = word
    with pytest.raises((AssertionError, ValueError), match=message):
        ag.check_op(share, [(np.abs(X),)])


def test_gradients_of_an_op_are_its_own(new_op):
    @new_op
    def straight(x):
        return np.sign(x)

    straight.gradient("x")(lambda g, y, x: g * 10)
    straight.batching = "elementwise"
    assert_same(ag.grad(lambda xs: np.sum(ag.vmap(straight)(xs)))(X), np.full((4, 3), 10.0))
    assert_same(ag.vmap(ag.grad(lambda x: np.sum(straight(x))))(X), np.full((4, 3), 10.0))
