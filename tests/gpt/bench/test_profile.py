"""The profile of a step: every part is named and timed once, together they are the step, and nothing stays behind."""

import functools
import itertools

import numpy as np
import pytest

import autograd as ag
from autograd.program.replay import Redraw
from autograd.program.trace import SUM
from gpt.bench import profile as module
from gpt.bench.command import BenchConfig
from gpt.bench.profile import BETWEEN, WITHOUT, Profile, operation_of, profile, timed
from gpt.bench.race import kernels, nanogpt_config, programs, training

TINY = dict(n_layer=2, n_head=2, n_embd=16, block_size=8, batch_size=4)


def procedures(trainer):
    return [step for program in programs(trainer) for capture in program._captures.values()
            for step in capture.plan.steps]


def test_parts_add_up_to_the_step(monkeypatch):
    now = itertools.count()
    with kernels("numpy"), training(nanogpt_config(**TINY, replicas=1)) as trainer:
        trainer.step()
        n = len(procedures(trainer))
        with timed(trainer) as clock:
            monkeypatch.setattr(module, "perf_counter", lambda: next(now))  # a tick a look
            parts = clock.step(trainer)
        watched = [*parts.values()]
    # Two looks each at the procedures, the two ways of the program, the batch, the gradient, the optimizer, the step.
    assert sum(watched) == pytest.approx(1e3 * (2 * (n + 6) - 1)) and min(watched) > 0
    assert sum(ms for (name, phase), ms in parts.items() if phase in ("forward", "backward")
               and name != BETWEEN) == pytest.approx(1e3 * n)


def test_everything_is_as_before_afterwards():
    with kernels("numpy"), training(nanogpt_config(**TINY, replicas=2)) as trainer, \
            training(nanogpt_config(**TINY, replicas=2)) as other:
        assert trainer.step().loss == other.step().loss
        before = procedures(trainer)
        with timed(trainer) as clock:
            clock.step(trainer)
        other.step()
        assert procedures(trainer) == before
        assert trainer.step().loss == other.step().loss
        assert "step" not in vars(trainer.optimizer) and "gradient" not in vars(trainer.replicas)


@pytest.mark.slow
def test_a_profile_names_the_operations():
    found = profile(3, nanogpt_config(**TINY), "numpy")
    forward, backward = ({name for name, phase in found.parts if phase == p} for p in ("forward", "backward"))
    ops = {"linear", "attention", "gelu", "layer_norm", "embedding", "cross_entropy"}
    assert ops < forward and ops < backward and "sums of gradients" in backward
    assert found.total == pytest.approx(sum(found.parts.values())) and found.floor > 0
    assert ("optimizer", "optimizer") in found.parts and "numpy kernels" in found.what


def test_procedures_by_the_operation_they_serve():
    record, leaf = ag.tanh(ag.tensor(1.0, requires_grad=True)), ag.tensor(1.0)
    assert operation_of(np.multiply, record, "forward") == operation_of(len, record, "backward") == "tanh"
    assert operation_of(functools.partial(len), record, "backward") == "tanh" + WITHOUT
    assert operation_of(np.add, record, SUM) == "sums of gradients"
    assert operation_of(Redraw(len), leaf, "forward") == "redraw"


def test_shares_and_picture(tmp_path):
    parts = {("linear", "forward"): 5.0, ("linear", "backward"): 2.0, ("add" + WITHOUT, "backward"): 1.0,
             (BETWEEN, "forward"): 0.5, ("optimizer", "optimizer"): 1.5}
    found = Profile("a step", parts, 10.0, 4.0)
    assert found.outside_kernels == 0.15 and found.names[0] == "linear"
    text = "\n".join(found.lines())
    line = next(line for line in found.lines() if line.strip().startswith("linear"))
    assert line.split() == ["linear", "5.000", "2.000", "7.000", "70.0%", "175.0%"]
    assert "the step" in text and "100.0%" in text and "15.0% of the step" in text
    pytest.importorskip("matplotlib")
    found.draw(str(tmp_path / "p.svg"))
    assert b"<svg" in (tmp_path / "p.svg").read_bytes()
    with pytest.raises(OSError, match="choose another place with --out"):
        found.draw(str(tmp_path / "nowhere" / "p.svg"))


def test_a_picture_has_a_known_ending():
    with pytest.raises(ValueError, match="needs to end in .svg, .png or .pdf"):
        BenchConfig(out="profile.txt", profile=True)
