"""A wrong gradient rule, and what check_op says"""
import numpy as np

import autograd as ag


@ag.op
def swish(x, beta=1.0):
    """y = x / (1 + exp(−βx))"""
    return x / (1 + np.exp(-beta * x))

@swish.gradient("x")
def _(g, y, x, beta=1.0):
    """∂L/∂x = g ⊙ (s + β y (1 − s)), s = 1 / (1 + exp(−βx))"""
    s = 1 / (1 + np.exp(-beta * x))
    return g * (s + y * (1 - s))    # write beta * y, and run again

samples = [(np.linspace(-3, 3, 7),),
           (np.ones((2, 3)), {"beta": 2.0})]
try:
    ag.check_op(swish, samples)
    print("The rule is right, to second order.")
except AssertionError as error:
    print(error)

x = ag.tensor(np.linspace(-3, 3, 7), requires_grad=True, name="x")
loss = swish(x, beta=2.0).sum()
