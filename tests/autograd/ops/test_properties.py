"""Properties of every op and composed function on generated calls: NumPy's value, gradients, precision.

A failure ends in a line that can be pasted after `import numpy as np, autograd as ag`.

    TAPEGRAD_EXAMPLES=2000 python -m pytest tests/autograd/ops/test_properties.py

tries so many calls of each, new ones each time, instead of the few that are always the same.
"""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import autograd as ag
from autograd.core.registry import NUMPY_OVERRIDES
from tests.autograd.ops.test_peers import DOUBLE
from tests.peers import TABLE
from tests.strategies import Call, examples, floating, indexed, outputs, source

SMOOTH = [name for name, entry in TABLE.items() if entry.why not in ("no gradient", "no numbers")]
STEP = 1e-3  # in units of a random direction; two steps and extrapolation leave an error of order STEP⁴
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::RuntimeWarning")]


# ---------------------------------------------------------------------- what is called


def ours(name):
    return TABLE[name].ours or getattr(ag, name)


def numpys(name):
    """NumPy's function that ours implements, or None."""
    known = ag.REGISTRY.get(name) or ag.FUNCTIONS.get(name)
    return TABLE[name].numpy or next((f for f, answer in NUMPY_OVERRIDES.items() if answer is known), None)


def expression(function, args, attrs, wrap="{}"):
    """The call in Python, its floating-point arrays wrapped."""
    return f"{function}({', '.join([*[_written(a, wrap) for a in args], *_settings(attrs)])})"


def _written(a, wrap):
    if isinstance(a, list):
        return f"[{', '.join(_written(item, wrap) for item in a)}]"
    return wrap.format(source(a)) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else source(a)


def _settings(attrs):
    return [f"{key}={source(value)}" for key, value in attrs.items()]


def gradient_line(name, call):
    """Return the line that checks the gradients of this call."""
    if name in ag.REGISTRY:
        sample = source((*call.args, call.attrs) if call.attrs else call.args)
        return f"ag.check_op(ag.REGISTRY[{name!r}], [{sample}])"
    names = iter([f"x{i}" for i in range(len(call.floats()))])
    places = call.replaced(lambda a: _Name(next(names)))
    extra = ["np.random.default_rng(0)"] if name == "dropout" else []
    inside = ", ".join([*[_written(a, "{}") for a in places], *extra, *_settings(call.attrs)])
    parameters = ", ".join(f"x{i}" for i in range(len(call.floats())))
    return f"ag.check_grads(lambda {parameters}: ag.{name}({inside}), {', '.join(map(source, call.floats()))})"


class _Name(str):
    """Stands for itself in Python."""
    __repr__ = str.__str__


def value_line(name, call):
    """Return the line that compares the value of this call for Tensors with that for arrays."""
    function = numpys(name)
    written = f"{getattr(function, '__module__', 'numpy').replace('numpy', 'np')}.{function.__name__}" \
        if function and not TABLE[name].numpy else f"ag.{name}"
    if name == "getitem":
        x, index = call.args
        x, index = source(x), source(index)
        return f"np.testing.assert_array_equal(ag.tensor({x})[{index}].data, {x}[{index}])"
    args = (*call.args, _Name("np.random.default_rng(0)")) if name == "dropout" else call.args
    both = f"{expression(written, args, call.attrs, 'ag.tensor({})')}, {expression(written, args, call.attrs)}"
    several = f"[np.testing.assert_allclose(y, z) for y, z in zip({both}, strict=True)]"
    return several if gives_several(name, call) else f"np.testing.assert_allclose({both})"


def gives_several(name, call):
    with contextlib.suppress(Exception):
        return isinstance(ours(name)(*call.args, **call.attrs), (tuple, list))


@contextlib.contextmanager
def runnable(line, name, call):
    """Add to an error the line that shows it."""
    try:
        yield
    except Exception as error:
        error.add_note(f"Run: {line(name, call)}")
        raise


# ---------------------------------------------------------------------- the properties


@pytest.mark.parametrize("name", TABLE)
@examples(12)
@given(data=st.data())
def test_value(name, data):
    call = data.draw(TABLE[name].calls).astype(data.draw(st.sampled_from([np.float64, np.float32])))
    with runnable(value_line, name, call):
        check_value(name, call)


def check_value(name, call):
    """Tensors give what arrays give NumPy's function of that name, or ours where NumPy has none."""
    function = numpys(name) or ours(name)
    tensors = call.replaced(lambda a: ag.tensor(a))
    got = outputs(tensors[0][tensors[1]] if name == "getitem" else function(*tensors, **call.attrs))
    expected = outputs(function(*call.args, **call.attrs))
    assert len(got) == len(expected)
    for y, z in zip(got, expected):
        assert np.shape(y) == np.shape(z) and np.asarray(y).dtype == np.asarray(z).dtype
        if name != "empty_like":
            z = np.asarray(z)
            rounding = 8 * np.finfo(z.dtype).eps if z.dtype.kind == "f" and name in ag.FUNCTIONS else 0
            np.testing.assert_allclose(np.asarray(y), z, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("name", SMOOTH)
@examples(12)
@given(data=st.data())
def test_gradients(name, data):
    call = data.draw(TABLE[name].calls)
    with runnable(gradient_line, name, call):
        check_gradients(ours(name), call)


def check_gradients(function, call):
    """The gradient, and the gradient of that, along one random direction are the slopes of the value and of it."""
    rng = np.random.default_rng(0)
    xs = [np.array(a) for a in call.floats()]
    weights, again = ([rng.normal(size=y.shape) for y in ys] for ys in (values(function, call, xs), xs))
    if not any(x.size for x in xs):  # the value may be NaN, as the mean of nothing is; the rules have to work
        return pulled_again(function, call, xs, weights, again)
    against_slope(lambda xs: values(function, call, xs), lambda xs: pulled(function, call, xs, weights), xs, weights,
                  rng)
    n = len(xs)
    against_slope(lambda all_xs: pulled(function, call, all_xs[:n], all_xs[n:]),
                  lambda all_xs: pulled_again(function, call, all_xs[:n], all_xs[n:], again), xs + weights, again, rng)


def against_slope(f, gradient, xs, weights, rng):
    """Compare the weighted sum of `f`'s results, along a random direction, with its `gradient`."""
    direction = [rng.normal(size=x.shape) * np.maximum(abs(x), 0.1) for x in xs]

    def at(step):
        moved = f([x + step * d for x, d in zip(xs, direction)])
        return sum(float(np.sum(w * y)) for w, y in zip(weights, moved))

    coarse, fine = ((at(h) - at(-h)) / (2 * h) for h in (STEP, STEP / 2))
    terms = [np.sum(g * d) for g, d in zip(gradient(xs), direction)]
    size = sum(float(np.sum(abs(w * y))) for w, y in zip(weights, f(xs)))
    slope, expected = sum(terms), (4 * fine - coarse) / 3
    allowed = 1e-6 * sum(map(abs, [*terms, 0.0])) + 1e-9 * size + 1e-3 * abs(fine - coarse) + 1e-12
    assert abs(slope - expected) <= allowed, f"along a random direction {slope}, and by differences {expected}"


def values(function, call, xs):
    rest = iter(xs)
    ys = outputs(function(*call.replaced(lambda a: ag.tensor(next(rest), requires_grad=True)), **call.attrs))
    return [y.data for y in floating(ys)]


def pulled(function, call, xs, weights):
    """The gradients of xs."""
    return walked(function, call, xs, weights)[1]


def walked(function, call, xs, weights, create_graph=False):
    """Leaves for xs and weights, and the gradients of the first."""
    args, leaves = like(call, xs).leaves()
    weights = [ag.tensor(w, requires_grad=create_graph) for w in weights]
    ys = floating(outputs(function(*args, **call.attrs)))
    sum((y * w).sum() for y, w in zip(ys, weights)).backward(create_graph=create_graph)
    gradients = [x.grad if x.grad is not None else np.zeros(x.shape, x.dtype) for x in leaves]
    return leaves + weights, gradients


def pulled_again(function, call, xs, weights, again):
    """The gradients, by xs and weights, of the gradients of xs weighted by `again`."""
    leaves, gradients = walked(function, call, xs, weights, create_graph=True)
    for x in leaves:
        x.grad = None
    loss = sum((d * w).sum() for d, w in zip(gradients, again))
    if isinstance(loss, ag.Tensor):
        loss.backward()
    return [x.grad if x.grad is not None else np.zeros(x.shape) for x in leaves]


def like(call, xs):
    """The call with other numbers, in arrays of the same layouts."""
    rest = iter(xs)

    def filled(a):
        a = a.copy(order="K") if all(s >= 0 for s in a.strides) else np.flip(np.flip(a).copy())
        a[...] = next(rest)
        return a

    return Call(call.replaced(filled), call.attrs)


@pytest.mark.parametrize("name, call", [  # what these tests have found, kept
    ("einsum", Call(("ij->", [np.ones((2, 1))]))),
    ("attention", Call((np.ones((1, 2, 1)), np.ones((0, 2, 1)), np.ones((0, 2, 1))))),
], ids=["einsum", "attention"])
def test_found_before(name, call):
    check_gradients(ours(name), call)


@pytest.mark.parametrize("name", [name for name in SMOOTH if name not in DOUBLE])
@examples(8)
@given(data=st.data())
def test_float32_stays(name, data):
    call = data.draw(TABLE[name].calls).astype(np.float32)
    with runnable(value_line, name, call):
        check_float32(ours(name), call)


def check_float32(function, call):
    """Results, gradients of arrays and gradients of Tensors are float32 and have the right shapes."""
    ys = floating(outputs(function(*call.replaced(lambda a: ag.tensor(a)), **call.attrs)))
    weights = [np.ones(y.shape, np.float32) for y in ys]
    assert {y.dtype for y in ys} == {np.dtype(np.float32)}
    for create_graph in (False, True):
        _, gradients = walked(function, call, call.floats(), weights, create_graph)
        for d, x in zip(gradients, call.floats(), strict=True):
            assert d.dtype == np.float32 and d.shape == x.shape


# ---------------------------------------------------------------------- the properties' own tests


@examples(200)
@given(indexed())
def test_index_expressions_are_numpys(call):
    """More of them than the other ops need: value, and that the gradient adds up where an element is taken twice."""
    x, index = call.args
    counted = np.zeros(x.shape)
    np.add.at(counted, index, 1.0)
    t = ag.tensor(x, requires_grad=True)
    with runnable(value_line, "getitem", call):
        y = t[index]
        np.testing.assert_array_equal(y.data, x[index])
        y.backward(np.ones(y.shape))
        np.testing.assert_array_equal(t.grad, counted)


@pytest.mark.parametrize("name", SMOOTH)
@examples(1)
@given(data=st.data())
def test_the_lines_run(name, data):
    call = data.draw(TABLE[name].calls.filter(lambda call: all(a.size for a in call.floats())))
    for line in (gradient_line(name, call), value_line(name, call)):
        exec(line, {"np": np, "ag": ag})


def kinds(call):
    """Return the features of a drawn index expression and of its array."""
    x, index = call.args
    yield from {f"length {n}" for n in x.shape}
    yield f"{x.ndim} axes"
    if x.size > 1:
        yield "C" if x.flags.c_contiguous else "F" if x.flags.f_contiguous else \
            "backwards" if min(x.strides) < 0 else "strided"
    arrays = [i for i in index if isinstance(i, np.ndarray)]
    yield "mixed" if arrays and any(isinstance(i, slice) for i in index) else "plain"
    for i in index:
        yield f"{i.dtype.kind} array" if isinstance(i, np.ndarray) else type(i).__name__
        if isinstance(i, slice) and (i.step or 1) < 0:
            yield "negative step"


def test_every_kind_of_index_and_layout_is_drawn():
    seen = set()

    @examples(300)
    @given(indexed())
    def collect(call):
        seen.update(kinds(call))

    collect()
    assert seen == {"length 0", "length 1", "length 2", "length 3", *[f"{n} axes" for n in range(4)], "C", "F",
                    "backwards", "strided", "mixed", "plain", "int", "slice", "negative step", "ellipsis", "NoneType",
                    "i array", "b array", "bool"}


@examples(20)
@given(st.data())
def test_sources_make_the_same_array(data):
    a = data.draw(indexed()).args[0]
    b = eval(source(a), {"np": np})
    assert b.shape == a.shape and b.dtype == a.dtype and (a.size < 2 or b.strides == a.strides)
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("fault, order", [("scale", 1), ("closure", 2), ("precision", 1)])
def test_a_wrong_rule_is_caught(new_op, monkeypatch, fault, order):
    @new_op
    def cubed(x):
        return x ** 3

    @cubed.gradient("x")
    def _(g, y, x):
        if fault == "precision":
            return np.float64(1) * g * 3 * x ** 2
        return g * 3.01 * x ** 2 if fault == "scale" else g * 3 * np.square(x.data if isinstance(x, ag.Tensor) else x)

    if fault == "precision":  # the engine casts gradients, so a wrong precision can only be in the value
        cubed.formula = lambda x: x ** 3 * np.ones((), np.float64)
    call = Call((np.array([[0.5, -1.25]]),))
    monkeypatch.setitem(TABLE, "cubed", TABLE["square"])
    with pytest.raises(AssertionError) as caught, runnable(gradient_line, "cubed", call):
        check_float32(ag.cubed, call.astype(np.float32)) if fault == "precision" else check_gradients(ag.cubed, call)
    line = caught.value.__notes__[0].removeprefix("Run: ")
    assert line == "ag.check_op(ag.REGISTRY['cubed'], [(np.array([[0.5, -1.25]]),)])"
    if fault != "precision":
        with pytest.raises(AssertionError):
            exec(line, {"np": np, "ag": ag})
