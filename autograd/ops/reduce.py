"""Ops that reduce axes."""

from __future__ import annotations

import math

import numpy as np

from ..engine import op


def _axes(x, axis) -> tuple[int, ...]:
    """The reduced axes of `x`, counted from 0."""
    if axis is None:
        return tuple(range(x.ndim))
    return tuple(a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,)))


def _kept(a, x, axis):
    """A reduction `a` of `x` with the reduced axes back, as 1."""
    axes = _axes(x, axis)
    return a.reshape(tuple(1 if i in axes else n for i, n in enumerate(x.shape)))


def _count(x, axis) -> int:
    """How many elements of `x` go into one of the result."""
    return math.prod(x.shape[a] for a in _axes(x, axis))


@op
def sum(x, axis=None, keepdims=False):  # noqa: A001  (NumPy's name)
    """Sum along `axis` (an axis, several, or None: all).  y = Σᵢ xᵢ"""
    return np.sum(x, axis=axis, keepdims=keepdims)


@sum.gradient("x")
def _(g, y, x, axis=None, keepdims=False):
    """∂L/∂xᵢ = g"""
    return np.broadcast_to(_kept(g, x, axis), x.shape)


@op
def mean(x, axis=None, keepdims=False):
    """Mean of the n elements along `axis`.  y = Σᵢ xᵢ / n"""
    return np.mean(x, axis=axis, keepdims=keepdims)


@mean.gradient("x")
def _(g, y, x, axis=None, keepdims=False):
    """∂L/∂xᵢ = g / n"""
    return np.broadcast_to(_kept(g, x, axis) / (_count(x, axis) or 1), x.shape)


@op
def var(x, axis=None, ddof=0, keepdims=False):
    """Variance of the n elements along `axis`.  y = Σᵢ (xᵢ − x̄)² / (n − ddof)"""
    return np.var(x, axis=axis, ddof=ddof, keepdims=keepdims)


@var.gradient("x")
def _(g, y, x, axis=None, ddof=0, keepdims=False):
    """∂L/∂xᵢ = 2 g (xᵢ − x̄) / (n − ddof)"""
    return _kept(g, x, axis) * 2 * (x - x.mean(axis=axis, keepdims=True)) / (_count(x, axis) - ddof)


@op
def max(x, axis=None, keepdims=False):  # noqa: A001  (NumPy's name)
    """Largest element along `axis`.  y = maxᵢ xᵢ    Equal ones share the gradient evenly."""
    return np.max(x, axis=axis, keepdims=keepdims)


@max.gradient("x")
def _(g, y, x, axis=None, keepdims=False):
    """∂L/∂xᵢ = g [xᵢ = y] / #{j : xⱼ = y}"""
    largest = x == _kept(y, x, axis)
    ties = largest.sum(axis=axis, keepdims=True).astype(g.dtype)
    return np.where(largest, _kept(g, x, axis) / ties, 0)
