"""Ops of neural networks."""

from __future__ import annotations

import math

import numpy as np

from ..define import composed, op
from ..state import current_mode, drawn
from .elementwise import sigmoid
from .index import one_hot

# ---------------------------------------------------------------------- activations


@op
def relu(x):
    """Rectified linear unit.  y = max(x, 0)    Its gradient at 0 is 0."""
    return np.maximum(x, 0)

@relu.gradient("x")
def _(g, y, x):
    """∂L/∂x = g where x > 0, else 0"""
    return np.where(x <= 0, 0, g)  # NaN lets g pass, so that it does not end here unseen


@op
def squared_relu(x):
    """Rectified linear unit, squared (So et al. 2021, Primer).  y = max(x, 0)²    Its gradients at 0 are 0."""
    return np.square(relu(x))

@squared_relu.gradient("x")
def _(g, y, x):
    """∂L/∂x = 2 g ⊙ max(x, 0)"""
    return 2 * g * relu(x)


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
    """Gaussian error linear unit (Hendrycks & Gimpel 2016).  y = x Φ(x), Φ the normal distribution function
    approximate: "tanh" puts Φ(x) ≈ ½ (1 + tanh √(2/π) (x + 0.044715 x³))."""
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


@composed
def softplus(x):
    """Smooth relu.  y = ln(1 + eˣ)"""
    return np.logaddexp(x, 0)


@composed
def silu(x):
    """Sigmoid linear unit, or swish.  y = x sigmoid(x)"""
    return x * sigmoid(x)


@composed
def leaky_relu(x, slope=0.01):
    """y = x where x > 0, else slope · x    At 0 the gradient is that of the negative side."""
    return np.where(x > 0, x, slope * x)


@composed
def swiglu(x, gate, up):
    """Gated unit (Shazeer 2020): x (…, n), gate and up (n, m) -> (…, m).  y = silu(x gate) ⊙ (x up)"""
    return silu(x @ gate) * (x @ up)


@composed
def dropout(x, rate, rng):
    """Zeros with probability `rate`, drawn from `rng` (np.random.Generator), and the others scaled up, so that the
    expectation stays.  y = x ⊙ mask / (1 − rate)"""
    if not 0 <= rate < 1:
        raise ValueError(f"rate is a probability below 1, not {rate}")
    return x * drawn(lambda: (rng.random(x.shape, dtype=np.float32) >= rate).astype(x.dtype) / (1 - rate))


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
    keep, targets = checked_targets(logits, targets, ignore_index, reduction)
    log_p = log_softmax(logits)
    loss = -np.take_along_axis(log_p, targets[..., None], -1)[..., 0]
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * log_p.mean(axis=-1)
    loss = np.where(keep, loss, 0)
    return loss if reduction == "none" else loss.sum() / _divisor(keep, loss, reduction)


def checked_targets(logits, targets, ignore_index, reduction):
    """Which targets count, and all of them with 0 for those that do not."""
    if np.shape(targets) != logits.shape[:-1]:
        raise ValueError(f"targets have shape {np.shape(targets)}, and need one class for each place of the logits: "
                         f"{logits.shape[:-1]}")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction is "mean", "sum" or "none", not {reduction!r}')
    keep, targets = _kept_targets(targets, ignore_index)
    if targets.size and targets.min() < 0:
        raise IndexError(f"target {targets.min()} is no class: classes count from 0, ignore_index is {ignore_index}")
    return keep, targets


def _kept_targets(targets, ignore_index):
    keep = targets != ignore_index
    return keep, np.where(keep, targets, 0)


def _divisor(keep, like, reduction):
    """By how much the sum of losses is divided, in the dtype of `like`."""
    return keep.sum().astype(like.dtype) if reduction == "mean" else 1

@cross_entropy.gradient("logits")
def _(g, loss, logits, targets, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    """∂L/∂logits = g (softmax(logits) − q)"""
    keep, targets = _kept_targets(targets, ignore_index)
    n = logits.shape[-1]
    q = one_hot(targets, n) * (1 - label_smoothing) + label_smoothing / n if label_smoothing else one_hot(targets, n)
    g = np.where(keep, g / _divisor(keep, g, reduction), 0)
    return g[..., None] * (softmax(logits) - q)


def _reduced(loss, reduction):
    """The loss of each element, their mean, or their sum."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction is "mean", "sum" or "none", not {reduction!r}')
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


@composed
def mse(prediction, target, reduction="mean"):
    """Squared error.  L = (prediction − target)², reduced"""
    return _reduced(np.square(prediction - target), reduction)


@composed
def binary_cross_entropy(logits, targets, reduction="mean"):
    """Cross-entropy of sigmoid(logits) with `targets` from 0 to 1, of one shape, exact for large logits too.
    L = ln(1 + exp(logits)) − targets ⊙ logits, reduced"""
    if np.shape(targets) != logits.shape:
        raise ValueError(f"targets have shape {np.shape(targets)}, and need that of the logits: {logits.shape}")
    return _reduced(np.logaddexp(0, logits) - targets * logits, reduction)


@composed
def kl_divergence(log_q, p, axis=-1, reduction="mean"):
    """Kullback–Leibler divergence of the probabilities p from q, given log q, along `axis`: D = Σᵢ pᵢ (ln pᵢ − ln qᵢ),
    then its mean over the other axes, its sum, or each.  Where p is 0 the term is 0."""
    terms = p * np.log(np.where(p == 0, 1, p)) - p * log_q
    return _reduced(terms.sum(axis=axis), reduction)


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
def rms_norm(x, weight, eps=1e-5):
    """Root mean square norm over the last axis (Zhang & Sennrich 2019), weight (n,) or None.
    y = x̂ ⊙ weight, x̂ = x / √(mean x² + eps)"""
    if weight is not None and weight.shape != x.shape[-1:]:
        raise ValueError(f"weight has shape {weight.shape}, and needs {x.shape[-1:]}, that of the last axis")
    y = x * _rms_scale(x, eps)
    return y if weight is None else y * weight


def _rms_scale(x, eps):
    return 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)

@rms_norm.gradient("x", "weight")
def _(g, y, x, weight, eps=1e-5):
    """∂L/∂x = (ĝ − x̂ ⊙ mean(ĝ ⊙ x̂)) / √(mean x² + eps), ĝ = g ⊙ weight
    ∂L/∂weight = Σ g ⊙ x̂"""
    scale = _rms_scale(x, eps)
    normal, h = x * scale, g if weight is None else g * weight
    return (h - normal * (h * normal).mean(axis=-1, keepdims=True)) * scale, g * normal


@op
def rotary(x, angles):
    """Rotary position embedding (Su et al. 2021): x (…, T, d), d even, and angles (T, d/2) in radians -> (…, T, d).

    The pairs (xᵢ, xᵢ₊ₕ), h = d/2, turn by angleᵢ.  y = (x₁ cos − x₂ sin, x₂ cos + x₁ sin), x₁ and x₂ the halves of x
    """
    h = x.shape[-1] // 2
    if x.ndim < 2 or x.shape[-1] % 2 or angles.shape != (x.shape[-2], h):
        raise ValueError(f"x has shape {x.shape} and angles {angles.shape}: x needs an even last axis d, and angles "
                         "shape (T, d/2), where T is the last axis of x but one")
    cos, sin = np.cos(angles).astype(x.dtype), np.sin(angles).astype(x.dtype)
    a, b = x[..., :h], x[..., h:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

@rotary.gradient("x")
def _(g, y, x, angles):
    """∂L/∂x = g turned back"""
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
    t, axes = x.shape[-2], tuple(range(x.ndim - 1))
    return np.stack([(g[..., k:, :] * x[..., :max(t - k, 0), :]).sum(axis=axes) for k in range(weight.shape[0])])


@op
def attention(q, k, v, mask=None, causal=False, scale=None):
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1): q (…, T, d), k (…, S, d), v (…, S, e) -> (…, T, e).

    y = p v, p = softmax(q kᵀ · scale + mask), scale = 1/√d unless given
    A boolean `mask` (broadcast to (…, T, S)) says which keys a query sees, any other is added.  `causal`: query i
    sees the keys up to i + S − T, so that the last query sees them all.  A query that sees no key gives 0.  Where k and
    v have fewer heads (axis −3) than q, each of theirs serves as many neighbours of q's (Ainslie et al. 2023).
    """
    k, v = _for_heads_of(q, k), _for_heads_of(q, v)
    return _attention_weights(q, k, mask, causal, scale) @ v


def _for_heads_of(q, k):
    """`k` (…, G, S, d) with its heads repeated to be as many as those of q (…, H, T, d), where H is a multiple of G."""
    if k.ndim < 3 or q.ndim < 3 or k.shape[-3] in (0, 1, q.shape[-3]) or q.shape[-3] % k.shape[-3]:
        return k
    *batch, heads, s, d = k.shape
    n = q.shape[-3] // heads  # neighbours that share a head
    return np.broadcast_to(k.reshape((*batch, heads, 1, s, d)), (*batch, heads, n, s, d)).reshape(
        (*batch, heads * n, s, d))


def _summed_heads(d, k):
    """The gradient `d` of repeated heads, for those of k."""
    if d.ndim < 3 or k.ndim < 3 or d.shape[-3] == k.shape[-3] or k.shape[-3] == 1:
        return d
    *batch, heads, s, n = d.shape
    return d.reshape((*batch, k.shape[-3], heads // k.shape[-3], s, n)).sum(axis=-3)


def _attention_weights(q, k, mask, causal, scale):
    scores = q @ k.mT
    scores *= _scale(q, scale)  # in place on an array, a new record of a Tensor
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if causal:
        scores += np.where(causal_mask(q, k), 0, -np.inf).astype(scores.dtype)
    blind = (scores == -np.inf).all(axis=-1, keepdims=True)
    if current_mode().tracing or blind.any():
        return np.where(blind, 0, softmax(np.where(blind, 0, scores)))
    return softmax(scores)


def _scale(q, scale):
    return 1 / math.sqrt(q.shape[-1]) if scale is None else scale

@attention.gradient("q", "k", "v", "mask")
def _(g, y, q, k, v, mask=None, causal=False, scale=None):
    """∂L/∂q = s k · scale,  ∂L/∂k = sᵀ q · scale,  ∂L/∂v = pᵀ g,  ∂L/∂mask = s
    s = p ⊙ (g vᵀ − Σ g⊙y)    the gradient of the scores: Σⱼ pᵢⱼ (g vᵀ)ᵢⱼ is Σ g⊙y in row i (Dao et al. 2022, B.2)"""
    keys, values = _for_heads_of(q, k), _for_heads_of(q, v)
    p = _attention_weights(q, keys, mask, causal, scale)
    s = g @ values.mT
    s -= (g * y).sum(axis=-1, keepdims=True)
    s *= p
    scale = _scale(q, scale)
    return (s @ keys) * scale, _summed_heads((s.mT @ q) * scale, k), _summed_heads(p.mT @ g, v), s


@op(differentiable=False)
def causal_mask(q, k):
    """Which of S keys each of T queries sees: (T, S) booleans.  y[i, j] = [j ≤ i + S − T]"""
    t, s = q.shape[-2], k.shape[-2]
    return np.tri(t, s, s - t, dtype=bool, like=q)
