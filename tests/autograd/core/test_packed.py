"""Packed weights: the numbers that their bytes stand for, products with them, and gradients through these."""

import re

import numpy as np
import pytest

import autograd as ag
from autograd.core import packed
from tests.packing import NAMES, assert_program_equals_tape, pack, read

each = pytest.mark.parametrize("name", NAMES)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@each
def test_the_numbers(name):
    w = pack(normal(5, 64), name)
    right = read(w)
    assert np.array_equal(np.asarray(w), right) and np.array_equal(np.asarray(w.T), right.T)
    assert abs(right - normal(5, 64)).max() < (0.3 if "Q4" in name else 0.02)
    assert (w.shape, w.T.shape, w.size, len(w), w.ndim, w.dtype) == ((5, 64), (64, 5), 320, 5, 2, np.float32)
    assert w.nbytes == w.T.nbytes == 320 * {"Q8_0": 34, "Q4_0": 18, "Q4_1": 20}.get(name, 64) // 32
    assert np.array_equal(w.astype(np.float64), right.astype(np.float64)) and np.asarray(w.T).flags.c_contiguous
    ids = np.array([[3, 0], [4, 3]])
    assert np.array_equal(w[ids], right[ids]) and np.array_equal(w[1:3], right[1:3]) and w.T[2, 1] == right[1, 2]
    assert repr(w) == f"Packed({name} [5, 64], {w.nbytes:,} bytes)"


@each
def test_scales_of_all_bits(name):
    """Small and zero ones too; NaN and infinity are noticed."""
    rows = np.random.default_rng(0).integers(256, size=(50, pack(normal(1, 32), name).nbytes), dtype=np.uint8)
    rows[0, :2] = 255
    with np.errstate(all="ignore"):
        one = [ag.Packed(row[None], name) for row in rows]
        for w in one:
            np.testing.assert_array_equal(np.asarray(w), read(w))
            assert w.is_finite == bool(np.isfinite(read(w)).all())
    assert {w.is_finite for w in one} == {True, False}


@each
@pytest.mark.parametrize("step", [1, 100, 1 << 18])
def test_products(name, step, monkeypatch):
    """Some rows at a time, whatever their number, on either side of the transpose."""
    monkeypatch.setattr(packed, "STEP", step)
    w, x, z = pack(normal(7, 64), name), normal(2, 3, 64, seed=1), normal(4, 7, seed=2)
    close = dict(rtol=0, atol=1e-5)
    np.testing.assert_allclose(x @ w.T, x @ read(w).T, **close)
    np.testing.assert_allclose(z @ w, z @ read(w), **close)
    np.testing.assert_allclose(x[0, 0] @ w.T, x[0, 0] @ read(w).T, **close)
    np.testing.assert_allclose(w @ x[0].T, read(w) @ x[0].T, **close)
    assert (x.astype(np.float64) @ w.T).dtype == np.float64 and (x @ w.T).dtype == np.float32
    np.testing.assert_array_equal(1 + w, 1 + read(w))
    np.testing.assert_array_equal(np.asarray(w), read(w))


@each
def test_linear_and_embedding(name):
    w, x, b = pack(normal(6, 32), name), normal(2, 4, 32, seed=1), normal(6, seed=2)
    np.testing.assert_allclose(ag.linear(x, w.T, b), ag.linear(x, read(w.T), b), rtol=0, atol=1e-5)
    ids = np.array([[5, 0, 5]])
    assert np.array_equal(ag.embedding(ids, w), ag.embedding(ids, read(w)))
    with pytest.raises(IndexError, match="there is no row 6"):
        ag.embedding(np.array([6]), w)
    with pytest.raises(ValueError, match="match|mismatch"):
        ag.linear(normal(2, 31), w.T, None)
    with pytest.raises(ValueError, match=r"w has shape \(32, 6\)"):
        ag.linear(x, w.T, normal(5))


@each
def test_gradients(name):
    """They flow to the inputs beside it, at every order; it is a constant itself."""
    w, rng = pack(normal(6, 32), name).T, np.random.default_rng(3)
    x, b = rng.normal(size=(2, 32)), rng.normal(size=6)
    ag.check_grads(lambda x, b: np.tanh(ag.linear(x, w, b)), x, b, order=2)
    ag.check_grads(lambda x: np.tanh(x @ w), x, order=2)
    t = ag.tensor(normal(2, 32), requires_grad=True)
    ag.linear(t, w, None).backward(normal(2, 6, seed=4))
    np.testing.assert_allclose(t.grad, normal(2, 6, seed=4) @ read(w).T, rtol=0, atol=1e-5)


@pytest.mark.parametrize("n", [1, 9])
def test_programs_and_tapes(n):
    w, table = pack(normal(8, 32), "Q4_1").T, pack(normal(5, 32, seed=1), "Q8_0")
    scale = ag.tensor(normal(32), requires_grad=True)

    def loss(ids):
        return np.tanh(ag.linear(ag.embedding(ids, table) * scale, w, None)).sum()

    eager = assert_program_equals_tape(loss, np.arange(n) % 5, scale)
    assert "q4_1[32,8]" in str(ag.tape(eager))


def test_what_is_refused():
    rows = np.zeros((3, 34), np.uint8)
    for bad, name, says in [(rows, "Q6_K", "'Q6_K' is none of the formats F16, BF16, Q8_0"),
                            (rows, "Q4_1", "whole blocks of 20 bytes"), (rows[:, ::2], "F16", "in C order"),
                            (rows.astype(np.int8), "Q8_0", "not int8"), (rows[0], "Q8_0", re.escape("uint8[34]"))]:
        with pytest.raises(ValueError, match=says):
            ag.Packed(bad, name)
    w = ag.Packed(rows, "Q8_0")
    with pytest.raises(ValueError, match="read-only"):
        w.rows[0] = 1
    assert rows.flags.writeable and not w.requires_grad
    with pytest.raises(ValueError, match=re.escape("(2, 31) and (32, 3)")):
        normal(2, 31) @ w.T
