"""Time grows linearly with records and scopes: instructions are counted, as a clock would depend on the machine."""

import sys

import numpy as np
import pytest

import autograd as ag
from autograd.core.multi_output import OutputGradients
from autograd.program import memory_plan as plan
from autograd.view.diff.align import align


def instructions(run, given):
    """Count Python's instructions in `run(given)`; the work of C in one of them counts as one."""
    n = 0

    def trace(frame, event, _):
        nonlocal n
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        n += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run(given)
    finally:
        sys.settrace(before)
    return n


def rows(n):
    return ag.tensor(np.arange(2.0 * n).reshape(n, 2), requires_grad=True)


def leaves(n):
    return [ag.tensor([1.5, 2.0], requires_grad=True) for _ in range(n)]


def chain(n, every=0):
    y = ag.tensor(np.ones(2), requires_grad=True)
    for i in range(n):
        y = np.tanh(y) if i % 2 else y * 1.01
        if every and i % every == 0:
            y = y + 1.0
    return y.sum()


def cut(n):
    """A sum of the rows of a tensor, of which each is an array of one tuple."""
    return sum(rows(n)).sum()


def until_the_end(tape):
    walk = tape.stepper()
    while walk.until(op="tanh"):
        pass


def there_and_back(tape):
    walk = tape.stepper()
    walk.run()
    while walk.back():
        pass


def found(tape):
    with ag.detect_anomaly():
        tape().backward()


def program(f, *arguments):
    made = ag.record(f, *arguments)
    made(*arguments)
    made.backward()


def checkpointed(n):
    piece, x = ag.checkpoint(lambda x: np.tanh(x * 1.5)), ag.tensor(np.ones(2), requires_grad=True)
    for _ in range(n):
        x = piece(x)
    return x.sum()


def steps(transform):
    """The end of n steps with a transform of a function in each, differentiated by where they began."""
    def descend(x, n):
        for _ in range(n):
            x = x - 0.1 * transform(lambda v: np.sum(np.sin(v)), x)
        return x.sum()
    return lambda n: ag.grad(descend)(np.ones(2), n)


W = ag.tensor(np.ones(2), requires_grad=True)
CASES = {  # what is made of n, and what is counted
    "iterate a constant": (lambda n: ag.tensor(np.ones((n, 2))), lambda x: sum(x)),
    "iterate": (rows, lambda x: sum(x).sum().backward()),
    "stack": (leaves, lambda xs: np.stack(xs).sum().backward()),
    "concatenate": (leaves, lambda xs: np.concatenate(xs).sum().backward()),
    "column of rows": (rows, lambda x: np.stack([row[0] for row in x]).sum().backward()),
    "split": (rows, lambda x: np.concatenate(np.split(x, len(x))).sum().backward(create_graph=True)),
    "second order": (lambda n: np.ones((n, 2)), lambda v: ag.hvp(lambda x: sum([(row**3).sum() for row in x]), v, v)),
    "checkpoint": (int, lambda n: checkpointed(n).backward()),
    "freed, asked for": (lambda n: ag.tape(chain(n)), lambda t: (t.roots[0].backward(), [r.data for r in t[::-1]])),
    "tape": (lambda n: (chain(n), cut(n)), lambda roots: repr(ag.tape(*roots)) + ag.tape(*roots)._repr_html_()),
    "record": (int, lambda n: program(lambda x: np.stack(list(x * W)).sum() + sum(x).sum(), np.ones((n, 2)))),
    "explain": (lambda n: np.concatenate(leaves(n)), lambda y: (repr(y.explain()), y.explain()._repr_html_())),
    "explain a tuple": (lambda n: np.split(rows(n), n)[1].inputs[0], lambda y: repr(y.explain())),
    "explain one of a tuple": (lambda n: np.split(rows(n), n)[1], lambda y: y.explain()._repr_html_()),
    "diff": (lambda n: (ag.tape(chain(n)), ag.tape(chain(n, 10))), lambda tapes: repr(ag.diff(*tapes))),
    "diff of tuples": (lambda n: (ag.tape(cut(n)), ag.tape(cut(n) * 2)), lambda tapes: repr(ag.diff(*tapes))),
    "step": (lambda n: ag.tape(cut(n)), lambda t: [repr(s) for s in t.stepper()]),
    "step, in a notebook": (lambda n: ag.tape(cut(n)), lambda t: [s._repr_html_() for s in list(t.stepper())[::9]]),
    "step back": (lambda n: ag.tape(cut(n)), there_and_back),
    "until": (lambda n: ag.tape(chain(n)), until_the_end),
    "ledger": (lambda n: ag.tape(cut(n)), lambda t: (t.ledger(t[1])._repr_html_(), repr(t.ledger(t[0])))),
    "anomaly": (lambda n: lambda: cut(n), found),
    "draw": (lambda n: ag.tape(cut(n)), lambda t: t.draw(color="grad").source),
    "memory": (lambda n: ag.tape(cut(n)), lambda t: repr(t.memory())),
    "memory of checkpoints": (lambda n: ag.tape(checkpointed(n)), lambda t: repr(t.memory())),
    "steps by grad": (int, steps(lambda f, x: ag.grad(f)(x))),
    "steps by jvp": (int, steps(lambda f, x: ag.jvp(f, (x,), (np.ones(2),))[1])),
    "steps by vjp": (int, steps(lambda f, x: ag.vjp(f, x)[1](1.0)[0])),
    "steps by hvp": (int, steps(lambda f, x: ag.hvp(f, x, np.ones(2)))),
    "steps by hessian": (int, steps(lambda f, x: ag.hessian(f)(x) @ np.ones(2))),
    "steps by vmap": (int, steps(lambda f, x: ag.vmap(ag.grad(f))(x))),
    "play": (lambda n: ag.tape(cut(n)), lambda t: t.player()),
}


@pytest.mark.slow_but_every(7)
@pytest.mark.parametrize("make, run", CASES.values(), ids=CASES)
def test_twice_the_parts_take_twice_the_instructions(make, run):
    run(make(20))  # what is imported and cached once
    one, two, three = (instructions(run, make(n)) for n in (50, 100, 150))
    assert (three - two) - (two - one) < 0.03 * one


def test_a_walk_adds_to_its_own_sum_of_parts_in_place_and_to_no_other():
    first, second, third = (OutputGradients({i: np.ones(2) * i}) for i in (0, 1, 1))
    total = first + second
    assert total + third is total and total[1].tolist() == [2, 2]
    assert [list(part) for part in (first, second, third)] == [[0], [1], [1]] and second[1].tolist() == [1, 1]


def test_the_rule_of_concatenate_adds_each_length_once():
    class Length(int):
        added = 0

        def __add__(self, other):
            Length.added += 1
            return Length(int(self) + other)

        __radd__ = __add__

    class Part:
        shape = (Length(1),)

    rule, _ = ag.concatenate.rules[0]
    assert len(rule(np.ones(99), None, *[Part()] * 99)) == 99
    assert 90 < Length.added < 300


def test_records_that_several_read_are_aligned_once():
    def both_ways(first, second):
        x, done = ag.tensor(np.ones(2), requires_grad=True), {}
        for op in (first, second):
            y = x
            for _ in range(40):
                y = op(y, y)
            done[op] = y
        return ag.tape(done[np.add] - done[np.multiply])  # 2⁴⁰ ways lead from the end to the beginning

    a, b = both_ways(np.add, np.multiply), both_ways(np.multiply, np.add)
    assert len(align(a, b)) == len(a)


@pytest.mark.parametrize("choosing", [0, 3, 50])
def test_buffers_that_take_turns_share_no_memory_at_any_step(choosing, monkeypatch):
    monkeypatch.setattr(plan, "EXACT", choosing)
    rng = np.random.default_rng(choosing)
    first = rng.integers(0, 60, 80)
    wanted = {k: (64 * int(n), int(f), int(f + length)) for k, (n, f, length)
              in enumerate(zip(rng.integers(1, 9, 80), first, rng.integers(0, 20, 80)))}
    offset = plan._assign_lowest_offsets(wanted)
    for step in range(80):
        there = sorted((offset[k], size) for k, (size, begin, end) in wanted.items() if begin <= step <= end)
        assert all(at + size <= after for (at, size), (after, _) in zip(there, there[1:]))
    busiest = max(sum(n for n, begin, end in wanted.values() if begin <= step <= end) for step in range(80))
    assert max(offset[k] + n for k, (n, _, _) in wanted.items()) < 1.6 * busiest


def test_a_program_on_such_a_plan_computes_the_same_bits(monkeypatch):
    rng = np.random.default_rng(0)
    w, x = ag.tensor(rng.normal(size=(4, 4)), requires_grad=True), rng.normal(size=(3, 4))

    def f(x):
        return sum([np.tanh(x @ w * k).sum() for k in range(1, 6)])

    f(x).backward()
    expected, w.grad = w.grad, None
    monkeypatch.setattr(plan, "EXACT", 2)
    made = ag.record(f, x)
    assert made(x) == f(x).data
    made.backward()
    assert np.array_equal(w.grad, expected)
