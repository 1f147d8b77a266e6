"""The look of the chapters' plots: one style for all of them, and heat maps in the colours of the views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..view.palette import DIVERGING, LIGHT, RUNS, colormap, diverging, ink_on

POSITIVE, NEGATIVE, MARK = RUNS[1], RUNS[0], LIGHT["soft"]
"""Bars above and below zero, and thin lines for levels that a curve is compared with."""


def set_style(plt: Any) -> None:
    """Set Matplotlib's defaults: sharp figures that leave no label out, quiet axes, a grid behind the curves."""
    ink, soft = LIGHT["ink"], LIGHT["soft"]
    plt.rcParams.update({
        "figure.figsize": (6.6, 3.1), "figure.dpi": 110, "figure.constrained_layout.use": True,
        "font.size": 9.5, "axes.titlesize": 10.5, "axes.titleweight": "bold", "axes.titlelocation": "left",
        "axes.prop_cycle": plt.cycler(color=RUNS), "lines.linewidth": 1.7, "lines.markersize": 5,
        "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": LIGHT["rim"],
        "axes.grid": True, "axes.axisbelow": True, "grid.color": LIGHT["line"], "grid.linewidth": 0.7,
        "text.color": ink, "axes.labelcolor": ink, "xtick.color": soft, "ytick.color": soft,
        "xtick.minor.size": 0, "ytick.minor.size": 0, "legend.frameon": False, "legend.fontsize": 8.5})


def heat_map(ax: Any, values: Any, most: float | None = None, rows: Sequence[str] | None = None,
             columns: Sequence[str] | None = None, digits: int | None = None, **labels: str) -> Any:
    """Draw an array (n, m) in the colours of the views: orange is positive, blue negative, full colour at ±`most`.

    `rows` and `columns` name the cells along the axes, `digits` writes each number into its cell, and `labels` are
    those of `ax.set`: title, xlabel, ylabel.  Return the picture, for a colour bar.
    """
    values = np.asarray(values, dtype=float)
    most = most or float(np.abs(values).max()) or 1.0
    picture = ax.imshow(values, cmap=colormap(DIVERGING), vmin=-most, vmax=most)
    for names, axis in ((rows, ax.yaxis), (columns, ax.xaxis)):
        if names is not None:
            axis.set_ticks(range(len(names)), [{"\n": "↵", " ": "␣"}.get(name, name) for name in names])
    if digits is not None:
        for (i, j), value in np.ndenumerate(values):
            ax.text(j, i, f"{value:.{digits}f}", ha="center", va="center", fontsize=8,
                    color=ink_on(diverging(value / most)))
    ax.grid(False)
    ax.tick_params(length=0)
    ax.set(**labels)
    return picture
