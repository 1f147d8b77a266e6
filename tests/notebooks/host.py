"""A static host of the site, offline, with Pyodide beside it, and its pages in a browser."""

import functools
import http.server
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from notebooks.site.__main__ import main

ROOT = Path(__file__).parents[2]
PYODIDE = next((found for folder in ROOT.parents if (found := folder / "shared" / "pyodide-0.27.7").is_dir()), None)
needs_pyodide = pytest.mark.skipif(PYODIDE is None, reason="no Pyodide beside the repository (../shared)")


class Address(str):
    """The address of a host, with its folder `root` and the paths that it was `asked` for."""


@contextmanager
def hosted(root, *options):
    """Serve the site without the reference, in a folder of a host, and Pyodide, in another."""
    assert main([str(root / "some" / "where"), "--pyodide", "/pyodide", "--without-reference", *options]) == 0
    (root / "pyodide").symlink_to(PYODIDE)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            address.asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=root))
    address = Address(f"http://127.0.0.1:{server.server_port}/")
    address.root, address.asked = root, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield address
    server.shutdown()
    server.server_close()


class SitePage:
    """A page of the site in a browser, with everything that it asks the network for."""

    def __init__(self, browser, address, name):
        self.address = address
        self.context = browser.new_context(viewport={"width": 1400, "height": 900})
        self.page, self.requests, self.troubles = self.context.new_page(), [], []
        self.page.set_default_timeout(180_000)  # a load takes 4 s, and on a crowded machine far longer
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.context.on("requestfailed", lambda request: request.failure == "csp" and self.requests.remove(request.url))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.troubles.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.goto(f"{address}some/where/{name}")

    def wait(self, state="ready"):
        self.page.wait_for_selector(f"body[data-state={state}]")

    def check(self):
        """Check that nothing has gone wrong in the page, and nothing has left the host."""
        assert self.troubles == []
        assert [url for url in self.requests if not url.startswith((self.address, "blob:", "data:", "about:"))] == []
