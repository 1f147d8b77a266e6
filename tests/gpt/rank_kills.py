"""Kills of random ranks at random moments of a job under mpiexec, which goes on after each:

    python -m tests.gpt.rank_kills 100

After each kill the newest checkpoint has to be whole; at the end the run has to hold the same bits as one that nothing
has stopped.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from gpt import checkpoint
from tests.gpt.conftest import TEXT, TINY
from tests.gpt.training.test_ranks import environ, flags, mpiexec, rank_processes
from tests.gpt.training.test_resume import assert_equal_runs

STEPS = 1000  # of training for each kill
AT_THE_START = 0.25  # share of the kills before the first step


def start(arguments):
    """Start a job of two ranks."""
    return subprocess.Popen(mpiexec(2, "-m", "gpt", *arguments), env=environ(), stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)


def kill_at_random(job, metrics, begins):
    """Kill a rank of a job: while it begins, which takes about so many seconds, or once it has trained for a moment;
    return True if it was still running."""
    before = metrics.stat().st_mtime_ns if metrics.exists() else 0
    if random.random() < AT_THE_START:
        time.sleep(random.random() * begins)
    else:
        while job.poll() is None and (metrics.stat().st_mtime_ns if metrics.exists() else 0) == before:
            time.sleep(0.01)
        time.sleep(random.random() * 0.3)
    with suppress(OSError, IndexError, ValueError):  # it has ended, or not begun
        ranks = rank_processes(job.pid)
        os.kill(ranks[random.choice(list(ranks))], signal.SIGKILL)
    status = job.wait(timeout=120)
    assert status in (0, 9), status
    return status == 9


def main(n):
    """Kill n times."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text(TEXT, encoding="utf-8")
        settings = TINY | {"data": (str(text),), "dropout": 0.1, "max_iters": STEPS * n, "eval_interval": STEPS,
                           "checkpoint_interval": 20}
        whole, out = str(Path(folder) / "whole"), str(Path(folder) / "out")
        began = time.monotonic()
        assert start(flags(settings | {"max_iters": 1, "out": whole})).wait() == 0
        begins, kills, i = time.monotonic() - began, 0, 0
        assert start([*flags(settings, out=whole), "--overwrite"]).wait() == 0
        while i < STEPS * n:
            exists = (Path(out) / checkpoint.FILE).exists()
            job = start(["train", "--resume", out] if exists else flags(settings, out=out))
            if kills < n:
                kills += kill_at_random(job, Path(out) / "metrics.jsonl", begins)
            else:
                assert job.wait() == 0
            if (Path(out) / checkpoint.FILE).exists():
                i = checkpoint.load_checkpoint(out).metadata["iter"]
            print(f"{kills} kills, at step {i} of {STEPS * n}", flush=True)
        assert_equal_runs(out, whole)
        print(f"{kills} kills of 2 ranks, resumed: equal to the run that nothing has stopped")


if __name__ == "__main__":
    main(int(sys.argv[1]))
