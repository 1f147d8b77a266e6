"""SVG pictures as PNG: shapes and texts where the SVG has them, and PNG wherever a host drops SVG."""

import base64
import io
import re

import numpy as np
import pytest

import autograd as ag
from autograd.view.graph import raster
from autograd.view.graph.raster import Picture, picture_source, rasterize
from autograd.view.graph.render import NoGraphviz

image = pytest.importorskip("PIL.Image")


@pytest.fixture(autouse=True)
def graphviz():
    try:
        rasterize('<svg xmlns="" width="9" height="9"></svg>')
    except NoGraphviz as error:
        pytest.skip(str(error))


def pixels(png):
    """Return a PNG's colours (height, width, 4) in points of the SVG."""
    array = np.asarray(image.open(io.BytesIO(png)).convert("RGBA"))
    return array[::2, ::2]


def draw(body, width=60, height=40):
    return pixels(rasterize(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">{body}</svg>'))


def test_shapes_are_where_the_svg_has_them():
    found = draw('<rect x="5" y="10" width="20" height="8" fill="#ff0000"/>'
                 '<circle cx="50" cy="30" r="6" fill="#0000ff" fill-opacity=".5"/>'
                 '<path d="M30 2H40v10h-10Z" fill="#00ff00" stroke="#00ff00"/>')
    assert found.shape == (40, 60, 4)
    assert found[14, 15].tolist() == [255, 0, 0, 255] and found[7, 35].tolist() == [0, 255, 0, 255]
    assert found[30, 50, 2] == 255 and 120 <= found[30, 50, 3] <= 136
    assert found[25, 15, 3] == found[14, 28, 3] == found[38, 2, 3] == 0  # transparent


def test_lines_and_curves_are_not_filled():
    found = draw('<path d="M0 20H60" fill="none" stroke="#ff0000" stroke-width="4"/>'
                 '<path d="M10 35C10 5 50 5 50 35" fill="none" stroke="#0000ff"/>')
    assert found[20, 3].tolist() == [255, 0, 0, 255] and found[33, 30, 3] == 0 and found[13, 30, 2] > 0


@pytest.mark.parametrize("anchor, left, right", [("start", 100, 200), ("end", 0, 100), ("middle", 50, 150)])
def test_a_text_begins_ends_or_is_centred_at_its_place(anchor, left, right):
    ink = draw(f'<text x="100" y="20" text-anchor="{anchor}" fill="#000000" font-size="12">mmmmm</text>', 200)[..., 3]
    across, down = np.flatnonzero(ink.any(axis=0)), np.flatnonzero(ink.any(axis=1))
    assert left - 2 <= across[0] and across[-1] <= right + 2 and 30 < across[-1] - across[0] < 90
    assert {"start": across[0] < 105, "end": across[-1] > 95, "middle": abs(across.mean() - 100) < 3}[anchor]
    assert 8 <= down[0] and down[-1] <= 22  # it stands on y = 20


def test_a_text_can_be_anything():
    for text in ('a"b', "back\\slash \\N \\l", "<b>&amp;", "日本 ×", "%7 = x[:, 0]", "", "x" * 3000, "[label=x]; }"):
        escaped = text.replace("&", "&amp;").replace("<", "&lt;")
        assert draw(f'<text x="2" y="20">{escaped}</text>').shape == (40, 60, 4)


def tape():
    x = ag.tensor(np.linspace(0, 1, 50).reshape(5, 10), requires_grad=True, name='"\\<b>')
    return ag.tape(np.square(np.tanh(x) * x).sum())


def shown(html):
    """Return the bytes of the picture in an HTML."""
    return base64.b64decode(re.search(r'<img src="data:image/png;base64,([^"]+)"', html)[1])


def test_html_has_png_where_hosts_drop_svg():
    record = ag.record(lambda x: np.square(np.tanh(x)).sum(), np.ones((5, 10)))
    record(np.ones((5, 10)))
    for view in (tape().memory(), tape().player(), record.memory()):
        html = view._repr_html_()
        assert "data:image/svg" not in html and pixels(shown(html))[..., 3].any()


def test_a_chart_is_shown_as_svg_and_png():
    chart = tape().memory().svg()
    assert isinstance(chart, Picture) and isinstance(chart, str) and chart.startswith("<svg")
    bundle = chart._repr_mimebundle_()
    assert bundle["image/svg+xml"] == chart and pixels(bundle["image/png"]).shape == (300, 720, 4)
    assert chart._repr_mimebundle_(include=["image/png"]).keys() == {"image/png"}
    assert "image/png" not in chart._repr_mimebundle_(exclude=["image/png"])


def test_without_graphviz_it_is_svg(monkeypatch):
    def fail(*_):
        raise NoGraphviz("gone")

    monkeypatch.setattr(raster, "render_dot", fail)
    chart = tape().memory().svg()
    assert "image/png" not in chart._repr_mimebundle_()
    assert picture_source(chart).startswith("data:image/svg+xml;base64,")
    for view in (tape().memory(), tape().player()):
        assert "data:image/svg+xml" in view._repr_html_()


def test_the_chart_explains_its_line_above_the_areas():
    assert "line: with temporary memory" in tape().memory().svg()
