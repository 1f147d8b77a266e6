"""The backward pass, freed values, and who owns the numbers."""

import copy
import pickle
import threading
import weakref

import numpy as np
import pytest

import autograd as ag
from autograd.core.multi_output import shape_and_dtype
from tests.autograd.common import leaf

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
    buffer = weakref.ref(h._array)
    loss.backward()
    assert buffer() is None and h._array is None and y._array is None
    assert h.shape == (3,) and h.dtype == float and h.size == 3 and "freed" in repr(h)
    np.testing.assert_array_equal(h.data, np.exp(np.arange(3.0)))
    np.testing.assert_array_equal(y.data, np.exp(np.arange(3.0)) ** 2)
    assert loss._array is not None and loss.item() == y.data.sum()  # the result itself stays


def test_keep_keeps():
    x = leaf(np.arange(3.0))
    h = np.exp(x)
    buffer = h._array
    (h * h).sum().backward(keep=True)
    assert h._array is buffer
    np.testing.assert_array_equal(h.grad, 2 * buffer)


def test_create_graph_keeps_values():
    x = leaf(np.arange(3.0))
    h = np.exp(x)
    buffer = h._array
    (h * h).sum().backward(create_graph=True)
    assert h._array is buffer


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


def test_of_a_freed_record_its_shapes_stay_and_recomputing_restores_all():
    x = leaf(np.arange(4.0).reshape(2, 2))
    p = ag.softmax(x)
    halves = np.split(p * p, 2)
    records = {"kernel": p, "tuple": halves[0].inputs[0]}
    saved = p.saved
    assert saved[0] is ag.softmax.kernels[np.ndarray] and p.freed is None
    shapes = {name: shape_and_dtype(t) for name, t in records.items()}
    (halves[0] * halves[1]).sum().backward()
    assert {name: t.freed for name, t in records.items()} == shapes == {
        "kernel": ((2, 2), np.float64), "tuple": [((1, 2), np.float64)] * 2}
    assert [(t._array, t.saved) for t in records.values()] == [(None, None)] * 2
    assert {name: shape_and_dtype(t) for name, t in records.items()} == shapes
    halves[0].data, p.data  # noqa: B018
    assert [t.freed for t in records.values()] == [None, None] and p.saved[0] is saved[0]


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
    x.use_buffers(flat[1:3])
    np.testing.assert_array_equal(flat, [0, 1, 2, 0])
    loss = (x * x).sum()
    flat[1:3] = 9
    x.bump_version()
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
    assert [t.created for t in records] == sorted(t.created for t in records)
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


def test_the_class_is_no_constructor():
    with pytest.raises(TypeError, match=r"ag\.tensor\(data\)"):
        ag.Tensor([1.0])
