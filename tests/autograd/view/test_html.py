"""The building blocks of HTML: escaping, colours, pictures."""

import base64
import re
import struct
import zlib

import numpy as np
import pytest

from autograd.view.html import Html, code, details, downsample, escape, grid, heatmap, png, table
from autograd.view.palette import diverging

BAD = "<script>alert(1)</script>"


def pixels(image):
    """Decode a PNG file, an 8-bit RGB image as `png` writes it, to its colours."""
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(image):
        n, kind = struct.unpack(">I4s", image[at:at + 8])
        data = image[at + 8:at + 8 + n]
        assert struct.unpack(">I", image[at + 8 + n:at + 12 + n])[0] == zlib.crc32(kind + data)
        chunks[kind], at = data, at + 12 + n
    width, height, bits, kind, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (bits, kind, rest) == (8, 2, [0, 0, 0]) and list(chunks)[-1] == b"IEND"
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + 3 * width)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, 3)


def shown(array):
    """Return the colours of a heatmap of an array."""
    return pixels(base64.b64decode(re.search(r"base64,([^\"]+)", heatmap(array))[1]))


def test_everything_is_escaped_once():
    once = "&lt;script&gt;alert(1)&lt;/script&gt;"
    assert escape(BAD) == once and escape(escape(BAD)) == once and isinstance(escape(3), Html)
    bold = Html(f"<b>{escape(BAD)}</b>")
    for made in (table([[BAD]], [BAD]), details(BAD, BAD), details(escape(BAD), bold), code(BAD)):
        assert BAD not in made and once in made and isinstance(made, Html)
    assert code("the `axis` <b>") == "the <code>axis</code> &lt;b&gt;"
    assert "<b>kept</b>" in table([[Html("<b>kept</b>")]])


def test_details_open_only_if_told():
    assert details("a", "b") == "<details><summary>a</summary>b</details>"
    assert details("a", "b", open=True).startswith("<details open>")


def test_a_png_holds_the_colours():
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(pixels(png(rgb)), rgb)


def test_pooling_keeps_what_is_small_and_the_spikes_of_what_is_large():
    a = np.arange(6.0).reshape(2, 3)
    assert np.array_equal(downsample(a), a) and np.array_equal(downsample(a.reshape(1, 2, 3)), a)
    assert downsample(np.array(3)).tolist() == [[3.0]] and downsample(np.arange(3)).shape == (1, 3)
    assert downsample(np.array([True, False])).tolist() == [[1.0, 0.0]]
    big = np.random.default_rng(0).normal(size=(3, 50, 333))
    big[2, 7, 100], big[0, 0, 0] = -50, np.nan
    small = downsample(big, 10, 20)
    assert small.shape == (10, 20) and np.isnan(small[0, 0]) and np.isnan(small).sum() == 1
    assert small[(2 * 50 + 7) // 15, 100 * 20 // 333] == -50
    blocks = np.abs(np.arange(12.0).reshape(4, 3) - 5)
    assert np.array_equal(downsample(blocks, 2, 1), [[5.0], [6.0]])
    assert downsample(np.array([200, 3], np.uint8), 1, 1).tolist() == [[200.0]]  # −200 would not fit its dtype
    assert downsample(np.array([-128, 3], np.int8), 1, 1).tolist() == [[-128.0]]


def test_a_heatmap_is_a_picture_with_words():
    picture = heatmap(np.array([[-1.0, 0.0], [0.5, np.nan]]))
    assert re.fullmatch(r'<img src="data:image/png;base64,[^"]+" width="32" height="32" alt="f64\[2,2\]: -1…0\.5, mean '
                        r'-0\.17±0\.62, 1 NaN" title="[^"]+" style="[^"]+">', picture)
    colours = shown(np.array([[-2.0, 0.0], [2.0, np.nan]]))[::16, ::16]
    assert np.array_equal(colours, diverging([[-1.0, 0.0], [1.0, np.nan]]))
    assert np.array_equal(shown(np.array([1.0, 4.0, np.inf]))[0, ::16], diverging([0.25, 1.0, np.inf]))


@pytest.mark.parametrize("array", [np.zeros(3), np.full((2, 2), np.nan), np.array([-np.inf, 1]), np.array(True),
                                   np.arange(9), np.random.default_rng(0).normal(size=(2, 3, 500)).astype(np.float16),
                                   np.array([1e308, -1e308]), np.float32(2)])
def test_a_heatmap_of_anything(array):
    picture = shown(array)
    assert max(picture.shape) <= 192


def test_nothing_is_to_be_seen_of_nothing():
    assert heatmap(np.zeros((0, 3))) == ""


def test_a_grid_shows_each_number():
    made = grid(np.array([[1.0, -2.5], [np.nan, 1e-9]]))
    assert re.findall(r">([^<>]+)<", made) == ["1", "-2.5", "nan", "1e-09"]
    assert re.findall(r">([^<>]+)<", grid(np.array([True, False]))) == ["True", "False"]
    assert re.findall(r">([^<>]+)<", grid(np.float32(0.1))) == ["0.1"]
