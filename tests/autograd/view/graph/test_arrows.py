"""Gradients on arrows and in boxes of a graph, the places of both, and the legend that explains every mark."""

import importlib.util
import re
import subprocess
import sys
from collections import defaultdict

import numpy as np
import pytest

import autograd as ag
from autograd.view.graph.fold import fold
from autograd.view.graph.graph import ARROWS
from tests.autograd.view.graph.test_graph import attributes, gpt_tape, leaf, legend, mlp, nodes, text

rng = np.random.default_rng(0)


def arrows(graph):
    """Return (tail, head, attributes) of each visible arrow, parallel ones too; a node is named by its first line."""
    names, found = {}, []
    for line in graph.source.splitlines():
        if match := re.match(r"\s*(\w+) \[", line):
            names[match[1]] = text(attributes(line)["label"])[0] if "label=<" in line else match[1]
        if (match := re.match(r"\s*(\w+) -> (\w+)", line)) and "style=invis" not in line:
            ends = names[match[1]], names[match[2]]
            found.append((*(ends[::-1] if "dir=back" in line else ends), attributes(line)))
    return found


def carried(at):
    """Return the number on an arrow."""
    return float(text(at["label"])[-1].strip())


def number_on(title, box):
    """Return the gradient in a box."""
    grad, = [line for line in box["text"] if line.startswith("grad ")] or [f"no gradient in {title}"]
    return float(grad.removeprefix("grad "))


def test_both_factors_of_a_square_have_an_arrow_and_their_numbers_add_up():
    x = ag.tensor(3.0, requires_grad=True, name="x")
    y = x * x
    y.backward()
    graph = ag.tape(y).draw()
    assert [(a, b, carried(at)) for a, b, at in arrows(graph)] == [("x", "multiply", 3.0)] * 2
    assert [at["tooltip"].split(r"\n")[1] for *_, at in arrows(graph)] == \
        [f"gradient as %1 multiply&#x27;s {name}: 3 = g ⊙ {other} = 1 ⊙ 3" for name, other in ("xy", "yx")]
    assert nodes(graph)["x"]["text"] == ["x", "f64[] = 3", "grad 6"]
    assert nodes(graph)["multiply"]["text"] == ["multiply", "f64[] = 9", "grad 1"]


def test_factors_that_send_different_numbers():
    x = ag.tensor(2.0, requires_grad=True, name="x")
    y = x ** x  # ∂/∂base = 4, ∂/∂exponent = 4 ln 2
    y.backward()
    assert [carried(at) for *_, at in arrows(ag.tape(y).draw())] == [4.0, float(f"{4 * np.log(2):.4g}")]


@pytest.mark.parametrize("seed", range(8))
def test_arrows_add_up_to_the_gradient_in_their_box(seed):
    random = np.random.default_rng(seed)
    values = [ag.tensor(float(random.uniform(0.5, 1.5)), requires_grad=True, name=f"x{i}") for i in range(3)]
    for _ in range(8):
        a, b = (values[i] for i in random.integers(len(values), size=2))
        values.append((a * b, a + b, a * a, a - np.tanh(b))[random.integers(4)])
    loss = sum(values[3:], start=values[0])
    loss.backward()
    tape = ag.tape(loss)
    graph, sent = tape.draw(), defaultdict(float)
    names = {f"n{i}": box.op for i, box in enumerate(fold(tape).frame.boxes())}
    boxes = dict(re.findall(r"^\s*(n\d+) \[(label=.*)", graph.source, re.M))
    for line in graph.source.splitlines():
        if (match := re.match(r"\s*(n\d+) -> (n\d+)", line)) and "style=invis" not in line:
            sent[match[2 if "dir=back" in line else 1]] += carried(attributes(line))
    assert len(sent) > 8
    for name, total in sent.items():
        grad = float(re.search(r">grad ([^<]+)<", boxes[name])[1])
        seed_of = 1.0 if names[name] is loss else 0.0
        assert abs(total + seed_of - grad) <= 2e-3 * (1 + abs(grad)), (names[name], total, grad)


def test_a_matrix_that_is_read_twice_has_norms_on_both_arrows():
    w = leaf(2, 2, name="w")
    loss = (w @ w).sum()
    loss.backward()
    a, b = (at for tail, head, at in arrows(ag.tape(loss).draw()) if tail == "w")
    ones = np.ones((2, 2))
    for at, sent in ((a, ones @ w.data.T), (b, w.data.T @ ones)):
        assert text(at["label"]) == [f" ‖{np.linalg.norm(sent):.2g}‖"]
        assert at["tooltip"].endswith(f"norm {np.linalg.norm(sent):.4g}")


def test_a_value_that_is_read_often_has_one_arrow_that_says_so():
    x = ag.tensor([1.0, 2.0], requires_grad=True, name="x")
    loss = np.concatenate([x] * (ARROWS + 1)).sum()
    loss.backward()
    only, = [at for tail, _, at in arrows(ag.tape(loss).draw()) if tail == "x"]
    assert text(only["label"].replace("<br/>", "</tr>"))[0].strip() == f"read {ARROWS + 1} times"
    exactly = np.concatenate([x] * ARROWS).sum()
    assert sum(tail == "x" for tail, *_ in arrows(ag.tape(exactly).draw())) == ARROWS


def test_parallel_arrows_of_scopes_drawn_once_have_ranges():
    h = np.exp(ag.tensor(0.1, requires_grad=True, name="h"))
    for i in range(3):
        with ag.scope(f"step.{i}"):
            h = np.tanh(h) * 2.0
            h = h * h
    h.backward()
    labels = [text(at["label"])[-1].strip() for a, b, at in arrows(ag.tape(h).draw()) if (a, b) == ("multiply",) * 2]
    assert len(labels) == 2 and labels[0] == labels[1] and "…" in labels[0]


def test_gradients_are_in_boxes_only_once_they_exist():
    x = ag.tensor(2.0, requires_grad=True, name="x")
    c, y = ag.tensor(5.0, name="c"), x * 3.0
    loss = y + c
    assert "grad " not in ag.tape(loss).draw().source
    loss.backward()
    found = nodes(ag.tape(loss).draw())
    assert number_on("x", found["x"]) == 3 and number_on("multiply", found["multiply"]) == 1
    assert found["c"]["text"] == ["c", "f64[] = 5"]
    loss.backward()  # adds up
    found = nodes(ag.tape(loss).draw())
    assert number_on("x", found["x"]) == 6
    assert ".grad holds 6, of which this backward pass adds 3" in found["x"]["tooltip"]
    z = ag.tensor(2.0, requires_grad=True, name="z")
    loss = z * -3.0
    loss.backward()
    assert number_on("z", nodes(ag.tape(loss).draw())["z"]) == -3  # with its sign


def test_the_loss_shows_its_value_in_a_folded_drawing_too():
    tape = gpt_tape()
    assert nodes(tape.draw(depth=0))["cross_entropy"]["text"][1] == f"f32[] = {tape.roots[0].item():.4g}"


def test_a_closed_scope_that_stands_for_several_shows_them_all():
    h, scale = np.exp(leaf(3)), 10.0
    for i in range(4):
        with ag.scope(f"h.{i}"):
            h = np.negative(np.negative(h)) * scale
    tape = ag.tape(h.sum())
    closed = tape.draw(depth=0, color="grad")
    box, = [at for title, at in nodes(closed).items() if title.startswith("h.0")]
    low, high = 3 ** 0.5, 1000 * 3 ** 0.5
    assert f"‖∇‖ {low:.2g}…{high:.2g}" in box["text"] and f"gradient norm: {low:.2g}…{high:.2g}" in box["tooltip"]
    strip = re.findall(r'<td bgcolor="(#\w+)" width="7"', box["label"])
    assert len(strip) == 4 and len(set(strip)) == 4  # from the first scope to the last
    lightness = [sum(int(fill[i:i + 2], 16) for i in (1, 3, 5)) for fill in strip]
    assert lightness == sorted(lightness)  # the gradient falls from the first to the last
    assert any("small squares" in line for line in legend(closed))
    one = tape.draw(color="grad", expand="h.1")
    assert 'width="7"' not in "".join(at["label"] for title, at in nodes(one).items() if title == "sum")


@pytest.mark.parametrize("color, unit", [("time", r"(?:µs|ms|s)"), ("memory", "(?:bytes|kB)")])
def test_sums_of_several_scopes_come_with_their_range(color, unit):
    graph = gpt_tape().draw(depth=0, color=color)
    closed, = [at for title, at in nodes(graph).items() if title.startswith("h.0")]
    number = rf"[\d.]+ {unit}"
    line, = [line for line in closed["text"] if "%" in line]
    assert re.fullmatch(rf"{number} · \d+ %, each {number}(…{number})?", line)
    assert closed["label"].count('width="7"') == 4


def test_an_array_from_outside_the_tape_is_in_its_picture():
    x = leaf(3, name="x")
    h = np.tanh(x)
    loss = (h.data * x).sum()  # .data cuts
    graph = ag.tape(loss).draw()
    assert any(tail.startswith("array") and head == "multiply" for tail, head, _ in arrows(graph))
    assert any("array outside the tape" in line for line in legend(graph))
    assert "array" not in ag.tape((x * 2.0).sum()).draw().source


# ---------------------------------------------------------------------- the legend
def every_mark():
    """Yield drawings with, among them, all marks."""
    x = ag.tensor(3.0, requires_grad=True, name="x")
    y = x * ag.tensor(2.0, name="c") + x * 0.0
    y.backward()
    tape = gpt_tape()
    with np.errstate(all="ignore"):
        zero = ag.tensor([0.0, 1.0], requires_grad=True, name="z")
        bad = (np.sqrt(zero) * 0.0 * np.log(zero)).sum()
    attention = next(t for t in tape if t.op is not None and t.op.name == "attention")
    yield from (ag.tape(y).draw(), mlp_graph(), tape.draw(), tape.draw(depth=0), tape.draw(focus=attention))
    yield from (ag.tape(bad).draw(color="grad"), *(tape.draw(color=color) for color in ("grad", "time", "memory")))


def mlp_graph():
    loss = mlp()
    loss.backward()
    return ag.tape(loss).draw()


MARKS = {"dotted": "dotted edge", "peripheries=2": "double border", "filled,dashed": "dashed", "ellipse": "round",
         "⋯": "⋯", 'width="7"': "small squares", "#762a83": "purple", "penwidth=2.2": "thick border",
         "#b0007a": "magenta"}


def test_the_legend_explains_every_mark():
    seen = set()
    for graph in every_mark():
        words, drawn = " ".join(legend(graph)), graph.source[:graph.source.index("\tlabel=")]
        for mark, word in MARKS.items():
            dotted = any(at.get("style") == "dotted" and not re.search("before_|after_", f"{tail} {head}")
                         for tail, head, at in arrows(graph))
            if dotted if mark == "dotted" else mark in drawn:
                seen.add(mark)
                assert word in words, (mark, words)
            elif mark not in ("ellipse", "filled,dashed"):
                assert word not in words, (mark, words)
    assert seen == MARKS.keys()


def test_a_legend_of_one_family_is_as_wide_as_its_words():
    x = leaf(3, name="x")
    source = ag.tape(np.exp(x)).draw().source
    width = re.search(r'<table align="left" fixedsize="true" width="(\d+)"', source)
    assert 60 <= int(width[1]) <= 90 and ">\N{NO-BREAK SPACE}elementwise\N{NO-BREAK SPACE}<" in source


def test_a_scale_of_numbers_has_its_ends_in_the_legend():
    x = ag.tensor([3.0, 4.0], requires_grad=True, name="x")
    graph = ag.tape((np.square(x) * 2.0).sum()).draw(color="grad")
    chips = re.findall(r'style="rounded">([^<]*)<', graph.source)
    assert [chip.strip("\N{NO-BREAK SPACE} ") for chip in chips] == ["1", "", "", "", "20"]


# ---------------------------------------------------------------------- where things stand
def places(graph):
    """Return {name: (x, y, width, height)} of the nodes and the control points of the edges, as `dot` lays them out."""
    if importlib.util.find_spec("pygraphviz") is None:
        pytest.skip("pygraphviz is not installed")
    code = "import sys\nfrom pygraphviz import AGraph\n" \
           "sys.stdout.buffer.write(AGraph(string=sys.stdin.buffer.read().decode()).draw(format='plain', prog='dot'))"
    done = subprocess.run([sys.executable, "-P", "-c", code], input=graph.source.encode(), capture_output=True)
    text = done.stdout.decode().replace("\\\n", "")
    found = {name: tuple(map(float, numbers.split()))
             for name, numbers in re.findall(r"^node (\S+) ((?:[-\d.e+]+ ?){4})", text, re.M)}
    lines = []
    for count, rest in re.findall(r"^edge (?!title_)\S+ \S+ (\d+) (.*)$", text, re.M):
        points = list(map(float, rest.split()[:2 * int(count)]))
        lines.append(np.array(points).reshape(-1, 2))
    return found, lines


def spline(points, n=20):
    """Return points on the cubic Bézier curves through control points (3 k + 1, 2)."""
    t = np.linspace(0, 1, n)[:, None]
    pieces = [(1 - t) ** 3 * p + 3 * t * (1 - t) ** 2 * q + 3 * t ** 2 * (1 - t) * r + t ** 3 * s
              for p, q, r, s in (points[i:i + 4] for i in range(0, len(points) - 1, 3))]
    return np.concatenate(pieces)


def columns(n_layers=4):
    h = ag.tensor(rng.normal(size=(5, 4)), name="x")
    for i in range(n_layers):
        h = np.tanh(ag.linear(h, leaf(4, 4, name=f"w{i}"), leaf(4, name=f"b{i}")))
    return ag.tape(np.square(h).mean())


def test_an_mlp_is_a_column_with_its_parameters_beside():
    graph = columns().draw()
    found, _ = places(graph)
    titles = {name: text(at)[0] for name, at in re.findall(r"\s*(n\d+) \[label=(<.*?>) ", graph.source)}
    middle = [found[name][0] for name, title in titles.items() if title in ("linear", "tanh", "square", "mean", "x")]
    assert len(middle) == 11 and max(middle) - min(middle) < 0.05
    linear = [found[name] for name, title in titles.items() if title == "linear"]
    for kind, side in (("w", -1), ("b", 1)):
        beside = [found[name] for name, title in titles.items() if re.fullmatch(rf"{kind}\d", title)]
        assert [y for _, y, *_ in beside] == [y for _, y, *_ in linear]
        assert all(np.sign(x - middle[0]) == side for x, *_ in beside)
    assert graph.source.count("constraint=false") == 8 and "newrank=true" in graph.source


@pytest.mark.parametrize("tape", [gpt_tape, mlp_graph])
def test_no_arrow_runs_over_the_title_of_a_frame(tape):
    graph = tape().draw(depth=2) if tape is gpt_tape else framed()
    found, lines = places(graph)
    titles = [place for name, place in found.items() if name.startswith("title_")]
    assert titles and lines
    for x, y, width, height in titles:
        for points in lines:
            assert not (abs(spline(points) - (x, y)) < (0.45 * width, 0.45 * height)).all(axis=1).any()


def framed():
    h = ag.tensor(rng.normal(size=(5, 4)), name="x")
    for i in range(3):
        with ag.scope(f"a rather long name of layer {i}"):
            h = np.tanh(h @ leaf(4, 4, name="w") + leaf(4, name="b"))
    return ag.tape(np.square(h).mean()).draw()
