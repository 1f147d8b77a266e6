"""Mutation testing of the gradient rules: one small fault at a time, which the check of that op has to find.

    python -m tests.mutation [OP ...] [--jobs N] [--sample N] [--list]
"""

import argparse
import random
import sys
import time

from tests.mutation import REASONS, judge, mutants


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="Mutation testing of gradient rules.")
    parser.add_argument("ops", nargs="*", help='only these ops; "engine" for what the engine does')
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--sample", type=int, help="only so many mutants, at random but always the same")
    parser.add_argument("--list", action="store_true", help="print the mutants instead of trying them")
    options = parser.parse_args(arguments)
    begin = time.perf_counter()
    found = mutants(options.ops)
    if options.sample:
        found = random.Random(0).sample(found, min(options.sample, len(found)))
    if options.list:
        print("\n".join(map(str, found)))
        return 0
    report = judge(found, options.jobs)
    missing = [] if options.ops or options.sample else sorted(REASONS.keys() - set(map(str, found)))
    for mutant in missing:
        print(f"stale     {mutant} (there is no such mutant)")
    print(f"{report}; {time.perf_counter() - begin:.0f} s")
    return 1 if report.findings or report.stale or report.unjudged or missing else 0


if __name__ == "__main__":
    sys.exit(main())
