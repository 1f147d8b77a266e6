"""The player: its data against NumPy's numbers, and its page in a browser."""

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import autograd as ag
import gpt
from autograd.view.palette import THEME
from autograd.view.player import pictures, player
from tests.duck import Duck

EVIL = "</script><script>alert(1)</script><!--<script>\u2028&amp;'\"\ud800{{script}}{{data}}"


def mlp():
    """Return a small loss whose numbers are easy to compute with NumPy."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(4, 3)), ag.tensor(rng.normal(size=(3, 2)), requires_grad=True, name="w")
    with ag.scope("layer"):
        h = np.tanh(x @ w)
    return (h * h).sum(), x, w


@pytest.fixture(scope="module")
def gpt_tape():
    model = gpt.GPT(gpt.GPTConfig(vocab_size=65))
    ids = np.random.default_rng(0).integers(0, 65, (2, 12, 64))
    return ag.tape(model.loss(*ids))


@pytest.fixture(scope="module")
def gpt_page(gpt_tape, tmp_path_factory):
    path = tmp_path_factory.mktemp("player") / "tape.html"
    tokens = [f"t{i}" for i in range(64)]
    player.Player(gpt_tape, tokens).save(path)
    return path


def words(entry):
    return {name: float(text.replace(",", "")) for name, text in entry["words"]}


def data_of(page):
    """Return the data as a browser finds them in a page: the first script of that type, up to its end tag."""
    class Reader(HTMLParser):
        found, inside, scripts = "", False, 0

        def handle_starttag(self, tag, attrs):
            self.scripts += tag == "script"
            self.inside = tag == "script" and ("id", "data") in attrs

        def handle_endtag(self, tag):
            self.inside = False

        def handle_data(self, data):
            self.found += data if self.inside else ""

    reader = Reader()
    reader.feed(page)
    assert reader.scripts == 2
    return json.loads(reader.found)


def made(record):
    return record["op"] or record["name"]


# ---------------------------------------------------------------------- data


def test_steps_are_the_operations_in_order_and_back():
    loss, *_ = mlp()
    data = player.Player(ag.tape(loss)).data
    forward = sorted((r for r in data["records"] if r["step"] >= 0), key=lambda r: r["step"])
    assert [made(r) for r in forward] == ["matmul", "tanh", "multiply", "sum"]
    assert [r["step"] for r in forward] == [0, 1, 2, 3]
    assert [r["back"] for r in forward] == [7, 6, 5, 4]
    assert (data["forward"], data["backward"]) == (4, 4)
    assert data["records"][0] | {"value": 0, "gradient": 0, "source": ""} == {
        "op": "", "kind": "parameter", "name": "w", "shape": "f64[3,2]", "scope": "", "source": "",
        "step": -1, "back": -1, "inputs": [], "attrs": [], "value": 0, "gradient": 0, "sends": [], "rules": -1}


def test_numbers_are_numpys():
    loss, x, w = mlp()
    records = player.Player(ag.tape(loss)).data["records"]
    h = np.tanh(x @ w.data)
    sent = 2 * h * (1 - h * h)
    for array, entry in ((h, records[2]["value"][0]), (2 * h, records[2]["gradient"][0]),
                         (sent, records[1]["gradient"][0]), (x.T @ sent, records[0]["gradient"][0])):
        assert words(entry) == pytest.approx({"min": array.min(), "max": array.max(), "mean": array.mean(),
                                              "std": array.std(), "norm": np.linalg.norm(array)}, rel=2e-3)
        assert entry["shape"] == f"f64[{','.join(map(str, array.shape))}]"
    assert float(records[1]["sends"][0][0]) == pytest.approx(np.linalg.norm(x.T @ sent), rel=1e-3)


def test_what_is_used_twice_has_its_parts_and_their_sum():
    loss, x, w = mlp()
    (first, _, half), (second, _, whole) = player.Player(ag.tape(loss)).data["records"][3]["sends"]
    h = np.linalg.norm(np.tanh(x @ w.data))
    assert float(first) == float(second) == words(half[0])["norm"] == pytest.approx(h, rel=1e-3)
    assert words(whole[0])["norm"] == pytest.approx(2 * h, rel=1e-3)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e25])
@pytest.mark.parametrize("offset", [0, 1e3])
def test_statistics_hold_at_any_scale(scale, offset):
    x = ((np.random.default_rng(1).normal(size=(50, 40)) + offset) * scale).astype(np.float32)
    exact = x.astype(float)
    found = words(pictures.entry_of(x, pictures.Pictures(1, 0)))
    assert found == pytest.approx({"min": exact.min(), "max": exact.max(), "mean": exact.mean(), "std": exact.std(),
                                   "norm": np.linalg.norm(exact)}, rel=1e-3, abs=1e-3 * scale)


def test_numbers_that_are_none_are_counted():
    entry = pictures.entry_of(np.array([[1.0, np.nan], [np.inf, -np.inf], [3.0, 2.0]]), pictures.Pictures(1, 0))
    found = words(entry)
    assert [found[name] for name in ("NaN", "inf", "min", "max", "mean")] == [1, 2, 1, 3, 2]
    assert pictures.entry_of(np.zeros((0, 3)), pictures.Pictures(1, 0))["words"] == [["", "no elements"]]
    assert pictures.entry_of(np.array(np.nan), pictures.Pictures(1, 0))["words"] == [["NaN", "1"]]


def test_pictures_have_the_signs_and_the_ends_of_their_arrays():
    made = pictures.Pictures(1, 0)
    start, rows, columns, low, high = made.add(np.array([[-1.0, 0.0, 2.0], [np.nan, np.inf, -np.inf]]))
    code = np.frombuffer(base64.b64decode(made.to_base64()), np.uint8)[start:].reshape(rows, columns)
    middle = (pictures.LEVELS - 1) / 2
    assert (low, high) == (-2, 2)
    assert code[0] == pytest.approx([middle / 2, middle, 2 * middle], abs=0.5)
    assert code[1].tolist() == [pictures.NAN, pictures.PLUS, pictures.MINUS]
    assert made.add(np.array([1.0, 3.0]))[3:] == [0, 3]
    assert made.add(np.array([-1.0, -3.0]))[3:] == [-3, 3]
    assert made.add(np.full(2, 1e308) * [1, -1])[3:] == [-1e308, 1e308]


def test_attention_weights_are_those_of_the_first_sequence():
    rng = np.random.default_rng(0)
    shapes = [(2, 4, 5, 3), (2, 2, 6, 3), (2, 2, 6, 7)]
    q, k, v = (ag.tensor(rng.normal(size=shape), requires_grad=True) for shape in shapes)
    mask = rng.random((2, 1, 5, 6)) > 0.4
    t = ag.attention(q, k, v, mask, scale=0.7)
    keys = np.repeat(k.data[0], 2, axis=0)
    scores = np.where(mask[0], q.data[0] @ keys.mT * 0.7, -np.inf)
    p = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(pictures.attention_weights(t), p, rtol=1e-12)
    made = pictures.Pictures(1, 1)
    shown = made.weights(pictures.attention_weights(t))
    code = np.frombuffer(base64.b64decode(made.to_base64()), np.uint8).reshape(4, 5, 6)
    np.testing.assert_allclose((code / (pictures.LEVELS - 1)) ** 2, p, atol=5e-3)
    assert (shown["count"], shown["queries"], shown["keys"]) == (4, 5, 6)


def test_a_softmax_is_shown_along_its_axis():
    x = ag.tensor(np.random.default_rng(0).normal(size=(2, 3, 4)), requires_grad=True)
    t = ag.softmax(x, axis=1)
    np.testing.assert_array_equal(pictures.softmax_weights(t), t.data.swapaxes(1, 2))


def test_the_outline_folds_what_repeats():
    x = ag.tensor(np.ones(3), requires_grad=True) + 1
    for i in range(3):
        with ag.scope(f"h.{i}"):
            x = np.tanh(x) * 2
    flat = player.Player(ag.tape(x.sum())).data["outline"]
    assert flat == [0, 1, ["h.0", "h.0", 0, 2, 3, False], 2, 3, ["h.1", "h.1", 0, 2, 1, True], 4, 5,
                    ["h.2", "h.2", 0, 2, 1, True], 6, 7, 8]


def recurrent(steps):
    """Return a loss after some steps that share a weight, each in its own scope."""
    w, h = ag.tensor([[0.5, 0.1], [0.2, 0.4]], requires_grad=True, name="w"), ag.tensor(np.ones((1, 2)))
    for i in range(steps):
        with ag.scope(f"t{i}"):
            h = np.tanh(h @ w)
    return ag.tape(h.sum())


@pytest.fixture
def little_room(monkeypatch):
    monkeypatch.setattr(player, "ROOM", 60)


@pytest.mark.parametrize("at", [None, 0, 1, 50, 101])
def test_of_a_long_tape_a_part_has_the_numbers_of_the_whole(at, monkeypatch):
    tape = recurrent(50)
    whole = player.Player(tape).data
    monkeypatch.setattr(player, "ROOM", 60)
    data = player.Player(tape, focus=None if at is None else tape[at]).data
    numbers = [r.get("number", k) for k, r in enumerate(data["records"])]
    assert 20 < len(numbers) < 40 and 0 in numbers and numbers == sorted(numbers)  # w, which all of them use
    assert at is None or data["focus"] == numbers.index(at)
    assert at is not None or {1, 2, 3, 100, 101, 102} <= set(numbers)  # both ends
    for shown, number in zip(data["records"], numbers):
        full = whole["records"][number]
        for key in ("op", "value", "gradient", "shape", "scope", "source"):
            assert [{**e, "picture": 0} if isinstance(e, dict) else e for e in shown[key]] == [
                {**e, "picture": 0} if isinstance(e, dict) else e for e in full[key]]
        assert [send[0] for send in shown["sends"]] == [send[0] for send in full["sends"]]
        place = {number: k for k, number in enumerate(numbers)}
        assert [i[1] for i in shown["inputs"]] == [place.get(i[1], -1) for i in full["inputs"]]
    left = len(tape) - len(numbers)
    assert any(note.startswith(f"{left} of the 103 records") and "focus" in note for note in data["notes"])
    gaps = [entry[0] for entry in data["outline"] if isinstance(entry, list) and not entry[3]]
    assert sum(int(re.findall(r"\d+", gap)[0]) for gap in gaps) == left
    assert sorted(entry for entry in data["outline"] if isinstance(entry, int)) == list(range(len(numbers)))
    assert not whole["notes"] and all("number" not in r for r in whole["records"])


def test_what_arrives_from_records_left_out_is_counted(little_room):
    data = player.Player(recurrent(50)).data
    w = data["records"][0]
    here = sum(i[1] == 0 for r in data["records"] for i in r["inputs"])
    assert w["unseen"][0] + here == 50 and w["unseen"][1] == data["forward"] + data["backward"] - 1
    [inner] = [r for r in data["records"][1:] if "unseen" in r]  # the last before what is left out
    assert inner["unseen"][0] == 1 and inner["back"] == inner["unseen"][1] + 1


def test_memory_of_a_part_is_that_of_its_steps(little_room):
    tape = recurrent(50)
    data, m = player.Player(tape).data, tape.memory()
    numbers = [r.get("number", k) for k, r in enumerate(data["records"])]
    turns = {"step": {t: i for i, t in enumerate(m.steps[:m.n_forward])},
             "back": {t: m.n_forward + i for i, t in enumerate(m.steps[m.n_forward:])}}
    for r, number in zip(data["records"], numbers):
        for way in ("step", "back"):
            if r[way] >= 0:
                assert data["memory"]["alive"][r[way]] == m.alive[turns[way][tape[number]]]
    assert data["memory"]["peak"] == m.peak


def test_a_page_shows_the_ends_of_what_has_many_parts():
    x = ag.tensor(np.ones((500, 2)), requires_grad=True)
    loss = np.concatenate(np.split(x, 500)).sum()
    data = player.Player(ag.tape(loss)).data
    cut, joined = data["records"][1], data["records"][-2]
    assert (cut["op"], joined["op"]) == ("split", "concatenate")
    assert len(cut["value"]) == len(cut["gradient"]) == 17 and cut["value"][8]["words"] == [["", "… 484 more …"]]
    assert len(joined["inputs"]) == len(joined["sends"]) == player.INPUTS and joined["more"] == 400
    assert cut["shape"] == "(500 × f64[1,2])"


@pytest.mark.slow
def test_a_page_is_a_few_megabytes_however_long_the_tape():
    y = ag.tensor(np.ones(3), requires_grad=True)
    for _ in range(7_000):
        y = np.tanh(y)
    assert len(player.Player(ag.tape(y.sum())).page) < 5e6


def test_a_focus_that_is_not_in_the_tape():
    with pytest.raises(ValueError, match="is not in this tape, and focus= takes one of its records"):
        recurrent(2).player(focus=ag.tensor(1.0))


def test_memory_is_that_of_the_memory_view(gpt_tape):
    found, m = player.Player(gpt_tape).data["memory"], gpt_tape.memory()
    assert len(found["alive"]) == len(m.alive) == 158
    assert len(found["lifetimes"]) == len(m.lifetimes) > 200
    assert found["peak"] == pytest.approx(m.peak, rel=0.01)


def test_a_gpts_page_is_small_enough_and_whole(gpt_tape):
    page = player.Player(gpt_tape).page
    assert len(page.encode()) <= 500_000
    data = data_of(page)
    assert len(data["records"]) == 106 and (data["forward"], data["backward"]) == (79, 79)
    assert [len(r["weights"]["pictures"]) for r in data["records"] if r["op"] == "attention"] == [4] * 4
    end = max(r[kind][0]["picture"][0] for r in data["records"] for kind in ("value", "gradient")
              if "picture" in r[kind][0])
    assert end < len(base64.b64decode(data["bytes"])) < 250_000


def test_the_tape_stays_as_it_is():
    loss, _, w = mlp()
    records = ag.tape(loss)
    player.Player(records)
    assert w.grad is None and all(t._array is not None for t in records)
    loss.backward()
    before = w.grad.copy()
    page = player.Player(records)
    assert [t._array is None for t in records] == [False, True, True, True, False]
    assert page.data["records"][2]["value"] and page.data["notes"] == []
    np.testing.assert_array_equal(w.grad, before)


def test_lost_values_leave_the_structure_and_the_reason():
    loss, _, w = mlp()
    records = ag.tape(loss)
    loss.backward()
    w.data = w.data + 1
    data = player.Player(records).data
    assert len(data["notes"]) == 1 and "leaf 'w' f64[3,2] was changed after" in data["notes"][0]
    assert [len(r["value"]) for r in data["records"]] == [1, 0, 0, 0, 1]
    assert (data["forward"], data["backward"]) == (4, 4)


def test_a_rule_that_raises_ends_the_gradients_and_says_so(new_op):
    @new_op
    def unruly(x):
        return x * 1

    @unruly.gradient("x")
    def _(g, y, x):
        raise KeyError("oops")

    w = ag.tensor(np.ones(3), requires_grad=True)
    data = player.Player(ag.tape(unruly(np.tanh(w)).sum())).data
    assert data["notes"] == ["gradients are missing from step 4 on: KeyError: 'oops'"]
    assert [bool(r["gradient"]) for r in data["records"]] == [False, False, False, True]
    assert [r["back"] for r in data["records"]] == [-1, 5, 4, 3]


def test_a_root_of_many_elements_is_summed_and_said_to_be():
    w = ag.tensor(np.ones((3, 4)), requires_grad=True)
    data = player.Player(ag.tape(w * 2)).data
    assert data["notes"] == ["the gradient is that of the sum of f64[3,4] %1"]
    assert words(data["records"][0]["gradient"][0])["mean"] == 2


def strange_tapes():
    x = ag.tensor(np.arange(6.0).reshape(2, 3), requires_grad=True, name="x")
    a, b, _ = ag.split(x, 3, axis=-1)
    w = ag.tensor(Duck(np.ones(3)), requires_grad=True)
    h = np.tanh(x)
    yield "tuple", ag.tape((a * b).sum() + a.sum())
    yield "duck", ag.tape((w * w).sum())
    yield "no elements", ag.tape((ag.tensor(np.zeros((0, 3)), requires_grad=True) * 2).sum())
    yield "one number", ag.tape(ag.tensor(2.0, requires_grad=True) ** 2)
    yield "bad numbers", ag.tape((ag.tensor([[1, np.nan, np.inf, -np.inf]], requires_grad=True) * 2).sum())
    yield "a leaf", ag.tape(ag.tensor([1.0]))
    yield "nothing", ag.tape()
    yield "two roots", ag.tape(h, (h * x).sum())


@pytest.mark.parametrize("name, records", [pytest.param(*pair, id=pair[0]) for pair in strange_tapes()])
def test_strange_tapes_have_a_page(name, records):
    data = data_of(player.Player(records).page)
    assert len(data["records"]) == len(records) == sum(isinstance(item, int) for item in data["outline"])


def test_users_texts_cannot_leave_the_data():
    x = ag.tensor([1.0, 2.0], requires_grad=True, name=EVIL)
    with ag.scope(EVIL):
        y = (x * x).sum()
    page = player.Player(ag.tape(y), [EVIL, EVIL])
    data = data_of(page.page)
    assert data["records"][0]["name"] == data["records"][1]["scope"] == data["tokens"][0] == EVIL
    assert "alert" not in re.sub(r'<script type="application/json".*?</script>', "", page.page, flags=re.DOTALL)
    page._repr_html_().encode()


# ---------------------------------------------------------------------- in a browser


def saved(tape, tmp_path, tokens=None):
    player.Player(tape, tokens).save(tmp_path / "tape.html")
    return tmp_path / "tape.html"


def text(page, selector):
    return page.page.locator(selector).inner_text()


def title(page):
    return text(page, "#card h2")


def rows(page):
    """Return the texts of the visible rows, from top to bottom."""
    return page.page.evaluate("""[...document.querySelectorAll(".row:not([hidden])")]
        .sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top)
        .map(row => row.querySelector(".number").textContent + " " + row.querySelector(".call").textContent)""")


def card_words(page, side):
    names = page.page.locator(f"#card section.{side} .words dt").all_inner_texts()
    numbers = page.page.locator(f"#card section.{side} .words dd").all_inner_texts()
    return {name: float(number) for name, number in zip(names, numbers)}


def test_keys_go_to_both_ends(opened, gpt_page):
    page = opened(gpt_page)
    assert title(page) == "%105cross_entropy"  # it opens where the loss is
    page.press("Home")
    assert title(page) == "%27embedding"
    assert "step 0 / 157" in text(page, "#where") and page.page.input_value("#step") == "0"
    page.press("ArrowLeft")
    assert "step 0 / 157" in text(page, "#where")
    page.press("ArrowRight", "ArrowRight")
    assert title(page) == "%29add"
    page.press("End", "ArrowRight")
    assert "step 157 / 157 backward: %27 embedding" in " ".join(text(page, "#where").split())
    page.press("Shift+ArrowLeft")
    assert page.page.input_value("#step") == "147"


def test_the_slider_is_a_range_with_its_step_in_words(opened, gpt_page):
    page = opened(gpt_page)
    page.page.locator("#step").fill("100")
    page.settle()
    assert page.page.get_attribute("#step", "aria-valuetext").startswith("step 100 of 157, backward: %")
    page.page.focus("#step")
    page.press("ArrowRight")
    assert page.page.input_value("#step") == "101"


def test_thumbnails_are_the_pictures_of_the_card(opened, gpt_page):
    page = opened(gpt_page)
    assert page.page.evaluate("""async () => {
        const places = records.flatMap(r => r.value).map(entry => entry.picture).filter(Boolean);
        const pixels = (canvas) => [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
        const same = await Promise.all(places.map(async place => {
            const image = new Image(), [one, other] = [0, 1].map(() => document.createElement("canvas"));
            image.src = thumbnail(place).slice(4, -1);
            await image.decode();
            paint(one, place);
            [other.width, other.height] = [image.width, image.height];
            other.getContext("2d").drawImage(image, 0, 0);
            return pixels(one).join() === pixels(other).join();
        }));
        const lows = places.map(place => place[3]);
        return [same.length > 30, same.every(Boolean), lows.some(low => low < 0), lows.includes(0)];
    }""") == [True] * 4


def test_rows_of_the_future_are_dim_and_have_no_numbers(opened, gpt_page):
    page = opened(gpt_page)
    page.press("Home", "ArrowRight")
    dim = page.page.evaluate("""[...document.querySelectorAll(".row:not([hidden])")].filter(row => !row.classList
        .contains("group")).map(row => [row.querySelector(".number").textContent, row.classList.contains("future"),
        Boolean(row.querySelector(".swatch").style.backgroundImage)])""")
    found = {number: (future, picture) for number, future, picture in dim}
    assert found["%27"] == found["%28"] == found["%0"] == (False, True)
    assert found["%29"] == found["%30"] == (True, False)
    page.press("End")
    assert "arrives" not in text(page, "#card section.gradient")


def test_a_folded_block_opens_and_closes(opened, gpt_page):
    page = opened(gpt_page)
    assert not any("%56" in row for row in rows(page))
    block = page.page.locator(".row", has_text="h.1")
    assert block.get_attribute("aria-expanded") == "false"
    block.click()
    page.settle()
    page.page.locator("#rows").evaluate("box => box.scrollBy(0, 200)")
    page.settle()
    assert any(row.startswith("%56") and "attention" in row for row in rows(page))
    page.press("Enter")
    assert not any("%56" in row for row in rows(page))


def test_search_finds_what_is_folded(opened, gpt_page, gpt_tape):
    page = opened(gpt_page)
    page.press("/")
    page.page.keyboard.type("h.2.attn attention")
    page.settle()
    assert text(page, "#found") == "1 of 1" and title(page) == "%74attention"
    assert any(row.startswith("%74") for row in rows(page))
    page.page.fill("#search", "c_proj.weight")
    page.press("Enter", "Enter")
    assert text(page, "#found").endswith("of 8")
    for wanted in ({"op": "add"}, {"op": "add", "scope": "h.2"}, {"op": "attention", "scope": "h.*.attn"},
                   {"scope": "h"}, {"scope": "*.attn"}, {"name": "*.c_proj.weight"}, {"name": "h-(["}):
        page.page.fill("#search", " ".join(f"{key}:{pattern}" for key, pattern in wanted.items()))
        page.settle()
        n = len(gpt_tape.find(**wanted))
        assert text(page, "#found") == (f"{text(page, '#found').split()[0]} of {n}" if n else "none found")
    page.page.fill("#search", "no such thing")
    page.settle()
    assert text(page, "#found") == "none found"


def test_the_card_has_numpys_numbers(opened, tmp_path):
    loss, x, w = mlp()
    page = opened(saved(ag.tape(loss), tmp_path))
    h = np.tanh(x @ w.data)
    page.page.locator(".row", has_text="tanh").click()
    page.settle()
    assert title(page) == "%2tanh" and text(page, "#card .formula") == "y = tanh x"
    expected = {"min": h.min(), "max": h.max(), "mean": h.mean(), "std": h.std(), "norm": np.linalg.norm(h)}
    assert card_words(page, "value") == pytest.approx(expected, rel=2e-3)
    assert text(page, "#card section.gradient .status") == "arrives at step 5"
    page.page.locator("#card").get_by_text("Backward: step 6").click()
    page.settle()
    assert card_words(page, "gradient")["norm"] == pytest.approx(2 * np.linalg.norm(h), rel=1e-3)
    sent = np.linalg.norm(2 * h * (1 - h * h))
    assert float(text(page, "#card td.norm").strip("‖\n")) == pytest.approx(sent, rel=1e-3)
    page.page.locator("#card table .link").click()
    page.settle()
    assert title(page) == "%1matmul"


def test_the_result_has_the_letter_of_the_formula(opened, tmp_path):
    x, y = (ag.tensor(number, requires_grad=True, name=name) for number, name in ((9.0, "x"), (-2.0, "y")))
    page = opened(saved(ag.tape(np.tanh(x * y)), tmp_path))
    for op, name in (("multiply", "z"), ("tanh", "y")):
        page.page.locator(".row", has_text=op).click()
        page.settle()
        assert text(page, "#card .value h3") == f"Value {name}"
        assert text(page, "#card .gradient h3") == f"Gradient g = ∂L/∂{name}"


def test_parts_of_a_gradient_add_up_as_they_come(opened, tmp_path):
    x = ag.tensor([3.0, 4.0], requires_grad=True, name="x")
    page = opened(saved(ag.tape((np.tanh(x) + x * 2).sum()), tmp_path))
    page.page.locator(".row", has_text="x parameter").click()
    page.press("p", "End", "ArrowLeft")
    assert title(page) == "%0parameterx"
    assert text(page, "#card section.gradient .status") == "1 of 2 contributions so far; the last at step 7"
    assert card_words(page, "gradient")["norm"] == pytest.approx(np.sqrt(8), rel=1e-3)
    page.press("ArrowRight")
    assert text(page, "#card section.gradient .status") == "the sum of 2 contributions"
    whole = 2 + 1 - np.tanh(np.array([3, 4])) ** 2
    assert card_words(page, "gradient")["norm"] == pytest.approx(np.linalg.norm(whole), rel=1e-3)


def test_a_part_of_a_long_tape_plays(opened, tmp_path, little_room):
    tape = recurrent(50)
    for focus, first in ((None, "%102"), (tape[50], "%50")):
        (tmp_path / first).mkdir()
        player.Player(tape, focus=focus).save(tmp_path / first / "tape.html")
        page = opened(tmp_path / first / "tape.html")
        assert title(page).startswith(first) and "are left out: tape.player(focus=t)" in text(page, "#notes")
        page.press("Home", *["ArrowRight"] * 40, "End")
        page.page.evaluate("""select(outline.findIndex(entry => Array.isArray(entry) && !entry[3]))""")
        page.settle()
        assert re.match(r"… \d+ records left out …", title(page)) and any("left out" in row for row in rows(page))
        page.press("Enter", "ArrowUp", "ArrowDown", "ArrowDown")
        page.page.evaluate("""selectRecord(records.findIndex(r => r.unseen && r.op))""")
        page.settle()
        assert card_words(page, "gradient")["norm"] > 0
        page.page.evaluate("setStep(forward - 1); selectRecord(records.findIndex(r => r.unseen && r.op))")
        page.settle()
        assert re.match(r"arrives at step \d+", text(page, "#card section.gradient .status"))


def test_edges_go_to_inputs_and_users(opened, gpt_page):
    page = opened(gpt_page)
    page.press("Home")
    page.page.locator(".row", has_text="attention").first.click()
    page.settle()
    assert page.page.locator("#edges path.input:not(.head)").count() == 3
    assert page.page.locator("#edges path.user:not(.head)").count() == 1
    page.page.locator("#card").get_by_text("Backward: step").first.click()
    page.settle()
    assert page.page.locator("#edges path.sent:not(.head)").count() == 3


def test_attention_is_a_picture_that_names_tokens(opened, gpt_page, gpt_tape):
    page = opened(gpt_page)
    page.press("Home")
    page.page.locator(".row", has_text="attention").first.click()
    page.press("p", "End")
    assert page.page.locator("#card .weights canvas").count() == 4
    page.page.locator("#card .weights canvas").first.hover(position={"x": 1, "y": 1})
    assert text(page, "#card .weights .reading >> nth=0") == '"t0" → "t0": 1.0'
    box = page.page.locator("#card .weights canvas").first.bounding_box()
    page.page.mouse.move(box["x"] + box["width"] * 3.5 / 64, box["y"] + box["height"] * 20.5 / 64)
    words, _, number = text(page, "#card .weights .reading >> nth=0").rpartition(": ")
    weights = pictures.attention_weights(next(t for t in gpt_tape if t.op and t.op.name == "attention"))
    assert words == '"t20" → "t3"' and float(number) == pytest.approx(weights[0, 20, 3], rel=0.05)
    page.press("w")
    assert page.page.locator("#card .weights canvas").count() == 0


def test_the_playhead_of_memory_moves_and_can_be_dragged(opened, gpt_page):
    page = opened(gpt_page)
    page.press("Home")
    low = text(page, "#alive span >> nth=0")
    box = page.page.locator("#curve").bounding_box()
    page.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 10)
    page.settle()
    assert page.page.input_value("#step") in ("78", "79")
    assert text(page, "#alive span >> nth=0") != low and "MB" in text(page, "#alive")
    assert "kept for the backward of" in text(page, "#card .lives >> nth=0")
    page.page.locator("#card summary", has_text="All arrays").click()
    page.settle()
    assert page.page.locator("#card details .life").count() == 12


def test_playing_reaches_the_end_and_stops(opened, tmp_path):
    page = opened(saved(ag.tape(mlp()[0]), tmp_path))
    page.page.select_option("#speed", "60")
    page.page.locator("#rows").click(position={"x": 5, "y": 5})
    page.press("Home", " ")
    page.page.locator("#where", has_text="step 7 / 7").wait_for()
    page.page.locator("#play[aria-label=Play]").wait_for()


def test_names_are_texts_and_nothing_else(opened, tmp_path):
    x = ag.tensor([1.0, 2.0], requires_grad=True, name=EVIL + "<img src=x onerror=alert(2)>")
    with ag.scope("<b>bold</b>"):
        y = (x * x).sum()
    page = opened(saved(ag.tape(y), tmp_path))
    page.press("ArrowUp", "ArrowUp", "End", "ArrowLeft")
    assert page.page.locator("body img, body b:not(#where b), #card script").count() == 0
    assert any("<b>bold</b>" in row for row in rows(page))
    assert any("<script>alert(1)</script>" in row for row in rows(page))


def test_in_a_notebook_it_lies_over_a_picture(opened, tmp_path):
    x = ag.tensor([1.0, 2.0], requires_grad=True, name=EVIL)
    cell = player.Player(ag.tape(np.tanh(x).sum()))._repr_html_()
    (tmp_path / "cell.html").write_text(f"<!DOCTYPE html><meta charset=utf-8>{cell}", encoding="utf-8")
    page = opened(tmp_path / "cell.html")
    frame = page.page.frame_locator("iframe")
    frame.locator("#rows").focus()
    frame.locator("body").press("End")
    frame.locator("#where", has_text=re.compile(r"^\s*step 3 / 3\s+backward: %1 tanh\s*$")).wait_for()
    assert page.page.locator("img").evaluate("image => image.complete && image.naturalWidth > 300")
    top = "document.elementFromPoint(200, 200).tagName"
    assert page.page.evaluate(top) == "IFRAME"
    page.page.locator("iframe").evaluate("frame => frame.remove()")
    page.page.locator("img").scroll_into_view_if_needed()
    assert page.page.evaluate("document.elementFromPoint(200, 100).tagName") == "IMG"


@pytest.mark.parametrize("body, is_dark", [
    ('data-jp-theme-light="false"', True), ('data-jp-theme-light="true"', False), ('class="vscode-dark"', True),
    ('class="dark"', True), ('style="color-scheme: dark"', True), ("", False)])
def test_in_a_notebook_it_has_the_notebooks_theme(opened, tmp_path, body, is_dark):
    cell = player.Player(ag.tape(np.tanh(ag.tensor([1.0, 2.0], requires_grad=True)).sum()))._repr_html_()
    (tmp_path / "cell.html").write_text(f"<!DOCTYPE html><meta charset=utf-8><body {body}>{cell}", encoding="utf-8")
    page = opened(tmp_path / "cell.html", color_scheme="null")  # the system's theme is light here
    page.page.frame_locator("iframe").locator("#rows").wait_for()
    background = page.page.frames[-1].evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == f"rgb({', '.join(str(int(THEME['paper'][is_dark][i:i + 2], 16)) for i in (1, 3, 5))})"


@pytest.mark.parametrize("size", [(1400, 900), (900, 600), (390, 844)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(opened, gpt_page, size, scheme):
    page = opened(gpt_page, size=size, color_scheme=scheme)
    assert page.page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    def check_parts(*parts):
        for part in parts:
            box = page.page.locator(part).bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= size[0] and box["y"] + box["height"] <= size[1]
            assert box["height"] > 10

    check_parts("#graph", "#card", "#step", "#play", "#search")
    assert page.page.locator("#rows").is_visible() == (size[0] > 1080)
    page.press("g")  # rows and graph take turns where there is little room
    check_parts("#rows")
    assert page.page.locator("#graph").is_visible() == (size[0] > 1080)
    rows_box, card_box = (page.page.locator(part).bounding_box() for part in ("#rows", "#card"))
    beside = card_box["x"] >= rows_box["x"] + rows_box["width"]
    below = card_box["y"] >= rows_box["y"] + rows_box["height"]
    assert (beside, below) == (size[0] > 700, size[0] <= 700)
    red = page.page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
    assert (int(red) < 60) == (scheme == "dark")
    page.page.click("#theme")
    red = page.page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
    assert (int(red) < 60) == (scheme == "light")


def test_controls_have_names_and_a_visible_focus(opened, gpt_page):
    page = opened(gpt_page)
    nameless = page.page.evaluate("""[...document.querySelectorAll("button, input, select, [tabindex]")]
        .filter(e => !(e.getAttribute("aria-label") || e.tagName === "BUTTON" && e.textContent.trim())).length""")
    assert nameless == 0
    reached = set()
    for _ in range(30):
        page.page.keyboard.press("Tab")
        reached.add(page.page.evaluate("document.activeElement.id"))
        outline = page.page.evaluate("""[document.activeElement, document.querySelector(".row.selected")]
            .map(e => getComputedStyle(e).outlineStyle)""")
        assert "solid" in outline or "auto" in outline or page.page.evaluate("document.activeElement === document.body")
    assert {"search", "theme", "rows", "card", "step", "play", "speed"} <= reached


def test_long_tapes_have_few_rows_on_the_page(opened, tmp_path):
    x = ag.tensor(np.ones(3), requires_grad=True)
    for _ in range(2500):
        x = np.tanh(x) * 0.9
    page = opened(saved(ag.tape(x.sum()), tmp_path))
    page.press("Home", "End", "ArrowLeft")
    assert page.page.evaluate("document.querySelectorAll('.row').length") < 60
    assert page.page.evaluate("document.querySelectorAll('*').length") < 1500
    page.press("/")
    page.page.keyboard.type("%1234")
    page.settle()
    assert any(row.startswith("%1234 ") for row in rows(page))


@pytest.mark.parametrize("name, records", [pytest.param(*pair, id=pair[0]) for pair in strange_tapes()])
def test_strange_tapes_play(opened, tmp_path, name, records):
    page = opened(saved(records, tmp_path))
    page.press("Home", "ArrowRight", "ArrowRight", "ArrowUp", "Enter", "End", "ArrowDown", "Enter", "w", "p", "?", "?")
    assert len([row for row in rows(page) if row.startswith("%")]) == len(records)
