"""Views of unusual tapes: partial tapes, duplicate roots, huge numbers, arrays of other libraries."""

import inspect
import json
import re

import numpy as np
import pytest

import autograd as ag
from autograd.view.text import norm
from tests.duck import Duck

from .browser import Page, opened_browser


def parameter(data, name=""):
    return ag.tensor(data, requires_grad=True, name=name)


def partial_tape():
    """Return a tape that begins after some records it is computed from, freed by a backward pass, and those records."""
    x = parameter([1.0, 2.0], "x")
    a = np.exp(x)
    c = (np.tanh(a) * a * x).sum()
    c.backward()
    return ag.tape(c, since=a.created), x, a


def data_of(tape):
    return json.loads(re.search(r'id="data">(.*?)</script>', tape.player().page, re.DOTALL)[1])


def overflowing():
    """Return a loss whose squared gradients overflow float64."""
    x = parameter(np.full(30, 3.0), "x")
    y = x * 1.0
    return ag.tape((y * 1e200 * y[::-1]).mean()), x, y


# ---------------------------------------------------------------------- a part of a tape


def test_a_walk_over_a_part_of_a_tape_stays_within_it():
    tape, x, a = partial_tape()
    stops = list(tape.stepper())
    assert {stop.record for stop in stops} == {t for t in tape if t.op is not None}
    texts = [text for stop in stops for text in (repr(stop), stop._repr_html_())]
    assert any("sends to leaf 'x' f64[2]" in text for text in texts) and any("exp f64[2]" in text for text in texts)


@pytest.mark.parametrize("view", ["stepper", "player", "memory", "draw", "ledger", "diff", "grad"])
def test_views_of_a_part_of_a_tape_leave_what_is_before_it_freed(view):
    tape, x, a = partial_tape()
    looks = {"stepper": lambda: tape.stepper().run(), "player": tape.player, "memory": tape.memory, "draw": tape.draw,
             "ledger": lambda: tape.ledger(tape[0]), "diff": lambda: ag.diff(tape, tape),
             "grad": lambda: tape.draw(color="grad")}
    assert a._array is None
    repr(looks[view]())
    assert a._array is None and tape[0]._array is None


def test_the_player_and_memory_of_a_part_of_a_tape_name_only_its_records():
    tape, x, a = partial_tape()
    data = data_of(tape)
    assert data["memory"] is not None and not data["notes"]
    assert [record["inputs"][0][1] for record in data["records"]] == [-1, 0, 1, 2]
    assert {life.record for life in tape.memory().lifetimes} <= set(tape)


def test_the_player_of_a_part_of_a_tape_runs(tmp_path):
    tape, x, a = partial_tape()
    tape.player().save(tmp_path / "tape.html")
    with opened_browser() as browser:
        opened = Page(browser, tmp_path / "tape.html")
        opened.page.evaluate("setStep(lastStep)")
        opened.settle()
        assert "‖" in opened.page.inner_text("#card td.norm")
        opened.close()


def test_what_is_near_a_tensor_ends_where_the_tape_does():
    tape, x, a = partial_tape()
    source = tape.draw(focus=tape[0]).source
    assert "tanh" in source and "exp" not in re.sub('tooltip=".*?"', "", source)


# ---------------------------------------------------------------------- results


def test_a_result_that_is_named_twice_counts_once():
    x = parameter([1.0, 2.0], "x")
    y = (x * x).sum()
    once, twice = ag.tape(y), ag.tape(y, y)
    assert [c.share for c in twice.ledger(y)] == [1.0]
    for tape in (once, twice):
        walk = tape.stepper()
        walk.run()
        np.testing.assert_array_equal(walk.gradient(x), [2.0, 4.0])
        np.testing.assert_array_equal(tape.ledger(x).total, [2.0, 4.0])
    assert data_of(twice) == data_of(once)
    assert twice.memory().alive == once.memory().alive


# ---------------------------------------------------------------------- numbers


@pytest.mark.parametrize("value", [1e200, 1e-200, 3.0, 0.0])
def test_norms_neither_overflow_nor_vanish(value):
    assert norm(np.full(4, value)) == pytest.approx(2 * value, rel=1e-12, abs=0)
    assert norm({0: np.full(2, value), 1: np.full(2, value)}) == pytest.approx(2 * value, rel=1e-12, abs=0)


def test_norms_of_what_is_not_finite_say_so():
    assert np.isnan(norm(np.array([1.0, np.nan]))) and norm(np.array([1.0, -np.inf])) == np.inf
    assert norm(np.zeros((0, 3))) == 0


def test_shares_and_norms_of_gradients_whose_squares_overflow(recwarn):
    tape, x, y = overflowing()
    assert tape.ledger(x).contributions[0].norm == pytest.approx(np.sqrt(30) * 0.2e200, rel=1e-6)
    assert [c.share for c in tape.ledger(y)] == pytest.approx([0.5, 0.5])
    words = dict(data_of(tape)["records"][list(tape).index(x)]["gradient"][0]["words"])
    assert words["norm"] == f"{np.sqrt(30) * 0.2e200:.4g}" and words["std"] == "0"
    assert not recwarn.list


def test_the_player_knows_the_deviation_of_numbers_whose_squares_overflow():
    x = parameter(np.array([1.0, -1.0] * 20) * 1e200)
    assert ["std", "1e+200"] in data_of(ag.tape(x))["records"][0]["value"][0]["words"]


def test_a_card_says_of_any_array_of_equal_numbers_what_they_all_are():
    y = parameter(np.arange(8.0).reshape(2, 2, 2)) * 1.0
    assert "all 1<" in y.explain()._repr_html_() and "[[" not in y.explain()._repr_html_()


# ---------------------------------------------------------------------- arrays of another library


def test_a_ledger_of_another_librarys_arrays():
    x = ag.tensor(Duck([3.0, 4.0]), requires_grad=True, name="x")
    ledger = ag.tape((x * x).sum() + x.sum() * 0.0).ledger(x)
    assert [c.norm for c in ledger] == pytest.approx([0.0, 5.0, 5.0])
    assert [c.share for c in ledger] == pytest.approx([0.0, 0.5, 0.5])
    assert "norm 10" in repr(ledger) and "norm 10" in ledger._repr_html_()


def test_anomalies_in_another_librarys_arrays():
    with ag.detect_anomaly():
        (np.tanh(ag.tensor(Duck([3.0, 4.0]), requires_grad=True))).sum().backward()
        with pytest.raises(FloatingPointError, match="1 NaN among 2"), np.errstate(all="ignore"):
            np.log(ag.tensor(Duck([-1.0, 1.0]), requires_grad=True))


# ---------------------------------------------------------------------- what else a program is doing


def test_views_show_bad_numbers_under_detect_anomaly():
    x = parameter([np.nan, 1.0], "x")
    tape = ag.tape((x * 2.0).sum() + (x * np.nan).sum())
    with ag.detect_anomaly():
        assert np.isnan(tape.ledger(x).total).all()
        assert not data_of(tape)["notes"]
        assert ag.diff(tape, tape).same


def test_a_graph_can_be_drawn_while_a_program_is_recorded():
    drawn = []

    def program(x):
        drawn.append(ag.tape(loss := np.sum(np.tanh(x * w))).draw().source)
        return loss

    w = parameter([1.0, 2.0], "w")
    ag.record(program, np.ones(2))
    assert "tanh" in drawn[0]


def test_diff_says_whose_rule_failed(new_op):
    @new_op
    def fails(x):
        return x * 2

    @fails.gradient("x")
    def _(g, y, x):
        raise KeyError("oops")

    tape = ag.tape(fails(parameter([1.0, 2.0])).sum())
    found = ag.diff(tape, tape)
    assert not found.same and found.value is None and any("KeyError: 'oops'" in reason for reason in found.missing)


# ---------------------------------------------------------------------- slips of a user


@pytest.mark.parametrize(("slip", "cure"), [
    (lambda x, loss: ag.diff(loss, loss), r"ag\.diff\(ag\.tape\(loss_a\), ag\.tape\(loss_b\)\)"),
    (lambda x, loss: ag.tape(loss).ledger("x"), "a Tensor of the tape, and not 'x'"),
    (lambda x, loss: x.explain("loss"), "a Tensor that was made from this one, and not 'loss'"),
    (lambda x, loss: x.explain(np.ones(2)), r"and not f64\[2\]"),
])
def test_slips_are_told_apart_from_bugs(slip, cure):
    x = parameter([1.0, 2.0], "x")
    with pytest.raises(TypeError, match=cure):
        slip(x, (x * x).sum())


@pytest.mark.parametrize("method", [ag.Tape.draw, ag.Tape.player, ag.Tape.memory, ag.Tape.ledger, ag.Tape.stepper,
                                    ag.Tensor.explain, ag.diff])
def test_help_shows_how_a_view_is_called(method):
    assert re.search(r"tape\(loss\)\.|\.explain\(loss\)|ag\.diff\(", inspect.getdoc(method))
