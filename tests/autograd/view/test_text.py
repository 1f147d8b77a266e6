"""A tape as text: exact lines, long tapes, bytes."""

import numpy as np
import pytest

import autograd as ag
from autograd.view.text import kept_bytes, lines, norm, summary


def small_tape():
    x = ag.tensor(np.ones((2, 3)), name="x")
    w = ag.tensor(np.ones((3, 4)), requires_grad=True, name="w")
    with ag.scope("layer"):
        h = np.tanh(x @ w)
        h.name = "h"
    return ag.split(h, 2, axis=1)[0].sum(axis=0) * np.array([1.0, 2.0])


def test_a_small_tape():
    lines = [line.rsplit("  test_text.py:", 1)[0] for line in repr(ag.tape(small_tape())).splitlines()]
    assert lines == [
        "Tape of 8 records: 6 operations of 6 kinds, 1 parameter (12 numbers), 1 constant; keeps 176 bytes",
        "%0 'x' f64[2,3] = constant",
        "%1 'w' f64[3,4] = parameter",
        "%2 f64[2,4] = matmul(%0, %1)  layer",
        "%3 'h' f64[2,4] = tanh(%2)  layer",
        "%4 (f64[2,2], f64[2,2]) = split(%3, 2, axis=1)",
        "%5 f64[2,2] = _item(%4, i=0)",
        "%6 f64[2] = sum(%5, axis=0)",
        "%7 f64[2] = multiply(%6, f64[2])"]


def test_each_line_ends_with_the_line_of_the_users_code():
    y = ag.tensor(1.0, requires_grad=True) * 2  # this very line
    number = test_each_line_ends_with_the_line_of_the_users_code.__code__.co_firstlineno + 1
    assert all(line.endswith(f"test_text.py:{number}") for line in repr(ag.tape(y)).splitlines()[1:])


@pytest.mark.parametrize("file", ["/tmp/ipykernel_7/1234.py", "<ipython-input-7-e>", "/tmp/x/__marimo__cell_RGSE_.py"])
def test_a_line_of_a_notebook_is_called_a_cell(file):
    source = "import autograd as ag\ny = ag.tensor(1.0, requires_grad=True) * 2"
    made = {}
    exec(compile(source, file, "exec"), made)
    assert repr(ag.tape(made["y"])).endswith("  cell:2")


def test_a_freed_tape_keeps_its_lines():
    y = small_tape()
    before = repr(ag.tape(y)).splitlines()
    y.backward(np.ones(2))
    after = repr(ag.tape(y)).splitlines()
    assert after[1:] == before[1:]
    assert after[0].endswith("keeps 32 bytes")  # the result, and the array that was given


def test_a_chain_of_100_000_shows_head_and_tail():
    y = ag.tensor(1.0, requires_grad=True)
    for _ in range(100_000):
        y = y + 1
    lines = repr(ag.tape(y)).splitlines()
    assert len(lines) == 42 and lines[21] == "… 99,961 more records …"
    assert lines[1].startswith("%0 f64[] = parameter") and lines[-1].startswith("%100000 f64[] = add(%99999, 1)")


def test_a_line_of_many_inputs_and_arrays_names_those_at_the_ends():
    xs = [ag.tensor(np.ones((1, 2)), requires_grad=True) for _ in range(20)]
    joined = np.concatenate(xs)
    tape = ag.tape(np.split(joined, [1, 2, *range(4, 20)])[0])
    assert "= concatenate(%0, %1, %2, %3, %4, %5, %6, %7, … 4 more …, %12, %13," in lines(tape)[20]
    assert lines(tape)[21].startswith("%21 (f64[1,2], f64[1,2], f64[2,2], 16 × f64[1,2]) = split(%20, ")
    shapes = [i + 1 for i in range(30)]
    uneven = np.split(np.concatenate([np.ones(n) * xs[0][0, 0] for n in shapes]), np.cumsum(shapes)[:-1])[0].inputs[0]
    line = lines(ag.tape(uneven))[-1]
    assert line.count("f64[") == 16 and ", f64[8], … 14 more …, f64[23], " in line


def test_kept_bytes_count_each_buffer_once():
    w = ag.tensor(np.ones((10, 10)), requires_grad=True)
    y = (w.T + 1).T.reshape(100)  # a view of the leaf, 800 bytes, two views of these
    assert kept_bytes(ag.tape(y)) == 800


def test_summary():
    assert summary(np.array([1.0, 2.0])) == "[1., 2.]"
    assert summary(np.array(3)) == "3"
    assert summary(np.full(100, 2.0)) == "norm 20, 2…2, mean 2±0"
    assert summary(np.arange(20)) == "0…19"
    assert summary((np.array(1.0), np.array(2.0))) == "item 0: 1.; item 1: 2."
    assert summary(None) == "None" and summary(np.zeros((0, 3))) == "[]"


def test_norm_of_several():
    assert norm({0: np.array([3.0]), 2: np.array([[4.0]])}) == 5
    assert norm(np.full(4, 1e30, np.float32)) == pytest.approx(2e30)  # its squares overflow float32
