"""Ops of neural networks."""

from . import activations, layers, probabilities

__all__ = ["activations", "layers", "probabilities"]
