"""Random programs against PyTorch and finite differences: two hundred of them, and that wrong rules are found."""

import functools

import numpy as np
import pytest

import autograd as ag
from autograd.core.registry import FUNCTIONS, module_of
from tests import fuzz
from tests.fuzz.__main__ import main

SEEDS = range(250)

CONSTANTS = {"dropout", "empty_like", "full_like", "ones_like", "zeros_like"}  # random, or nothing to differentiate


@functools.cache
def program(seed):
    return fuzz.draw_program(seed)


@pytest.mark.slow_but_every(5)
@pytest.mark.parametrize("first", range(0, len(SEEDS), 25))
def test_programs_equal_pytorch(first):
    pytest.importorskip("torch")
    for seed in SEEDS[first:first + 25]:
        failure, _ = fuzz.compare(program(seed))
        assert failure is None, told(program(seed), failure, fuzz.compare)


@pytest.mark.slow_but_every(10)
@pytest.mark.parametrize("first", range(0, len(SEEDS), 25))
def test_programs_equal_finite_differences(first):
    for seed in SEEDS[first:first + 25:4]:
        failure, _ = fuzz.by_differences(program(seed))
        assert failure is None, told(program(seed), failure, fuzz.by_differences)


def told(program, failure, checker):
    small = fuzz.shrink(program, checker)
    return f"{failure.text}\n{small.source()}\npython -m tests.fuzz --seed {program.seed}"


def test_programs_hold_what_they_should():
    """Each variant, checkpoints, unused statements, values used often, several leaves and results, odd shapes."""
    programs = [program(seed) for seed in SEEDS]
    assert {p.variant for p in programs} == set(fuzz.VARIANTS)
    assert {s.operation for p in programs for s in p.statements} == {e.name for e in fuzz.TABLE}
    shapes = {a.shape for p in programs for a in p.leaves.values()}
    assert () in shapes and any(0 in s for s in shapes) and any(1 in s for s in shapes)
    assert max(len(p.leaves) for p in programs) > 4 and max(len(p.results) for p in programs) > 2
    assert all(5 <= len(p.statements) <= 31 for p in programs)
    assert sum(p.part is not None for p in programs) > 20
    assert sum(len(p.used().statements) < len(p.statements) for p in programs) > 100
    assert max(sum(name in s.uses() for s in p.statements) for p in programs for name in p.leaves) > 5


def test_every_function_is_in_the_table():
    """A new op or composed function gets a line in fuzz.TABLE."""
    ours = {name for name, op in ag.REGISTRY.items()
            if op.differentiable and module_of(op.formula).split(".")[0] in ("autograd", "numpy")}
    assert sorted((ours | set(FUNCTIONS)) - {e.name for e in fuzz.TABLE} - CONSTANTS) == []


def test_a_program_is_the_same_each_time():
    for seed in (3, 14):
        assert fuzz.draw_program(seed).source() == fuzz.draw_program(seed).source()


@pytest.mark.parametrize("seed", range(40, 60))
def test_the_source_of_a_program_runs_and_gives_its_answer(seed, capsys):
    """The printed source of a program can be pasted and run."""
    with np.errstate(all="ignore"):
        expected = fuzz.run_ours(program(seed), np.float32 if program(seed).kind == "float32" else np.float64)
        env = {}
        exec(program(seed).source(), env)
    assert capsys.readouterr().out
    for a, b in zip(expected, env["answer"], strict=True):
        np.testing.assert_array_equal(a, b.data if isinstance(b, ag.Tensor) else b)


# ---------------------------------------------------------------------- planted faults


def plant(monkeypatch, name, change):
    """Let the first rule of an op give something else."""
    place = min(ag.REGISTRY[name].rules)
    rule, part = ag.REGISTRY[name].rules[place]

    def wrong(g, y, *args, **attrs):
        return change(rule(g, y, *args, **attrs), g)

    monkeypatch.setitem(ag.REGISTRY[name].rules, place, (wrong, part))


def first_failure(checker, seeds=range(150)):
    for seed in seeds:
        failure, _ = checker(program(seed))
        if failure is not None:
            return program(seed), failure
    raise AssertionError(f"no failure in {len(seeds)} programs")


@pytest.mark.parametrize("name, change", [
    ("tanh", lambda d, g: (1 + 1e-8) * d),
    ("multiply", lambda d, g: d + 1e-6 * g),
    ("sum", lambda d, g: -d),
    ("cumprod", lambda d, g: d[..., ::-1]),
    ("where", lambda d, g: 0 * d),
])
def test_a_wrong_rule_is_found_and_its_program_cut_down(monkeypatch, name, change):
    pytest.importorskip("torch")
    plant(monkeypatch, name, change)
    found, failure = first_failure(fuzz.compare)
    small = fuzz.shrink(found, fuzz.compare)
    assert fuzz.compare(small)[0].kind == failure.kind
    assert len(small.statements) <= 3 and len(small.results) == 1, small.source()


def test_a_wrong_rule_is_found_by_differences(monkeypatch):
    plant(monkeypatch, "tanh", lambda d, g: 1.01 * d)
    assert first_failure(fuzz.by_differences)[1].kind == "finite differences"


def test_a_rule_that_drops_terms_of_the_second_order_is_found(monkeypatch):
    pytest.importorskip("torch")
    plant(monkeypatch, "tanh", lambda d, g: d.detach() if isinstance(d, ag.Tensor) else d)
    found, failure = first_failure(fuzz.compare)
    assert found.kind in ("hvp", "jvp"), failure


def test_a_rule_that_loses_precision_is_found(monkeypatch):
    plant(monkeypatch, "multiply", lambda d, g: d if d.dtype == np.float64 else d.astype(np.float16).astype(d.dtype))
    found, failure = first_failure(fuzz.compare)
    assert found.variant == "float32" and "differs" in failure.kind


def test_a_formula_that_makes_another_dtype_is_found(monkeypatch):
    formula = ag.REGISTRY["tanh"].formula
    monkeypatch.setattr(ag.REGISTRY["tanh"], "formula", lambda x: formula(x).astype(np.float64))
    found, failure = first_failure(fuzz.compare)
    assert found.variant == "float32" and failure.kind == "raises AssertionError"


def test_an_engine_that_raises_is_found(monkeypatch):
    def refuse(d, g):
        raise ValueError("planted")
    plant(monkeypatch, "sinh", refuse)
    found, failure = first_failure(fuzz.compare)
    assert failure.kind == "raises ValueError"
    assert [s.operation for s in fuzz.shrink(found, fuzz.compare).statements] == ["sinh"]


def test_a_formula_that_raises_ends_the_program_and_is_found(monkeypatch):
    def refuse(x):
        raise ValueError("planted")
    monkeypatch.setattr(ag.REGISTRY["tanh"], "formula", refuse)
    found = next(p for p in map(fuzz.draw_program, SEEDS) if any("np.tanh(" in s.ours for s in p.statements))
    assert "np.tanh(" in found.statements[-1].ours and fuzz.compare(found)[0].kind == "raises ValueError"


def test_the_command_replays_and_counts(monkeypatch, capsys):
    pytest.importorskip("torch")
    assert main(["--seed", "5"]) == 0
    out = capsys.readouterr().out
    assert "it passes" in out and "import autograd as ag" in out
    assert main(["--programs", "3", "--start", "5"]) == 0
    out = capsys.readouterr().out
    assert "3 programs" in out and "failures: 0" in out and "3 variants of" in out
    plant(monkeypatch, "tanh", lambda d, g: 2 * d)
    seed = str(first_failure(fuzz.by_differences)[0].seed)
    assert main(["--seed", seed]) == 1
    assert "cut down" in capsys.readouterr().out
    assert main(["--programs", "1", "--start", seed]) == 1
    assert f"failures: 1\n  seed {seed}: " in capsys.readouterr().out
