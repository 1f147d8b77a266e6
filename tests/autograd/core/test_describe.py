"""Numbers in words."""

import pytest

from autograd.core.describe import format_bytes, plural


@pytest.mark.parametrize("n, text", [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (12_345_678, "12.3 MB"),
                                     (5e9, "5.0 GB")])
def test_format_bytes(n, text):
    assert format_bytes(n) == text


@pytest.mark.parametrize("n, text", [(0, "0 records"), (1, "1 record"), (1234, "1,234 records")])
def test_plural(n, text):
    assert plural(n, "record") == text
