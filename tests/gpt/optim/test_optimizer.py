"""Tests of every optimizer of the registry."""

import numpy as np
import pytest

from gpt import Parameters, TrainConfig
from gpt.cli import main
from gpt.optim.optimizer import OPTIMIZERS
from gpt.optim.schedule import SCHEDULES
from gpt.runtime.worker_pool import SINGLE, WorkerPool


@pytest.fixture(params=OPTIMIZERS)
def made(request, three):
    """Return a function that makes an optimizer of a run, on parameters of its own."""
    def make():
        flat = Parameters(three(50))
        return OPTIMIZERS[request.param].from_config(flat, TrainConfig(optimizer=request.param, weight_decay=0.1)), flat
    return make


def steps(optimizer, flat, seeds, pool=SINGLE):
    for seed in seeds:
        flat.grad[:] = np.random.default_rng(seed).standard_normal(flat.grad.size)
        optimizer.step(0.01, 0.5, pool)


def test_a_gradient_is_descended(made):
    optimizer, flat = made()
    flat.data[:] = 0
    flat.grad[:] = np.random.default_rng(0).standard_normal(flat.grad.size)
    optimizer.step(1e-6)
    assert flat.data @ flat.grad < 0


def test_any_number_of_workers_gives_the_same_bits(made):
    (one, flat), (other, others) = made(), made()
    steps(one, flat, range(3))
    with WorkerPool(2) as pool:
        steps(other, others, range(3), pool)
    np.testing.assert_array_equal(flat.data, others.data)


def test_the_state_is_all_that_a_step_depends_on(made):
    (one, flat), (other, others) = made(), made()
    steps(one, flat, range(2))
    others.data[:] = flat.data
    assert one.state().keys() == other.state().keys()
    for name, a in one.state().items():
        other.state()[name][...] = a
    for optimizer, parameters in (one, flat), (other, others):
        steps(optimizer, parameters, [2])
    np.testing.assert_array_equal(flat.data, others.data)


def test_a_step_of_size_zero_changes_nothing(made):
    optimizer, flat = made()
    before = flat.data.copy()
    flat.grad[:] = 1
    optimizer.step(0.0)
    np.testing.assert_array_equal(flat.data, before)


def test_the_command_line_offers_and_explains_all(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for flag, registry in ("--optimizer", OPTIMIZERS), ("--schedule", SCHEDULES):
        assert f"{flag} {{{','.join(registry)}}}" in shown
        assert all(f"{name}, {entry.help}" in shown for name, entry in registry.items())
