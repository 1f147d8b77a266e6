"""Switching neurons off, with what_if"""
import numpy as np

import autograd as ag

rng = np.random.default_rng(0)
x = ag.tensor(rng.normal(size=(4, 3)), name="x")
w1 = ag.tensor(rng.normal(size=(3, 5)), requires_grad=True, name="w1")
w2 = ag.tensor(rng.normal(size=(5, 1)), requires_grad=True, name="w2")

h = np.maximum(x @ w1, 0)
loss = np.mean((h @ w2 - 1)**2)

# The tape is played again with other values, and compared.
for neuron in range(5):
    new, difference = ag.tape(loss).what_if({h: (np.s_[:, neuron], 0)})
    print(f"without neuron {neuron}: loss {new[-1].data:.3f}")
print(f"with all of them: loss {loss.data:.3f}")

# Where the last of these tapes first differs from this one:
print(str(difference).partition("First gradient")[0])

# In the player a value is changed in its card: "What if ...?"
