"""Ops of neural networks."""

from __future__ import annotations

import functools
import math

import numpy as np

from ..core.arrays import as_floats, cast, narrow, widen
from ..core.mode import resampled
from ..define import composed, op
from ..engine import Op
from .elementwise import as_array, not_zero, sigmoid
from .index import one_hot
from .reduce import axes_of, expand_reduced

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
    """Evaluate a polynomial by Horner's scheme, in one array."""
    y = u * coefficients[-1]
    for c in coefficients[-2:0:-1]:
        y += c
        y *= u
    y += coefficients[0]
    return y


@op
def erf(x):
    """Error function.  y = 2/√π ∫₀ˣ exp(−t²) dt"""
    wide = widen(as_floats(x))
    end, top, bottom = _ERF_SINGLE if wide.dtype.itemsize <= 4 else _ERF_DOUBLE
    wide = np.clip(wide, -end, end)
    u = wide * wide
    wide *= _polynomial(u, top)
    wide /= _polynomial(u, bottom)
    return narrow(np.tanh(wide), x)

@erf.gradient("x")
def _(g, y, x):
    """∂L/∂x = g ⊙ 2/√π exp(−x²)"""
    x = np.clip(x, -30, 30)  # beyond, the slope is 0, and x² might overflow
    return g * (2 / math.sqrt(math.pi) * np.exp(-x * x))


# Φ(−a) = exp(−a²/2) P(a) / Q(a) for a ≥ 0: without the exponential it is smooth and never small, so that short
# polynomials do (lowest power first; minimax fits on a mapped interval).  Up to `end`, where Φ(−a) is 0 in that
# precision, the relative error is 1.5e-7 in single and 5.1e-17 in double precision, before rounding.
TAIL_SINGLE = 14.5, (
    0.49999992389397802, 0.34283179915904995, 0.10917386176780919, 0.014709044483877598, 1.9608632238635972e-7), (
    1.0, 1.4835400315722588, 0.90211101113722387, 0.2731537718180809, 0.036894399915119654)
_TAIL_DOUBLE = 39.0, (
    0.49999999999999997, 0.77485871955251039, 0.59402413532739974, 0.28931676458644425, 0.09769219610891121,
    0.023620227484642143, 0.0040888432191289958, 0.00049034866004667176, 3.72478332843674e-5,
    1.385414130297705e-6), (
    1.0, 2.3476019999078761, 2.5611636612915451, 1.714306992516424, 0.78199344028241979, 0.25494048633172428,
    0.060429306871226288, 0.010342576484484303, 0.0012325945341309668, 9.3366472077200112e-5, 3.4727182310878655e-6)


def normal_tail(x):
    """Return Φ(−|x|), with a relative error as small as the rounding of x² allows, and exp(−x²/2)."""
    end, top, bottom = TAIL_SINGLE if x.dtype.itemsize <= 4 else _TAIL_DOUBLE
    a = np.minimum(np.absolute(x), end)
    tail = _polynomial(a, top)
    tail /= _polynomial(a, bottom)
    a *= a
    a *= -0.5
    e = np.exp(a)
    tail *= e
    return tail, e


@Op
def normal_cdf(x):
    """Normal distribution function.  y = Φ(x)"""
    return np.absolute((x >= 0) - normal_tail(x)[0])  # 1 − Φ(−x) above 0

@normal_cdf.gradient("x")
def _(g, y, x):
    """∂L/∂x = g ⊙ exp(−x²/2) / √(2π)"""
    return g * normal_density(x)


normal_cdf.batching = "elementwise"


def normal_density(x):
    """Φ′(x) = exp(−x²/2) / √(2π)"""
    # Augmented assignment works in place on an array of our own, and makes a new record of a Tensor.
    y = np.clip(x, -40, 40)  # beyond, it is 0, and x² might overflow
    y *= y
    y *= -0.5
    y = np.exp(y)
    y *= 1 / math.sqrt(2 * math.pi)
    return y


@op
def gelu(x, approximate="none"):
    """Gaussian error linear unit (Hendrycks & Gimpel 2016).  y = x Φ(x), Φ the normal distribution function
    approximate: "tanh" puts Φ(x) ≈ ½ (1 + tanh u) = sigmoid(2u), u = √(2/π) (x + 0.044715 x³)."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f'approximate is "none" or "tanh", not {approximate!r}')
    wide = widen(as_floats(x))
    return narrow(wide * (normal_cdf(wide) if approximate == "none" else _sigmoid_2u(wide)[0]), x)


_A, _B = math.sqrt(8 / math.pi), math.sqrt(8 / math.pi) * 0.044715  # 2u = x (a + b x²)


def _sigmoid_2u(x):
    """Return sigmoid(2u), and x clipped to limits beyond which that is 0 or 1, since x³ might overflow."""
    x = np.clip(x, -25, 25)
    u = x * x
    u *= _B
    u += _A
    u *= x
    return sigmoid(u), x

@gelu.gradient("x")
def _(g, y, x, approximate="none"):
    """∂L/∂x = g ⊙ (Φ(x) + x Φ′(x)), Φ′(x) = exp(−x²/2) / √(2π); for "tanh" Φ′(x) = 2u′ Φ(x) (1 − Φ(x))"""
    x = widen(x)
    if approximate == "none":
        return g * (normal_cdf(x) + x * normal_density(x))
    cdf, x = _sigmoid_2u(x)
    slope = x * x
    slope *= 3 * _B
    slope += _A
    slope *= x
    slope *= 1 - cdf  # where cdf is nearly 1, what this loses is nothing beside 1
    slope += 1
    slope *= cdf
    return g * slope


@op
def softplus(x):
    """Smooth relu.  y = ln(1 + eˣ)"""
    x = as_floats(x)
    return np.maximum(x, 0) + np.log1p(np.exp(-np.absolute(x)))

@softplus.gradient("x")
def _(g, y, x):
    """∂L/∂x = g ⊙ sigmoid(x)"""
    return g * sigmoid(x)


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
    return x * resampled(lambda: (rng.random(x.shape, dtype=np.float32) >= rate).astype(x.dtype) / (1 - rate))


# ---------------------------------------------------------------------- probabilities


def below_largest(x, axis):
    """Return `x` minus its maximum along `axis`, and the maximum.  Equal infinities are 0 apart; what is −∞ throughout
    stays so."""
    x = widen(as_floats(x))
    largest = x.max(axis=axis, keepdims=True, initial=-np.inf)
    if np.isfinite(largest).all():
        return x - largest, largest
    with np.errstate(invalid="ignore"):
        return np.where(x == np.inf, 0, x - np.where(largest == -np.inf, 0, largest)), largest


def _log_sum_exp(x, axis):
    """Return ln Σ exp(x) of an x that is `below_largest`; 0 where all of it is −∞."""
    e = np.exp(x)
    total = e.sum(axis=axis, keepdims=True)
    log = np.log(np.maximum(total, 1))
    small = total < 1.5
    if small.any():  # the largest counts 1, and what the others count would be rounded beside it
        e -= x == 0
        log = np.where(small, np.log1p(e.sum(axis=axis, keepdims=True)), log)
    return log


@op
def softmax(x, axis=-1):
    """Probabilities along `axis`.  y = exp(x) / Σ exp(x)    A row of only −∞ gives 0; elements at ∞ share 1."""
    e = np.exp(below_largest(x, axis)[0])
    e /= np.maximum(e.sum(axis=axis, keepdims=True), 1)  # the largest counts 1, if it is not −∞
    return narrow(e, x)

@softmax.gradient("x")
def _(g, y, x, axis=-1):
    """∂L/∂x = y ⊙ (g − Σ g⊙y)      the Jacobian diag(y) − y yᵀ, applied without building it"""
    g = widen(g)
    g = g - (g * y).sum(axis=axis, keepdims=True)
    return y * (g - (g * y).sum(axis=axis, keepdims=True))  # again, as g − g⊙y loses digits where y is near 1


@op
def log_softmax(x, axis=-1):
    """Logarithms of probabilities along `axis`.  y = x − ln Σ exp(x)    A row of only −∞ gives −∞."""
    below, _ = below_largest(x, axis)
    return narrow(below - _log_sum_exp(below, axis), x)

@log_softmax.gradient("x")
def _(g, y, x, axis=-1):
    """∂L/∂x = g − exp(y) ⊙ Σ g = g ⊙ (1 − exp(y)) − exp(y) ⊙ (Σ g − g)    which keeps its digits if exp(y) is near 1"""
    g, y = widen(g), widen(y)
    return -g * np.expm1(y) - np.exp(y) * (g.sum(axis=axis, keepdims=True) - g)


@op
def logsumexp(x, axis=None, keepdims=False):
    """Logarithm of a sum of exponentials, however large.  y = ln Σᵢ exp(xᵢ)    A row of only −∞ gives −∞
    with gradient 0; an element ∞ gets the whole gradient."""
    below, largest = below_largest(x, axis)
    y = _log_sum_exp(below, axis) + largest
    y = y if keepdims else y.reshape(tuple(n for i, n in enumerate(x.shape) if i not in axes_of(x, axis)))
    return narrow(y, x)

@logsumexp.gradient("x")
def _(g, y, x, axis=None, keepdims=False):
    """∂L/∂x = g softmax(x)"""
    return expand_reduced(g, x, axis) * softmax(x, axis)


@op
def cross_entropy(logits, targets, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    """Cross-entropy of softmax(logits) (…, V) with the classes `targets` (…), integers below V.

    L = −Σⱼ qⱼ ln softmax(logits)ⱼ, where q is 1 − ε for the target plus ε/V for each class, ε = label_smoothing.
    Places whose target is `ignore_index` count nothing.  reduction: "mean" of the others, "sum", or "none": each.
    """
    keep, targets = mask_targets(logits, targets, ignore_index, reduction)
    log_p = log_softmax(widen(logits))
    loss = -np.take_along_axis(log_p, targets[..., None], -1)[..., 0]
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * log_p.mean(axis=-1)
    loss = np.where(keep, loss, 0)
    return narrow(loss if reduction == "none" else loss.sum() / _divisor(keep, loss, reduction), logits)


def mask_targets(logits, targets, ignore_index, reduction):
    """Return (keep, targets): a mask of the targets that count, and the targets with 0 for the others.  Raises
    ValueError for their shape or the reduction, IndexError for a target that is no class."""
    if np.shape(targets) != logits.shape[:-1]:
        raise ValueError(f"targets have shape {np.shape(targets)}, and need one class for each place of the logits: "
                         f"{logits.shape[:-1]}")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction is "mean", "sum" or "none", not {reduction!r}')
    keep, targets = _mask_ignored(targets, ignore_index)
    n = logits.shape[-1]
    if targets.size and keep.any() and (targets.min() < 0 or targets.max() >= n):
        wrong = targets.min() if targets.min() < 0 else targets.max()
        raise IndexError(f"target {wrong} is no class: " + (f"classes count from 0 to {n - 1}, ignore_index is "
                         f"{ignore_index}" if n else f"logits of shape {logits.shape} have none"))
    return keep, targets


def _mask_ignored(targets, ignore_index):
    """Return the mask of the targets that count, and the targets with 0 for the others."""
    keep = targets != ignore_index
    return keep, np.where(keep, targets, 0)


def _divisor(keep, like, reduction):
    """Return the divisor of the sum of losses, in the dtype of `like`."""
    return keep.sum().astype(like.dtype) if reduction == "mean" else 1

@cross_entropy.gradient("logits")
def _(g, loss, logits, targets, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    """∂L/∂logits = g (softmax(logits) − q)"""
    keep, targets = _mask_ignored(targets, ignore_index)
    g, log_p, hot = widen(g), log_softmax(widen(logits)), one_hot(targets, logits.shape[-1])
    d = np.where(hot, np.expm1(log_p), np.exp(log_p))  # p − 1 at the target, without losing its digits
    if label_smoothing:
        d = d + label_smoothing * (hot.astype(d.dtype) - 1 / (logits.shape[-1] or 1))
    return np.where(keep, g / _divisor(keep, g, reduction), 0)[..., None] * d


def _reduce_losses(loss, reduction):
    """Return the loss of each element, their mean, or their sum."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction is "mean", "sum" or "none", not {reduction!r}')
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


@composed
def mse(prediction, target, reduction="mean"):
    """Squared error.  L = (prediction − target)², reduced"""
    losses = np.square(widen(as_floats(prediction)) - widen(target))
    return narrow(_reduce_losses(losses, reduction), prediction, target)


@composed
def binary_cross_entropy(logits, targets, reduction="mean"):
    """Cross-entropy of sigmoid(logits) with `targets` from 0 to 1, of one shape, exact for large logits too.
    L = targets ⊙ ln(1 + exp(−logits)) + (1 − targets) ⊙ ln(1 + exp(logits)), reduced"""
    if np.shape(targets) != logits.shape:
        raise ValueError(f"targets have shape {np.shape(targets)}, and need that of the logits: {logits.shape}")
    logits, targets = as_floats(logits), as_array(targets)
    dtype = np.result_type(logits.dtype, targets.dtype)
    logits, targets = cast(logits, dtype), cast(targets, dtype)
    return _reduce_losses(targets * softplus(-logits) + (1 - targets) * softplus(logits), reduction)


@composed
def kl_divergence(log_q, p, axis=-1, reduction="mean"):
    """Kullback–Leibler divergence of the probabilities p from q, given log q, along `axis`: D = Σᵢ pᵢ (ln pᵢ − ln qᵢ),
    then its mean over the other axes, its sum, or each.  Where p is 0 the term is 0, and so is its gradient."""
    p = as_floats(p)
    p = cast(p, np.result_type(p.dtype, log_q.dtype))
    distance = np.where(p == 0, 0, np.log(not_zero(p)) - log_q)
    return _reduce_losses((p * distance).sum(axis=axis), reduction)


# ---------------------------------------------------------------------- layers


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
