"""Build the site: python -m notebooks.site [FOLDER]"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import building


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m notebooks.site", description="Write the site for any static host, "
                                     "under any path: the page on which tapegrad runs in the browser.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("site"), help="where to (site)")
    parser.add_argument("--pyodide", default=building.PYODIDE, metavar="URL",
                        help="folder with Pyodide 0.27.7, at a URL or a path on the site's host (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        building.build(options.folder, options.pyodide)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
