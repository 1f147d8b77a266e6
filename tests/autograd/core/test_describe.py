"""Numbers in words."""

import numpy as np
import pytest

import autograd as ag
from autograd.core.describe import format_bytes, plural


@pytest.mark.parametrize("n, text", [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (12_345_678, "12.3 MB"),
                                     (5e9, "5.0 GB")])
def test_format_bytes(n, text):
    assert format_bytes(n) == text


@pytest.mark.parametrize("n, text", [(0, "0 records"), (1, "1 record"), (1234, "1,234 records")])
def test_plural(n, text):
    assert plural(n, "record") == text


@pytest.mark.parametrize("index, shown", [
    (np.s_[:, 0], "[:, 0]"), (np.s_[1:], "[1:]"), (np.s_[::-1], "[::-1]"), (np.s_[:, None, 2:3], "[:, None, 2:3]"),
    (np.s_[..., 1], "[..., 1]"), (np.s_[5], "[5]"), (np.s_[np.int64(1):], "[1:]"),
    ((np.array([0, 1]), slice(None)), "[i64[2], :]"), ((), "[]")])
def test_an_index_is_written_as_in_python(index, shown):
    t = ag.tensor(np.zeros((6, 5, 4)), requires_grad=True)[index]
    tape = ag.tape(t)
    assert f"getitem(%0, {shown})" in str(tape) and "slice(" not in str(tape)
    for view in (tape.draw().source, str(tape.player().data), repr(tape.stepper().step()), repr(t.explain())):
        assert "slice(" not in view and "Ellipsis" not in view
    assert shown in tape.draw().source or "array" in tape.draw().source


def test_an_index_of_a_record_and_the_other_ops_with_one():
    x, i = ag.tensor(np.zeros((6, 5)), requires_grad=True), ag.tensor([1, 2])
    assert "getitem(%0, [%1, ::2])" in str(ag.tape(x[i, ::2]))
    assert "put(%0, %1, [:, 0])" in str(ag.tape(ag.put(x, ag.tensor(np.ones(6)), slice(None), 0)))
    added = ag.scatter_add(ag.tensor([1.0, 2.0], requires_grad=True), slice(1, 3), shape=(4,))
    assert "scatter_add(%0, [1:3], shape=(4,))" in str(ag.tape(added))
