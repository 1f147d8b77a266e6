"""Run chapters in fresh kernels: compare them with their outputs, or with --write write these.

    python -m tests.notebooks [CHAPTER ...] [--write]
"""

import argparse
import sys

from tests.notebooks import LIMIT, broken_rules, chapters, differences, load, run, save, with_small_pictures


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m tests.notebooks", description="Run the chapters in notebooks/.")
    parser.add_argument("chapters", nargs="*", type=int, metavar="CHAPTER", help="only these, by number")
    parser.add_argument("--write", action="store_true", help="write the outputs back; without it they are compared")
    options = parser.parse_args(arguments)
    failed = False
    for path in chapters(options.chapters):
        notebook = load(path)
        fresh, seconds, troubles = run(notebook, with_answers=not options.write)
        if options.write and not troubles:
            save(with_small_pictures(fresh), path)
        elif not troubles:
            troubles += differences(notebook, fresh)
        troubles += broken_rules(path)
        if seconds > LIMIT:
            troubles.append(f"it ran for {seconds:.0f} s, and may run for {LIMIT} on a quiet machine")
        failed |= bool(troubles)
        print(f"{path.name}: {seconds:.1f} s, {path.stat().st_size:,} bytes", *troubles, sep="\n  ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
