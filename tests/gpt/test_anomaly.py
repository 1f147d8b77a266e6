"""The first number that is not finite is named by the operation that made it."""

import numpy as np
import pytest

import autograd as ag
from gpt.anomaly import blame


def leaf(a, name=""):
    return ag.tensor(a, dtype=float, requires_grad=True, name=name)


def test_the_first_bad_value_is_named_and_no_later_one():
    x = leaf([1.0, -1.0])
    with np.errstate(all="ignore"), ag.scope("block"):
        loss = (np.exp(np.log(x)) * 2).sum()
    said = blame(loss)
    assert "value" in said and "log [2] in block" in said and "test_anomaly.py" in said and "exp" not in said


def test_an_infinity_of_a_mask_is_fine():
    x = leaf([1.0, 2.0])
    scores = np.where(np.array([True, False]), x, -np.inf)
    assert blame((ag.softmax(scores) ** 2).sum()) == ""


def test_an_infinity_that_no_input_has_is_named():
    x = leaf([0.0, 2.0])
    with np.errstate(all="ignore"):
        assert "divide [2]" in blame((1 / x).sum())


def test_a_bad_gradient_is_named():
    x = leaf([0.0, 4.0])
    with np.errstate(all="ignore"):
        said = blame(np.sqrt(x).sum())
    assert "gradient" in said and "sqrt [2]" in said


def test_a_bad_parameter_is_named():
    assert "the parameter wte [1]" in blame(leaf([np.nan], "wte").sum())


def test_a_good_loss_has_nobody_to_blame():
    assert blame((leaf([1.0, 2.0]) ** 2).sum()) == ""


def test_a_run_names_it(tiny):
    from gpt import TrainConfig, train
    wild = TrainConfig(**tiny | {"learning_rate": 1e30, "grad_clip": 0.0, "warmup_iters": 0})
    said = r"iteration \d+: the first .*made at .*model"
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=said):
        train(wild, lambda line: None)
