"""The tape, the one walk, operations with several outputs, and indexing."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import autograd as ag
from autograd.core import errors
from tests.autograd.common import leaf

# ---------------------------------------------------------------------- the tape


def test_tape_is_oldest_first_and_topological():
    x, y = leaf(2.0, name="x"), leaf(3.0, name="y")
    a = x * y
    b = np.exp(a)
    unused = x * 5  # noqa: F841
    loss = b + a * x
    records = list(ag.tape(loss))
    assert [t.op.name if t.op else t.name for t in records] == ["x", "y", "multiply", "exp", "multiply", "add"]
    place = {t: i for i, t in enumerate(records)}
    assert all(place[i] < place[t] for t in records for i in t.inputs if isinstance(i, ag.Tensor))
    assert [t.created for t in records] == sorted(t.created for t in records)


def test_tape_is_a_sequence():
    x = leaf(2.0)
    tape = ag.tape(x * x + 1)
    assert len(tape) == 3 and tape[0] is x and tape[-1].op is ag.add and len(tape[1:]) == 2 and x in tape
    assert "3 records" in repr(tape)


def test_a_tape_finds_records_by_identity():
    x = leaf([1.0, 2.0])
    h = x * 2
    tape, other = ag.tape(h.sum()), leaf([1.0, 2.0])
    assert x in tape and h in tape and other not in tape
    one = leaf(1.0)
    assert leaf(1.0) not in ag.tape(one * 1.0)


def test_a_record_tells_how_it_was_made():
    x = leaf([[1.0, 2.0]])
    y = x.sum(axis=1)
    assert y.op is ag.REGISTRY["sum"] and y.inputs == (x,) and y.attrs["axis"] == 1 and y.requires_grad
    assert x.op is None and x.inputs == ()


def test_creation_order_survives_recomputation():
    x = leaf(2.0)
    y = ag.checkpoint(lambda x: np.exp(x * x))(x)
    z = y * 2
    before = [t.created for t in ag.tape(z)]
    z.backward()
    z.backward()
    assert [t.created for t in ag.tape(z)] == before == sorted(before)


def test_a_long_chain_forward_backward_and_death():
    x = leaf(np.zeros(2))
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, [1, 1])
    assert len(ag.tape(y)) == 100_001
    np.testing.assert_array_equal(y.data, [100_000] * 2)  # recomputed along the whole chain
    del y


def test_a_wide_value_is_gathered_in_order():
    x = leaf(1.0)
    total = sum((x * float(i) for i in range(500)), start=ag.tensor(0.0))
    total.backward()
    assert x.grad == sum(range(500))


def step(w, x):
    h = np.maximum(x @ w, 0.0)
    loss = ag.cross_entropy(h, np.zeros(4, int)) + sum(np.split(h, 2), start=0.0).sum() * 0.01
    loss.backward()
    w.data = w.data - 0.01 * w.grad
    w.grad = None
    return loss


@pytest.mark.slow
def test_memory_is_flat_without_the_collector():
    w, x = leaf(np.ones((3, 4))), np.ones((4, 3))
    gc.collect()
    gc.disable()
    try:
        tracemalloc.start()
        for _ in range(2000):  # Python's own lists of free tuples and the like fill up, with objects that are traced
            step(w, x)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(1000):
            step(w, x)
        growth = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        gc.enable()
    assert growth < 4096, growth


def test_no_reference_cycles():
    w, x = leaf(np.ones((3, 4))), np.ones((4, 3))
    gc.collect()
    gc.disable()
    try:
        loss = step(w, x)
        w.grad = None
        (w * w).sum().backward(create_graph=True)
        alive = [weakref.ref(t) for t in [*ag.tape(w.grad), loss] if t is not w]
        w.grad = None
        del loss
        assert all(ref() is None for ref in alive)
    finally:
        gc.enable()


def test_records_hold_no_frames():
    class Big:
        pass

    def make():
        big = Big()
        return weakref.ref(big), leaf(1.0) * 2

    gone, y = make()
    assert gone() is None and y.item() == 2


# ---------------------------------------------------------------------- the one walk


def test_reverse_yields_records_with_gradients_and_what_they_send():
    x = leaf([1.0, 2.0], name="x")
    y = x * x
    loss = y.sum()
    walk = list(ag.reverse([loss], [np.ones(())], keep=True))
    assert [t for t, _, _ in walk] == [loss, y, x]
    np.testing.assert_array_equal(walk[2][1], [2, 4])
    assert [a for a, _ in walk[1][2]] == [x, x] and walk[2][2] == []


def test_reverse_to_some_tensors_goes_nowhere_else():
    x, y = leaf(2.0), leaf(3.0)
    a, b = x * x, y * y
    walk = [t for t, _, _ in ag.reverse([a + b], [np.ones(())], to=[x])]
    assert x in walk and a in walk and y not in walk and b not in walk


def test_gradients_of_inputs_that_need_none_are_not_computed(new_op):
    @new_op
    def product(x, y):
        return x * y

    @product.gradient("x")
    def _(g, z, x, y):
        return g * y

    @product.gradient("y")
    def _(g, z, x, y):
        raise AssertionError("nobody asked")

    x = leaf(2.0)
    product(x, 3.0).backward()
    product(x, ag.tensor(3.0)).backward()
    assert x.grad == 6


@pytest.mark.parametrize("result, message", [
    (lambda g: g[:1], r"shape \(1,\).*shape \(3,\)"), (lambda g: g.reshape(1, 3, 1), r"shape \(1, 3, 1\)"),
    (lambda g: 2.0, ""), (lambda g: None, "")])
def test_a_wrong_result_of_a_rule_is_reported(new_op, result, message):
    @new_op
    def doubled(x):
        return 2 * x

    @doubled.gradient("x")
    def _(g, y, x):
        return result(g)

    with pytest.raises((ValueError, TypeError), match=f"(?s)(?=.*doubled)(?=.*{message})"):
        doubled(leaf(np.ones(3))).sum().backward()


def test_a_shared_rule_that_gives_too_few_gradients_is_reported(new_op):
    @new_op
    def product(x, y):
        return x * y

    @product.gradient("x", "y")
    def _(g, z, x, y):
        return (g * y,)

    with pytest.raises((ValueError, TypeError, IndexError), match="product"):
        product(leaf(np.ones(3)), leaf(np.ones(3))).sum().backward()


# ---------------------------------------------------------------------- several outputs


def test_only_some_outputs_used():
    x = leaf(np.arange(6.0))
    a, b, c = np.split(x, 3)
    (b * b).sum().backward()
    np.testing.assert_array_equal(x.grad, [0, 0, 4, 6, 0, 0])
    x.grad = None
    (a * c).sum().backward()
    np.testing.assert_array_equal(x.grad, [4, 5, 0, 0, 0, 1])


@pytest.mark.parametrize("used", [[0], [1], [0, 2], [0, 1, 2], [1, 1]])
def test_outputs_at_two_orders(used):
    def f(x):
        parts = np.split(np.exp(x), 3)
        return sum(((parts[i] ** 2) * (n + 1) for n, i in enumerate(used)), start=0.0).sum()

    ag.check_grads(f, np.linspace(-1, 1, 6), order=2)


def test_an_op_of_two_results_whose_rule_uses_them(new_op):
    """Each result reaches the record by two ways then, and their gradients add up."""
    @new_op
    def sincos(x):
        return np.sin(x), np.cos(x)

    @sincos.gradient("x")
    def _(g, y, x):
        return g[0] * y[1] - g[1] * y[0]

    x = np.array([0.3, 1.1])
    ag.check_op(sincos, [(x,)], order=3)
    ag.check_grads(lambda x: (lambda s, c: (s * s * c).sum())(*sincos(x)), x, order=3)
    ag.check_grads(lambda x: (sincos(x)[1] ** 2).sum(), x, order=3)


def test_a_tuple_is_one_record():
    x = leaf(np.arange(4.0))
    a, b = np.split(x, 2)
    tape = ag.tape((a * b).sum())
    assert sum(t.op is ag.split for t in tape) == 1
    assert a.inputs[0] is b.inputs[0] and a.inputs[0].op is ag.split


def test_iteration_is_one_split_and_no_scatter():
    x = leaf(np.arange(6.0).reshape(3, 2))
    a, b, c = x
    assert a.shape == (2,)
    loss = (a * b * c).sum()
    ops = [t.op for t in ag.tape(loss)]
    assert ops.count(ag.split) == 1 and ag.getitem not in ops
    loss.backward()
    np.testing.assert_array_equal(x.grad, [[8, 15], [0, 5], [0, 3]])


# ---------------------------------------------------------------------- indexing


def slices(n):
    bound = st.one_of(st.none(), st.integers(-n - 2, n + 2))
    return st.builds(slice, bound, bound, st.sampled_from([None, 1, 2, -1, -2]))


@st.composite
def arrays_and_indices(draw):
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    kind = draw(st.sampled_from(["basic", "integer", "mask", "mixed", "lists"]))
    if kind == "basic":
        index = draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))
    elif kind == "integer" and shape and 0 not in shape:
        index = draw(hnp.integer_array_indices(shape,
                                               result_shape=hnp.array_shapes(max_dims=2, min_side=0, max_side=3)))
    elif kind == "mask":
        index = draw(hnp.arrays(bool, shape[:draw(st.integers(0, len(shape)))]))
    elif kind == "lists" and shape and shape[0]:
        index = draw(st.lists(st.integers(-shape[0], shape[0] - 1), max_size=4))
    elif shape and 0 not in shape:
        def entry(n):
            return st.one_of(st.integers(-n, n - 1), slices(n), hnp.arrays(int, 2, elements=st.integers(-n, n - 1)))
        index = tuple(draw(entry(n)) for n in shape[:draw(st.integers(1, len(shape)))])
        if draw(st.booleans()):
            index = (Ellipsis, *[draw(entry(n)) for n in shape[len(shape) - len(index):]])
    else:
        index = draw(st.sampled_from([Ellipsis, None, (), (None, Ellipsis), True, np.array(False)]))
    return shape, index


@settings(max_examples=300)
@given(arrays_and_indices())
def test_indexing_is_numpys(case):
    shape, index = case
    x = np.arange(np.prod(shape, dtype=int), dtype=float).reshape(shape) + 1
    t = leaf(x)
    y = t[index]
    np.testing.assert_array_equal(y.data, x[index])
    assert y.shape == x[index].shape
    weights = np.cos(np.arange(y.size, dtype=float)).reshape(y.shape)
    (y * weights).sum().backward()
    expected = np.zeros(x.size)
    for place, w in zip(np.ravel(x[index]), np.ravel(weights)):  # the elements are their own numbers
        expected[int(place) - 1] += w
    np.testing.assert_allclose(t.grad, expected.reshape(shape), rtol=1e-14, atol=1e-14)


def test_indexing_by_a_tensor():
    x, places = leaf([1.0, 2.0, 3.0]), ag.tensor([0, 0, 2])
    y = x[places]
    (y * [1.0, 10.0, 100.0]).sum().backward()
    np.testing.assert_array_equal(x.grad, [11, 0, 100])
    np.testing.assert_array_equal(x[x > 1.5].data, [2, 3])
    np.testing.assert_array_equal(np.arange(4)[ag.tensor(2)], 2)


def test_an_array_is_indexed_by_a_constant_tensor():
    np.testing.assert_array_equal(np.arange(4.0)[np.asarray(ag.tensor([1, 3]))], [1, 3])


@pytest.mark.parametrize("root", [np.ones(2), [ag.tensor(1.0)], 3])
def test_a_tape_of_something_else_is_refused(root):
    with pytest.raises(TypeError, match="ag.tape.loss."):
        ag.tape(root)


@pytest.mark.parametrize("n, numbered", [(3, True), (30, False)])
def test_an_error_numbers_no_more_records_than_it_can_afford(n, numbered, monkeypatch):
    monkeypatch.setattr(errors, "MAX_NUMBERED", 10)
    x = ag.tensor(np.ones(2), requires_grad=True)
    for _ in range(n):
        x = x * 2.0
    with pytest.raises(ValueError, match=r"add\(f64\[2\], f64\[3\]\)") as caught:
        x + np.ones(3)
    line = str(caught.value).splitlines()[-1]
    assert ("%4 not computed = add(%3, f64[3])" in line) is numbered
    assert ("  not computed = add(multiply f64[2], f64[3])" in line) is not numbered and "test_tape.py" in line
