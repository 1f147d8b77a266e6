"""A real browser, headless, for the tests of pages; where there is none, a skip that says what is missing."""

import shutil
from contextlib import contextmanager

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@contextmanager
def opened_browser():
    """A Chromium driven by Playwright: the system's own if it has one, otherwise the one that Playwright installed."""
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
    """A page at work, and all that it complained about or asked of the network."""

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
        """Wait until what was asked for is on the screen."""
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()

    def close(self):
        """Close it, and check that it had nothing to complain about and asked for nothing but itself."""
        self.context.close()
        assert not self.troubles
        assert [url for url in self.requests if not url.startswith(("file:", "data:", "about:"))] == []
        assert sum(url.startswith("file:") for url in self.requests) == 1
