"""Steps of the optimizers by NumPy: AdamW on flat arrays, Muon on stacks of blocks."""

from __future__ import annotations

import math

import numpy as np

BLOCK = 1 << 16  # elements of a block of AdamW, so that all passes over it stay in the cache


def adamw_step(w, g, m, v, lr, beta1, beta2, eps, weight_decay, correction1, correction2, scale):
    """Run one step of AdamW, in place, on flat parameters w and their moments m and v, from the gradients g, which
    become g · scale.  `correction1` is 1 − β₁ᵗ and `correction2` 1 − β₂ᵗ at step t.

    m ← β₁m + (1−β₁)g,  v ← β₂v + (1−β₂)g²,  w ← w − lr·weight_decay·w − lr·m̂ / (√v̂ + eps)
    """
    root = math.sqrt(correction2)  # √v̂ + eps = (√v + eps·root) / root saves a pass over the array
    scratch = np.empty_like(w[:BLOCK])
    for start in range(0, w.size, BLOCK):  # all passes over a block stay in the cache: a third faster than at once
        w_part, g_part, m_part, v_part = (a[start:start + BLOCK] for a in (w, g, m, v))
        s = scratch[:w_part.size]
        w_part *= 1 - lr * weight_decay
        if scale != 1:
            g_part *= scale
        np.subtract(g_part, m_part, out=s)
        s *= 1 - beta1
        m_part += s
        np.multiply(g_part, g_part, out=s)
        s *= 1 - beta2
        v_part *= beta2
        v_part += s
        np.sqrt(v_part, out=s)
        s += eps * root
        np.divide(m_part, s, out=s)
        s *= lr * root / correction1
        w_part -= s


# ---------------------------------------------------------------------- Muon


def muon_workspace_size(k, n, d):
    """Return the number of elements of the workspace that `muon_step` needs for blocks (k, n, d)."""
    return k * (2 * n * d + 4 * min(n, d) ** 2)


def muon_step(w, g, m, workspace, lr, momentum, weight_decay, scale, polynomials, margin):
    """Run one step of Muon, in place, on blocks w (k, n, d) and their momentum m, from the gradients g · scale.

    m ← μm + (1−μ)g,  u = (1−μ)g + μm,  w ← w − lr·weight_decay·w − lr·O,  where O is what `orthogonalize` makes of u.
    `workspace` is a flat array of `muon_workspace_size(*w.shape)` elements, with any values.
    """
    k, size, small = len(w), w.size, min(w.shape[1:])
    u, step = (_view_like(w, flat) for flat in workspace[:2 * size].reshape(2, -1))
    squares = workspace[2 * size:2 * size + 4 * k * small ** 2].reshape(4, k, small, small)
    np.multiply(g, (1 - momentum) * scale, out=u)
    np.multiply(m, momentum, out=m)
    np.add(m, u, out=m)
    np.multiply(m, momentum, out=step)
    np.add(u, step, out=u)
    tall = w.shape[1] >= w.shape[2]
    orthogonalize(u if tall else u.mT, squares, lr, polynomials, margin, step if tall else step.mT)
    if weight_decay:
        np.multiply(w, 1 - lr * weight_decay, out=w)
    np.subtract(w, step, out=w)


def orthogonalize(x, squares, factor, polynomials, margin, out):
    """Write an approximation of `factor` · U Vᵀ into `out` for each x = U S Vᵀ of a stack (k, n, d), n at least d;
    zeros for zeros.

    X = x / (margin · ‖x‖) goes through a step X ← aX + b(XXᵀ)X + c(XXᵀ)²X for each (a, b, c) of `polynomials`.
    `squares` is a workspace (4, k, d, d); nothing of that size is allocated.
    """
    A, B, Q, other = squares
    np.matmul(x.mT, x, out=A)
    norm2 = np.maximum(A.trace(axis1=1, axis2=2), np.finfo(A.dtype).tiny)[:, None, None]  # ‖x‖², and no division by 0
    A /= margin ** 2 * norm2
    for i, (a, b, c) in enumerate(polynomials):
        P = other if i else Q
        np.multiply(A, c, out=B)
        _diagonal(B)[...] += b
        np.matmul(A, B, out=P)
        _diagonal(P)[...] += a                       # P = aI + A(bI + cA)
        if i < len(polynomials) - 1:
            np.matmul(P, A, out=B)
            np.matmul(P, B, out=A)                   # A ← P²A, the Gram matrix of XP
        if i:
            np.matmul(P, Q, out=B)                   # Q ← P Q
            B, Q = Q, B
    Q *= factor / (margin * np.sqrt(norm2))
    np.matmul(x, Q, out=out)


def _view_like(w, flat):
    """Return a view of a flat array in w's shape and memory order, so that a pass over both is sequential."""
    k, n, d = w.shape
    return flat.reshape(n, k, d).swapaxes(0, 1) if w.strides[0] < w.strides[1] else flat.reshape(k, n, d)


def _diagonal(a):
    """Return the diagonals of a stack (k, d, d), as a view to write to."""
    return a.reshape(len(a), -1)[:, ::a.shape[-1] + 1]
