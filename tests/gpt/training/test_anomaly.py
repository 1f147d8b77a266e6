"""The first number that is not finite is named by the operation that made it."""

import sys

import numpy as np
import pytest

import autograd as ag
import gpt
from gpt.runtime.worker_pool import WorkerPool
from gpt.training.anomaly import find_anomaly
from gpt.training.trainer import Trainer

TRAIN = sys.modules["gpt.training.train"]  # the module, which the function of that name hides


def leaf(a, name=""):
    return ag.tensor(a, dtype=float, requires_grad=True, name=name)


def test_the_first_bad_value_is_named():
    x = leaf([1.0, -1.0])

    def loss():
        with ag.scope("block"):
            return (np.exp(np.log(x)) * 2).sum()

    said = find_anomaly(loss)
    assert said.startswith("the value of log f64[2] holds 1 NaN among 2 numbers") and "\n" not in said
    assert "= log(%0)  block  test_anomaly.py:" in said


def test_a_bad_gradient_is_named():
    assert "sqrt f64[2] sends to leaf 'x'" in find_anomaly(lambda: np.sqrt(leaf([0.0, 4.0], "x")).sum())


def test_nothing_is_said_of_what_is_finite():
    assert find_anomaly(lambda: ag.softmax(leaf([1.0, 2.0]) + np.array([0, -np.inf])).max()) == ""


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("changes", [{}, {"dropout": 0.3}, {"accumulate": 2}])
def test_training_names_the_record(tiny, replicas, changes):
    config = gpt.TrainConfig(**tiny | {"replicas": replicas} | changes)
    with WorkerPool(config.n_replicas) as pool:
        data, tokenizer = TRAIN.prepare_data(config)
        trainer = Trainer(config, gpt.GPT(config.model_config(tokenizer.vocab_size)), data, pool)
        trainer.step()
        trainer.parameters.views["h.0.mlp.c_fc.weight"][3] = np.nan
        trainer.parameters.bump_version()
        with pytest.raises(FloatingPointError) as caught:
            trainer.step()
    assert "the loss is nan at iteration 2: the value of linear f32" in str(caught.value)
    assert "h.0.mlp.c_fc" in str(caught.value) and "lower --learning-rate" in str(caught.value)
