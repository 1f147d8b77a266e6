"""Components switched off, beside the model run with their weights set to zero by hand; the table and the page."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

import autograd as ag
import gpt
from gpt import GPT
from gpt.cli import main
from gpt.model.module import raw
from gpt.view import component_ablation
from gpt.view.component_ablation import ablate_components, choose_components, component_names, describe, page_data
from gpt.view.inside import inside_page, look
from tests.autograd.view.browser import Page, opened_browser
from tests.gpt.view.test_inside import made, softmax

CHOICES = [{}, {"bias": True}, dict(n_kv_head=1, qk_norm=True, residual_scalars=True, gated=True, positions="rotary"),
           dict(norm="rms_norm", norm_gain=False, norm_embedding=True, convolution=3, smear=True, tied=False)]
PROMPT, ANSWER = np.array([3, 1, 4, 1, 5]), np.array([9, 2])


def losses(model):
    """Return the losses of a model on the answer and the prompt, and its last probabilities."""
    ids = np.append(PROMPT, ANSWER[:-1])
    p = softmax(model.map(raw)(ids[None])[0].astype(np.float64))
    return (-np.log(p[4, 9]) - np.log(p[5, 2]), -np.mean(np.log(p[np.arange(4), PROMPT[1:]])), p[-1])


def crippled(model, name):
    """Return a copy of a model with zeros among its weights, so that a component adds nothing to the residual stream.
    """
    _, block, *rest = name.split(".")
    new = GPT(model.config, dtype=np.float64)
    for key, t in new.named_arrays().items():
        t.data = model.named_arrays()[key].data
    b = new.h[int(block)]
    for linear in {(): [b.attn.c_proj, b.mlp.c_proj], ("attn",): [b.attn.c_proj], ("mlp",): [b.mlp.c_proj]}.get(
            tuple(rest), []):
        linear.weight.data = np.zeros(linear.weight.shape)
        if linear.bias is not None:
            linear.bias.data = np.zeros(linear.bias.shape)
    if len(rest) == 2:  # the rows that read a head
        weight, d = b.attn.c_proj.weight.data.copy(), model.config.head_size
        weight[int(rest[1]) * d:][:d] = 0
        b.attn.c_proj.weight.data = weight
    return new


@pytest.mark.parametrize("changes", CHOICES)
@pytest.mark.parametrize("tokens", [1, 20, 512])  # one component at a time, three, and all at once
def test_a_component_that_is_off_adds_nothing(config, changes, tokens, monkeypatch):
    monkeypatch.setattr(component_ablation, "TOKENS", tokens)
    model = made(config, changes)
    found = ablate_components(model, PROMPT, ANSWER, component_names(model.config))
    assert list(found.without) == ["h.0.attn.0", "h.0.attn.1", "h.0.attn", "h.0.mlp", "h.0",
                                   "h.1.attn.0", "h.1.attn.1", "h.1.attn", "h.1.mlp", "h.1"]
    for name, outcome in {"": found.whole, **found.without}.items():
        answer, text, p = losses(crippled(model, name) if name else model)
        assert [outcome.answer, outcome.text] == pytest.approx([answer, text], rel=1e-9), name
        assert outcome.next.tokens[0].tolist() == np.argsort(-p)[:5].tolist()
        np.testing.assert_allclose(outcome.next.probabilities[0], np.sort(p)[::-1][:5], rtol=1e-9)
    costs = [found.cost(name) for name in found.without]
    assert min(map(abs, costs)) > 1e-4 and found.cost("h.1") == found.without["h.1"].answer - found.whole.answer
    assert found.cost("h.0.mlp", "text") == found.without["h.0.mlp"].text - found.whole.text


def test_it_is_what_what_if_finds(config):
    model = made(config, {})
    logits = model(PROMPT[None])
    tape = ag.tape(logits)
    attention = tape.find(op="attention", scope="h.1.attn")[0]
    for by, change in (("zero", 0), ("mean", lambda y: y * 0 + y.mean(1, keepdims=True))):
        new, _ = tape.what_if({attention: (np.s_[:, 1], change)})
        found = ablate_components(model, PROMPT, np.array([7]), ["h.1.attn.1"], by)
        expected = -np.log(softmax(new.roots[0].data[0, -1])[7])
        assert found.without["h.1.attn.1"].answer == pytest.approx(expected, rel=1e-9) and found.cost("h.1.attn.1")


def test_patterns_choose_components(config):
    assert choose_components(config, ["all"]) == component_names(config)
    assert choose_components(config, ["h.1", "h.*.mlp", "h.0.attn.1"]) == ["h.0.attn.1", "h.0.mlp", "h.1.mlp", "h.1"]
    assert choose_components(config, []) == []
    for wrong in ("h.2", "h.0.attn.2", "mlp", "h.0.attn.c_proj"):
        with pytest.raises(ValueError, match="is no component of this model: there are the blocks h.0 to h.1, in each"):
            choose_components(config, ["h.0", wrong])


def test_a_table_is_as_wide_as_the_terminal(config):
    found = ablate_components(made(config, dict(n_head=6)), PROMPT, ANSWER, component_names(replace(config, n_head=6)))
    wide, narrow = (describe(found, "answer", lambda ids: [f"t{i}" for i in ids], width) for width in (120, 60))
    assert wide[0].split() == ["block", "attn", "mlp", "head", *"012345"]
    costs = [f"{found.cost(f'h.1{name}'):+.3f}".replace("-", "−") for name in ("", ".attn", ".mlp", ".attn.0")]
    assert wide[1].split()[:5] == ["h.1", *costs] and wide[2].startswith("h.0 ")
    assert max(map(len, narrow[:6])) <= 60 and " ".join(narrow[:6]).split() == " ".join(wide[:3]).split()
    worst = max(found.without, key=lambda name: abs(found.cost(name)))
    assert wide[3] == "" and len(wide) == 9 and wide[4].startswith(f"{worst} ")


def test_the_command(config, tokenizer, tmp_path, capsys):
    folder = str(gpt.save(tmp_path, made(config, {}), tokenizer).parent)
    argv = ["show", folder, "--prompt", "the c", "--out", str(tmp_path / "seen"), "--ablate"]
    assert main([*argv, "all", "--answer", "at"]) == 0
    said = capsys.readouterr().out
    assert "nats added to the loss of 'at' (" in said and " when a component's output is 0:" in said
    data = json.loads(re.search(r'id="data">(.*?)</script>', (tmp_path / "seen" / "show.html").read_text())[1])
    found = ablate_components(gpt.load(folder).model, *map(tokenizer.encode, ("the c", "at")), component_names(config))
    answer, text, tokens, p = data["ablation"]["without"]["h.1.attn.0"]
    assert answer == pytest.approx(found.without["h.1.attn.0"].answer, rel=1e-3)
    assert data["answer"] == "at" and data["tokens"] == list("the ca") and len(p) == 5
    assert main([*argv, "h.1.attn.1", "h.*.mlp", "--ablate-by", "mean"]) == 0
    said = capsys.readouterr().out
    assert "nats added to the loss of the prompt (" in said and "is replaced by its mean over the positions:" in said
    assert len(re.findall(r"^ {10}h\.\S+ +'.' \S+% -> \S+%; loss of the prompt .* -> .*; likeliest ", said, re.M)) == 3
    assert main([*argv, "h.9"]) == 1
    assert "gpt: error: --ablate 'h.9' is no component of this model" in capsys.readouterr().err


def test_a_prompt_of_one_token_has_no_loss_of_its_own(config):
    found = ablate_components(made(config, {}), PROMPT[:1], ANSWER[:1], ["h.0"])
    assert math.isnan(found.whole.text) and page_data(found, str)["whole"][1] is None
    assert "loss of the prompt" not in describe(found, "answer", lambda ids: [str(i) for i in ids], 80)[0]


@pytest.mark.slow
def test_the_page_at_work(config, tmp_path):
    model, path = made(config, {}), tmp_path / "show.html"
    found = ablate_components(model, PROMPT, ANSWER, component_names(config))

    def labels(ids):
        return [f"t{i}" for i in ids]

    path.write_text(inside_page(look(model, PROMPT, ANSWER), labels, "", page_data(found, labels)), encoding="utf-8")
    with opened_browser() as browser:
        shown = Page(browser, path)
        page = shown.page
        cells = {cell.get_attribute("data-name"): cell for cell in page.locator("#costs td[data-name]").all()}
        assert set(cells) == set(found.without)
        for name, cell in cells.items():
            assert float(cell.inner_text().replace("−", "-")) == pytest.approx(found.cost(name), abs=0.006)
            red, _, blue = map(int, re.findall(r"\d+", cell.evaluate("cell => cell.style.backgroundColor")))
            assert (red > blue) == (found.cost(name) > 0)
        worst = max(found.without, key=lambda name: abs(found.cost(name)))
        assert page.locator("#costs td.chosen").get_attribute("data-name") == worst
        cells["h.0.attn.1"].click()
        text = page.inner_text("#without")
        p, q = (f"{100 * math.exp(-outcome.answer):.{1 if outcome.answer > 2.3 else 0}f} %"
                for outcome in (found.whole, found.without["h.0.attn.1"]))
        assert text.startswith("Without h.0.attn.1 the probability of “t9t2” goes from ")
        assert {p, q} <= set(re.findall(r"[<\d.]+ %", text)) or "<0.1" in text
        likeliest = labels(found.without["h.0.attn.1"].next.tokens[0])
        assert page.locator("#instead .bar span").all_inner_texts() == likeliest
        shown.press("ArrowUp", "ArrowLeft", "ArrowLeft")
        assert page.locator("#costs td.chosen").get_attribute("data-name") == "h.1.mlp"
        page.click("#measures button >> nth=1")
        assert float(cells["h.1.mlp"].inner_text().replace("−", "-")) == pytest.approx(found.cost("h.1.mlp", "text"),
                                                                                      abs=0.006)
        shown.close()
