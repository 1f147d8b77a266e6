"""Memory order changes no result: every sample of every op, in six layouts, under every transform."""

import warnings
from functools import cache

import numpy as np
import pytest

import autograd as ag
from autograd.core.tree import tree_leaves
from tests.layouts import LAYOUTS, leaf, turned
from tests.samples import SAMPLES


def in_layout(tree, layout, dtype):
    """The arrays of a sample in a layout, those of floats in a dtype; numbers and settings as they are."""
    if isinstance(tree, (list, tuple)):
        return type(tree)([in_layout(branch, layout, dtype) for branch in tree])
    if not isinstance(tree, np.ndarray):
        return tree
    a = LAYOUTS[layout](tree.astype(dtype) if tree.dtype.kind == "f" else tree)
    assert a.dtype == dtype or tree.dtype.kind != "f"
    return a


def in_order(tree):
    """The same numbers in C order."""
    if isinstance(tree, (list, tuple)):
        return type(tree)([in_order(branch) for branch in tree])
    return np.array(tree, order="C") if isinstance(tree, np.ndarray) else tree


def function_of(name, sample):
    """The op as a function of its floating-point arrays, and these."""
    args, attrs = (sample[:-1], sample[-1]) if isinstance(sample[-1], dict) else (sample, {})
    floats = []

    def take_out(a):
        if isinstance(a, (list, tuple)):
            parts = [take_out(b) for b in a]
            return lambda xs: type(a)([part(xs) for part in parts])
        if isinstance(a, np.ndarray) and a.dtype.kind == "f":
            i = len(floats)
            floats.append(a)
            return lambda xs: xs[i]
        return lambda xs: a

    put_in = take_out(tuple(args))
    made = getattr(ag, name)

    def f(*xs):
        y = made(*put_in(xs), **attrs)
        floating = [part for part in tree_leaves(y) if isinstance(part, ag.Tensor) and part.dtype.kind == "f"]
        return floating[0] if len(floating) == 1 else tuple(floating)
    return f, floats


def in_c_order(a):
    """Numbers without a pattern, in the shape of `a`."""
    return np.cos(1 + 2.0 * np.arange(a.size)).reshape(np.shape(a)).astype(a.dtype)


def turned_weights(a):
    """The same numbers; they lie in memory as the last axis outermost would."""
    return turned(in_c_order(a))


def weighted(f, weights):
    """The sum of f's results with weights."""
    def loss(*xs):
        y = f(*xs)
        return sum([(part * weights(part)).sum() for part in (y if isinstance(y, tuple) else (y,))])
    return loss


def backward(f, weights, *xs):
    """Gradients in leaves that lie in memory just as `xs` do."""
    leaves = [leaf(x) for x in xs]
    y = weighted(f, weights)(*leaves)
    if y.requires_grad:
        y.backward()
    return [t.grad for t in leaves]


def first_of(transform):
    """A transform of functions of one array, applied for each of several with the others fixed."""
    return lambda f, *xs: [transform(f, i)(*xs) for i in range(len(xs))]


def cotangents(f, weights, *xs):
    y, pullback = ag.vjp(f, *xs)
    return pullback(tuple(map(weights, y)) if isinstance(y, tuple) else weights(y))


def joined(f):
    """The results as one vector, as a Jacobian is that of one array."""
    def g(*xs):
        y = f(*xs)
        return np.concatenate([np.ravel(part) for part in y]) if isinstance(y, tuple) else y
    return g


TRANSFORMS = {
    "value": lambda f, weights, *xs: f(*[ag.tensor(x) for x in xs]),
    "vjp": cotangents,
    "jvp": lambda f, weights, *xs: ag.jvp(f, xs, tuple(map(weights, xs))),
    "backward": backward,
    "jacobian": lambda f, weights, *xs: first_of(ag.jacobian)(joined(f), *xs),
    "hessian": lambda f, weights, *xs: first_of(ag.hessian)(weighted(f, weights), *xs),
    "hvp": lambda f, weights, *xs: ag.hvp(lambda ys: weighted(f, weights)(*ys), list(xs), list(map(weights, xs))),
}


def numbers(tree):
    """The numbers in a result."""
    return [None if leaf is None else np.asarray(leaf._value() if isinstance(leaf, ag.Tensor) else leaf)
            for leaf in (tree if isinstance(tree, (list, tuple)) else [tree]) for leaf in
            (tree_leaves(leaf) or [None])]


def outcome(transform, name, sample, weights):
    """The numbers that come out, or the kind of error.  `weights` makes cotangents, tangents and weights of losses."""
    f, floats = function_of(name, sample)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return numbers(TRANSFORMS[transform](f, weights, *floats))
        except (ArithmeticError, ValueError, TypeError, IndexError, np.linalg.LinAlgError) as error:
            return type(error)


@cache
def expected(name, i, dtype, transform, layout):
    """The outcome in C order, of the numbers that the layout has."""
    sample = in_order(in_layout(SAMPLES[name][i], "repeated" if layout == "repeated" else "columns_first", dtype))
    return outcome(transform, name, sample, in_c_order)


def compare(name, i, dtype, transform, layout):
    wanted = expected(name, i, dtype, transform, layout == "repeated" and layout)
    got = outcome(transform, name, in_layout(SAMPLES[name][i], layout, dtype), turned_weights)
    where = f"{name}, sample {i}, {layout}, {np.dtype(dtype)}, {transform}"
    if isinstance(wanted, type) or isinstance(got, type):
        assert got == wanted, where
        return False
    bound = 300 * np.finfo(dtype).eps  # of the largest number, or of 1: terms of that size may cancel
    for a, b in zip(got, wanted, strict=True):
        assert (a is None) == (b is None), where
        if a is not None:
            assert a.shape == b.shape and a.dtype == b.dtype, where
            largest = np.abs(b[np.isfinite(b)]).max(initial=0) if b.dtype.kind == "f" else 0
            np.testing.assert_allclose(a, b, rtol=bound, atol=bound * max(largest, 1), err_msg=where)
    return True


@pytest.fixture(params=["numpy", "numba"])
def library(request):
    if request.param == "numba":
        pytest.importorskip("numba")
    expected.cache_clear()
    ag.kernels.use(request.param)
    yield request.param
    ag.kernels.use("numpy")
    expected.cache_clear()


NAMES = [name for name in SAMPLES
         if getattr(ag.REGISTRY.get(name), "differentiable", True) and name != "empty_like"]


def every(name, dtype, transforms, layouts):
    """Count the samples that could be compared."""
    return sum(compare(name, i, dtype, transform, layout) for i in range(len(SAMPLES[name]))
               for transform in transforms for layout in layouts)


def rotated(name, dtype):
    """Count the samples that could be compared, each in one layout after the other, one transform after the other."""
    layouts = list(LAYOUTS)
    return sum(compare(name, i, dtype, transform, layouts[(i + j) % len(layouts)])
               for i in range(len(SAMPLES[name])) for j, transform in enumerate(TRANSFORMS))


@pytest.mark.slow_but_every(15)
@pytest.mark.parametrize("name", NAMES)
def test_layouts_change_no_number(name):
    assert rotated(name, np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_all_layouts_under_all_transforms(name):
    assert every(name, np.float64, TRANSFORMS, LAYOUTS)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", [name for name in NAMES if name in ag.REGISTRY and ag.REGISTRY[name].kernels])
def test_all_layouts_by_kernels(name, dtype, library):
    """A kernel may be code of its own for a dtype and a layout; an op without one runs its formula on any library."""
    assert every(name, dtype, TRANSFORMS, LAYOUTS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_what_it_says(layout):
    a = np.arange(24.0).reshape(2, 3, 4)
    b = LAYOUTS[layout](a)
    np.testing.assert_array_equal(b, a if layout != "repeated" else np.broadcast_to(a[:1], a.shape))
    assert not (b.flags.c_contiguous and b.flags.aligned)


def test_a_jacobian_of_a_result_in_another_order():
    x = np.array([[2.0, 1.0], [0.5, 3.0]])
    assert ag.jacobian(lambda x: x.T)(x).sum() == 4
    np.testing.assert_array_equal(ag.jacobian(np.sin)(np.asfortranarray(x)), ag.jacobian(np.sin)(x))
    np.testing.assert_array_equal(ag.hessian(lambda x: np.sum(np.sin(x)))(x[::-1, ::-1]),
                                  ag.hessian(lambda x: np.sum(np.sin(x)))(x[::-1, ::-1].copy()))
