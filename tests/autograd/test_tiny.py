"""The tiny engine gives the engine's gradients, to second order, and trains two moons and a GPT of one block."""

from pathlib import Path

import numpy as np
import pytest

import autograd as ag
from autograd import engine, tiny

ELEMENTWISE = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide,
               "maximum": np.maximum}


def leaves(arrays):
    return ([tiny.Tensor(a, requires_grad=True) for a in arrays], [ag.tensor(a, requires_grad=True) for a in arrays])


def total(y):
    """The sum of all elements, in either engine."""
    return tiny.sum_to(y, shape=()) if isinstance(y, tiny.Tensor) else y.sum()


def transposed(x):
    return tiny.swap(x) if isinstance(x, tiny.Tensor) else np.swapaxes(x, -1, -2)


def softmax(x):
    return tiny.softmax(x) if isinstance(x, tiny.Tensor) else ag.softmax(x)


def mean_square(x):
    """Over the last axis, which stays."""
    return (tiny.sum_to(x * x, shape=(*x.shape[:-1], 1)) if isinstance(x, tiny.Tensor)
            else (x * x).sum(-1, keepdims=True)) / x.shape[-1]


SAMPLES = {
    **{name: (lambda a, b, f=f: f(a, b), [(3, 4), (4,)]) for name, f in ELEMENTWISE.items()},
    "broadcasting both ways": (lambda a, b: a * b - b / a, [(3, 1, 2), (4, 1)]),
    "matmul": (lambda a, b: a @ b, [(2, 3, 4), (4, 5)]),
    "of one variable": (lambda x: np.exp(-x) + np.log(x) * np.tanh(x), [(2, 3)]),
    "softmax": (lambda x, w: softmax(x) * w, [(2, 4), (2, 4)]),
    "attention": (lambda q, k, v: softmax(q @ transposed(k)) @ v, [(2, 3, 4), (2, 3, 4), (2, 3, 4)]),
    "norm": (lambda x: x / np.exp(0.5 * np.log(mean_square(x))), [(3, 5)]),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_gradients_are_the_engines_to_second_order(name):
    f, shapes = SAMPLES[name]
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(0.5, 2, shape) for shape in shapes]
    firsts, seconds = [], []
    for xs in leaves(arrays):
        total(np.tanh(f(*xs))).backward(create_graph=True)
        grads, inner = [x.grad for x in xs], 0.0
        for x in xs:
            inner, x.grad = inner + total(x.grad * x.grad * x), None
        inner.backward()
        firsts.append([g.data for g in grads])
        seconds.append([x.grad for x in xs])
    for got, expected in zip(firsts[0] + seconds[0], firsts[1] + seconds[1]):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


def test_the_backward_pass_goes_by_creation_and_sums_what_arrives():
    x = tiny.Tensor(3.0, requires_grad=True)
    y = x * x
    loss = y + x * y
    assert [t.created for t in tiny.tape(loss)] == sorted(t.created for t in tiny.tape(loss))
    loss.backward()
    assert x.grad == 2 * 3 + 3 * 3**2
    loss.backward()
    assert x.grad == 2 * (2 * 3 + 3 * 3**2)


def test_an_op_of_ones_own_by_the_engines_contract():
    @tiny.Op
    def square(x):
        return x * x

    @square.gradient("x")
    def _(g, y, x):
        return 2 * g * x

    try:
        x = tiny.Tensor([1.0, -3.0], requires_grad=True)
        total(square(x)).backward()
        assert x.grad.tolist() == [2.0, -6.0] and square(np.array(3.0)) == 9
    finally:
        del tiny.REGISTRY["square"]


def test_its_names_are_the_engines():
    defined = {name for name, value in vars(tiny).items() if getattr(value, "__module__", "") == tiny.__name__}
    assert {"Tensor", "Op", "tape", "reverse"} < defined
    assert defined - {"_", *tiny.REGISTRY} <= vars(engine).keys()
    assert vars(tiny.Tensor(1.0)).keys() <= {*dir(ag.tensor(1.0))} and vars(tiny.Op(abs)).keys() <= {*dir(ag.exp)}
    del tiny.REGISTRY["abs"]


def test_it_separates_two_moons():
    rng = np.random.default_rng(1)
    angle = rng.uniform(0, np.pi, 100)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = np.concatenate([upper, [1, 0.5] - upper]) + rng.normal(scale=0.08, size=(200, 2))
    side = np.repeat([1.0, -1.0], 100)[:, None]
    sizes = (2, 16), (16, 16), (16, 1)
    layers = [(tiny.Tensor(rng.normal(size=(n, m)) / np.sqrt(n), True), tiny.Tensor(np.zeros(m), True))
              for n, m in sizes]

    def score(x):
        for i, (w, b) in enumerate(layers):
            x = x @ w + b
            x = np.tanh(x) if i < 2 else x
        return x

    for _ in range(400):
        (total(np.maximum(0.0, 1 - side * score(points))) / 200).backward()
        for t in (t for pair in layers for t in pair):
            t.data, t.grad = t.data - 0.5 * t.grad, None
    assert np.mean(np.sign(score(points).data) == side) == 1.0


def test_it_trains_a_gpt_of_one_block():
    text = "the cat sat on the mat, and the dog sat by the cat. " * 4
    letters = sorted({*text})
    V, T, C = len(letters), 16, 24
    ids = np.array([letters.index(c) for c in text])
    rng = np.random.default_rng(0)
    shapes = {"wte": (V, C), "wpe": (T, C), "q": (C, C), "k": (C, C), "v": (C, C), "o": (C, C), "up": (C, 4 * C),
              "down": (4 * C, C), "head": (C, V)}
    w = {name: tiny.Tensor(rng.normal(size=shape) / np.sqrt(C), True) for name, shape in shapes.items()}
    mask = np.where(np.tri(T) > 0, 0.0, -1e9)

    def norm(x):
        return x / np.exp(0.5 * np.log(mean_square(x) + 1e-5))

    def loss(x, targets):
        h = np.eye(V)[x] @ w["wte"] + w["wpe"]  # (B, T) -> (B, T, C)
        n = norm(h)
        scores = (n @ w["q"]) @ tiny.swap(n @ w["k"]) / np.sqrt(C) + mask  # (B, T, T)
        h = h + tiny.softmax(scores) @ (n @ w["v"]) @ w["o"]
        h = h + np.maximum(0.0, norm(h) @ w["up"]) @ w["down"]
        p = tiny.softmax(norm(h) @ w["head"])  # (B, T, V)
        return total(-np.log(p) * np.eye(V)[targets]) / targets.size

    losses = []
    for _ in range(150):
        starts = rng.integers(len(ids) - T, size=8)[:, None] + np.arange(T)
        step = loss(ids[starts], ids[starts + 1])
        step.backward()
        for t in w.values():
            t.data, t.grad = t.data - 0.3 * t.grad, None
        losses.append(float(step.data))
    assert losses[0] > 2.5 and np.mean(losses[-10:]) < 0.6


def test_it_is_eighty_lines_at_most():
    assert len(Path(tiny.__file__).read_text(encoding="utf-8").splitlines()) <= 80
