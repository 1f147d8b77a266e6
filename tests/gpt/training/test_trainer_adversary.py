"""Replicas and the trainer after bad batches, interrupts and odd sizes: the same bits as if nothing had been."""

import json
import re
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import gpt
from gpt import TrainConfig
from gpt.data.dataset import TextData
from gpt.data.tasks import Addition, load_task
from gpt.runtime.worker_pool import WorkerPool
from gpt.training.data_parallel import Replicas
from gpt.training.trainer import METRICS, Trainer

rng = np.random.default_rng(0)


def small(**changes):
    sizes = dict(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=8)
    model = gpt.GPT(gpt.GPTConfig(**{**sizes, **changes}), seed=3)
    return model, gpt.Parameters(model)


def batch(rows=4, T=8, n=11):
    return tuple(rng.integers(0, n, (2, rows, T)))


def gradient_of(replicas, ids, targets):
    return replicas.gradient(ids, targets), replicas.parameters.grad.tobytes()


def nothing_but(error):
    def step(*arrays):
        raise error
    return step, ()


# ---------------------------------------------------------------------- replicas


@pytest.mark.parametrize("recorded", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize("which, row, value", [(0, 3, 99), (0, 0, -1), (1, 0, 11), (1, 3, -7)])
def test_a_bad_batch_is_refused_and_forgotten(which, row, value, recorded):
    model, parameters = small()
    good = batch()
    bad = [a.copy() for a in good]
    bad[which][row, 2] = value
    with WorkerPool(2) as pool:
        expected = gradient_of(Replicas(model, parameters, pool, [None] * 2), *good)
        replicas = Replicas(model, parameters, pool, [None] * 2)
        if recorded:
            replicas.gradient(*good)
            replicas.loss(*good)
        for _ in range(2):
            for method in (replicas.gradient, replicas.loss):
                with pytest.raises(IndexError, match=str(value)):
                    method(*bad)
            assert gradient_of(replicas, *good) == expected


@pytest.mark.parametrize("replica", [0, 1])
@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.7, 1.0])
def test_an_interrupt_in_the_middle_of_a_step_leaves_the_next_as_it_was(replica, fraction):
    model, parameters = small()
    ids, targets = batch()
    with WorkerPool(2) as pool:
        replicas = Replicas(model, parameters, pool, [None] * 2)
        expected = gradient_of(replicas, ids, targets)
        (capture,) = replicas._train_programs[replica]._captures.values()
        i = int(fraction * (len(capture.plan.steps) - 1))
        step, capture.plan.steps[i] = capture.plan.steps[i], nothing_but(KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            replicas.gradient(ids, targets)
        capture.plan.steps[i] = step
        assert gradient_of(replicas, ids, targets) == expected


def test_integers_of_any_kind():
    model, parameters = small(vocab_size=256)  # as many as a byte has values
    ids, targets = batch(n=256)
    replicas = Replicas(model, parameters, WorkerPool(1), [None])
    expected = gradient_of(replicas, ids, targets)
    for dtype in (np.uint8, np.int16, np.uint16, np.int32, np.uint64):
        assert gradient_of(replicas, ids.astype(dtype), targets.astype(dtype)) == expected


def test_shapes_that_alternate_draw_as_the_model_does():
    (model, parameters), (eager, theirs) = (small(dropout=0.5) for _ in range(2))
    replicas, random = Replicas(model, parameters, WorkerPool(1), [np.random.default_rng(1)]), np.random.default_rng(1)
    for rows, T in [(3, 8), (3, 5), (1, 1), (3, 8), (3, 5)]:
        ids, targets = batch(rows, T)
        theirs.zero_grad()
        expected = eager.loss(ids, targets, random)
        expected.backward()
        assert replicas.gradient(ids, targets) == expected.item()
        assert np.array_equal(parameters.grad, theirs.grad)


@pytest.mark.parametrize("n", [2, 3, 7, 9])
def test_places_that_count_unevenly(n):
    model, parameters = small()
    for rows in (1, 2, 7):
        ids, targets = batch(rows)
        targets[rng.random(targets.shape) < 0.8] = -100
        targets[0] = -100
        targets[-1, 0] = 1
        parameters.zero_grad()
        expected = model.loss(ids, targets)
        expected.backward()
        gradient = parameters.grad.copy()
        with WorkerPool(n) as pool:
            replicas = Replicas(model, parameters, pool, [None] * n)
            for compute in (replicas.gradient, replicas.loss):
                assert compute(ids, targets) == pytest.approx(expected.item(), rel=1e-6)
            np.testing.assert_allclose(parameters.grad, gradient, rtol=1e-4, atol=1e-7)


def test_another_thread_goes_on():
    model, parameters = small()
    ids, targets = batch()
    with WorkerPool(2) as pool:
        replicas, answers = Replicas(model, parameters, pool, [None] * 2), []
        for _ in range(3):
            thread = threading.Thread(target=lambda: answers.append(gradient_of(replicas, ids, targets)))
            thread.start()
            thread.join()
        assert answers == 3 * [gradient_of(replicas, ids, targets)]


def test_parameters_that_are_assigned_reach_every_replica():
    model, parameters = small()
    ids, targets = batch()
    with WorkerPool(2) as pool:
        replicas = Replicas(model, parameters, pool, [None] * 2)
        before = gradient_of(replicas, ids, targets)
        model.wte.weight.data = 3 * model.wte.weight.data
        after = gradient_of(replicas, ids, targets)
        assert before != after == gradient_of(Replicas(model, parameters, pool, [None] * 2), ids, targets)


# ---------------------------------------------------------------------- the trainer


def trainer(pool, **changes):
    settings = dict(n_layer=1, n_head=2, n_embd=8, block_size=8, batch_size=5, max_iters=6, warmup_iters=1, seed=3,
                    task="addition", digits=1, eval_iters=2, replicas=pool.n)
    config = TrainConfig(**{**settings, **changes})
    data, tokenizer = load_task("addition", config.block_size, config.digits)
    return Trainer(config, gpt.GPT(config.model_config(tokenizer.vocab_size), seed=1), data, pool)


def left_by(t):
    """All that the next step depends on, but the time that passed."""
    return (t.parameters.data.tobytes(), {name: a.tobytes() for name, a in t.arrays().items()},
            json.dumps({**t.state(), "seconds": 0}))


def steps(t, n):
    return [replace(t.step(), ms=0, tokens_per_s=0) for _ in range(n)]


@pytest.mark.slow_but_every(3)
@pytest.mark.parametrize("changes", [{}, {"dropout": 0.3}, {"dropout": 0.2, "accumulate": 3}, {"optimizer": "sgd"},
                                     {"optimizer": "muon", "convolution": 3, "accumulate": 2, "weight_decay": 0.5}])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_run_that_goes_on_is_the_same_to_the_bit(n, changes):
    with WorkerPool(n) as pool:
        whole, before, after = (trainer(pool, **changes) for _ in range(3))
        rows = steps(whole, 6)
        assert steps(before, 3) == rows[:3]
        before.validate()  # draws nothing of what training draws
        after.parameters.data[:] = before.parameters.data
        after.parameters.bump_version()
        after.restore(json.loads(json.dumps(before.state())), before.arrays())
        assert steps(after, 3) == rows[3:] and left_by(after) == left_by(whole)


def test_what_fails_in_a_step_is_named():
    with WorkerPool(2) as pool:
        t = trainer(pool, dropout=0.3)
        t.step()
        t.parameters.data[:] = np.nan
        with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="at iteration 2: .*embedding"):
            t.step()
        assert t.iter == 1


def test_a_validation_between_steps_changes_nothing():
    with WorkerPool(2) as pool:
        plain, judged = (trainer(pool, dropout=0.2, eval_iters=n) for n in (2, 0))
        for _ in range(3):
            assert steps(plain, 1) == steps(judged, 1)
            assert judged.validate() == judged.validate()
        assert left_by(plain) == left_by(judged)


def test_a_run_yields_a_result_for_each_step_and_goes_on_where_it_was_stopped():
    """A signal at step 3 leaves its evaluation pending, and the next run begins with that."""
    with WorkerPool(1) as pool:
        t, stop_requested = trainer(pool, eval_interval=3), []
        results = t.run(stop_requested)
        assert [next(results).metrics().keys() - METRICS for _ in range(2)] == [set(), set()]
        stop_requested.append(signal.SIGINT)
        stopped, = results
        assert (stopped.iter, stopped.evaluation) == (3, None) and t.steps_logged == 2
        assert stopped.interrupted and stopped.last and not stopped.finished
        third, *_, sixth = rest = list(t.run())
        assert [result.iter for result in rest] == [3, 4, 5, 6] == [t.iter - 3, 4, 5, t.steps_logged]
        assert third == replace(stopped, evaluation=third.evaluation, interrupted=False, last=False)
        assert third.evaluation.best and third.metrics()["val_loss"] == third.evaluation.val_loss
        assert sixth.finished and sixth.last and [result.last for result in rest] == [False] * 3 + [True]


def test_data_without_epochs_are_not_shuffled():
    tokens = np.arange(100)
    config = TrainConfig(n_layer=1, n_head=1, n_embd=8, block_size=9, batches="shuffled")
    model = gpt.GPT(config.model_config(100))
    assert Trainer(config, model, TextData(tokens, tokens, 9)).step().iter == 1
    with pytest.raises(TypeError, match='Addition has no epochs to shuffle: take batches="random"'):
        Trainer(config, model, Addition(2))


def test_no_state_of_a_trainer_is_written_from_outside():
    """But by the methods of its own: nor by `gpt tune`, `ablate`, `bench` and `show`."""
    files = [*Path(gpt.__file__).parent.rglob("*.py")]
    lines = [f"{file.name}: {line}" for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    written = [line for line in lines
               if re.search(r"\b(trainer|ours|theirs)(\.\w+)+(\[.*\])? ([-+*/|]?=|:=) ", line)]
    assert len(files) > 60 and written == []
