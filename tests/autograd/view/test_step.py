"""The stepper: forward and backward steps, undo, search, debugging."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import autograd as ag
import gpt

rng = np.random.default_rng(0)


def two_layers():
    x = ag.tensor(rng.normal(size=(5, 3)), name="x")
    w = ag.tensor(rng.normal(size=(3, 4)), requires_grad=True, name="w")
    v = ag.tensor(rng.normal(size=(4, 2)), requires_grad=True, name="v")
    with ag.scope("hidden"):
        h = np.tanh(x @ w)
    a, b = ag.split(h + h @ (v @ v.T), 2, axis=1)
    return (a * b).sum(), w, v


def tiny_gpt():
    model = gpt.GPT(gpt.GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=8))
    ids = rng.integers(0, 11, (2, 8))
    return model.loss(ids, ids), *model.named_arrays().values()


@pytest.mark.parametrize("make", [two_layers, tiny_gpt])
def test_the_end_has_backwards_gradients(make):
    loss, *leaves = make()
    walk = ag.tape(loss).stepper()
    walk.run()
    assert all(t.grad is None for t in leaves)  # a view changes nothing
    loss.backward()
    for t in leaves:
        assert np.array_equal(walk.gradient(t), t.grad)  # to the bit: the same walk
    again = ag.tape(loss).stepper()  # freed now
    again.run()
    for t in leaves:
        assert np.array_equal(again.gradient(t), t.grad)


def test_each_operation_is_passed_forward_then_back():
    loss, *_ = two_layers()
    stops = list(ag.tape(loss).stepper())
    operations = [t for t in ag.tape(loss) if t.op is not None]
    assert [s.record.created for s in stops] == [t.created for t in operations + operations[::-1]]
    assert [s.phase for s in stops] == ["forward"] * len(operations) + ["backward"] * len(operations)
    assert [s.number for s in stops] == list(range(2 * len(operations)))


def test_a_stop_shows_inputs_output_gradient_and_sums():
    x = ag.tensor([2.0, 3.0], requires_grad=True, name="x")
    y = x * x
    walk = ag.tape(y).stepper()
    first = walk.step()
    assert [v.tolist() for v in first.inputs] == [[2, 3], [2, 3]] and first.output.tolist() == [4, 9]
    assert first.gradient is None and walk.gradient(x) is None
    second = walk.step()
    assert second.gradient.tolist() == [1, 1] and [(a is x, d.tolist()) for a, d in second.sent] == [(True, [2, 3])] * 2
    assert walk.gradient(x).tolist() == [4, 6]
    assert repr(second).splitlines()[1:] == [
        "  incoming gradient: [1., 1.]", "  sends to %0 'x': [2., 3.]   g ⊙ y = [1 1] ⊙ [2 3]",
        "  sends to %0 'x': [2., 3.]; its sum is now [4., 6.]   g ⊙ x = [1 1] ⊙ [2 3]"]
    assert repr(first).splitlines()[1:] == ["  %0 'x': [2., 3.]", "  %0 'x': [2., 3.]", "  = [4., 9.]"]
    assert walk.step() is None and walk.here is second


def test_a_root_inside_another_roots_tape():
    x = ag.tensor(1.0, requires_grad=True)
    y = x * 2
    z = y * 3
    walk = ag.tape(y, z).stepper()
    walk.run()
    assert walk.gradient(y) == 4 and walk.gradient(x) == 8


def test_back_undoes_gradients():
    loss, *leaves = two_layers()
    tape = ag.tape(loss)
    walk = tape.stepper()
    history = []
    while walk.step():
        history.append({t: walk.gradient(t) for t in tape})
    for expected in history[-2::-1]:
        walk.back()
        for t in tape:
            now = walk.gradient(t)
            assert (now is None) == (expected[t] is None)
            assert now is None or np.array_equal(as_arrays(now), as_arrays(expected[t]))
    assert walk.back() is None and walk.position == 0 and all(walk.gradient(t) is None for t in tape)
    assert walk.back() is None
    walk.run()
    for t in leaves:
        assert np.array_equal(walk.gradient(t), history[-1][t])


def as_arrays(g):
    return np.concatenate([np.ravel(v) for v in g.values()]) if isinstance(g, dict) else np.asarray(g)


def test_sums_of_a_tuple_are_those_of_the_arrays_that_got_some():
    x = ag.tensor(np.arange(40.0).reshape(20, 2), requires_grad=True)
    parts = np.split(x, 20)
    cut = parts[0].inputs[0]
    walk = ag.tape(sum(parts, parts[3] * 2).sum()).stepper()
    walk.run()
    assert sorted(walk.gradient(cut)) == list(range(20))
    assert all(g.tolist() == [[3, 3] if i == 3 else [1, 1]] for i, g in walk.gradient(cut).items())
    stops = [stop for stop in walk._seen if stop.phase == "backward" and stop.record.op is parts[0].op]
    assert [list(after) for stop in stops for _, _, after in stop.sums] == [[i] for i in range(19, -1, -1)]
    assert all(before is None for stop in stops for _, before, _ in stop.sums)
    kept = walk.gradient(cut)
    for n in range(20):
        walk.back()
        assert sorted(walk.gradient(cut)) == list(range(n, 20))
    walk.back()
    assert walk.gradient(cut) is None and len(kept) == 20
    walk.run()
    assert repr(walk.gradient(cut)) == repr(kept)


def test_of_many_inputs_and_arrays_those_at_the_ends_are_shown():
    x = ag.tensor(np.arange(80.0).reshape(40, 2), requires_grad=True)
    stops = list(ag.tape(np.concatenate(np.split(x, 40)).sum()).stepper())
    for stop in stops:
        assert len(repr(stop).splitlines()) < 24 and len(stop._repr_html_()) < 20_000
    joined = next(stop for stop in stops if stop.record.op.name == "concatenate")
    lines = repr(joined).splitlines()
    assert lines[8:11] == ["  %9: [[14., 15.]]", "  … 24 more inputs …", "  %34: [[64., 65.]]"]
    assert "item 7: [[14., 15.]]; … 24 more …; item 32: [[64., 65.]]" in repr(stops[0])


def test_until():
    loss, w, v = two_layers()
    walk = ag.tape(loss).stepper()
    assert walk.until(op="tanh").phase == "forward"
    assert walk.until(scope="hidden").phase == "backward"  # the forward part of it has passed
    assert walk.here.record.op.name == "tanh"
    walk.reset()
    assert walk.until(scope="hid") is None and walk.step() is None  # a scope, not a prefix; now at the end
    walk.reset()
    assert walk.until(name="v").record.op.name == "transpose"
    walk.reset()
    tanh, = walk.tape.find(op="tanh", scope="h*")
    assert walk.until(op=ag.REGISTRY["tanh"], scope="h*").record is tanh  # the same search
    walk.reset()
    stop = walk.until(where=lambda grad: grad.shape == (5, 4))
    assert stop.phase == "backward" and stop.gradient.shape == (5, 4)
    walk.reset()
    assert walk.until(op="matmul", name="w", where=lambda grad: True).sent[0][0] is w


def test_a_mistyped_operation_is_told():
    loss, *_ = two_layers()
    with pytest.raises(ValueError, match="no record of this tape is made by 'sofmax': there are _item, add, matmul"):
        ag.tape(loss).stepper().until(op="sofmax")


def test_values_that_were_freed_are_free_again_afterwards():
    loss, *_ = two_layers()
    loss.backward()
    tape = ag.tape(loss)
    freed = [t._array is None for t in tape]
    assert sum(freed) > 5
    walk = tape.stepper()
    walk.until(op="tanh")
    assert [t._array is None for t in tape] != freed
    walk.reset()
    assert [t._array is None for t in tape] == freed
    walk.run()
    assert [t._array is None for t in tape] == freed
    walk = tape.stepper()
    walk.step()
    del walk
    assert [t._array is None for t in tape] == freed


def test_a_changed_leaf_is_named():
    loss, w, v = two_layers()
    loss.backward()
    w.data = w.data * 2
    with pytest.raises(RuntimeError, match="'w' f64.3,4. was changed after"):
        ag.tape(loss).stepper().run()


def test_a_tape_without_gradient_goes_forward_only():
    walk = ag.tape(ag.tensor([1.0, 2.0])).stepper()
    assert walk.step() is None and "0 forward" in repr(walk)


def test_a_rule_that_fails_can_be_walked_again():
    @ag.op
    def fragile(x):
        return x * 1.0

    broken = [True]

    @fragile.gradient("x")
    def _(g, y, x):
        if broken:
            raise ZeroDivisionError("broken")
        return g

    try:
        x = ag.tensor([1.0], requires_grad=True)
        walk = ag.tape(fragile(x).sum()).stepper()
        with pytest.raises(ZeroDivisionError) as caught:
            walk.run()
        assert caught.value.record.op is fragile
        broken.clear()
        walk.reset()
        walk.run()
        assert walk.gradient(x).tolist() == [1]
    finally:
        del ag.REGISTRY["fragile"]


def test_breakpoint_in_a_rule_shows_ordinary_frames(tmp_path):
    script = tmp_path / "debugged.py"
    script.write_text(textwrap.dedent("""
        import autograd as ag
        @ag.op
        def double(x):
            return 2 * x
        @double.gradient("x")
        def rule_of_double(g, y, x):
            breakpoint()
            return 2 * g
        def main():
            walk = ag.tape(double(ag.tensor(3.0, requires_grad=True))).stepper()
            walk.run()
        main()
    """))
    run = subprocess.run([sys.executable, script], input="where\np g.tolist(), x.tolist()\ncontinue\n", text=True,
                         capture_output=True, env={"PYTHONPATH": ":".join(sys.path)}, timeout=60)
    assert run.returncode == 0, run.stderr
    assert "rule_of_double()" in run.stdout and "main()" in run.stdout and "(1.0, 3.0)" in run.stdout
