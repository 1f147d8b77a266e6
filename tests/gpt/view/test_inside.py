"""The inside of a model on a prompt: each number beside one that is computed in another way, and the page at work."""

from dataclasses import replace

import numpy as np
import pytest

import gpt
from gpt import GPT
from gpt.cli import main
from gpt.model.module import raw
from gpt.view.inside import inside_page, look
from tests.autograd.view.browser import Page, opened_browser

CHOICES = [{}, {"bias": True}, dict(positions="rotary", norm="rms_norm", norm_gain=False, norm_embedding=True,
                                    convolution=3, smear=True, tied=False, qk_norm=True, activation="squared_relu")]


def made(config, changes):
    """A model whose numbers are large enough for its answers to differ from place to place."""
    model, rng = GPT(replace(config, **changes), dtype=np.float64), np.random.default_rng(5)
    for t in model.named_arrays().values():
        if t.requires_grad:
            t.data = t.data + rng.normal(0, 0.4, t.shape)
    return model


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("changes", CHOICES)
def test_predictions_and_lens(config, ids, changes):
    model, prompt = made(config, changes), ids[0]
    inside = look(model, prompt)
    p = softmax(model.map(raw)(prompt[None])[0])
    for i, row in enumerate(p):
        order = sorted(range(11), key=lambda k: -row[k])[:5]
        assert inside.predicted.tokens[i].tolist() == order
        np.testing.assert_allclose(inside.predicted.probabilities[i], row[order], rtol=1e-9)
    assert inside.found.tolist() == pytest.approx([p[i, t] for i, t in enumerate(prompt[1:])])
    assert inside.ranks.tolist() == [(p[i] > p[i, t]).sum() for i, t in enumerate(prompt[1:])]
    assert len(inside.lens) == 3 and inside.lens[-1].tokens.tolist() == inside.predicted.tokens.tolist()
    assert inside.answer == p[-1].argmax() and inside.probability == pytest.approx(p[-1].max())
    shallow = GPT(replace(config, **changes, n_layer=1), dtype=np.float64)  # what the first block alone would say
    given = model.named_arrays()
    for name, t in shallow.named_arrays().items():
        t.data = given[name].data
    first = softmax(shallow.map(raw)(prompt[None])[0])
    np.testing.assert_allclose(inside.lens[1].probabilities, np.sort(first)[:, ::-1][:, :5], rtol=1e-9)


@pytest.mark.parametrize("changes", CHOICES)
def test_shares_are_what_scaling_a_place_changes(config, ids, changes):
    model, prompt = made(config, changes), ids[1]
    inside = look(model, prompt, np.array([4]))
    assert inside.answer == [4]
    bare, step = model.map(raw), 1e-5
    start = residual(bare, prompt)

    def log_p(x):
        for block in bare.h:
            x = block(x, angles(bare, len(prompt)), lambda x: x)
        return np.log(softmax(bare.logits(x)[0, -1]))[4]

    for i in range(len(prompt)):
        up, down = start.copy(), start.copy()
        up[0, i] *= 1 + step
        down[0, i] *= 1 - step
        assert inside.shares[i] == pytest.approx((log_p(up) - log_p(down)) / (2 * step), rel=1e-5, abs=1e-9)
    assert abs(inside.shares).max() > 1e-3


def angles(model, T):
    return None if model.frequencies is None else np.arange(T)[:, None] * model.frequencies


def residual(model, ids):
    x = model.wte(ids[None])
    if model.wpe is not None:
        x = x + model.wpe(np.arange(len(ids)))
    for part in (model.smear, model.norm):
        x = x if part is None else part(x)
    return x


def test_maps_are_probabilities_of_places_before(config, ids):
    maps = look(made(config, {}), ids[0]).maps
    assert [len(heads) for heads in maps] == [2, 2]
    for m in maps[0] + maps[1]:
        assert m.shape == (8, 8) and (np.triu(m, 1) == 0).all()
        np.testing.assert_allclose(m.sum(-1), 1, rtol=1e-9)


def test_it_leaves_no_gradients(config, ids):
    model = made(config, {})
    look(model, ids[0])
    assert all(t.grad is None for t in model.named_arrays().values())


def test_of_a_long_prompt_the_end_is_shown(config, monkeypatch):
    monkeypatch.setattr("gpt.view.inside.POSITIONS", 4)
    prompt = np.arange(8)
    inside = look(made(config, {}), prompt)
    assert {m.shape for heads in inside.maps for m in heads} == {(4, 4)}
    text = inside_page(inside, lambda ids: [f"<{i}>" for i in ids], "about")
    assert '"tokens":["\\u003c4\\u003e"' in text and text.count('"\\u003c0') < 40


def test_weights_that_are_not_finite(config, ids):
    model = made(config, {})
    model.ln_f.weight.data = np.full(12, np.nan)
    with pytest.raises(FloatingPointError, match="logits are not finite"):
        look(model, ids[0])


def test_an_answer_of_several_tokens(config, tokenizer, tmp_path, capsys):
    model = made(config, {})
    folder = str(gpt.save(tmp_path, model, tokenizer).parent)
    argv = ["show", folder, "--prompt", "the c", "--out", str(tmp_path / "seen"), "--answer"]
    assert main([*argv, "at"]) == 0
    text = (tmp_path / "seen" / "show.html").read_text()
    assert '"answer":"at"' in text and '"tokens":["t","h","e"," ","c","a"]' in text
    ids, answer = tokenizer.encode("the c"), tokenizer.encode("at")
    inside, short = look(model, ids, answer), look(model, ids, answer[:1])
    p = softmax(model.map(raw)(inside.ids[None])[0])
    assert inside.ids.tolist() == [*ids, answer[0]] and len(inside.shares) == 6 and len(short.shares) == 5
    assert inside.probability == pytest.approx(p[4, answer[0]] * p[5, answer[1]])
    after = look(model, inside.ids, answer[1:]).shares  # a sum of logarithms has the sum of the gradients
    np.testing.assert_allclose(inside.shares, after + [*short.shares, 0], rtol=1e-9, atol=1e-12)
    assert main([*argv, "the cat sat"]) == 1
    assert "--answer is 11 tokens, and the model's context 8" in capsys.readouterr().err


def test_the_page_at_work(config, tmp_path):
    path = tmp_path / "show.html"
    inside = look(made(config, {}), np.array([3, 1, 4, 1, 5, 9, 2, 6]))
    path.write_text(inside_page(inside, lambda ids: [f"t{i}" for i in ids], "<b>about</b>"), encoding="utf-8")
    with opened_browser() as browser:
        shown = Page(browser, path)
        page = shown.page
        assert page.inner_text("#about") == "<b>about</b>" and page.inner_text("#came") == "The prompt ends here."
        page.focus("#prompt")
        shown.press("ArrowLeft", "ArrowLeft")
        assert page.inner_text("#prompt [aria-selected=true]") == "t9"
        assert "In the prompt comes t2: " in page.inner_text("#came")
        bars = page.locator("#next .bar span").all_inner_texts()
        assert bars == [f"t{i}" for i in inside.predicted.tokens[5]]
        assert page.locator("#lens tr").count() == 4 and page.locator("#lens td.chosen").count() == 3
        assert page.locator("#heads button").count() == 4 and not page.is_visible("#map")
        page.click("#heads button >> nth=3")
        assert page.inner_text("#weight").startswith("Block 1, head 1: from t9 (place 5) to t")
        page.hover("#map", position={"x": 5, "y": 5})
        assert page.inner_text("#weight") == "Block 1, head 1: from t3 (place 0) to t3 (place 0): 100 %"
        shown.close()
