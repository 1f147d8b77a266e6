"""Operations of one's own, where records were made, and kernels."""


import numpy as np
import pytest

import autograd as ag
from tests.autograd.common import leaf
from tests.duck import Duck

# ---------------------------------------------------------------------- ops of one's own


def test_an_op_of_ones_own(new_op):
    @new_op
    def cube(x, factor=1.0):
        """y = factor · x³"""
        return factor * x ** 3

    @cube.gradient("x")
    def _(g, y, x, factor=1.0):
        return g * (3 * factor) * x ** 2

    assert ag.cube is cube is ag.REGISTRY["cube"] and "cube" in dir(ag)
    assert cube(2.0) == 8 and type(cube(np.ones(2))) is np.ndarray  # arrays in, array out, no record
    ag.check_op(cube, [(np.array([1.0, 2.0]),), (np.array(0.5), {"factor": 3.0})], order=3)
    x = leaf(2.0)
    y = cube(x, factor=2.0)
    assert y.attrs == {"factor": 2.0} and cube(x, 2.0).attrs == {"factor": 2.0}
    y.backward()
    assert x.grad == 24


def test_a_shared_rule_runs_once(new_op):
    calls = []

    @new_op
    def product(x, y):
        return x * y

    @product.gradient("x", "y")
    def _(g, z, x, y):
        calls.append(1)
        return g * y, g * x

    x, y = leaf(2.0), leaf(3.0)
    product(x, y).backward()
    assert (x.grad, y.grad, len(calls)) == (3, 2, 1)
    product(x, 5.0).backward()
    assert x.grad == 8
    ag.check_op(product, [(np.array(2.0), np.array([1.0, 3.0]))])


def test_a_starred_rule(new_op):
    @new_op
    def weigh(scale, *xs, power=1):
        return scale * sum(x ** power for x in xs)

    @weigh.gradient("scale")
    def _(g, y, scale, *xs, power=1):
        return g * y / scale

    @weigh.gradient("*xs")
    def _(g, y, scale, *xs, power=1):
        return [g * scale * power * x ** (power - 1) for x in xs]

    a, b = leaf([1.0, 2.0]), leaf(3.0)
    y = weigh(2.0, [a, b, 1.0], power=2)
    np.testing.assert_array_equal(y.data, [22, 28])
    y.sum().backward()
    np.testing.assert_array_equal(a.grad, [4, 8])
    assert b.grad == 24
    ag.check_op(weigh, [(np.array(2.0), [np.ones(2), np.array(3.0)], {"power": 3})])


def test_an_optional_argument_with_a_rule_is_an_input(new_op):
    @new_op
    def shift(x, by=None):
        return x if by is None else x + by

    @shift.gradient("x", "by")
    def _(g, y, x, by=None):
        return g, g

    x, by = leaf(1.0), leaf(2.0)
    shift(x).backward()
    shift(x, by).backward()
    shift(x, by=by).backward()
    assert x.grad == 3 and by.grad == 2


def test_a_missing_rule_names_the_input(new_op):
    @new_op
    def product(x, y):
        return x * y

    @product.gradient("x")
    def _(g, z, x, y):
        return g * y

    product(leaf(1.0), 2.0).backward()
    with pytest.raises(TypeError, match="product has no gradient rule for its input y"):
        product(leaf(1.0), leaf(2.0))  # at once, and not when somebody calls backward
    with ag.no_grad():
        assert product(leaf(1.0), leaf(2.0)).item() == 2


def test_a_tensor_as_an_attribute_is_refused(new_op):
    with pytest.raises(TypeError, match="softmax: axis is an attribute"):
        ag.softmax(leaf([1.0, 2.0]), axis=ag.tensor(0))
    with pytest.raises(TypeError, match="attribute"):
        ag.softmax(leaf([1.0, 2.0]), ag.tensor(0))


@pytest.mark.parametrize("call", [lambda x: ag.exp(), lambda x: ag.exp(x, x, x), lambda x: ag.softmax(x, axes=1),
                                  lambda x: ag.add(x)])
def test_a_wrong_call_shows_the_signature(call):
    with pytest.raises(TypeError, match=r"(exp|softmax|add)\(x"):
        call(leaf([1.0]))


def wrong_names(f):
    f.gradient("z")


def no_names(f):
    f.gradient()


def too_few_parameters(f):
    @f.gradient("x")
    def _(g, y, x):
        return g


def other_names(f):
    @f.gradient("x")
    def _(g, y, a, b=2):
        return g


def other_default(f):
    @f.gradient("x")
    def _(g, y, x, b=3):
        return g


@pytest.mark.parametrize("register", [wrong_names, no_names, too_few_parameters, other_names, other_default])
def test_a_wrong_rule_is_refused_at_registration(new_op, register):
    @new_op
    def scaled(x, b=2):
        return x * b

    with pytest.raises(TypeError, match="scaled"):
        register(scaled)


def test_wrong_formulas_are_refused_at_registration(new_op):
    with pytest.raises(TypeError, match="default"):
        @new_op
        def free_settings(x, **settings):
            return x
    with pytest.raises(TypeError, match="default"):
        @new_op
        def needed_setting(x, *, n):
            return x
    assert "free_settings" not in ag.REGISTRY and "needed_setting" not in ag.REGISTRY


def test_a_name_is_taken_by_one_module(new_op):
    with pytest.raises(ValueError, match=r"ag\.softmax is there already, from autograd"):
        @new_op
        def softmax(x):
            return x
    assert ag.softmax(np.zeros(2))[0] == 0.5

    @new_op
    def mine(x):
        return x

    @new_op
    def mine(x):  # noqa: F811  (a notebook's cell run twice)
        return 2 * x

    assert ag.mine(1) == 2


def test_an_op_named_as_a_numpy_function_answers_for_it(new_op):
    @new_op
    def unwrap(x):
        return np.unwrap(x)

    @unwrap.gradient("x")
    def _(g, y, x):
        return g

    x = leaf([0.5, 7.0])
    y = np.unwrap(x)
    y.backward(np.array([1.0, 2.0]))
    assert y.data[1] == pytest.approx(7 - 2 * np.pi) and x.grad.tolist() == [1, 2]


def test_an_op_answers_for_the_functions_it_names(new_op):
    @new_op(implements=(np.i0, np.unwrap), differentiable=False)
    def size_of(x):
        return abs(x)

    assert np.i0(leaf(-2.0)).item() == np.unwrap(leaf(-2.0)).item() == 2

    @new_op(implements=np.i0, differentiable=False)
    def size_of(x):  # noqa: F811  (a notebook's cell run again)
        return 2 * abs(x)

    assert np.i0(leaf(-2.0)).item() == 4
    with pytest.raises(TypeError, match="unwrap"):  # the old one is forgotten whole
        np.unwrap(leaf(-2.0))


def test_a_name_of_a_composed_function_is_taken(new_op):
    with pytest.raises(ValueError, match=r"ag\.stack is there already, from autograd\.ops\.shape"):
        @new_op
        def stack(x):
            return x
    assert np.stack([leaf(1.0), leaf(2.0)]).shape == (2,)


def test_composed_functions_show_their_name_in_the_tape():
    y = np.std(leaf([1.0, 2.0]))
    assert {t.scope for t in ag.tape(y) if t.op is not None} == {"std"}
    assert ag.stack is ag.FUNCTIONS["stack"] and "stack" in dir(ag)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_op"):
        ag.no_such_op  # noqa: B018


def test_an_op_that_is_constant_almost_everywhere(new_op):
    @new_op(differentiable=False)
    def next_odd(x):
        return 2 * np.floor(x / 2) + 1

    y = next_odd(leaf(2.5))
    assert isinstance(y, ag.Tensor) and not y.requires_grad and y.op is None
    x = leaf(2.5)
    (x - np.floor(x)).backward()
    assert x.grad == 1


def test_tensors_in_lists_are_inputs():
    x = leaf([1.0])
    np.concatenate([x, [2.0], (x)]).sum().backward()
    assert x.grad == [2]


def test_docstrings_and_signatures_stay():
    assert ag.softmax.__name__ == "softmax" and "Probabilities" in ag.softmax.__doc__
    assert repr(ag.softmax) == "<op softmax(x, axis=-1)>"


# ---------------------------------------------------------------------- source positions


def line_of(marker):
    with open(__file__, encoding="utf-8") as file:
        return next(i for i, line in enumerate(file, 1) if line.rstrip().endswith(f"# {marker}"))


def composed(x):
    return np.exp(x) * 2


def test_sources_point_at_the_users_line():
    x = ag.tensor([1.0, 2.0], requires_grad=True)  # mark leaf
    cases = {
        "leaf": x,
        "operator": x * 2,  # mark operator
        "reflected": np.ones(2) - x,  # mark reflected
        "method": x.sum(),  # mark method
        "function": np.exp(x),  # mark function
        "op": ag.softmax(x),  # mark op
        "index": x[0],  # mark index
        "array function": np.concatenate([x, x]),  # mark array function
        "parts": np.split(x, 2)[1],  # mark parts
        "property": x.T,  # mark property
    }
    for marker, t in cases.items():
        assert t.source == (__file__, line_of("mark " + marker)), marker
    row, _ = x  # mark rows
    assert row.source == (__file__, line_of("mark rows"))


def test_the_source_of_a_composed_op_is_where_it_is_written(new_op):
    assert composed(leaf(1.0)).source[1] == composed.__code__.co_firstlineno + 1


def test_recording_from_a_gradient_names_the_call():
    x = leaf(2.0)
    (x ** 3).backward(create_graph=True)  # mark backward
    assert x.grad.source == (__file__, line_of("mark backward"))


# ---------------------------------------------------------------------- kernels


@pytest.fixture
def swish(new_op):
    """An op with a rule and a kernel, and the calls of both."""
    calls = []

    @new_op
    def swish(x, beta=1.0):
        calls.append("formula")
        return x / (1 + np.exp(-beta * x))

    @swish.gradient("x")
    def _(g, y, x, beta=1.0):
        calls.append("rule")
        s = 1 / (1 + np.exp(-beta * x))
        return g * (s + beta * x * s * (1 - s))

    class Kernel:
        @staticmethod
        def forward(executor, x, beta=1.0):
            calls.append("kernel forward")
            gate, y = executor.empty(x, x.shape), executor.empty(x, x.shape)
            executor.run(lambda x, gate, y: (np.divide(1, 1 + np.exp(-beta * x), out=gate),
                                             np.multiply(x, gate, out=y)), x, gate, y)
            return y, gate

        @staticmethod
        def backward(executor, needed, g, y, saved, x, beta=1.0):
            calls.append("kernel backward")
            assert needed == [0]
            return [g * (saved + beta * x * saved * (1 - saved))]

    swish.kernels[np.ndarray] = Kernel
    swish.calls = calls
    return swish


def test_a_kernel_is_used_forward_and_backward(swish):
    x = leaf([-1.0, 0.5, 2.0])
    swish(x, beta=2.0).sum().backward()
    assert swish.calls == ["kernel forward", "kernel backward"]
    kernels = dict(swish.kernels)
    swish.kernels.clear()
    z = leaf(x.data)
    y = swish(z, beta=2.0)
    y.sum().backward()
    swish.kernels.update(kernels)
    assert swish.calls[2:] == ["formula", "rule"]
    np.testing.assert_allclose(x.grad, z.grad, rtol=1e-14)
    np.testing.assert_allclose(swish(x.data, beta=2.0), y.data, rtol=1e-14)


def test_a_kernel_works_again_after_its_values_were_freed(swish):
    x = leaf([-1.0, 0.5, 2.0])
    loss = (swish(x * 1) * 2).sum()
    loss.backward()
    once = x.grad.copy()
    x.grad = None
    loss.backward()
    np.testing.assert_array_equal(x.grad, once)
    assert swish.calls.count("kernel backward") == 2 and "rule" not in swish.calls


def test_the_gradient_of_a_gradient_uses_the_rule(swish):
    x = leaf([-1.0, 0.5, 2.0])
    swish(x).sum().backward(create_graph=True)
    assert "kernel backward" not in swish.calls and "rule" in swish.calls
    ag.check_op(swish, [(np.array([-1.0, 0.5, 2.0]),), (np.array([0.3]), {"beta": 2.0})], order=3)


def test_no_kernel_for_other_arrays(swish):
    x = ag.tensor(Duck(np.array([-1.0, 0.5])), requires_grad=True)
    swish(x).sum().backward()
    assert swish.calls == ["formula", "rule"]


def test_raw_arrays_get_the_kernel_too(swish):
    swish(np.ones(2))
    assert swish.calls == ["kernel forward"]


def test_a_rule_may_use_its_own_results(new_op):
    """In the second and third order `y` is a tuple of Tensors, and both the result and the rule send to it."""
    @new_op
    def sine_and_cosine(x):
        return np.sin(x), np.cos(x)

    @sine_and_cosine.gradient("x")
    def _(g, y, x):
        return g[0] * y[1] - g[1] * y[0]

    ag.check_op(sine_and_cosine, [(np.array([0.5, 2.0]),)], order=3)


def test_a_gradient_comes_in_the_dtype_of_its_input(new_op):
    @new_op
    def doubled(x):
        return 2 * x

    @doubled.gradient("x")
    def _(g, y, x):
        return 2 * g.astype(np.float64)  # of the right shape, so that only the dtype is to be restored

    x = leaf([1.0, 2.0], dtype=np.float32)
    y = doubled(x * 1)
    sent = [d for _, _, pairs in ag.reverse([y], [np.ones_like(y.data)]) for _, d in pairs]
    assert {d.dtype for d in sent} == {np.dtype(np.float32)}


@pytest.mark.parametrize("returned, words", [(lambda g, y, x, z: g * z, "returned a ndarray"),
                                             (lambda g, y, x, z: (g, g, g), "2 in all, and this one returned 3 of")])
def test_a_rule_of_several_inputs_returns_one_gradient_for_each(new_op, returned, words):
    @new_op
    def product(x, z):
        return x * z

    product.gradient("x", "z")(lambda g, y, x, z: returned(g, y, x, z))
    with pytest.raises(TypeError, match=words):
        product(leaf(np.ones(3)), np.ones((2, 3))).sum().backward()


@pytest.mark.parametrize("define, words", [
    (lambda: ag.op(lambda x: x), "cannot be the name of an op"), (lambda: ag.op(5), "made of a function that def"),
    (lambda: ag.op(named("tensor")), "'tensor' cannot be the name"),
    (lambda: ag.op(named("mine"), implements="np.sinc"), "implements= takes a NumPy function"),
    (lambda: ag.op(named("mine"), implements=np.exp), "implements exp already"),
    (lambda: ag.op(named("mine"), differentiable=False).gradient("x"), "made with differentiable=False")])
def test_mistakes_are_caught_at_definition(new_op, define, words):
    before = dict(ag.REGISTRY)
    with pytest.raises((TypeError, ValueError), match=words):
        define()
    ag.REGISTRY.pop("mine", None)
    assert before == ag.REGISTRY


def named(name):
    def function(x):
        return x
    function.__name__ = name
    return function


def test_settings_in_a_dict_are_kept_as_they_were(new_op):
    @new_op
    def scaled(x, how=None):
        return x * how["by"]

    @scaled.gradient("x")
    def _(g, y, x, how=None):
        return g * how["by"]

    x, how = leaf(3.0), {"by": 2.0}
    y = scaled(x, how=how)
    how["by"] = 100.0
    y.backward()
    assert x.grad == 2
    with pytest.raises(TypeError, match="how is an attribute"):
        scaled(x, how={"by": leaf(1.0)})
