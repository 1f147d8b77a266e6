"""Fixtures for the tests of tokenizer.json files."""

import pytest

from tests.tokenizer_files import STYLES


@pytest.fixture(scope="module")
def styles():
    return {name: make_it() for name, make_it in STYLES.items()}
