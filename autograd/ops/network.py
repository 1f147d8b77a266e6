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


# erf(x) = tanh(x P(x²) / Q(x²)): artanh(erf(x)) / x is smooth and nearly straight, so short polynomials do (lowest
# power first; weighted least squares on Chebyshev nodes).  Up to `end`, where erf is 1 in that precision, the relative
# error is 1.1e-8 in single and 7.9e-17 in double precision, before rounding.
_ERF_SINGLE = 4.4, (
    1.128379178720705176, 0.25088029118652782355, 0.035327267317193230757, 0.0013874578918245942419,
    -0.000015216659440216198815), (
    1.0, 0.13125735994337384528, 0.01953687289790742608)
_ERF_DOUBLE = 6.0, (
    1.1283791670955124908, 0.46447423901996134645, 0.1274949237650737322, 0.021079900826153976254,
    0.0024882622524267243324, 0.00018637277996501109082, 8.4839781798186118086e-6, 1.0927503446137250039e-7,
    -4.9305800096074992629e-9, -2.1630398501662486764e-11), (
    1.0, 0.32054972855360630659, 0.083979207590590187204, 0.011615173126848834893, 0.0012732901880701949862,
    0.000073850380316752453378, 2.7966776884292812842e-6, -2.4130626135466261423e-8, -1.06525412381341198e-9)


def _polynomial(u, coefficients):
    """Horner's scheme, in one array."""
    y = u * coefficients[-1]
    for c in coefficients[-2:0:-1]:
        y += c
        y *= u
    y += coefficients[0]
    return y


@op
def erf(x):
    """Error function.  y = 2/√π ∫₀ˣ exp(−t²) dt"""
    end, top, bottom = _ERF_SINGLE if x.dtype.itemsize <= 4 else _ERF_DOUBLE
    x = np.clip(x, -end, end)
    u = x * x
    x *= _polynomial(u, top)
    x /= _polynomial(u, bottom)
    return np.tanh(x)


@erf.gradient("x")
def _(g, y, x):
    """∂L/∂x = g ⊙ 2/√π exp(−x²)"""
    return g * (2 / math.sqrt(math.pi) * np.exp(-x * x))


@op
def gelu(x, approximate="none"):
    """Gaussian error linear unit (Hendrycks & Gimpel 2016).  y = x Φ(x), Φ the normal distribution function;
    "tanh" puts Φ(x) ≈ ½ (1 + tanh √(2/π) (x + 0.044715 x³))."""
    return x * normal_cdf(x, approximate)


def normal_cdf(x, approximate):
    """Φ(x), the normal distribution function, exactly or by gelu's "tanh" formula."""
    # Augmented assignment works in place on an array of our own, and makes a new record of a Tensor.
    if approximate == "none":
        y = erf(x * math.sqrt(0.5))
    elif approximate == "tanh":
        y = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x)))
    else:
        raise ValueError(f'approximate is "none" or "tanh", not {approximate!r}')
    y += 1
    y *= 0.5
    return y


def normal_density(x):
    """Φ′(x) = exp(−x²/2) / √(2π)"""
    y = np.exp(x * x * -0.5)
    y *= 1 / math.sqrt(2 * math.pi)
    return y


@gelu.gradient("x")
def _(g, y, x, approximate="none"):
    """∂L/∂x = g ⊙ (Φ(x) + x Φ′(x)), Φ′(x) = exp(−x²/2) / √(2π)"""
    cdf = normal_cdf(x, approximate)
    if approximate == "none":
        slope = normal_density(x)
    else:
        slope = 2 * cdf * (1 - cdf) * (math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * (x * x)))
    return g * (cdf + x * slope)


# ---------------------------------------------------------------------- probabilities


@op
def softmax(x, axis=-1):
    """Probabilities along `axis`.  y = exp(x) / Σ exp(x)"""
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    e /= e.sum(axis=axis, keepdims=True)
    return e


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
    keep, targets = _checked_targets(logits, targets, ignore_index, reduction)
    log_p = log_softmax(logits)
    loss = -np.take_along_axis(log_p, targets[..., None], -1)[..., 0]
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * log_p.mean(axis=-1)
    loss = np.where(keep, loss, 0)
    return loss if reduction == "none" else loss.sum() / _divisor(keep, loss, reduction)


def _checked_targets(logits, targets, ignore_index, reduction):
    """Which targets count, and all of them with 0 for those that do not."""
    if np.shape(targets) != logits.shape[:-1]:
        raise ValueError(f"targets have shape {np.shape(targets)}, and need one class for each place of the logits: "
                         f"{logits.shape[:-1]}")
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
    keep, targets = _checked_targets(logits, targets, ignore_index, reduction)
    n = logits.shape[-1]
    q = one_hot(targets, n) * (1 - label_smoothing) + label_smoothing / n if label_smoothing else one_hot(targets, n)
    g = np.where(keep, g / _divisor(keep, g, reduction), 0)
    return g[..., None] * (softmax(logits) - q)


# ---------------------------------------------------------------------- layers


@op
def layer_norm(x, weight, bias, eps=1e-5):
    """Layer norm over the last axis (Ba, Kiros & Hinton 2016), weight and bias (n,) or None.
    y = x̂ ⊙ weight + bias, x̂ = (x − mean x) / √(var x + eps)"""
    for name, a in (("weight", weight), ("bias", bias)):
        if a is not None and a.shape != x.shape[-1:]:
            raise ValueError(f"{name} has shape {a.shape}, and needs {x.shape[-1:]}, that of the last axis")
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
    sees the keys up to i + S − T, so that the last query sees them all.  A query that sees no key gives NaN.
    """
    return _attention_weights(q, k, mask, causal, scale) @ v


def _attention_weights(q, k, mask, causal, scale):
    scores = q @ k.mT
    scores *= _scale(q, scale)  # in place on an array, a new record of a Tensor
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if causal:
        scores += np.where(causal_mask(q, k), 0, -np.inf).astype(scores.dtype)
    return softmax(scores)


def _scale(q, scale):
    return 1 / math.sqrt(q.shape[-1]) if scale is None else scale


@attention.gradient("q", "k", "v", "mask")
def _(g, y, q, k, v, mask=None, causal=False, scale=None):
    """∂L/∂q = s k · scale,  ∂L/∂k = sᵀ q · scale,  ∂L/∂v = pᵀ g,  ∂L/∂mask = s
    s = p ⊙ (g vᵀ − Σ g⊙y), the gradient of the scores: Σⱼ pᵢⱼ (g vᵀ)ᵢⱼ is Σ g⊙y in row i (Dao et al. 2022, B.2)"""
    p = _attention_weights(q, k, mask, causal, scale)
    s = g @ v.mT
    s -= (g * y).sum(axis=-1, keepdims=True)
    s *= p
    return (s @ k) * _scale(q, scale), (s.mT @ q) * _scale(q, scale), p.mT @ g, s


@op(differentiable=False)
def causal_mask(q, k):
    """Which of S keys each of T queries sees: (T, S) booleans.  y[i, j] = [j ≤ i + S − T]"""
    t, s = q.shape[-2], k.shape[-2]
    return np.tri(t, s, s - t, dtype=bool, like=q)
