"""Cross-entropy by NumPy, in place."""

from __future__ import annotations

import numpy as np

from ...ops.network import checked_targets
from .common import kernel, row_sum


@kernel("cross_entropy")
class CrossEntropy:
    """Saves the probabilities; only for a mean or sum without label smoothing."""

    @staticmethod
    def forward(executor, logits, targets, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
        if label_smoothing or reduction not in ("mean", "sum") or not isinstance(targets, np.ndarray) \
                or targets.shape != logits.shape[:-1] or targets.dtype.kind not in "iu" or not logits.size \
                or logits.dtype.kind != "f":
            return None
        p, loss, scale = (executor.empty(logits, shape) for shape in (logits.shape, (), ()))
        executor.run(_cross_entropy_forward, logits, targets, ignore_index, reduction, p, loss, scale)
        return loss, (p, scale)

    @staticmethod
    def backward(executor, needed, g, y, saved, logits, targets, ignore_index=-100, label_smoothing=0.0,
                 reduction="mean"):
        d = executor.empty(logits, logits.shape)
        executor.run(_cross_entropy_backward, g, *saved, targets, ignore_index, d)
        return [d]


def _cross_entropy_forward(logits, targets, ignore_index, reduction, p, loss, scale):
    keep, places = checked_targets(logits, targets, ignore_index, reduction)
    np.subtract(logits, logits.max(axis=-1, keepdims=True), out=p)
    at_target = np.take_along_axis(p, places[..., None], -1)[..., 0]
    np.exp(p, out=p)
    total = row_sum(p)
    p /= total
    losses = np.where(keep, np.log(total[..., 0]) - at_target, 0)
    scale[...] = 1 / keep.sum() if reduction == "mean" else 1
    np.multiply(losses.sum(), scale, out=loss)


def _cross_entropy_backward(g, p, scale, targets, ignore_index, d):
    keep = targets != ignore_index
    places = np.where(keep, targets, 0)[..., None]
    np.copyto(d, p)
    np.put_along_axis(d, places, np.take_along_axis(d, places, -1) - 1, -1)
    d *= np.where(keep, g * scale, 0).astype(d.dtype)[..., None]
