"""Nothing is lost to kills and full disks: some of the cases of `python -m tests.gpt.kills`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fcntl")
pytest.importorskip("tokenizers")
ROOT = Path(__file__).parents[2]


def kills(*argv):
    """Count the kills and faults at calls to the disk, and at random moments, that left nothing lost."""
    done = subprocess.run([sys.executable, "-m", "tests.gpt.kills", *map(str, argv)], cwd=ROOT, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    found = re.search(r"(\d+) kills and faults at calls, (\d+) at random moments: nothing was lost", done.stdout)
    return int(found[1]), int(found[2])


def test_some_calls_and_some_moments():
    at_calls, at_random = kills("--every", 40, "--random", 5)
    assert at_calls > 40 and at_random == 5


@pytest.mark.long
def test_many_calls_and_many_moments():
    at_calls, at_random = kills("--every", 8, "--random", 30)
    assert at_calls > 250 and at_random == 30
