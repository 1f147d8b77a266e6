"""Kernels: faster versions of the hot ops with the same results, in place by NumPy or compiled by Numba."""

from __future__ import annotations

import importlib
import warnings
from importlib.util import find_spec
from typing import Any

import numpy as np

from .. import ops  # noqa: F401  registers the ops that the kernels below enter themselves in
from ..core.registry import REGISTRY
from . import numpy
from .numpy.optimizers import muon_workspace_size

__all__ = ["adamw_step", "in_use", "muon_step", "numpy", "muon_workspace_size", "use", "use_fastest"]

_of_numpy = {name: op.kernels[np.ndarray] for name, op in REGISTRY.items() if op.kernels}
_in_use = "numpy"

# Kernels -> ops whose value a captured program recomputes in the backward pass, which is faster than reading it.
RECOMPUTED = {"numpy": [], "numba": ["layer_norm", "gelu", "squared_relu", "causal_conv"]}


def in_use() -> str:
    """Return the name of the kernels that ops run on: "numpy" or "numba"."""
    return _in_use


def use(name: str) -> None:
    """Run the ops on the kernels `name`: "numpy" (the default), or "numba", compiled loops that need the extra `fast`.
    These are compiled once on a machine, which takes some ten seconds, and as long again for the first arrays in double
    precision.

    It applies to all threads from then on.  A record's backward runs the kernel that computed it, and a captured
    program the kernels that it was captured with.  Raises ValueError for another name, and ImportError where Numba is
    missing.
    """
    global _in_use
    if name not in ("numpy", "numba"):
        raise ValueError(f'kernels are "numpy" or "numba", not {name!r}')
    pairs = dict(_of_numpy)
    if name == "numba":
        pairs |= {op: _FirstOf(pair, _of_numpy.get(op)) for op, pair in _numba_kernels().items()}
    for op, pair in pairs.items():
        REGISTRY[op].kernels[np.ndarray] = pair
        REGISTRY[op].recompute = op in RECOMPUTED[name]
    _in_use = name


def adamw_step(*arguments: Any) -> None:
    """Run one step of AdamW on flat arrays, by the kernels in use: `autograd.kernels.numpy.optimizers.adamw_step`."""
    _optimizers().adamw_step(*arguments)


def muon_step(*arguments: Any) -> None:
    """Run one step of Muon on blocks, by the kernels in use: `autograd.kernels.numpy.optimizers.muon_step`."""
    _optimizers().muon_step(*arguments)


def _optimizers() -> Any:
    """Import the optimizers of the kernels in use."""
    return importlib.import_module(f".{_in_use}.optimizers", __package__)


def use_fastest() -> str:
    """Use Numba's kernels if they work here, and NumPy's otherwise.  Returns the name of those in use then.  If Numba
    is installed and does not work, or cannot cache its machine code, a warning says why."""
    if _in_use == "numpy" and find_spec("numba") is not None:
        try:
            use("numba")
        except Exception as error:
            warnings.warn(f"Numba does not work here, and NumPy's kernels are used: {_first_line(error)}", stacklevel=2)
        else:
            _warn_of_cache()
    return _in_use


class _FirstOf:
    """A kernel that runs the first of two that takes the arguments."""

    def __init__(self, first: Any, second: Any):
        self.pairs = [pair for pair in (first, second) if pair is not None]

    def forward(self, executor: Any, *inputs: Any, **attrs: Any) -> Any:
        """Compute (y, what backward needs), or return None to decline these inputs."""
        for pair in self.pairs:
            if (made := pair.forward(executor, *inputs, **attrs)) is not None:
                return made[0], (pair, made[1])
        return None

    def backward(self, executor: Any, needed: list[int], g: Any, y: Any, saved: Any, *inputs: Any,
                 **attrs: Any) -> Any:
        """Compute the gradients of the inputs numbered in `needed`."""
        pair, saved = saved
        return pair.backward(executor, needed, g, y, saved, *inputs, **attrs)


def _numba_kernels() -> dict[str, Any]:
    """Return Numba's kernels by op.  Imported here, since importing Numba takes most of a second."""
    if find_spec("numba") is None:
        raise ImportError('the kernels "numba" need Numba: python -m pip install "tapegrad[fast]"')
    return importlib.import_module(".numba", __package__).PAIRS


def _warn_of_cache() -> None:
    """Warn if Numba could not cache its machine code."""
    from .numba.compiling import WITHOUT_CACHE
    if WITHOUT_CACHE:
        warnings.warn("Numba could not cache its machine code, and each start will take some seconds more: "
                      f"{WITHOUT_CACHE[0]}; set NUMBA_CACHE_DIR to a folder that can be written", stacklevel=3)
        WITHOUT_CACHE.clear()


def _first_line(error: Exception) -> str:
    """Return the type of an error and the first line of its text."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
