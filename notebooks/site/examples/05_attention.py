"""Causal attention, written in NumPy"""
import numpy as np

import autograd as ag

rng = np.random.default_rng(0)
T, C = 6, 4                               # tokens, channels

def weight(name):
    return ag.tensor(rng.normal(size=(C, C)) / 2,
                     requires_grad=True, name=name)

x = ag.tensor(rng.normal(size=(T, C)), name="x")
wq, wk, wv = weight("wq"), weight("wk"), weight("wv")

with ag.scope("attention"):
    q, k, v = x @ wq, x @ wk, x @ wv      # (T, C) each
    scores = q @ k.T / np.sqrt(C)         # (T, T)
    future = np.triu(np.ones((T, T), bool), 1)
    p = ag.softmax(np.where(future, -np.inf, scores))
    out = p @ v                           # (T, C)

loss = np.mean(out**2)
loss.backward()

print(np.round(p.data, 2))                # a token sees no later one
one = ag.attention(q.data, k.data, v.data, causal=True)
print("as ag.attention has it:", np.allclose(out.data, one))
