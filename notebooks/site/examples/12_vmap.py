"""A gradient for each example, with vmap"""
import numpy as np

import autograd as ag

rng = np.random.default_rng(0)
w = ag.tensor(rng.normal(size=3), requires_grad=True, name="w")
x, y = rng.normal(size=(5, 3)), rng.normal(size=5)

def loss_of(w, x, y):           # of one example: x (3,), y ()
    return (np.tanh(x @ w) - y)**2

axes = (None, 0, 0)             # the same w; a row of x, a y each
each = ag.vmap(ag.grad(loss_of), axes)(w.data, x, y)
print(np.round(each, 3))        # (5, 3)

loss = ag.vmap(loss_of, axes)(w, x, y).mean()
loss.backward()
print("their mean is the gradient of the batch:",
      np.allclose(each.mean(axis=0), w.grad))
