"""Draw the diagrams of the chapters again: python -m notebooks.diagrams [NAME …] (extra dev; Chromium for the PNGs).

Each is a function in this folder, and becomes NAME.svg and NAME.png in notebooks/pictures.
"""

from __future__ import annotations

import argparse
import io
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from . import calculus, layers, model, rounding, training
from .sketch import Sketch

PICTURES = Path(__file__).parents[1] / "pictures"
DIAGRAMS: dict[str, Callable[[], Sketch]] = {
    function.__name__: function for module in (calculus, layers, model, training, rounding)
    for function in vars(module).values()
    if getattr(function, "__module__", "") == module.__name__ and not function.__name__.startswith("_")}
"""Name -> the function that draws it, in the order of the chapters."""


def main() -> None:
    """Draw those that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m notebooks.diagrams", description=__doc__.partition("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(DIAGRAMS)}; all if none is named")
    names = parser.parse_args().names or list(DIAGRAMS)
    if unknown := [name for name in names if name not in DIAGRAMS]:
        parser.error(f"there is no diagram {unknown[0]!r}")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(device_scale_factor=2)
        for name in names:
            sketch = DIAGRAMS[name]()
            (PICTURES / f"{name}.svg").write_text(str(sketch), encoding="utf-8")
            page.set_viewport_size({"width": sketch.width, "height": sketch.height})
            page.set_content(f"<body style='margin:0'>{sketch}</body>")
            picture = Image.open(io.BytesIO(page.screenshot()))
            picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(PICTURES / f"{name}.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
