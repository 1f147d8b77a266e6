"""A module as a tree: shapes, counts and bytes, as text and as HTML."""

import re
from dataclasses import dataclass

import numpy as np
import pytest

import autograd as ag
import gpt
from gpt.model.module import Array, Module
from gpt.model.tree import module_html, module_text


@dataclass
class Leafy(Module):
    w: Array
    b: Array | None
    rate: float = 0.5


@dataclass
class Outer(Module):
    parts: list[Leafy]
    named: dict[str, Array]
    note: str


def lines(module):
    """Name and numbers of each line below the first."""
    return [tuple(re.split(r"\s{2,}", line.strip())) for line in module_text(module).splitlines()[1:]]


@pytest.fixture
def model():
    return gpt.GPT(gpt.GPTConfig(vocab_size=65, n_layer=3, n_embd=8, n_head=2, block_size=16))


def test_a_gpt(model):
    text = module_text(model)
    found = {line[0]: line[1:] for line in lines(model)}
    n = model.n_parameters
    assert text.splitlines()[0] == f"GPT: {n:,} parameters, {4 * n / 1000:.1f} kB"
    assert found["wte: Embedding"] == ("520", "2.1 kB") and found["weight: f32[65,8]"] == ("520", "2.1 kB")
    assert found["h.0 … h.2: 3 × Block"][0] == f"{3 * model.h[0].n_parameters:,}"
    assert found["attn: Attention(n_head=2, head_size=4)"][0] == f"{model.h[0].attn.n_parameters:,}"
    assert text.count("Block") == 1 and "      weight: f32[8]" in text
    assert len({len(t) for t in text.splitlines()[1:]}) == 1
    tops = [int(line.split()[-3].replace(",", "")) for line in text.splitlines() if re.match("  [a-z]", line)]
    assert sum(tops) == n


def test_neighbours_that_differ_are_not_folded(model):
    model.h[1].ln_1.weight = ag.tensor(np.ones(9), requires_grad=True)
    text = module_text(model)
    assert text.count(": Block") == 3 and "h.1: Block" in text
    w = np.ones((2, 2))
    assert "×" not in module_text(Outer([Leafy(w, None), Leafy(None, w + 0)], {}, ""))
    assert "parts.0 … parts.1: 2 × Leafy" in module_text(Outer([Leafy(w, None), Leafy(w + 0, None)], {}, ""))
    model.h[1] = model.h[0]  # shared: its arrays are counted once
    shared = module_text(model)
    assert "f32[8,24], the same as h.0.attn.c_attn.weight" in shared
    assert f"{model.n_parameters:,}" in shared.splitlines()[0]


def test_lists_dicts_settings_constants_and_shared_arrays():
    w = ag.tensor(np.zeros((2, 3)), requires_grad=True)
    module = Outer([Leafy(w, None), Leafy(w, np.ones(4, np.float32))], {"mask": ag.tensor([True])}, "<script>")
    assert module_text(module).splitlines()[0] == "Outer(note='<script>'): 10 parameters, 65 bytes"
    assert lines(module) == [
        ("parts.0: Leafy(rate=0.5)", "6", "48 bytes"), ("w: f64[2,3]", "6", "48 bytes"),
        ("parts.1: Leafy(rate=0.5)", "4", "16 bytes"), ("w: f64[2,3], the same as parts.0.w",),
        ("b: f32[4]", "4", "16 bytes"), ("named.mask: bool[1] constant", "1 bytes")]
    assert module.n_parameters == 10
    html = module_html(module)
    assert "<script" not in html and "&lt;script&gt;" in html and "the same as parts.0.w" in html


def test_html(model):
    html = module_html(model)
    assert f"<summary><code>GPT</code> &nbsp; <small>{model.n_parameters:,} parameters, " in html
    assert html.startswith("<div><details open><summary>") and html.count("<details") == html.count("</details>") > 5
    assert "<b>h.0 … h.2</b> <code>3 × Block</code>" in html and html.count("<details open>") == 1


def test_raw_arrays(model):
    assert module_text(model.map(lambda t: t.data)) == module_text(model)


def test_what_prompt_and_notebook_show(model):
    assert repr(model) == module_text(model) and model._repr_html_() == module_html(model)


def test_a_module_that_is_not_made_yet():
    assert repr(object.__new__(gpt.GPT)) == "GPT: 0 parameters, 0 bytes"
    assert repr(gpt.Linear(np.ones((2, 1)), None)) == ("Linear: 2 parameters, 16 bytes\n"
                                                       "  weight: f64[2,1]             2   16 bytes")
