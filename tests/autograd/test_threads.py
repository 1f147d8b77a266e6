"""Threads that differentiate at the same time do not disturb each other, and no record leaves garbage."""

import gc
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import autograd as ag
from autograd.core.registry import FUNCTIONS
from tests import fuzz
from tests.samples import SAMPLES

# ---------------------------------------------------------------------- what the threads do


def numbers(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def leaves(job, *shapes):
    return [ag.tensor(numbers(100 * job + i, *shape), requires_grad=True) for i, shape in enumerate(shapes)]


def network(x, *ws):
    for i, w in enumerate(ws):
        with ag.scope(f"layer{i}"):
            x = np.tanh(x @ w)
    return x


def plain_backward(job):
    x, *ws = leaves(job, (5, 4), (4, 6), (6, 6), (6, 3))
    y = np.square(network(x, *ws)).sum()
    y.backward()
    return y, [t.grad for t in (x, *ws)]


def kept_values(job):
    q, k, v, w = leaves(job, (2, 5, 4), (2, 5, 4), (2, 5, 4), (4,))
    y = ag.cross_entropy(ag.layer_norm(ag.attention(q, k, v, causal=True), w, None), np.arange(10).reshape(2, 5) % 4)
    y.backward(keep=True)
    return y, [t.grad for t in ag.tape(y) if t.requires_grad]


def checkpointed(job):
    x, *ws = leaves(job, (5, 4), (4, 4), (4, 4))
    y = np.exp(ag.checkpoint(network)(x, *ws)).mean()
    for _ in range(2):
        y.backward()
    return y, [t.grad for t in (x, *ws)]


def second_order(job):
    x, w = leaves(job, (3, 4), (4, 4))
    y = np.sin(network(x, w)).sum()
    y.backward(create_graph=True)
    firsts = [t.grad for t in (x, w)]
    for t in (x, w):
        t.grad = None
    sum(np.square(g).sum() for g in firsts).backward()
    return y, [*firsts, x.grad, w.grad]  # arrays by now: a leaf whose .grad has a graph is part of a cycle


def transforms(job):
    x, v = numbers(job, 4), numbers(job + 1, 4)

    def f(x):
        return np.cumprod(np.sin(x)) * np.logaddexp(x, x[::-1])
    return ag.tensor(0.0), [*ag.jvp(f, (x,), (v,)), ag.jacobian(f)(x), ag.hvp(lambda x: f(x).sum(), x, v)]


def on_and_off(job):
    """Recording off, on within it, and on again."""
    x, w = leaves(job, (3, 4), (4, 2))
    with ag.no_grad():
        constant = network(x, w)
        assert not constant.requires_grad
        with ag.no_grad(False):
            y = network(x, w)
        assert not (x + 1).requires_grad
    assert y.requires_grad
    y = (y * constant).sum()
    y.backward()
    return y, [x.grad, w.grad]


def many_outputs(job):
    x, = leaves(job, (6, 4))
    parts = np.split(np.sort(x, axis=0), 3)
    y = sum(((i + 1) * part).prod() for i, part in enumerate(parts)) + x[np.array([0, 0, 5])].sum()
    y.backward()
    return y, [x.grad]


# In double precision, which one of the variants is not for.
PROGRAMS = [p for p in map(fuzz.draw_program, range(300, 312)) if p.variant != "float32"][:6]


def random_programs(job):
    return ag.tensor(0.0), [a for program in PROGRAMS[job // len(WORK)::3] for a in fuzz.run_ours(program)]


WORK = [plain_backward, kept_values, checkpointed, second_order, transforms, on_and_off, many_outputs, random_programs]


def one_job(job):
    """The numbers that a job makes, in scopes of its own, which its records have to carry."""
    with np.errstate(all="ignore"), ag.scope(f"job{job}"):
        y, grads = WORK[job % len(WORK)](job)
        for t in ag.tape(y):
            assert t.op is None or t.scope.split(".")[0] == f"job{job}", (job, t)
    assert (ag.tensor(1.0, requires_grad=True) * 1).scope == ""
    return [y.data, *[g.data if isinstance(g, ag.Tensor) else g for g in grads]]


def run_in_threads(jobs):
    """Run each job ten times in a thread of its own, all started together, and return their results."""
    barrier = threading.Barrier(len(jobs))

    def work(job):
        barrier.wait()
        return [one_job(job) for _ in range(10)]

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(work, jobs))


def compare_threads_with_serial(seconds):
    """Run the jobs of several rounds, in threads until the time is over; returns how many rounds there were."""
    serial = {job: one_job(job) for job in range(3 * len(WORK))}
    end, rounds, interval = time.monotonic() + seconds, 0, sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads take turns in the middle of everything
    try:
        while time.monotonic() < end or rounds < 3:
            first = len(WORK) * (rounds % 3)
            jobs = range(first, first + len(WORK))
            for job, made in zip(jobs, run_in_threads(jobs)):
                for results in made:
                    for a, b in zip(results, serial[job], strict=True):
                        assert (a is None and b is None) or np.array_equal(a, b, equal_nan=True), WORK[job % len(WORK)]
            rounds += 1
    finally:
        sys.setswitchinterval(interval)
    return rounds


def test_threads_get_the_bits_that_one_thread_gets():
    compare_threads_with_serial(2)


@pytest.mark.slow
def test_threads_get_the_bits_that_one_thread_gets_for_longer():
    """15 seconds, or as many as the variable THREAD_SECONDS says."""
    seconds = float(os.environ.get("THREAD_SECONDS", 15))
    assert compare_threads_with_serial(seconds) > seconds / 2


# ---------------------------------------------------------------------- garbage


CONTAINERS = (list, tuple, dict, set, type(one_job), type((lambda x: lambda: x)(0).__closure__[0]))


def garbage_of(work):
    """Return the Tensors and Ops, and containers and functions that refer to them, that `work()` leaves to the
    collector."""
    enabled, flags, before = gc.isenabled(), gc.get_debug(), list(gc.garbage)
    gc.disable()
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        work()
        gc.collect()
        found = gc.garbage[len(before):]
        return [describe(a) for a in found if is_ours(a)]
    finally:
        gc.set_debug(flags)
        gc.garbage[:] = before
        if enabled:
            gc.enable()


def is_ours(a):
    return isinstance(a, (ag.Tensor, ag.Op)) or isinstance(a, CONTAINERS) and \
        any(isinstance(b, (ag.Tensor, ag.Op)) for b in gc.get_referents(a))


def describe(a):
    return f"{type(a).__name__} {a!r:.200}"


def as_leaves(tree):
    """A leaf for each floating-point array in nested lists and tuples."""
    if isinstance(tree, (list, tuple)):
        return type(tree)(as_leaves(branch) for branch in tree)
    return ag.tensor(tree, requires_grad=True) if isinstance(tree, np.ndarray) and tree.dtype.kind == "f" else tree


def results_of(y):
    if isinstance(y, (list, tuple)):
        return [leaf for branch in y for leaf in results_of(branch)]
    return [y] if isinstance(y, ag.Tensor) and y.requires_grad else []


def forward_and_backward(name):
    """A function or op on its samples, and the gradients of two orders."""
    function = ag.REGISTRY.get(name) or FUNCTIONS[name]
    with np.errstate(all="ignore"):
        for sample in SAMPLES[name]:
            args, attrs = (sample[:-1], sample[-1]) if isinstance(sample[-1], dict) else (sample, {})
            for how in ({}, {"keep": True}, {"create_graph": True}):
                for y in results_of(function(*as_leaves(args), **attrs)):
                    y.backward(np.ones(y.shape), **how)
                    for t in ag.tape(y):
                        if t.op is None:
                            t.grad = None  # a gradient with a graph refers to the leaf that refers to it


def cycle(x):
    y = x * 2
    y.attrs = {"itself": y}
    return y


@pytest.mark.slow_but_every(4)
@pytest.mark.parametrize("name", SAMPLES)
def test_no_garbage_of_an_op(name):
    assert garbage_of(lambda: forward_and_backward(name)) == []


def transform_all():
    x = numbers(0, 3)

    def f(x):
        return np.sin(x).prod() + ag.checkpoint(np.tanh)(x).sum()
    ag.value_and_grad(f)(x)
    ag.vjp(f, x)[1](np.ones(()))
    ag.jvp(f, (x,), (x,))
    ag.hvp(f, x, x)
    ag.hessian(f)(x)
    ag.jacobian(np.exp)(x)
    ag.grad(lambda x: ag.grad(f)(x).sum())(x)


def a_failing_rule():
    def wrong(g, y, x):
        raise ValueError("planted")
    rule = ag.REGISTRY["exp"].rules[0]
    ag.REGISTRY["exp"].rules[0] = (wrong, None)
    try:
        np.exp(ag.tensor(1.0, requires_grad=True)).backward()
    except ValueError:
        pass
    finally:
        ag.REGISTRY["exp"].rules[0] = rule


def a_refused_call():
    try:
        ag.tensor([1.0, 2.0], requires_grad=True) @ ag.tensor([1.0, 2.0, 3.0])
    except ValueError:
        pass


@pytest.mark.parametrize("work", [transform_all, a_failing_rule, a_refused_call, lambda: one_job(1),
                                  lambda: one_job(2), lambda: one_job(3), lambda: one_job(6)],
                         ids=["transforms", "failing rule", "refused call", "kept", "checkpointed", "create_graph",
                              "many outputs"])
def test_no_garbage_of(work):
    assert garbage_of(work) == []


def test_a_gradient_with_a_graph_refers_to_its_leaf():
    """The one cycle there is, as in PyTorch: it ends where `.grad` is set to None, and ag.grad makes none."""
    def work():
        x = ag.tensor([1.0], requires_grad=True)
        np.square(x).backward(create_graph=True)
    assert garbage_of(work) != []


@pytest.mark.parametrize("kind", ["Tensor", "dict"])
def test_a_cycle_is_found(kind):
    found = garbage_of(lambda: cycle(ag.tensor([1.0], requires_grad=True)))
    assert any(text.startswith(kind) for text in found)
    assert gc.get_debug() == 0 and gc.garbage == [] and gc.isenabled()


def test_a_closure_over_its_own_result_is_found():
    def work():
        x = ag.tensor([1.0], requires_grad=True)

        def again():
            return again, x
        again()
    assert any("cell" in text or "function" in text for text in garbage_of(work))
