"""Scores of training text beside inner products of gradients that backward passes have made one at a time."""

import numpy as np
import pytest

from gpt import GPT
from gpt.data.dataset import IGNORED, LineData, TextData
from gpt.influence.passages import Passages
from gpt.influence.scores import Query, Reads, derivative_along, score_tokens
from gpt.model.module import raw
from gpt.runtime.worker_pool import WorkerPool
from tests.gpt.view.test_inside import made

CHOICES = [{}, dict(n_kv_head=1, qk_norm=True, gated=True, positions="rotary", norm="rms_norm", norm_gain=False,
                    norm_embedding=True, convolution=3, smear=True, tied=False, activation="squared_relu")]
QUERY = Query(np.array([3, 1, 4, 1, 5]), np.array([9, 2]))

def gradient_of(model, result):
    """Return the gradient of a number by all parameters, as one array."""
    for t in model.named_arrays().values():
        t.grad = None
    result.backward()
    return np.concatenate([t.grad.ravel() for t in model.named_arrays().values() if t.requires_grad])

def log_p(model, ids, targets, b, t):
    """Return the log-probability of one target, by softmax as it stands in the books."""
    logits = model(ids)[b, t]
    return logits[targets[b, t]] - np.log(np.exp(logits).sum())

@pytest.mark.parametrize("changes", CHOICES)
def test_the_derivative_along_a_gradient_is_the_inner_product_of_two_gradients(config, changes, ids):
    model, targets = made(config, changes), np.roll(ids, 1)
    asked = gradient_of(model, QUERY.log_probability(model))
    found = derivative_along(model.map(raw), QUERY.gradient(model), ids, targets)
    for b, t in [(0, 0), (1, 3), (2, 7)]:
        expected = asked @ gradient_of(model, log_p(model, ids, targets, b, t))
        assert abs(expected) > 1e-6 and found[b, t] == pytest.approx(expected, rel=1e-9)

@pytest.mark.parametrize("n_workers", [1, 2])
def test_scores_add_up_over_reads_and_checkpoints(config, n_workers):
    models = [made(config, {}), GPT(config, seed=5, dtype=np.float64)]
    data = TextData(np.random.default_rng(1).integers(11, size=60), np.zeros(20, int), 8)
    reads = [Reads(np.array([0, 5, 5]), np.array([1.0, 0.5, 0.25])), Reads(np.array([30]), np.array([2.0]))]
    directions = [QUERY.gradient(model) for model in models]
    with WorkerPool(n_workers) as pool:
        scores = score_tokens([m.map(raw) for m in models], directions, reads, data, pool)
    expected = np.zeros(60)
    for model, direction, read in zip(models, directions, reads):
        for start, weight in zip(read.starts, read.weights):
            found = derivative_along(model.map(raw), direction, *data.examples_at(np.array([start])))[0]
            expected[start + 1:start + 9] += weight * found
    np.testing.assert_allclose(scores, expected, rtol=1e-9)
    assert np.flatnonzero(scores).tolist() == [*range(1, 14), *range(31, 39)]

def test_the_score_predicts_what_a_small_step_does(config):
    """A step of gradient descent on one window moves the answer's log-probability by the window's score."""
    model = made(config, {})
    data, rate = TextData(np.random.default_rng(1).integers(11, size=60), np.zeros(20, int), 8), 1e-5
    with WorkerPool(1) as pool:
        scores = score_tokens([model.map(raw)], [QUERY.gradient(model)],
                              [Reads(np.array([7]), np.array([rate / 8]))], data, pool)
    before = QUERY.log_probability(model).item()
    for t in model.named_arrays().values():
        t.grad = None
    model.loss(*data.examples_at(np.array([7]))).backward()
    for t in model.named_arrays().values():
        t.data = t.data - rate * t.grad
    assert QUERY.log_probability(model).item() - before == pytest.approx(scores.sum(), rel=1e-3)

def test_passages_do_not_overlap_and_the_best_come_first():
    data = TextData(np.arange(40), np.arange(10), 4)
    scores = np.zeros(40)
    scores[[5, 6, 21]] = 3, 1, 2
    ranked = Passages.rank([np.array([2, 4]), np.array([20, 4, 30])], data, scores)
    assert ranked.starts.tolist() == [2, 20, 30] and ranked.scores.tolist() == [4, 2, 0]
    assert np.flatnonzero(ranked.mask([0, 2], 40)).tolist() == [3, 4, 5, 6, 31, 32, 33, 34]
    assert len({tuple(ranked.draw(2, [i]).tolist()) for i in range(20)}) > 3

def test_lines_count_up_to_their_end():
    tokens = np.array([0, 1, 2, 0, 3, 0, 1, 1, 1, 0])
    data = LineData(tokens, np.array([0, 3, 5]), np.array([], int), 6)
    scores = np.array([0, 1, 1, 1, 5, 0, 0.5, 0.5, 0.5, 0])
    ranked = Passages.rank([np.array([0, 3, 5])], data, scores)
    assert ranked.starts.tolist() == [3, 0, 5] and ranked.lengths.tolist() == [2, 3, 4]
    data.left_out = ranked.mask([0], 10)
    assert (data.examples_at(np.array([3]))[1] == IGNORED).all()
    assert (data.examples_at(np.array([0]))[1] != IGNORED).sum() == 3

