"""Hunting a NaN"""
import numpy as np

import autograd as ag

np.seterr(all="ignore")     # NumPy's warnings do not say where it was
x = ag.tensor([4.0, 1.0, 0.0], requires_grad=True, name="x")

def norms(x):
    with ag.scope("distance"):
        return np.sqrt(x * x).sum()

# The slope of √ at 0 is infinite, and 0 times infinity is no number.
loss = norms(x)
loss.backward()
print("x.grad =", x.grad)

# This stops at the first operation that makes such a number:
try:
    with ag.detect_anomaly():
        norms(x).backward()
except FloatingPointError as error:
    print(error)
