"""`gpt plot`: curves of metrics.jsonl, in a picture by matplotlib, or in the terminal without it."""

import io
import os
import shutil
import sys
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autograd.view.palette import GREY, LIGHT, RUNS

from ..model.module import Array
from ..runtime.screen import escape
from ..runtime.settings import Settings, overwrite_setting, setting
from ..runtime.writing import check_ours, write_file
from ..training.metrics import FILE
from .history import Curve, History, read_history

QUANTITIES = {  # key in metrics.jsonl: (label in the terminal, title of its panel, whether a step's value is noisy)
    "loss": ("loss", "Loss (nats per token)", True),
    "val_loss": ("val loss", "Loss (nats per token)", False),
    "lr": ("lr", "Learning rate", False),
    "grad_norm": ("grad norm", "Gradient norm (before clipping)", True),
    "tokens_per_s": ("tokens/s", "Speed (tokens/s)", True),
}
PICTURES = (".svg", ".png", ".pdf")
MARK = "gpt plot"
MOST_POINTS = 2000  # of a curve in a picture, which has fewer pixels
STYLE: dict[str, Any] = {
    "svg.hashsalt": "gpt", "text.parse_math": False, "font.size": 9.5, "axes.titlesize": 10.5,
    "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8,
    "axes.edgecolor": GREY, "axes.labelcolor": LIGHT["ink"], "xtick.color": LIGHT["soft"], "ytick.color": LIGHT["soft"],
    "text.color": LIGHT["ink"], "legend.labelcolor": LIGHT["ink"],
}
BLOCKS, ASCII = "▁▂▃▄▅▆▇█", "_.-~=+*#"


@dataclass
class PlotConfig(Settings):
    """The settings of `gpt plot`."""

    run: tuple[str, ...] = setting(("out",), "folders that gpt train left, or their metrics.jsonl; several are drawn "
                                             "together", positional=True, path=True)
    out: str | None = setting(None, "picture to write, .svg, .png or .pdf by its ending (needs matplotlib); none: "
                                    "sparklines in the terminal", group="output")
    overwrite: bool = overwrite_setting()
    smoothing: int | None = setting(None, "in a picture, loss, gradient norm and speed are means over this many steps "
                                          "around each (fewer near the ends), above each step drawn faintly; 1: each "
                                          "step alone; none: a fiftieth of the run", at_least=1, group="output")


def plot(config: PlotConfig) -> None:
    """Draw runs into a picture or on the terminal: the command `gpt plot`.

    Raises OSError or ValueError for files that cannot be read or written, ImportError where matplotlib is missing.
    """
    if config.out is not None:
        check_picture(config.out, MARK, config.overwrite)
    histories = [read_history(path, QUANTITIES) for path in config.run]
    for h, name in zip(histories, name_runs(config.run)):
        h.name = name
        if h.note:
            print(f"gpt: note: {h.note}", file=sys.stderr)
    if config.out is None:
        print(draw_on_terminal(histories, shutil.get_terminal_size().columns, can_show(sys.stdout, BLOCKS + "…→")))
    else:
        draw(histories, config.smoothing, config.out)
        print(f"drawn in {config.out}")


def name_runs(paths: Sequence[str]) -> list[str]:
    """Name each run by its folder, with as many parent folders as tell all runs apart."""
    folders = [Path(os.path.abspath(p)).parent if Path(p).name == FILE else Path(os.path.abspath(p)) for p in paths]
    for n in range(1, max(len(f.parts) for f in folders) + 1):
        names = ["/".join(f.parts[-n:]) for f in folders]
        if len(set(names)) == len(set(folders)):
            break
    return names


# ---------------------------------------------------------------------- in the terminal


def draw_on_terminal(histories: list[History], columns: int, blocks: bool) -> str:
    """Return a sparkline of each quantity of each run, with its first, last and least value, in lines of at most
    `columns` characters; of blocks, or of ASCII alone."""
    columns = max(columns - 1, 24)  # a character in the last column wraps on some terminals
    text = "\n\n".join("\n".join(run_lines(h, columns, blocks)) for h in histories)
    return text if blocks else text.encode("ascii", "replace").decode()


def run_lines(h: History, columns: int, blocks: bool) -> list[str]:
    """Return the lines of one run: a line a quantity where `columns` has room for it, otherwise its sparkline below
    it."""
    ends = min(c.iters[0] for c in h.curves.values()), max(c.iters[-1] for c in h.curves.values())
    rows = [(QUANTITIES[key][0], *describe_curve(c, "→" if blocks else "->"), c) for key, c in h.curves.items()]
    widths = [max(len(str(row[i])) for row in rows) for i in range(3)]
    room = min(columns - sum(widths) - 8, 60)
    name = clip_name(h.name, columns, "…" if blocks else "..")
    if h.ladder:
        rungs = (escape(f"{rung} {loss:.3f}").replace(" ", "\xa0") for rung, loss in h.ladder.items())
        ladder = textwrap.wrap(f"ladder  {', '.join(rungs)}", columns, initial_indent="  ",
                               subsequent_indent="    ")
    else:
        ladder = []
    lines = textwrap.wrap(f"{name}  {int(ends[1]):,} iterations", columns)
    for label, span, least, curve in rows:
        if room >= 12:
            lines += [f"  {label:{widths[0]}}  {sparkline(curve, *ends, room, blocks):{room}}  {span:{widths[1]}}  "
                      f"{least}"]
        else:
            together = [text.replace(" ", "\xa0") for text in (label, span, least)]  # wrap between them only
            lines += [line.replace("\xa0", " ") for line in textwrap.wrap("  ".join(together), columns)]
            lines += [sparkline(curve, *ends, columns, blocks)]
    return lines + [line.replace("\xa0", " ") for line in ladder]


def describe_curve(curve: Curve, arrow: str) -> tuple[str, str]:
    """Return the first and last value, and the least, as text."""
    least = int(np.argmin(curve.values))
    return (f"{format_number(curve.values[0])} {arrow} {format_number(curve.values[-1])}",
            f"min {format_number(curve.values[least])} at {int(curve.iters[least]):,}")


def sparkline(curve: Curve, first: float, last: float, width: int, blocks: bool = True) -> str:
    """Return a curve as characters, each for an equal share of the iterations from `first` to `last`: the lowest one
    for the least value, the highest for the greatest.  Each shows the mean of its values, or if it has none the value
    before."""
    width = int(min(width, last - first + 1))
    indices = np.minimum((curve.iters - first) / (last - first + 1) * width, width - 1).astype(int)
    n = np.bincount(indices, minlength=width)
    means = np.bincount(indices, curve.values, width)[n > 0] / n[n > 0]
    low, high = means.min(), means.max()
    levels = BLOCKS if blocks else ASCII
    heights = ((means - low) / ((high - low) or 1) * (len(levels) - 1) + 0.5).astype(int)
    latest = np.cumsum(n > 0) - 1
    return "".join(levels[heights[i]] if i >= 0 else " " for i in latest)


def format_number(value: float) -> str:
    """Return a number in few characters: 1.234, 12,345 or 1.0e-04."""
    if value == int(value) and abs(value) < 1e7 or 1000 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:.4g}" if 1e-3 <= abs(value) < 1e7 else f"{value:.1e}"


def clip_name(name: str, columns: int, dots: str) -> str:
    """Return a name without its beginning if it is too long."""
    name = escape(name)
    return name if len(name) <= columns else dots + name[len(dots) - columns:]


def can_show(stream: Any, characters: str) -> bool:
    """Return whether a stream's encoding has these characters."""
    try:
        characters.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


# ---------------------------------------------------------------------- as a picture


def smooth(values: Array, smoothing: int | None) -> Array:
    """Smooth values (n,) by means over `smoothing` steps around each: as many before as after it, since a mean of the
    past alone lags, above a falling loss; fewer near the ends."""
    n = len(values)
    i = np.arange(n)
    side = np.minimum((n // 50 if smoothing is None else smoothing) // 2, i)
    start, end = i - side, np.minimum(i + side + 1, n)
    total = np.concatenate([[0.0], np.cumsum(values)])
    return (total[end] - total[start]) / (end - start)


def draw(histories: list[History], smoothing: int | None, out: str) -> None:
    """Write a picture of the runs to `out`: losses on top, the other quantities below."""
    try:
        from matplotlib import style
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise ImportError(f"pictures need matplotlib ({error}): python -m pip install matplotlib, or leave out --out "
                          "to see the curves in the terminal") from None
    with style.context(["default", STYLE]):
        picture = Figure(figsize=(9.6, 6.4), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08))
        draw_panels(picture, histories, smoothing)
        write_picture(picture, out, MARK)


def check_picture(out: str, mark: str, overwrite: bool) -> None:
    """Raise ValueError for a name without the suffix of a picture, and for a file that the command `mark` has not
    written, unless `overwrite` allows it."""
    if Path(out).suffix.lower() not in PICTURES:
        raise ValueError(f"--out is {out!r}, and needs to end in {', '.join(PICTURES[:-1])} or {PICTURES[-1]}, "
                         "which says what kind of picture it is")
    check_ours(Path(out), mark, overwrite)


def write_picture(picture: Any, out: str, mark: str) -> None:
    """Write a matplotlib figure, with the command that drew it in its metadata; the bytes are reproducible."""
    suffix, drawn = Path(out).suffix.lower(), io.BytesIO()
    metadata = {".svg": {"Creator": mark, "Date": None}, ".pdf": {"Creator": mark, "CreationDate": None}}
    with warnings.catch_warnings(action="ignore"):  # the font may lack characters of a name
        picture.savefig(drawn, format=suffix[1:], dpi=150, metadata=metadata.get(suffix, {"Software": mark}))
    write_file(Path(out), drawn.getvalue())


def draw_panels(picture: Any, histories: list[History], smoothing: int | None) -> None:
    """Draw the losses across the whole picture, and below them a panel for each other quantity that a run has."""
    small = [key for key in ("lr", "grad_norm", "tokens_per_s") if any(key in h.curves for h in histories)]
    grid = picture.add_gridspec(2 if small else 1, max(len(small), 1), height_ratios=(2, 1) if small else None)
    colors = [RUNS[i % len(RUNS)] for i in range(len(histories))]
    top = picture.add_subplot(grid[0, :])
    for h, color in zip(histories, colors):
        draw_curve(top, h, "loss", smoothing, color)
        draw_curve(top, h, "val_loss", smoothing, color if len(histories) > 1 else RUNS[1])
    format_axes(top, histories, ("loss", "val_loss"))
    if all(h.ladder == histories[0].ladder for h in histories):  # several texts have several ladders
        draw_ladder(top, histories[0].ladder)
    for i, key in enumerate(small):
        axes = picture.add_subplot(grid[1, i])
        for h, color in zip(histories, colors):
            draw_curve(axes, h, key, smoothing, color)
        format_axes(axes, histories, (key,))
    draw_legends(picture, top, histories, colors, smoothing)


def draw_curve(axes: Any, h: History, key: str, smoothing: int | None, color: str) -> None:
    """Draw a curve, if the run has it: validation as points on a dashed line, a noisy one faintly under its mean."""
    if not (curve := h.curves.get(key)):
        return
    noisy = QUANTITIES[key][2] and smoothing != 1
    marker = "o" if key == "val_loss" or len(curve.iters) == 1 else ""
    if noisy:
        axes.plot(*thin_out(curve.iters, curve.values), color=color, alpha=0.22, linewidth=0.7)
    axes.plot(*thin_out(curve.iters, smooth(curve.values, smoothing) if noisy else curve.values), color=color,
              linewidth=1.6, linestyle="--" if key == "val_loss" else "-", marker=marker, markersize=4.5,
              markerfacecolor=LIGHT["paper"], markeredgewidth=1.4)


def draw_ladder(axes: Any, ladder: dict[str, float]) -> None:
    """Draw the rungs that are within the axes as lines, each with its name beside it; of two that are too near each
    other to be read, the lower."""
    low, high = axes.get_ylim()
    place = axes.get_yaxis_transform()
    last = -np.inf
    for name, loss in sorted(ladder.items(), key=lambda rung: rung[1]):
        height = axes.transAxes.inverted().transform(axes.transData.transform((0, loss)))[1] if low < loss < high else 2
        if height > 1 or height - last < 0.035:
            continue
        last = height
        axes.axhline(loss, color=GREY, linewidth=0.7, linestyle=":", zorder=0)
        axes.text(1.005, loss, f"{name} {loss:.3f}", transform=place, va="center", fontsize=7.5, color=LIGHT["soft"])


def thin_out(iters: Array, values: Array) -> tuple[Array, Array]:
    """Return at most MOST_POINTS of the points (n,): of each section the least and the greatest, so that peaks stay."""
    if len(values) <= MOST_POINTS:
        return iters, values
    sections = np.array_split(np.arange(len(values)), MOST_POINTS // 2)
    kept = np.unique([f(values[p]) + p[0] for p in sections for f in (np.argmin, np.argmax)])
    return iters[kept], values[kept]


def format_axes(axes: Any, histories: list[History], keys: Sequence[str]) -> None:
    """Set title, grid, ticks, and a logarithmic scale if the values span more than a factor of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    values = np.concatenate([h.curves[key].values for h in histories for key in keys if key in h.curves] or [[1.0]])
    title, style = QUANTITIES[keys[0]][1], {"fontweight": "bold", "fontsize": 10.5 if keys[0] == "loss" else 9}
    axes.set_title(title, **style)
    axes.set_xlabel("Iteration")
    axes.grid(color=LIGHT["line"], linewidth=0.7)
    axes.set_axisbelow(True)
    axes.margins(x=0.015)
    axes.xaxis.set_major_locator(MaxNLocator(8 if keys[0] == "loss" else 4, steps=(1, 2, 2.5, 5, 10), integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    if keys[0] in ("lr", "tokens_per_s"):
        axes.set_ylim(0, 1.08 * values.max() or 1)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 100 else f"{v:g}"))
    elif values.min() > 0 and values.max() > 10 * values.min():
        axes.set_yscale("log")
        comma = ", " if keys[0] == "loss" else ",\n"  # a small panel has no room for all of it in a line
        axes.set_title(f"{title}{comma}logarithmic", **style)
        decades = np.log10(values.max() / values.min())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def draw_legends(picture: Any, top: Any, histories: list[History], colors: list[str], smoothing: int | None) -> None:
    """Draw the names of the runs and their best validation losses above the picture, and the styles of lines in the
    panel of the losses."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    names = [clip_name(h.name, 70, "…") + describe_best(h) for h in histories]
    columns = max(1, min(4, len(names), 110 // (max(map(len, names)) + 6)))
    above = picture.legend([Patch(color=c) for c in colors], ["run"] * len(names), loc="outside upper left",
                           ncols=columns, frameon=False, fontsize=10, handlelength=1.0, handleheight=0.9)
    for text, name in zip(above.get_texts(), names):
        text.set_text(name)  # set afterwards, since matplotlib skips labels that begin with an underscore
    one = len(histories) == 1
    styles = [(Line2D([], [], color=colors[0] if one else LIGHT["soft"], linewidth=1.6),
              "training" + " (faint: each step)" * (smoothing != 1))]
    if any("val_loss" in h.curves for h in histories):
        styles.append((Line2D([], [], color=RUNS[1] if one else LIGHT["soft"], linestyle="--", marker="o",
                             markersize=4.5, markerfacecolor=LIGHT["paper"]), "validation"))
    top.legend(*zip(*styles), loc="upper right", frameon=False)


def describe_best(h: History) -> str:
    """Return the least validation loss as text."""
    if not (curve := h.curves.get("val_loss")):
        return ""
    i = int(np.argmin(curve.values))
    return f" (best validation loss {curve.values[i]:.4g} at {int(curve.iters[i]):,})"
