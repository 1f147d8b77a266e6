"""A scalar and its tape"""
import numpy as np

import autograd as ag

x = ag.tensor(2.0, requires_grad=True, name="x")
y = ag.tensor(-3.0, requires_grad=True, name="y")

# Forward: each operation adds a record to the tape.
loss = np.tanh(x * y + 5.0) + x

# Backward: the chain rule, from the newest record to the oldest.
loss.backward()

print(ag.tape(loss))
print("dloss/dx =", x.grad)
print("dloss/dy =", y.grad)
