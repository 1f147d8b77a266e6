"""The pages of the two packages: what each exports, and a page for every module with all that is public in it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from .docstrings import as_rest

PACKAGES = ("autograd", "gpt")
# ops have pages of their own, the kernels and peers need extras, and tiny has the names of the engine
LEFT_OUT = ("autograd.ops", "autograd.kernels.", "autograd.tiny", "gpt.bench.peers")


def write(work: Path) -> None:
    """Write the pages into work/api."""
    out = work / "api"
    out.mkdir()
    for package in PACKAGES:
        modules = list(_modules(package))
        for module in modules:
            (out / f"{module.__name__}.rst").write_text(_module_page(module), encoding="utf-8")
        (out / f"{package}.rst").write_text(_package_page(importlib.import_module(package), modules), encoding="utf-8")


def _modules(package: str) -> Iterator[ModuleType]:
    """The modules of a package by name, but for private ones and those that need an extra."""
    folder = importlib.import_module(package).__path__
    for found in sorted(pkgutil.walk_packages(folder, f"{package}."), key=lambda m: m.name):
        private = any(part.startswith("_") for part in found.name.split("."))
        if private or found.name.startswith(LEFT_OUT):
            continue
        yield importlib.import_module(found.name)


def _package_page(package: ModuleType, modules: list[ModuleType]) -> str:
    """Return the page of a package: its exports by module, each with its first sentence, then all its modules."""
    lines = [*_title(package.__name__), *as_rest((package.__doc__ or "").splitlines()), *_title("Public names", "-")]
    public: dict[str, list[tuple[str, Any]]] = {}
    for name in package.__all__:
        thing = getattr(package, name)
        if callable(thing):
            public.setdefault(thing.__module__, []).append((name, thing))
    pages = {module.__name__: module for module in modules}
    for origin, members in public.items():
        if origin not in pages:
            raise ValueError(f"{members[0][0]} is from {origin}, which has no page")
        lines += [*_title(_inline(pages[origin]).rstrip("."), "~"), ".. list-table::", "   :widths: 30 70", ""]
        for name, thing in members:
            target = f"{origin}.html#{origin}.{thing.__name__}"
            lines += [f"   * - `{name} <{target}>`__", f"     - {_inline(thing)}"]
        lines.append("")
    lines += [*_title("Modules", "-"), ".. list-table::", "   :widths: 30 70", ""]
    for module in modules:
        lines += [f"   * - :doc:`{module.__name__} <{module.__name__}>`", f"     - {_inline(module)}"]
    lines += ["", ".. toctree::", "   :hidden:", "", *[f"   {module.__name__}" for module in modules], ""]
    return "\n".join(lines)


def _module_page(module: ModuleType) -> str:
    return "\n".join([*_title(module.__name__), f".. automodule:: {module.__name__}", "   :ignore-module-all:", ""])


def _title(text: str, line: str = "=") -> list[str]:
    return [text, line * len(text), ""]


def _first_sentence(thing: Any) -> str:
    paragraph = " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".") + "."


def _inline(thing: Any) -> str:
    return " ".join(as_rest([_first_sentence(thing)])).strip()
