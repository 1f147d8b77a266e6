"""The settings of a whole run: slow cases, processes, the numbers that tests draw, and skips that count as failures."""

import collections
import gc
import itertools
import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before NumPy and PyTorch are loaded: each worker has a core
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile("shared machine", deadline=None)  # a test never measures time
hypothesis.settings.load_profile("shared machine")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads its options
def pytest_cmdline_main(config):
    """Run the whole suite in a process for each core, where pytest-xdist is installed; named files run in this one."""
    option, whole = config.option, config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if "PYTEST_XDIST_WORKER" in os.environ:  # a worker, which would start workers of its own without end
        return
    if whole and not option.usepdb and getattr(option, "numprocesses", 0) is None:
        option.numprocesses, option.dist = "auto", "worksteal"


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items):
    """Mark as slow all cases of a test with `slow_but_every(n)`, except the first and each n-th after it, and what is
    marked as long, which comes first in each process."""
    cases = collections.Counter()
    for item in items:
        if mark := item.get_closest_marker("slow_but_every"):
            test = item.nodeid.partition("[")[0]
            if cases[test] % mark.args[0]:
                item.add_marker("slow")
            cases[test] += 1
        if item.get_closest_marker("long"):
            item.add_marker("slow")
    items[:] = _deal(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)))


def _deal(items, n):
    """Order the tests for `n` processes, of which pytest-xdist hands each an equal run: the long ones are dealt out, a
    module after the other, to begin these runs."""
    hands, others = [[] for _ in range(n)], [item for item in items if not item.get_closest_marker("long")]
    long = (item for item in items if item.get_closest_marker("long"))
    for i, (_, module) in enumerate(itertools.groupby(long, key=lambda item: item.path)):
        hands[i % n] += module
    dealt = []
    for i, hand in enumerate(hands):
        n_others = max(0, len(items) * (i + 1) // n - len(dealt) - len(hand))
        dealt += hand + others[:n_others]
        del others[:n_others]
    return dealt


FIRST_STATES = {}  # module -> the state of its `rng` once it was imported


def pytest_runtest_setup(item):
    """Let the `rng` of a module give each test the same numbers, whatever ran before it in this process; and keep what
    there is when the tests of a module begin out of the garbage collector's sight: walking all tests and their reports
    takes longer than most tests do."""
    module = getattr(item, "module", None)
    if module not in FIRST_STATES:
        gc.collect()
        gc.freeze()
    rng = getattr(module, "rng", None)
    state = rng.bit_generator.state if isinstance(rng, np.random.Generator) else None
    first = FIRST_STATES.setdefault(module, state)
    if first is not None:
        rng.bit_generator.state = first


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """With REQUIRE_EXTRAS set, fail the run for a test that was skipped because an extra is missing."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("REQUIRE_EXTRAS") or reporter is None:
        return
    missing = [r for r in reporter.stats.get("skipped", []) if "could not import" in str(r.longrepr)]
    if missing:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        for r in missing:
            reporter.write_line(f"an extra is missing: {r.nodeid}: {r.longrepr[-1]}", red=True)
