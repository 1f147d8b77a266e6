"""The products of a training step: as many operations as the arithmetic says, and shapes that multiply."""

import numpy as np
import pytest

import autograd as ag
from gpt import GPT, GPTConfig
from gpt.bench.products import Floor, Product, list_products

B, T, C, V, L, H = 3, 8, 12, 11, 2, 2


def tape(**changes):
    config = GPTConfig(**{**dict(vocab_size=V, block_size=T, n_layer=L, n_head=H, n_embd=C), **changes})
    ids = np.random.default_rng(0).integers(V, size=(2, B, T))
    return ag.tape(GPT(config, seed=0).loss(*ids))


def test_operations_of_a_step():
    found = list_products(tape())
    rows, attention = B * T, 2 * 2 * B * T * T * C     # q kᵀ and p v of all heads, forward
    layers = 2 * rows * (L * 12 * C * C + V * C)       # 3C² + C² + 4C² + 4C² a layer, and the head
    assert sum(p.flops for p in found) == 3 * (layers + L * attention)
    assert len(found) == 3 * (4 * L + 1) + 6 * L


def test_a_constant_needs_no_gradient():
    x, w = np.ones((5, 3)), ag.tensor(np.ones((3, 2)), requires_grad=True)
    assert list_products(ag.tape(ag.linear(x, w, None).sum())) == [Product((5, 3), (3, 2)),
                                                              Product((5, 3), (5, 2), a_transposed=True)]


def test_the_floor_computes_them_all():
    floor = Floor(list_products(tape()), np.float64)
    assert floor.run() > 0
    for a, b, out in floor.calls[-6:]:
        assert np.isfinite(out).all() and out.shape == (a @ b).shape
    *_, (a, b, out) = floor.calls
    assert out == pytest.approx(a @ b)
