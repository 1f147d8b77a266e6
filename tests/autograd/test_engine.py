"""The record, the operation, the tape and the walk back."""

import copy
import gc
import pickle
import threading
import tracemalloc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import autograd as ag
from autograd.methods import ANSWERS
from tests.duck import Duck


def leaf(data, name="", dtype=float):
    return ag.tensor(data, dtype=dtype, requires_grad=True, name=name)


@pytest.fixture
def new_op():
    """Register ops for one test."""
    before = [(table, dict(table)) for table in (ag.REGISTRY, ANSWERS)]
    yield ag.op
    for table, entries in before:
        table.clear()
        table.update(entries)


# ---------------------------------------------------------------------- backward


def test_gradients_add_up_in_leaves():
    x = leaf([1.0, 2.0])
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad, [2, 4])
    (3 * x).sum().backward()
    np.testing.assert_array_equal(x.grad, [5, 7])
    x.grad = None
    assert x.grad is None


def test_a_value_used_twice_gets_both_gradients():
    x = leaf(3.0)
    y = x * x
    (y * y + y).backward()
    assert x.grad == 4 * 27 + 6


def test_backward_from_several_elements_takes_their_gradient():
    x = leaf([1.0, 2.0])
    (x * x).backward(gradient=[1.0, 10.0])
    np.testing.assert_array_equal(x.grad, [2, 40])
    y = leaf([1.0, 2.0], dtype=np.float32)
    (y * y).backward(gradient=np.array([1.0, 10.0]))
    assert y.grad.dtype == np.float32
    (y * y).backward(gradient=ag.tensor([1.0, 10.0]))
    np.testing.assert_array_equal(y.grad, [4, 80])


def test_backward_refuses_what_it_cannot_start_from():
    x = leaf([1.0, 2.0], name="w")
    with pytest.raises(ValueError, match=r"2 elements.*\.sum\(\)"):
        (x * 2).backward()
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        (x * 2).backward(gradient=np.ones(3))
    with pytest.raises(RuntimeError, match="no tape"):
        ag.tensor([1.0]).backward()
    with ag.no_grad():
        y = (x * x).sum()
    with pytest.raises(RuntimeError, match="no_grad"):
        y.backward()
    with pytest.raises(RuntimeError, match="no tape"):
        (x > 1).sum().backward()


def test_one_element_of_any_shape_starts_a_walk():
    x = leaf([[2.0]])
    (x * x).backward()
    np.testing.assert_array_equal(x.grad, [[4]])


def test_a_leaf_can_start_a_walk():
    x = leaf(3.0)
    x.backward()
    assert x.grad == 1


@pytest.mark.parametrize("keep", [False, True])
def test_a_second_backward_is_right(keep):
    x = leaf([1.0, 2.0])
    h = 3 * x
    h.sum().backward(keep=keep)
    np.testing.assert_array_equal(x.grad, [3, 3])
    x.grad = None
    (h * h).sum().backward(keep=keep)
    np.testing.assert_array_equal(x.grad, 2 * 9 * x.data)


@pytest.mark.parametrize("keep", [False, True])
def test_the_same_backward_twice_doubles(keep):
    x = leaf([1.0, 2.0])
    loss = np.tanh(np.exp(x) * x).sum()
    loss.backward(keep=keep)
    once = x.grad.copy()
    loss.backward(keep=keep)
    np.testing.assert_array_equal(x.grad, 2 * once)


def test_create_graph_gives_tensors_that_can_be_differentiated():
    x = leaf([1.0, 2.0])
    (x ** 3).sum().backward(create_graph=True)
    first = x.grad
    assert isinstance(first, ag.Tensor) and first.requires_grad
    x.grad = None
    first.sum().backward()
    np.testing.assert_allclose(x.grad, 6 * x.data)


def test_no_gradient_flows_into_constants():
    x, c = leaf(2.0), ag.tensor(3.0)
    (x * c).backward()
    assert c.grad is None and not c.requires_grad and x.grad == 3


def test_detach_stops_gradients():
    x = leaf(2.0, name="x")
    y = (x * x).detach()
    assert not y.requires_grad and y.op is None
    (x * y).backward()
    assert x.grad == 4
    assert x.detach().name == "x"


def test_gradient_of_broadcasting_is_summed():
    x, y = leaf(np.ones((2, 1))), leaf(np.ones((3, 1, 4)))
    (x * y * 2).sum().backward()
    np.testing.assert_array_equal(x.grad, np.full((2, 1), 24))
    np.testing.assert_array_equal(y.grad, np.full((3, 1, 4), 4))


def test_gradient_has_the_dtype_of_its_leaf():
    x, y = leaf([1.0], dtype=np.float32), leaf([2.0])
    z = x * y
    assert z.dtype == np.float64
    z.backward()
    assert x.grad.dtype == np.float32 and y.grad.dtype == np.float64


def test_gradients_never_share_memory():
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    seed = np.ones(2)
    (a + b).backward(gradient=seed)
    a.grad[0] = 100
    np.testing.assert_array_equal(b.grad, [1, 1])
    np.testing.assert_array_equal(seed, [1, 1])


@pytest.mark.parametrize("f", [lambda a: a.reshape(2, 1), lambda a: a.T, lambda a: a + 0, lambda a: a[::-1], abs,
                               lambda a: +a,
                               lambda a: np.broadcast_to(a, (3, 2)), lambda a: np.concatenate([a, a]),
                               lambda a: a.astype(float)])
def test_a_gradient_is_writable_and_its_own(f):
    a = leaf([1.0, 2.0])
    y = f(a)
    y.sum().backward(keep=True)
    inner = np.array(y.grad)
    a.grad += 5
    np.testing.assert_array_equal(y.grad, inner)
    before = a.grad.copy()
    f(a).sum().backward()
    assert (a.grad != before).any()


def test_a_gradient_taken_out_is_not_changed_by_the_next_backward_of_others():
    a, b = leaf([1.0]), leaf([1.0])
    (a + b).backward()
    (a * 3).backward()
    assert a.grad == [4] and b.grad == [1]


def test_an_inner_gradient_explains_itself():
    x = leaf([1.0, 2.0])
    h = 3 * x
    loss = (h * h).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match=r"multiply.*keep=True"):
        h.grad  # noqa: B018
    loss.backward(keep=True)
    np.testing.assert_array_equal(h.grad, [6, 12])
    with pytest.raises(ValueError):
        h.grad[0] = 1
    with pytest.raises(TypeError, match="only a leaf"):
        h.grad = np.zeros(2)


def test_a_grad_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        leaf([1.0, 2.0]).grad = np.zeros(3)


@pytest.mark.parametrize("value", [[10, 20], np.array([10, 20]), np.array([10.0, 20.0])])
def test_a_grad_that_is_set_is_added_to(value):
    x = leaf([1.0, 2.0])
    x.grad = value
    (x * x / 2).sum().backward()
    np.testing.assert_array_equal(x.grad, [11, 22])
    assert x.grad.dtype == float


# ---------------------------------------------------------------------- release and recomputation


def test_backward_frees_inner_arrays_and_they_come_back():
    x = leaf(np.arange(3.0))
    h = np.exp(x)
    y = h * h
    loss = y.sum()
    buffer = weakref.ref(h._data)
    loss.backward()
    assert buffer() is None and h._data is None and y._data is None
    assert h.shape == (3,) and h.dtype == float and h.size == 3 and "freed" in repr(h)
    np.testing.assert_array_equal(h.data, np.exp(np.arange(3.0)))
    np.testing.assert_array_equal(y.data, np.exp(np.arange(3.0)) ** 2)
    assert loss._data is not None and loss.item() == y.data.sum()  # the result itself stays


def test_keep_keeps():
    x = leaf(np.arange(3.0))
    h = np.exp(x)
    buffer = h._data
    (h * h).sum().backward(keep=True)
    assert h._data is buffer
    np.testing.assert_array_equal(h.grad, 2 * buffer)


def test_create_graph_keeps_values():
    x = leaf(np.arange(3.0))
    h = np.exp(x)
    buffer = h._data
    (h * h).sum().backward(create_graph=True)
    assert h._data is buffer


def test_a_freed_value_cannot_come_back_after_its_leaf_changed():
    w = leaf([1.0, 2.0], name="weight")
    h = np.exp(w)
    (h * h).sum().backward()
    w.data = [5.0, 6.0]
    with pytest.raises(RuntimeError, match="'weight'.*changed"):
        h.data  # noqa: B018


def test_a_leaf_assigned_between_forward_and_backward_is_noticed():
    w, v = leaf([1.0, 2.0], name="weight"), leaf([1.0, 1.0])
    loss = (w * v).sum()
    w.data = w.data * 2
    with pytest.raises(RuntimeError, match="'weight'.*changed"):
        loss.backward()
    (w * v).sum().backward()  # computed again, it works
    np.testing.assert_array_equal(v.grad, [2, 4])


def test_a_constant_tensor_assigned_in_between_is_noticed_too():
    w, c = leaf([1.0, 2.0]), ag.tensor([3.0, 4.0], name="scale")
    loss = (w * c).sum()
    c.data = [0.0, 0.0]
    with pytest.raises(RuntimeError, match="'scale'.*changed"):
        loss.backward()


def test_recomputed_values_are_the_same_through_views_and_tuples():
    x = leaf(np.arange(6.0))
    rows = x.reshape(2, 3)
    first, second = np.split(rows * rows, 2)
    loss = (first[:, 1:] * second[:, :-1]).sum()
    loss.backward()
    once = x.grad.copy()
    np.testing.assert_array_equal(second.data, [[9, 16, 25]])
    loss.backward()
    np.testing.assert_array_equal(x.grad, 2 * once)


# ---------------------------------------------------------------------- who owns the numbers


def test_tensor_copies():
    array = np.array([1.0, 2.0])
    x = leaf(array)
    loss = (x * x).sum()
    array[:] = 100
    loss.backward()
    np.testing.assert_array_equal(x.grad, [2, 4])


@pytest.mark.parametrize("f", [lambda x, c: x * c, lambda x, c: x @ c, lambda x, c: np.where(c > 1.5, x, x * c),
                               lambda x, c: x[c.astype(int) - 1] * c, lambda x, c: ag.embedding(c.astype(int) - 1, x)])
def test_constants_changed_by_their_owner_do_not_matter(f):
    def gradient(change):
        x, c = leaf([1.0, 2.0]), np.array([1.0, 2.0])
        loss = (f(x, c) ** 2).sum()
        if change:
            c[:] = 1
        loss.backward()
        return x.grad

    np.testing.assert_array_equal(gradient(True), gradient(False))


def test_index_arrays_changed_by_their_owner_do_not_matter():
    x, places = leaf([1.0, 2.0, 3.0]), np.array([0, 2])
    loss = x[places].sum()
    places[:] = 1
    loss.backward()
    np.testing.assert_array_equal(x.grad, [1, 0, 1])


def test_arrays_in_lists_changed_by_their_owner_do_not_matter():
    x, c = leaf([1.0, 2.0]), np.array([3.0, 4.0])
    y = np.concatenate([x, c])
    loss = (y * y).sum()
    c[:] = 0
    loss.backward()
    np.testing.assert_array_equal(y.data, [1, 2, 3, 4])


def test_a_seed_changed_by_its_owner_does_not_matter():
    x, seed = leaf([1.0, 2.0]), np.ones(2)
    (x + 0).backward(gradient=seed, keep=True)
    seed[:] = 7
    np.testing.assert_array_equal(x.grad, [1, 1])


def test_data_is_read_only():
    x = leaf([1.0, 2.0])
    for t in (x, x * 2, x.detach()):
        with pytest.raises(ValueError, match="read-only"):
            t.data[0] = 5


def test_assigning_data():
    x = leaf([1.0, 2.0])
    view = x.data
    x.data = ag.tensor([3.0, 4.0])
    np.testing.assert_array_equal(view, [3, 4])
    for wrong in ([1.0, 2.0, 3.0], 5.0):
        with pytest.raises(ValueError, match="shape"):
            x.data = wrong
    with pytest.raises(TypeError, match="only a leaf can be assigned"):
        (x * 2).data = [1.0, 2.0]


def test_touch_and_bind_share_a_buffer():
    x = leaf([1.0, 2.0], name="w")
    flat = np.zeros(4)
    x.bind(flat[1:3])
    np.testing.assert_array_equal(flat, [0, 1, 2, 0])
    loss = (x * x).sum()
    flat[1:3] = 9
    x.touch()
    np.testing.assert_array_equal(x.data, [9, 9])
    with pytest.raises(RuntimeError, match="'w'"):
        loss.backward()


@pytest.mark.parametrize("f", [lambda t: t.reshape(2, 1), lambda t: t.T, lambda t: t[:1], lambda t: np.split(t, 2)[0],
                               lambda t: np.broadcast_to(t, (2, 2)), lambda t: t.swapaxes(0, 0),
                               lambda t: t.astype(float)])
def test_results_under_no_grad_own_their_buffers(f):
    x = leaf([1.0, 2.0])
    with ag.no_grad():
        y = f(x)
    before = y.data.copy()
    x.data = [8.0, 9.0]
    np.testing.assert_array_equal(y.data, before)
    constant = ag.tensor([1.0, 2.0])
    z = f(constant)
    constant.data = [8.0, 9.0]
    np.testing.assert_array_equal(z.data, before)


def test_an_op_that_returns_its_input_shares_nothing(new_op):
    @new_op
    def unchanged(x):
        return x

    x = leaf([1.0, 2.0])
    with ag.no_grad():
        y = unchanged(x)
    x.data = [8.0, 9.0]
    np.testing.assert_array_equal(y.data, [1, 2])


def test_a_copy_is_of_its_own():
    array, x = np.array([1.0, 2.0]), leaf([1.0, 2.0])
    assert not np.shares_memory(ag.copy(array), array)
    y, z = x.copy(), +x
    x.data = [8.0, 9.0]
    np.testing.assert_array_equal(y.data, [1, 2])
    np.testing.assert_array_equal(z.data, [1, 2])


@pytest.mark.parametrize("shape", [(), (2,)])
def test_a_constant_result_is_a_leaf_that_can_be_assigned(shape):
    c = ag.tensor(np.ones(shape)) * 2
    c.data = np.full(shape, 5.0)
    np.testing.assert_array_equal(c.data, np.full(shape, 5.0))


def test_a_view_of_a_leaf_is_not_used_after_the_leaf_changed():
    x = leaf([1.0, 2.0], name="x")
    y = x.reshape(2, 1)
    loss = (y * y).sum()
    x.data = [5.0, 5.0]
    with pytest.raises(RuntimeError, match="'x'"):
        loss.backward()


# ---------------------------------------------------------------------- leaves


def test_tensor_takes_what_holds_numbers():
    assert ag.tensor([[1, 2], [3, 4]]).dtype.kind == "i"
    assert ag.tensor(2.5).shape == () and ag.tensor(True).dtype == bool
    assert ag.tensor([1, 2], dtype=np.float32).dtype == np.float32
    assert ag.tensor(ag.tensor([1.0])).shape == (1,)
    assert ag.tensor(np.float32(1)).dtype == np.float32
    assert not ag.tensor(1.0).requires_grad and ag.tensor(1.0, name="a").name == "a"


@pytest.mark.parametrize("bad", ["text", 1j, None, [object()], [1j]])
def test_tensor_refuses_what_does_not(bad):
    with pytest.raises(TypeError, match="real numbers"):
        ag.tensor(bad)


@pytest.mark.parametrize("data", [1, [1, 2], np.array([True])])
def test_integers_require_no_gradient(data):
    with pytest.raises(TypeError, match="weight.*dtype=float"):
        ag.tensor(data, requires_grad=True, name="weight")


def test_leaves_copy_and_pickle():
    x = leaf([1.0, 2.0], name="w", dtype=np.float32)
    (x * x).sum().backward()
    for y in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert y is not x and y.requires_grad and y.name == "w" and y.dtype == np.float32 and y.op is None
        np.testing.assert_array_equal(y.data, x.data)
    y.data = [0.0, 0.0]
    np.testing.assert_array_equal(x.data, [1, 2])


def test_results_refuse_to_be_copied_or_pickled():
    y = leaf([1.0]) * 2
    for action in (copy.copy, copy.deepcopy, pickle.dumps, lambda t: copy.deepcopy({"t": [t]})):
        with pytest.raises(TypeError, match="detach"):
            action(y)


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
    assert [t.index for t in records] == sorted(t.index for t in records)


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
    before = [t.index for t in ag.tape(z)]
    z.backward()
    z.backward()
    assert [t.index for t in ag.tape(z)] == before == sorted(before)


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


def test_memory_is_flat_without_the_collector():
    w, x = leaf(np.ones((3, 4))), np.ones((4, 3))
    gc.collect()
    gc.disable()
    try:
        for _ in range(3000):  # Python's own lists of free tuples and the like fill up
            step(w, x)
        tracemalloc.start()
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


@settings(max_examples=300, deadline=None)
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


# ---------------------------------------------------------------------- ops of one's own


def test_an_op_of_ones_own(new_op):
    @new_op
    def cube(x, factor=1.0):
        """y = factor · x³"""
        return factor * x ** 3

    @cube.gradient("x")
    def _(g, y, x, factor=1.0):
        return g * (3 * factor) * x ** 2

    assert ag.cube is cube is ag.REGISTRY["cube"] and "cube" in dir(ag)
    assert cube(2.0) == 8 and type(cube(np.ones(2))) is np.ndarray  # arrays in, array out, no record
    ag.check_op(cube, [(np.array([1.0, 2.0]),), (np.array(0.5), {"factor": 3.0})], order=3)
    x = leaf(2.0)
    y = cube(x, factor=2.0)
    assert y.attrs == {"factor": 2.0} and cube(x, 2.0).attrs == {"factor": 2.0}
    y.backward()
    assert x.grad == 24


def test_a_shared_rule_runs_once(new_op):
    calls = []

    @new_op
    def product(x, y):
        return x * y

    @product.gradient("x", "y")
    def _(g, z, x, y):
        calls.append(1)
        return g * y, g * x

    x, y = leaf(2.0), leaf(3.0)
    product(x, y).backward()
    assert (x.grad, y.grad, len(calls)) == (3, 2, 1)
    product(x, 5.0).backward()
    assert x.grad == 8
    ag.check_op(product, [(np.array(2.0), np.array([1.0, 3.0]))])


def test_a_starred_rule(new_op):
    @new_op
    def weigh(scale, *xs, power=1):
        return scale * sum(x ** power for x in xs)

    @weigh.gradient("scale")
    def _(g, y, scale, *xs, power=1):
        return g * y / scale

    @weigh.gradient("*xs")
    def _(g, y, scale, *xs, power=1):
        return [g * scale * power * x ** (power - 1) for x in xs]

    a, b = leaf([1.0, 2.0]), leaf(3.0)
    y = weigh(2.0, [a, b, 1.0], power=2)
    np.testing.assert_array_equal(y.data, [22, 28])
    y.sum().backward()
    np.testing.assert_array_equal(a.grad, [4, 8])
    assert b.grad == 24
    ag.check_op(weigh, [(np.array(2.0), [np.ones(2), np.array(3.0)], {"power": 3})])


def test_an_optional_argument_with_a_rule_is_an_input(new_op):
    @new_op
    def shift(x, by=None):
        return x if by is None else x + by

    @shift.gradient("x", "by")
    def _(g, y, x, by=None):
        return g, g

    x, by = leaf(1.0), leaf(2.0)
    shift(x).backward()
    shift(x, by).backward()
    shift(x, by=by).backward()
    assert x.grad == 3 and by.grad == 2


def test_a_missing_rule_names_the_input(new_op):
    @new_op
    def product(x, y):
        return x * y

    @product.gradient("x")
    def _(g, z, x, y):
        return g * y

    product(leaf(1.0), 2.0).backward()
    with pytest.raises(TypeError, match="product has no gradient rule for its input y"):
        product(leaf(1.0), leaf(2.0)).backward()


def test_a_tensor_as_a_setting_is_refused(new_op):
    with pytest.raises(TypeError, match="softmax: axis is a setting"):
        ag.softmax(leaf([1.0, 2.0]), axis=ag.tensor(0))
    with pytest.raises(TypeError, match="setting"):
        ag.softmax(leaf([1.0, 2.0]), ag.tensor(0))


@pytest.mark.parametrize("call", [lambda x: ag.exp(), lambda x: ag.exp(x, x, x), lambda x: ag.softmax(x, axes=1),
                                  lambda x: ag.add(x)])
def test_a_wrong_call_shows_the_signature(call):
    with pytest.raises(TypeError, match=r"(exp|softmax|add)\(x"):
        call(leaf([1.0]))


def wrong_names(f):
    f.gradient("z")


def no_names(f):
    f.gradient()


def too_few_parameters(f):
    @f.gradient("x")
    def _(g, y, x):
        return g


def other_names(f):
    @f.gradient("x")
    def _(g, y, a, b=2):
        return g


def other_default(f):
    @f.gradient("x")
    def _(g, y, x, b=3):
        return g


@pytest.mark.parametrize("register", [wrong_names, no_names, too_few_parameters, other_names, other_default])
def test_a_wrong_rule_is_refused_at_registration(new_op, register):
    @new_op
    def scaled(x, b=2):
        return x * b

    with pytest.raises(TypeError, match="scaled"):
        register(scaled)


def test_wrong_formulas_are_refused_at_registration(new_op):
    with pytest.raises(TypeError, match="default"):
        @new_op
        def free_settings(x, **settings):
            return x
    with pytest.raises(TypeError, match="default"):
        @new_op
        def needed_setting(x, *, n):
            return x
    assert "free_settings" not in ag.REGISTRY and "needed_setting" not in ag.REGISTRY


def test_a_name_is_taken_by_one_module(new_op):
    with pytest.raises(ValueError, match="'softmax'"):
        @new_op
        def softmax(x):
            return x
    assert ag.softmax(np.zeros(2))[0] == 0.5

    @new_op
    def mine(x):
        return x

    @new_op
    def mine(x):  # noqa: F811  (a notebook's cell run twice)
        return 2 * x

    assert ag.mine(1) == 2


def test_an_op_named_as_a_numpy_function_answers_for_it(new_op):
    @new_op
    def hypot(x, y):
        return np.hypot(x, y)

    @hypot.gradient("x")
    def _(g, z, x, y):
        return g * x / z

    x = leaf(3.0)
    np.hypot(x, 4.0).backward()
    assert x.grad == 0.6


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_op"):
        ag.no_such_op  # noqa: B018


def test_an_op_that_is_constant_almost_everywhere(new_op):
    @new_op(differentiable=False)
    def floor(x):
        return np.floor(x)

    y = floor(leaf(2.5))
    assert isinstance(y, ag.Tensor) and not y.requires_grad and y.op is None
    x = leaf(2.5)
    (x - np.floor(x)).backward()
    assert x.grad == 1


def test_tensors_in_lists_are_inputs():
    x = leaf([1.0])
    np.concatenate([x, [2.0], (x)]).sum().backward()
    assert x.grad == [2]


def test_docstrings_and_signatures_stay():
    assert ag.softmax.__name__ == "softmax" and "Probabilities" in ag.softmax.__doc__
    assert repr(ag.softmax) == "<op softmax(x, axis=-1)>"


# ---------------------------------------------------------------------- source positions


def line_of(marker):
    with open(__file__, encoding="utf-8") as file:
        return next(i for i, line in enumerate(file, 1) if line.rstrip().endswith(f"# {marker}"))


def composed(x):
    return np.exp(x) * 2


def test_sources_point_at_the_users_line():
    x = ag.tensor([1.0, 2.0], requires_grad=True)  # mark leaf
    cases = {
        "leaf": x,
        "operator": x * 2,  # mark operator
        "reflected": np.ones(2) - x,  # mark reflected
        "method": x.sum(),  # mark method
        "function": np.exp(x),  # mark function
        "op": ag.softmax(x),  # mark op
        "index": x[0],  # mark index
        "array function": np.concatenate([x, x]),  # mark array function
        "parts": np.split(x, 2)[1],  # mark parts
        "property": x.T,  # mark property
    }
    for marker, t in cases.items():
        assert t.source == (__file__, line_of("mark " + marker)), marker
    row, _ = x  # mark rows
    assert row.source == (__file__, line_of("mark rows"))


def test_the_source_of_a_composed_op_is_where_it_is_written(new_op):
    assert composed(leaf(1.0)).source[1] == composed.__code__.co_firstlineno + 1


def test_recording_from_a_gradient_names_the_call():
    x = leaf(2.0)
    (x ** 3).backward(create_graph=True)  # mark backward
    assert x.grad.source == (__file__, line_of("mark backward"))


# ---------------------------------------------------------------------- kernels


@pytest.fixture
def swish(new_op):
    """An op with a rule and a kernel, and the calls of both."""
    calls = []

    @new_op
    def swish(x, beta=1.0):
        calls.append("formula")
        return x / (1 + np.exp(-beta * x))

    @swish.gradient("x")
    def _(g, y, x, beta=1.0):
        calls.append("rule")
        s = 1 / (1 + np.exp(-beta * x))
        return g * (s + beta * x * s * (1 - s))

    class Kernel:
        @staticmethod
        def forward(executor, x, beta=1.0):
            calls.append("kernel forward")
            gate, y = executor.empty(x, x.shape), executor.empty(x, x.shape)
            executor.run(lambda x, gate, y: (np.divide(1, 1 + np.exp(-beta * x), out=gate),
                                             np.multiply(x, gate, out=y)), x, gate, y)
            return y, gate

        @staticmethod
        def backward(executor, needed, g, y, saved, x, beta=1.0):
            calls.append("kernel backward")
            assert needed == [0]
            return [g * (saved + beta * x * saved * (1 - saved))]

    swish.kernels[np.ndarray] = Kernel
    swish.calls = calls
    return swish


def test_a_kernel_is_used_forward_and_backward(swish):
    x = leaf([-1.0, 0.5, 2.0])
    swish(x, beta=2.0).sum().backward()
    assert swish.calls == ["kernel forward", "kernel backward"]
    kernels = dict(swish.kernels)
    swish.kernels.clear()
    z = leaf(x.data)
    y = swish(z, beta=2.0)
    y.sum().backward()
    swish.kernels.update(kernels)
    assert swish.calls[2:] == ["formula", "rule"]
    np.testing.assert_allclose(x.grad, z.grad, rtol=1e-14)
    np.testing.assert_allclose(swish(x.data, beta=2.0), y.data, rtol=1e-14)


def test_a_kernel_works_again_after_its_values_were_freed(swish):
    x = leaf([-1.0, 0.5, 2.0])
    loss = (swish(x * 1) * 2).sum()
    loss.backward()
    once = x.grad.copy()
    x.grad = None
    loss.backward()
    np.testing.assert_array_equal(x.grad, once)
    assert swish.calls.count("kernel backward") == 2 and "rule" not in swish.calls


def test_the_gradient_of_a_gradient_uses_the_rule(swish):
    x = leaf([-1.0, 0.5, 2.0])
    swish(x).sum().backward(create_graph=True)
    assert "kernel backward" not in swish.calls and "rule" in swish.calls
    ag.check_op(swish, [(np.array([-1.0, 0.5, 2.0]),), (np.array([0.3]), {"beta": 2.0})], order=3)


def test_no_kernel_for_other_arrays(swish):
    x = ag.tensor(Duck(np.array([-1.0, 0.5])), requires_grad=True)
    swish(x).sum().backward()
    assert swish.calls == ["formula", "rule"]


def test_raw_arrays_get_the_kernel_too(swish):
    swish(np.ones(2))
    assert swish.calls == ["kernel forward"]


# ---------------------------------------------------------------------- threads


def test_threads_differentiate_at_once():
    w = leaf(np.linspace(-1, 1, 12).reshape(3, 4))

    def gradient(seed):
        x = np.random.default_rng(seed).normal(size=(5, 3))
        return ag.grad(lambda w: np.tanh(x @ w).sum() ** 2)(w.data)

    serial = [gradient(i) for i in range(16)]
    parallel = [None] * 16
    barrier = threading.Barrier(4)

    def work(start):
        barrier.wait()
        for _ in range(5):
            for i in range(start, 16, 4):
                parallel[i] = gradient(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(serial, parallel):
        np.testing.assert_array_equal(a, b)


def test_a_graph_built_in_threads_is_still_in_order():
    x = leaf(2.0)
    parts = []
    threads = [threading.Thread(target=lambda k=k: parts.append(x * float(k))) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = sum(parts, start=ag.tensor(0.0))
    records = ag.tape(total)
    assert [t.index for t in records] == sorted(t.index for t in records)
    total.backward()
    assert x.grad == sum(range(8))


# ---------------------------------------------------------------------- results and gradients of the wrong kind


def test_an_assigned_gradient_is_copied():
    g, x, y = np.zeros(3), leaf(np.ones(3)), leaf(np.ones(3))
    x.grad = y.grad = g
    x.sum().backward()
    (y * 10).sum().backward()
    assert (x.grad == 1).all() and (y.grad == 10).all() and (g == 0).all()


def test_complex_numbers_are_refused():
    x = leaf([1.0, 2.0])
    for make in (lambda: x + 1j, lambda: x * np.array([1j, 2]), lambda: ag.tensor([1.0]) * 1j):
        with pytest.raises(TypeError, match="complex"):
            make()


def test_a_formula_returns_arrays():
    @ag.op
    def listed(x):
        return [x]

    try:
        with pytest.raises(TypeError, match=r"listed.*returned \["):
            listed(leaf([1.0]))
    finally:
        del ag.REGISTRY["listed"]


def test_no_grad_needs_no_parentheses_above_a_function():
    @ag.no_grad
    def f(x):
        return x * 2

    assert not f(leaf([1.0])).requires_grad and (leaf([1.0]) * 2).requires_grad


@pytest.mark.parametrize(("call", "match"), [
    (lambda: ag.cross_entropy(np.ones((4, 3)), np.zeros(1, int)), "one class for each place"),
    (lambda: ag.layer_norm(np.ones((2, 3)), np.ones(1), None), "weight has shape"),
    (lambda: ag.linear(np.ones((2, 3)), np.ones((3, 4)), np.ones((2, 4))), "b needs shape"),
])
def test_shapes_that_would_broadcast_by_mistake_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
