"""Measurement: turns, medians, deciles, warm-up, reasons for missing figures, and other processes."""

import pytest

from gpt.bench import measure
from gpt.bench.measure import (
    Disagreement,
    Row,
    Side,
    Worker,
    attempt,
    constant_side,
    fastest_threads,
    fit_exponent,
    in_turns,
    need,
    run_fresh,
    settled,
)


def test_sides_take_turns_and_the_first_round_is_left_out():
    calls = []
    sides = [Side(name, lambda name=name: calls.append(name) or len(calls)) for name in "ab"]
    in_turns(3, [*sides, Side("c", missing="why")])
    assert calls == ["a", "b"] * 4 and [side.values for side in sides] == [[3, 5, 7], [4, 6, 8]]


def test_a_side_that_fails_on_its_way_has_no_figures():
    figures = iter([1.0, 2.0])
    well, failing = in_turns(3, [Side("well", lambda: 1.0), Side("failing", lambda: next(figures))])
    assert well.values == [1.0] * 3 and failing.values == [] and failing.missing.startswith("StopIteration")


def test_a_row_compares_medians_and_says_why_one_is_missing():
    row = Row("row", "what", "ms", [Side("ours", values=[1.0, 2.0, 90.0]), Side("peer", values=[4.0, 4.0, 5.0]),
                                    Side("other", missing="not there")], ["a note"])
    summary = row.summary()
    assert summary["ours"]["median"] == 2 and summary["others"][0]["median"] == 4
    assert summary["others"][0]["ratio"] == 0.5 and summary["others"][1] == {"name": "other", "missing": "not there"}
    text = "\n".join(row.lines())
    assert "ours is 0.50 of it" in text and "not there" in text and "a note" in text and "less is better" in text


def test_deciles_lie_among_the_figures():
    summary = Side("few", values=[1.0, 2.0, 3.0]).summary()
    assert 1 <= summary["low"] < 2 < summary["high"] <= 3
    assert Side("one", values=[7.0]).summary() == {"name": "one", "median": 7, "low": 7, "high": 7}


def test_settling_leaves_out_the_first_figures(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(now) * measure.QUIET / 2)
    figures = iter([90.0, 80.0, 1.0, 3.0, 90.0])
    assert settled(lambda: next(figures)) == 2  # two before QUIET seconds have passed, two in the next ones


def test_what_goes_wrong_is_a_reason():
    def fails(error):
        raise error

    assert attempt("side", lambda: fails(ValueError("first line\nsecond"))).missing == "ValueError: first line"
    assert constant_side("side", lambda: fails(OSError("no"))).missing == "OSError: no"
    wrong = attempt("side", lambda: fails(Disagreement("no race")))
    assert wrong.wrong and wrong.missing == "no race" and not wrong.measure
    missing = attempt("side", lambda: need("no_such_package"))
    assert missing.missing == "not installed: python -m pip install no_such_package" and not missing.wrong
    assert attempt("side", lambda: len).measure is len and constant_side("side", lambda: 3.0).values == [3.0]


def test_a_fresh_process_gives_a_number_or_its_last_words():
    assert run_fresh("import autograd; print('noise'); print(2.5)") == 2.5
    with pytest.raises(RuntimeError, match="ValueError: so it is"):
        run_fresh("raise ValueError('so it is')")


def test_a_worker_gives_a_figure_whenever_it_is_asked():
    with Worker("n = 0\ndef run():\n    global n\n    n += 1\n    return n") as worker:
        assert [worker(), worker()] == [1, 2]
    assert worker.process.returncode == 0
    with Worker("def run(): raise KeyError('gone')") as worker, pytest.raises(RuntimeError, match="KeyError: 'gone'"):
        worker()


def test_the_slope_is_the_exponent():
    assert fit_exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)


def test_the_number_of_threads_is_the_fastest(monkeypatch):
    monkeypatch.setattr(measure, "cores", lambda: 6)
    used = []
    assert fastest_threads(lambda: {1: 3.0, 2: 2.0, 4: 1.0, 6: 1.5}[used[-1]], used.append) == 4
    assert used == [1, 2, 4, 6] * 3 + [4]
