"""Ranks: one run on several processes, equal to that on one, and in order however it ends."""

import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import gpt
from gpt import TrainConfig, checkpoint
from gpt.runtime.ranks import ALONE, RankError, Ranks
from gpt.runtime.worker_pool import SINGLE, WorkerPool
from gpt.training.data_parallel import Replicas
from gpt.training.train import prepare_data
from gpt.training.trainer import Trainer

from .test_resume import assert_equal_runs

ROOT = Path(__file__).parents[3]
rng = np.random.default_rng(0)


class Communicator:
    """MPI's communicator among threads, as far as `Ranks` needs it."""

    def __init__(self, size, rank=0, shared=None):
        self.size, self.rank = size, rank
        self.shared = shared or SimpleNamespace(calls={}, lock=threading.Lock())
        self.n_calls = 0

    def of_rank(self, rank):
        return Communicator(self.size, rank, self.shared)

    def enter(self, value):
        """Give a value to the next call; return the list of those of all ranks, which fills."""
        with self.shared.lock:
            values = self.shared.calls.setdefault(self.n_calls, {})
            values[self.rank] = value
        self.n_calls += 1
        return values

    def Iallreduce(self, in_place, array):
        values = self.enter(array.copy())

        def finish():
            if len(values) < self.size:
                return False
            array[...] = sum(values[i] for i in range(self.size))
            return True
        return SimpleNamespace(Test=finish)

    def allgather(self, value):
        values = self.enter(value)
        while len(values) < self.size:
            time.sleep(1e-4)
        return [values[i] for i in range(self.size)]

    def Split_type(self, kind):
        return self


MPI = SimpleNamespace(IN_PLACE=None, COMM_TYPE_SHARED=0)


def on_ranks(n, work):
    """Run `work(ranks)` on n ranks, each a thread; return the results, or the errors."""
    shared, results = Communicator(n), [None] * n

    def one(i):
        try:
            results[i] = work(Ranks(shared.of_rank(i), MPI))
        except Exception as error:
            results[i] = error
    threads = [threading.Thread(target=one, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def trainer(settings, ranks=ALONE, pool=SINGLE):
    c = TrainConfig(**settings)
    data, tokenizer = prepare_data(c)
    return Trainer(c, gpt.GPT(c.model_config(tokenizer.vocab_size), seed=c.seed), data, pool, ranks)


def rows(trainer):
    return [(r.iter, r.loss, r.evaluation.val_loss if r.evaluation else None) for r in trainer.run()]


# ---------------------------------------------------------------------- the calls


def test_collective_calls():
    def work(ranks):
        array = np.full(5, 10.0 ** ranks.rank)
        ranks.all_reduce(array)
        return ranks.sum(ranks.rank), array.tolist(), ranks.gather("abc"[ranks.rank]), ranks.hosts
    assert on_ranks(3, work) == [(3, [111.0] * 5, ["a", "b", "c"], 1)] * 3


def test_a_rank_that_fails_ends_all_with_its_name():
    def work(ranks):
        if ranks.rank == 1:
            ranks.fail("no memory")
            return "told"
        return ranks.gather(0)
    first, told, third = on_ranks(3, work)
    assert told == "told" and isinstance(first, RankError) and str(first) == str(third)
    assert str(first) == f"rank 1 of 3, on {platform.node()}: no memory"


def test_all_get_a_signal_at_the_same_call():
    def work(ranks):
        own = []
        stop, seen = ranks.watch(own), []
        for i in range(4):
            if (ranks.rank, i) == (1, 2):
                own.append(signal.SIGTERM)
            ranks.sum(0)
            seen.append(list(stop))
        return seen
    assert on_ranks(2, work) == [[[], [], [signal.SIGTERM], [signal.SIGTERM]]] * 2


def test_the_wait_for_others_has_an_end():
    def work(ranks):
        return ranks.sum(0, patience=0.05) if ranks.rank else time.sleep(0.2)
    assert "rank 1 of 2 has waited" in str(on_ranks(2, work)[1])


def test_facts_that_differ_are_named():
    errors = on_ranks(3, lambda ranks: ranks.agree(numpy="2", batch_size=8 + (ranks.rank == 2)))
    assert {str(e) for e in errors} == {"batch size: 8 on rank 0, and 9 on rank 2; the ranks of a run need the same"}


def test_the_first_rank_goes_first():
    order = []

    def work(ranks):
        with ranks.in_turn():
            time.sleep(0.02 * ranks.leads)
            order.append(ranks.rank)
    on_ranks(3, work)
    assert order[0] == 0 and len(order) == 3


# ---------------------------------------------------------------------- a trainer on ranks


@pytest.mark.parametrize("n", [2, 3, 5])  # of 4 rows, so that one has none
def test_shards_add_up_to_the_batch(n):
    model = gpt.GPT(gpt.GPTConfig(vocab_size=11, block_size=8, n_layer=1, n_head=2, n_embd=8), seed=3)
    ids, targets = rng.integers(0, 11, (2, 4, 8))
    targets[0, :5] = targets[2] = -100

    def work(ranks):
        own = gpt.GPT(model.config, seed=3)
        parameters = gpt.Parameters(own)
        replicas = Replicas(own, parameters, SINGLE, [None], ranks=ranks)
        loss = replicas.gradient(ids, targets)
        ranks.all_reduce(parameters.grad)
        return loss, replicas.loss(ids, targets), parameters.grad.copy()
    first, *others = on_ranks(n, work)
    loss, evaluated, grad = first
    parameters = gpt.Parameters(model)
    expected = model.loss(ids, targets)
    expected.backward()
    assert loss == pytest.approx(float(expected.data), rel=1e-6) == evaluated
    np.testing.assert_allclose(grad, parameters.grad, rtol=1e-4, atol=1e-7)
    for other in others:
        assert other[0] == loss and np.array_equal(other[2], grad)


def test_two_ranks_train_as_two_threads_do(tiny):
    """To the bit: the sum of two gradients is the same wherever they come from; clipping would round the norm."""
    settings = tiny | {"grad_clip": 0, "dropout": 0.1}
    with WorkerPool(2) as pool:
        threads = trainer(settings, pool=pool)
        expected = rows(threads)

    def work(ranks):
        own = trainer(settings, ranks)
        return rows(own), own.parameters.data, own.state()["dropout"]
    for found, weights, states in on_ranks(2, work):
        assert found == expected and np.array_equal(weights, threads.parameters.data)
        assert states == threads.state()["dropout"]


@pytest.mark.parametrize("changes", [{}, {"accumulate": 2}, {"batches": "shuffled", "optimizer": "muon"}], ids=str)
def test_more_ranks_learn_the_same_to_rounding(tiny, changes):
    expected = np.array(rows(trainer(tiny | changes)), float)
    for found in on_ranks(4, lambda ranks: rows(trainer(tiny | changes, ranks))):
        np.testing.assert_allclose(np.array(found, float), expected, rtol=1e-4)


def test_weights_that_differ_in_a_bit_end_the_run(tiny):
    def work(ranks):
        own = trainer(tiny, ranks)
        for result in own.run():
            if result.iter == 12 and ranks.rank == 1:
                own.parameters.data.view(np.uint32)[5] ^= 1
    errors = on_ranks(2, work)
    assert all("checksum of the weights after 20 steps" in str(error) for error in errors)


def test_the_time_limit_is_that_of_the_first_rank(tiny):
    def work(ranks):
        own = trainer(tiny | {"max_iters": 10**6, "time_limit": 0.002}, ranks)
        if ranks.rank:
            own.seconds = -100.0
        return rows(own)[-1]
    first, second = on_ranks(2, work)
    assert first == second


# ---------------------------------------------------------------------- processes

NO_MPI = "import sys; sys.modules['mpi4py'] = None; import gpt.cli; gpt.cli.run()"
FAULTS = """
import errno, os, sys
import gpt.cli
from gpt.training.data_parallel import Replicas
module = sys.modules["gpt.training.train"]
save, gradient, calls = module.save_run, Replicas.gradient, []
def full(*args):
    calls.append(0)
    if len(calls) == 2: raise OSError(errno.ENOSPC, "No space left on device")
    save(*args)
def broken(*args):
    calls.append(0)
    if len(calls) == 15: raise MemoryError
    return gradient(*args)
fault = sys.argv.pop(1)
if fault == "disk": module.save_run = full
if fault == "memory" and os.environ["PMI_RANK"] == "1": Replicas.gradient = broken
if fault == "settings" and os.environ["PMI_RANK"] == "1": sys.argv += ["--seed", "4"]
gpt.cli.run()
"""


def mpiexec(n, *arguments):
    pytest.importorskip("mpi4py")
    program = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    return [program, "-n", str(n), sys.executable, *arguments]


def environ():
    return os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}


def flags(settings, **changes):
    return ["train", "--recipe", "nanogpt", "--replicas", "1", "--no-ladder",
            *(text for name, value in (settings | changes).items() for text in
              (f"--{name.replace('_', '-')}", *(value if isinstance(value, tuple) else [str(value)])))]


def lines_of(out):
    with suppress(FileNotFoundError):
        return (Path(out) / "metrics.jsonl").read_text().count("\n")
    return 0


def rank_processes(launcher):
    """Return the process ids of the ranks, by rank: the grandchildren of mpiexec."""
    def children(pid):
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    ranks = [child for proxy in children(launcher) for child in children(proxy)]

    def rank_of(pid):
        return int(Path(f"/proc/{pid}/environ").read_text().partition("PMI_RANK=")[2].partition("\0")[0])
    return dict(sorted((rank_of(pid), pid) for pid in ranks))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_a_job_that_is_killed_goes_on_with_the_same_bits(tiny, tmp_path):
    """SIGKILL to a rank; then Ctrl-C to mpiexec; then to the end, against a run that nothing stops."""
    settings = tiny | {"dropout": 0.1, "max_iters": 400, "eval_interval": 200, "checkpoint_interval": 20}
    whole = str(tmp_path / "whole")
    subprocess.run(mpiexec(2, "-m", "gpt", *flags(settings, out=whole)), env=environ(), check=True, capture_output=True)
    more = ["train", "--resume", settings["out"]]
    for arguments, number in (flags(settings), signal.SIGKILL), (more, signal.SIGINT):
        job = subprocess.Popen(mpiexec(2, "-m", "gpt", *arguments), env=environ(), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
        seen = lines_of(settings["out"])
        while lines_of(settings["out"]) < seen + 40:
            assert job.poll() is None, job.stderr.read()
            time.sleep(0.005)
        os.kill(rank_processes(job.pid)[1] if number == signal.SIGKILL else job.pid, number)
        _, said = job.communicate(timeout=60)
        assert job.returncode == {signal.SIGKILL: 9, signal.SIGINT: 130}[number]
        if number == signal.SIGINT:
            assert "gpt: stopped after" in said and said.count("gpt: ") == 1
        assert 0 < checkpoint.read_metadata(settings["out"])["iter"] < 400
    subprocess.run(mpiexec(2, "-m", "gpt", *more), env=environ(), check=True, capture_output=True)
    assert_equal_runs(settings["out"], whole)


@pytest.mark.slow
@pytest.mark.parametrize("fault, said", [
    ("disk", "[Errno 28] No space left on device"), ("memory", f"rank 1 of 2, on {platform.node()}: MemoryError"),
    ("settings", "seed: 1337 on rank 0, and 4 on rank 1; the ranks of a run need the same")])
def test_a_failure_ends_all_ranks_with_one_line(tiny, fault, said):
    done = subprocess.run(mpiexec(2, "-c", FAULTS, fault, *flags(tiny)), env=environ(), capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 1 and done.stderr.strip() == f"gpt: error: {said}"
    if fault != "settings":
        assert checkpoint.read_metadata(tiny["out"])["iter"] == 10


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_without_mpi_one_rank_says_what_to_install(tmp_path, rank):
    done = subprocess.run([sys.executable, "-c", NO_MPI, "train", "--out", str(tmp_path)], capture_output=True,
                          text=True, env=environ() | {"PMI_RANK": str(rank), "MPI_LOCALRANKID": str(rank)})
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 - rank and ("pip install mpi4py mpich" in done.stderr) == (not rank)
