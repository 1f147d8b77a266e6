"""The reference is built, with every example run and every gradient checked; and what is missing or wrong is named."""

import base64
import html
import inspect
import json
import os
import pydoc
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from urllib.parse import unquote

import pytest

import autograd as ag
from autograd.core.registry import module_of
from autograd.view.graph import render
from notebooks.reference import chapter_pages, chapters, pages, running, subjects
from notebooks.reference.__main__ import NEEDED, main
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
    assert re.match(r'<a href="../chapters/0\d_\w+\.html#[a-z-]+">\d\. ', chapters.link(found["softmax"][0]))


def test_in_a_site_the_reference_links_to_what_runs_in_the_browser(tmp_path):
    [path, *_] = chapters.paths()
    browser = f"../../chapters/notebooks/index.html?path={path.name}"
    assert browser not in chapter_pages._ways(path, tmp_path)
    assert pages._live_link("x = 1", tmp_path / "reference" / "ops") == "" == chapters.links_to_site(tmp_path)
    for name in ("chapters.html", "live.html"):
        (tmp_path / name).touch()
    assert browser in chapter_pages._ways(path, tmp_path)
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


# ---------------------------------------------------------------------- chapters as pages


def test_mentions_of_chapters_become_links():
    text = ("# Chapter 2\n\nChapters 2 and 4, see "
            "chapter 13; `chapter 5`, [chapter 6](x), $chapter 7$.\n\n    chapter 8\n")
    assert chapter_pages.link_chapters(text, "c/") == (
        "# Chapter 2\n\n[Chapters 2](c/02_tensors.ipynb) and [4](c/04_softmax_by_hand.ipynb), see "
        "[chapter 13](c/13_rounding.ipynb); `chapter 5`, [chapter 6](x), $chapter 7$.\n\n    chapter 8\n")


def test_what_readers_search_for_is_under_a_heading_that_exists():
    for page, headings in subjects.SUBJECTS.items():
        path = chapters.NOTEBOOKS / page if page.endswith(".ipynb") else chapters.NOTEBOOKS / "reference" / page
        text = path.read_text("utf-8")
        if page.endswith(".ipynb"):
            text = "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
        made = subjects.insert(text, page)
        subjects.check(made, page)
        assert made.count("```{index}") == len(headings)
        with pytest.raises(Trouble, match="has no heading that begins with"):
            subjects.check(text, page)


def test_the_glossary_has_its_words_in_the_search():
    made = subjects.insert_words((DERIVATIONS.parent / "glossary.md").read_text("utf-8"))
    assert "! cotangent" in made and "! player" in made and "! kv cache" not in made  # which chapter 8 explains


@pytest.mark.parametrize("path", chapters.paths(), ids=lambda path: path.stem)
def test_a_downloaded_chapter_is_whole(path):
    notebook = json.loads(path.read_text("utf-8"))
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
    made = chapter_pages._to_download(notebook)
    for cell in made["cells"]:
        assert not cell.get("outputs")
        pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", cell["source"]) if cell["cell_type"] == "markdown" else []
        assert pictures == [f"attachment:{name}" for name in cell.get("attachments", {})]
        assert not re.search(r"\]\((reference|pictures|diagrams)/", cell["source"])
    assert any("attachments" in cell for cell in made["cells"]) == bool(re.search(r"\]\((pict|diagr)", str(notebook)))


def test_a_cell_that_fails_above_a_live_page_is_named():
    pytest.importorskip("matplotlib")
    assert chapter_pages._run(["x = 1", "x += 1\nx"], "00") == 2
    with pytest.raises(Trouble, match="00: above its live page a cell fails: ZeroDivisionError"):
        chapter_pages._run(["1 / 0", "1"], "00")


@pytest.mark.parametrize("latex, made", [
    (r"\partial L/\partial x", '<mi>∂</mi><mi>L</mi><mo lspace="0" rspace="0">/</mo><mi>∂</mi><mi>x</mi>'),
    (r"v^{\mathsf T}", "<msup><mi>v</mi><mrow><mi>𝖳</mi></mrow></msup>"),
    (r"2\ln x", '<mn>2</mn><mo lspace=".17em" rspace=".17em">ln</mo><mi>x</mi>'),
    (r"=-x", '<mo>=</mo><mo lspace="0" rspace="0">−</mo><mi>x</mi>'),
    (r")-x", '<mo stretchy="false">)</mo><mo>−</mo><mi>x</mi>'),
    (r"\big\langle x", '<mo minsize="1.2em" maxsize="1.2em">⟨</mo><mi>x</mi>')])
def test_formulas_of_chapters_become_mathml(latex, made):
    pytest.importorskip("latex2mathml")
    from notebooks.reference.formulas import mathml
    assert mathml(latex) == f"<math><mrow>{made}</mrow></math>"


def test_a_formula_with_an_unknown_command_is_named():
    pytest.importorskip("latex2mathml")
    from notebooks.reference.formulas import mathml
    with pytest.raises(Trouble, match=r"has \\unheardof, which is not known"):
        mathml(r"x \unheardof y")


# ---------------------------------------------------------------------- the whole


def test_a_missing_extra_is_told_in_a_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "sphinx", None)
    assert main([str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == \
        ('sphinx is missing: the reference needs Sphinx, Furo, MyST-NB, latex2mathml and Matplotlib: run  '
         'python -m pip install -e ".[reference]"\n')


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The reference, by its command."""
    for extra in NEEDED:
        pytest.importorskip(extra)
    folder = tmp_path_factory.mktemp("reference")
    done = subprocess.run([sys.executable, "-m", "notebooks.reference", str(folder)], cwd=ROOT, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"index.html: \d+ pages", done.stdout) and not done.stderr
    assert list(folder.parent.glob("*execute*")) == []
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


SEARCHES = {"vanishing gradient": "views.html#", "NaN": "views.html#", "broadcast": "chapters/02_",
            "glossary": "glossary.", "KV cache": "chapters/08_", "chain rule": "chapters/01_", "cotangent": "glossary.",
            "softmax": "ops/softmax."}


@pytest.mark.long
def test_every_link_leads_to_a_page_and_a_place_on_it(built):
    places, checked = {}, 0
    for page in built.rglob("*.html"):
        text = re.sub("<script.*?</script>", "", page.read_text("utf-8"), flags=re.DOTALL)
        for address in map(html.unescape, re.findall(r'(?:href|src)="([^"]*)"', text)):
            if re.match("[a-z]+:", address):
                continue
            path, _, place = address.partition("#")
            file = page.parent / unquote(path.partition("?")[0]) if path else page
            assert file.exists(), (page.name, address)
            if place and file.suffix == ".html":
                if (file := file.resolve()) not in places:
                    places[file] = set(re.findall(r'\b(?:id|name)="([^"]+)"', file.read_text("utf-8")))
                assert unquote(place) in places[file], (page.name, address)
            checked += 1
    assert checked > 10_000


@pytest.mark.long
def test_a_chapter_is_a_page_with_all_that_it_shows(built):
    text = (built / "chapters" / "04_softmax_by_hand.html").read_text("utf-8")
    assert text.count("<math") > 100 and "$" not in re.sub("<(pre|script|code).*?</\\1>", "", text, flags=re.DOTALL)
    assert 'href="../ops/softmax.html">softmax</a>' in text and 'href="../glossary.html"' in text
    assert 'href="05_layer_norm_by_hand.html"' in text and 'href="03_seeing_the_graph.html"' in text
    assert re.search(r'<img[^>]* alt="[^"]{20,}"[^>]* src="../_images/softmax_jacobian.svg"', text)
    assert not re.search(r"data:image/png;base64,[^\"]{9999}", text)
    for name in ("01_a_scalar_and_its_tape", "03_seeing_the_graph"):
        text = (built / "chapters" / f"{name}.html").read_text("utf-8")
        assert f'src="{name[:2]}_live.html" sandbox="allow-scripts"' in text
        assert text.count('<div class="graph">') >= 2 and '<g class="node">' in text


@pytest.mark.long
def test_nothing_is_loaded_from_elsewhere_and_search_works_from_disk(built):
    from tests.autograd.view.browser import opened_browser
    with opened_browser() as browser:
        page, asked, troubles = browser.new_page(), [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        for name in ("index.html", "ops/softmax.html", "api/autograd.html", "extending.html",
                     "chapters/01_a_scalar_and_its_tape.html"):
            page.goto((built / name).as_uri())
        frame = page.locator("iframe.tapegrad")
        frame.scroll_into_view_if_needed()
        frame.content_frame.get_by_text("step 2 / 5").wait_for()
        for words, first in SEARCHES.items():
            page.goto((built / "index.html").as_uri())
            page.fill("input[name=q]", words)
            page.press("input[name=q]", "Enter")
            page.wait_for_selector("#search-results li a")
            assert page.get_attribute("#search-results li a", "href").startswith(first), words
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        assert troubles == []


@pytest.mark.slow
def test_the_command_says_in_a_line_what_is_wrong(tmp_path):
    for extra in NEEDED:
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
