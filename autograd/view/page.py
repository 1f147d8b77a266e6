"""A page in one file: a template with its data, style and script in it, which loads nothing and runs nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def page(folder: Path, name: str, title: str, data: Any, scripts: Sequence[str]) -> str:
    """The template `name`.html of a folder with the style `name`.css after that of all pages, the `scripts` one after
    the other, and data."""
    def read(file: str) -> str:
        return (folder / file).read_text(encoding="utf-8")

    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8") + read(f"{name}.css")
    script = "\n".join(map(read, scripts))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    parts = {"title": html.escape(title), "policy": policy, "style": style, "data": _json(data),
             "script": script}
    return re.sub(r"{{(\w+)}}", lambda gap: parts[gap[1]], read(f"{name}.html"))


def _json(data: Any) -> str:
    """JSON that can stand in a page: nothing in it ends a script, begins a comment, or is no letter."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))  # ASCII
    for c in "<>&":
        text = text.replace(c, f"\\u{ord(c):04x}")
    return text
