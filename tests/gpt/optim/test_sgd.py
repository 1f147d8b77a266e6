"""SGD against its formula."""

import numpy as np

from gpt import SGD, Parameters


def test_sgd_is_its_formula(three):
    model, rng = three(), np.random.default_rng(1)
    flat = Parameters(model)
    optimizer = SGD(flat, momentum=0.8, weight_decay=0.3)
    p, m = flat.data.copy(), np.zeros_like(flat.data)
    for _ in range(3):
        flat.grad[:] = g = rng.normal(size=flat.grad.shape)
        optimizer.step(0.01)
        m = 0.8 * m + g
        p[:flat.n_decayed] *= 1 - 0.01 * 0.3
        p -= 0.01 * m
        np.testing.assert_allclose(flat.data, p, rtol=1e-14)
    assert optimizer.state()["m"] is optimizer.m
