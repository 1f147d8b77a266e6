"""Make the pictures of the README and of the players in the chapters again: python -m notebooks.pictures (extras viz,
dev; Chromium)."""

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


def scalar_tape() -> ag.Tape:
    """The tape of chapter 1."""
    x = ag.tensor(3.0, requires_grad=True, name="x")
    y = ag.tensor(-2.0, requires_grad=True, name="y")
    return ag.tape(x * x * y + y)


def residual_tape() -> ag.Tape:
    """The tape of chapter 3: a network with a residual branch on 64 points."""
    rng, x = np.random.default_rng(0), np.linspace(-2, 2, 64)[:, None]
    shapes = {"w1": (1, 32), "b1": (32,), "w2": (32, 32), "w3": (32, 1), "b3": (1,)}
    scales = {"w1": 2.0, "b1": 1.0, "w2": 0.1, "w3": 0.2, "b3": 0.0}
    p = {name: ag.tensor(scales[name] * rng.normal(size=shape), requires_grad=True, name=name)
         for name, shape in shapes.items()}
    with ag.scope("first"):
        h = np.tanh(x @ p["w1"] + p["b1"])
    with ag.scope("residual"):
        h = h + np.tanh(h @ p["w2"])
    with ag.scope("last"):
        y = h @ p["w3"] + p["b3"]
    return ag.tape(np.square(y[:, 0] - np.sin(3 * x[:, 0])).mean())


PLAYERS = {  # name of the picture: its tape, the operation whose backward step it shows, and the size of the window
    "player": (gpt_tape, "attention", (1180, 720)), "player_scalar": (scalar_tape, "multiply", (1000, 730)),
    "player_residual": (residual_tape, "tanh", (1180, 900))}


def main() -> None:
    loss, p = attention_head()
    ag.tape(loss).draw().save(HERE / "graph.svg")
    card = f"<body style='font: 15px system-ui, sans-serif; margin: 20px'>{p.explain(loss)._repr_html_()}</body>"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        pages = {name: Path(folder) / f"{name}.html" for name in ("card", *PLAYERS)}
        pages["card"].write_text(card, encoding="utf-8")
        for name, (make, *_) in PLAYERS.items():
            make().player().save(pages[name])
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name in pages:
            _, op, (width, height) = PLAYERS.get(name, (None, "", (860, 400)))
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(pages[name].as_uri())
            if op:  # in the backward pass, at the first such operation
                page.fill("#search", op)
                page.press("#search", "Enter")
                page.click("#card button:has-text('Backward')")
                page.fill("#search", "")
                page.evaluate("document.activeElement.blur()")
            page.screenshot(path=HERE / f"{name}.png", full_page=name == "card")
        browser.close()


if __name__ == "__main__":
    main()
