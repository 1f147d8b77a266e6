"""Cross-entropy by compiled loops."""

from __future__ import annotations

from ..numpy.common import as_rows
from . import loops
from .fitting import are_integers, as_int64, fit, kernel


@kernel("cross_entropy")
class CrossEntropy:
    """Kernel of cross_entropy; saves, of each row, the largest number and the sum of exponentials; only for a mean or
    sum without label smoothing."""

    @staticmethod
    def forward(executor, logits, targets, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
        if label_smoothing or reduction not in ("mean", "sum") or not are_integers(targets) \
                or not isinstance(ignore_index, int) or not fit(logits) or targets.shape != logits.shape[:-1]:
            return None
        targets = as_int64(executor, targets)
        stats, loss, scale = (executor.empty(logits, shape) for shape in ((targets.size, 2), (), ()))
        executor.run(_cross_entropy_forward, logits, targets, ignore_index, reduction, stats, loss, scale)
        return loss, (targets, stats, scale)

    @staticmethod
    def backward(executor, needed, g, y, saved, logits, targets, ignore_index=-100, label_smoothing=0.0,
                 reduction="mean"):
        d = executor.empty(logits, logits.shape)
        executor.run(_cross_entropy_backward, g, logits, *saved, ignore_index, d)
        return [d]


def _cross_entropy_forward(logits, targets, ignore_index, reduction, stats, loss, scale):
    targets = targets.reshape(-1)
    wrong = loops.cross_entropy_forward(as_rows(logits), targets, ignore_index, reduction == "mean", stats,
                                        loss.reshape(1), scale.reshape(1))
    if wrong >= 0:
        raise IndexError(f"target {targets[wrong]} is no class: classes count from 0 to {logits.shape[-1] - 1}, "
                         f"ignore_index is {ignore_index}")


def _cross_entropy_backward(g, logits, targets, stats, scale, ignore_index, d):
    loops.cross_entropy_backward(float(g), as_rows(logits), targets.reshape(-1), ignore_index, stats, scale.reshape(1),
                                 as_rows(d))
