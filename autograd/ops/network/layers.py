"""Norms, positions, convolution and attention."""

from __future__ import annotations

import functools
import math

import numpy as np

from ...core.arrays import as_floats, cast, narrow, widen
from ...define import op
from ...engine import Op
from .probabilities import softmax


@op
def layer_norm(x, weight, bias, eps=1e-5):
    """Layer norm over the last axis (Ba, Kiros & Hinton 2016), weight and bias (n,) or None.
    y = x̂ ⊙ weight + bias, x̂ = (x − mean x) / √(var x + eps)"""
    for name, a in (("weight", weight), ("bias", bias)):
        if a is not None and a.shape != x.shape[-1:]:
            raise ValueError(f"{name} has shape {a.shape}, and needs {x.shape[-1:]}, that of the last axis")
    y, _ = normalize(widen(x), eps)
    y = y if weight is None else y * weight
    return narrow(y if bias is None else y + bias, x)


@functools.partial(Op, differentiable=False)
def _unit(x, eps):
    """A power of two near the largest |x| of each row, or near √eps: sums of (x / unit)² do not overflow, and results
    that do not overflow without it keep their bits.  It is constant almost everywhere."""
    largest = np.maximum(np.absolute(x).max(axis=-1, keepdims=True, initial=0), math.sqrt(eps))
    return np.ldexp(np.ones_like(largest), np.frexp(largest)[1] - 1)


_unit.batching = "leading"


def _row_mean(x):
    """Return the mean of each row, 0 of an empty one."""
    return x.sum(axis=-1, keepdims=True) / (x.shape[-1] or 1)


def normalize(x, eps):
    """Return x̂, and 1 / √(var x + eps)."""
    unit = _unit(x, eps)
    x = x / unit
    x = x - _row_mean(x)
    scale = 1 / np.sqrt(_row_mean(x * x) + eps / unit / unit)
    return x * scale, scale / unit

@layer_norm.gradient("x", "weight")
def _(g, y, x, weight, bias, eps=1e-5):
    """∂L/∂x = (ĝ − mean ĝ − x̂ ⊙ mean(ĝ ⊙ x̂)) / √(var x + eps), ĝ = g ⊙ weight
    ∂L/∂weight = Σ g ⊙ x̂"""
    g = widen(g)
    normal, scale = normalize(widen(x), eps)
    h = g if weight is None else g * weight
    return (h - _row_mean(h) - normal * _row_mean(h * normal)) * scale, g * normal

@layer_norm.gradient("bias")
def _(g, y, x, weight, bias, eps=1e-5):
    """∂L/∂bias = Σ g"""
    return g


@op
def rms_norm(x, weight, eps=1e-5):
    """Root mean square norm over the last axis (Zhang & Sennrich 2019), weight (n,) or None.
    y = x̂ ⊙ weight, x̂ = x / √(mean x² + eps)"""
    if weight is not None and weight.shape != x.shape[-1:]:
        raise ValueError(f"weight has shape {weight.shape}, and needs {x.shape[-1:]}, that of the last axis")
    y = widen(x) * rms_scale(widen(x), eps)
    return narrow(y if weight is None else y * weight, x)


def rms_scale(x, eps):
    """1 / √(mean x² + eps)"""
    unit = _unit(x, eps)
    x = x / unit
    return 1 / np.sqrt(_row_mean(x * x) + eps / unit / unit) / unit

@rms_norm.gradient("x", "weight")
def _(g, y, x, weight, eps=1e-5):
    """∂L/∂x = (ĝ − x̂ ⊙ mean(ĝ ⊙ x̂)) / √(mean x² + eps), ĝ = g ⊙ weight
    ∂L/∂weight = Σ g ⊙ x̂"""
    g, x = widen(g), widen(x)
    scale = rms_scale(x, eps)
    normal, h = x * scale, g if weight is None else g * weight
    return (h - normal * _row_mean(h * normal)) * scale, g * normal


@op
def rotary(x, angles):
    """Rotary position embedding (RoPE, Su et al. 2021): x (…, T, d), d even, angles (…, T, d/2) in radians.

    The pairs (xᵢ, xᵢ₊ₕ), h = d/2, turn by angleᵢ.  y = (x₁ cos − x₂ sin, x₂ cos + x₁ sin), x₁ and x₂ the halves of x
    """
    h = x.shape[-1] // 2
    if x.ndim < 2 or x.shape[-1] % 2 or angles.shape[-2:] != (x.shape[-2], h):
        raise ValueError(f"x has shape {x.shape} and angles {angles.shape}: x needs an even last axis d, and angles "
                         "shape (T, d/2), where T is the last axis of x but one")
    x, angles = as_floats(x), as_floats(angles)
    angles = cast(angles, np.result_type(x.dtype, angles.dtype))
    cos, sin = np.cos(angles).astype(x.dtype), np.sin(angles).astype(x.dtype)
    a, b = x[..., :h], x[..., h:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

@rotary.gradient("x")
def _(g, y, x, angles):
    """∂L/∂x = g rotated back"""
    return rotary(g, -angles)

@rotary.gradient("angles")
def _(g, y, x, angles):
    """∂L/∂angles = Σ (g₂ ⊙ y₁ − g₁ ⊙ y₂)    a pair that turns moves at right angles to where it is"""
    h = x.shape[-1] // 2
    return g[..., h:] * y[..., :h] - g[..., :h] * y[..., h:]


@op
def causal_conv(x, weight):
    """Depthwise causal convolution: x (…, T, C), each channel with its own K taps, weight (K, C) -> (…, T, C).
    yₜ = Σₖ weightₖ ⊙ xₜ₋ₖ, where x before the start is 0"""
    if x.ndim < 2 or weight.ndim != 2 or weight.shape[0] == 0 or weight.shape[1] != x.shape[-1]:
        raise ValueError(f"x has shape {x.shape} and weight {weight.shape}: x needs (…, T, C) and weight (K, C), one "
                         "row for each tap, at least one")
    t = x.shape[-2]
    y = x * weight[0]
    for k in range(1, min(weight.shape[0], t)):
        y[..., k:, :] += x[..., :t - k, :] * weight[k]
    return y

@causal_conv.gradient("x")
def _(g, y, x, weight):
    """∂L/∂xₜ = Σₖ weightₖ ⊙ gₜ₊ₖ    the convolution of g, seen from the end"""
    return causal_conv(g[..., ::-1, :], weight)[..., ::-1, :]

@causal_conv.gradient("weight")
def _(g, y, x, weight):
    """∂L/∂weightₖ = Σₜ gₜ ⊙ xₜ₋ₖ"""
    g, t, axes = widen(g), x.shape[-2], tuple(range(x.ndim - 1))
    return np.stack([(g[..., k:, :] * x[..., :max(t - k, 0), :]).sum(axis=axes) for k in range(weight.shape[0])])


@op
def attention(q, k, v, mask=None, causal=False, scale=None):
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1): q (…, T, d), k (…, S, d), v (…, S, e) -> (…, T, e).

    y = p v, p = softmax(q kᵀ · scale + mask), scale = 1/√d unless given
    A boolean `mask` (broadcast to (…, T, S)) says which keys a query sees, any other is added.  `causal`: query i
    sees the keys up to i + S − T, so that the last query sees them all.  A query that sees no key gives 0.  Where k and
    v have fewer heads (axis −3) than q, each of theirs serves as many neighbours of q's (Ainslie et al. 2023).
    """
    wide, k, v = (widen(as_floats(a)) for a in (q, _repeat_heads(q, k), _repeat_heads(q, v)))
    return narrow(_attention_weights(wide, k, mask, causal, scale) @ v, q)


def _repeat_heads(q, k):
    """Return `k` (…, G, S, d) with each head repeated for its group of heads of q (…, H, T, d), H a multiple of G."""
    if k.ndim < 3 or q.ndim < 3 or k.shape[-3] in (0, 1, q.shape[-3]) or q.shape[-3] % k.shape[-3]:
        return k
    *batch, heads, s, d = k.shape
    n = q.shape[-3] // heads  # queries a group
    return np.broadcast_to(k.reshape((*batch, heads, 1, s, d)), (*batch, heads, n, s, d)).reshape(
        (*batch, heads * n, s, d))


def _sum_heads(d, k):
    """Return the gradient of k's heads, from `d`, that of the repeated ones."""
    if d.ndim < 3 or k.ndim < 3 or d.shape[-3] == k.shape[-3] or k.shape[-3] == 1:
        return d
    *batch, heads, s, n = d.shape
    return d.reshape((*batch, k.shape[-3], heads // k.shape[-3], s, n)).sum(axis=-3)


def _attention_weights(q, k, mask, causal, scale):
    """Return softmax(q kᵀ · scale + mask), (…, T, S)."""
    scores = q @ k.mT
    scores *= attention_scale(q, scale)  # in place on an array, a new record of a Tensor
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if causal:
        scores += np.where(causal_mask(q, k), 0, -np.inf).astype(scores.dtype)
    return softmax(scores)


def attention_scale(q, scale):
    """Return the factor of the scores: `scale`, or 1/√d of q (…, T, d)."""
    return 1 / math.sqrt(q.shape[-1] or 1) if scale is None else scale

@attention.gradient("q", "k", "v", "mask")
def _(g, y, q, k, v, mask=None, causal=False, scale=None):
    """∂L/∂q = s k · scale,  ∂L/∂k = sᵀ q · scale,  ∂L/∂v = pᵀ g,  ∂L/∂mask = s
    s = p ⊙ (g vᵀ − Σ g⊙y)    the gradient of the scores: Σⱼ pᵢⱼ (g vᵀ)ᵢⱼ is Σ g⊙y in row i (Dao et al. 2022, B.2)"""
    g, q = widen(g), widen(q)  # each product has one of them, or what was computed of them
    keys, values = _repeat_heads(q, k), _repeat_heads(q, v)
    p = _attention_weights(q, keys, mask, causal, scale)
    s = g @ values.mT
    s -= (g * y).sum(axis=-1, keepdims=True)
    s *= p
    scale = attention_scale(q, scale)
    return (s @ keys) * scale, _sum_heads((s.mT @ q) * scale, k), _sum_heads(p.mT @ g, v), s


@op(differentiable=False)
def causal_mask(q, k):
    """Mask of the keys that each query sees, (T, S) booleans.  y[i, j] = [j ≤ i + S − T]"""
    t, s = q.shape[-2], k.shape[-2]
    return np.tri(t, s, s - t, dtype=bool, like=q)
