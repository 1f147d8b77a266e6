"""Steps of the optimizers by compiled loops; numpy/optimizers.py has the formulas."""

from __future__ import annotations

import functools
import math

import numpy as np

from ..numpy import optimizers as by_numpy
from . import optimizer_loops as loops
from .fitting import is_real


def adamw_step(w, g, m, v, lr, beta1, beta2, eps, weight_decay, correction1, correction2, scale):
    """Run one step of AdamW; g is not written to."""
    if not is_real(w.dtype):
        raise TypeError(f"parameters are float32 or float64, and not {w.dtype}")
    root = math.sqrt(correction2)  # √v̂ + eps = (√v + eps·root) / root
    loops.adamw(w, g, m, v, 1 - lr * weight_decay, lr * root / correction1, eps * root, beta1, beta2, scale)


def muon_step(w, g, m, room, lr, momentum, weight_decay, scale, polynomials, margin):
    """Run one step of Muon, by loops for blocks that tiles fit in, and by NumPy for others; `w`, `g` and `m` have one
    memory order."""
    n, d = w.shape[1:]
    if not _by_tiles(w):
        return by_numpy.muon_step(w, g, m, room, lr, momentum, weight_decay, scale, polynomials, margin)
    u, step = room[:2 * n * d].reshape(2, n, d)
    squares = room[2 * n * d:2 * n * d + 4 * min(n, d) ** 2].reshape(4, min(n, d), min(n, d))
    loops.muon(w, g, m, u, step, squares, lr, momentum, weight_decay, scale,
               _as_array(polynomials, w.dtype), margin)


@functools.lru_cache
def _as_array(polynomials, dtype):
    return np.array(polynomials, dtype)


def _by_tiles(a):
    """Return True for floats with contiguous rows whose blocks, and their squares, tiles fit in."""
    lanes = loops.BYTES // a.itemsize
    return is_real(a.dtype) and a.strides[2] == a.itemsize and a.flags.aligned and not (
        a.shape[1] % loops.ROWS or a.shape[2] % lanes or min(a.shape[1:]) % lanes)
