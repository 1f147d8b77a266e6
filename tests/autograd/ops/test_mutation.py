"""Mutation testing: the samples find every fault in a gradient rule that is put in on purpose."""

import ast
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import autograd as ag
from tests import mutation
from tests.samples import SAMPLES


@pytest.fixture
def fresh_checks():
    mutation.checks.cache_clear()
    yield
    mutation.checks.cache_clear()


OTHERS = {"g": "yx", "y": "gx", "x": "gy", "axis": "g"}


def faults(source):
    """Every mutant of an expression."""
    definition = ast.parse(f"lambda g, y, x, axis: {source}").body[0].value
    return {after for _, after in mutation.faults(definition, definition, OTHERS)}


@pytest.mark.parametrize("source, mutants", [
    ("g + 2", {"g - 2", "g * 2", "g", "2", "y + 2", "x + 2", "g + 3", "g + 4"}),
    ("g / x", {"g * x", "g", "1 / x", "x / g", "y / x", "x / x", "g / g", "g / y"}),
    ("-g", {"g", "-y", "-x"}),
    ("0", {"1"}),
    ("-1", {"0", "-2", "1"}),
    ("0.5", {"1.5", "1.0"}),
    ("g @ a.mT", {"g * a.mT", "g", "a.mT", "a.mT @ g", "y @ a.mT", "x @ a.mT", "a"}),
    ("g.sum(axis=axis, keepdims=True)", {
        "g.sum(keepdims=True)", "g.sum(axis=axis)", "g", "y.sum", "x.sum", "axis=g",
        "keepdims=False"}),
    ("np.where(a, g, 0)", {"np.where(g, a, 0)", "np.where(a, 0, g)", "np.where(a, g)", "a", "np.where(a, y, 0)",
                           "np.where(a, x, 0)", "np.where(a, g, 1)"}),
    ("a if b < c else d", {"d if b < c else a", "a", "d", "b <= c", "b >= c"}),
    ("(a, b, c)", {"(b, a, c)", "(a, c, b)"}),
])
def test_what_a_mutant_is(source, mutants):
    assert faults(source) == mutants


def test_each_fault_is_undone():
    definition = ast.parse("lambda g, y, x: g * (2 * x) if y is None else -g").body[0].value
    before = ast.dump(definition)
    assert len(list(mutation.faults(definition, definition, OTHERS))) > 20
    assert ast.dump(definition) == before


def test_a_mutant_is_a_rule_of_one_op_and_its_formula_stays():
    mutant = next(m for m in mutation.mutants(["max"])
                  if m.target == "reduce.expand_reduced" and m.after.startswith("2 if"))
    op, x = ag.max, np.array([[1.0, 3.0], [4.0, 2.0]])
    rules = dict(op.rules)
    with mutation.put_in(mutant, op):
        assert op(x) == 4
        with pytest.raises(ValueError, match="reshape"):
            ag.grad(ag.max)(x)
        assert ag.grad(ag.sum)(x).sum() == 4  # the same helper in the rule of another op
    assert dict(op.rules) == rules
    assert ag.grad(ag.max)(x).sum() == 1


@pytest.mark.slow_but_every(3)
@pytest.mark.parametrize("name", mutation.our_ops())
def test_gradients_at_the_edges(name):
    """As documented, in half precision as in double, and in single precision and another library's arrays where these
    are given."""
    for check in mutation.edge_checks(mutation.our_ops()[name]):
        with np.errstate(all="ignore"):
            check()


@pytest.mark.parametrize("name, rule, error", [
    ("absolute", lambda g, y, x: g * np.sign(x), AssertionError),  # which has a derivative at 0
    ("cumsum", lambda g, y, x, axis=None: np.flip(np.cumsum(np.flip(g, axis), axis), axis).reshape(x.shape),
     AssertionError),  # in half precision, where 2048 + 1 is 2048
    ("erf", lambda g, y, x: g * (2 / math.sqrt(math.pi) * np.exp(-x * x)), FloatingPointError),  # x² overflows
    ("exp", lambda g, y, x: g * np.exp(x.astype(float)), AssertionError),  # in double precision
    ("negative", lambda g, y, x: -g + np.zeros(g.shape, g.dtype), TypeError),  # NumPy's, whatever x is
])
def test_faults_at_the_edges_are_found(name, rule, error, monkeypatch):
    op = mutation.our_ops()[name]
    monkeypatch.setitem(op.rules, 0, (rule, None))
    ag.check_op(op, SAMPLES[name])  # does not see them
    with np.errstate(all="ignore"), pytest.raises(error):
        for check in mutation.edge_checks(op):
            check()


def test_ops_without_a_public_name_have_mutants():
    assert {"root", "sech2", "normal_cdf", "_by_convention"} <= mutation.our_ops().keys() - ag.REGISTRY.keys()


def test_weak_samples_leave_survivors(monkeypatch, fresh_checks):
    monkeypatch.setitem(SAMPLES, "square", [(np.full(2, 2.0),)])
    assert [str(m) for m in mutation.judge(mutation.mutants(["square"])).findings] == ["square.x: 2 * x -> 2 + x"]
    monkeypatch.setitem(SAMPLES, "square", [(np.zeros((0, 2)),)])
    mutation.checks.cache_clear()
    report = mutation.judge(mutation.mutants(["square"]))
    assert len(report.findings) > 5 and "survived  square.x: g * (2 * x) -> g" in str(report)


def test_a_listed_mutant_that_dies_is_stale(monkeypatch):
    found = mutation.mutants(["square"])
    assert not mutation.judge(found).stale
    monkeypatch.setitem(mutation.REASONS, "square.x: g * (2 * x) -> g", "on purpose")
    assert mutation.judge(found).stale == ["square.x: g * (2 * x) -> g"]


def test_an_op_that_fails_unchanged_judges_nothing(monkeypatch, fresh_checks):
    monkeypatch.setitem(SAMPLES, "square", [(np.array([np.nan]),)])
    report = mutation.judge(mutation.mutants(["square"]))
    assert len(report.unjudged) == 1 and "square fails its own check" in str(report)
    assert not report.those(True) and not report.findings


def test_some_mutants_of_some_rules_die():
    rng = random.Random(1)
    found = mutation.mutants(rng.sample(sorted(mutation.our_ops()), 6))
    report = mutation.judge(rng.sample(found, min(50, len(found))))
    assert len(report.those(True)) > 20
    assert not (report.findings or report.stale or report.unjudged), str(report)


@pytest.mark.long
def test_all_mutants_die():
    result = subprocess.run([sys.executable, "-m", "tests.mutation"], cwd=Path(__file__).parents[3], text=True,
                            capture_output=True, env={**os.environ, "PYTHONHASHSEED": "0"})
    assert result.returncode == 0, result.stdout + result.stderr
    assert "(100.0%)" in result.stdout
