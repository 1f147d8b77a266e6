"""Arrays among an operation's inputs: a record keeps a copy, and records share that of a large one."""

import gc
import threading
import weakref

import numpy as np
import pytest

import autograd as ag
from autograd.core import arrays
from tests.duck import Duck


def given(t):
    """The one array among a record's inputs."""
    [array] = [a for a in t.inputs if type(a) is not ag.Tensor]
    return array


def big():
    return np.random.default_rng(0).normal(size=(256, 64))


@pytest.fixture
def w():
    return ag.tensor(np.ones((64, 2)), requires_grad=True)


def test_records_share_one_copy_of_a_large_array(w):
    x, small = big(), np.ones(64)
    copies = [given(x @ w), given(x @ w), given(np.sum(w) * x)]
    assert all(copy is copies[0] for copy in copies) and not np.shares_memory(copies[0], x)
    assert given(small @ w) is not given(small @ w)


def test_a_change_between_uses_gives_each_its_own_gradient(w):
    x = big()
    first, before = (x @ w).sum(), x.copy()
    x[3, 5] = 7.0
    second, between = (x @ w).sum(), x.copy()
    x[...] = 0
    for loss, then in ((first, before), (second, between)):
        w.grad = None
        loss.backward()
        assert np.array_equal(w.grad, then.T @ np.ones((256, 2)))
        assert np.array_equal(given(loss.inputs[0]), then)
    assert given(x @ w).sum() == 0


@pytest.mark.parametrize("place", [(0, 0), (128, 31), (255, 63)])
@pytest.mark.parametrize("before, after", [(0.0, -0.0), (np.nan, -np.nan), (1.0, np.nextafter(1.0, 2))])
def test_a_change_of_one_bit_anywhere_is_seen(w, place, before, after):
    x = big()
    x[place] = before
    first = given(x @ w)
    assert given(x @ w) is first
    x[place] = after
    second = given(x @ w)
    assert second is not first and given(x @ w) is second
    assert second.tobytes() == x.tobytes() != first.tobytes()


@pytest.mark.parametrize("name, make", {
    "Fortran": lambda x: np.asfortranarray(x), "transposed": lambda x: x.reshape(64, 256).T,
    "every other": lambda x: x.repeat(2, 1)[:, ::2], "backwards": lambda x: x[::-1, ::-1],
    "one repeated": lambda x: np.broadcast_to(x[0], (256, 64)), "unaligned": lambda x: np.frombuffer(
        b"x" + x.tobytes(), offset=1).reshape(256, 64), "big-endian": lambda x: x.astype(">f8"),
    "float32": lambda x: x.astype(np.float32), "integers": lambda x: (9 * x).astype(np.int64)}.items(),
    ids=lambda value: value if isinstance(value, str) else "")
def test_every_memory_order_and_dtype(w, name, make):
    x = make(big())
    first, second = given(x @ w), given(x @ w)
    assert first is second and first.dtype == x.dtype and np.array_equal(first, x)
    assert first.strides == x.copy(order="K").strides


def test_what_is_changed_in_form_is_copied_anew(w):
    x = big()
    first = given(np.sum(w) * x)
    x.shape = 64, 256
    assert given(np.sum(w) * x).shape == (64, 256) and first.shape == (256, 64)


def test_copies_are_gone_when_their_arrays_and_records_are(w):
    x, kept = big(), len(arrays._copies)
    y = x @ w
    copy = weakref.ref(given(y))
    del y
    assert copy() is not None and len(arrays._copies) == kept + 1  # for the next use
    y = x @ w
    del x
    assert len(arrays._copies) == kept and copy() is given(y)  # the record still has it
    del y
    gc.collect()
    assert copy() is None


def test_programs_share_them_too(w):
    x = big()
    first = given(x @ w)
    program = ag.record(lambda v: (x @ (w * v)).sum() + (x @ w).sum(), np.ones(2))
    program(np.ones(2))
    made = [given(t) for t in program.tape if t.op is not None and t.op.name == "matmul"]
    assert len(made) == 2 and all(a is first for a in made)


def test_threads_get_copies_that_are_right(w):
    x, found = big(), []

    def use():
        for _ in range(50):
            found.append(np.array_equal(given(x @ w), x))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 200 and all(found)


def test_another_librarys_array_is_copied_by_itself():
    x = Duck(big())
    w = ag.tensor(Duck(np.ones((64, 2))), requires_grad=True)
    assert given(x @ w) is not given(x @ w) is not x
