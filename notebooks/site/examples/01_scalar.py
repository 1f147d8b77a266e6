"""A scalar and its tape"""
import numpy as np
import autograd as ag

x = ag.tensor(2.0, requires_grad=True, name="x")
y = ag.tensor(-3.0, requires_grad=True, name="y")

loss = np.tanh(x * y + 5.0) + x     # forward: each operation is a line of the tape
loss.backward()                     # backward: the chain rule, newest line first

print(ag.tape(loss))
print("dloss/dx =", x.grad, "  dloss/dy =", y.grad)
