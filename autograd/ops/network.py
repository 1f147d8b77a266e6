"""Ops of neural networks."""

from __future__ import annotations

import math

import numpy as np

from ..engine import op
from .index import one_hot

# ---------------------------------------------------------------------- activations


@op
def relu(x):
    """Rectified linear unit.  y = max(x, 0)    Its gradient at 0 is 0."""
    return np.maximum(x, 0)


@relu.gradient("x")
def _(g, y, x):
    """∂L/∂x = g where x > 0, else 0"""
    return np.where(x > 0, g, 0)


# erf(x) / x as a ratio of polynomials in x², lowest power first, from weighted least squares on Chebyshev nodes of
# [0, 4] (relative error 2.1e-9) and [0, 6] (2.3e-16); beyond, erf is 1 in that precision.
_ERF_SINGLE = 4.0, (
    1.1283791692098788676, 0.18524119554849764691, 0.054316660868777944237, 0.0038504741480872987857,
    0.00037940677758421877255, 4.6785002167428939394e-6, -1.3172554292578875837e-8), (
    1.0, 0.49749914547957470903, 0.11396942853758077762, 0.015463124299271727059, 0.0013074732334591625029,
    0.000063051195234472686952)
_ERF_DOUBLE = 6.0, (
    1.1283791670955125247, 0.22143858345978621809, 0.066345359030466509063, 0.0069585785335780879923,
    0.00086189341321865507453, 0.000057723791490165038955, 3.9424378991068733853e-6, 1.7221595425382076138e-7,
    6.8379185586396550366e-9, 1.7441814127048999964e-10, 3.3262493588714310376e-12, 2.1720007761420498323e-14,
    1.5078817703205801764e-17), (
    1.0, 0.52957816832951008122, 0.13532309966151364674, 0.022126286522829809611, 0.0025863264033652645644,
    0.00022844006755188363325, 0.000015686434080887650294, 8.4626312006091774903e-7, 3.5648313578878167725e-8,
    1.1390702377877061934e-9, 2.5706327608925737259e-11, 3.2704160315289280191e-13, 8.5585430885799983465e-16)


def _polynomial(u, coefficients):
    """Horner's scheme, lowest power first, in one array."""
    y = u * coefficients[-1]
    for c in coefficients[-2:0:-1]:
        y += c
        y *= u
    y += coefficients[0]
    return y


@op
def erf(x):
    """Error function.  y = 2/√π ∫₀ˣ exp(−t²) dt"""
    x = x * 1.0  # integers become floating-point
    end, top, bottom = _ERF_SINGLE if x.dtype.itemsize <= 4 else _ERF_DOUBLE
    x = np.clip(x, -end, end)
    u = x * x
    return np.clip(x * _polynomial(u, top) / _polynomial(u, bottom), -1, 1)


@erf.gradient("x")
def _(g, y, x):
    """∂L/∂x = g ⊙ 2/√π exp(−x²)"""
    return g * (2 / math.sqrt(math.pi) * np.exp(-x * x))


@op
def gelu(x, approximate="none"):
    """Gaussian error linear unit (Hendrycks & Gimpel 2016).  y = x Φ(x), Φ the normal distribution function;
    "tanh" puts Φ(x) ≈ ½ (1 + tanh √(2/π) (x + 0.044715 x³))."""
    return x * _normal_cdf(x, approximate)


def _normal_cdf(x, approximate):
    if approximate == "none":
        return 0.5 * (1 + erf(x * math.sqrt(0.5)))
    if approximate == "tanh":
        return 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))))
    raise ValueError(f'approximate is "none" or "tanh", not {approximate!r}')


@gelu.gradient("x")
def _(g, y, x, approximate="none"):
    """∂L/∂x = g ⊙ (Φ(x) + x Φ′(x)), Φ′(x) = exp(−x²/2) / √(2π)"""
    cdf = _normal_cdf(x, approximate)
    if approximate == "none":
        slope = np.exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
    else:
        slope = 2 * cdf * (1 - cdf) * (math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * (x * x)))
    return g * (cdf + x * slope)


# ---------------------------------------------------------------------- probabilities


@op
def softmax(x, axis=-1):
    """Probabilities along `axis`.  y = exp(x) / Σ exp(x)"""
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


@softmax.gradient("x")
def _(g, y, x, axis=-1):
    """∂L/∂x = y ⊙ (g − Σ g⊙y)      the Jacobian diag(y) − y yᵀ, applied without building it"""
    return y * (g - (g * y).sum(axis=axis, keepdims=True))


@op
def log_softmax(x, axis=-1):
    """Logarithms of probabilities along `axis`.  y = x − ln Σ exp(x)"""
    x = x - x.max(axis=axis, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=axis, keepdims=True))


@log_softmax.gradient("x")
def _(g, y, x, axis=-1):
    """∂L/∂x = g − exp(y) ⊙ Σ g"""
    return g - np.exp(y) * g.sum(axis=axis, keepdims=True)


@op
def cross_entropy(logits, targets, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    """Cross-entropy of softmax(logits) (…, V) with the classes `targets` (…), integers below V.

    L = −Σⱼ qⱼ ln softmax(logits)ⱼ, where q is 1 − ε for the target plus ε/V for each class, ε = label_smoothing.
    Places whose target is `ignore_index` count nothing.  reduction: "mean" of the others, "sum", or "none": each.
    """
    keep, targets = _checked_targets(targets, ignore_index, reduction)
    log_p = log_softmax(logits)
    loss = -np.take_along_axis(log_p, targets[..., None], -1)[..., 0]
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * log_p.mean(axis=-1)
    loss = np.where(keep, loss, 0)
    return loss if reduction == "none" else loss.sum() / _divisor(keep, loss, reduction)


def _checked_targets(targets, ignore_index, reduction):
    """Which targets count, and all of them with 0 for those that do not."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction is "mean", "sum" or "none", not {reduction!r}')
    keep = targets != ignore_index
    targets = np.where(keep, targets, 0)
    if targets.size and targets.min() < 0:
        raise IndexError(f"target {targets.min()} is no class: classes count from 0, ignore_index is {ignore_index}")
    return keep, targets


def _divisor(keep, like, reduction):
    """By how much the sum of losses is divided, in the dtype of `like`."""
    return keep.sum().astype(like.dtype) if reduction == "mean" else 1


@cross_entropy.gradient("logits")
def _(g, loss, logits, targets, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    """∂L/∂logits = g (softmax(logits) − q)"""
    keep, targets = _checked_targets(targets, ignore_index, reduction)
    n = logits.shape[-1]
    q = one_hot(targets, n) * (1 - label_smoothing) + label_smoothing / n if label_smoothing else one_hot(targets, n)
    g = np.where(keep, g / _divisor(keep, g, reduction), 0)
    return g[..., None] * (softmax(logits) - q)


# ---------------------------------------------------------------------- layers


@op
def layer_norm(x, weight, bias, eps=1e-5):
    """Layer norm over the last axis (Ba, Kiros & Hinton 2016), weight and bias (n,) or None.
    y = x̂ ⊙ weight + bias, x̂ = (x − mean x) / √(var x + eps)"""
    y, _ = _normalized(x, eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _normalized(x, eps):
    """x̂, and 1 / √(var x + eps)."""
    x = x - x.mean(axis=-1, keepdims=True)
    scale = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    return x * scale, scale


@layer_norm.gradient("x", "weight")
def _(g, y, x, weight, bias, eps=1e-5):
    """∂L/∂x = (ĝ − mean ĝ − x̂ ⊙ mean(ĝ ⊙ x̂)) / √(var x + eps), ĝ = g ⊙ weight
    ∂L/∂weight = Σ g ⊙ x̂"""
    normal, scale = _normalized(x, eps)
    h = g if weight is None else g * weight
    shift, stretch = h.mean(axis=-1, keepdims=True), (h * normal).mean(axis=-1, keepdims=True)
    return (h - shift - normal * stretch) * scale, g * normal


@layer_norm.gradient("bias")
def _(g, y, x, weight, bias, eps=1e-5):
    """∂L/∂bias = Σ g"""
    return g


@op
def attention(q, k, v, mask=None, causal=False, scale=None):
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1): q (…, T, d), k (…, S, d), v (…, S, e) -> (…, T, e).

    y = p v, p = softmax(q kᵀ · scale + mask), scale = 1/√d unless given
    A boolean `mask` (broadcast to (…, T, S)) says which keys a query sees, any other is added.  `causal`: query i
    sees the keys up to i + S − T, so that the last query sees them all.
    """
    return _attention_weights(q, k, mask, causal, scale) @ v


def _attention_weights(q, k, mask, causal, scale):
    scores = (q @ k.mT) * (scale or 1 / math.sqrt(q.shape[-1]))
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if causal:
        scores = np.where(causal_mask(q, k), scores, -np.inf)
    return softmax(scores)


@attention.gradient("q", "k", "v", "mask")
def _(g, y, q, k, v, mask=None, causal=False, scale=None):
    """∂L/∂q = s k · scale,  ∂L/∂k = sᵀ q · scale,  ∂L/∂v = pᵀ g,  ∂L/∂mask = s
    s = p ⊙ (g vᵀ − Σ g⊙y), the gradient of the scores: Σⱼ pᵢⱼ (g vᵀ)ᵢⱼ is Σ g⊙y in row i (Dao et al. 2022, B.2)"""
    p = _attention_weights(q, k, mask, causal, scale)
    s = p * (g @ v.mT - (g * y).sum(axis=-1, keepdims=True))
    factor = scale or 1 / math.sqrt(q.shape[-1])
    return (s @ k) * factor, (s.mT @ q) * factor, p.mT @ g, s


@op(differentiable=False)
def causal_mask(q, k):
    """Which of S keys each of T queries sees: (T, S) booleans.  y[i, j] = [j ≤ i + S − T]"""
    t, s = q.shape[-2], k.shape[-2]
    return np.tri(t, s, s - t, dtype=bool, like=q)
