"""A Hessian, and Newton's method"""
import numpy as np

import autograd as ag


def f(v):       # Rosenbrock's curved valley, lowest at (1, 1)
    return (1 - v[0])**2 + 100 * (v[1] - v[0]**2)**2

v = np.array([-1.2, 1.0])
for step in range(7):
    print(step, np.round(v, 6), f"{f(v):.2e}")
    v = v - np.linalg.solve(ag.hessian(f)(v), ag.grad(f)(v))

print(ag.hessian(f)(np.ones(2)))

# A gradient has a tape of its own, and can be differentiated again.
v = ag.tensor([-1.2, 1.0], requires_grad=True, name="v")
f(v).backward(create_graph=True)
slope = np.sum(v.grad**2)
