"""The colours of all views, for Python, CSS and JavaScript.  No other file names one.

Numbers: orange is positive, blue negative and white zero; amounts go from white over orange to brown, as the positive
numbers do.  Green is the forward pass and its values, purple the backward pass and its gradients.  Both pairs can be
told apart by colour-blind readers (ColorBrewer's PuOr-like and PRGn scales).  NaN is magenta, inf black, −inf grey.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray

_AMOUNTS = [(247, 247, 245), (246, 190, 130), (222, 120, 40), (112, 48, 8)]  # white, over orange, to brown
_NEGATIVE = [(14, 52, 104), (66, 130, 188), (164, 201, 226)]  # from navy, over blue, towards white
SEQUENTIAL = np.array(_AMOUNTS, float)
"""Colours of the numbers from 0 to 1, evenly spaced."""
DIVERGING = np.array([*_NEGATIVE, *_AMOUNTS], float)
"""Colours of the numbers from −1 to 1, evenly spaced."""
NAN, PLUS_INFINITY, MINUS_INFINITY = (214, 0, 147), (0, 0, 0), (120, 120, 120)

THEME = {
    "paper": ("#ffffff", "#16181c"), "panel": ("#f7f7f5", "#1d2025"), "line": ("#e5e4e0", "#2f333a"),
    "ink": ("#22252a", "#e6e7e9"), "soft": ("#5f656e", "#9aa1ab"), "rim": ("#c3c7cd", "#4a5059"),
    "shadow": ("#0000002e", "#0000002e"),
    "forward": ("#1b7837", "#7bcb92"), "wash-forward": ("#e8f4ea", "#1c3324"),
    "backward": ("#762a83", "#d3a1e0"), "wash-backward": ("#f6ecf9", "#33203a"),
    "positive": ("#b45309", "#f0a35e"), "negative": ("#1f5fae", "#7db4ea"),
    "on-light": ("#22252a", "#22252a"), "on-dark": ("#ffffff", "#ffffff"),  # text on a coloured cell
    "bad": ("#b0007a", "#ff7ecb"), "mark": ("#fff3b8", "#4a4213"),
}
"""Names of the colours of pages and pictures: (on light, on dark)."""
LIGHT = {name: light for name, (light, _) in THEME.items()}

# For pictures that are seen on white and on black, since the theme of a notebook is unknown.
MEMORY = {"value": "#4aa068", "saved": "#b39a3c", "gradient": "#a268bd"}
GREY, PEAK = "#808080", "#d60093"

# Of boxes under dark text, after Paul Tol's "light" scheme, which is safe for the colour-blind; paler still.
FAMILIES = {"linear": "#b5d0ee", "linalg": "#c9ecf7", "network": "#f6c3af", "elementwise": "#f6ebb8",
            "reduce": "#ffd1d9", "index": "#dbe399", "shape": "#e8e8e8", "your own": "#a8dccb"}
BAD = "#f9b5e0"
"""Fill of a box with a NaN or an infinity; its text says so too."""
WHITE, OUTLINE, FRAME, FRAME_LINE = "#ffffff", "#8a8a8a", "#00000008", "#c9c9c9"

# Of runs that are compared: Okabe & Ito (2008), and two more.
RUNS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#5c4033")


def diverging(x: Any) -> Array:
    """Map numbers from −1 (blue) over 0 (white) to 1 (orange, then brown) to colours: uint8 of shape (*x.shape, 3).
    Finite numbers outside are clipped; NaN and infinities have colours of their own."""
    return _interpolate(DIVERGING, -1, np.asarray(x, float))


def sequential(x: Any) -> Array:
    """Map numbers from 0 (white) to 1 (brown) to colours, as `diverging` does: uint8 of shape (*x.shape, 3)."""
    return _interpolate(SEQUENTIAL, 0, np.asarray(x, float))


def _interpolate(colours: Array, low: float, x: Array) -> Array:
    """Interpolate linearly between `colours`, evenly spaced from `low` to 1."""
    positions = np.linspace(low, 1, len(colours))
    rgb = np.rint(np.stack([np.interp(x, positions, colours[:, i]) for i in range(3)], axis=-1).clip(0, 255))
    for odd, colour in ((np.isnan(x), NAN), (x == np.inf, PLUS_INFINITY), (x == -np.inf, MINUS_INFINITY)):
        rgb = np.where(odd[..., None], colour, rgb)
    return rgb.astype(np.uint8)


def hexadecimal(rgb: Any) -> str:
    """Format a colour as `#77aadd`."""
    return "#" + "".join(f"{round(float(c)):02x}" for c in rgb)


def ink_on(rgb: Any) -> str:
    """Return the colour of text, dark or light, that can be read on a colour."""
    r, g, b = map(float, rgb)
    return LIGHT["on-dark" if 0.3 * r + 0.6 * g + 0.1 * b < 123 else "on-light"]


def css() -> str:
    """Return the colours as CSS variables, `--paper` and so on, each for light and dark, and the two scales."""
    lines = [f"  --{name}: light-dark({light}, {dark});" for name, (light, dark) in THEME.items()]
    for name, colours in (("diverging", DIVERGING), ("sequential", SEQUENTIAL)):
        lines.append(f"  --{name}: linear-gradient(90deg, {', '.join(map(hexadecimal, colours))});")
    return "\n".join([":root {", "  color-scheme: light dark;", *lines, "}", ""])


def colormap(colours: Array = DIVERGING) -> Any:
    """Return a scale as a colormap of Matplotlib: DIVERGING for numbers from −v to v, SEQUENTIAL for amounts."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("tapegrad", colours / 255)
