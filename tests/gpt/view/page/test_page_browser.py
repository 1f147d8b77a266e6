"""The page of a model in a browser: its numbers beside NumPy's, its tokens beside Python's, and the page at work."""

import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import autograd as ag
from gpt import CharTokenizer, GPTConfig
from gpt.chat.turns import TurnTokenizer
from gpt.checkpoint import Checkpoint
from gpt.data import tokenizers
from gpt.data.tokenizers.bpe import BPETokenizer
from gpt.view.page.page import SCRIPTS, describe_tokenizer, page_data, round_weights
from gpt.view.page.page import __file__ as source
from tests.autograd.view.browser import Page, opened_browser
from tests.gpt.view.page.models import SIGNS, varied, written
from tests.tokenizer_files import gpt2_style

pytestmark = pytest.mark.slow
ALPHABET = "the cats do.\n"
CONFIG = GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=12)
CHOICES = [
    dict(), dict(bias=True), dict(positions="sinusoidal", activation="gelu_tanh", n_embd=10),
    dict(positions="rotary", rope_base=50.0, n_embd=16, qkv_bias=True), dict(n_head=4, n_kv_head=2, activation="relu"),
    dict(n_head=3, n_kv_head=1, positions="rotary", n_embd=18, qk_norm=True, qk_norm_gain=True),
    dict(norm="rms_norm", norm_eps=1e-3, residual_scalars=True),
    dict(norm="rms_norm", norm_gain=False, bias=True, activation="squared_relu"), dict(norm_gain=False, bias=True),
    dict(norm_gain=False, norm_embedding=True), dict(norm_embedding=True, bias=True), dict(convolution=3, qk_norm=True),
    dict(convolution=12, smear=True), dict(smear=True, tied=False), dict(gated=True, activation="silu", n_hidden=7),
    dict(gated=True, bias=True, activation="relu", tied=False, n_layer=1, n_head=1), dict(block_size=1),
    dict(positions="rotary", norm="rms_norm", norm_gain=False, norm_embedding=True, convolution=3, smear=True,
         tied=False, qk_norm=True, activation="squared_relu"),
]
TEXTS = ["", "a", "The cat's at the mat, isn't it?  12 of 3,456 \n\n\t we'll\r\n",
         " \u00a0\u0085\u3000x\u2028y\u200bz\ufeff\x1c\x1d ",
         "naïve café\u0301 ΑΒΓ русский עברית 日本語 한국어 हिन्दी",
         "🙂👩‍👩‍👧 𝔸²½ⅣⅨ٣", "a_b __c__ 'S 'LL x'd", "\ufeffx", "\0\x01\x7f\x80"]


@pytest.fixture(scope="module")
def browser():
    with opened_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    """A page that has opened, whose functions compute other models, too."""
    folder = tmp_path_factory.mktemp("page")
    written(folder, varied(CONFIG), CharTokenizer(ALPHABET))
    shown = opened(browser, folder)
    yield shown.page
    shown.close()


def opened(browser, folder, *args, **settings):
    shown = Page(browser, folder / "page.html", *args, **settings)
    shown.page.wait_for_selector("main:not([inert])")
    shown.settle()
    return shown


def numpy_logits(model, ids):
    return round_weights(model)(np.array([ids]))[0]


# ---------------------------------------------------------------------- its numbers


LOGITS = """async ([data, ids, changes]) => {
  const model = await load_model(data), cache = make_cache();
  const rows = (x) => Array.from({ length: x.rows }, (_, i) => [...x.row(i)]);
  const all = gpt(model, ids, changed(changes), make_cache());
  const one_by_one = ids.flatMap((id) => rows(gpt(model, [id], changed(changes), cache).logits));
  return [rows(all.logits), one_by_one, all.attention.map((heads) => heads.map((rows) => rows.map((row) => [...row])))];
  function changed({ blocks = [], mlps = [], heads = [], weights = [] }) {
    return { blocks: new Set(blocks), mlps: new Set(mlps), heads: new Set(heads), weights };
  }
}"""


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_logits_are_those_of_numpy(page, choice):
    model = varied(replace(CONFIG, **choice))
    data = page_data(Checkpoint(model, CharTokenizer(ALPHABET)), "", "name")
    for n in {1, 2, 7, 8} if model.config.block_size > 1 else {1}:
        ids = np.random.default_rng(n).integers(11, size=n).tolist()
        expected = numpy_logits(model, ids)
        assert abs(expected).max() > 0.5
        for found in page.evaluate(LOGITS, [data, ids, {}])[:2]:  # at once, and with a cache token by token
            np.testing.assert_allclose(found, expected, atol=1e-4)


def without(model, changes):
    """The model in NumPy, with heads, MLPs and blocks switched off by zeros in their last weights."""
    model = round_weights(model)
    for layer in {*changes.get("mlps", []), *changes.get("blocks", [])}:
        model.h[layer].mlp.c_proj.weight = 0 * model.h[layer].mlp.c_proj.weight
    heads = [f"{layer}.{head}" for layer in changes.get("blocks", []) for head in (0, 1)]
    for name in [*changes.get("heads", []), *heads]:
        layer, head = map(int, name.split("."))
        weight = model.h[layer].attn.c_proj.weight.copy()
        weight[6 * head:6 * head + 6] = 0
        model.h[layer].attn.c_proj.weight = weight
    return model


@pytest.mark.parametrize("changes", [dict(heads=["0.1"]), dict(heads=["1.0", "0.0"]), dict(mlps=[0]), dict(blocks=[1]),
                                     dict(blocks=[0], mlps=[1], heads=["1.1"])], ids=str)
def test_what_is_off_adds_nothing(page, changes):
    model, ids = varied(replace(CONFIG, positions="rotary", convolution=2)), [3, 1, 4, 1, 5, 9, 2]
    data = page_data(Checkpoint(model, CharTokenizer(ALPHABET)), "", "name")
    expected = without(model, changes)(np.array([ids]))[0]
    assert abs(expected - numpy_logits(model, ids)).max() > 0.1
    for found in page.evaluate(LOGITS, [data, ids, changes])[:2]:
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_everything_after_an_overwritten_weight_changes(page, monkeypatch):
    model, ids = varied(CONFIG), [3, 1, 4, 1, 5, 9, 2]
    data = page_data(Checkpoint(model, CharTokenizer(ALPHABET)), "", "name")
    calls, intact = [], ag.attention

    def overwritten(q, k, v, causal):
        """Attention with the weight of head 1 from query 4 to key 2 set to 0.7, in the first block."""
        p = np.where(np.tri(7, dtype=bool), q @ k.swapaxes(-1, -2) / 6 ** 0.5, -np.inf)
        p = np.exp(p - p.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        if not calls:
            p[0, 1, 4] *= 0.3 / (1 - p[0, 1, 4, 2])
            p[0, 1, 4, 2] = 0.7
        calls.append(p)
        return p @ v

    before = numpy_logits(model, ids)
    monkeypatch.setattr(ag, "attention", overwritten)
    expected = numpy_logits(model, ids)
    monkeypatch.setattr(ag, "attention", intact)
    change = dict(head="0.1", query=4, key=2, weight=0.7)
    *both, attention = page.evaluate(LOGITS, [data, ids, {"weights": [change]}])
    for found in both:
        np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(attention[0][1][4], calls[0][0, 1, 4, :5], atol=1e-5)
    np.testing.assert_allclose(expected[:4], before[:4], atol=1e-12)
    assert (abs(expected - before)[4:].max(-1) > 1e-3).all()


# ---------------------------------------------------------------------- its tokens


TOKENS = """([data, texts]) => { const t = make_tokenizer(data);
  return texts.map((text) => { const { ids } = t.encode(text); return [ids, t.decode(ids)]; }); }"""


@pytest.mark.parametrize("kind", [*tokenizers.learned_kinds(), "gpt2", "turns"])
def test_tokens_are_those_of_python(page, kind):
    text = "The cat's on the mat; isn't it? 123 naïve 日本語 a_b\n" * 9 + "".join(TEXTS)
    if kind in ("gpt2", "turns"):
        tokenizer = BPETokenizer(gpt2_style())
        tokenizer = TurnTokenizer(tokenizer) if kind == "turns" else tokenizer
    else:
        tokenizer = tokenizers.learn(kind, text, 400)
    found = page.evaluate(TOKENS, [describe_tokenizer(tokenizer.to_json()), TEXTS])
    for text, (ids, decoded) in zip(TEXTS, found):
        assert ids == tokenizer.encode(text).tolist() and decoded == text, text


def test_names_of_special_tokens_stand_for_them(page):
    tokenizer = TurnTokenizer(CharTokenizer(ALPHABET))
    text = "the<|user|>cat<|end|>"
    [[ids, decoded]] = page.evaluate(TOKENS, [describe_tokenizer(tokenizer.to_json()), [text]])
    assert ids == [*tokenizer.encode("the"), tokenizer.user, *tokenizer.encode("cat"), tokenizer.end]
    assert decoded == text


def test_words_are_those_of_python(page):
    """A word is what Python's \\w finds, for every character that both know."""
    found = page.evaluate(r"""() => Array.from({ length: 0x20000 },
        (_, c) => +/[\p{L}\p{N}_]/u.test(String.fromCodePoint(c))).join('')""")
    known = [c for c in range(0x20000) if unicodedata.category(chr(c)) != "Cn"]
    assert [c for c in known if found[c] == "1"] == [c for c in known if chr(c).isalnum() or chr(c) == "_"]


# ---------------------------------------------------------------------- at work


def test_it_checks_itself_and_says_so(browser, tmp_path):
    text, data = written(tmp_path, varied(CONFIG), CharTokenizer(ALPHABET))
    number = json.dumps(data["check"]["logits"][3])
    shown = opened(browser, tmp_path)
    assert "✓ Its logits are NumPy's, to " in shown.page.inner_text("#status")
    shown.close()
    assert text.count(f",{number},") == 1
    text = text.replace(f",{number},", f",{json.loads(number) + 0.002},")
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    shown = opened(browser, tmp_path)
    assert "✗ In this browser its logits are not NumPy's" in shown.page.inner_text("#status")
    shown.close()


def bars(page):
    return page.locator("#next b").all_inner_texts(), page.locator("#next span").all_inner_texts()


def test_typing_sampling_and_changing(browser, tmp_path):
    model, tokenizer = varied(CONFIG), CharTokenizer(ALPHABET)
    written(tmp_path, model, tokenizer, "--prompt", "the")
    shown = opened(browser, tmp_path)
    page = shown.page
    page.evaluate("document.querySelector('#temperature').value = 1; update(false)")
    page.focus("#text")
    page.keyboard.type(" caté")
    shown.settle()
    p = np.exp(numpy_logits(model, tokenizer.encode("the cat"))[-1])
    p /= p.sum()
    order = np.argsort(-p)[:10]
    names, shares = bars(page)
    assert names == ["␣" if c == " " else "⏎" if c == "\n" else c for c in tokenizer.decode(order)]
    for share, x in zip(shares, p[order]):
        assert share == (f"{100 * x:.0f} %" if x >= 0.0995 else f"{100 * x:.1f} %")
    assert page.inner_text("#unknown") == "Left out, since the model was trained without: é U+00E9"
    page.click("#next button >> nth=0")  # adds the likeliest; the unknown character is left out
    shown.settle()
    assert page.input_value("#text") == "the cat" + tokenizer.decode(order[:1]) and not page.inner_text("#unknown")

    page.evaluate("document.querySelector('#temperature').value = 0; update(false)")  # greedy
    page.fill("#text", "the cat")
    page.evaluate("for (let i = 0; i < 4; i++) document.querySelector('#one').click()")  # within a frame
    shown.settle()
    ids = tokenizer.encode("the cat").tolist()
    for _ in range(4):  # a full context drops its older half, as in `gpt sample`
        ids.append(int(numpy_logits(model, ids if len(ids) <= 8 else ids[4:])[-1].argmax()))
    assert page.evaluate("state.ids") == ids

    page.focus("#text")
    shown.press("Control+Enter")
    while page.evaluate("state.ids.length") <= 20:  # a token a frame
        shown.settle()
    assert page.inner_text("#go") == "Stop"
    shown.press("Control+Enter")
    assert page.inner_text("#go") == "Write" and page.evaluate("!state.writing")
    shown.close()


def test_temperature_and_top_k(browser, tmp_path):
    model, tokenizer = varied(CONFIG), CharTokenizer(ALPHABET.replace(".", "\t"))  # the newline is token 1
    written(tmp_path, model, tokenizer)
    shown = opened(browser, tmp_path)
    page = shown.page
    page.fill("#text", "")  # which begins as `gpt sample` does, after a newline
    page.fill("#temperature", "0.5")
    page.focus("#top-k")
    shown.press("Home", "ArrowRight", "ArrowRight")
    assert page.inner_text("#top-k-value") == "3" and page.inner_text("#temperature-value") == "0.50"
    p = np.sort(np.exp(numpy_logits(model, tokenizer.encode("\n"))[-1] / 0.5))[::-1][:3]
    shares = [float(share[:-2]) if "<" not in share else 0 for share in bars(page)[1]]
    np.testing.assert_allclose(shares, [*100 * p / p.sum(), *[0] * 7], atol=0.51)
    assert shares[2] > 1
    shown.close()


def test_switches_and_an_overwritten_weight_by_keyboard(browser, tmp_path):
    model, tokenizer = varied(CONFIG), CharTokenizer(ALPHABET)
    written(tmp_path, model, tokenizer, "--prompt", "the cat")
    shown = opened(browser, tmp_path)
    page, last = shown.page, "[...view.now.logits.at(-1)]"
    before = page.evaluate(last)
    assert page.is_hidden("#altered")
    page.focus("[aria-label='head 0.1']")
    shown.press("Space")
    assert page.inner_text("#changes") == "1 head off"
    expected = without(model, {"heads": ["0.1"]})(tokenizer.encode("the cat")[None])[0, -1]
    np.testing.assert_allclose(page.evaluate(last), expected, atol=1e-4)
    assert page.locator("#next.altered em").count() == 10
    page.focus("#reset")
    shown.press("Enter")
    assert page.is_hidden("#altered") and page.evaluate(last) == before and page.is_checked("[aria-label='head 0.1']")

    page.focus("[aria-label='Attention of block 1, head 0']")
    shown.press("Enter")
    page.focus("#map")
    shown.press("ArrowUp", "ArrowUp", "Home", "ArrowRight", "9", "+", "+", "+", "-")
    assert page.inner_text("#reading").startswith("From c (place 4) to h (place 1): 0.950; ")
    assert page.inner_text("#changes") == "1 overwritten weight" and page.input_value("#weight") == "0.95"
    rows = page.evaluate("view.now.attention[1][0].map((row) => [...row])")
    assert rows[4][1] == pytest.approx(0.95) and sum(rows[4]) == pytest.approx(1)
    assert page.evaluate(last) == before  # the last place has its own weights in the last block
    page.focus("#tokens")
    shown.press("ArrowLeft", "ArrowLeft")
    assert page.inner_text("#next-title") == "After c (place 4)" and "unchanged model" in page.inner_text("#came")
    page.focus("#compare")
    shown.press("Enter")
    assert "The browner, the more" in page.inner_text("#lens-hint")
    assert page.get_attribute("#compare", "aria-pressed") == "true"
    page.focus("#map")
    shown.press("Delete")
    assert page.is_hidden("#altered") and page.evaluate(last) == before
    shown.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_signs_of_a_vocabulary_on_a_phone(browser, tmp_path, scheme):
    tokenizer = CharTokenizer(SIGNS)
    model = varied(replace(CONFIG, vocab_size=tokenizer.vocab_size))
    written(tmp_path, model, tokenizer, "--prompt", SIGNS.replace("\r", ""))
    shown = opened(browser, tmp_path, (390, 844), color_scheme=scheme)
    page = shown.page
    assert page.inner_text("#name") == "<i>run" and "✓" in page.inner_text("#status")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    signs = page.evaluate("tokenizer.labels.map((_, id) => visible(id))")
    assert {"‹00›", "⏎", "⇥", "‹0D›", "‹1B›", "‹7F›", "‹200F›", "‹2028›", "‹FEFF›", "‹D800›", "◌\u0301", "𝔸",
            "<"} <= {*signs}
    assert page.locator("#write b, #write i").count() == 20  # those of the bars, and none of the text
    shown.close()


def test_the_labels_of_the_map_follow_the_scheme(browser, tmp_path):
    written(tmp_path, varied(CONFIG), CharTokenizer(ALPHABET), "--prompt", "the cats")
    shown, maps = opened(browser, tmp_path, color_scheme="light"), []
    for scheme in ("light", "dark", "light"):
        shown.page.emulate_media(color_scheme=scheme)
        shown.settle()
        maps.append(shown.page.evaluate("$('map').toDataURL()"))
    assert maps[0] == maps[2] != maps[1]
    shown.close()


def test_the_scripts_are_in_the_folder():
    assert {f"{name}.js" for name in SCRIPTS} == {file.name for file in Path(source).parent.glob("*.js")}
