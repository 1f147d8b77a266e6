"""A self-contained web page: one HTML file with its data, style and script inlined, which loads nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .palette import css


def page(folder: Path, name: str, title: str, data: Any, scripts: Sequence[str], allowed: str = "",
         styles: Sequence[str] = ()) -> str:
    """Fill page.html with the body `name`.html of a folder, the palette's colours, page.css, the folder's `styles` and
    `name`.css, the concatenated `scripts` and the data; style and scripts without their comments.

    A Content-Security-Policy with the script's hash allows no other script, but for the sources that `allowed` begins
    with, which may go on with directives of its own.
    """
    def read(file: str) -> str:
        return (folder / file).read_text(encoding="utf-8")

    frame, shared = (Path(__file__).with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".html", ".css"))
    script = _without_comments("\n".join(map(read, scripts)))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}' {allowed}".rstrip()
    style = css() + _without_comments("".join([shared, *map(read, [*styles, f"{name}.css"])]))
    parts = {"title": html.escape(title), "policy": policy, "style": style,
             "body": read(f"{name}.html").rstrip(), "data": _json(data), "script": script}
    return re.sub(r"{{(\w+)}}", lambda gap: parts[gap[1]], frame)


def _without_comments(text: str) -> str:
    """Drop the comments of a script or style that have lines of their own."""
    return re.sub(r"^[ \t]*(?://[^\n]*|/\*.*?\*/)[ \t]*\n", "", text, flags=re.MULTILINE | re.DOTALL)


def _json(data: Any) -> str:
    """Encode as ASCII JSON that is safe inside <script>: it cannot end the script or begin a comment."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for c in "<>&":
        text = text.replace(c, f"\\u{ord(c):04x}")
    return text
