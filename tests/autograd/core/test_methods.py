"""Tensors behave as a NumPy user expects of arrays."""

import operator

import numpy as np
import pytest

import autograd as ag

NUMPY = np.lib.NumpyVersion(np.__version__)


def leaf(data, dtype=float):
    return ag.tensor(data, dtype=dtype, requires_grad=True)


@pytest.fixture
def x():
    return leaf([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


# ---------------------------------------------------------------------- operators

OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


@pytest.mark.slow_but_every(3)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("f", OPERATORS + COMPARISONS)
@pytest.mark.parametrize("other", [2, 2.5, np.float64(2.5), np.array(2.5), np.array([1.0, 2.0, 2.5]),
                                   np.array([[1, 2, 3]] * 2)],
                         ids=["int", "float", "float64", "0-d", "1-d", "int array"])
def test_operators_both_ways(f, other, dtype):
    a = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype)
    x = leaf(a, dtype)
    for got, expected in ((f(x, other), f(a, other)), (f(other, x), f(other, a)),
                          (f(x, ag.tensor(other)), f(a, np.asarray(other)))):
        assert isinstance(got, ag.Tensor)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got.data, expected)
        assert got.requires_grad == (f in OPERATORS)


def test_matmul_both_ways(x):
    a = np.array(x.data)
    np.testing.assert_array_equal((x @ a.T).data, a @ a.T)
    np.testing.assert_array_equal((a.T @ x).data, a.T @ a)
    np.testing.assert_array_equal((np.ones(2) @ x).data, a.sum(0))


def test_unary_operators(x):
    for f in (operator.neg, operator.pos, abs):
        np.testing.assert_array_equal(f(x).data, f(x.data))
    assert +x is not x


@pytest.mark.parametrize("f", [operator.iadd, operator.isub, operator.imul, operator.itruediv])
def test_augmented_assignment_makes_a_new_tensor(f, x):
    before, y = np.array(x.data), f(x, 2.0)
    assert y is not x
    np.testing.assert_array_equal(x.data, before)
    np.testing.assert_array_equal(y.data, f(before.copy(), 2.0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_python_numbers_keep_the_dtype(dtype):
    x = leaf([1.0, 2.0], dtype=dtype)
    results = [x + 1, 1.5 + x, 2 - x, x * 2.0, x / 3, 1 / x, x ** 2, x ** 0.5, 2 ** x, -x, x @ x, np.exp(x), np.sqrt(x),
               x.mean(), x.var(),
               np.maximum(x, 0), np.where(x > 1, x, 0.0), x.sum(), x.max(), ag.gelu(x), ag.softmax(x),
               ag.layer_norm(x, None, None), abs(x)]
    assert {y.dtype for y in results} == {np.dtype(dtype)}
    for y in results:
        y.sum().backward()
    assert x.grad.dtype == dtype


def test_comparisons_are_elementwise_and_hashes_are_not(x):
    y = leaf(x.data)
    assert (x == y).data.all() and not (x != y).data.any()
    assert len({x, y}) == 2 and {x: 1}[x] == 1


# ---------------------------------------------------------------------- shape and conversions


def test_shape_properties(x):
    assert (x.shape, x.ndim, x.size, x.dtype, len(x)) == ((2, 3), 2, 6, np.dtype(float), 2)
    assert (np.shape(x), np.ndim(x), np.size(x)) == ((2, 3), 2, 6)


@pytest.mark.parametrize("f", [
    lambda a: a.reshape(3, 2), lambda a: a.reshape((3, 2)), lambda a: a.reshape(-1), lambda a: a.reshape([6]),
    lambda a: a.T, lambda a: a.mT,
    lambda a: a.transpose(), lambda a: a.transpose(1, 0), lambda a: a.transpose((1, 0)), lambda a: a.swapaxes(0, 1),
    lambda a: a.ravel(),
    lambda a: a.flatten(), lambda a: a.copy(), lambda a: a.sum(), lambda a: a.sum(0), lambda a: a.sum(axis=(0, 1)),
    lambda a: a.sum(axis=-1, keepdims=True), lambda a: a.mean(), lambda a: a.mean(1),
    lambda a: a.mean(axis=0, keepdims=True), lambda a: a.max(),
    lambda a: a.max(axis=1), lambda a: a.max(0, keepdims=True), lambda a: a.var(), lambda a: a.var(axis=1, ddof=1),
    lambda a: a.var(0),
    lambda a: a.astype(np.float32), lambda a: a.astype("float64"), lambda a: a[0], lambda a: a[:, 1:],
    lambda a: a[..., None],
    lambda a: a.astype(int), lambda a: a.astype(bool), lambda a: a.astype(np.int32),
    lambda a: a.prod(), lambda a: a.std(1, ddof=1), lambda a: a.min(axis=0), lambda a: a.argmax(1),
    lambda a: a.argmin(),
    lambda a: a.any(), lambda a: (a > 2).all(axis=0), lambda a: a.cumsum(), lambda a: a.cumprod(axis=1),
    lambda a: a.dot(a.T),
    lambda a: a.trace(), lambda a: a.diagonal(1), lambda a: a.clip(2, 5), lambda a: a.clip(max=3), lambda a: a.round(1),
    lambda a: a.take([0, 5]), lambda a: a.take([1], axis=1), lambda a: a.repeat(2, axis=0),
    lambda a: a[None].squeeze(0),
    lambda a: a.compress([True, False], axis=0), lambda a: a.argsort(axis=0), lambda a: a.argpartition(1),
    lambda a: a[0].searchsorted([2.5]), lambda a: a // 2, lambda a: 7 // a, lambda a: a % 2, lambda a: 7 % a,
    lambda a: divmod(a, 4)[1], lambda a: divmod(9, a)[0], lambda a: (a > 2) & (a < 5), lambda a: (a < 2) | (a > 5),
    lambda a: (a > 2) ^ (a > 3), lambda a: ~(a > 2), lambda a: True & (a > 2), lambda a: a.nonzero()[1]])
def test_methods_are_numpys(f, x):
    y, expected = f(x), f(np.array(x.data))
    assert isinstance(y, ag.Tensor) and y.dtype == expected.dtype and y.shape == expected.shape
    np.testing.assert_allclose(y.data, expected, rtol=1e-15)


def test_transposes_of_more_axes():
    x = leaf(np.arange(24.0).reshape(2, 3, 4))
    for f in (lambda a: a.T, lambda a: a.mT, lambda a: a.transpose(2, 0, 1), lambda a: a.transpose(-1, 0, 1),
              lambda a: a.swapaxes(-1, 0)):
        np.testing.assert_array_equal(f(x).data, f(np.array(x.data)))


def test_astype_to_integers_is_constant(x):
    y = x.astype(int)
    assert not y.requires_grad
    (x * y).sum().backward()
    np.testing.assert_array_equal(x.grad, x.data)


def test_astype_back_and_forth_differentiates(x):
    y = x.astype(np.float32)
    assert y.requires_grad and y.dtype == np.float32
    (y * y).sum().backward()
    np.testing.assert_array_equal(x.grad, 2 * x.data)
    assert x.grad.dtype == float


@pytest.mark.parametrize("dtype", [complex, str, object])
def test_astype_to_what_a_tensor_cannot_hold(dtype, x):
    with pytest.raises(TypeError, match="astype|truncate|real"):
        x.astype(dtype)


def test_one_element_is_a_number():
    for t in (leaf(2.5), leaf([2.5]), leaf([[2.5]]), leaf(5.0) / 2):
        assert float(t) == t.item() == 2.5 and int(t) == 2 and bool(t) and type(t.item()) is float
        assert f"{t:.2f}" == "2.50"
    assert not leaf(0.0) and [10, 20][ag.tensor(1)] == 20 and list(range(ag.tensor(3))) == [0, 1, 2]
    assert f"{leaf(2.5)}" == str(leaf(2.5))


def test_a_float_is_no_index():
    with pytest.raises(TypeError):
        operator.index(leaf(1.0))
    with pytest.raises(TypeError):
        [1, 2][leaf(1.0)]


@pytest.mark.parametrize("f", [float, int, bool, lambda t: t.item(), operator.index, lambda t: f"{t:.2f}"])
def test_several_elements_are_no_number(f, x):
    with pytest.raises(ValueError, match=r"one element.*\(2, 3\)"):
        f(x)


def test_lists(x):
    assert x.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_iteration(x):
    rows = list(x)
    assert [r.data.tolist() for r in rows] == x.tolist()
    a, b = x
    assert a.shape == b.shape == (3,)
    assert list(leaf(np.zeros((0, 3)))) == []
    assert [float(v) for v in leaf([1.0, 2.0])] == [1, 2]
    assert sum(leaf([1.0, 2.0])).item() == 3 and max(leaf([1.0, 2.0])).item() == 2
    for f in (len, iter, list):
        with pytest.raises(TypeError, match="0-d"):
            f(leaf(1.0))


def test_membership(x):
    assert 3.0 in x.ravel() and 7.0 not in x.ravel()


def test_elements_cannot_be_assigned(x):
    with pytest.raises(TypeError, match=r"np\.where.*t\.data = "):
        x[0] = 1.0
    with pytest.raises(TypeError, match=r"np\.where"):
        x[0] += 1.0


# ---------------------------------------------------------------------- repr


@pytest.mark.parametrize("make, text", [
    (lambda: leaf([1.0, 2.0]), "Tensor([1., 2.], float64, requires_grad=True)"),
    (lambda: ag.tensor(3), "Tensor(3, int64)"),
    (lambda: leaf([[1.0], [2.0]]) * 2, "Tensor([[2.], [4.]], shape=(2, 1), float64, op=multiply)"),
    (lambda: ag.tensor(np.arange(600.0).reshape(20, 30), name="w"),
     "Tensor(shape=(20, 30), float64, 0…599, mean 3e+02±1.7e+02, name='w')"),
    (lambda: ag.tensor([np.nan, np.inf, 1] * 4), "Tensor(shape=(12,), float64, 1…1, mean 1±0, 4 NaN, 4 inf)"),
    (lambda: ag.tensor([1e200, -1e200] * 10), "Tensor(shape=(20,), float64, -1e+200…1e+200, mean 0±1e+200)"),
    (lambda: ag.tensor([np.nan] * 9), "Tensor(shape=(9,), float64, 9 NaN)"),
    (lambda: ag.tensor(range(20)), "Tensor(shape=(20,), int64, 0…19)"),
    (lambda: ag.tensor(np.ones((0, 3))), "Tensor([], shape=(0, 3), float64)")])
def test_repr(make, text):
    assert repr(make()) == text


@pytest.mark.parametrize("shape", [(), (1,), (8,), (2, 2, 2), (1000,), (0,), (40, 40)])
def test_repr_is_one_line(shape):
    t = leaf(np.full(shape, 1 / 3))
    for u in (t, t * 1e-30, t.astype(np.float32), t > 0):
        assert "\n" not in repr(u) and len(repr(u)) < 160


def test_repr_of_a_tuple():
    a, _ = np.split(leaf([1.0, 2.0]), 2)
    assert "\n" not in repr(a.inputs[0]) and "split" in repr(a.inputs[0])


# ---------------------------------------------------------------------- NumPy's functions

FUNCTIONS = {
    "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "tanh": np.tanh, "absolute": np.absolute, "abs": np.abs,
    "negative": np.negative, "sign": np.sign, "add": lambda a: np.add(a, 1), "subtract": lambda a: np.subtract(1, a),
    "multiply": lambda a: np.multiply(a, a), "divide": lambda a: np.divide(1, a),
    "true_divide": lambda a: np.true_divide(a, 2), "power": lambda a: np.power(a, 2),
    "maximum": lambda a: np.maximum(a, 2), "where": lambda a: np.where(a > 2, a, 0),
    "matmul": lambda a: np.matmul(a, a.T), "sum": lambda a: np.sum(a, axis=1),
    "sum keepdims": lambda a: np.sum(a, axis=1, keepdims=True), "mean": lambda a: np.mean(a, 0),
    "max": lambda a: np.max(a, axis=-1), "var": lambda a: np.var(a, ddof=1),
    "reshape": lambda a: np.reshape(a, (3, 2)), "reshape -1": lambda a: np.reshape(a, -1), "transpose": np.transpose,
    "transpose axes": lambda a: np.transpose(a, (1, 0)), "swapaxes": lambda a: np.swapaxes(a, 0, 1),
    "broadcast_to": lambda a: np.broadcast_to(a, (2, 2, 3)),
    "concatenate": lambda a: np.concatenate([a, a * 2], axis=1),
    "concatenate pos": lambda a: np.concatenate((a, a), 1), "copy": np.copy, "greater": lambda a: np.greater(a, 2),
    "equal": lambda a: np.equal(a, a), "zeros_like": np.zeros_like, "ones_like": np.ones_like,
    "zeros_like shape": lambda a: np.zeros_like(a, shape=(2, 2)),
    "ones_like dtype": lambda a: np.ones_like(a, dtype=np.float32),
}


@pytest.mark.parametrize("f", FUNCTIONS.values(), ids=FUNCTIONS)
def test_numpy_functions_reach_ops(f, x):
    y, expected = f(x), f(np.array(x.data))
    assert isinstance(y, ag.Tensor) and y.dtype == expected.dtype
    np.testing.assert_array_equal(y.data, expected)


def test_numpy_split(x):
    for y, z in zip(np.split(x, [1], axis=1), np.split(np.array(x.data), [1], axis=1), strict=True):
        np.testing.assert_array_equal(y.data, z)


def test_an_array_on_the_left_meets_the_op(x):
    y = np.ones((2, 3)) * x
    assert y.op is ag.multiply
    (np.float64(2) * y).sum().backward()
    np.testing.assert_array_equal(x.grad, np.full((2, 3), 2))


@pytest.mark.parametrize("f, name", [(np.unique, "np.unique"), (np.trim_zeros, "np.trim_zeros"),
                                     (np.histogram, "np.histogram"), (np.fft.hfft, "np.fft.hfft"),
                                     (lambda a: np.nextafter(a, 2), "np.nextafter"), (np.unwrap, "np.unwrap")])
def test_an_unsupported_function_is_named(f, name, x):
    with pytest.raises(TypeError, match=rf"{name} does not take Tensors.*Compose.*@ag\.op\(implements={name}\)"):
        f(x)


@pytest.mark.parametrize("f, name, instead", [
    (lambda a: np.put(a, [0], 1), "put", r"ag\.put"), (lambda a: np.copyto(a, 1), "copyto", r"np\.where"),
    (lambda a: np.put_along_axis(a, np.zeros((1, 3), int), 1, 0), "put_along_axis", r"ag\.put_along_axis"),
    (lambda a: np.fill_diagonal(a, 1), "fill_diagonal", r"ag\.put"),
    (lambda a: np.place(a, a > 2, 1), "place", r"np\.where")])
def test_functions_that_write_name_those_that_do_not(f, name, instead, x):
    with pytest.raises(TypeError, match=rf"np\.{name} changes its argument.*{instead}"):
        f(x)


def test_methods_that_write_name_the_function(x):
    with pytest.raises(TypeError, match=r"t\.sort would change the tensor.*np\.sort\(t\)"):
        x.sort()


@pytest.mark.parametrize("f", [lambda a, t: np.add(a, t, out=a), lambda a, t: operator.iadd(a, t),
                               lambda a, t: operator.imul(a, t),
                               lambda a, t: np.exp(t, out=a)])
def test_arrays_do_not_take_tensors_in_place(f, x):
    a = np.ones((2, 3))
    with pytest.raises(TypeError, match="array = array"):
        f(a, x)
    np.testing.assert_array_equal(a, np.ones((2, 3)))


@pytest.mark.parametrize("f", [lambda t: np.add.reduce(t), lambda t: np.multiply.outer(t, t),
                               lambda t: np.add.accumulate(t),
                               lambda t: np.add.at(np.ones(3), [0], t)])
def test_methods_of_ufuncs_are_refused(f, x):
    with pytest.raises(TypeError, match=r"np\.(add|multiply)\.\w+ does not take Tensors.*np\.sum"):
        f(x)


@pytest.mark.parametrize("f", [lambda t: np.exp(t, where=t.data > 2), lambda t: np.add(t, 1, dtype=np.float32),
                               lambda t: np.median(t, overwrite_input=True), lambda t: np.max(t, dtype=np.float32),
                               lambda t: np.sort(t, order="name"), lambda t: np.quantile(t, 0.5, weights=np.ones(6))])
def test_options_that_ops_lack_are_not_ignored(f, x):
    with pytest.raises(TypeError):
        f(x)


@pytest.mark.parametrize("f", [lambda t, a: np.sum(t, out=a), lambda t, a: t.sum(out=a), lambda t, a: t.sum(0, None, a),
                               lambda t, a: np.std(t, out=a), lambda t, a: np.cumsum(t, out=a),
                               lambda t, a: np.median(t, out=a), lambda t, a: t.max(None, a)])
def test_no_array_takes_the_result(f, x):
    a = np.ones(())
    with pytest.raises(TypeError, match="an array cannot hold a Tensor.*out= "):
        f(x, a)
    assert a == 1


def test_asarray_of_a_constant():
    t = ag.tensor([1.0, 2.0])
    for array in (np.asarray(t), np.array(t), np.asarray(t, dtype=np.float32)):
        assert type(array) is np.ndarray
        np.testing.assert_array_equal(array, [1, 2])
    own = np.array(t)
    own[0] = 9
    assert t.data[0] == 1
    with pytest.raises(ValueError):
        np.asarray(t)[0] = 9


def test_asarray_of_what_requires_a_gradient(x):
    for f in (np.asarray, np.array, lambda t: np.asarray(t, dtype=np.float32), lambda t: np.asarray([t, t])):
        with pytest.raises(TypeError, match=r"t\.data.*detach"):
            f(x)


def test_numpy_scalars_and_matrices_defer(x):
    assert isinstance(np.float32(2) * x, ag.Tensor) and isinstance(np.int64(2) - x, ag.Tensor)
    assert isinstance(np.float64(2) > x, ag.Tensor)


@pytest.mark.parametrize("f", [
    lambda a: np.sum(a=a), lambda a: np.sum(a, 1, None), lambda a: np.sum(a, axis=0, out=None), lambda a: np.flip(m=a),
    lambda a: np.stack(arrays=[a, a]), lambda a: np.split(ary=a, indices_or_sections=3, axis=1)[1],
    lambda a: np.clip(a, min=2) if NUMPY >= "2.1.0" else a,
    lambda a: np.clip(a, None, a_max=3), lambda a: np.zeros_like(a, np.float32),
    lambda a: np.full_like(a, fill_value=2),
    lambda a: np.tile(A=a, reps=2), lambda a: np.pad(array=a, pad_width=1), lambda a: np.take(a=a, indices=[0, 2]),
    lambda a: np.std(a, 0, ddof=1), lambda a: np.concatenate(a), lambda a: np.concatenate(a[None], axis=1),
    lambda a: np.take(a[0], np.array([True, False, True])), lambda a: np.astype(a, int) if hasattr(np, "astype") else a,
    lambda a: np.choose(np.zeros((2, 3), int), [a[0]]), lambda a: np.tile(a, 2), lambda a: a[(0, 0), :],
    lambda a: np.size(a, 1), lambda a: np.median(a, axis=(0, 1)), lambda a: np.reshape(a, (3, 2), order="C"),
    lambda a: np.compress([True, False], a, axis=0), lambda a: np.average(a, weights=np.ones((2, 3)))])
def test_numpys_spellings(f, x):
    y, expected = f(x), f(np.array(x.data))
    assert np.shape(y) == np.shape(expected) and np.asarray(getattr(y, "data", y)).dtype == np.asarray(expected).dtype
    np.testing.assert_allclose(getattr(y, "data", y), expected, rtol=1e-15)


@pytest.mark.parametrize("f", [
    lambda a: np.median(a, axis=5), lambda a: np.median(a, axis=(0, -3)), lambda a: np.take(a, 0, axis=5),
    lambda a: np.take_along_axis(a, np.array([[0]]), 2), lambda a: np.tensordot(a, a, ((5,), (0,))),
    lambda a: np.average(a, axis=-3, weights=np.ones(2)),
    lambda a: np.sum(a, 1, True), lambda a: a.sum(1, True),
    lambda a: np.choose(a, [a, a])])
def test_what_would_mean_something_else_is_refused(f, x):
    with pytest.raises((TypeError, ValueError)):
        f(x)


@pytest.mark.parametrize("data", [np.array([2, 0, 1], np.uint8), np.array([-128, 5], np.int8), [True, False]])
def test_extremes_of_integers_are_exact(data):
    for f in (np.min, np.max, np.argmin):
        assert f(ag.tensor(data)).item() == f(np.array(data))


def test_places_named_twice_in_a_tuple_get_both():
    for index in [((0, 0), slice(None)), (slice(None), (0, 0, 2)), ([1, 1],)]:
        x = leaf(np.ones((2, 3)))
        x[index].sum().backward()
        expected = np.zeros((2, 3))
        np.add.at(expected, index, 1)
        np.testing.assert_array_equal(x.grad, expected)
    np.testing.assert_array_equal(ag.put(np.zeros((2, 2)), 9.0, [0, 1]), np.full((2, 2), 9))
    np.testing.assert_array_equal(ag.scatter_add(np.ones(2), ((0, 0),), shape=(3,)), [2, 0, 0])


@pytest.mark.parametrize("call, name", [
    (lambda x: np.exp(x, where=np.ones((2, 2), bool)), "np.exp"), (lambda x: np.add(x, x, dtype=np.float32), "np.add"),
    (lambda x: np.concatenate([x, x], axis=1, dtype=np.float32), "np.concatenate"),
    (lambda x: np.take(x, [0], mode="wrap"), "np.take"), (lambda x: np.stack([x], dtype=np.float32), "np.stack"),
    (lambda x: np.quantile(x, 0.3, weights=np.ones((2, 2)), method="inverted_cdf"), "np.quantile"),
    (lambda x: np.pad(x, 1, mode="reflect", reflect_type="odd"), "np.pad"),
    (lambda x: np.matmul(x, x, axes=[(0, 1)] * 3), "np.matmul"), (lambda x: np.copy(x, order="F"), "np.copy")])
def test_an_argument_that_only_numpys_function_takes(call, name):
    with pytest.raises(TypeError, match=rf"{name} of a Tensor takes \(.*unexpected keyword argument.*t\.data"):
        call(ag.tensor(np.ones((2, 2))))


def test_padding_by_axis():
    x = np.arange(4.0).reshape(2, 2)
    for widths, same in (({-1: (1, 2)}, ((0, 0), (1, 2))), ({0: 1}, ((1, 1), (0, 0))), ({}, ((0, 0), (0, 0)))):
        np.testing.assert_array_equal(np.pad(ag.tensor(x), widths).data, np.pad(x, same))
