"""The diagrams: drawn by their code, inside their sheets, and described."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import autograd as ag
from tests.autograd.view.browser import opened_browser

ROOT = Path(__file__).parents[2]
OUTSIDE = """() => {
    const sheet = document.querySelector("svg").getBoundingClientRect();
    return [...document.querySelectorAll("svg > :not(title, :nth-child(2))")].filter(element => {
        const {left, right, top, bottom} = element.getBoundingClientRect();
        return left < 4 || right > sheet.width - 4 || top < 4 || bottom > sheet.height - 4;
    }).map(element => element.textContent || element.outerHTML);
}"""


@pytest.fixture(scope="module")
def diagrams():
    """Name -> its drawing."""
    for extra in ("PIL", "playwright", "tokenizers"):
        pytest.importorskip(extra)
    from notebooks.diagrams.__main__ import DIAGRAMS

    return {name: draw() for name, draw in DIAGRAMS.items()}


@pytest.mark.slow
def test_the_files_are_what_the_code_draws(diagrams):
    assert len(diagrams) >= 14
    for name, sketch in diagrams.items():
        svg = ROOT / "notebooks" / "pictures" / f"{name}.svg"
        assert svg.read_text(encoding="utf-8") == str(sketch), f"run python -m notebooks.diagrams {name}"
        assert svg.with_suffix(".png").stat().st_size < 60_000
        assert len(ElementTree.fromstring(str(sketch)).get("aria-label")) > 60  # a description in words


@pytest.mark.slow
def test_nothing_is_drawn_outside_its_sheet(diagrams):
    with opened_browser() as browser:
        page = browser.new_page()
        for name, sketch in diagrams.items():
            page.set_content(f"<body style='margin:0'>{sketch}</body>")
            assert page.evaluate(OUTSIDE) == [], name


@pytest.mark.slow
def test_each_is_shown_in_a_chapter_with_its_description(diagrams):
    chapters = "".join("".join(cell["source"]) for path in (ROOT / "notebooks").glob("*.ipynb")
                       for cell in json.loads(path.read_text(encoding="utf-8"))["cells"])
    for name, sketch in diagrams.items():
        assert f"![{sketch.title}](pictures/{name}.svg)" in chapters, name


def test_checkpoints_are_drawn_as_they_work():
    from notebooks.diagrams.training import _alive, recomputation

    for layers, every in ((16, 4), (12, 3), (12, 1)):
        steps = _alive(layers, every, again=True)
        assert max(kept + inner for kept, inner, _ in steps) == layers // every + every - 1
        assert len(steps) == 3 * layers  # forward, forward again, backward
        everything = _alive(layers, layers, again=False)
        assert len(everything) == 2 * layers and max(inner for _, inner, _ in everything) == layers
    assert "peak 7 arrays, 48 passes" in str(recomputation())


def test_the_small_floats_have_three_bits():
    from notebooks.diagrams.rounding import _floats

    found = np.concatenate([_floats(low) for low in (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)])
    mantissas = np.frexp(found)[0] * 8
    assert (mantissas == mantissas.round()).all() and (np.diff(found) > 0).all()
    assert len(found) == sum(np.frexp(value)[0] * 8 % 1 == 0 for value in np.arange(0.125, 8, 2**-5))


@pytest.mark.parametrize("name, block, contributions", [
    ("healthy", lambda h, w: h + np.tanh(h @ w), 2), ("cut", lambda h, w: h + np.tanh(h.data @ w), 1),
    ("counted twice", lambda h, w: h + (h + np.tanh(h @ w)), 3)])
def test_faults_of_a_block_have_the_contributions_that_are_drawn(name, block, contributions):
    from notebooks.diagrams.training import residual_faults

    h, w = ag.tensor(np.ones((2, 3)), requires_grad=True), ag.tensor(np.eye(3), requires_grad=True)
    assert f"of {contributions} contribution" in str(ag.tape(block(h, w).sum()).ledger(h))
    drawn = str(residual_faults())
    after = drawn[drawn.index(f">{name}<"):]
    assert f"gradient of h: {contributions} contribution" in after[:after.index("contribution") + 12]
