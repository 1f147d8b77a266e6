"""Gradients, products with Jacobians, Jacobians and checkpoints of functions."""

import dataclasses
import gc
import math
import tracemalloc
from collections import namedtuple

import numpy as np
import pytest

import autograd as ag
from tests.duck import Duck

A = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.25]])


def leaf(data):
    return ag.tensor(data, dtype=float, requires_grad=True)


def cubes(x):
    return (x ** 3).sum()


@dataclasses.dataclass
class Line:
    """A module: whatever has `map`."""

    w: object
    b: object
    name: str = "line"

    def map(self, fn):
        return Line(fn(self.w), fn(self.b), self.name)

    def __call__(self, x):
        return x * self.w + self.b


Pair = namedtuple("Pair", "a b")


# ---------------------------------------------------------------------- grad and value_and_grad


def test_arrays_in_arrays_out():
    x = np.array([1.0, 2.0])
    value, d = ag.value_and_grad(cubes)(x)
    assert not isinstance(value, ag.Tensor) and type(d) is np.ndarray
    assert value == 9
    np.testing.assert_array_equal(d, [3, 12])
    d[0] = 5  # it is the caller's
    np.testing.assert_array_equal(x, [1, 2])


def test_gradients_are_the_callers_own():
    x, y = ag.grad(lambda x, y: (x + y).sum(), (0, 1))(np.ones(2), np.ones(2))
    x[0] = 7
    np.testing.assert_array_equal(y, [1, 1])
    seed = np.ones(2)
    value, pullback = ag.vjp(lambda x: x.reshape(2), np.ones(2))
    value[0], pullback(seed)[0][0] = 7, 7
    np.testing.assert_array_equal(seed, [1, 1])
    np.testing.assert_array_equal(pullback(seed)[0], [1, 1])


def test_tensors_in_tensors_out():
    x = ag.tensor([1.0, 2.0])
    value, d = ag.value_and_grad(cubes)(x)
    assert isinstance(value, ag.Tensor) and isinstance(d, ag.Tensor)
    np.testing.assert_array_equal(d.data, [3, 12])
    assert x.grad is None


def test_numbers():
    assert ag.grad(lambda x: x * x)(3.0) == 6
    assert float(ag.grad(ag.grad(lambda x: x ** 3))(2.0)) == 12


def test_float32_stays():
    x = np.array([1.0, 2.0], np.float32)
    value, d = ag.value_and_grad(cubes)(x)
    assert value.dtype == d.dtype == np.float32


@pytest.mark.parametrize("argnums, expected",
                         [(0, 3.0), (1, 2.0), ((0, 1), (3.0, 2.0)), ((1,), (2.0,)), ((1, 0), (2.0, 3.0))])
def test_argnums(argnums, expected):
    d = ag.grad(lambda x, y: x * y, argnums)(2.0, 3.0)
    assert type(d) is tuple if isinstance(argnums, tuple) else not isinstance(d, tuple)
    assert d == expected


def test_keywords_are_passed_on():
    assert ag.grad(lambda x, power=1: x ** power)(3.0, power=2) == 6


@pytest.mark.parametrize("tree", [
    {"a": 2.0, "b": np.array([1.0, 3.0])}, [np.array(2.0), [np.array([1.0, 3.0])]], (2.0, {"x": (np.ones(2),)}),
    Pair(2.0, np.array([1.0, 3.0])), Line(np.array(2.0), np.array([1.0, 3.0])), {"model": [Line(2.0, 3.0), None]}])
def test_trees(tree):
    from autograd.core.tree import tree_leaves, tree_map

    d = ag.grad(lambda tree: sum((leaf ** 2).sum() for leaf in tree_leaves(tree)))(tree)
    assert type(d) is type(tree)
    for got, x in zip(tree_leaves(d), tree_leaves(tree), strict=True):
        np.testing.assert_array_equal(got, 2 * np.asarray(x))
    tree_map(lambda a: a, d)


def test_a_module_keeps_what_is_no_array():
    value, d = ag.value_and_grad(lambda m, x: m(x).sum())(Line(np.array(2.0), np.array(1.0)), np.array([1.0, 2.0]))
    assert isinstance(d, Line) and d.name == "line" and (value, d.w, d.b) == (8, 3, 2)


def test_an_argument_that_plays_no_part_has_gradient_zero():
    x, unused = ag.grad(lambda x, y: (x * x).sum(), (0, 1))(np.ones(2), np.ones((2, 3)))
    np.testing.assert_array_equal(unused, np.zeros((2, 3)))


@pytest.mark.parametrize("f", [lambda x: ag.tensor(1.0), lambda x: (x > 1).astype(float).sum(),
                               lambda x: x.detach().sum()])
def test_functions_that_return_constants(f):
    value, d = ag.value_and_grad(f)(np.ones(2))
    np.testing.assert_array_equal(d, [0, 0])


def test_a_function_that_leaves_the_tape_is_told_so():
    def lossy(x):
        return float((x * x).sum())
    with pytest.raises(TypeError, match="would lose the gradient of sum"):
        ag.grad(lossy)(np.ones(2))


def test_useful_errors():
    with pytest.raises(TypeError, match="tuple.*ag.jacobian"):
        ag.grad(lambda x: (x.sum(), x.sum()))(np.ones(2))
    with pytest.raises(ValueError, match="2 elements"):
        ag.grad(lambda x: x * x)(np.ones(2))
    with pytest.raises(ValueError, match=r"argnums \(1,\).*1 positional"):
        ag.grad(cubes, 1)(np.ones(2))
    with pytest.raises(TypeError, match="floating-point"):
        ag.grad(cubes)(3)
    with pytest.raises(TypeError, match="floating-point"):
        ag.grad(cubes)(np.array([1, 2]))


def test_names_and_docstrings_stay():
    for transform in (ag.grad, ag.value_and_grad, ag.jacobian, ag.hessian, ag.checkpoint):
        assert transform(cubes).__name__ == "cubes"


def test_under_no_grad():
    with ag.no_grad():
        np.testing.assert_array_equal(ag.grad(cubes)(np.array([1.0, 2.0])), [3, 12])
        y = leaf(2.0)
        d = ag.grad(lambda x: x * x * y)(ag.tensor(3.0))
    assert d.item() == 12 and not d.requires_grad


def test_nothing_is_left_in_leaves():
    w = leaf(2.0)
    ag.grad(lambda x: x * w)(3.0)
    assert w.grad is None


def test_a_closure_over_an_outer_tensor_can_be_differentiated():
    w = leaf(3.0)
    d = ag.grad(lambda x: x * x * w)(2.0)
    assert isinstance(d, ag.Tensor)
    d.backward()
    assert d.item() == 12 and w.grad == 4


def test_a_gradient_penalty():
    """An outer backward through an inner gradient, to leaves both given and closed over."""
    w, x = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    d = ag.grad(lambda x: np.tanh(x * w).sum())(x)
    (d * d).sum().backward()

    def penalty(w, x):
        return ((w / np.cosh(x * w) ** 2) ** 2).sum()

    expected = ag.grad(penalty, (0, 1))(w.data, x.data)
    np.testing.assert_allclose(w.grad, expected[0], rtol=1e-10)
    np.testing.assert_allclose(x.grad, expected[1], rtol=1e-10)


# ---------------------------------------------------------------------- nesting


def test_nested_gradients():
    f = lambda x: np.tanh(x)  # noqa: E731
    t = math.tanh(0.5)
    assert math.isclose(ag.grad(ag.grad(f))(0.5), -2 * t * (1 - t * t))
    assert math.isclose(ag.grad(ag.grad(ag.grad(f)))(0.5), (1 - t * t) * (6 * t * t - 2))


def test_perturbations_are_not_confused():
    assert ag.grad(lambda x: x * ag.grad(lambda y: x + y)(1.0))(1.0) == 1
    assert ag.grad(lambda x: x * ag.grad(lambda y: x * y)(2.0))(3.0) == 6
    assert ag.grad(lambda x: ag.grad(lambda y: x * x * y ** 3)(x))(2.0) == 12 * 2 ** 3


def test_the_same_tensor_as_argument_and_in_the_closure():
    x = leaf(3.0)
    d = ag.grad(lambda y: x * y)(x)  # only y moves
    assert d.item() == 3
    d.backward()
    assert x.grad == 1


def test_the_same_array_twice():
    x = np.array(3.0)
    assert ag.grad(lambda a, b: a * b * b, (0, 1))(x, x) == (9, 18)


# ---------------------------------------------------------------------- vjp and jvp


def product(x, y):
    return np.tanh(x @ y)


def test_vjp():
    x, y = A, np.array([0.3, -0.2])
    value, pullback = ag.vjp(product, x, y)
    g = np.array([1.0, 2.0, 3.0])
    s = g * (1 - np.tanh(x @ y) ** 2)
    for _ in range(2):  # any number of times
        dx, dy = pullback(g)
        np.testing.assert_allclose(dx, np.outer(s, y))
        np.testing.assert_allclose(dy, x.T @ s)
    np.testing.assert_allclose(value, np.tanh(x @ y))
    assert type(value) is type(dx) is np.ndarray


def test_vjp_of_trees():
    tree = {"a": np.ones(2), "b": np.array(3.0)}
    value, pullback = ag.vjp(lambda d, y: {"sum": d["a"] + y, "rest": [d["b"] * y]}, tree, np.array([1.0, 2.0]))
    assert set(value) == {"sum", "rest"}
    d, y = pullback({"sum": np.ones(2), "rest": [np.array([1.0, 10.0])]})
    np.testing.assert_array_equal(d["a"], [1, 1])
    assert d["b"] == 21
    np.testing.assert_array_equal(y, [4, 31])
    with pytest.raises(ValueError, match="a dict with the keys"):
        pullback([np.ones(2)])
    with pytest.raises(ValueError, match="shape"):
        pullback({"sum": np.ones(2), "rest": [np.ones(3)]})


def test_jvp():
    x, y = A, np.array([0.3, -0.2])
    dx, dy = np.cos(A), np.array([2.0, 1.0])
    value, tangent = ag.jvp(product, (x, y), (dx, dy))
    expected = (1 - np.tanh(x @ y) ** 2) * (dx @ y + x @ dy)
    np.testing.assert_allclose(tangent, expected, rtol=1e-13)
    np.testing.assert_allclose(value, np.tanh(x @ y))
    assert type(value) is type(tangent) is np.ndarray


def test_jvp_with_tensors_and_trees():
    value, tangent = ag.jvp(lambda d: [d["a"] ** 2, d["b"] * d["a"]], ({"a": ag.tensor(2.0), "b": ag.tensor(3.0)},),
                            ({"a": np.array(1.0), "b": np.array(10.0)},))
    assert [v.item() for v in value] == [4, 6] and [float(t) for t in tangent] == [4, 23]


def test_jvp_of_a_constant_function():
    value, tangent = ag.jvp(lambda x: ag.tensor([1.0, 2.0]), (np.ones(3),), (np.ones(3),))
    np.testing.assert_array_equal(tangent, [0, 0])


def test_jvp_can_be_differentiated():
    d = ag.grad(lambda x: ag.jvp(np.tanh, (x,), (np.array(1.0),))[1])(0.5)
    t = math.tanh(0.5)
    assert math.isclose(float(d), -2 * t * (1 - t * t))


def test_jvp_counts_its_tangents():
    with pytest.raises(ValueError, match="each of the 2 arguments, not 1"):
        ag.jvp(product, (A, A[0]), (A,))


@pytest.mark.parametrize("under", [False, True])
def test_transforms_under_no_grad(under):
    x = np.array([1.0, 2.0])
    with ag.no_grad(under):
        np.testing.assert_allclose(ag.jvp(cubes, (x,), (np.ones(2),))[1], 15)
        np.testing.assert_allclose(ag.hessian(cubes)(x), np.diag(6 * x))
        np.testing.assert_allclose(ag.hvp(cubes, x, np.ones(2)), 6 * x)
        np.testing.assert_allclose(ag.grad(lambda x: ag.grad(cubes)(x).sum())(x), 6 * x)


# ---------------------------------------------------------------------- jacobian, hessian, hvp


def test_jacobian():
    d = ag.jacobian(lambda x: np.tanh(A @ x))(np.array([0.1, 0.2]))
    np.testing.assert_allclose(d, (1 - np.tanh(A @ [0.1, 0.2]) ** 2)[:, None] * A, rtol=1e-13)
    assert type(d) is np.ndarray


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,), (0, 2)])
def test_jacobian_has_the_axes_of_both(shape):
    x = np.cos(np.arange(math.prod(shape), dtype=float)).reshape(shape)
    d = ag.jacobian(lambda x: x * x)(x)
    assert d.shape == shape + shape
    np.testing.assert_allclose(d.reshape(x.size, x.size), np.diag(2 * x.ravel()))


@pytest.mark.parametrize("argnums, alike", [
    (np.int64(1), 1), (np.uint8(2), 2), (-1, 2), (np.int32(-3), 0), ([0, 2], (0, 2)), (range(2), (0, 1)),
    ((np.int64(2), -3), (2, 0)), ([-1], (2,))])
def test_argnums_of_any_kind(argnums, alike):
    f, args = lambda x, y, z: np.sum(x * y**2 * z**3), [np.array([n, n + 1.0]) for n in (1.0, 3.0, 5.0)]
    got, expected = ag.grad(f, argnums)(*args), ag.grad(f, alike)(*args)
    assert type(got) is type(expected)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(ag.value_and_grad(f, argnums)(*args)[1], expected)
    if isinstance(alike, int):
        for transform in (ag.jacobian, ag.hessian):
            np.testing.assert_array_equal(transform(f, argnums)(*args), transform(f, alike)(*args))


@pytest.mark.parametrize("argnums", [True, 1.0, "0", None, (0, "1"), [0.0], {0}, np.array([0, 1])])
@pytest.mark.parametrize("transform", [ag.grad, ag.value_and_grad, ag.jacobian, ag.hessian])
def test_argnums_that_are_no_positions_are_refused_at_once(transform, argnums):
    with pytest.raises(TypeError, match="argnums is"):
        transform(lambda x, y: x * y, argnums)


@pytest.mark.parametrize("argnums", [2, -3, (0, 2), (0, 0), (0, -2), [1, -1]])
@pytest.mark.parametrize("transform", [ag.grad, ag.value_and_grad])
def test_argnums_beyond_the_arguments(transform, argnums):
    with pytest.raises(ValueError, match=r"argnums .* for product, which was called with 2 positional arguments"):
        def product(x, y): return x * y
        transform(product, argnums)(1.0, 2.0)


def test_jacobian_argnums_and_errors():
    np.testing.assert_array_equal(ag.jacobian(lambda x, y: x * y, 1)(np.array([1.0, 2.0]), 3.0), [1, 2])
    with pytest.raises(TypeError, match="one array with respect to one array"):
        ag.jacobian(lambda x: (x, x))(np.ones(2))
    with pytest.raises(TypeError, match="one array with respect to one array"):
        ag.jacobian(lambda x: x["a"])({"a": np.ones(2)})


def test_hessian_and_hvp():
    def f(x):
        return (np.exp(A @ x)).sum() + x[0] ** 2 * x[1]

    x = np.array([0.3, -0.5])
    expected = A.T @ np.diag(np.exp(A @ x)) @ A + np.array([[2 * x[1], 2 * x[0]], [2 * x[0], 0]])
    np.testing.assert_allclose(ag.hessian(f)(x), expected, rtol=1e-12)
    np.testing.assert_allclose(ag.jacobian(ag.grad(f))(x), expected, rtol=1e-12)
    v = np.array([2.0, -1.0])
    np.testing.assert_allclose(ag.hvp(f, x, v), expected @ v, rtol=1e-12)
    assert type(ag.hessian(f)(x)) is np.ndarray


def test_hvp_of_trees():
    d = ag.hvp(lambda t: t["a"] ** 2 * t["b"], {"a": 2.0, "b": 3.0}, {"a": 1.0, "b": 0.0})
    assert (float(d["a"]), float(d["b"])) == (6, 4)


def test_hessian_of_a_linear_function_is_zero():
    np.testing.assert_array_equal(ag.hessian(lambda x: (3 * x).sum())(np.ones(2)), np.zeros((2, 2)))
    np.testing.assert_array_equal(ag.hvp(lambda x: (3 * x).sum(), np.ones(2), np.ones(2)), np.zeros(2))


def test_a_jacobian_can_be_differentiated():
    d = ag.grad(lambda x: ag.jacobian(lambda y: y ** 3)(x).sum())(np.array([1.0, 2.0]))
    np.testing.assert_allclose(d, [6, 12])


@pytest.mark.parametrize("run", [
    lambda x: ag.grad(cubes)(x), lambda x: ag.vjp(cubes, x)[1](1.0), lambda x: ag.jvp(cubes, (x,), (x,)),
    lambda x: ag.hessian(cubes)(x), lambda x: ag.hvp(cubes, x, x), lambda x: ag.grad(ag.checkpoint(cubes))(x),
    lambda x: ag.grad(lambda x: sum(v * v for v in x))(x), lambda x: ag.check_grads(cubes, x),
    lambda x: pytest.raises(ValueError, ag.grad(lambda x: x), x)],
    ids=["grad", "vjp", "jvp", "hessian", "hvp", "checkpoint", "rows", "check", "error"])
def test_nothing_waits_for_the_collector(run):
    x = np.ones(3)
    run(x)
    before = {id(t) for t in gc.get_objects() if type(t) is ag.Tensor}
    gc.disable()
    try:
        run(x)
        left = [t for t in gc.get_objects() if type(t) is ag.Tensor and id(t) not in before]
    finally:
        gc.enable()
    assert left == []


def test_other_arrays():
    x = Duck(np.array([1.0, 2.0]))
    value, d = ag.value_and_grad(cubes)(x)
    assert isinstance(d, Duck)
    np.testing.assert_array_equal(d.numpy(), [3, 12])
    np.testing.assert_allclose(ag.jacobian(lambda x: x * x)(x).numpy(), [[2, 0], [0, 4]])
    np.testing.assert_allclose(ag.hvp(cubes, x, Duck(np.ones(2))).numpy(), [6, 12])
    value, tangent = ag.jvp(lambda x: x * x, (x,), (Duck(np.ones(2)),))
    np.testing.assert_allclose(tangent.numpy(), [2, 4])


# ---------------------------------------------------------------------- checkpoint


def block(x, w):
    h = np.tanh(x @ w)
    return h * h + np.exp(-h)


def test_checkpoint_changes_nothing_but_memory():
    x, w = np.cos(A), np.array([[0.5, -1.0], [2.0, 0.3]])
    for f in (block, ag.checkpoint(block)):
        a, b = leaf(x), leaf(w)
        y = f(f(a, b), b)
        results = [y.data]
        y.sum().backward(create_graph=True)
        results += [a.grad.data, b.grad.data]
        first, a.grad, b.grad = (a.grad ** 2).sum() + (b.grad ** 2).sum(), None, None
        first.backward()
        results += [a.grad, b.grad]
        if f is block:
            expected = results
    for got, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_checkpoint_frees_what_is_inside_and_nothing_else():
    x, w = leaf(A), leaf(np.eye(2))
    outside = x * 1
    y = ag.checkpoint(block)(outside, w)
    inside = [t for t in ag.tape(y) if t.op is not None and t is not y and t is not outside]
    assert len(inside) == 5 and all(t._array is None for t in inside)
    assert y._array is not None and outside._array is not None
    y.sum().backward()
    assert x.grad is not None and all(t._array is None for t in inside)


def test_checkpoint_of_several_results_and_of_arrays():
    f = ag.checkpoint(lambda x: {"a": np.exp(x * 2), "b": [x * 3, 4.0]})
    x = leaf([1.0, 2.0])
    y = f(x)
    (y["a"] * y["b"][0]).sum().backward()
    np.testing.assert_allclose(x.grad, np.exp(2 * x.data) * (6 * x.data + 3))
    np.testing.assert_array_equal(ag.checkpoint(block)(A, np.eye(2)), block(A, np.eye(2)))


def test_checkpoint_of_the_identity():
    x = leaf([1.0, 2.0])
    y = x * 2
    assert ag.checkpoint(lambda t: t)(y) is y and y._array is not None


def test_a_checkpoint_in_a_checkpoint():
    inner = ag.checkpoint(lambda x: np.exp(np.tanh(x)))
    outer = ag.checkpoint(lambda x: inner(x * 2) * x)
    ag.check_grads(outer, np.array([0.3, -0.5]), order=2)


def test_checkpoint_notices_a_changed_leaf():
    x = leaf([1.0, 2.0])
    y = ag.checkpoint(lambda x: np.exp(np.exp(x)))(x)
    x.data = [0.0, 0.0]
    with pytest.raises(RuntimeError, match="changed"):
        y.sum().backward()


def peak(f):
    """Bytes at the highest point of a forward and backward through ten blocks, and what was computed."""
    gc.collect()
    x = leaf(np.full((100, 200), 0.1))
    tracemalloc.start()
    y = x
    for _ in range(10):
        y = f(y)
    (y * y).sum().backward()
    high = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return high, x.grad


def test_checkpoint_needs_less_memory():
    def deep(x):
        for _ in range(10):
            x = np.tanh(x)
        return x

    plain, expected = peak(deep)
    low, got = peak(ag.checkpoint(deep))
    assert low < 0.4 * plain, (low, plain)
    np.testing.assert_array_equal(got, expected)


def test_trees_are_paired_by_key_and_not_by_order():
    y, dy = ag.jvp(lambda d: d["u"] * d["w"], ({"u": 2.0, "w": 3.0},), ({"w": 0.0, "u": 1.0},))
    assert (y, dy) == (6, 3)
    _, pullback = ag.vjp(lambda v: {"a": v, "b": 10 * v}, np.ones(2))
    np.testing.assert_array_equal(pullback({"b": np.zeros(2), "a": np.ones(2)})[0], [1, 1])
    with pytest.raises(ValueError, match="keys"):
        pullback({"a": np.ones(2), "c": np.ones(2)})
    with pytest.raises(ValueError, match="argnums"):
        ag.grad(lambda v: v * v, (0, 0))(3.0)


def test_a_gradient_within_what_is_differentiated_gives_arrays():
    """A penalty on a slope: the tensors that the inner transform makes belong to nobody outside."""
    z = np.linspace(-1, 1, 5)

    def penalty(w):
        return np.square(ag.grad(lambda z: np.tanh(w * z).sum())(z)).mean()

    w = np.array(1.3)
    found, step = ag.grad(penalty)(w), 1e-6
    assert not isinstance(found, ag.Tensor)
    assert found == pytest.approx(float(np.asarray(penalty(w + step)) - np.asarray(penalty(w - step))) / (2 * step))
    ag.check_grads(penalty, w)


# ---------------------------------------------------------------------- results beside the result


class Point:
    """Something that is no array."""


AUX_TRANSFORMS = {
    "grad": lambda f, x: ag.grad(f, has_aux=True)(x),
    "value_and_grad": lambda f, x: ag.value_and_grad(f, has_aux=True)(x)[::-1][:1] + (
        ag.value_and_grad(f, has_aux=True)(x)[0][1],),
    "vjp": lambda f, x: (lambda y, pullback, aux: (pullback(1.0)[0], aux))(*ag.vjp(f, x, has_aux=True)),
    "jvp": lambda f, x: (lambda y, d, aux: (d * np.ones(2), aux))(*ag.jvp(f, (x,), (x / 2 / x,), has_aux=True)),
    "jacobian": lambda f, x: ag.jacobian(f, has_aux=True)(x),
    "hessian": lambda f, x: (lambda h, aux: (h @ x, aux))(*ag.hessian(f, has_aux=True)(x)),
    "hvp": lambda f, x: ag.hvp(f, x, x, has_aux=True),
}


@pytest.mark.parametrize("name", AUX_TRANSFORMS)
def test_aux_is_handed_on(name):
    point = Point()

    def f(x):
        return np.sum(x * x), {"twice": 2 * x, "point": point, "text": "a", "n": 3, "none": None, "list": [x.sum()]}

    x = np.array([1.0, 1.0])
    d, aux = AUX_TRANSFORMS[name](f, x)
    np.testing.assert_allclose(d, [2.0, 2.0])
    assert aux["point"] is point and aux["text"] == "a" and aux["n"] == 3 and aux["none"] is None
    assert type(aux["twice"]) is np.ndarray and aux["twice"].tolist() == [2, 2] and aux["list"] == [2]


@pytest.mark.parametrize("f", [lambda x: x.sum(), lambda x: 2 * x, lambda x: ag.tensor(1.0), lambda x: x.detach()])
@pytest.mark.parametrize("transform", [
    lambda f, x: ag.jvp(f, (x,), (np.ones(2),)), lambda f, x: ag.vjp(f, x)[1](np.ones(f(x).shape)),
    lambda f, x: ag.jacobian(f)(x), lambda f, x: ag.hvp(lambda x: f(x).sum(), x, np.ones(2)),
    lambda f, x: ag.hessian(lambda x: f(x).sum())(x)])
def test_transforms_of_linear_and_constant_functions_give_tensors_where_they_get_them(transform, f):
    seen = []

    def outer(x):
        made = transform(f, x)
        seen.extend(made if isinstance(made, tuple) else [made])
        return sum([t.sum() for t in seen], x.sum())

    np.testing.assert_array_equal(ag.grad(outer)(np.array([1.0, 2.0])).shape, (2,))
    assert all(type(t) is ag.Tensor for t in seen)


def test_aux_of_tensors_is_a_tensor_and_is_differentiated_from_outside():
    t = ag.tensor([1.0, 2.0], requires_grad=True)
    d, aux = ag.grad(lambda x: (np.sum(x * x), 3 * x), has_aux=True)(t)
    assert type(aux) is ag.Tensor
    second = ag.grad(lambda x: ag.grad(lambda y: (np.sum(y), np.sum(y ** 3)), has_aux=True)(x)[1])(np.array([1.0, 2.0]))
    np.testing.assert_allclose(second, [3.0, 12.0])


def test_what_has_aux_asks_for():
    with pytest.raises(TypeError, match=r"with has_aux=True f returns \(result, aux\)"):
        def f(x):
            return np.sum(x)
        ag.grad(f, has_aux=True)(np.ones(2))
    with pytest.raises(TypeError, match="has_aux=True"):
        ag.grad(lambda x: (x.sum(), "loss"))(np.ones(2))
    with pytest.raises(TypeError, match="has_aux=True"):
        ag.grad(lambda x: (x.sum(), x))(np.ones(2))


# ---------------------------------------------------------------------- constants on purpose


def test_stop_gradient_of_arrays_and_tensors():
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    stopped = ag.stop_gradient(x * 2)
    assert not stopped.requires_grad and stopped.data.tolist() == [2, 4]
    a = np.ones(2)
    assert ag.stop_gradient(a) is a and ag.stop_gradient(2.0) == 2
    tree = ag.stop_gradient({"a": x, "b": [a, None], "c": Line(x, a)})
    assert not tree["a"].requires_grad and tree["b"] == [a, None] and not tree["c"].w.requires_grad


def test_stop_gradient_in_every_transform():
    def f(x):
        return np.sum(x * ag.stop_gradient(x * x))
    x = np.array([1.0, 2.0])
    np.testing.assert_array_equal(ag.grad(f)(x), [1, 4])
    np.testing.assert_array_equal(ag.jacobian(f)(x), [1, 4])
    np.testing.assert_array_equal(ag.hessian(f)(x), np.zeros((2, 2)))
    assert ag.jvp(f, (x,), (np.ones(2),))[1] == 5
    t = ag.tensor(x, requires_grad=True)
    program = ag.record(lambda: f(t))
    t.data = 2 * x
    assert program() == 72
    program.backward()
    np.testing.assert_array_equal(t.grad, [4, 16])


def test_straight_through():
    def f(x):
        return np.sum(np.array([1.0, 3.0]) * (x + ag.stop_gradient(np.round(x) - x)))
    value, d = ag.value_and_grad(f)(np.array([0.3, 1.6]))
    assert value == 6 and d.tolist() == [1, 3]


@pytest.mark.parametrize("x, tangent", [(np.ones(2), 1.0), ({"w": np.ones(2)}, {"w": np.ones((2, 1))}),
                                        (np.ones(()), np.ones(1))])
def test_a_tangent_has_the_shape_of_its_argument(x, tangent):
    with pytest.raises(ValueError, match="tangent 0 has the shape"):
        ag.jvp(lambda x: x, (x,), (tangent,))


def test_a_step_sends_its_gradient_to_the_height_at_zero():
    x, height = np.array([-1.0, 0.0, 1.0, np.nan, -0.0]), np.full(5, 0.3)
    dx, dh = ag.grad(lambda x, h: np.heaviside(x, h).sum(), argnums=(0, 1))(x, height)
    np.testing.assert_array_equal(dh, [0, 1, 0, 0, 1])
    np.testing.assert_array_equal(dx[[0, 1, 2, 4]], 0)
    np.testing.assert_array_equal(np.heaviside(ag.tensor(x), height).data, np.heaviside(x, height))
