"""Who contributed what to a gradient."""

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
    """A gradient that was added into another."""

    record: Tensor | None   # who sent it; None for the gradient that the walk starts with
    gradient: Any           # an array (a dict of arrays for parts of a tuple)
    norm: float
    share: float            # of the whole: its projection onto the sum, so that shares add up to 1


@dataclass(eq=False)
class Ledger:
    """Each contribution to the gradient of `tensor`, in the order of the walk back.  Their sum, `total`, is what a
    backward from the tape's roots adds to `.grad`.

    The share of a contribution d to the sum s is ⟨d, s⟩ / ⟨s, s⟩: shares add up to 1, and one that works against the
    others is negative.  For a residual stream it says how much came through the skip, and how much through attention.
    """

    tensor: Tensor
    contributions: list[Contribution]
    total: Any
    tape: Tape

    def __repr__(self) -> str:
        names = number_records(self.tape)
        rows = [f"Gradient of %{names[self.tensor]} {label(self.tensor)}: norm {norm(self.total):.4g}, "
                f"of {plural(len(self.contributions), 'contribution')}"]
        rows += [f"  {c.share:7.1%}  norm {c.norm:<10.4g} {self.source(c, names)}" for c in self.contributions]
        return "\n".join(rows)

    def _repr_html_(self) -> str:
        return ledger_html(self)

    def source(self, c: Contribution, names: dict[Tensor, int]) -> str:
        """The line of the record that a contribution came from."""
        return record_line(c.record, names) if c.record is not None else "where the walk starts"

    def __iter__(self) -> Any:
        return iter(self.contributions)

    def __len__(self) -> int:
        return len(self.contributions)


def ledger(tape: Tape, tensor: Tensor) -> Ledger:
    """Each contribution that a backward from the tape's roots adds into the gradient of `tensor`.

    Raises ValueError for a tensor that is not in the tape, or to which no gradient flows, TypeError for what is none.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"a ledger is that of a Tensor of the tape, and not of {describe(tensor)}")
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
    parts = list(total) if isinstance(total, tuple) else [total]
    with np.errstate(all="ignore"):
        length = norm(total) or 1.0  # its square may overflow
        directions = [part.astype(float) / length for part in parts]
        whole = _dot(dict(enumerate(parts)), directions)
        made = [Contribution(t, d, norm(d), _dot(d, directions) / whole if whole else 0.0) for t, d in found]
    return Ledger(tensor, made, total, tape)


def _dot(d: Any, parts: list[Any]) -> float:
    """⟨d, parts⟩, over the parts of a tuple that d has."""
    d = d if isinstance(d, dict) else {0: d}
    return sum((v.astype(float) * parts[i]).sum().item() for i, v in d.items())
