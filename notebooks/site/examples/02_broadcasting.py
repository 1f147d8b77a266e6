"""Broadcasting: who gets which sum"""
import numpy as np

import autograd as ag

rng = np.random.default_rng(0)
x = ag.tensor(rng.normal(size=(4, 3)), name="x")
w = ag.tensor(np.ones(3), requires_grad=True, name="w")
b = ag.tensor(np.zeros((4, 1)), requires_grad=True, name="b")

y = x * w + b       # w is used by each row, b by each column
loss = np.mean(y**2)
loss.backward()

# What was broadcast is used several times, and its gradient
# is the sum over those uses.
print("w.grad  ", w.grad)
print("by hand ", (2 * y.data * x.data / 12).sum(axis=0))
print("b.grad  ", b.grad.ravel())

ag.tape(loss).ledger(b)     # what the gradient of b is made of
