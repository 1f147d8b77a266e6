"""Recording and scopes, of each thread its own."""

import asyncio
import itertools
import threading

import numpy as np
import pytest

import autograd as ag
from autograd.core.mode import current_mode


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


# ---------------------------------------------------------------------- generators, coroutines, other orders


def contexts():
    """Each way to decorate, and what a record made inside shows: (requires_grad, scope)."""
    return [pytest.param(ag.no_grad, (False, ""), id="no_grad"),
            pytest.param(ag.no_grad(), (False, ""), id="no_grad()"),
            pytest.param(ag.scope("a"), (True, "a"), id="scope")]


def shown(x):
    y = x * 2
    return y.requires_grad, y.scope


@pytest.mark.parametrize(("decorator", "inside"), contexts())
def test_a_decorated_generator_runs_within_and_its_user_without(decorator, inside):
    x, outside = leaf(1.0), (True, "")

    @decorator
    def steps(n):
        """In order."""
        for _ in range(n):
            try:
                got = yield shown(x)
            except KeyError:
                got = "thrown"
            assert shown(x) == inside
            if got:
                yield got
        return shown(x)

    assert steps.__doc__ == "In order."
    for seen in steps(3):
        assert seen == inside and shown(x) == outside
    one = steps(2)
    assert next(one) == inside and one.send("sent") == "sent" and shown(x) == outside
    assert next(one) == inside and one.throw(KeyError) == "thrown" and shown(x) == outside
    with pytest.raises(StopIteration) as stop:
        next(one)
    assert stop.value.value == inside and shown(x) == outside


@pytest.mark.parametrize(("decorator", "inside"), contexts())
def test_a_decorated_generator_is_closed_within(decorator, inside):
    x, seen = leaf(1.0), []

    @decorator
    def steps():
        try:
            yield
        finally:
            seen.append(shown(x))

    one = steps()
    next(one)
    one.close()
    assert seen == [inside] and shown(x) == (True, "")


@pytest.mark.parametrize(("decorator", "inside"), contexts())
def test_a_decorated_coroutine_runs_within_and_others_without(decorator, inside):
    x = leaf(1.0)

    @decorator
    async def first():
        seen = [shown(x)]
        await asyncio.sleep(0)
        return [*seen, shown(x)]

    async def second():
        await asyncio.sleep(0)
        return [shown(x)]

    async def both():
        return await asyncio.gather(first(), second())

    assert asyncio.run(both()) == [[inside, inside], [(True, "")]]


def test_an_asynchronous_generator_is_refused():
    async def steps():
        yield

    with pytest.raises(TypeError, match="steps is an asynchronous generator.*`with` inside"):
        ag.no_grad(steps)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("make", [ag.no_grad, lambda: ag.scope("a"), lambda: ag.detect_anomaly()])
def test_contexts_that_end_in_any_order_leave_nothing(order, make):
    x, before = leaf(1.0), current_mode()

    def steps():
        with make():
            yield

    running = [steps() for _ in range(3)]
    for one in running:
        next(one)
    for i in order:
        assert not current_mode().grad_enabled or current_mode().scope or current_mode().observer
        next(running[i], None)
    assert current_mode() is before and shown(x) == (True, "")


def test_contexts_of_different_fields_end_in_any_order():
    x, quiet, named = leaf(1.0), ag.no_grad(), ag.scope("a")
    quiet.__enter__()
    named.__enter__()
    quiet.__exit__(None, None, None)
    assert shown(x) == (True, "a")
    named.__exit__(None, None, None)
    assert shown(x) == (True, "")


def test_one_context_is_entered_many_times_and_by_many_threads():
    x, quiet = leaf(1.0), ag.no_grad()
    with quiet, quiet:
        assert in_thread(lambda: shown(x)) == (True, "")
        def inside():
            with quiet:
                return shown(x)[0], (x * 2).requires_grad
        assert in_thread(inside) == (False, False) and not shown(x)[0]
    assert shown(x)[0]


def test_what_was_entered_elsewhere_ends_nothing_here():
    x, quiet = leaf(1.0), ag.no_grad()
    in_thread(quiet.__enter__)
    with ag.no_grad():
        quiet.__exit__(None, None, None)
        assert not shown(x)[0]
    assert shown(x)[0]
