"""Build the site: python -m notebooks.site [FOLDER]"""

from __future__ import annotations

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from notebooks.reference.__main__ import main as build_reference

from . import building, chapters

CURE = '; pip install -e ".[{}]" brings what is missing'


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m notebooks.site", description="Write the site for any static host, "
                                     "under any path: the live page, on which tapegrad runs in the browser; the "
                                     "training page, which trains a GPT there; the chapters, as notebooks that run "
                                     "there; and the reference.  To publish it, copy the folder to a host.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("site"), help="where to (site)")
    parser.add_argument("--pyodide", default=building.PYODIDE, metavar="URL",
                        help="folder with Pyodide 0.27.7, at a URL or a path on the site's host (%(default)s)")
    parser.add_argument("--without-chapters", action="store_true", help="leave out the chapters")
    parser.add_argument("--without-reference", action="store_true", help="leave out the reference (a minute)")
    options = parser.parse_args(arguments)
    folder, began = options.folder, time.perf_counter()
    try:
        archive = building.build_pages(folder, options.pyodide)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if options.without_chapters or not find_spec("jupyterlite_pyodide_kernel"):
        print(f"without the chapters{'' if options.without_chapters else CURE.format('site')}")
    else:
        chapters.build_chapters(folder, building.check_address(options.pyodide), archive)
    if options.without_reference or not find_spec("sphinx"):
        print(f"without the reference{'' if options.without_reference else CURE.format('reference')}")
    elif build_reference([str(folder / "reference")]):
        return 1
    building.build_index(folder)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder / 'index.html'}: {size / 1e6:.1f} MB, in {time.perf_counter() - began:.0f} s; "
          f"to look at it: python -m http.server -d {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
