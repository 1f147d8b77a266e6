"""Softmax and its relatives, and losses."""

from __future__ import annotations

import numpy as np

from ...core.arrays import as_floats, cast, narrow, widen
from ...define import composed, op
from ..elementwise import as_array, not_zero
from ..index import one_hot
from ..reduce import axes_of, expand_reduced
from .activations import softplus


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
