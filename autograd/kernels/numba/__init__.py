"""Kernels by Numba: compiled loops that save little for backward and recompute instead.

Each class is a thin adapter, like those for NumPy: it asks the executor for arrays and hands them to procedures that
only write into them.  The loops themselves are in loops.py, layer_loops.py and optimizer_loops.py.  `forward` returns
None for what the loops do not take.
"""

from . import activations, attention, convolution, index, losses, norms, optimizers, packed
from .fitting import PAIRS

__all__ = ["PAIRS", "activations", "attention", "convolution", "index", "losses", "norms", "optimizers", "packed"]
