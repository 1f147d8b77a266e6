"""Matrix products."""

from __future__ import annotations

import math

import numpy as np

from ..engine import op


@op
def matmul(x, y):
    """Matrix product of the last two axes, the others broadcast; a 1-D array is a row on the left and a column
    on the right.  zᵢⱼ = Σₖ xᵢₖ yₖⱼ"""
    return np.matmul(x, y)


def _as_matrices(g, x, y):
    """`g`, `x` and `y` with the axes that matmul takes 1-D arrays to have."""
    g = g[..., None] if y.ndim == 1 else g
    g = g[..., None, :] if x.ndim == 1 else g
    return g, x[None, :] if x.ndim == 1 else x, y[:, None] if y.ndim == 1 else y


@matmul.gradient("x")
def _(g, z, x, y):
    """∂L/∂x = g yᵀ"""
    g, _, y = _as_matrices(g, x, y)
    return g @ y.mT


@matmul.gradient("y")
def _(g, z, x, y):
    """∂L/∂y = xᵀ g"""
    g, matrix, _ = _as_matrices(g, x, y)
    d = matrix.mT @ g
    return d[..., 0] if y.ndim == 1 else d


@op
def linear(x, w, b):
    """Affine map of the last axis: x (…, n), w (n, m), b (m,) or None -> (…, m).  y = x w + b

    The leading axes are one axis of rows to it, so that each product is one large matrix product.
    """
    if w.ndim != 2 or b is not None and b.shape != w.shape[1:]:
        raise ValueError(f"w has shape {w.shape} and needs two axes; b needs shape {w.shape[1:]}, or to be None")
    y = (_rows(x) @ w).reshape(*x.shape[:-1], w.shape[1])
    return y if b is None else y + b


def _rows(x):
    """(…, n) -> (rows, n)"""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


@linear.gradient("x")
def _(g, y, x, w, b):
    """∂L/∂x = g wᵀ"""
    return (_rows(g) @ w.mT).reshape(x.shape)


@linear.gradient("w")
def _(g, y, x, w, b):
    """∂L/∂w = xᵀ g, summed over all rows"""
    return _rows(x).mT @ _rows(g)


@linear.gradient("b")
def _(g, y, x, w, b):
    """∂L/∂b = g, summed over all rows"""
    return g
