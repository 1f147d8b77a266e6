"""Functions that write into the containers they are given, under every transform."""

import dataclasses
from collections import Counter, OrderedDict, defaultdict

import numpy as np
import pytest

import autograd as ag
from autograd.core.tree import tree_leaves, tree_map


@dataclasses.dataclass
class Line:
    """A module: whatever has `map`."""

    w: object
    b: object

    def map(self, fn):
        return Line(fn(self.w), fn(self.b))


class Weights(dict):
    """A dict with something of its own."""


def double_all(p):
    """Put other values into a container, and more of them."""
    if isinstance(p, dict):
        for key in list(p):
            p[key] = np.tanh(p[key])
        p["more"] = ag.tensor(1.0)
    elif isinstance(p, list):
        p[:] = [np.tanh(x) for x in p]
        p.append(p.pop(0))
    else:
        p.w, p.b = np.tanh(p.w), np.tanh(p.b)


CONTAINERS = [{"a": np.array([1.0, 2.0]), "b": np.array(0.5)}, OrderedDict(a=np.array([1.0, 2.0]), b=np.array(0.5)),
              defaultdict(lambda: 1.0, a=np.array([1.0, 2.0])), Weights(a=np.array([1.0, 2.0])),
              [np.array([1.0, 2.0]), np.array(0.5)], Line(np.array([1.0, 2.0]), np.array(0.5)),
              {"deep": [{"a": np.array([1.0, 2.0])}, (np.array(0.5),)]}]


def write_into(p):
    """`double_all` in whatever `p` holds."""
    if isinstance(p, dict) and "deep" in p:
        double_all(p["deep"][0])
        p["deep"][0], p["deep"][1] = {"a": np.sin(p["deep"][0]["a"])}, (np.sin(p["deep"][1][0]),)
    else:
        double_all(p)


def written(p):
    """The container, after something was written into it."""
    write_into(p)
    return p


def total(p):
    """The sum of all its elements then."""
    write_into(p)
    return sum(np.sum(leaf) for leaf in tree_leaves(p))


def slopes(p):
    """The gradient of `total`."""
    if isinstance(p, dict) and "deep" in p:
        x, y = p["deep"][0]["a"], p["deep"][1][0]
        return [np.cos(np.tanh(x)) * (1 - np.tanh(x) ** 2), np.cos(y)]
    return [1 - np.tanh(x) ** 2 for x in tree_leaves(p)]


def pulled_from_container(p):
    """The gradient of all elements of a result that is the argument, written into."""
    y, pullback = ag.vjp(written, p)
    return pullback(tree_map(np.ones_like, y))[0]


WRITING = {
    "grad": lambda p: ag.grad(total)(p),
    "value_and_grad": lambda p: ag.value_and_grad(total)(p)[1],
    "vjp": lambda p: ag.vjp(total, p)[1](1.0)[0],
    "argnums": lambda p: ag.grad(lambda x, q: x * total(q), argnums=(1,))(1.0, p)[0],
    "vjp of a container": pulled_from_container,
}


@pytest.mark.parametrize("how", WRITING)
@pytest.mark.parametrize("p", CONTAINERS, ids=lambda p: type(p).__name__)
def test_a_function_may_write_into_its_containers(p, how):
    before = tree_map(np.copy, p)
    d = WRITING[how](p)
    assert type(d) is type(p)
    for got, expected in zip(tree_leaves(d), slopes(before), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-14)
    for now, then in zip(tree_leaves(p), tree_leaves(before), strict=True):  # the caller's own is as it was
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("p", CONTAINERS, ids=lambda p: type(p).__name__)
def test_second_derivatives_of_a_function_that_writes_into_its_containers(p):
    ones = tree_map(np.ones_like, p)
    exact = ag.hvp(lambda q: total(tree_map(lambda t: t, q)), p, ones)
    for made in (ag.hvp(total, p, ones), ag.jvp(ag.grad(total), (p,), (ones,))[1]):
        for got, expected in zip(tree_leaves(made), tree_leaves(exact), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-13)


def test_a_program_of_a_function_that_writes_into_its_containers():
    kept = {}

    def f(p):
        write_into(p)
        kept["a"] = p["a"]
        return kept

    program = ag.record(f, {"a": np.array([1.0, 2.0])})
    kept.clear()
    np.testing.assert_allclose(program({"a": np.array([3.0, 4.0])})["a"], np.tanh([3.0, 4.0]))


def test_a_function_may_keep_and_change_what_it_returned():
    kept = []

    def f(x):
        kept.append(2 * x)
        return kept

    y, pullback = ag.vjp(f, np.ones(2))
    kept.clear()
    np.testing.assert_array_equal(pullback([np.ones(2)])[0], [2, 2])


class Frozen(dict):
    def update(self, *args, **kwargs):
        raise TypeError("it stays as it is")


@pytest.mark.parametrize("container", [Counter, Frozen])
def test_a_dict_that_updates_in_its_own_way_keeps_its_numbers(container):
    p = container(w=2.0)
    value, slope = ag.value_and_grad(lambda p: p["w"] ** 2)(p)
    assert (value, slope["w"], type(slope)) == (4, 4, container) and p["w"] == 2
    assert ag.jvp(lambda p: p["w"] ** 2, (p,), (container(w=1.0),)) == (4, 4)
    assert ag.stop_gradient(p)["w"] == 2
