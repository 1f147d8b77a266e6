"""Make the README's picture of the live page again: python -m notebooks.pictures.live [--pyodide FOLDER]

Without a folder Pyodide comes from its CDN.  Needs the extras dev and plot, and Chromium.
"""

import argparse
import functools
import http.server
import shutil
import tempfile
import threading
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from notebooks.site import building

PICTURE = Path(__file__).with_name("live.png")
EXAMPLE = "layer_norm"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m notebooks.pictures.live", description="Write live.png.")
    parser.add_argument("--pyodide", type=Path, metavar="FOLDER", help="a folder with Pyodide 0.27.7 (else its CDN)")
    pyodide = parser.parse_args().pyodide
    with tempfile.TemporaryDirectory() as root, sync_playwright() as driver:
        if pyodide:
            Path(root, "pyodide").symlink_to(pyodide.resolve())
        building.build_pages(Path(root), "pyodide" if pyodide else building.PYODIDE)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=root))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 760})
        page.set_default_timeout(300_000)
        page.goto(f"http://127.0.0.1:{server.server_port}/live.html#example={EXAMPLE}")
        frame = page.frame_locator("#player iframe")
        frame.locator("#search").wait_for()
        page.wait_for_selector("body[data-state=ready]")
        frame.locator("#card button:has-text('Backward')").click()
        page.mouse.move(0, 0)
        page.screenshot(path=PICTURE)
        browser.close()
        server.shutdown()
    picture = Image.open(PICTURE).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(PICTURE, "png", optimize=True)  # a third of the bytes


if __name__ == "__main__":
    main()
