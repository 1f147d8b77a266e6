"""The recipes' curves on a fixed text, beside stored ones: whatever changes how a model starts or learns shows."""

import random

import numpy as np
import pytest

import autograd as ag
import gpt
from gpt import TrainConfig
from gpt.data import dataset as data
from gpt.runtime.worker_pool import WorkerPool
from gpt.training.recipes import RECIPES
from gpt.training.trainer import Trainer

WORDS = ("the a one no his her old small green cat dog king child river house saw took gave found lost and but then "
         "because under over beside never always slowly").split()
STEPS, EVERY = 40, 5
# The mean loss of each five steps, by NumPy's kernels on one thread.
EXPECTED = {
    "nanogpt": [2.89585, 2.37026, 2.15539, 2.0137, 1.95555, 1.86363, 1.83421, 1.81719],
    "fast": [2.91239, 1.94432, 1.76177, 1.62011, 1.27887, 0.99062, 0.86936, 0.83126],
}
# By two threads or three and by Numba's kernels they differ by up to 3e-6 from these, and the least of the mistakes
# below makes a difference of 7e-4.
TOLERANCE = 2e-4

MISTAKES: dict[str, list[dict]] = {
    "nanogpt": [{"beta2": 0.999}, {"beta1": 0.85}, {"weight_decay": 0.0}, {"grad_clip": 0.0}, {"norm_eps": 1e-4},
                {"schedule": "linear"}],
    "fast": [{"beta2": 0.999}, {"momentum": 0.95}, {"embedding_lr": 0.016}, {"taps_lr": 0.02},
             {"norm_embedding": False}, {"qk_norm": False}, {"norm_eps": 1e-5}, {"rope_base": 10000.0},
             {"smear": True}, {"convolution": 2}, {"falling_share": 0.5}, {"grad_clip": 1.0}, {"weight_decay": 0.1}],
}


def text():
    """Some thousand lines of nonsense, the same everywhere: only `random()` is promised not to change."""
    draw = random.Random(0).random
    lines = [" ".join(WORDS[int(len(WORDS) * draw() ** 2)] for _ in range(4 + int(5 * draw()))) for _ in range(1500)]
    return ".\n".join(lines)


@pytest.fixture(scope="module")
def tokens():
    return gpt.CharTokenizer(text()).encode(text())


def curve(tokens, recipe, threads=1, **changes):
    """Yield the mean loss of each EVERY of the first STEPS steps, in a schedule of so many."""
    config = TrainConfig.from_recipe(recipe, **{"max_iters": STEPS, "warmup_iters": 8, "replicas": threads, **changes})
    dataset = data.TextData(tokens, tokens, config.block_size)
    with WorkerPool(threads) as pool:
        trainer = Trainer(config, gpt.GPT(config.model_config(int(tokens.max()) + 1), seed=config.seed), dataset, pool)
        for _ in range(STEPS // EVERY):
            yield np.mean([trainer.step().loss for _ in range(EVERY)])


@pytest.mark.slow_but_every(2)
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_curve_is_the_stored_one(tokens, recipe):
    np.testing.assert_allclose(list(curve(tokens, recipe)), EXPECTED[recipe], rtol=0, atol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["numpy", "numba"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_other_kernels_and_more_threads_hardly_change_it(tokens, recipe, kernels):
    try:
        ag.kernels.use(kernels)
    except ImportError:
        pytest.skip("Numba is not installed")
    try:
        np.testing.assert_allclose(list(curve(tokens, recipe, threads=2)), EXPECTED[recipe], rtol=0, atol=TOLERANCE / 5)
    finally:
        ag.kernels.use("numpy")


@pytest.mark.slow
@pytest.mark.parametrize("recipe, change", [(recipe, change) for recipe in MISTAKES for change in MISTAKES[recipe]],
                         ids=lambda value: value if isinstance(value, str) else "-".join(value))
def test_a_mistake_shows(tokens, recipe, change):
    assert any(abs(loss - expected) > 2 * TOLERANCE  # the first one that is enough ends the run
               for loss, expected in zip(curve(tokens, recipe, **change), EXPECTED[recipe], strict=True))
