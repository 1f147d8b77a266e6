"""Cross-entropy by NumPy, in place."""

from __future__ import annotations

import numpy as np

from ...ops.network.probabilities import mask_targets
from .common import are_floats, as_rows, kernel, row_sum, subtract_largest


@kernel("cross_entropy")
class CrossEntropy:
    """Kernel of cross_entropy; saves p − q, the probabilities less 1 at the target; only for a mean or sum without
    label smoothing."""

    @staticmethod
    def forward(executor, logits, targets, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
        if label_smoothing or reduction not in ("mean", "sum") or not isinstance(targets, np.ndarray) \
                or targets.shape != logits.shape[:-1] or targets.dtype.kind not in "iu" or not logits.size \
                or not are_floats(logits):
            return None
        d, loss, scale = (executor.empty(logits, shape) for shape in (logits.shape, (), ()))
        executor.run(_cross_entropy_forward, logits, targets, ignore_index, reduction, d, loss, scale)
        return loss, (d, scale)

    @staticmethod
    def backward(executor, needed, g, y, saved, logits, targets, ignore_index=-100, label_smoothing=0.0,
                 reduction="mean"):
        d = executor.empty(logits, logits.shape)
        executor.run(_cross_entropy_backward, g, *saved, targets, ignore_index, d)
        return [d]


def _cross_entropy_forward(logits, targets, ignore_index, reduction, d, loss, scale):
    keep, places = mask_targets(logits, targets, ignore_index, reduction)
    keep, rows = keep.reshape(-1), as_rows(d)
    subtract_largest(as_rows(logits), rows)
    own = np.arange(len(rows)), places.reshape(-1)
    below = rows[own]  # ln of the target's exponential
    np.exp(rows, out=rows)
    e = rows[own]
    rows[own] = 0
    others = row_sum(rows)[:, 0]
    others[e + others == 0] = 1  # in a row of nothing but −∞ the loss is ∞
    losses = np.where(below == 0, np.log1p(others), np.log(e + others) - below)
    rows[own] = -others
    rows /= (e + others)[:, None]
    scale[...] = 1 / keep.sum() if reduction == "mean" else 1
    np.multiply(np.where(keep, losses, 0).sum(), scale, out=loss)


def _cross_entropy_backward(g, saved, scale, targets, ignore_index, d):
    np.multiply(saved, np.where(targets != ignore_index, g * scale, 0).astype(d.dtype)[..., None], out=d)
