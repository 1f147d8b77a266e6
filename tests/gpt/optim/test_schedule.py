"""The learning-rate schedules."""

import math

import pytest

from gpt import learning_rate_at
from gpt.optim.schedule import SCHEDULES


def test_schedule():
    def lr(i):
        return learning_rate_at(i, "cosine", 1e-3, 1e-4, 100, 2000)

    assert lr(0) == pytest.approx(1e-3 / 101) and lr(99) == pytest.approx(1e-3 * 100 / 101) and lr(100) == 1e-3
    assert lr(1050) == pytest.approx(5.5e-4) and lr(2000) == pytest.approx(1e-4) and lr(9999) == 1e-4
    assert lr(575) == pytest.approx(1e-4 + 9e-4 * (1 + math.cos(math.pi / 4)) / 2)
    assert learning_rate_at(0, "cosine", 1, 0.1, 0, 0) == 0.1  # nothing to decay over


@pytest.mark.parametrize("schedule, points", [
    ("linear", {100: 1.0, 600: 0.55, 1100: 0.1, 5000: 0.1}), ("constant", {100: 1.0, 5000: 1.0}),
    ("trapezoidal", {100: 1.0, 900: 1.0, 1000: 0.55, 1100: 0.1})])
def test_schedules(schedule, points):
    for i, expected in points.items():
        assert learning_rate_at(i, schedule, 1.0, 0.1, 100, 1100) == pytest.approx(expected)
    assert learning_rate_at(49, schedule, 1.0, 0.1, 100, 1100) == pytest.approx(50 / 101)


@pytest.mark.parametrize("share, points", [
    (0.6, {20: 1.0, 92: 1.0, 146: 0.5, 199: 1 / 108, 200: 0.0}), (1.0, {20: 1.0, 110: 0.5, 200: 0.0})])
def test_a_trapezoid_falls_over_the_share_that_it_is_told(share, points):
    for i, expected in points.items():
        assert learning_rate_at(i, "trapezoidal", 1.0, 0.0, 20, 200, share) == pytest.approx(expected)


def test_an_unknown_schedule():
    with pytest.raises(ValueError, match="schedule is 'step', and needs to be one of cosine, linear"):
        learning_rate_at(5, "step", 1.0, 0.1, 0, 10)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_begins_at_the_peak_and_never_rises_after_it(schedule):
    rates = [learning_rate_at(i, schedule, 1.0, 0.1, 10, 100) for i in range(10, 120)]
    assert rates[0] == 1 and rates == sorted(rates, reverse=True)
    assert set(rates[90:]) == {1.0 if schedule == "constant" else 0.1}
