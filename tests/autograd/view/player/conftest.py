"""Fixtures of the player's tests: a browser, and pages opened in it."""

import pytest

from tests.autograd.view.browser import Page, opened_browser


@pytest.fixture(scope="module")
def browser():
    with opened_browser() as browser:
        yield browser


@pytest.fixture
def opened(browser):
    """Return a function that opens a page, which is checked for errors at the end."""
    pages = []

    def opened(path, **settings):
        pages.append(Page(browser, path, **settings))
        return pages[-1]

    yield opened
    for page in pages:
        page.close()
