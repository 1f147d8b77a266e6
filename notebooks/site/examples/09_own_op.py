"""An operation of one's own"""
import numpy as np

import autograd as ag

# log(1 − eˣ) for x < 0, as in mixtures of probabilities.  Close to
# 0 the formula as it stands rounds to −inf; this one does not.

@ag.op
def log1mexp(x):
    """y = log(1 − exp(x))"""
    return np.log(-np.expm1(x))

@log1mexp.gradient("x")
def _(g, y, x):
    """∂L/∂x = g ⊙ exp(x) / (exp(x) − 1)"""
    return g / -np.expm1(-x)

# Raises if the rule is wrong, to second order:
ag.check_op(log1mexp, [(-np.geomspace(0.01, 3, 8),)])

x = ag.tensor([-3.0, -1.0, -1e-20], requires_grad=True, name="x")
with np.errstate(divide="ignore"):
    print("as it stands", np.log(1 - np.exp(x.data)))
y = log1mexp(x)
print("log1mexp    ", y.data)
loss = y.sum()
loss.backward()
print("gradient    ", x.grad)

y.explain(loss)
