"""One colour code in all views: orange is positive, blue negative, and only the palette names colours."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest

import autograd as ag
from autograd.view import palette
from autograd.view.palette import DIVERGING, THEME, css, diverging, hexadecimal, ink_on, sequential
from autograd.view.player.pictures import LEVELS, MINUS, NAN, PLUS
from autograd.view.player.player import Player

ROOT = Path(__file__).parents[3]
FOLDERS = ("autograd", "gpt", "notebooks/pictures")
NAMES = ("white|black|red|green|blue|orange|purple|yellow|brown|gr[ae]y|pink|cyan|magenta|teal|navy|silver|"
         "tab:\\w+|RdBu\\w*|coolwarm|viridis|Blues|Oranges|Greys")
COLOUR = re.compile(r"#[0-9a-fA-F]{3,8}\b(?<!#\d)|\b(?:rgba?|hsla?|hwb|lab|lch|oklab|oklch)\(\s*[\d.]"
                    rf"|(?:color|colour|fill|stroke|background|cmap|ground|face)\w*[\"']?\s*[:=]\s*[\"']?(?:{NAMES})\b")


def test_the_search_for_colours_finds_them():
    for text in ("#fff", "'#12ab9F'", "rgb(1, 2, 3)", "rgb(0 0 0 / 18%)", "hsl(20 30% 4%)", 'fill="white"',
                 "color: red", "bgcolor='black'", "cmap=\"RdBu\"", '"fillcolor": "white"', "background: grey",
                 "color=\"tab:blue\""):
        assert COLOUR.search(text), text
    for text in ("rgb(${parts})", "#rows", "#1", "record #12", "var(--ink)", "fill: none", "#card {", "#step"):
        assert not COLOUR.search(text), text


def test_no_view_names_a_colour_of_its_own():
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*")
             if file.suffix in (".py", ".js", ".css", ".html", ".svg") and file != Path(palette.__file__)
             and (file.suffix != ".svg" or "pictures" not in file.parts)]
    assert sum(file.suffix == ".js" for file in files) >= 5 and sum(file.suffix == ".css" for file in files) >= 3
    found = [f"{file.relative_to(ROOT)}:{i}: {line.strip()}" for file in files
             for i, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1) if COLOUR.search(line)]
    assert found == []


def test_positive_is_orange_negative_blue_zero_white():
    x = np.linspace(-1, 1, 201)
    colours, middle = diverging(x).astype(int), len(x) // 2
    red, blue = colours[:, 0], colours[:, 2]
    assert (red[x >= 0.2] > blue[x >= 0.2] + 20).all() and (blue[x <= -0.2] > red[x <= -0.2] + 20).all()
    assert colours[middle].min() > 240 and np.array_equal(colours[[0, -1]], np.rint(DIVERGING[[0, -1]]))
    lightness = colours.sum(-1)
    assert (np.diff(lightness[:middle]) > 0).all() and (np.diff(lightness[middle:]) < 0).all()
    assert np.array_equal(diverging([-9.0, 9.0]), diverging([-1.0, 1.0]))
    assert diverging(np.zeros((2, 3))).shape == (2, 3, 3) and diverging(0.5).dtype == np.uint8


def test_an_amount_has_the_colour_of_the_same_positive_number():
    x = np.linspace(0, 1, 101)
    assert abs(sequential(x).astype(int) - diverging(x).astype(int)).max() <= 1  # a half may be rounded either way


@pytest.mark.parametrize("scale", [diverging, sequential])
def test_what_is_not_finite_has_colours_of_its_own(scale):
    odd = {tuple(colour) for colour in scale([np.nan, np.inf, -np.inf])}
    assert len(odd) == 3 and not odd & {tuple(colour) for colour in scale(np.linspace(-1, 1, 500))}


def luminance(colour):
    parts = np.array([int(colour[i:i + 2], 16) for i in (1, 3, 5)]) / 255
    return float(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["ink", "soft", "forward", "backward", "positive", "negative", "bad"])
def test_text_can_be_read_in_light_and_dark(name):
    for ink, paper, panel in zip(THEME[name], THEME["paper"], THEME["panel"]):
        assert contrast(ink, paper) >= 4.5 and contrast(ink, panel) >= 4.5


def test_numbers_can_be_read_on_every_colour_of_a_table():
    for rgb in diverging(np.array([*np.linspace(-1, 1, 50), np.nan, np.inf, -np.inf])):
        assert contrast(ink_on(rgb), hexadecimal(rgb)) >= 4
    for rgb in diverging(np.linspace(-0.6, 0.6, 50)):  # the paler part, which tables use
        assert contrast(ink_on(rgb), hexadecimal(rgb)) >= 4.5
    for fill in [*palette.FAMILIES.values(), palette.BAD]:
        assert contrast(palette.LIGHT["ink"], fill) >= 7


def test_pages_take_their_colours_from_the_palette():
    style = css()
    x = ag.tensor([1.0, -2.0], requires_grad=True)
    page = Player(ag.tape((x * x).sum())).page
    assert style in page
    for name, pair in THEME.items():
        assert f"--{name}: light-dark({', '.join(pair)});" in style
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    for name, low, scale in (("diverging", -1, diverging), ("sequential", 0, sequential)):
        colours = np.frombuffer(base64.b64decode(data["palettes"][name]), np.uint8).reshape(-1, 3)
        assert np.array_equal(colours[:LEVELS], scale(np.linspace(low, 1, LEVELS)))
        assert np.array_equal(colours[[NAN, PLUS, MINUS]], scale([np.nan, np.inf, -np.inf]))
        assert ", ".join(hexadecimal(rgb) for rgb in scale(np.linspace(low, 1, 4 - 3 * low))) in style
    used = set(re.findall(r"var\(--([\w-]+)", page))
    assert used <= {*re.findall(r"--([\w-]+):", page)} and {"ink", "forward", "backward"} <= used


def test_matplotlib_gets_the_same_scales():
    pytest.importorskip("matplotlib")
    for colours, scale, low in ((DIVERGING, diverging, -1), (palette.SEQUENTIAL, sequential, 0)):
        x = np.linspace(0, 1, 41)
        shown = palette.colormap(colours)(x)[:, :3] * 255
        assert abs(shown - scale(low + (1 - low) * x)).max() <= 4  # it has 256 colours


def test_chapters_use_no_scale_of_another_code():
    for chapter in sorted((ROOT / "notebooks").glob("*.ipynb")):
        code = ["".join(cell["source"]) for cell in json.loads(chapter.read_text(encoding="utf-8"))["cells"]
                if cell["cell_type"] == "code"]
        assert not re.search(r"RdBu|coolwarm|bwr|seismic|PuOr|Blues|viridis", "\n".join(code)), chapter.name
