"""The player's graph and the numbers on its card, in a browser: few pages, each with many checks."""

import re

import numpy as np
import pytest

import autograd as ag
import gpt
from autograd.view.player.player import Player

QUIET = {"reduced_motion": "reduce"}  # without transitions, so that positions can be read at once


def saved(tape, tmp_path):
    Player(tape).save(tmp_path / "tape.html")
    return tmp_path / "tape.html"


def evaluate(page, script):
    result = page.page.evaluate(script)
    page.settle()
    return result


def units(page):
    """Return [title, kind and state, left, top, width, height] of all boxes, in pixels of the graph."""
    return page.page.evaluate("""[...document.querySelectorAll(".unit")].map(unit => [
        unit.querySelector(".title").innerText.trim(), unit.className.split(" "),
        ...["left", "top", "width", "height"].map(side => parseFloat(unit.style[side]))])""")


def said(page, selector):
    """Return the texts of all elements, each on a line."""
    return [" ".join(text.split()) for text in page.page.locator(selector).all_inner_texts()]


def unit(page, title):
    return page.page.locator(".unit", has_text=re.compile(rf"^\W*{title}"))


def edges(page):
    """Return [tail, head, classes, label] of all edges, each end by the title of its box."""
    return page.page.evaluate("""graph.edges.map(edge => [edge.tail, edge.head]
        .map(unit => unit.element.querySelector(".title strong").textContent)
        .concat([edge.element.getAttribute("class").split(" "), edge.label.textContent]))""")


def is_in_view(page, title):
    box, frame = (page.page.locator(part).bounding_box() for part in (f".unit.{title}", "#graph"))
    return (frame["y"] <= box["y"] and box["y"] + box["height"] <= frame["y"] + frame["height"] + 1
            and frame["x"] <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"] + 1)


def overlaps(boxes):
    return [(a[0], b[0]) for i, a in enumerate(boxes) for b in boxes[:i]
            if a[2] < b[2] + b[4] and b[2] < a[2] + a[4] and a[3] < b[3] + b[5] and b[3] < a[3] + a[5]]


@pytest.fixture(scope="module")
def gpt_page(tmp_path_factory):
    """A page of a twelve-layer GPT, small in width."""
    model = gpt.GPT(gpt.GPTConfig(vocab_size=65, n_layer=12, n_embd=32, n_head=2))
    tape = ag.tape(model.loss(*np.random.default_rng(0).integers(0, 65, (2, 2, 16))))
    return saved(tape, tmp_path_factory.mktemp("graph"))


@pytest.mark.slow
def test_a_gpt_is_a_column_beside_which_its_branches_and_parameters_stand(opened, gpt_page):
    assert gpt_page.stat().st_size < 1_200_000
    page = opened(gpt_page, **QUIET)
    found = units(page)
    assert len(found) < 70 and not overlaps(found)
    adds = [left + width / 2 for title, classes, left, _, width, _ in found if title.startswith("add")]
    assert len(adds) == 3 and max(adds) - min(adds) < 1  # the residual stream
    split, attention = (next(left + width / 2 for title, _, left, _, width, _ in found if title.startswith(op))
                        for op in ("split", "attention"))
    swaps = [left + width / 2 for title, _, left, _, width, _ in found if title.startswith("swapaxes")]
    assert (min(swaps) + max(swaps)) / 2 == pytest.approx(split, abs=1)
    assert split == pytest.approx(attention)  # q, k and v leave and come back symmetrically
    run = next(each for each in found if "run" in each[1])
    assert "h.1 … h.11" in run[0] and "× 11" in run[0] and abs(run[2] + run[4] / 2 - adds[0]) < 1
    assert said(page, ".frame") == ["▾ h.0", "▾ attn", "▾ mlp"]
    for pill in (each for each in found if each[0].startswith("weight")):  # level with their readers, on the right
        assert any(each[3] < pill[3] < each[3] + each[5] and each[2] + each[4] < pill[2] for each in found)
    lengths = evaluate(page, """graph.edges.flatMap(({ points, tail }) => tail.reader ? [] :
        points.slice(1).map(([, y], i) => y - points[i][1]))""")
    assert min(lengths) > -0.5  # every edge goes down


@pytest.mark.slow
def test_rows_and_graph_move_together(opened, gpt_page):
    page = opened(gpt_page, size=(1400, 900), **QUIET)
    assert is_in_view(page, "current") and "cross_entropy" in said(page, ".unit.current.selected.root")[0]
    last = page.page.locator(".row.selected").bounding_box()
    foot = page.page.locator("footer").bounding_box()
    assert last["y"] + last["height"] <= foot["y"]  # not clipped
    page.press("Home", *["ArrowRight"] * 3)
    assert "ln_1 layer_norm" in said(page, ".unit.current")[0] and is_in_view(page, "current")
    lit = [edge[:2] + edge[3:] for edge in edges(page) if "lit" in edge[2]]
    assert lit == [["add", "ln_1", "2×16×32"], ["weight", "ln_1", "32"]]
    evaluate(page, "selectRecord(records.findIndex(r => r.scope === 'h.7.attn' && r.op === 'attention'))")
    assert page.page.locator(".frame.selected").count() == 0
    assert said(page, ".frame") == ["▾ h.0", "▾ attn", "▾ mlp", "▾ h.7", "▾ attn", "▾ mlp"]
    assert "attention" in said(page, ".unit.selected")[0] and is_in_view(page, "selected")
    assert said(page, ".unit.run .title") == ["▸ h.1 … h.6 × 6 18 ops each", "▸ h.8 … h.11 × 4 18 ops each"]
    label = page.page.get_attribute("#graph", "aria-label")
    assert re.search(r"Selected: %\d+ attention; reads %\d+ item 0, .*; read by %\d+ swapaxes", label)
    page.page.locator(".unit.selected").click()
    page.settle()
    step = int(page.page.input_value("#step"))
    assert evaluate(page, "records[outline[state.row]].step") == step
    page.page.locator(".unit.current").click()
    page.settle()
    assert evaluate(page, "records[outline[state.row]].back") == int(page.page.input_value("#step")) > step
    assert {edge[3][0] for edge in edges(page) if "lit" in edge[2]} == {"‖"}
    for text in ("h.7", "h.0"):
        page.page.locator(".frame button", has_text=text).dispatch_event("click")
        page.settle()
    assert "× 12" in said(page, ".unit.run")[0] and page.page.locator(".unit").count() <= 15
    assert page.page.locator(".row.group", has_text=re.compile(r"^\W*h.0")).get_attribute("aria-expanded") == "false"
    page.page.locator(".ticks span").nth(4).click()
    page.settle()
    assert said(page, ".frame")[0] == "▾ h.4"
    assert page.page.locator(".row.group", has_text=re.compile(r"^\W*h.4")).get_attribute("aria-expanded") == "true"


@pytest.mark.slow
def test_the_graph_pans_zooms_and_fits(opened, gpt_page):
    page = opened(gpt_page, size=(1400, 900), has_touch=True, **QUIET)
    box = page.page.locator("#graph").bounding_box()
    x, y = box["x"] + 20, box["y"] + 60
    before = evaluate(page, "[view.x, view.y, view.zoom]")
    page.page.mouse.move(x, y)
    page.page.mouse.down()
    page.page.mouse.move(x + 30, y + 50, steps=3)
    page.page.mouse.up()
    assert evaluate(page, "[view.x, view.y, view.zoom]") == pytest.approx([before[0] + 30, before[1] + 50, before[2]])
    page.page.mouse.wheel(0, -40)
    page.until("y => Math.abs(view.y - y) < 1e-4", before[1] + 90)
    page.page.keyboard.down("Control")
    page.page.mouse.wheel(0, -100)
    page.until("zoom => Math.abs(view.zoom / zoom - 1) < 1e-6", before[2] * np.exp(0.5))
    page.page.keyboard.up("Control")
    page.press("+", "-", "-")
    assert evaluate(page, "view.zoom") == pytest.approx(before[2] * np.exp(0.5) * 0.8, rel=0.01)
    for _ in range(5):
        page.page.mouse.wheel(0, -9999)
    assert evaluate(page, "view.y + view.zoom * graph.root.box[1]") <= box["height"]  # cannot be lost
    page.page.click("#fit")
    page.page.click("#fit")
    page.settle()
    shown = evaluate(page, "graph.root.box.map(length => length * view.zoom)")
    assert shown[2] <= box["width"] and shown[3] <= box["height"] or evaluate(page, "view.isFitted")
    fingers = """(apart) => ["pointerdown", "pointermove", "pointerup"].forEach((name, k) => [0, 1].forEach(id =>
        graphBox.dispatchEvent(new PointerEvent(name, { pointerId: 50 + id, buttons: 1, bubbles: true,
            clientX: 600 + id * (k ? 2 * apart : apart), clientY: 300 }))))"""
    zoom = evaluate(page, "graphBox.setPointerCapture = () => {}; view.zoom")
    page.page.evaluate(fingers, 80)
    assert evaluate(page, "view.zoom") > 1.5 * zoom


@pytest.mark.slow
def test_both_arrows_of_a_square_carry_numbers_and_so_does_the_rule(opened, tmp_path):
    x = ag.tensor(3.0, requires_grad=True, name="x")
    tape = ag.tape(x * x * -0.5)
    page = opened(saved(tape, tmp_path), **QUIET)
    page.press("End")
    arrows = [edge for edge in edges(page) if edge[0] == "x"]
    assert [edge[3] for edge in arrows] == ["−1.5", "−1.5"] and all({"sent", "lit"} <= set(edge[2]) for edge in arrows)
    for end in (0, -1):  # apart at both ends
        left, right = evaluate(page, f"graph.edges.filter(e => e.tail.output === 0).map(e => e.points.at({end})[0])")
        assert left + 10 < right
    lines = page.page.locator("#card .numbers").all_inner_texts()
    assert lines == ["= 3 · 3 = 9", "= −0.5 · 3 = −1.5", "= −0.5 · 3 = −1.5"]
    assert [text.split("\n")[0] for text in page.page.locator("#card td.norm").all_inner_texts()] == ["−1.5", "−1.5"]
    assert "sum so far −3" in page.page.locator("#card td.norm").last.inner_text()
    numbers = page.page.locator(".unit.parameter .single").all_inner_texts()
    assert numbers == ["3", "−3"]
    page.page.locator("#card summary", has_text="What if").click()
    page.page.locator("#card details input").press_sequentially("2 * 5")  # keys of the page, too
    line = page.page.locator("#card details pre").inner_text()
    assert line == "print(tape.what_if({tape[1]: 2 * 5}))" and page.page.input_value("#step") == "3"
    assert "multiply" in str(eval(line[6:-1], {"tape": tape}))


@pytest.mark.slow
def test_numbers_of_vectors_and_pictures_of_larger_arrays(opened, tmp_path):
    x = ag.tensor([1.0, -2.0], requires_grad=True, name="x")
    w = ag.tensor(np.ones((40, 2)), requires_grad=True, name="w")
    page = opened(saved(ag.tape((np.tanh(x) * x * w).sum()), tmp_path), **QUIET)

    def card(op):
        evaluate(page, f"setStep(records.find(r => r.op === '{op}').back)")
        return page.page.locator("#card .numbers").all_inner_texts()

    forward, backward = card("tanh")
    assert forward == "= tanh [1, −2] = [0.7616, −0.964]"
    g = 40 * x.data
    sent = g / np.cosh(x.data) ** 2
    assert backward == f"= [40, −80] / cosh2 [1, −2] = [{sent[0]:.4g}, {sent[1]:.4g}]".replace("-", "−")
    assert card("multiply")[0].startswith("= [0.7616, −0.964] ⊙ [1, −2] = [")
    evaluate(page, "setStep(records.findLast(r => r.op === 'multiply').back)")
    figure = page.page.locator("#card figure.sent")
    assert figure.count() == 1 and "picture of what is sent, 0 to" in figure.locator("canvas").get_attribute(
        "aria-label")
    assert page.page.locator("#card td pre").count() == 1  # of x's tanh, two numbers
    page.press("End")
    assert not [edge for edge in edges(page) if "odd" in edge[2]]


@pytest.mark.slow
def test_a_long_tape_folds_and_opens_around_the_selection(opened, tmp_path):
    x = ag.tensor(np.ones(3), requires_grad=True)
    for _ in range(600):
        x = np.tanh(x) * 0.9
    with ag.scope("deep"):  # its 60 scopes differ, and are closed
        for i in range(60):
            with ag.scope(f"s{i}"):
                for _ in range(2 + i % 5):
                    x = x + np.exp(-x)
    page = opened(saved(ag.tape(x.sum()), tmp_path), **QUIET)
    assert page.page.locator(".unit").count() < 60 and said(page, ".frame") == ["▾ deep"]
    evaluate(page, "setStep(1134)")
    assert page.page.locator(".unit.current").count() == 1 and page.page.locator(".unit.closed.current").count() == 0
    assert "multiply" not in page.page.locator(".unit.closed").first.inner_text() and is_in_view(page, "current")
    unit(page, "%1 … %400").dispatch_event("click")
    page.settle()
    assert evaluate(page, "state.row") <= 2 and page.page.locator(".unit").count() < 70
    for step in (0, 399, 400, 1200, 1500, 2500, 3839):
        evaluate(page, f"setStep({step})")
        assert page.page.locator(".unit.current").count() == 1


@pytest.mark.slow
def test_any_program_is_drawn_without_overlaps(opened, tmp_path):
    """Scopes at random, opened and closed at random: boxes stay apart, inside their frames, and every edge is drawn."""
    rng = np.random.default_rng(5)
    values = [ag.tensor(rng.normal(size=3), requires_grad=True, name=f"p{i}") for i in range(4)]

    def build(depth):
        for _ in range(rng.integers(2, 6)):
            if depth and rng.random() < 0.4:
                with ag.scope(f"s{rng.integers(100)}"):
                    build(depth - 1)
            else:
                a, b = rng.integers(len(values), size=2)
                values.append(values[a] * values[b] if rng.random() < 0.7 else np.tanh(values[a]))

    for _ in range(4):
        build(3)
    page = opened(saved(ag.tape(sum(v.sum() for v in values)), tmp_path), size=(1400, 900), **QUIET)
    for _ in range(12):
        boxes = units(page)
        assert boxes and not overlaps(boxes)
        assert evaluate(page, """graph.units.every(({ box: [x, y, w, h], frame }) => {
            const [left, top, width, height] = frame.box;
            return frame.entry < 0 || left <= x && top <= y && x + w <= left + width && y + h <= top + height; })""")
        assert evaluate(page, "graph.edges.every(({ points }) => points.flat().every(Number.isFinite))")
        assert evaluate(page, """records.every((record, n) => record.inputs.every(([, m]) => m < 0 ||
            graph.unitOf[m] === graph.unitOf[n] ||
            graph.edges.some(edge => edge.uses.some(use => use.n === n && use.m === m))))""")
        groups = evaluate(page, "outline.flatMap((entry, i) => Array.isArray(entry) && entry[3] ? [i] : [])")
        evaluate(page, f"toggle({rng.choice(groups)})")


FUNCTIONS = {"trunc": np.trunc, "ln": np.log, "arcosh": np.arccosh, "arsinh": np.arcsinh, "artanh": np.arctanh,
             "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "softmax": lambda x: 1, "max": max, "min": min,
             **{name: getattr(np, name) for name in "sign floor sqrt cbrt exp sin cos tan sinh cosh tanh".split()},
             **{name: getattr(np, name) for name in ("arcsin", "arccos", "arctan")}}


def computed(line):
    """Return the value of a line of numbers, without its result."""
    text = re.sub(r" (?:where|else).*", "", line).replace("−", "-").replace("·", "*").replace("\u2009", " ")
    text = text.replace("√", "sqrt").replace("∛", "cbrt").replace("⌊", "floor(").replace("⌋", ")")
    text = re.sub(r"\|(.*)\|", r"abs(\1)", text)
    text = re.sub(r"(?<= )(\d)\(([\d.]+)\)(\*\*\(\d\))?", r"(\1*\2\3)", text)  # 2y below a line
    text = re.sub(r"cosh\*\*\((\d)\) ([\d.]+)", r"cosh(\2)**\1", text)
    text = re.sub(r"\b([a-z]{2,}) ?(-?[\d.]+)", r"\1(\2)", text)  # tanh 0.5
    text = re.sub(r"([\d.)]) ?(?=[a-z(])", r"\1*", text).rstrip(",")
    return eval(text, {"__builtins__": {}, "abs": abs}, FUNCTIONS)


@pytest.mark.slow
def test_lines_of_numbers_are_true(opened, tmp_path):
    """The formulas of all ops of numbers, with numbers put in, give the result that stands beside them."""
    total = ag.tensor(0.0)
    for values in ([0.5], [1.5], [0.7, 2.0], [2.0, 0.3]):
        for _, op in sorted(ag.REGISTRY.items()):
            try:
                with np.errstate(all="raise"):
                    y = op(*(ag.tensor(v, requires_grad=True) for v in values))
                    total = total + y * y * -0.3 if y.shape == () and op.rules else total
            except Exception:  # not an op of so many numbers, or not defined there
                continue
    page = opened(saved(ag.tape(total), tmp_path), **QUIET)
    lines = evaluate(page, """(() => {
        state.step = lastStep;
        const plain = (node) => [...node.childNodes].map((n) => n.nodeType === 3 ? n.data :
            n.tagName === "SUP" ? `**(${plain(n)})` : plain(n)).join("");
        const line = (tree, record, result) => [numbersLine(tree, record, result)].filter(Boolean)
            .map((made) => [record.op, plain(made).slice(2), result]);
        return records.filter((record) => record.op).flatMap((record) => {
            const { formula, gradients } = tape.ops[record.rules];
            let sent = 0;
            const forward = line(formula, record, shortText(record.value[0]));
            return [...forward, ...record.inputs.flatMap(([name, m, , needs]) => {
                const send = needs && record.sends[sent++];
                return send ? line(gradients[name], record, shortText(sentEntries(send, m)[0])) : [];
            })];
        }); })()""")
    assert len({op for op, _, _ in lines}) > 35
    for op, line, result in lines:
        left, _, right = line.rpartition(" = ")
        assert right == result or line == result
        wanted = float(result.replace("−", "-"))
        assert computed(left or line) == pytest.approx(wanted, rel=0.02, abs=0.01), (op, line)
