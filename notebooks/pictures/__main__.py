"""Make the README's pictures again, from runs of now: python -m notebooks.pictures (extras viz, dev; Chromium)."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

import autograd as ag
import gpt

HERE = Path(__file__).parent


def attention_head() -> tuple[ag.Tensor, ag.Tensor]:
    """A head of attention on five tokens, written out, and the gradient's way through it: the loss, and its weights."""
    rng = np.random.default_rng(0)
    x = ag.tensor(rng.normal(size=(5, 8)), name="x")
    q, k, v = (x @ ag.tensor(rng.normal(0, 0.5, (8, 4)), requires_grad=True, name=name)
               for name in ("w_q", "w_k", "w_v"))
    with ag.scope("attention"):
        p = ag.softmax(q @ k.T / 2)
        y = p @ v
    return np.square(y).mean(), p


def gpt_tape() -> ag.Tape:
    """The tape of a small GPT that reads a sentence."""
    text = "to be or not to be"
    tokenizer = gpt.CharTokenizer("".join(sorted(set(text))))
    ids = tokenizer.encode(text)
    model = gpt.GPT(gpt.GPTConfig(vocab_size=tokenizer.vocab_size, n_layer=2, n_embd=64))
    return ag.tape(model.loss(ids[None, :-1], ids[None, 1:]))


def main() -> None:
    loss, p = attention_head()
    ag.tape(loss).draw().save(HERE / "graph.svg")
    card = f"<body style='font: 15px system-ui, sans-serif; margin: 20px'>{p.explain(loss)._repr_html_()}</body>"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        pages = {"card": Path(folder) / "card.html", "player": Path(folder) / "player.html"}
        pages["card"].write_text(card, encoding="utf-8")
        gpt_tape().player().save(pages["player"])
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, size in (("player", (1180, 720)), ("card", (860, 400))):
            page = browser.new_page(viewport={"width": size[0], "height": size[1]})
            page.goto(pages[name].as_uri())
            if name == "player":  # on the way back, at the attention of the first block
                page.fill("#search", "attention")
                page.press("#search", "Enter")
                page.click("#card button:has-text('Backward')")
                page.fill("#search", "")
                page.evaluate("document.activeElement.blur()")
            page.screenshot(path=HERE / f"{name}.png", full_page=name == "card")
        browser.close()


if __name__ == "__main__":
    main()
