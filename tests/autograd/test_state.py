"""Recording and scopes, of each thread its own."""

import threading

import numpy as np
import pytest

import autograd as ag


def leaf(data):
    return ag.tensor(data, dtype=float, requires_grad=True)


def test_no_grad_records_nothing():
    x = leaf([1.0, 2.0])
    with ag.no_grad():
        y = np.exp(x)
        assert not y.requires_grad and y.op is None and y.inputs == ()
    assert np.exp(x).requires_grad


def test_no_grad_on_a_function():
    @ag.no_grad()
    def f(x):
        """Twice."""
        return 2 * x

    assert not f(leaf(1.0)).requires_grad and not f(leaf(1.0)).requires_grad and f.__doc__ == "Twice."


def test_no_grad_nests_and_ends_after_an_error():
    x = leaf(1.0)
    with ag.no_grad():
        with ag.no_grad(False):
            assert (x * 2).requires_grad
        with ag.no_grad():
            pass
        assert not (x * 2).requires_grad
    with pytest.raises(KeyError), ag.no_grad():
        raise KeyError
    assert (x * 2).requires_grad


def test_backward_works_under_no_grad():
    x = leaf(3.0)
    y = x * x
    with ag.no_grad():
        y.backward()
    assert x.grad == 6


def test_scopes_nest():
    x = leaf(1.0)
    with ag.scope("block"):
        a = x * 2
        with ag.scope("attn"):
            b = x * 2
        with ag.scope("mlp.fc"):
            c = np.exp(b)
        d = x * 2
    e = x * 2
    assert [t.scope for t in (a, b, c, d, e)] == ["block", "block.attn", "block.mlp.fc", "block", ""]


def test_a_scope_ends_after_an_error():
    with pytest.raises(KeyError), ag.scope("a"), ag.scope("b"):
        raise KeyError
    assert leaf(1.0).scope == ""


def in_thread(f):
    result = []
    thread = threading.Thread(target=lambda: result.append(f()))
    thread.start()
    thread.join()
    return result[0]


def test_each_thread_has_its_own_state():
    x = leaf(1.0)
    with ag.no_grad(), ag.scope("outer"):
        y = in_thread(lambda: x * 2)
        assert y.requires_grad and y.scope == ""

        def other():
            with ag.scope("inner"), ag.no_grad():
                return (x * 2).scope, (x * 2).requires_grad
        assert in_thread(other) == ("inner", False)
        assert (x * 2).scope == "outer"


def test_no_grad_in_one_thread_at_the_time_of_recording_in_another():
    x, entered, done = leaf(1.0), threading.Event(), threading.Event()

    def quiet():
        with ag.no_grad():
            entered.set()
            done.wait(5)

    thread = threading.Thread(target=quiet)
    thread.start()
    entered.wait(5)
    assert (x * 2).requires_grad
    done.set()
    thread.join()
    assert (x * 2).requires_grad
