"""AdamW against its formula."""

import numpy as np
import pytest

from gpt import AdamW, Parameters


@pytest.mark.parametrize("n", [2, 30_000])  # one block, and several with a part of one at the end
def test_adamw_is_its_formula(n, three):
    model, rng = three(n), np.random.default_rng(1)
    flat = Parameters(model)
    lr, b1, b2, eps, decay = 0.01, 0.8, 0.95, 1e-6, 0.3
    optimizer = AdamW(flat, (b1, b2), eps, decay)
    p, m, v = flat.data.copy(), 0, 0
    wd = np.where(np.arange(p.size) < 3 * n, decay, 0)
    for t in range(1, 5):
        g = rng.standard_normal(p.size)
        flat.grad[:] = g
        optimizer.step(lr)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g ** 2
        p = p - lr * wd * p - lr * (m / (1 - b1 ** t)) / (np.sqrt(v / (1 - b2 ** t)) + eps)
        np.testing.assert_allclose(flat.data, p, rtol=1e-12)
    np.testing.assert_array_equal(model.a.data, flat.data[-3:])
