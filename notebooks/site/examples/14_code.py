"""The backward pass as a program in NumPy"""
import numpy as np

import autograd as ag

x = ag.tensor([[0.5, -1.0], [1.5, 0.0], [-0.5, 2.0]], name="x")
w = ag.tensor(np.eye(2) / 2, requires_grad=True, name="w")
b = ag.tensor(np.zeros(2), requires_grad=True, name="b")

h = np.exp(-(x @ w + b)**2)
loss = np.mean((h - 0.5)**2)

# What the tape records, and its gradients: no autograd is left.
print(ag.tape(loss).code())
