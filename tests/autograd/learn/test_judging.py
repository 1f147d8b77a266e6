"""A check names the case and the mistake, waits for a skeleton to be filled in, and never fails itself."""

import subprocess
import sys

import numpy as np
import pytest

import autograd as ag
from autograd.learn import check
from autograd.learn.judging import Unfinished, Wrong, ask, choose, equal, judge, same_names, yes_or_no


def complaint(f, *args, **kwargs):
    with pytest.raises(Wrong) as caught:
        f(*args, **kwargs)
    return str(caught.value)


def test_a_skeleton_waits_for_its_answer(capsys, new_op):
    def skeleton(g):
        """∂L/∂x"""
        ...

    waits = "Exercise {} waits for your answer: fill in `{}`, then run this cell again.\n".format
    check("2.1", ...)
    check("2.1", skeleton)
    check("2.3", skeleton, ...)  # the first that is missing, as the cell has them
    check("7.2", ag.op(skeleton))
    assert capsys.readouterr().out == (waits("2.1", "centred_back") * 2 + waits("2.3", "d_b") + waits("7.2", "softcap"))
    assert judge("2.3", lambda g, a, c: a.T @ g @ c.T, ...).text.count("`order`") == 1


def test_a_complaint_has_the_inputs_what_came_out_what_is_right_and_a_hint():
    text = judge("2.1", lambda g: g).text
    assert [line.split()[0] for line in text.splitlines()] == ["Exercise", "g", "came", "right", "That", "Hint:"]
    assert "[ 0.1257 -0.1321  0.6404  0.1049 -0.5357]" in text


def test_an_answer_that_raises_is_told_with_its_inputs_and_line():
    def broken(g):
        x = g
        return x / "2"

    text = judge("2.1", broken).text
    assert "broken raises TypeError" in text and f"in line {broken.__code__.co_firstlineno + 2} of" in text
    assert "  g = " in text


def test_an_unknown_exercise_and_too_few_answers_are_told():
    with pytest.raises(ValueError, match="there is no exercise '2.9': they are 1.1, 1.2"):
        judge("2.9", 1)
    with pytest.raises(TypeError, match=r'check\("2.3", d_b, order\) takes 2 answers, and got 1'):
        judge("2.3", 1)


@pytest.mark.parametrize("given, right, words", [
    ([1.0, 2.0], [-1.0, -2.0], "sign is wrong"), ([2.0, 4.0], [1.0, 2.0], "2 times the right"),
    ([[1.0, 2.0], [3.0, 4.0]], [[1.0, 3.0], [2.0, 4.0]], "transposed"), ([np.nan, 1.0], [1.0, 1.0], "not finite"),
    ([1.0, 2.0], [[1.0, 2.0]], "Its shape is (2,), and should be (1, 2)"), ([2.0, 3.5], [1.0, 2.5], "off by 1"),
    ("much", 1.0, "a number or an array belongs"), ([1.0, 2.0], [1.0, 2.1], "right is")])
def test_a_usual_mistake_is_named(given, right, words):
    assert words in complaint(equal, "x", given, right)


def test_what_is_right_up_to_rounding_passes():
    equal("x", [1.0, 1e-12], [1.0 + 1e-9, 0.0])
    equal("x", ag.tensor([1.0], requires_grad=True), [1.0])
    choose("x", " (B) ", "b", {"a": ""})
    same_names("x", ("b", "a"), ["a", "b"])
    yes_or_no("x", np.True_, True, "")


def test_an_answer_cannot_change_the_inputs_it_is_judged_by():
    def greedy(a):
        a[:] = 0
        return a

    a = np.ones(3)
    assert not ask(greedy, {"a": a}).any() and a.all()


@pytest.mark.parametrize("f, given, right, words", [
    (yes_or_no, 1, True, "x is True or False"), (choose, "z", "a", "one of the letters a, b"),
    (same_names, 3, ["a"], "a list of names")])
def test_an_answer_of_the_wrong_form_is_told(f, given, right, words):
    assert words in complaint(f, "x", given, right, **{"hints": {"b": ""}} if f is choose else
                              {"complaint": ""} if f is yes_or_no else {})


def test_no_answer_within_a_case_is_unfinished():
    with pytest.raises(Unfinished):
        equal("x", None, 1.0)


def test_plt_says_what_is_missing():
    """Without Matplotlib the rest works, and the sentence says how to get it."""
    code = ("import sys; sys.modules['matplotlib'] = None\nfrom autograd.learn import ag, check, np\n"
            "check('2.1', ...)\nfrom autograd.learn import plt")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "waits for your answer" in done.stdout
    last = done.stderr.splitlines()[-1]
    assert "Matplotlib is missing (" in last and 'pip install -e ".[notebooks]"' in last
