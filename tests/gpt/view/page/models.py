"""Models with pages, for the tests of these."""

import json
import re

import numpy as np

import gpt
from gpt import GPT
from gpt.cli import main

SIGNS = "</script><!--\n\r\t\0\x1b\x7f\u200f\u2028\ufeff\ud800é\u0301𝔸🙂<b>"


def varied(config, seed=5, dtype=np.float32):
    """A model whose weights are large enough for its answers to differ from place to place."""
    model, rng = GPT(config, dtype=dtype), np.random.default_rng(seed)
    for t in model.named_arrays().values():
        if t.requires_grad:
            t.data = t.data + rng.normal(0, 0.3, t.shape).astype(dtype)
    return model


def saved(folder, model, tokenizer):
    folder.mkdir()
    return gpt.save(folder, model, tokenizer)


def written(tmp_path, model, tokenizer, *flags):
    """The text of the page of a model, and the data in it."""
    folder = saved(tmp_path / "<i>run", model, tokenizer).parent
    assert main(["page", str(folder), "--out", str(tmp_path / "page.html"), *flags]) == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    return text, json.loads(re.search('id="data">(.*?)</script>', text, re.DOTALL)[1])
