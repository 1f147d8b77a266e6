"""Speed and memory, beside NumPy, PyTorch, JAX and HIPS autograd: `gpt bench`, and what its figures are taken with."""
