"""Recorded programs: the same bits as the function, on other numbers, and never a stale answer."""

import copy
import pickle
import sys
import threading

import numpy as np
import pytest

import autograd as ag
import gpt
from autograd.program.trace import Trace
from tests.autograd.common import leaf
from tests.replaying import poisoned

rng = np.random.default_rng(0)


def small_gpt(**changes):
    config = gpt.GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=8, **changes)
    return gpt.GPT(config, seed=3)


def batches(n, rows=3):
    return [tuple(rng.integers(0, 11, (2, rows, 8))) for _ in range(n)]


def gradients(model):
    return {name: np.array(t.grad) for name, t in model.named_arrays().items()}


# ---------------------------------------------------------------------- the same bits


@pytest.mark.parametrize("poison", [False, True])
@pytest.mark.parametrize("changes", [{}, {"bias": True}, {"dropout": 0.2}, {"activation": "relu"},
                                     {"positions": "sinusoidal"}])
def test_a_gpt_gives_the_same_bits(changes, poison):
    eager, recorded = small_gpt(**changes), small_gpt(**changes)
    random, again = (np.random.default_rng(5) for _ in range(2))
    first = batches(1)[0]
    program = ag.record(recorded.loss, *first, again)
    if poison:
        poisoned(program)
    for ids, targets in [first, *batches(3)]:
        for t in eager.named_arrays().values():
            t.grad = None
        expected = eager.loss(ids, targets, random)
        expected.backward()
        loss = program(ids, targets, again)
        program.backward()
        assert loss == expected.data
        for name, g in gradients(recorded).items():
            if eager.named_arrays()[name].grad is not None:
                assert np.array_equal(g, eager.named_arrays()[name].grad), name
        for model in (eager, recorded):  # a step downhill, in place
            for t in model.named_arrays().values():
                if t.requires_grad:
                    t.data = t.data - 0.1 * t.grad


def test_gradients_are_set_and_not_added():
    w = leaf([2.0, 3.0])
    program = ag.record(lambda x: (w * x).sum(), np.ones(2))
    for x in ([1.0, 2.0], [5.0, 7.0]):
        program(np.array(x))
        program.backward()
        assert w.grad.tolist() == x
    program(np.array([1.0, 1.0]))
    program.backward(np.array(10.0))
    assert w.grad.tolist() == [10, 10]


def test_results_have_the_structure_of_the_functions_and_are_the_callers_own():
    program = ag.record(lambda x, k: {"twice": x * 2, "rest": [x + k, -x]}, np.ones(2), 3)
    first = program(np.array([1.0, 2.0]), 3)
    second = program(np.array([5.0, 6.0]), 3)
    assert first["twice"].tolist() == [2, 4] and second["twice"].tolist() == [10, 12]
    assert first["rest"][0].tolist() == [4, 5] and second["rest"][1].tolist() == [-5, -6]
    with pytest.raises(RuntimeError, match="no backward pass"):
        program.backward()


def test_integers_comparisons_and_constants_are_computed_again():
    w = leaf(np.arange(5.0))

    @ag.no_grad
    def places(i):
        return (i + 1) % 5

    program = ag.record(lambda i, x: (w[places(i)] * np.where(x > 0, x, -2.0 * x).detach()).sum(),
                        np.array([0, 1]), np.array([1.0, 1.0]))
    assert program(np.array([3, 4]), np.array([2.0, -3.0])) == 4 * 2 + 0 * 6
    program.backward()
    assert w.grad.tolist() == [6, 0, 0, 0, 2]


def test_ops_with_several_results_and_unused_ones():
    x = leaf(np.arange(6.0))

    def f(s):
        a, b, c = ag.split(x * s, 3)
        return (a * c).sum()

    program = poisoned(ag.record(f, np.array(1.0)))
    assert program(np.array(2.0)) == 4 * (0 * 4 + 1 * 5)
    program.backward()
    assert x.grad.tolist() == [16, 20, 0, 0, 0, 4]


def test_checkpoint_in_a_program():
    w = leaf(rng.normal(size=(4, 4)))

    @ag.checkpoint
    def inner(x):
        return np.tanh(np.tanh(x @ w) @ w)

    x = rng.normal(size=(3, 4))
    program = poisoned(ag.record(lambda x: (inner(x) ** 2).sum(), x))
    for x in rng.normal(size=(2, 3, 4)):
        w.grad = None
        y = (inner(x) ** 2).sum()
        y.backward()
        expected = w.grad.copy()
        assert program(x) == y.data
        program.backward()
        assert np.array_equal(w.grad, expected)


def test_what_is_drawn_is_drawn_anew_and_once_a_call():
    random, w = np.random.default_rng(1), leaf(np.ones(1000))
    program = ag.record(lambda: ag.dropout(w, 0.5, random).sum())
    drawn = [float(program()) for _ in range(3)]
    expected = np.random.default_rng(1)
    assert drawn == [float(ag.dropout(w, 0.5, expected).sum()) for _ in range(3)] and len(set(drawn)) == 3


# ---------------------------------------------------------------------- recorded anew


def test_other_shapes_dtypes_and_settings_record_anew():
    calls = []

    def f(x, k):
        calls.append(x.shape)
        return x * k

    program = ag.record(f, np.ones(2), 3)
    assert program(np.ones(2), 3).tolist() == [3, 3] and len(calls) == 1
    assert program(np.ones(3), 3).tolist() == [3, 3, 3] and len(calls) == 2
    assert program(np.ones(2), 4).tolist() == [4, 4] and len(calls) == 3
    assert program(np.ones(2, np.float32), 4).dtype == np.float32 and len(calls) == 4
    assert program(np.ones(2), 3.0).tolist() == [3, 3] and len(calls) == 5  # 3 == 3.0, but not to NumPy
    assert program(np.ones(2), True).tolist() == [1, 1] and len(calls) == 6
    assert program(np.ones(2), 3).tolist() == [3, 3] and len(calls) == 6  # as in the beginning


def test_a_parameter_that_moved_records_anew():
    w = leaf([1.0, 2.0])
    program = ag.record(lambda x: (w * x).sum(), np.ones(2))
    buffer, grad = np.zeros(2), np.zeros(2)
    w.use_buffers(buffer, grad)
    buffer[:] = 5, 6
    w.bump_version()
    assert program(np.array([1.0, 10.0])) == 65
    program.backward()
    assert grad.tolist() == [1, 10]
    w.grad = None
    program(np.array([2.0, 2.0]))
    program.backward()
    assert w.grad.tolist() == [2, 2]


@pytest.mark.parametrize("f, example, call, expected", [
    (lambda a, b: (a if a is not None else b * 10) * 1.0, (np.ones(2), None), (None, np.ones(2)), [10, 10]),
    (lambda d: d["a"] - d["b"], ({"a": np.array(1.0), "b": np.array(2.0)},),
     ({"b": np.array(2.0), "a": np.array(1.0)},), -1),
    (lambda xs, ys: sum(xs) * 10 + sum(ys), ([np.array(1.0), np.array(2.0)], [np.array(3.0)]),
     ([np.array(1.0)], [np.array(2.0), np.array(3.0)]), 15),
    (lambda x, k: np.arctan2(x, k), (np.array(0.0), 0.0), (np.array(0.0), -0.0), np.pi)],
    ids=["None", "order of a dict", "nesting", "-0.0"])
def test_another_structure_records_anew(f, example, call, expected):
    program = ag.record(f, *example)
    program(*example)
    assert np.array_equal(program(*call), expected)


def test_an_object_is_known_as_long_as_it_is_in_a_key():
    class Factor:
        def __init__(self, value):
            self.value = value

    settings = {"factor": Factor(1)}
    program = ag.record(lambda x, settings: x * settings["factor"].value, np.ones(()), settings)
    for value in range(2, 12):
        settings["factor"] = None
        settings["factor"] = Factor(value)  # which may get the identity of the one before
        assert program(np.ones(()), settings) == value


def test_the_captures_used_last_are_kept():
    program = ag.record(lambda x: x * 2, np.ones(1))
    for n in range(2, 40):
        program(np.ones(n))
        program(np.ones(1))
    assert len(program._captures) == 16


def test_another_memory_order_gives_its_own_bits():
    w, x = leaf(rng.normal(size=(300, 301))), rng.normal(size=(300, 301))
    program = ag.record(lambda x: (w * x).sum(), x)
    for a in (x, np.asfortranarray(x)):
        assert program(a) == (w * a).sum().data


def test_a_parameter_that_is_frozen_or_thawed_records_anew():
    w, v = leaf([2.0, 3.0]), ag.tensor([1.0, 1.0])
    program = ag.record(lambda x: (w * v * x).sum(), np.ones(2))
    v.requires_grad = True
    program(np.ones(2))
    program.backward()
    assert v.grad.tolist() == [2, 3]
    with ag.no_grad():
        program(np.ones(2))
        assert not program.requires_grad
    program(np.ones(2))
    assert program.requires_grad


# ---------------------------------------------------------------------- gradients that are somebody's own


@pytest.mark.parametrize("change", [lambda w: setattr(w, "grad", None), lambda w: setattr(w, "grad", np.zeros(2))])
def test_gradients_are_set_where_they_are_looked_for(change):
    w = leaf([2.0, 3.0])
    program = ag.record(lambda x: (w * x).sum(), np.ones(2))
    assert w.grad is None  # capturing gives none
    for x in ([1.0, 2.0], [3.0, 4.0]):
        program(np.array(x))
        change(w)  # loss, zero_grad, backward
        program.backward()
        assert w.grad.tolist() == x
    kept = w.grad
    w.grad = None
    program(np.ones(2))
    program.backward()
    assert kept.tolist() == [3, 4] and w.grad.tolist() == [1, 1]


def test_an_array_that_somebody_kept_stays_as_it_is():
    w = leaf([1.0, 2.0])
    (w * 1.0).sum().backward()
    program = ag.record(lambda x: (w * x).sum(), np.ones(2))  # with a .grad there
    program(np.full(2, 5.0))
    program.backward()
    kept, w.grad = w.grad, None
    program(np.full(2, 9.0))
    program.backward()
    assert kept.tolist() == [5, 5] and w.grad.tolist() == [9, 9]


def test_a_parameter_that_is_the_result():
    w = leaf(3.0)
    program = ag.record(lambda: w)
    assert program() == 3
    program.backward()
    assert w.grad == 1


# ---------------------------------------------------------------------- refusals


def test_a_changed_parameter_stops_backward():
    w = leaf([2.0, 3.0], "w")
    program = ag.record(lambda x: (np.exp(w) * x * w).sum(), np.ones(2))
    program(np.ones(2))
    w.data = [0.0, 0.0]
    with pytest.raises(RuntimeError, match="leaf 'w' .* was changed after"):
        program.backward()


@pytest.mark.parametrize("function", [lambda x: x[x > 0].sum(), lambda x: np.compress(x > 0, x).sum(),
                                      lambda x: x[np.flatnonzero(x > 0)] * 1.0])
def test_shapes_that_depend_on_numbers_are_refused(function):
    program = ag.record(function, np.array([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="shapes cannot depend on numbers"):
        program(np.array([-1.0, 2.0, -3.0]))


def test_programs_do_not_nest():
    w = leaf(2.0)
    inner = ag.record(lambda x: x * w, np.array(1.0))
    with pytest.raises(TypeError, match="cannot be called while a program is being recorded"):
        ag.record(lambda x: inner(x) + w, np.array(1.0))
    with pytest.raises(TypeError, match="cannot be recorded while a program is being recorded"):
        ag.record(lambda x: ag.record(lambda y: y, np.array(1.0))(x), np.array(1.0))
    assert inner(np.array(5.0)) == 10  # and the capture is over


def test_a_call_that_fails_half_way_leaves_no_way_back():
    w = leaf(np.ones((3, 2)))
    program = ag.record(lambda i: ag.embedding(i, w).sum(), np.array([0, 1]))
    program(np.array([0, 1]))
    with pytest.raises(IndexError, match="there is no row 7"):
        program(np.array([0, 7]))
    with pytest.raises(RuntimeError):
        program.backward()
    assert program(np.array([2, 2])) == 4
    program.backward()
    assert w.grad.tolist() == [[0, 0], [0, 0], [2, 2]]


@pytest.mark.parametrize("change", [lambda w: setattr(w, "data", 5.0), lambda w: w.use_buffers(np.zeros(())),
                                    lambda w: setattr(w, "grad", np.zeros(())), copy.copy, copy.deepcopy])
def test_what_would_be_done_once_only_is_refused(change):
    w = leaf(2.0)

    def f(x):
        change(w)
        return w * x

    with pytest.raises(TypeError, match="while a program is being recorded"):
        ag.record(f, np.array(1.0))


def test_a_result_from_outside_is_named():
    w = leaf([1.0, 2.0])
    h = np.tanh(w)
    with pytest.raises(TypeError, match="tanh f64.2. was computed before the program is recorded"):
        ag.record(lambda x: (h * x).sum(), np.ones(2))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_program_is_not_copied(copied):
    with pytest.raises(TypeError, match="record the function again"):
        copied(ag.record(lambda x: x * 1.0, np.ones(2)))


@pytest.mark.parametrize("look", [lambda t: t.data, lambda t: t.item(), float, bool, int, lambda t: t.tolist(),
                                  np.asarray, lambda t: f"{t:.2f}", lambda t: ag.tensor(t), lambda t: t.backward()])
@pytest.mark.parametrize("of", [lambda x, w: w, lambda x, w: x, lambda x, w: w * x, lambda x, w: x > 0])
def test_a_look_at_a_number_raises(look, of):
    w = leaf(2.0)

    def f(x):
        look(of(x, w))
        return w * x

    with pytest.raises((TypeError, RuntimeError), match="while a program is being recorded|requires a gradient"):
        ag.record(f, np.array(1.0))
    assert float(w) == 2 and ag.tensor(w).data == 2  # outside it is allowed again


def test_what_is_no_tensor_cannot_be_recorded():
    with pytest.raises(TypeError, match="returns Tensors, not 3"):
        ag.record(lambda x: 3, np.ones(2))


def test_backward_needs_a_call_each_time():
    w = leaf([1.0, 2.0])
    program = ag.record(lambda x: w * x, np.ones(2))
    with pytest.raises(RuntimeError, match="after a call"):
        program.backward()
    with pytest.raises(RuntimeError, match="tape is that of a call"):
        program.tape  # noqa: B018
    program(np.ones(2))
    for wrong in (None, np.ones(3), 1.0):
        with pytest.raises(ValueError, match=r"shape \(2,\): pass a gradient"):
            program.backward(wrong)
    program.backward(np.array([1.0, 5.0]))
    assert w.grad.tolist() == [1, 5]
    with pytest.raises(RuntimeError, match="once after each call"):
        program.backward(np.ones(2))


def test_a_kernel_that_computes_outside_of_run_is_found(new_op):
    @new_op
    def doubled(x):
        return 2 * x

    @doubled.gradient("x")
    def _(g, y, x):
        return 2 * g

    class Careless:
        @staticmethod
        def forward(executor, x):
            y, twice = executor.empty(x, x.shape), x + x  # which nobody will do again
            executor.run(np.copyto, y, twice)
            return y, None

        @staticmethod
        def backward(executor, needed, g, y, saved, x):
            return [g]

    doubled.kernels[np.ndarray] = Careless
    w = leaf([1.0, 2.0])
    with pytest.raises(RuntimeError, match="outside of executor.run"):
        ag.record(lambda: doubled(w * 1.0).sum())


# ---------------------------------------------------------------------- the tape, and memory


def test_the_tape_is_that_of_the_last_call():
    w = leaf([1.0, 2.0], "w")
    program = ag.record(lambda x: np.tanh(w * x).sum(), np.ones(2))
    for x in ([1.0, 1.0], [0.5, -0.5]):
        loss = program(np.array(x))
        program.backward()
        tape = program.tape
        assert [t.op.name for t in tape if t.op] == ["multiply", "tanh", "sum"]
        assert tape[-1].data == loss  # and is not that of the next call
        walk = tape.stepper()
        walk.run()
        assert np.array_equal(walk.gradient(w), w.grad)
    program(np.ones(2))
    w.data = [5.0, 5.0]
    with pytest.raises(RuntimeError, match="'w' .* was changed"):
        program.tape[2].data  # noqa: B018


def test_what_is_needed_later_is_not_written_over():
    program = ag.record(small_gpt().loss, *batches(1)[0])
    for capture in program._captures.values():
        spans = [(m.__array_interface__["data"][0], m.nbytes, first, last)
                 for m, first, last in capture.plan.lifetimes]
        for i, (at, n, first, last) in enumerate(spans):
            for other, m, begins, ends in spans[:i]:
                assert at + n <= other or other + m <= at or last < begins or ends < first
        assert sum(n for _, n, *_ in spans) > 2 * capture.plan.n_bytes  # memory is used again


@pytest.mark.slow
def test_a_call_leaves_no_memory_behind():
    model, (ids, targets) = small_gpt(), batches(1)[0]
    program = ag.record(model.loss, ids, targets)
    for n in (2500, 500):  # first Python's own lists of free objects fill up
        before = sys.getallocatedblocks()
        for _ in range(n):
            program(ids, targets)
            program.backward()
    assert sys.getallocatedblocks() - before < 100


def test_a_sum_of_gradients_lies_where_its_first_term_lay():
    w = leaf(rng.normal(size=1000))

    def f():
        y = w * 1.5
        for _ in range(6):
            y = y + np.tanh(y)
        return y.sum()

    program = ag.record(f)
    (capture,) = program._captures.values()
    added = [step for step in capture.plan.steps[capture.n_forward:] if step[0] is np.add]
    assert [np.shares_memory(a[0], a[2]) for _, a in added] == [False, *[True] * 5]  # the first is what sum spreads


def test_an_array_that_no_step_has_made_cannot_be_resolved():
    trace = Trace()
    with pytest.raises(RuntimeError, match="float64.2, 3."):
        trace.resolve(np.ones((2, 3)))


@pytest.mark.parametrize("recomputed", [["gelu"], ["gelu", "layer_norm"], ["linear", "attention", "reshape", "add"]])
def test_recomputed_values_take_less_memory_with_the_same_bits(recomputed, monkeypatch):
    ids, targets = batches(1, rows=40)[0]
    results, sizes = [], []
    for names in ([], recomputed):
        for name in names:
            monkeypatch.setattr(ag.REGISTRY[name], "recompute", True)
        model = small_gpt()
        program = poisoned(ag.record(model.loss, ids, targets))
        results.append((program(ids, targets), program.backward(), *gradients(model).values()))
        sizes.append(program.n_bytes)
    assert all(np.array_equal(a, b) for a, b in zip(*results) if a is not None)
    assert sizes[1] < sizes[0]


def test_a_program_that_runs_in_another_thread_is_refused():
    within, go_on = threading.Event(), threading.Event()

    def wait(x):
        if recorded:
            within.set()
            assert go_on.wait(60)
        return x + 1

    recorded = []
    waiting = ag.op(wait)
    try:
        program = ag.record(waiting, np.ones(2))
        recorded.append(True)
        thread = threading.Thread(target=program, args=(np.ones(2),))
        thread.start()
        assert within.wait(60)
        with pytest.raises(RuntimeError, match="runs in another thread"):
            program(np.ones(2))
        go_on.set()
        thread.join()
        np.testing.assert_array_equal(program(np.ones(2)), 2)
    finally:
        go_on.set()
        del ag.REGISTRY["wait"]


def test_replay_is_a_call_in_the_programs_own_memory():
    w, scale = ag.tensor([1.0, 2.0]), ag.tensor(3.0)
    program = ag.record(lambda x: (x * w).sum() * scale, np.ones(2))
    with pytest.raises(RuntimeError, match="has not been called"):
        program.replay(np.ones(2))
    assert program(np.ones(2)) == 9
    first = program.replay(np.array([1.0, 0.0]))
    assert first == 3
    scale.data = 10.0
    assert program.replay(np.array([0.0, 1])) == 20 and first == 20  # the same array
