"""A small network learns two moons"""
import numpy as np

import autograd as ag

rng = np.random.default_rng(0)
angle = rng.uniform(0, np.pi, 200)
label = np.arange(200) % 2                # upper or lower moon
side = 1 - 2 * label
x = np.c_[np.cos(angle) * side + label,
          np.sin(angle) * side + label / 2]
x += rng.normal(0, 0.1, x.shape)

def weight(name, *shape):
    return ag.tensor(rng.normal(size=shape) / 2,
                     requires_grad=True, name=name)

w1, b1, w2 = weight("w1", 2, 16), weight("b1", 16), weight("w2", 16, 2)

def forward():
    with ag.scope("hidden"):
        h = np.tanh(x @ w1 + b1)
    logits = h @ w2
    return ag.cross_entropy(logits, label), logits

for step in range(301):
    loss, logits = forward()
    if step % 50 == 0:
        right = np.mean(logits.data.argmax(axis=1) == label)
        print(f"step {step:3}  loss {loss.data:.3f}  {right:.0%} right")
    loss.backward()
    for p in (w1, b1, w2):
        p.data = p.data - 0.5 * p.grad
        p.grad = None

loss, logits = forward()                  # of the trained network
