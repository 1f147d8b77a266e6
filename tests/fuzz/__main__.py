"""Random programs of the engine's functions, compared with PyTorch and with finite differences.

    python -m tests.fuzz --seed 7                      one program: its source, and how it compares
    python -m tests.fuzz --programs 10000 --jobs 2     many (from --start), and counts of what they held

What is run is what is printed.  A program that fails is cut down first.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time

from tests.fuzz import check, draw_program, shrink
from tests.fuzz.many import Summary, outcomes


def replay(seed):
    """Print one program, how it compares, and what is left of it when it is cut down; whether it passes."""
    program = draw_program(seed)
    failure, notes = check(program, numeric=True)
    print(program.source())
    print("it passes" if failure is None else f"it FAILS: {failure.text}", *notes, sep="; ")
    if failure is not None:
        checker = functools.partial(check, numeric=failure.kind == "finite differences")
        program = shrink(program, checker)
        print(f"\n{'-' * 60} cut down\n{program.source()}\nit FAILS: {checker(program)[0].text}")
    return failure is None


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, help="replay this program")
    parser.add_argument("--programs", type=int, default=200, help="how many to run (200)")
    parser.add_argument("--start", type=int, default=0, help="the first one's seed (0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    args = parser.parse_args(argv)
    if args.seed is not None:
        return 0 if replay(args.seed) else 1
    summary, began = Summary(), time.perf_counter()
    for result in outcomes(range(args.start, args.start + args.programs), args.jobs):
        summary.add(*result)
        print(f"\r{summary.programs} of {args.programs} programs, {len(summary.failures)} failures, "
              f"{time.perf_counter() - began:.0f} s", end="", file=sys.stderr, flush=True)
    print(f"\n{summary}")
    for seed, _ in summary.failures[:5]:
        print("=" * 100)
        replay(seed)
    return 1 if summary.failures else 0


if __name__ == "__main__":
    sys.exit(main())
