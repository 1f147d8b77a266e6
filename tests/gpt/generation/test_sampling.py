"""Sampling of a token: each setting against its definition, written here anew, and the settings' limits."""

import itertools
import math

import numpy as np
import pytest

from gpt.generation.generate import SampleConfig
from gpt.generation.sampling import Sampling, sample_token, weigh_tokens

LOGITS = np.array([1.5, -0.7, 0.2, 2.5, -2.0, 1.1, 0.9, -0.1, -3.5, 2.0], np.float32)
HELD = np.array([0, 3, 4])  # tokens that the text has


def definition(logits, temperature=1.0, top_k=None, top_p=None, min_p=None, repetition_penalty=1.0, greedy=False):
    """Probabilities by token, from the definitions, in plain Python."""
    x = {i: float(v) for i, v in enumerate(logits)}
    for i in HELD.tolist():
        x[i] = x[i] / repetition_penalty if x[i] > 0 else x[i] * repetition_penalty
    if greedy or temperature == 0:
        best = max(x.values())
        return {min(i for i, v in x.items() if v == best): 1.0}
    ranked = sorted(x, key=lambda i: -x[i])[:top_k or None]
    weight = {i: math.exp(x[i] / temperature) for i in ranked}
    p = {i: w / sum(weight.values()) for i, w in weight.items()}
    if top_p is not None:  # the nucleus: the shortest beginning of the ranking whose total reaches top_p
        size = next((n for n in range(1, len(p) + 1) if sum(p[i] for i in ranked[:n]) >= top_p), len(p))
        p = {i: p[i] for i in ranked[:size]}
        p = {i: v / sum(p.values()) for i, v in p.items()}
    if min_p is not None:
        p = {i: v for i, v in p.items() if v >= min_p * max(p.values())}
    return {i: v / sum(p.values()) for i, v in p.items()}


def held():
    return np.isin(np.arange(10), HELD)


def of_settings(logits=LOGITS, **settings):
    p = weigh_tokens(logits, held(), Sampling(**settings))
    return p / p.sum()


SETTINGS = [{}, {"temperature": 0.3}, {"temperature": 2.5}, {"top_k": 1}, {"top_k": 4}, {"top_k": 10}, {"top_k": 99},
            {"top_k": 0}, {"top_p": 0.01}, {"top_p": 0.6}, {"top_p": 0.97}, {"top_p": 1.0}, {"min_p": 0.0},
            {"min_p": 0.2}, {"min_p": 1.0}, {"repetition_penalty": 1.7}, {"repetition_penalty": 0.6}, {"greedy": True},
            {"temperature": 0.0}, {"temperature": 0.0, "repetition_penalty": 4.0},
            {"temperature": 1.4, "top_k": 7, "top_p": 0.8, "min_p": 0.15, "repetition_penalty": 1.2}]


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_draws_have_the_distribution_of_the_definition(settings):
    n, rng, expected = 20_000, np.random.default_rng(0), definition(LOGITS, **settings)
    seen, sampling = held(), Sampling(**settings)
    counts = np.bincount([sample_token(LOGITS, rng, seen, sampling) for _ in range(n)], minlength=10)
    assert set(np.flatnonzero(counts)) <= set(expected)
    chi_square = sum((counts[i] - n * p) ** 2 / (n * p) for i, p in expected.items())
    freedom = len(expected) - 1
    assert chi_square <= freedom + 4 * math.sqrt(2 * freedom)  # mean, and four standard deviations


GRID = list(itertools.product([0.0, 0.4, 1.0, 3.0], [None, 1, 3, 9], [None, 0.15, 0.55, 0.9], [None, 0.05, 0.5],
                              [1.0, 1.3]))


def test_every_combination_has_exactly_the_probabilities_of_the_definition():
    rng = np.random.default_rng(1)
    for values in GRID:
        settings = dict(zip(("temperature", "top_k", "top_p", "min_p", "repetition_penalty"), values))
        logits = rng.normal(0, 2, 10)
        expected = definition(logits, **settings)
        np.testing.assert_allclose(of_settings(logits, **settings), [expected.get(i, 0) for i in range(10)],
                                   rtol=1e-10, atol=0, err_msg=str(settings))


def test_the_nucleus_takes_the_token_that_crosses_the_threshold():
    logits = np.log(np.array([1, 2, 4, 8, 1]) / 16)
    for top_p, size in ((0.4, 1), (0.51, 2), (0.74, 2), (0.76, 3), (0.93, 4), (0.95, 5)):
        p = weigh_tokens(logits, np.zeros(5, bool), Sampling(top_p=top_p))
        assert np.count_nonzero(p) == size, top_p


def test_equal_logits():
    p = weigh_tokens(np.zeros(8, np.float32), np.zeros(8, bool), Sampling(top_k=3))
    assert np.count_nonzero(p) == 3
    p = weigh_tokens(np.zeros(8, np.float32), np.zeros(8, bool), Sampling(top_p=0.45))
    assert np.flatnonzero(p).tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(weigh_tokens(np.zeros(8), np.zeros(8, bool), Sampling(greedy=True))).tolist() == [0]


@pytest.mark.parametrize("logits", [[1e30, -1e30, 0], [3e38, 3e38, -3e38], [0, 1e-40, 0]])
@pytest.mark.parametrize("temperature", [1e-300, 1.0, 1e300])
def test_extreme_numbers_do_not_overflow(logits, temperature):
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        p = weigh_tokens(np.array(logits, np.float32), np.ones(3, bool),
                          Sampling(temperature=temperature, repetition_penalty=2.0, top_p=0.9, min_p=0.1))
    assert np.isfinite(p).all() and p.sum() > 0


@pytest.mark.parametrize("number", [0.0, np.nextafter(1, 0)])
def test_the_smallest_and_the_largest_random_number_draw_a_token_that_may_be_drawn(number):
    class Fixed:
        def random(self):
            return number

    logits = np.random.default_rng(2).normal(size=1000)
    for _ in range(50):
        logits = np.roll(logits, 7)
        token = sample_token(logits, Fixed(), np.zeros(1000, bool), Sampling(top_k=5))
        assert token in np.argsort(logits)[-5:]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [2, 50_000])
def test_logits_that_are_not_finite(bad, n):
    logits = np.zeros(n)
    logits[1] = bad
    with pytest.raises(ValueError, match="not finite.*damaged"):
        sample_token(logits, np.random.default_rng(0), np.zeros(n, bool), Sampling())


def test_logits_are_not_changed():
    logits = LOGITS.astype(np.float64)
    of_settings(logits, top_k=2, top_p=0.5, min_p=0.1, repetition_penalty=2.0)
    np.testing.assert_array_equal(logits, LOGITS.astype(np.float64))


@pytest.mark.parametrize("settings, message", [
    (dict(temperature=-0.1), "temperature is -0.1, and needs to be at least 0"),
    (dict(temperature=math.inf), "temperature is inf, and needs to be a finite number"),
    (dict(top_k=-1), "top_k is -1, and needs to be at least 0"),
    (dict(top_p=0.0), "top_p is 0.0, and needs to be above 0"),
    (dict(top_p=1.01), "top_p is 1.01, and needs to be at most 1"),
    (dict(min_p=-0.1), "min_p is -0.1, and needs to be at least 0"),
    (dict(min_p=2.0), "min_p is 2.0, and needs to be at most 1"),
    (dict(repetition_penalty=0.0), "repetition_penalty is 0.0, and needs to be above 0"),
    (dict(repetition_penalty=math.nan), "repetition_penalty is nan"),
    (dict(num_samples=0), "num_samples is 0, and needs to be at least 1"),
    (dict(max_new_tokens=0), "max_new_tokens is 0"),
    (dict(seed=-1), "seed is -1, and needs to be at least 0"),
    (dict(stop=("x", "")), "stop has an empty text"),
])
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        SampleConfig(**settings)


@pytest.mark.parametrize("settings", [dict(top_k=1.5), dict(temperature="hot"), dict(greedy=1), dict(top_p="0.9"),
                                      dict(stop="END"), dict(stop=(1,)), dict(prompt=3), dict(seed=1.0)])
def test_settings_of_the_wrong_type(settings):
    with pytest.raises(TypeError, match=next(iter(settings))):
        SampleConfig(**settings)
