"""The static picture of a tape: well-formed, complete, and inert."""

import xml.etree.ElementTree as ET

import numpy as np

import autograd as ag
from autograd.view.player.player_layout import SHOWN, rows_svg
from tests.autograd.view.browser import Page, opened_browser

SVG = "{http://www.w3.org/2000/svg}"


def texts(picture):
    return [text.text for text in ET.fromstring(picture).iter(f"{SVG}text")]


def arcs(picture):
    """Return the rows that each arc joins."""
    paths = [path.get("d").split() for path in ET.fromstring(picture).iter(f"{SVG}path")]  # M84 65C… … … … 84 87
    return [(float(d[1].partition("C")[0]), float(d[-1])) for d in paths]


def row_heights(picture):
    return {text.text.split()[0]: float(text.get("y")) - 4.5 for text in ET.fromstring(picture).iter(f"{SVG}text")}


def test_a_row_for_each_record_and_an_arc_for_each_edge():
    w = ag.tensor(np.ones(3), requires_grad=True, name="w")
    picture = rows_svg(ag.tape((np.tanh(w) * w).sum()))
    assert texts(picture)[1::2] == ["%0  w = parameter", "%1  tanh(%0)", "%2  multiply(%1, %0)", "%3  sum(%2)"]
    assert texts(picture)[2::2] == ["f64[3]", "f64[3]", "f64[3]", "f64[]"]
    y = row_heights(picture)
    edges = [("%0", "%1"), ("%0", "%2"), ("%1", "%2"), ("%2", "%3")]
    assert sorted(arcs(picture)) == sorted((y[a], y[b]) for a, b in edges)


def test_groups_that_repeat_are_one_row():
    x = ag.tensor(np.ones(3), requires_grad=True) + 1
    for i in range(4):
        with ag.scope(f"h.{i}"):
            x = np.tanh(x) * 2
    picture = rows_svg(ag.tape(x.sum()))
    shown = texts(picture)
    assert "h.0   × 4" in shown and "h.1 … h.3:  identical, 6 records" in shown
    assert not any("%5" in text.split("(")[0] for text in shown)
    y = row_heights(picture)
    assert (y["%3"], y["h.1"]) in arcs(picture) and (y["h.1"], y["%10"]) in arcs(picture)


def test_a_long_tape_has_head_and_tail():
    x = ag.tensor(np.ones(3), requires_grad=True)
    for _ in range(300):
        x = np.tanh(x)
    shown = texts(rows_svg(ag.tape(x)))
    assert f"… {301 - SHOWN} more records …" in shown
    assert shown[1].startswith("%0 ") and shown[-2].startswith("%300 ")
    assert len(shown) == 1 + 2 * SHOWN + 1


def test_names_are_texts():
    name = "</svg><script>alert(1)</script>\x00\x1b\ud800\"'&"
    x = ag.tensor([1.0], requires_grad=True, name=name)
    with ag.scope(name):
        picture = rows_svg(ag.tape(x * 2))
    root = ET.fromstring(picture)
    assert {element.tag for element in root.iter()} <= {SVG + tag for tag in ("svg", "rect", "text", "path", "circle")}
    assert any("</svg><script>alert(1)</script>" in text for text in texts(picture))
    picture.encode()


def test_of_nothing_and_of_a_leaf():
    assert texts(rows_svg(ag.tape())) == ["Tape of 0 records: 0 operations; keeps 0 bytes"]
    assert texts(rows_svg(ag.tape(ag.tensor([1.0], name="c"))))[1:] == ["%0  c = constant", "f64[1]"]


def test_a_browser_shows_it_whole(tmp_path):
    x = ag.tensor(np.ones((2, 3)), requires_grad=True, name="a name that is long " * 9)
    path = tmp_path / "rows.svg"
    path.write_text(rows_svg(ag.tape((np.tanh(x) * x).sum())), encoding="utf-8")
    with opened_browser() as browser:
        page = Page(browser, path)
        boxes = page.page.evaluate("""[...document.querySelectorAll("text, path, circle")].map(e => e.getBBox())
            .map(b => [b.x, b.x + b.width, b.y, b.y + b.height])""")
        width, height = page.page.evaluate("[...document.querySelectorAll('svg')].map(e => [e.width.baseVal.value, "
                                           "e.height.baseVal.value])[0]")
        assert all(0 <= x0 and x1 <= width and 0 <= y0 and y1 <= height for x0, x1, y0, y1 in boxes)
        page.close()
