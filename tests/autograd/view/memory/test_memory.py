"""Memory of a forward and backward pass: against NumPy's actual allocations, and record by record."""

import re
import tracemalloc
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import autograd as ag
import gpt
from autograd.view.graph.raster import picture_source
from tests.duck import Duck

rng = np.random.default_rng(0)


def parameter(*shape, dtype=float, name=""):
    return ag.tensor(rng.normal(size=shape), dtype=dtype, requires_grad=True, name=name)


def by_record(memory, t, kind="value"):
    return [life for life in memory.lifetimes if life.record is t and life.kind == kind]


def same(records, others):
    """Return True for the same records by identity, since == compares element by element."""
    return list(map(id, records)) == list(map(id, others))


def named(tape, op):
    return next(t for t in tape if t.op is not None and t.op.name == op)


# ---------------------------------------------------------------------- against actual allocations


def gpt_program(batch, dtype=np.float32, wrap=lambda block: block, **config):
    model = gpt.GPT(gpt.GPTConfig(vocab_size=65, **config), dtype=dtype)
    ids = rng.integers(0, 65, (batch, 64))

    def forward():
        x = model.wte(ids) + model.wpe(np.arange(64))
        for block in model.h:
            x = wrap(lambda x, block=block: block(x, None, lambda y: y))(x)
        return ag.cross_entropy(ag.linear(model.ln_f(x), model.wte.weight.T, None), ids)
    return forward, list(model.named_arrays().values())


def mlp(rows):
    weights = [parameter(400, 400) for _ in range(8)]
    data = rng.normal(size=(rows, 400))

    def forward():
        x = data
        for w in weights:
            x = ag.leaky_relu(x @ w)  # which makes a constant of its own, x > 0
        return (x * x).mean()
    return forward, weights


def chain():
    x = parameter(150_000)

    def forward():
        y = x
        for _ in range(10):
            y = np.tanh(np.sin(y) * 1.01 + y) + x
        return y.sum()
    return forward, [x]


def attention_without_kernel():
    q, mask = parameter(2, 4, 256, 16), np.tri(256, dtype=bool)  # a mask is what the kernel declines

    def forward():
        y = ag.attention(q, q * 1.1, np.sin(q), mask)
        return (ag.attention(y, q, q, mask) ** 2).mean()
    return forward, [q]


def composed_attention():
    q = parameter(2, 4, 256, 16)
    return (lambda: ((ag.softmax(q @ q.mT / 4) @ q) ** 2).mean()), [q]


def dropped():
    x = parameter(300, 1000)
    return (lambda: (ag.dropout(np.sin(ag.dropout(x, 0.1, rng)), 0.1, rng) ** 2).sum()), [x]


PROGRAMS = {
    "gpt, batch 4": lambda: gpt_program(4), "gpt, batch 12": lambda: gpt_program(12),
    "gpt in double precision": lambda: gpt_program(4, np.float64),
    "gpt with checkpoint": lambda: gpt_program(12, wrap=ag.checkpoint),
    "mlp": lambda: mlp(800), "mlp of which the weights are most": lambda: mlp(2), "chain": chain,
    "attention without kernel": attention_without_kernel, "attention of several operations": composed_attention,
    "dropout": dropped,
}


def allocated(forward, leaves):
    """Measure the peak of a forward and first backward pass with tracemalloc."""
    forward().backward()  # whatever is made once is there now
    for leaf in leaves:
        leaf.grad = None
    tracemalloc.start()
    try:
        forward().backward()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        for leaf in leaves:
            leaf.grad = None


@pytest.mark.slow_but_every(3)
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_peak_is_what_is_allocated(program):
    forward, leaves = PROGRAMS[program]()
    peak = allocated(forward, leaves)
    assert peak > 10e6
    loss = forward()
    assert ag.tape(loss).memory().peak == pytest.approx(peak, rel=0.05)
    if "checkpoint" in program:
        return  # what was freed early is no longer told from what the backward freed
    loss.backward()
    assert ag.tape(loss).memory().peak == pytest.approx(peak, rel=0.05)


def test_checkpoint_takes_less_and_pays_for_it_later():
    plain = ag.tape(gpt_program(4)[0]()).memory()
    saving = ag.tape(gpt_program(4, wrap=ag.checkpoint)[0]()).memory()
    assert saving.peak < 0.6 * plain.peak
    gelu = named(saving.tape, "gelu")
    first, again = by_record(saving, gelu)
    assert first.dies < saving.n_forward <= again.born < again.dies
    assert not first.needed_by and same(again.needed_by[-1:], [gelu])


def test_what_is_alive_is_what_is_allocated_between_two_operations():
    x = parameter(100_000)
    tracemalloc.start()
    base, kept = tracemalloc.get_traced_memory()[0], []
    y = x
    for _ in range(10):
        y = np.sin(y)
        kept.append(tracemalloc.get_traced_memory()[0] - base)
    tracemalloc.stop()
    assert ag.tape(y).memory().alive[:10] == pytest.approx(kept, rel=0.01)


# ---------------------------------------------------------------------- record by record


def test_values_live_from_their_step_to_their_own_backward():
    x = parameter(1000)
    tape = ag.tape(np.sum(np.exp(np.sin(x))))
    memory, (_, sin, exp, total) = tape.memory(), tape
    assert same(memory.steps, [sin, exp, total, total, exp, sin]) and memory.n_forward == 3
    (life,) = by_record(memory, sin)
    assert (life.n_bytes, life.born, life.dies) == (8000, 0, 5)
    assert same(life.needed_by, [exp, sin]) and life.shares is None
    (life,) = by_record(memory, exp)
    assert (life.born, life.dies) == (1, 4) and same(life.needed_by, [total, exp])
    (life,) = by_record(memory, total)
    assert life.dies == 6  # the result stays
    assert memory.alive[:3] == [8000, 16000, 16008]


def test_alive_is_the_sum_over_the_lifetimes():
    memory = ag.tape(gpt_program(1)[0]()).memory()
    for step in range(len(memory.alive)):
        assert memory.alive[step] == sum(life.n_bytes for life in memory.lifetimes if life.born <= step <= life.dies)
    assert memory.peak == max(memory.high) == memory.high[memory.peak_step]
    assert all(high >= alive for high, alive in zip(memory.high, memory.alive))


def test_gradients_live_from_what_is_sent_first_to_the_records_turn():
    x = parameter(1000)
    y = np.sin(x)
    tape = ag.tape(np.sum(np.exp(y) * np.cos(y)))
    memory = tape.memory()
    product, exp, cos = (named(tape, op) for op in ("multiply", "exp", "cos"))
    steps = {t: memory.n_forward + i for i, t in enumerate(memory.steps[memory.n_forward:])}
    (life,) = by_record(memory, exp, "gradient")
    assert (life.n_bytes, life.born, life.dies) == (8000, steps[product], steps[exp])
    assert same(life.needed_by, [exp])
    lives = by_record(memory, y, "gradient")  # one from each side, and the sum of the two
    assert sorted(life.born for life in lives) == [steps[cos], steps[exp], max(steps[cos], steps[exp]) + 1]
    (life,) = by_record(memory, x, "gradient")
    assert life.dies == len(memory.steps)  # it becomes x.grad


def test_views_own_no_bytes_and_keep_what_they_are_of():
    x = parameter(30, 40)
    tape = ag.tape(np.sum(np.exp(np.sin(x).T)))
    memory, sin, view = tape.memory(), named(tape, "sin"), named(tape, "transpose")
    (life,) = by_record(memory, view)
    assert life.n_bytes == 0 and life.shares is sin
    (life,) = by_record(memory, sin)
    assert life.n_bytes == 30 * 40 * 8 and same(life.needed_by[:1], [named(tape, "exp")])  # reads the view


def test_views_of_leaves_count_nothing():
    x = parameter(30, 40)
    tape = ag.tape(np.sum(x.T))
    (life,) = by_record(tape.memory(), named(tape, "transpose"))
    assert life.n_bytes == 0 and life.shares is x


def test_addition_hands_one_gradient_to_both():
    x, z = parameter(1000), parameter(1000)
    tape = ag.tape(np.sum(np.exp(np.sin(x) + np.cos(z))))
    memory = tape.memory()
    added, sin, cos = (named(tape, op) for op in ("add", "sin", "cos"))
    assert [by_record(memory, t, "gradient")[0].n_bytes for t in (added, sin, cos)] == [8000, 0, 0]
    assert same(by_record(memory, added, "gradient")[0].needed_by, [added, cos, sin])


def test_what_kernels_and_records_keep_is_saved():
    x, ids = parameter(50, 20), np.arange(30)
    tape = ag.tape(ag.gelu(x[ids]).sum())
    memory = tape.memory()
    (cdf,) = by_record(memory, named(tape, "gelu"), "saved")
    assert cdf.n_bytes == 30 * 20 * 8 and cdf.dies < len(memory.steps)
    (index,) = by_record(memory, named(tape, "getitem"), "saved")
    assert index.n_bytes == ids.nbytes and index.dies == len(memory.steps)  # the record's own copy


def test_constants_made_on_the_way_count():
    x = parameter(1000)
    tape = ag.tape(ag.leaky_relu(np.sin(x)).sum())
    memory = tape.memory()
    mask = next(t for t in tape if t.op is None and t is not x)
    (life,) = by_record(memory, mask)
    assert (life.n_bytes, life.dies) == (1000, len(memory.steps))
    assert memory.constants == 1000 and memory.parameters == memory.gradients == 8000


def test_tuples_are_counted_once():
    x = parameter(90)
    first, second, _ = ag.split(np.sin(x), 3)
    tape = ag.tape((first * second).sum())
    memory = tape.memory()
    assert [life.n_bytes for life in by_record(memory, named(tape, "split"))] == [0, 0, 0]
    assert sum(life.n_bytes for life in memory.lifetimes if life.kind == "value") == 90 * 8 + 30 * 8 + 8


# ---------------------------------------------------------------------- what it leaves alone, and what it stands


def state(tape):
    return [(t._array is None, id(t._array), id(t.saved), id(t._grad), t.version) for t in tape]


def test_it_leaves_the_tape_as_it_is():
    forward, leaves = gpt_program(1)
    loss = forward()
    tape = ag.tape(loss)
    before = state(tape)
    tape.memory()
    assert state(tape) == before
    loss.backward()
    before, gradients = state(tape), [leaf.grad.copy() for leaf in leaves]
    tape.memory()
    assert state(tape) == before
    assert all((leaf.grad == g).all() for leaf, g in zip(leaves, gradients))
    assert not tracemalloc.is_tracing()


def test_tracing_that_was_on_stays_on():
    tracemalloc.start()
    try:
        ag.tape(np.sin(parameter(10)).sum()).memory()
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("view", [lambda tape: tape.memory(), lambda tape: tape.player()], ids=["memory", "player"])
def test_a_tracing_of_the_users_keeps_its_peak(view):
    x = ag.tensor(np.ones((300, 300)), requires_grad=True)
    loss = ag.exp(x * x).sum()
    tracemalloc.start()
    try:
        np.ones(1 << 22)  # 32 MB, and gone
        peak = tracemalloc.get_traced_memory()[1]
        view(ag.tape(loss))
        assert tracemalloc.is_tracing() and tracemalloc.get_traced_memory()[1] >= peak > 1 << 25
        assert ag.tape(loss).memory().peak >= 3 * 8 * 300 ** 2  # arrays are counted all the same
    finally:
        tracemalloc.stop()


def test_it_is_the_same_after_a_step_of_an_optimizer():
    forward, leaves = gpt_program(1)
    loss = forward()
    before = ag.tape(loss).memory()
    loss.backward()
    for leaf in leaves:
        leaf.data = leaf.data - 0.1 * leaf.grad
    after = ag.tape(loss).memory()
    assert after.alive == before.alive and after.peak == pytest.approx(before.peak, rel=0.01)


def test_several_results_go_back_together():
    x = parameter(1000)
    y = np.sin(x)
    tape = ag.tape(np.exp(y), np.cos(y))
    memory = tape.memory()
    assert len(memory.steps) == 6 and memory.parameters == memory.gradients == 8000
    assert all(by_record(memory, t)[0].dies == 6 for t in tape.roots)  # results stay


def test_a_part_of_a_tape_counts_what_it_holds():
    x = parameter(1000)
    y = np.sin(x)
    z = np.exp(y).sum()
    memory = ag.tape(z, since=y.created).memory()
    assert memory.alive[0] == 8000 and memory.n_forward == 2
    z.backward()
    assert ag.tape(z, since=y.created).memory().alive == memory.alive and y._array is None


def test_nothing_but_leaves():
    memory = ag.tape(parameter(10)).memory()
    assert (memory.peak, memory.alive, memory.lifetimes) == (0, [], [])
    assert "no operations" in repr(memory) and memory._repr_html_()


@pytest.mark.parametrize("shape", [(), (0, 3)])
def test_numbers_and_empty_arrays(shape):
    x = ag.tensor(np.ones(shape), requires_grad=True)
    memory = ag.tape((np.exp(x) * x).sum()).memory()
    assert len(memory.alive) == 6 and memory.peak < 200
    assert repr(memory) and memory._repr_html_()


def test_numbers_live_as_long_as_arrays():
    tape = ag.tape(np.exp(np.sin(ag.tensor(1.0, requires_grad=True))))  # NumPy makes no arrays of these
    memory, (x, sin, exp) = tape.memory(), tape
    assert [(life.born, life.dies) for life in by_record(memory, sin)] == [(0, 3)]
    assert [life.dies for life in by_record(memory, sin, "gradient")] == [3]
    assert by_record(memory, exp)[0].dies == by_record(memory, x, "gradient")[0].dies == 4
    assert memory.alive[:2] == [8, 16]


def test_other_libraries_arrays_count_each_as_its_own():
    x = ag.tensor(Duck(np.ones(100)), requires_grad=True)
    memory = ag.tape(np.exp(x).sum()).memory()
    assert memory.alive[0] == 800 and repr(memory)


def test_an_error_in_a_rule_points_at_the_record():
    @ag.Op
    def broken(x):
        """y = x"""
        return x * 1.0

    @broken.gradient("x")
    def _(g, y, x):
        raise ValueError("no")
    with pytest.raises(ValueError, match="no") as error:
        ag.tape(broken(parameter(3)).sum()).memory()
    assert error.value.record.op is broken and error.value.record.source[0] == __file__


# ---------------------------------------------------------------------- shown


def test_the_table_folds_what_is_alike():
    memory = ag.tape(gpt_program(4)[0]()).memory()
    text = repr(memory)
    assert re.search(r"^Memory of 79 operations forward and 79 backward: peak of [\d.]+ MB at step \d+, backward", text)
    assert re.search(r"1\.6 MB +3 × 524\.3 kB +saved +\d+–\d+ +%45 +%45 f32\[4,64,512\] = gelu\(%44\)", text)
    assert len(text.splitlines()) < 25


def test_the_chart_marks_the_peak():
    memory = ag.tape(gpt_program(2)[0]()).memory()
    root = ElementTree.fromstring(memory.svg())
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"values", "saved for backward", "gradients", "forward", "backward"} <= set(texts)
    assert any(f"step {memory.peak_step}, " in (text or "") for text in texts)
    assert sum(element.tag.endswith("circle") for element in root.iter()) == 1
    assert picture_source(memory.svg()) in memory._repr_html_()


def test_the_chart_of_a_long_tape_stays_small():
    x = y = parameter(3)
    for _ in range(5000):
        y = np.sin(y)
    assert len(ag.tape(y.sum()).memory().svg()) < 200_000 and x.grad is None


def test_hostile_names_are_text():
    def formula(x):
        """y = x"""
        return x * 1.0
    formula.__name__ = "<script>alert(1)</script>"
    op = ag.Op(formula)
    op.gradient("x")(lambda g, y, x: g)
    memory = ag.tape(op(parameter(3, name="<script>"))).memory()
    assert "<script" not in memory._repr_html_() and "&lt;script&gt;" in memory._repr_html_()
    assert "<script>alert" in "".join(ElementTree.fromstring(memory.svg()).itertext())
