"""Replicas: the same gradient as the whole batch, whatever the timing, and threads that leave nothing behind."""

import functools
import gc
import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import gpt
from gpt.optim.parameters import global_norm
from gpt.runtime import worker_pool
from gpt.runtime.worker_pool import WorkerPool, cores
from gpt.training.data_parallel import Replicas

rng = np.random.default_rng(0)


def blas_threads():
    return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}


def delayed(run, slow, work, n=None):
    """`run`, in which thread `slow` is late."""
    def late(i):
        time.sleep(0.02 * (i == slow))
        return work(i)
    return run(late, n)


def small(**changes):
    model = gpt.GPT(gpt.GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=8, **changes), seed=3)
    return model, gpt.Parameters(model)


def test_without_threads_the_shards_are_computed_in_turn(monkeypatch):
    ids, targets = rng.integers(0, 11, (2, 4, 8))
    results = []
    for threads in (True, False):
        monkeypatch.setattr(worker_pool, "THREADS", threads)
        model, parameters = small()
        with WorkerPool(3) as pool:
            seen = pool.run(lambda i: time.sleep(0.01) or threading.get_ident())
            assert len(set(seen)) == (3 if threads else 1)
            loss = Replicas(model, parameters, pool, [None] * 3).gradient(ids, targets)
        results.append((loss, parameters.grad.copy()))
    assert results[0][0] == results[1][0] and np.array_equal(results[0][1], results[1][1])
    assert cores() == 1


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_slices_add_up_to_the_batch(n):
    model, parameters = small()
    ids, targets = rng.integers(0, 11, (2, 4, 8))
    targets[0, :5] = targets[2, 1] = -100  # slices that count differently
    expected = model.loss(ids, targets)
    expected.backward()
    gradient = parameters.grad.copy()
    with WorkerPool(n) as pool:
        replicas = Replicas(model, parameters, pool, [None] * n)
        for _ in range(2):
            parameters.grad[:] = np.nan  # it is set, not added to
            assert replicas.gradient(ids, targets) == pytest.approx(expected.item(), rel=1e-6)
            np.testing.assert_allclose(parameters.grad, gradient, rtol=1e-4, atol=1e-7)
        assert replicas.loss(ids, targets) == pytest.approx(expected.item(), rel=1e-6)


def test_a_slice_in_which_nothing_counts():
    model, parameters = small()
    ids, targets = rng.integers(0, 11, (2, 2, 8))
    targets[1] = -100
    with WorkerPool(2) as pool:
        loss = Replicas(model, parameters, pool, [None] * 2).gradient(ids, targets)
    assert loss == pytest.approx(model.loss(ids[:1], targets[:1]).item(), rel=1e-6)
    assert np.isfinite(parameters.grad).all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_norm_is_that_of_the_gradient_to_the_bit(n):
    model, parameters = small()
    with WorkerPool(n) as pool:
        replicas = Replicas(model, parameters, pool, [None] * n)
        for rows in (4, 1):  # and of fewer slices than threads
            replicas.gradient(*rng.integers(0, 11, (2, rows, 8)))
            assert replicas.norm == global_norm(parameters.grad, pool) > 0
            assert replicas.norm == pytest.approx(np.linalg.norm(parameters.grad), rel=1e-5)


@pytest.mark.parametrize("shape", [(2, 0, 8), (2, 3, 0)])
def test_a_batch_without_elements_is_refused(shape):
    model, parameters = small()
    with WorkerPool(2) as pool:
        replicas = Replicas(model, parameters, pool, [None] * 2)
        for compute in (replicas.gradient, replicas.loss):
            with pytest.raises(ValueError, match="has no elements, and so no mean loss: give it some rows"):
                compute(*np.zeros(shape, int))


def test_a_step_leaves_nothing_for_the_garbage_collector():
    model, parameters = small()
    ids, targets = rng.integers(0, 11, (2, 4, 8))
    with WorkerPool(2) as pool:
        replicas, optimizer = Replicas(model, parameters, pool, [None] * 2), gpt.AdamW(parameters)
        for steps in (2, 20):  # the first ones record
            gc.collect()
            gc.disable()
            try:
                for _ in range(steps):
                    replicas.gradient(ids, targets)
                    optimizer.step(0.01, 1.0, pool)
                    replicas.bump_version()
            finally:
                gc.enable()
        assert gc.collect() == 0


def test_one_replica_is_the_model_to_the_bit():
    model, parameters = small(dropout=0.2)
    ids, targets = rng.integers(0, 11, (2, 4, 8))
    expected = model.loss(ids, targets, np.random.default_rng(7))
    expected.backward()
    gradient = parameters.grad.copy()
    replicas = Replicas(model, parameters, WorkerPool(1), [np.random.default_rng(7)])
    assert replicas.gradient(ids, targets) == expected.item()
    assert np.array_equal(parameters.grad, gradient)


def test_the_result_does_not_depend_on_which_thread_is_faster(monkeypatch):
    model, parameters = small(dropout=0.1)
    ids, targets = rng.integers(0, 11, (2, 6, 8))
    results = set()
    for slow in (None, 0, 1, 2):
        with WorkerPool(3) as pool:
            replicas = Replicas(model, parameters, pool, [np.random.default_rng(i) for i in range(3)])

            monkeypatch.setattr(pool, "run", functools.partial(delayed, pool.run, slow))
            losses = [replicas.gradient(ids, targets) for _ in range(3)]
            results.add((tuple(losses), parameters.grad.tobytes()))
    assert len(results) == 1


def test_evaluation_has_no_dropout_and_draws_nothing():
    model, parameters = small(dropout=0.5)
    ids, targets = rng.integers(0, 11, (2, 4, 8))
    random = [np.random.default_rng(i) for i in range(2)]
    before = [r.bit_generator.state for r in random]
    with WorkerPool(2) as pool:
        replicas = Replicas(model, parameters, pool, random)
        assert replicas.loss(ids, targets) == pytest.approx(model.loss(ids, targets).item(), rel=1e-6)
    assert [r.bit_generator.state for r in random] == before


def test_a_team_gives_back_the_cores_and_its_threads():
    before, alive = blas_threads(), threading.active_count()
    with WorkerPool(2) as pool:
        assert blas_threads() == {1}
        assert pool.run(lambda i: (i, threading.get_ident())) != pool.run(lambda i: (i, 0))
    assert blas_threads() == before and threading.active_count() == alive


def test_a_team_that_gets_no_threads(monkeypatch):
    """As `ulimit -u` says."""
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    before = cores_of_blas()
    with pytest.raises(OSError, match=r"3 threads cannot be started here \(can't start new thread\): lower --replicas"):
        WorkerPool(3).__enter__()
    assert cores_of_blas() == before
    with WorkerPool(1) as pool:
        assert pool.run(lambda i: i) == [0]


def cores_of_blas():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_a_pool_outside_of_with_says_what_to_do():
    pool = WorkerPool(2)
    for _ in range(2):  # before it, and after it
        with pytest.raises(RuntimeError, match="the 2 threads of a worker pool run within `with pool:`"):
            pool.run(lambda i: i)
        with pool:
            assert pool.run(lambda i: i) == [0, 1]
    assert WorkerPool(1).run(lambda i: i) == [0]
    with pytest.raises(ValueError, match="a worker pool has 0 threads, and needs at least 1"):
        WorkerPool(0)


def test_an_error_in_a_thread_is_raised_once_all_have_ended():
    ended = []

    def work(i):
        if i == 0:
            raise ZeroDivisionError("first")
        time.sleep(0.05)
        ended.append(i)
        raise KeyError("others")

    with WorkerPool(3) as pool, pytest.raises(ZeroDivisionError):
        try:
            pool.run(work)
        finally:
            assert sorted(ended) == [1, 2]


@pytest.mark.parametrize("n, size", [(1, 10), (3, 10), (4, 3), (2, 0)])
def test_shards_cover_everything_once(n, size):
    parts = [list(range(size))[WorkerPool(n).shard(size, i)] for i in range(n)]
    assert sum(parts, []) == list(range(size))


def test_there_is_a_core():
    assert cores() >= 1


@pytest.mark.parametrize("optimizer", [gpt.AdamW, gpt.SGD])
def test_a_teams_step_is_one_threads_step_to_the_bit(optimizer):
    results = []
    for n in (1, 3):
        model, parameters = small()
        parameters.grad[:] = np.random.default_rng(1).normal(size=parameters.grad.size)
        with WorkerPool(n) as pool:
            step = optimizer(parameters, weight_decay=0.1)
            for _ in range(3):
                step.step(0.1, 0.5, pool)
        results.append(parameters.data.copy())
    assert np.array_equal(*results)
