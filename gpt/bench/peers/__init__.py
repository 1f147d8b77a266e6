"""The same GPT in PyTorch and in JAX, to measure beside."""
