"""The compiled kernels against formulas and rules on odd inputs, in programs and threads, and where Numba fails."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import autograd as ag
from autograd import kernels
from tests.replaying import poisoned

nb = pytest.importorskip("numba")

from autograd.kernels import numba as compiled  # noqa: E402
from autograd.kernels.numba import compiling, loops  # noqa: E402

SINGLE, DOUBLE = np.float32, np.float64
DENSE = [name for name in compiled.PAIRS if name != "linear"]  # which is of packed weights: see test_packed.py
LOOPS = ("loops", "layer_loops", "optimizer_loops", "packed_loops")
ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def with_numba():
    kernels.use("numba")
    yield
    kernels.use("numpy")


def normal(*shape, dtype=SINGLE, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def integers(high, *shape):
    return np.random.default_rng(1).integers(high, size=shape)


def heads(batch, n, t, d, dtype=SINGLE):
    """Queries, keys and values as a model has them: heads side by side in memory."""
    x = normal(batch, t, 3 * n * d, dtype=dtype)
    return [part.reshape(batch, t, n, d).swapaxes(1, 2) for part in np.split(x, 3, axis=-1)]


def differentiated(name, args, attrs):
    """Value and gradients of an op, and the pair that made them (None: the formula)."""
    inputs = [ag.tensor(a, requires_grad=True) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a
              for a in args]
    y = ag.REGISTRY[name](*inputs, **attrs)
    pair = y.saved[1][0] if y.saved is not None else None
    value = np.array(y.data)
    y.backward(normal(*y.shape, dtype=y.dtype, seed=2))
    return value, [t.grad for t in inputs if isinstance(t, ag.Tensor)], pair


def compare(monkeypatch, name, *args, pair=True, size=1.0, same=np.asarray, **attrs):
    """Check an op on these arguments; `pair`: whether the compiled pair takes them; `size`: how large the numbers are
    of which small differences are taken; `same`: what of the results is to be the same."""
    with np.errstate(all="ignore"), monkeypatch.context() as patch:
        value, grads, used = differentiated(name, args, attrs)
        patch.setattr(ag.REGISTRY[name], "kernels", {})
        expected, wanted, _ = differentiated(name, args, attrs)
    assert (used is compiled.PAIRS[name]) == pair
    for ours, theirs in zip([value, *grads], [expected, *wanted]):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        rtol, atol = (2e-5, 2e-6) if theirs.dtype == SINGLE else (2e-12, 2e-14)
        finite = np.abs(theirs[np.isfinite(theirs)])
        np.testing.assert_allclose(same(ours), same(theirs), rtol=rtol, atol=atol * max(size, finite.max(initial=0)))


# ---------------------------------------------------------------------- mathematics


def each(function):
    """A function of a number, applied to each element."""
    @nb.njit
    def apply(x, y):
        for i in range(x.size):
            y[i] = function(x[i])
    return lambda x: (y := np.empty_like(x), apply(x, y))[0]


@pytest.mark.parametrize(("dtype", "least", "error"), [(SINGLE, -87, 1.5e-7), (DOUBLE, -707, 4e-16)])
def test_exp(dtype, least, error):
    exp = each(loops.exp)
    x = np.linspace(least, 0, 100_001).astype(dtype)
    np.testing.assert_allclose(exp(x).astype(np.longdouble), np.exp(x.astype(np.longdouble)), rtol=error)
    edges = np.array([0, -0.0, 10 * least, np.finfo(dtype).min, -np.inf, np.nan], dtype)
    np.testing.assert_array_equal(exp(edges), [1, 1, 0, 0, 0, np.nan])


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
def test_largest(dtype):
    largest = nb.njit(lambda x: loops.largest(loops.bits(x)))
    tiny = np.finfo(dtype).smallest_subnormal
    for numbers in ([3, -4], [-4, -3], [-1e30, 1e-30], [-tiny, -2 * tiny], [-np.inf, -1], [np.inf, 1], [-np.inf] * 2,
                    [0, tiny], np.sort(normal(100, dtype=dtype)), -np.abs(normal(100, dtype=dtype))):
        assert largest(np.array(numbers, dtype)) == np.max(np.array(numbers, dtype))


# ---------------------------------------------------------------------- against the formula


@pytest.mark.parametrize("shape", [(), (1,), (17,), (3, 1, 5), (1000,)])
@pytest.mark.parametrize("size", [1e-30, 1e-3, 1, 3, 30, 1e30])
def test_gelu(shape, size, monkeypatch):
    compare(monkeypatch, "gelu", np.asarray(normal(*shape) * SINGLE(size)))


def test_gelu_everywhere():
    x = np.linspace(-8, 8, 100_001).astype(SINGLE)
    y, (d,), _ = differentiated("gelu", [x], {})
    kernels.use("numpy")
    wanted, (slope,), _ = differentiated("gelu", [x.astype(DOUBLE)], {})
    np.testing.assert_allclose(y, wanted, rtol=4e-7, atol=1e-7)
    assert np.abs(d - slope * normal(x.size, seed=2) / normal(x.size, dtype=DOUBLE, seed=2)).max() < 2e-6


def test_gelu_in_double_precision_and_by_tanh_is_numpys(monkeypatch):
    compare(monkeypatch, "gelu", normal(3, 4, dtype=DOUBLE), pair=False)
    compare(monkeypatch, "gelu", normal(3, 4), pair=False, approximate="tanh")


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (5,), (3, 17), (2, 3, 64), (7, 385)])
@pytest.mark.parametrize("size", [1e-15, 1, 1e15])
def test_layer_norm(shape, size, dtype, monkeypatch):
    x, weight, bias = normal(*shape, dtype=dtype) * dtype(size), normal(shape[-1], dtype=dtype), normal(
        shape[-1], dtype=dtype, seed=3)
    compare(monkeypatch, "layer_norm", x, weight, bias)
    compare(monkeypatch, "layer_norm", x, None, bias)
    compare(monkeypatch, "layer_norm", x, weight, None, eps=0.1)


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (5,), (3, 17), (2, 3, 64), (7, 385)])
@pytest.mark.parametrize("size", [1e-15, 1, 1e15])
def test_rms_norm(shape, size, dtype, monkeypatch):
    x, weight = normal(*shape, dtype=dtype) * dtype(size), normal(shape[-1], dtype=dtype)
    compare(monkeypatch, "rms_norm", x, weight)
    compare(monkeypatch, "rms_norm", x, None)
    compare(monkeypatch, "rms_norm", x, weight, eps=0.1)


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize(("t", "d"), [(1, 2), (5, 6), (64, 32), (33, 34)])
def test_rotary(t, d, lead, dtype, monkeypatch):
    compare(monkeypatch, "rotary", normal(*lead, t, d, dtype=dtype), normal(t, d // 2, dtype=dtype))


VIEWS = {"rows": lambda a: np.broadcast_to(a[0, 0, 0], a.shape),
         "elements": lambda a: np.broadcast_to(a[..., :1], a.shape),
         "back": lambda a: a[:, :, ::-1], "last back": lambda a: a[..., ::-1], "swapped": lambda a: a.swapaxes(0, 1),
         "heads": lambda a: a.swapaxes(1, 2), "transposed": lambda a: a.T, "part": lambda a: a[:, :1, 1:],
         "five axes": lambda a: a.swapaxes(0, 1)[:, :, None], "matrix": lambda a: a[0, :, 1],
         "overlapping": lambda a: np.lib.stride_tricks.as_strided(a, a.shape, (8, 4, 4, 4))}


@pytest.mark.parametrize("name", ["rms_norm", "rotary", "squared_relu", "causal_conv"])
@pytest.mark.parametrize("view", VIEWS)
def test_views_of_any_kind(name, view):
    """Arrays that no tape has copied; they are read, and written beside, where they lie."""
    x = VIEWS[view](normal(4, 4, 4, 4))
    other = {"rms_norm": [normal(4)], "rotary": [normal(x.shape[-2], 2)], "causal_conv": [normal(2, 4)]}.get(name, [])
    expected = ag.REGISTRY[name].formula(x, *other)
    np.testing.assert_allclose(ag.REGISTRY[name](x, *other), expected, rtol=2e-5, atol=2e-6)


def test_rotary_of_angles_in_another_precision():
    """Cosines are those of the angles as they are; y and the gradients have each their own precision."""
    for kinds in ((SINGLE, DOUBLE), (DOUBLE, SINGLE)):
        x, angles = normal(5, 6, dtype=kinds[0]), 50 * normal(5, 3, dtype=kinds[1])
        made, grads, pair = differentiated("rotary", [x, angles], {})
        exact, wanted, _ = differentiated("rotary", [x.astype(DOUBLE), angles.astype(DOUBLE)], {})
        assert pair is compiled.PAIRS["rotary"] and made.dtype == kinds[0]
        assert [g.dtype for g in grads] == list(kinds)
        for ours, theirs in zip([made, *grads], [exact, *wanted]):
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=5e-6)


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("shape", [(), (1,), (17,), (3, 1, 5), (1000,)])
@pytest.mark.parametrize("size", [1e-15, 1, 1e15])
def test_squared_relu(shape, size, dtype, monkeypatch):
    compare(monkeypatch, "squared_relu", np.asarray(normal(*shape, dtype=dtype) * dtype(size)))


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("lead", [(), (3,), (2, 1, 3)])
@pytest.mark.parametrize(("t", "n_channels", "n_taps"), [(1, 1, 1), (1, 3, 2), (5, 17, 3), (2, 33, 5), (64, 64, 4)])
def test_causal_conv(t, n_channels, n_taps, lead, dtype, monkeypatch):
    compare(monkeypatch, "causal_conv", normal(*lead, t, n_channels, dtype=dtype),
            normal(n_taps, n_channels, dtype=dtype))


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("at_once", [1, 70 * 70, 2 * 70 * 70, 5 * 70 * 70, 1 << 30])
def test_attention_of_heads_that_share_keys(at_once, causal, dtype, monkeypatch):
    monkeypatch.setattr(compiled.attention, "SCORES", at_once)
    q, (k, v, _) = heads(2, 6, 70, 5, dtype)[0], heads(2, 3, 70, 5, dtype)
    compare(monkeypatch, "attention", q, k, v, causal=causal)
    compare(monkeypatch, "attention", q[0], k[0, :1], v[0, :1], causal=causal)


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
@pytest.mark.parametrize(("t", "s", "d", "e"), [(1, 1, 1, 1), (5, 7, 3, 2), (64, 64, 8, 8), (65, 65, 4, 4),
                                                (63, 200, 5, 3), (130, 131, 2, 6)])
def test_attention(t, s, d, e, lead, causal, dtype, monkeypatch):
    q, k, v = normal(*lead, t, d, dtype=dtype), normal(*lead, s, d, dtype=dtype, seed=3), normal(*lead, s, e,
                                                                                                 dtype=dtype)
    compare(monkeypatch, "attention", q, k, v, causal=causal)
    compare(monkeypatch, "attention", q, k, v, causal=causal, scale=0.3)


@pytest.mark.parametrize("scale", [0.0, -0.5])
def test_attention_of_no_positive_scale_is_numpys(scale, monkeypatch):
    compare(monkeypatch, "attention", *heads(2, 2, 5, 3), causal=True, scale=scale, pair=False)


@pytest.mark.parametrize("at_once", [1, 70 * 70, 2 * 70 * 70, 5 * 70 * 70, 1 << 30])
def test_attention_in_parts(at_once, monkeypatch):
    monkeypatch.setattr(compiled.attention, "SCORES", at_once)
    compare(monkeypatch, "attention", *heads(3, 4, 70, 5), causal=True)


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
def test_attention_of_large_scores(dtype, monkeypatch):
    one, v = np.eye(20, dtype=dtype), normal(20, 3, dtype=dtype)
    for size in (1e-30, 1e3, 1e15):  # apart enough that rounding of the scores does not show
        compare(monkeypatch, "attention", dtype(size) * one, one[::-1].copy(), v, size=size)
        compare(monkeypatch, "attention", dtype(-size) * one, dtype(size) * one, v, size=size, causal=True)


def test_attention_of_scores_below_every_number(monkeypatch):
    q, k = np.full((3, 2), 1e30, SINGLE), np.full((3, 2), -1e30, SINGLE)
    with np.errstate(over="ignore"):
        value, _, pair = differentiated("attention", [q, k, normal(3, 2)], {})
    assert pair is compiled.attention.Attention
    np.testing.assert_array_equal(value, 0)  # it sees no key


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("n_classes", [1, 2, 65, 1000])
@pytest.mark.parametrize("size", [1e-20, 1, 1e4])
def test_cross_entropy(n_classes, size, dtype, monkeypatch):
    logits, targets = normal(3, 5, n_classes, dtype=dtype) * dtype(size), integers(n_classes, 3, 5)
    targets[1, 2:] = -100
    compare(monkeypatch, "cross_entropy", logits, targets)
    compare(monkeypatch, "cross_entropy", logits, targets, reduction="sum")
    targets[1, 2:] = 0
    compare(monkeypatch, "cross_entropy", logits, targets, ignore_index=0)


def test_cross_entropy_of_nothing(monkeypatch):
    compare(monkeypatch, "cross_entropy", normal(2, 3), np.array([-100, -100]))


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize(("shape", "width"), [((), 3), ((1,), 1), ((4, 33), 17), ((0, 2), 3)])
def test_embedding(shape, width, dtype, monkeypatch):
    compare(monkeypatch, "embedding", np.asarray(integers(5, *shape)), normal(7, width, dtype=dtype))


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_shows_where_the_formula_shows_it(wrong, dtype, monkeypatch):
    x = normal(4, 20, dtype=dtype)
    x[1, 3] = wrong
    if dtype == SINGLE:
        compare(monkeypatch, "gelu", x)
    compare(monkeypatch, "layer_norm", x, normal(20, dtype=dtype), normal(20, dtype=dtype))
    compare(monkeypatch, "layer_norm", normal(4, 20, dtype=dtype), x[1].copy(), None)
    for targets in (np.array([0, 1, 2, 3]), np.array([0, 3, 2, 3]), np.array([0, -100, 2, 3])):
        compare(monkeypatch, "cross_entropy", x, targets)
    compare(monkeypatch, "embedding", np.array([1, 0, 1]), x)
    compare(monkeypatch, "rms_norm", x, normal(20, dtype=dtype))
    compare(monkeypatch, "rms_norm", normal(4, 20, dtype=dtype), x[1].copy())
    compare(monkeypatch, "squared_relu", x)
    compare(monkeypatch, "causal_conv", x, normal(3, 20, dtype=dtype))
    compare(monkeypatch, "causal_conv", normal(6, 20, dtype=dtype), x)
    for i in range(3):
        given = [normal(4, 20, dtype=dtype, seed=j) for j in range(3)]
        given[i][0, 3] = wrong
        # An infinity times 0 or times what rounding has made of it is NaN here and infinite there.
        compare(monkeypatch, "attention", *given, same=lambda a: np.where(np.isfinite(a), a, np.nan))


def test_minus_infinity_as_a_logit(monkeypatch):
    logits = normal(3, 4)
    logits[:, 2] = -np.inf
    compare(monkeypatch, "cross_entropy", logits, np.array([0, 1, 3]))


@pytest.mark.parametrize(("name", "args"), [
    ("gelu", [normal(4, 3).T]), ("gelu", [normal(0, 3)]), ("gelu", [normal(3).astype(np.float16)]),
    ("layer_norm", [normal(4, 3).T, normal(4), None]), ("layer_norm", [normal(0, 3), normal(3), None]),
    ("layer_norm", [normal(2, 3), normal(3, dtype=DOUBLE), None]),
    ("attention", [normal(0, 2), normal(2, 2), normal(2, 2)]), ("attention", [normal(2, 2)] * 3 + [normal(2, 2)]),
    ("attention", [normal(4, 2, 2), normal(3, 2), normal(3, 2)]),
    ("attention", [normal(4, 2, 2), normal(2, 3, 2), normal(4, 3, 2)]),
    ("rms_norm", [normal(4, 3).T, None]), ("rms_norm", [normal(0, 3), normal(3)]),
    ("rms_norm", [normal(2, 3), normal(3, dtype=DOUBLE)]), ("rotary", [normal(0, 2), normal(0, 1)]),
    ("rotary", [normal(4, 2).T, normal(2, 2)]), ("squared_relu", [normal(4, 3).T]), ("squared_relu", [normal(0, 3)]),
    ("causal_conv", [normal(4, 3).T, normal(2, 4)]), ("causal_conv", [normal(2, 3), normal(3, 2).T]),
    ("causal_conv", [normal(0, 3), normal(2, 3)]), ("rms_norm", [normal(2, 3).astype(np.float16), None]),
    ("cross_entropy", [normal(3, 2).T, integers(3, 2)]), ("embedding", [integers(3, 2), normal(4, 3).T])])
def test_what_the_loops_do_not_take_is_numpys_or_the_formulas(name, args, monkeypatch):
    tolerance = args[0].dtype == np.float16
    if tolerance:
        assert differentiated(name, args, {})[2] is not compiled.PAIRS[name]
    else:
        compare(monkeypatch, name, *args, pair=False)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.int64, np.uint64, ">i4"])
def test_integers_of_any_kind(dtype, monkeypatch):
    ids = integers(3, 4, 5).astype(dtype)
    for given in (ids, ids.T, ids[:, ::2], ids[1, 2:3].reshape(())):
        compare(monkeypatch, "embedding", given, normal(3, 2))
        compare(monkeypatch, "cross_entropy", normal(*given.shape, 3), given)


def test_arrays_that_cannot_be_written():
    x, ids = normal(3, 4), integers(3, 5)
    for a in (x, ids):
        a.flags.writeable = False
    np.testing.assert_array_equal(ag.gelu(x), ag.gelu(x.copy()))
    np.testing.assert_array_equal(ag.embedding(ids, x), x[ids])
    np.testing.assert_array_equal(ag.attention(x, x, x), ag.attention(*[x.copy()] * 3))


@pytest.mark.parametrize("name", DENSE)
def test_gradients_that_are_broadcast(name, monkeypatch):
    """The gradient that `sum` sends is one number, broadcast and read-only."""
    args = ARGUMENTS[name]
    grads = []
    for how in ("numba", "program", "formula"):
        if how == "formula":
            monkeypatch.setattr(ag.REGISTRY[name], "kernels", {})
        inputs = [ag.tensor(a.copy(), requires_grad=True) if a.dtype.kind == "f" else a for a in args]
        result = ag.REGISTRY[name](*inputs).sum() if how != "program" else ag.record(
            lambda inputs=inputs: ag.REGISTRY[name](*inputs).sum())
        if how == "program":
            result()
        result.backward()
        grads.append([t.grad for t in inputs if isinstance(t, ag.Tensor)])
    for dynamic, recorded, theirs in zip(*grads):
        np.testing.assert_array_equal(recorded, dynamic)
        np.testing.assert_allclose(dynamic, theirs, rtol=2e-5, atol=2e-5)


ARGUMENTS = {"gelu": [normal(6, 5)], "layer_norm": [normal(6, 5), normal(5, seed=1), normal(5, seed=2)],
             "attention": heads(2, 3, 70, 4), "cross_entropy": [normal(6, 5), integers(5, 6)],
             "embedding": [integers(5, 6), normal(5, 4)], "rms_norm": [normal(6, 5), normal(5, seed=1)],
             "rotary": [heads(2, 3, 7, 4)[0], normal(7, 2, seed=1)], "squared_relu": [normal(6, 5)],
             "causal_conv": [normal(2, 6, 5), normal(3, 5, seed=1)]}


def test_bad_numbers_of_classes_and_rows():
    for target in (3, -1):
        with pytest.raises(IndexError, match=f"target {target} is no class"):
            ag.cross_entropy(normal(2, 3), np.array([0, target]))
    for row in (3, -1):
        with pytest.raises(IndexError, match=f"no row {row}: rows count from 0 to 2"):
            ag.embedding(np.array([0, row]), normal(3, 2))


# ---------------------------------------------------------------------- programs, threads, switching


@pytest.mark.parametrize("name", DENSE)
def test_a_program_gives_the_same_bits(name):
    parameters = [ag.tensor(a.copy(), requires_grad=True) for a in ARGUMENTS[name] if a.dtype.kind == "f"]

    def function(ids, weight):
        given = iter(parameters)
        args = [next(given) if a.dtype.kind == "f" else ids for a in ARGUMENTS[name]]
        y = ag.REGISTRY[name](*args, **({"causal": True} if name == "attention" else {}))
        return (y * weight).sum()

    ids = next((a for a in ARGUMENTS[name] if a.dtype.kind == "i"), np.arange(2))
    weight = normal(4 if name in ("attention", "embedding") else 1)
    ids = ids.astype(np.int16)  # which the program copies
    program = poisoned(ag.record(function, ids, weight))
    for seed in (5, 6):
        for t in parameters:
            t.data = normal(*t.shape, seed=seed)
            t.grad = None
        weight = normal(*weight.shape, seed=seed + 2)
        expected = function(ids, weight)
        expected.backward()
        wanted = [t.grad.copy() for t in parameters]
        assert program(ids, weight) == expected.data
        program.backward()
        for t, grad in zip(parameters, wanted):
            np.testing.assert_array_equal(t.grad, grad)


def test_a_program_checks_what_it_is_given():
    table = ag.tensor(normal(3, 2), requires_grad=True)
    program = ag.record(lambda ids: ag.cross_entropy(ag.embedding(ids, table), ids).sum(), np.array([0, 1]))
    with pytest.raises(IndexError, match="no row 3"):
        program(np.array([0, 3]))
    with pytest.raises(IndexError, match="target 2 is no class"):
        program(np.array([0, 2]))


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize(("first", "then"), [("numba", "numpy"), ("numpy", "numba")])
def test_a_record_goes_back_by_the_kernel_that_made_it(name, first, then):
    kernels.use(first)
    inputs = [ag.tensor(a, requires_grad=True) if a.dtype.kind == "f" else a for a in ARGUMENTS[name]]
    y = ag.REGISTRY[name](*inputs)
    y.backward(normal(*y.shape, seed=2), keep=True)
    wanted = [t.grad.copy() for t in inputs if isinstance(t, ag.Tensor)]
    for t in inputs:
        if isinstance(t, ag.Tensor):
            t.grad = None
    kernels.use(then)
    y.backward(normal(*y.shape, seed=2))
    for t, grad in zip([t for t in inputs if isinstance(t, ag.Tensor)], wanted):
        np.testing.assert_array_equal(t.grad, grad)


def test_threads_do_not_disturb_each_other():
    def work(seed):
        x, weight = (ag.tensor(normal(*shape, seed=seed), requires_grad=True) for shape in ((6, 100, 16), (16,)))
        y = ag.gelu(ag.attention(*[ag.layer_norm(x, weight, None)] * 3, causal=True))
        ag.cross_entropy(y, integers(16, 6, 100)).backward()
        return x.grad, weight.grad

    wanted = [work(seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for ours, theirs in zip(pool.map(work, range(8)), wanted):
            for a, b in zip(ours, theirs):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", DENSE)
def test_little_is_saved_for_backward(name):
    """At most two numbers a row (and how much a place counts)."""
    args = ARGUMENTS[name]
    saved = compiled.PAIRS[name].forward(ag.engine.current_mode().executor, *args)[1]
    arrays = [a for a in (saved if isinstance(saved, tuple) else [saved])
              if a is not None and not any(a is given for given in args)]
    rows = max(a.size // a.shape[-1] for a in args if a.dtype.kind == "f")
    assert sum(a.size for a in arrays) <= 2 * rows + 1


# ---------------------------------------------------------------------- optimizers


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("n", [1, 5, 1000])
def test_adamw(n, dtype):
    w, m, v = normal(n, dtype=dtype), np.zeros(n, dtype), np.zeros(n, dtype)
    exact = [a.astype(DOUBLE) for a in (w, m, v)]
    for t in range(1, 6):
        g = normal(n, dtype=dtype, seed=t)
        compiled.optimizers.adamw_step(w, g, m, v, 0.01, 0.9, 0.99, 1e-3, 0.1, 1 - 0.9 ** t, 1 - 0.99 ** t, 0.5)
        h = g.astype(DOUBLE) / 2
        exact[1] = 0.9 * exact[1] + 0.1 * h
        exact[2] = 0.99 * exact[2] + 0.01 * h ** 2
        step = exact[1] / (1 - 0.9 ** t) / (np.sqrt(exact[2] / (1 - 0.99 ** t)) + 1e-3)
        exact[0] = exact[0] - 0.01 * 0.1 * exact[0] - 0.01 * step
    tolerance = 2e-6 if dtype == SINGLE else 1e-14
    for ours, theirs in zip((w, m, v), exact):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance / 10)


POLYNOMIALS = ((8.3, -23.6, 17.3), (4.1, -2.9, 0.54), (3.9, -2.9, 0.55))


def muon_steps(step, w, by_rows=False, scale=1.0, size=1.0):
    """A matrix and its momentum after three steps, `size` being that of the gradients; blocks have 64 features."""
    w, m = w.copy(), np.zeros_like(w)

    def blocks(a):
        return a.reshape(-1, 64, a.shape[1]) if by_rows else a.reshape(len(a), -1, 64).swapaxes(0, 1)

    room = np.full(kernels.muon_workspace_size(*blocks(w).shape), np.nan, w.dtype)
    for t in range(3):
        g = normal(*w.shape, dtype=w.dtype, seed=t) * w.dtype.type(size)
        step(blocks(w), blocks(g), blocks(m), room, 0.1, 0.9, 0.3, scale, POLYNOMIALS, 1.01)
    return w, m


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize(("n", "d", "by_rows"), [
    (64, 64, False), (128, 64, False), (128, 384, False), (512, 128, False), (32, 128, False), (192, 128, True),
    (64, 64, True), (128, 32, True), (12, 64, False), (100, 64, False), (33, 128, False), (64, 100, True)])
def test_muon(n, d, by_rows, dtype):
    """Also where tiles do not fit, which is NumPy's then."""
    w = normal(n, d, dtype=dtype)
    for scale, size in [(1.0, 1.0), (0.25, 1e-4)]:
        ours = muon_steps(compiled.optimizers.muon_step, w, by_rows, scale, size)
        theirs = muon_steps(kernels.numpy.optimizers.muon_step, w.astype(DOUBLE), by_rows, scale, size)
        for a, b in zip(ours, theirs):
            assert a.dtype == dtype
            np.testing.assert_allclose(a, b, rtol=0, atol={4: 2e-5, 8: 1e-13}[a.itemsize] * np.abs(b).max())


def test_muon_by_tiles_is_not_numpys(monkeypatch):
    """The comparison above compares something."""
    monkeypatch.setattr(kernels.numpy.optimizers, "muon_step", None)
    muon_steps(compiled.optimizers.muon_step, normal(128, 128))
    with pytest.raises(TypeError):
        muon_steps(compiled.optimizers.muon_step, normal(33, 128))


@pytest.mark.parametrize("step", [compiled.optimizers.muon_step, kernels.numpy.optimizers.muon_step])
def test_muon_of_zeros_and_of_what_is_not_finite(step):
    w = normal(64, 128)
    np.testing.assert_array_equal(muon_steps(step, w, size=0)[1], 0)
    np.testing.assert_allclose(muon_steps(step, w, size=0)[0], w * 0.97 ** 3, rtol=1e-6)
    for size in (np.nan, np.inf):
        with np.errstate(all="ignore"):
            assert not np.isfinite(muon_steps(step, w, size=size)[0]).any()


# Products for the tiles of the processor, and for those of one with shorter vectors, which most have.
PRODUCTS = """
import sys
from unittest import mock
import llvmlite.binding
if sys.argv[1] == "narrow":
    llvmlite.binding.get_host_cpu_features = llvmlite.binding.FeatureMap
import numpy as np
from numba.core.dispatcher import Dispatcher
with mock.patch.multiple(Dispatcher, compile=lambda *_: None, disable_compile=lambda *_: None):  # not all loops
    from autograd.kernels.numba.optimizer_loops import BYTES, product, symmetric_product
assert sys.argv[1] != "narrow" or BYTES == 64
for dtype, tolerance in (np.float32, 1e-4), (np.float64, 1e-12):
    for n, k, d in [(8, 1, 32), (64, 64, 64), (64, 128, 64), (8, 3, 96)]:
        rng = np.random.default_rng(0)
        a, b = rng.standard_normal((k, n)).astype(dtype).T, rng.standard_normal((k, d)).astype(dtype)
        c = np.full((n, d), np.nan, dtype)
        product(a, b, c)
        np.testing.assert_allclose(c, a @ b, atol=tolerance)
    c = np.full((d, d), np.nan, dtype)
    symmetric_product(b.T, b, c)
    np.testing.assert_allclose(c, b.T @ b, atol=tolerance)
"""


@pytest.mark.slow
@pytest.mark.parametrize("vectors", ["as they are", "narrow"])
def test_products_of_small_matrices(vectors):
    subprocess.run([sys.executable, "-c", PRODUCTS, vectors], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)


# ---------------------------------------------------------------------- choosing, and where Numba does not work


def test_use():
    assert kernels.in_use() == "numba"
    assert kernels.use_fastest() == "numba"
    kernels.use("numpy")
    assert kernels.in_use() == "numpy" and ag.REGISTRY["gelu"].kernels[np.ndarray] is kernels.numpy.activations.Gelu
    with pytest.raises(ValueError, match="not 'cuda'"):
        kernels.use("cuda")
    assert kernels.in_use() == "numpy"


def python(program, *path, **environment):
    """Run a program in a fresh process that sees the modules in `path` first, and return its output."""
    searched = os.pathsep.join(map(str, [*path, ROOT]))
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": searched, **environment}, cwd=path[0] if path else ROOT)


TRY = """
import warnings
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    from autograd import kernels
    print(kernels.use_fastest(), kernels.use_fastest(), kernels.in_use())
for w in seen:
    print(w.category.__name__, w.message)
"""


def test_importing_autograd_does_not_import_numba():
    assert python("import sys, autograd; print('numba' in sys.modules)").stdout == "False\n"


def test_a_missing_numba_is_no_matter():
    made = python("import sys; sys.modules['numba'] = None" + TRY)
    assert (made.stdout, made.stderr) == ("numpy numpy numpy\n", "")
    made = python("import sys; sys.modules['numba'] = None; from autograd import kernels; kernels.use('numba')")
    assert made.stderr.endswith('ImportError: the kernels "numba" need Numba: python -m pip install "tapegrad[fast]"\n')


def test_a_numba_that_cannot_be_imported(tmp_path):
    (tmp_path / "numba.py").write_text("raise ImportError('Numba needs NumPy 1.0 or less.\\nHelp.')")
    names, warning, *more = python(TRY, tmp_path).stdout.splitlines()
    assert names == "numpy numpy numpy"
    assert warning.endswith("NumPy's kernels are used: ImportError: Numba needs NumPy 1.0 or less.")
    assert set(more) <= {warning}


def test_a_loop_that_does_not_compile(monkeypatch):
    def broken():
        raise TypeError("no such thing\nas this")

    kernels.use("numpy")
    monkeypatch.setattr(kernels, "_numba_kernels", broken)
    with pytest.warns(UserWarning, match="does not work here.*TypeError: no such thing$"):
        assert kernels.use_fastest() == "numpy"
    assert ag.REGISTRY["gelu"].kernels[np.ndarray] is kernels.numpy.activations.Gelu


LOOP = '''
from autograd.kernels.numba.compiling import loop, read

@loop(read(1))
def total(a):
    t = 0.0
    for i in range(a.size):
        t += a[i]
    return t
'''


@pytest.fixture
def a_loop(tmp_path, monkeypatch):
    """Imports a file with a loop; it returns the loop, which keeps its machine code beside the file."""
    monkeypatch.setattr(compiling, "WITHOUT_CACHE", [])
    (tmp_path / "a_loop.py").write_text(LOOP)

    def imported():
        spec = importlib.util.spec_from_file_location("a_loop", tmp_path / "a_loop.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.total(np.ones(3, SINGLE)) == 3
        with pytest.raises(TypeError, match="No matching definition"):
            module.total(np.ones(3, DOUBLE))
        compiling.compile_double()
        assert module.total(np.ones(3, DOUBLE)) == 3
        return module.total
    return imported


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="no folder here that nobody can write to")
def test_nothing_is_kept_for_a_user_without_a_home(tmp_path, monkeypatch):
    """Numba would make a folder called ~ in the current one."""
    monkeypatch.setattr(compiling, "WITHOUT_CACHE", [])
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as without HOME and an entry among the users
    monkeypatch.setattr(compiling.os, "access", lambda path, mode: not str(path).startswith("/proc"))  # also for root
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile("def twice(x):\n    return 2 * x", "/proc/loops.py", "exec"), names)
    assert compiling._compiled(names["twice"], (compiling.types.float64,))(3.0) == 6
    assert "neither a home folder" in compiling.WITHOUT_CACHE[0] and not list(tmp_path.iterdir())


MIXED = """
import threading
import numpy as np
import autograd as ag
ag.kernels.use("numba")
done, errors = threading.Event(), []

def single():
    try:
        while not done.is_set():
            ag.rms_norm(ag.tensor(np.ones((3, 4), np.float32), requires_grad=True), None).sum().backward()
    except BaseException as error:
        errors.append(error)

thread = threading.Thread(target=single)
thread.start()
ag.rms_norm(np.ones((3, 4)), None)
done.set()
thread.join()
print(errors, [str(e) for e in errors])
"""


def test_double_precision_that_comes_while_single_runs():
    assert python(MIXED).stdout == "[] []\n"


def test_functions_that_loops_call_are_compiled_into_them():
    """Or else a process that compiles the loops computes with other bits than one that loads them."""
    from numba.core.dispatcher import Dispatcher
    files = [pathlib.Path(compiled.__path__[0]) / f"{name}.py" for name in ("compiling", *LOOPS)]
    modules = [importlib.import_module(f"autograd.kernels.numba.{file.stem}") for file in files]
    called = {value for module in modules for value in vars(module).values()
              if isinstance(value, Dispatcher) and value._can_compile}  # which a loop cannot, once it is compiled
    assert len(called) > 8 and all(f.targetoptions.get("forceinline") for f in called)
    overloads = [line for file in files for line in file.read_text().splitlines() if line.startswith("@overload")]
    assert overloads and all('"forceinline": True' in line for line in overloads)


def n_loaded(function):
    return sum(function.stats.cache_hits.values())


def test_machine_code_is_kept(a_loop):
    assert n_loaded(a_loop()) == 0
    assert n_loaded(a_loop()) == 1 and not compiling.WITHOUT_CACHE


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_damaged_machine_code_is_made_anew(kind, a_loop, tmp_path):
    a_loop()
    files = list(tmp_path.glob(f"__pycache__/*.{kind}"))
    for file in files:
        file.write_bytes(file.read_bytes()[:50])
    assert files and n_loaded(a_loop()) == 0
    assert n_loaded(a_loop()) == 1 and not compiling.WITHOUT_CACHE


def test_where_nothing_can_be_kept(a_loop, tmp_path, monkeypatch):
    for name in ("__pycache__", "cache"):
        (tmp_path / name).write_text("a file, and no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    a_loop()
    assert "no locator available" in compiling.WITHOUT_CACHE[0]
    kernels.use("numpy")
    with pytest.warns(UserWarning, match="could not cache its machine code.*NUMBA_CACHE_DIR"):
        assert kernels.use_fastest() == "numba"
    kernels.use("numpy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kernels.use_fastest() == "numba"  # it has said so


@pytest.fixture
def package(tmp_path):
    """A copy of the package in `tmp_path`, whose kernels are but one loop: to compile all of them takes long."""
    shutil.copytree(ROOT / "autograd", tmp_path / "autograd", ignore=shutil.ignore_patterns("__pycache__"))
    folder = tmp_path / "autograd" / "kernels" / "numba"
    (folder / "__init__.py").write_text("PAIRS = {}\nfrom . import one\n")
    (folder / "one.py").write_text(LOOP)
    text = (folder / "loops.py").read_text()
    (folder / "loops.py").write_text(text[:text.index("\n@loop")])


@pytest.mark.slow
def test_a_package_in_a_folder_that_cannot_be_written(package, tmp_path):
    for name in ("autograd/kernels/numba/__pycache__", "cache"):
        (tmp_path / name).write_text("a file, and no folder")
    made = python(TRY, tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"), PYTHONDONTWRITEBYTECODE="1")
    names, warning = made.stdout.splitlines()
    assert names == "numba numba numba" and "could not cache its machine code" in warning
    made = python(TRY, tmp_path, XDG_CACHE_HOME=str(tmp_path / "writable"), PYTHONDONTWRITEBYTECODE="1")
    assert made.stdout == "numba numba numba\n" and list(tmp_path.glob("writable/**/*.nbc"))


@pytest.mark.slow
def test_two_processes_that_compile_at_once(package, tmp_path):
    (tmp_path / "autograd" / "kernels" / "numba" / "one.py").write_text(
        LOOP + "".join(LOOP.replace("total", f"total{i}") for i in range(9)))
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: python(TRY, tmp_path), range(2)))
    assert [m.stdout for m in made] == ["numba numba numba\n"] * 2
    assert len(list(tmp_path.glob("autograd/kernels/numba/__pycache__/*.nbc"))) >= 10
    assert python(TRY, tmp_path).stdout == "numba numba numba\n"
