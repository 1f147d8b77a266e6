"""A GPT with one block"""
import numpy as np

import autograd as ag
import gpt

text = "the tape remembers what the tape has seen. "
letters = sorted(set(text))
ids = np.array([[letters.index(c) for c in text]])    # (1, T + 1)

config = gpt.GPTConfig(vocab_size=len(letters), block_size=64,
                       n_layer=1, n_head=2, n_embd=16)
model = gpt.GPT(config, seed=0)
loss = model.loss(ids[:, :-1], ids[:, 1:])
loss.backward()

print(f"loss {loss.data:.3f}, by guessing {np.log(len(letters)):.3f}")
for name, p in model.named_arrays().items():
    norm = np.linalg.norm(p.grad)
    print(f"{name:22} {str(p.shape):8}  |grad| {norm:.4f}")

# The player shows each head's weights.
ag.tape(loss).player(tokens=list(text[:-1]))
