"""Graphs in notebooks and files: with dot, with pygraphviz, with neither; no noise, and nothing left behind."""

import base64
import re
import shutil
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import autograd as ag
from autograd.view.graph import render
from autograd.view.graph.render import Graph, NoGraphviz, render_dot
from autograd.view.player import player_layout as rows

MAGIC = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}


@pytest.fixture
def graph():
    w = ag.tensor(np.ones((2, 3)), requires_grad=True, name="w")
    return ag.tape(np.tanh(w).sum()).draw()


@pytest.fixture(params=["dot", "pygraphviz"])
def graphviz_by(request, monkeypatch, tmp_path):
    """Hide one of the two Graphviz back ends."""
    if request.param == "dot":
        if not shutil.which("dot"):
            pytest.skip("there is no dot on the PATH")
        monkeypatch.setitem(sys.modules, "pygraphviz", None)
    else:
        pytest.importorskip("pygraphviz")
        hide_dot(monkeypatch, tmp_path)
    return request.param


def hide_dot(monkeypatch, tmp_path):
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.fixture
def no_graphviz(monkeypatch, tmp_path):
    hide_dot(monkeypatch, tmp_path)
    monkeypatch.setitem(sys.modules, "pygraphviz", None)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """Change to an empty working directory."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_a_notebook_shows_it(graph, graphviz_by, folder, capfd):
    bundle = graph._repr_mimebundle_()
    assert bundle["image/svg+xml"] == graph._repr_svg_() and ">tanh<" in bundle["image/svg+xml"]
    assert bundle["image/png"].startswith(MAGIC["png"]) and bundle["text/plain"] == repr(graph)
    assert capfd.readouterr() == ("", "") and not list(folder.iterdir())


def test_a_graphviz_without_png_shows_its_svg(graph, monkeypatch):
    def only_svg(source, kind):
        if kind != "svg":
            raise NoGraphviz("no such format")
        return b"<svg/>"

    monkeypatch.setattr(render, "render_dot", only_svg)
    assert graph._repr_mimebundle_() == {"image/svg+xml": "<svg/>", "text/plain": repr(graph)}


def test_where_python_cannot_be_started_there_are_rows(graph, monkeypatch, tmp_path):
    pytest.importorskip("pygraphviz")
    hide_dot(monkeypatch, tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    assert "pygraphviz could not be run" in graph._repr_mimebundle_()["text/plain"]


def test_a_notebook_may_choose(graph, no_graphviz):
    kinds = {"text/plain", "text/html", "image/svg+xml"}
    assert graph._repr_mimebundle_().keys() == kinds
    assert graph._repr_mimebundle_(include=["text/html", "image/jpeg"]).keys() == {"text/html"}
    assert graph._repr_mimebundle_(exclude=["text/html"]).keys() == kinds - {"text/html"}


@pytest.mark.parametrize("kind", MAGIC)
def test_files(graph, graphviz_by, kind, folder, capfd):
    assert graph.save(f"x.{kind}") == f"x.{kind}"
    assert (folder / f"x.{kind}").read_bytes().startswith(MAGIC[kind])
    assert [path.name for path in folder.iterdir()] == [f"x.{kind}"] and capfd.readouterr() == ("", "")


def test_both_kinds_of_graphviz_draw_the_same(graph, graphviz_by):
    svg = ElementTree.fromstring(render_dot(graph.source, "svg"))
    texts = ["".join(node.itertext()) for node in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {"tanh", "f64[2,3]", "sum", "f64[] = 4.57", "w"} <= set(texts)


def test_source(graph, no_graphviz, folder):
    for name in ("x.gv", "x.dot", "x"):
        assert graph.save(name) == name and (folder / name).read_text() == graph.source
    graph.save("y.gv", directory="deeper")
    assert (folder / "deeper" / "y.gv").exists()


def test_without_graphviz_a_notebook_shows_rows(graph, no_graphviz, folder, capfd):
    bundle = graph._repr_mimebundle_()
    assert bundle["image/svg+xml"] == graph._repr_svg_() == rows.rows_svg(graph.tape)
    html = bundle["text/html"]
    assert html.count("<p>") == 1 and 'pip install &quot;pygraphviz&gt;=2&quot;' in html
    (picture,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]*)"', html)
    assert base64.b64decode(picture).decode() == bundle["image/svg+xml"]
    assert 'pip install "pygraphviz>=2"' in bundle["text/plain"] and "tanh(%0)" in bundle["text/plain"]
    assert capfd.readouterr() == ("", "") and not list(folder.iterdir())


def test_even_without_rows_a_notebook_shows_the_tape(graph, no_graphviz, monkeypatch):
    def fail(tape):
        raise ZeroDivisionError

    monkeypatch.setattr(render, "rows_svg", fail)
    assert graph._repr_mimebundle_().keys() == {"text/plain"} and graph._repr_svg_() is None


def test_without_graphviz_a_picture_is_refused_and_says_what_to_do(graph, no_graphviz, folder):
    with pytest.raises(RuntimeError, match=r'^x.svg was not written: .*pip install "pygraphviz>=2"'):
        graph.save("x.svg")
    assert not list(folder.iterdir())


def test_other_kinds_of_files_are_refused(graph, folder):
    with pytest.raises(ValueError, match="x.jpg: a graph is saved as .svg, .png or .pdf, and its source as .gv"):
        graph.save("x.jpg")
    assert not list(folder.iterdir())


def test_a_file_that_is_there_can_be_kept(graph, graphviz_by, folder):
    (folder / "x.svg").write_text("mine")
    graph.save("x.svg", skip_existing=True)
    assert (folder / "x.svg").read_text() == "mine"
    graph.save("x.svg")
    assert (folder / "x.svg").read_text() != "mine"


def test_source_that_graphviz_refuses(graphviz_by, capfd):
    with pytest.raises(NoGraphviz):
        render_dot("digraph { this is no [graph", "svg")
    assert capfd.readouterr() == ("", "")
    broken = Graph("x", body=["\tthis is no [graph"])
    assert "text/plain" in broken._repr_mimebundle_()
