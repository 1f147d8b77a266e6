"""The compiled kernel of linear on packed weights: the same numbers as the formula, for one vector and for many."""

import numpy as np
import pytest

import autograd as ag
from autograd import kernels
from autograd.core import packed
from tests.packing import NAMES, assert_program_equals_tape, pack, read

numba = pytest.importorskip("numba")

from autograd.kernels.numba import packed as adapter  # noqa: E402
from autograd.kernels.numba import packed_loops  # noqa: E402


@pytest.fixture(autouse=True)
def with_numba():
    kernels.use("numba")
    yield
    kernels.use("numpy")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def ran(t):
    """True if the compiled kernel computed a record."""
    return t.saved is not None and t.saved[1][0] is adapter.PackedLinear


@pytest.mark.parametrize("n_out", [2, 7])
@pytest.mark.parametrize("rows", [(1,), (3,), (2, 3), (1, 50)])
@pytest.mark.parametrize("name", NAMES)
def test_linear(name, rows, n_out, monkeypatch):
    monkeypatch.setattr(adapter, "STEP", 100)  # one row of the weight, or some, at a time
    w, b = pack(normal(n_out, 96), name).T, ag.tensor(normal(n_out, seed=1), requires_grad=True)
    x, g = ag.tensor(normal(*rows, 96, seed=2), requires_grad=True), normal(*rows, n_out, seed=3)
    y = ag.linear(x, w, b)
    y.backward(g, keep=True)
    assert ran(y)
    np.testing.assert_allclose(y.data, x.data @ read(w) + b.data, rtol=0, atol=2e-5)
    np.testing.assert_allclose(x.grad, g @ read(w).T, rtol=0, atol=2e-5)
    np.testing.assert_allclose(b.grad, g.reshape(-1, n_out).sum(0), rtol=0, atol=2e-5)
    assert len({*map(len, (packed.FORMATS, packed_loops.LOOPS))}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_scales_of_all_bits(name):
    """Each finite float16 (bfloat16) is widened as NumPy does it, the smallest ones too."""
    bits = np.arange(1 << 16, dtype="<u2")
    bits = bits[np.isfinite(bits.view("<f2") if name != "BF16" else (bits.astype(np.uint32) << 16).view(np.float32))]
    n = packed.FORMATS[name].n_bytes // 2
    rows = np.repeat(bits[:, None], n, 1) if n > 1 else bits[:len(bits) // 2 * 2].reshape(-1, 2)
    w = ag.Packed(np.ascontiguousarray(rows).view(np.uint8), name)
    wide = np.empty(w.shape, np.float32)
    packed_loops.LOOPS[name][1](w.rows, wide)
    np.testing.assert_allclose(wide, np.asarray(w), rtol=2e-7, atol=1e-45)
    x = np.zeros((1, w.shape[1]), np.float32)
    x[0, 1] = 1
    np.testing.assert_allclose(ag.linear(x, w.T, None)[0], np.asarray(w)[:, 1], rtol=1e-6, atol=1e-40)


def test_what_is_left_to_the_formula():
    w, x = pack(normal(8, 32), "Q4_1"), normal(2, 32)
    thin = pack(normal(1, 32), "Q4_1").T
    for a, weight in ((x.astype(np.float64), w.T), (normal(2, 8), w), (x, thin), (x[:0], w.T)):
        y = ag.linear(ag.tensor(a, requires_grad=True), weight, None)
        assert not ran(y)
        np.testing.assert_allclose(y.data, a @ read(weight), rtol=0, atol=1e-5)


@pytest.mark.parametrize("n", [1, 9])
def test_programs(n):
    w, x = pack(normal(8, 64), "Q4_1").T, normal(n, 64)
    scale = ag.tensor(normal(64), requires_grad=True)

    def loss(x):
        return np.tanh(ag.linear(x * scale, w, None)).sum()

    assert_program_equals_tape(loss, x, scale)


@pytest.mark.parametrize("n", [1, 9])
def test_gradients_that_are_broadcast(n):
    """The gradient that `sum` sends is one number, broadcast and read-only; the record keeps its kernel."""
    w, x, grads = pack(normal(5, 32), "Q8_0").T, normal(n, 32), []
    for then in ("numba", "numpy", "program"):
        kernels.use("numba")
        inputs = [ag.tensor(a, requires_grad=True) for a in (x, normal(5, seed=1))]
        result = ag.linear(inputs[0], w, inputs[1]).sum() if then != "program" else ag.record(
            lambda inputs=inputs: ag.linear(inputs[0], w, inputs[1]).sum())
        if then == "program":
            result()
        else:
            kernels.use(then)
        result.backward()
        grads.append([t.grad for t in inputs])
    for dx, db in grads:
        assert np.array_equal(dx, grads[0][0]) and np.array_equal(db, np.full(5, n))
        np.testing.assert_allclose(dx, np.ones((n, 5)) @ read(w).T, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_without_an_instruction_for_half_precision(monkeypatch):
    """As on other processors than this one."""
    monkeypatch.setattr(packed_loops, "has_halves", lambda: False)
    monkeypatch.setattr(packed_loops, "dot_q4_1", packed_loops.make_dot("Q4_1", 20))
    product = numba.njit(packed_loops.product_q4_1.py_func)
    w, x, y = pack(normal(6, 64), "Q4_1"), normal(2, 64), np.empty((2, 6), np.float32)
    product(x, w.rows, np.empty((2, 2), np.float32), y)
    assert "vcvtph2ps" not in "".join(product.inspect_asm().values())
    np.testing.assert_allclose(y, x @ read(w).T, rtol=0, atol=1e-5)
