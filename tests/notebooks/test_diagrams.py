"""The diagrams: drawn by their code, inside their sheets, and described."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

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
