"""Judging mutants: by the checks of their ops, or by the tests of the engine."""

import functools
import itertools
import multiprocessing
import signal
import warnings
from dataclasses import dataclass
from unittest import mock

import numpy as np
import pytest
from _pytest.runner import runtestprotocol

import autograd as ag
from autograd import engine
from autograd.check import bind_sample
from autograd.core.arrays import convert_sequence, unbroadcast
from autograd.core.multi_output import OutputGradients
from autograd.core.tree import tree_leaves, tree_map
from tests.duck import Duck
from tests.mutation.edges import EDGES, HALVES, NUMBERS, SECOND
from tests.mutation.equivalent import REASONS
from tests.mutation.mutants import put_in
from tests.samples import INNER, SAMPLES

# ---------------------------------------------------------------------- one mutant


@functools.cache
def checks(op):
    """The checks of one op, functions that raise: ([those of the first order and the edges], [of the second order]), or
    why there are none.  Whichever has found a fault last comes first."""
    if op.name not in SAMPLES and op.name not in INNER:
        return f"{op.name} has no samples"
    first, second = ([functools.partial(ag.check_op, op, [s], order) for s in samples_of(op)] for order in (1, 2))
    return first + edge_checks(op), second


def edge_checks(op):
    """The checks of one op that compare with no finite differences."""
    found = [functools.partial(check_single, op, s) for s in [*samples_of(op), *NUMBERS.get(op.name, ())]]
    for check, table in (check_edge, EDGES), (check_half, HALVES), (check_second, SECOND):
        found += [functools.partial(check, op, *edge) for edge in table.get(op.name, ())]
    return found


def samples_of(op):
    """Return the samples that have an array to be differentiated."""
    return [s for s in SAMPLES.get(op.name) or INNER[op.name] if any(a.dtype.kind == "f" for a in _arrays(s))]


@functools.cache
def why_useless(what, check):
    """Return the reason why a check that fails says nothing, as it fails without a mutant, too; "" if it does not."""
    try:
        with np.errstate(all="ignore"):
            check()
    except Exception as error:
        return f"{what} fails its own check: {error}"
    return ""


def _arrays(tree):
    if isinstance(tree, (list, tuple)):
        return [a for branch in tree for a in _arrays(branch)]
    return [tree] if isinstance(tree, np.ndarray) else []


def _of_floats(op, args):
    """`op` by its rules alone, as a function of the floating-point arrays among `args`; and these arrays."""
    args, attrs = (args[:-1], args[-1]) if isinstance(args[-1], dict) else (args, {})
    places = [i for i, a in enumerate(args) if getattr(a, "dtype", np.dtype(int)).kind == "f"]

    def f(*xs):
        given = dict(zip(places, xs))
        with mock.patch.object(op, "kernels", {}):
            return op(*[given.get(i, a) for i, a in enumerate(args)], **attrs)
    return f, [args[i] for i in places]


def _assert_equal(found, expected):
    """Raise unless these are equal: whole numbers exactly, others up to a few roundings in double precision."""
    for d, wanted in zip(found, expected, strict=True):
        d, wanted = np.asarray(d, float), np.asarray(wanted, float)
        np.testing.assert_allclose(d, wanted, rtol=2e-15, atol=0)
        is_whole = wanted == np.rint(wanted)
        np.testing.assert_array_equal(np.where(is_whole, d, 0), np.where(is_whole, wanted, 0))


def check_edge(op, args, expected, seeds=None):
    """Raise unless the gradient of the sum of op(*args), weighted by `seeds`, is what is documented: arrays, or an
    error.  Where they are finite, nothing on the way overflows, or is divided by 0."""
    f, xs = _of_floats(op, args)
    with warnings.catch_warnings(action="ignore"):  # of nothing, say
        y, pullback = ag.vjp(f, *xs)
    if seeds is None:
        seeds = tree_map(np.ones_like, y)
    if isinstance(expected, type):
        try:
            found = pullback(seeds)
        except expected:
            return
        raise AssertionError(f"{op.name} is to raise {expected.__name__}, and gave {found}")
    quiet = "raise" if all(np.all(np.isfinite(d)) for d in expected) else "ignore"
    with np.errstate(divide=quiet, over=quiet, invalid=quiet):
        _assert_equal(pullback(seeds), expected)


def _arguments(op, args, dtype, seeds=None):
    """The places of the floating-point arrays among the inputs of `op`, what its rules are called with if these have
    this dtype, (g, y, *inputs), and the settings."""
    inputs, attrs = bind_sample(op, args)
    places = [i for i, a in enumerate(inputs) if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    inputs = [a.astype(dtype) if i in places else convert_sequence(a, i in op.rules) for i, a in enumerate(inputs)]
    y = op.formula(*inputs, **attrs)
    return places, (tree_map(np.ones_like, y) if seeds is None else seeds, y, *inputs), attrs


def check_single(op, sample):
    """Raise unless the rules, of arrays and of Tensors, stay in the library of the arrays, and in single precision,
    without the engine's help, if everything given is."""
    places, given, attrs = _arguments(op, sample, np.float32)
    alike = not any(isinstance(a, (int, float)) or getattr(a, "dtype", None) == np.float64 for a in tree_leaves(given))
    given, attrs = tree_map(lambda a: Duck(a) if isinstance(a, (np.ndarray, np.generic)) else a, (given, attrs))
    tensors = tree_map(lambda a: ag.tensor(a, requires_grad=True) if isinstance(a, Duck) and a.dtype.kind == "f" else a,
                       given)
    for i, arguments in itertools.product(places, (given, tensors)):
        rule, place = op.rules[i]
        d = rule(*arguments, **attrs)
        d = d if place is None else op.rules.split_results(d, rule, len(given) - 2)[place]
        assert isinstance(d.data if isinstance(d, ag.Tensor) else d, Duck) and (d.dtype == np.float32 or not alike)


def check_half(op, args, seeds=None):
    """Raise unless the rules give in half precision what they give of the same numbers in double precision, rounded
    once."""
    places, given, attrs = _arguments(op, args, np.float16, seeds)
    wide = tree_map(lambda a: np.asarray(a, float) if getattr(a, "dtype", None) == np.float16 else a, given)
    found, expected = [[d for _, d in op.vjp(places, g[2:], g[2:], g, attrs)] for g in (given, wide)]
    assert all(d.dtype == np.float16 for d in found)
    _assert_equal(found, [d.astype(np.float16) for d in expected])


def check_second(op, args, expected, seeds=None):
    """Raise unless the gradients of the sum of op(*args), weighted by `seeds`, have the documented derivatives: the
    Jacobian, with a row for each number of the gradients, and a column for each of the seeds and of the arrays."""
    f, xs = _of_floats(op, args)
    y = f(*xs)
    seeds = tree_leaves(tree_map(np.ones_like, y) if seeds is None else seeds)
    rows = []

    def gradient(place, *given):
        pullback = ag.vjp(lambda *xs: tuple(tree_leaves(f(*xs))), *given[len(seeds):])[1]
        return pullback(given[:len(seeds)])[place]

    for place in range(len(xs)):
        d, pullback = ag.vjp(functools.partial(gradient, place), *seeds, *xs)
        for one in np.eye(d.size):
            rows.append(np.concatenate([np.ravel(a) for a in pullback(one.reshape(d.shape))]))
    _assert_equal(rows, expected)


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
    d = ag.grad(lambda x: (x * np.array([2.0, 3.0])).sum())(x)
    assert d.dtype == x.dtype and d.tolist() == [2, 3]
    many = np.ones((4000, 2), np.float16)
    assert ag.grad(lambda x: (x + many).astype(float).sum())(many[0]).tolist() == [4000, 4000]  # ones end at 2048 in it


def check_nothing_is_copied_in_vain():
    d = np.ones(2)
    assert unbroadcast(d, np.zeros(2)) is d
    total = OutputGradients({0: 1.0}) + OutputGradients({1: 2.0})
    assert total + OutputGradients({0: 3.0}) is total and total == {0: 4.0, 1: 2.0}


def check_what_was_sent_stays():
    x = ag.tensor([1.0, 2.0, 3.0], requires_grad=True)
    a, b, c = ag.split(x, 3)
    y = a * b * c
    sent = [d for _, _, sent in list(engine.reverse([y], [np.ones(1)])) for _, d in sent]
    assert [len(d) for d in sent if type(d) is OutputGradients] == [1, 1, 1]


def failing(found):
    """Return the first of these checks that fails, or does not end; None if there is none."""
    def stop(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGPROF, stop)
    try:
        for check in found:
            signal.setitimer(signal.ITIMER_PROF, 2)  # of its own time, whatever else the machine does
            with np.errstate(all="ignore"):
                check()
    except (Exception, SystemExit):
        found.remove(check)
        found.insert(0, check)
        return check
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return None


def is_killed(mutant, engine_checks=()):
    """Return True if a check finds the mutant; or the reason why that is unknown.  A mutant listed as equivalent was
    tried in both orders before; to see whether it still is, the first one does."""
    for op in mutant.ops or (None,):
        found = checks(op) if op else (engine_checks, [])
        if isinstance(found, str):
            return found
        with put_in(mutant, op):
            check = failing(found[0]) or (failing(found[1]) if str(mutant) not in REASONS else None)
        if check:
            return why_useless(op.name if op else "the engine", check) or True
    return False


# ---------------------------------------------------------------------- many


@dataclass
class Report:
    """The fate of the mutants: True for those that were killed, False, or the reason why it is unknown."""

    mutants: list
    results: list

    def those(self, result):
        return [m for m, r in zip(self.mutants, self.results) if r is result]

    @property
    def findings(self):
        """Surviving mutants that compute something else."""
        return [m for m in self.those(False) if str(m) not in REASONS]

    @property
    def stale(self):
        """Mutants that are listed as equivalent, and die."""
        return sorted({str(m) for m in self.those(True)} & REASONS.keys() - {str(m) for m in self.those(False)})

    @property
    def unjudged(self):
        return sorted({r for r in self.results if isinstance(r, str)})

    def __str__(self):
        killed, findings = len(self.those(True)), self.findings
        n = killed + len(findings)
        return "\n".join([*[f"survived  {m}" for m in findings], *[f"stale     {m}" for m in self.stale],
                          *[f"unjudged  {why}" for why in self.unjudged],
                          f"{killed} of {n} mutants killed ({1000 * killed // max(n, 1) / 10}%); "
                          f"{len(self.those(False)) - len(findings)} more are equivalent"])


def judge(found, jobs=1):
    """Put in each of these mutants, and report."""
    if all(m.ops for m in found):
        return _judged(found, jobs, [])
    loop = _TestLoop(found, jobs)
    pytest.main([*"-o addopts=--import-mode=importlib -p no:terminal -p no:cacheprovider -k".split(),
                 "not thread and not memory and not collector and not chain and not indexing "  # these take longest
                 "and not other_processes",  # these need some of their own, which a process of a pool may not have
                 *[f"tests/autograd/{name}.py" for name in ("test_engine", "core/test_errors", "test_op", "test_tape",
                                                            "test_transform")]],
                plugins=[loop])
    return loop.report


class _TestLoop:
    """In place of pytest's loop: the collected tests become the checks of the engine."""

    def __init__(self, found, jobs):
        self.found, self.jobs = found, jobs

    def pytest_runtestloop(self, session):
        from tests.autograd.ops.test_ops import test_float32_stays, test_gradients
        tests = [check_rule_of_several_results, check_gradient_in_another_dtype, check_nothing_is_copied_in_vain,
                 check_what_was_sent_stays]
        tests += [functools.partial(_run_test, item) for item in session.items]
        for name in ("multiply", "maximum", "split"):  # broadcasting, another dtype, several results
            for sample in SAMPLES[name]:
                tests += [functools.partial(test_gradients, name, sample),
                          functools.partial(test_float32_stays, name, sample, create_graph=True)]
        self.report = _judged(self.found, self.jobs, tests)
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
