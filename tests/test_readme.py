"""The README's examples run as they stand, and its commands exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_there_are_examples():
    assert len(EXAMPLES) == 3


def run(code, folder):
    return subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=folder, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(README.parent)})


@pytest.mark.parametrize("code", EXAMPLES, ids=["engine", "views", "own op"])
def test_example_runs(code, tmp_path):
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_broken_rule_in_the_own_op_example_is_found(tmp_path):
    broken = EXAMPLES[2].replace("beta * y", "y")
    assert broken != EXAMPLES[2]
    done = run(broken, tmp_path)
    assert done.returncode == 1 and "swish: gradient of x is wrong" in done.stderr


@pytest.mark.parametrize("path", re.findall(r"`((?:autograd|gpt|tests)/[\w/]*(?:\.py)?)`", README.read_text("utf-8")))
def test_what_is_where_names_what_is_there(path):
    assert (README.parent / path).exists()
