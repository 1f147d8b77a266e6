"""The computation graph: texts of boxes and tooltips, colours, widths, and escaping of arbitrary text."""

import html
import re

import numpy as np
import pytest

import autograd as ag
import gpt
from autograd.core.registry import REGISTRY
from autograd.define import op
from autograd.view.graph.coloring import BAD, FAMILIES
from autograd.view.graph.graph import WIDTHS, draw
from tests.duck import Duck

rng = np.random.default_rng(0)


def leaf(*shape, name=""):
    return ag.tensor(rng.normal(size=shape), requires_grad=True, name=name)


def mlp():
    x, w, b = ag.tensor(rng.normal(size=(5, 3)), name="x"), leaf(3, 2, name="w"), leaf(2, name="b")
    return np.square(np.tanh(x @ w + b)).mean()


def gpt_tape(n_layer=4):
    model = gpt.GPT(gpt.GPTConfig(vocab_size=11, block_size=8, n_layer=n_layer, n_head=2, n_embd=8))
    ids = np.arange(16).reshape(2, 8) % 11
    return ag.tape(model.loss(ids, ids))


def attributes(line):
    """Parse the attributes of a line of DOT."""
    return {key: value[1:-1] if value[0] == '"' else value
            for key, value in re.findall(r'(\w+)=(<.*?>(?= \w+=|\]$)|"(?:[^"\\]|\\.)*"|[^\s\]]+)', line)}


def text(label):
    """Return the text of a label in Graphviz's HTML, line by line."""
    parts = (re.sub(r"<[^>]*>", "", row) for row in label[1:-1].split("</tr>"))
    return [read(part) for part in parts if part]


def read(escaped):
    """Unescape a text."""
    return html.unescape(escaped).replace("\N{NO-BREAK SPACE}", " ")


def nodes(graph):
    """Map the title of each node to its attributes, with its lines as `text`."""
    found = {}
    for line in graph.source.splitlines():
        if re.match(r"\s*n\d+ \[", line):
            at = attributes(line)
            at["text"] = text(at["label"])
            found[at["text"][0]] = at
    return found


def edges(graph):
    """Map (title, title) of each edge to its attributes."""
    names = {}
    for line in graph.source.splitlines():
        if match := re.match(r"\s*(n\d+) \[", line):
            names[match[1]] = text(attributes(line)["label"])[0]
    return {(names[match[1]], names[match[2]]): attributes(line) for line in graph.source.splitlines()
            if (match := re.match(r"\s*(n\d+) -> (n\d+)", line))}


def legend(graph):
    """Return the lines of the legend under the graph."""
    line, = [line for line in graph.source.splitlines() if line.startswith("\tlabel=")]
    return text(line.removeprefix("\tlabel="))


# ---------------------------------------------------------------------- what is written
def test_boxes_of_a_learners_tape():
    loss = mlp()
    found = {title: at["text"][1:] for title, at in nodes(ag.tape(loss).draw()).items()}
    assert found == {"x": ["f64[5,3]"], "w": ["f64[3,2]"], "b": ["f64[2]"], "matmul": ["f64[5,2]"], "add": ["f64[5,2]"],
                     "tanh": ["f64[5,2]"], "square": ["f64[5,2]"], "mean": [f"f64[] = {loss.item():.4g}"]}


def test_settings_and_numbers_of_a_small_tape():
    x = ag.tensor(2.0, requires_grad=True, name="x")
    found = nodes(ag.tape((x**3 * np.ones((2, 2))).sum(axis=0)).draw())
    assert found["x"]["text"] == ["x", "f64[] = 2"]
    assert found["power"]["text"] == ["power", "f64[] = 8", "y=3"]
    assert found["multiply"]["text"] == ["multiply", "f64[2,2]"]
    assert found["sum"]["text"] == ["sum", "f64[2]", "axis=0"]


def test_parameters_are_counted_in_a_large_tape():
    found = nodes(gpt_tape().draw(depth=1))
    assert found["ln_1 layer_norm"]["text"] == ["ln_1 layer_norm", "f32[2,8,8]", "8 parameters"]
    assert found["attn"]["text"] == ["attn", "8 operations", "f32[2,8,8]", "256 parameters"]
    closed = nodes(gpt_tape().draw(depth=0))["h.0 … h.3 × 4"]
    assert closed["text"][1:] == ["15 operations each", "f32[2,8,8]", "784 parameters each"]
    assert closed["peripheries"] == "2" and "peripheries" not in found["add"]


def test_tips_have_line_and_mathematics():
    loss = mlp()
    tips = {title: at["tooltip"].split(r"\n") for title, at in nodes(ag.tape(loss).draw()).items()}
    line, formula, gradient = tips["tanh"]
    assert re.fullmatch(r"%5 f64\[5,2\] = tanh\(%4\)  test_graph.py:\d+", line)
    assert (formula, gradient) == ("y = tanh x", "∂L/∂x = g / cosh² x")
    assert tips["w"][0].startswith("%1 &#x27;w&#x27; f64[3,2] = parameter")
    closed = nodes(gpt_tape().draw(depth=1))["attn"]["tooltip"].split(r"\n")
    assert closed[0] == "h.0.attn" and "2 swapaxes" in closed[1]


def test_frames_are_clusters_in_clusters():
    source = gpt_tape().draw(depth=1, expand="h.0.attn").source
    found = re.findall(r"(\t+)subgraph (cluster\w*)", source)
    (outer, cluster), (inner, nested) = found
    assert len(inner) == len(outer) + 1 and nested.startswith(f"{cluster}_")
    titles = [text(attributes(line)["label"]) for line in source.splitlines() if "title_" in line and "label=" in line]
    assert titles == [["h.0 … h.3 × 4"], ["attn"]]


def test_edges_have_shapes():
    found = edges(gpt_tape().draw(depth=1, expand="h.0.attn"))
    assert found["c_attn linear", "reshape"]["tooltip"] == "f32[2,8,24]"
    assert found["split", "attention"]["tooltip"] == "3 × f32[2,2,8,4]"
    q, k = np.split(leaf(6, 2), [1])
    with ag.scope("apart"):
        parts = np.exp(q) * 2, np.exp(k) * 2
    drawn = draw(ag.tape(parts[0].sum() * parts[1].sum()), depth=0)
    assert nodes(drawn)["apart"]["text"][1:] == ["4 operations", "f64[1,2]", "f64[5,2]"]
    label = {at["tooltip"]: [line.strip() for line in text(at["label"])]
             for (a, _), at in edges(drawn).items() if a == "apart"}
    assert label and all(shown == [shape] for shape, shown in label.items())


def test_result_has_a_heavy_border_and_focus_too():
    loss = mlp()
    tape = ag.tape(loss)
    heavy = [title for title, at in nodes(tape.draw()).items() if "penwidth" in at]
    assert heavy == ["mean"]
    tanh = next(t for t in tape if t.op is not None and t.op.name == "tanh")
    assert [title for title, at in nodes(tape.draw(focus=tanh)).items() if "penwidth" in at] == ["tanh", "mean"]


def test_focus_says_where_it_goes_on():
    tape = gpt_tape()
    attention = [t for t in tape if t.op is not None and t.op.name == "attention"][1]
    assert tape.draw(focus=attention).source.count("⋯") == 3  # one in the legend
    assert "⋯" not in tape.draw().source


# ---------------------------------------------------------------------- colours and widths
def test_colours_by_operation_with_a_legend():
    graph = ag.tape(mlp()).draw()
    found = nodes(graph)
    assert found["matmul"]["fillcolor"] == FAMILIES["linear"]
    assert found["tanh"]["fillcolor"] == found["add"]["fillcolor"] == FAMILIES["elementwise"]
    assert legend(graph)[0].split() == ["linear", "elementwise", "reduce"]


def test_ones_own_op_has_a_colour():
    @op
    def mine(x):
        """y = 2 x"""
        return 2 * x

    mine.gradient("x")(lambda g, y, x: 2 * g)
    try:
        found = nodes(ag.tape(mine(leaf(2))).draw())["mine"]
    finally:
        del REGISTRY["mine"]
    assert found["fillcolor"] == FAMILIES["your own"] and r"\ny = 2 x" in found["tooltip"]


def test_before_backward_nothing_shows_a_gradient():
    graph = ag.tape(mlp()).draw()
    assert "gradient" not in re.sub("∂L/∂.", "", graph.source)
    assert not any("penwidth" in at for at in edges(graph).values())


def test_after_backward_edges_are_as_wide_as_gradients():
    x, y = ag.tensor([3.0, 4.0], requires_grad=True, name="x"), ag.tensor([1.0, 1.0], requires_grad=True, name="y")
    loss = (x * 100.0 + np.exp(y) * 1e-4).sum()
    loss.backward()
    graph = ag.tape(loss).draw()
    found = edges(graph)
    width = {pair: float(at["penwidth"]) for pair, at in found.items()}
    assert max(width, key=width.get) == ("x", "multiply") and width["x", "multiply"] == WIDTHS[1]
    assert width["y", "exp"] < width["add", "sum"] < width["x", "multiply"]
    assert found["x", "multiply"]["tooltip"] == f"f64[2]\\ngradient norm: {100 * 2**.5:.2g}"
    assert any("edge width" in line for line in legend(graph))


def test_colour_by_gradient():
    x = ag.tensor([3.0, 4.0], requires_grad=True, name="x")
    tape = ag.tape((np.square(x) * 2.0).sum())
    found = nodes(tape.draw(color="grad"))  # asks for gradients before any backward
    assert found["x"]["text"][-1] == "‖∇‖ 20" and found["square"]["text"][-1] == "‖∇‖ 2.8"
    assert found["sum"]["text"][-1] == "‖∇‖ 1"
    fills = [found[title]["fillcolor"] for title in ("sum", "multiply", "square", "x")]
    blue = [int(fill[5:7], 16) for fill in fills]
    assert blue == sorted(blue, reverse=True) and len(set(blue)) == 4  # deeper with the norm
    assert x.grad is None


def test_gradients_of_repeated_scopes_are_a_range():
    h = np.exp(leaf(3))
    for i in range(3):
        with ag.scope(f"h.{i}"):
            h = np.negative(np.negative(h)) * 10.0
    found = nodes(ag.tape(h.sum()).draw(color="grad"))
    norms = [3**.5, 10 * 3**.5, 100 * 3**.5]
    assert found["multiply"]["text"][-1] == f"‖∇‖ {norms[0]:.2g}…{norms[2]:.2g}"


def test_numbers_that_are_not_finite_stand_out():
    x = ag.tensor([0.0, 1.0], requires_grad=True, name="x")
    with np.errstate(all="ignore"):
        tape = ag.tape((np.sqrt(x) * 0.0 * np.log(x)).sum())
    graph = tape.draw(color="grad")
    assert nodes(graph)["x"]["fillcolor"] == BAD and "‖∇‖ NaN" in nodes(graph)["x"]["text"]
    bad = edges(graph)["x", "sqrt"]
    assert text(bad["label"]) == [" NaN"] and bad["color"] != edges(graph)["multiply", "sum"].get("color")


def test_one_bad_number_of_many_stands_out():
    @op
    def fresh(x):
        """y = x"""
        return x * 1

    @fresh.gradient("x")
    def _(g, y, x):
        """∂L/∂x = 1, so that nothing bad goes on to the step before"""
        return np.ones_like(g)

    try:
        h = np.exp(leaf(4))
        for scale in (1.0, np.nan):
            with ag.scope("step"):
                h = np.square(fresh(h)) * ag.tensor(scale)
        found = nodes(ag.tape(h.sum()).draw(color="grad"))
    finally:
        del REGISTRY["fresh"]
    assert found["square"]["text"][-1] == "‖∇‖ NaN" and found["square"]["fillcolor"] == BAD


def test_bad_numbers_are_drawn_under_anomaly_detection_too():
    x = ag.tensor([0.0, 1.0], requires_grad=True, name="x")
    with np.errstate(all="ignore"):
        tape = ag.tape((np.sqrt(x) * 0.0).sum())
        with ag.detect_anomaly():
            found = nodes(tape.draw(color="grad"))
    assert found["x"]["text"][-1] == "‖∇‖ NaN"


def test_norms_that_squares_would_overflow():
    found = nodes(ag.tape((leaf(4, name="x") * 1e200).sum()).draw(color="grad"))
    assert found["x"]["text"][-1] == "‖∇‖ 2e+200"


def test_gradients_of_zero_and_of_nothing():
    x = ag.tensor(np.zeros((0, 3)), requires_grad=True, name="x")
    y = ag.tensor(1.0, requires_grad=True, name="y")
    graph = ag.tape((x * 2).sum() + y * 0.0).draw(color="grad")
    assert nodes(graph)["x"]["text"] == ["x", "f64[0,3]", "‖∇‖ 0"] and nodes(graph)["y"]["text"][-1] == "‖∇‖ 0"
    assert edges(graph)["y", "multiply"]["style"] == "dotted"


@pytest.mark.parametrize("color", ["op", "grad", "time"])
def test_after_a_step_of_the_optimizer_a_line_says_what_is_missing(color):
    w = leaf(2, 2, name="w")
    loss = np.tanh(w @ w).sum()
    loss.backward()
    before = nodes(ag.tape(loss).draw())
    w.data = w.data - 0.1 * w.grad
    graph = ag.tape(loss).draw(color=color)
    notes = " ".join(legend(graph))
    assert notes.count("no numbers: leaf 'w' f64[2,2] was changed after matmul") == 1
    assert nodes(graph).keys() == before.keys() and not any("penwidth" in at for at in edges(graph).values())


def test_colour_by_time():
    tape = gpt_tape()
    graph = tape.draw(depth=1, color="time")
    time = r"[\d.]+ (?:µs|ms|s)"
    shares = [re.search(rf"{time} · (\d+|<1) %(, each {time}(…{time})?)?$", "\n".join(at["text"]).strip())
              for at in nodes(graph).values()]
    assert sum(map(bool, shares)) == len(shares) - 1  # the leaf takes none
    assert 95 <= sum(int(found[1]) for found in shares if found and found[1] != "<1") <= 105
    assert re.search(r"colour: time, .* forward and .* backward; .*median of 5", " ".join(legend(graph)))


def test_colour_by_memory():
    x = ag.tensor(np.ones(1000), requires_grad=True, name="x")
    graph = ag.tape((np.exp(x) * np.exp(x)).sum()).draw(color="memory")
    found = nodes(graph)
    assert found["exp"]["text"][-1] == "8.0 kB · 33 %" and found["multiply"]["text"][-1] == "8.0 kB · 33 %"
    assert found["x"]["text"] == ["x", "f64[1000]"] and found["x"]["fillcolor"] == "#ffffff"


def test_unknown_colour():
    with pytest.raises(ValueError, match="'op', 'grad', 'time', 'memory', and not 'speed'"):
        ag.tape(mlp()).draw(color="speed")


def test_the_tape_stays_as_it_is():
    loss = mlp()
    loss.backward()
    tape = ag.tape(loss)
    before, grads = [t._array for t in tape], [t._grad for t in tape]
    for color in ("op", "grad", "time", "memory"):
        tape.draw(color=color)
    assert all(t._array is data and t._grad is grad for t, data, grad in zip(tape, before, grads))
    assert any(data is None for data in before)


def test_arrays_of_another_library():
    x = ag.tensor(Duck(np.ones((2, 3))), requires_grad=True, name="x")
    loss = (np.exp(x) * x).sum()
    loss.backward()
    for color in ("op", "grad"):
        graph = ag.tape(loss).draw(color=color)
        assert nodes(graph)["exp"]["text"] == ["exp", "f64[2,3]"]
        assert legend(graph)[-1] == "no numbers: not NumPy arrays"


def test_a_rule_that_fails_is_no_reason_not_to_draw():
    @op
    def broken(x):
        """y = x"""
        return x * 1

    @broken.gradient("x")
    def _(g, y, x):
        raise ZeroDivisionError("a mistake")

    try:
        graph = ag.tape(broken(leaf(2)).sum()).draw(color="grad")
    finally:
        del REGISTRY["broken"]
    assert "broken" in nodes(graph) and legend(graph)[-1] == "no numbers: a mistake"


def test_empty_tape():
    assert legend(ag.tape().draw()) == ["nothing was recorded"]


# ---------------------------------------------------------------------- anyone's text
EVIL = ["<script>alert(1)</script>", 'say "hi"', "back\\slash \\N \\", "two\nlines", "a|b {c}", "&lt;b&gt;",
        "naïve 日本", "<b>", "nul\x00esc\x1b", "half \ud800", "cafe\u202egnp", "%", "\\", '"', "]];x->y[label=<"]


@pytest.mark.parametrize("evil", EVIL)
def test_names_are_shown_as_they_are(evil):
    w = leaf(2, name=evil)
    with ag.scope(evil):
        y = np.exp(w) * 2
    y.name = evil
    graph = ag.tape(y.sum()).draw(depth=3)
    seen = "".join(c if c.isprintable() or c == "\n" else "�" for c in evil.encode("utf-8", "replace").decode())
    one_line = " ".join(seen.split())
    labels = [html.unescape(re.sub("<[^>]*>", "", line)).replace("\\\\", "\\") for line in graph.source.splitlines()]
    assert sum(one_line in label for label in labels) >= 3
    svg = picture(graph)
    texts = [read(found) for found in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]
    assert one_line in texts and f"'{one_line}'" in texts  # the leaf or scope, and the result
    tips = [read(found) for found in re.findall(r'xlink:title="([^"]*)"', svg)]
    assert any(tip.startswith(f"{seen}\n") for tip in tips)  # the frame's
    assert "<script" not in svg


def picture(graph):
    """Render a graph as SVG with the Graphviz that is installed."""
    from autograd.view.graph.render import NoGraphviz, render_dot
    try:
        return render_dot(graph.source, "svg").decode()
    except NoGraphviz:
        pytest.importorskip("pygraphviz")
        raise


def test_long_names_are_cut():
    w = leaf(2, name="w" * 10_000)
    assert len(ag.tape(np.exp(w)).draw().source) < 8000


def test_svg_has_every_box_edge_and_frame():
    graph = gpt_tape().draw(depth=1, expand="h.0.attn")
    svg = picture(graph)
    assert svg.count('class="node"') == len(re.findall(r"^\s*(?:n|title_cluster_)[\d_]+ \[", graph.source, re.M))
    assert svg.count('class="edge"') == graph.source.count(" -> ") - graph.source.count("style=invis")
    assert svg.count('class="cluster"') == 2


def test_records_that_are_found_are_marked():
    tape = gpt_tape()
    found = tape.find(op="attention", scope="h.0") + tape.find(name="wte.weight")
    source = tape.draw(expand="h.0.attn", mark=found).source
    marked = [line for line in source.splitlines() if 'penwidth=4' in line]
    assert [("attention" in line, "wte.weight" in line) for line in marked] in ([(True, False), (False, True)],
                                                                              [(False, True), (True, False)])
    assert "orange border: marked" in source and "orange" not in tape.draw().source
    closed = [line for line in tape.draw(depth=0, mark=found[:1]).source.splitlines() if 'penwidth=4' in line]
    assert len(closed) == 1 and "h.0" in closed[0]  # the box that it is in
