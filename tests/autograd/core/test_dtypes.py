"""Dtypes of results are NumPy's, for every op and dtype; gradients arrive in the dtype of their input."""

import warnings

import numpy as np
import pytest

import autograd as ag
from autograd.core.registry import NUMPY_OVERRIDES
from tests.samples import SAMPLES
from tests.strategies import map_arrays, outputs

FUNCTIONS = {**ag.REGISTRY, **ag.FUNCTIONS}
TWINS = {}  # name -> the function of NumPy that it stands in for
for _function, _answer in NUMPY_OVERRIDES.items():
    _name = _function.__name__
    if _name in SAMPLES and FUNCTIONS[_name] is getattr(_answer, "op", _answer) and (
            _name not in TWINS or _function is getattr(np, _name, None)):
        TWINS[_name] = _function
del TWINS["empty_like"]  # which gives whatever is in memory
TWINS = {name: f for name, f in TWINS.items() if "fft" not in name}  # NumPy's have complex numbers, and no pairs
LATER = {"cumulative_sum", "cumulative_prod", "unstack", "matvec", "vecmat"}  # NumPy's since 2.1 and 2.2
OWN = [name for name in SAMPLES if name not in TWINS and name not in LATER and name != "empty_like"]
INTEGERS = ["int8", "int32", "int64", "uint8", "bool"]
FLOATS = ["float16", "float32", "float64", "longdouble"]
OTHER = {  # where ours is not NumPy's, and why
    ("dot", "float16"): "a Python number beside an array takes its dtype, as everywhere else",
    ("dot", "float32"): "a Python number beside an array takes its dtype, as everywhere else",
    ("power", "bool"): "x ** 1 is not np.power(x, 1), in NumPy either",
    ("lstsq", "float32"): "a rank is an integer of any size", ("lstsq", "float64"): "a rank is an integer of any size",
    **{("lstsq", dtype): "a rank is an integer of any size" for dtype in INTEGERS},
    ("cond", "bool"): "the inverse of a singular matrix is refused",
    **{(name, dtype): "a Python number beside an array takes its dtype, as everywhere else"
       for name in ("append", "polyval") for dtype in ("float16", "float32")},
    **{("copysign", dtype): "an integer is a double" for dtype in INTEGERS},
    **{(name, dtype): "parts from 0 to 1 are no integers" for name in ("quantile", "nanquantile")
       for dtype in INTEGERS},
    **{(name, "longdouble"): "double precision, unless a dtype is given" for name in ("cov", "corrcoef")},
    **{(name, dtype): "an angle of integers is a double" for name in ("deg2rad", "rad2deg")
       for dtype in ("int8", "uint8", "bool")},
}


def samples_of(name, dtype):
    """(arguments, settings) of each sample, with large numbers in them if the dtype is one of integers."""
    def cast(a):
        if a.dtype.kind != "f":
            return a
        if dtype not in INTEGERS:
            return a.astype(dtype)
        return np.asarray(np.abs(53 * a) % 127 if dtype == "uint8" else np.clip(53 * a, -127, 127)).astype(dtype)

    for sample in SAMPLES[name]:
        args, attrs = (sample[:-1], sample[-1]) if isinstance(sample[-1], dict) else (sample, {})
        yield args, map_arrays(cast, args), attrs


def results(function, args, attrs):
    """The arrays that a function gives, or None if it refuses."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return [np.asarray(y) for y in outputs(function(*args, **attrs))]
        except (TypeError, ValueError, ArithmeticError):
            return None


@pytest.mark.slow_but_every(15)
@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
@pytest.mark.parametrize("name", TWINS)
def test_results_are_numpys(name, dtype):
    for _, args, attrs in samples_of(name, dtype):
        expected = results(TWINS[name], args, attrs)
        if expected is None:
            continue
        found = results(FUNCTIONS[name], args, attrs)
        if (name, dtype) in OTHER:
            assert found is None or [y.shape for y in found] == [y.shape for y in expected]
            continue
        assert [(y.dtype, y.shape) for y in found] == [(y.dtype, y.shape) for y in expected]
        tolerance = {np.float16: 4e-3, np.float32: 2e-5}.get(expected[0].dtype.type, 1e-9)
        if name not in ("eigh", "svd", "qr", "partition", "argpartition"):  # which are one choice of several
            for y, z in zip(found, expected):
                np.testing.assert_allclose(y.astype(float), z.astype(float), rtol=tolerance, atol=tolerance)


# Integers in, integers out, as of NumPy's sums and products.
WHOLE = {"relu", "squared_relu", "clip", "linear", "einsum", "put", "put_along_axis", "concatenate", "getitem", "take",
         "scatter_add", "embedding", "top_k", "causal_conv", "last_written", "one_hot", "causal_mask", "truncate",
         "array", "difference", "reshape", "where", "fftshift", "ifftshift"}


@pytest.mark.slow_but_every(4)
@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", OWN)
def test_integers_are_real_numbers_to_functions_of_these(name, dtype):
    for given, args, attrs in samples_of(name, dtype):
        wide = iter([a.astype(float) if b.dtype.kind == "f" else a for a, b in zip(arrays(args), arrays(given))])
        expected = results(FUNCTIONS[name], map_arrays(lambda a, wide=wide: next(wide), args), attrs)
        if expected is None:
            continue
        found = results(FUNCTIONS[name], args, attrs)
        assert found is not None
        if name in WHOLE:
            assert all(y.dtype.kind in "iub" for y in found) or name in ("clip", "array", "where")  # of floats, too
        elif name not in ("swiglu", "binary_cross_entropy"):  # products, and 1 − y of what is no probability
            for y, z in zip(found, expected):
                assert y.dtype == z.dtype
                np.testing.assert_allclose(y, z, rtol=1e-10, atol=1e-12)


def arrays(tree):
    found = []
    map_arrays(lambda a: found.append(a) or a, tree)
    return found


def test_squares_and_differences_of_small_integers_do_not_overflow():
    x, y = np.array([1, 200], np.uint8), np.array([3, 100], np.uint8)
    assert ag.mse(x, y) == (4 + 100 ** 2) / 2
    assert ag.mse(x > 100, y > 50) == 0
    np.testing.assert_allclose(ag.sigmoid(x), 1 / (1 + np.exp(-x.astype(float))))
    np.testing.assert_allclose(ag.rotary(np.array([[3, 4]]), np.array([[1]])),
                               [[3 * np.cos(1) - 4 * np.sin(1), 3 * np.sin(1) + 4 * np.cos(1)]])
    np.testing.assert_allclose(np.linalg.cholesky(ag.tensor([[100, 100], [100, 120]], np.uint8)).data,
                               np.linalg.cholesky([[100.0, 100.0], [100.0, 120.0]]))


# ---------------------------------------------------------------------- gradients


@pytest.fixture(params=["numpy", "numba"])
def kernels(request):
    pytest.importorskip(request.param)
    ag.kernels.use(request.param)
    yield
    ag.kernels.use("numpy")


DIFFERENTIABLE = [name for name in SAMPLES if name not in ag.REGISTRY or ag.REGISTRY[name].differentiable]


@pytest.mark.slow_but_every(15)
@pytest.mark.parametrize("dtypes", [("float16",), ("longdouble",), ("float32", "float64"), ("float64", "float32")],
                         ids=" ".join)
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_arrive_in_the_dtype_of_their_input(name, dtypes, kernels):
    for sample in SAMPLES[name]:
        args, attrs = (sample[:-1], sample[-1]) if isinstance(sample[-1], dict) else (sample, {})
        leaves = []

        def leaf(a):
            if a.dtype.kind != "f":
                return a
            leaves.append(ag.tensor(a, dtypes[len(leaves) % len(dtypes)], requires_grad=True))  # noqa: B023
            return leaves[-1]  # noqa: B023

        tensors = map_arrays(leaf, args)
        with np.errstate(all="ignore"):
            try:
                ys = [y for y in outputs(FUNCTIONS[name](*tensors, **attrs)) if y.requires_grad]
            except TypeError as error:
                assert "unsupported in linalg" in str(error)
                continue
            for create_graph in (False, True):
                for y in ys:
                    y.backward(np.ones(y.shape), create_graph=create_graph)
                    for t in leaves:
                        assert t.grad is None or t.grad.dtype == t.dtype and t.grad.shape == t.shape
                        t.grad = None


def _run(name, args, attrs, dtype, narrow):
    """Results, and gradients of all floating-point arrays, where the one with the number `narrow` is of that dtype."""
    leaves = []

    def leaf(a):
        if a.dtype.kind != "f":
            return a
        a = a.astype(np.float16) if len(leaves) == narrow else a
        leaves.append(ag.tensor(a.astype(dtype) if len(leaves) == narrow else a, requires_grad=True))
        return leaves[-1]

    y = [y for y in outputs(FUNCTIONS[name](*map_arrays(leaf, args), **attrs)) if isinstance(y, ag.Tensor)]
    for each in y:
        if each.requires_grad:
            each.backward(np.cos(np.arange(each.size)).reshape(each.shape).astype(each.dtype), keep=True)
    return [each.data for each in y], [t.grad for t in leaves]


def _n_floats(args):
    found = []
    map_arrays(lambda a: found.append(a) if a.dtype.kind == "f" else None, args)
    return len(found)


@pytest.mark.slow_but_every(9)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("name", SAMPLES)
def test_a_narrow_input_leaves_the_others_gradients_exact(name, dtype):
    """The gradients of the others are as exact as with no narrow input, if the result is."""
    for args, _, attrs in samples_of(name, "float64"):
        for i in range(_n_floats(args) if _n_floats(args) > 1 else 0):
            with np.errstate(all="ignore"):
                try:
                    y, found = _run(name, args, attrs, dtype, i)
                except TypeError as error:  # matrices in half precision
                    assert "float16" in str(error)
                    continue
                expected, exact = _run(name, args, attrs, "float64", i)
            if any(a.dtype != b.dtype or not np.allclose(a, b, 1e-13, 1e-13, equal_nan=True)
                   for a, b in zip(y, expected)):
                continue
            for j, (a, b) in enumerate(zip(found, exact)):
                if j != i and a is not None:
                    np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


def test_small_integers_do_not_set_the_precision_of_an_exponents_gradient():
    slope = ag.grad(lambda y: np.power(np.array([3], np.int8), y).sum())(np.array([2.0]))
    np.testing.assert_allclose(slope, 9 * np.log(3), rtol=1e-15)
    bent = ag.grad(ag.grad(lambda x: (np.array(3, np.int8) ** x).sum()))(2.0)
    np.testing.assert_allclose(bent, 9 * np.log(3) ** 2, rtol=1e-15)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("function", [
    lambda t: np.average(t, weights=np.array([1.0, 2.0])), lambda t: np.average(t, weights=[1, 2]),
    lambda t: np.average(t, weights=np.array([1, 2], np.int16), returned=True)[1],
    lambda t: np.gradient(t, np.float64(2)), lambda t: np.gradient(t, np.array([0, 1])),
    lambda t: np.copysign(np.array([1], np.int8), t), lambda t: np.linspace(t, np.array([5, 5], np.int8), 3),
    lambda t: np.linspace(np.array([5, 5], np.int8), t, 3), lambda t: np.heaviside(np.array([0, 1], np.int8), t),
    lambda t: np.heaviside(t, 0.5), lambda t: np.heaviside(0, t), lambda t: np.heaviside(t, np.array([1.0, 2.0]))])
def test_dtypes_of_several_inputs_are_numpys(function, dtype):
    x = np.array([0, 2], dtype)
    expected, found = function(x), function(ag.tensor(x))
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found.data, expected)
