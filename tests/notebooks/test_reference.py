"""The reference is built, with every example run and every gradient checked; and what is missing or wrong is named."""

import base64
import inspect
import os
import pydoc
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import autograd as ag
from autograd.core.registry import module_of
from autograd.view.graph import render
from notebooks.reference import chapters, pages, running
from notebooks.reference.__main__ import main
from notebooks.reference.derivation import Derivation, read
from notebooks.reference.docstrings import as_rest
from notebooks.reference.running import Trouble, run
from tests.samples import SAMPLES

ROOT = Path(__file__).parents[2]
DERIVATIONS = ROOT / "notebooks" / "reference" / "derivations"
RULES = [(name, op.parameters[i]) for name, op in ag.REGISTRY.items() for i in op.rules
         if module_of(op.formula).startswith(("autograd.", "numpy"))]


# ---------------------------------------------------------------------- derivations


@pytest.fixture
def folder(tmp_path):
    """A copy of the derivations, to be spoilt."""
    shutil.copytree(DERIVATIONS, tmp_path / "derivations")
    return tmp_path / "derivations"


def edit(path, old, new):
    text = path.read_text("utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), "utf-8")


def test_every_rule_has_its_derivation_and_every_op_its_example():
    found = read(DERIVATIONS)
    assert len(RULES) > 100
    for name, x in RULES:
        assert any(x in names.split(", ") and text for names, text in found[name].inputs.items()), (name, x)
        assert found[name].example


@pytest.mark.parametrize("old, new, trouble", [
    ("## softmax\n", "## hardmax\n", r"network.md:\d+: there is no op hardmax with a gradient rule"),
    ("### angles\n", "### turns\n", r"rotary has no gradient rule for turns, only for x, angles"),
    ("### angles\n", "", r"network.md:\d+: rotary has no derivation for its input angles: write it under `### angles`"),
    ("### bias\n\n$y$ has slope $1$ in the bias, which all rows share: $∂L/∂bias = Σ g$, and the engine sums.\n",
     "### bias\n", r"layer_norm has no derivation for its input bias"),
    ("## relu\n", "## gelu\n", r"gelu is derived in network.md:3 already"),
    ("```python\nx = ag.tensor([-1.0, 0.0, 0.5], requires_grad=True, name=\"x\")\ny = ag.erf(x)\n```\n", "",
     r"network.md:\d+: erf has no example"),
])
def test_what_is_missing_in_a_derivation_is_named(folder, old, new, trouble):
    edit(folder / "network.md", old, new)
    with pytest.raises(Trouble, match=trouble):
        read(folder)


def test_an_op_without_any_derivation_is_named(folder):
    path = folder / "network.md"
    text = path.read_text("utf-8")
    path.write_text(re.sub(r"## softmax\n.*?(?=^## )", "", text, flags=re.DOTALL | re.MULTILINE), "utf-8")
    with pytest.raises(Trouble, match=r"^softmax has no derivation: write one under `## softmax` in "
                                      r"derivations/network.md$"):
        read(folder)


def test_a_new_op_needs_a_derivation(monkeypatch):
    new = ag.Op(lambda x: 2 * x)
    new.name = "twice"
    new.gradient("x")(lambda g, y, x: 2 * g)
    new.formula.__module__ = "autograd.ops.network"
    monkeypatch.setitem(ag.REGISTRY, "twice", new)
    with pytest.raises(Trouble, match="twice has no derivation: write one under `## twice` in derivations/network.md"):
        read(DERIVATIONS)


# ---------------------------------------------------------------------- examples and checks


def test_an_example_shows_what_it_prints():
    assert run("a = 1 + 1\nprint(a)", {}, "here") == "2"
    assert run("1 / 0", {}, "here", raises="ZeroDivisionError") == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("code, raises, trouble", [
    ("a = 1\n1 / a - 1 / 0", "", "here: the example fails in line 2: ZeroDivisionError: division by zero"),
    ("import warnings\nwarnings.warn('so')", "", "UserWarning: so"),
    ("1 / 0", "ValueError", "ZeroDivisionError"),
    ("1", "ValueError", "here: the example was to raise ValueError, and did not"),
])
def test_an_example_that_fails_is_named(code, raises, trouble):
    with pytest.raises(Trouble, match=trouble):
        run(code, {}, "here", raises)


def relu_page(**changes):
    derivation = read(DERIVATIONS)["relu"]
    return pages._page(ag.REGISTRY["relu"], Derivation(**(vars(derivation) | changes)), [], ROOT)


def test_a_page_has_all_its_parts():
    page = relu_page()
    for part in ("# relu", "y = max(x, 0)", "ag.relu(x)", "∂L/∂x = g where x > 0, else 0", "$∂L/∂x = g [x > 0]$",
                 "return np.where(x <= 0, 0, g)", "y = [0.  0.5 2. ]", "x.grad = [0.  1.5 2. ]", '<div class="graph"><',
                 "svg", "`x`: agrees with finite differences to", "samples of the tests"):
        assert part in page, part


def test_a_wrong_rule_is_named(monkeypatch):
    monkeypatch.setitem(ag.REGISTRY["relu"].rules, 0, (lambda g, y, x: g, None))
    with pytest.raises(Trouble, match="relu fails its check: relu: gradient of x is wrong"):
        relu_page()


def test_a_rule_that_is_wrong_only_at_second_order_is_named(monkeypatch):
    def constant(x):
        return x.detach() if isinstance(x, ag.Tensor) else x
    monkeypatch.setitem(ag.REGISTRY["squared_relu"].rules, 0, (lambda g, y, x: 2 * g * ag.relu(constant(x)), None))
    with pytest.raises(Trouble, match="squared_relu fails its check: squared_relu: in the gradient"):
        pages._page(ag.REGISTRY["squared_relu"], read(DERIVATIONS)["squared_relu"], [], ROOT)


@pytest.mark.parametrize("example", ["x = ag.tensor([1.0])\n", "y = 1.0\n", "y = ag.tensor([1.0])\n"])
def test_an_example_without_a_result_is_named(example):
    with pytest.raises(Trouble, match=r"network.md:3: the example leaves no Tensor y"):
        relu_page(example=example)


def test_without_graphviz_the_page_has_the_tape_in_rows_and_says_why(monkeypatch):
    def none(source, kind):
        raise render.NoGraphviz("there is no Graphviz")
    monkeypatch.setattr(render, "render_dot", none)
    monkeypatch.setattr(running, "render_dot", none)
    page = relu_page()
    assert "The tape in rows: there is no Graphviz." in page and "data:image/svg+xml;base64," in page


def test_an_op_without_samples_is_named(monkeypatch):
    monkeypatch.delitem(SAMPLES, "relu")
    with pytest.raises(Trouble, match="relu has no samples"):
        relu_page()


# ---------------------------------------------------------------------- chapters and docstrings


def test_chapters_are_found_by_what_their_code_names():
    assert chapters._names("%matplotlib\ny = ag.softmax(np.exp(x) @ w) ** 2 + np.unique(x)") == \
        {"softmax", "exp", "matmul", "power"}
    found = chapters.uses()
    assert any(use.path.name.startswith("04_") for use in found["softmax"])
    link = chapters.link(found["softmax"][0], chapters.NOTEBOOKS.parent / "reference" / "ops")
    assert re.match(r'<a href="../../notebooks/0\d_\w+\.ipynb">\d\. ', link)


def test_in_a_site_the_reference_links_to_what_runs_in_the_browser(tmp_path):
    found = chapters.uses()["softmax"][0]
    assert pages._live_link("x = 1", tmp_path / "reference" / "ops") == "" == chapters.links_to_site(tmp_path)
    for name in ("chapters.html", "live.html"):
        (tmp_path / name).touch()
    assert f'"../../chapters/notebooks/index.html?path={found.path.name}"' in chapters.link(
        found, tmp_path / "reference" / "ops")
    packed = re.search("live.html#code=([^\"]+)", pages._live_link("x = '∂'", tmp_path / "reference" / "ops"))[1]
    assert zlib.decompress(base64.urlsafe_b64decode(packed + "=="), -15).decode() == "x = '∂'"
    links = chapters.links_to_site(tmp_path)
    assert '"../live.html"' in links and '"../chapters.html"' in links and "train" not in links


def described(x, *xs):
    """Something with `code`, *stars*, a_name_ and |bars|.

        y = described(1)

    x: what it is.  y = x²    A remark.
    ∂L/∂x = 2 g x
    """


def test_docstrings_become_rest():
    made = as_rest(inspect.cleandoc(described.__doc__).splitlines(), described)
    assert "\n".join(made).replace("\\ \n", "\n") == r"""Something with \ ``code``\ , \*stars\*, a\_name\_ and \|bars\|.

.. code-block:: python

   y = described(1)

\ **x**\ : what it is.  \ :math:`y = x²`\     A remark.

\ :math:`∂L/∂x = 2 g x`
"""


def test_code_is_known_where_nothing_follows_it():
    """Python takes the indentation off then."""
    made = as_rest(["What it is.", "", "t = f(1)      # so", "t.save()"])
    assert made == ["What it is.", "", ".. code-block:: python", "", "   t = f(1)      # so", "   t.save()", ""]
    assert ".. code-block:: python" not in as_rest(["What it is.", "", "More words (of it)."])


# ---------------------------------------------------------------------- the whole


def test_a_missing_extra_is_told_in_a_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "sphinx", None)
    assert main([str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == \
        'sphinx is missing: the reference needs Sphinx, Furo and MyST: run  python -m pip install -e ".[reference]"\n'


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The reference, by its command."""
    for extra in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(extra)
    folder = tmp_path_factory.mktemp("reference")
    done = subprocess.run([sys.executable, "-m", "notebooks.reference", str(folder)], cwd=ROOT, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"index.html: \d+ pages", done.stdout) and not done.stderr
    return folder


@pytest.mark.long
def test_every_op_has_a_page(built):
    for name, _ in RULES:
        text = (built / "ops" / f"{name}.html").read_text("utf-8")
        assert "agree" in text and "<svg" in text and 'class="math"' in text, name


@pytest.mark.long
def test_what_the_packages_export_is_documented(built):
    import gpt
    for package in (ag, gpt):
        text = (built / "api" / f"{package.__name__}.html").read_text("utf-8")
        for name in package.__all__:
            if callable(getattr(package, name)):
                link = re.search(rf'href="([\w.]*)#([\w.]+)">{name}</a>', text)
                assert link, name
                page = (built / "api" / (link[1] or f"{package.__name__}.html")).read_text("utf-8")
                assert f'id="{link[2]}"' in page, name


@pytest.mark.long
def test_nothing_is_loaded_from_elsewhere_and_search_works_from_disk(built):
    from tests.autograd.view.browser import opened_browser
    with opened_browser() as browser:
        page, asked, troubles = browser.new_page(), [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        for name in ("index.html", "ops/softmax.html", "api/autograd.html", "extending.html"):
            page.goto((built / name).as_uri())
        page.fill("input[name=q]", "finite differences")
        page.press("input[name=q]", "Enter")
        page.wait_for_selector("#search-results li a")
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        assert troubles == []


@pytest.mark.slow
def test_the_command_says_in_a_line_what_is_wrong(tmp_path):
    for extra in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(extra)
    broken = tmp_path / "broken.py"
    broken.write_text("import sys, numpy as np, autograd as ag\nfrom notebooks.reference.__main__ import main\n"
                      "ag.REGISTRY['absolute'].rules[0] = (lambda g, y, x: 1.001 * g * np.sign(x), None)\n"
                      f"sys.exit(main([{str(tmp_path / 'out')!r}]))\n")
    done = subprocess.run([sys.executable, str(broken)], cwd=ROOT, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 1 and not (tmp_path / "out" / "index.html").exists()
    assert done.stderr.startswith("the reference was not built: absolute fails its check: absolute: gradient of x is")
    assert len(done.stderr.splitlines()) == 1


# ---------------------------------------------------------------------- the glossary


def glossary():
    """The rows of the glossary: the word here, the field's, the explanation, the names in the code."""
    text = (ROOT / "notebooks" / "reference" / "glossary.md").read_text("utf-8")
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in text.splitlines()
            if line.startswith("| ") and not line.startswith("| here")]


def test_the_glossary_has_a_line_for_each_word():
    rows = glossary()
    assert len(rows) > 60 and all(len(row) == 4 and row[0] and row[2] for row in rows)
    words = [word for row in rows for word in row[0].split(", ")]
    assert len(words) == len(set(words))


@pytest.mark.parametrize("name", [name for row in glossary() for name in re.findall(r"`([\w.]+)`", row[3])])
def test_names_in_the_glossary_are_importable(name):
    assert pydoc.locate(name) is not None
