"""vmap: what a function gives for each example of a batch, and its gradients, are those of a loop over the examples."""

import dataclasses
import itertools
import tracemalloc

import numpy as np
import pytest

import autograd as ag
import gpt
from autograd.core.tree import tree_leaves
from tests.autograd.common import leaf
from tests.duck import Duck
from tests.replaying import poisoned

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(2, 4, 3))
W = leaf(rng.normal(size=3), "w")


def f(x):
    return np.tanh(x) * x.sum()


def s(x):
    return np.sum(np.tanh(x) ** 3) * x[0]


def with_parameter(x):
    return np.sum(np.tanh(x * W) ** 3)


def data(a):
    return a.data if isinstance(a, ag.Tensor) else np.asarray(a)


def loop(function, *batches, axes=None):
    """The results of `function` for each example, stacked along a first axis in each leaf."""
    axes = axes or [0] * len(batches)
    n = next(len(b) for b, axis in zip(batches, axes) if axis == 0)
    results = [tree_leaves(function(*[b[i] if axis == 0 else b for b, axis in zip(batches, axes)])) for i in range(n)]
    return [np.stack([data(leaf) for leaf in leaves]) for leaves in zip(*results)]


def assert_same(got, expected, rtol=1e-11):
    got, expected = tree_leaves(got), tree_leaves(expected)
    for a, b in zip(got, expected, strict=True):
        a, b = data(a), data(b)
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-13)


# ---------------------------------------------------------------------- transforms, in any order

NESTED = {
    "vmap of vmap": (ag.vmap(ag.vmap(f)), lambda z: np.stack([np.stack([f(x) for x in m]) for m in z]), (2, 4, 3)),
    "vmap of vmap along other axes": (
        ag.vmap(ag.vmap(f, in_axes=1, out_axes=1), in_axes=-1, out_axes=-1),
        lambda z: np.stack([np.stack([f(z[:, j, k]) for j in range(4)], 1) for k in range(3)], -1), (2, 4, 3)),
    "grad": (ag.vmap(ag.grad(s)), lambda xs: loop(ag.grad(s), xs), (4, 3)),
    "value_and_grad": (ag.vmap(ag.value_and_grad(s)), lambda xs: loop(ag.value_and_grad(s), xs), (4, 3)),
    "jacobian": (ag.vmap(ag.jacobian(f)), lambda xs: loop(ag.jacobian(f), xs), (4, 3)),
    "hessian": (ag.vmap(ag.hessian(s)), lambda xs: loop(ag.hessian(s), xs), (4, 3)),
    "hvp": (ag.vmap(lambda x: ag.hvp(s, x, x)), lambda xs: loop(lambda x: ag.hvp(s, x, x), xs), (4, 3)),
    "jvp": (ag.vmap(lambda x: ag.jvp(f, (x,), (x,))), lambda xs: loop(lambda x: ag.jvp(f, (x,), (x,)), xs), (4, 3)),
    "vjp": (ag.vmap(lambda x: ag.vjp(f, x)[1](x)[0]), lambda xs: loop(lambda x: ag.vjp(f, x)[1](x)[0], xs), (4, 3)),
    "grad of vmap": (ag.grad(lambda xs: np.sum(ag.vmap(f)(xs) ** 2)),
                     ag.grad(lambda xs: sum(np.sum(f(x) ** 2) for x in xs)), (4, 3)),
    "jacobian of vmap": (ag.jacobian(ag.vmap(f)), ag.jacobian(lambda xs: np.stack([f(x) for x in xs])), (4, 3)),
    "hessian of vmap": (ag.hessian(lambda xs: np.sum(ag.vmap(s)(xs) ** 2)),
                        ag.hessian(lambda xs: sum(s(x) ** 2 for x in xs)), (4, 3)),
    "grad of vmap of grad": (ag.grad(lambda xs: np.sum(ag.vmap(ag.grad(s))(xs) ** 2)),
                             ag.grad(lambda xs: sum(np.sum(ag.grad(s)(x) ** 2) for x in xs)), (4, 3)),
    "vmap of grad of vmap": (ag.vmap(ag.grad(lambda xs: np.sum(ag.vmap(f)(xs) ** 2))),
                             lambda z: loop(ag.grad(lambda xs: sum(np.sum(f(x) ** 2) for x in xs)), z), (2, 4, 3)),
    "checkpoint": (ag.grad(lambda xs: np.sum(ag.checkpoint(ag.vmap(ag.checkpoint(f)))(xs) ** 2)),
                   ag.grad(lambda xs: sum(np.sum(f(x) ** 2) for x in xs)), (4, 3)),
    "grad of checkpoint": (ag.vmap(ag.hessian(ag.checkpoint(s))), lambda xs: loop(ag.hessian(s), xs), (4, 3)),
    "a split": (ag.vmap(ag.grad(lambda x: np.sum(ag.split(x, 3)[1] ** 3))),
                lambda xs: loop(ag.grad(lambda x: np.sum(ag.split(x, 3)[1] ** 3)), xs), (4, 3)),
}


@pytest.mark.parametrize("name", NESTED)
def test_transforms_nest(name):
    together, one_by_one, shape = NESTED[name]
    example, x = rng.normal(size=(2, *shape))
    assert_same(together(x), one_by_one(x))
    program = poisoned(ag.record(together, example))
    assert all(np.array_equal(a, b) for a, b in zip(tree_leaves(program(x)), tree_leaves(together(x)), strict=True))
    assert not program.requires_grad


def test_parameters_in_a_closure():
    for function in (with_parameter, ag.grad(with_parameter)):
        y, W.grad = ag.vmap(function)(X), None
        assert isinstance(y, ag.Tensor) and y.requires_grad
        (y * Y[:, 0].reshape(4, *[1] * (y.ndim - 1))).sum().backward()
        together, W.grad = W.grad, None
        sum((function(ag.tensor(x)) * k).sum() for x, k in zip(X, Y[:, 0])).backward()
        np.testing.assert_allclose(together, W.grad, rtol=1e-12)
        program = ag.record(lambda xs: (ag.vmap(function)(xs) ** 2).sum(), X)  # noqa: B023
        program(Y)
        program.backward()
        together, W.grad = W.grad.copy(), None
        (ag.vmap(function)(Y) ** 2).sum().backward()
        assert np.array_equal(together, W.grad)


def test_gradients_that_are_stopped_stay_stopped():
    xs = leaf(X)
    stopped, flowing = ag.vmap(lambda x: (ag.stop_gradient(x) * 2, x * 2))(xs)
    assert not stopped.requires_grad and flowing.requires_grad
    assert ag.vmap(ag.grad(s))(xs).requires_grad
    for function in (ag.no_grad(s), ag.no_grad(ag.grad(s)), lambda x: s(x).detach()):
        y = ag.vmap(function)(xs)
        assert isinstance(y, ag.Tensor) and not y.requires_grad
    with ag.no_grad():
        assert type(ag.vmap(with_parameter)(X)) is np.ndarray
    assert type(ag.vmap(ag.no_grad(with_parameter))(X)) is np.ndarray
    assert_same(ag.grad(lambda xs: np.sum(ag.vmap(lambda x: x * ag.stop_gradient(np.sin(x)))(xs)))(X), np.sin(X))


# ---------------------------------------------------------------------- axes, containers, results


@dataclasses.dataclass
class Line:
    """A module: whatever has `map`."""

    w: object
    b: object

    def map(self, fn):
        return Line(fn(self.w), fn(self.b))


@pytest.mark.parametrize("in_axes, out_axes", [*itertools.product([0, 1, 2, -1, -3], [0, 1, -1, -2])])
def test_any_axis(in_axes, out_axes):
    z = rng.normal(size=(2, 3, 4))
    expected = np.stack([np.tanh(x) @ np.ones((x.shape[1], 5)) for x in np.moveaxis(z, in_axes, 0)], out_axes)
    got = ag.vmap(lambda x: np.tanh(x) @ np.ones((x.shape[1], 5)), in_axes, out_axes)(z)
    assert_same(got, expected)


def test_containers():
    p, z = {"w": rng.normal(size=(3, 2)), "more": [rng.normal(size=2), None]}, rng.normal(size=(3, 4, 2))

    def function(p, line, x):
        y = x @ p["w"] * line.w + p["more"][0]
        return {"y": y, "rest": (line.b, y.sum(), None)}

    line, mapped = Line(rng.normal(size=4), rng.normal(size=(4, 2))), {"w": None, "more": [None, None]}
    expected = [function(p, Line(line.w[i], line.b[i]), X[i]) for i in range(4)]
    for in_axes in [(None, 0, 0), (mapped, Line(0, 0), 0)]:
        got = ag.vmap(function, in_axes, out_axes={"y": 1, "rest": 0})(p, line, X)
        assert type(got["rest"]) is tuple and got["rest"][2] is None
        assert_same(got["y"], np.stack([e["y"] for e in expected], 1))
        assert_same(got["rest"][:2], [np.stack([e["rest"][i] for e in expected]) for i in (0, 1)])
    gradient = ag.vmap(ag.grad(lambda p, x: np.sum(function(p, Line(1.0, x), x)["y"])), in_axes=(mapped, 0))(p, X)
    assert gradient["w"].shape == (4, 3, 2) and gradient["more"][1] is None
    assert_same(ag.vmap(lambda x, y=None: x * y)(X, y=Y), X * Y)  # keyword arguments are mapped along axis 0
    assert_same(ag.vmap(lambda d: d["a"] * d["b"], in_axes=({"a": 0, "b": 1},))({"a": X, "b": z[:, :, 0]}),
                X * z[:, :, 0].T)


def test_arrays_give_arrays_of_the_callers_own_and_tensors_tensors():
    same, doubled, again = ag.vmap(lambda x: (x, x * 2, x[:2]))(X)
    same[0] = again[0] = 7
    assert type(doubled) is np.ndarray and X[0, 0] != 7
    assert isinstance(ag.vmap(f)(ag.tensor(X)), ag.Tensor) and not ag.vmap(f)(ag.tensor(X)).requires_grad
    assert isinstance(ag.vmap(lambda x: 3.0)(ag.tensor(X)), ag.Tensor)
    assert ag.vmap(f)(X.astype(np.float32)).dtype == np.float32
    assert isinstance(ag.vmap(ag.grad(lambda x: np.sum(np.tanh(x) ** 3)))(Duck(X)), Duck)


def test_what_depends_on_no_example_is_repeated():
    results = ag.vmap(lambda x: (3.0, np.arange(2), {"w": W * 2, "none": None}, np.float32(1)))(X)
    assert [leaf.shape for leaf in tree_leaves(results)] == [(4,), (4, 2), (4, 3), (4,)]
    assert results[1].dtype == int and results[3].dtype == np.float32
    shared, each = ag.vmap(lambda x: (W * 2, x), out_axes=(None, 1))(X)
    assert shared.shape == (3,) and each.shape == (3, 4)
    assert ag.vmap(lambda x: None)(X) is None


@pytest.mark.parametrize("function, shape", [
    (f, (0, 3)), (ag.grad(s), (0, 3)), (ag.hessian(s), (0, 3, 3)), (lambda x: ag.split(x, 3)[1], (0, 1)),
    (lambda x: np.linalg.inv(np.eye(3) + x[:, None] * x), (0, 3, 3)), (lambda x: 3.0, (0,)),
    (lambda x: np.sort(x)[:2], (0, 2)), (lambda x: ag.dropout(x, 0.5, rng), (0, 3)), (lambda x: x.max(), (0,)),
    (lambda x: np.argwhere(x > 2).shape[0] * x, (0, 3)), (lambda x: np.log(x) / x, (0, 3))])
@pytest.mark.filterwarnings("ignore:vmap applies")
def test_a_batch_of_no_examples(function, shape):
    assert ag.vmap(function)(X[:0]).shape == shape


def test_each_example_draws_its_own():
    ours, theirs = np.random.default_rng(3), np.random.default_rng(3)
    function = ag.grad(lambda x: np.sum(ag.dropout(x, 0.5, ours) ** 2))  # whose backward pass has the same mask
    expected = [loop(ag.grad(lambda x: np.sum(ag.dropout(x, 0.5, theirs) ** 2)), X) for _ in range(3)]
    assert_same(ag.vmap(function)(X), expected[0])
    program = ag.record(ag.vmap(function), X)
    assert_same([program(X), program(X)], [e[0] for e in expected[1:]])
    for drawn in (ag.vmap(ag.vmap(lambda x: ag.dropout(x, 0.5, ours)))(np.ones((3, 4, 30))).reshape(12, 30),
                  ag.vmap(lambda x: ag.dropout(np.ones(30), 0.5, ours) + 0 * x[0])(X)):
        assert len({tuple(row) for row in drawn}) == len(drawn)


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize("call, message", [
    (lambda: ag.vmap(lambda a, b: a)(X, X[:2]), "sizes: 4 examples in argument 0, 2 examples in argument 1"),
    (lambda: ag.vmap(lambda a, b: a, (0, 1))(X, X), "4 examples in argument 0, 3 examples in argument 1"),
    (lambda: ag.vmap(lambda d: d["a"])({"a": X, "b": [X[:2]]}), r"0\['a'\], 2 examples in argument 0\['b'\]\[0\]"),
    (lambda: ag.vmap(f, None)(X), "in_axes names no axis"),
    (lambda: ag.vmap(f, 2)(X), r"shape \(4, 3\), and so no axis 2"),
    (lambda: ag.vmap(f, -3)(X), "no axis -3 to map over: in_axes has None for what all examples share"),
    (lambda: ag.vmap(lambda a, b: a * b)(X, 2.0), r"argument 1 has shape \(\)"),
    (lambda: ag.vmap(lambda a, b: a)(X, b="mean"), "argument 'b' has shape"),
    (lambda: ag.vmap(f, (0, 0))(X), "in_axes has 2 entries, and f was called with 1 positional"),
    (lambda: ag.vmap(f, ({"a": 0},))({"b": X}), "argument 0 has no structure like that of its axes"),
    (lambda: ag.vmap(lambda m: m.w, ({"w": 0, "b": 1},))(Line(X, X)), "argument 0 has no structure like that"),
    (lambda: ag.vmap(f, "0")(X), "argument 0 has no structure like that of its axes '0'"),
    (lambda: ag.vmap(f, 0, 2)(X), r"out_axes 2 for a result of shape \(4, 3\)"),
    (lambda: ag.vmap(f, 0, None)(X), "out_axes=None is for results that are the same"),
    (lambda: ag.vmap(lambda x: (x, x), 0, (0,))(X), "the result has no structure like that of its axes"),
    (lambda: ag.vmap(lambda x: "x")(X), "vmap makes batches of arrays and numbers"),
    (lambda: ag.vmap(lambda x: x if x.sum() > 0 else -x)(X), r"while ag.vmap runs a function once .* \(np.where"),
    (lambda: ag.vmap(lambda x: x * float(x[0]))(X), "while ag.vmap runs a function once for all examples"),
    (lambda: ag.vmap(lambda x: np.zeros(3).__setitem__(0, x[0]))(X), "while ag.vmap runs a function once"),
    (lambda: ag.vmap(lambda x: x[x > 0])(np.arange(6.0).reshape(2, 3)), r"getitem gives shape .* \(np.where"),
    (lambda: ag.vmap(lambda x: np.flatnonzero(x))(np.eye(2, 3, -1)), "flatnonzero gives shape"),
    (lambda: ag.vmap(lambda x: (x * W).sum().backward())(X), "given to backward while ag.vmap"),
    (lambda: ag.vmap(ag.record(f, X[0]))(X), "a program cannot be called while ag.vmap"),
    (lambda: ag.vmap(lambda x: ag.record(f, X[0]))(X), "a program cannot be recorded while ag.vmap"),
    (lambda: ag.vmap(lambda i: ag.embedding(i, X))(np.array([0, 1, 7])), "there is no row 7"),
    (lambda: ag.vmap(lambda i: ag.cross_entropy(X[0], i))(np.array([0, 1, -7])), "target -7 is no class")])
@pytest.mark.filterwarnings("ignore:vmap applies")
def test_what_cannot_be_mapped_says_so(call, message):
    with pytest.raises((TypeError, ValueError, IndexError), match=message):
        call()
    assert float(W.data[0]) == W.data[0]  # and tracing is over


def test_records_have_the_line_and_the_scope_of_the_function():
    def function(x):
        with ag.scope("inside"):
            return np.tanh(x * W)  # this line

    made = [t for t in ag.tape(ag.vmap(function)(X)) if t.op is not None]
    assert [t.op.name for t in made] == ["multiply", "tanh"] and {t.scope for t in made} == {"inside"}
    assert all("# this line" in open(file).read().splitlines()[line - 1] for file, line in (t.source for t in made))


def test_a_program_has_no_steps_for_the_example():
    program = ag.record(ag.vmap(lambda x: ag.gelu(x) * 2), X)
    (capture,) = program._captures.values()
    assert {a.shape for _, given in capture.plan.steps for a in given if isinstance(a, np.ndarray)} == {X.shape}


def test_what_is_needed_no_more_is_dropped():
    def chain(x):
        for _ in range(30):
            x = np.tanh(x)
        return x

    batch = rng.normal(size=(500, 1000))
    tracemalloc.start()
    ag.vmap(chain)(batch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * batch.nbytes


# ---------------------------------------------------------------------- models


@pytest.mark.parametrize("changes", [{}, {"bias": True, "activation": "relu"},
                                     {"n_kv_head": 1, "positions": "rotary", "activation": "squared_relu"}])
@pytest.mark.parametrize("in_axes", [(None, 0, 0), (0, None, None), (0, 0, 0)], ids=["examples", "models", "both"])
@pytest.mark.filterwarnings("ignore:vmap applies")
def test_gradients_of_a_gpt_for_each_example_and_each_model(changes, in_axes):
    models = [gpt.GPT(gpt.GPTConfig(vocab_size=11, block_size=6, n_layer=2, n_head=2, n_embd=8, **changes), seed=i)
              for i in range(3)]
    ids, targets = rng.integers(0, 11, (2, 3, 1, 6))
    weights = [model.map(lambda t: t.data.astype(float)) for model in models]
    leaves = iter(np.stack(a) for a in zip(*map(tree_leaves, weights)))
    stacked = weights[0].map(lambda a: next(leaves))

    def loss(model, ids, targets):
        return model.loss(ids, targets)

    given = zip((weights[0], ids[0], targets[0]), (stacked, ids, targets), in_axes)
    got = tree_leaves(ag.vmap(ag.grad(loss), in_axes)(*[one if axis is None else all for one, all, axis in given]))
    for i in range(3):
        j = i if in_axes[1] == 0 else 0
        expected = tree_leaves(ag.grad(loss)(weights[0 if in_axes[0] is None else i], ids[j], targets[j]))
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-9, atol=1e-12)
