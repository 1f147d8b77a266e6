"""The choice of the number of threads, by made-up times, so that nothing here depends on the machine."""

import threading

import numpy as np
import pytest

from gpt import GPT, GPTConfig
from gpt.generation import pace
from gpt.generation.incremental import DecodingState
from gpt.generation.pace import Pace, Threads
from gpt.runtime.worker_pool import WorkerPool
from tests.packing import pack_model


def quiet(n):
    return 1 / n


def crowded(n):
    """One thread of another program on each core: threads that wait for each other take ten times as long."""
    return 1.5 if n == 1 else 10.0


def narrow(n):
    """Memory is the limit from 4 threads on, and more are in each other's way."""
    return max(1 / n, 0.25) + 0.02 * n


def steps(chosen, times, n):
    """The numbers of threads of `n` steps, and the seconds that they take together."""
    used, total = [], 0.0
    for _ in range(n):
        used.append(chosen.n)
        total += times(chosen.n)
        chosen.note(times(chosen.n))
    return used, total


@pytest.mark.parametrize("most", [2, 3, 6, 8, 16, 64])
def test_all_threads_on_a_quiet_machine(most):
    chosen = Pace(most)
    used, total = steps(chosen, quiet, 3000)
    assert used[0] == most and chosen.chosen == most and total < 1.1 * 3000 / most + 1


@pytest.mark.parametrize("most", [2, 3, 6, 8, 16, 64])
def test_one_thread_on_a_crowded_one(most):
    chosen = Pace(most)
    used, total = steps(chosen, crowded, 30)  # of the first layers only the first one is slow
    assert used == [most] + [1] * 29
    _, total = steps(chosen, crowded, 3000)
    assert chosen.chosen == 1 and total < 1.05 * 3000 * crowded(1)


def test_as_many_as_help():
    chosen = Pace(16)
    _, total = steps(chosen, narrow, 4000)
    assert chosen.chosen == 4 and total < 1.1 * 4000 * narrow(4)


def test_the_number_follows_the_machine():
    chosen = Pace(8)
    steps(chosen, quiet, 1000)
    used, total = steps(chosen, crowded, 600)
    assert chosen.chosen == 1 and max(used[64:]) <= 2 and total < 1.5 * 600 * crowded(1)  # at once, not in its turn
    used, _ = steps(chosen, quiet, 6000)
    assert chosen.chosen == 8


def test_a_single_slow_step_does_not_change_it():
    chosen = Pace(2)
    steps(chosen, quiet, 40)
    for place in range(400):
        chosen.note(quiet(chosen.n) * (30 if place % 97 == 5 else 1))
    steps(chosen, quiet, 64)
    assert chosen.chosen == 2


def test_trials_cost_little():
    """A number of threads that is a hundred times slower is tried the more rarely."""
    chosen = Pace(2)
    used, total = steps(chosen, lambda n: 1 if n == 1 else 100, 20_000)
    assert used.count(2) <= 8 and total < 20_000 * (1 + 1.5 / 32)


def test_a_number_that_is_hardly_slower_is_not_chosen():
    chosen = Pace(2)
    for _ in range(3000):
        chosen.note(1 if chosen.n == 2 else 1.06)
        assert chosen.chosen == 2


class Library:
    """In place of a library of matrix products: its number of threads, and all there were."""

    def __init__(self, n):
        self.n, self.were = n, []

    def get_num_threads(self):
        return self.n

    def set_num_threads(self, n):
        self.n = n
        self.were.append(n)


@pytest.fixture
def library(monkeypatch):
    made = Library(4)
    monkeypatch.setattr(pace, "_libraries", lambda: [made])
    return made


@pytest.fixture
def clock(monkeypatch, library):
    """A clock that a step advances as `crowded` says."""
    now = [0.0]

    def read():
        now[0] += crowded(library.n)
        return now[0]

    monkeypatch.setattr(pace.time, "perf_counter", read)


def test_a_model_reads_with_the_number_that_is_faster(model, library, clock):
    context = DecodingState(model, [np.array([1, 2, 3])])
    for i in range(4):
        context.logits()
        assert library.n == 4  # as before, whatever a token is read with
        context.append([i])
    assert library.were[-2:] == [1, 4]


def test_steps_of_another_size_begin_with_the_number_chosen_last(library, clock):
    used = []
    with Threads() as threads:
        for size in (200, 1):
            used.append([library.n for _ in threads.each(range(4), size)])
    assert used == [[4, 1, 1, 1], [1, 1, 1, 1]] and library.n == 4


def test_the_number_of_before_holds_after_an_error(model, library, clock):
    context = DecodingState(model, [np.array([1, 2, 3])])
    context.logits()
    context.append([1])
    context.model.h[1] = None
    with pytest.raises(TypeError):
        context.logits()
    assert library.n == 4 and not pace._CHOOSING.locked()


@pytest.mark.parametrize("n", [1, 4])
def test_where_nothing_is_to_be_chosen(model, library, n):
    library.n = n
    held = threading.Event()
    if n == 4:
        pace._CHOOSING.acquire()  # as another thread would
        held.set()
    try:
        DecodingState(model, [np.array([1, 2, 3])]).logits()
    finally:
        if held.is_set():
            pace._CHOOSING.release()
    assert library.were == []


def test_tokens_on_packed_weights_have_one_thread(library, monkeypatch):
    """Their products are not BLAS's, even where a clock says that four threads are faster."""
    now = [0.0]
    monkeypatch.setattr(pace.time, "perf_counter", lambda: now.append(now[-1] + quiet(library.n)) or now[-1])
    packed, _ = pack_model(GPT(GPTConfig(vocab_size=64, block_size=32, n_layer=2, n_head=2, n_embd=32)), "F16")
    context = DecodingState(packed, [np.arange(20)])
    context.logits()
    assert library.n == 4
    for i in range(5):
        context.append([i])
        library.were.clear()
        context.logits()
        assert library.were == [1, 4]  # at once, and back


def test_a_team_keeps_its_one_thread(model):
    with WorkerPool(2):
        assert max(each.get_num_threads() for each in pace._libraries()) == 1
        with Threads() as threads:
            assert threads.most == 1
        DecodingState(model, [np.array([1, 2])]).logits()
        assert max(each.get_num_threads() for each in pace._libraries()) == 1
