"""Softmax and cross-entropy"""
import numpy as np

import autograd as ag

rng = np.random.default_rng(0)
logits = ag.tensor(rng.normal(size=(4, 5)), requires_grad=True,
                   name="logits")
targets = np.array([0, 3, 1, 4])

loss = ag.cross_entropy(logits, targets)
loss.backward()

# The gradient is (p − onehot) / batch: too much probability is
# pushed down, and that of the target up.
p = ag.softmax(logits.data)
print(np.round(logits.grad, 3))
print(np.allclose(logits.grad, (p - np.eye(5)[targets]) / 4))

loss.explain()      # a card: formula, numbers, and a check
