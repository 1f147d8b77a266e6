"""Make the README's picture of the chat's page again: python -m notebooks.pictures.chat MODEL

MODEL is the folder that `gpt import smollm2` leaves.  Needs the extras web, gguf, dev and plot, and Chromium.
"""

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from gpt.chat.chat import Chat
from gpt.chat.web.server import started
from gpt.checkpoint import load_checkpoint
from gpt.generation.sampling import Sampling

PICTURE = Path(__file__).with_name("chat.png")
QUESTION, TOKEN = "What is the capital of France?", " Paris"


def main(model: str) -> None:
    chat = Chat(load_checkpoint(model, packed=True), Sampling(temperature=0.0), 40)
    with started(chat, Path(model).name) as app, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 700})
        page.set_default_timeout(600_000)
        page.goto(app.address)
        page.fill("#question", QUESTION)
        page.press("#question", "Enter")
        page.wait_for_function("() => turns.length === 2 && !writing")
        place = page.evaluate("token => version(turns[1]).tokens.findIndex(({ text }) => text === token)", TOKEN)
        page.evaluate("place => choose(turns[1], place)", place)
        page.wait_for_selector("#looked:not([hidden], .stale)")
        page.evaluate("() => document.activeElement.blur()")
        page.add_style_tag(content=".speed { display: none; }")  # of this machine, at that moment
        page.screenshot(path=PICTURE)
        browser.close()
    picture = Image.open(PICTURE).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(PICTURE, "png", optimize=True)  # a third of the bytes


if __name__ == "__main__":
    main(sys.argv[1])
