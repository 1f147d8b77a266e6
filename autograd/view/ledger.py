"""The contributions that the backward pass adds up to a gradient, with their norms and shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.describe import describe, label, plural, record_line
from ..core.mode import within
from ..engine import Tape, Tensor
from .backward import backward_pass, restore_freed
from .step_html import ledger_html
from .text import norm, number_records


@dataclass(eq=False)
class Contribution:
    """One term of the sum that is a gradient."""

    record: Tensor | None   # the record whose VJP rule produced it; None for the seed of the backward pass
    gradient: Any           # an array; for a tuple of arrays a dict from their numbers to gradients
    norm: float
    share: float            # its projection onto the sum, as a fraction: shares add up to 1


@dataclass(eq=False)
class Ledger:
    """All contributions to the gradient of `tensor`, in the order of the backward pass.  Their sum, `total`, is what
    a backward pass from the tape's roots adds to `.grad`.

    The share of a contribution d in the sum s is ⟨d, s⟩ / ⟨s, s⟩: shares add up to 1, and one that opposes the others
    is negative.  In a residual stream it tells how much flows through the skip connection and how much through
    attention.
    """

    tensor: Tensor
    contributions: list[Contribution]
    total: Any
    tape: Tape

    def __repr__(self) -> str:
        names = number_records(self.tape)
        rows = [f"Gradient of %{names[self.tensor]} {label(self.tensor)}: norm {norm(self.total):.4g}, "
                f"of {plural(len(self.contributions), 'contribution')}"]
        rows += [f"  {c.share:z7.1%}  norm {c.norm:<10.4g} {self.source(c, names)}" for c in self.contributions]
        return "\n".join(rows)

    def _repr_html_(self) -> str:
        return ledger_html(self)

    def source(self, c: Contribution, names: dict[Tensor, int]) -> str:
        """Return the line of the record that a contribution comes from."""
        return record_line(c.record, names) if c.record is not None else "the seed of the backward pass"

    def __iter__(self) -> Any:
        return iter(self.contributions)

    def __len__(self) -> int:
        return len(self.contributions)


def ledger(tape: Tape, tensor: Tensor) -> Ledger:
    """List each contribution that a backward pass from the tape's roots adds to the gradient of `tensor`.

    Raises ValueError for a tensor that is not in the tape, or to which no gradient flows, and TypeError for anything
    but a Tensor.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"ledger takes a Tensor of the tape, and not {describe(tensor)}")
    if tensor not in tape:
        raise ValueError(f"{label(tensor)} is not in this tape: take the tape of a result that was computed from it")
    found: list[tuple[Tensor | None, Any]] = []
    total = None
    with restore_freed(tape), within(observer=None), np.errstate(all="ignore"):
        if any(t is tensor for t in tape.roots) and tensor.requires_grad:
            found.append((None, np.ones_like(tensor._value())))
        for t, g, sent in backward_pass(tape, to=[tensor]):
            found += [(t, d) for a, d in sent if a is tensor]
            if t is tensor:
                total = g
    if total is None:
        raise ValueError(f"no gradient flows to {label(tensor)}: it does not require one")
    arrays = list(total) if isinstance(total, tuple) else [total]
    with np.errstate(all="ignore"):
        length = norm(total) or 1.0  # normalized first, since its square may overflow
        direction = [array.astype(float) / length for array in arrays]
        scale = _dot(dict(enumerate(arrays)), direction)
        contributions = [Contribution(t, d, norm(d), _dot(d, direction) / scale if scale else 0.0) for t, d in found]
    return Ledger(tensor, contributions, total, tape)


def _dot(d: Any, arrays: list[Any]) -> float:
    """Compute ⟨d, arrays⟩; `d` is an array, or a dict with some arrays of a tuple."""
    d = d if isinstance(d, dict) else {0: d}
    return sum((v.astype(float) * arrays[i]).sum().item() for i, v in d.items())
