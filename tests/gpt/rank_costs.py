"""Costs of training on ranks: message times, ring and tree all-reduce beside their simulation, efficiency, noise scale.

    python -m tests.gpt.rank_costs messages      message times and all-reduces of 2 ranks, simulated and measured
    python -m tests.gpt.rank_costs efficiency 5  2 ranks x 1 thread beside 1 rank x 2 threads, in turn, 5 rounds
    python -m tests.gpt.rank_costs noise         gradient noise scale of the default recipe, during its training
    python -m tests.gpt.rank_costs plan          steps on 1 to 1,024 ranks, from the constants below
"""

import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from gpt import GPT, TrainConfig
from gpt.data.dataset import load_data
from gpt.runtime.environment import fastest_kernels
from gpt.training.trainer import Trainer

SIZES = (1 << 10, 1 << 14, 1 << 18, 1 << 20, 1 << 22, 1 << 25)  # bytes of a message
SIX_LAYERS = ("--recipe nanogpt --n-layer 6 --n-head 6 --n-embd 384 --block-size 256 --batch-size 4 "
              "--max-iters 10").split()
MODELS = {"recipe": ["--max-iters", "150"], "6 layers": SIX_LAYERS}


def launch(n, *arguments):
    """Return the command that starts n ranks."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return [shutil.which("mpiexec", path=path), "-n", str(n), sys.executable, *arguments]


# ---------------------------------------------------------------------- all-reduce


def ring(p, size):
    """Yield the rounds of a ring all-reduce: bytes, the rank that each receives from, and whether it adds them up."""
    for i in range(2 * (p - 1)):  # reduce-scatter, then all-gather, of one piece of p
        yield size / p, [(rank - 1) % p for rank in range(p)], i < p - 1


def tree(p, size):
    """Yield the rounds of recursive doubling: all bytes, exchanged with the rank that differs in one bit."""
    for bit in range(p.bit_length() - 1):
        yield size, [rank ^ 1 << bit for rank in range(p)], True


def simulate(rounds, message_time, add_time, late):
    """Return when the last rank has the sum, in seconds: in each round a rank waits for the one it receives from.
    `message_time`: of so many bytes; `add_time`: of a byte; `late`: when each rank begins."""
    clocks = list(late)
    for size, sources, adds in rounds:
        took = message_time(size) + adds * add_time * size
        clocks = [max(own, clocks[source]) + took for own, source in zip(clocks, sources)]
    return max(clocks)


def measure():
    """On 2 ranks: print times of messages, of a ring and a tree built of them, and of MPI's all-reduce."""
    from mpi4py import MPI
    world = MPI.COMM_WORLD
    if world.rank == 0:
        print("     bytes  message  ring: simulated  measured  tree: simulated  measured  MPI_Allreduce   (us)")
    for size in SIZES:
        message, half_message, adds, ring_took, tree_took, mpi_took = times_of(world, MPI, size)
        times = {size: message, size // 2: half_message}
        simulated = [simulate(rounds(2, size), times.__getitem__, adds / size, (0, 0)) for rounds in (ring, tree)]
        if world.rank == 0:
            us = [1e6 * t for t in (message, simulated[0], ring_took, simulated[1], tree_took, mpi_took)]
            print("{:10,} {:8.1f} {:16.1f} {:9.1f} {:16.1f} {:9.1f} {:14.1f}".format(size, *us), flush=True)


def times_of(world, mpi, size):
    """Return the least seconds of a message of so many bytes, one of half as many, the sum of two arrays, a ring and a
    tree all-reduce, and MPI's."""
    a, b, other, half = np.zeros(size // 4, np.float32), np.zeros(size // 4, np.float32), 1 - world.rank, size // 8
    mine, others = (a[rank * half:(rank + 1) * half] for rank in (world.rank, other))

    def exchange(sent, received):
        world.Sendrecv(sent, other, recvbuf=received, source=other)

    def run_ring():
        exchange(others, b[:half])
        np.add(mine, b[:half], out=mine)
        exchange(mine, others)

    def run_tree():
        exchange(a, b)
        np.add(a, b, out=a)

    def least(work):
        times = []
        for _ in range(100):
            world.Barrier()
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
        return world.allreduce(min(times), mpi.MAX)

    return [least(work) for work in (lambda: exchange(a, b), lambda: exchange(others, b[:half]),
                                     lambda: np.add(a, b, out=a), run_ring, run_tree,
                                     lambda: world.Allreduce(mpi.IN_PLACE, a))]


# ---------------------------------------------------------------------- efficiency


def step_times(model, ranks):
    """Train; return the median and the tenth quantile of the milliseconds of a step."""
    with tempfile.TemporaryDirectory() as out:
        command = ["-m", "gpt", "train", *MODELS[model], "--eval-interval", "100000", "--eval-iters", "1",
                   "--no-ladder", "--out", out, "--replicas", str(2 // ranks)]
        subprocess.run(launch(2, *command) if ranks == 2 else [sys.executable, *command], check=True,
                       capture_output=True)
        ms = sorted(json.loads(line)["ms"] for line in (Path(out) / "metrics.jsonl").read_text().splitlines()[2:])
    return statistics.median(ms), ms[len(ms) // 10]


def efficiency(rounds):
    """Print the time of a step on 1 rank x 2 threads over that on 2 ranks x 1 thread: medians over the rounds."""
    for model in MODELS:
        pairs = [(step_times(model, 1), step_times(model, 2)) for _ in range(rounds)]
        for i, name in enumerate(("median", "tenth quantile")):
            threads, ranks = (statistics.median(pair[side][i] for pair in pairs) for side in (0, 1))
            each = ", ".join(f"{a[i] / b[i]:.2f}" for a, b in pairs)
            print(f"{model}, {name}: 2 threads {threads:.1f} ms, 2 ranks {ranks:.1f} ms, efficiency "
                  f"{threads / ranks:.3f} (rounds: {each})", flush=True)


# ---------------------------------------------------------------------- batch size


def noise(n=32):
    """Print the gradient noise scale (McCandlish et al. 2018, appendix A.1) in windows, from the norms of n gradients
    of a batch and of their mean, after 0, 50 … 300 steps of the default recipe."""
    c = TrainConfig.from_recipe(replicas=1)
    data, tokenizer = load_data((), "char", c.block_size)
    trainer = Trainer(c, GPT(c.model_config(tokenizer.vocab_size), seed=c.seed), data)
    rng, small, large = np.random.default_rng(0), c.batch_size, n * c.batch_size
    while True:
        if trainer.iter % 50 == 0:
            total, squares = np.zeros_like(trainer.parameters.grad), 0.0
            for _ in range(n):
                trainer.replicas.gradient(*data.train_batch(rng, small))
                total += trainer.parameters.grad
                squares += trainer.replicas.norm ** 2 / n
            mean = float(np.vdot(total, total)) / n ** 2
            signal = (large * mean - small * squares) / (large - small)
            spread = (squares - mean) / (1 / small - 1 / large)
            print(f"after {trainer.iter:3} steps: {spread / signal:8.1f} windows", flush=True)
        if trainer.iter == c.max_iters:
            return
        trainer.step()


# ---------------------------------------------------------------------- plan

# Bytes of the gradient, seconds of the forward and backward pass of a batch on one thread, and of the optimizer
CASES = {
    "recipe": (3.26e6, 0.038, 0.0086), "6 layers": (43.0e6, 1.71, 0.027),
}
LINKS = {"shared memory": (5e-6, 6e9), "10 Gbit/s Ethernet": (3e-5, 1.1e9), "200 Gbit/s InfiniBand": (2e-6, 2.2e10)}


def plan(size, compute, optimizer, latency, bandwidth, sizes=(1, 2, 4, 8, 16, 64, 256, 1000)):
    """Yield for numbers of ranks the seconds of a step: its share of the passes, and the all-reduce by the faster of
    ring and tree; and the efficiency, without and with an all-reduce beside the backward pass."""
    for p in sizes:
        def took(n):
            return latency + n / bandwidth
        reduce = min(2 * (p - 1) * took(size / p), math.ceil(math.log2(p)) * took(size)) if p > 1 else 0.0
        share, one = compute / p, compute + optimizer
        yield p, share, reduce, one / p / (share + optimizer + reduce), \
            one / p / (share + optimizer + max(0.0, reduce - share * 2 / 3))


def print_plan():
    """Print the plan of each case over each link."""
    for name, case in CASES.items():
        for link, constants in LINKS.items():
            print(f"{name}, {link}\n  ranks  passes ms  all-reduce ms  efficiency  overlapped")
            for p, share, reduce, plain, hidden in plan(*case, *constants):
                print(f"  {p:5} {1e3 * share:10.2f} {1e3 * reduce:14.2f} {plain:11.2f} {hidden:11.2f}")


if __name__ == "__main__":
    task, *rest = sys.argv[1:] or ["plan"]
    if task == "messages" and "PMI_RANK" not in os.environ:
        subprocess.run(launch(2, "-m", "tests.gpt.rank_costs", "messages"), check=True)
    elif task == "messages":
        measure()
    elif task == "efficiency":
        efficiency(int(rest[0]) if rest else 3)
    elif task == "noise":
        with fastest_kernels():
            noise()
    else:
        print_plan()
