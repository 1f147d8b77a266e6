"""Exercises of chapter 11, where time and memory go."""

import numpy as np

from ..judging import equal, exercise, returns

GPT2 = 124_439_808


@exercise("11.1", "4 bytes per number. Four arrays have the size of the parameters; a layer's arrays have (24 C + H T) "
          "numbers for each of 8 · 1024 tokens.")
def _(state, layers, without):
    tokens = 12 * 8 * 1024
    equal("state, in GB,", state, 16 * GPT2 / 1e9, None, {
        "Adam keeps two means, besides parameters and gradients.": 12 * GPT2 / 1e9,
        "That is the parameters alone.": 4 * GPT2 / 1e9}, tolerance=0.03)
    equal("layers, in GB,", layers, 4 * tokens * (24 * 768 + 12 * 1024) / 1e9, tolerance=0.03)
    equal("without, in GB,", without, 4 * tokens * 24 * 768 / 1e9, tolerance=0.03)


@exercise("11.2", "compute 12/k + 28 k for each divisor of 12; without checkpoints all 12 layers are kept.")
def _(k, peak, without):
    equal("k, the best size of a piece,", k, 1)
    equal("peak, in units,", peak, 40)
    equal("without, in units,", without, 336)


@exercise("11.3", "each slice weighs as much as it has targets that count.")
def _(combine):
    rng = np.random.default_rng(0)
    for n, m in ((4, 4), (12, 256), (5, 0)):
        first, second = rng.normal(size=(2, 3))
        inputs = {"first": first, "second": second, "n_first": n, "n_second": m}
        wrong = {} if n == m else {"That is the plain mean; the slices do not weigh the same.": (first + second) / 2}
        returns(combine, inputs, (n * first + m * second) / (n + m), wrong | {
            "The weights are to sum to 1.": n * first + m * second,
            "The weights are exchanged.": (m * first + n * second) / (n + m)})
