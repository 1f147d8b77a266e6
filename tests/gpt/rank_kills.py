"""Kills of random ranks at random moments of a job under mpiexec, which goes on after each:

    python -m tests.gpt.rank_kills 100

After each kill the newest checkpoint has to be whole, and no process left; at the end the run has to hold the same bits
as one that nothing has stopped.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gpt import checkpoint
from tests.gpt.conftest import TEXT, TINY
from tests.gpt.training.test_ranks import environ, flags, mpiexec, rank_processes
from tests.gpt.training.test_resume import assert_equal_runs

STEPS = 10  # of training for each kill, on average


def start(arguments):
    """Start a job of two ranks."""
    return subprocess.Popen(mpiexec(2, "-m", "gpt", *arguments), env=environ(), stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)


def kill_at_random(job, seconds):
    """Kill a rank of a job within so many seconds of its start; return True if the job was still running."""
    time.sleep(random.random() * seconds)
    try:
        ranks = rank_processes(job.pid)
        os.kill(ranks[random.choice(list(ranks))], signal.SIGKILL)
    except (OSError, IndexError, ValueError, KeyError):  # it has ended, or not begun
        pass
    status = job.wait(timeout=60)
    assert status in (0, 9), status
    left = [pid for pid in locals().get("ranks", {}).values() if Path(f"/proc/{pid}").exists()]
    assert not left, left
    return status == 9


def main(n):
    """Kill n times."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text(TEXT, encoding="utf-8")
        settings = TINY | {"data": (str(text),), "dropout": 0.1, "max_iters": STEPS * n, "eval_interval": 5 * STEPS,
                           "checkpoint_interval": STEPS // 2}
        whole, out = str(Path(folder) / "whole"), str(Path(folder) / "out")
        began = time.monotonic()
        assert start(flags(settings, out=whole)).wait() == 0
        seconds, done, kills = time.monotonic() - began, False, 0
        while not done:
            exists = (Path(out) / checkpoint.FILE).exists()
            job = start(["train", "--resume", out] if exists else flags(settings, out=out))
            if kills < n:
                kills += kill_at_random(job, seconds)
            else:
                assert job.wait() == 0
            if (Path(out) / checkpoint.FILE).exists():
                done = checkpoint.load_checkpoint(out).metadata["iter"] == STEPS * n
            print(f"{kills} kills, {'whole' if exists else 'no checkpoint'}", end="\r", flush=True)
        assert_equal_runs(out, whole)
        print(f"{kills} kills of 2 ranks, resumed: equal to the run that nothing has stopped")


if __name__ == "__main__":
    main(int(sys.argv[1]))
