"""How mutants are judged: by the checks of their ops, or by the tests of the engine."""

import functools
import itertools
import multiprocessing
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from _pytest.runner import runtestprotocol

import autograd as ag
from autograd.transform import tree_map
from tests.mutation.equivalent import EDGES, REASONS
from tests.mutation.mutants import put_in
from tests.samples import SAMPLES

OPEN = frozenset(Path(__file__).with_name("open.txt").read_text(encoding="utf-8").splitlines())
"""Mutants that survive, are not known to be equivalent, and wait for a sample or an edge that kills them."""

# ---------------------------------------------------------------------- one mutant


@functools.cache
def checks(op):
    """The checks of one op, functions that raise: ([those of the first order and the edges], [of the second order]), or
    why they can judge nothing.  Whichever has found a fault last comes first."""
    if op.name not in SAMPLES:
        return f"{op.name} has no samples"
    first = _sample_checks(op, 1) + [functools.partial(check_edge, op, *edge) for edge in EDGES.get(op.name, ())]
    second = _sample_checks(op, 2)
    return why_failing(op.name, first + second) or (first, second)


def why_failing(what, found):
    """Why these checks are of no use: one of them fails where there is no mutant."""
    for check in found:
        try:
            with np.errstate(all="ignore"):
                check()
        except Exception as error:
            return f"{what} fails its own check: {error}"
    return ""


def _sample_checks(op, order):
    """One check for each sample that has an array to be differentiated."""
    samples = [s for s in SAMPLES[op.name] if any(a.dtype.kind == "f" for a in _arrays(s))]
    return [functools.partial(ag.check_op, op, [sample], order) for sample in samples]


def _arrays(tree):
    if isinstance(tree, (list, tuple)):
        return [a for branch in tree for a in _arrays(branch)]
    return [tree] if isinstance(tree, np.ndarray) else []


def check_edge(op, args, expected, seeds=None):
    """Raise unless the gradient of the sum of op(*args), weighted by `seeds`, is what is documented: arrays, or an
    error."""
    floats = [i for i, a in enumerate(args) if isinstance(a, np.ndarray)]
    y, pull = ag.vjp(lambda *xs: op(*[xs[floats.index(i)] if i in floats else a for i, a in enumerate(args)]),
                     *[args[i] for i in floats])
    if seeds is None:
        seeds = tree_map(np.ones_like, y)
    if isinstance(expected, type):
        try:
            found = pull(seeds)
        except expected:
            return
        raise AssertionError(f"{op.name} is to raise {expected.__name__}, and gave {found}")
    for d, wanted in zip(pull(seeds), expected, strict=True):
        np.testing.assert_array_equal(d, wanted)


def check_rule_of_several_results():
    """An op with a tuple for a result, whose rule uses that result; no rule in the library does."""
    op = ag.Op(lambda x: (np.sin(x), np.cos(x)))

    @op.gradient("x")
    def _(g, y, x):
        assert type(g) is type(y) is tuple
        return g[0] * y[1] - g[1] * y[0]

    ag.check_op(op, [(np.array([0.3, 1.2]),)], order=3)


def check_gradient_in_another_dtype():
    x = np.ones(2, np.float32)
    assert ag.grad(lambda x: (x * np.ones(2)).sum())(x).dtype == x.dtype


def fails(found):
    """Whether one of these checks fails, or does not end."""
    def stop(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    try:
        for check in found:
            signal.setitimer(signal.ITIMER_REAL, 2)
            with np.errstate(all="ignore"):
                check()
    except (Exception, SystemExit):
        found.remove(check)
        found.insert(0, check)
        return True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return False


def is_killed(mutant, engine_checks=()):
    """Whether something finds the mutant; or why that cannot be said.  What is listed as equivalent has been tried in
    both orders before; to see whether it still is, the first one does."""
    for op in mutant.ops or (None,):
        found = checks(op) if op else (engine_checks, [])
        if isinstance(found, str):
            return found
        with put_in(mutant, op):
            if fails(found[0]) or str(mutant) not in REASONS and fails(found[1]):
                return True
    return False


# ---------------------------------------------------------------------- many


@dataclass
class Report:
    """What became of the mutants: True for those that were killed, False, or why that cannot be said."""

    mutants: list
    results: list

    def those(self, result):
        return [m for m, r in zip(self.mutants, self.results) if r is result]

    @property
    def findings(self):
        """Those that survived, compute something else, and are not known to wait for a check."""
        return [m for m in self.those(False) if str(m) not in REASONS and str(m) not in OPEN]

    @property
    def stale(self):
        """Those that are listed as equivalent, and die."""
        return sorted({str(m) for m in self.those(True)} & REASONS.keys() - {str(m) for m in self.those(False)})

    @property
    def unjudged(self):
        return sorted({r for r in self.results if isinstance(r, str)})

    def __str__(self):
        killed, findings = len(self.those(True)), self.findings
        waiting = sum(str(m) in OPEN for m in self.those(False))
        n = killed + len(findings) + waiting
        return "\n".join([*[f"survived  {m}" for m in findings], *[f"stale     {m}" for m in self.stale],
                          *[f"unjudged  {why}" for why in self.unjudged],
                          f"{killed} of {n} mutants killed ({1000 * killed // max(n, 1) / 10}%); "
                          f"{sum(str(m) in REASONS for m in self.those(False))} more are equivalent, and "
                          f"{waiting} of the survivors wait for a check (open.txt)"])


def judge(found, jobs=1):
    """Put in each of these mutants, and report."""
    if all(m.ops for m in found):
        return _judged(found, jobs, [])
    loop = _TestLoop(found, jobs)
    pytest.main([*"-o addopts=--import-mode=importlib -p no:terminal -p no:cacheprovider -k".split(),
                 "not thread and not memory and not collector and not chain and not indexing",  # these take longest
                 *[f"tests/autograd/test_{name}.py" for name in ("engine", "op", "tape", "transform")]], plugins=[loop])
    return loop.report


class _TestLoop:
    """In place of pytest's loop: the collected tests become the checks of the engine."""

    def __init__(self, found, jobs):
        self.found, self.jobs = found, jobs

    def pytest_runtestloop(self, session):
        from tests.autograd.test_ops import test_float32_stays, test_gradients
        tests = [check_rule_of_several_results, check_gradient_in_another_dtype]
        tests += [functools.partial(_run_test, item) for item in session.items]
        for name in ("multiply", "maximum", "split"):  # broadcasting, another dtype, several results
            for sample in SAMPLES[name]:
                tests += [functools.partial(test_gradients, name, sample),
                          functools.partial(test_float32_stays, name, sample, create_graph=True)]
        why = why_failing("the engine", tests)
        self.report = Report(self.found, [why] * len(self.found)) if why else _judged(self.found, self.jobs, tests)
        return True


def _run_test(item):
    for report in runtestprotocol(item, log=False, nextitem=None):
        if report.failed:
            raise AssertionError(item.nodeid)


def _judged(found, jobs, engine_checks):
    if jobs == 1:
        return Report(found, [is_killed(m, engine_checks) for m in found])
    _state[:] = found, engine_checks  # the processes inherit them: neither code nor tests can be sent
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        parts = pool.map(_results, list(_parts(found)), chunksize=1)
    results = {i: result for part in parts for i, result in part}
    return Report(found, [results[i] for i in range(len(found))])


_state = []


def _parts(found):
    """The numbers of the mutants in portions of one op (whose checks are run once for each process) that end soon."""
    for _, same in itertools.groupby(range(len(found)), key=lambda i: found[i].ops[:1]):
        same = list(same)
        yield from (same[i:i + 40] for i in range(0, len(same), 40))


def _results(part):
    found, engine_checks = _state
    return [(i, is_killed(found[i], engine_checks)) for i in part]
