"""The options of NumPy's reductions and Fourier transforms, each with each: numbers, shapes, dtypes and refusals."""

import functools
import itertools

import numpy as np
import pytest

import autograd as ag

rng = np.random.default_rng(0)
DTYPES = (np.float64, np.float32, np.float16, np.int64, bool)
SHAPES = ((3,), (2, 3), (0, 3))
REDUCTIONS = {"sum": {}, "prod": {}, "mean": {}, "max": {}, "min": {}, "any": {}, "all": {}, "cumsum": {},
              "cumprod": {}, "var": {"ddof": 0.5}, "std": {"ddof": 0.5}, "nansum": {}, "nanprod": {}, "nanmean": {},
              "nanmax": {}, "nanmin": {}, "nanvar": {"ddof": 0.5}, "nanstd": {}}


def options(shape):
    """Keyword arguments of reductions, each value of one with each of the others, None where it is left out."""
    masks = [None, True, False, rng.random(shape) < 0.5, rng.random(shape[-1:]) < 0.5]
    for axis, where, initial, keepdims, dtype in itertools.product(
            (None, -1, (0, 1)), masks, (None, 2.5), (None, True), (None, np.float32)):
        given = {"axis": axis, "where": where, "initial": initial, "keepdims": keepdims, "dtype": dtype}
        yield {name: value for name, value in given.items() if value is not None}


def outcome(function, *args, **kwargs):
    """The result, or the exception that came in its place."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return error


def assert_like_numpy(got, expected):
    assert got.shape == np.shape(expected) and got.dtype == expected.dtype
    unit = {np.float16: 1e-3, np.float32: 1e-5}.get(got.dtype.type, 1e-12)
    np.testing.assert_allclose(got.data, expected, rtol=unit, atol=unit)


@pytest.mark.slow_but_every(7)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name, dtype):
    function, n = getattr(np, name), 0
    for shape in SHAPES:
        x = (3 * rng.normal(size=shape)).astype(dtype)
        if name.startswith("nan") and x.dtype.kind == "f" and x.size:
            x[..., :1] = np.nan
        for given in options(shape):
            given |= REDUCTIONS[name]
            t = ag.tensor(x, requires_grad=x.dtype.kind == "f")
            expected, got = outcome(function, x, **given), outcome(function, t, **given)
            assert isinstance(got, Exception) == isinstance(expected, Exception), (shape, given, expected, got)
            if isinstance(expected, Exception):
                continue
            n += 1
            low = x.dtype == np.float16 or np.float32 in (x.dtype, given.get("dtype"))
            unit = 4e-3 if np.float16 in (x.dtype, got.dtype) else 1e-5 if low else 1e-12
            assert got.shape == np.shape(expected) and got.dtype == expected.dtype, (shape, given)
            np.testing.assert_allclose(got.data, expected, rtol=unit, atol=unit, err_msg=str((shape, given)))
            if got.requires_grad:
                got.sum().backward()
                assert t.grad.shape == x.shape and t.grad.dtype == x.dtype
    assert n > 10


@pytest.mark.slow_but_every(5)
@pytest.mark.parametrize("where, initial", [(None, None), (True, 2.5), ([True, False, True], 0.7),
                                            ([[True, False, True], [False, False, False]], -0.3)])
@pytest.mark.parametrize("name", [name for name in REDUCTIONS if name not in ("any", "all")])
def test_gradients_of_reductions(name, where, initial):
    given = {} if where is None else {"where": np.array(where)}
    if "cum" in name or name in ("nanvar", "nanstd", "var", "std") and where is not None and not np.all(where):
        given = {}
    if initial is not None and not any(word in name for word in ("cum", "mean", "var", "std")):
        given["initial"] = initial
    if where is not None and name in ("max", "min", "nanmax", "nanmin"):
        given["initial"] = initial
    if "mean" in name and where is not None and not np.all(np.any(where, axis=-1)):
        given = {}
    x = np.array([[0.4, -1.3, 0.9], [1.7, 0.2, -0.6]])
    for axis in (None, 0, 1):
        if axis == 0 and "mean" in name and given:
            continue
        ag.check_grads(functools.partial(getattr(np, name), axis=axis, **given), x)


# ---------------------------------------------------------------------- Fourier transforms

LINES = [((5,), -1), ((6,), 0), ((3, 4), 0), ((3, 4), -1), ((1,), 0), ((2,), 0), ((2, 3, 5), 1)]
NORMS = (None, "ortho", "forward", "backward")


def assert_pair(got, expected):
    parts = got if isinstance(got, tuple) else (got,)
    wanted = (np.real(expected), np.imag(expected)) if np.iscomplexobj(expected) else (expected,)
    for a, b in zip(parts, wanted, strict=True):
        assert_like_numpy(a, b)


def assert_adjoint(f, *xs):
    """Transforms are linear, f(x) = A x: their VJP is right if ⟨g, A x⟩ = ⟨Aᵀ g, x⟩ for random g and x, and its own VJP
    if that gives A x again.  This takes three passes, where finite differences take two for each number."""
    y, pullback = ag.vjp(f, *xs)
    single = not isinstance(y, tuple)
    g = tuple(rng.normal(size=np.shape(a)) for a in ((y,) if single else y))

    def transposed(*g):
        return ag.vjp(f, *xs)[1](g[0] if single else g)

    sent, again = ag.vjp(transposed, *g)
    np.testing.assert_allclose(sum(np.vdot(a, x) for a, x in zip(sent, xs)),
                               sum(np.vdot(a, b) for a, b in zip(g, (y,) if single else y)), rtol=1e-9, atol=1e-11)
    for a, b in zip(again(xs), (y,) if single else y, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.slow_but_every(111)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n", [None, 1, 2, 3, 6, 7])
@pytest.mark.parametrize("shape, axis", LINES)
def test_fourier_transforms_along_one_axis(shape, axis, n, norm):
    given = {"n": n, "axis": axis, "norm": norm}
    for dtype in (np.float64, np.float32):
        x, y = rng.normal(size=(2, *shape)).astype(dtype)
        t, u, z = ag.tensor(x), ag.tensor(y), x + 1j * y
        assert_pair(ag.fft(t, **given), np.fft.fft(x, **given))
        assert_pair(ag.fft((t, u), **given), np.fft.fft(z, **given))
        assert_pair(ag.ifft(t, **given), np.fft.ifft(x, **given))
        assert_pair(ag.ifft((t, u), **given), np.fft.ifft(z, **given))
        assert_pair(ag.rfft(t, **given), np.fft.rfft(x, **given))
        if n or shape[axis] > 1:
            assert_pair(ag.irfft((t, u), **given), np.fft.irfft(z, **given))
            assert_pair(np.fft.irfft(t, **given), np.fft.irfft(x, **given))
    x, y = rng.normal(size=(2, *shape))
    assert_adjoint(lambda a, b: ag.fft((a, b), **given), x, y)
    assert_adjoint(lambda a, b: ag.ifft((a, b), **given), x, y)
    assert_adjoint(lambda a: ag.rfft(a, **given), x)
    if n or shape[axis] > 1:
        assert_adjoint(lambda a, b: ag.irfft((a, b), **given), x, y)


@pytest.mark.slow_but_every(40)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # NumPy's, of s without axes
@pytest.mark.parametrize("s, axes", [(None, None), ((3, 4), None), ((3, 4), (0, 1)), (None, (-2, -1)),
                                     ((-1, 3), (0, 1)), ((2,), (0,)), (None, (1, 0))])
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4)])
def test_fourier_transforms_along_several_axes(shape, s, axes):
    x, y = rng.normal(size=(2, *shape))
    for name in ("fftn", "ifftn", "rfftn", "irfftn"):
        ours, theirs = getattr(ag, name), getattr(np.fft, name)
        assert_pair(ours(ag.tensor(x), s=s, axes=axes), theirs(x, s=s, axes=axes))
        if name != "rfftn":
            assert_pair(ours((ag.tensor(x), ag.tensor(y)), s=s, axes=axes), theirs(x + 1j * y, s=s, axes=axes))
    assert_adjoint(lambda a: ag.rfftn(a, s=s, axes=axes), x)
    assert_adjoint(lambda a, b: ag.irfftn((a, b), s=s, axes=axes), x, y)


@pytest.mark.slow_but_every(4)
@pytest.mark.parametrize("norm", NORMS)
def test_gradients_of_fourier_transforms_are_finite_differences(norm):
    x, y = rng.normal(size=(2, 3, 4))
    ag.check_grads(lambda a, b: ag.ifft(ag.fft((a, b), n=5, axis=0, norm=norm), norm=norm), x, y)
    ag.check_grads(lambda a: ag.irfft(ag.rfft(a, n=7, norm=norm), n=3, norm=norm), x)
    ag.check_grads(lambda a: ag.irfftn(ag.rfftn(a, norm=norm), s=(2, 5), norm=norm), x)


# ---------------------------------------------------------------------- ag.array

NESTED = [lambda t: [t, 2 * t], lambda t: [[t[0], 1.0], [2, t[1]]], lambda t: (t, [1, 2], np.array([3.0, 4.0])),
          lambda t: [[t], [t * 2]], lambda t: t[0], lambda t: [[[t[0]]], [[t[1]]]], lambda t: [t, t.sum() * t]]


@pytest.mark.parametrize("nested", NESTED)
def test_array_is_numpys(nested):
    x = np.array([1.0, 2.0])
    assert_like_numpy(ag.array(nested(ag.tensor(x, requires_grad=True))), np.array(nested(x)))
    assert_like_numpy(ag.array(nested(ag.tensor(x)), dtype=np.float32), np.array(nested(x), dtype=np.float32))
    ag.check_grads(lambda t: ag.array(nested(t)), x)


@pytest.mark.parametrize("nested", [lambda t: [t, 1.0], lambda t: [[t], [t, t]], lambda t: [[t[0]], t[1]]])
def test_array_refuses_what_is_ragged(nested):
    x = np.array([1.0, 2.0])
    for ours, given in ((np.array, x), (ag.array, ag.tensor(x, requires_grad=True))):
        with pytest.raises(ValueError):
            ours(nested(given))
