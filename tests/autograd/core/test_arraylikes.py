"""Objects that are nearly arrays, beside Tensors: a result is the right Tensor, or an error says what to pass."""

import array
import collections
import decimal
import fractions
import operator
import re

import numpy as np
import pytest

import autograd as ag

V = [1.0, 2.0, 3.0]


def _pandas(make):
    return lambda: make(pytest.importorskip("pandas"))


def _xarray(make):
    return lambda: make(pytest.importorskip("xarray"))


def _sparse(make):
    return lambda: make(pytest.importorskip("scipy.sparse"))


def _torch(make):
    return lambda: make(pytest.importorskip("torch"))


def _memmap(tmp_path):
    made = np.memmap(tmp_path / "numbers", dtype=float, mode="w+", shape=(3,))
    made[:] = V
    return made


TAKEN = {  # as the arrays that they are
    "memmap": _memmap, "recarray": lambda: np.rec.array(np.array(V)), "subclass": lambda: np.array(V).view(_Named),
    "list": lambda: list(V), "tuple": lambda: tuple(V), "nested": lambda: (V, V, V), "range": lambda: range(1, 4),
    "array.array": lambda: array.array("d", V), "memoryview": lambda: memoryview(np.array(V)),
    "deque": lambda: collections.deque(V), "bool": lambda: True, "longdouble": lambda: np.longdouble(2),
    "float16": lambda: np.array(V, np.float16),
}
REFUSED = {
    "masked": (lambda: np.ma.array(V, mask=[0, 1, 0]), "np.ma.filled"),
    "masked nowhere": (lambda: np.ma.array(V), "np.ma.filled"),
    "np.ma.masked": (lambda: np.ma.masked, "np.ma.filled"),
    "matrix": (lambda: np.matrix(V), "np.asarray"),
    "Series": (_pandas(lambda pd: pd.Series(V, index=[5, 6, 7])), "np.asarray"),
    "Series of Int64": (_pandas(lambda pd: pd.Series([1, 2, 3], dtype="Int64")), "np.asarray"),
    "DataFrame": (_pandas(lambda pd: pd.DataFrame([V])), "np.asarray"),
    "Index": (_pandas(lambda pd: pd.Index(V)), "np.asarray"),
    "Categorical": (_pandas(lambda pd: pd.Categorical([1, 2, 3])), "np.asarray"),
    "pandas array": (_pandas(lambda pd: pd.array(V)), "np.asarray"),
    **{name: (_sparse(lambda sparse, name=name: getattr(sparse, name)(np.eye(3))), "toarray")
       for name in ("csr_matrix", "csr_array", "csc_array", "coo_array", "dia_matrix", "lil_array", "dok_array")},
    "torch": (_torch(lambda torch: torch.tensor(V, dtype=torch.float64)), "np.asarray"),
    "torch with gradient": (_torch(lambda torch: torch.tensor(V, requires_grad=True)), "detach"),
    "jax": (lambda: pytest.importorskip("jax.numpy").asarray(V), "np.asarray"),
    "Decimal": (lambda: decimal.Decimal(2), "float"), "Fraction": (lambda: fractions.Fraction(1, 2), "float"),
    "objects": (lambda: np.array(V, dtype=object), "astype"),
    "objects that are Decimals": (lambda: [decimal.Decimal(2)] * 3, "astype"),
    "complex": (lambda: np.array(V) + 1j, "imaginary"), "1j": (lambda: 1j, "imaginary"),
    "complex number": (lambda: np.complex64(1j), "imaginary"),
    "dates": (lambda: np.array([1, 2, 3], dtype="M8[s]"), "no real numbers"),
    "durations": (lambda: np.array([1, 2, 3], dtype="m8[s]"), "no real numbers"),
    "a duration": (lambda: np.timedelta64(1, "s"), "no real numbers"),
    "records": (lambda: np.array([(1.0,)] * 3, dtype=[("a", float)]), "no real numbers"),
    "text": (lambda: np.array(["a", "b", "c"]), "no real numbers"),
    "bytes": (lambda: np.array([b"a", b"b", b"c"]), "no real numbers"),
}
OPERATORS = [getattr(operator, name, divmod) for name in (
    "add", "sub", "mul", "truediv", "pow", "matmul", "floordiv", "mod", "lt", "le", "eq", "ne", "gt", "ge",
    "divmod")]
IN_PLACE = [operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow]
FUNCTIONS = [np.add, np.multiply, np.hypot, np.maximum, np.less, np.matmul, np.dot,
             lambda a, b: np.where([True, False, True], a, b), lambda a, b: np.concatenate([a, b]),
             lambda a, b: np.stack([a, b]), lambda a, b: np.einsum("i,i->i", a, b), np.outer, np.inner]


class _Named(np.ndarray):
    """As astronomers and others have them: an array with a field more."""


def _made(make, tmp_path):
    return make(tmp_path) if make is _memmap else make()


def _both_orders(f):
    return [(lambda a, b: f(a, b)), (lambda a, b: f(b, a))]


@pytest.mark.slow_but_every(6)
@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("f", OPERATORS + IN_PLACE + FUNCTIONS)
def test_what_holds_numbers_counts_as_an_array(f, name, tmp_path):
    for call in _both_orders(f)[:1 if f in IN_PLACE else 2]:
        a, x, w = _made(TAKEN[name], tmp_path), ag.tensor(V, requires_grad=True), ag.tensor(V, requires_grad=True)
        plain = np.array(a)
        try:
            expected = call(w, plain)
        except (TypeError, ValueError):
            with pytest.raises((TypeError, ValueError)):  # array += tensor; a scalar in a matrix product
                call(x, a)
            continue
        for y, z in zip(*[part if isinstance(part, tuple) else (part,) for part in (call(x, a), expected)]):
            assert type(y) is ag.Tensor and (type(y._array) is np.ndarray or isinstance(y._array, np.generic))
            np.testing.assert_array_equal(y.data, z.data)
            if z.requires_grad:
                y.sum().backward()
                z.sum().backward()
                np.testing.assert_array_equal(x.grad, w.grad)


def _refused_or_right(call, a, x, cure, own=()):
    """An operand that is refused raises; where NumPy's arrays can compare themselves with it, the answer is right."""
    try:
        y = call(x, a)
    except (TypeError, ValueError, *own) as error:  # a shape that does not fit may be seen first
        assert isinstance(error, (TypeError, *own)) and re.search(cure, str(error)) or "dimension" in str(error)
    else:
        assert type(y) is ag.Tensor and type(y._array) is np.ndarray and y._array.dtype.kind in "bf"
        np.testing.assert_array_equal(y.data, call(np.array(V), a))
        assert not y.requires_grad or isinstance(a, fractions.Fraction)  # which becomes a float by itself: 1/2 ** x


@pytest.mark.slow_but_every(15)
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("f", OPERATORS + IN_PLACE + FUNCTIONS)
def test_what_would_lose_something_is_refused(f, name):
    make, cure = REFUSED[name]
    for recording in (True, False):
        with ag.no_grad(not recording):
            _refused_or_right(f, make(), ag.tensor(V, requires_grad=True), re.escape(cure))


@pytest.mark.slow_but_every(15)
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("f", OPERATORS + IN_PLACE + FUNCTIONS)
def test_it_is_refused_on_the_left_too(f, name):
    a = REFUSED[name][0]()
    if a is np.ma.masked and f in IN_PLACE:
        return  # np.ma.masked += anything is np.ma.masked
    own = (ValueError, NotImplementedError) if "pow" in f.__name__ else ()  # a matrix wants a whole number as exponent
    _refused_or_right(lambda x, a: f(a, x), a, ag.tensor(V, requires_grad=True), "", own)


@pytest.mark.parametrize("f", OPERATORS)
def test_masked_arrays_say_what_to_do_in_both_orders(f):
    a, x = np.ma.array(V, mask=[0, 1, 0]), ag.tensor(V, requires_grad=True)
    for call in _both_orders(f):
        with pytest.raises(TypeError, match=r"np\.ma\.filled|array = array \+ tensor"):
            call(x, a)


def test_xarray_holds_a_tensor_and_keeps_its_gradient():
    xr = pytest.importorskip("xarray")
    a = xr.DataArray(V, dims="i", attrs={"unit": "m"})
    for f in (operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, np.add, np.multiply, np.hypot):
        x, w = ag.tensor(V, requires_grad=True), ag.tensor(V, requires_grad=True)
        y, expected = f(a, x), f(np.array(V), w)
        assert y.dims == ("i",) and y.attrs == {"unit": "m"} and type(y.data) is ag.Tensor
        y.data.sum().backward()
        expected.sum().backward()
        np.testing.assert_array_equal(x.grad, w.grad)
        with pytest.raises(TypeError, match="np.asarray"):
            f(x, a)
        with pytest.raises(TypeError, match="lose"):
            y.to_numpy()


@pytest.mark.parametrize("make", [array.array, collections.deque, memoryview, list, tuple])
def test_a_container_that_its_owner_changes_later(make):
    numbers = array.array("d", V)
    a = {array.array: numbers, memoryview: memoryview(numbers), tuple: (numbers,)}.get(make) or make(V)
    x = ag.tensor(V, requires_grad=True)
    y = x * a
    (numbers if make in (array.array, memoryview, tuple) else a)[0] = 100.0
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, V)


def test_indices_of_another_library():
    pd = pytest.importorskip("pandas")
    x = ag.tensor(V, requires_grad=True)
    for index in (pd.Series([True, False, True]), pd.Series([0, 1]), np.ma.array([0, 1]), pd.Index([0])):
        with pytest.raises(TypeError, match="index.0. is a"):
            x[index]
    with pytest.raises(TypeError, match="condition is a pandas Series"):
        np.where(pd.Series(V) > 1, x, 0.0)
    with pytest.raises(TypeError, match="ids is a pandas Series"):
        ag.embedding(pd.Series([0, 1]), x.reshape(3, 1))


@pytest.mark.parametrize("made", [np.ma.array(V, mask=[0, 1, 0]), np.array(V) + 1j, ["1", "2", "3"],
                                  np.array([1, 2, 3], "M8[s]"), np.array([(1.0,)] * 3, [("a", float)])], ids=str)
def test_a_leaf_is_not_made_of_it_nor_given_it(made):
    t = ag.tensor(V, requires_grad=True)
    for give in (ag.tensor, ag.grad(np.sum), lambda a: t.backward(a), lambda a: setattr(t, "data", a),
                 lambda a: setattr(t, "grad", a)):
        with pytest.raises(TypeError, match="mask would be lost|real numbers or booleans"):
            give(made)
    np.testing.assert_array_equal(t.data, V)
    assert t.grad is None


def test_a_torch_tensor_with_a_gradient_is_no_leaf():
    torch = pytest.importorskip("torch")
    for make in (ag.tensor, ag.grad(np.sum)):
        with pytest.raises(TypeError, match=r"data\.detach\(\)\.numpy\(\)"):
            make(torch.tensor(V, requires_grad=True))
    np.testing.assert_array_equal(ag.tensor(torch.tensor(V)).data, V)


def test_transforms_take_the_numbers_of_pandas():
    pd = pytest.importorskip("pandas")
    for a in (pd.Series(V, index=[5, 6, 7]), pd.Index(V), pd.DataFrame([V]), pd.array(V)):
        g = ag.grad(lambda x: np.sum(x ** 2))(a)
        assert type(g) is np.ndarray
        np.testing.assert_array_equal(g, 2 * np.asarray(a, float))
    for make in (pd.Series, pd.Index, pd.DataFrame, pd.array, lambda t: pd.DataFrame({"column": t})):
        with pytest.raises(TypeError, match="lose"):
            make(ag.tensor(V, requires_grad=True))


def _sends(x):
    return x * 1.0


@pytest.mark.parametrize("made", [np.ma.array, np.matrix, lambda x: pytest.importorskip("pandas").Series(x),
                                  lambda x: pytest.importorskip("torch").tensor(x), lambda x: {"a": x}])
def test_formulas_and_rules_return_plain_arrays(made, new_op):
    def returns(x): return made(x)
    returns = new_op(returns)
    with pytest.raises(TypeError, match="formula returned .* should return an array"):
        returns(ag.tensor(V))
    sends = new_op(_sends)
    sends.gradient("x")(lambda g, y, x: made(g))
    with pytest.raises(TypeError, match="gradient rule returned .* not an array"):
        sends(ag.tensor(V, requires_grad=True)).sum().backward()


@pytest.mark.parametrize("dtype", [complex, object])
def test_rules_return_real_numbers(dtype, new_op):
    sends = new_op(_sends)
    sends.gradient("x")(lambda g, y, x: g.astype(dtype))
    with pytest.raises(TypeError, match="gradient rule returned (complex|object)"):
        sends(ag.tensor(V, requires_grad=True)).sum().backward()


class _Other:
    """Takes part in no NumPy function, and multiplies by itself."""

    __array_ufunc__ = None

    def __mul__(self, other): return "its own"
    __rmul__ = __mul__
    def __lt__(self, other): return "its own"
    __gt__ = __lt__


def test_who_wants_to_be_asked_first_is_asked():
    x = ag.tensor(V, requires_grad=True)
    assert x * _Other() == _Other() * x == "its own"
    assert (x < _Other()) == (x > _Other()) == "its own"
    for f in (operator.add, operator.matmul, operator.and_, operator.mod):
        for call in _both_orders(f):
            with pytest.raises(TypeError, match="unsupported operand"):
                call(x, _Other())
    with pytest.raises(TypeError, match="y is a .* _Other, which takes part in no NumPy function"):
        ag.multiply(x, _Other())


def test_pytest_approx():
    x = ag.tensor(V, requires_grad=True)
    for t in (x, x * 1.0, x.detach()):
        assert t == pytest.approx(V) and t == pytest.approx(np.array(V)) and t != pytest.approx([1.0, 2.0, 4.0])
        assert t[0] == pytest.approx(1.0 + 1e-9) and not t[0] == pytest.approx(1.1) and t[0] != pytest.approx(1.1)
    assert pytest.approx(V) == x.detach()
