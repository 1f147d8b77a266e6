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


def tree():
    """The paths in the README's tree of folders."""
    text = README.read_text(encoding="utf-8").partition("## What is where")[2]
    paths, folder = [], ""
    for indent, names in re.findall(r"^    (  )?((?:\w+(?:/|\.py)  ?)+) +\S", text, re.MULTILINE):
        folder = folder if indent else names.strip()
        paths += [folder + name for name in names.split()] if indent else [folder]
    return paths


def test_the_tree_names_what_is_there():
    assert len(tree()) > 25 and [path for path in tree() if not (README.parent / path).exists()] == []


def test_every_folder_is_in_the_tree():
    folders = {f"{file.parent.relative_to(README.parent)}/" for package in ("autograd", "gpt")
               for file in (README.parent / package).glob("*/__init__.py")}
    assert folders <= set(tree())
