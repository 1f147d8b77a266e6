"""Lion against its formula."""

import numpy as np

from gpt import Parameters
from gpt.optim.lion import Lion


def test_lion_is_its_formula(three):
    flat, rng = Parameters(three()), np.random.default_rng(1)
    optimizer = Lion(flat, (0.8, 0.95), 0.3)
    p, m = flat.data.copy(), np.zeros_like(flat.data)
    for _ in range(3):
        g = rng.normal(size=p.shape)
        flat.grad[:] = 2 * g
        optimizer.step(0.01, 0.5)
        p[:flat.n_decayed] *= 1 - 0.01 * 0.3
        p -= 0.01 * np.sign(0.8 * m + 0.2 * g)
        m = 0.95 * m + 0.05 * g
        np.testing.assert_allclose(flat.data, p, rtol=1e-14)
