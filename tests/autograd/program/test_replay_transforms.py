"""Transforms in recorded programs: a program of `ag.grad(f)`, or of a function that calls it, gives the function's
results."""

import numpy as np
import pytest

import autograd as ag
import gpt
from autograd.core.tree import tree_leaves
from tests.autograd.common import decides_by_numbers, leaf
from tests.autograd.ops.test_ops import DIFFERENTIABLE, OURS, map_arrays, outputs, seeds, split_attrs
from tests.replaying import poisoned

rng = np.random.default_rng(0)
EXAMPLE, *INPUTS = rng.normal(size=(3, 2, 3))


def transformed(f, g):
    """Name -> a function of an array that transforms `f`, which returns a number, or `g`, which returns an array."""
    return {
        "grad": ag.grad(f),
        "value_and_grad": ag.value_and_grad(f),
        "the value": lambda x: ag.value_and_grad(f)(x)[0],
        "vjp": lambda x: ag.vjp(g, x)[1](np.ones((2, 3))),
        "vjp of the input": lambda x: ag.vjp(g, x)[1](x),
        "jvp": lambda x: ag.jvp(g, (x,), (np.ones((2, 3)),)),
        "jvp along the input": lambda x: ag.jvp(g, (x,), (x,)),
        "jacobian": ag.jacobian(g),
        "hessian": ag.hessian(f),
        "hvp": lambda x: ag.hvp(f, x, x + 1.0),
        "grad of grad": ag.grad(lambda x: np.sum(ag.grad(f)(x) ** 2)),
        "jacobian of jacobian": ag.jacobian(ag.jacobian(g)),
        "jvp of grad": lambda x: ag.jvp(ag.grad(f), (x,), (x,)),
        "grad of vjp": ag.grad(lambda x: np.sum(ag.vjp(g, x)[1](x)[0] ** 2)),
        "aux": ag.grad(lambda x: (f(x), {"twice": x * 2, "n": x[0]}), has_aux=True),
        "constants": lambda x: ag.grad(f)(EXAMPLE) + x,
        "stop_gradient": ag.grad(lambda x: f(x * ag.stop_gradient(x))),
        "containers": lambda x: ag.grad(lambda d: f(d["a"]) + np.sum(d["b"][0] ** 2))({"a": x, "b": [x * 2, None]}),
        "an argument that plays no part": lambda x: ag.grad(lambda a, b: f(a), (0, 1))(x, x),
        "several results": ag.grad(lambda x: np.sum(ag.split(x, 3, axis=1)[1] ** 3)),
        "checkpoint": ag.hessian(ag.checkpoint(f)),
        "no_grad": ag.no_grad(ag.grad(f)),
        "a part of it": lambda x: f(x) + np.sum(ag.grad(f)(x) ** 2),
    }


PLAIN = transformed(lambda x: np.sum(np.tanh(x) ** 3), lambda x: np.sin(x) * x[0])
W = leaf(rng.normal(size=3), "w")
WITH_PARAMETER = transformed(lambda x: np.sum(np.tanh(x * W) ** 3), lambda x: np.sin(x * W) * x[0])


def arrays(tree):
    return [np.asarray(t.data if isinstance(t, ag.Tensor) else t) for t in tree_leaves(tree)]


def same(a, b):
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(arrays(a), arrays(b), strict=True))


@pytest.mark.slow_but_every(3)
@pytest.mark.parametrize("functions", [PLAIN, WITH_PARAMETER], ids=["plain", "with a parameter"])
@pytest.mark.parametrize("name", PLAIN)
def test_each_transform_gives_the_same_bits_for_other_inputs(name, functions):
    f = functions[name]
    program = poisoned(ag.record(f, EXAMPLE))
    for x in (EXAMPLE, *INPUTS, EXAMPLE):
        y = program(x)
        assert not any(isinstance(t, ag.Tensor) for t in tree_leaves(y)) and same(y, f(x))
    assert functions is WITH_PARAMETER or not program.requires_grad  # nothing outside of it requires a gradient


def test_gradients_are_not_copied():
    program = ag.record(PLAIN["grad"], EXAMPLE)
    program(EXAMPLE)
    assert program.tape[-1].op.name != "copy"


@pytest.mark.parametrize("name", ["grad", "vjp", "vjp of the input", "jacobian", "hessian", "hvp", "grad of grad",
                                  "jacobian of jacobian", "grad of vjp", "constants", "stop_gradient", "checkpoint",
                                  "a part of it"])
def test_gradients_of_parameters_go_through_a_transform(name):
    def f(x):
        y = WITH_PARAMETER[name](x)
        return y[0] if isinstance(y, tuple) else y

    program = poisoned(ag.record(f, EXAMPLE))
    for x in INPUTS:
        y, W.grad = f(x), None
        seed = rng.normal(size=y.shape)
        y.backward(seed)
        expected, W.grad = W.grad, None
        program(x)
        program.backward(seed)
        assert np.array_equal(W.grad, expected)


def test_what_no_gradient_is_wanted_of_requires_none():
    program = ag.record(ag.no_grad(lambda x: ag.grad(lambda v: np.sum(np.tanh(v * W)))(x)), EXAMPLE)
    program(EXAMPLE)
    assert not program.requires_grad


@pytest.mark.slow_but_every(21)
@pytest.mark.parametrize("kernels", [False, True], ids=["rules", "kernels"])
@pytest.mark.parametrize("name, sample", [p for p in DIFFERENTIABLE if not decides_by_numbers(*p.values)])
@pytest.mark.filterwarnings("ignore")
def test_each_op_in_a_recorded_gradient(name, sample, kernels, monkeypatch):
    """Bits are the same if an op runs by its rule; a kernel's backward rounds differently than the recorded rule.
    Integer arrays are inputs of the program too.  All arrays are in C order, as a program's own are: BLAS rounds
    differently in another order."""
    if not kernels:
        for op in ag.REGISTRY.values():
            monkeypatch.setattr(op, "kernels", {})
    args, attrs = split_attrs(sample)
    xs = []
    map_arrays(lambda a: xs.append(a.copy()) if a.dtype.kind in "fi" else None, args)

    def f(*xs):
        given = iter(xs)
        y = OURS[name](*map_arrays(lambda a: next(given) if a.dtype.kind in "fi" else a, args), **attrs)
        return sum((y * weights).sum() for y, weights in zip(outputs(y), seeds(outputs(y))))

    gradient = ag.grad(f, tuple(i for i, x in enumerate(xs) if x.dtype.kind == "f"))
    program = poisoned(ag.record(gradient, *[0.9 * x if x.dtype.kind == "f" else x for x in xs]))
    got, expected = program(*xs), gradient(*xs)
    if kernels:
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    else:
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("changes", [{}, {"n_kv_head": 1, "positions": "rotary", "activation": "squared_relu"}])
def test_the_gradients_of_a_gpt_for_all_its_parameters(changes):
    model = gpt.GPT(gpt.GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=8, **changes), seed=3)
    weights = model.map(lambda t: t.data)
    batches = rng.integers(0, 11, (3, 2, 2, 8))

    def loss(weights, ids, targets):
        return weights.loss(ids, targets)

    program = ag.record(lambda ids, targets: ag.grad(loss)(weights, ids, targets), *batches[0])
    for ids, targets in batches[1:]:
        expected = ag.grad(loss)(weights, ids, targets)
        for a, b in zip(tree_leaves(program(ids, targets)), tree_leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7)


# ---------------------------------------------------------------------- its tape, and refusals


def test_the_tape_shows_the_gradients_operations():
    program = ag.record(lambda x: np.sum(ag.grad(lambda v: np.sum(np.tanh(v * W) ** 3))(x) ** 2), EXAMPLE)
    y = program(INPUTS[0])
    program.backward()
    walk = program.tape.stepper()
    walk.run()
    assert np.array_equal(walk.gradient(W), W.grad) and program.tape[-1].data == y
    assert [t.op.name for t in program.tape if t.op].count("multiply") > 3


@pytest.mark.parametrize("f, message", [
    (lambda x: ag.grad(lambda v: v.sum() if v.sum() > 0 else -v.sum())(x), "while a program is being recorded"),
    (lambda x: ag.grad(lambda v: np.sum(v * v.data))(x), "while a program is being recorded"),
    (lambda x: ag.grad(lambda v: np.sum(v ** 2.0))(x > 0), "needs floating-point numbers, and greater bool"),
    (lambda x: np.sum(W * x).backward(), "given to backward while .* outside the function, or use ag.grad in it")])
def test_what_cannot_be_recorded_says_so(f, message):
    with pytest.raises(TypeError, match=message):
        ag.record(f, EXAMPLE)
    assert W.data is not None  # and tracing is over


def test_a_pullback_of_what_was_computed_before_is_refused():
    _, pullback = ag.vjp(lambda x: np.tanh(x * W), EXAMPLE)
    with pytest.raises(TypeError, match="was computed before the program is recorded"):
        ag.record(lambda g: pullback(g)[0], EXAMPLE)


@pytest.mark.slow_but_every(21)
@pytest.mark.parametrize("name, sample", [p for p in DIFFERENTIABLE if not decides_by_numbers(*p.values)])
@pytest.mark.filterwarnings("ignore")
def test_each_op_of_one_input_beside_constants(name, sample):
    args, attrs = split_attrs(sample)
    arrays = []
    map_arrays(arrays.append, args)
    for number, array in enumerate(arrays):
        if array.dtype.kind != "f":
            continue

        def f(x, number=number):
            places = iter(range(len(arrays)))
            y = OURS[name](*map_arrays(lambda a: x if next(places) == number else a, args), **attrs)
            return sum((y * weights).sum() for y, weights in zip(outputs(y), seeds(outputs(y))) if y.dtype.kind == "f")

        program = ag.record(f, 0.9 * array)
        np.testing.assert_allclose(program(array), f(array), rtol=1e-12, atol=1e-13)
