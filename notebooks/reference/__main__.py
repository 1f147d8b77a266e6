"""Build the reference: python -m notebooks.reference [FOLDER]"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from pathlib import Path

NEEDED = ("sphinx", "furo", "myst_nb", "latex2mathml", "matplotlib")
CURE = ("the reference needs Sphinx, Furo, MyST-NB, latex2mathml and Matplotlib: "
        'run  python -m pip install -e ".[reference]"')


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m notebooks.reference", description="Write the reference as pages "
                                     "that open from disk. Every example in it is run, every gradient checked.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("reference"), help="where to (reference)")
    folder = parser.parse_args(arguments).folder
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        print(f"{missing[0]} is missing: {CURE}", file=sys.stderr)
        return 1
    from .building import Trouble, build  # only now that Sphinx is known to be there

    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        try:
            build(folder, Path(work))
        except Trouble as trouble:
            print(f"the reference was not built: {trouble}", file=sys.stderr)
            return 1
    pages, size = len(list(folder.rglob("*.html"))), sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(f"{folder / 'index.html'}: {pages} pages, {size / 1e6:.1f} MB, in {time.perf_counter() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
