"""BLAS libraries are found and limited by threadpoolctl; without it nothing is known and nothing fails."""

import sys

from threadpoolctl import threadpool_info

from gpt.generation.pace import Threads
from gpt.runtime import blas
from gpt.runtime.environment import environment
from gpt.runtime.worker_pool import WorkerPool


def blas_threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_a_limit_holds_until_its_end():
    before = blas_threads()
    assert len(blas.blas_libraries()) == len(before) > 0
    with blas.limit_blas_threads(1):
        assert set(blas_threads()) == {1}
    assert blas_threads() == before


def test_without_threadpoolctl(monkeypatch):
    monkeypatch.setattr(blas, "ThreadpoolController", None)
    assert blas.blas_libraries() == [] and environment(1)["blas"] == "unknown"
    before = blas_threads()
    with WorkerPool(2) as pool, blas.limit_blas_threads(1):
        assert pool.run(lambda i: i) == [0, 1] and blas_threads() == before


def test_generation_without_threadpoolctl(monkeypatch):
    monkeypatch.setattr(sys.modules["gpt.generation.pace"], "_libraries", list)
    with Threads() as threads:
        assert threads.most == 1 and list(threads.each([1, 2], 1)) == [1, 2]
