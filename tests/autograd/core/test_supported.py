"""`python -m autograd`: the table of what is supported, made from the registry."""

import subprocess
import sys

import autograd as ag
from autograd.__main__ import explain, supported


def run(*args):
    return subprocess.run([sys.executable, "-m", "autograd", *args], capture_output=True, text=True)


def test_the_table_has_a_line_for_each_op_and_function():
    lines = run().stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == sorted({*ag.REGISTRY, *ag.FUNCTIONS})
    rows = {name: rest for name, *rest in supported()}
    assert rows["matmul"][:2] == ["of x, y", "np.matmul, np.linalg.matmul"]
    assert rows["concatenate"][:2] == ["of xs", "np.concatenate"]
    assert rows["norm"][:2] == ["composed", "np.linalg.norm"] and rows["argmax"][:2] == ["none", "np.argmax"]
    assert rows["embedding"][0] == "of table" and rows["gelu"][1] == ""


def test_each_is_reached_by_its_name():
    """No function of the package stands before one of them."""
    for name, known in {**ag.REGISTRY, **ag.FUNCTIONS}.items():
        assert getattr(ag, name) is known


def test_every_line_says_what_it_is():
    assert all(what for *_, what in supported())


def test_one_of_them_whole():
    text = explain("softmax")
    assert text.startswith("softmax(x, axis=-1)\n\nProbabilities") and "∂L/∂x = y ⊙ (g − Σ g⊙y)" in text
    assert "∂L/∂y = −g ⊙ z / y" in explain("divide") and explain("std").startswith("std(x, axis=None, *, ddof=0")


def test_an_unknown_name_is_said():
    result = run("nonsense")
    assert result.returncode == 1 and "'nonsense'" in result.stderr and "Traceback" not in result.stderr
