"""A headless browser for the tests of pages; without one they are skipped with a reason."""

import shutil
from contextlib import contextmanager

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@contextmanager
def opened_browser():
    """Open the system's Chromium, or else the one that Playwright installed."""
    driver = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    with driver.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        except driver.Error as error:
            pytest.skip("could not import a browser: install chromium, or run `python -m playwright install chromium` "
                        f"({str(error).splitlines()[0]})")
        yield browser
        browser.close()


class Page:
    """An open page, with its console messages, errors and network requests."""

    def __init__(self, browser, path, size=(1200, 800), **settings):
        self.context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **settings)
        self.page, self.troubles, self.requests = self.context.new_page(), [], []
        self.page.set_default_timeout(10_000)
        self.page.on("console", lambda message: self.troubles.append(message.text))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.troubles.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.settle()

    def settle(self):
        """Wait until the page has rendered."""
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def until(self, condition, arg=None):
        """Wait until a condition, a JavaScript expression or function, holds in the page.

        Playwright is given a function: an expression it would evaluate again and again, which a page's policy forbids.
        """
        self.page.wait_for_function(condition if "=>" in condition else f"() => {condition}", arg=arg)

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()

    def close(self):
        """Close the page, and check that it logged no errors and requested nothing but itself."""
        self.context.close()
        assert not self.troubles
        assert [url for url in self.requests if not url.startswith(("file:", "data:", "about:"))] == []
        assert sum(url.startswith("file:") for url in self.requests) == 1
