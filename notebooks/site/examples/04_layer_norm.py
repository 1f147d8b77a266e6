"""Layer norm, by hand and as one operation"""
import numpy as np

import autograd as ag

rng = np.random.default_rng(1)
x = ag.tensor(rng.normal(3.0, 2.0, size=(2, 6)), requires_grad=True,
              name="x")
weight = ag.tensor(np.ones(6), requires_grad=True, name="weight")
bias = ag.tensor(np.zeros(6), requires_grad=True, name="bias")
target = rng.normal(size=(2, 6))

# One operation, one record of the tape:
fused = np.sum(ag.layer_norm(x, weight, bias) * target)
fused.backward()
gradient, x.grad = x.grad, None

# The same by hand; the player folds and unfolds a scope.
with ag.scope("by hand"):
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.mean(centred**2, axis=-1, keepdims=True)
    y = centred / np.sqrt(variance + 1e-5) * weight + bias
loss = np.sum(y * target)
loss.backward()

print("the same gradient:", np.allclose(gradient, x.grad))
# A shift of a row changes nothing, so its gradients sum to zero.
print("rows sum to zero:", np.abs(x.grad.sum(axis=-1)) < 1e-12)
