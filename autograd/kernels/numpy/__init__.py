"""Kernels by NumPy, in place, for the ops in which training spends its time; they save statistics for backward.

Each class is a thin adapter: it asks the executor for arrays and hands them to procedures that only write into them.
`forward` returns None to decline, and the formula runs instead.
"""

from . import activations, attention, convolution, index, linear, losses, norms, optimizers

__all__ = ["activations", "attention", "convolution", "index", "linear", "losses", "norms", "optimizers"]
